// node build/bench/devices.js: the same video on every device, in every type and from recorded steps, beside the CPU's in float32.
// Parity: ‖latents − CPU's‖ / ‖CPU's‖, and the largest and the mean difference of a byte of the frames. Times: the
// least of `runs` calls, in milliseconds.
import { TextToVideoPipeline, type Video } from 'torchreel'
import { checkDevice } from '#dist/addon/device.js'

const runs = 3
const call = { seed: 1, steps: 25, returnLatents: true }
const prompt = 'a big red circle moving left'

function isThere(device: string): boolean {
  try {
    checkDevice(device)
    return true
  } catch {
    return false
  }
}

/** The video, and the least time of each stage. */
async function measure(device: string, dtype: 'float32' | 'float16' | 'bfloat16', captureGraph = false) {
  const pipeline = await TextToVideoPipeline.fromPretrained('shapes', { device, dtype, captureGraph })
  try {
    const videos: Video[] = []
    for (let run = 0; run <= runs; run++) videos.push(await pipeline.generate(prompt, call))
    const [first, ...timed] = videos as [Video, ...Video[]]
    const least = (stage: 'encode' | 'denoise' | 'decode' | 'total') =>
      Math.round(Math.min(...timed.map((video) => video.timings?.[stage] ?? Number.NaN)))
    return {
      video: first,
      times: { denoise: least('denoise'), decode: least('decode'), total: least('total') },
    }
  } finally {
    await pipeline.dispose()
  }
}

function parity(video: Video, wanted: Video) {
  const [a, b] = [video, wanted].map(({ latents }) => latents?.data ?? new Float32Array())
  let difference = 0
  let size = 0
  for (const [i, value] of (b as Float32Array).entries()) {
    difference += (((a as Float32Array)[i] as number) - value) ** 2
    size += value ** 2
  }
  let largest = 0
  let sum = 0
  for (const [i, byte] of wanted.data.entries()) {
    const off = Math.abs((video.data[i] as number) - byte)
    largest = Math.max(largest, off)
    sum += off
  }
  return {
    latents: Math.sqrt(difference / size).toExponential(1),
    'largest byte': largest,
    'mean byte': Number((sum / wanted.data.length).toFixed(3)),
  }
}

const reference = await measure('cpu', 'float32')
const rows: object[] = [
  { device: 'cpu', dtype: 'float32', ...parity(reference.video, reference.video), ...reference.times },
]
for (const device of ['cpu', 'cuda'].filter(isThere)) {
  for (const dtype of ['float32', 'float16', 'bfloat16'] as const) {
    if (device === 'cpu' && dtype !== 'bfloat16') continue
    for (const captureGraph of device === 'cpu' ? [false] : [false, true]) {
      const { video, times } = await measure(device, dtype, captureGraph)
      rows.push({ device, dtype, captureGraph, ...parity(video, reference.video), ...times })
    }
  }
}
console.log(
  `${reference.video.model}, ${call.steps} steps, libtorch ${reference.video.libtorch}, Node ${process.version}`,
)
console.table(rows)
