// Every op at the sizes of the models: time, bytes or operations a second, the share of what this machine reaches in a
// copy or a matrix product in the same run, and PyTorch beside it where `python3` has it.
//
// npm run bench:ops [-- --device cuda --models 8b,47b,56b --tokens 8192 --sequences 64 --context 8192 --only REGEXP
//                       --seconds 0.3 --json FILE]
//
// Here a recorded call is replayed; PyTorch launches each call of its own, which small ones feel.
import { writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { device, presets } from '../dist/index.js'
import { machineOf } from './machine.mjs'
import { python } from './python.mjs'
import { entries } from './shapes.mjs'
import { cacheBytes, timer } from './time.mjs'

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'cpu' },
    models: { type: 'string', default: '8b' },
    tokens: { type: 'string' },
    sequences: { type: 'string' },
    context: { type: 'string' },
    only: { type: 'string', default: '.' },
    seconds: { type: 'string', default: '0.3' },
    json: { type: 'string' },
  },
})
const onCpu = values.device === 'cpu'
const sizes = {
  device: values.device,
  act: onCpu ? 'f32' : 'bf16',
  T: Number(values.tokens ?? (onCpu ? 128 : 8192)),
  S: Number(values.sequences ?? (onCpu ? 8 : 64)),
  context: Number(values.context ?? (onCpu ? 512 : 8192)),
}
const target = device(values.device)
const timing = { device: values.device, cacheBytes: cacheBytes(values.device), seconds: Number(values.seconds) }

const hybrids = Object.keys(presets).filter((name) => presets[name].mamba)
const models = values.models.split(',')
const unknown = models.filter((name) => !hybrids.includes(name))
if (unknown.length > 0) {
  console.error(`bench:ops: --models names ${unknown}, expected some of ${hybrids}`)
  process.exit(2)
}
const rows = []
const result = { date: new Date().toISOString(), machine: machineOf(values.device), options: sizes, ceilings: {}, rows }
const save = () => values.json && writeFile(values.json, `${JSON.stringify(result, null, 1)}\n`)
const wanted = new RegExp(values.only)
for (const model of models) {
  const { list, dispose } = entries(presets[model], sizes)
  for (const entry of list.filter(({ op }) => wanted.test(op))) {
    const row = {
      model,
      op: entry.op,
      sizes: entry.sizes,
      bytes: entry.bytes,
      flops: entry.flops,
      peer: entry.peer || undefined,
    }
    try {
      row.seconds = await timer(entry, timing)()
    } catch (error) {
      row.error = error.message
    }
    dispose()
    target.releaseCached()
    rows.push(row)
    await save() // time may end before the list does
    console.error(
      `${model} ${entry.op} ${JSON.stringify(entry.sizes)}: ${row.error ?? `${(1e6 * row.seconds).toFixed(1)} us`}`,
    )
  }
}

// PyTorch's times of the same work in seconds, and what it reaches in a copy and a matrix product; null without it.
const asked = [...new Set(rows.filter(({ peer }) => peer).map(({ peer }) => JSON.stringify(peer)))]
const torch = onCpu
  ? null
  : await python(
      'ops_torch.py',
      asked.map((peer) => JSON.parse(peer)),
    )
const ceilings = torch?.ceilings ?? {}
Object.assign(result, { ceilings, machine: { ...result.machine, driver: torch?.driver } })
for (const row of rows) {
  const other = row.peer && torch?.times[JSON.stringify(row.peer)]
  if (other) row.torchSeconds = other
  // The limit is whichever takes longer: moving the bytes, or the operations.
  const [moving, computing] = [
    row.bytes / ceilings.copy,
    (row.flops ?? 0) / ceilings[row.op.startsWith('fp8_') ? 'fp8' : 'bf16'],
  ]
  const limit = row.flops ? Math.max(moving, computing) : moving
  if (limit > 0 && row.seconds) row.share = limit / row.seconds
}

const round = (x, digits = 3) => (x === undefined ? undefined : Number(x.toPrecision(digits)))
const cells = (row) => ({
  model: row.model,
  op: row.op,
  sizes: Object.entries(row.sizes)
    .map(([k, v]) => `${k} ${v}`)
    .join(', '),
  us: round(1e6 * row.seconds),
  'GB/s': round(row.bytes / row.seconds / 1e9),
  'TFLOP/s': row.flops && round(row.flops / row.seconds / 1e12),
  'of the limit': row.share && `${(100 * row.share).toFixed(0)} %`,
  'torch us': row.torchSeconds && round(1e6 * row.torchSeconds),
  error: row.error,
})
console.table(rows.map((row) => Object.fromEntries(Object.entries(cells(row)).filter(([, cell]) => cell))))
console.log(
  torch
    ? `limits measured by torch ${torch.version} on ${torch.device}: copy ${round(ceilings.copy / 1e9)} GB/s, matrix products bf16 ${round(ceilings.bf16 / 1e12)} and fp8 ${round(ceilings.fp8 / 1e12)} TFLOP/s`
    : onCpu
      ? 'limits and PyTorch are measured on a GPU only'
      : 'limits not measured: python3 with torch was not found, or bench/ops_torch.py failed',
)
await save()
