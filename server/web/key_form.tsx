// Asks for the key of a server that wants one. The server keeps it in a cookie.
import { useSignal } from '@preact/signals'
import { Refusal } from './api.ts'
import { signIn } from './session.ts'

export function KeyForm() {
  const key = useSignal('')
  const trouble = useSignal('')
  return (
    <form
      class="key"
      onSubmit={async (event) => {
        event.preventDefault()
        try {
          await signIn(key.value.trim())
        } catch (error) {
          if (!(error instanceof Refusal)) throw error
          trouble.value = error.status === 401 ? 'The server does not know this key.' : error.message
        }
      }}
    >
      <h2>This server needs a key</h2>
      <label for="key">Key</label>
      <input
        id="key"
        type="password"
        autocomplete="current-password"
        value={key.value}
        aria-describedby="key-trouble"
        onInput={(event) => {
          key.value = event.currentTarget.value
        }}
      />
      <p id="key-trouble" class="trouble" role="alert">
        {trouble.value}
      </p>
      <button type="submit" class="primary" disabled={!key.value.trim()}>
        Continue
      </button>
    </form>
  )
}
