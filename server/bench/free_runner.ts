// A runner whose jobs cost nothing: it writes a small file for a video.
import type { Files, Job, Made, RunningJob, ServedModel } from 'torchreel-server'

const served: ServedModel = {
  ...{ id: 'shapes', device: 'cpu', dtype: 'float32' },
  facts: {
    ...{ family: 'modelscope', refusedOptions: {}, size: { width: 64, height: 64 } },
    defaults: { steps: 25, frames: 16, fps: 8, guidanceScale: 3, videoGuidanceScale: 3, strength: 0.6 },
    ...{ sizeMultiple: 8, frameMultiple: 1, vaeScale: 8, tileSize: 64, latentChannels: 8 },
    ...{ textLayers: 2, textSize: 96 },
  },
}

const made: Made = {
  ...{ width: 64, height: 64, frames: 16, fps: 8, steps: 25, timings: {}, warnings: [], bytes: 4 },
}

export async function loadRunner({ files }: { files: Files }) {
  const run = async ({ id }: Job, { progress }: RunningJob): Promise<Made> => {
    progress({ stage: 'denoise', step: 1, steps: 1, etaMs: undefined })
    for (const name of ['thumbnail.png', 'spritesheet.png', 'video.mp4'] as const)
      await files.put(id, name, Buffer.from(name))
    await files.put(id, 'result.json', Buffer.from(JSON.stringify(made)))
    return made
  }
  return { models: [served], run }
}
