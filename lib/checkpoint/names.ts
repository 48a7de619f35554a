// Which tensors a model wants, and what they are called on disk. The model's own names (model/config.ts) are those
// of Nemotron-H without prefix, numbered by the flat list of layers; a Transformer block on disk is two such layers.

import { type Config, layerShapes, outerShapes } from '../model/config.js'
import { choices } from '../options.js'
import type { StoredDtype, TensorEntry } from './safetensors.js'

/**
 * matrix: [out,in], the operand of a linear layer; may be stored in FP8.
 * embedding: [V,D], the embedding and the head, which no published recipe quantises.
 * vector: all the small rest: norms, biases, the convolution, the per-head numbers of Mamba-2.
 */
export type Role = 'matrix' | 'embedding' | 'vector'

export interface TensorSpec {
  /** Canonical: `embeddings.weight`, `layers.3.mixer.in_proj.weight`, `norm_f.weight`, ... */
  readonly name: string
  readonly shape: readonly number[]
  readonly role: Role
  /** The names it may have in a Hugging Face checkpoint. */
  readonly spellings: readonly string[]
}

const spellingsOf = ({ family }: Config) => (family === 'nemotron_h' ? hybridSpellings : transformerSpellings)

export function tensorSpecs(config: Config): TensorSpec[] {
  const spell = spellingsOf(config)
  const layers = config.layers.flatMap((kind, i) => {
    const shapes = Object.entries(layerShapes(config, kind))
    return shapes.map(([name, shape]) => [`layers.${i}.${name}`, shape] as const)
  })
  const outer = Object.entries(outerShapes(config))
  return [...outer, ...layers].map(([name, shape]) => ({
    name,
    shape,
    role: role(name, shape),
    spellings: spell(name),
  }))
}

function role(name: string, shape: readonly number[]): Role {
  if (name === 'embeddings.weight' || name === 'lm_head.weight') return 'embedding'
  return shape.length === 2 ? 'matrix' : 'vector'
}

const otherWords: Readonly<Record<string, string>> = {
  'embeddings.weight': 'embed_tokens.weight',
  'norm_f.weight': 'norm.weight',
}

function hybridSpellings(name: string): string[] {
  if (name === 'lm_head.weight') return [name]
  const words = Object.hasOwn(otherWords, name) ? [name, otherWords[name]!] : [name]
  return words.flatMap((word) => [`backbone.${word}`, `model.${word}`])
}

function transformerSpellings(name: string): string[] {
  if (name === 'lm_head.weight') return [name]
  const [, layer, rest] = /^layers\.(\d+)\.(.*)$/.exec(name) ?? []
  if (layer === undefined || rest === undefined) return [`model.${otherWords[name]}`]

  const isMlp = Number(layer) % 2 === 1
  const block = `model.layers.${Math.floor(Number(layer) / 2)}`
  if (rest === 'norm.weight') return [`${block}.${isMlp ? 'post_attention_layernorm' : 'input_layernorm'}.weight`]
  return [`${block}.${rest.replace('mixer', isMlp ? 'mlp' : 'self_attn')}`]
}

/** What a checkpoint may have besides, under the model's names: what keys and values in FP8 are multiplied by (ModelOpt). */
function kvScales(config: Config): string[] {
  return config.layers.flatMap((kind, i) =>
    kind === 'attention' ? ['k', 'v'].map((x) => `layers.${i}.mixer.${x}_proj.${x}_scale`) : [],
  )
}

/** Where a tensor lies. */
export interface StoredTensor extends TensorEntry {
  readonly file: string
}

export interface MatchedTensor extends StoredTensor {
  readonly role: Role
  /** The f32 that an FP8 matrix is multiplied by (ModelOpt's `weight_scale`); absent: 1. */
  readonly scale?: StoredTensor
}

const dense: readonly StoredDtype[] = ['F32', 'F16', 'BF16']
const dtypes: Record<Role, readonly StoredDtype[]> = { matrix: [...dense, 'F8_E4M3'], embedding: dense, vector: dense }

/** Tensors without effect here: tables that are recomputed, multi-token prediction, scales of FP8 activations and queries. */
const harmless = /(^|\.)rotary_emb\.inv_freq$|^mtp\.|\.(input_scale|[kqv]_scale)$/

/**
 * Finds every tensor that `config` wants among those `stored` in `folder`, under the model's names.
 * Throws one Error that tells all that is missing, left over, or of another shape or dtype.
 */
export function matchTensors(
  config: Config,
  stored: ReadonlyMap<string, StoredTensor>,
  folder: string,
): Map<string, MatchedTensor> {
  const matched = new Map<string, MatchedTensor>()
  const problems: string[] = []
  const rest = new Map(stored)
  const prefixes = new Set(Array.from(stored.keys(), prefix))

  for (const { name, shape, role, spellings } of tensorSpecs(config)) {
    const found = spellings.find((spelling) => rest.has(spelling))
    if (found === undefined) {
      const likely = spellings.find((spelling) => prefixes.has(prefix(spelling))) ?? spellings[0]
      problems.push(`${likely} is missing, expected [${shape}]`)
      continue
    }
    const tensor = rest.get(found)!
    const scale = tensor.dtype === 'F8_E4M3' ? rest.get(`${found}_scale`) : undefined
    rest.delete(found)
    if (scale) rest.delete(`${found}_scale`)

    if (tensor.shape.join() !== shape.join()) {
      problems.push(`${found} is [${tensor.shape}], expected [${shape}]`)
    } else if (!dtypes[role].includes(tensor.dtype)) {
      problems.push(`${found} is ${tensor.dtype}, expected ${choices(dtypes[role])}`)
    }
    if (scale && (scale.dtype !== 'F32' || scale.end - scale.start !== 4)) {
      problems.push(`${found}_scale is ${scale.dtype} [${scale.shape}], expected one F32`)
    }
    matched.set(name, { ...tensor, role, ...(scale ? { scale } : {}) })
  }
  const spell = spellingsOf(config)
  for (const name of kvScales(config)) {
    const found = spell(name).find((spelling) => rest.has(spelling))
    if (found === undefined) continue
    const tensor = rest.get(found)!
    rest.delete(found)
    if (tensor.shape.some((n) => n !== 1) || !dense.includes(tensor.dtype)) {
      problems.push(`${found} is ${tensor.dtype} [${tensor.shape}], expected one number in ${choices(dense)}`)
    }
    matched.set(name, { ...tensor, role: 'vector' })
  }
  if (config.tieWordEmbeddings) rest.delete('lm_head.weight') // a copy of the embedding
  for (const name of rest.keys()) {
    if (!harmless.test(name)) problems.push(`${name} is unexpected`)
  }
  if (problems.length > 0) throw new Error(`${folder}: ${summary(problems)}`)
  return matched
}

const prefix = (name: string) => name.slice(0, name.indexOf('.'))

const shown = 10

function summary(problems: readonly string[]): string {
  if (problems.length === 1) return problems[0]!
  const lines = problems.slice(0, shown)
  if (problems.length > shown) lines.push(`and ${problems.length - shown} more`)
  return [`${problems.length} tensors do not fit config.json`, ...lines].join('\n  ')
}
