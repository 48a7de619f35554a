// The ops on logits around the draw: what was said before, penalties and biases, log-probabilities.
import fc from 'fast-check'
import { onCpu } from '../device.ts'
import { rowOf, sample } from './sample.ts'
import {
  type Expected,
  type Inputs,
  nd,
  offsets,
  type Random,
  type Sizes,
  type Spec,
  tensorOf,
  u,
  vector,
} from './spec.ts'

const fill = (n: number, value: number) => nd([n], () => value)

// ---- what was said before

const countTokens: Spec = {
  reference: (inputs) => {
    const [ids, bounds, past, slots] = (['ids', 'offsets', 'past', 'slots'] as const).map(
      (n) => tensorOf(inputs, n).data,
    )
    const history = tensorOf(inputs, 'history')
    const V = history.shape[1]!
    const value = nd(history.shape, (i) => history.data[i]!)
    Array.from(slots!).forEach((slot, s) => {
      const said = Array.from(ids!.subarray(bounds![s], bounds![s + 1]))
      for (let id = 0; id < V; id++) {
        const before = past![s] === 0 ? 0 : history.data[slot * V + id]!
        const times = said.filter((t) => t === id).length
        const [generated, prompt] = [Math.floor(before / 2), before % 2]
        value.data[slot * V + id] = inputs.generated
          ? 2 * (generated + times) + prompt
          : 2 * generated + Math.max(prompt, Math.min(times, 1))
      }
    })
    return { history: { value, error: 0 } }
  },
  make: ({ S, longest, V, generated }: Sizes, random) => {
    const lengths = Array.from({ length: S! }, () => random.integer(0, longest!))
    return {
      ids: random.integers([lengths.reduce((sum, n) => sum + n, 0)], 0, V! - 1),
      offsets: offsets(lengths),
      past: random.integers([S!], 0, 2),
      slots: random.distinct(S!, S! + 2),
      generated: generated === 1,
      history: random.integers([S! + 2, V!], 0, 9),
    }
  },
  sizes: {
    prompts: { S: 5, longest: 12, V: 7, generated: 0 },
    'generated tokens': { S: 5, longest: 12, V: 7, generated: 1 },
    'a vocabulary of one': { S: 2, longest: 3, V: 1, generated: 1 },
    'no tokens': { S: 4, longest: 0, V: 6, generated: 0 },
    'no sequences': { S: 0, longest: 0, V: 6, generated: 0 },
    'more pieces than threads': { S: 6, longest: 30, V: 9000, generated: 0 },
    'more tokens than a block has threads': { S: 2, longest: 4000, V: 50, generated: 1 },
  },
  arbitrary: fc.record({ S: fc.nat(6), longest: fc.nat(20), V: fc.integer({ min: 1, max: 40 }), generated: fc.nat(1) }),
}

const penalize: Spec = {
  reference: (inputs) => {
    const [logits, history] = [tensorOf(inputs, 'logits'), tensorOf(inputs, 'history')]
    const [slots, r, f, p] = (['slots', 'repetition', 'frequency', 'presence'] as const).map(
      (n) => tensorOf(inputs, n).data,
    )
    const V = logits.shape[1]!
    const value = nd(logits.shape, (i) => logits.data[i]!)
    const error = new Float64Array(value.data.length)
    for (let i = 0; i < error.length; i++) {
      const s = Math.floor(i / V)
      const seen = history.data[slots![s]! * V + (i % V)]!
      if (seen === 0) continue
      const logit = logits.data[i]!
      const repeated = logit > 0 ? logit / r![s]! : logit * r![s]!
      const count = Math.floor(seen / 2)
      const lost = count > 0 ? f![s]! * count + p![s]! : 0
      value.data[i] = repeated - lost
      if (!Number.isFinite(logit)) continue
      // The quotient or product; frequency * count and the sum with presence.
      error[i] = u * (Math.abs(repeated) + 2 * Math.abs(f![s]! * count) + Math.abs(p![s]!))
    }
    return { logits: { value, error } }
  },
  make: ({ S, V }: Sizes, random) => ({
    logits: random.normal([S!, V!], 3),
    history: nd([S! + 2, V!], () => Math.max(0, random.integer(-6, 9))),
    slots: random.distinct(S!, S! + 2),
    repetition: random.uniform([S!], 0.5, 2),
    frequency: random.normal([S!]),
    presence: random.normal([S!]),
  }),
  sizes: {
    odd: { S: 3, V: 37 },
    'one row': { S: 1, V: 64 },
    'a vocabulary of one': { S: 2, V: 1 },
    'no sequences': { S: 0, V: 8 },
    'more pieces than threads': { S: 5, V: 9000 },
    'more pieces, odd': { S: 2, V: 4099 },
  },
  arbitrary: fc.record({ S: fc.nat(5), V: fc.integer({ min: 1, max: 70 }) }),
  special: {
    'nothing to do': (random) => ({ ...makePenalize(2, 9, random), ...penalties(2, 1, 0, 0) }),
    'a prompt is repeated, not counted': (random) => ({
      ...makePenalize(2, 9, random),
      ...penalties(2, 1.5, 2, 3),
      history: nd([4, 9], () => 1),
    }),
    'banned tokens stay banned': () => ({
      logits: nd([1, 4], (i) => [Number.NEGATIVE_INFINITY, 0, 1, -1][i]!),
      history: nd([1, 4], () => 3),
      slots: vector([0]),
      ...penalties(1, 2, 0.5, 0.25),
    }),
  },
}
const makePenalize = (S: number, V: number, random: Random): Inputs => penalize.make({ S, V }, random)
const penalties = (S: number, repetition: number, frequency: number, presence: number) => ({
  repetition: fill(S, repetition),
  frequency: fill(S, frequency),
  presence: fill(S, presence),
})

const biasLogits: Spec = {
  reference: (inputs) => {
    const logits = tensorOf(inputs, 'logits')
    const [bounds, ids, bias] = (['offsets', 'ids', 'bias'] as const).map((n) => tensorOf(inputs, n).data)
    const V = logits.shape[1]!
    const value = nd(logits.shape, (i) => logits.data[i]!)
    const error = new Float64Array(value.data.length)
    for (let s = 0; s < logits.shape[0]!; s++) {
      for (let e = bounds![s]!; e < bounds![s + 1]!; e++) {
        const i = s * V + ids![e]!
        value.data[i]! += bias![e]!
        if (Number.isFinite(value.data[i]!)) error[i]! += u * Math.abs(value.data[i]!) * (1 + u) + u * error[i]!
      }
    }
    return { logits: { value, error } }
  },
  make: ({ S, V, longest }: Sizes, random) => {
    const lengths = Array.from({ length: S! }, () => random.integer(0, longest!))
    const E = lengths.reduce((sum, n) => sum + n, 0)
    return {
      logits: random.normal([S!, V!]),
      offsets: offsets(lengths),
      ids: random.integers([E], 0, V! - 1),
      bias: random.normal([E], 10),
    }
  },
  sizes: {
    'some, some twice': { S: 4, V: 5, longest: 9 },
    'one row': { S: 1, V: 40, longest: 6 },
    none: { S: 3, V: 5, longest: 0 },
    'no sequences': { S: 0, V: 5, longest: 0 },
    'lists longer than a block': { S: 3, V: 300, longest: 900 },
  },
  arbitrary: fc.record({ S: fc.nat(5), V: fc.integer({ min: 1, max: 30 }), longest: fc.nat(20) }),
  special: {
    'a ban': () => ({
      logits: nd([2, 3], (i) => i),
      offsets: vector([0, 0, 2]),
      ids: vector([1, 2]),
      bias: vector([Number.NEGATIVE_INFINITY, -100]),
    }),
  },
}

// ---- log-probabilities

/** log_softmax of a row; NaN throughout where it has a NaN, or no finite maximum. */
function logSoftmax(row: number[]): { value: number[]; error: number } {
  const largest = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)
  const weights = row.map((x) => Math.exp(x - largest))
  const total = weights.reduce((sum, x) => sum + x, 0)
  const value = row.map((x) => x - largest - Math.log(total))
  // Of each term of the sum: its distance from the maximum, rounded, by way of running maxima or not, and exp, 4 u.
  // A GPU adds 8 terms in f32, 3 u, and a thread's sum is multiplied by exp, 2 u, wherever its maximum rises, with each
  // 8192 tokens at most, and once at the end.
  const off = row.reduce((sum, x, i) => sum + (weights[i]! > 0 ? (weights[i]! / total) * (largest - x) : 0), 0)
  return { value, error: u * (off + (onCpu ? 5 : 9 + 2 * Math.ceil(row.length / 8192))) }
}

const logProbs: Spec = {
  reference: (inputs) => {
    const [logits, ids] = [tensorOf(inputs, 'logits'), tensorOf(inputs, 'ids').data]
    const rows = Array.from(ids, (_, s) => logSoftmax(rowOf(logits, s)))
    return {
      y: { value: nd([ids.length], (s) => rows[s]!.value[ids[s]!]!), error: Float64Array.from(rows, (r) => r.error) },
    }
  },
  make: ({ S, V }: Sizes, random) => ({ logits: random.normal([S!, V!], 5), ids: random.integers([S!], 0, V! - 1) }),
  sizes: {
    odd: { S: 5, V: 37 },
    'one row': { S: 1, V: 64 },
    'a vocabulary of one': { S: 2, V: 1 },
    'no sequences': { S: 0, V: 8 },
    'more pieces than threads': { S: 4, V: 20000 },
    'more pieces, odd': { S: 2, V: 16391 },
  },
  arbitrary: fc.record({ S: fc.nat(5), V: fc.integer({ min: 1, max: 300 }) }),
  special: {
    'large logits': (random) => ({ logits: random.normal([3, 50], 1e30), ids: vector([0, 1, 2]) }),
    'all equal': () => ({ logits: nd([2, 1000], () => -77), ids: vector([0, 999]) }),
    'ever rising': () => ({ logits: nd([1, 40000], (i) => i / 8000), ids: vector([12345]) }),
    'banned tokens': () => ({
      logits: nd([3, 3], (i) => (i % 3 === 1 || i > 5 ? Number.NEGATIVE_INFINITY : i)),
      ids: vector([0, 1, 2]),
    }),
    NaN: () => ({ logits: nd([1, 3], (i) => [1, Number.NaN, 2][i]!), ids: vector([0]) }),
  },
}

const topLogProbs: Spec = {
  reference: (inputs) => {
    const logits = tensorOf(inputs, 'logits')
    const [S, count] = [logits.shape[0]!, inputs.count as number]
    const rows = Array.from({ length: S }, (_, s) => logSoftmax(rowOf(logits, s)))
    const order = rows.map((_, s) => {
      const row = rowOf(logits, s)
      const clean = row.map((x) => (Number.isNaN(x) ? Number.NEGATIVE_INFINITY : x))
      return row.map((_, id) => id).sort((a, b) => (clean[a] === clean[b] ? a - b : clean[b]! - clean[a]!))
    })
    const at = (i: number) => [Math.floor(i / count), i % count] as const
    const pick = (element: (s: number, i: number) => number): Expected['value'] =>
      nd([S, count], (i) => element(...at(i)))
    return {
      ids: { value: pick((s, i) => order[s]![i]!), error: 0 },
      values: { value: pick((s, i) => rows[s]!.value[order[s]![i]!]!), error: pick((s) => rows[s]!.error).data },
    }
  },
  make: ({ S, V, count }: Sizes, random) => ({ logits: random.normal([S!, V!], 5), count: count! }),
  sizes: {
    some: { S: 5, V: 37, count: 4 },
    all: { S: 2, V: 37, count: 37 },
    none: { S: 2, V: 9, count: 0 },
    'no sequences': { S: 0, V: 8, count: 2 },
    'more than are sorted at first': { S: 2, V: 2000, count: 700 },
    'few of many': { S: 3, V: 20000, count: 20 },
    'odd, all': { S: 1, V: 1301, count: 1301 },
  },
  arbitrary: fc
    .record({ S: fc.nat(5), V: fc.integer({ min: 1, max: 300 }), part: fc.float({ min: 0, max: 1, noNaN: true }) })
    .map(({ part, ...sizes }) => ({ ...sizes, count: Math.floor(part * sizes.V) })),
  special: {
    'equal ones by id, zeros of both signs': () => ({
      logits: nd([2, 8], (i) => (i < 8 ? 3 : [0, -0, -1, 0, -0, -1, 2, -0][i - 8]!)),
      count: 8,
    }),
    'banned tokens last': () => ({
      logits: nd([1, 5], (i) => [Number.NEGATIVE_INFINITY, 1, Number.NEGATIVE_INFINITY, -1e30, 2][i]!),
      count: 5,
    }),
    'most tokens banned': () => ({
      logits: nd([2, 3003], (i) => (i % 1001 === 7 ? i : Number.NEGATIVE_INFINITY)),
      count: 30,
    }),
    'thousands of equal ones': (random) => ({ logits: nd([2, 5000], () => random.integer(0, 2)), count: 600 }),
    'NaN among the last': () => ({ logits: nd([1, 6], (i) => [NaN, 1, NaN, -1e30, -Infinity, 2][i]!), count: 6 }),
  },
}

export const logitsSpecs = { countTokens, penalize, biasLogits, sample, logProbs, topLogProbs }
