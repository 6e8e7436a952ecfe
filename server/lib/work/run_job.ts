import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { type Preview, type Progress, TextToVideoPipeline, TorchreelError, Video } from 'torchreel'
import { readModelFacts } from 'torchreel/options'
import { fields, loraName } from '../fields.js'
import type { FileName, Files } from '../files/files.js'
import type { Job, Made, RequestOptions } from '../jobs/job.js'
import { JobFailed, type RunJob, type RunningJob, type ServedModel } from '../jobs/jobs.js'

export interface ModelSource {
  /** Its name on the wire. */
  readonly id: string
  /** A folder, owner/name, or `shapes`. */
  readonly model: string
}

export interface RunnerOptions {
  readonly models: readonly ModelSource[]
  readonly device: string
  /** More options of the pipelines, such as `dtype` and `offload`. */
  readonly pipeline: Readonly<Record<string, unknown>>
  readonly files: Files
  /** For files that are not finished; on the disk of `files` where that is a folder. */
  readonly workFolder: string
  readonly ffmpeg?: string
  /** The folder of the LoRAs that requests may name. */
  readonly loraFolder?: string
}

/** A way to run jobs, and the models that it has loaded for them. */
export interface Runner {
  readonly models: readonly ServedModel[]
  readonly run: RunJob
}

const previewEvery = 2_000
/** How often progress is told (ms). Each time takes a processor from the network for a moment. */
const progressEvery = 250

/** Loads the pipelines of all models; this process opens libtorch. */
export async function loadRunner(options: RunnerOptions): Promise<Runner> {
  await mkdir(options.workFolder, { recursive: true })
  const pipelines = new Map<string, LoadedPipeline>()
  const models: ServedModel[] = []
  for (const { id, model } of options.models) {
    const pipeline = await TextToVideoPipeline.fromPretrained(model, {
      ...options.pipeline,
      device: options.device,
    })
    pipelines.set(id, new LoadedPipeline(pipeline, options.loraFolder))
    const facts = await readModelFacts(pipeline.folder, options.pipeline)
    models.push({ id, facts, device: pipeline.device, dtype: pipeline.dtype })
  }
  return {
    models,
    async run(job, on) {
      const pipeline = pipelines.get(job.request.model)
      if (!pipeline) throw new JobFailed('model_not_found', `This worker has no model ${job.request.model}.`)
      return runJob(pipeline, job, on, options)
    },
  }
}

/** A pipeline, and the LoRAs that jobs have named so far. */
class LoadedPipeline {
  readonly #loaded = new Set<string>()

  constructor(
    readonly pipeline: TextToVideoPipeline,
    readonly loraFolder: string | undefined,
  ) {}

  /** Milliseconds of a step of the last job. */
  #step: number | undefined

  noteStep(ms: number): void {
    this.#step = ms
  }

  /** So that previews come each two seconds, and one at half of a short job. */
  stepsToPreview(steps: number): number {
    if (!this.#step) return 1
    return Math.max(1, Math.min(Math.round(previewEvery / this.#step), Math.ceil(steps / 2)))
  }

  async useLoras(loras: NonNullable<Job['request']['loras']>): Promise<void> {
    if (loras.length === 0 && this.#loaded.size === 0) return
    for (const { name } of loras) {
      if (this.#loaded.has(name)) continue
      if (this.loraFolder === undefined || !loraName.test(name))
        throw new JobFailed('lora_not_found', `This worker has no LoRA ${name}.`)
      await this.pipeline.loadLora(path.join(this.loraFolder, `${name}.safetensors`), { name })
      this.#loaded.add(name)
    }
    await this.pipeline.setAdapters(loras)
  }
}

async function runJob(
  loaded: LoadedPipeline,
  job: Job,
  on: RunningJob,
  { files, workFolder, ffmpeg }: RunnerOptions,
): Promise<Made> {
  const { id, request } = job
  const { prompt, options, hasInput, loras = [] } = request
  const folder = await mkdtemp(path.join(workFolder, 'job-'))
  try {
    const input = path.join(folder, 'input')
    if (hasInput && !(await files.fetch(id, 'input', input)))
      throw new JobFailed('input_lost', 'The video to start from is gone.')
    await loaded.useLoras(loras)
    const output = path.join(folder, 'video.mp4')
    const previews = new Previews((picture) => files.put(id, 'preview.png', picture), on)
    const making = loaded.pipeline.generate(prompt, {
      ...onlyKnown(options),
      ...(hasInput && { video: input }),
      ...(ffmpeg !== undefined && { ffmpeg }),
      output,
      signal: on.signal,
      onProgress: tellNowAndThen(on),
      onPreview: (preview) => previews.show(preview),
      previewEvery: loaded.stepsToPreview(request.fitted.steps),
    })
    // Also after a failure: the job's files are removed then, and a late preview would stay.
    const video = await making.finally(() => previews.done())
    on.signal.throwIfAborted()
    loaded.noteStep((video.timings?.denoise ?? 0) / request.fitted.steps)
    const made = describe(video, (await stat(output)).size)
    const store = async (name: FileName, picture: Video) => files.put(id, name, await picture.toBuffer('png'))
    await allEnded([
      store('thumbnail.png', middleFrame(video)),
      store('spritesheet.png', video.contactSheet()),
      files.put(id, 'video.mp4', { path: output }),
    ])
    on.signal.throwIfAborted()
    await files.put(id, 'result.json', Buffer.from(JSON.stringify(made)))
    return made
  } catch (error) {
    if (error instanceof TorchreelError) throw new JobFailed(error.code, error.message, error.parameter)
    throw error
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Of a job's options, those that a request can set: whoever writes to the queue of many machines must not set others. */
function onlyKnown(options: RequestOptions): RequestOptions {
  const names: ReadonlySet<string> = new Set(fields.map(({ option }) => option))
  return Object.fromEntries(Object.entries(options).filter(([name]) => names.has(name))) as RequestOptions
}

/** Tells each stage's start and end, and what lies between now and then. */
function tellNowAndThen(on: RunningJob): (progress: Progress) => void {
  let last = -Infinity
  return ({ stage, step, steps, etaMs }) => {
    const now = performance.now()
    if (step > 0 && step < steps && now - last < progressEvery) return
    last = now
    on.progress({ stage, step, steps, etaMs })
  }
}

/** Stores previews, at most one at a time and one in two seconds. */
class Previews {
  #last = -Infinity
  #storing: Promise<void> | undefined

  constructor(
    readonly store: (picture: Buffer) => Promise<void>,
    readonly on: RunningJob,
  ) {}

  show({ video }: Preview): void {
    const now = performance.now()
    if (this.#storing || now - this.#last < previewEvery) return
    this.#last = now
    this.#storing = video
      .toBuffer('apng')
      .then((picture) => this.store(picture))
      .then(
        () => this.on.preview(),
        () => {}, // a preview that cannot be stored is no reason to end the job
      )
      .finally(() => {
        this.#storing = undefined
      })
  }

  async done(): Promise<void> {
    await this.#storing
  }
}

/** Waits for the end of each, so that nothing is written after a failure. */
async function allEnded(all: readonly Promise<void>[]): Promise<void> {
  await Promise.allSettled(all)
  await Promise.all(all)
}

function middleFrame(video: Video): Video {
  const { width, height, fps, frameCount } = video
  return new Video({ width, height, fps, data: video.frame(frameCount >> 1) })
}

function describe(video: Video, bytes: number): Made {
  const { width, height, frameCount: frames, fps, steps = 0, guidanceScale, strength, scheduler } = video
  const { settings, device, dtype, timings = {}, warnings = [] } = video
  return {
    ...{ width, height, frames, fps, steps },
    ...(guidanceScale !== undefined && { guidanceScale }),
    ...(strength !== undefined && { strength }),
    ...(scheduler !== undefined && { scheduler }),
    ...(settings !== undefined && { settings }),
    ...(device !== undefined && { device }),
    ...(dtype !== undefined && { dtype }),
    timings,
    warnings,
    bytes,
  }
}
