import { rmSync } from 'node:fs'
import { EmbeddedJobs } from '#server/jobs/embedded.js'
import { newFolder, silent } from '../support/acting_server.js'
import { testQueue } from './contract.js'

testQueue('embedded', {
  async open(maxWaiting) {
    const folder = newFolder()
    const jobs = await EmbeddedJobs.open({ folder, logger: silent, maxWaiting })
    return {
      jobs,
      files: jobs.files,
      async close() {
        await jobs.close()
        rmSync(folder, { recursive: true })
      },
    }
  },
})
