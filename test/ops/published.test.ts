// The fused scan and the unfused one at the sizes of the published models: 65,536 tokens on a GPU, a few and one group of
// heads in the emulator. Neither is held against f64 here, but the two against each other.
import { describe, expect, test } from 'vitest'
import type { Tensor } from '../../binding.js'
import { binding } from '../../dist/binding.js'
import { presets } from '../../dist/model/presets.js'
import { kernels, onCpu, simt, tensor } from '../device.ts'
import { type Nd, nd, Random, tensorCores, u } from './spec.ts'

const T = simt ? 300 : 65536
const tableRows = 1024
const windows = simt ? [[0, T]] : [0, 1, 2].map((i) => [(i * (T - 1024)) / 2, (i * (T - 1024)) / 2 + 1024])

describe.skipIf(onCpu).each(['8b', '47b', '56b'] as const)('%s', (name) => {
  const { heads, headDim: P, groups, stateSize: N, chunkSize } = presets[name].mamba!
  const [H, G] = simt ? [2, 1] : [heads, groups]
  const [inner, channels] = [H * P, H * P + 2 * G * N]

  test('fused as unfused', async () => {
    const random = new Random(1)
    const ids = tensor(
      Int32Array.from({ length: T }, () => random.integer(0, tableRows - 1)),
      'i32',
      [T],
    )
    const tables = [random.normal([tableRows, channels]), random.normal([tableRows, H])] as const
    const vectors = [random.uniform([H], -0.5, -0.01), random.normal([H]), random.uniform([H], -4, 0)] as const
    const before = random.normal([1, H, P, N])

    /** y of all tokens in a few windows, and the state after them; of magnitudes only, where `size`. */
    const scan = async (size: boolean) => {
      const made = ({ shape, data }: Nd) => nd(shape, (i) => (size ? Math.abs(data[i]!) : data[i]!))
      const upload = ({ shape, data }: Nd) => tensor(Float32Array.from(data), 'f32', shape)
      const rows = (table: Nd) => {
        const source = upload(table)
        const y = binding.embedding(ids, source, 'bf16')
        source.dispose()
        return y
      }
      const [A, D, bias] = [vectors[0], made(vectors[1]), vectors[2]].map(upload) as [
        Tensor<'f32'>,
        Tensor<'f32'>,
        Tensor<'f32'>,
      ]
      const state = upload(made(before))
      const [xBC, dt] = [rows(made(tables[0])), rows(tables[1])]
      const columns = (from: number, heads: number, width: number) =>
        xBC.columns(from, from + heads * width).reshape([T, heads, width])
      const [x, B, C] = [columns(0, H, P), columns(inner, G, N), columns(inner + G * N, G, N)]
      const [offsets, past, slots] = [[0, T], [1], [0]].map((v) => tensor(Int32Array.from(v), 'i32', [v.length])) as [
        Tensor<'i32'>,
        Tensor<'i32'>,
        Tensor<'i32'>,
      ]
      const step = [D, bias, 0, Infinity, undefined, chunkSize, 0] as const
      const y = binding.ssmScan(x, dt, A, B, C, ...step, offsets, past, slots, state)
      const read: Float32Array[] = []
      for (const [from, to] of windows) read.push(await y.rows(from!, to!).read())
      read.push(await state.read())
      for (const t of [xBC, dt, x, B, C, y, state]) t.dispose()
      return read
    }

    const [own, portable] = kernels
    own!.use()
    const fused = await scan(false)
    portable!.use()
    const [unfused, sizes] = [await scan(false), await scan(true)]
    // As test/ops/mamba2.ts derives it, for each of the two: operands of the state and of y once to bf16, sums over a
    // chunk, over N, and over the chunks; then y is rounded to bf16. Sizes, computed alike, are off by less than 2 %.
    const { operands, sums } = tensorCores
    const of = 2 * operands + (chunkSize + 2 * N) * sums + (6 * (T / chunkSize + 1) + 20) * u
    let apart = 0
    fused.forEach((values, part) => {
      values.forEach((value, i) => {
        const bound = 2.04 * of * sizes[part]![i]! + 2 * operands * Math.abs(value)
        const distance = Math.abs(value - unfused[part]![i]!)
        if (!(distance <= bound)) expect.fail(`part ${part}, ${i}: ${value} and ${unfused[part]![i]}, bound ${bound}`)
        apart = Math.max(apart, distance)
      })
    })
    expect(apart, 'they are not the same kernel').toBeGreaterThan(0)
  }, 120_000)
})
