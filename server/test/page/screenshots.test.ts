// A picture of each state of the page, in both colour schemes, wide and narrow, for eyes: build/server-screenshots.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import type { Locator, Page } from 'playwright-core'
import {
  askFor,
  openNewest,
  optionsButton,
  promptBox,
  redCircle,
  setSteps,
  stateLine,
  tiles,
} from './actions.js'
import { openPage, useBrowser, withoutChromium } from './browser.js'
import { type ListedVideo, useServer } from './server.js'

const folder = join(import.meta.dirname, '../../server-screenshots')
const prompts = ['a small blue star moving up', 'a huge purple disc standing still']

describe('screenshots', { skip: withoutChromium }, () => {
  useBrowser()
  const server = useServer()
  mkdirSync(folder, { recursive: true })

  test('first visit, options, waiting, denoising, cancelled', async (t) => {
    const page = await openPage(t, server.address)
    await page.getByText('No videos yet').waitFor()
    await page.getByRole('button', { name: /random seed/ }).waitFor()
    await picture(page, 'first-visit')
    await promptBox(page).fill(redCircle)
    await page.getByRole('button', { name: /random seed/ }).waitFor()
    await optionsButton(page).click()
    await picture(page, 'options')
    await optionsButton(page).click()
    await askFor(page, redCircle, 200)
    await askFor(page, 'a yellow triangle falling')
    await askFor(page, 'a pink box flying up')
    await stateLine(page, /2nd in line/).waitFor()
    await page.getByText('Preview', { exact: true }).waitFor()
    await picture(page, 'waiting-and-denoising', stateLine(page, /Denoising/))
    for (const count of [3, 2, 1]) {
      await page
        .getByRole('button', { name: /^Cancel/ })
        .first()
        .click()
      await tiles(page, 'cancelled')
        .nth(3 - count)
        .waitFor()
    }
    await picture(page, 'cancelled')
    for (const { id } of await server.list())
      await fetch(`${server.address}/v1/videos/${id}`, { method: 'DELETE' })
  })

  test('done and playing, details, code, undo, a start from a video, a refused request', async (t) => {
    const page = await openPage(t, server.address, { expected: /status of 400/ })
    await setSteps(page, 15)
    for (const prompt of [redCircle, ...prompts]) await askFor(page, prompt)
    await tiles(page, 'completed').nth(prompts.length).waitFor()
    await tiles(page, 'completed').first().hover()
    await picture(page, 'done')
    const dialog = await openNewest(page)
    await picture(page, 'details')
    await dialog.getByText('Copy as code').click()
    await picture(page, 'code', dialog.getByRole('button', { name: 'Copy' }))
    await dialog.getByRole('button', { name: 'Vary' }).click()
    await picture(page, 'start-from-a-video')
    await page.getByRole('button', { name: 'Remove' }).click()
    await optionsButton(page).click()
    await page.getByLabel('Width', { exact: true }).fill('63')
    await promptBox(page).fill('a star')
    await promptBox(page).press('Control+Enter')
    await page.getByText(/must be .*63/).waitFor()
    await picture(page, 'refused')
    await page.getByRole('button', { name: 'Reset all options' }).click()
    await optionsButton(page).click()
    await (await openNewest(page)).getByRole('button', { name: 'Delete' }).click()
    await picture(page, 'undo')
    await page.getByRole('button', { name: 'Undo' }).click()
  })

  test('failed, a key wanted, the server away', async (t) => {
    const page = await openPage(t, server.address, { expected: /status of 401|net::ERR/ })
    await tiles(page, 'completed').first().waitFor()
    // No request makes `shapes` fail, so one answer of the list is changed on its way.
    await page.route('**/v1/videos?*', async (route) => {
      const answer = await route.fetch()
      const list = (await answer.json()) as { data: ListedVideo[] }
      const message = 'The denoiser produced NaN at step 4 of 25. Try float32, or a lower guidance scale.'
      const failed = (video: ListedVideo) => ({
        ...video,
        status: 'failed',
        error: { code: 'ERR_NUMERIC', message },
        torchreel: { ...video.torchreel, state: 'failed' },
      })
      const data = list.data.map((video, index) => (index === 0 ? failed(video) : video))
      await route.fulfill({ response: answer, json: { ...list, data } })
    })
    await page.reload()
    await tiles(page, 'failed').waitFor()
    await picture(page, 'failed')
    await tiles(page, 'failed').getByRole('link').click()
    await picture(page, 'failed-details')
    await page.keyboard.press('Escape')
    await server.kill()
    await page.getByText('The server does not answer').waitFor()
    await picture(page, 'server-away')
    await server.start()
    await page.getByText('The server does not answer').waitFor({ state: 'detached' })
    await page.route('**/v1/capabilities', (route) =>
      route.fulfill({
        status: 401,
        json: { error: { code: 'invalid_api_key', message: 'A key is needed.' } },
      }),
    )
    await page.reload()
    await page.getByLabel('Key').waitFor()
    await picture(page, 'key-wanted')
  })
})

/** @param shown what must be within the window */
async function picture(page: Page, name: string, shown?: Locator): Promise<void> {
  for (const width of [1280, 320]) {
    await page.setViewportSize({ width, height: width === 320 ? 640 : 860 })
    await shown?.scrollIntoViewIfNeeded()
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme })
      await page.screenshot({ path: join(folder, `${name}-${colorScheme}-${width}.png`) })
    }
  }
  await page.setViewportSize({ width: 1280, height: 860 })
}
