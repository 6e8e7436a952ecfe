// What a reader does on the page.
import type { Locator, Page } from 'playwright-core'

/** A prompt of which the model `shapes` makes a red circle. */
export const redCircle = 'a big red circle moving left'

export const promptBox = (page: Page): Locator => page.getByLabel('Describe a video')
export const makeButton = (page: Page): Locator => page.getByRole('button', { name: 'Make video' })
export const optionsButton = (page: Page): Locator => page.getByRole('button', { name: /^Options/ })

/** The tiles of a state: 'queued', 'running', 'completed' … */
export const tiles = (page: Page, state?: string): Locator =>
  page.locator(state === undefined ? '.tile' : `.tile[data-state=${state}]`)

/** The line below a tile that says how far it is. */
export const stateLine = (page: Page, words: RegExp): Locator => page.locator('.state', { hasText: words })

/** Types a prompt, and asks for a video of it. */
export async function askFor(page: Page, prompt: string, steps?: number): Promise<void> {
  if (steps !== undefined) await setSteps(page, steps)
  await promptBox(page).fill(prompt)
  await makeButton(page).click()
  await page.waitForFunction(() => document.querySelector('textarea')?.value === '')
}

/** Sets the option of the next videos, and folds the options again. */
export async function setSteps(page: Page, steps: number): Promise<void> {
  await optionsButton(page).click()
  await page.getByLabel('Steps', { exact: true }).fill(String(steps))
  await optionsButton(page).click()
}

/** Opens the newest finished video. */
export async function openNewest(page: Page): Promise<Locator> {
  await tiles(page, 'completed').first().getByRole('link').click()
  const dialog = page.getByRole('dialog')
  await dialog.waitFor()
  return dialog
}
