// From a prompt to a video that plays.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Locator } from 'playwright-core'
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
import { openPage, openSecondTab, useBrowser, withoutChromium } from './browser.js'
import { useServer } from './server.js'

describe('making a video', { skip: withoutChromium }, () => {
  useBrowser()
  const server = useServer()

  test('a prompt becomes a video: progress, a preview, a red circle that plays', async (t) => {
    const page = await openPage(t, server.address)
    await askFor(page, redCircle, 25)
    await stateLine(page, /Denoising \d+ of 25/).waitFor()
    await page.getByRole('progressbar').waitFor()
    await page.getByText('Preview', { exact: true }).waitFor()
    await tiles(page, 'completed').waitFor()
    const player = (await openNewest(page)).locator('video')
    await until(player, 'player.currentTime > 0')
    assert.ok((await redPart(player)) > 0.02)
  })

  test('the gallery plays on hover and on focus, but not where less motion is wanted', async (t) => {
    const page = await openPage(t, server.address)
    const link = tiles(page, 'completed').first().getByRole('link')
    const player = link.locator('video')
    await link.hover()
    await until(player, 'player.currentTime > 0')
    await page.mouse.move(0, 0)
    await until(player, 'player.paused')
    await link.focus()
    await until(player, '!player.paused')
    await link.blur()
    await page.emulateMedia({ reducedMotion: 'reduce' })
    await link.hover()
    await link.focus()
    assert.equal(await player.evaluate((video: HTMLVideoElement) => video.paused), true)
  })

  test('a double click makes one video', async (t) => {
    const page = await openPage(t, server.address)
    const before = (await server.list()).length
    await setSteps(page, 2)
    await promptBox(page).fill('a blue star')
    await makeButton(page).dblclick()
    await tiles(page).nth(before).waitFor()
    await promptBox(page).fill('a green square')
    await makeButton(page).dblclick()
    await tiles(page)
      .nth(before + 1)
      .waitFor()
    assert.equal((await server.list()).length, before + 2)
  })

  test('two tabs show the same', async (t) => {
    const page = await openPage(t, server.address)
    const other = await openSecondTab(t, page)
    await askFor(page, 'a yellow triangle falling', 2)
    const tile = other.locator('.tile[data-state=completed]', { hasText: 'a yellow triangle falling' })
    await tile.waitFor()
    const [newest] = await server.list()
    await fetch(`${server.address}/v1/videos/${newest?.id}`, { method: 'DELETE' })
    await tile.waitFor({ state: 'detached' })
    await page.locator(`#tile-${newest?.id}`).waitFor({ state: 'detached' })
  })

  test('waiting and running videos are cancelled', async (t) => {
    const page = await openPage(t, server.address)
    await askFor(page, 'a pink box that runs', 200)
    await tiles(page, 'running').waitFor()
    await askFor(page, 'a pink box that waits')
    await stateLine(page, /Next in line/).waitFor()
    for (const name of ['a pink box that waits', 'a pink box that runs']) {
      await page.getByRole('button', { name: `Cancel ${name}` }).click()
      await page.locator('.tile[data-state=cancelled]', { hasText: name }).waitFor()
    }
    const states = (await server.list()).slice(0, 2).map(({ torchreel }) => torchreel.state)
    assert.deepEqual(states, ['cancelled', 'cancelled'])
  })

  test('a new seed by Again, a new prompt from this video by Vary', async (t) => {
    const page = await openPage(t, server.address)
    await setSteps(page, 2)
    const dialog = await openNewest(page)
    const count = await tiles(page, 'completed').count()
    await dialog.getByRole('button', { name: 'Again' }).click()
    await tiles(page, 'completed').nth(count).waitFor()
    const [made, first] = (await server.list()).filter(({ status }) => status === 'completed')
    assert.equal(made?.prompt, first?.prompt)
    assert.notEqual(made?.torchreel.seed, first?.torchreel.seed)

    await (await openNewest(page)).getByRole('button', { name: 'Vary' }).click()
    await page.getByText('Starts from').waitFor()
    await askFor(page, 'a white circle')
    await page.locator('.tile[data-state=completed]', { hasText: 'a white circle' }).waitFor()
    const [varied] = await server.list()
    assert.equal(varied?.remixed_from_video_id, made?.id)
  })

  test('a video starts from a file, chosen or dropped', async (t) => {
    const page = await openPage(t, server.address)
    const newest = (await server.list()).find(({ status }) => status === 'completed')
    const content = await fetch(`${server.address}/v1/videos/${newest?.id}/content`)
    const buffer = Buffer.from(await content.arrayBuffer())
    await setSteps(page, 4)
    await page.locator('input[type=file]').setInputFiles({ name: 'mine.mp4', mimeType: 'video/mp4', buffer })
    await page.getByText('Starts from mine.mp4').waitFor()
    await askFor(page, 'a circle from a file')
    await page.locator('.tile[data-state=completed]', { hasText: 'a circle from a file' }).waitFor()
    const [made] = await server.list()
    assert.equal(typeof made?.torchreel.settings.strength, 'number')

    const dropped = await page.evaluateHandle(
      (bytes) => {
        const transfer = new DataTransfer()
        transfer.items.add(new File([new Uint8Array(bytes)], 'dropped.mp4', { type: 'video/mp4' }))
        return transfer
      },
      [...buffer],
    )
    await page.locator('form').dispatchEvent('drop', { dataTransfer: dropped })
    await page.getByText('Starts from dropped.mp4').waitFor()
    await page.getByRole('button', { name: 'Remove' }).click()
    await page.getByText('Starts from').waitFor({ state: 'detached' })
  })
})

/** Waits until an expression over `player`, the element, is true. */
async function until(element: Locator, expression: string): Promise<void> {
  const handle = await element.elementHandle()
  await element.page().waitForFunction(`(player) => ${expression}`, handle)
}

/** The part of a video's picture that is red. */
function redPart(player: Locator): Promise<number> {
  return player.evaluate((video: HTMLVideoElement) => {
    const { videoWidth: width, videoHeight: height } = video
    const picture = new OffscreenCanvas(width, height).getContext('2d') as OffscreenCanvasRenderingContext2D
    picture.drawImage(video, 0, 0)
    const { data } = picture.getImageData(0, 0, width, height)
    let red = 0
    for (let at = 0; at < data.length; at += 4) {
      const [r = 0, g = 0, b = 0] = data.subarray(at, at + 3)
      if (r > 170 && g < 90 && b < 90) red++
    }
    return red / (width * height)
  })
}
