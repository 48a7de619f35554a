// Matrix products. A sum of K products in f32, in any order, misses by at most K roundings of the sum of their
// magnitudes; every scale and the bias add one. Sums of whole numbers do not miss while they are below 2^24.
import fc from 'fast-check'
import { kernels, onCpu, type Way } from '../device.ts'
import { large } from './large.ts'
import {
  type Arithmetic,
  type Expected,
  f32Arithmetic,
  type Inputs,
  type Nd,
  nd,
  type Random,
  type Sizes,
  type Spec,
  tensorOf,
  u,
} from './spec.ts'

const real = ['f32', 'bf16', 'f16', 'e4m3', 'e5m2'] as const
const fp8 = ['e4m3', 'e5m2'] as const

/** How a GPU may compute the same product. */
const rows = [{}, { decode: true }] satisfies Inputs[]
const sums = [{}, { fast: true }, { decode: true }] satisfies Inputs[]

type Cases = Record<string, (random: Random) => Inputs>

/** Each case in each way, of which the CPU has one. */
const inWays = (ways: Inputs[], cases: Cases): Cases =>
  Object.fromEntries(
    Object.entries(cases).flatMap(([name, make]) =>
      (onCpu ? ways.slice(0, 1) : ways).map((way) => [
        [name, ...Object.keys(way)].join(', '),
        (random: Random): Inputs => ({ decode: false, fast: false, ...make(random), ...way }),
      ]),
    ),
  )

/** Exact in any order, if the sums are small enough. */
const whole = ({ data }: Nd) => data.every(Number.isInteger)
const powerOfTwo = (x: number) => Number.isInteger(Math.log2(x))

/** What is multiplied, and what becomes of it: y[m,n] = scale(m) * x[m] . weight[n] + bias[n] + y[m,n]. */
interface Product {
  x: Nd
  weight: Nd
  bias?: Nd | undefined
  /** What y held before, where it is added to. */
  y?: Nd | undefined
  scale: (m: number) => number
  /** Roundings for the scales. */
  scales: number
  /** The error of an addition. */
  sums: number
}

function product({ x, weight, bias, y, scale, scales, sums }: Product): Expected {
  const [M, K, N] = [x.shape[0]!, x.shape[1]!, weight.shape[0]!]
  const exact = whole(x) && whole(weight) && (!bias || whole(bias)) && (!y || whole(y))
  const value = nd([M, N], () => 0)
  const error = new Float64Array(M * N)
  for (let m = 0; m < M; m++) {
    for (let n = 0; n < N; n++) {
      let sum = 0
      let magnitude = 0
      for (let k = 0; k < K; k++) {
        const term = x.data[m * K + k]! * weight.data[n * K + k]!
        sum += term
        magnitude += Math.abs(term)
      }
      const added = [bias?.data[n] ?? 0, y?.data[m * N + n] ?? 0]
      const all = added.reduce((sum, v) => sum + Math.abs(v), Math.abs(scale(m)) * magnitude)
      value.data[m * N + n] = scale(m) * sum + added[0]! + added[1]!
      if (exact && magnitude < 2 ** 24 && all < 2 ** 24 && powerOfTwo(scale(m))) continue
      error[m * N + n] = (K * sums + (scales + 2) * u) * all
    }
  }
  return { value, error }
}

/**
 * max(v, 0)^2 of a product, and the largest of all or of each row as it is stored. From v to v + e the square moves by
 * at most e (2 |v| + e); the largest of several moves by no more than the most of them.
 */
function relu2({ value, error }: Expected, { scales, to }: Inputs) {
  const [M, N] = value.shape as [number, number]
  const miss = nd(value.shape, (i) => {
    const [v, e] = [Math.max(value.data[i]!, 0), (error as Float64Array)[i]!]
    return e * (2 * v + e) + (e && 2 * u * v * v)
  })
  const y = nd(value.shape, (i) => (value.data[i]! < 0 ? 0 : value.data[i]! ** 2))
  const [stored, rounding] = to === 'bf16' ? [bf16, 2 ** -8] : [(v: number) => v, 0]
  const amax = nd([scales as number], () => 0)
  const missed = nd([scales as number], () => 0)
  for (let i = 0; i < M * N; i++) {
    const [r, v] = [scales === 1 ? 0 : Math.floor(i / N), y.data[i]!]
    if (Number.isNaN(v)) continue
    amax.data[r] = Math.max(amax.data[r]!, stored(v))
    if (miss.data[i]! > 0)
      missed.data[r] = Math.max(missed.data[r]!, miss.data[i]! + rounding * (2 * v + miss.data[i]!))
  }
  return { y: { value: y, error: miss.data }, amax: { value: amax, error: missed.data } }
}

/** To the nearest bf16, ties to even, of what f32 holds. */
function bf16(v: number): number {
  const bits = new Uint32Array(Float32Array.of(v).buffer)
  bits[0] = ((bits[0]! + 0x7fff + ((bits[0]! >>> 16) & 1)) & 0xffff0000) >>> 0
  return new Float32Array(bits.buffer)[0]!
}

/** [rows,columns] -> [columns,rows]. */
const transpose = ({ shape, data }: Nd): Nd =>
  nd([shape[1]!, shape[0]!], (i) => data[(i % shape[0]!) * shape[1]! + Math.floor(i / shape[0]!)]!)

/**
 * What tensor cores for fp8 lose of a sum: beside every 32 products and what was summed before, 13 bits below the largest
 * are kept of each (DeepSeek-V3, 3.3.2). Four such sums follow each other, or with `fast` all.
 */
function fp8Sums({ fast, ...inputs }: Inputs, { sums }: Arithmetic): number {
  const K = tensorOf(inputs, 'x').shape[1]!
  if (sums === f32Arithmetic.sums || K === 0) return sums
  const inARow = Math.ceil(K / 32)
  return sums + ((fast ? inARow : Math.min(inARow, 4)) * 33 * 2 ** -13) / K
}

const to = (random: Random) => (['f32', 'bf16'] as const)[random.integer(0, 1)]!

// Beside odd ones: sizes about those of the CPU's register tiles (2 to 6) and pieces of work (96 columns, 128 and 256
// rows), of the GPU's tiles (16, 64 and 128 rows, 32, 64 and 128 columns), and of blocks along K: as many as are on
// their way at once, and many more.
const sizes = {
  odd: { M: 5, N: 11, K: 37 },
  'one row': { M: 1, N: 101, K: 70 },
  'one column': { M: 7, N: 1, K: 33 },
  'one element': { M: 1, N: 1, K: 1 },
  'no rows': { M: 0, N: 5, K: 4 },
  'no outputs': { M: 3, N: 0, K: 4 },
  'nothing to sum': { M: 3, N: 5, K: 0 },
  'whole tiles': { M: 4, N: 96, K: 64 },
  'one more than whole tiles': { M: 129, N: 97, K: 65 },
  'more rows than are converted at once': { M: 261, N: 13, K: 40 },
  'decode: tiles of weights that are shared': { M: 5, N: 700, K: 320 },
  'decode: one row, many pieces': { M: 1, N: 700, K: 300 },
  'a whole tile of few rows, as deep as its stages': { M: 16, N: 32, K: 768 },
  'a whole tile of some rows, as deep as its stages': { M: 64, N: 32, K: 512 },
  'whole tiles of many rows, as deep as their stages': { M: 128, N: 256, K: 128 },
  'more tiles of rows than lie together': { M: 2100, N: 150, K: 3 },
  'one less and one more': { M: 127, N: 129, K: 80 },
  'long sums of few rows': { M: 3, N: 40, K: 4512 },
  'long sums of some rows': { M: 33, N: 33, K: 4512 },
  'long sums of many rows': { M: 71, N: 136, K: 1232 },
}
/** Fewer, for what differs from linear in the end only. */
const fused = {
  odd: sizes.odd,
  'one element': sizes['one element'],
  'no rows': sizes['no rows'],
  'no outputs': sizes['no outputs'],
  'nothing to sum': sizes['nothing to sum'],
  'whole tiles': sizes['whole tiles'],
  'one less and one more': sizes['one less and one more'],
}
const arbitrary = fc.record({ M: fc.nat(20), N: fc.nat(130), K: fc.nat(130) })

/** Rows of x that are 1 in one place each pick columns of the weights, all different within 17: no k is another. */
const picking = (rows: number): Inputs => ({
  x: nd([rows, 96], (i) => (i % 96 === (Math.floor(i / 96) * 5) % 96 ? 1 : 0)),
  weight: nd([40, 96], (i) => (Math.floor(i / 96) * 7 + (i % 96)) % 17),
  to: 'f32',
})
const integers = (random: Random, M: number): Inputs => ({
  x: random.integers([M, 160], -4, 4),
  weight: random.integers([40, 160], -4, 4),
  bias: random.integers([40], -9, 9),
  to: 'f32',
})

const makeLinear = ({ M, N, K }: Sizes, random: Random): Inputs => ({
  x: random.normal([M!, K!]),
  weight: random.normal([N!, K!]),
  scale: random.uniform([1], 0.1, 3),
  bias: random.normal([N!]),
  decode: M! <= 16 && random.next() < 0.5,
  to: to(random),
})

function linearProduct(inputs: Inputs, { sums }: Arithmetic): Expected {
  const scale = (inputs.scale as Nd | undefined)?.data[0] ?? 1
  const [x, weight] = [tensorOf(inputs, 'x'), tensorOf(inputs, 'weight')]
  const [bias, y] = [inputs.bias, inputs.y] as (Nd | undefined)[]
  return product({ x, weight, bias, y, scale: () => scale, scales: 1, sums })
}

const linear: Spec = {
  reference: (inputs, arithmetic) => ({ y: linearProduct(inputs, arithmetic) }),
  make: makeLinear,
  sizes,
  arbitrary,
  special: inWays(rows, {
    ...Object.fromEntries(
      Object.entries(sizes).map(([name, sizes]) => [
        `${name}, bf16 weights`, // which with bf16 are multiplied by other kernels than with f32
        (random: Random): Inputs => ({ ...makeLinear(sizes, random), 'weight.dtype': 'bf16' }),
      ]),
    ),
    ...Object.fromEntries(
      real.flatMap((dtype) => [
        ...[1, 9, 40].map((M) => [
          `${dtype} weights, ${M} rows, neither scale nor bias`,
          (random: Random): Inputs => ({
            x: random.normal([M, 91]),
            weight: random.normal([103, 91]),
            'weight.dtype': dtype,
            to: to(random),
          }),
        ]),
        ...[2, 20, 130].map((M) => [
          `whole numbers, ${dtype} weights, ${M} rows`,
          (random: Random): Inputs => ({ ...integers(random, M), 'weight.dtype': dtype }),
        ]),
        ...[16, 130].map((M) => [
          `${M} rows that pick columns, ${dtype} weights`,
          (): Inputs => ({ ...picking(M), 'weight.dtype': dtype }),
        ]),
        [
          `NaN among ${dtype} weights`,
          (): Inputs => ({
            x: nd([2, 32], (i) => i + 1),
            weight: nd([24, 32], (i) => (i % 100 === 7 ? Number.NaN : i % 5)),
            'weight.dtype': dtype,
            to: 'bf16',
          }),
        ],
      ]),
    ),
    'fp8 weights with a scale': (random) => ({
      x: random.normal([6, 50]),
      weight: random.normal([20, 50], 100),
      'weight.dtype': 'e4m3',
      scale: random.uniform([1], 0.001, 0.002),
      to: 'bf16',
    }),
    'neither scale nor bias, every row aligned': (random) => ({
      x: random.normal([32, 80]),
      weight: random.normal([48, 80]),
      'weight.dtype': 'bf16',
      to: to(random),
    }),
    'a bias and no scale': (random) => ({
      x: random.normal([3, 8]),
      weight: random.normal([9, 8]),
      bias: random.normal([9]),
      to: 'f32',
    }),
    'sums that cancel': (random) => ({
      x: nd([2, 64], (i) => (i % 2 ? 1e4 : -1e4)),
      weight: nd([3, 64], () => 1 + random.next() / 1024),
      to: 'f32',
    }),
    'what is not finite stays in its own row': () => ({
      x: nd([3, 5], (i) => ({ 1: Number.POSITIVE_INFINITY, 13: Number.NaN })[i] ?? 2),
      weight: nd([2, 5], (i) => i + 1),
      to: 'f32',
    }),
  }),
}

function fp8Product(inputs: Inputs, arithmetic: Arithmetic): Expected {
  const [rows, all] = [tensorOf(inputs, 'xScale').data, tensorOf(inputs, 'weightScale').data[0]!]
  const [x, weight] = [tensorOf(inputs, 'x'), tensorOf(inputs, 'weight')]
  const [bias, y] = [inputs.bias, inputs.y] as (Nd | undefined)[]
  const scale = (m: number) => (rows[rows.length === 1 ? 0 : m] ?? 1) * all
  return product({ x, weight, bias, y, scale, scales: 2, sums: fp8Sums(inputs, arithmetic) })
}

const fp8Linear: Spec = {
  reference: (inputs, arithmetic) => ({ y: fp8Product(inputs, arithmetic) }),
  make: ({ M, N, K }: Sizes, random) => ({
    x: random.normal([M!, K!], 100),
    'x.dtype': fp8[random.integer(0, 1)]!,
    xScale: random.uniform([random.next() < 0.5 ? 1 : M!], 0.001, 0.1),
    weight: random.normal([N!, K!], 100),
    'weight.dtype': fp8[random.integer(0, 1)]!,
    weightScale: random.uniform([1], 0.001, 0.1),
    bias: random.normal([N!]),
    decode: M! <= 16 && random.next() < 0.5,
    fast: random.next() < 0.5,
    to: to(random),
  }),
  sizes,
  arbitrary,
  special: inWays(sums, {
    ...Object.fromEntries(
      fp8.flatMap((x) =>
        fp8.flatMap((weight) => [
          ...[2, 20, 130].map((M) => [
            `whole numbers, ${x} by ${weight}, ${M} rows`,
            (random: Random): Inputs => ({
              ...integers(random, M),
              'x.dtype': x,
              'weight.dtype': weight,
              xScale: nd([M], (m) => 2 ** (m % 3)),
              weightScale: nd([1], () => 0.5),
            }),
          ]),
          ...[16, 130].map((M) => [
            `${M} rows that pick columns, ${x} by ${weight}`,
            (): Inputs => ({
              ...picking(M),
              'x.dtype': x,
              'weight.dtype': weight,
              xScale: nd([1], () => 1),
              weightScale: nd([1], () => 1),
            }),
          ]),
        ]),
      ),
    ),
    ...Object.fromEntries(
      ['few', 'some', 'many'].map((name) => [
        `long sums of ${name} rows, e4m3 by e4m3`,
        (random: Random): Inputs => {
          const { M, N, K } = sizes[`long sums of ${name} rows` as keyof typeof sizes]
          return {
            x: random.integers([M, K], -2, 2),
            xScale: nd([1], () => 1),
            weight: random.integers([N, K], -2, 2),
            weightScale: nd([1], () => 1),
            to: 'f32',
          }
        },
      ]),
    ),
    'no bias, a scale for each row': (random) => ({
      x: random.normal([4, 30], 100),
      xScale: random.uniform([4], 0.001, 0.1),
      weight: random.normal([5, 30], 100),
      weightScale: random.uniform([1], 0.001, 0.1),
      to: 'bf16',
    }),
    ...Object.fromEntries(
      fp8.map((dtype) => [
        `no bias, one scale, every row aligned, ${dtype} by e4m3`,
        (random: Random): Inputs => ({
          x: random.normal([32, 80], 100),
          'x.dtype': dtype,
          xScale: nd([1], () => 0.01),
          weight: random.normal([48, 80], 100),
          weightScale: nd([1], () => 0.03),
          to: to(random),
        }),
      ]),
    ),
    'scales whose product is no f32, of sums that are large': () => ({
      x: nd([2, 256], () => 448),
      xScale: nd([1], () => 2 ** -100),
      weight: nd([2, 256], () => 448),
      weightScale: nd([1], () => 2 ** -50),
      to: 'f32',
    }),
  }),
}

const linearRelu2: Spec = {
  reference: (inputs, arithmetic) => relu2(linearProduct(inputs, arithmetic), inputs),
  make: (sizes, random) => ({ ...makeLinear(sizes, random), scales: random.next() < 0.5 ? 1 : sizes.M! }),
  sizes: fused,
  arbitrary,
  special: inWays(rows, {
    'bf16 weights, a largest for each row': (random) => ({
      ...makeLinear({ M: 19, N: 72, K: 64 }, random),
      'weight.dtype': 'bf16',
      scales: 19,
    }),
    'bf16 weights, a largest for all': (random) => ({
      ...makeLinear({ M: 35, N: 40, K: 48 }, random),
      'weight.dtype': 'bf16',
      scales: 1,
    }),
    'more rows than are streamed together': (random) => ({
      ...makeLinear({ M: 131, N: 24, K: 16 }, random),
      'weight.dtype': 'bf16',
      scales: 131,
    }),
    // 17^2 is no bf16: 288 is stored.
    'the largest as it is stored': () => ({
      x: nd([2, 8], () => 1),
      weight: nd([8, 8], (i) => (i === 0 ? 17 : 0)),
      'weight.dtype': 'bf16',
      scales: 1,
      to: 'bf16',
    }),
    'NaN is no largest': () => ({
      x: nd([3, 8], (i) => (i === 9 ? Number.NaN : 1)),
      weight: nd([24, 8], (i) => i % 5),
      'weight.dtype': 'bf16',
      scales: 1,
      to: 'f32',
    }),
    'nothing above zero': () => ({
      x: nd([3, 8], () => 1),
      weight: nd([24, 8], (i) => -(i % 5)),
      'weight.dtype': 'bf16',
      scales: 3,
      to: 'bf16',
    }),
  }),
}

const linearAdd: Spec = {
  reference: (inputs, arithmetic) => ({ y: linearProduct(inputs, arithmetic) }),
  make: (sizes, random) => {
    const { to, ...inputs } = makeLinear(sizes, random)
    return { ...inputs, y: random.normal([sizes.M!, sizes.N!]) }
  },
  sizes: fused,
  arbitrary,
  special: inWays(rows, {
    'bf16 weights': (random) => ({
      x: random.integers([21, 64], -4, 4),
      weight: random.integers([72, 64], -4, 4),
      'weight.dtype': 'bf16',
      y: random.integers([21, 72], -9, 9),
    }),
    // 1 + 2^-8 added to -1: nothing is left of it where it is rounded to bf16 before.
    'small beside large': () => ({
      x: nd([2, 16], (i) => (i % 16 === 0 ? 1 : i % 16 === 1 ? 2 ** -8 : 0)),
      weight: nd([8, 16], () => 1),
      'weight.dtype': 'bf16',
      y: nd([2, 8], () => -1),
    }),
  }),
}

const makeFp8 = fp8Linear.make

const fp8LinearRelu2: Spec = {
  reference: (inputs, arithmetic) => relu2(fp8Product(inputs, arithmetic), inputs),
  make: (sizes, random) => ({ ...makeFp8(sizes, random), scales: random.next() < 0.5 ? 1 : sizes.M! }),
  sizes: fused,
  arbitrary,
}

const fp8LinearAdd: Spec = {
  reference: (inputs, arithmetic) => ({ y: fp8Product(inputs, arithmetic) }),
  make: (sizes, random) => {
    const { to, ...inputs } = makeFp8(sizes, random)
    return { ...inputs, y: random.normal([sizes.M!, sizes.N!]) }
  },
  sizes: fused,
  arbitrary,
  special: inWays(sums, {
    'whole numbers, one scale, every row aligned': (random) => ({
      x: random.integers([32, 64], -4, 4),
      xScale: nd([1], () => 0.5),
      weight: random.integers([80, 64], -4, 4),
      'weight.dtype': 'e5m2',
      weightScale: nd([1], () => 4),
      y: random.integers([32, 80], -9, 9),
    }),
    'whole numbers': (random) => ({
      x: random.integers([21, 64], -4, 4),
      xScale: nd([21], (m) => 2 ** (m % 3)),
      weight: random.integers([72, 64], -4, 4),
      weightScale: nd([1], () => 2),
      y: random.integers([21, 72], -9, 9),
    }),
  }),
}

/** Products of matrices of which the first, the second or both have k as their rows. */
function matmul(ofA: 'n' | 't', ofB: 'n' | 't', adds = false): Spec {
  const shape = (order: 'n' | 't', rows: number, columns: number) => (order === 'n' ? [rows, columns] : [columns, rows])
  const make = ({ M, N, K }: Sizes, random: Random): Inputs => ({
    a: random.normal(shape(ofA, M!, K!)),
    b: random.normal(shape(ofB, K!, N!)),
    ...(adds ? { y: random.normal([M!, N!]) } : { to: to(random) }),
  })
  return {
    reference: (inputs, { sums }) => {
      const [a, b] = [tensorOf(inputs, 'a'), tensorOf(inputs, 'b')]
      const [x, weight] = [ofA === 'n' ? a : transpose(a), ofB === 'n' ? transpose(b) : b]
      return { y: product({ x, weight, y: inputs.y as Nd | undefined, scale: () => 1, scales: 0, sums }) }
    },
    make,
    sizes: fused,
    arbitrary,
    special: {
      // Whole numbers, different everywhere: no element is another's.
      'rows that pick columns': () => {
        const { x, weight } = picking(72) as { x: Nd; weight: Nd }
        const wanted = adds ? { y: nd([72, 40], (i) => i % 7) } : { to: 'f32' }
        return { a: ofA === 'n' ? x : transpose(x), b: ofB === 'n' ? transpose(weight) : weight, ...wanted }
      },
    },
  }
}

/** With products past the tiles of large ones. */
const withLarge = (spec: Spec, cases: Cases): Spec => ({ ...spec, special: { ...spec.special, ...cases } })

const specs = {
  linear: withLarge(linear, large.linear),
  linearRelu2: withLarge(linearRelu2, large.linearRelu2),
  linearAdd: withLarge(linearAdd, large.linearAdd),
  matmulNn: withLarge(matmul('n', 'n'), large.matmulNn),
  matmulTn: withLarge(matmul('t', 'n'), large.matmulTn),
  matmulTnAdd: withLarge(matmul('t', 'n', true), large.matmulTnAdd),
  matmulTt: withLarge(matmul('t', 't'), large.matmulTt),
  fp8Linear: withLarge(fp8Linear, large.fp8Linear),
  fp8LinearRelu2: withLarge(fp8LinearRelu2, large.fp8LinearRelu2),
  fp8LinearAdd,
}

// By the kernels for every GPU too, but for what means nothing to them, and for what is large for Hopper's tiles only.
const ways = (inputs: Inputs): Way[] => {
  const [x, weight] = [inputs.x ?? inputs.a, inputs.weight ?? inputs.b] as [Nd, Nd]
  const large = x.shape[0]! * weight.data.length > 2e6
  return inputs.decode || inputs.fast || large ? kernels.slice(0, 1) : kernels
}

export const linearSpecs = Object.fromEntries(
  Object.entries(specs).map(([name, spec]) => [name, { ...spec, ways }]),
) as Record<keyof typeof specs, Spec>
