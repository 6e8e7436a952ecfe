// npm run bench --workspace server -- load | machines | throughput
import { cpus, totalmem } from 'node:os'
import { measureLoad } from './load.js'
import { measureMachines } from './machines.js'
import { measureThroughput } from './throughput.js'

const parts: Readonly<Record<string, () => Promise<Record<string, unknown>>>> = {
  load: measureLoad,
  machines: measureMachines,
  throughput: measureThroughput,
}
const name = process.argv[2] ?? ''
const part = parts[name]
if (!part) {
  console.error(`Which part? ${Object.keys(parts).join(', ')}`)
  process.exit(2)
}
const result = await part()
const machine = `${cpus().length} × ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.versions.node}`
console.log(JSON.stringify({ part: name, machine, ...result }, null, 2))
process.exit()
