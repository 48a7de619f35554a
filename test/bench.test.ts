// The entries of bench/shapes.mjs at small sizes: they name every op, and each runs.
// The choice between the kernels here and cuBLASLt that bench/choose-gemm.mjs makes of such entries. And where the run of
// all of them, scripts/gpu.mjs, puts what it measures.
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { binding } from '../dist/binding.js'
import { presets } from '../dist/index.js'
import { device, empty, emulatedCublasLt, onCpu, simt } from './device.ts'

const bench = (name: string) => import(/* @vite-ignore */ join(import.meta.dirname, '../bench', name))
const { entries } = await bench('shapes.mjs')
const { compare, table } = await bench('choose-gemm.mjs')
const config = {
  ...presets['8b'],
  vocabSize: 160,
  hiddenSize: 64,
  mlp: { intermediateSize: 96 },
  mamba: { heads: 4, headDim: 16, groups: 2, stateSize: 16, convKernel: 4, chunkSize: 16 },
  attention: { heads: 4, kvHeads: 2, headDim: 16 },
}

test.each(['f32', 'bf16'])('every op, %s', async (act) => {
  const { list, dispose } = entries(config, { device, act, T: 40, S: 3, context: 70 })
  const single = list.filter(({ several }: { several?: boolean }) => !several)
  const names = new Set(single.map(({ op }: { op: string }) => op.replace(/_./g, (s) => s[1]!.toUpperCase())))
  expect([...names].sort()).toEqual(binding.ops.map(({ name }) => name).sort())
  for (const entry of list) {
    expect(entry.bytes, entry.op).toBeGreaterThan(0)
    entry.make()()
    await empty('u8', [0]).read() // rejects with what went wrong before it
  }
  dispose()
})

test.each(['bf16', 'e4m3'])('attention at each point, a cache of %s', async (kv) => {
  const { entry, points } = await bench('attention.mjs')
  for (const { S, tokens } of points) {
    const small = { S: Math.ceil(S / 16), context: 70, tokens }
    const { bytes, make, dispose } = entry(config.attention, small, { device, act: 'bf16', kv, pageSize: 16 })
    expect(bytes).toBeGreaterThan(0)
    make()()
    await empty('u8', [0]).read()
    dispose()
  }
})

interface Row {
  op: string
  sizes: Record<string, number>
  product: { a: string; b: string; y: string; orders: string; fast: boolean }
  own: number
  cublaslt: number
  error?: string
}

test.skipIf(!simt && (onCpu || !binding.gpus()!.cublasLt))('every product by both providers', async () => {
  if (simt) binding.useCublasLt(emulatedCublasLt!)
  const rows: Row[] = []
  const timing = { cacheBytes: 0, seconds: 0.001 }
  await compare(rows, config, { device, T: 32, only: /out_proj/, timing })
  await compare(rows, config, { device, T: 32, only: /matmul_nn out_proj/, timing }) // nothing is measured twice
  const kinds = rows.map(({ product: { a, b, y, orders, fast } }) => `${a} ${b} ${y} ${orders} ${fast}`)
  expect([...new Set(kinds)].sort()).toEqual([
    'bf16 bf16 bf16 NN false',
    'bf16 bf16 bf16 NT false',
    'bf16 bf16 f32 TN false',
    'e4m3 e4m3 bf16 NT false',
    'e4m3 e4m3 bf16 NT true',
    'e5m2 e4m3 bf16 NT false',
    'e5m2 e4m3 f32 NT false',
  ])
  expect(new Set(rows.map((row) => JSON.stringify([row.op, row.sizes]))).size).toBe(rows.length)
  for (const { op, sizes, own, cublaslt, error } of rows) {
    expect(error, `${op} ${JSON.stringify(sizes)}`).toBeUndefined()
    expect(own > 0 && own < Infinity && cublaslt > 0 && cublaslt < Infinity).toBe(true)
  }
})

test('the table of choices', () => {
  const row = (product: object, sizes: object, cublaslt: number) => ({
    op: 'x',
    sizes,
    product: { b: 'e4m3', y: 'bf16', decode: false, fast: true, ...product },
    own: 1,
    cublaslt,
  })
  const [nt, tn] = [
    { a: 'e4m3', orders: 'NT' },
    { a: 'bf16', b: 'bf16', orders: 'TN', y: 'f32', fast: false },
  ]
  const text = table(
    [
      row(nt, { M: 600, N: 4096, K: 21504 }, 0.9),
      row(nt, { M: 1024, N: 4096, K: 21504 }, 0.9),
      row(nt, { M: 2048, N: 4096, K: 21504 }, 0.99),
      row(nt, { M: 4096, N: 4096, K: 21504 }, 1.5),
      row({ ...nt, decode: true }, { M: 64, N: 4096, K: 21504 }, 0.5),
      row({ ...nt, a: 'bf16', b: 'bf16' }, { M: 8192, N: 4096, K: 21504 }, 0.5),
      row(tn, { M: 18560, N: 4096, K: 3000 }, 0.5),
      { ...row(tn, { M: 1, N: 1, K: 1 }, 0.5), error: 'it failed' },
    ],
    '9.0',
    'Measured on nothing',
  ) as string
  expect(text.split('\n').filter((line) => !line.startsWith('//'))).toEqual([
    'CHOICE(90, bf16, bf16, f32, TN, false, 18560, 4096, 4096)',
    'CHOICE(90, e4m3, e4m3, bf16, NT, true, 1024, 4096, 21504)',
    '',
  ])
  // What is in the repository has the same form.
  const ours = readFileSync(join(import.meta.dirname, '../csrc/cuda/gemm/choices.def'), 'utf8')
  expect(table([], '9.0', '').split('\n').slice(2)).toEqual(
    ours
      .split('\n')
      .slice(2)
      .filter((line) => !/^C/.test(line)),
  )
})

// Where a GPU is found this would measure for minutes.
test.skipIf(binding.gpus()?.devices.length)(
  'npm run gpu: results go where they are asked for, none of an earlier run',
  async () => {
    const folder = await mkdtemp(join(tmpdir(), 'gpu-'))
    const old = { rows: [{ model: '8b', op: 'of_another_run', sizes: {}, seconds: 1 }] }
    await mkdir(join(folder, 'results'))
    for (const name of ['ops-8b', 'ops-47b']) {
      await writeFile(join(folder, `results/${name}.json`), JSON.stringify(old))
    }
    const script = join(import.meta.dirname, '../scripts/gpu.mjs')
    const args = [script, '--out', 'results', '--only', 'ops-8b', '--minutes', '2']
    const ran = promisify(execFile)(process.execPath, args, { cwd: folder })
    const { code, stdout } = await ran.then(
      () => expect.unreachable('there is no GPU'),
      (error) => error,
    )
    expect(code).toBe(1)
    expect(stdout).toContain(`--json ${join(folder, 'results/ops-8b.json')}`)
    expect(stdout).not.toContain('of_another_run')
    expect(JSON.parse(await readFile(join(folder, 'results/summary.json'), 'utf8')).outcomes).toMatchObject([
      { step: 'ops-8b', outcome: 'failed (1)' },
    ])
    expect((await readdir(join(folder, 'results'))).sort()).toEqual(['ops-47b.json', 'ops-8b.log', 'summary.json'])
    await rm(folder, { recursive: true })
  },
)
