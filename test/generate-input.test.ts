// What model.generate refuses, word for word: options at the call, prompts at the first piece.
import { getEventListeners } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Model, Prompt } from '../dist/index.js'
import { demoFolder, goldenFolder, load } from './demo.js'
import { memory } from './device.ts'

let model: Model
beforeAll(async () => {
  model = await load(demoFolder)
})
afterAll(() => model.dispose())

describe('refuses at the call', () => {
  const cases: [object, ErrorConstructor, string][] = [
    [{ maxTokens: -1 }, RangeError, 'maxTokens is -1, expected an integer >= 0'],
    [{ maxTokens: Number.NaN }, RangeError, 'maxTokens is NaN, expected an integer >= 0'],
    [{ maxTokens: 1.5 }, RangeError, 'maxTokens is 1.5, expected an integer >= 0'],
    [{ temperature: -0.1 }, RangeError, 'temperature is -0.1, expected a number >= 0 in f32'],
    [{ temperature: Infinity }, RangeError, 'temperature is Infinity, expected a number >= 0 in f32'],
    [{ temperature: 1e39 }, RangeError, 'temperature is 1e+39, expected a number >= 0 in f32'],
    [{ topK: -1 }, RangeError, 'topK is -1, expected an integer >= 0 and <= 2147483647'],
    [{ topK: 2 ** 31 }, RangeError, 'topK is 2147483648, expected an integer >= 0 and <= 2147483647'],
    [{ topP: 0 }, RangeError, 'topP is 0, expected a number > 0 and <= 1 in f32'],
    [{ topP: 1e-50 }, RangeError, 'topP is 1e-50, expected a number > 0 and <= 1 in f32'],
    [{ topP: 1.1 }, RangeError, 'topP is 1.1, expected a number > 0 and <= 1 in f32'],
    [{ minP: -0.5 }, RangeError, 'minP is -0.5, expected a number >= 0 and <= 1 in f32'],
    [{ repetitionPenalty: 0 }, RangeError, 'repetitionPenalty is 0, expected a number > 0 in f32'],
    [{ frequencyPenalty: Number.NaN }, RangeError, 'frequencyPenalty is NaN, expected a number in f32'],
    [{ presencePenalty: '1' }, TypeError, "presencePenalty is '1', expected a number in f32"],
    [{ logitBias: [1] }, TypeError, 'logitBias is [1], expected an object of token ids and numbers'],
    [{ logitBias: new Map() }, TypeError, 'logitBias is a Map, expected an object of token ids and numbers'],
    [{ logitBias: { x: 1 } }, TypeError, "a token id of logitBias is 'x', expected an integer >= 0 and <= 1535"],
    [{ logitBias: { 1536: 1 } }, RangeError, 'a token id of logitBias is 1536, expected an integer >= 0 and <= 1535'],
    [{ logitBias: { 7: -Infinity } }, RangeError, 'logitBias[7] is -Infinity, expected a number in f32'],
    [{ seed: -1 }, RangeError, 'seed is -1, expected an integer >= 0 and <= 9007199254740991'],
    [{ seed: 2 ** 53 }, RangeError, 'seed is 9007199254740992, expected an integer >= 0 and <= 9007199254740991'],
    [
      { stop: 7 },
      TypeError,
      'stop is 7, expected one or more whole characters or a list, each one or more whole characters',
    ],
    [
      { stop: ['.', ''] },
      RangeError,
      "stop is ['.',''], expected one or more whole characters or a list, each one or more whole characters",
    ],
    [{ ignoreEos: 1 }, TypeError, 'ignoreEos is 1, expected true or false'],
    [{ logprobs: 1001 }, RangeError, 'logprobs is 1001, expected an integer >= 0 and <= 1000'],
    [{ signal: {} }, TypeError, 'signal is an object, expected an AbortSignal'],
    [{ max_tokens: 1 }, TypeError, "unknown option 'max_tokens', did you mean 'maxTokens'?"],
    [{ temprature: 1 }, TypeError, "unknown option 'temprature', did you mean 'temperature'?"],
  ]
  test.each(cases)('%o', (options, Fault, message) => {
    expect(() => model.generate('x', options)).toThrow(new Fault(`generate: ${message}`))
  })

  test('a stop string without a tokenizer', async () => {
    const folder = goldenFolder('llama-tied')
    using plain = await load(folder)
    expect(() => plain.generate([1], { stop: '.' })).toThrow(
      new TypeError(`generate: stop is '.', expected none: ${folder} has no tokenizer.json`),
    )
  })
})

describe('refuses at the first piece', () => {
  const cases: [unknown, ErrorConstructor, string][] = [
    [[], RangeError, 'generate: prompt is empty, expected at least one token'],
    [[1, 1536], RangeError, 'generate: prompt[1] is 1536, expected an integer >= 0 and <= 1535'],
    [[-1], RangeError, 'generate: prompt[0] is -1, expected an integer >= 0 and <= 1535'],
    [[1, 2.5], RangeError, 'generate: prompt[1] is 2.5, expected an integer >= 0 and <= 1535'],
    [['a'], TypeError, "generate: prompt[0] is 'a', expected an integer >= 0 and <= 1535"],
    [Int32Array.of(9999), RangeError, 'generate: prompt[0] is 9999, expected an integer >= 0 and <= 1535'],
    [7, TypeError, 'generate: prompt is 7, expected text, messages or token ids'],
    [undefined, TypeError, 'generate: prompt is undefined, expected text, messages or token ids'],
    [{ role: 'user' }, TypeError, 'generate: prompt is an object, expected text, messages or token ids'],
    [[{ role: 'user' }], TypeError, 'chat: messages[0].content is undefined, expected a string'],
    [
      new Array(4096).fill(1),
      RangeError,
      'generate: prompt is 4096 tokens, expected at most 4095 (the context is 4096)',
    ],
  ]
  test.each(cases)('%o', async (prompt, Fault, message) => {
    const { used } = memory()
    await expect(model.generate(prompt as Prompt).next()).rejects.toThrow(new Fault(message))
    expect(memory().used).toBe(used)
  })

  test('more tokens than the context has room for', async () => {
    await expect(model.generate([1, 2], { maxTokens: 4095 }).next()).rejects.toThrow(
      new RangeError('generate: maxTokens is 4095, expected at most 4094 after 2 prompt tokens (the context is 4096)'),
    )
  })

  test('messages without a template, and text or messages without a tokenizer', async () => {
    const messages = [{ role: 'user', content: 'Hi' }]
    await expect(model.generate(messages).next()).rejects.toThrow(`chat: ${demoFolder} has no chat template, `)
    const folder = goldenFolder('llama-tied')
    using plain = await load(folder)
    const wrong = (found: string) =>
      new TypeError(`generate: prompt is ${found}, expected token ids: ${folder} has no tokenizer.json`)
    await expect(plain.generate('Hi').next()).rejects.toThrow(wrong('text'))
    await expect(plain.generate(messages).next()).rejects.toThrow(wrong('messages'))
  })
})

// Repeated where the machine was busy with other things.
test('text that cannot fit is refused before it is encoded, and an abort does not wait', { retry: 2 }, async () => {
  const model = await load(demoFolder)
  const began = performance.now()
  await expect(model.generate('In the beginning '.repeat(600_000)).next()).rejects.toThrow(
    /^generate: prompt is 10200000 characters, expected at most \d+ \(the context is 4096\)$/,
  )
  expect(performance.now() - began).toBeLessThan(1000)

  const long = model.generate('the beginning '.repeat(3000), { signal: AbortSignal.timeout(1) }).next()
  await expect(long).rejects.toThrow('aborted due to timeout')
  model.dispose()
})

test('a generation that nobody holds gives its place back', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const model = await load(demoFolder, { sequences: 1 })
  const { signal } = new AbortController()
  await (async () => {
    const dropped = model.generate('In the', { maxTokens: 4000, signal })
    await dropped.next()
    expect(getEventListeners(signal, 'abort')).toHaveLength(1)
  })()
  const next = model.generate('In the', { maxTokens: 1 }).next()
  let done = false
  void next.then(() => {
    done = true
  })
  for (let i = 0; i < 200 && !done; i++) {
    await sleep(10)
    collect()
  }
  expect(done).toBe(true)
  expect(getEventListeners(signal, 'abort')).toEqual([])
  model.dispose()
})

test('one signal for many generations gives no warning, and none of them stays with it', async () => {
  const warnings: Error[] = []
  const onWarning = (warning: Error) => warnings.push(warning)
  process.on('warning', onWarning)
  const { signal } = new AbortController()
  const generations = Array.from({ length: 30 }, () => model.generate('In the', { maxTokens: 2, signal }))
  await Promise.all(generations.map((generation) => generation.next()))
  expect(getEventListeners(signal, 'abort').length).toBeGreaterThan(10)
  await Promise.all(generations.map((generation) => generation.return(undefined)))
  await sleep(0) // warnings come in a turn of their own
  process.off('warning', onWarning)
  expect(warnings).toEqual([])
  expect(getEventListeners(signal, 'abort')).toEqual([])
})
