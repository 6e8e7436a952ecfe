export type { ByteRange, FileFacts, FileName, Files, OpenedFile } from './files/files.js'
export type { Job, JobError, JobRequest, Made, State } from './jobs/job.js'
export {
  type Change,
  type Counts,
  JobFailed,
  type Jobs,
  KeyReused,
  type NewJob,
  QueueAway,
  QueueFull,
  type RunJob,
  type RunningJob,
  type ServedModel,
  type Worker,
  WorkerLost,
  type Working,
} from './jobs/jobs.js'
export type { ServerLimits, ServerOptions, SharedQueue } from './options.js'
export { createServer, type Server } from './server.js'
export { openSharedQueue, type SharedQueueOptions } from './shared_queue.js'
export { createWorker, type RunningWorker, type WorkerOptions } from './worker.js'
