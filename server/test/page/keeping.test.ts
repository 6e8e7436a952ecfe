// Nothing is lost: by loading the page again, by a server that dies, by a hasty click.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { describe, test } from 'node:test'
import {
  askFor,
  makeButton,
  openNewest,
  promptBox,
  redCircle,
  setSteps,
  stateLine,
  tiles,
} from './actions.js'
import { openPage, useBrowser, withoutChromium } from './browser.js'
import { useServer } from './server.js'

/** What Chromium says of a connection that breaks, and of a server that is not ready. */
const broken = /Failed to load resource: (net::ERR|.* status of 503)/

describe('keeping', { skip: withoutChromium }, () => {
  useBrowser()
  const server = useServer()

  test('the draft, its options and a running video outlive a reload', async (t) => {
    const page = await openPage(t, server.address)
    await askFor(page, redCircle, 40)
    await promptBox(page).fill('a draft')
    await tiles(page, 'running').waitFor()
    await page.reload()
    assert.equal(await promptBox(page).inputValue(), 'a draft')
    await page.getByText('40 steps').waitFor()
    await stateLine(page, /Denoising \d+ of 40/).waitFor()
    await tiles(page, 'completed').waitFor()
  })

  test('a request without an answer is sent again after a reload, with its key', async (t) => {
    const page = await openPage(t, server.address, { expected: broken })
    const keys: (string | undefined)[] = []
    // The server gets the first one; only the answer is lost.
    await page.route('**/v1/videos', async (route) => {
      keys.push(route.request().headers()['idempotency-key'])
      if (keys.length > 1) return route.continue()
      await route.fetch()
      await route.abort()
    })
    const before = (await server.list()).length
    await setSteps(page, 2)
    await promptBox(page).fill('a blue star')
    await makeButton(page).click()
    await page.getByText('Your request is kept').waitFor()
    await page.reload()
    await tiles(page).nth(before).waitFor()
    await page.waitForFunction(() => localStorage.getItem('torchreel.wishes') === '[]')
    assert.equal(keys.length, 2)
    assert.equal(keys[0], keys[1])
    assert.equal((await server.list()).length, before + 1)
  })

  test('a server that is not ready gets the request later', async (t) => {
    const page = await openPage(t, server.address, { expected: /status of 503/ })
    let tries = 0
    await page.route('**/v1/videos', async (route) => {
      const error = { code: 'no_worker', message: 'no worker has loaded shapes yet' }
      return ++tries === 1 ? route.fulfill({ status: 503, json: { error } }) : route.continue()
    })
    const before = (await server.list()).length
    await askFor(page, 'an orange star', 2)
    await page.getByText('no worker has loaded shapes yet. Your request is kept.').waitFor()
    await tiles(page).nth(before).waitFor()
    await page.getByText('Your request is kept').waitFor({ state: 'detached' })
    assert.equal((await server.list()).length, before + 1)
  })

  test('a server that is killed and started again: the list stays, and what was asked for is made', async (t) => {
    const page = await openPage(t, server.address, { expected: broken })
    await setSteps(page, 2)
    const count = await tiles(page, 'completed').count()
    assert.ok(count > 0)
    await server.kill()
    await page.getByText('The server does not answer').waitFor()
    await askFor(page, 'a green square')
    await page.getByText('Your request is kept').waitFor()
    assert.equal(await tiles(page, 'completed').count(), count)
    await server.start()
    await page.locator('.tile[data-state=completed]', { hasText: 'a green square' }).waitFor()
    await page.getByText('The server does not answer').waitFor({ state: 'detached' })
  })

  test('a download has the bytes that the API gives', async (t) => {
    const page = await openPage(t, server.address)
    const dialog = await openNewest(page)
    const arriving = page.waitForEvent('download')
    await dialog.getByRole('link', { name: 'Download' }).click()
    const download = await arriving
    assert.match(download.suggestedFilename(), /^[a-z0-9_-]+\.mp4$/)
    const id = new URL(page.url()).hash.slice(1)
    const content = await fetch(`${server.address}/v1/videos/${id}/content`)
    assert.equal(
      sha256(await readFile(await download.path())),
      sha256(Buffer.from(await content.arrayBuffer())),
    )
  })

  test('a deletion is undone within six seconds, and sent after them', async (t) => {
    const page = await openPage(t, server.address)
    await tiles(page, 'completed').first().waitFor()
    await page.clock.install()
    const [newest] = await server.list()
    const tile = page.locator(`#tile-${newest?.id}`)
    const deleteNewest = async () => {
      await (await openNewest(page)).getByRole('button', { name: 'Delete' }).click()
      await tile.waitFor({ state: 'detached' })
    }
    await deleteNewest()
    await page.clock.runFor(5000)
    await page.getByRole('button', { name: 'Undo' }).click()
    await tile.waitFor()
    await page.clock.runFor(5000)
    assert.equal((await server.list())[0]?.id, newest?.id)

    await deleteNewest()
    const sent = page.waitForResponse((answer) => answer.request().method() === 'DELETE')
    await page.clock.runFor(7000)
    assert.equal((await sent).status(), 200)
    assert.notEqual((await server.list())[0]?.id, newest?.id)
    assert.equal(await tile.count(), 0)
  })
})

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}
