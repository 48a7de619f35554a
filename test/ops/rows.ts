// Ops that copy rows, or ids. They compute nothing, so all that may differ from the source is one rounding to `to`.
import fc from 'fast-check'
import { type Expected, type Inputs, type Nd, nd, offsets, type Sizes, type Spec, tensorOf, vector } from './spec.ts'

const real = ['f32', 'bf16', 'f16', 'e4m3', 'e5m2'] as const
const largest: Record<string, number> = { e4m3: 448, e5m2: 57344 }

/** Rows of `from`, as exact numbers in range of the element type `to`: fp8 saturates, f16 overflows. */
function rowsOf(from: Nd, rows: number[], to: string): Expected {
  const D = from.shape[1]!
  const held = (v: number) => {
    if (to in largest) return Math.max(-largest[to]!, Math.min(largest[to]!, v))
    return to === 'f16' && Math.abs(v) >= 65520 ? Math.sign(v) * Number.POSITIVE_INFINITY : v
  }
  return {
    value: nd([rows.length, D], (i) => held(from.data[rows[Math.floor(i / D)]! * D + (i % D)]!)),
    error: 0,
  }
}

const all = (x: Nd) => Array.from({ length: x.shape[0]! }, (_, t) => t)

function pairs(make: (from: string, to: string) => Inputs, to: readonly string[]) {
  return Object.fromEntries(real.flatMap((from) => to.map((t) => [`${from} to ${t}`, () => make(from, t)])))
}

const embedding: Spec = {
  reference: (inputs) => {
    const ids = Array.from(tensorOf(inputs, 'ids').data)
    return { y: rowsOf(tensorOf(inputs, 'weight'), ids, inputs.to as string) }
  },
  make: ({ T, V, D }: Sizes, random) => ({
    ids: random.integers([T!], 0, V! - 1),
    weight: random.normal([V!, D!]),
    'weight.dtype': real[random.integer(0, 4)]!,
    to: (['f32', 'bf16'] as const)[random.integer(0, 1)]!,
  }),
  sizes: {
    'a few': { T: 5, V: 11, D: 7 },
    'one token': { T: 1, V: 3, D: 33 },
    'no tokens': { T: 0, V: 3, D: 4 },
    'no width': { T: 2, V: 3, D: 0 },
    'more pieces than threads': { T: 70, V: 9, D: 1100 },
    'a block and one access wide': { T: 3, V: 5, D: 8200 },
  },
  arbitrary: fc.record({ T: fc.nat(20), V: fc.integer({ min: 1, max: 50 }), D: fc.nat(70) }),
  special: pairs(
    (from, to) => ({
      ids: nd([4], (i) => [2, 0, 2, 1][i]!),
      weight: nd([3, 19], (i) => (i - 28) / 3),
      'weight.dtype': from,
      to,
    }),
    ['f32', 'bf16'],
  ),
}

const lastRows: Spec = {
  reference: (inputs) => {
    const ends = Array.from(tensorOf(inputs, 'offsets').data).slice(1)
    const last = ends.map((end) => end - 1)
    return { y: rowsOf(tensorOf(inputs, 'x'), last, 'x') }
  },
  make: ({ S, D, longest }: Sizes, random) => {
    const lengths = Array.from({ length: S! }, () => random.integer(1, longest!))
    const T = lengths.reduce((sum, n) => sum + n, 0)
    return { x: random.normal([T, D!]), offsets: offsets(lengths) }
  },
  sizes: {
    ragged: { S: 4, D: 6, longest: 5 },
    'one token each': { S: 3, D: 17, longest: 1 },
    'one sequence': { S: 1, D: 5, longest: 9 },
    'no sequences': { S: 0, D: 5, longest: 1 },
    'more sequences than a block has threads': { S: 300, D: 8, longest: 3 },
  },
  arbitrary: fc.record({ S: fc.nat(9), D: fc.nat(70), longest: fc.integer({ min: 1, max: 9 }) }),
}

const cast: Spec = {
  reference: (inputs) => {
    const x = tensorOf(inputs, 'x')
    return { y: rowsOf(x, all(x), inputs.to as string) }
  },
  make: ({ T, D }: Sizes, random) => ({
    x: random.normal([T!, D!], 100),
    'x.dtype': real[random.integer(0, 4)]!,
    to: real[random.integer(0, 4)]!,
  }),
  sizes: {
    odd: { T: 3, D: 37 },
    'one row': { T: 1, D: 16 },
    'no rows': { T: 0, D: 8 },
    'no columns': { T: 3, D: 0 },
    'more pieces than threads': { T: 40, D: 1100 },
    'a block and one access wide': { T: 2, D: 8200 },
  },
  arbitrary: fc.record({ T: fc.nat(9), D: fc.nat(100) }),
  special: pairs(
    (from, to) => ({
      x: nd([2, 45], (i) => (i % 2 ? -1 : 1) * 2 ** ((i - 45) / 2.3)),
      'x.dtype': from,
      to,
    }),
    real,
  ),
}

const batches = {
  'some of the slots': { S: 3, slots: 7 },
  'one sequence': { S: 1, slots: 1 },
  'no sequences': { S: 0, slots: 4 },
  'more sequences than a block has threads': { S: 300, slots: 401 },
}
const anyBatch = fc
  .record({ S: fc.nat(20), unused: fc.nat(20) })
  .map(({ S, unused }) => ({ S, slots: Math.max(1, S + unused) }))

const takeIds: Spec = {
  reference: (inputs) => {
    const [last, slots] = [tensorOf(inputs, 'last'), tensorOf(inputs, 'slots')]
    return { ids: { value: nd(slots.shape, (s) => last.data[slots.data[s]!]!), error: 0 } }
  },
  make: ({ S, slots }: Sizes, random) => ({
    last: random.integers([slots!], 0, 131071),
    slots: random.distinct(S!, slots!),
  }),
  sizes: batches,
  arbitrary: anyBatch,
}

const nextStep: Spec = {
  reference: (inputs) => {
    const [ids, slots] = [tensorOf(inputs, 'ids'), tensorOf(inputs, 'slots')]
    const last = Array.from(tensorOf(inputs, 'last').data)
    slots.data.forEach((slot, s) => {
      last[slot] = ids.data[s]!
    })
    const one = (name: 'past' | 'step') =>
      inputs[name] ? { [name]: { value: nd(ids.shape, (s) => tensorOf(inputs, name).data[s]! + 1), error: 0 } } : {}
    return { last: { value: vector(last), error: 0 }, ...one('past'), ...one('step') }
  },
  make: ({ S, slots, alone }: Sizes, random) => ({
    ids: random.integers([S!], 0, 131071),
    slots: random.distinct(S!, slots!),
    last: random.integers([slots!], 0, 131071),
    ...(alone ? {} : { past: random.integers([S!], 0, 99), step: random.integers([S!], 0, 99) }),
  }),
  sizes: { ...batches, 'tokens alone': { S: 5, slots: 5, alone: 1 } },
  arbitrary: anyBatch,
}

export const rowSpecs = { embedding, lastRows, cast, takeIds, nextStep }
