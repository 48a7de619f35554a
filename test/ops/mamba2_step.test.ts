// The step of a whole Mamba-2 layer against the ops that it is made of; rows alone and in a batch; states of f16.
import { describe, expect, test } from 'vitest'
import type { Act, State, Tensor } from '../../binding.js'
import { binding } from '../../dist/binding.js'
import { implementations, onCpu, tensor } from '../device.ts'
import { mamba2Specs } from './mamba2.ts'
import { mamba2StepSpecs } from './mamba2_step.ts'
import { gapOfF16, nearest } from './rounding.ts'
import { expectSame, run as runOp } from './run.ts'
import { type Inputs, type Nd, nd, Random, tensorOf, vector } from './spec.ts'

const run = (name: string, inputs: Inputs, act: Act) => {
  for (const { use } of implementations) use() // the last one stays
  return runOp(binding.ops.find((op) => op.name === name)!, inputs, { act })
}
type Ran = Awaited<ReturnType<typeof run>>
const result = ({ written }: Ran, name: string): Nd => ({
  shape: written[name]!.shape,
  data: Float64Array.from(written[name]!.data),
})

const small = { S: 5, G: 2, heads: 2, P: 6, N: 10, W: 4 }
const wide = { S: 3, G: 2, heads: 2, P: 80, N: 128, W: 4 }
const both = (['f32', 'bf16'] as const).flatMap((act) =>
  [small, wide].flatMap((sizes) => [0, 1].map((half) => ({ act, ...sizes, half }))),
)

test.each(both)('is the ops that it is made of: $act, heads of $P, f16: $half', async ({ act, ...sizes }) => {
  const { kept, written } = await run('mamba2Step', mamba2StepSpecs.mamba2Step.make(sizes, new Random(2)), act)
  const [z, state] = [tensorOf(kept, 'z'), tensorOf(kept, 'state')]
  const [S, I] = z.shape as [number, number]
  const [, H, P, N] = state.shape as [number, number, number, number]
  const convolved = await run(
    'causalConv1dStep',
    { ...kept, weight: kept.convWeight!, bias: kept.convBias!, state: kept.convState!, 'state.dtype': 'f32' },
    'f32',
  )
  const { shape, data } = result(convolved, 'y')
  const columns = (first: number, heads: number, width: number) =>
    nd([S, heads, width], (i) => data[Math.floor(i / (heads * width)) * shape[1]! + first + (i % (heads * width))]!)
  const { z: _, ...ungated } = kept
  const [B, C] = [columns(I, sizes.G, N), columns(I + sizes.G * N, sizes.G, N)]
  const scanned = await run('ssmStep', { ...ungated, x: columns(0, H, P), B, C }, 'f32')
  expectSame({ state: scanned.written.state! }, { state: written.state! }, 'of ssmStep')
  expect(result(convolved, 'state').data, 'of causalConv1dStep').toEqual(result({ kept, written }, 'convState').data)
  if (!onCpu) return // a GPU adds up the squares in another order
  const x = { shape: [S, I], data: result(scanned, 'y').data }
  const normed = await run('gatedRmsNorm', { ...kept, x, weight: kept.normWeight! }, 'f32')
  const y = await run('cast', { x: result(normed, 'y'), to: act }, 'f32')
  expectSame({ y: y.written.y! }, { y: written.y! }, 'of gatedRmsNorm')
})

test.each(both)('quantised, it is quantize of it: $act, heads of $P, f16: $half', async ({ act, ...sizes }) => {
  const inputs = mamba2StepSpecs.mamba2Step.make(sizes, new Random(3))
  const step = await run('mamba2Step', inputs, act)
  const y = result(step, 'y')
  for (const [to, scales] of [
    ['e4m3', 1],
    ['e5m2', 1],
    ['e4m3', sizes.S],
    ['e5m2', sizes.S],
  ] as const) {
    const { written } = await run('mamba2StepQuantize', { ...inputs, scales, to }, act)
    const amax = await run(scales === 1 ? 'amax' : 'rowAmax', { x: y }, act)
    const want = await run('quantize', { x: y, amax: result(amax, 'y'), to }, act)
    const { convState, state } = step.written
    expectSame(written, { ...want.written, convState: convState!, state: state! }, `${to}, ${scales} scales`)
  }
})

test.each(both)('a row alone has the bits that it has in a batch: $act, heads of $P, f16: $half', async (of) => {
  const { act, ...sizes } = of
  for (const name of ['mamba2Step', 'mamba2StepQuantize'] as const) {
    const inputs: Inputs = { ...mamba2StepSpecs[name].make({ ...sizes, each: 1 }, new Random(4)) }
    const together = await run(name, inputs, act)
    for (let s = 0; s < sizes.S; s++) {
      const alone: Inputs = { ...inputs, ...(name === 'mamba2StepQuantize' && { scales: 1 }) }
      for (const row of ['x', 'z', 'dt', 'past', 'slots']) {
        const { shape, data } = tensorOf(inputs, row)
        const width = data.length / sizes.S
        alone[row] = { shape: [1, ...shape.slice(1)], data: data.slice(s * width, (s + 1) * width) }
      }
      const { written } = await run(name, alone, act)
      const slot = tensorOf(inputs, 'slots').data[s]!
      for (const [result, { shape, bits }] of Object.entries(together.written)) {
        const isState = result === 'state' || result === 'convState'
        const [row, rows] = isState ? [slot, shape[0]!] : [s, sizes.S]
        const ofRow = (all: Uint8Array, i: number, count: number) =>
          all.subarray((i * all.length) / count, ((i + 1) * all.length) / count)
        const one = ofRow(written[result]!.bits, isState ? slot : 0, isState ? rows : 1)
        expectSame({ [result]: { bits: one } }, { [result]: { bits: ofRow(bits, row, rows) } }, `row ${s} alone`)
      }
    }
  }
})

test('a step that is refused leaves the next one right', async () => {
  const inputs = mamba2StepSpecs.mamba2Step.make(small, new Random(5))
  const want = await run('mamba2Step', inputs, 'bf16')
  for (const slots of [
    [0, 1, 99, 3, 4],
    [-1, -1, -1, -1, -1],
    [0, 1, 2, 3, 1],
  ]) {
    await expect(run('mamba2Step', { ...inputs, slots: vector(slots) }, 'bf16')).rejects.toThrow('mamba2Step: slots')
    expectSame((await run('mamba2Step', inputs, 'bf16')).written, want.written, `after slots ${slots}`)
  }
})

describe('a state of f16', () => {
  const sizes = { S: 3, G: 1, heads: 2, P: 6, N: 24, half: 1 }
  const inputs = mamba2Specs.ssmStep.make(sizes, new Random(6))
  const stateOf = async (changes: Inputs) =>
    Buffer.from((await run('ssmStep', { ...inputs, ...changes }, 'f32')).written.state!.bits)

  test('is rounded by the seed and the position, and by nothing else', async () => {
    const want = await stateOf({})
    expect(await stateOf({})).toEqual(want)
    expect(await stateOf({ seed: (inputs.seed as number) + 1 })).not.toEqual(want)
    expect(await stateOf({ seed: (inputs.seed as number) + 2 ** 32 })).not.toEqual(want)
    const past = tensorOf(inputs, 'past').data.map((p) => (p ? p + 1 : 0))
    expect(await stateOf({ past: vector([...past]) })).not.toEqual(want)
  })

  /** A step of which the state is x, or grows by it, in every column. */
  const adding = (S: number, x: number[], N: number) => ({
    x: nd([S, 1, x.length], (i) => x[i % x.length]!),
    dt: nd([S, 1], () => 0),
    A: vector([0]),
    B: nd([S, 1, N], () => 1),
    C: nd([S, 1, N], () => 0),
    D: vector([0]),
    dtBias: vector([0]),
    dtMin: 1,
    dtMax: 1,
    slots: nd([S], (s) => s),
  })

  // Draws lie within a gap. By Hoeffding's inequality their mean is more than 6 gap / (2 sqrt(draws)) off once in
  // 3e7 times; below 2^-14 it is that of the nearest multiple of 2^-37.
  test('has the mean of what is rounded', async () => {
    const values = [1 + 2 ** -23, 1.0003, 1.00097, -3.7, 1e-3, 1.37 * 2 ** -15, 0.4 * 2 ** -20, -0.1, 60001].map(
      Math.fround,
    )
    const [S, N] = [8, 512]
    const { written } = await run(
      'ssmStep',
      {
        ...adding(S, values, N),
        past: nd([S], (s) => s * s),
        state: nd([S, 1, values.length, N], () => 0),
        'state.dtype': 'f16',
        seed: 1,
      },
      'f32',
    )
    values.forEach((v, p) => {
      let sum = 0
      for (let s = 0; s < S; s++)
        for (let n = 0; n < N; n++) sum += written.state!.data[(s * values.length + p) * N + n]!
      const allowed = (6 * gapOfF16(v)) / (2 * Math.sqrt(S * N)) + 2 ** -38
      expect(Math.abs(sum / (S * N) - v), `the mean of ${v}`).toBeLessThanOrEqual(allowed)
    })
  })

  // Towards 1 by the 4096th part of what is left. The errors of the roundings, each within a gap of 2^-11 and of mean 0
  // whatever came before, decay with the state: by the inequality of Azuma and Hoeffding their sum passes 6 times
  // 2^-12 sqrt(sum of decay^2k) once in 3e7 times. f32 itself loses up to u in each sum and product.
  test('does not stall over 4096 steps, nor drift farther than a random walk', async () => {
    const [steps, P, N] = [4096, 8, 32]
    const inputs = { ...adding(1, Array(P).fill(2 ** -12), N), A: vector([-(2 ** -12)]) }
    const upload = (value: Nd, dtype: Act | State = 'f32') =>
      tensor(Float32Array.from(value.data), dtype, value.shape) as Tensor<'f32'>
    const [x, dt, A, B, C, D, bias] = (['x', 'dt', 'A', 'B', 'C', 'D', 'dtBias'] as const).map((name) =>
      upload(inputs[name]),
    )
    const slots = tensor(Int32Array.of(0), 'i32', [1])
    const zero = nd([1, 1, P, N], () => 0)
    const states = [upload(zero), upload(zero, 'f16')] as Tensor<State>[]
    let stalled = 0
    const decay = Math.exp(-(2 ** -12))
    for (let t = 0; t < steps; t++) {
      const past = tensor(Int32Array.of(t), 'i32', [1])
      for (const state of states)
        binding.ssmStep(x!, dt!, A!, B!, C!, D!, bias!, 1, 1, undefined, past, slots, state, 3).dispose()
      past.dispose()
      const v = decay * stalled + 2 ** -12
      stalled = nearest(v / gapOfF16(v)) * gapOfF16(v)
    }
    const [f32, f16] = (await Promise.all(states.map((state) => state.read()))) as [Float32Array, Float32Array]
    const farthest = 6 * 2 ** -12 * Math.sqrt((1 - decay ** (2 * steps)) / (1 - decay ** 2)) + steps * 2 * 2 ** -24
    const errors = Array.from(f16, (v, i) => v - f32[i]!)
    expect(Math.max(...errors.map(Math.abs))).toBeLessThanOrEqual(farthest)
    const mean = errors.reduce((sum, e) => sum + e, 0) / errors.length
    expect(Math.abs(mean)).toBeLessThanOrEqual(farthest / Math.sqrt(errors.length) + steps * 2 * 2 ** -24)
    expect(f32[0]! - stalled).toBeGreaterThan(2 * farthest)
  })
})

describe('refuses', () => {
  const zeros = (...shape: number[]) => tensor(new Float32Array(shape.reduce((n, size) => n * size, 1)), 'f32', shape)
  const ints = (values: number[]) => tensor(Int32Array.from(values), 'i32', [values.length])
  interface Change {
    groups?: number
    I?: number
    C?: number
    dtMin?: number
  }
  const args = ({ groups = 2, I = 8, C = 28, dtMin = 0 }: Change) =>
    [
      ...([zeros(3, C), zeros(3, I), zeros(3, 4), zeros(4, C), undefined, zeros(4), zeros(4), zeros(4)] as const),
      ...([dtMin, 1.5, zeros(I), groups, 1e-5, ints([1, 1, 1]), ints([0, 1, 2])] as const),
      ...([zeros(3, 3, C), zeros(3, 4, 2, 5), 0] as const),
    ] as const
  test.each<[string, Change, string]>([
    ['groups that do not divide the heads', { groups: 3 }, 'groups is 3, expected a divisor of H=4'],
    ['no groups', { groups: 0 }, 'groups is 0, expected a divisor of H=4'],
    ['more groups than heads', { groups: 8 }, 'groups is 8, expected a divisor of H=4'],
    ['gates for other heads', { I: 9 }, 'z has rows of 9, expected H P = 8'],
    ['too few columns', { C: 27 }, 'x has rows of 27, expected H P + 2 groups N = 28'],
    ['an empty range of steps', { dtMin: 2 }, 'dtMin is 2, expected at most dtMax=1.5'],
  ])('%s', async (_, change, message) => {
    await expect(binding.mamba2Step(...args(change)).read()).rejects.toThrow(`mamba2Step: ${message}`)
    const [y] = binding.mamba2StepQuantize(...args(change), 1, 'e4m3')
    await expect(y.read()).rejects.toThrow(`mamba2StepQuantize: ${message}`)
  })
  test('scales that are neither one nor one for each sequence', async () => {
    const [y] = binding.mamba2StepQuantize(...args({}), 2, 'e4m3')
    await expect(y.read()).rejects.toThrow('mamba2StepQuantize: scales is 2, expected 1 or S=3')
  })
})
