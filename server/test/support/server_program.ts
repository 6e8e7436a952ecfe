// A server whose jobs act: node server_program.js OPTIONS. OPTIONS is JSON; `pipelines: true` loads the model shapes instead.
import { pino } from 'pino'
import { createServer } from '#server/server.js'

const { pipelines, grace = 0, ...options } = JSON.parse(process.argv[2] ?? '{}')
const runner = new URL('./acting_runner.js', import.meta.url).href
const logger = pino(pino.destination(2))
const server = await createServer({ ...options, logger, ...(pipelines !== true && { runner }) })
process.on('SIGTERM', async () => {
  await server.close(grace)
  process.exit(0)
})
process.stdout.write(`${await server.listen()}\n`)
