// Per-tensor current scaling, bit for bit against test/golden/quantize.json, on every instruction set.
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import type { Tensor } from '../../binding.js'
import { binding } from '../../dist/binding.js'
import { empty, implementations, tensor } from '../device.ts'
import { Random } from './spec.ts'

type Format = 'e4m3' | 'e5m2'
interface Golden {
  scales: Record<'amax' | Format, number[]>
  tensors: ({ name: string; x: number[] } & Record<
    Format,
    { amax: number; scale: number; scale_inv: number; fp8: number[] }
  >)[]
}
const golden = JSON.parse(readFileSync(new URL('../golden/quantize.json', import.meta.url), 'utf8')) as Golden
const formats: Format[] = ['e4m3', 'e5m2']

const fromBits = (bits: number[], shape: number[]) =>
  tensor(new Uint8Array(Uint32Array.from(bits).buffer), 'f32', shape)
const bitsOf = async (t: Tensor) => Array.from(new Uint32Array((await t.readBytes()).slice().buffer))
const value = (bits: number) => new Float32Array(Uint32Array.of(bits).buffer)[0]!

describe.each(implementations)('$name', ({ use }) => {
  for (const format of formats) {
    test(`the scales of ${golden.scales.amax.length} largest magnitudes, ${format}`, async () => {
      use()
      const { amax } = golden.scales
      // A row of one 1 for each: y is the saturated scale itself.
      const ones = tensor(new Float32Array(amax.length).fill(1), 'f32', [amax.length, 1])
      const [y, inverse] = binding.quantize(ones, fromBits(amax, [amax.length]), format)
      const scales = golden.scales[format].map(value)
      expect(await inverse.read()).toEqual(Float32Array.from(scales, (s) => 1 / s))
      expect(await y.readBytes()).toEqual(await tensor(Float32Array.from(scales), format, [scales.length]).readBytes())
    })

    for (const { name, x, [format]: want } of golden.tensors) {
      test(`${name}, ${format}`, async () => {
        use()
        const source = fromBits(x, [1, x.length])
        const amax = binding.amax(source)
        expect(await bitsOf(amax), 'amax').toEqual([want.amax])
        const [y, scale] = binding.quantize(source, amax, format)
        expect(await bitsOf(scale), 'scale').toEqual([want.scale_inv])
        // Which NaN, and so its sign, is free.
        const fp8 = async (t: Tensor) => ({ bits: await t.readBytes(), values: await t.read() })
        const [got, wanted] = [await fp8(y), await fp8(tensor(Uint8Array.from(want.fp8), format, [1, x.length]))]
        expect(got.values).toEqual(wanted.values)
        expect(got.bits.filter((_, i) => !Number.isNaN(got.values[i]))).toEqual(
          wanted.bits.filter((_, i) => !Number.isNaN(wanted.values[i])),
        )

        const rows = binding.rowAmax(source)
        expect(await bitsOf(rows), 'rowAmax').toEqual([want.amax])
      })
    }
  }
})

test('quantize and dequantize refuse scales that are neither one nor one for each row', async () => {
  const three = tensor(Float32Array.of(1, 1, 1), 'f32', [3])
  const [y] = binding.quantize(empty('bf16', [4, 2]), three, 'e4m3')
  await expect(y.read()).rejects.toThrow('quantize: amax is [3], expected [1] or [T=4]')
  const wide = binding.dequantize(empty('e4m3', [4, 2]), three, 'bf16')
  await expect(wide.read()).rejects.toThrow('dequantize: scale is [3], expected [1] or [T=4]')
})

test('a row quantised with its own scale has the same bits alone and in a batch', async () => {
  const x = tensor(
    Float32Array.from({ length: 300 }, (_, i) => Math.sin(i) * 1.3 ** (i / 20)),
    'bf16',
    [3, 100],
  )
  const [y, scale] = binding.quantize(x, binding.rowAmax(x), 'e4m3')
  const row = x.rows(1, 2)
  const [alone, own] = binding.quantize(row, binding.rowAmax(row), 'e4m3')
  expect(await alone.readBytes()).toEqual(await y.rows(1, 2).readBytes())
  expect(await own.read()).toEqual(await scale.rows(1, 2).read())
})

test.each([
  ['bf16', 136, 264],
  ['bf16', 131, 129],
  ['f32', 5, 8],
] as const)(
  'quantizeTranspose: the bits of quantize, and the same bytes transposed, %s [%i,%i]',
  async (dtype, T, D) => {
    const x = tensor(Float32Array.from(new Random(7).normal([T, D]).data), dtype, [T, D])
    const amax = binding.amax(x)
    const [want, wantScale] = binding.quantize(x, amax, 'e4m3')
    const [y, transposed, scale] = binding.quantizeTranspose(x, amax, 'e4m3')
    const bytes = await y.readBytes()
    expect(bytes).toEqual(await want.readBytes())
    expect(await scale.read()).toEqual(await wantScale.read())
    expect(transposed.shape).toEqual([D, T])
    expect(await transposed.readBytes()).toEqual(bytes.map((_, i) => bytes[(i % T) * D + Math.floor(i / T)]!))
  },
)
