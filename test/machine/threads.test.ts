// How many threads are used under quotas of control groups, versions 1 and 2.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { chooseThreads, readCpuQuota } from '#dist/machine/threads.js'
import { repository } from '../support/fixtures.js'
import { withEnvironment } from '../support/video.js'

const base = mkdtempSync(path.join(tmpdir(), 'torchreel-'))
after(() => rmSync(base, { recursive: true }))
let count = 0
const doctor = [process.execPath, `${repository}dist/cli/main.js`, 'doctor', '--json']

/** A folder with the given files, which stands for the machine's root. */
function machine(files: Record<string, string>): string {
  const root = path.join(base, `${++count}`)
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(root, name)
    mkdirSync(path.dirname(file), { recursive: true })
    writeFileSync(file, content)
  }
  return root
}

const quota = (files: Record<string, string>) => readCpuQuota(machine(files))?.processors

test('version 2: the smallest quota from the group up to the root', () => {
  const self = { 'proc/self/cgroup': '0::/kubepods/pod/box\n' }
  assert.equal(quota(self), undefined)
  assert.equal(quota({ ...self, 'sys/fs/cgroup/kubepods/pod/box/cpu.max': 'max 100000\n' }), undefined)
  assert.equal(quota({ ...self, 'sys/fs/cgroup/kubepods/pod/box/cpu.max': '250000 100000\n' }), 2.5)
  assert.equal(
    quota({
      ...self,
      'sys/fs/cgroup/kubepods/pod/box/cpu.max': '400000 100000\n',
      'sys/fs/cgroup/kubepods/cpu.max': '150000 100000\n',
    }),
    1.5,
  )
})

test('in a container, where the group is the root of the mount', () => {
  assert.equal(quota({ 'proc/self/cgroup': '0::/\n', 'sys/fs/cgroup/cpu.max': '50000 100000\n' }), 0.5)
  assert.equal(
    quota({
      'proc/self/cgroup': '5:cpu,cpuacct:/docker/0123\n',
      'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us': '200000\n',
      'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us': '100000\n',
    }),
    2,
  )
})

test('version 1: quota and period; −1 is no quota', () => {
  const self = { 'proc/self/cgroup': '9:pids:/\n1:cpu:/a\n0::/\n' }
  const folder = 'sys/fs/cgroup/cpu/a'
  const period = { [`${folder}/cpu.cfs_period_us`]: '100000\n' }
  assert.equal(quota({ ...self, ...period, [`${folder}/cpu.cfs_quota_us`]: '-1\n' }), undefined)
  assert.equal(quota({ ...self, ...period, [`${folder}/cpu.cfs_quota_us`]: '300000\n' }), 3)
})

test('the option comes first, then OMP_NUM_THREADS, then the machine', () => {
  using _ = withEnvironment({ OMP_NUM_THREADS: '3' })
  assert.deepEqual(chooseThreads(5), { threads: 5, reason: 'the option threads', givesWay: false })
  assert.deepEqual(chooseThreads(), { threads: 3, reason: 'OMP_NUM_THREADS', givesWay: false })
  delete process.env.OMP_NUM_THREADS
  const { threads } = chooseThreads()
  assert.ok(threads >= 1 && threads <= availableParallelism())
})

test('a process that may use one processor uses one thread', (t) => {
  const script = `import('${import.meta.resolve('#dist/machine/threads.js')}').then((m) => console.log(m.chooseThreads().threads))`
  const { status, stdout } = spawnSync('taskset', ['-c', '0', process.execPath, '-e', script], {
    encoding: 'utf8',
    env: { ...process.env, OMP_NUM_THREADS: '' },
  })
  if (status === null) return t.skip('there is no taskset here')
  assert.equal(stdout.trim(), '1')
})

/** A control group of this machine's kernel with a quota of one processor, in which a command can run. */
function realQuota(): { enter: string; remove: () => void } | undefined {
  const name = `torchreel-test-${process.pid}`
  for (const [mount, file, value] of [
    ['/sys/fs/cgroup/cpu', 'cpu.cfs_quota_us', '100000'],
    ['/sys/fs/cgroup', 'cpu.max', '100000 100000'],
  ] as const) {
    const group = path.join(mount, name)
    try {
      mkdirSync(group)
    } catch {
      continue // not mounted, or this user may not make groups
    }
    const remove = () => rmdirSync(group)
    try {
      writeFileSync(path.join(group, file), value, { flag: 'r+' })
      return { enter: path.join(group, 'cgroup.procs'), remove }
    } catch {
      remove() // the group has no quotas
    }
  }
  return undefined
}

test('a real control group with a quota of one processor: one thread, and doctor says why', (t) => {
  const quota = realQuota()
  if (!quota) return t.skip('this user may not make a control group with a quota here')
  try {
    const { stdout, stderr } = spawnSync(
      ...(['sh', ['-c', `echo $$ > ${quota.enter} && exec "$@"`, 'sh', ...doctor]] as const),
      { encoding: 'utf8', env: { ...process.env, OMP_NUM_THREADS: '' } },
    )
    const { checks } = JSON.parse(stdout || stderr) as { checks: { name: string; found: string }[] }
    const { found } = checks.find(({ name }) => name === 'threads') as { found: string }
    if (availableParallelism() === 1) assert.match(found, /^1 for/)
    else
      assert.match(found, /^1 for an operation on the CPU: the quota of 1 processor in \/sys\/fs\/cgroup\//)
  } finally {
    quota.remove()
  }
})
