// The published Nemotron-H models, one row each: arXiv 2504.03624 table 1 (8B, 56B), and for the rest NVIDIA's
// Megatron-Bridge providers, which agree with Megatron-LM and NeMo on every number here.

import { type Config, type LayerKind, layerLetters } from './config.js'

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

export type PresetName = keyof typeof rows

/** The sizes of a published model, without its weights: for estimates, benches and models with random weights. */
export const presets = Object.fromEntries(Object.entries(rows).map(([name, row]) => [name, config(row)])) as Readonly<
  Record<PresetName, Config>
>

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
