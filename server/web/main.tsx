import { effect, untracked } from '@preact/signals'
import { render } from 'preact'
import { announce } from './announce.ts'
import { Composer } from './composer.tsx'
import { carryOut } from './deletion.ts'
import { OpenedVideo } from './dialog.tsx'
import { draft, write } from './draft.ts'
import { KeyForm } from './key_form.tsx'
import { Away, Spoken, Undo } from './notices.tsx'
import { signedIn, signOut } from './session.ts'
import { Stream } from './stream.tsx'
import { sendLeftOver } from './submit.ts'
import { away, connect, keyWanted, listed, notice, restWhileHidden } from './videos.ts'

function Page() {
  return (
    <>
      <Away />
      <header class="top">
        <h1>torchreel</h1>
        {signedIn.value && !keyWanted.value && (
          <button type="button" class="plain" onClick={() => signOut().catch(notice)}>
            Sign out
          </button>
        )}
      </header>
      <main>
        {keyWanted.value ? (
          <KeyForm />
        ) : (
          <>
            <Composer />
            <Stream />
          </>
        )}
      </main>
      <OpenedVideo />
      <Undo />
      <Spoken />
    </>
  )
}

const place = document.getElementById('page') as HTMLElement
// Text that was typed before this script ran.
const typed = place.querySelector('textarea')?.value
if (typed) write({ prompt: draft.value.prompt + typed })
place.replaceChildren()
render(<Page />, place)

announce()
addEventListener('pagehide', carryOut)
effect(() => {
  if (listed.value && !away.value) untracked(sendLeftOver)
})
restWhileHidden()
void connect()
