import assert from 'node:assert/strict'
import { test } from 'node:test'
import { judge } from '../support/shapes_judge.js'
import { backgrounds, colours, draw, motions, type Sight, shapes, sizes } from '../support/shapes_world.js'

const keys = <Name extends string>(record: Record<Name, unknown>) => Object.keys(record) as Name[]

/** Every combination whose object is not named like its background. */
function* sights(): Generator<Sight> {
  for (const size of keys(sizes))
    for (const colour of keys(colours))
      for (const shape of shapes)
        for (const motion of keys(motions))
          for (const background of keys(backgrounds))
            if ((background as string) !== colour) yield { size, colour, shape, motion, background }
}

test('the judge tells what drawn clips show', () => {
  let index = 0
  for (const sight of sights()) {
    // Every thirteenth of the 1480 combinations, where 13 is coprime to how many choices each property has, in varying places.
    if (index++ % 13 !== 0) continue
    const middle: [number, number] = [29 + (index % 7), 29 + (index % 5)]
    assert.deepEqual(
      judge(draw(sight, middle, 8 + (index % 3) * 4)),
      sight,
      `${JSON.stringify(sight)} at ${middle}`,
    )
  }
})

test('the judge sees through noise and blur', () => {
  let state = 1
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
  for (const shape of shapes) {
    const sight: Sight = { size: 'big', colour: 'purple', shape, motion: 'up', background: 'gray' }
    const clip = draw(sight)
    const blurred = clip.data.map(
      (value, at, data) => (value + (data[at + 3] ?? value) + (data[at - 3] ?? value)) / 3,
    )
    const noisy = blurred.map((value) => Math.max(0, Math.min(255, value + 30 * (random() - 0.5))))
    assert.deepEqual(judge({ ...clip, data: noisy }), sight)
  }
})

test('without an object only the background is told', () => {
  const data = new Uint8Array(16 * 64 * 64 * 3).fill(126)
  assert.deepEqual(judge({ data, width: 64, height: 64 }), { background: 'gray' })
})

test('a slow drift is standing still, and a fast way is a motion', () => {
  const sight: Sight = { size: 'small', colour: 'red', shape: 'star', motion: 'right', background: 'black' }
  assert.equal(judge(draw(sight, [32, 32], 16, 0.1)).motion, 'still')
  assert.equal(judge(draw(sight, [32, 32], 16, 1)).motion, 'right')
})
