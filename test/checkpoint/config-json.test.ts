// config.json in every spelling, and what is refused.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseConfig } from '../../dist/checkpoint/config-json.js'
import { parseJson, readJson } from '../../dist/checkpoint/json.js'
import { presets } from '../../dist/model/presets.js'
import { test as inFolder, type Json, llama, nemotronH, qwen2, read } from './fixtures.ts'

const without = (json: Json, ...keys: string[]) =>
  Object.fromEntries(Object.entries(json).filter(([key]) => !keys.includes(key)))

describe('non-finite numbers', () => {
  test('bare, as Python writes them', () => {
    expect(parseJson('{"a":[0.0, Infinity],"b":-Infinity,"c":NaN}')).toEqual({ a: [0, Infinity], b: -Infinity, c: NaN })
  })
  test('as objects, as transformers 5 writes them', () => {
    expect(
      parseJson('{"a":[0.0,{"__float__":"Infinity"}],"b":{"__float__":"-Infinity"},"c":{"__float__":"NaN"}}'),
    ).toEqual({ a: [0, Infinity], b: -Infinity, c: NaN })
    expect(parseJson('{"a":{"__float__":"1"},"b":{"__float__":"NaN","c":1}}')).toEqual({
      a: { __float__: '1' },
      b: { __float__: 'NaN', c: 1 },
    })
  })
  test('strings stay as they are', () => {
    const value = { 'Infinity "NaN': ['to -Infinity\\', '\\"NaN"', 'NaN'], n: { __proto: 'Infinity' } }
    expect(parseJson(JSON.stringify(value))).toEqual(value)
    fc.assert(
      fc.property(fc.jsonValue(), (any) => {
        expect(parseJson(JSON.stringify(any))).toEqual(JSON.parse(JSON.stringify(any)))
      }),
    )
  })
  test.each(['Infinityx', '1Infinity', '--Infinity', 'nan', '{"a":Infinity', '+Infinity'])('not %s', (text) => {
    expect(() => parseJson(text)).toThrow(SyntaxError)
  })
})

describe('Nemotron-H', () => {
  test('the old spelling', () => {
    expect(read(nemotronH)).toEqual({
      family: 'nemotron_h',
      vocabSize: 32,
      hiddenSize: 8,
      layers: ['mamba2', 'mlp', 'attention', 'mlp'],
      mamba: {
        heads: 4,
        headDim: 6,
        groups: 2,
        stateSize: 8,
        convKernel: 4,
        convBias: true,
        chunkSize: 16,
        timeStepLimit: [0, Infinity],
      },
      attention: { heads: 4, kvHeads: 2, headDim: 4, qkvBias: false },
      mlp: { intermediateSize: 24, activation: 'relu2' },
      normEps: 1e-5,
      tieWordEmbeddings: false,
      maxPositions: 128,
      bosId: 1,
      eosIds: [2],
      padId: 0,
      dtype: 'bf16',
    })
  })

  const pattern = 'hybrid_override_pattern'
  const same: Record<string, Json> = {
    'a list of the new names': {
      ...without(nemotronH, pattern, 'num_hidden_layers'),
      layers_block_type: ['linear_attention', 'mlp', 'full_attention', 'mlp'],
    },
    'a list of the legacy names': {
      ...without(nemotronH, pattern),
      layers_block_type: ['mamba', 'mlp', 'attention', 'mlp'],
    },
    'a list under the pattern key': { ...nemotronH, [pattern]: ['mamba', 'mlp', 'attention', 'mlp'] },
    layer_types: { ...without(nemotronH, pattern), layer_types: ['mamba', 'mlp', 'attention', 'mlp'] },
    'a pattern under the list key': { ...without(nemotronH, pattern), layers_block_type: 'M-*-' },
    head_dim: { ...without(nemotronH, 'attention_head_dim'), head_dim: 4 },
    rms_norm_eps: { ...without(nemotronH, 'layer_norm_epsilon'), rms_norm_eps: 1e-5 },
    norm_eps: { ...without(nemotronH, 'layer_norm_epsilon'), norm_eps: 1e-5 },
    dtype: { ...without(nemotronH, 'torch_dtype'), dtype: 'bfloat16' },
    'the limit spelled out': { ...nemotronH, time_step_limit: [0, Infinity] },
    'nulls for absent': { ...nemotronH, sliding_window: null, time_step_limit: null, tie_word_embeddings: null },
    'all that may be said': {
      ...nemotronH,
      use_bias: false,
      attention_bias: false,
      mlp_bias: false,
      mamba_proj_bias: false,
      use_conv_bias: true,
      mlp_hidden_act: 'relu2',
      mamba_hidden_act: 'silu',
      rope_theta: 10000,
      quantization_config: { quant_method: 'modelopt', quant_algo: 'FP8' },
    },
  }
  test.each(Object.entries(same))('the same with %s', (_, json) => {
    expect(read(json)).toEqual(read(nemotronH))
  })

  test('what differs', () => {
    expect(read(without(nemotronH, 'attention_head_dim')).attention.headDim).toBe(2)
    expect(read({ ...nemotronH, time_step_limit: [0.001, 0.1] }).mamba?.timeStepLimit).toEqual([0.001, 0.1])
    expect(read({ ...nemotronH, use_conv_bias: false }).mamba?.convBias).toBe(false)
    expect(read(without(nemotronH, 'chunk_size')).mamba?.chunkSize).toBe(128)
    expect(read(without(nemotronH, 'bos_token_id', 'eos_token_id', 'pad_token_id'))).toMatchObject({ eosIds: [] })
    expect(read({ ...nemotronH, eos_token_id: [2, 11] }).eosIds).toEqual([2, 11])
    expect(read({ ...nemotronH, torch_dtype: 'float16' }).dtype).toBe('f16')
  })

  inFolder('the 8B, as its config.json says it', async ({ folder }) => {
    const path = join(folder, 'config.json')
    const layers = presets['8b'].layers.map((kind) => ({ mamba2: 'M', attention: '*', mlp: '-' })[kind])
    await writeFile(
      path,
      `{
      "architectures": ["NemotronHForCausalLM"], "attention_bias": false, "attention_head_dim": 128,
      "bos_token_id": 1, "chunk_size": 128, "conv_kernel": 4, "eos_token_id": 2, "expand": 2, "hidden_size": 4096,
      "hybrid_override_pattern": "${layers.join('')}", "intermediate_size": 21504, "layer_norm_epsilon": 1e-05,
      "mamba_head_dim": 64, "mamba_hidden_act": "silu", "mamba_num_heads": 128, "mamba_proj_bias": false,
      "max_position_embeddings": 8192, "mlp_bias": false, "mlp_hidden_act": "relu2", "model_type": "nemotron_h",
      "n_groups": 8, "num_attention_heads": 32, "num_hidden_layers": 52, "num_key_value_heads": 8, "pad_token_id": 0,
      "residual_in_fp32": false, "rms_norm_eps": 1e-05, "sliding_window": null, "ssm_state_size": 128,
      "tie_word_embeddings": false, "time_step_floor": 0.0001, "time_step_limit": [0.0, Infinity],
      "time_step_max": 0.1, "time_step_min": 0.001, "torch_dtype": "bfloat16", "use_bias": false,
      "use_conv_bias": true, "vocab_size": 131072 }`,
    )
    expect(parseConfig(await readJson(path))).toEqual(presets['8b'])
  })
})

describe('Transformers', () => {
  test('a decoder block is two layers', () => {
    expect(read(llama)).toEqual({
      family: 'llama',
      vocabSize: 32,
      hiddenSize: 8,
      layers: ['attention', 'mlp', 'attention', 'mlp'],
      attention: { heads: 4, kvHeads: 2, headDim: 2, qkvBias: false, rope: { theta: 10000 } },
      mlp: { intermediateSize: 24, activation: 'silu_gated' },
      normEps: 1e-6,
      tieWordEmbeddings: false,
      maxPositions: 128,
      bosId: 1,
      eosIds: [2, 3],
      dtype: 'f32',
    })
    expect(read({ ...without(llama, 'num_key_value_heads'), head_dim: 16, pad_token_id: -1 })).toMatchObject({
      attention: { kvHeads: 4, headDim: 16 },
    })
    expect(read({ ...llama, pad_token_id: -1 }).padId).toBeUndefined()
    expect(read({ ...llama, tie_word_embeddings: true }).tieWordEmbeddings).toBe(true)
  })

  test('Qwen2 has biases on q, k, v; a window out of use is no window', () => {
    const config = read({ ...qwen2, layer_types: ['full_attention', 'full_attention'] })
    expect(config).toMatchObject({ family: 'qwen2', attention: { qkvBias: true, rope: { theta: 1e6 } } })
  })

  const llama3 = {
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  }
  const scaled = {
    theta: 5e5,
    scaling: { factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8192 },
  }
  test.each<[string, Json, object]>([
    ['rope_theta', { rope_theta: 5e5, rope_scaling: null }, { theta: 5e5 }],
    ['rope_parameters', { rope_parameters: { rope_theta: 5e5, rope_type: 'default' } }, { theta: 5e5 }],
    [
      'rope_parameters beside rope_theta',
      { rope_theta: 5e5, rope_parameters: { rope_type: 'default' } },
      { theta: 5e5 },
    ],
    ['llama3', { rope_theta: 5e5, rope_scaling: { ...llama3, rope_type: 'llama3' } }, scaled],
    ['llama3 under type', { rope_theta: 5e5, rope_scaling: { ...llama3, type: 'llama3' } }, scaled],
    ['llama3 in rope_parameters', { rope_parameters: { ...llama3, rope_theta: 5e5, rope_type: 'llama3' } }, scaled],
  ])('%s', (_, keys, rope) => {
    expect(read({ ...llama, ...keys }).attention.rope).toEqual(rope)
  })
})

describe('refuses', () => {
  const cases: [Json, ErrorConstructor, string][] = [
    [
      { ...llama, architectures: ['MistralForCausalLM'] },
      RangeError,
      "architectures is ['MistralForCausalLM'], expected NemotronHForCausalLM, LlamaForCausalLM or Qwen2ForCausalLM",
    ],
    [
      { ...llama, architectures: ['toString'] },
      RangeError,
      "architectures is ['toString'], expected NemotronHForCausalLM, LlamaForCausalLM or Qwen2ForCausalLM",
    ],
    [without(llama, 'architectures'), Error, 'architectures is missing, expected a list, each a string'],
    [without(nemotronH, 'hidden_size'), Error, 'hidden_size is missing, expected an integer >= 1'],
    [
      without(nemotronH, 'layer_norm_epsilon'),
      Error,
      'layer_norm_epsilon (or rms_norm_eps, norm_eps) is missing, expected a number > 0',
    ],
    [
      without(nemotronH, 'hybrid_override_pattern'),
      Error,
      'layers_block_type (or layer_types, hybrid_override_pattern) is missing, expected a string or a list, each a string',
    ],
    [
      { ...nemotronH, hybrid_override_pattern: 'M-*', layer_types: ['mamba', 'mlp', 'mlp'], num_hidden_layers: 3 },
      RangeError,
      "hybrid_override_pattern is 'M-*', expected the layers that layer_types has",
    ],
    [{ ...nemotronH, hidden_size: '8' }, TypeError, "hidden_size is '8', expected an integer >= 1"],
    [{ ...nemotronH, hidden_size: 0 }, RangeError, 'hidden_size is 0, expected an integer >= 1'],
    [{ ...nemotronH, layer_norm_epsilon: 0 }, RangeError, 'layer_norm_epsilon is 0, expected a number > 0'],
    [
      { ...nemotronH, hybrid_override_pattern: 'M-X-' },
      RangeError,
      "hybrid_override_pattern has 'X' at 2, expected 'M', '*' or '-'",
    ],
    [
      { ...nemotronH, hybrid_override_pattern: 'ME*-' },
      RangeError,
      "hybrid_override_pattern has 'E' (mixture of experts) at 1, expected 'M', '*' or '-'",
    ],
    [
      { ...nemotronH, layers_block_type: ['mamba', 'moe'] },
      RangeError,
      "layers_block_type has 'moe' (mixture of experts) at 1, expected 'linear_attention', 'full_attention', 'mlp', 'mamba' or 'attention'",
    ],
    [
      { ...nemotronH, hybrid_override_pattern: '' },
      RangeError,
      "hybrid_override_pattern is '', expected at least one layer",
    ],
    [
      { ...nemotronH, num_hidden_layers: 5 },
      RangeError,
      'num_hidden_layers is 5, expected 4, the length of hybrid_override_pattern',
    ],
    [{ ...nemotronH, n_groups: 3 }, RangeError, 'n_groups is 3, expected a divisor of mamba_num_heads, 4'],
    [
      { ...nemotronH, num_key_value_heads: 3 },
      RangeError,
      'num_key_value_heads is 3, expected a divisor of num_attention_heads, 4',
    ],
    [
      { ...llama, num_attention_heads: 6, num_key_value_heads: 2 },
      RangeError,
      'num_attention_heads is 6, expected a divisor of hidden_size, 8',
    ],
    [
      { ...nemotronH, time_step_limit: [0.1, 0] },
      RangeError,
      'time_step_limit is [0.1,0], expected [min, max] with 0 <= min <= max',
    ],
    [
      { ...nemotronH, time_step_limit: [0, Number.NaN] },
      RangeError,
      'time_step_limit is [0,NaN], expected [min, max] with 0 <= min <= max',
    ],
    ...['use_bias', 'attention_bias', 'mlp_bias', 'mamba_proj_bias'].map((key): [Json, ErrorConstructor, string] => [
      { ...nemotronH, [key]: true },
      RangeError,
      `${key} is true, expected false`,
    ]),
    [{ ...nemotronH, sliding_window: 4096 }, RangeError, 'sliding_window is 4096, expected null'],
    [{ ...nemotronH, mlp_hidden_act: 'gelu' }, RangeError, "mlp_hidden_act is 'gelu', expected 'relu2'"],
    [{ ...nemotronH, mamba_hidden_act: 'gelu' }, RangeError, "mamba_hidden_act is 'gelu', expected 'silu'"],
    [{ ...nemotronH, use_conv_bias: 'yes' }, TypeError, "use_conv_bias is 'yes', expected true or false"],
    [
      { ...nemotronH, torch_dtype: 'float8' },
      RangeError,
      "torch_dtype is 'float8', expected 'float32', 'float16' or 'bfloat16'",
    ],
    [
      { ...nemotronH, eos_token_id: -2 },
      RangeError,
      'eos_token_id is -2, expected an integer >= 0 or a list, each an integer >= 0',
    ],
    [
      { ...nemotronH, quantization_config: { quant_method: 'gptq' } },
      RangeError,
      "quantization_config.quant_method is 'gptq', expected 'modelopt'",
    ],
    [
      { ...nemotronH, quantization_config: { quant_method: 'modelopt', quant_algo: 'NVFP4' } },
      RangeError,
      "quantization_config.quant_algo is 'NVFP4', expected 'FP8'",
    ],
    [{ ...llama, hidden_act: 'gelu' }, RangeError, "hidden_act is 'gelu', expected 'silu'"],
    [{ ...llama, attention_bias: true }, RangeError, 'attention_bias is true, expected false'],
    [{ ...llama, mlp_bias: true }, RangeError, 'mlp_bias is true, expected false'],
    [
      { ...llama, rope_scaling: { rope_type: 'yarn', factor: 4 } },
      RangeError,
      "rope_scaling.rope_type is 'yarn', expected 'default' or 'llama3'",
    ],
    [
      { ...llama, rope_scaling: { type: 'linear', factor: 2 } },
      RangeError,
      "rope_scaling.type is 'linear', expected 'default' or 'llama3'",
    ],
    [
      { ...llama, rope_scaling: { rope_type: 'llama3', low_freq_factor: 1 } },
      Error,
      'rope_scaling.factor is missing, expected a number > 0',
    ],
    [
      { ...llama, rope_scaling: { rope_type: 'llama3', factor: 8, low_freq_factor: 4, high_freq_factor: 4 } },
      RangeError,
      'rope_scaling.high_freq_factor is 4, expected a number > 4',
    ],
    [{ ...llama, rope_parameters: 'x' }, TypeError, "rope_parameters is 'x', expected an object"],
    [{ ...llama, partial_rotary_factor: 0.5 }, RangeError, 'partial_rotary_factor is 0.5, expected 1'],
    [
      { ...llama, rope_parameters: { partial_rotary_factor: 0.5 } },
      RangeError,
      'rope_parameters.partial_rotary_factor is 0.5, expected 1',
    ],
    [{ ...qwen2, use_sliding_window: true }, RangeError, 'use_sliding_window is true, expected false'],
    [{ ...qwen2, use_mrope: true }, RangeError, 'use_mrope is true, expected false'],
    [
      { ...qwen2, layer_types: ['full_attention', 'sliding_attention'] },
      RangeError,
      "layer_types is ['full_attention','sliding_attention'], expected 'full_attention' in each place",
    ],
  ]
  test.each(cases.map(([json, Fault, message]) => ({ json, Fault, message })))(
    '$message',
    ({ json, Fault, message }) => {
      expect(() => read(json)).toThrow(new Fault(`config.json: ${message}`))
    },
  )

  test('any value under any key: a Config or an error that names the file', () => {
    const keys = fc.constantFrom(...Object.keys(nemotronH), 'time_step_limit', 'quantization_config')
    fc.assert(
      fc.property(keys, fc.jsonValue(), (key, value) => {
        try {
          read({ ...nemotronH, [key]: value })
        } catch (error) {
          expect((error as Error).message).toMatch(/^config\.json: .*expected/)
        }
      }),
    )
  })
})
