// CommonJS: prints each frame as it is decoded, then streams a webm to a file.
const { createWriteStream } = require('node:fs')
const { pipeline: pump } = require('node:stream/promises')
const { generate, TextToVideoPipeline } = require('torchreel')

async function main([output = 'stream.webm', steps = '25']) {
  const call = { seed: 3, steps: Number(steps) }
  const pipeline = await TextToVideoPipeline.fromPretrained('shapes')
  for await (const { index, width, height } of pipeline.generateFrames('a green star', call))
    console.error(`frame ${index}: ${width} × ${height}`)
  await pipeline.dispose()
  const video = await generate('a green star', { model: 'shapes', ...call })
  await pump(video.stream('webm'), createWriteStream(output))
  console.log(output)
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error)
  process.exitCode = 1
})
