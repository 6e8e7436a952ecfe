// A network without a graph: which config values have none, and a command that can be pasted.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { TextToVideoPipeline } from 'torchreel'
import { changed, changedConfig, folder } from '../support/changed_checkpoint.js'
import { repository } from '../support/fixtures.js'

async function refusal(model: string): Promise<string> {
  const error = await TextToVideoPipeline.fromPretrained(model).then(
    () => assert.fail('loaded'),
    (error: Error & { code: string }) => error,
  )
  assert.equal(error.code, 'ERR_MODEL_INCOMPATIBLE')
  return error.message
}

for (const [component, key, value, words] of [
  ['text_encoder', 'hidden_act', 'quick_gelu', 'hidden_act is "quick_gelu", not "gelu"'],
  ['unet', 'norm_num_groups', '2', 'norm_num_groups is "2", not 16'],
  ['vae', 'norm_num_groups', undefined, 'norm_num_groups is 32, not 16'],
] as const) {
  test(`${component}: ${key} ${value}: both values are named`, async () => {
    const model = changedConfig(component, (config) => {
      config[key] = value
    })
    const message = await refusal(model)
    assert.match(message, new RegExp(`The nearest graph is tiny/\\w+\\.pt: ${words}\\. If the config`))
  })
}

test('the command is quoted for a shell', async () => {
  const odd = path.join(folder, "it's a; model $HOME")
  cpSync(
    changedConfig('unet', (config) => {
      config.layers_per_block = 7
    }),
    odd,
    { recursive: true },
  )
  const command = /python3 (.*?) {2}Then pass/.exec(await refusal(odd))?.[1] ?? ''
  const words = execFileSync('sh', ['-c', `printf '%s\\n' ${command}`], { encoding: 'utf8' })
    .trim()
    .split('\n')
  assert.deepEqual(words, [`${repository}models/export.py`, odd])
})

test('a pickle: the command is quoted for a shell', async () => {
  await using pipeline = await TextToVideoPipeline.fromPretrained(changed(() => {}))
  const odd = path.join(folder, "it's mine.pt")
  const error = await pipeline.loadLora(odd).catch(({ message }: Error) => message)
  const command = /(python3 .*)$/.exec(error)?.[1] ?? ''
  const printed = execFileSync('sh', ['-c', command.replace('python3', `printf '%s\\n'`)], {
    encoding: 'utf8',
  })
  assert.deepEqual(printed.trim().split('\n').slice(-2), [odd, odd.replace('.pt', '.safetensors')])
})

const hasPython = spawnSync('python3', ['--version']).status === 0

test('export.py without torch says what to install', { skip: !hasPython && 'no python3 on PATH' }, () => {
  const script = `
import runpy, sys
sys.modules["torch"] = None
sys.path.insert(0, "models")
runpy.run_path("models/export.py", run_name="__main__")`
  const { status, stdout, stderr } = spawnSync('python3', ['-c', script], {
    cwd: repository,
    encoding: 'utf8',
  })
  assert.equal(status, 1)
  assert.equal(stdout, '')
  assert.match(stderr, /^torch is not installed\. Install it: .* -m pip install -r .*requirements\.txt\n$/)
})
