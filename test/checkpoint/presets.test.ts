// The published models: parameter counts, layer patterns, state sizes.
import { expect, test } from 'vitest'
import { tensorSpecs } from '../../dist/checkpoint/names.js'
import { type Config, formatsOf, layerLetters, parameterCounts, stateBytes } from '../../dist/model/config.js'
import { type PresetName, presets } from '../../dist/model/presets.js'
import { llama, qwen2, read } from './fixtures.ts'

const names = Object.keys(presets) as PresetName[]

// As shipped: NVIDIA's Megatron-Bridge, Megatron-LM and NeMo agree on these strings.
const four = 'M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-'
const transformer = (blocks: number) => '*-'.repeat(blocks)
const published: Record<PresetName, [parameters: number, pattern: string]> = {
  '4b': [4_489_223_040, four],
  '8b': [8_100_852_736, four],
  '47b': [
    46_791_554_816,
    'M-M-M-M-M-M-M-M-M*-M-M-M-M-M-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-M-M---MM---M-M*-M-M-M-M-M-',
  ],
  '56b': [
    56_324_350_464,
    'M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-',
  ],
  '9b-v2': [8_888_227_328, 'M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-'],
  '12b-v2': [12_310_001_152, 'M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M-'],
  // Published as 8.03, 70.55, 405.85, 7.62 and 72.71 billion.
  'llama-3.1-8b': [8_030_261_248, transformer(32)],
  'llama-3.1-70b': [70_553_706_496, transformer(80)],
  'llama-3.1-405b': [405_853_388_800, transformer(126)],
  'qwen-2.5-7b': [7_615_616_512, transformer(28)],
  'qwen-2.5-72b': [72_706_203_648, transformer(80)],
  // Not released, so by hand: 32 blocks of 2 (4096 + 1024) x 4096 and 2 x 21504 x 4096, 65 norms, 2 x 131072 x 4096.
  'nemotron-t-8b': [32 * (41_943_040 + 176_160_768) + 65 * 4096 + 2 * 536_870_912, transformer(32)],
}

test.each(names)('%s has the published pattern and number of parameters', (name) => {
  const config = presets[name]
  const letters = Object.fromEntries(Object.entries(layerLetters).map(([letter, kind]) => [kind, letter]))
  expect(config.layers.map((kind) => letters[kind]).join('')).toBe(published[name][1])
  expect(parameterCounts(config).total).toBe(published[name][0])
})

test.each([
  ...names.map((name) => [name, presets[name]] as const),
  ['llama', read(llama)] as const,
  ['tied llama', read({ ...llama, tie_word_embeddings: true })] as const,
  ['qwen2', read(qwen2)] as const,
])('%s: the parameters are the elements of its tensors', (_, config) => {
  const elements = tensorSpecs(config).map(({ shape }) => shape.reduce((a, b) => a * b))
  expect(parameterCounts(config).total).toBe(elements.reduce((a, b) => a + b))
})

test('counts by kind', () => {
  // 4 heads of 2, 2 KV heads: q and o 8x8, k and v 4x8; MLP 3 matrices of 24x8; two blocks.
  expect(parameterCounts(read(llama))).toEqual({
    embedding: 256,
    mamba: 0,
    attention: 2 * (2 * 64 + 2 * 32),
    mlp: 2 * 3 * 192,
    norms: 5 * 8,
    head: 256,
    total: 2088,
  })
  expect(parameterCounts(read({ ...llama, tie_word_embeddings: true })).head).toBe(0)
})

test('what a sequence costs beside the weights', () => {
  // arXiv 2504.03624's sizes: 2 (K, V) x attention layers x 8 KV heads x 128, and Mamba layers x H x P x N.
  expect(stateBytes(presets['8b'], formatsOf('bf16'))).toEqual({
    kvPerToken: 16_384,
    convPerSequence: 24 * 10_240 * 3 * 2,
    ssmPerSequence: 96 * 2 ** 20,
  })
  expect(stateBytes(presets['8b'], formatsOf('bf16', 'fp8'))).toMatchObject({
    kvPerToken: 8192,
    convPerSequence: 24 * 10_240 * 3 * 2,
  })
  expect(stateBytes(presets['47b'], formatsOf('bf16', undefined, 'f16')).ssmPerSequence).toBe(360 * 2 ** 20)
  expect(stateBytes(presets['47b'], formatsOf('bf16')).ssmPerSequence).toBe(720 * 2 ** 20)
  expect(stateBytes(presets['56b'], formatsOf('bf16'))).toMatchObject({
    kvPerToken: 40_960,
    ssmPerSequence: 864 * 2 ** 20,
  })
  expect(stateBytes(presets['56b'], formatsOf('f32'))).toMatchObject({
    kvPerToken: 81_920,
    ssmPerSequence: 864 * 2 ** 20,
  })
  expect(stateBytes(read(llama), formatsOf('f32'))).toEqual({ kvPerToken: 64, convPerSequence: 0, ssmPerSequence: 0 })
})

test('the Transformers: positions, frequencies, biases, ids of the ends', () => {
  const facts = ({ family, maxPositions, attention, bosId, eosIds, normEps }: Config) => ({
    ...{ family, maxPositions, bosId, eosIds, normEps, qkvBias: attention.qkvBias, rope: attention.rope },
  })
  const scaling = { factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8192 }
  const all = { maxPositions: 131_072 }
  const meta = { ...all, family: 'llama', bosId: 128_000, eosIds: [128_001], normEps: 1e-5, qkvBias: false }
  for (const name of ['llama-3.1-8b', 'llama-3.1-70b', 'llama-3.1-405b'] as const) {
    expect(facts(presets[name])).toEqual({ ...meta, rope: { theta: 500_000, scaling } })
  }
  const qwen = { ...all, family: 'qwen2', bosId: 151_643, eosIds: [151_643], qkvBias: true, rope: { theta: 1e6 } }
  expect(facts(presets['qwen-2.5-7b'])).toEqual({ ...qwen, normEps: 1e-6 })
  expect(facts(presets['qwen-2.5-72b'])).toEqual({ ...qwen, normEps: 1e-5 })
})
