// config.json -> Config, for the three architectures and every spelling of their keys in the wild.
// What would change the result and is not implemented is refused, naming key and value; the rest is ignored.

import type { AttentionConfig, Config, LayerKind, RopeScaling } from '../model/config.js'
import { layerLetters } from '../model/config.js'
import { boolean, choices, either, integer, list, number, oneOf, string } from '../options.js'
import type { JsonFields } from './json.js'

const size = integer({ min: 1 })
const id = integer({ min: 0 })
const positive = number({ above: 0 })

const architectures: Record<string, (json: JsonFields) => Config> = {
  NemotronHForCausalLM: nemotronH,
  LlamaForCausalLM: llama,
  Qwen2ForCausalLM: qwen2,
}

export function parseConfig(json: JsonFields): Config {
  const [architecture] = json.get('architectures', list(string))
  if (architecture === undefined || !Object.hasOwn(architectures, architecture)) {
    json.refuse('architectures', choices(Object.keys(architectures)))
  }
  // FP8 of NVIDIA ModelOpt has one scale a tensor; other quantisations need other kernels.
  json.object('quantization_config')?.only('quant_method', 'modelopt')
  json.object('quantization_config')?.only('quant_algo', 'FP8')
  return architectures[architecture]!(json)
}

function nemotronH(json: JsonFields): Config {
  for (const key of ['use_bias', 'attention_bias', 'mlp_bias', 'mamba_proj_bias']) json.only(key, false)
  json.only('mamba_hidden_act', 'silu')
  json.only('mlp_hidden_act', 'relu2')
  if (json.has('sliding_window')) json.refuse('sliding_window', 'null')

  return {
    family: 'nemotron_h',
    ...common(json, ['layer_norm_epsilon', 'rms_norm_eps', 'norm_eps']),
    layers: hybridLayers(json),
    mamba: {
      heads: json.get('mamba_num_heads', size),
      headDim: json.get('mamba_head_dim', size),
      groups: divisor(json, 'n_groups', 'mamba_num_heads'),
      stateSize: json.get('ssm_state_size', size),
      convKernel: json.get('conv_kernel', size),
      convBias: json.get('use_conv_bias', boolean, true),
      chunkSize: json.get('chunk_size', size, 128),
      timeStepLimit: timeStepLimit(json),
    },
    attention: attention(json, false),
    mlp: { intermediateSize: json.get('intermediate_size', size), activation: 'relu2' },
  }
}

function llama(json: JsonFields): Config {
  json.only('attention_bias', false) // true would put one on o_proj too
  return { family: 'llama', ...transformer(json, false) }
}

function qwen2(json: JsonFields): Config {
  json.only('use_sliding_window', false)
  json.only('use_mrope', false)
  return { family: 'qwen2', ...transformer(json, true) }
}

function transformer(json: JsonFields, qkvBias: boolean): Omit<Config, 'family'> {
  json.only('mlp_bias', false)
  json.only('hidden_act', 'silu')
  for (const kind of json.get('layer_types', list(string), [])) {
    if (kind !== 'full_attention') json.refuse('layer_types', "'full_attention' in each place")
  }
  const blocks = json.get('num_hidden_layers', size)
  return {
    ...common(json, ['rms_norm_eps']),
    layers: Array.from({ length: 2 * blocks }, (_, i): LayerKind => (i % 2 === 0 ? 'attention' : 'mlp')),
    attention: { ...attention(json, qkvBias), rope: rope(json) },
    mlp: { intermediateSize: json.get('intermediate_size', size), activation: 'silu_gated' },
  }
}

function common(json: JsonFields, epsKeys: readonly string[]) {
  const bosId = json.optional('bos_token_id', id)
  const padId = json.optional('pad_token_id', integer()) ?? -1 // -1 is Llama's way to say none
  return {
    vocabSize: json.get('vocab_size', size),
    hiddenSize: json.get('hidden_size', size),
    normEps: json.get(epsKeys, positive),
    tieWordEmbeddings: json.get('tie_word_embeddings', boolean, false),
    maxPositions: json.get('max_position_embeddings', size),
    ...(bosId === undefined ? {} : { bosId }),
    eosIds: eosIds(json) ?? [],
    ...(padId < 0 ? {} : { padId }),
    dtype: dtypes[json.get(['dtype', 'torch_dtype'], oneOf('float32', 'float16', 'bfloat16'), 'float32')],
  }
}

const dtypes = { float32: 'f32', float16: 'f16', bfloat16: 'bf16' } as const

/** One id or several, in config.json and in generation_config.json. */
export function eosIds(json: JsonFields): readonly number[] | undefined {
  const ids = json.optional('eos_token_id', either(id, list(id)))
  return typeof ids === 'number' ? [ids] : ids
}

function attention(json: JsonFields, qkvBias: boolean): AttentionConfig {
  const heads = json.get('num_attention_heads', size)
  const named = json.has('attention_head_dim') || json.has('head_dim')
  return {
    heads,
    kvHeads: json.has('num_key_value_heads') ? divisor(json, 'num_key_value_heads', 'num_attention_heads') : heads,
    headDim: named
      ? json.get(['attention_head_dim', 'head_dim'], size)
      : json.get('hidden_size', size) / divisor(json, 'num_attention_heads', 'hidden_size'),
    qkvBias,
  }
}

/** The value of `key`, which has to divide that of `of`. */
function divisor(json: JsonFields, key: string, of: string): number {
  const value = json.get(key, size)
  const whole = json.get(of, size)
  if (whole % value !== 0) json.refuse(key, `a divisor of ${of}, ${whole}`)
  return value
}

const layerKeys = ['layers_block_type', 'layer_types', 'hybrid_override_pattern']

/** The layers, which may be given under several keys if all say the same. */
function hybridLayers(json: JsonFields): LayerKind[] {
  const [key, ...others] = layerKeys.filter((name) => json.has(name))
  if (key === undefined) return json.get(layerKeys, either(string, list(string))) as never // which says what is missing
  const layers = layersOf(json, key)
  for (const other of others) {
    if (layersOf(json, other).join() !== layers.join()) json.refuse(other, `the layers that ${key} has`)
  }
  if (layers.length === 0) json.refuse(key, 'at least one layer')
  if (json.get('num_hidden_layers', size, layers.length) !== layers.length) {
    json.refuse('num_hidden_layers', `${layers.length}, the length of ${key}`)
  }
  return layers
}

function layersOf(json: JsonFields, key: string): LayerKind[] {
  const names = json.get(key, either(string, list(string)))
  const kinds = typeof names === 'string' ? layerLetters : layerNames
  return Array.from(names, (name, i): LayerKind => {
    if (Object.hasOwn(kinds, name)) return kinds[name]!
    const found = name === 'E' || name === 'moe' ? `'${name}' (mixture of experts)` : `'${name}'`
    const expected = choices(Object.keys(kinds).map((kind) => `'${kind}'`))
    throw new RangeError(`${json.path}: ${key} has ${found} at ${i}, expected ${expected}`)
  })
}

/** `layers_block_type` of transformers 5, and the names it had before. */
const layerNames: Readonly<Record<string, LayerKind>> = {
  linear_attention: 'mamba2',
  full_attention: 'attention',
  mlp: 'mlp',
  mamba: 'mamba2',
  attention: 'attention',
}

function timeStepLimit(json: JsonFields): [number, number] {
  if (!json.has('time_step_limit')) return [0, Infinity]
  const limit = json.values.time_step_limit
  if (Array.isArray(limit) && limit.length === 2) {
    const [min, max] = limit
    if (typeof min === 'number' && typeof max === 'number' && min >= 0 && max >= min) return [min, max]
  }
  return json.refuse('time_step_limit', '[min, max] with 0 <= min <= max')
}

/** `rope_parameters` since transformers 5; before, `rope_theta` and `rope_scaling`, its type under either name. */
function rope(json: JsonFields): { theta: number; scaling?: RopeScaling } {
  const parameters = json.object('rope_parameters') ?? json.object('rope_scaling')
  const owner = parameters?.has('rope_theta') ? parameters : json
  const theta = owner.get('rope_theta', positive, 10000)
  json.only('partial_rotary_factor', 1)
  if (!parameters) return { theta }

  parameters.only('partial_rotary_factor', 1)
  const type = parameters.get(['rope_type', 'type'], oneOf('default', 'llama3'), 'default')
  if (type === 'default') return { theta }
  const lowFreqFactor = parameters.get('low_freq_factor', positive)
  return {
    theta,
    scaling: {
      factor: parameters.get('factor', positive),
      lowFreqFactor,
      highFreqFactor: parameters.get('high_freq_factor', number({ above: lowFreqFactor })),
      originalMaxPositions: parameters.get('original_max_position_embeddings', size),
    },
  }
}
