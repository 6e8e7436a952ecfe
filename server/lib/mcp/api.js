/** Calls the HTTP interface of a server. Its refusals become errors with its own words. */
export class Api {
  /** Without `/v1`. */
  origin
  #answer
  #headers
  /** @param headers of every request, such as the caller's key */
  constructor(origin, answer, headers = {}) {
    this.origin = origin
    this.#answer = answer
    this.#headers = headers
  }
  async json(path, { method = 'GET', body, headers, signal } = {}) {
    const response = await this.#send(path, {
      method,
      headers: { ...headers, ...(body && { 'content-type': 'application/json' }) },
      ...(body && { body: JSON.stringify(body) }),
      ...(signal && { signal }),
    })
    return await response.json()
  }
  async bytes(path) {
    return Buffer.from(await (await this.#send(path, {})).arrayBuffer())
  }
  /** Where a video's file is, for those who ask with a key. */
  contentUrl(id) {
    return `${this.origin}/v1/videos/${id}/content`
  }
  async #send(path, init) {
    const request = new Request(`${this.origin}/v1${path}`, {
      ...init,
      headers: { ...this.#headers, ...init.headers },
    })
    const response = await this.#answer(request)
    if (response.ok) return response
    const text = await response.text()
    throw new Error(messageOf(text) ?? `the server answered ${response.status}`)
  }
}
function messageOf(body) {
  try {
    return JSON.parse(body).error?.message
  } catch {
    return undefined
  }
}
