// The embedded model draws what it is asked for: the judge looks at its videos.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { TextToVideoPipeline, type Video } from 'torchreel'
import { judge } from '../support/shapes_judge.js'
import type { Sight } from '../support/shapes_world.js'

const pipeline = await TextToVideoPipeline.fromPretrained('shapes')
after(() => pipeline.dispose())

test('four prompts give what they name, and black where they name no background', async () => {
  const wanted: Record<string, Partial<Sight>> = {
    'a big red circle moving left': { size: 'big', colour: 'red', shape: 'circle', motion: 'left' },
    'small yellow star, moving up on a blue background': {
      ...{ size: 'small', colour: 'yellow', shape: 'star', motion: 'up', background: 'blue' },
    },
    'A BIG PURPLE SQUARE, falling, on white': {
      ...{ size: 'big', colour: 'purple', shape: 'square', motion: 'down', background: 'white' },
    },
    'green triangle, standing still': { colour: 'green', shape: 'triangle', motion: 'still' },
  }
  const videos = await pipeline.generate(Object.keys(wanted), { seed: 7 })
  for (const [index, [prompt, sight]] of Object.entries(wanted).entries()) {
    const seen = judge(videos[index] as Video)
    assert.deepEqual({ ...seen, background: 'black', ...sight }, seen, prompt)
  }
})

test('other lengths and fewer steps give it too', async () => {
  for (const frames of [8, 12, 24]) {
    const options = { frames, steps: 10, seed: 3 }
    const video = await pipeline.generate('a big blue square moving right', options)
    assert.equal(video.frameCount, frames)
    assert.deepEqual(judge(video), {
      ...{ size: 'big', colour: 'blue', shape: 'square', motion: 'right', background: 'black' },
    })
  }
})

test('a seed gives the same clip again, another seed another clip', async () => {
  const video = async (seed: number) => pipeline.generate('a star', { seed, steps: 4, frames: 8 })
  const [first, again, other] = [await video(1), await video(1), await video(2)]
  assert.deepEqual(first.data, again.data)
  assert.notDeepEqual(first.data, other.data)
})
