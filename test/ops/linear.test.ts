// A row's product has the same bits however many rows stand beside it: what makes a sequence's tokens the same
// alone and in a batch, in one prefill and in chunks. And every fp8 number is multiplied as what it is.
import { describe, expect, test } from 'vitest'
import type { Real } from '../../binding.js'
import { binding } from '../../dist/binding.js'
import { empty, implementations, simt, tensor } from '../device.ts'
import { Random } from './spec.ts'

const floats = (random: Random, ...shape: number[]) => Float32Array.from(random.normal(shape).data)
const real = ['f32', 'bf16', 'f16', 'e4m3', 'e5m2'] satisfies Real[]

const [M, N, K] = simt ? [150, 130, 200] : [300, 130, 1100]
// Of few rows, of whole and of cut tiles, and across the rows that are converted together.
const parts = [
  [0, 1],
  [7, 8],
  [1, 3],
  [2, 6],
  [120, 140],
  [0, M - 1],
  [M - 50, M - 38],
  [M - 1, M],
] as const

describe.each(implementations)('the rows of a batch, $name', ({ use }) => {
  test.each(real)('linear, %s weights', async (dtype) => {
    use()
    const random = new Random(7)
    const weight = tensor(floats(random, N, K), dtype, [N, K])
    const bias = tensor(floats(random, N), 'f32', [N])
    for (const act of ['f32', 'bf16'] as const) {
      const x = tensor(floats(random, M, K), act, [M, K])
      const y = binding.linear(x, weight, undefined, bias, act)
      for (const [start, end] of parts) {
        const alone = binding.linear(x.rows(start, end), weight, undefined, bias, act)
        expect(
          Buffer.compare(await alone.readBytes(), await y.rows(start, end).readBytes()),
          `${start} to ${end}`,
        ).toBe(0)
      }
    }
  })

  test.each([
    ['e4m3', 'e4m3'],
    ['e4m3', 'e5m2'],
  ] as const)('fp8Linear, %s by %s, a scale for each row', async (of, by) => {
    use()
    const random = new Random(8)
    const x = tensor(floats(random, M, K), of, [M, K])
    const scale = tensor(floats(random, M), 'f32', [M])
    const weight = tensor(floats(random, N, K), by, [N, K])
    const one = tensor(Float32Array.of(0.3), 'f32', [1])
    const y = binding.fp8Linear(x, scale, weight, one, undefined, 'bf16')
    for (const [start, end] of parts) {
      const alone = binding.fp8Linear(x.rows(start, end), scale.rows(start, end), weight, one, undefined, 'bf16')
      expect(Buffer.compare(await alone.readBytes(), await y.rows(start, end).readBytes()), `${start} to ${end}`).toBe(
        0,
      )
    }
  })

  // Every number of rows has its tiles; the k, once such that rows are read 16 bytes at a time and once not.
  test.each([208, 211])('any number of rows, K = %i', async (K) => {
    use()
    const random = new Random(10)
    const [most, N] = [130, 40]
    const [x, weight] = [floats(random, most, K), floats(random, N, K)]
    const x16 = tensor(x, 'bf16', [most, K])
    const x8 = tensor(x, 'e4m3', [most, K])
    const weight16 = tensor(weight, 'bf16', [N, K])
    const weight8 = tensor(weight, 'e4m3', [N, K])
    const scale = tensor(Float32Array.of(0.3), 'f32', [1])
    const products = {
      'bf16 by bf16': (rows: number) => binding.linear(x16.rows(0, rows), weight16, scale, undefined, 'f32'),
      'bf16 by e4m3': (rows: number) => binding.linear(x16.rows(0, rows), weight8, scale, undefined, 'f32'),
      'e4m3 by e4m3': (rows: number) => binding.fp8Linear(x8.rows(0, rows), scale, weight8, scale, undefined, 'f32'),
    }
    const counts = simt
      ? [1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 130]
      : Array.from({ length: most }, (_, i) => i + 1)
    for (const [name, product] of Object.entries(products)) {
      const all = await product(most).readBytes()
      for (const rows of counts) {
        const some = await product(rows).readBytes()
        expect(Buffer.compare(some, all.subarray(0, rows * N * 4)), `${name}, ${rows} rows`).toBe(0)
      }
    }
  })
})

test.each(['f32', 'bf16'] as const)('linear of a %s view: the bits of a copy of it', async (act) => {
  const random = new Random(9)
  const view = tensor(floats(random, M, K + 7), act, [M, K + 7]).columns(3, K + 3)
  const weight = tensor(floats(random, N, K), 'bf16', [N, K])
  const [y, want] = [view, binding.cast(view, act)].map((x) => binding.linear(x, weight, undefined, undefined, act))
  expect(Buffer.compare(await y!.readBytes(), await want!.readBytes())).toBe(0)
})

// Subnormal, infinite and NaN ones too: each is the only number of its row that is not 0.
describe.each(['e4m3', 'e5m2'] as const)('all 256 numbers of %s', (dtype) => {
  const K = 32
  const codes = new Uint8Array(256 * K)
  for (let code = 0; code < 256; code++) codes[code * K + (code % K)] = code
  const ones = Float32Array.from({ length: K }, () => 1)

  test.each(['f32', 'bf16'] as const)('as weights of %s', async (act) => {
    const weight = tensor(codes, dtype, [256, K])
    const y = binding.linear(tensor(ones, act, [1, K]), weight, undefined, undefined, 'f32')
    const want = (await weight.read()).filter((_, i) => i % K === Math.floor(i / K) % K)
    expect(Array.from(await y.read(), (v) => v + 0)).toEqual(Array.from(want, (v) => v + 0)) // of zeros, any sign
  })

  test.each(['e4m3', 'e5m2'] as const)('times %s', async (other) => {
    const x = tensor(codes, dtype, [256, K])
    const scale = tensor(Float32Array.of(1), 'f32', [1])
    const y = binding.fp8Linear(x, scale, tensor(ones, other, [1, K]), scale, undefined, 'f32')
    const want = (await x.read()).filter((_, i) => i % K === Math.floor(i / K) % K)
    expect(Array.from(await y.read(), (v) => v + 0)).toEqual(Array.from(want, (v) => v + 0))
  })
})

test('fp8Linear refuses scales that are neither one nor one for each row', async () => {
  const one = tensor(Float32Array.of(1), 'f32', [1])
  const scales = tensor(Float32Array.of(1, 1, 1), 'f32', [3])
  const y = binding.fp8Linear(empty('e4m3', [4, 8]), scales, empty('e4m3', [2, 8]), one, undefined, 'f32')
  await expect(y.read()).rejects.toThrow('fp8Linear: xScale is [3], expected [1] or [M=4]')
})
