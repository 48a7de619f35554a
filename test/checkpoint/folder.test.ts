// Whole model folders: single and sharded files, generation_config.json, names, and what is missing or wrong.
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import { openCheckpoint } from '../../dist/checkpoint/folder.js'
import { type TensorData, writeSafetensors } from '../../dist/checkpoint/safetensors.js'
import { type Json, llama, nemotronH, qwen2, tensorsOf, test, writeModel, zeros } from './fixtures.ts'

const renamed = (tensors: Record<string, TensorData>, rename: (name: string) => string) =>
  Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [rename(name), tensor]))

const index = 'model.safetensors.index.json'

/** Writes the tensors of `json` alternately into two shards; gives the weight map, already written. */
async function writeShards(folder: string, json: Json): Promise<Record<string, string>> {
  await writeFile(join(folder, 'config.json'), JSON.stringify(json))
  const entries = Object.entries(tensorsOf(json))
  const weightMap = Object.fromEntries(
    entries.map(([name], i) => [name, `model-0000${(i % 2) + 1}-of-00002.safetensors`]),
  )
  for (const shard of new Set(Object.values(weightMap))) {
    const part = entries.filter(([name]) => weightMap[name] === shard)
    await writeSafetensors(join(folder, shard), Object.fromEntries(part))
  }
  await writeFile(join(folder, index), JSON.stringify({ metadata: { total_size: 1 }, weight_map: weightMap }))
  return weightMap
}

describe('opens', () => {
  test('the demo model', async () => {
    const { config, generation, tensors } = await openCheckpoint('demo/model')
    expect(config.layers).toHaveLength(9)
    expect(config.mamba?.timeStepLimit).toEqual([0, Infinity])
    expect(generation).toEqual({ eosIds: [2], doSample: false })
    expect(tensors.get('layers.0.mixer.in_proj.weight')).toEqual({
      file: 'demo/model/model.safetensors',
      dtype: 'BF16',
      shape: [1296, 256],
      start: expect.any(Number),
      end: expect.any(Number),
      role: 'matrix',
    })
  })

  test('every checkpoint in test/golden, written by transformers', async () => {
    const folders = (await readdir('test/golden', { withFileTypes: true })).filter((entry) => entry.isDirectory())
    const families = await Promise.all(
      folders.map(async ({ name }) => (await openCheckpoint(join('test/golden', name))).config.family),
    )
    expect(new Set(families)).toEqual(new Set(['nemotron_h', 'llama', 'qwen2']))
  })

  test('Nemotron-H under either prefix and either set of words', async ({ folder }) => {
    await writeModel(folder, nemotronH)
    const names = [...(await openCheckpoint(folder)).tensors.keys()]
    expect(names).toEqual([
      'embeddings.weight',
      'norm_f.weight',
      'lm_head.weight',
      'layers.0.norm.weight',
      'layers.0.mixer.in_proj.weight',
      'layers.0.mixer.conv1d.weight',
      'layers.0.mixer.conv1d.bias',
      'layers.0.mixer.dt_bias',
      'layers.0.mixer.A_log',
      'layers.0.mixer.D',
      'layers.0.mixer.norm.weight',
      'layers.0.mixer.out_proj.weight',
      'layers.1.norm.weight',
      'layers.1.mixer.up_proj.weight',
      'layers.1.mixer.down_proj.weight',
      'layers.2.norm.weight',
      'layers.2.mixer.q_proj.weight',
      'layers.2.mixer.k_proj.weight',
      'layers.2.mixer.v_proj.weight',
      'layers.2.mixer.o_proj.weight',
      'layers.3.norm.weight',
      'layers.3.mixer.up_proj.weight',
      'layers.3.mixer.down_proj.weight',
    ])
    const others = renamed(tensorsOf(nemotronH), (name) =>
      name.replace('backbone.', 'model.').replace('embeddings', 'embed_tokens').replace('norm_f', 'norm'),
    )
    expect(Object.keys(others)).toContain('model.norm.weight')
    await writeModel(folder, nemotronH, others)
    expect([...(await openCheckpoint(folder)).tensors.keys()]).toEqual(names)
  })

  test('a Transformer block as two layers', async ({ folder }) => {
    const block = (i: number) => ({
      [`model.layers.${i}.input_layernorm.weight`]: zeros('F16', [8]),
      [`model.layers.${i}.self_attn.q_proj.weight`]: zeros('F16', [8, 8]),
      [`model.layers.${i}.self_attn.q_proj.bias`]: zeros('F16', [8]),
      [`model.layers.${i}.self_attn.k_proj.weight`]: zeros('F16', [4, 8]),
      [`model.layers.${i}.self_attn.k_proj.bias`]: zeros('F16', [4]),
      [`model.layers.${i}.self_attn.v_proj.weight`]: zeros('F16', [4, 8]),
      [`model.layers.${i}.self_attn.v_proj.bias`]: zeros('F16', [4]),
      [`model.layers.${i}.self_attn.o_proj.weight`]: zeros('F16', [8, 8]),
      [`model.layers.${i}.self_attn.rotary_emb.inv_freq`]: zeros('F32', [1]),
      [`model.layers.${i}.post_attention_layernorm.weight`]: zeros('F16', [8]),
      [`model.layers.${i}.mlp.gate_proj.weight`]: zeros('F16', [24, 8]),
      [`model.layers.${i}.mlp.up_proj.weight`]: zeros('F16', [24, 8]),
      [`model.layers.${i}.mlp.down_proj.weight`]: zeros('F16', [8, 24]),
    })
    const tensors = {
      'model.embed_tokens.weight': zeros('F16', [32, 8]),
      ...block(0),
      ...block(1),
      'model.norm.weight': zeros('F16', [8]),
    }
    await writeModel(folder, { ...qwen2, tie_word_embeddings: true }, tensors)
    const checkpoint = await openCheckpoint(folder)
    expect([...checkpoint.tensors.keys()]).toContain('layers.3.mixer.gate_proj.weight')
    expect(checkpoint.tensors.size).toBe(Object.keys(tensors).length - 2)
    expect(checkpoint.tensors.get('layers.2.mixer.q_proj.bias')).toMatchObject({ dtype: 'F16', role: 'vector' })
    expect(checkpoint.tensors.get('embeddings.weight')).toMatchObject({ role: 'embedding' })

    // A tied model may store its head all the same.
    const head = { ...tensors, 'lm_head.weight': zeros('F16', [32, 8]) }
    await writeModel(folder, { ...qwen2, tie_word_embeddings: true }, head)
    expect((await openCheckpoint(folder)).tensors.has('lm_head.weight')).toBe(false)
    await writeModel(folder, qwen2, head)
    expect((await openCheckpoint(folder)).tensors.get('lm_head.weight')).toMatchObject({ role: 'embedding' })
  })

  test('a config.json with a byte order mark', async ({ folder }) => {
    await writeModel(folder, llama)
    const { config } = await openCheckpoint(folder)
    await writeFile(join(folder, 'config.json'), `\ufeff${JSON.stringify(llama)}`)
    expect((await openCheckpoint(folder)).config).toEqual(config)
  })

  test('shards', async ({ folder }) => {
    const weightMap = await writeShards(folder, llama)
    const { tensors } = await openCheckpoint(folder)
    expect(tensors.get('layers.2.mixer.q_proj.weight')?.file).toBe(
      join(folder, weightMap['model.layers.1.self_attn.q_proj.weight']!),
    )
    expect(new Set(Array.from(tensors.values(), ({ file }) => file)).size).toBe(2)
  })

  test('FP8 with and without a scale', async ({ folder }) => {
    const up = 'backbone.layers.1.mixer.up_proj'
    const down = 'backbone.layers.1.mixer.down_proj'
    await writeModel(folder, nemotronH, {
      ...tensorsOf(nemotronH),
      [`${up}.weight`]: zeros('F8_E4M3', [24, 8]),
      [`${up}.weight_scale`]: zeros('F32', []),
      [`${up}.input_scale`]: zeros('F32', []),
      [`${down}.weight`]: zeros('F8_E4M3', [8, 24]),
      'backbone.layers.2.mixer.k_proj.k_scale': zeros('F32', []),
    })
    const { tensors } = await openCheckpoint(folder)
    expect(tensors.get('layers.1.mixer.up_proj.weight')).toMatchObject({ dtype: 'F8_E4M3', scale: { dtype: 'F32' } })
    expect(tensors.get('layers.1.mixer.down_proj.weight')).not.toHaveProperty('scale')
    expect(tensors.get('layers.2.mixer.k_proj.k_scale')).toMatchObject({ dtype: 'F32', role: 'vector' })
    expect(tensors.has('layers.2.mixer.v_proj.v_scale')).toBe(false)
  })

  test('the sampling defaults of generation_config.json', async ({ folder }) => {
    await writeModel(folder, llama)
    expect((await openCheckpoint(folder)).generation).toEqual({ eosIds: [2, 3], doSample: false })
    const generation = {
      eos_token_id: 9,
      do_sample: true,
      temperature: 0.6,
      top_p: 0.95,
      top_k: 20,
      min_p: null,
      repetition_penalty: 1.05,
    }
    await writeFile(join(folder, 'generation_config.json'), JSON.stringify(generation))
    expect((await openCheckpoint(folder)).generation).toEqual({
      eosIds: [9],
      doSample: true,
      temperature: 0.6,
      topP: 0.95,
      topK: 20,
      repetitionPenalty: 1.05,
    })
    await writeFile(join(folder, 'generation_config.json'), '{"top_p": 2}')
    await expect(openCheckpoint(folder)).rejects.toThrow(
      new RangeError(`${folder}/generation_config.json: top_p is 2, expected a number > 0 and <= 1 in f32`),
    )
  })

  test('nothing once aborted', async ({ folder }) => {
    await writeModel(folder, nemotronH)
    await expect(openCheckpoint(folder, { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough')
  })
})

describe('refuses a folder', () => {
  test('that is not there', async ({ folder }) => {
    await expect(openCheckpoint(`${folder}/none`)).rejects.toThrow(
      new Error(`${folder}/none: folder is missing, expected a local model folder`),
    )
    await expect(openCheckpoint('nvidia/Nemotron-H-8B-Base-8K')).rejects.toThrow(
      new Error(
        'nvidia/Nemotron-H-8B-Base-8K: folder is missing, expected a local model folder (models are read from local folders; for one on the Hugging Face Hub: hf download nvidia/Nemotron-H-8B-Base-8K --local-dir DIR)',
      ),
    )
    await expect(openCheckpoint('package.json')).rejects.toThrow(
      new Error('package.json: is a file, expected a model folder'),
    )
  })

  test('without its files', async ({ folder }) => {
    await expect(openCheckpoint(folder)).rejects.toThrow(
      new Error(`${folder}/config.json: file is missing, expected the model's configuration`),
    )
    await writeFile(join(folder, 'config.json'), JSON.stringify(llama))
    await expect(openCheckpoint(folder)).rejects.toThrow(
      new Error(`${folder}: weights are missing, expected model.safetensors or ${index}`),
    )
  })

  test('whose config.json is not an object', async ({ folder }) => {
    await writeFile(join(folder, 'config.json'), '[1]')
    await expect(openCheckpoint(folder)).rejects.toThrow(
      new TypeError(`${folder}/config.json: content is [1], expected an object`),
    )
    await writeFile(join(folder, 'config.json'), '{"a":')
    await expect(openCheckpoint(folder)).rejects.toThrow(
      /config\.json: content is not JSON, expected an object: Unexpected end of JSON input$/,
    )
  })

  test('whose index and shards disagree', async ({ folder }) => {
    const weightMap = await writeShards(folder, llama)
    const write = (map: unknown) => writeFile(join(folder, index), JSON.stringify({ weight_map: map }))
    const [first, second] = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
    const name = 'model.embed_tokens.weight' // in the first

    await write({ ...weightMap, [name]: second })
    await expect(openCheckpoint(folder)).rejects.toThrow(
      new Error(`${folder}/${first}: holds ${name}, expected it in ${second} as ${index} says`),
    )
    const { [name]: _, ...less } = weightMap
    await write(less)
    await expect(openCheckpoint(folder)).rejects.toThrow(
      new Error(`${folder}/${first}: holds ${name}, expected it in no shard as ${index} says`),
    )
    await write({ ...weightMap, 'model.more.weight': second })
    await expect(openCheckpoint(folder)).rejects.toThrow(
      new Error(`${folder}/${second}: model.more.weight is missing, expected it as ${index} says`),
    )
    for (const elsewhere of ['../x.safetensors', '..', '.', '']) {
      await write({ ...weightMap, [name]: elsewhere })
      await expect(openCheckpoint(folder)).rejects.toThrow(
        new RangeError(`${folder}/${index}: weight_map.${name} is '${elsewhere}', expected a file name`),
      )
    }
    await write(null)
    await expect(openCheckpoint(folder)).rejects.toThrow(
      new Error(`${folder}/${index}: weight_map is missing, expected an object`),
    )
    await write(weightMap)
    await rm(join(folder, second))
    await expect(openCheckpoint(folder)).rejects.toThrow(
      new Error(`${folder}/${second}: file is missing, expected the shard that ${index} names`),
    )
    await mkdir(join(folder, second))
    await expect(openCheckpoint(folder)).rejects.toThrow(
      new TypeError(`${folder}/${second}: is not a file, expected safetensors`),
    )
  })
})

describe('refuses tensors', () => {
  const inProj = 'backbone.layers.0.mixer.in_proj.weight'
  const upScale = 'backbone.layers.1.mixer.up_proj.weight_scale'
  const good = tensorsOf(nemotronH)
  const without = (name: string) => Object.fromEntries(Object.entries(good).filter(([key]) => key !== name))
  const cases: [string, Record<string, TensorData>, string][] = [
    ['missing', without(inProj), `${inProj} is missing, expected [84,8]`],
    [
      'missing under the prefix of the rest',
      renamed(without(inProj), (name) => name.replace('backbone.', 'model.')),
      'model.layers.0.mixer.in_proj.weight is missing, expected [84,8]',
    ],
    ['unexpected', { ...good, 'backbone.more': zeros('F32', [1]) }, 'backbone.more is unexpected'],
    ['in two spellings', { ...good, 'model.norm_f.weight': zeros('F32', [8]) }, 'model.norm_f.weight is unexpected'],
    ['of another shape', { ...good, [inProj]: zeros('BF16', [4, 5]) }, `${inProj} is [4,5], expected [84,8]`],
    ['of as many elements', { ...good, [inProj]: zeros('BF16', [8, 84]) }, `${inProj} is [8,84], expected [84,8]`],
    [
      'of another dtype',
      { ...good, [inProj]: zeros('I8', [84, 8]) },
      `${inProj} is I8, expected F32, F16, BF16 or F8_E4M3`,
    ],
    [
      'of fp8 where no recipe has it',
      { ...good, 'lm_head.weight': zeros('F8_E4M3', [32, 8]) },
      'lm_head.weight is F8_E4M3, expected F32, F16 or BF16',
    ],
    [
      'with a scale for each row',
      { ...good, 'backbone.layers.1.mixer.up_proj.weight': zeros('F8_E4M3', [24, 8]), [upScale]: zeros('F32', [24]) },
      `${upScale} is F32 [24], expected one F32`,
    ],
    [
      'with a scale for each key head',
      { ...good, 'backbone.layers.2.mixer.v_proj.v_scale': zeros('F32', [2]) },
      'backbone.layers.2.mixer.v_proj.v_scale is F32 [2], expected one number in F32, F16 or BF16',
    ],
    ['with a scale beside bf16', { ...good, [upScale]: zeros('F32', []) }, `${upScale} is unexpected`],
  ]
  test.for(cases)('%s', async ([, tensors, problem], { folder }) => {
    await writeModel(folder, nemotronH, tensors)
    await expect(openCheckpoint(folder)).rejects.toThrow(new Error(`${folder}: ${problem}`))
  })

  test('all at once', async ({ folder }) => {
    await writeModel(folder, nemotronH, { [inProj]: zeros('BF16', [4, 5]), a: zeros('F32', []) })
    await expect(openCheckpoint(folder)).rejects.toThrow(
      new Error(`${folder}: 24 tensors do not fit config.json
  backbone.embeddings.weight is missing, expected [32,8]
  backbone.norm_f.weight is missing, expected [8]
  lm_head.weight is missing, expected [32,8]
  backbone.layers.0.norm.weight is missing, expected [8]
  backbone.layers.0.mixer.in_proj.weight is [4,5], expected [84,8]
  backbone.layers.0.mixer.conv1d.weight is missing, expected [56,1,4]
  backbone.layers.0.mixer.conv1d.bias is missing, expected [56]
  backbone.layers.0.mixer.dt_bias is missing, expected [4]
  backbone.layers.0.mixer.A_log is missing, expected [4]
  backbone.layers.0.mixer.D is missing, expected [4]
  and 14 more`),
    )
  })
})
