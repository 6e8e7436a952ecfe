// One video's request as something to run elsewhere.
import type { Field, Settings, Value, Video } from './protocol.ts'

export interface Form {
  readonly name: string
  readonly text: string
}

export function copyForms(video: Video, fields: readonly Field[]): readonly Form[] {
  // Without the video to start from, a strength is refused.
  const { strength: _, ...settings } = video.torchreel.settings
  const body = { model: video.model, prompt: video.prompt ?? '', ...settings, seed: video.torchreel.seed }
  return [
    { name: 'Node.js', text: node(body, fields) },
    { name: 'curl', text: curl(body, video.torchreel.owner !== 'local') },
    { name: 'Command line', text: commandLine(body, fields) },
    { name: 'JSON', text: JSON.stringify(body, null, 2) },
  ]
}

type Body = Settings & { readonly model: string; readonly prompt: string }

function node({ prompt, ...rest }: Body, fields: readonly Field[]): string {
  const lines = Object.entries(rest).flatMap(([name, value]) => {
    const option = name === 'model' ? name : fields.find((field) => field.name === name)?.option
    return option === undefined ? [] : [`  ${option}: ${literal(value)},\n`]
  })
  return `import { generate } from 'torchreel'

await generate(${literal(prompt)}, {
${lines.join('')}  output: 'video.mp4',
})`
}

/** A value as a JavaScript literal in single quotes. */
function literal(value: Value): string {
  if (typeof value !== 'string') return JSON.stringify(value)
  return `'${JSON.stringify(value).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`
}

function curl(body: Body, needsKey: boolean): string {
  const key = needsKey ? `  -H "authorization: Bearer $TORCHREEL_KEY" \\\n` : ''
  return `curl ${location.origin}/v1/videos \\
${key}  -H 'content-type: application/json' \\
  -d ${quoted(JSON.stringify(body))}`
}

function commandLine({ prompt, ...rest }: Body, fields: readonly Field[]): string {
  const words = Object.entries(rest).flatMap(([name, value]) => {
    const flag =
      fields.find((field) => field.name === name)?.flag ?? (name === 'model' ? '--model <name>' : undefined)
    if (flag === undefined || value === false) return []
    const [word, ...argument] = flag.split(' ')
    return [argument.length === 0 ? `${word}` : `${word} ${quoted(argumentOf(value, flag))}`]
  })
  return ['npx torchreel', quoted(prompt), ...words, '-o video.mp4'].join(' ')
}

/** `0.2,0.8`, or `8:2` if the flag says so. */
function argumentOf(value: Value, flag: string): string {
  return typeof value === 'object' ? Object.values(value).join(flag.includes(':') ? ':' : ',') : String(value)
}

/** A word for a POSIX shell. */
function quoted(text: string): string {
  return /^[\w.:/=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
