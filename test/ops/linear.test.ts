// A row's product has the same bits however many rows stand beside it: what makes a sequence's tokens the same
// alone and in a batch, in one prefill and in chunks.
import { afterAll, describe, expect, test } from 'vitest'
import type { Real } from '../../binding.js'
import { binding } from '../../dist/binding.js'
import { Random } from './spec.ts'

const { simd: best } = binding.buildInfo()
const simds = (['portable', 'avx2', 'avx512'] as const).filter((name) => binding.useSimd(name))
afterAll(() => binding.useSimd(best))

const [M, N, K] = [300, 130, 1100]
const floats = (random: Random, ...shape: number[]) => Float32Array.from(random.normal(shape).data)
// Of few rows, of whole and of cut tiles, and across the rows that are converted together.
const parts = [
  [0, 1],
  [7, 8],
  [1, 3],
  [2, 6],
  [120, 140],
  [0, 299],
  [250, 262],
  [299, 300],
] as const

describe.each(simds)('the rows of a batch, %s', (simd) => {
  test.each(['f32', 'bf16', 'f16', 'e4m3', 'e5m2'] satisfies Real[])('linear, %s weights', async (dtype) => {
    binding.useSimd(simd)
    const random = new Random(7)
    const weight = binding.tensor(floats(random, N, K), dtype, [N, K])
    const bias = binding.tensor(floats(random, N), 'f32', [N])
    for (const act of ['f32', 'bf16'] as const) {
      const x = binding.tensor(floats(random, M, K), act, [M, K])
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

  test('fp8Linear, a scale for each row', async () => {
    binding.useSimd(simd)
    const random = new Random(8)
    const x = binding.tensor(floats(random, M, K), 'e4m3', [M, K])
    const scale = binding.tensor(floats(random, M), 'f32', [M])
    const weight = binding.tensor(floats(random, N, K), 'e4m3', [N, K])
    const one = binding.tensor(Float32Array.of(0.3), 'f32', [1])
    const y = binding.fp8Linear(x, scale, weight, one, undefined, 'bf16')
    for (const [start, end] of parts) {
      const alone = binding.fp8Linear(x.rows(start, end), scale.rows(start, end), weight, one, undefined, 'bf16')
      expect(Buffer.compare(await alone.readBytes(), await y.rows(start, end).readBytes()), `${start} to ${end}`).toBe(
        0,
      )
    }
  })
})

test.each(['f32', 'bf16'] as const)('linear of a %s view: the bits of a copy of it', async (act) => {
  const random = new Random(9)
  const view = binding.tensor(floats(random, M, K + 7), act, [M, K + 7]).columns(3, K + 3)
  const weight = binding.tensor(floats(random, N, K), 'bf16', [N, K])
  const [y, want] = [view, binding.cast(view, act)].map((x) => binding.linear(x, weight, undefined, undefined, act))
  expect(Buffer.compare(await y!.readBytes(), await want!.readBytes())).toBe(0)
})

test('fp8Linear refuses scales that are neither one nor one for each row', async () => {
  const one = binding.tensor(Float32Array.of(1), 'f32', [1])
  const scales = binding.tensor(Float32Array.of(1, 1, 1), 'f32', [3])
  const y = binding.fp8Linear(
    binding.empty('e4m3', [4, 8]),
    scales,
    binding.empty('e4m3', [2, 8]),
    one,
    undefined,
    'f32',
  )
  await expect(y.read()).rejects.toThrow('fp8Linear: xScale is [3], expected [1] or [M=4]')
})
