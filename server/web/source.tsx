// A video to start from: a file that is chosen or dropped, or a video of the gallery.
import { useEffect, useState } from 'preact/hooks'
import { contentOf } from './api.ts'
import { draft, file, model, unfolded, write } from './draft.ts'
import { FieldControl } from './field.tsx'
import { videos } from './videos.ts'
import { nameOf } from './words.ts'

const startsFromVideo = (): boolean => file.value !== undefined || draft.value.from !== undefined

export function choose(chosen: File): void {
  file.value = chosen
  write({ from: undefined })
}

/** In the options: where a file is chosen. */
export function SourceField() {
  if (!model.value?.fields.some(({ name }) => name === 'strength')) return null
  return (
    <fieldset>
      <legend>Start from a video</legend>
      <label class="drop">
        <input
          type="file"
          accept="video/*,image/gif,image/webp,image/apng"
          onChange={(e) => {
            const chosen = e.currentTarget.files?.[0]
            if (chosen) choose(chosen)
            e.currentTarget.value = ''
          }}
        />
        <span>
          <b>Choose a file</b> or drop it here
        </span>
      </label>
    </fieldset>
  )
}

/** Above the prompt: the video that the draft starts from. */
export function Source() {
  const strength = model.value?.fields.find(({ name }) => name === 'strength')
  if (!startsFromVideo()) return null
  return (
    <div class="source">
      <div class="source-line">
        {file.value ? <FilePicture chosen={file.value} /> : <Picture id={draft.value.from as string} />}
        <p>
          Starts from <b>{sourceName()}</b>
        </p>
        <button
          type="button"
          class="plain"
          onClick={() => {
            file.value = undefined
            write({ from: undefined })
          }}
        >
          Remove
        </button>
      </div>
      {strength && unfolded.value && <FieldControl field={strength} />}
    </div>
  )
}

function sourceName(): string {
  if (file.value) return file.value.name
  const video = videos.value.get(draft.value.from ?? '')
  return video ? nameOf(video, 40) : 'another video'
}

function Picture({ id }: { id: string }) {
  return <img src={contentOf(id, 'thumbnail')} alt="" />
}

function FilePicture({ chosen }: { chosen: File }) {
  const [url, setUrl] = useState<string>()
  useEffect(() => {
    const made = URL.createObjectURL(chosen)
    setUrl(made)
    return () => URL.revokeObjectURL(made)
  }, [chosen])
  return <video src={url} muted playsInline tabIndex={-1} aria-hidden="true" />
}
