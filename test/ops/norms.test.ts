// What the definitions in norms.ts cannot see: which bits are stored between two ops fused into one.
import { expect, test } from 'vitest'
import { binding } from '../../dist/binding.js'
import { empty, tensor } from '../device.ts'
import { Random } from './spec.ts'

const floats = (random: Random, ...shape: number[]) => Float32Array.from(random.normal(shape).data)

test.each(['f32', 'bf16'] as const)('addRmsNorm: the bits of an addition, rounded, and rmsNorm, %s', async (dtype) => {
  const random = new Random(5)
  const [T, D] = [7, 101]
  const [a, b, w] = [floats(random, T, D), floats(random, T, D), floats(random, D)]
  const residual = tensor(a, dtype, [T, D])
  const x = tensor(b, dtype, [T, D])
  const weight = tensor(w, 'f32', [D])
  const [before, added] = [await residual.read(), await x.read()]

  const y = binding.addRmsNorm(residual, x, weight, 1e-5)
  const sum = tensor(
    before.map((v, i) => v + added[i]!),
    dtype,
    [T, D],
  )
  expect(await residual.readBytes()).toEqual(await sum.readBytes())
  expect(await y.readBytes()).toEqual(await binding.rmsNorm(sum, weight, 1e-5).readBytes())
})

test('a row has the same bits alone and in a batch', async () => {
  const random = new Random(6)
  const [T, D] = [33, 1024]
  const x = tensor(floats(random, T, D), 'bf16', [T, D])
  const weight = tensor(floats(random, D), 'f32', [D])
  const row = x.rows(20, 21)
  const together = [
    binding.rmsNorm(x, weight, 1e-5),
    binding.gatedRmsNorm(x, x, weight, 8, 1e-5),
    binding.siluMul(x, x),
  ]
  const alone = [
    binding.rmsNorm(row, weight, 1e-5),
    binding.gatedRmsNorm(row, row, weight, 8, 1e-5),
    binding.siluMul(row, row),
  ]
  for (const [i, y] of together.entries()) {
    expect(await y.rows(20, 21).readBytes()).toEqual(await alone[i]!.readBytes())
  }
})

test.each([3, 0, -2, 16])('gatedRmsNorm refuses %i groups of 8 columns', async (groups) => {
  const x = empty('f32', [2, 8])
  const y = binding.gatedRmsNorm(x, x, empty('f32', [8]), groups, 1e-5)
  await expect(y.read()).rejects.toThrow(`gatedRmsNorm: groups is ${groups}, expected a divisor of D=8`)
})
