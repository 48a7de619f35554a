// The published models: parameter counts, layer patterns, state sizes.
import { expect, test } from 'vitest'
import { tensorSpecs } from '../../dist/checkpoint/names.js'
import { layerLetters, parameterCounts, stateBytes } from '../../dist/model/config.js'
import { type PresetName, presets } from '../../dist/model/presets.js'
import { llama, qwen2, read } from './fixtures.ts'

const names = Object.keys(presets) as PresetName[]

// As shipped: NVIDIA's Megatron-Bridge, Megatron-LM and NeMo agree on these strings.
const four = 'M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-'
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
  expect(stateBytes(presets['8b'], 'bf16')).toEqual({
    kvPerToken: 16_384,
    convPerSequence: 24 * 10_240 * 3 * 2,
    ssmPerSequence: 96 * 2 ** 20,
  })
  expect(stateBytes(presets['8b'], 'bf16', 'e4m3')).toMatchObject({
    kvPerToken: 8192,
    convPerSequence: 24 * 10_240 * 3 * 2,
  })
  expect(stateBytes(presets['47b'], 'bf16').ssmPerSequence).toBe(720 * 2 ** 20)
  expect(stateBytes(presets['56b'], 'bf16')).toMatchObject({ kvPerToken: 40_960, ssmPerSequence: 864 * 2 ** 20 })
  expect(stateBytes(presets['56b'], 'f32')).toMatchObject({ kvPerToken: 81_920, ssmPerSequence: 864 * 2 ** 20 })
  expect(stateBytes(read(llama), 'f32')).toEqual({ kvPerToken: 64, convPerSequence: 0, ssmPerSequence: 0 })
})
