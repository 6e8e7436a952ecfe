import { readFileSync } from 'node:fs'
import { type DenoisingProgram, Generator, type NoiseSource, runProgram, schedulerNames } from 'torchreel'
import { expectedTensors, tinyCheckpoint } from './fixtures.js'
import { float32 } from './safetensors_file.js'

export const checkpointConfig = JSON.parse(
  readFileSync(`${tinyCheckpoint}/scheduler/scheduler_config.json`, 'utf8'),
) as Record<string, unknown>

/** The schedulers of diffusion models. The one that is only for flows has flow_match.test.ts. */
export const diffusionSchedulers = schedulerNames.filter((name) => name !== 'flow-match-euler')

/** The start of the reference's runs. */
export const initial = { data: float32(expectedTensors, 'scheduler.initial'), shape: [1, 4, 4, 4] }
const noises = float32(expectedTensors, 'scheduler.noises')

/** The sample after each call, with the reference's fake network: 0.3 · input + noise. */
export function runStandIn(program: DenoisingProgram, seed: number): Promise<Float32Array[]> {
  const network = (input: Float32Array, _timestep: number, call: number) =>
    input.map((value, i) => Math.fround(0.3 * value) + (noises[(call % 64) * input.length + i] as number))
  const generator = instructions(program).includes(2) ? new Generator(seed) : undefined
  return runProgram(program, initial, network, generator)
}

/** The opcodes of a program, in order. */
export function instructions({ code }: DenoisingProgram): number[] {
  const lengths = [3, 0, 2, 3, 4]
  const opcodes: number[] = []
  for (let at = 0; at < code.length; ) {
    const opcode = code[at] as number
    opcodes.push(opcode)
    at += opcode === 1 ? 3 + 2 * (code[at + 2] as number) : (lengths[opcode] as number)
  }
  return opcodes
}

/** Noise for laws that hold for any noise. Works without libtorch. */
export function anyNoise(): NoiseSource {
  let state = 1
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state + 0.5) / 2 ** 32
  }
  const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform())
  return { randn: (shape) => Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, normal) }
}
