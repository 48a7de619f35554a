// Tiny model folders, written into a temporary folder that the test owns and that is removed after it.

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test as base } from 'vitest'
import { parseConfig } from '../../dist/checkpoint/config-json.js'
import { JsonFields } from '../../dist/checkpoint/json.js'
import { tensorSpecs } from '../../dist/checkpoint/names.js'
import { dtypeBytes, type StoredDtype, type TensorData, writeSafetensors } from '../../dist/checkpoint/safetensors.js'

export const test = base.extend<{ folder: string }>({
  // biome-ignore lint/correctness/noEmptyPattern: vitest reads a fixture's needs from this pattern
  folder: async ({}, use) => {
    const folder = await mkdtemp(join(tmpdir(), 'nemotron-h-'))
    await use(folder)
    await rm(folder, { recursive: true })
  },
})

export type Json = Record<string, unknown>

export const nemotronH: Json = {
  architectures: ['NemotronHForCausalLM'],
  model_type: 'nemotron_h',
  hybrid_override_pattern: 'M-*-',
  num_hidden_layers: 4,
  vocab_size: 32,
  hidden_size: 8,
  intermediate_size: 24,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  attention_head_dim: 4,
  mamba_num_heads: 4,
  mamba_head_dim: 6,
  n_groups: 2,
  ssm_state_size: 8,
  conv_kernel: 4,
  chunk_size: 16,
  expand: 2,
  layer_norm_epsilon: 1e-5,
  max_position_embeddings: 128,
  bos_token_id: 1,
  eos_token_id: 2,
  pad_token_id: 0,
  torch_dtype: 'bfloat16',
}

export const llama: Json = {
  architectures: ['LlamaForCausalLM'],
  vocab_size: 32,
  hidden_size: 8,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-6,
  max_position_embeddings: 128,
  bos_token_id: 1,
  eos_token_id: [2, 3],
  torch_dtype: 'float32',
}

export const qwen2: Json = {
  ...llama,
  architectures: ['Qwen2ForCausalLM'],
  rope_theta: 1e6,
  use_sliding_window: false,
  sliding_window: 4096,
  max_window_layers: 2,
}

export const read = (json: Json) => parseConfig(new JsonFields('config.json', json))

export function zeros(dtype: StoredDtype, shape: readonly number[]): TensorData {
  return { dtype, shape, data: new Uint8Array(shape.reduce((a, b) => a * b, dtypeBytes[dtype])) }
}

/** Every tensor that a model of this config.json wants, under its first spelling. */
export function tensorsOf(json: Json, dtype: StoredDtype = 'BF16'): Record<string, TensorData> {
  return Object.fromEntries(tensorSpecs(read(json)).map(({ spellings, shape }) => [spellings[0]!, zeros(dtype, shape)]))
}

export async function writeModel(folder: string, json: Json, tensors = tensorsOf(json)): Promise<void> {
  await writeFile(join(folder, 'config.json'), JSON.stringify(json))
  await writeSafetensors(join(folder, 'model.safetensors'), tensors)
}
