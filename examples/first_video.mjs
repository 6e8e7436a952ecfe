// One prompt, one video: node examples/first_video.mjs [OUTPUT]
import { generate } from 'torchreel'

const [output = 'first_video.mp4', steps = '25'] = process.argv.slice(2)
const video = await generate('a big red circle moving left', {
  model: 'shapes',
  seed: 1,
  steps: Number(steps),
  output: { path: output, overwrite: true }, // written while the frames are decoded
})
console.log(video.file)
