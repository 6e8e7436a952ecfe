const maxNamed = 10

/** Counts complaints of one kind, and names the first ten. */
export class Complaints {
  readonly #kind: string
  readonly #named: string[] = []
  #count = 0

  constructor(kind: string) {
    this.#kind = kind
  }

  get count(): number {
    return this.#count
  }

  add(what: string): void {
    if (this.#count++ < maxNamed) this.#named.push(what)
  }

  toString(): string {
    return `${this.#count} ${this.#kind}: ${this.#named.join(', ')}${this.#count > maxNamed ? ', …' : ''}`
  }
}
