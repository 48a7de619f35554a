// The comparison, bench/figure.mjs, on tiny models of the same shapes: its rows, what it says where it has none, its table
// and its chart.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { parameterCounts, presets } from '../dist/index.js'
import { onCpu } from './device.ts'

const bench = (name: string) => import(/* @vite-ignore */ join(import.meta.dirname, '../bench', name))
const { byName } = await bench('figure-measure.mjs')
const { models, parseScenario, speedups, throughput, tiny } = await bench('figure-models.mjs')
const { chart } = await bench('figure-chart.mjs')
const { markdown } = await bench('figure-table.mjs')

const out = mkdtempSync(join(tmpdir(), 'figure-'))
afterAll(() => rmSync(out, { recursive: true }))

function figure(...args: string[]) {
  const script = join(import.meta.dirname, '../bench/figure.mjs')
  const { status, stderr } = spawnSync(process.execPath, [script, '--tiny', '--out', out, ...args], {
    encoding: 'utf8',
  })
  return { status, stderr }
}
const read = (name: string) => readFileSync(join(out, name), 'utf8')

interface Row {
  model: string
  scenario: string
  batch: number
  fits: number
  limit: Record<'prefill' | 'decode', { seconds: number }>
  seconds?: Record<'prefill' | 'decode', number>
  modelled?: { gpus: number; shareOf: string }
  why?: string
}

// What is no device's own is tried on the CPU only; under the emulator it would take minutes.
test.skipIf(!onCpu)(
  'rows, table and chart of a run, and a run that goes on',
  () => {
    const some = ['--models', '8b,llama-3.1-70b,llama-3.1-405b', '--scenarios', '40/6,16/4@2']
    expect(figure(...some, '--only', '^(8b|llama)')).toMatchObject({ status: 0 }) // and not transformers
    const { rows, setup } = JSON.parse(read('figure.json')) as { rows: Row[]; setup: object }
    expect(setup).toMatchObject({ device: 'cpu', weights: 'fp8', tiny: true })
    expect(rows.map(({ model, scenario, batch, why }) => [model, scenario, batch, why])).toEqual([
      ['8b', '40/6', 4, undefined],
      ['llama-3.1-70b', '40/6', 4, undefined],
      ['llama-3.1-405b', '40/6', 4, undefined],
      ['8b', '16/4@2', 2, undefined],
      ['llama-3.1-70b', '16/4@2', 2, undefined],
      ['llama-3.1-405b', '16/4@2', 2, undefined],
    ])
    for (const { model, seconds, limit, fits, batch, modelled } of rows) {
      expect(fits).toBeGreaterThanOrEqual(batch)
      expect(modelled).toEqual(model === 'llama-3.1-405b' ? { gpus: 8, shareOf: 'llama-3.1-70b' } : undefined)
      for (const phase of ['prefill', 'decode'] as const) {
        expect(limit[phase].seconds).toBeGreaterThan(0)
        expect(seconds![phase], `${model} ${phase}`).toBeGreaterThan(0)
      }
    }
    const [, yardstick, large] = rows as [Row, Row, Row]
    const share = yardstick.limit.decode.seconds / yardstick.seconds!.decode
    expect(large.seconds!.decode).toBeCloseTo(large.limit.decode.seconds / 8 / share, 12)

    expect(read('figure.md')).toMatch(
      /not a result[\s\S]*\| Nemotron-H-8B \|.*\n\| Llama-3.1-70B \|[\s\S]*\(modelled: 8 GPUs/,
    )
    const svg = read('figure.svg')
    expect(svg).toMatch(/^<svg/)
    for (const text of ['tiny models: not a result', 'Nemotron-H-8B  ', 'Llama-3.1-405B, modelled  '])
      expect(svg).toContain(text)

    expect(figure(...some, '--only', '^8b 16/4@2$')).toMatchObject({ status: 0 })
    const { rows: again } = JSON.parse(read('figure.json')) as { rows: Row[] }
    expect(again.map((row, i) => JSON.stringify(row) === JSON.stringify(rows[i]))).toEqual([
      true,
      true,
      true,
      false,
      true,
      true,
    ])

    const other = figure(...some, '--only', '^8b', '--weights', 'bf16')
    expect(other.stderr).toMatch(/figure\.json is of another setup: .*; name another --out/)
    expect(other.status).toBe(2)
  },
  60_000,
)

test.skipIf(!onCpu)(
  'what there is no time and no room for is said',
  () => {
    rmSync(join(out, 'figure.json'))
    figure('--models', '8b', '--scenarios', '16/4', '--only', '^8b', '--minutes', '0.001')
    expect((JSON.parse(read('figure.json')) as { rows: Row[] }).rows[0]!.why).toBe('no time left')
    figure('--models', '8b', '--scenarios', '999999999/1024@65536', '--only', '^8b')
    expect(JSON.parse(read('figure.json')).rows[1].why).toMatch(/^it does not fit: .*GiB/)
    expect(read('figure.md')).toMatch(/\| Nemotron-H-8B \|.* not measured: it does not fit/)
    expect(read('figure.svg')).toContain('>not measured<')
  },
  60_000,
)

test('unknown names', () => {
  expect(figure('--models', '8b,9c').stderr).toMatch(/^bench:figure: --models names 9c, expected some of 8b,llama/)
  expect(figure('--minutes', 'x').stderr).toMatch(/--minutes is x, expected a number above 0/)
  expect(() => parseScenario('65536')).toThrow('a scenario is 65536, expected IN/OUT or IN/OUT@BATCH, OUT at least 2')
  expect(() => parseScenario('64/1')).toThrow('a scenario is 64/1')
  expect(parseScenario('64/8@2')).toEqual({ input: 64, output: 8, batch: 2 })
})

test("the paper's numbers agree with each other, and every model has a small one", () => {
  const paper = Object.fromEntries(models.map((model: { name: string; paper: number }) => [model.name, model.paper]))
  // Read off figures to half a digit, and told in round numbers.
  for (const { model, over, paper: times } of speedups) {
    expect(Math.abs(paper[model] / paper[over] / times - 1), `${model} over ${over}`).toBeLessThan(0.05)
  }
  for (const { name } of models) {
    const config = presets[name as keyof typeof presets]
    expect(parameterCounts(config).total / parameterCounts(tiny(config)).total, name).toBeGreaterThan(10_000)
  }
})

test('output tokens a second and GPU', () => {
  const row = { batch: 4, input: 100, output: 50, seconds: { prefill: 3, decode: 2 } }
  expect(throughput(row)).toBe(40)
  expect(throughput({ ...row, modelled: { gpus: 8 } })).toBe(5)
})

test('times by kernel', () => {
  const span = (name: string, duration: number) => ({ thread: 'cpu', name, start: 0, duration })
  expect(byName([span('linear', 1e6), span('linear', 2e6), span('attention', 5e5)])).toEqual({
    linear: { calls: 2, seconds: 3 },
    attention: { calls: 1, seconds: 0.5 },
  })
})

test('where the time goes, and transformers beside it', () => {
  const limit = (products: number, attention: number) => ({
    seconds: products + attention,
    kinds: Object.fromEntries(
      Object.entries({ products, attention, mamba2: 0, head: 0 }).map(([kind, seconds]) => [kind, { seconds }]),
    ),
  })
  const ops = {
    fp8_linear_add: { calls: 10, seconds: 4 },
    linear: { calls: 1, seconds: 2 },
    attention: { calls: 4, seconds: 3 },
    rms_norm: { calls: 8, seconds: 0.95 },
    sample: { calls: 1, seconds: 0.05 },
  }
  const row = {
    ...{ model: '8b', scenario: '65536/1024', batch: 8, fits: 8, input: 65536, output: 1024 },
    limit: { prefill: limit(24, 4), decode: limit(1, 1) },
    seconds: { prefill: 56, decode: 4 },
    kernels: { prefill: { part: 1 / 8, ops }, decode: { part: 1, ops: {} } },
  }
  const result = {
    date: 'today',
    setup: { weights: 'fp8', act: 'bf16', device: 'cuda:0', prefillTokens: 8192, commit: 'abc' },
    machine: { gpu: 'A GPU', driver: '1', node: 'v20' },
    memoryBytes: 2 ** 36,
    parameters: { '8b': 8.1e9 },
    rows: [row],
    peers: [
      {
        ...{ model: '8b', scenario: '1024/64@8', batch: 8, input: 1024, output: 64, version: '5.18.0' },
        seconds: { prefill: 2, decode: 1 },
        transformers: { why: 'does not fit' },
      },
    ],
  }
  const text = markdown(result)
  // A limit of 24 s for eight prompts is 3 s for the one that was traced, of 6 s that its products took.
  expect(text).toContain('| 8b | prefill | fp8_linear_add | 10 | 4,000 | 40 % | products 50 % |')
  expect(text).toContain('| 8b | prefill | attention | 4 | 3,000 | 30 % | attention 17 % |')
  expect(text).toContain('| 8b | prefill | rms_norm | 8 | 950 | 10 % |  |')
  expect(text).not.toContain('| sample |')
  expect(text).toContain('| 137 | 9,362 | 2,046 | 28.0 + 2.00 | 50 % (prefill 50 %, decode 50 %) | 210.9 |')
  expect(text).toContain('| 8b | 1024/64@8 | 4,096 | not measured: does not fit | 504 | not measured: does not fit |')

  // The paper's numbers stand beside its own lengths only.
  expect(text).toContain('| 8b | llama-3.1-8b | not measured | 3.0x |')
  expect(chart(result)).toContain('65,536 tokens in, 1,024 out, the largest batch that fits')
  const other = { ...result, rows: [{ ...row, scenario: '1024/64@8', input: 1024, output: 64 }] }
  expect(markdown(other)).toContain('## Speed-ups\n\n1,024 tokens in, 64 out, batch 8.\n\n|  | over | here |\n')
  expect(markdown(other)).not.toContain('210.9')
  expect(chart(other)).toContain('1,024 tokens in, 64 out, batch 8')
})
