// Signing in with a key, and out. The server keeps the session in a cookie that scripts cannot read; the page remembers only
// that there is one.
import { signal } from '@preact/signals'
import { post, request } from './api.ts'
import { connect } from './videos.ts'

const place = 'torchreel.signedIn'

export const signedIn = signal(localStorage.getItem(place) !== null)

export async function signIn(key: string): Promise<void> {
  await post('/session', { key })
  localStorage.setItem(place, '')
  signedIn.value = true
  await connect()
}

/** Also forgets the draft: another person may be next. */
export async function signOut(): Promise<void> {
  await request('/session', { method: 'DELETE' })
  localStorage.clear()
  location.replace('/')
}
