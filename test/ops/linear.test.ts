// A row's product has the same bits however many rows stand beside it: what makes a sequence's tokens the same
// alone and in a batch, in one prefill and in chunks. Every fp8 number is multiplied as what it is, and sums that are
// promoted keep what is small beside what is large.
import { beforeEach, describe, expect, test } from 'vitest'
import type { Real, Tensor } from '../../binding.js'
import { binding } from '../../dist/binding.js'
import { device, empty, kernels, onCpu, simt, tensor } from '../device.ts'
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

const decoding = onCpu ? [false] : [false, true]
const ways = kernels.flatMap(({ name, use }) =>
  decoding.map((decode) => ({ name: decode ? `${name}, decode` : name, use, decode })),
)

describe.each(ways)('the rows of a batch, $name', ({ use, decode }) => {
  test.each(real)('linear, %s weights', async (dtype) => {
    use()
    const random = new Random(7)
    const weight = tensor(floats(random, N, K), dtype, [N, K])
    const bias = tensor(floats(random, N), 'f32', [N])
    for (const act of ['f32', 'bf16'] as const) {
      const x = tensor(floats(random, M, K), act, [M, K])
      const y = binding.linear(x, weight, undefined, bias, decode, act)
      for (const [start, end] of parts) {
        const alone = binding.linear(x.rows(start, end), weight, undefined, bias, decode, act)
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
    const product = (start: number, end: number) =>
      binding.fp8Linear(x.rows(start, end), scale.rows(start, end), weight, one, undefined, decode, true, 'bf16')
    const y = product(0, M)
    for (const [start, end] of parts) {
      const alone = product(start, end)
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
      'bf16 by bf16': (rows: number) => binding.linear(x16.rows(0, rows), weight16, scale, undefined, decode, 'f32'),
      'bf16 by e4m3': (rows: number) => binding.linear(x16.rows(0, rows), weight8, scale, undefined, decode, 'f32'),
      'e4m3 by e4m3': (rows: number) =>
        binding.fp8Linear(x8.rows(0, rows), scale, weight8, scale, undefined, decode, false, 'f32'),
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
  const [y, want] = [view, binding.cast(view, act)].map((x) =>
    binding.linear(x, weight, undefined, undefined, false, act),
  )
  expect(Buffer.compare(await y!.readBytes(), await want!.readBytes())).toBe(0)
})

// Subnormal, infinite and NaN ones too: each is the only number of its row that is not 0.
const numbers = (['e4m3', 'e5m2'] as const).flatMap((dtype) => ways.map((way) => ({ dtype, ...way })))
describe.each(numbers)('all 256 numbers of $dtype, $name', ({ dtype, use, decode }) => {
  beforeEach(use)
  const K = 32
  const codes = new Uint8Array(256 * K)
  for (let code = 0; code < 256; code++) codes[code * K + (code % K)] = code
  const ones = Float32Array.from({ length: K }, () => 1)

  test.each(['f32', 'bf16'] as const)('as weights of %s', async (act) => {
    const weight = tensor(codes, dtype, [256, K])
    const y = binding.linear(tensor(ones, act, [1, K]), weight, undefined, undefined, decode, 'f32')
    const want = (await weight.read()).filter((_, i) => i % K === Math.floor(i / K) % K)
    expect(Array.from(await y.read(), (v) => v + 0)).toEqual(Array.from(want, (v) => v + 0)) // of zeros, any sign
  })

  test.each(['e4m3', 'e5m2'] as const)('times %s', async (other) => {
    const x = tensor(codes, dtype, [256, K])
    const scale = tensor(Float32Array.of(1), 'f32', [1])
    const y = binding.fp8Linear(x, scale, tensor(ones, other, [1, K]), scale, undefined, decode, true, 'f32')
    const want = (await x.read()).filter((_, i) => i % K === Math.floor(i / K) % K)
    expect(Array.from(await y.read(), (v) => v + 0)).toEqual(Array.from(want, (v) => v + 0))
  })
})

test('fp8Linear refuses scales that are neither one nor one for each row', async () => {
  const one = tensor(Float32Array.of(1), 'f32', [1])
  const scales = tensor(Float32Array.of(1, 1, 1), 'f32', [3])
  const y = binding.fp8Linear(empty('e4m3', [4, 8]), scales, empty('e4m3', [2, 8]), one, undefined, false, true, 'f32')
  await expect(y.read()).rejects.toThrow('fp8Linear: xScale is [3], expected [1] or [M=4]')
})

test.each(['linearRelu2', 'fp8LinearRelu2'] as const)(
  '%s refuses a number of scales that is neither 1 nor M',
  async (op) => {
    const one = tensor(Float32Array.of(1), 'f32', [1])
    const [, amax] =
      op === 'linearRelu2'
        ? binding.linearRelu2(empty('f32', [4, 8]), empty('f32', [2, 8]), undefined, undefined, false, 3, 'f32')
        : binding.fp8LinearRelu2(
            empty('e4m3', [4, 8]),
            one,
            empty('e4m3', [2, 8]),
            one,
            undefined,
            false,
            true,
            3,
            'f32',
          )
    await expect(amax.read()).rejects.toThrow(`${op}: scales is 3, expected 1 or M=4`)
  },
)

// One product of 2^15 among the first 128 of k, 2^-3 everywhere else. 14 bits lose what stands beside the large one:
// 127 small ones where the sum of every 128 is added up in f32, and all that follow where it is not.
describe.each(ways)('a large product among small ones, $name', ({ use, decode }) => {
  const [M, N, K] = [3, 40, 1024]
  const operand = (rows: number, one: number, others: number) =>
    tensor(
      Float32Array.from({ length: rows * K }, (_, i) => (i % K === 5 ? one : others)),
      'e4m3',
      [rows, K],
    )
  const sums = async (fast: boolean) => {
    use()
    const scale = tensor(Float32Array.of(1), 'f32', [1])
    const [x, weight] = [operand(M, 256, 0.25), operand(N, 128, 0.5)]
    return binding.fp8Linear(x, scale, weight, scale, undefined, decode, fast, 'f32').read()
  }

  test('promoted', async () => {
    for (const sum of await sums(false)) {
      expect(sum).toBeGreaterThanOrEqual(2 ** 15 + (K - 128) / 8)
      expect(sum).toBeLessThanOrEqual(2 ** 15 + (K - 1) / 8)
    }
  })

  test('fast', async () => {
    for (const sum of await sums(true)) {
      expect(sum).toBeGreaterThanOrEqual(2 ** 15)
      expect(sum).toBeLessThanOrEqual(2 ** 15 + (K - 1) / 8)
    }
  })
})

// Those that share a tile of weights take turns by tickets, which every product must leave as it found them.
test.skipIf(onCpu)('decode products replayed: the same bits', async () => {
  const random = new Random(11)
  const [M, N, K] = simt ? [17, 520, 400] : [17, 4096, 8192]
  const x = tensor(floats(random, M, K), 'bf16', [M, K])
  const weights = (['bf16', 'e4m3'] as const).map((dtype) => tensor(floats(random, N, K), dtype, [N, K]))
  const products = () => weights.map((weight) => binding.linear(x, weight, undefined, undefined, true, 'f32'))
  const want = await Promise.all(products().map((y) => y.readBytes()))
  let ys: Tensor<'f32'>[] = []
  const graph = binding.capture(device, () => {
    ys = products()
  })
  for (let i = 0; i < (simt ? 10 : 100); i++) {
    graph.replay()
    for (const [at, y] of ys.entries()) expect(Buffer.compare(await y.readBytes(), want[at]!), `replay ${i}`).toBe(0)
  }
  graph.dispose()
})
