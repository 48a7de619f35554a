// Norms and activations. The bounds count the roundings of f32 evaluation, each at most u of its result: n of
// them in a sum of n squares in any order, those of silu below, and one for every other operation.
import fc from 'fast-check'
import { type Expected, type Inputs, type Nd, nd, type Random, type Sizes, type Spec, tensorOf, u } from './spec.ts'

/** silu of f32 is -0 where 1 + exp(-x) passes 2^126 or more; what it leaves out there is below 2^-119. */
export const kSiluTail = 2 ** -119
/**
 * How many u silu may be off. On a GPU the exponent -x log2(e) is rounded twice, which 2^ makes 1.25 |x|; 2^ itself is
 * right to 2^-22, 1 + it to 1, the inverse to 2^-23 and the product to 1. Where x > 0, of the first two less than 1
 * is left.
 */
export const siluRoundings = (x: number) => 8 + 1.25 * Math.min(Math.max(-x, 0), 128)
export const silu = (x: number) => (x === Number.NEGATIVE_INFINITY ? 0 : x / (1 + Math.exp(-x)))

/** What f32 makes of a number it cannot hold. */
const held = (v: number) => (Math.abs(v) >= 2 ** 128 ? Math.sign(v) * Number.POSITIVE_INFINITY : v)

/**
 * x * rsqrt(mean(x^2) + eps) * weight, the mean over parts of `size`. `off`: how far each element of x may be off
 * already.
 */
export function normalized(x: Nd, weight: Nd, eps: number, size: number, off?: Float64Array): Expected {
  const D = weight.data.length
  const least = Math.fround(eps)
  const value = new Float64Array(x.data.length)
  const error = new Float64Array(x.data.length)
  for (let part = 0; part < value.length; part += size) {
    let [squares, squaresOff] = [0, 0]
    for (let i = part; i < part + size; i++) {
      squares += x.data[i]! ** 2
      if (off) squaresOff += (2 * Math.abs(x.data[i]!) + off[i]!) * off[i]!
    }
    const scaleOf = (squares: number) => 1 / Math.sqrt(squares / size + least)
    const scale = scaleOf(squares)
    const most = off ? scaleOf(Math.max(squares - squaresOff, 0)) : scale
    const apart = off ? Math.max(most - scale, scale - scaleOf(squares + squaresOff)) : 0
    // Under the root: squares and their sum, the mean, + eps; then the root, its inverse and two products.
    const roundings = (size + 3) / 2 + 4
    for (let i = part; i < part + size; i++) {
      const [v, by, miss] = [Math.abs(x.data[i]!), weight.data[i % D]!, off?.[i] ?? 0]
      value[i] = x.data[i]! * scale * by
      error[i] = (miss * most + v * apart + roundings * u * (v + miss) * most) * Math.abs(by)
    }
  }
  return { value: { shape: x.shape, data: value }, error }
}

/** x * silu(z) in numbers, and how far f32 may miss it. */
export function gate(x: Nd, z: Nd) {
  const value = nd(x.shape, (i) => x.data[i]! * silu(z.data[i]!))
  const missOf = (v: number, i: number) =>
    (siluRoundings(z.data[i]!) + 1) * u * Math.abs(v) + kSiluTail * Math.abs(x.data[i]!)
  return { value, off: value.data.map(missOf) }
}

const rows = {
  odd: { T: 3, D: 37 },
  'one token': { T: 1, D: 64 },
  'one column': { T: 4, D: 1 },
  'no tokens': { T: 0, D: 8 },
  'rows of one access': { T: 3, D: 8 },
  'a warp and one more': { T: 2, D: 257 },
}
const many = { 'more pieces than threads': { T: 40, D: 1100 }, 'a block and one access wide': { T: 2, D: 8200 } }
const wide = { 'more than registers hold': { T: 2, D: 16392 }, 'more than registers hold, odd': { T: 1, D: 16389 } }
const rowSizes = fc.record({ T: fc.nat(9), D: fc.integer({ min: 1, max: 300 }) })

const rmsNorm: Spec = {
  reference: (inputs) => {
    const weight = tensorOf(inputs, 'weight')
    return { y: normalized(tensorOf(inputs, 'x'), weight, inputs.eps as number, weight.data.length) }
  },
  make: ({ T, D }: Sizes, random) => ({ x: random.normal([T!, D!]), weight: random.normal([D!]), eps: 1e-5 }),
  sizes: { ...rows, 'no columns': { T: 2, D: 0 }, ...many, ...wide },
  arbitrary: rowSizes,
  special: {
    'large values, squares near the limit of f32': (random) => ({
      x: random.normal([2, 50], 1e17),
      weight: random.normal([50]),
      eps: 1e-5,
    }),
    'small values, eps above their squares': (random) => ({
      x: random.normal([2, 50], 1e-12),
      weight: random.normal([50]),
      eps: 1e-5,
    }),
    zeros: (random) => ({ x: nd([2, 5], () => 0), weight: random.normal([5]), eps: 1e-5 }),
    'one large among small': (random) => ({
      x: nd([1, 300], (i) => (i === 123 ? 1e4 : 1e-3)),
      weight: random.normal([300]),
      eps: 1e-5,
    }),
  },
}

/** Eighths up to 8: their sums are exact in bf16, so that every dtype stores the same residual. */
export const eighths = (random: Random, shape: number[]) => {
  const x = random.integers(shape, -64, 64)
  return nd(shape, (i) => x.data[i]! / 8)
}

const addRmsNorm: Spec = {
  reference: (inputs) => {
    const [before, x, weight] = (['residual', 'x', 'weight'] as const).map((name) => tensorOf(inputs, name))
    const sum = nd(x!.shape, (i) => before!.data[i]! + x!.data[i]!)
    return {
      residual: { value: sum, error: 0 },
      y: normalized(sum, weight!, inputs.eps as number, weight!.data.length),
    }
  },
  make: ({ T, D }: Sizes, random) => ({
    residual: eighths(random, [T!, D!]),
    x: eighths(random, [T!, D!]),
    weight: random.normal([D!]),
    eps: 1e-5,
  }),
  sizes: { ...rows, ...many, ...wide },
  arbitrary: rowSizes,
}

function gated(z: (shape: number[], random: Random) => Nd) {
  return ({ T, G, size }: Sizes, random: Random): Inputs => ({
    x: random.normal([T!, G! * size!]),
    z: z([T!, G! * size!], random),
    weight: random.normal([G! * size!]),
    groups: G!,
    eps: 1e-5,
  })
}

const gatedRmsNorm: Spec = {
  reference: (inputs) => {
    const [x, z, weight] = (['x', 'z', 'weight'] as const).map((name) => tensorOf(inputs, name))
    const size = weight!.data.length / (inputs.groups as number)
    const { value, off } = gate(x!, z!)
    return { y: normalized(value, weight!, inputs.eps as number, size, off) }
  },
  make: gated((shape, random) => random.normal(shape, 2)),
  sizes: {
    groups: { T: 3, G: 4, size: 9 },
    'one group': { T: 2, G: 1, size: 37 },
    'groups of one': { T: 2, G: 5, size: 1 },
    'groups that are not whole packs, in rows that are': { T: 3, G: 8, size: 9 },
    'one token': { T: 1, G: 8, size: 16 },
    'no tokens': { T: 0, G: 2, size: 8 },
    'more pieces than threads': { T: 40, G: 8, size: 128 },
    'groups of a model': { T: 3, G: 8, size: 1024 },
    'more than registers hold': { T: 1, G: 2, size: 16392 },
  },
  arbitrary: fc.record({ T: fc.nat(6), G: fc.integer({ min: 1, max: 8 }), size: fc.integer({ min: 1, max: 70 }) }),
  special: {
    'gates open and shut': (random) =>
      gated((shape) => nd(shape, (i) => [100, -100, 0, -1000, 30, -20][i % 6]!))({ T: 2, G: 3, size: 10 }, random),
    'a gate of minus infinity': (random) =>
      gated((shape) => nd(shape, (i) => (i === 4 ? Number.NEGATIVE_INFINITY : 1)))({ T: 1, G: 2, size: 5 }, random),
    'a group all shut beside one open': (random) =>
      gated((shape) => nd(shape, (i) => (i % 20 < 10 ? -200 : 1)))({ T: 2, G: 2, size: 10 }, random),
  },
}

const relu2: Spec = {
  reference: (inputs) => {
    const x = tensorOf(inputs, 'x')
    const value = nd(x.shape, (i) => held(x.data[i]! <= 0 ? 0 : x.data[i]! ** 2))
    return { y: { value, error: value.data.map((v) => u * v) } }
  },
  make: ({ T, D }: Sizes, random) => ({ x: random.normal([T!, D!]) }),
  sizes: { ...rows, 'no columns': { T: 2, D: 0 }, ...many },
  arbitrary: rowSizes,
  special: {
    extremes: () => {
      const values = [
        0,
        -0,
        1e-30,
        -1e-30,
        1e18,
        -1e38,
        1e38,
        Number.POSITIVE_INFINITY,
        Number.NEGATIVE_INFINITY,
        Number.NaN,
      ]
      return { x: nd([1, values.length], (i) => values[i]!) }
    },
  },
}

/** silu(gate) * up, and how far it may be off. */
export function siluTimes(gate: Nd, up: Nd): Expected {
  const value = nd(gate.shape, (i) => held(silu(gate.data[i]!) * up.data[i]!))
  const error = value.data.map(
    (v, i) => (siluRoundings(gate.data[i]!) + 1) * u * Math.abs(v) + kSiluTail * Math.abs(up.data[i]!),
  )
  return { value, error }
}

const siluMul: Spec = {
  reference: (inputs) => ({ y: siluTimes(tensorOf(inputs, 'gate'), tensorOf(inputs, 'up')) }),
  make: ({ T, D }: Sizes, random) => ({ gate: random.normal([T!, D!], 3), up: random.normal([T!, D!]) }),
  sizes: { ...rows, 'no columns': { T: 2, D: 0 }, ...many },
  arbitrary: rowSizes,
  special: {
    'gates of every size': () => ({
      gate: nd([1, 401], (i) => i - 200),
      up: nd([1, 401], (i) => (i % 2 ? 1 : -3)),
    }),
    'not finite': () => {
      const gates = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e38]
      return { gate: nd([1, 4], (i) => gates[i]!), up: nd([1, 4], () => 8) }
    },
  },
}

export const normSpecs = { rmsNorm, addRmsNorm, gatedRmsNorm, relu2, siluMul }
