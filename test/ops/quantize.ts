// fp8 with current scaling. Largest magnitudes are exact; a scale is one division, its inverse another, and what
// they scale one product: each at most u of its result. test/ops/quantize.test.ts has the published bits.
import fc from 'fast-check'
import { type Expected, type Inputs, type Nd, nd, type Random, type Sizes, type Spec, tensorOf, u } from './spec.ts'

export const largest: Record<string, number> = { e4m3: 448, e5m2: 57344 }
export const kLargestFloat = 2 ** 128 - 2 ** 104

export const magnitude = (values: Float64Array) =>
  values.reduce((most, v) => (Number.isNaN(v) ? most : Math.max(most, Math.abs(v))), 0)

const rowsOf = (x: Nd) => {
  const [T, D] = x.shape as [number, number]
  return Array.from({ length: T }, (_, t) => x.data.subarray(t * D, (t + 1) * D))
}

const sizes = {
  odd: { T: 5, D: 37 },
  'one row': { T: 1, D: 64 },
  'no rows': { T: 0, D: 8 },
  'no columns': { T: 3, D: 0 },
  'more pieces than threads': { T: 40, D: 1100 },
  'rows of one access': { T: 3, D: 8 },
  'a block and one access wide': { T: 2, D: 8200 },
}
const arbitrary = fc.record({ T: fc.nat(9), D: fc.nat(130) })

const inputsOfAmax: Omit<Spec, 'reference'> = {
  make: ({ T, D }: Sizes, random) => ({ x: random.normal([T!, D!]) }),
  sizes,
  arbitrary,
  special: {
    'all negative': (random) => ({ x: random.uniform([3, 21], -5, -4) }),
    'the largest in every place': () => ({ x: nd([40, 40], (i) => (i % 41 === 0 ? -7 : 1)) }),
    'the largest in every place of rows that are not whole packs': () => ({
      x: nd([41, 41], (i) => (i % 42 === 0 ? -7 : 1)),
    }),
    'the largest last in a long row': () => ({ x: nd([2, 8200], (i) => (i % 8200 === 8199 ? -7 : 1)) }),
    'the largest in the last of many rows': () => ({ x: nd([1100, 1], (i) => (i === 1099 ? 7 : 1)) }),
    'NaN and infinity': () => {
      const values = [
        Number.NaN,
        1,
        -3,
        Number.NaN,
        Number.NaN,
        Number.NaN,
        Number.NEGATIVE_INFINITY,
        2,
        Number.NaN,
        0,
        0,
        0,
      ]
      return { x: nd([4, 3], (i) => values[i]!) }
    },
  },
}

const amax: Spec = {
  ...inputsOfAmax,
  reference: (inputs) => ({ y: { value: nd([1], () => magnitude(tensorOf(inputs, 'x').data)), error: 0 } }),
}

const rowAmax: Spec = {
  ...inputsOfAmax,
  reference: (inputs) => {
    const rows = rowsOf(tensorOf(inputs, 'x'))
    return { y: { value: nd([rows.length], (t) => magnitude(rows[t]!)), error: 0 } }
  },
}

function scaleOf(amax: number, to: string) {
  if (!(amax > 0 && amax < Number.POSITIVE_INFINITY)) return 1
  return Math.min(largest[to]! / amax, kLargestFloat)
}

/** x with its own largest magnitudes, of all or of each row. */
function withAmax(x: Nd, perRow: boolean, to: string): Inputs {
  const rows = rowsOf(x)
  return { x, amax: perRow ? nd([rows.length], (t) => magnitude(rows[t]!)) : nd([1], () => magnitude(x.data)), to }
}

export const format = (random: Random) => (['e4m3', 'e5m2'] as const)[random.integer(0, 1)]!

const quantize: Spec = {
  reference: (inputs) => {
    const [x, amax, to] = [tensorOf(inputs, 'x'), tensorOf(inputs, 'amax').data, inputs.to as string]
    const D = x.shape[1]!
    const scales = Array.from(amax, (a) => scaleOf(a, to))
    const limit = largest[to]!
    const scaled = x.data.map((v, i) => v * scales[amax.length === 1 ? 0 : Math.floor(i / D)]!)
    return {
      y: {
        value: { shape: x.shape, data: scaled.map((v) => Math.max(-limit, Math.min(limit, v))) },
        error: scaled.map((v) => (Math.abs(v) > 2 * limit ? 0 : 2 * u * Math.abs(v))),
      },
      scale: { value: nd([amax.length], (r) => 1 / scales[r]!), error: Float64Array.from(scales, (s) => (2 * u) / s) },
    }
  },
  make: ({ T, D }: Sizes, random) => withAmax(random.normal([T!, D!]), random.next() < 0.5, format(random)),
  sizes,
  arbitrary,
  special: Object.fromEntries(
    ['e4m3', 'e5m2'].flatMap((to): [string, (random: Random) => Inputs][] => [
      [`${to}, a scale for each row`, (random) => withAmax(random.normal([7, 20], 1000), true, to)],
      [`${to}, one scale`, (random) => withAmax(random.normal([7, 20], 1e-3), false, to)],
      [`${to}, one scale for many rows`, (random) => withAmax(random.normal([300, 1]), false, to)],
      [
        `${to}, rows of zeros and of infinities`,
        () =>
          withAmax(
            nd([3, 4], (i) => [0, 0, 0, 0, 1, -2, 3, 4, Number.POSITIVE_INFINITY, 5, -6e4, 0.1][i]!),
            true,
            to,
          ),
      ],
      [
        `${to}, an amax less than the values`,
        (random) => ({ x: random.normal([2, 30]), amax: nd([1], () => 0.5), to }),
      ],
      [
        `${to}, values of f32's least`,
        () =>
          withAmax(
            nd([1, 5], (i) => (i - 2) * 2 ** -140),
            false,
            to,
          ),
      ],
    ]),
  ),
}

/** The rows of a matrix as columns. */
export function asColumns({ value, error }: Expected): Expected {
  const [T, D] = value.shape as [number, number]
  const from = (i: number) => (i % T) * D + Math.floor(i / T)
  return {
    value: nd([D, T], (i) => value.data[from(i)]!),
    error: (error as Float64Array).map((_, i, errors) => errors[from(i)]!),
  }
}

const quantizeTranspose: Spec = {
  reference: (inputs, arithmetic) => {
    const { y, scale } = quantize.reference(inputs, arithmetic) as Record<'y' | 'scale', Expected>
    return { y, transposed: asColumns(y), scale }
  },
  make: ({ T, D }: Sizes, random) => withAmax(random.normal([T!, D!]), false, format(random)),
  sizes: {
    ...sizes,
    'tiles and an access more, both ways': { T: 264, D: 136 },
    'tiles and one more, both ways': { T: 129, D: 257 },
  },
  arbitrary: fc.record({ T: fc.nat(300), D: fc.nat(130) }),
  special: Object.fromEntries(
    ['e4m3', 'e5m2'].map((to): [string, (random: Random) => Inputs] => [
      `${to}, every element another`,
      () =>
        withAmax(
          nd([16, 16], (i) => i - 128),
          false,
          to,
        ),
    ]),
  ),
}

const dequantize: Spec = {
  reference: (inputs) => {
    const [x, scale] = [tensorOf(inputs, 'x'), tensorOf(inputs, 'scale').data]
    const value = nd(x.shape, (i) => x.data[i]! * scale[scale.length === 1 ? 0 : Math.floor(i / x.shape[1]!)]!)
    return { y: { value, error: value.data.map((v) => u * Math.abs(v)) } }
  },
  make: ({ T, D }: Sizes, random) => ({
    x: random.normal([T!, D!], 100),
    'x.dtype': format(random),
    scale: random.uniform([random.next() < 0.5 ? 1 : T!], 0.001, 10),
    to: (['f32', 'bf16'] as const)[random.integer(0, 1)]!,
  }),
  sizes,
  arbitrary,
}

export const quantizeSpecs = { amax, rowAmax, quantize, quantizeTranspose, dequantize }
