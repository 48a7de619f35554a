// Random weights: that they are normal and independent, and what fillNormal refuses.
//
// The draws are always the same, so a test passes always or never. Bounds are 5 standard deviations of what is measured,
// for n independent normal numbers: of the 20 numbers here one would lie outside by chance for one of 87,000 seeds.
import { describe, expect, test } from 'vitest'
import { binding } from '../../dist/binding.js'
import { empty, simt, tensor } from '../device.ts'

const n = simt ? 2 ** 16 : 2 ** 20

async function drawn(seed: number, dtype: 'f32' | 'bf16' = 'f32', columns = 1024): Promise<Float32Array> {
  const y = empty(dtype, [n / columns, columns])
  binding.fillNormal(y, 1, seed)
  return (await y.read()) as Float32Array
}

/** The mean of f(i) over 0 <= i < n, which is to be `expected`, where f(i) has this variance. */
function expectMean(f: (i: number) => number, expected: number, variance: number) {
  let sum = 0
  for (let i = 0; i < n; i++) sum += f(i)
  const bound = 5 * Math.sqrt(variance / n)
  expect(Math.abs(sum / n - expected), `the mean is ${sum / n}, expected ${expected} +- ${bound}`).toBeLessThan(bound)
}

test('moments: 0, 1, 0 and 3', async () => {
  const x = await drawn(1)
  expectMean((i) => x[i]!, 0, 1)
  expectMean((i) => x[i]! ** 2, 1, 2)
  expectMean((i) => x[i]! ** 3, 0, 15)
  expectMean((i) => x[i]! ** 4, 3, 96)
})

describe('independent, also in their squares', () => {
  const independent = (x: Float32Array, other: (i: number) => number) => {
    expectMean((i) => x[i]! * other(i), 0, 1)
    expectMean((i) => (x[i]! ** 2 - 1) * (other(i) ** 2 - 1), 0, 4)
  }
  test.each([1, 2, 3, 4, 1024])('of what lies %d later', async (apart) => {
    const x = await drawn(1)
    independent(x, (i) => x[(i + apart) % n]!)
  })
  test.each([2, 2 ** 32, 2 ** 32 + 1])('of seed %d', async (seed) => {
    const [x, y] = [await drawn(1), await drawn(seed)]
    independent(x, (i) => y[i]!)
  })
})

test('a place counts from the first element, whatever the shape', async () => {
  const square = await drawn(9)
  expect((await drawn(9, 'f32', 2)).every((value, i) => value === square[i])).toBe(true)
})

test.each(['f32', 'bf16', 'e4m3'] as const)('nothing but y is written, %s', async (dtype) => {
  const all = tensor(new Float32Array(4 * 37).fill(7), dtype, [4, 37])
  binding.fillNormal(all.rows(0, 2), 1, 9) // whole packs may begin, but not end there
  binding.fillNormal(all.rows(3, 4), 1, 9)
  const written = Array.from(await all.read(), (value) => value !== 7)
  expect(written).toEqual(written.map((_, i) => Math.floor(i / 37) !== 2))
})

test('of another type: the same, rounded', async () => {
  const wide = empty('f32', [n / 1024, 1024])
  binding.fillNormal(wide, 1, 9)
  const narrow = await binding.cast(wide, 'bf16').read()
  expect((await drawn(9, 'bf16')).every((value, i) => value === narrow[i])).toBe(true)
})

test.each([
  [-1, '-1'],
  [-1e-9, '-1e-09'],
  [Number.POSITIVE_INFINITY, 'inf'],
  [1e39, 'inf'], // in f32
])('refuses a deviation of %d', async (std, found) => {
  const y = empty('f32', [2, 2])
  binding.fillNormal(y, std, 1)
  await expect(y.read()).rejects.toThrow(`fillNormal: std is ${found}, expected a finite number, at least 0`)
})
