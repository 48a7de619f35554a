// model.forward: logits for evaluation. That they are right is test/golden.test.ts's; here is how it takes its input.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Model } from '../dist/index.js'
import { demoFolder, goldenFolder, load } from './demo.js'

let model: Model
beforeAll(async () => {
  model = await load(demoFolder, { sequences: 2, context: 600 })
})
afterAll(() => model.dispose())

async function read(sequences: ArrayLike<number>[]): Promise<Float32Array[]> {
  const logits = await model.forward(sequences as number[][])
  const values = await Promise.all(logits.map((t) => t.read()))
  for (const t of logits) t.dispose()
  return values
}

test('more sequences than the model has room for go in groups, with the same bits', async () => {
  const sequences = [[1, 42], [1, 51, 86], [1], [1, 48, 282, 224], [7, 7, 7]]
  const together = await read(sequences)
  for (const [i, ids] of sequences.entries()) expect((await read([ids]))[0]).toEqual(together[i])
})

test('no sequences', async () => {
  expect(await model.forward([])).toEqual([])
})

test('the caller may change the ids meanwhile', async () => {
  const ids = Array(600).fill(5)
  const [want] = await read([ids])
  const running = read([ids])
  ids.length = 10
  expect((await running)[0]).toEqual(want)
})

test('an abort acts between batches', async () => {
  const small = await load(demoFolder, { prefillTokens: 64 })
  const controller = new AbortController()
  const running = small.forward([Array(4000).fill(5)], { signal: controller.signal })
  setTimeout(() => controller.abort(new Error('enough')), 5)
  await expect(running).rejects.toThrow('enough')
  small.dispose()
})

describe('refuses', () => {
  test.each<[unknown, string]>([
    [7, 'forward: sequences is 7, expected a list of token id lists'],
    [[1, 2], 'forward: sequences[0] is 1, expected a list of token ids'],
    [[[1], null], 'forward: sequences[1] is null, expected a list of token ids'],
    [[new DataView(new ArrayBuffer(8))], 'forward: sequences[0] is a DataView, expected a list of token ids'],
    [[{ length: -1 }], 'forward: sequences[0] is an object, expected a list of token ids'],
    [[[1], []], 'forward: sequences[1] is empty, expected at least one token'],
    [[[1, 1536]], 'forward: sequences[0][1] is 1536, expected an integer >= 0 and <= 1535'],
    [[Array(601).fill(1)], 'forward: sequences[0] is 601 tokens, expected at most 600, the context'],
  ])('%j', async (sequences, message) => {
    await expect(model.forward(sequences as never)).rejects.toThrow(message)
  })

  test('a context past what a rotary embedding was trained for', async () => {
    await expect(load(goldenFolder('llama-tied'), { context: 100_000 })).rejects.toThrow(
      /^load: context is 100000, expected at most \d+, the positions that its rotary embedding was trained for$/,
    )
  })

  test('bf16Gemms without fp8', async () => {
    await expect(load(demoFolder, { bf16Gemms: 2 })).rejects.toThrow(
      "load: bf16Gemms is 2, expected none unless weights is 'fp8'",
    )
  })
})
