import { type GenerateOptions, type PipelineOptions, TextToVideoPipeline, type Video } from 'torchreel'
import type { BenchModel } from './models.js'
import { psnr, ssim } from './picture.js'
import { digits, seconds, table } from './report.js'
import { judged, type ShapesPrompt, shapesPrompts } from './shapes_prompts.js'
import { type Spread, spread } from './statistics.js'

/** Ways to make a video with less work. The first is the exact one: `steps` guided steps of DPM-Solver++. */
function savings(steps: number): [name: string, options: GenerateOptions][] {
  const fewer = [15, 10, 8, 6].filter((fewer) => fewer < steps)
  const schedulers = ['dpmsolver-multistep', 'unipc', 'euler', 'ddim']
  return [
    ['exact', { steps }],
    ...[2, 3, 5].map((featureCache): [string, GenerateOptions] => [
      `\`featureCache: ${featureCache}\``,
      { steps, featureCache },
    ]),
    ...(
      [
        [0, 0.8],
        [0, 0.6],
        [0, 0.4],
        [0.2, 0.8],
      ] as const
    ).map((guidanceInterval): [string, GenerateOptions] => [
      `\`guidanceInterval: [${guidanceInterval.join(', ')}]\``,
      { steps, guidanceInterval },
    ]),
    [
      '`featureCache: 2`, `guidanceInterval: [0, 0.6]`',
      { steps, featureCache: 2, guidanceInterval: [0, 0.6] },
    ],
    ...schedulers.flatMap((scheduler) =>
      fewer.map((steps): [string, GenerateOptions] => [
        `${steps} steps, \`${scheduler}\``,
        { steps, scheduler },
      ]),
    ),
    [`${fewer[1]} steps, \`featureCache: 2\``, { steps: fewer[1], featureCache: 2 }],
  ]
}

/** The results of one way. */
export interface Saving {
  readonly name: string
  /** The denoising loop, in milliseconds. */
  readonly loop: Spread
  /** Compared with the exact frames. */
  readonly psnr: Spread
  readonly ssim: Spread
  /** Compared with frames of many steps, which the exact ones also only approximate. */
  readonly convergedPsnr: Spread
  readonly convergedSsim: Spread
  /** The fraction of the prompt's properties that the video shows, for `shapes`. NaN for other models. */
  readonly right: number
}

/** Makes the same videos in all ways, in turns: the prompts of `shapes`, or one prompt with several seeds. */
export async function approximate(
  { folder, trustGraph }: BenchModel,
  task: { prompt: string; steps: number; videos: number; call: GenerateOptions; pipeline: PipelineOptions },
): Promise<Saving[]> {
  await using pipeline = await TextToVideoPipeline.fromPretrained(folder, { ...task.pipeline, trustGraph })
  const wishes = await wishesFor(pipeline.model, task)
  const many = 4 * task.steps
  // All steps in bfloat16 are compared, too.
  await using half = await TextToVideoPipeline.fromPretrained(folder, {
    ...task.pipeline,
    ...{ dtype: 'bfloat16', trustGraph },
  })
  const ways: [name: string, options: GenerateOptions, pipeline: TextToVideoPipeline][] = [
    ...savings(task.steps).map(([name, options]): (typeof ways)[number] => [name, options, pipeline]),
    ["`dtype: 'bfloat16'`", { steps: task.steps }, half],
    [`${many} steps`, { steps: many }, pipeline],
  ]
  const seen = ways.map(() => ({
    ...{ loops: [] as number[], psnr: [] as number[], ssim: [] as number[] },
    ...{ convergedPsnr: [] as number[], convergedSsim: [] as number[], right: 0, said: 0 },
  }))
  // The first of a process is slower.
  for (const one of [pipeline, half]) await make(one, task.prompt, { ...task.call, steps: 1 })
  for (const [index, wish] of wishes.entries()) {
    console.error(`video ${index + 1} of ${wishes.length}, in ${ways.length} ways`)
    const videos: Video[] = []
    for (const [way, [, options, pipeline]] of ways.entries()) {
      const call = { ...task.call, ...options, seed: wish.seed }
      const { video, loopMs } = await make(pipeline, wish.prompt, call)
      videos.push(video)
      seen[way]?.loops.push(loopMs)
    }
    const [exact, converged] = [videos[0] as Video, videos.at(-1) as Video]
    for (const [way, video] of videos.entries()) {
      const of = seen[way] as (typeof seen)[number]
      of.psnr.push(psnr(video, exact))
      of.ssim.push(ssim(video, exact))
      of.convergedPsnr.push(psnr(video, converged))
      of.convergedSsim.push(ssim(video, converged))
      const properties = wish.shapes ? judged(wish.shapes, video) : []
      of.said += properties.length
      of.right += properties.filter(({ right }) => right).length
    }
  }
  return seen.map(({ loops, psnr, ssim, convergedPsnr, convergedSsim, right, said }, way) => ({
    name: (ways[way] as (typeof ways)[number])[0],
    loop: spread(loops),
    ...{ psnr: spread(psnr), ssim: spread(ssim) },
    ...{ convergedPsnr: spread(convergedPsnr), convergedSsim: spread(convergedSsim) },
    right: right / said,
  }))
}

async function wishesFor(model: string, { prompt, videos }: { prompt: string; videos: number }) {
  if (model !== 'shapes') {
    return Array.from({ length: videos }, (_, seed) => ({ prompt, seed, shapes: undefined }))
  }
  const all = await shapesPrompts()
  return Array.from({ length: videos }, (_, index) => {
    const seed = Math.floor((index * all.length) / videos)
    const shapes = all[seed] as ShapesPrompt
    return { prompt: shapes.prompt, seed, shapes }
  })
}

async function make(pipeline: TextToVideoPipeline, prompt: string, options: GenerateOptions) {
  let [encoded, denoised] = [0, 0]
  const video = await pipeline.generate(prompt, {
    ...options,
    onProgress: ({ stage, step, steps }) => {
      if (stage === 'encode' && step === steps) encoded = performance.now()
      if (stage === 'denoise' && step === steps) denoised = performance.now()
    },
  })
  return { video, loopMs: denoised - encoded }
}

/** Medians. The worst video is in parentheses. */
export function approximateTable(savings: readonly Saving[]): string {
  const decibels = (number: number) => (number === Infinity ? 'equal' : `${number.toFixed(1)} dB`)
  const near = ({ median, lowest }: Spread, unit: (number: number) => string) =>
    median === lowest ? unit(median) : `${unit(median)} (${unit(lowest)})`
  const fraction = (number: number) => number.toFixed(3)
  const exact = savings[0] as Saving
  const judged = !Number.isNaN(exact.right)
  const rows = savings.map((saving) => [
    saving.name,
    seconds(saving.loop.median),
    `${digits(exact.loop.median / saving.loop.median)} ×`,
    near(saving.psnr, decibels),
    near(saving.ssim, fraction),
    near(saving.convergedPsnr, decibels),
    near(saving.convergedSsim, fraction),
    ...(judged ? [`${(100 * saving.right).toFixed(1)}%`] : []),
  ])
  const many = savings.at(-1)?.name
  const head = ['', 'loop', 'faster', 'PSNR to exact', 'SSIM to exact', `PSNR to ${many}`, `SSIM to ${many}`]
  return table([...head, ...(judged ? ['as the prompt says'] : [])], rows)
}
