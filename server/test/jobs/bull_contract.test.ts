// The queue of many machines does what every queue does.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { FolderFiles } from '#server/files/folder.js'
import { openBull } from '#server/jobs/bull/bull.js'
import { startRedis } from '../support/redis.js'
import { testQueue } from './contract.js'

const redis = await startRedis()

testQueue('bull', {
  skip: redis ? false : 'there is no redis-server',
  open: async (maxWaiting) => {
    const { url } = redis as NonNullable<typeof redis>
    const client = new Redis(url)
    await client.flushall()
    client.disconnect()
    const folder = await mkdtemp(path.join(tmpdir(), 'torchreel-bull-'))
    const files = new FolderFiles(folder)
    const jobs = await openBull({ url, files, logger: pino({ level: 'silent' }), lockFor: 1000, maxWaiting })
    return {
      ...{ jobs, files },
      close: async () => {
        await jobs.close()
        await redis?.[Symbol.asyncDispose]()
        await rm(folder, { recursive: true })
      },
    }
  },
})
