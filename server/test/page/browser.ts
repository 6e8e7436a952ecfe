// A real Chromium on the page. Each error in its console and each request to another host fails the test.
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { after, before, type TestContext } from 'node:test'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'

const executable = ['chromium-headless-shell', 'chromium', 'google-chrome']
  .map((name) => `/usr/bin/${name}`)
  .find(existsSync)

/** Why the tests are skipped. In continuous integration a missing browser is a failure. */
export const withoutChromium =
  executable === undefined && !process.env.CI && 'no Chromium: apt-get install chromium-headless-shell'

let browser: Browser

/** Starts the browser for the tests of a file. */
export function useBrowser(): void {
  before(async () => {
    if (withoutChromium) return
    assert.ok(executable, 'no Chromium: apt-get install chromium-headless-shell')
    browser = await chromium.launch({ executablePath: executable, args: ['--no-sandbox'] })
  })
  after(() => browser?.close())
}

export interface PageOptions extends BrowserContextOptions {
  /** Errors of the console that the test provokes. */
  readonly expected?: RegExp
}

/** Opens the page in a browser of its own. */
export async function openPage(t: TestContext, address: string, options: PageOptions = {}): Promise<Page> {
  const { expected, ...rest } = options
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...rest })
  t.after(() => context.close())
  return openTab(t, await context.newPage(), address, expected)
}

/** One more page of the same browser, as a second tab. */
export async function openSecondTab(t: TestContext, page: Page): Promise<Page> {
  return openTab(t, await page.context().newPage(), page.url())
}

async function openTab(t: TestContext, page: Page, address: string, expected?: RegExp): Promise<Page> {
  const errors: string[] = []
  page.on('console', (message) => {
    const text = message.text()
    if (message.type() === 'error' && !expected?.test(text)) errors.push(text)
  })
  page.on('pageerror', (error) => errors.push(String(error)))
  page.on('request', (request) => {
    const { protocol, host } = new URL(request.url())
    if (protocol !== 'blob:' && host !== new URL(address).host) errors.push(`request to ${request.url()}`)
  })
  t.after(() => assert.deepEqual(errors, []))
  page.setDefaultTimeout(30_000)
  await page.goto(address)
  return page
}
