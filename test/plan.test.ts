// The memory plan against what models take here, and against what is published. Models run on the CPU, whose pool is that
// of every device. It gives a tensor a cached block up to a quarter too large; so nothing stays cached here, every block
// is the size that its tensor asks for, and the plan must be right to the byte.
import { readdirSync } from 'node:fs'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { binding } from '../dist/binding.js'
import { openCheckpoint } from '../dist/checkpoint/folder.js'
import { loadWeights } from '../dist/checkpoint/weights.js'
import { type Config, device, empty, ops, scope, Tensor } from '../dist/index.js'
import { formatsOf, pagesFor } from '../dist/model/config.js'
import type { Batch } from '../dist/model/layer.js'
import { NemotronH } from '../dist/model/nemotron-h.js'
import { Pools, packBatch } from '../dist/model/pools.js'
import { presets } from '../dist/model/presets.js'
import { cacheTokensIn, fit as fitIn, type PlanOptions, planMemory } from '../dist/plan.js'
import { collect, demoFolder, goldenFolder, load } from './demo.js'

const GiB = 2 ** 30
const onCpu = 'cpu'
const used = () => binding.memory(onCpu).used
const golden = readdirSync(new URL('golden/', import.meta.url).pathname, { withFileTypes: true })
const folders = [demoFolder, ...golden.filter((entry) => entry.isDirectory()).map(({ name }) => goldenFolder(name))]

afterEach(() => {
  vi.restoreAllMocks()
  expect(used()).toBe(0)
})

/** The most that tensors hold after any op that `run` calls, above what they held before. */
async function peakOf(run: () => unknown): Promise<number> {
  const before = used()
  let peak = before
  let opsSeen = 0
  for (const [name, op] of Object.entries(ops) as [string, unknown][]) {
    if (typeof op !== 'function' || !/^[a-z]/.test(name) || name === 'memory' || name === 'releaseCached') continue
    const watched = (...args: unknown[]) => {
      const result = op(...args)
      opsSeen++
      peak = Math.max(peak, used())
      binding.releaseCached(onCpu)
      return result
    }
    vi.spyOn(ops as unknown as Record<string, () => unknown>, name).mockImplementation(watched)
  }
  binding.releaseCached(onCpu)
  await run()
  vi.restoreAllMocks()
  expect(opsSeen).toBeGreaterThan(10)
  return peak - before
}

type Case = Pick<PlanOptions, 'weights' | 'bf16Gemms' | 'activationScaling' | 'dtype' | 'kvCache' | 'ssmState'>
const cases: Record<string, Case> = {
  'as stored': { dtype: 'f32' },
  'bf16, activations too': { weights: 'bf16', dtype: 'bf16' },
  'fp8 by row, ends in bf16': { weights: 'fp8', bf16Gemms: 3, dtype: 'bf16', kvCache: 'fp8', ssmState: 'f16' },
  'fp8 by tensor': { weights: 'fp8', bf16Gemms: 0, dtype: 'bf16', activationScaling: 'tensor' },
  'fp8 weights only': { weights: 'fp8', bf16Gemms: 0, dtype: 'f32', activationScaling: 'none' },
}

const context = 200

/** A batch of `length` tokens for each of `S` sequences, whose tables have the pages of a whole context. */
function batchOf(S: number, length: number, decode = false): Batch {
  const ids = new Int32Array(length).fill(5)
  const pages = (s: number) => Array.from({ length: pagesFor(context) }, (_, i) => (i === 0 ? s : -1))
  const segments = Array.from({ length: S }, (_, s) => ({ slot: s, pages: pages(s), ids, past: 0 }))
  return { ...packBatch(segments, onCpu), decode }
}

/** A model with pools for `S` sequences, the options that plan it, and what runs it. */
interface Planned {
  config: Config
  options: PlanOptions
  model: NemotronH
  pools: Pools
  /** What a batch takes at most. */
  peak(S: number, length: number, decode?: boolean): Promise<number>
}

async function withModel(folder: string, S: number, given: Case, run: (planned: Planned) => Promise<void>) {
  const checkpoint = await openCheckpoint(folder)
  const { config } = checkpoint
  const { weights: format, bf16Gemms = 4, activationScaling: activations = 'row', dtype = 'bf16', kvCache } = given
  const cacheTokens = 64 * S + 20
  const options = { ...given, weights: format ?? checkpoint.tensors, context, sequences: S, cacheTokens, graphs: 0 }
  const plan = planMemory(config, options)
  const onProgress = () => binding.releaseCached(onCpu)
  const how = { device: onCpu, format: format as 'fp8', bf16Gemms, activations, onProgress }
  const weights = await loadWeights(checkpoint, how)
  let pools: Pools | undefined
  try {
    const formats = formatsOf(dtype, kvCache === 'fp8' ? 'fp8' : undefined, given.ssmState)
    const model = new NemotronH(config, weights, formats)
    expect(plan.weights).toBe(used())
    const made = new Pools(model, S, pagesFor(cacheTokens))
    pools = made
    expect(plan.weights + plan.kvCache + plan.convState + plan.ssmState).toBe(used())
    const peak = (S: number, length: number, decode = false) =>
      peakOf(async () => {
        const logits = scope(() => {
          const batch = batchOf(S, length, decode)
          const hidden = model.forward(batch, made.layers)
          return model.logits(decode ? hidden : ops.lastRows(hidden, batch.offsets), decode)
        })
        await logits.read()
        logits.dispose()
      })
    await run({ config, options, model, pools, peak })
  } finally {
    pools?.dispose()
    weights.dispose()
    binding.releaseCached(onCpu)
  }
}

describe.each(folders)('%s', (folder) => {
  test.each(Object.entries(cases))('%s: weights, states and activations, to the byte', async (_, given) => {
    const S = 3
    await withModel(folder, S, given, async ({ config, options, model, pools, peak }) => {
      expect(await peak(S, 25)).toBe(planMemory(config, { ...options, prefillTokens: 75 }).prefill)
      expect(await peak(S, 1, true)).toBe(planMemory(config, options).decode)

      binding.releaseCached(onCpu)
      const before = used()
      const batch = batchOf(S, 1, true)
      const logits = empty('f32', [S, config.vocabSize])
      const outside = used() - before
      const graph = device(onCpu).capture(() => {
        scope(() => {
          model.logits(model.forward(batch, pools.layers), true, logits)
        })
      })
      const kept = used() - before - outside
      graph.dispose()
      for (const t of [logits, ...Object.values(batch)]) if (t instanceof Tensor) t.dispose()
      const decode = (graphs: number) => planMemory(config, { ...options, graphs }).decode
      expect([1, 2, 16].map(decode)).toEqual([1, 2, 16].map((graphs) => graphs * kept + outside))
    })
  })
})

test('many prompts of one token: the logits are what takes most', async () => {
  const S = 64 // and so many tokens, as a chunk of the scan has
  await withModel(demoFolder, S, { weights: 'bf16', dtype: 'bf16' }, async ({ config, options, peak }) => {
    const plan = planMemory(config, { ...options, prefillTokens: S })
    expect(await peak(S, 1)).toBe(plan.prefill)
    expect(plan.prefill).toBeGreaterThan(S * (4 * config.vocabSize + 3 * 2 * config.hiddenSize))
    expect(await peak(S, 1, true)).toBe(plan.decode)
  })
})

test.each([demoFolder, goldenFolder('qwen2-untied')])('%s: a long prompt through the scheduler', async (folder) => {
  const options = { device: onCpu, dtype: 'f32', prefillTokens: 256, context: 512, sequences: 2 } as const
  const { config, tensors } = await openCheckpoint(folder)
  const plan = planMemory(config, { ...options, weights: tensors })
  using model = await load(folder, options)
  const prompt = Array.from({ length: 500 }, () => 5)
  const peak = await peakOf(() => collect(model.generate(prompt, { maxTokens: 1 })))
  expect(plan.prefill).toBeGreaterThanOrEqual(peak)
  // The plan has two sequences that end in the batch, and here is one: a row of logits, and a row of the last hidden
  // states less; so a tenth and 16 KiB, which two rows of 1536 f32 and their small tensors are below.
  expect(plan.prefill).toBeLessThan(1.1 * peak + 16 * 1024)
})

test('sampling: counts of tokens stay, as the plan has them, and logits are copied in as many bytes', async () => {
  const options = { device: onCpu, dtype: 'f32', context: 64, sequences: 2 } as const
  const { config, tensors } = await openCheckpoint(demoFolder)
  const { sampling } = planMemory(config, { ...options, weights: tensors })
  using model = await load(demoFolder, options)
  const before = used()
  let graphs = 0
  const capture = binding.capture
  vi.spyOn(binding, 'capture').mockImplementation((...args) => {
    const before = used()
    const graph = capture(...args)
    graphs += used() - before
    return graph
  })
  await collect(model.generate([5, 5], { maxTokens: 2, repetitionPenalty: 1.1, logprobs: 1 }))
  expect(used() - before - graphs).toBe(sampling / 2)
  const copy = vi.spyOn(ops, 'cast')
  await Promise.all([1, 2].map((id) => collect(model.generate([id], { maxTokens: 2, logprobs: 1 }))))
  const copies = copy.mock.results.map(({ value }) => (value as Tensor).shape)
  expect(copies).toEqual([
    [2, config.vocabSize],
    [2, config.vocabSize],
  ])
})

describe('published sizes', () => {
  test('the 56B in FP4 leaves a GPU of 32 GiB no room for a context, the 47B about a million tokens', () => {
    // arXiv 2504.03624, section 3: 31.68e9 bytes, 29.5 GiB; and a context of a million tokens in 31.7 GiB.
    expect(planMemory(presets['56b'], { weights: 'fp4' }).weights).toBe((56_324_350_464 * 4.5) / 8)
    expect(planMemory(presets['56b'], { weights: 'fp4' }).weights / GiB).toBeCloseTo(29.5, 1)
    const fp4 = { weights: 'fp4', kvCache: 'fp4', sequences: 1, prefillTokens: 2048 } as const
    // 2 (K, V) x 5 layers x 8 heads x 128 x half a byte, in blocks up to a 32nd larger.
    const { kvCache } = planMemory(presets['47b'], { ...fp4, context: 1e6 })
    expect(kvCache).toBeGreaterThanOrEqual(5120 * 1e6)
    expect(kvCache).toBeLessThanOrEqual((33 / 32) * 5120 * 1e6)
    expect(fitIn(presets['47b'], { ...fp4, context: 8192 }, 32 * GiB).context).toBeGreaterThan(1_000_000)
    expect(planMemory(presets['47b'], { ...fp4, context: 1e6 }).total / GiB).toBeLessThan(31.7)
  })

  test('65,536 tokens through the 8B, in batches of the default size, take less than 6 GB of activations', () => {
    for (const dtype of ['bf16', 'f32'] as const) {
      const { prefill, workspace } = planMemory(presets['8b'], { context: 65536, sequences: 1, dtype })
      expect(prefill + workspace).toBeLessThan(6e9)
    }
    const whole = planMemory(presets['8b'], { context: 65536, sequences: 1, prefillTokens: 65536 })
    expect(whole.prefill).toBeGreaterThan(6e9) // which is why there are batches
  })

  test('the 8B in bf16 and fp8', () => {
    // 2 bytes a parameter, and 4 for the vectors: 53 norms, and a Mamba-2 layer's 5 x 10240 + 3 x 128 + 8192.
    const vectors = 53 * 4096 + 24 * (5 * 10_240 + 3 * 128 + 8192)
    const { weights } = planMemory(presets['8b'], { weights: 'bf16' })
    expect(weights).toBeGreaterThanOrEqual(2 * (8_100_852_736 + vectors))
    expect(weights).toBeLessThan(2.01 * 8_100_852_736)
    // fp8: all but 2 x 131072 x 4096, and in, out, up, down of the first and last blocks, is a byte.
    const wide = 2 * 131_072 * 4096 + 2 * (18_560 * 4096 + 8192 * 4096 + 2 * 21_504 * 4096)
    const fp8 = 8_100_852_736 + wide + 3 * vectors
    expect(planMemory(presets['8b'], { weights: 'fp8' }).weights).toBeGreaterThanOrEqual(fp8)
    expect(planMemory(presets['8b'], { weights: 'fp8' }).weights).toBeLessThan(1.01 * fp8)
  })
})

describe('workspace', () => {
  const config = presets['8b']
  const kept = 32 * 2 ** 20

  test('the states before the chunks of a scan', () => {
    // 8192 / 128 chunks and 2 of each sequence: 128 x 64 x 128 in bf16 before each; 4 floats for each head and token.
    const { workspace } = planMemory(config, { context: 8192, sequences: 1 })
    expect(workspace).toBe(kept + 66 * 128 * 64 * 128 * 2 + 16 * 128 * 8192)
  })

  test('the parts of attention over many keys', () => {
    // 64 sequences of 4 query heads a group: 16 + 64 tiles of 16 rows, 8 groups, 128 parts of 512 keys, over 2 x 192
    // workers, who may keep all 128 parts of a sequence: each [16,128] and two numbers a row, in f32.
    const { workspace } = planMemory(config, { context: 65_536, sequences: 64, prefillTokens: 128 })
    expect(workspace).toBe(kept + 384 * 128 * (16 * 128 + 2 * 16) * 4)
  })

  test('what a GPU keeps, where no op takes more', () => {
    expect(planMemory(presets['llama-3.1-8b'], { context: 128, sequences: 1 }).workspace).toBe(kept)
  })
})

describe('fit', () => {
  const config = presets['8b']

  test.each([
    [{ context: 65_536, sequences: 4, weights: 'fp8' }, 40],
    [{ context: 8192, sequences: 64, weights: 'bf16', kvCache: 'fp8', cacheTokens: 65_536 }, 48],
    [{ context: 2048, sequences: 1, dtype: 'f32' }, 24],
  ] as [PlanOptions, number][])('%o in %i GiB: nothing larger fits', (options, memory) => {
    const { plan, left, cacheTokens, sequences, context } = fitIn(config, options, memory * GiB)
    expect(plan.total + left).toBe(memory * GiB)
    const total = (change: PlanOptions) => planMemory(config, { ...options, cacheTokens: undefined, ...change }).total
    expect(total({ sequences })).toBeLessThanOrEqual(memory * GiB)
    expect(total({ sequences: sequences + 1 })).toBeGreaterThan(memory * GiB)
    expect(total({ context })).toBeLessThanOrEqual(memory * GiB)
    expect(total({ context: context + 1 })).toBeGreaterThan(memory * GiB)
    expect(total({ cacheTokens })).toBeLessThanOrEqual(memory * GiB)
    const all = options.context! * options.sequences!
    if (cacheTokens < all) expect(total({ cacheTokens: cacheTokens + 1 })).toBeGreaterThan(memory * GiB)
    else expect(cacheTokens).toBe(all)
  })

  test('a rotary embedding bounds the context', () => {
    expect(fitIn(presets['llama-3.1-8b'], { context: 1024, sequences: 1 }, 80 * GiB).context).toBe(131_072)
  })

  // What an error advises, as options.
  const changes: [RegExp, (n: number) => PlanOptions][] = [
    [/^weights fp8$/, () => ({ weights: 'fp8' })],
    [/^kvCache fp8$/, () => ({ kvCache: 'fp8' })],
    [/^ssmState f16$/, () => ({ ssmState: 'f16' })],
    [/^a context of at most ([\d,]+) tokens$/, (context) => ({ context })],
    [/^at most ([\d,]+) sequences$/, (sequences) => ({ sequences })],
    [/^cacheTokens of at most ([\d,]+)$/, (cacheTokens) => ({ cacheTokens })],
    [/^prefillTokens of at most ([\d,]+)$/, (prefillTokens) => ({ prefillTokens })],
  ]

  test('what does not fit: how much is missing, and all single changes that make it fit, as large as they may be', () => {
    const options = { context: 65_536, sequences: 64, weights: 'fp8' } as const
    const budget = 80 * GiB
    const { message } = expectFailure(() => fitIn(config, options, budget))
    const [, expected, missing, advice] =
      /^plan: memory is 80\.00 GiB, expected at least ([\d.]+) GiB: ([\d.]+) GiB are missing; it fits with (.*)$/.exec(
        message,
      )!
    const { total } = planMemory(config, options)
    expect([expected, missing]).toEqual([(total / GiB).toFixed(2), ((total - budget) / GiB).toFixed(2)])
    const ways = advice!.split(', or ')
    expect(ways).toHaveLength(6)
    for (const way of ways) {
      const [pattern, change] = changes.find(([pattern]) => pattern.test(way))!
      const n = pattern.exec(way)![1]?.replaceAll(',', '')
      expect(planMemory(config, { ...options, ...change(Number(n)) }).total, way).toBeLessThanOrEqual(budget)
      if (n === undefined) continue
      expect(planMemory(config, { ...options, ...change(Number(n) + 1) }).total, way).toBeGreaterThan(budget)
    }
  })

  test('where one change is not enough: all smaller formats; and with them a shorter context; or nothing', () => {
    const small = { weights: 'fp8', kvCache: 'fp8', ssmState: 'f16' } as const
    const full = { context: 65_536, sequences: 8 }
    const { total } = planMemory(config, { ...full, ...small })
    expect(expectFailure(() => fitIn(config, full, total)).message).toMatch(
      /; it fits with weights fp8 and kvCache fp8 and ssmState f16$/,
    )
    const short = expectFailure(() => fitIn(config, full, 12 * GiB)).message
    const n = Number(/ f16 and a context of at most ([\d,]+) tokens$/.exec(short)![1]!.replaceAll(',', ''))
    expect(planMemory(config, { ...full, ...small, context: n }).total).toBeLessThanOrEqual(12 * GiB)
    expect(planMemory(config, { ...full, ...small, context: n + 1 }).total).toBeGreaterThan(12 * GiB)
    expect(expectFailure(() => fitIn(config, {}, GiB)).message).toMatch(
      /^plan: memory is 1\.00 GiB, .* missing; no smaller format or context makes it fit$/,
    )
  })

  test('the cache that fits is 0 where the rest does not', () => {
    expect(cacheTokensIn(config, { context: 8192, sequences: 8 }, 10 * GiB)).toBe(0)
  })
})

function expectFailure(run: () => unknown): Error {
  try {
    run()
  } catch (error) {
    return error as Error
  }
  throw new Error('nothing was thrown')
}
