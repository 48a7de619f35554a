// The draw: the generator against published vectors, frequencies against the distribution, every filter at its
// borders; and what the ops on logits refuse.
import { describe, expect, test } from 'vitest'
import { binding } from '../../dist/binding.js'
import { simt, tensor } from '../device.ts'
import { distribution, draw, type Filters, philox, uniform } from './sample.ts'
import { Random } from './spec.ts'

const ints = (...values: number[]) => tensor(Int32Array.from(values), 'i32', [values.length])
const floats = (...values: number[]) => tensor(Float32Array.from(values), 'f32', [values.length])
const matrix = (rows: number[][]) => tensor(Float32Array.from(rows.flat()), 'f32', [rows.length, rows[0]!.length])

const none: Filters = { temperature: 1, topK: 0, topP: 1, minP: 0 }
interface Row extends Partial<Filters> {
  logits: number[]
  seed?: [number, number]
  step?: number
}

async function sample(rows: Row[]): Promise<number[]> {
  const full = rows.map((row) => ({ ...none, seed: [1, 2], step: 0, ...row }))
  const seeds = Int32Array.from(full.flatMap(({ seed }) => seed))
  const ids = binding.sample(
    matrix(full.map((row) => row.logits)),
    floats(...full.map((row) => row.temperature)),
    ints(...full.map((row) => row.topK)),
    floats(...full.map((row) => row.topP)),
    floats(...full.map((row) => row.minP)),
    tensor(seeds, 'i32', [rows.length, 2]),
    ints(...full.map((row) => row.step)),
  )
  return Array.from(await ids.read())
}
/** The tokens of `steps` draws from one row. */
const drawn = (row: Row, steps = 300) => sample(Array.from({ length: steps }, (_, step) => ({ ...row, step })))
const kinds = async (row: Row) => [...new Set(await drawn(row))].sort((a, b) => a - b)

describe('Philox 4x32-10', () => {
  // Random123, kat_vectors.
  test.each([
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [Array(4).fill(0xffffffff), Array(2).fill(0xffffffff), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ])('the published answer for counter %j', (counter, key, words) => {
    expect(philox(counter, key)).toEqual(words)
  })

  test('a draw among 2^16 equal tokens is the upper 16 bits of its number', async () => {
    const logits = new Array<number>(65536).fill(0.5)
    const rows = Array.from({ length: 20 }, (_, i) => ({
      logits,
      seed: [i === 0 ? 0 : (-i * 123456789) | 0, i === 0 ? 0 : (i * 987654321) | 0] as [number, number],
      step: i === 0 ? 0 : 2 ** 31 - i,
    }))
    const ids = await sample(rows)
    expect(ids).toEqual(rows.map(({ seed, step }) => Math.floor(uniform(seed, step) * 65536)))
    expect(ids[0]).toBe(0x6627)
  })
})

describe('frequencies', () => {
  const logits = [0.3, -1, 2, 1.1, Number.NEGATIVE_INFINITY, 0, 2, -3, 0.7, -0.4]
  /** What chi-square with n degrees of freedom passes once in 1000 times (Wilson and Hilferty 1931). */
  const limit = (n: number) => n * (1 - 2 / (9 * n) + 3.09 * Math.sqrt(2 / (9 * n))) ** 3

  const settings: [string, Filters][] = [
    ['all tokens', none],
    ['a low temperature', { ...none, temperature: 0.5 }],
    ['a high temperature', { ...none, temperature: 3 }],
    ['top-k', { ...none, topK: 4 }],
    ['top-p', { ...none, topP: 0.8 }],
    ['min-p', { ...none, minP: 0.15 }],
    ['all filters', { temperature: 1.5, topK: 8, topP: 0.9, minP: 0.1 }],
  ]
  // On the emulator 40,000 rows take half a minute: there it is a fifth, of the one setting with all filters.
  test.each(simt ? settings.slice(-1) : settings)('of %s are the probabilities', async (_, filters) => {
    const count = simt ? 4000 : 20000
    const wanted = distribution(logits, filters).filter(({ p }) => p > 0)
    for (const of of ['steps', 'seeds'] as const) {
      const rows = Array.from({ length: count }, (_, i) =>
        of === 'steps' ? { logits, ...filters, step: i } : { logits, ...filters, seed: [i, 99] as [number, number] },
      )
      const ids = await sample(rows)
      const times = wanted.map(({ id }) => ids.filter((drawn) => drawn === id).length)
      expect(
        times.reduce((a, b) => a + b, 0),
        'tokens that may be drawn',
      ).toBe(count)
      const chi = wanted.reduce((sum, { p }, i) => sum + (times[i]! - count * p) ** 2 / (count * p), 0)
      expect(chi, of).toBeLessThan(limit(wanted.length - 1))
    }
  })
})

describe('borders', () => {
  const equal = [0, 0, 0, 0]
  test.each<[string, Row, number[]]>([
    ['top-p that two of four equal tokens hold exactly', { logits: equal, topP: 0.5 }, [0, 1]],
    ['top-p just above what two hold', { logits: equal, topP: 0.5000001 }, [0, 1, 2]],
    ['top-p below any token', { logits: [1, 3, 2], topP: 1e-6 }, [1]],
    ['top-p next to 1', { logits: equal, topP: 1 - 2 ** -24 }, [0, 1, 2, 3]],
    ['top-p is of what top-k leaves', { logits: equal, topK: 2, topP: 0.5 }, [0]],
    ['equal tokens at the border of top-k, by id', { logits: [1, 2, 1, 2, 1], topK: 3 }, [0, 1, 3]],
    ['top-k of one', { logits: [1, 2, 2], topK: 1 }, [1]],
    ['top-k above the vocabulary', { logits: equal, topK: 2 ** 31 - 1 }, [0, 1, 2, 3]],
    ['min-p of 1: all that are likeliest', { logits: [2, 1, 2, 1.999], minP: 1 }, [0, 2]],
    ['min-p of 1 after top-p', { logits: [2, 1, 2, 1.999], minP: 1, topP: 0.99 }, [0, 2]],
    ['min-p is of the scaled probabilities', { logits: [0, -3], temperature: 10, minP: 0.7 }, [0, 1]],
    ['all equal', { logits: equal }, [0, 1, 2, 3]],
    ['one token', { logits: [-1e30] }, [0]],
    ['one of finite logit', { logits: [-Infinity, -Infinity, -50, -Infinity], temperature: 50 }, [2]],
    ['an infinite logit', { logits: [1, Infinity, 3, Infinity] }, [1, 3]],
    ['NaN counts as -inf', { logits: [NaN, 1, 1, NaN], topK: 3 }, [1, 2]],
    ['logits far apart', { logits: [3e38, -3e38, 3e38] }, [0, 2]],
    ['a temperature near 0', { logits: [1, 1.0001, -1], temperature: 1e-40 }, [1]],
    ['nothing but -inf', { logits: [-Infinity, -Infinity] }, [0]],
    ['nothing but NaN, under filters', { logits: [NaN, NaN], topK: 1, topP: 0.5, minP: 0.5 }, [0]],
    ['temperature 0: the first of the largest', { logits: [1, 3, 3, NaN, -0], temperature: 0 }, [1]],
    ['temperature 0, zeros of both signs', { logits: [-1, -0, 0], temperature: 0 }, [1]],
    ['temperature 0 and nothing but NaN', { logits: [NaN, NaN], temperature: 0 }, [0]],
  ])('%s', async (_, row, ids) => {
    expect(await kinds(row)).toEqual(ids)
  })

  test('top-p keeps what the definition keeps, over random rows', async () => {
    const random = new Random(11)
    for (let i = 0; i < (simt ? 10 : 40); i++) {
      // Few likely tokens, so that all that are kept are drawn; no sum within rounding of top-p.
      const logits = Array.from({ length: 9 }, () => Math.fround(2 * random.next()))
      const topP = Math.fround(0.1 + 0.85 * random.next())
      const wanted = distribution(logits, { ...none, topP }).map(({ id }) => id)
      expect(await kinds({ logits, topP })).toEqual(wanted.sort((a, b) => a - b))
    }
  })
})

test('a vocabulary of 131072 draws what the definition draws', async () => {
  const random = new Random(2)
  const logits = Array.from(random.normal([131072], 3).data, Math.fround)
  for (const filters of [
    none,
    { ...none, topK: 50 },
    { ...none, topP: 0.9 },
    { ...none, minP: 0.02 },
    { temperature: 5, topK: 0, topP: 0.999, minP: 0 },
  ]) {
    const filtered = { ...filters, topP: Math.fround(filters.topP), minP: Math.fround(filters.minP) }
    const tokens = distribution(logits, filtered)
    const steps = [0, 1, 2]
    const want = steps.map((step) => draw(tokens, uniform([1, 2], step)))
    expect(await sample(steps.map((step) => ({ logits, ...filters, step })))).toEqual(want)
  }
})

test('a row draws the same alone and in a batch', async () => {
  const random = new Random(4)
  const rows = Array.from({ length: 30 }, (_, i) => ({
    logits: Array.from(random.normal([50], 2).data),
    topK: i % 3 ? 0 : 7,
    topP: i % 2 ? 1 : 0.8,
    seed: [i, i] as [number, number],
    step: i,
  }))
  const together = await sample(rows)
  for (const [i, row] of rows.entries()) expect(await sample([row])).toEqual([together[i]])
})

describe('refuses', () => {
  test.each<[Partial<Row>, string]>([
    [{ temperature: -1 }, 'temperature[1] is -1, expected a finite number, at least 0'],
    [{ temperature: NaN }, 'temperature[1] is NaN, expected a finite number, at least 0'],
    [{ temperature: Infinity }, 'temperature[1] is inf, expected a finite number, at least 0'],
    [{ topK: -3 }, 'topK[1] is -3, expected at least 0'],
    [{ topP: 0 }, 'topP[1] is 0, expected above 0, at most 1'],
    [{ topP: 1.5 }, 'topP[1] is 1.5, expected above 0, at most 1'],
    [{ topP: 1.0000001 }, 'topP[1] is 1.0000001, expected above 0, at most 1'],
    [{ topP: NaN }, 'topP[1] is NaN, expected above 0, at most 1'],
    [{ minP: -0.5 }, 'minP[1] is -0.5, expected 0 to 1'],
    [{ minP: 2 }, 'minP[1] is 2, expected 0 to 1'],
  ])('to sample with %j', async (row, message) => {
    const logits = [1, 2]
    await expect(sample([{ logits }, { logits, ...row }])).rejects.toThrow(`sample: ${message}`)
  })

  test('to sample from no tokens', async () => {
    await expect(sample([{ logits: [] }])).rejects.toThrow('sample: logits is [1,0], expected at least one token a row')
  })

  const history = () => tensor(new Int32Array(8), 'i32', [2, 4])

  test.each([
    [[4], [0, 1], [0], [0], 'ids[0] is 4, expected 0 to 3'],
    [[1, 1], [0, 1, 2], [0, 0], [1, 1], 'slots names 1 twice, expected a slot for each sequence'],
    [[1], [0, 1], [0], [2], 'slots[0] is 2, expected 0 to 1'],
    [[1], [0, 2], [0], [0], 'offsets[1] is 2, expected 1, the number of tokens'],
  ])('to count tokens %j of sequences %j with past %j in slots %j', async (ids, offsets, past, slots, message) => {
    const counts = history()
    binding.countTokens(ints(...ids), ints(...offsets), ints(...past), ints(...slots), true, counts)
    await expect(counts.read()).rejects.toThrow(`countTokens: ${message}`)
  })

  test.each([
    [[0, 2], [1, 1], [0, 0], [0, 0], 'slots[1] is 2, expected 0 to 1'],
    [[0, 1], [1, 0], [0, 0], [0, 0], 'repetition[1] is 0, expected a finite number above 0'],
    [[0, 1], [NaN, 1], [0, 0], [0, 0], 'repetition[0] is NaN, expected a finite number above 0'],
    [[0, 1], [1, 1], [0, Infinity], [0, 0], 'frequency[1] is inf, expected a finite number'],
    [[0, 1], [1, 1], [0, 0], [NaN, 0], 'presence[0] is NaN, expected a finite number'],
  ])('penalties for slots %j: %j, %j, %j', async (slots, repetition, frequency, presence, message) => {
    const logits = matrix([
      [1, 2, 3, 4],
      [5, 6, 7, 8],
    ])
    binding.penalize(
      logits,
      history(),
      ints(...slots),
      floats(...repetition),
      floats(...frequency),
      floats(...presence),
    )
    await expect(logits.read()).rejects.toThrow(`penalize: ${message}`)
    expect(Array.from(await logits.read())).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
  })

  test.each([
    [[0, 1], [3], 'ids[0] is 3, expected 0 to 2'],
    [[0, 2], [0], 'offsets[1] is 2, expected 1, the number of ids'],
    [[1, 1], [0], 'offsets[0] is 1, expected 0'],
    [[0, 2, 1], [0], 'offsets[2] is 1, expected at least 2'],
  ])('biases for offsets %j, ids %j', async (offsets, ids, message) => {
    const logits = matrix(Array.from({ length: offsets.length - 1 }, () => [0, 0, 0]))
    binding.biasLogits(logits, ints(...offsets), ints(...ids), floats(...ids.map(() => 1)))
    await expect(logits.read()).rejects.toThrow(`biasLogits: ${message}`)
  })

  test('log-probabilities of tokens outside the vocabulary, and more than there are', async () => {
    const logits = matrix([[1, 2, 3]])
    await expect(binding.logProbs(logits, ints(3)).read()).rejects.toThrow('logProbs: ids[0] is 3, expected 0 to 2')
    const [ids] = binding.topLogProbs(logits, 4)
    await expect(ids.read()).rejects.toThrow('topLogProbs: count is 4, expected at most V=3')
  })
})
