// How a video was made.
import { useComputed } from '@preact/signals'
import { labelOf } from './field_words.ts'
import type { Value, Video } from './protocol.ts'
import { capabilities } from './videos.ts'
import { sizeInWords, timeTaken } from './words.ts'

/** Said elsewhere on the dialog, or by a line of their own. */
const said = ['prompt', 'model', 'size', 'width', 'height', 'seed']

export function Facts({ video }: { video: Video }) {
  const fields = useComputed(
    () => capabilities.value?.models.find(({ id }) => id === video.model)?.fields ?? [],
  )
  const { seed, settings, warnings } = video.torchreel
  const taken = timeTaken(video)
  const others = Object.entries(settings).filter(([name]) => !said.includes(name))
  const rows: readonly (readonly [string, string])[] = [
    ['Model', video.model],
    ['Size', sizeInWords(video.size)],
    ['Length', `${video.seconds} s`],
    ['Seed', String(seed)],
    ...others.map(([name, value]) => {
      const field = fields.value.find((each) => each.name === name)
      return [field ? labelOf(field) : name, inWords(value)] as const
    }),
    ...(taken ? [['Took', taken] as const] : []),
    [
      'Made',
      new Date(video.created_at * 1000).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' }),
    ],
  ]
  return (
    <>
      <dl>
        {rows.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {warnings.map((warning) => (
        <p key={warning} class="hint">
          {warning}
        </p>
      ))}
    </>
  )
}

function inWords(value: Value): string {
  if (typeof value === 'boolean') return value ? 'on' : 'off'
  return typeof value === 'object' ? Object.values(value).map(inWords).join(', ') : String(value)
}
