// Rotary embedding, the paged cache, and attention as its sum over all positions.
import fc from 'fast-check'
import { implementations, kernels } from '../device.ts'
import {
  type Arithmetic,
  type Expected,
  type Inputs,
  type Nd,
  nd,
  offsets,
  type Random,
  type Sizes,
  type Spec,
  tensorOf,
  u,
  vector,
} from './spec.ts'

/** Every token of a packed batch: its sequence and its position there. */
function tokens(inputs: Inputs): { sequence: number; position: number }[] {
  const [bounds, past] = [tensorOf(inputs, 'offsets').data, tensorOf(inputs, 'past').data]
  return Array.from(past).flatMap((before, sequence) =>
    Array.from({ length: bounds[sequence + 1]! - bounds[sequence]! }, (_, i) => ({ sequence, position: before + i })),
  )
}

/** S sequences of `shortest` to `longest` new tokens after `before` (0 if absent) to `past` others. */
function batch({ S, shortest, longest, before = 0, past }: Sizes, random: Random) {
  const lengths = Array.from({ length: S! }, () => random.integer(shortest!, longest!))
  return { lengths, offsets: offsets(lengths), past: random.integers([S!], before, past!) }
}

// ---- rotary embedding

/** As complex numbers: (a + ib) e^(i angle). */
function rotated(inputs: Inputs, name: string): { value: Nd; error: Float64Array } {
  const [x, frequency] = [tensorOf(inputs, name), tensorOf(inputs, 'invFreq').data]
  const [, H, P] = x.shape as [number, number, number]
  const value = nd(x.shape, (i) => x.data[i]!)
  const error = new Float64Array(value.data.length)
  tokens(inputs).forEach(({ position }, t) => {
    for (let h = 0; h < H; h++) {
      for (let j = 0; j < P / 2; j++) {
        const first = (t * H + h) * P + j
        const second = first + P / 2
        const [a, b] = [x.data[first]!, x.data[second]!]
        const angle = position * frequency[j]!
        value.data[first] = a * Math.cos(angle) - b * Math.sin(angle)
        value.data[second] = a * Math.sin(angle) + b * Math.cos(angle)
        // Of each product: cosine or sine as f32, the product, the sum.
        error[first] = error[second] = 3 * u * (Math.abs(a) + Math.abs(b))
      }
    }
  })
  return { value, error }
}

/** theta^(-2j/P) of 10000. */
const frequencies = (P: number) => nd([P / 2], (i) => 10000 ** ((-2 * i) / P))

const rope: Spec = {
  reference: (inputs) => ({ x: rotated(inputs, 'x') }),
  make: (sizes, random) => {
    const { lengths, ...rest } = batch(sizes, random)
    const T = lengths.reduce((sum, n) => sum + n, 0)
    const P = sizes.P!
    return { x: random.normal([T, sizes.H!, P]), invFreq: frequencies(P), ...rest }
  },
  sizes: {
    ragged: { S: 3, shortest: 1, longest: 7, past: 20, H: 3, P: 10 },
    'one token each': { S: 4, shortest: 1, longest: 1, past: 1000, H: 2, P: 64 },
    'empty sequences among others': { S: 6, shortest: 0, longest: 2, past: 5, H: 1, P: 2 },
    'no tokens': { S: 2, shortest: 0, longest: 0, past: 5, H: 2, P: 4 },
    'no sequences': { S: 0, shortest: 0, longest: 0, past: 0, H: 2, P: 4 },
    'more pieces than threads': { S: 1, shortest: 40, longest: 40, past: 0, H: 8, P: 128 },
    'wide heads, more pairs than a block takes at once': { S: 2, shortest: 1, longest: 2, past: 9, H: 16, P: 272 },
  },
  arbitrary: fc
    .record({
      S: fc.nat(4),
      longest: fc.nat(6),
      past: fc.nat(5000),
      H: fc.integer({ min: 1, max: 5 }),
      half: fc.nat(20),
    })
    .map(({ half, ...sizes }) => ({ ...sizes, shortest: 0, P: 2 * half })),
  special: {
    'the last position of a context of 131072': (random) => ({
      x: random.normal([2, 2, 8]),
      invFreq: vector([1, 0.1, 0.01, 0.001]),
      offsets: vector([0, 2]),
      past: vector([131070]),
    }),
  },
}

// ---- the cache

/**
 * Caches that hold the first `filled(s)` positions of every sequence, in pages of a pool in no order. What nothing
 * may read is NaN, or out of range: the other places, the pages of nobody, the table past a sequence's last page.
 */
function paged(
  { G, P, pageSize }: Sizes,
  totals: number[],
  filled: (s: number) => number,
  random: Random,
  k: Nd,
  v: Nd,
) {
  const needed = totals.map((n) => Math.ceil(n / pageSize!))
  const all = needed.reduce((sum, n) => sum + n, 0)
  const free = Array.from(random.distinct(all, all + 2).data)
  const width = Math.max(0, ...needed) + 1
  const pages = nd([totals.length, width], (i) => (i % 2 ? -1 : 2 ** 31 - 1))
  const shape = [all + 2, pageSize!, G!, P!]
  const [kCache, vCache] = [nd(shape, () => Number.NaN), nd(shape, () => Number.NaN)]
  const place = G! * P!
  let token = 0
  totals.forEach((total, s) => {
    for (let i = 0; i < needed[s]!; i++) pages.data[s * width + i] = free.pop()!
    for (let p = 0; p < total; p++, token++) {
      if (p >= filled(s)) continue
      const at = (pages.data[s * width + Math.floor(p / pageSize!)]! * pageSize! + (p % pageSize!)) * place
      kCache.data.set(k.data.subarray(token * place, (token + 1) * place), at)
      vCache.data.set(v.data.subarray(token * place, (token + 1) * place), at)
    }
  })
  return { pages, kCache, vCache }
}

/** Where the first key head of a position, [p, 0, 0] of its sequence, begins in the cache. */
function placeOf(inputs: Inputs, sequence: number, position: number): number {
  const [pages, cache] = [tensorOf(inputs, 'pages'), tensorOf(inputs, 'kCache')]
  const [, pageSize, G, P] = cache.shape as [number, number, number, number]
  const page = pages.data[sequence * pages.shape[1]! + Math.floor(position / pageSize)]!
  return (page * pageSize + (position % pageSize)) * G * P
}

/** Caches of e4m3 and what their values are to be multiplied by, where sizes say `fp8`; else nothing. */
const quantised = ({ fp8, G }: Sizes, random: Random): Inputs =>
  fp8
    ? {
        'kCache.dtype': 'e4m3',
        'vCache.dtype': 'e4m3',
        kScale: random.uniform([G!], 0.25, 2),
        vScale: random.uniform([G!], 0.25, 2),
      }
    : {}

const kvAppend: Spec = {
  reference: (inputs) => {
    const written = (row: string, cache: string, scales: string): Expected => {
      const [x, to] = [tensorOf(inputs, row), tensorOf(inputs, cache)]
      const [, G, P] = x.shape as [number, number, number]
      const from =
        row === 'k' && inputs.invFreq ? rotated(inputs, row) : { value: x, error: new Float64Array(x.data.length) }
      const scale = (inputs[scales] as Nd | undefined)?.data
      const value = nd(to.shape, (i) => to.data[i]!)
      const error = new Float64Array(value.data.length)
      tokens(inputs).forEach(({ sequence, position }, t) => {
        const place = placeOf(inputs, sequence, position)
        for (let i = 0; i < G * P; i++) {
          const [exact, miss] = [from.value.data[t * G * P + i]!, from.error[t * G * P + i]!]
          const stored = scale ? exact / scale[Math.floor(i / P)]! : exact
          value.data[place + i] = scale ? Math.max(-448, Math.min(448, stored)) : stored
          error[place + i] = scale ? 2 * u * Math.abs(stored) : miss // of the scale's inverse, and the product
        }
      })
      return { value, error }
    }
    return { kCache: written('k', 'kCache', 'kScale'), vCache: written('v', 'vCache', 'vScale') }
  },
  make: (sizes, random) => {
    const { lengths, ...rest } = batch(sizes, random)
    const [T, totals] = [lengths.reduce((sum, n) => sum + n, 0), lengths.map((n, s) => n + rest.past.data[s]!)]
    const rows = (count: number) => random.normal([count, sizes.G!, sizes.P!])
    const old = totals.reduce((sum, n) => sum + n, 0)
    const caches = paged(sizes, totals, (s) => rest.past.data[s]!, random, rows(old), rows(old))
    const turns = sizes.rotate ? { invFreq: frequencies(sizes.P!) } : {}
    return { k: rows(T), v: rows(T), ...turns, ...quantised(sizes, random), ...rest, ...caches }
  },
  sizes: {
    ragged: { S: 3, shortest: 1, longest: 9, past: 7, G: 2, P: 5, pageSize: 4 },
    'one token each': { S: 5, shortest: 1, longest: 1, past: 40, G: 1, P: 16, pageSize: 16 },
    'pages of one token': { S: 2, shortest: 3, longest: 5, past: 3, G: 3, P: 2, pageSize: 1 },
    'empty sequences among others': { S: 6, shortest: 0, longest: 2, past: 5, G: 1, P: 3, pageSize: 3 },
    'no tokens': { S: 2, shortest: 0, longest: 0, past: 5, G: 2, P: 4, pageSize: 8 },
    'no sequences': { S: 0, shortest: 0, longest: 0, past: 0, G: 2, P: 4, pageSize: 8 },
    'more pieces than threads': { S: 1, shortest: 90, longest: 90, past: 0, G: 8, P: 64, pageSize: 16 },
    'rows longer than a warp takes at once': { S: 2, shortest: 1, longest: 3, past: 5, G: 3, P: 45, pageSize: 4 },
    'rotated keys': { S: 3, shortest: 1, longest: 9, past: 900, G: 2, P: 6, pageSize: 4, rotate: 1 },
    'rotated keys of whole packs': { S: 2, shortest: 0, longest: 4, past: 30, G: 16, P: 144, pageSize: 16, rotate: 1 },
    'a cache of e4m3': { S: 3, shortest: 1, longest: 9, past: 7, G: 2, P: 5, pageSize: 4, fp8: 1 },
    'a cache of e4m3, whole packs': { S: 2, shortest: 0, longest: 4, past: 30, G: 9, P: 128, pageSize: 16, fp8: 1 },
  },
  arbitrary: fc.record({
    S: fc.nat(4),
    shortest: fc.constant(0),
    longest: fc.nat(12),
    past: fc.nat(30),
    G: fc.integer({ min: 1, max: 3 }),
    P: fc.nat(9),
    pageSize: fc.integer({ min: 1, max: 20 }),
    fp8: fc.nat(1),
  }),
  special: {
    'what e4m3 cannot hold': () => {
      const values = [1000, -1000, Infinity, -Infinity, Number.NaN, 2 ** -11, -(2 ** -9), 3 * 2 ** -11]
      const x = nd([1, 2, 8], (i) => values[i % 8]!)
      const cache = () => nd([1, 2, 2, 8], () => 1)
      return {
        k: x,
        v: x,
        kScale: vector([1, 2]),
        vScale: vector([0.5, 1]),
        'kCache.dtype': 'e4m3',
        'vCache.dtype': 'e4m3',
        pages: nd([1, 1], () => 0),
        offsets: vector([0, 1]),
        past: vector([1]),
        kCache: cache(),
        vCache: cache(),
      }
    },
    // Only pages that are written must be of one sequence.
    'a page of the past that two sequences share': (random) => ({
      k: random.normal([2, 1, 4]),
      v: random.normal([2, 1, 4]),
      pages: nd([2, 2], (i) => [1, 0, 1, 2][i]!),
      offsets: vector([0, 1, 2]),
      past: vector([3, 4]),
      kCache: random.normal([3, 3, 1, 4]),
      vCache: random.normal([3, 3, 1, 4]),
    }),
  },
}

// ---- attention

function attend(inputs: Inputs, { operands, sums }: Arithmetic): Record<string, Expected> {
  const [q, kCache, vCache] = (['q', 'kCache', 'vCache'] as const).map((name) => tensorOf(inputs, name))
  const [, H, P] = q!.shape as [number, number, number]
  const heads = H / kCache!.shape[2]!
  const [kScale, vScale] = ['kScale', 'vScale'].map((name) => (inputs[name] as Nd | undefined)?.data)
  const value = nd(q!.shape, () => 0)
  const error = new Float64Array(value.data.length)
  const lse = { value: nd([q!.shape[0]!, H], () => 0), error: new Float64Array(q!.shape[0]! * H) }

  tokens(inputs).forEach(({ sequence, position }, t) => {
    const n = position + 1
    const places = Array.from({ length: n }, (_, j) => placeOf(inputs, sequence, j))
    for (let h = 0; h < H; h++) {
      const row = (t * H + h) * P
      const g = Math.floor(h / heads)
      const scale = Math.fround(inputs.scale as number) * (kScale?.[g] ?? 1)
      const ofValues = vScale?.[g] ?? 1
      const keys = places.map((place) => place + g * P)
      const scores = new Float64Array(n)
      const magnitudes = new Float64Array(n)
      keys.forEach((key, j) => {
        for (let i = 0; i < P; i++) {
          const product = scale * q!.data[row + i]! * kCache!.data[key + i]!
          scores[j]! += product
          magnitudes[j]! += Math.abs(product)
        }
      })
      const largest = Math.max(...scores)
      const weights = scores.map((score) => Math.exp(score - largest))
      const total = weights.reduce((sum, x) => sum + x, 0)

      // How far the exponent of a weight may be off, as an absolute error of the score: the dot product, its scale,
      // that of the key head, and the product with them; the distances from the running maxima, which add up to that
      // from the last; then for each time it is scaled down, at most once for every key, nothing more than exp (4 u)
      // and a product.
      const off = Math.max(
        ...magnitudes.map(
          (magnitude, j) =>
            (P * sums + 3 * u) * magnitude + (Math.min(largest - scores[j]!, 104) + 4 + 5 * rescales(n)) * u,
        ),
      )
      // Of weights and of their sum; of each weight as an operand; sums of n values and of n weights; the quotient.
      const relative = Math.expm1(2 * off + operands + n * sums + (n + 3) * u)
      for (let i = 0; i < P; i++) {
        let magnitude = 0
        let lost = 0 // weights below the least normal number, and products
        keys.forEach((key, j) => {
          const v = ofValues * vCache!.data[key + i]!
          value.data[row + i]! += (weights[j]! / total) * v
          magnitude += (weights[j]! / total) * Math.abs(v)
          lost += 2 ** -126 * (Math.abs(v) + 1)
        })
        error[row + i] = relative * magnitude + lost
      }
      // Exponents, and the sum of weights; then the logarithm of that, in base 2, the sum and the product.
      lse.value.data[t * H + h] = largest + Math.log(total)
      lse.error[t * H + h] = off + (2 * n + 2) * u + 5 * u * (Math.abs(largest) + Math.log(total))
    }
  })
  return { y: { value, error }, ...(inputs.lse ? { lse } : {}) }
}

/** Times a softmax over n keys may scale down what it has: no blocks shorter than 16 keys. */
const rescales = (n: number) => Math.ceil(n / 16)

/** Attention over caches of normal keys and values, scaled by `keys`, so that scores have about that size. */
function attentionInputs(sizes: Sizes, random: Random, keys = 1, values = 1): Inputs {
  const { lengths, past } = batch(sizes, random)
  return attentionOf(sizes, lengths, Array.from(past.data), random, keys, values)
}

/** Of sequences of given lengths. */
function attentionOf(sizes: Sizes, lengths: number[], past: number[], random: Random, keys = 1, values = 1): Inputs {
  const rest = { offsets: offsets(lengths), past: vector(past) }
  const { G, P } = sizes as { G: number; P: number }
  const totals = lengths.map((n, s) => n + past[s]!)
  const [T, all] = [lengths.reduce((sum, n) => sum + n, 0), totals.reduce((sum, n) => sum + n, 0)]
  const [k, v] = [random.normal([all, G, P], keys), random.normal([all, G, P], values)]
  return {
    q: random.normal([T, G * sizes.heads!, P]),
    ...paged(sizes, totals, (s) => totals[s]!, random, k, v),
    ...quantised(sizes, random),
    ...rest,
    ...(sizes.lse ? { lse: nd([T, G * sizes.heads!], () => Number.NaN) } : {}),
    scale: 1 / Math.sqrt(Math.max(1, P)),
    decode: true,
  }
}

/** Attention of sequences of these new tokens after these others. */
const sequences = (sizes: Sizes, list: [length: number, past: number][]) => (random: Random) =>
  attentionOf(
    sizes,
    list.map(([length]) => length),
    list.map(([, past]) => past),
    random,
  )

/** Many new tokens of heads that Hopper has a kernel for, whose tiles are 128 tokens by 128 keys. */
const tiles = { G: 1, heads: 1, P: 64, pageSize: 64 }
const long = { S: 1, shortest: 150, longest: 150, past: 0 }
const prefill: Spec['special'] = {
  'tiles: sequences that end about one': sequences({ ...tiles, lse: 1 }, [
    [127, 0],
    [0, 0],
    [128, 0],
    [0, 5],
    [129, 0],
  ]),
  'tiles: a past that ends about one': sequences({ ...tiles, P: 128 }, [
    [70, 127],
    [70, 128],
    [70, 129],
  ]),
  'tiles: a past that ends before the last key of one': (random) => {
    const inputs = sequences(tiles, [[70, 126]])(random)
    tensorOf(inputs, 'vCache').data.fill(1e4, placeOf(inputs, 0, 127), placeOf(inputs, 0, 127) + 64)
    return inputs
  },
  'tiles: more than there are stages': sequences({ ...tiles, P: 128, pageSize: 32 }, [[70, 700]]),
  'tiles: more than there are stages, heads of 64': sequences({ ...tiles, pageSize: 128 }, [[70, 1200]]),
  'tiles: many rounds of the stages': sequences({ ...tiles, P: 128, heads: 16, pageSize: 128 }, [[9, 640]]),
  'tiles: several items for a block': sequences({ ...tiles, G: 2, heads: 3, pageSize: 256, lse: 1 }, [
    [140, 0],
    [30, 300],
  ]),
  'tiles: sixteen heads share keys, pages of 8': sequences({ ...tiles, G: 2, heads: 16, pageSize: 8 }, [
    [9, 30],
    [12, 0],
  ]),
  'tiles: pages of 16': sequences({ ...tiles, P: 128, pageSize: 16 }, [[150, 20]]),
  'tiles: pages of 24, of which no tile is made': sequences({ ...tiles, pageSize: 24 }, [[70, 5]]),
  'tiles: pages of 4, less than are swizzled together': sequences({ ...tiles, pageSize: 4 }, [[70, 5]]),
  'tiles: e4m3, sequences that end about one': sequences({ ...tiles, P: 128, pageSize: 32, fp8: 1, lse: 1 }, [
    [127, 0],
    [70, 200],
  ]),
  'tiles: e4m3, several items for a block, heads of 64': sequences(
    { ...tiles, G: 3, heads: 3, pageSize: 256, fp8: 1, lse: 1 },
    [
      [140, 0],
      [30, 300],
    ],
  ),
  'tiles: e4m3, many rounds of the stages': sequences({ ...tiles, P: 128, heads: 16, pageSize: 16, fp8: 1 }, [
    [9, 640],
  ]),
  'tiles: e4m3, a negative scale of keys': (random) => {
    const inputs = attentionInputs({ ...tiles, ...long, G: 2, fp8: 1 }, random)
    tensorOf(inputs, 'kScale').data[1]! *= -1
    return inputs
  },
  'tiles: scores of about 100': (random) => attentionInputs({ ...tiles, ...long }, random, 100, 1e3),
  'tiles: scores of about 10000': (random) => attentionInputs({ ...tiles, ...long }, random, 10000, 1e3),
  'tiles: few tokens that are not decoded': (random) => ({
    ...sequences({ ...tiles, lse: 1 }, [
      [1, 200],
      [8, 0],
      [0, 5],
      [3, 130],
    ])(random),
    decode: false,
  }),
  'tiles: a negative scale': (random) => ({ ...attentionInputs({ ...tiles, ...long }, random), scale: -0.2 }),
  'tiles: a scale of zero': (random) => ({ ...attentionInputs({ ...tiles, ...long }, random), scale: 0 }),
  'tiles: each value is another column': (random) => {
    const inputs = attentionInputs({ ...tiles, ...long, P: 128, pageSize: 16 }, random)
    const v = tensorOf(inputs, 'vCache').data
    for (let i = 0; i < v.length; i++) if (!Number.isNaN(v[i])) v[i] = Math.floor(i / 128) % 128 === i % 128 ? 1 : 0
    return inputs
  },
}

const attention: Spec = {
  reference: attend,
  make: attentionInputs,
  onlyBf16: (name) => name.startsWith('tiles: '), // Hopper's
  ways: (inputs) => ([64, 128].includes(tensorOf(inputs, 'q').shape[2]!) ? kernels : implementations),
  sizes: {
    ragged: { S: 3, shortest: 1, longest: 9, past: 11, G: 2, heads: 3, P: 7, pageSize: 4 },
    decode: { S: 4, shortest: 1, longest: 1, past: 200, G: 2, heads: 4, P: 16, pageSize: 16 },
    prefill: { S: 2, shortest: 130, longest: 150, past: 0, G: 1, heads: 2, P: 16, pageSize: 64 },
    'a later chunk': { S: 1, shortest: 70, longest: 70, before: 90, past: 100, G: 2, heads: 1, P: 8, pageSize: 32 },
    'one key head for all': { S: 1, shortest: 20, longest: 20, past: 9, G: 1, heads: 9, P: 12, pageSize: 8 },
    'more query heads than rows of a block': {
      S: 1,
      shortest: 2,
      longest: 2,
      past: 3,
      G: 1,
      heads: 70,
      P: 4,
      pageSize: 8,
    },
    'pages of one token': { S: 2, shortest: 3, longest: 5, past: 3, G: 3, heads: 1, P: 2, pageSize: 1 },
    'one token, no past': { S: 1, shortest: 1, longest: 1, past: 0, G: 1, heads: 1, P: 1, pageSize: 5 },
    'empty sequences among others': { S: 6, shortest: 0, longest: 2, past: 5, G: 1, heads: 2, P: 3, pageSize: 3 },
    'no tokens': { S: 2, shortest: 0, longest: 0, past: 5, G: 2, heads: 2, P: 4, pageSize: 8 },
    'no sequences': { S: 0, shortest: 0, longest: 0, past: 0, G: 2, heads: 2, P: 4, pageSize: 8 },
    'heads of 64': { S: 2, shortest: 20, longest: 40, past: 90, G: 2, heads: 2, P: 64, pageSize: 16 },
    'heads of 128': { S: 2, shortest: 20, longest: 40, past: 90, G: 2, heads: 2, P: 128, pageSize: 64 },
    'heads of 136': { S: 1, shortest: 40, longest: 40, past: 90, G: 1, heads: 2, P: 136, pageSize: 16 },
    'heads of 250, not aligned': { S: 1, shortest: 40, longest: 40, past: 50, G: 2, heads: 1, P: 250, pageSize: 9 },
    'heads of 256': { S: 2, shortest: 1, longest: 1, before: 100, past: 150, G: 2, heads: 2, P: 256, pageSize: 32 },
    'ragged, a cache of e4m3': {
      S: 3,
      shortest: 1,
      longest: 9,
      past: 11,
      G: 2,
      heads: 3,
      P: 7,
      pageSize: 4,
      fp8: 1,
      lse: 1,
    },
    'a cache of e4m3, whole packs': {
      S: 2,
      shortest: 20,
      longest: 40,
      past: 90,
      G: 2,
      heads: 2,
      P: 128,
      pageSize: 64,
      fp8: 1,
      lse: 1,
    },
    'heads of 256, a cache of e4m3': {
      S: 2,
      shortest: 1,
      longest: 1,
      before: 100,
      past: 150,
      G: 2,
      heads: 2,
      P: 256,
      pageSize: 32,
      fp8: 1,
      lse: 1,
    },
    'decode after more than 1024 keys': {
      lse: 1,
      S: 2,
      shortest: 1,
      longest: 1,
      before: 1000,
      past: 1100,
      G: 2,
      heads: 4,
      P: 16,
      pageSize: 64,
    },
    'a chunk that passes 1024 keys': {
      S: 1,
      shortest: 90,
      longest: 90,
      before: 1000,
      past: 1000,
      G: 1,
      heads: 2,
      P: 8,
      pageSize: 64,
    },
    'decode, whole packs': {
      S: 4,
      shortest: 1,
      longest: 1,
      past: 1100,
      G: 2,
      heads: 2,
      P: 128,
      pageSize: 16,
      lse: 1,
    },
    'decode, whole packs of a cache of e4m3': {
      S: 3,
      shortest: 1,
      longest: 1,
      past: 800,
      G: 2,
      heads: 2,
      P: 128,
      pageSize: 16,
      fp8: 1,
      lse: 1,
    },
    'decode, heads of 80': { S: 3, shortest: 1, longest: 1, past: 700, G: 3, heads: 2, P: 80, pageSize: 64 },
    'decode, heads of 48, a cache of e4m3': {
      S: 3,
      shortest: 1,
      longest: 1,
      past: 700,
      G: 3,
      heads: 2,
      P: 48,
      pageSize: 64,
      fp8: 1,
    },
    'up to eight tokens each': {
      S: 2,
      shortest: 1,
      longest: 8,
      before: 500,
      past: 520,
      G: 1,
      heads: 8,
      P: 64,
      pageSize: 64,
      lse: 1,
    },
    'up to eight tokens each, a cache of e4m3': {
      S: 2,
      shortest: 1,
      longest: 8,
      before: 500,
      past: 520,
      G: 1,
      heads: 8,
      P: 128,
      pageSize: 64,
      fp8: 1,
    },
    'eight tokens, more rows than a tile': {
      S: 1,
      shortest: 8,
      longest: 8,
      before: 508,
      past: 508,
      G: 1,
      heads: 20,
      P: 32,
      pageSize: 32,
    },
    'sequences to decode among others': {
      S: 7,
      shortest: 0,
      longest: 16,
      past: 600,
      G: 2,
      heads: 3,
      P: 16,
      pageSize: 16,
      lse: 1,
    },
    'more sequences than threads': { S: 300, shortest: 0, longest: 2, past: 3, G: 1, heads: 2, P: 16, pageSize: 4 },
    'decode, room for many more keys': {
      S: 1,
      shortest: 1,
      longest: 1,
      before: 520,
      past: 520,
      G: 1,
      heads: 2,
      P: 16,
      pageSize: 1500,
    },
    'heads of 256 after more than 512 keys': {
      S: 1,
      shortest: 1,
      longest: 1,
      before: 520,
      past: 520,
      G: 1,
      heads: 2,
      P: 256,
      pageSize: 400,
    },
    'a chunk that passes 512 keys': {
      lse: 1,
      S: 1,
      shortest: 8,
      longest: 8,
      before: 508,
      past: 508,
      G: 8,
      heads: 2,
      P: 8,
      pageSize: 64,
    },
  },
  arbitrary: fc.record({
    S: fc.nat(3),
    shortest: fc.constant(0),
    longest: fc.constantFrom(2, 8, 20),
    past: fc.nat(150),
    G: fc.integer({ min: 1, max: 3 }),
    heads: fc.integer({ min: 1, max: 5 }),
    P: fc.integer({ min: 1, max: 40 }),
    pageSize: fc.integer({ min: 1, max: 80 }),
    fp8: fc.nat(1),
    lse: fc.nat(1),
  }),
  special: {
    ...Object.fromEntries(
      [100, 10000, 1e-30].map((size) => [
        `scores of about ${size}`,
        (random: Random) =>
          attentionInputs(
            { S: 2, shortest: 70, longest: 80, past: 3, G: 1, heads: 2, P: 8, pageSize: 16 },
            random,
            size,
            1e3,
          ),
      ]),
    ),
    ...prefill,
    ...Object.fromEntries(
      [16, 64].map((pageSize) => [
        `lengths about the edges of pages of ${pageSize}, of blocks and parts`,
        (random: Random) => {
          const lengths = [1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 511, 512, 513, 1024, 1025]
          return attentionOf(
            { G: 1, heads: 2, P: 16, pageSize, lse: 1 },
            lengths.map(() => 1),
            lengths.map((n) => n - 1),
            random,
          )
        },
      ]),
    ),
    'decoding, scores of about 100': (random) => {
      const sizes = { S: 3, shortest: 1, longest: 2, past: 900, G: 1, heads: 2, P: 16, pageSize: 16, lse: 1 }
      return attentionInputs(sizes, random, 100, 1e3)
    },
    // A column tells the weights of its keys.
    ...Object.fromEntries(
      [0, 1].map((fp8) => [
        `values of one column each${fp8 ? ', a cache of e4m3' : ''}`,
        (random: Random) => {
          const sizes = { S: 2, shortest: 1, longest: 3, past: 700, G: 2, heads: 4, P: 128, pageSize: 32, fp8 }
          const inputs = attentionInputs(sizes, random)
          const { shape, data } = tensorOf(inputs, 'vCache')
          const P = shape[3]!
          const column = (i: number) => (Math.floor(i / P) * 37) % P
          return {
            ...inputs,
            vCache: nd(shape, (i) => (Number.isNaN(data[i]) ? Number.NaN : Number(i % P === column(i)))),
          }
        },
      ]),
    ),
    'empty sequences without pages': (random) => ({
      q: random.normal([2, 2, 4]),
      kCache: random.normal([2, 4, 1, 4]),
      vCache: random.normal([2, 4, 1, 4]),
      pages: nd([3, 1], (s) => [2 ** 31 - 1, 1, -1][s]!),
      offsets: vector([0, 0, 2, 2]),
      past: vector([3, 2, 9]), // more than there is room for, and nobody reads it
      scale: 0.5,
      decode: true,
    }),
  },
}

export const attentionSpecs = { rope, kvAppend, attention }
