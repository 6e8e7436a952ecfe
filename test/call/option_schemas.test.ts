// `torchreel/options`: the options as data say what the checks do.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { TorchreelError } from 'torchreel'
import {
  callSchema,
  generateSchema,
  type JsonSchema,
  options,
  outputSchema,
  pipelineSchema,
} from 'torchreel/options'
import { checkValue } from '#dist/checks/kinds.js'
import type { Table } from '#dist/checks/options.js'
import { callOptions } from '#dist/options/call.js'
import { pipelineOptions } from '#dist/options/pipeline.js'
import { tally } from '../support/tally.js'

const runs = Number(process.env.PROPERTY_RUNS ?? 200)

describe('torchreel/options', () => {
  test('schemas are plain JSON', () => {
    for (const schema of [callSchema, generateSchema, outputSchema, pipelineSchema])
      assert.deepEqual(JSON.parse(JSON.stringify(schema)), schema)
    assert.deepEqual(JSON.parse(JSON.stringify(options)), options)
  })

  test('they have what JSON can hold, and nothing else', () => {
    const names = (schema: JsonSchema) => Object.keys(schema.properties as object)
    assert.ok(names(callSchema).includes('steps'))
    for (const name of ['signal', 'onProgress', 'latents']) assert.ok(!names(callSchema).includes(name), name)
    assert.deepEqual(
      [...names(pipelineSchema), ...names(callSchema), 'model', 'loras', 'textualInversions'].sort(),
      names(generateSchema).sort(),
    )
    assert.deepEqual(outputSchema.required, ['path'])
  })

  test('an option says its default, group, unit, and spelling on the command line', () => {
    const [width] = options.filter(({ owner, name }) => owner === 'call' && name === 'width')
    assert.deepEqual(width, {
      owner: 'call',
      name: 'width',
      group: 'The video',
      description: 'width, a multiple of 8; Wan models need a multiple of 16',
      expected: 'an integer from 1 to 16384',
      defaultText: "the model's own",
      unit: 'pixels',
      flag: '--width <pixels>',
      schema: { type: 'integer', minimum: 1, maximum: 16384 },
    })
  })

  test('[number-out-of-range] what a check accepts is valid by the schema, and a number that is valid is accepted', (t) => {
    const entries = [pipelineOptions, callOptions].flatMap((table: Table) => Object.entries(table))
    const checked = entries.filter(([, { kind }]) => kind.schema)
    const near = checked.flatMap(([, { kind }]) => boundsOf(kind.schema as JsonSchema))
    const number = fc.oneof(fc.constantFrom(...near), fc.double({ noNaN: true, noDefaultInfinity: true }))
    const simple = fc.oneof(number, fc.constantFrom('ddim', 'cpu', 'fp16', 'model'), fc.boolean())
    const value = fc.oneof(
      fc.jsonValue(),
      simple,
      fc.array(simple, { maxLength: 3 }),
      fc.record({ frames: number, overlap: number }, { requiredKeys: [] }),
    )
    fc.assert(
      fc.property(fc.constantFrom(...checked), value, ([name, { kind }], given) => {
        const schema = kind.schema as JsonSchema
        let accepted = true
        try {
          checkValue(kind, name, given)
        } catch (error) {
          assert.ok(error instanceof TorchreelError)
          accepted = false
        }
        if (accepted) assert.ok(isValid(schema, given), `${name} ${JSON.stringify(given)}`)
        else if (typeof given === 'number') assert.ok(!isValid(schema, given), `${name} ${given}`)
      }),
      { numRuns: 20 * runs },
    )
    tally(t, 'bad inputs tried', 20 * runs)
  })
})

/** Numbers at and beside the bounds that a schema names. */
function boundsOf(schema: JsonSchema): number[] {
  const own = [schema.minimum, schema.maximum].filter((bound) => typeof bound === 'number')
  const inner = [
    ...((schema.anyOf as JsonSchema[]) ?? []),
    ...Object.values((schema.properties ?? {}) as object),
  ]
  return [...own.flatMap((bound) => [bound - 1, bound, bound + 0.5, bound + 1]), ...inner.flatMap(boundsOf)]
}

/** JSON Schema's rules, as far as the options use them. */
function isValid(schema: JsonSchema, value: unknown): boolean {
  const rules: Record<string, (rule: never) => boolean> = {
    type: (type: string) => typeOf(value).includes(type),
    enum: (values: unknown[]) => values.includes(value),
    const: (one: unknown) => value === one,
    anyOf: (schemas: JsonSchema[]) => schemas.some((one) => isValid(one, value)),
    minimum: (bound: number) => typeof value !== 'number' || value >= bound,
    maximum: (bound: number) => typeof value !== 'number' || value <= bound,
    minLength: (length: number) => typeof value !== 'string' || value.length >= length,
    pattern: (pattern: string) => typeof value !== 'string' || new RegExp(pattern).test(value),
    items: (item: JsonSchema) => !Array.isArray(value) || value.every((one) => isValid(item, one)),
    minItems: (count: number) => !Array.isArray(value) || value.length >= count,
    maxItems: (count: number) => !Array.isArray(value) || value.length <= count,
    properties: (properties: Record<string, JsonSchema>) =>
      Object.entries(properties).every(([name, one]) => {
        const own = (value as Record<string, unknown> | null)?.[name]
        return own === undefined || isValid(one, own)
      }),
    required: (names: string[]) => names.every((name) => Object.hasOwn(Object(value), name)),
    additionalProperties: () =>
      Object.keys(Object(value)).every((name) => Object.hasOwn(schema.properties as object, name)),
  }
  return Object.entries(schema).every(([rule, wanted]) => rules[rule]?.(wanted as never) ?? true)
}

function typeOf(value: unknown): string[] {
  if (value === null) return ['null']
  if (Array.isArray(value)) return ['array']
  return Number.isInteger(value) ? ['number', 'integer'] : [typeof value]
}
