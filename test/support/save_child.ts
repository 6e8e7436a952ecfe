// Saves a video with the ffmpeg on its command line. Tests kill this process, or let it exit in the middle.
// argv: the torchreel module, the ffmpeg, the target, and 'exit' to call process.exit after ffmpeg has started
import { existsSync } from 'node:fs'

const [module, ffmpeg, target, ending] = process.argv.slice(2) as [string, string, string, string | undefined]
const { Video } = (await import(module)) as typeof import('torchreel')
const saving = new Video({ width: 16, height: 16, fps: 8, data: new Uint8Array(16 * 16 * 3 * 4) }).save(
  target,
  { ffmpeg },
)
if (ending === 'exit') {
  setInterval(() => {
    if (existsSync(`${target}.started`)) process.exit(0)
  }, 10)
}
await saving
