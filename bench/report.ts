import { type Contest, type Result, stages } from './contest.js'
import type { Machine, ProductRate } from './machine.js'
import type { Spread } from './statistics.js'

/** A Markdown table. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

/** Rounds to three significant digits. */
export function digits(number: number): string {
  if (!Number.isFinite(number)) return '—'
  return Math.abs(number) >= 100 ? String(Math.round(number)) : String(Number(number.toPrecision(3)))
}

export const seconds = (milliseconds: number) =>
  milliseconds < 1000 ? `${digits(milliseconds)} ms` : `${digits(milliseconds / 1000)} s`
export const megabytes = (bytes: number) => `${Math.round(bytes / 1e6)} MB`

/** The median, and the lowest and the highest value if they differ. */
function shown({ median, lowest, highest }: Spread, unit: (number: number) => string): string {
  const [low, high] = [unit(lowest), unit(highest)]
  return low === high ? unit(median) : `${unit(median)} (${low} – ${high})`
}

/** The heading: subject, machine and command. */
export function heading(
  what: string,
  { processor, cores, memoryBytes }: Machine,
  product: ProductRate | undefined,
  command: string,
): string {
  const rate =
    product && `; products of ${product.size} × ${product.size} matrices: ${digits(product.median / 1e9)} `
  return [
    `${what}.`,
    `Machine: ${processor}, ${cores} cores, ${Math.round(memoryBytes / 2 ** 30)} GiB` +
      `${rate ? `${rate}GFLOP/s (best ${digits(product.best / 1e9)})` : ''}.`,
    `Command: \`${command}\``,
  ].join('\n')
}

/** The complete result of a contest, as Markdown. */
export function report(contest: Contest, command: string): string {
  const { results, flop } = contest
  const row = (name: string, cell: (result: Result) => string) => [name, ...results.map(cell)]
  const times = (name: string, of: (result: Result) => Spread) =>
    row(name, (result) => shown(of(result), seconds))
  const rows = [
    ...stages.map((stage) => times(`first video: ${stage}`, (result) => result.cold[stage])),
    times('**process start to file**', (result) => result.startToFile),
    times('process start to first step', (result) => result.firstStep),
    times('later videos: encode', (result) => result.warm.encode),
    times('**later videos: denoising loop**', (result) => result.warm.loop),
    times('later videos: one step', (result) => result.warm.step),
    times('later videos: decode', (result) => result.warm.decode),
    times('later videos: call', (result) => result.warm.call),
    times('later videos: write', (result) => result.warm.write),
    row('loop, FLOP/s as defined ÷ product rate', ({ rate }) => percent(rate.defined)),
    row('loop, FLOP/s as computed ÷ product rate', ({ rate }) => percent(rate.computed)),
    row('**peak memory**', (result) => shown(result.peakBytes, megabytes)),
    ...(results.some((result) => result.deviceBytes)
      ? [row('device memory', ({ deviceBytes }) => (deviceBytes ? shown(deviceBytes, megabytes) : '—'))]
      : []),
    row('page faults in a step', (result) => shown(result.pageFaultsPerStep, digits)),
    row("processors' time that went elsewhere", (result) => shown(result.elsewhere, percent)),
    row("event loop's delay, p50 · p99 · most", ({ eventLoopDelay: delay }) =>
      delay ? `${digits(delay.p50)} · ${digits(delay.p99)} · ${digits(delay.max)} ms` : '—',
    ),
  ]
  const ratios = contest.ratios.map((ratio) => [
    ratio.peer,
    `${ratio.loop.toFixed(2)} ×`,
    `${ratio.call.toFixed(2)} ×`,
    `${ratio.startToFile.toFixed(2)} ×`,
    `${ratio.peakMemory.toFixed(2)} ×`,
    String(ratio.pixels),
  ])
  const tera = (number: number) => digits(number / 1e12)
  const { task, machine } = contest
  const size = task.width ? ` of ${task.width} × ${task.height}` : ''
  const what = `${task.model}: ${task.frames} frames${size}, ${task.steps} steps with guidance, ${task.dtype}, ${task.device}`
  return [
    heading(what, machine, machine.product, command),
    'Medians; the lowest and the highest are in parentheses.',
    table(['', ...results.map(({ name, versions }) => `${name} (${versions})`)], rows),
    `TFLOP: a step ${tera(flop.step.flop)} (computed: ${tera(flop.step.computed)}), the prompts ` +
      `${tera(flop.textEncoder.flop)}, decoding ${tera(flop.decode.flop)} (computed: ${tera(flop.decode.computed)}).`,
    ...(ratios.length === 0
      ? []
      : [
          table(
            [
              'torchreel against',
              'loop faster',
              'call faster',
              'start to file faster',
              'peak memory',
              'largest pixel difference of 255',
            ],
            ratios,
          ),
        ]),
  ].join('\n\n')
}

const percent = (fraction: number | undefined) =>
  fraction === undefined ? '—' : `${(100 * fraction).toFixed(0)}%`
