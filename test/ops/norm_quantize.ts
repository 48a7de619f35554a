// Norms, and a gated activation, whose results go to fp8. How far a norm may be off is said in norms.ts; here it is rounded besides, as it is
// stored, and its largest magnitude is off as far as any of its elements. test/ops/norm_quantize.test.ts has the bits.
import fc from 'fast-check'
import { eighths, gate, normalized, siluTimes } from './norms.ts'
import { asColumns, format, kLargestFloat, largest, magnitude } from './quantize.ts'
import { type Expected, type Inputs, type Nd, nd, type Random, type Sizes, type Spec, tensorOf, u } from './spec.ts'

/** The result of a norm in fp8, with `scales` of them. */
export function quantized(norm: Expected, scales: number, to: string): { y: Expected; scale: Expected } {
  const [T, D] = norm.value.shape as [number, number]
  const limit = largest[to]!
  // Rounded to bf16, or f32, which is less.
  const off = (norm.error as Float64Array).map((e, i) => {
    const v = norm.value.data[i]!
    return v === 0 && e === 0 ? 0 : e + 2 ** -8 * (Math.abs(v) + e) + 2 ** -134
  })
  const y = { value: nd([T, D], () => 0), error: new Float64Array(T * D) }
  const scale = { value: nd([scales], () => 0), error: new Float64Array(scales) }
  for (let r = 0; r < scales; r++) {
    const [begin, end] = scales === 1 ? [0, T * D] : [r * D, (r + 1) * D]
    const amax = magnitude(norm.value.data.subarray(begin, end))
    const fixed = amax === 0 || amax === Number.POSITIVE_INFINITY
    const miss = fixed ? 0 : magnitude(off.subarray(begin, end))
    const scaleAt = (a: number) => (fixed ? 1 : a <= 0 ? kLargestFloat : Math.min(limit / a, kLargestFloat))
    const [least, s, most] = [scaleAt(amax + miss), scaleAt(amax), scaleAt(amax - miss)]
    const wide = fixed ? 0 : Math.max(most - s, s - least) + 2 * u * s
    scale.value.data[r] = 1 / s
    scale.error[r] = fixed ? 0 : Math.max(1 / least - 1 / s, 1 / s - 1 / most) + (4 * u) / least
    for (let i = begin; i < end; i++) {
      const v = norm.value.data[i]!
      y.value.data[i] = Math.max(-limit, Math.min(limit, v * s))
      y.error[i] = Number.isFinite(v) ? Math.abs(v) * wide + off[i]! * (s + wide) + 2 * u * Math.abs(v * s) : 0
    }
  }
  return { y, scale }
}

/** Every size with one scale, and with one for each row. */
const both = (sizes: Record<string, Sizes>) =>
  Object.fromEntries(
    Object.entries(sizes).flatMap(([name, of]) => [
      [`${name}, one scale`, { ...of, each: 0 }],
      [`${name}, a scale for each row`, { ...of, each: 1 }],
    ]),
  )
const chosen = ({ T, each }: Sizes, random: Random) => ({ scales: each ? T! : 1, to: format(random) })
const each = fc.integer({ min: 0, max: 1 })

const edges = {
  odd: { T: 3, D: 37 },
  'one token': { T: 1, D: 64 },
  'no tokens': { T: 0, D: 8 },
  'no columns': { T: 2, D: 0 },
  'rows of one access': { T: 3, D: 8 },
  'more pieces than threads': { T: 40, D: 1104 },
  'all that registers hold': { T: 2, D: 8192 },
  'more than registers hold': { T: 2, D: 8200 },
}
const rows = both({ ...edges, 'more rows than blocks, of two warps': { T: 150, D: 520 } })
const rowSizes = fc.record({
  T: fc.nat(9),
  D: fc.oneof(
    fc.nat(70),
    fc.nat(40).map((n) => 8 * n),
  ),
  each,
})

/** Rows of 24, which are whole packs, where the norm is what `element` says times `weight`. */
const extreme = (element: (t: number, d: number) => number, weight: (d: number) => number): Inputs => ({
  x: nd([4, 24], (i) => element(Math.floor(i / 24), i % 24)),
  weight: nd([24], weight),
  eps: 1e-5,
})
const sign = (d: number) => (d % 2 ? -1 : 1)
const values: Record<string, Inputs> = {
  'rows of zeros, and of -0': extreme(
    (t, d) => [0, -0, sign(d), 0][t]!,
    () => 1,
  ),
  'nothing but zeros': extreme(
    () => 0,
    () => 1,
  ),
  'infinities and NaN': extreme(
    (t, d) => (d === 5 ? [1, Number.NaN, Number.NEGATIVE_INFINITY, 3][t]! : sign(d)),
    () => 1,
  ),
  'an infinite weight': extreme(
    (_, d) => sign(d) * (1 + d),
    (d) => (d === 3 ? Number.POSITIVE_INFINITY : 1),
  ),
  'results that are subnormal': extreme(
    (t, d) => sign(d) * (1 + d + t),
    () => 2 ** -130,
  ),
  'the largest last': extreme(
    (t, d) => (t === 3 && d === 23 ? -50 : 1),
    () => 1,
  ),
  'the largest weight last': extreme(
    (_, d) => sign(d),
    (d) => (d === 23 ? 300 : 1),
  ),
  'the largest weight in the middle': extreme(
    (_, d) => sign(d),
    (d) => (d === 11 ? 300 : 1),
  ),
}
const special = (complete: (inputs: Inputs) => Inputs) =>
  Object.fromEntries(
    Object.entries(values).flatMap(([name, inputs]): [string, () => Inputs][] => [
      [`${name}, one scale`, () => complete({ ...inputs, scales: 1, to: 'e4m3' })],
      [`${name}, a scale for each row`, () => complete({ ...inputs, scales: 4, to: 'e5m2' })],
    ]),
  )
const largestAnywhere = (scales: number) => () => ({
  x: nd([40, 40], (i) => (i % 41 === 0 ? -7 : 1)),
  weight: nd([40], () => 1),
  eps: 1e-5,
  scales,
  to: 'e4m3',
})

const normOf = (x: Nd, inputs: Inputs) => {
  const weight = tensorOf(inputs, 'weight')
  return normalized(x, weight, inputs.eps as number, weight.data.length)
}

const rmsNormQuantize: Spec = {
  reference: (inputs) => quantized(normOf(tensorOf(inputs, 'x'), inputs), inputs.scales as number, inputs.to as string),
  make: ({ T, D, each }: Sizes, random) => ({
    x: random.normal([T!, D!]),
    weight: random.normal([D!]),
    eps: 1e-5,
    ...chosen({ T: T!, each: each! }, random),
  }),
  sizes: rows,
  arbitrary: rowSizes,
  special: {
    ...special((inputs) => inputs),
    'the largest in every place, one scale': largestAnywhere(1),
    'the largest in every place, a scale for each row': largestAnywhere(40),
  },
}

const addRmsNormQuantize: Spec = {
  reference: (inputs) => {
    const [before, x] = [tensorOf(inputs, 'residual'), tensorOf(inputs, 'x')]
    const sum = nd(x.shape, (i) => before.data[i]! + x.data[i]!)
    return {
      residual: { value: sum, error: 0 },
      ...quantized(normOf(sum, inputs), inputs.scales as number, inputs.to as string),
    }
  },
  make: ({ T, D, each }: Sizes, random) => ({
    residual: eighths(random, [T!, D!]),
    x: eighths(random, [T!, D!]),
    weight: random.normal([D!]),
    eps: 1e-5,
    ...chosen({ T: T!, each: each! }, random),
  }),
  sizes: rows,
  arbitrary: rowSizes,
  special: special((inputs) => ({ ...inputs, residual: nd([4, 24], () => 0) })),
}

const gatedRmsNormQuantize: Spec = {
  reference: (inputs) => {
    const [x, z, weight] = (['x', 'z', 'weight'] as const).map((name) => tensorOf(inputs, name))
    const size = weight!.data.length / (inputs.groups as number)
    const { value, off } = gate(x!, z!)
    const norm = normalized(value, weight!, inputs.eps as number, size, off)
    return quantized(norm, inputs.scales as number, inputs.to as string)
  },
  make: ({ T, G, size, each }: Sizes, random) => ({
    x: random.normal([T!, G! * size!]),
    z: random.normal([T!, G! * size!], 2),
    weight: random.normal([G! * size!]),
    groups: G!,
    eps: 1e-5,
    ...chosen({ T: T!, each: each! }, random),
  }),
  sizes: both({
    groups: { T: 3, G: 4, size: 8 },
    'groups that are not whole packs, in rows that are': { T: 3, G: 8, size: 9 },
    'one group': { T: 2, G: 1, size: 40 },
    'one token': { T: 1, G: 8, size: 16 },
    'no tokens': { T: 0, G: 2, size: 8 },
    'teams of two warps, the last not full': { T: 5, G: 3, size: 600 },
    'groups of a model': { T: 3, G: 8, size: 1024 },
    'as many threads as a block has': { T: 2, G: 8, size: 2048 },
    'more groups than a block has warps': { T: 2, G: 40, size: 8 },
    'more than registers hold': { T: 1, G: 2, size: 8200 },
    'more parts than blocks': { T: 80, G: 8, size: 8 },
  }),
  arbitrary: fc.record({
    T: fc.nat(6),
    G: fc.integer({ min: 1, max: 8 }),
    size: fc.integer({ min: 1, max: 40 }),
    each,
  }),
  // silu(20) is 20 but for 2^-28.
  special: special((inputs) => ({ ...inputs, z: nd([4, 24], () => 20), groups: 3 })),
}

const siluMulQuantize: Spec = {
  reference: (inputs) => {
    const product = siluTimes(tensorOf(inputs, 'gate'), tensorOf(inputs, 'up'))
    return quantized(product, inputs.scales as number, inputs.to as string)
  },
  make: ({ T, D, each }: Sizes, random) => ({
    gate: random.normal([T!, D!], 3),
    up: random.normal([T!, D!]),
    ...chosen({ T: T!, each: each! }, random),
  }),
  sizes: both({
    ...edges,
    'rows of a model': { T: 2, D: 14336 },
    'all that a block holds': { T: 1, D: 32768 },
    'more than a block holds': { T: 1, D: 32776 },
  }),
  arbitrary: rowSizes,
  special: Object.fromEntries(
    Object.entries(values).flatMap(([name, { x }]): [string, () => Inputs][] => {
      const inputs = { gate: nd([4, 24], () => 20), up: x as Nd } // silu(20) is 20 but for 2^-28
      return [
        [`${name}, one scale`, () => ({ ...inputs, scales: 1, to: 'e4m3' })],
        [`${name}, a scale for each row`, () => ({ ...inputs, scales: 4, to: 'e5m2' })],
      ]
    }),
  ),
}

const rmsNormQuantizeTranspose: Spec = {
  reference: (inputs) => {
    const { y, scale } = quantized(normOf(tensorOf(inputs, 'x'), inputs), 1, inputs.to as string)
    return { y, transposed: asColumns(y), scale }
  },
  make: ({ T, D }: Sizes, random) => ({
    x: random.normal([T!, D!]),
    weight: random.normal([D!]),
    eps: 1e-5,
    to: format(random),
  }),
  sizes: {
    ...edges,
    'tokens of whole packs': { T: 16, D: 24 },
    'all that registers hold, tokens of whole packs': { T: 8, D: 8192 },
    'tiles and an access more, both ways': { T: 264, D: 136 },
    'tiles and one more, both ways': { T: 129, D: 257 },
  },
  arbitrary: fc.record({
    T: fc.nat(20).map((n) => 8 * n),
    D: fc.oneof(
      fc.nat(70),
      fc.nat(20).map((n) => 8 * n),
    ),
  }),
  special: Object.fromEntries(
    Object.entries(values).map(([name, inputs]) => [
      name,
      () => ({ ...inputs, x: nd([8, 24], (i) => tensorOf(inputs, 'x').data[i % 96]!), to: 'e4m3' }),
    ]),
  ),
}

export const normQuantizeSpecs = {
  rmsNormQuantize,
  addRmsNormQuantize,
  gatedRmsNormQuantize,
  siluMulQuantize,
  rmsNormQuantizeTranspose,
}
