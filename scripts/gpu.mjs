// One run on a machine with a GPU: tests everything there, then measures, the most important first, and ends with one
// table. Results and logs are files in a folder; what time does not allow for is said to be not measured. choices.def
// there is for csrc/cuda/gemm/, once somebody has looked at it. Where the system has no cuBLASLt, that of the Python
// packages is used.
//
// npm run gpu [-- --out results --only test,ops --minutes 9]
import { spawn, spawnSync } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = fileURLToPath(new URL('..', import.meta.url))
const { values } = parseArgs({
  options: {
    out: { type: 'string', default: 'bench/results/gpu' },
    only: { type: 'string' },
    minutes: { type: 'string', default: '20' },
  },
})
const out = resolve(values.out) // the steps run elsewhere
const bench = (name, ...args) => ['bench/ops.mjs', '--device', 'cuda', '--json', join(out, `${name}.json`), ...args]
const decode = ['bench/decode.mjs', 'preset:8b', '--weights', 'fp8', '--device', 'cuda']

/**
 * In order of importance. `share`: of the time that is left when it begins, the most it may take. `ends`: it is told how
 * many minutes those are, and ends by itself. `env`: besides this process's.
 */
const steps = [
  { name: 'doctor', args: ['dist/cli/main.js', 'doctor'], share: 0.1 },
  { name: 'test', args: ['scripts/test-cuda.mjs'], share: 0.5 },
  { name: 'ops-8b', args: bench('ops-8b', '--models', '8b'), share: 0.5 },
  {
    name: 'gemm',
    args: ['bench/choose-gemm.mjs', '--json', join(out, 'gemm.json'), '--table', join(out, 'choices.def')],
    share: 0.5,
  },
  {
    name: 'ops-long',
    args: bench('ops-long', '--models', '8b,56b', '--tokens', '65536', '--only', '^(ssm_scan|mamba2_mixer|attention)$'),
    share: 0.3,
  },
  {
    name: 'ops-16k',
    args: bench('ops-16k', '--models', '8b,56b', '--tokens', '16384', '--only', '^attention$'),
    share: 0.3,
  },
  {
    name: 'attention',
    args: ['bench/attention.mjs', '--seconds', '0.1', '--json', join(out, 'attention.json')],
    share: 0.3,
  },
  { name: 'ops-56b', args: bench('ops-56b', '--models', '56b'), share: 0.5 },
  { name: 'ops-47b', args: bench('ops-47b', '--models', '47b'), share: 0.5 },
  { name: 'decode', args: decode, share: 0.5 },
  { name: 'decode-apart', args: decode, share: 0.5, env: { NEMOTRON_H_OVERLAP: 'off' } },
  { name: 'host', args: ['bench/host.mjs', '--device', 'cuda', '--out', join(out, 'host')], share: 0.3 },
  {
    name: 'figure',
    args: ['bench/figure.mjs', '--device', 'cuda', '--out', join(out, 'figure')],
    share: 0.9,
    ends: true,
  },
  { name: 'sanitize', args: ['scripts/test-cuda.mjs', '--sanitize'], share: 1 },
]
const only = values.only?.split(',')
const unknown = only?.filter((name) => !steps.some((step) => step.name === name)) ?? []
if (unknown.length > 0) {
  console.error(`gpu: --only names ${unknown}, expected some of ${steps.map(({ name }) => name)}`)
  process.exit(2)
}
const minutes = Number(values.minutes)
if (!(minutes > 0)) {
  console.error(`gpu: --minutes is ${values.minutes}, expected a number above 0`)
  process.exit(2)
}
const end = Date.now() + 60_000 * minutes
await mkdir(out, { recursive: true })

/** The cuBLASLt that a Python package brings, as PyTorch's does, if there is one. */
function packagedCublasLt() {
  const find =
    "import glob, sys; print(*(f for d in sys.path for f in glob.glob(d + '/nvidia/*/lib/libcublasLt.so.1[23]')))"
  return spawnSync('python3', ['-c', find], { encoding: 'utf8' }).stdout?.trim().split(' ').sort().at(-1)
}

const library = process.env.NEMOTRON_H_CUBLASLT ?? packagedCublasLt()
const cublasLt = library ? { NEMOTRON_H_CUBLASLT: library } : {}

/** Runs a step with its output shown and kept; what became of it. */
function run({ name, args, share, ends, env }) {
  const allowed = Math.max(0, share * (end - Date.now() - 10_000))
  const told = ends ? ['--minutes', `${Math.max(0.1, (allowed - 30_000) / 60_000)}`] : []
  const began = performance.now()
  const log = createWriteStream(join(out, `${name}.log`))
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [...args, ...told], {
      cwd: root,
      env: { ...process.env, ...cublasLt, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data) => {
        log.write(data)
        process.stdout.write(data)
      })
    }
    let late = false
    const timer = setTimeout(() => {
      late = true
      process.kill(-child.pid, 'SIGKILL') // the whole group: tests start processes of their own
    }, allowed)
    child.on('close', (code) => {
      clearTimeout(timer)
      log.end()
      const outcome = late ? 'out of time' : code === 0 ? 'ok' : `failed (${code})`
      resolve({ step: name, outcome, seconds: Math.round((performance.now() - began) / 1000) })
    })
  })
}

/** What a step has written; nothing where it wrote none, or was ended while it did. */
async function read(name) {
  try {
    return JSON.parse(await readFile(join(out, `${name}.json`), 'utf8'))
  } catch {
    return {}
  }
}

/** The rows of a bench, with their share of the machine's limit. */
async function summary(name) {
  const { rows = [] } = await read(name)
  return rows.map(({ model, op, sizes, seconds, share, torchSeconds, error }) => ({
    model,
    op,
    sizes: Object.entries(sizes)
      .map(([k, v]) => `${k} ${v}`)
      .join(', '),
    us: seconds && Number((1e6 * seconds).toPrecision(3)),
    'of the limit': share && `${(100 * share).toFixed(0)} %`,
    'x torch': seconds && torchSeconds && Number((torchSeconds / seconds).toPrecision(3)),
    error,
  }))
}

const besideCublasLt = ({ op, sizes, flops, own, cublaslt, error }) => ({
  op,
  sizes: Object.entries(sizes).flat().join(' '),
  'own TFLOP/s': Number((flops / own / 1e12).toPrecision(3)),
  'x cuBLASLt': Number((cublaslt / own).toPrecision(3)),
  error,
})

const outcomes = []
for (const step of steps.filter(({ name }) => !only || only.includes(name))) {
  const left = end - Date.now()
  if (left < 30_000) outcomes.push({ step: step.name, outcome: 'not run: no time left' })
  else {
    console.log(`\n== ${step.name}: ${step.args.join(' ')}`)
    await rm(join(out, `${step.name}.json`), { force: true }) // of an earlier run
    outcomes.push(await run(step))
  }
}

await writeFile(
  join(out, 'summary.json'),
  `${JSON.stringify({ date: new Date().toISOString(), minutes, outcomes }, null, 1)}\n`,
)
console.log('\n== summary')
const ran = outcomes.filter(({ seconds }) => seconds !== undefined).map(({ step }) => step)
for (const name of ran.filter((name) => name.startsWith('ops-'))) {
  const table = await summary(name)
  if (table.length > 0) console.table(table)
}
const { rows: products = [] } = ran.includes('gemm') ? await read('gemm') : {}
if (products.length > 0) console.table(products.map(besideCublasLt))
console.table(outcomes)
process.exitCode = outcomes.some(({ outcome }) => outcome.startsWith('failed')) ? 1 : 0
