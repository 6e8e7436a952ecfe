// The embedded model draws what it is asked for: the judge looks at its videos.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { TextToVideoPipeline } from 'torchreel'
import { repository } from './support/fixtures.js'
import { judge } from './support/shapes_judge.js'

const pipeline = await TextToVideoPipeline.fromPretrained(`${repository}models/shapes`)
after(() => pipeline.dispose())

test('four prompts give the colour, motion and background that they name', async () => {
  const wanted = {
    'a big red circle moving left': { colour: 'red', motion: 'left', background: 'black' },
    'small yellow star, moving up on a blue background': {
      colour: 'yellow',
      motion: 'up',
      background: 'blue',
    },
    'A BIG PURPLE SQUARE, falling, on white': { colour: 'purple', motion: 'down', background: 'white' },
    'green triangle, standing still': { colour: 'green', motion: 'still', background: 'black' },
  }
  const videos = await pipeline.generate(Object.keys(wanted), { seed: 7 })
  for (const [index, [prompt, sight]] of Object.entries(wanted).entries()) {
    const video = videos[index]
    assert.ok(video)
    const seen = judge(video)
    assert.deepEqual({ ...seen, ...sight }, seen, prompt)
  }
})

test('other lengths and fewer steps give it too', async () => {
  for (const frames of [8, 12, 24]) {
    const options = { frames, steps: 10, seed: 3 }
    const video = await pipeline.generate('a big blue square moving right', options)
    assert.equal(video.frameCount, frames)
    const { colour, motion, background } = judge(video)
    assert.deepEqual({ colour, motion, background }, { colour: 'blue', motion: 'right', background: 'black' })
  }
})

test('a seed gives the same clip again, another seed another clip', async () => {
  const video = async (seed: number) => pipeline.generate('a star', { seed, steps: 4, frames: 8 })
  const [first, again, other] = [await video(1), await video(1), await video(2)]
  assert.deepEqual(first.data, again.data)
  assert.notDeepEqual(first.data, other.data)
})
