// The ops of Mamba-2 (Dao and Gu 2024, arXiv 2405.21060): the convolution as its sum, the scan as the recurrence.
import fc from 'fast-check'
import { implementations, kernels } from '../device.ts'
import { kSiluTail, silu, siluRoundings } from './norms.ts'
import { roundedState } from './rounding.ts'
import {
  type Arithmetic,
  type Expected,
  f32Arithmetic,
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

/** What f32 loses where results are near its smallest numbers; a GPU's silu loses the most. */
export const tiny = 2 ** -118

interface Sequence {
  begin: number
  end: number
  past: number
  slot: number
}

/** The packed sequences; without offsets, one token each. */
export function sequences(inputs: Inputs): Sequence[] {
  const [past, slots] = [tensorOf(inputs, 'past').data, tensorOf(inputs, 'slots').data]
  const bounds = inputs.offsets ? tensorOf(inputs, 'offsets').data : past.map((_, s) => s)
  return Array.from(past, (p, s) => ({ begin: bounds[s]!, end: bounds[s + 1] ?? s + 1, past: p, slot: slots[s]! }))
}

/** Of each sequence of a batch, the tokens that it has and those that came before. */
type Lengths = [tokens: number, past: number][]

/** S sequences of T tokens together, of which every second one has a past. */
export function cut({ T, S }: { T: number; S: number }, random: Random): Lengths {
  const cuts = Array.from({ length: S - 1 }, () => random.integer(0, T)).sort((a, b) => a - b)
  return Array.from({ length: S }, (_, s) => [
    (cuts[s] ?? T) - (cuts[s - 1] ?? 0),
    random.next() < 0.5 ? 0 : random.integer(1, 200),
  ])
}

/**
 * Sequences with slots of the pool `state`. What none of them may read, the slots of those without a past and the slots
 * that are not named, holds NaN, there and in `others`, of the same pool.
 */
export function batch(state: Nd, lengths: Lengths, random: Random, others: Nd[] = []) {
  const [S, pool] = [lengths.length, state.shape[0]!]
  const slots = random.distinct(S, pool)
  const live = new Set(Array.from(slots.data).filter((_, s) => lengths[s]![1] > 0))
  for (const { data } of [state, ...others]) {
    const row = data.length / pool
    for (let slot = 0; slot < pool; slot++) if (!live.has(slot)) data.fill(Number.NaN, slot * row, (slot + 1) * row)
  }
  const past = vector(lengths.map(([, past]) => past))
  return { offsets: offsets(lengths.map(([tokens]) => tokens)), past, slots, state }
}

// ---- convolution

export function convolution(inputs: Inputs): Record<string, Expected> {
  const [x, weight, state] = [tensorOf(inputs, 'x'), tensorOf(inputs, 'weight'), tensorOf(inputs, 'state')]
  const bias = inputs.bias as Nd | undefined
  const [W, D] = weight.shape as [number, number]
  const y = nd(x.shape, () => 0)
  const error = new Float64Array(y.data.length)
  const after = nd(state.shape, (i) => state.data[i]!)

  for (const { begin, end, past, slot } of sequences(inputs)) {
    const row = (t: number, d: number) => {
      if (t >= begin) return x.data[t * D + d]!
      return past > 0 ? state.data[(slot * (W - 1) + t - begin + W - 1) * D + d]! : 0
    }
    for (let d = 0; d < D; d++) {
      for (let t = begin; t < end; t++) {
        let [sum, size] = [bias?.data[d] ?? 0, Math.abs(bias?.data[d] ?? 0)]
        for (let w = 0; w < W; w++) {
          const term = weight.data[w * D + d]! * row(t - (W - 1) + w, d)
          sum += term
          size += Math.abs(term)
        }
        y.data[t * D + d] = silu(sum)
        // W products and W additions; the slope of silu is at most 1.1; an exp and a division of 2 ulp, an addition.
        error[t * D + d] = 1.1 * (W + 1) * u * size + 9 * u * Math.abs(silu(sum)) + tiny
      }
      for (let w = 0; w < W - 1; w++) after.data[(slot * (W - 1) + w) * D + d] = row(end - (W - 1) + w, d)
    }
  }
  return { y: { value: y, error }, state: { value: after, error: 0 } }
}

function makeConvolution({ T = 0, S = 0, D = 0, W = 0 }: Sizes, random: Random): Inputs {
  return {
    x: random.normal([T, D]),
    weight: random.normal([W, D]),
    bias: random.normal([D]),
    ...batch(random.normal([S + 2, W - 1, D]), cut({ T, S }, random), random),
  }
}

const causalConv1d: Spec = {
  reference: convolution,
  make: makeConvolution,
  sizes: {
    'two sequences': { T: 9, S: 2, D: 6, W: 4 },
    'one token': { T: 1, S: 1, D: 5, W: 4 },
    'sequences shorter than the window, some empty': { T: 6, S: 5, D: 3, W: 8 },
    'a window of one': { T: 4, S: 2, D: 7, W: 1 },
    'a window of two': { T: 4, S: 2, D: 7, W: 2 },
    'more channels than a block': { T: 5, S: 2, D: 531, W: 4 },
    'channels in packs, longer than a run of tokens': { T: 150, S: 3, D: 24, W: 4 },
    'more packs than a block': { T: 5, S: 2, D: 1048, W: 4 },
    'a window wider than a run of tokens': { T: 160, S: 3, D: 3, W: 50 },
    'no channels': { T: 3, S: 1, D: 0, W: 4 },
    'no tokens': { T: 0, S: 2, D: 4, W: 4 },
    'no sequences': { T: 0, S: 0, D: 4, W: 4 },
  },
  arbitrary: fc.record({
    T: fc.nat(20),
    S: fc.integer({ min: 1, max: 4 }),
    D: fc.nat(40),
    W: fc.integer({ min: 1, max: 8 }),
  }),
  special: {
    'no bias': (random) => {
      const { bias: _, ...rest } = makeConvolution({ T: 9, S: 2, D: 6, W: 4 }, random)
      return rest
    },
    'not a number': (random) => {
      const inputs = makeConvolution({ T: 80, S: 2, D: 8, W: 4 }, random)
      for (const i of [3, 8 * 31 + 1, 8 * 79]) tensorOf(inputs, 'x').data[i] = Number.NaN
      return inputs
    },
    'sums that saturate': (random) => ({
      ...makeConvolution({ T: 12, S: 2, D: 6, W: 4 }, random),
      x: random.normal([12, 6], 1e4),
    }),
  },
}

const causalConv1dStep: Spec = {
  reference: convolution,
  make: ({ S = 0, ...sizes }, random) => {
    const { offsets: _, ...rest } = makeConvolution({ ...sizes, S, T: S }, random)
    return rest
  },
  sizes: {
    'three sequences': { S: 3, D: 6, W: 4 },
    'a window of one': { S: 2, D: 7, W: 1 },
    'a window of eight': { S: 2, D: 7, W: 8 },
    'more channels than a block': { S: 2, D: 531, W: 4 },
    'channels in packs': { S: 5, D: 1048, W: 4 },
    'more sequences than threads': { S: 131, D: 8, W: 4 },
    'no sequences': { S: 0, D: 4, W: 4 },
  },
  arbitrary: fc.record({ S: fc.nat(4), D: fc.nat(40), W: fc.integer({ min: 1, max: 8 }) }),
}

// ---- state space

/**
 * state = exp(d A) state + d x B^T; y = (state C + D x) * silu(z), token by token; before those tokens that `saves`
 * names the state also goes to slots of its own.
 *
 * Beside the state go its size, the same recurrence of absolute values, and its error from what comes before
 * the sums: d, which both scales a term and decays all earlier ones, and the rounding of d A. The sums add to
 * that: over the chunk, twice over the state size, C B^T and C state; and over the chunks, which each scale and add.
 * So do operands: d x, decayed, on its way to the state; then the state, or else the decayed products of B and C, on
 * the way to y. A state that does not fit in f16 is the nearest that does; a step rounds it to either of its neighbours,
 * which may add twice what rounding to the nearest does.
 *
 * `off`: how far x, B and C may be off already.
 */
export function recurrence(
  inputs: Inputs,
  { operands, sums }: Arithmetic,
  off?: Record<'x' | 'B' | 'C', Float64Array>,
): Record<'y' | 'state', Expected> {
  const [x, dt, B, C, state] = ['x', 'dt', 'B', 'C', 'state'].map((name) => tensorOf(inputs, name)) as [
    Nd,
    Nd,
    Nd,
    Nd,
    Nd,
  ]
  const [A, D, dtBias] = ['A', 'D', 'dtBias'].map((name) => tensorOf(inputs, name).data) as [
    Float64Array,
    Float64Array,
    Float64Array,
  ]
  const [, H, P] = x.shape as [number, number, number]
  const [, G, N] = B.shape as [number, number, number]
  const [low, high] = [Math.fround(inputs.dtMin as number), Math.fround(inputs.dtMax as number)]
  const chunk = (inputs.chunk as number | undefined) ?? 1
  const z = inputs.z as Nd | undefined
  const saves = inputs.saves as Nd | undefined
  const slotBefore = new Map(
    Array.from({ length: saves?.shape[0] ?? 0 }, (_, e) => [saves!.data[2 * e]!, saves!.data[2 * e + 1]!]),
  )
  const isF16 = inputs['state.dtype'] === 'f16'
  const largest = isF16 ? 65504 : Number.POSITIVE_INFINITY
  const steps = inputs.seed !== undefined
  const y = nd(x.shape, () => 0)
  const yError = new Float64Array(y.data.length)
  const after = nd(state.shape, (i) => state.data[i]!)
  const stateError = new Float64Array(after.data.length)

  const inState = (tokens: number) =>
    Math.min(chunk, tokens) * sums + (6 * Math.ceil(tokens / chunk + 1) + 20) * u + operands
  for (const { begin, end, past, slot } of sequences(inputs)) {
    const inY = inState(end - begin) + 2 * N * sums + operands
    for (let h = 0; h < H; h++) {
      const first = (slot * H + h) * P * N
      const values = past > 0 ? state.data.slice(first, first + P * N) : new Float64Array(P * N)
      const sizes = values.map(Math.abs)
      const errors = new Float64Array(P * N)
      const leave = (slot: number, tokens: number) => {
        for (let i = 0, at = (slot * H + h) * P * N; i < P * N; i++, at++) {
          after.data[at] = Math.min(Math.max(values[i]!, -largest), largest)
          if (tokens === 0) continue
          const error = errors[i]! + inState(tokens) * sizes[i]! + tiny
          const again = isF16 && steps ? 2 ** -11 * (Math.abs(values[i]!) + error) + 2 ** -25 + 2 ** -37 : 0
          stateError[at] = error + again
        }
      }
      for (let t = begin; t < end; t++) {
        const v = dt.data[t * H + h]! + dtBias[h]!
        const d = Math.min(Math.max(v > 20 ? v : Math.log1p(Math.exp(v)), low), high)
        const dError = (Math.max(0, -v) + 6) * u // relative: of dt + bias, exp and log1p
        const decay = Math.exp(d * A[h]!)
        const group = (t * G + Math.floor((h * G) / H)) * N
        for (let p = 0; p < P; p++) {
          const at = (t * H + h) * P + p
          const xOff = off?.x[at] ?? 0
          const skip = D[h]! * x.data[at]!
          let [sum, size, error] = [skip, Math.abs(skip) + Math.abs(D[h]!) * xOff, Math.abs(D[h]!) * xOff]
          for (let n = 0; n < N; n++) {
            const [i, b, c] = [p * N + n, B.data[group + n]!, C.data[group + n]!]
            const [bOff, cMost] = [off?.B[group + n] ?? 0, Math.abs(c) + (off?.C[group + n] ?? 0)]
            const input = d * x.data[at]! * b
            const inputOff = d * (Math.abs(x.data[at]!) * bOff + (Math.abs(b) + bOff) * xOff)
            const inputMost = Math.abs(input) + inputOff
            values[i] = decay * values[i]! + input
            errors[i] =
              decay * (errors[i]! + (dError + u) * Math.abs(d * A[h]!) * sizes[i]!) + dError * inputMost + inputOff
            sizes[i] = decay * sizes[i]! + inputMost
            sum += values[i]! * c
            size += sizes[i]! * cMost
            error += errors[i]! * cMost + Math.abs(values[i]!) * (cMost - Math.abs(c))
          }
          error += inY * size + tiny
          const gate = z ? silu(z.data[at]!) : 1
          const gateError = z ? (siluRoundings(z.data[at]!) + 1) * u * Math.abs(gate) + kSiluTail : 0
          y.data[at] = sum * gate
          yError[at] = error * Math.abs(gate) + (Math.abs(sum) + error) * gateError
        }
        const saved = slotBefore.get(t + 1)
        if (saved !== undefined) leave(saved, t + 1 - begin)
      }
      leave(slot, end - begin)
    }
  }
  return { y: { value: y, error: yError }, state: { value: after, error: stateError } }
}

/**
 * Up to `count` of the ends of chunks and of sequences, each with a slot of the pool that no sequence has, the last ones
 * first.
 */
function makeSaves(
  count: number,
  chunk: number,
  { offsets, past, slots, state }: ReturnType<typeof batch>,
  random: Random,
) {
  const ends: number[] = []
  past.data.forEach((past, s) => {
    const [begin, end] = [offsets.data[s]!, offsets.data[s + 1]!]
    for (let t = begin + 1; t <= end; t++) if (t === end || (past + t - begin) % chunk === 0) ends.push(t)
  })
  const chosen = random.distinct(Math.min(count, ends.length), ends.length).data.sort()
  const free = Array.from({ length: state.shape[0]! }, (_, slot) => slot).filter((slot) => !slots.data.includes(slot))
  return nd([chosen.length, 2], (i) => (i % 2 ? free.at(-(i + 1) / 2)! : ends[chosen[i / 2]!]!))
}

/**
 * `heads` of each of the G groups; chunk 0 for the step, which has none. `saves`: how many at most; with `gate` there is
 * z, with `half` the state is f16, with `slow` it still shows what was a chunk or two before.
 */
function makeScan(
  {
    T = 0,
    S = 0,
    G = 0,
    heads = 0,
    P = 0,
    N = 0,
    chunk = 0,
    segment = 0,
    gate = 0,
    half = 0,
    saves = 0,
    slow = 0,
  }: Sizes,
  random: Random,
  lengths = cut({ T, S }, random),
): Inputs {
  const H = G * heads
  const sequences = batch(random.normal([S + 2 + saves, H, P, N]), lengths, random)
  return {
    x: random.normal([T, H, P]),
    dt: random.normal([T, H]),
    A: slow ? random.uniform([H], -0.04, -0.01) : random.uniform([H], -4, -0.1),
    B: random.normal([T, G, N]),
    C: random.normal([T, G, N]),
    D: random.normal([H]),
    dtBias: random.uniform([H], -4, 1),
    dtMin: 0,
    dtMax: Number.POSITIVE_INFINITY,
    chunk,
    segment,
    ...sequences,
    ...(gate && { z: random.normal([T, H, P], 3) }),
    ...(half && { 'state.dtype': 'f16' }),
    ...(saves && { saves: makeSaves(saves, chunk, sequences, random) }),
  }
}

/** The sequences of these lengths. */
const packed =
  (sizes: Sizes, lengths: Lengths) =>
  (random: Random): Inputs => {
    const T = lengths.reduce((sum, [tokens]) => sum + tokens, 0)
    return makeScan({ ...sizes, T, S: lengths.length }, random, lengths)
  }

/** Of which the words differ. */
export const seed = 5 * 2 ** 32 + 7

const makeStep = ({ S = 0, ...sizes }: Sizes, random: Random): Inputs => {
  const { offsets: _, chunk: __, segment: ___, ...rest } = makeScan({ ...sizes, S, T: S }, random)
  return { ...rest, seed }
}

const one = { T: 80, S: 1, G: 2, heads: 2, P: 6, N: 10, chunk: 32 }

/** What the model may meet besides sizes, as changes of a scan or a step of T tokens and H heads. */
export const edges: Record<string, (T: number, H: number, random: Random) => Inputs> = {
  // |d A| up to 100 a step: softplus is its argument there.
  'strong decay': (T, H, random) => ({
    dt: random.uniform([T, H], 20, 25),
    A: random.uniform([H], -4, -3),
    dtBias: vector(Array(H).fill(0)),
  }),
  // Long sums of d A, of which small differences matter.
  'strong decay now and then': (T, H, random) => ({
    dt: nd([T, H], (i) => (Math.floor(i / H) % 7 === 3 ? 100 : -6)),
    A: random.uniform([H], -4, -3),
    dtBias: vector(Array(H).fill(0)),
  }),
  'no decay': (_, H) => ({ A: vector(Array(H).fill(0)) }),
  'steps around the linear part of softplus': (T, H, random) => ({
    dt: nd([T, H], () => [19.9, 20, 20.1, -30, -100][random.integer(0, 4)]!),
    A: random.uniform([H], -0.1, -0.01),
    dtBias: vector(Array(H).fill(0)),
  }),
  'steps that exp cannot hold': (T, H) => ({
    dt: nd([T, H], () => 100),
    A: vector(Array(H).fill(-1e-3)),
    dtBias: vector(Array(H).fill(0)),
  }),
  'clamped steps': () => ({ dtMin: 0.05, dtMax: 0.3 }),
}

export const special = (make: (random: Random) => Inputs) =>
  Object.fromEntries(
    Object.entries(edges).map(([name, edge]) => [
      name,
      (random: Random): Inputs => {
        const inputs = make(random)
        const [T, H] = tensorOf(inputs, 'dt').shape as [number, number]
        return { ...inputs, ...edge(T, H, random) }
      },
    ]),
  )

const lost = ['x', 'dt', 'B', 'C', 'z'] as const

/** A sequence of which all is lost, among others. */
const loses = (lostOne: number, make: (random: Random) => Inputs) => (random: Random) => {
  const inputs = make(random)
  const { data } = tensorOf(inputs, 'offsets')
  for (const { shape, data: rows } of lost.map((name) => tensorOf(inputs, name))) {
    const row = rows.length / shape[0]!
    rows.fill(Number.NaN, data[lostOne]! * row, data[lostOne + 1]! * row)
  }
  return inputs
}

/** A state of f16, made of x and B of these sizes. */
const f16Of = (sizes: typeof one, ofX: number, ofB: number) => (random: Random) => {
  const { T, G, heads, P, N } = sizes
  const inputs = makeScan({ ...sizes, half: 1, saves: 2 }, random)
  return { ...inputs, x: random.normal([T, G * heads, P], ofX), B: random.normal([T, G, N], ofB) }
}

/** Of the heads that Hopper has a kernel for: one, and chunks as long as that kernel's tiles. */
const fused = { G: 1, heads: 1, P: 64, N: 64, chunk: 128, gate: 1, saves: 4, slow: 1 }
const neighbours = packed(fused, [
  [70, 0],
  [140, 100],
  [30, 128],
])

const ssmScan: Spec = {
  reference: recurrence,
  make: makeScan,
  ways(inputs) {
    const [P, N] = [tensorOf(inputs, 'x').shape[2]!, tensorOf(inputs, 'B').shape[2]!]
    return [32, 64, 80].includes(P) && [64, 128, 256].includes(N) ? kernels : implementations
  },
  placed: ['heads of 64'],
  sizes: {
    'two sequences': { T: 9, S: 2, G: 2, heads: 3, P: 3, N: 5, chunk: 4, gate: 1, saves: 3 },
    'one token': { T: 1, S: 1, G: 1, heads: 2, P: 4, N: 8, chunk: 16 },
    'chunks of one': { T: 5, S: 1, G: 1, heads: 1, P: 4, N: 8, chunk: 1, saves: 5 },
    'one chunk of several blocks of rows': { ...one, T: 75, chunk: 1 << 30 },
    'many chunks': { ...one, T: 150, chunk: 16 },
    'many saves': { ...one, T: 150, S: 4, chunk: 16, saves: 99 },
    'one group of many heads': { T: 20, S: 2, G: 1, heads: 32, P: 3, N: 4, chunk: 8, gate: 1 },
    'groups of one head': { T: 20, S: 2, G: 5, heads: 1, P: 7, N: 9, chunk: 16 },
    'a gate, in packs': { ...one, P: 16, gate: 1 },
    'a state of f16': { ...one, S: 3, chunk: 16, half: 1, saves: 4 },
    'a state of f16, in packs': { ...one, S: 2, P: 8, N: 24, half: 1, saves: 2 },
    'heads of the 8B and 56B': { T: 140, S: 2, G: 1, heads: 2, P: 64, N: 128, chunk: 128, gate: 1, saves: 2 },
    'heads of the 9B and 12B': { T: 40, S: 1, G: 2, heads: 1, P: 80, N: 128, chunk: 32, gate: 1, half: 1, saves: 1 },
    'heads of 64, a state of 256': { ...fused, T: 300, S: 1, N: 256 },
    'heads of 32': { ...fused, T: 60, S: 2, heads: 3, P: 32, N: 128, half: 1 },
    'heads of 64, chunks of two tiles': { ...fused, T: 300, S: 2, chunk: 256 },
    'heads of 64': { ...fused, T: 20, S: 2 },
    'a group of 32 heads': { ...fused, T: 20, S: 1, heads: 32 },
    'groups of several heads': { ...fused, T: 20, S: 2, G: 2, heads: 4, chunk: 16 },
    'a state of 256': { T: 40, S: 1, G: 1, heads: 1, P: 10, N: 256, chunk: 32 },
    'chunks longer than a tile': { T: 330, S: 2, G: 1, heads: 1, P: 8, N: 16, chunk: 256, saves: 2 },
    'chunks of an odd number of blocks': { T: 250, S: 2, G: 1, heads: 2, P: 8, N: 16, chunk: 208 },
    'heads and states wider than a tile': { T: 20, S: 1, G: 1, heads: 1, P: 136, N: 72, chunk: 16, gate: 1, saves: 1 },
    'odd rows in packs': { T: 90, S: 3, G: 1, heads: 1, P: 24, N: 40, chunk: 64, gate: 1 },
    'odd ones': { T: 70, S: 2, G: 1, heads: 1, P: 83, N: 67, chunk: 65, gate: 1, saves: 2 },
    'many short sequences, some empty': { T: 6, S: 9, G: 2, heads: 1, P: 20, N: 64, chunk: 8, saves: 9 },
    'no tokens': { T: 0, S: 2, G: 1, heads: 2, P: 4, N: 8, chunk: 16, saves: 1 },
    'no sequences': { T: 0, S: 0, G: 1, heads: 2, P: 4, N: 8, chunk: 16 },
    'no heads': { T: 3, S: 1, G: 0, heads: 0, P: 4, N: 8, chunk: 16, saves: 1 },
    'no state': { T: 3, S: 1, G: 1, heads: 2, P: 4, N: 0, chunk: 16, saves: 1 },
  },
  arbitrary: fc.record({
    T: fc.nat(100),
    S: fc.integer({ min: 1, max: 4 }),
    G: fc.integer({ min: 1, max: 3 }),
    heads: fc.integer({ min: 1, max: 3 }),
    P: fc.integer({ min: 1, max: 20 }),
    N: fc.integer({ min: 1, max: 40 }),
    chunk: fc.integer({ min: 1, max: 80 }),
    gate: fc.nat(1),
    half: fc.nat(1),
    saves: fc.nat(5),
  }),
  special: {
    ...special((random) => makeScan(one, random)),
    'sequences that end about a chunk': packed(fused, [
      [127, 0],
      [0, 0],
      [128, 0],
      [0, 5],
      [129, 0],
    ]),
    'chunks cut at both ends': packed(fused, [
      [650, 70],
      [20, 0],
    ]),
    'chunks cut at both ends, pairs of heads': packed({ ...fused, heads: 2, N: 128 }, [
      [391, 70],
      [20, 0],
    ]),
    'segments of a chunk': packed({ ...fused, segment: 128 }, [
      [391, 70],
      [0, 9],
      [5, 0],
      [128, 128],
    ]),
    'segments of two chunks': packed({ ...fused, segment: 256 }, [
      [5, 0],
      [391, 70],
      [0, 0],
      [130, 128],
    ]),
    'segments of two chunks, pairs of heads': packed({ ...fused, heads: 2, N: 128, segment: 256 }, [
      [300, 0],
      [130, 128],
    ]),
    'a sequence that is not a number, before others': loses(0, neighbours),
    'a sequence that is not a number, between others': loses(1, neighbours),
    'a sequence that is not a number, after others': loses(2, neighbours),
    'a state beyond f16': f16Of(one, 1e3, 1e2),
    'a state beyond f16, in packs': f16Of({ ...one, N: 16 }, 1e3, 1e2),
    'a state of the smallest numbers of f16': f16Of(one, 1e-3, 1e-3),
  },
}

/** A step after which the state is what f32 holds exactly, before it is rounded: d is 1, and nothing decays. */
function exactStep(sizes: Sizes, x: (i: number) => number, B: (i: number) => number, random: Random): Inputs {
  const inputs = makeStep({ ...sizes, half: 1 }, random)
  const [ofX, ofB, state] = ['x', 'B', 'state'].map((name) => tensorOf(inputs, name)) as [Nd, Nd, Nd]
  return {
    ...inputs,
    exact: true,
    x: nd(ofX.shape, x),
    B: nd(ofB.shape, B),
    state: nd(state.shape, (i) => Math.round(state.data[i]! * 2 ** 10) / 2 ** 10),
    A: nd([ofX.shape[1]!], () => 0),
    dtMin: 1,
    dtMax: 1,
  }
}

/** About the ends of f16 and of its normal numbers, and where f32 has bits that f16 has not. */
const edgesOfF16 = [
  ...[65504, 65519, 65520, 1e6, Number.POSITIVE_INFINITY, -65504, -7e4, Number.NEGATIVE_INFINITY, Number.NaN],
  ...[0, -0, 2 ** -14, 1.9 * 2 ** -15, -1.1 * 2 ** -16, 1.3 * 2 ** -24, 0.7 * 2 ** -25, -0.9 * 2 ** -36, 1e-40],
  ...[1, 1 + 2 ** -11, 2 - 2 ** -20, -3.1, 1e-3, 2047.9],
]

const ssmStep: Spec = {
  reference(inputs) {
    if (!inputs.exact) return recurrence(inputs, f32Arithmetic)
    const { y, state } = recurrence({ ...inputs, 'state.dtype': 'f32' }, f32Arithmetic)
    return { y, state: { value: roundedState(state.value, inputs), error: 0 } }
  },
  make: makeStep,
  sizes: {
    'three sequences': { S: 3, G: 2, heads: 3, P: 3, N: 5, gate: 1 },
    'a state of f16': { S: 3, G: 2, heads: 3, P: 3, N: 13, gate: 1, half: 1 },
    'a state of f16, in packs': { S: 2, G: 2, heads: 1, P: 10, N: 24, half: 1 },
    'heads of the 8B': { S: 2, G: 1, heads: 2, P: 64, N: 128, gate: 1 },
    'heads of the 8B, a state of f16': { S: 2, G: 1, heads: 2, P: 64, N: 128, half: 1 },
    'heads of the 9B and 12B': { S: 2, G: 2, heads: 1, P: 80, N: 128 },
    'heads of the 56B': { S: 1, G: 1, heads: 2, P: 64, N: 256 },
    'a state of more than a warp at a time': { S: 2, G: 1, heads: 2, P: 18, N: 136 },
    'heads of more rows than a block': { S: 1, G: 1, heads: 2, P: 70, N: 131, half: 1 },
    'many rows of little state': { S: 1, G: 1, heads: 1, P: 300, N: 3 },
    'more sequences than threads': { S: 131, G: 1, heads: 1, P: 2, N: 3 },
    'no state': { S: 2, G: 1, heads: 2, P: 5, N: 0 },
    'no sequences': { S: 0, G: 1, heads: 2, P: 4, N: 8 },
  },
  arbitrary: fc.record({
    S: fc.nat(4),
    G: fc.integer({ min: 1, max: 3 }),
    heads: fc.integer({ min: 1, max: 3 }),
    P: fc.integer({ min: 1, max: 20 }),
    N: fc.integer({ min: 1, max: 80 }),
    gate: fc.nat(1),
    half: fc.nat(1),
  }),
  special: {
    ...special((random) => makeStep({ S: 5, G: 2, heads: 2, P: 6, N: 10 }, random)),
    // x B has 7 bits after those of f16 in [1, 2).
    'a state of f16, every bit': (random) =>
      exactStep(
        { S: 5, G: 2, heads: 2, P: 6, N: 13 },
        (i) => (i % 2 ? 2 ** -10 : -(2 ** -10)),
        () => random.integer(-255, 255) / 128,
        random,
      ),
    'a state of f16, every bit, in packs': (random) =>
      exactStep(
        { S: 3, G: 1, heads: 2, P: 70, N: 136 },
        (i) => (i % 2 ? 2 ** -10 : -(2 ** -10)),
        () => random.integer(-255, 255) / 128,
        random,
      ),
    'a state of f16 at the edges': (random) => {
      const sizes = { S: 2, G: 1, heads: 1, P: 3, N: edgesOfF16.length }
      const inputs = exactStep(
        sizes,
        () => 1,
        (i) => edgesOfF16[i % edgesOfF16.length]!,
        random,
      )
      return { ...inputs, past: vector([0, 0]) }
    },
  },
}

export const mamba2Specs = { causalConv1d, causalConv1dStep, ssmScan, ssmStep }
