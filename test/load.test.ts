// load(): what it reports and holds on the way, the formats of weights, and everything it refuses. Whatever
// happens, nothing of it stays.
import { open, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { binding } from '../dist/binding.js'
import { openCheckpoint } from '../dist/checkpoint/folder.js'
import { readHeader, type TensorData, writeSafetensors } from '../dist/checkpoint/safetensors.js'
import { loadWeights, type WeightOptions } from '../dist/checkpoint/weights.js'
import { type Device, type LoadOptions, type Model, ops, presets, scope, type Tensor, tensor } from '../dist/index.js'
import { sizesFor } from '../dist/load.js'
import { planMemory } from '../dist/plan.js'
import { collect, demoExpected, demoFolder, folderLike, goldenFolder, load } from './demo.js'
import { device, memory, missing } from './device.ts'
import { expectNoThreads } from './text/folders.js'

const [genesis] = demoExpected
const tiny = goldenFolder('nemotron-h-hybrid')

afterEach(async () => {
  vi.restoreAllMocks()
  expect(memory().used).toBe(0)
  await expectNoThreads()
})

/** The logits of every token of `ids`. */
async function logitsOf(model: Model, ids: number[]): Promise<Float32Array> {
  const [logits] = await model.forward([ids])
  using first = logits!
  return await first.read()
}

describe('on the way', () => {
  test('progress rises to the bytes of all tensors', async () => {
    const seen: { loaded: number; total: number }[] = []
    using model = await load(demoFolder, { onProgress: (progress) => seen.push(progress) })
    const { bytes, dataStart, tensors } = await readHeader(join(demoFolder, 'model.safetensors'))
    expect(seen).toHaveLength(tensors.size)
    expect(new Set(seen.map(({ total }) => total))).toEqual(new Set([bytes - dataStart]))
    expect(seen.at(-1)!.loaded).toBe(bytes - dataStart)
    seen.reduce((before, { loaded }) => {
      expect(loaded).toBeGreaterThan(before)
      return loaded
    }, 0)
    expect(model.config.layers).toHaveLength(9)
  })

  test('an AbortSignal: before, and between two tensors', async () => {
    const reason = new Error('enough')
    await expect(load(demoFolder, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    const controller = new AbortController()
    let calls = 0
    const onProgress = () => {
      if (++calls === 10) controller.abort(reason)
    }
    await expect(load(demoFolder, { signal: controller.signal, onProgress })).rejects.toBe(reason)
    expect(calls).toBe(10)
  })

  test('an error of onProgress ends the loading', async () => {
    const onProgress = () => {
      throw new Error('mine')
    }
    await expect(load(demoFolder, { onProgress })).rejects.toThrow('mine')
  })

  // Everything of a matrix's size is made by these calls, so the most that is held is held after one of them.
  test.each([undefined, 'f32', 'bf16', 'fp8'] as const)(
    'weights %s: memory peaks at one tensor more',
    async (format) => {
      let peak = 0
      const watch = <A extends unknown[], R>(f: (...args: A) => R) => {
        return (...args: A): R => {
          const result = f(...args)
          peak = Math.max(peak, memory().used)
          return result
        }
      }
      for (const name of ['cast', 'quantize'] as const) {
        const op = ops[name] as (...args: unknown[]) => never
        vi.spyOn(ops, name).mockImplementation(watch(op))
      }
      const { MappedFile } = binding
      class Watched {
        constructor(path: string) {
          const file = new MappedFile(path)
          Object.assign(this, { tensor: watch(file.tensor.bind(file)), close: () => file.close() })
        }
      }
      vi.spyOn(binding, 'MappedFile').mockImplementation(Watched as never)

      const checkpoint = await openCheckpoint(demoFolder)
      const weights = await loadWeights(checkpoint, { device, format, bf16Gemms: 4, activations: 'row' })
      const { used } = memory()
      weights.dispose()
      const largest = Math.max(...Array.from(checkpoint.tensors.values(), ({ start, end }) => end - start))
      expect(peak).toBeGreaterThan(0)
      // Blocks are up to an eighth larger than what is asked for.
      expect(peak).toBeLessThan(used + (9 / 8) * largest + 1024)
    },
  )
})

describe('weights', () => {
  async function formats(folder: string, options: Partial<WeightOptions>): Promise<Map<string, string>> {
    const checkpoint = await openCheckpoint(folder)
    const weights = await loadWeights(checkpoint, { device, bf16Gemms: 4, activations: 'row', ...options })
    try {
      for (const [name, { weight, scale }] of weights.matrices) {
        expect([name, scale?.shape]).toEqual([name, weight.dtype === 'e4m3' ? [1] : undefined])
      }
      return new Map(Array.from(weights.matrices, ([name, { weight }]) => [name, weight.dtype]))
    } finally {
      weights.dispose()
    }
  }

  test.each([
    [undefined, 'bf16'],
    ['bf16', 'bf16'],
    ['f32', 'f32'],
  ] as const)('%s: every matrix is %s', async (format, dtype) => {
    expect(new Set((await formats(demoFolder, { format })).values())).toEqual(new Set([dtype]))
  })

  // The demo model's products in order: in, out | up, down | in, out | up, down | in, out | qkv, o | up, down | ...
  const gemms = [
    ...['0.mixer.in_proj', '0.mixer.out_proj', '1.mixer.up_proj', '1.mixer.down_proj', '2.mixer.in_proj'],
    ...['2.mixer.out_proj', '3.mixer.up_proj', '3.mixer.down_proj', '4.mixer.in_proj', '4.mixer.out_proj'],
    ...['5.mixer.q_proj', '5.mixer.k_proj', '5.mixer.v_proj', '5.mixer.o_proj', '6.mixer.up_proj'],
    ...['6.mixer.down_proj', '7.mixer.in_proj', '7.mixer.out_proj', '8.mixer.up_proj', '8.mixer.down_proj'],
  ]
  test.each([
    [0, 0, 20],
    [4, 4, 16], // as published
    [7, 7, 13],
    [8, 8, 10], // q, k and v are the eighth product from the end
    [9, 9, 9],
    [100, 20, 0],
  ])('fp8 but for %i products at each end', async (bf16Gemms, first, last) => {
    const got = await formats(demoFolder, { format: 'fp8', bf16Gemms })
    const want = gemms.map((name, i) => [`layers.${name}.weight`, i < first || i >= last ? 'bf16' : 'e4m3'])
    expect(got).toEqual(new Map([['embeddings.weight', 'bf16'], ['lm_head.weight', 'bf16'], ...want] as never))
  })

  test('generating with each', async () => {
    for (const weights of ['f32', 'bf16'] as const) {
      using model = await load(demoFolder, { weights })
      expect((await collect(model.generate(genesis.ids, { maxTokens: 40 }))).ids).toEqual(genesis.greedy)
    }
    for (const activationScaling of ['row', 'tensor', 'none'] as const) {
      using model = await load(demoFolder, { weights: 'fp8', activationScaling })
      // The first token leads by a factor of three; fp8 does not turn that over.
      expect((await collect(model.generate(genesis.ids, { maxTokens: 1 }))).ids).toEqual(genesis.greedy.slice(0, 1))
    }
  })

  /** The tiny model with its matrices in E4M3: as stored, and the same values in BF16. */
  async function fp8Folders(scaled: boolean) {
    const path = join(tiny, 'model.safetensors')
    const { tensors } = await readHeader(path)
    const file = await readFile(path)
    const stored: Record<string, TensorData> = {}
    const wide: Record<string, TensorData> = {}
    for (const [name, { dtype, shape, start, end }] of tensors) {
      const data = file.subarray(start, end)
      stored[name] = wide[name] = { dtype, shape, data }
      if (shape.length !== 2 || !name.includes('mixer')) continue
      const made = scope(() => {
        const values = tensor(Uint8Array.from(data), dtype === 'F32' ? 'f32' : 'bf16', shape)
        const one = tensor(Float32Array.of(448), 'f32', [1]) // amax 448 is scale 1
        const [weight, scale] = ops.quantize(values, scaled ? ops.amax(values) : one, 'e4m3')
        return { weight, scale, back: ops.dequantize(weight, scale, 'bf16') }
      })
      stored[name] = { dtype: 'F8_E4M3', shape, data: await made.weight.readBytes() }
      if (scaled) stored[`${name}_scale`] = { dtype: 'F32', shape: [], data: await made.scale.readBytes() }
      wide[name] = { dtype: 'BF16', shape, data: await made.back.readBytes() }
      for (const t of Object.values(made) as Tensor[]) t.dispose()
    }
    const folders = [stored, wide].map(() => folderLike(tiny, { 'model.safetensors': undefined }))
    await writeSafetensors(join(folders[0]!, 'model.safetensors'), stored)
    await writeSafetensors(join(folders[1]!, 'model.safetensors'), wide)
    return { fp8: folders[0]!, bf16: folders[1]!, stored }
  }
  const ids = [1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41]

  test.each([
    ['with scales', true],
    ['without: 1', false],
  ])('stored in FP8, %s', async (_, scaled) => {
    const { fp8, bf16 } = await fp8Folders(scaled)
    using wide = await load(bf16, { weights: 'bf16' })
    using same = await load(fp8, { weights: 'bf16' })
    const want = await logitsOf(wide, ids)
    expect(await logitsOf(same, ids)).toEqual(want)

    expect(new Set((await formats(fp8, {})).values())).toEqual(new Set(['e4m3', 'f32']))
    using asStored = await load(fp8, { activationScaling: 'none' })
    // The same products but for the rounding of each dequantised weight to bf16: 2^-9 of it, over a few layers.
    const got = await logitsOf(asStored, ids)
    const size = Math.max(...want.map(Math.abs))
    got.forEach((value, i) => {
      expect(Math.abs(value - want[i]!)).toBeLessThan(size * 2 ** -6)
    })
  })

  test.each([Number.NaN, 0, -1, Infinity])('a scale of %d is refused', async (scale) => {
    const { fp8, stored } = await fp8Folders(true)
    const name = Object.keys(stored).find((key) => key.endsWith('in_proj.weight_scale'))!
    const path = join(fp8, 'model.safetensors')
    await writeSafetensors(path, { ...stored, [name]: { dtype: 'F32', shape: [], data: bytesOf(scale) } })
    const short = name.replace(/^\w+\./, '')
    await expect(load(fp8)).rejects.toThrow(new RangeError(`${path}: ${short} is ${scale}, expected a positive number`))
  })
  const bytesOf = (value: number) => new Uint8Array(Float32Array.of(value).buffer)
})

describe('keys and values in fp8', () => {
  const folder = goldenFolder('llama-tied')
  const ids = [1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41]

  /** The llama with tensors beside its own, or in their place. */
  async function llamaWith(others: Record<string, (elements: number) => number[]>) {
    const path = join(folder, 'model.safetensors')
    const [{ tensors }, file] = [await readHeader(path), await readFile(path)]
    const all: Record<string, TensorData> = {}
    for (const [name, { dtype, shape, start, end }] of tensors) {
      all[name] = { dtype, shape, data: file.subarray(start, end) }
    }
    for (const [name, values] of Object.entries(others)) {
      const shape = all[name]?.shape ?? []
      const data = Float32Array.from(values(shape.reduce((n, size) => n * size, 1)))
      all[name] = { dtype: 'F32', shape, data: new Uint8Array(data.buffer) }
    }
    const changed = folderLike(folder, { 'model.safetensors': undefined })
    await writeSafetensors(join(changed, 'model.safetensors'), all)
    return changed
  }
  const layers = [0, 1].map((i) => `model.layers.${i}.self_attn`)
  const each = (name: string, values: (elements: number) => number[]) =>
    Object.fromEntries(layers.map((layer) => [`${layer}.${name}`, values]))
  const logits = async (path: string) => {
    using model = await load(path, { kvCache: 'fp8' })
    return await logitsOf(model, ids)
  }
  const zeros = (elements: number) => Array<number>(elements).fill(0)

  test('generating', async () => {
    using model = await load(demoFolder, { kvCache: 'fp8' })
    expect((await collect(model.generate(genesis.ids, { maxTokens: 1 }))).ids).toEqual(genesis.greedy.slice(0, 1))
  })

  // So large a scale leaves nothing: all keys are equal, or all values 0.
  test.each([
    ['k_proj.k_scale', 'q_proj.weight'],
    ['v_proj.v_scale', 'o_proj.weight'],
  ])('with the %s of the checkpoint', async (scale, matrix) => {
    const [without, scaled] = [await logits(folder), await logits(await llamaWith(each(scale, () => [2 ** 40])))]
    expect(scaled).toEqual(await logits(await llamaWith(each(matrix, zeros))))
    expect(scaled).not.toEqual(without)
    expect(await logits(await llamaWith(each(scale, () => [1])))).toEqual(without)
  })

  test.each([Number.NaN, 0, -1])('a scale of %d is refused', async (value) => {
    const path = await llamaWith({ [`${layers[1]}.v_proj.v_scale`]: () => [value] })
    const name = `${join(path, 'model.safetensors')}: layers.2.mixer.v_proj.v_scale`
    await expect(load(path)).rejects.toThrow(new RangeError(`${name} is ${value}, expected a positive number`))
  })
})

describe('states in f16', () => {
  const options = { ssmState: 'f16', sequences: 2 } as const

  test('the first tokens as with f32', async () => {
    using model = await load(demoFolder, options)
    const { ids } = await collect(model.generate(genesis.ids, { maxTokens: 4 }))
    expect(ids).toEqual(genesis.greedy.slice(0, 4))
  })

  test('the same tokens again, and in a batch', async () => {
    const generated = async (model: Model) => {
      const { ids, logprobs } = await collect(model.generate(genesis.ids, { maxTokens: 24, logprobs: 1 }))
      return { ids, logprobs }
    }
    using model = await load(demoFolder, options)
    const alone = await generated(model)
    expect(await Promise.all([generated(model), generated(model)])).toEqual([alone, alone])
    using wide = await load(demoFolder, { sequences: 2 })
    expect(await generated(wide)).not.toEqual(alone)
  })
})

describe('refuses', () => {
  const options: [LoadOptions | object, ErrorConstructor, string][] = [
    [{ device: 'gpu' }, TypeError, /^device is 'gpu', expected /],
    [{ device: 0 }, TypeError, 'load: device is 0, expected a string'],
    [{ dtype: 'f16' }, RangeError, "load: dtype is 'f16', expected 'f32' or 'bf16'"],
    [{ kvCache: 'bf16' }, RangeError, "load: kvCache is 'bf16', expected 'fp8'"],
    [{ ssmState: 'bf16' }, RangeError, "load: ssmState is 'bf16', expected 'f32' or 'f16'"],
    [{ weights: 'int8' }, RangeError, "load: weights is 'int8', expected 'f32', 'bf16' or 'fp8'"],
    [{ bf16Gemms: -1 }, RangeError, 'load: bf16Gemms is -1, expected an integer >= 0'],
    [
      { activationScaling: 'column' },
      RangeError,
      "load: activationScaling is 'column', expected 'row', 'tensor' or 'none'",
    ],
    [{ context: 0 }, RangeError, 'load: context is 0, expected an integer >= 1 and <= 2147483647'],
    [{ sequences: 0 }, RangeError, 'load: sequences is 0, expected an integer >= 1 and <= 65536'],
    [{ cacheTokens: Number.NaN }, RangeError, 'load: cacheTokens is NaN, expected an integer >= 1 and <= 2147483647'],
    [{ cacheTokens: 100 }, RangeError, 'load: cacheTokens is 100, expected at least the context, 4096'],
    [{ prefillTokens: 0.5 }, RangeError, 'load: prefillTokens is 0.5, expected an integer >= 1'],
    [{ onProgress: true }, TypeError, 'load: onProgress is true, expected a function'],
    [{ signal: 1 }, TypeError, 'load: signal is 1, expected an AbortSignal'],
    [{ weight: 'fp8' }, TypeError, "load: unknown option 'weight', did you mean 'weights'?"],
    [{ maxBatch: 8 }, TypeError, /^load: unknown option 'maxBatch', /],
  ] as never
  test.each(options)('%o', async (given, Fault, message) => {
    const failure = await load(demoFolder, given as LoadOptions).catch((error) => error)
    expect(failure).toBeInstanceOf(Fault)
    expect(failure.message).toMatch(message)
  })

  test('a GPU of which there is none', async () => {
    await expect(load(demoFolder, { device: missing })).rejects.toThrow(`device ${missing}: `)
  })

  test('a folder that is not one', async () => {
    await expect(load(7 as never)).rejects.toThrow(new TypeError('load: folder is 7, expected the path of a folder'))
    await expect(load('/no/model')).rejects.toThrow('/no/model: folder is missing, expected a local model folder')
    await expect(load('nvidia/Nemotron-H-8B-Base-8K')).rejects.toThrow('hf download nvidia/Nemotron-H-8B-Base-8K')
  })

  test.each<[string, () => string, RegExp]>([
    ['no config.json', () => folderLike(tiny, { 'config.json': undefined }), /config\.json: file is missing, /],
    ['no weights', () => folderLike(tiny, { 'model.safetensors': undefined }), /: weights are missing, expected /],
    [
      'a missing shard',
      () => folderLike(goldenFolder('nemotron-h-hub'), { 'model-00002-of-00003.safetensors': undefined }),
      /model-00002-of-00003\.safetensors: file is missing, expected the shard that model\.safetensors\.index\.json names$/,
    ],
    ['an empty tokenizer.json', () => folderLike(demoFolder, { 'tokenizer.json': '' }), /tokenizer\.json is empty, /],
    [
      'a broken tokenizer.json',
      () => folderLike(demoFolder, { 'tokenizer.json': '{"model": {' }),
      /tokenizer\.json is not JSON /,
    ],
    [
      'a tokenizer.json without a model',
      () => folderLike(demoFolder, { 'tokenizer.json': {} }),
      /tokenizer\.json: model is undefined, /,
    ],
    [
      'a chat template that is none',
      () => folderLike(demoFolder, { 'tokenizer_config.json': { chat_template: 5 } }),
      /tokenizer_config\.json: chat_template is 5, /,
    ],
    [
      'a setting out of range',
      () => folderLike(demoFolder, { 'generation_config.json': { temperature: -1 } }),
      /generation_config\.json: temperature is -1, expected a number >= 0 in f32$/,
    ],
  ])('%s', async (_, folder, message) => {
    await expect(load(folder())).rejects.toThrow(message)
  })

  test('a truncated file', async () => {
    const folder = folderLike(demoFolder, { 'model.safetensors': undefined })
    const path = join(folder, 'model.safetensors')
    await writeFile(path, await readFile(join(demoFolder, 'model.safetensors')))
    await using file = await open(path, 'r+')
    await file.truncate(8_000_000)
    await expect(load(folder)).rejects.toThrow(/model\.safetensors: \S+ ends at byte \d+, expected at most 8000000, /)
  })

  test('more than there is memory: before anything is read, with what would fit', async () => {
    const progress = vi.fn()
    const failure = await load(demoFolder, { cacheTokens: 2 ** 31 - 1, onProgress: progress }).catch((error) => error)
    const [, fitting] =
      /^load: memory is \S+ GiB, expected at least \S+ GiB: \S+ GiB are missing; it fits with cacheTokens of at most ([\d,]+)$/.exec(
        failure.message,
      )!
    expect(Number(fitting!.replaceAll(',', ''))).toBeGreaterThan(4096)
    expect(progress).not.toHaveBeenCalled()
  })

  test('memory that others took meanwhile', async () => {
    const asked =
      /^load: room for 8 sequences and 2147483647 tokens of keys and values: \S+: out of memory: asked for \d+\.\d\d GiB, \d+\.\d\d GiB free; lower context, sequences or cacheTokens$/
    vi.spyOn(binding, 'memory').mockReturnValue({ used: 0, cached: 0, free: 2 ** 50 })
    // The first layers' state fits, the keys do not.
    await expect(load(demoFolder, { cacheTokens: 2 ** 31 - 1 })).rejects.toThrow(asked)
    vi.restoreAllMocks()
  })
})

describe('sizes on a GPU', () => {
  const GiB = 2 ** 30
  const config = presets['8b']
  const sizes = (free: number, options: LoadOptions, loaded = false) => {
    const gpu = { name: 'cuda:0', memory: () => ({ used: 0, cached: 0, free }) } as Device
    return sizesFor(gpu, { config, tensors: new Map() }, { weights: 'fp8', ...options }, loaded)
  }
  const total = (options: LoadOptions) => planMemory(config, { weights: 'fp8', ...options }).total

  test('by default bf16, long batches, and keys and values for all sequences', () => {
    const { dtype, prefillTokens, cacheTokens } = sizes(80 * GiB, {})
    expect({ dtype, prefillTokens, cacheTokens }).toEqual({ dtype: 'bf16', prefillTokens: 8192, cacheTokens: 8 * 8192 })
  })

  test.each([
    [40, 2, { context: 131_072, sequences: 32 }],
    [13, 0.65, { context: 65_536, sequences: 8 }],
  ])('%f GiB: keys and values fill it but for %f GiB', (free, spare, options) => {
    const { cacheTokens } = sizes(free * GiB, options)
    expect(total({ ...options, cacheTokens })).toBeLessThanOrEqual((free - spare) * GiB)
    expect(total({ ...options, cacheTokens: cacheTokens + 1 })).toBeGreaterThan((free - spare) * GiB)
  })

  test.each([
    [30, 1.5],
    [6, 0.5],
  ])('%f GiB beside weights that are there already: all but %f GiB', (free, spare) => {
    const options = { context: 131_072, sequences: 16, ssmState: 'f16' } as const
    const { weights } = planMemory(config, { weights: 'fp8' })
    const { cacheTokens } = sizes(free * GiB, options, true)
    expect(total({ ...options, cacheTokens }) - weights).toBeLessThanOrEqual((free - spare) * GiB)
    expect(total({ ...options, cacheTokens: cacheTokens + 1 }) - weights).toBeGreaterThan((free - spare) * GiB)
  })

  test('one context is enough, where the spare memory is not; what is given is kept; what does not fit is refused', () => {
    const options = { context: 32_768, sequences: 4 }
    const least = total({ ...options, cacheTokens: 32_768 })
    expect(sizes(least, options).cacheTokens).toBe(32_768)
    expect(() => sizes(least - 1, options)).toThrow(/^load: memory is .*; it fits with .*a context of at most /)
    expect(sizes(80 * GiB, { ...options, cacheTokens: 40_000 }).cacheTokens).toBe(40_000)
  })
})
