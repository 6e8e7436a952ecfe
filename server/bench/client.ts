import { setTimeout as wait } from 'node:timers/promises'

// What a client of the server does.

export interface Answer {
  readonly id: string
  readonly status: string
  readonly torchreel: { readonly state: string; readonly attempt: number }
}

/** Asks for a video until the queue has room. @returns the answer, and how often it had none */
export async function create(
  url: string,
  prompt: string,
  options: object = {},
): Promise<{ answer: Answer; refused: number }> {
  for (let refused = 0; ; refused++) {
    const response = await fetch(`${url}/v1/videos`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt, ...options }),
    })
    if (response.ok) return { answer: (await response.json()) as Answer, refused }
    await response.body?.cancel()
    if (response.status !== 429) throw new Error(`the server answered ${response.status}`)
    await wait(Math.min(500, Number(response.headers.get('retry-after-ms') ?? 500)))
  }
}

/** @param every how often it asks (ms) */
export async function ended(url: string, id: string, every = 20): Promise<Answer> {
  for (;;) {
    const response = await fetch(`${url}/v1/videos/${id}`)
    const answer = (await response.json()) as Answer
    if (answer.status === 'completed' || answer.status === 'failed') return answer
    await wait(every)
  }
}

export const remove = async (url: string, id: string): Promise<void> => {
  const response = await fetch(`${url}/v1/videos/${id}`, { method: 'DELETE' })
  await response.body?.cancel()
}

export async function content(url: string, id: string): Promise<Buffer> {
  const response = await fetch(`${url}/v1/videos/${id}/content`)
  return Buffer.from(await response.arrayBuffer())
}
