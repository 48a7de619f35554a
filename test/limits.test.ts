// bench/limits.mjs against numbers worked out by hand from the sizes of Nemotron-H-8B.
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { presets } from '../dist/index.js'

const limits = await import(/* @vite-ignore */ join(import.meta.dirname, '../bench/limits.mjs'))
const { decodeWork, limitsOf, prefillWork, secondsOf, weightsOf } = limits
const bf16 = { weights: 'bf16', act: 'bf16' }
const fp8 = { weights: 'fp8', act: 'bf16' }

// Elements: in_proj 18560 x 4096 and out_proj 4096 x 8192, 24 times; q and o 4096 x 4096 with k and v 1024 x 4096, 4 times;
// up and down 21504 x 4096, 24 times; the head 131072 x 4096. Vectors: 24 x 59776 of Mamba-2 and 53 norms of 4096.
const mamba = 76_021_760 + 33_554_432
const mlp = 2 * 88_080_384
const matrices = 24 * mamba + 4 * 41_943_040 + 24 * mlp
const head = 536_870_912
const vectorBytes = 4 * 1_651_712
const state = 24 * (128 * 64 * 128 * 4 + 10240 * 3 * 2) // of a sequence: SSM in f32, convolution in bf16
const kv = 16_384 // of a token: 4 layers, K and V, 8 heads of 128, 2 bytes

test('a decode step of 8b in bf16', () => {
  expect(decodeWork(presets['8b'], bf16, { batch: 3, past: 65_536 })).toEqual({
    products: { bytes: 2 * matrices + vectorBytes + 3 * 8192, flops: 3 * 2 * matrices, fp8Flops: 0 },
    attention: { bytes: 3 * 65_537 * kv, flops: 3 * 65_537 * 65_536, fp8Flops: 0 }, // 4 layers x 4 x 32 x 128 a position
    mamba2: { bytes: 3 * 2 * state, flops: 3 * 24 * (5 * 1_048_576 + 81_920), fp8Flops: 0 },
    head: { bytes: 2 * head, flops: 3 * 2 * head, fp8Flops: 0 },
  })
})

test('prefill of 8b in bf16: two prompts of 1000 tokens in four batches', () => {
  expect(prefillWork(presets['8b'], bf16, { batch: 2, input: 1000, prefillTokens: 512 })).toEqual({
    products: { bytes: 4 * (2 * matrices + vectorBytes) + 2000 * 8192, flops: 2000 * 2 * matrices, fp8Flops: 0 },
    attention: { bytes: 2 * (1000 + 512) * kv, flops: 2 * 500_500 * 65_536, fp8Flops: 0 }, // 1 + 2 + ... + 1000 positions
    mamba2: { bytes: 2 * 3 * state, flops: 2000 * 24 * (5_242_880 + 131_072 + 81_920), fp8Flops: 0 },
    head: { bytes: 2 * 2 * head, flops: 2 * 2 * head, fp8Flops: 0 },
  })
})

test('fp8: all but two layers at each end, and the head, which are bf16', () => {
  const wide = 2 * (mamba + mlp)
  const { products, head: last } = decodeWork(presets['8b'], fp8, { batch: 1, past: 0 })
  expect(products.flops).toBe(2 * wide)
  expect(products.fp8Flops).toBe(2 * (matrices - wide))
  expect(products.bytes).toBe(matrices + wide + vectorBytes + 8192)
  expect(last).toEqual({ bytes: 2 * head, flops: 2 * head, fp8Flops: 0 })
})

test('query, key and value are one product', () => {
  const config = {
    ...presets['8b'],
    family: 'llama' as const,
    vocabSize: 10,
    hiddenSize: 8,
    layers: ['attention', 'mlp', 'attention', 'mlp'] as const,
    attention: { heads: 2, kvHeads: 1, headDim: 4, qkvBias: false },
    mlp: { intermediateSize: 16, activation: 'silu_gated' as const },
  }
  // Of ten products the fifth and sixth are fp8: the first down, and the second q, k and v.
  expect(weightsOf(config, fp8).matrices.fp8Elements).toBe(16 * 8 + (8 + 4 + 4) * 8)
  expect(weightsOf(config, bf16).matrices.bytes).toBe(2 * (2 * (64 + 32 + 32 + 64) + 2 * 3 * 128))
  expect(decodeWork(config, bf16, { batch: 1, past: 7 }).mamba2).toEqual({ bytes: 0, flops: 0, fp8Flops: 0 })
})

test('caches and states in fewer bytes', () => {
  const at = { batch: 1, past: 9 }
  const { attention, mamba2 } = decodeWork(presets['8b'], { ...bf16, kvCache: 'fp8', ssmState: 'f16' }, at)
  expect(attention.bytes).toBe((10 * kv) / 2)
  expect(mamba2.bytes).toBe(2 * 24 * (128 * 64 * 128 * 2 + 10240 * 3 * 2))
})

test('a run is its prefill and its steps, and takes what takes longer', () => {
  const run = { batch: 2, input: 100, output: 6, prefillTokens: 64 }
  const steps = [100, 101, 102, 103, 104].map((past) => decodeWork(presets['8b'], fp8, { batch: 2, past }))
  const sum = (unit: string) =>
    steps.flatMap((step) => Object.values(step) as Record<string, number>[]).reduce((all, work) => all + work[unit]!, 0)
  const ceilings = { copy: 1e12, act: 1e14, fp8: 2e14 }
  const { prefill, decode } = limitsOf(presets['8b'], fp8, run, ceilings)
  for (const unit of ['bytes', 'flops', 'fp8Flops']) expect(decode[unit]).toBe(sum(unit))
  expect(decode.seconds).toBeCloseTo(sum('bytes') / 1e12, 12) // two rows: the weights take longest
  const longer = Math.max(prefill.bytes / 1e12, prefill.flops / 1e14 + prefill.fp8Flops / 2e14)
  expect(prefill.seconds).toBe(longer)
  expect(secondsOf({ bytes: 1, flops: 300, fp8Flops: 400 }, { copy: 1, act: 100, fp8: 200 })).toBe(5)
  expect(limitsOf(presets['8b'], fp8, run).decode).not.toHaveProperty('seconds')
})
