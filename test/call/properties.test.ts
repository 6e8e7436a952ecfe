// What holds for anything a caller or a file may say, found by fast-check: values of options, denoising programs, file
// names. PROPERTY_RUNS says how often each is tried.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, describe, test } from 'node:test'
import fc from 'fast-check'
import { Generator, runProgram, TorchreelError, Video } from 'torchreel'
import { NativeGenerator } from '#dist/addon/generator.js'
import { checkCall } from '#dist/call/check_call.js'
import { fitCall, sizeCall } from '#dist/call/fit_call.js'
import type { ModelProperties } from '#dist/families/family.js'
import { modelscope } from '#dist/families/modelscope/family.js'
import { checkFileName } from '#dist/files/safe_names.js'
import { callOptions } from '#dist/options/call.js'
import { defaultLimits } from '#dist/options/limits.js'
import { checkPipelineOptions, pipelineOptions } from '#dist/options/pipeline.js'
import { relativeError } from '../support/fixtures.js'
import { tally } from '../support/tally.js'

const runs = Number(process.env.PROPERTY_RUNS ?? 200)
const folder = mkdtempSync(path.join(tmpdir(), 'torchreel-properties-'))
after(() => rmSync(folder, { recursive: true }))

/** `work` gives something or throws a TorchreelError with one of the codes. */
function refusedOrGiven<T>(codes: readonly string[], work: () => T): T | undefined {
  try {
    return work()
  } catch (error) {
    assert.ok(error instanceof TorchreelError, String(error))
    assert.ok(codes.includes(error.code), `${error.code}: ${error.message}`)
    assert.ok(error.message.length < 1000)
    return undefined
  }
}

const model = {
  family: modelscope,
  defaults: modelscope.defaults,
  size: { height: 32, width: 32 },
  ...{ sizeMultiple: 4, frameMultiple: 1, vaeScale: 4, tileSize: 32, latentChannels: 4 },
  ...{ textLayers: 3, textSize: 32 },
} as unknown as ModelProperties
const caller = ['ERR_INVALID_ARGUMENT', 'ERR_LIMIT_EXCEEDED']

describe('options', () => {
  const number = fc.oneof(
    fc.integer(),
    fc.double(),
    fc.constantFrom(0, 1, 8, 16, 32, 64, 0.5, 2 ** 31, 2 ** 53),
  )
  const value = fc.oneof(
    number,
    fc.anything(),
    fc.array(number),
    fc.constantFrom(undefined, true, false, 'ddim'),
  )
  const options = fc.dictionary(fc.constantFrom(...Object.keys(callOptions)), value, { maxKeys: 4 })

  test('[number-out-of-range] any values of generate’s: refused by name, or whole numbers within their bounds', (t) => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.anything()), options, (prompt, given) => {
        const checked = refusedOrGiven(caller, () => {
          const fitted = fitCall(checkCall(prompt as string, given, defaultLimits), model)
          return sizeCall(fitted, model, defaultLimits)
        })
        if (checked === undefined) return
        assert.ok(Number.isInteger(checked.steps) && checked.steps >= 1 && checked.steps <= 1000)
        assert.ok(checked.videos * checked.frames * checked.width * checked.height <= 2 ** 28)
        assert.equal(checked.width % 4, 0)
        for (const seed of checked.seeds ?? []) assert.ok(Number.isSafeInteger(seed) && seed >= 0)
      }),
      { numRuns: 10 * runs },
    )
    tally(t, 'bad inputs tried', 10 * runs)
  })

  test('[unknown-option] any object for a pipeline’s', (t) => {
    const keys = fc.constantFrom(...Object.keys(pipelineOptions), 'steps')
    fc.assert(
      fc.property(fc.oneof(fc.dictionary(keys, value), fc.anything()), (given) => {
        refusedOrGiven(caller, () => checkPipelineOptions(given as object))
      }),
      { numRuns: 10 * runs },
    )
    tally(t, 'bad inputs tried', 10 * runs)
  })
})

/** The timesteps of a program's calls, up to where it is broken. */
function timestepsOf(code: readonly number[]): Float64Array {
  const timesteps: number[] = []
  for (let at = 0; at < code.length; ) {
    const operation = code[at] as number
    if (operation === 0) timesteps.push(code[at + 1] as number)
    const lengths = [3, 3 + 2 * (code[at + 2] as number), 2, 3, 4]
    const length = lengths[operation] ?? 0
    if (!(length > 0)) break // a number of terms below zero
    at += length
  }
  return Float64Array.from(timesteps)
}

describe('programs', () => {
  const shape = [1, 2, 2, 2]
  const network = (input: Float32Array) => input.map((value) => value * 0.5 + 0.25)
  const sample = new Generator(1).randn(shape)
  const register = fc.integer({ min: 0, max: 4 })
  const coefficient = fc.double({ min: -2, max: 2, noNaN: true })
  const instruction = fc.oneof(
    fc.tuple(fc.constant(0), coefficient, coefficient),
    fc
      .tuple(register, fc.array(fc.tuple(register, coefficient), { maxLength: 4 }))
      .map(([target, terms]) => [1, target, terms.length, ...terms.flat()]),
    fc.tuple(fc.constant(2), register),
    fc.tuple(fc.constant(3), register, fc.double({ min: 0, max: 2, noNaN: true })),
    fc.tuple(
      fc.constant(4),
      register,
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.double({ min: 1, max: 3, noNaN: true }),
    ),
  )
  const number = fc.oneof(fc.double(), fc.integer({ min: -2, max: 70 }))
  const code = fc.oneof(
    fc.array(instruction, { maxLength: 12 }).map((all) => all.flat()),
    fc.array(number, { maxLength: 40 }),
  )

  test('[sanitizers] the core refuses the programs that the slow interpreter refuses, and gives the samples that it gives', async (t) => {
    let made = 0
    await fc.assert(
      fc.asyncProperty(code, async (numbers) => {
        const program = { code: Float64Array.from(numbers), registers: 64, timesteps: timestepsOf(numbers) }
        const slow = await runProgram(program, { data: sample, shape }, network, new Generator(8)).catch(
          (error) => {
            assert.equal(error.code, 'ERR_INVALID_ARGUMENT', String(error))
            return undefined
          },
        )
        const calls = slow?.length ?? 40
        let fast: Float32Array | undefined
        try {
          fast = NativeGenerator.runProgram(
            program.code,
            sample,
            shape,
            network,
            new NativeGenerator(8),
            calls,
          )
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'ERR_INVALID_ARGUMENT', String(error))
        }
        assert.equal(fast === undefined, slow === undefined, `${numbers}`)
        for (const [call, values] of slow?.entries() ?? []) {
          if (values.some((value) => !(Math.abs(value) < 1e20))) break // rounding tells there
          made++
          const own = (fast as Float32Array).subarray(call * sample.length, (call + 1) * sample.length)
          const near = own.every(
            (value, index) => Math.abs(value - (values[index] as number)) <= 1e-4 * (1 + Math.abs(value)),
          )
          assert.ok(near || relativeError(own, values) < 1e-4, `${numbers}`)
        }
      }),
      { numRuns: 5 * runs },
    )
    assert.ok(made > 0)
    tally(t, 'bad inputs tried', 5 * runs)
  })
})

describe('names', () => {
  const target = path.join(folder, 'names')
  mkdirSync(target)
  const piece = fc.oneof(
    fc.string(),
    fc.constantFrom('..', '.', '/', '\\', 'C:', '\0', 'nul', ' ', '~', '%2e', '\u202e', 'a'),
  )
  const name = fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join(''))

  test('[unsafe-names] a name that is taken stays in its folder, by POSIX’s rules and by Windows’s', (t) => {
    fc.assert(
      fc.property(name, (given) => {
        const taken = refusedOrGiven(['ERR_UNSAFE_PATH'], () => {
          checkFileName(given)
          return given
        })
        if (taken === undefined) return
        assert.ok(path.posix.resolve('/m', taken).startsWith('/m/'))
        assert.ok(path.win32.resolve('C:\\m', taken).startsWith('C:\\m\\'))
      }),
      { numRuns: 20 * runs },
    )
    tally(t, 'bad inputs tried', 20 * runs)
  })

  test('[output-names] a video is saved under the name that is given and no other, or not at all', async (t) => {
    const video = new Video({ width: 2, height: 2, fps: 8, data: new Uint8Array(12) })
    await fc.assert(
      fc.asyncProperty(name, async (given) => {
        const base = `${given.replaceAll('/', '')}.rgb`
        try {
          await video.save(path.join(target, base))
          assert.deepEqual(readdirSync(target), [base])
          assert.equal(readFileSync(path.join(target, base)).length, 12)
          rmSync(path.join(target, base))
        } catch (error) {
          assert.ok(error instanceof TorchreelError, String(error))
          assert.deepEqual(readdirSync(target), [])
        }
      }),
      { numRuns: runs },
    )
    tally(t, 'bad inputs tried', runs)
  })
})
