import type { MiddlewareHandler } from 'hono'

/** Requests that begin in one turn of the event loop. */
const inOneTurn = 4

/**
 * Lets few requests begin in each turn of the event loop. Many that come at the same moment would otherwise all be read
 * before anything else has its turn, such as the events of those that wait.
 */
export function takeTurns(): MiddlewareHandler {
  const waiting: (() => void)[] = []
  let begun = 0
  const nextTurn = () => {
    const some = waiting.splice(0, inOneTurn)
    begun = some.length
    for (const begin of some) begin()
    if (begun > 0) setImmediate(nextTurn)
  }
  return async (_, next) => {
    if (begun === inOneTurn) await new Promise<void>((begin) => waiting.push(begin))
    else if (++begun === 1) setImmediate(nextTurn)
    await next()
  }
}
