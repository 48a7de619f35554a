// Random weights: drawn as they should be, in every format, the same for a seed; models of them work; nothing stays.
import { afterEach, describe, expect, test } from 'vitest'
import { tensorSpecs } from '../dist/checkpoint/names.js'
import { type RandomOptions, randomWeights } from '../dist/checkpoint/random.js'
import { type Config, type LoadOptions, load, type Model, ops, presets } from '../dist/index.js'
import { loadRandom } from '../dist/load.js'
import { collect } from './demo.js'
import { device, memory, missing } from './device.ts'

const hybrid: Config = {
  family: 'nemotron_h',
  vocabSize: 2048,
  hiddenSize: 64,
  layers: ['mamba2', 'mlp', 'mamba2', 'attention', 'mlp'],
  mamba: {
    heads: 8,
    headDim: 16,
    groups: 2,
    stateSize: 16,
    convKernel: 4,
    convBias: true,
    chunkSize: 16,
    timeStepLimit: [0, Infinity],
  },
  attention: { heads: 4, kvHeads: 2, headDim: 16, qkvBias: false },
  mlp: { intermediateSize: 128, activation: 'relu2' },
  normEps: 1e-12,
  tieWordEmbeddings: false,
  maxPositions: 256,
  bosId: 1,
  eosIds: [2],
  padId: 0,
  dtype: 'bf16',
}
const { mamba, ...common } = hybrid
const llama: Config = {
  ...common,
  family: 'llama',
  layers: ['attention', 'mlp', 'attention', 'mlp'],
  attention: { ...hybrid.attention, rope: { theta: 10000 } },
  mlp: { intermediateSize: 128, activation: 'silu_gated' },
}
const qwen2: Config = {
  ...llama,
  family: 'qwen2',
  attention: { ...llama.attention, qkvBias: true },
  tieWordEmbeddings: true,
}
const families = [hybrid, llama, qwen2]
const ids = [1, 5, 9, 1313, 17, 21, 2047, 29, 33, 37, 41]

const small = (config: Config, options?: LoadOptions, std?: number) =>
  loadRandom(config, 'a small model', { device, dtype: 'f32', ...options }, std)
async function logitsOf(model: Model): Promise<Float32Array> {
  const [logits] = await model.forward([ids])
  using first = logits!
  return await first.read()
}
async function logits(config: Config, options?: LoadOptions): Promise<Float32Array> {
  using model = await small(config, options)
  return await logitsOf(model)
}

const plain: RandomOptions = { device, bf16Gemms: 0, activations: 'none', seed: 3, std: 0.02 }
const meanSquare = (values: Float32Array) => values.reduce((sum, v) => sum + v * v, 0) / values.length

afterEach(() => {
  expect(memory().used).toBe(0)
})

describe.each(families)('$family', (config) => {
  test('the same seed, the same logits; another, others', async () => {
    const [first, again, other] = [
      await logits(config, { seed: 1 }),
      await logits(config, { seed: 1 }),
      await logits(config, { seed: 2 }),
    ]
    expect(first.every(Number.isFinite)).toBe(true)
    expect(again).toEqual(first)
    expect(other).not.toEqual(first)
    expect(await logits(config)).toEqual(await logits(config, { seed: 0 }))
  })

  // E4M3 is off by up to 2^-4 of a weight, a mixer of at most three products in a row by up to three times that, and by
  // less of the sum x, to which each adds. Of other weights they would be apart by sqrt(2).
  test.each(['none', 'row', 'tensor'] as const)(
    'fp8 is near bf16, activations scaled by %s',
    async (activationScaling) => {
      const wide = await logits(config, { weights: 'bf16' })
      const narrow = await logits(config, { weights: 'fp8', bf16Gemms: 0, activationScaling })
      const apart = Math.sqrt(meanSquare(narrow.map((v, i) => v - wide[i]!)) / meanSquare(wide))
      expect(apart).toBeLessThan(3 / 16)
      expect(apart).toBeGreaterThan(0)
    },
  )

  test('generates', async () => {
    using model = await small(config)
    const { ids: generated } = await collect(model.generate(ids, { maxTokens: 5, ignoreEos: true }))
    expect(generated).toHaveLength(5)
    await expect(collect(model.generate('text'))).rejects.toThrow(
      'generate: prompt is text, expected token ids: a small model has no tokenizer.json',
    )
  })
})

test('a bias of every token of a large vocabulary, in a batch with a sequence that has none', async () => {
  const vocabSize = 2 ** 17
  using model = await small({ ...hybrid, vocabSize })
  const logitBias = Object.fromEntries(Array.from({ length: vocabSize }, (_, id) => [id, id === 99_999 ? 100 : 0]))
  const options = { maxTokens: 5, ignoreEos: true }
  const alone = await collect(model.generate(ids, options))
  const both = await Promise.all([{ ...options, logitBias }, options].map((how) => collect(model.generate(ids, how))))
  expect(both.map((got) => got.ids)).toEqual([Array(5).fill(99_999), alone.ids])
})

// A token's logits are V independent normal numbers: of hidden states whose squares have the mean 1, times a head.
test.each([hybrid, llama])('logits of $family are as far spread as an untied head makes them', async (config) => {
  const { hiddenSize: D, vocabSize: V } = config
  const all = await logits(config, { weights: 'f32' })
  for (let t = 0; t < ids.length; t++) {
    const measured = meanSquare(all.subarray(t * V, (t + 1) * V)) / (D * 0.02 ** 2)
    expect(Math.abs(measured - 1)).toBeLessThan(5 * Math.sqrt(2 / V))
  }
})

describe('what is drawn', () => {
  test.each(families)(
    'matrices of $family: their deviation, and less where they add to the residual',
    async (config) => {
      const weights = await randomWeights(config, { ...plain, format: 'f32' })
      const first: number[] = []
      for (const { name, shape, role } of tensorSpecs(config)) {
        if (role === 'vector') continue
        const values = (await weights.matrices.get(name)!.weight.read()) as Float32Array
        expect(values).toHaveLength(shape[0]! * shape[1]!)
        const adds = ['out_proj', 'o_proj', 'down_proj'].some((part) => name.includes(`.${part}.`))
        const variance = adds ? 0.02 ** 2 / config.layers.length : 0.02 ** 2
        const bound = 5 * Math.sqrt(2 / values.length)
        expect(Math.abs(meanSquare(values) / variance - 1), name).toBeLessThan(bound)
        first.push(values[0]! / Math.sqrt(variance))
      }
      expect(new Set(first).size).toBe(first.length) // no two of one stream
      weights.dispose()
    },
  )

  test('vectors', async () => {
    const many = { ...hybrid, mamba: { ...hybrid.mamba!, heads: 2048, headDim: 1 } }
    const weights = await randomWeights(many, plain)
    const of = (name: string) => weights.vectors.get(name)!
    const mixer = 'layers.0.mixer'
    const ranges: [string, (value: number) => number, number, number][] = [
      [`${mixer}.A_log`, Math.exp, 1, 16],
      [`${mixer}.dt_bias`, (bias) => Math.log10(Math.log1p(Math.exp(bias))), -3, -1], // the step, log-uniform
      [`${mixer}.conv1d.weight`, (w) => w, -0.5, 0.5],
      [`${mixer}.conv1d.bias`, (w) => w, -0.5, 0.5],
    ]
    for (const [name, f, low, high] of ranges) {
      const places = Float64Array.from(of(name), (value) => (f(value) - low) / (high - low)) // uniform in [0, 1]
      const [least, most] = [Math.min(...places), Math.max(...places)]
      expect(least, name).toBeGreaterThan(-1e-5) // by the rounding of f32
      expect(most, name).toBeLessThan(1 + 1e-5)
      // Either end is farther from the outermost of n numbers by chance for one of 22,000 seeds: exp(-10).
      expect(least, name).toBeLessThan(10 / places.length)
      expect(most, name).toBeGreaterThan(1 - 10 / places.length)
      const mean = places.reduce((a, b) => a + b) / places.length
      expect(Math.abs(mean - 0.5), name).toBeLessThan(5 / Math.sqrt(12 * places.length))
    }
    expect(of('layers.2.mixer.A_log')).not.toEqual(of(`${mixer}.A_log`))
    for (const name of ['norm_f.weight', 'layers.1.norm.weight', `${mixer}.norm.weight`, `${mixer}.D`]) {
      expect(new Set(of(name)), name).toEqual(new Set([1]))
    }
    weights.dispose()
    const other = await randomWeights(qwen2, plain)
    expect(new Set(other.vectors.get('layers.0.mixer.k_proj.bias'))).toEqual(new Set([0]))
    other.dispose()
  })

  test('fp8: the draw of bf16, quantised, but for the outer products', async () => {
    const wide = await randomWeights(hybrid, { ...plain, format: 'bf16' })
    const narrow = await randomWeights(hybrid, { ...plain, format: 'fp8', bf16Gemms: 2 })
    const inProj = 'layers.2.mixer.in_proj.weight'
    using amax = ops.amax(wide.matrices.get(inProj)!.weight as never)
    const [quantised, scale] = ops.quantize(wide.matrices.get(inProj)!.weight as never, amax, 'e4m3')
    expect(await narrow.matrices.get(inProj)!.weight.readBytes()).toEqual(await quantised.readBytes())
    expect(await narrow.matrices.get(inProj)!.scale!.read()).toEqual(await scale.read())
    for (const t of [quantised, scale]) t.dispose()

    const kept = [...narrow.matrices].filter(([, { weight }]) => weight.dtype === 'bf16').map(([name]) => name)
    expect(kept.sort()).toEqual([
      'embeddings.weight',
      ...['0.mixer.in_proj', '0.mixer.out_proj', '4.mixer.down_proj', '4.mixer.up_proj'].map(
        (name) => `layers.${name}.weight`,
      ),
      'lm_head.weight',
    ])
    for (const weights of [wide, narrow]) weights.dispose()
  })

  test.each(['bf16', 'f16', 'f32'] as const)('as the config says, %s, unless the options do', async (dtype) => {
    const weights = await randomWeights({ ...hybrid, dtype }, plain)
    expect(new Set(Array.from(weights.matrices.values(), ({ weight }) => weight.dtype))).toEqual(new Set([dtype]))
    weights.dispose()
  })
})

describe('on the way', () => {
  test.each(['f32', 'bf16', 'fp8'] as const)(
    'progress rises to all bytes, and nothing else is held, %s',
    async (format) => {
      const seen: number[] = []
      let total = 0
      const weights = await randomWeights(hybrid, {
        ...plain,
        format,
        onProgress: (progress) => {
          seen.push(progress.loaded)
          total = progress.total
          // Blocks are up to a 32nd larger than tensors, or a power of two; vectors are not on the device yet.
          expect(memory().used).toBeLessThanOrEqual(1.04 * progress.loaded + 2048 * seen.length)
        },
      })
      const held = Array.from(weights.matrices.values(), ({ weight }) => weight.bytes)
      const vectors = Array.from(weights.vectors.values(), ({ byteLength }) => byteLength)
      expect(total).toBe([...held, ...vectors].reduce((a, b) => a + b))
      expect(seen).toHaveLength(held.length + vectors.length)
      expect(seen.at(-1)).toBe(total)
      expect(seen).toEqual([...seen].sort((a, b) => a - b))
      weights.dispose()
    },
  )

  test('an AbortSignal: before, and between two tensors', async () => {
    const reason = new Error('enough')
    await expect(small(hybrid, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    const controller = new AbortController()
    let calls = 0
    const onProgress = () => {
      if (++calls === 10) controller.abort(reason)
    }
    await expect(small(hybrid, { signal: controller.signal, onProgress })).rejects.toBe(reason)
    expect(calls).toBe(10)
  })

  test('an error of onProgress, or of the state that does not fit', async () => {
    const onProgress = () => {
      throw new Error('mine')
    }
    await expect(small(hybrid, { onProgress, weights: 'fp8' })).rejects.toThrow('mine')
    await expect(small(hybrid, { cacheTokens: 100 })).rejects.toThrow('expected at least the context, 256')
  })

  test('more weights than there is memory', async () => {
    const huge = { ...hybrid, hiddenSize: 2 ** 24, vocabSize: 2 ** 24 }
    await expect(small(huge)).rejects.toThrow(/^load: memory is .* GiB, expected at least .* GiB are missing/)
  })
})

describe('load', () => {
  test('a preset, with its deviation', async () => {
    const published = presets['8b']
    const used = Object.assign(presets, { '8b': hybrid }) // of the size that a test can draw
    try {
      using model = await load('preset:8b', { init: 'random', seed: 1, device, dtype: 'f32' })
      using same = await small(hybrid, { seed: 1 }, 0.014)
      expect(model.config).toBe(hybrid)
      expect(await logitsOf(model)).toEqual(await logitsOf(same))
      expect(model.tokenizer).toBeUndefined()
      expect(() => model.chat.render([{ role: 'user', content: 'Hello' }])).toThrow('preset:8b')
    } finally {
      Object.assign(used, { '8b': published })
    }
  })

  const reason = new Error('enough')
  test.each(Object.keys(presets))('preset:%s begins', async (name) => {
    const signal = AbortSignal.abort(reason)
    await expect(load(`preset:${name}`, { init: 'random', signal, device })).rejects.toBe(reason)
  })

  const unasked = 'expected none for a folder, which has weights'
  test.each<[string, object, ErrorConstructor, string]>([
    ['preset:8b', {}, TypeError, "load: init is undefined, expected 'random': preset:8b has no weights"],
    ['preset:8b', { init: 'zeros' }, RangeError, "load: init is 'zeros', expected 'random'"],
    [
      'preset:8b',
      { init: 'random', seed: -1 },
      RangeError,
      'load: seed is -1, expected an integer >= 0 and <= 4294967295',
    ],
    ['preset:8b', { init: 'random', device: missing }, Error, `device ${missing}: `],
    ['preset:9z', { init: 'random' }, RangeError, "load: folder is 'preset:9z', expected 'preset:4b', 'preset:8b', "],
    ['preset:toString', { init: 'random' }, RangeError, "load: folder is 'preset:toString', expected 'preset:4b', "],
    ['demo/model', { init: 'random' }, TypeError, `load: init is 'random', ${unasked}`],
    ['demo/model', { seed: 0 }, TypeError, `load: seed is 0, ${unasked}`],
  ] as never)('%s with %o is refused', async (folder, options, Fault, message) => {
    const failure = await load(folder, options).catch((error) => error)
    expect(failure).toBeInstanceOf(Fault)
    expect(failure.message).toContain(message)
  })
})
