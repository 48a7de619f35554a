// The norms whose results go to fp8 against the ops that they fuse: every bit.
import { expect, test } from 'vitest'
import type { Tensor } from '../../binding.js'
import { binding } from '../../dist/binding.js'
import { empty, tensor } from '../device.ts'
import { Random } from './spec.ts'

type Act = 'f32' | 'bf16'
type Format = 'e4m3' | 'e5m2'

const floats = (random: Random, ...shape: number[]) => Float32Array.from(random.normal(shape).data)

/** Normal numbers, and in the first rows what is at the edges of the formats; what is not finite only where it may be. */
function edged(random: Random, T: number, D: number, finite: boolean) {
  const x = floats(random, T, D)
  const rows = [
    () => 0,
    () => -0,
    (d: number) => (d % 2 ? 1e-30 : -1e-30),
    (d: number) => (d === D - 1 ? 3e38 : 1),
    (d: number) => (d === D - 1 ? Number.POSITIVE_INFINITY : d),
    (d: number) => (d === 0 ? Number.NaN : d),
  ]
  rows.slice(0, Math.min(T - 2, finite ? 3 : 6)).forEach((element, t) => {
    for (let d = 0; d < D; d++) x[t * D + d] = element(d)
  })
  return x
}

/** Which NaN is free; all else is not. */
async function bits(t: Tensor) {
  const values = (await t.read()) as Float32Array
  return Buffer.from(values.map((v) => (Number.isNaN(v) ? Number.NaN : v)).buffer)
}
async function expectSameBits(got: Tensor, want: Tensor, what: string) {
  expect(got.dtype, what).toBe(want.dtype)
  const same = (await bits(got)).equals(await bits(want))
  if (!same) expect(await got.read(), what).toEqual(await want.read())
}

async function expectQuantized(got: Tensor[], norm: Tensor<Act>, scales: number, to: Format) {
  const amax = scales === 1 ? binding.amax(norm) : binding.rowAmax(norm)
  const want = binding.quantize(norm, amax, to)
  await expectSameBits(got[1]!, want[1]!, 'scale')
  await expectSameBits(got[0]!, want[0]!, 'y')
}

// Rows that registers hold, that are not whole packs, and that are too wide.
const shapes: [number, number][] = [
  [9, 24],
  [9, 1104],
  [8, 8192],
  [8, 37],
  [8, 8200],
]
const all = (['f32', 'bf16'] as const).flatMap((act) =>
  (['e4m3', 'e5m2'] as const).flatMap((to) =>
    shapes.flatMap(([T, D]) => [1, T].map((scales): [Act, Format, number, number, number] => [act, to, T, D, scales])),
  ),
)

test.each(all)('%s to %s, [%i,%i], %i scales', async (act, to, T, D, scales) => {
  const random = new Random(9)
  const x = tensor(edged(random, T, D, scales === 1), act, [T, D])
  const weight = tensor(floats(random, D), 'f32', [D])
  const norm = binding.rmsNorm(x, weight, 1e-5)
  await expectQuantized(binding.rmsNormQuantize(x, weight, 1e-5, scales, to), norm, scales, to)

  const before = floats(random, T, D)
  const [one, two] = [tensor(before, act, [T, D]), tensor(before, act, [T, D])]
  const added = binding.addRmsNorm(one, x, weight, 1e-5)
  await expectQuantized(binding.addRmsNormQuantize(two, x, weight, 1e-5, scales, to), added, scales, to)
  await expectSameBits(two, one, 'residual')

  if (scales > 1) return
  const [y, transposed, scale] = binding.rmsNormQuantizeTranspose(x, weight, 1e-5, to)
  const [wantY, wantTransposed, wantScale] = binding.quantizeTranspose(norm, binding.amax(norm), to)
  await expectSameBits(scale, wantScale, 'scale')
  await expectSameBits(y, wantY, 'y')
  await expectSameBits(transposed, wantTransposed, 'transposed')
})

test.each([
  ['bf16', 8, 1024, 8],
  ['bf16', 4, 16384, 8],
  ['bf16', 9, 320, 40],
  ['f32', 9, 1800, 3],
  ['f32', 9, 72, 8],
] as const)('gated, %s [%i,%i] in %i groups', async (act, T, D, groups) => {
  const random = new Random(10)
  const [z, weight] = [tensor(floats(random, T, D), act, [T, D]), tensor(floats(random, D), 'f32', [D])]
  for (const scales of [1, T]) {
    const x = tensor(edged(random, T, D, scales === 1), act, [T, D])
    const norm = binding.gatedRmsNorm(x, z, weight, groups, 1e-5)
    for (const to of ['e4m3', 'e5m2'] as const)
      await expectQuantized(binding.gatedRmsNormQuantize(x, z, weight, groups, 1e-5, scales, to), norm, scales, to)
  }
})

test.each([
  ['bf16', 8, 14336],
  ['bf16', 4, 32768],
  ['bf16', 2, 32776],
  ['f32', 9, 24],
  ['f32', 8, 37],
] as const)('silu_mul, %s [%i,%i]', async (act, T, D) => {
  const random = new Random(12)
  const gate = tensor(floats(random, T, D), act, [T, D])
  for (const scales of [1, T]) {
    const up = tensor(edged(random, T, D, scales === 1), act, [T, D])
    const product = binding.siluMul(gate, up)
    for (const to of ['e4m3', 'e5m2'] as const)
      await expectQuantized(binding.siluMulQuantize(gate, up, scales, to), product, scales, to)
  }
})

test('views have the bits of what they show', async () => {
  const random = new Random(11)
  const [T, D] = [5, 256]
  const weight = tensor(floats(random, D), 'f32', [D])
  const wide = tensor(floats(random, T, 2 * D + 8), 'bf16', [T, 2 * D + 8])
  for (const first of [8, 3]) {
    const view = wide.columns(first, first + D)
    const dense = binding.cast(view, 'bf16')
    for (const scales of [1, T]) {
      const [y, scale] = binding.rmsNormQuantize(view, weight, 1e-5, scales, 'e4m3')
      const [wantY, wantScale] = binding.rmsNormQuantize(dense, weight, 1e-5, scales, 'e4m3')
      await expectSameBits(scale, wantScale, 'scale')
      await expectSameBits(y, wantY, 'y')
    }
  }
})

test('a row with its own scale has the same bits alone and in a batch', async () => {
  const random = new Random(12)
  const [T, D] = [33, 1024]
  const x = tensor(floats(random, T, D), 'bf16', [T, D])
  const weight = tensor(floats(random, D), 'f32', [D])
  const row = x.rows(20, 21)
  const together = [
    binding.rmsNormQuantize(x, weight, 1e-5, T, 'e4m3'),
    binding.gatedRmsNormQuantize(x, x, weight, 8, 1e-5, T, 'e4m3'),
  ]
  const alone = [
    binding.rmsNormQuantize(row, weight, 1e-5, 1, 'e4m3'),
    binding.gatedRmsNormQuantize(row, row, weight, 8, 1e-5, 1, 'e4m3'),
  ]
  for (const [i, [y, scale]] of together.entries()) {
    expect(await y.rows(20, 21).readBytes()).toEqual(await alone[i]![0].readBytes())
    expect((await scale.read())[20]).toEqual((await alone[i]![1].read())[0])
  }
})

test('refuse scales that are neither one nor one for each row, before anything is written', async () => {
  const [x, weight] = [empty('bf16', [4, 8]), empty('f32', [8])]
  const residual = tensor(new Float32Array(32).fill(1), 'bf16', [4, 8])
  const said = (name: string) => `${name}: scales is 3, expected 1 or T=4`
  const [y] = binding.rmsNormQuantize(x, weight, 1e-5, 3, 'e4m3')
  await expect(y.read()).rejects.toThrow(said('rmsNormQuantize'))
  const [added] = binding.addRmsNormQuantize(residual, x, weight, 1e-5, 3, 'e4m3')
  await expect(added.read()).rejects.toThrow(said('addRmsNormQuantize'))
  expect(await residual.read()).toEqual(new Float32Array(32).fill(1))
  const [gated] = binding.gatedRmsNormQuantize(x, x, weight, 2, 1e-5, 3, 'e4m3')
  await expect(gated.read()).rejects.toThrow(said('gatedRmsNormQuantize'))
  const [groups] = binding.gatedRmsNormQuantize(x, x, weight, 3, 1e-5, 1, 'e4m3')
  await expect(groups.read()).rejects.toThrow('gatedRmsNormQuantize: groups is 3, expected a divisor of D=8')
  expect(() => binding.rmsNormQuantize(x, weight, 1e-5, -1, 'e4m3')).toThrow(
    'rmsNormQuantize: scales is -1, expected at least 0',
  )
})
