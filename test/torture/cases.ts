/** What can go wrong. The name of a test begins with the cases that it tries: `[full-queue, aborted-in-queue] …`. */
export const cases = {
  // arguments
  'wrong-prompt-type': 'prompts of the wrong type',
  'number-out-of-range': 'numbers out of their range',
  'unknown-option': 'unknown options',
  'impossible-size': 'sizes that no network supports',
  'too-many-pixels': 'more pixels than the limit',
  seeds: 'seeds, given and chosen',
  'prompt-length': 'prompts that are long, empty or not text',
  'changing-options': 'options that throw or change',
  'throwing-listeners': 'listeners that throw or reject',
  'calls-in-listeners': 'calls inside a listener',
  // jobs
  'concurrent-calls': 'several calls at once',
  'full-queue': 'more calls than the queue holds',
  'aborted-before-call': 'aborted before the call',
  'aborted-in-steps': 'aborted at every step',
  'aborted-in-video': 'aborted while encoding, decoding, saving',
  'aborted-in-queue': 'aborted while waiting',
  'shared-signal': 'many calls with one signal',
  'disposed-in-job': 'disposed in the middle of a job',
  'used-after-dispose': 'used after dispose()',
  'dropped-pipeline': 'dropped without dispose()',
  'event-loop': 'the event loop while a job runs',
  // processes and threads
  'process-end': 'the process ends by itself',
  'process-exit': 'process.exit() in a step',
  'uncaught-exception': 'an uncaught exception in a step',
  'kill-signals': 'SIGINT and SIGTERM',
  'terminated-worker': 'worker.terminate() in a step',
  'many-threads': 'main thread and workers at once',
  'second-addon': 'handles of another copy of the addon',
  'core-throws': 'the core throws anything',
  'wrong-handles': 'arguments that are not handles',
  'load-failure': 'the addon or libtorch does not load',
  'missing-device': 'a device that is not available',
  // models
  'missing-files': 'missing folders and files',
  'tiny-weights': 'weights of 0 and 7 bytes',
  'header-length': 'headers of an impossible length',
  'header-json': 'headers that are not a JSON object',
  'header-offsets': 'offsets that are wrong',
  'header-shapes': 'shapes that are wrong',
  'header-names': 'names that repeat, too long, too many',
  'header-integers': 'integers above 2^53',
  'cut-files': 'files cut at every 64th',
  'flipped-bits': 'bits flipped',
  'wrong-tensors': 'tensors missing, extra, of another shape',
  'wrong-configs': 'configs that make no sense',
  'rewritten-files': 'files rewritten while they are open',
  'foreign-graphs': 'graphs from the checkpoint',
  'unpinned-graphs': 'graphs that differ from the pinned ones',
  pickles: 'pickles',
  'unsafe-names': 'names that lead out of the folder',
  'unsafe-links': 'links that lead out of the folder',
  'lfs-pointers': 'Git LFS pointers',
  'failed-downloads': 'downloads that go wrong',
  'concurrent-downloads': 'two processes download one model',
  // numbers
  'weights-not-finite': 'weights that are not finite',
  'numbers-not-finite': 'NaN at every stage and step',
  'pixels-out-of-range': 'pixels out of range',
  'same-seed': 'the same seed gives the same frames',
  schedules: 'schedules against the reference',
  tokens: 'tokens against the reference',
  // memory and devices
  'memory-refused': 'memory refused',
  'gpu-memory-refused': 'memory of a device refused',
  'lost-device': 'a device that is lost',
  'long-run': 'good, failing and aborted jobs for a long time',
  'v8-memory': 'memory that is reported to V8',
  // video
  'no-ffmpeg': 'no ffmpeg',
  'ffmpeg-leaves': 'ffmpeg ends early',
  'ffmpeg-killed': 'ffmpeg is killed',
  'disk-full': 'disk full',
  'frame-length': 'frames of the wrong length',
  'no-frames': 'no frames',
  'ffmpeg-noise': 'ffmpeg prints too much',
  'slow-ffmpeg': 'ffmpeg is slow',
  'output-exists': 'the output exists',
  'output-names': 'output names and folders',
  'killed-while-saving': 'the process is killed while it saves',
  'saved-content': 'the file has what the result says',
  // a server
  'request-too-large': 'bodies over the limit',
  'slow-clients': 'slow clients',
  'malformed-requests': 'bodies that are not a request',
  'clients-leave': 'clients that leave',
  'request-queue-full': 'more requests than the queue holds',
  'request-paths': 'paths in requests',
  'secrets-in-answers': 'what answers must not reveal',
  hosts: 'addresses and hosts',
  'server-sigterm': 'SIGTERM of a server',
  // the package
  installation: 'installing needs no compiler, runs nothing',
  tarball: 'what is in the tarball',
  sanitizers: 'sanitizers and fuzzers',
} as const

export type Case = keyof typeof cases

/**
 * The cases at the start of a test's name.
 *
 * @throws Error for a name that is not in the table
 */
export function parseCases(name: string): Case[] {
  const [, list] = /^\[([\w, -]+)\] /.exec(name) ?? []
  return (list?.split(', ') ?? []).map((found) => {
    if (!Object.hasOwn(cases, found)) throw new Error(`'${name}': there is no case '${found}'`)
    return found as Case
  })
}
