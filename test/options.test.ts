// Option checking: kinds, ranges, unknown keys and the nearest known one, word for word.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  boolean,
  callback,
  check,
  either,
  integer,
  list,
  number,
  oneOf,
  type Rules,
  signal,
  string,
} from '../dist/options.js'

interface Options {
  weights?: 'f32' | 'bf16' | 'fp8'
  temperature?: number
  topP?: number
  maxTokens?: number
  seed?: number
  name?: string
  echo?: boolean
  stop?: string | readonly string[]
  signal?: AbortSignal
  onProgress?: (done: number) => void
}

const rules: Rules<Options> = {
  weights: oneOf('f32', 'bf16', 'fp8'),
  temperature: number({ min: 0 }),
  topP: number({ above: 0, max: 1 }),
  maxTokens: integer({ min: 1 }),
  seed: integer(),
  name: string,
  echo: boolean,
  stop: either(string, list(string)),
  signal,
  onProgress: callback<(done: number) => void>(),
}

const checked = (options: unknown) => check('load', options, rules)

test('gives what is there, without the undefined', () => {
  const options = { weights: 'fp8', temperature: 0, topP: 1, maxTokens: 1, seed: -3, stop: ['a'], name: undefined }
  expect(checked(options)).toEqual({ weights: 'fp8', temperature: 0, topP: 1, maxTokens: 1, seed: -3, stop: ['a'] })
  expect(Object.hasOwn(checked(options), 'name')).toBe(false)
  expect(checked(undefined)).toEqual({})
  const more = { signal: new AbortController().signal, onProgress: () => {}, stop: 'a', echo: false }
  expect(checked(more)).toEqual(more)
})

test('a rule for every key, by the compiler', () => {
  // @ts-expect-error topP and the rest have no rule
  const few: Rules<Options> = { temperature: number() }
  // @ts-expect-error a string rule for a number
  const wrong: Rules<{ temperature?: number }> = { temperature: string }
  expect([few, wrong]).toHaveLength(2)
})

test.each([
  ['top_p', 'topP'],
  ['topk', 'topK'],
  ['minTokenz', 'minTokens'],
  ['temperatur', 'temperature'],
  ['temperratures', 'temperature'],
])('%s is nearest to %s', (key, near) => {
  const close = { topK: number(), topP: number(), maxTokens: number(), minTokens: number(), temperature: number() }
  expect(() => check('generate', { [key]: 1 }, close)).toThrow(
    new TypeError(`generate: unknown option '${key}', did you mean '${near}'?`),
  )
})

describe('refuses', () => {
  const cases: [unknown, ErrorConstructor, string][] = [
    [{ weigths: 'fp8' }, TypeError, "load: unknown option 'weigths', did you mean 'weights'?"],
    [{ Temperature: 1 }, TypeError, "load: unknown option 'Temperature', did you mean 'temperature'?"],
    [{ max_tokens: 1 }, TypeError, "load: unknown option 'max_tokens', did you mean 'maxTokens'?"],
    [{ weigths: undefined }, TypeError, "load: unknown option 'weigths', did you mean 'weights'?"],
    [
      { quantization: 1 },
      TypeError,
      "load: unknown option 'quantization', expected weights, temperature, topP, maxTokens, seed, name, echo, stop, signal or onProgress",
    ],
    [{ temperature: -1 }, RangeError, 'load: temperature is -1, expected a number >= 0'],
    [{ temperature: Number.NaN }, RangeError, 'load: temperature is NaN, expected a number >= 0'],
    [{ temperature: Infinity }, RangeError, 'load: temperature is Infinity, expected a number >= 0'],
    [{ temperature: null }, TypeError, 'load: temperature is null, expected a number >= 0'],
    [{ temperature: '1' }, TypeError, "load: temperature is '1', expected a number >= 0"],
    [{ temperature: 1n }, TypeError, 'load: temperature is 1n, expected a number >= 0'],
    [{ topP: 0 }, RangeError, 'load: topP is 0, expected a number > 0 and <= 1'],
    [{ topP: 1.5 }, RangeError, 'load: topP is 1.5, expected a number > 0 and <= 1'],
    [{ maxTokens: 1.5 }, RangeError, 'load: maxTokens is 1.5, expected an integer >= 1'],
    [{ maxTokens: 0 }, RangeError, 'load: maxTokens is 0, expected an integer >= 1'],
    [{ seed: 2 ** 53 }, RangeError, 'load: seed is 9007199254740992, expected an integer'],
    [{ seed: [1, 2, 3, 4, 5] }, TypeError, 'load: seed is [1,2,3,4,…], expected an integer'],
    [{ name: [['a'], 'b'] }, TypeError, "load: name is [[…],'b'], expected a string"],
    [
      { name: 'a'.repeat(61), echo: 'a"\n'.repeat(30) },
      TypeError,
      `load: echo is '${'a"\\n'.repeat(20)}…', expected true or false`,
    ],
    [{ name: Symbol('x') }, TypeError, 'load: name is Symbol(x), expected a string'],
    [{ name: { a: 1 } }, TypeError, 'load: name is an object, expected a string'],
    [{ name: new Uint8Array(2) }, TypeError, 'load: name is a Uint8Array, expected a string'],
    [{ echo: 1 }, TypeError, 'load: echo is 1, expected true or false'],
    [{ weights: 'fp4' }, RangeError, "load: weights is 'fp4', expected 'f32', 'bf16' or 'fp8'"],
    [{ weights: 8 }, TypeError, "load: weights is 8, expected 'f32', 'bf16' or 'fp8'"],
    [{ stop: ['a', 1] }, TypeError, "load: stop is ['a',1], expected a string or a list, each a string"],
    [{ signal: {} }, TypeError, 'load: signal is an object, expected an AbortSignal'],
    [{ onProgress: 'x' }, TypeError, "load: onProgress is 'x', expected a function"],
    [null, TypeError, 'load: options is null, expected an object'],
    ['fp8', TypeError, "load: options is 'fp8', expected an object"],
    [[], TypeError, 'load: options is [], expected an object'],
  ]
  test.each(cases)('%o', (options, Fault, message) => {
    expect(() => checked(options)).toThrow(new Fault(message))
  })

  test('any value at all, only ever with a TypeError or RangeError', () => {
    fc.assert(
      fc.property(fc.constantFrom(...Object.keys(rules)), fc.anything(), (key, value) => {
        try {
          checked({ [key]: value })
        } catch (error) {
          expect([TypeError, RangeError]).toContain((error as Error).constructor)
          expect((error as Error).message).toMatch(new RegExp(`^load: ${key} is `))
        }
      }),
    )
  })
})
