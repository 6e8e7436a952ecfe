// Requests to the server. The key, if the server wants one, is in a cookie that scripts cannot read.

/** An answer that is not the wanted one, as a sentence for the reader. */
export class Refusal extends Error {
  constructor(
    message: string,
    /** 0: the server did not answer. */
    readonly status: number,
    readonly code: string | undefined,
    /** The field that is wrong, by its name on the wire. */
    readonly parameter: string | undefined,
  ) {
    super(message)
  }
}

export async function request<T>(path: string, init: RequestInit = {}): Promise<T> {
  let answer: Response
  let text: string
  try {
    answer = await fetch(path, init)
    text = await answer.text()
  } catch {
    throw new Refusal('The server does not answer.', 0, undefined, undefined)
  }
  const body = parse(text)
  if (answer.ok) return body as T
  const error = (body as { error?: { message?: string; code?: string; param?: string } } | undefined)?.error
  throw new Refusal(
    error?.message ?? `The server answered ${answer.status}.`,
    answer.status,
    error?.code ?? undefined,
    error?.param ?? undefined,
  )
}

export function post<T>(path: string, body: unknown, headers: Record<string, string> = {}): Promise<T> {
  return request<T>(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

export const contentOf = (id: string, variant: 'video' | 'thumbnail' = 'video'): string =>
  `/v1/videos/${id}/content${variant === 'video' ? '' : `?variant=${variant}`}`
