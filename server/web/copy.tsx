// The request of a video as code.
import { useSignal } from '@preact/signals'
import { copyForms } from './copy_as.ts'
import type { Video } from './protocol.ts'
import { capabilities } from './videos.ts'

export function CopyAs({ video }: { video: Video }) {
  const chosen = useSignal(0)
  const copied = useSignal(false)
  const fields = capabilities.value?.models.find(({ id }) => id === video.model)?.fields ?? []
  const forms = copyForms(video, fields)
  const text = forms[chosen.value]?.text ?? ''
  return (
    <details class="copy">
      <summary>Copy as code</summary>
      <fieldset class="forms">
        <legend class="unseen">Language</legend>
        {forms.map(({ name }, index) => (
          <label key={name}>
            <input
              type="radio"
              name="form"
              checked={index === chosen.value}
              onChange={() => {
                chosen.value = index
                copied.value = false
              }}
            />
            <span>{name}</span>
          </label>
        ))}
      </fieldset>
      <pre>{text}</pre>
      {/* Browsers give the clipboard to secure pages only: https, or this machine. */}
      {isSecureContext && (
        <button
          type="button"
          onClick={async () => {
            await navigator.clipboard.writeText(text)
            copied.value = true
          }}
        >
          {copied.value ? 'Copied' : 'Copy'}
        </button>
      )}
      {video.torchreel.settings.strength !== undefined && (
        <p class="hint">The video that this one started from is not part of it.</p>
      )}
    </details>
  )
}
