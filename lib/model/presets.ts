// The published Nemotron-H models, one row each: arXiv 2504.03624 table 1 (8B, 56B), and for the rest NVIDIA's
// Megatron-Bridge providers, which agree with Megatron-LM and NeMo on every number here. Below them the Transformers
// that the paper compares them with.

import { type Config, type Family, type LayerKind, layerLetters, type RopeScaling } from './config.js'

interface Row {
  pattern: string
  hidden: number
  ffn: number
  heads: number // query heads; 8 KV heads of 128 in all
  mamba: [heads: number, headDim: number, stateSize: number]
  positions: number
}

const four = 'M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-' // also the 8B's

// biome-ignore format: a table
const rows = {
  '4b': { pattern: four, hidden: 3072, ffn: 12288, heads: 32, mamba: [112, 64, 128], positions: 8192 },
  '8b': { pattern: four, hidden: 4096, ffn: 21504, heads: 32, mamba: [128, 64, 128], positions: 8192 },
  '47b': {
    pattern: 'M-M-M-M-M-M-M-M-M*-M-M-M-M-M-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-M-M---MM---M-M*-M-M-M-M-M-',
    hidden: 8192, ffn: 30720, heads: 64, mamba: [256, 64, 256], positions: 8192,
  },
  '56b': {
    pattern: `M-M-M-M*-${'M-M-M-M-M*-'.repeat(9)}M-M-M-M-M-`,
    hidden: 8192, ffn: 32768, heads: 64, mamba: [256, 64, 256], positions: 8192,
  },
  '9b-v2': {
    pattern: 'M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-',
    hidden: 4480, ffn: 15680, heads: 40, mamba: [128, 80, 128], positions: 131072,
  },
  '12b-v2': {
    pattern: 'M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M-',
    hidden: 5120, ffn: 20480, heads: 40, mamba: [128, 80, 128], positions: 131072,
  },
} satisfies Record<string, Row>

interface TransformerRow {
  family: Family
  blocks: number // of an attention layer and an MLP layer
  hidden: number
  ffn: number
  heads: number // query heads, of 128
  kvHeads: number
  qkvBias?: boolean
  activation: Config['mlp']['activation']
  vocab: number
  theta: number
  scaling?: RopeScaling
  eps: number
  positions: number
  ids: [bos: number, eos: number]
}

// The base models. Llama's sizes, frequencies and positions are those of NeMo's Llama31Config classes, with the ids of
// config.json. (Some copies of the 405B have 16 KV heads: the 8 of the model, each twice.)
// biome-ignore format: a table
const llama = {
  family: 'llama', activation: 'silu_gated', kvHeads: 8, vocab: 128256, theta: 500_000, eps: 1e-5, positions: 131072,
  scaling: { factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8192 }, ids: [128000, 128001],
} satisfies Partial<TransformerRow>
// Megatron-Bridge's Qwen25ModelProvider classes; positions and ids of the 7B's config.json, and of the 72B's the eps, which
// is not the 7B's.
// biome-ignore format: a table
const qwen = {
  family: 'qwen2', qkvBias: true, activation: 'silu_gated', vocab: 152064, theta: 1e6, positions: 131072, ids: [151643, 151643],
} satisfies Partial<TransformerRow>

// biome-ignore format: a table
const transformerRows = {
  'llama-3.1-8b': { ...llama, blocks: 32, hidden: 4096, ffn: 14336, heads: 32 },
  'llama-3.1-70b': { ...llama, blocks: 80, hidden: 8192, ffn: 28672, heads: 64 },
  'llama-3.1-405b': { ...llama, blocks: 126, hidden: 16384, ffn: 53248, heads: 128 },
  'qwen-2.5-7b': { ...qwen, blocks: 28, hidden: 3584, ffn: 18944, heads: 28, kvHeads: 4, eps: 1e-6 },
  'qwen-2.5-72b': { ...qwen, blocks: 80, hidden: 8192, ffn: 29568, heads: 64, kvHeads: 8, eps: 1e-5 },
  // Never released. Sizes as a summary of arXiv 2504.03624 gives them, but for the vocabulary, here that of Nemotron-H-8B, which saw the same
  // data, and RoPE's theta, here that of RoPE's paper (arXiv 2104.09864).
  'nemotron-t-8b': {
    family: 'llama', blocks: 32, hidden: 4096, ffn: 21504, heads: 32, kvHeads: 8, activation: 'relu2', vocab: 131072,
    theta: 10_000, eps: 1e-5, positions: 8192, ids: [1, 2],
  },
} satisfies Record<string, TransformerRow>

export type PresetName = keyof typeof rows | keyof typeof transformerRows

/** The sizes of a published model, without its weights: for estimates, benches and models with random weights. */
export const presets = Object.fromEntries([
  ...Object.entries(rows).map(([name, row]) => [name, config(row)]),
  ...Object.entries(transformerRows).map(([name, row]) => [name, transformer(row)]),
]) as Readonly<Record<PresetName, Config>>

/** 'preset:8b' and so on: what load() and the commands take in place of a folder. */
export const presetPaths = Object.keys(presets).map((name) => `preset:${name}`)

/** The preset that such a path names, if there is one. */
export function presetOf(path: string): PresetName | undefined {
  const name = path.slice('preset:'.length)
  return Object.hasOwn(presets, name) ? (name as PresetName) : undefined
}

/** The standard deviation that training began with, where known (Megatron-LM). The 47B was cut from the 56B, 9B from 12B. */
export const initStd: Partial<Record<PresetName, number>> = {
  '8b': 0.014,
  '47b': 0.0099,
  '56b': 0.0099,
  '9b-v2': 0.0125,
  '12b-v2': 0.0125,
}

function config({ pattern, hidden, ffn, heads, mamba, positions }: Row): Config {
  return {
    family: 'nemotron_h',
    vocabSize: 131072,
    hiddenSize: hidden,
    layers: Array.from(pattern, (letter): LayerKind => layerLetters[letter]!),
    mamba: {
      heads: mamba[0],
      headDim: mamba[1],
      groups: 8,
      stateSize: mamba[2],
      convKernel: 4,
      convBias: true,
      chunkSize: 128,
      timeStepLimit: [0, Infinity],
    },
    attention: { heads, kvHeads: 8, headDim: 128, qkvBias: false },
    mlp: { intermediateSize: ffn, activation: 'relu2' },
    normEps: 1e-5,
    tieWordEmbeddings: false,
    maxPositions: positions,
    bosId: 1,
    eosIds: [2],
    padId: 0,
    dtype: 'bf16',
  }
}

function transformer(row: TransformerRow): Config {
  const { theta, scaling } = row
  return {
    family: row.family,
    vocabSize: row.vocab,
    hiddenSize: row.hidden,
    layers: Array.from({ length: row.blocks }, () => ['attention', 'mlp'] as const).flat(),
    attention: {
      heads: row.heads,
      kvHeads: row.kvHeads,
      headDim: 128,
      qkvBias: row.qkvBias ?? false,
      rope: { theta, ...(scaling ? { scaling } : {}) },
    },
    mlp: { intermediateSize: row.ffn, activation: row.activation },
    normEps: row.eps,
    tieWordEmbeddings: false,
    maxPositions: row.positions,
    bosId: row.ids[0],
    eosIds: [row.ids[1]],
    dtype: 'bf16',
  }
}
