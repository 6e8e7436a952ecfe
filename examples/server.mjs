// An HTTP server with one pipeline: GET /?prompt=a+red+circle answers with an mp4. Calls run one after the other. If a
// client disconnects, its call ends within one step.
import http from 'node:http'
import { TextToVideoPipeline, TorchreelError } from 'torchreel'

const [port = '8080', steps = '25'] = process.argv.slice(2)
const pipeline = await TextToVideoPipeline.fromPretrained('shapes')

const server = http.createServer(async (request, response) => {
  const gone = new AbortController()
  response.on('close', () => gone.abort())
  try {
    const prompt = new URL(request.url ?? '/', 'http://localhost').searchParams.get('prompt')
    const video = await pipeline.generate(prompt ?? '', { steps: Number(steps), signal: gone.signal })
    response.setHeader('content-type', 'video/mp4')
    response.setHeader('x-seed', String(video.seed))
    response.end(await video.toBuffer('mp4'))
  } catch (error) {
    if (gone.signal.aborted) return
    const code = error instanceof TorchreelError ? error.code : 'ERR_INTERNAL'
    response.statusCode =
      { ERR_INVALID_ARGUMENT: 400, ERR_LIMIT_EXCEEDED: 400, ERR_QUEUE_FULL: 503 }[code] ?? 500
    response.end(JSON.stringify({ code, message: error instanceof Error ? error.message : String(error) }))
  }
})
server.listen(Number(port), () => console.log(`http://localhost:${server.address().port}`))
process.once('SIGTERM', async () => {
  server.close()
  await pipeline.dispose()
})
