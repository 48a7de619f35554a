// A Mamba-2 layer between its projections, of one token: the convolution, the recurrence and the norm of mamba2.ts and
// norms.ts one after the other, each told how far the results before may be off.
import fc from 'fast-check'
import { batch, convolution, cut, recurrence, seed, special } from './mamba2.ts'
import { quantized } from './norm_quantize.ts'
import { normalized } from './norms.ts'
import { format } from './quantize.ts'
import { roundedState } from './rounding.ts'
import {
  type Expected,
  f32Arithmetic,
  type Inputs,
  type Nd,
  nd,
  type Random,
  type Sizes,
  type Spec,
  tensorOf,
  vector,
} from './spec.ts'

/** y before it is rounded to anything, and the states. */
function layer(inputs: Inputs): Record<'y' | 'convState' | 'state', Expected> {
  const z = tensorOf(inputs, 'z')
  const [S, I] = z.shape as [number, number]
  const [, H, P, N] = tensorOf(inputs, 'state').shape as [number, number, number, number]
  const groups = inputs.groups as number
  const { y: convolved, state: convState } = convolution({
    ...inputs,
    weight: inputs.convWeight!,
    state: inputs.convState!,
    ...(inputs.convBias && { bias: inputs.convBias }),
  })
  const C = convolved!.value.shape[1]!
  const columns = (of: Float64Array, first: number, heads: number, width: number): Nd =>
    nd([S, heads, width], (i) => of[Math.floor(i / (heads * width)) * C + first + (i % (heads * width))]!)
  const parts = (of: Float64Array) => ({
    x: columns(of, 0, H, P),
    B: columns(of, I, groups, N),
    C: columns(of, I + groups * N, groups, N),
  })
  const off = parts(convolved!.error as Float64Array)
  const { y: scanned, state } = recurrence(
    { ...inputs, ...parts(convolved!.value.data), z: { shape: [S, H, P], data: z.data } },
    f32Arithmetic,
    { x: off.x.data, B: off.B.data, C: off.C.data },
  )
  const rows = { shape: [S, I], data: scanned.value.data }
  const weight = tensorOf(inputs, 'normWeight')
  const y = normalized(rows, weight, inputs.eps as number, I / groups, scanned.error as Float64Array)
  return { y, convState: convState!, state }
}

function reference(inputs: Inputs) {
  if (!inputs.exact) return layer(inputs)
  const { y, convState, state } = layer({ ...inputs, 'state.dtype': 'f32' })
  return { y, convState, state: { value: roundedState(state.value, inputs), error: 0 } }
}

/** `heads` of each of the G groups; with `half` the state is f16. */
function make({ S = 0, G = 0, heads = 0, P = 0, N = 0, W = 0, half = 0 }: Sizes, random: Random): Inputs {
  const H = G * heads
  const I = H * P
  const C = I + 2 * G * N
  const convState = random.normal([S + 2, W - 1, C])
  const { offsets: _, ...sequences } = batch(random.normal([S + 2, H, P, N]), cut({ T: S, S }, random), random, [
    convState,
  ])
  return {
    x: random.normal([S, C]),
    z: random.normal([S, I], 2),
    dt: random.normal([S, H]),
    convWeight: random.normal([W, C]),
    convBias: random.normal([C]),
    A: random.uniform([H], -4, -0.1),
    D: random.normal([H]),
    dtBias: random.uniform([H], -4, 1),
    dtMin: 0,
    dtMax: Number.POSITIVE_INFINITY,
    normWeight: random.normal([I]),
    groups: G,
    eps: 1e-5,
    ...sequences,
    convState,
    seed,
    ...(half && { 'state.dtype': 'f16' }),
  }
}

/**
 * A step after which the state is what f32 holds exactly, before it is rounded: silu of 32 and more is its argument,
 * d is 2^-17, and nothing decays.
 */
function exactStep(sizes: Sizes, random: Random): Inputs {
  const inputs = make({ ...sizes, half: 1 }, random)
  const [x, weight, state] = ['x', 'convWeight', 'state'].map((name) => tensorOf(inputs, name)) as [Nd, Nd, Nd]
  const [W, C] = weight.shape as [number, number]
  const { convBias: _, ...rest } = inputs
  return {
    ...rest,
    exact: true,
    x: nd(x.shape, () => random.integer(32, 255)),
    convWeight: nd(weight.shape, (i) => (i < (W - 1) * C ? 0 : 1)),
    state: nd(state.shape, (i) => Math.round(state.data[i]! * 2 ** 10) / 2 ** 10),
    A: nd([state.shape[1]!], () => 0),
    dtMin: 2 ** -17,
    dtMax: 2 ** -17,
  }
}

const small = { S: 5, G: 2, heads: 2, P: 6, N: 10, W: 4 }
const sizes = {
  'three sequences': { S: 3, G: 2, heads: 3, P: 3, N: 5, W: 4 },
  'one sequence': { S: 1, G: 2, heads: 3, P: 8, N: 16, W: 4 },
  'heads of the 8B': { S: 2, G: 2, heads: 2, P: 64, N: 128, W: 4 },
  'heads of the 56B': { S: 1, G: 1, heads: 2, P: 64, N: 256, W: 4 },
  'heads of the 9B and 12B': { S: 2, G: 1, heads: 2, P: 80, N: 128, W: 4 },
  'a state of f16': { ...small, half: 1 },
  'heads of the 8B, a state of f16': { S: 2, G: 1, heads: 2, P: 64, N: 128, W: 4, half: 1 },
  'a state of more than a tile': { S: 2, G: 2, heads: 1, P: 18, N: 544, W: 4 },
  'a state of more than a tile, odd': { S: 1, G: 1, heads: 2, P: 5, N: 259, W: 4 },
  'groups of one head': { S: 2, G: 5, heads: 1, P: 7, N: 9, W: 4 },
  'one group of many heads': { S: 2, G: 1, heads: 32, P: 3, N: 4, W: 4 },
  'more columns of a group than registers hold': { S: 1, G: 1, heads: 20, P: 64, N: 8, W: 4 },
  'more sequences than threads': { S: 131, G: 1, heads: 1, P: 2, N: 3, W: 2 },
  'groups that are not whole packs, in rows that are': { S: 2, G: 2, heads: 1, P: 12, N: 16, W: 4 },
  'a window of one': { ...small, W: 1 },
  'a window of seven': { ...small, W: 7 },
  'no state': { ...small, N: 0 },
  'heads of nothing': { ...small, P: 0 },
  'no sequences': { ...small, S: 0 },
}
const arbitrary = {
  S: fc.nat(4),
  G: fc.integer({ min: 1, max: 3 }),
  heads: fc.integer({ min: 1, max: 3 }),
  P: fc.integer({ min: 1, max: 20 }),
  N: fc.integer({ min: 1, max: 40 }),
  W: fc.integer({ min: 1, max: 6 }),
  half: fc.nat(1),
}

const mamba2Step: Spec = {
  reference,
  make,
  sizes: { ...sizes, 'more sequences than tickets': { S: 8193, G: 1, heads: 1, P: 1, N: 0, W: 1 } },
  arbitrary: fc.record(arbitrary),
  special: {
    ...special((random) => make(small, random)),
    'no bias': (random) => {
      const { convBias: _, ...rest } = make(small, random)
      return rest
    },
    'a sequence that is not a number': (random) => {
      const inputs = make(small, random)
      const { shape, data } = tensorOf(inputs, 'x')
      data.fill(Number.NaN, shape[1]!, 2 * shape[1]!)
      return inputs
    },
    'gates open and shut': (random) => {
      const inputs = make(small, random)
      return { ...inputs, z: nd(tensorOf(inputs, 'z').shape, (i) => [100, -100, 0, -1000, 30, -20][i % 6]!) }
    },
    'a state of f16, every bit': (random) => exactStep({ ...small, N: 13 }, random),
    'a state of f16, every bit, in packs': (random) => exactStep({ S: 2, G: 2, heads: 1, P: 72, N: 264, W: 4 }, random),
  },
}

const makeQuantized = ({ each, ...sizes }: Sizes, random: Random): Inputs => ({
  ...make(sizes, random),
  scales: each ? sizes.S! : 1,
  to: format(random),
})

const mamba2StepQuantize: Spec = {
  reference(inputs) {
    const { y, ...states } = reference(inputs)
    return { ...quantized(y, inputs.scales as number, inputs.to as string), ...states }
  },
  make: makeQuantized,
  sizes: Object.fromEntries(
    Object.entries(sizes).flatMap(([name, of]) => [
      [`${name}, a scale for each row`, { ...of, each: 1 }],
      [`${name}, one scale`, { ...of, each: 0 }],
    ]),
  ),
  arbitrary: fc.record({ ...arbitrary, each: fc.nat(1) }),
  special: {
    ...special((random) => makeQuantized({ ...small, each: 1 }, random)),
    'rows of nothing but zeros': (random) => ({
      ...makeQuantized({ ...small, each: 1 }, random),
      normWeight: nd([24], () => 0),
      to: 'e5m2',
    }),
    'the largest in the last group': (random) => ({
      ...makeQuantized({ ...small, each: 1 }, random),
      normWeight: nd([24], (i) => (i === 21 ? 300 : 1)),
      past: vector(Array(small.S).fill(0)),
      to: 'e4m3',
    }),
  },
}

export const mamba2StepSpecs = { mamba2Step, mamba2StepQuantize }
