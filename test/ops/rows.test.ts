// Casts against torch's bits, copies bit for bit, and what the ids and offsets of a batch must not be.
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { binding } from '../../dist/binding.js'
import { implementations, tensor } from '../device.ts'

type Column = 'f32' | 'bf16' | 'f16' | 'e4m3' | 'e5m2'
const golden = JSON.parse(readFileSync(new URL('../golden/casts.json', import.meta.url), 'utf8')) as Record<
  Column,
  number[]
>
const storage = { f32: Uint32Array, bf16: Uint16Array, f16: Uint16Array, e4m3: Uint8Array, e5m2: Uint8Array }

const tensorOf = (bits: number[], dtype: Column) =>
  tensor(new Uint8Array(storage[dtype].from(bits).buffer), dtype, [1, bits.length])

const ids = (...values: number[]) => tensor(Int32Array.from(values), 'i32', [values.length])
const table = () => tensor(Float32Array.from([0, 1, 2, 3, 4, 5]), 'bf16', [3, 2])

describe('cast', () => {
  for (const { name, use } of implementations) {
    for (const to of ['bf16', 'f16', 'e4m3', 'e5m2'] as const) {
      test(`f32 to ${to} and back, ${name}: the bits of torch`, async () => {
        use()
        const source = tensorOf(golden.f32, 'f32')
        const values = await source.read()
        const narrow = binding.cast(source, to)
        const wide = binding.cast(narrow, 'f32')
        const bytes = await narrow.readBytes()
        const bits = Array.from(new storage[to](bytes.slice().buffer))
        const again = await binding.cast(wide, to).readBytes()
        const read = await wide.read()
        expect(again, 'narrow to f32 and back').toEqual(bytes)
        golden[to].forEach((want, i) => {
          if (Number.isNaN(values[i])) expect(read[i], `the cast of NaN, element ${i}`).toBeNaN()
          else expect(bits[i], `the cast of ${values[i]}, element ${i}`).toBe(want)
        })
      })
    }
  }

  test('f32 to f32 keeps every bit but which NaN it is', async () => {
    const source = tensorOf(golden.f32, 'f32')
    expect(await binding.cast(source, 'f32').read()).toEqual(await source.read())
  })
})

test('embedding: rows that need no rounding are copied bit for bit', async () => {
  const weight = tensorOf(golden.bf16, 'bf16').reshape([golden.bf16.length, 1])
  const all = ids(...golden.bf16.keys())
  expect(await binding.embedding(all, weight, 'bf16').readBytes()).toEqual(await weight.readBytes())
})

describe('embedding refuses', () => {
  test.each([
    [[0, 3], 'embedding: ids[1] is 3, expected 0 to 2'],
    [[-1], 'embedding: ids[0] is -1, expected 0 to 2'],
  ])('ids %j', async (values, message) => {
    await expect(binding.embedding(ids(...values), table(), 'f32').read()).rejects.toThrow(message)
  })

  test('the first of several, in more than a block has threads', async () => {
    const values = Array.from({ length: 600 }, (_, i) => ([299, 398, 400].includes(i) ? 7 : 0))
    await expect(binding.embedding(ids(...values), table(), 'f32').read()).rejects.toThrow('ids[299] is 7')
  })

  test('before it writes anything', async () => {
    const y = tensor(Float32Array.of(7, 7, 7, 7), 'f32', [2, 2])
    await expect(binding.embedding(ids(0, 3), table(), 'f32', y).read()).rejects.toThrow('ids[1] is 3')
    expect(await y.read()).toEqual(Float32Array.of(7, 7, 7, 7))
  })
})

describe('lastRows refuses', () => {
  test.each([
    [[1, 3], 'lastRows: offsets[0] is 1, expected 0'],
    [[0, 2, 2, 3], 'lastRows: offsets[2] is 2, expected more than 2, as no sequence may be empty'],
    [[0, 2], 'lastRows: offsets[1] is 2, expected 3, the number of tokens'],
    [[0, 4], 'lastRows: offsets[1] is 4, expected 3, the number of tokens'],
    [[0, 9, 3], 'lastRows: offsets[2] is 3, expected more than 9, as no sequence may be empty'],
  ])('offsets %j', async (values, message) => {
    await expect(binding.lastRows(table(), ids(...values)).read()).rejects.toThrow(message)
  })
})
