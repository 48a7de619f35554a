// The draw: Philox, the filters one after the other as they are defined, and the inverse of the distribution.
import fc from 'fast-check'
import { type Inputs, type Nd, nd, type Sizes, type Spec, tensorOf, vector } from './spec.ts'

export const rowOf = (x: Nd, s: number): number[] => Array.from(x.data.subarray(s * x.shape[1]!, (s + 1) * x.shape[1]!))

/** Philox 4x32 (Salmon et al. 2011): rounds, usually ten, each from the words and keys of the one before. */
export function philox(counter: number[], key: number[], rounds = 10): number[] {
  const mask = 0xffffffffn
  let [c0, c1, c2, c3] = counter.map((w) => BigInt(w) & mask) as [bigint, bigint, bigint, bigint]
  let [k0, k1] = key.map((w) => BigInt(w) & mask) as [bigint, bigint]
  for (let round = 0; round < rounds; round++) {
    const [left, right] = [0xd2511f53n * c0, 0xcd9e8d57n * c2]
    ;[c0, c1, c2, c3] = [(right >> 32n) ^ c1 ^ k0, right & mask, (left >> 32n) ^ c3 ^ k1, left & mask]
    k0 = (k0 + 0x9e3779b9n) & mask
    k1 = (k1 + 0xbb67ae85n) & mask
  }
  return [c0, c1, c2, c3].map(Number)
}

/** The number in [0, 1) that draws step `step` of stream `seed`: 53 bits. */
export function uniform(seed: number[], step: number): number {
  const [high, low] = philox([step, 0, 0, 0], seed) as [number, number]
  return (high * 2 ** 21 + Math.floor(low / 2 ** 11)) / 2 ** 53
}

export interface Filters {
  temperature: number
  topK: number
  topP: number
  minP: number
}

/** Tokens that may be drawn and their probabilities, in the order of the draw. */
export function distribution(
  logits: number[],
  { temperature, topK, topP, minP }: Filters,
): { id: number; p: number }[] {
  const clean = logits.map((x) => (Number.isNaN(x) ? Number.NEGATIVE_INFINITY : x))
  const falling = clean.map((logit, id) => ({ logit, id })).sort((a, b) => b.logit - a.logit || a.id - b.id)
  const largest = falling[0]!.logit
  if (temperature === 0 || largest === Number.NEGATIVE_INFINITY) return [{ id: clean.indexOf(largest), p: 1 }]
  const normalize = (list: { id: number; p: number }[]) => {
    const total = list.reduce((sum, { p }) => sum + p, 0)
    return list.map(({ id, p }) => ({ id, p: p / total }))
  }
  const weights = falling.map(({ logit, id }) => ({
    id,
    p: logit === largest ? 1 : Math.exp((logit - largest) / temperature),
  }))
  let kept = normalize(weights.slice(0, topK || weights.length))
  if (topP < 1) {
    let held = 0
    kept = normalize(
      kept.filter(({ p }) => {
        const needed = held < topP
        held += p
        return needed
      }),
    )
  }
  kept = normalize(kept.filter(({ p }) => p >= minP * kept[0]!.p))
  const sorted = (topK > 0 && topK < logits.length) || topP < 1
  return sorted ? kept : kept.sort((a, b) => a.id - b.id)
}

/** The token at which the cumulative probability passes `share`. */
export function draw(tokens: { id: number; p: number }[], share: number): number {
  let passed = 0
  for (const { id, p } of tokens) {
    passed += p
    if (passed > share) return id
  }
  return tokens.at(-1)!.id // where rounding has left the probabilities below 1
}

const filtersOf = (inputs: Inputs, s: number): Filters => {
  const [temperature, topK, topP, minP] = (['temperature', 'topK', 'topP', 'minP'] as const).map(
    (n) => tensorOf(inputs, n).data[s]!,
  )
  return { temperature: temperature!, topK: topK!, topP: topP!, minP: minP! }
}

const unfiltered = {
  temperature: vector([2]),
  topK: vector([0]),
  topP: vector([1]),
  minP: vector([0]),
}
/** 16 rows: each of 4 temperatures with each of 4 counts. */
const warm = {
  temperature: nd([16], (i) => [0, 0.5, 1, 4][i % 4]!),
  topK: nd([16], (i) => [0, 1, 15, 700][Math.floor(i / 4)]!),
}

export const sample: Spec = {
  reference: (inputs) => {
    const logits = tensorOf(inputs, 'logits')
    const [seed, step] = [tensorOf(inputs, 'seed'), tensorOf(inputs, 'step').data]
    const id = (s: number) =>
      draw(distribution(rowOf(logits, s), filtersOf(inputs, s)), uniform(rowOf(seed, s), step[s]!))
    return { ids: { value: nd([logits.shape[0]!], id), error: 0 } }
  },
  make: ({ S, V }: Sizes, random) => ({
    logits: random.normal([S!, V!], 3),
    temperature: nd([S!], () => [0, 0.25, 1, 4][random.integer(0, 3)]!),
    topK: nd([S!], () => [0, 1, random.integer(1, V!), V! + 1][random.integer(0, 3)]!),
    topP: nd([S!], () => [1, 0.9, random.next() || 1, 1e-3][random.integer(0, 3)]!),
    minP: nd([S!], () => [0, 0, 0.05, 1][random.integer(0, 3)]!),
    seed: random.integers([S!, 2], -(2 ** 31), 2 ** 31 - 1),
    step: random.integers([S!], 0, 2 ** 31 - 1),
  }),
  sizes: {
    'many rows of filters': { S: 200, V: 37 },
    'one row': { S: 1, V: 100 },
    'a vocabulary of one': { S: 8, V: 1 },
    'no sequences': { S: 0, V: 5 },
    'more tokens than are sorted at first': { S: 40, V: 1500 },
    'more tokens than threads hold, odd': { S: 8, V: 9001 },
  },
  arbitrary: fc.record({ S: fc.nat(12), V: fc.integer({ min: 1, max: 400 }) }),
  special: {
    'more tokens than 1024 chunks of 256': (random) => ({
      ...sample.make({ S: 1, V: 270011 }, random),
      ...unfiltered,
    }),
    'top-p that half of the tokens hold exactly': (random) => ({
      ...sample.make({ S: 32, V: 4 }, random),
      logits: nd([32, 4], () => 1),
      temperature: nd([32], () => 1),
      topK: nd([32], () => 0),
      topP: nd([32], () => 0.5),
      minP: nd([32], () => 0),
    }),
    'thousands of equal tokens': (random) => ({
      ...sample.make({ S: 16, V: 4000 }, random),
      ...warm,
      logits: nd([16, 4000], () => random.integer(0, 2)),
    }),
    'few tokens are not banned': (random) => ({
      ...sample.make({ S: 16, V: 2000 }, random),
      ...warm,
      logits: nd([16, 2000], (i) => (i % 97 === 5 ? random.integer(-1, 1) : [Number.NaN, -Infinity][i % 2]!)),
    }),
  },
}
