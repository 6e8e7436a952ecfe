// For everyone, and safe: a key, the keyboard, axe's rules, and prompts that are only text.
import assert from 'node:assert/strict'
import { readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import type { AxeResults } from 'axe-core'
import type { Page } from 'playwright-core'
import { askFor, openNewest, optionsButton, promptBox, setSteps, tiles } from './actions.js'
import { openPage, useBrowser, withoutChromium } from './browser.js'
import { newKey, useServer } from './server.js'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

describe('reaching the page', { skip: withoutChromium }, () => {
  useBrowser()
  const server = useServer()

  test('a prompt is text, not HTML', async (t) => {
    const page = await openPage(t, server.address)
    const prompt = `<img src=x onerror="document.title='broken'"><script>alert(1)</script>`
    await askFor(page, prompt, 2)
    await tiles(page, 'completed').waitFor()
    const dialog = await openNewest(page)
    assert.equal(await dialog.getByRole('heading').textContent(), prompt)
    await dialog.getByText('Copy as code').click()
    assert.ok((await dialog.locator('pre').textContent())?.includes('<script>'))
    assert.equal(await page.locator('img[src=x], main script').count(), 0)
    assert.equal(await page.title(), 'torchreel')
  })

  test('everything works by keyboard alone', async (t) => {
    const page = await openPage(t, server.address)
    await setSteps(page, 2)
    const count = await tiles(page).count()
    await page.reload()
    await tiles(page)
      .nth(count - 1)
      .waitFor()
    await tabTo(page, 'textarea')
    await page.keyboard.type('a blue star')
    await page.keyboard.press('Control+Enter')
    await tiles(page, 'completed').nth(count).waitFor()
    await tabTo(page, '.tile a')
    const address = await page.evaluate(() => (document.activeElement as HTMLAnchorElement).href)
    await page.keyboard.press('Enter')
    const dialog = page.getByRole('dialog', { name: 'a blue star' })
    await dialog.waitFor()
    assert.equal(page.url(), address)
    // The focus stays in the dialog.
    for (let presses = 0; presses < 12; presses++) {
      await page.keyboard.press('Tab')
      assert.ok(await page.evaluate(() => document.activeElement?.closest('dialog, body') !== null))
    }
    await page.keyboard.press('Escape')
    await dialog.waitFor({ state: 'detached' })
    assert.equal(await page.evaluate(() => (document.activeElement as HTMLAnchorElement).href), address)
  })

  for (const colorScheme of ['light', 'dark'] as const) {
    for (const width of [1280, 320]) {
      test(`axe finds nothing: ${colorScheme}, ${width} pixels`, async (t) => {
        const page = await openPage(t, server.address, {
          colorScheme,
          viewport: { width, height: 640 },
          bypassCSP: true,
        })
        await tiles(page, 'completed').first().waitFor()
        await optionsButton(page).click()
        await checkAccessibility(page)
        await openNewest(page)
        await page.getByText('Copy as code').click()
        await checkAccessibility(page)
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
        assert.ok(overflow <= 0, `the page is ${overflow} pixels too wide`)
      })
    }
  }
})

describe('a server with keys', { skip: withoutChromium }, () => {
  useBrowser()
  const file = join(tmpdir(), `torchreel-page-keys-${process.pid}`)
  const key = withoutChromium ? '' : newKey(file)
  const server = useServer(['--keys', file])
  after(() => rmSync(file, { force: true }))

  test('asks for a key, and keeps it where scripts cannot read it', async (t) => {
    const page = await openPage(t, server.address, { expected: /status of 401/ })
    await page.getByLabel('Key').fill('wrong')
    await page.getByRole('button', { name: 'Continue' }).click()
    await page.getByText('The server does not know this key.').waitFor()
    await page.getByLabel('Key').fill(key)
    await page.getByRole('button', { name: 'Continue' }).click()
    await promptBox(page).waitFor()
    await askFor(page, 'a red circle', 2)
    await tiles(page, 'completed').waitFor()
    await page.reload()
    await tiles(page, 'completed').waitFor()
    const kept = await page.evaluate(() => document.cookie + JSON.stringify({ ...localStorage }))
    assert.ok(!kept.includes(key))
    await page.getByRole('button', { name: 'Sign out' }).click()
    await page.getByLabel('Key').waitFor()
    await page.reload()
    await page.getByLabel('Key').waitFor()
    assert.equal(await page.getByRole('button', { name: 'Sign out' }).count(), 0)
  })
})

async function tabTo(page: Page, selector: string): Promise<void> {
  for (let presses = 0; presses < 30; presses++) {
    if (await page.evaluate((wanted) => document.activeElement?.matches(wanted), selector)) return
    await page.keyboard.press('Tab')
  }
  assert.fail(`Tab does not lead to ${selector}`)
}

async function checkAccessibility(page: Page): Promise<void> {
  await page.evaluate(axe)
  const found = (await page.evaluate('axe.run()')) as AxeResults
  const problems = found.violations.map(
    ({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`,
  )
  assert.deepEqual(problems, [])
}
