// Large products: all tiles and pairs of tiles give a row the same bits, the tensor core's own sums are asked for only
// where they are wanted, and sums of 16384 products are as near to those in f64 as they must be.
import { describe, expect, test } from 'vitest'
import type { Tensor } from '../../binding.js'
import { binding } from '../../dist/binding.js'
import { onCpu, simt, tensor } from '../device.ts'
import { Random, tensorCores, u } from './spec.ts'

const floats = (random: Random, ...shape: number[]) => Float32Array.from(random.normal(shape).data)
const one = () => tensor(Float32Array.of(1), 'f32', [1])

type Product = (rows: number) => ReturnType<typeof binding.linear>

// On 4 processors a tile of 128 x 128 each, a pair of those, and pairs of 128 x 256.
describe('the first rows of many, in other tiles', () => {
  const counts = simt ? [1, 100, 200, 600] : [1, 100, 200, 600, 3000, 9000]
  const [M, N, K] = [counts.at(-1)!, 200, 208]

  const expectSame = async (product: Product) => {
    const all = await product(M).readBytes()
    for (const rows of counts) {
      const some = await product(rows).readBytes()
      expect(Buffer.compare(some, all.subarray(0, some.length)), `${rows} rows`).toBe(0)
    }
  }

  test('bf16', async () => {
    const random = new Random(1)
    const x = tensor(floats(random, M, K), 'bf16', [M, K])
    const weight = tensor(floats(random, N, K), 'bf16', [N, K])
    await expectSame((rows) => binding.linear(x.rows(0, rows), weight, undefined, undefined, false, 'f32'))
  })

  test.each([true, false])('fp8, fast %s', async (fast) => {
    const random = new Random(2)
    const x = tensor(floats(random, M, K), 'e4m3', [M, K])
    const weight = tensor(floats(random, N, K), 'e4m3', [N, K])
    const product: Product = (rows) =>
      binding.fp8Linear(x.rows(0, rows), one(), weight, one(), undefined, false, fast, 'f32')
    await expectSame(product)
  })
})

// 2^15 among the first 128 of k, 2^-3 everywhere else: 14 bits keep nothing of these beside it.
test.runIf(simt)('fast sums lose what promoted ones keep', async () => {
  const [M, N, K] = [300, 200, 1024]
  const operand = (rows: number, large: number, small: number) =>
    tensor(
      Float32Array.from({ length: rows * K }, (_, i) => (i % K === 5 ? large : small)),
      'e4m3',
      [rows, K],
    )
  const [x, weight] = [operand(M, 256, 0.25), operand(N, 128, 0.5)]
  const sums = (fast: boolean) => binding.fp8Linear(x, one(), weight, one(), undefined, false, fast, 'f32').read()
  expect(new Set(await sums(true))).toEqual(new Set([2 ** 15]))
  expect(new Set(await sums(false))).toEqual(new Set([2 ** 15 + (K - 128) / 8]))
})

describe('sums of 16384 products', () => {
  const [M, N, K] = [3, 5, 16384]

  const operands = <D extends 'bf16' | 'e4m3'>(dtype: D): [Tensor<D>, Tensor<D>] => {
    const random = new Random(3)
    return [tensor(floats(random, M, K), dtype, [M, K]), tensor(floats(random, N, K), dtype, [N, K])]
  }
  /** The largest error, in shares of the sum of magnitudes. */
  const error = async (x: Tensor, weight: Tensor, y: Tensor) => {
    const [a, b, sums] = [await x.read(), await weight.read(), await y.read()]
    const errors = Array.from(sums, (sum, i) => {
      const products = Array.from({ length: K }, (_, k) => a[Math.floor(i / N) * K + k]! * b[(i % N) * K + k]!)
      const magnitude = products.reduce((sum, p) => sum + Math.abs(p), 0)
      return Math.abs(sum - products.reduce((sum, p) => sum + p, 0)) / magnitude
    })
    return Math.max(...errors)
  }
  const f32 = K * (onCpu ? u : tensorCores.sums)

  test('bf16', async () => {
    const [x, weight] = operands('bf16')
    const y = binding.linear(x, weight, undefined, undefined, false, 'f32')
    expect(await error(x, weight, y)).toBeLessThan(f32)
  })
  // Four times 32 products and the sum before them lose all but 13 bits below the largest of them.
  test('e4m3, promoted', async () => {
    const [x, weight] = operands('e4m3')
    const y = binding.fp8Linear(x, one(), weight, one(), undefined, false, false, 'f32')
    expect(await error(x, weight, y)).toBeLessThan(4 * 33 * 2 ** -13 + f32)
  })
})
