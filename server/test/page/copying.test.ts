// A video's request as code: a shell and Node.js read from it what was asked for, whatever is in the prompt.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { describe, test } from 'node:test'
import { askFor, openNewest, optionsButton, tiles } from './actions.js'
import { openPage, useBrowser, withoutChromium } from './browser.js'
import { useServer } from './server.js'

const prompt = `it's a "star" for $HOME; \`date\` \\ 'five'`

describe('copying as code', { skip: withoutChromium }, () => {
  useBrowser()
  const server = useServer()

  test('Node.js, curl, the command line and JSON say the same', async (t) => {
    const page = await openPage(t, server.address)
    await optionsButton(page).click()
    await page.getByLabel('Steps', { exact: true }).fill('2')
    await page.getByLabel('FreeU', { exact: true }).fill('0.9, 0.2, 1.2, 1.4')
    await page.getByLabel('Negative prompt').fill("it's blurred")
    await askFor(page, prompt)
    await tiles(page, 'completed').waitFor()
    const dialog = await openNewest(page)
    await dialog.getByText('Copy as code').click()
    const text = async (language: string) => {
      await dialog.getByText(language, { exact: true }).click()
      return (await dialog.locator('pre').textContent()) ?? ''
    }
    const [video] = await server.list()
    const { seed } = video?.torchreel ?? {}
    const wanted = {
      model: 'shapes',
      prompt,
      num_inference_steps: 2,
      seed,
      negative_prompt: "it's blurred",
      free_u: { s1: 0.9, s2: 0.2, b1: 1.2, b2: 1.4 },
    }
    assert.deepEqual(JSON.parse(await text('JSON')), wanted)

    const curl = argumentsOf(await text('curl'), 'curl')
    assert.equal(curl[0], `${server.address}/v1/videos`)
    assert.deepEqual(JSON.parse(curl[curl.indexOf('-d') + 1] ?? ''), wanted)

    const line = argumentsOf(await text('Command line'), 'npx torchreel')
    const after = (flag: string) => line[line.indexOf(flag) + 1]
    assert.equal(line[0], prompt)
    assert.equal(after('--model'), 'shapes')
    assert.equal(after('--steps'), '2')
    assert.equal(after('--seed'), String(seed))
    assert.equal(after('--negative-prompt'), "it's blurred")
    assert.equal(after('--free-u'), '0.9,0.2,1.2,1.4')

    const code = (await text('Node.js')).replace(/^import .*\n/, '').replace('await ', 'return ')
    const called: unknown[] = new Function('generate', code)((...given: unknown[]) => given)
    const { num_inference_steps: steps, negative_prompt: negativePrompt, free_u: freeU, model } = wanted
    assert.deepEqual(called, [prompt, { model, steps, seed, negativePrompt, freeU, output: 'video.mp4' }])
  })
})

/** The words that a shell makes of a command after its first ones. */
function argumentsOf(command: string, first: string): readonly string[] {
  const print = `'${process.execPath}' -e 'console.log(JSON.stringify(process.argv.slice(1)))' --`
  return JSON.parse(execFileSync('sh', ['-c', command.replace(first, print)], { encoding: 'utf8' }))
}
