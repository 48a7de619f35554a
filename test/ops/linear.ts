// Matrix products. A sum of K products in f32, in any order, misses by at most K u times the sum of their
// magnitudes; every scale and the bias add one rounding.
import fc from 'fast-check'
import { type Inputs, type Nd, nd, type Random, type Sizes, type Spec, tensorOf, u } from './spec.ts'

/** y[m,n] = scale(m) * x[m] . weight[n] + bias[n], with `scales` roundings for the scales. */
function product(inputs: Inputs, scale: (m: number) => number, scales: number) {
  const [x, weight, bias] = [tensorOf(inputs, 'x'), tensorOf(inputs, 'weight'), inputs.bias as Nd | undefined]
  const [M, K, N] = [x.shape[0]!, x.shape[1]!, weight.shape[0]!]
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
      error[m * N + n] = (K + scales + 1) * u * (Math.abs(scale(m)) * magnitude + Math.abs(added))
    }
  }
  return { y: { value, error } }
}

const to = (random: Random) => (['f32', 'bf16'] as const)[random.integer(0, 1)]!

// Beside odd ones: sizes about those of register tiles (2 to 6), of pieces of work (96 columns, 128 and 256
// rows), and of blocks along K.
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
  'long sums': { M: 3, N: 5, K: 2500 },
}
const arbitrary = fc.record({ M: fc.nat(20), N: fc.nat(130), K: fc.nat(130) })
const real = ['f32', 'bf16', 'f16', 'e4m3', 'e5m2'] as const

const linear: Spec = {
  reference: (inputs) => {
    const scale = (inputs.scale as Nd | undefined)?.data[0] ?? 1
    return product(inputs, () => scale, 1)
  },
  make: ({ M, N, K }: Sizes, random) => ({
    x: random.normal([M!, K!]),
    weight: random.normal([N!, K!]),
    scale: random.uniform([1], 0.1, 3),
    bias: random.normal([N!]),
    to: to(random),
  }),
  sizes,
  arbitrary,
  special: {
    ...Object.fromEntries(
      real.flatMap((dtype) =>
        [1, 9].map((M) => [
          `${dtype} weights, ${M} rows, neither scale nor bias`,
          (random: Random): Inputs => ({
            x: random.normal([M, 91]),
            weight: random.normal([103, 91]),
            'weight.dtype': dtype,
            to: to(random),
          }),
        ]),
      ),
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
  reference: (inputs) => {
    const [rows, whole] = [tensorOf(inputs, 'xScale').data, tensorOf(inputs, 'weightScale').data[0]!]
    return product(inputs, (m) => (rows[rows.length === 1 ? 0 : m] ?? 1) * whole, 2)
  },
  make: ({ M, N, K }: Sizes, random) => ({
    x: random.normal([M!, K!], 100),
    'x.dtype': (['e4m3', 'e5m2'] as const)[random.integer(0, 1)]!,
    xScale: random.uniform([random.next() < 0.5 ? 1 : M!], 0.001, 0.1),
    weight: random.normal([N!, K!], 100),
    'weight.dtype': (['e4m3', 'e5m2'] as const)[random.integer(0, 1)]!,
    weightScale: random.uniform([1], 0.001, 0.1),
    bias: random.normal([N!]),
    to: to(random),
  }),
  sizes,
  arbitrary,
  special: {
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
