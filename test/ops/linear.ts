// Matrix products. A sum of K products in f32, in any order, misses by at most K roundings of the sum of their
// magnitudes; every scale and the bias add one. Sums of whole numbers do not miss while they are below 2^24.
import fc from 'fast-check'
import {
  type Arithmetic,
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

/** Exact in any order, if the sums are small enough. */
const whole = ({ data }: Nd) => data.every(Number.isInteger)
const powerOfTwo = (x: number) => Number.isInteger(Math.log2(x))

/** y[m,n] = scale(m) * x[m] . weight[n] + bias[n], with `scales` roundings for the scales and `sums` for an addition. */
function product(inputs: Inputs, scale: (m: number) => number, scales: number, sums: number) {
  const [x, weight, bias] = [tensorOf(inputs, 'x'), tensorOf(inputs, 'weight'), inputs.bias as Nd | undefined]
  const [M, K, N] = [x.shape[0]!, x.shape[1]!, weight.shape[0]!]
  const exact = whole(x) && whole(weight) && (!bias || whole(bias))
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
      const added = bias?.data[n] ?? 0
      value.data[m * N + n] = scale(m) * sum + added
      if (exact && magnitude + Math.abs(added) < 2 ** 24 && powerOfTwo(scale(m))) continue
      error[m * N + n] = (K * sums + (scales + 1) * u) * (Math.abs(scale(m)) * magnitude + Math.abs(added))
    }
  }
  return { y: { value, error } }
}

/**
 * What tensor cores for e4m3 lose of a sum: beside every 32 products and what was summed before, 13 bits below the
 * largest are kept of each (DeepSeek-V3, 3.3.2), where no more than a few such sums follow each other.
 */
const e4m3Sums = (inputs: Inputs, arithmetic: Arithmetic, K: number) =>
  arithmetic !== f32Arithmetic && inputs['x.dtype'] !== 'e5m2' && inputs['weight.dtype'] !== 'e5m2'
    ? (33 * 2 ** -13) / Math.max(K, 1)
    : 0

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
  to: to(random),
})

const linear: Spec = {
  reference: (inputs, { sums }) => {
    const scale = (inputs.scale as Nd | undefined)?.data[0] ?? 1
    return product(inputs, () => scale, 1, sums)
  },
  make: makeLinear,
  sizes,
  arbitrary,
  special: {
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
  },
}

const fp8Linear: Spec = {
  reference: (inputs, arithmetic) => {
    const [rows, all] = [tensorOf(inputs, 'xScale').data, tensorOf(inputs, 'weightScale').data[0]!]
    const sums = arithmetic.sums + e4m3Sums(inputs, arithmetic, tensorOf(inputs, 'x').shape[1]!)
    return product(inputs, (m) => (rows[rows.length === 1 ? 0 : m] ?? 1) * all, 2, sums)
  },
  make: ({ M, N, K }: Sizes, random) => ({
    x: random.normal([M!, K!], 100),
    'x.dtype': fp8[random.integer(0, 1)]!,
    xScale: random.uniform([random.next() < 0.5 ? 1 : M!], 0.001, 0.1),
    weight: random.normal([N!, K!], 100),
    'weight.dtype': fp8[random.integer(0, 1)]!,
    weightScale: random.uniform([1], 0.001, 0.1),
    bias: random.normal([N!]),
    to: to(random),
  }),
  sizes,
  arbitrary,
  special: {
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
    'scales whose product is no f32, of sums that are large': () => ({
      x: nd([2, 256], () => 448),
      xScale: nd([1], () => 2 ** -100),
      weight: nd([2, 256], () => 448),
      weightScale: nd([1], () => 2 ** -50),
      to: 'f32',
    }),
  },
}

export const linearSpecs = { linear, fp8Linear }
