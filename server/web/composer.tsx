// Where a video is asked for.
import { useEffect, useRef } from 'preact/hooks'
import { draft, model, unfolded, write } from './draft.ts'
import { inTheFormsWords } from './field_words.ts'
import { Options, Summary } from './options.tsx'
import { choose, Source } from './source.tsx'
import { refusal, sending, submitDraft } from './submit.ts'

export function Composer() {
  const form = useRef<HTMLFormElement>(null)
  const box = useRef<HTMLTextAreaElement>(null)
  const { prompt } = draft.value

  useEffect(() => {
    const area = box.current
    if (!area) return
    area.style.height = 'auto'
    area.style.height = `${area.scrollHeight}px`
  }, [prompt])

  const refused = refusal.value
  const isBelowField = model.value?.fields.some(({ name }) => name === refused?.parameter)
  useEffect(() => {
    if (!refused) return
    // It may be the answer to a button far below.
    if (!isBelowField) return form.current?.scrollIntoView({ block: 'nearest' })
    unfolded.value = true
    requestAnimationFrame(() => document.getElementById(`field-${refused.parameter}`)?.focus())
  }, [refused, isBelowField])

  return (
    <form
      ref={form}
      class="composer"
      // The server checks, and says in a sentence what is wrong.
      noValidate
      onSubmit={(event) => {
        event.preventDefault()
        void submitDraft()
      }}
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        const dropped = event.dataTransfer?.files[0]
        if (!dropped) return
        event.preventDefault()
        choose(dropped)
      }}
    >
      <Source />
      <label class="unseen" for="prompt">
        Describe a video
      </label>
      <textarea
        id="prompt"
        ref={box}
        rows={2}
        placeholder="Describe a video"
        value={prompt}
        aria-describedby="composer-trouble"
        onInput={(event) => write({ prompt: event.currentTarget.value })}
        onKeyDown={(event) => {
          if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return
          event.preventDefault()
          form.current?.requestSubmit()
        }}
      />
      <p id="composer-trouble" class="trouble" role="alert">
        {refused && !isBelowField && inTheFormsWords(refused)}
      </p>
      <div class="composer-end">
        <Summary />
        <button
          type="submit"
          class="primary"
          title="Ctrl+Enter"
          aria-keyshortcuts="Control+Enter Meta+Enter"
          disabled={sending.value || !prompt.trim() || !model.value?.ready}
        >
          {sending.value ? 'Sending' : 'Make video'}
        </button>
      </div>
      <Options />
    </form>
  )
}
