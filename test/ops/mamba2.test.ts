// The ops of Mamba-2 give the same bits however a batch is cut, and refuse what their signatures cannot.
import { describe, expect, test } from 'vitest'
import type { Act, State, Tensor } from '../../binding.js'
import { binding } from '../../dist/binding.js'
import { empty, implementations, kernels, onCpu, tensor, type Way } from '../device.ts'
import { mamba2Specs, recurrence } from './mamba2.ts'
import { expectSame, run as runOp } from './run.ts'
import { f32Arithmetic, type Inputs, type Nd, offsets, Random, tensorCores, tensorOf, vector } from './spec.ts'

const upload = (value: Nd, dtype: Act | State = 'f32') => tensor(Float32Array.from(value.data), dtype, value.shape)
const ints = (values: number[], shape = [values.length]) => tensor(Int32Array.from(values), 'i32', shape)

interface Piece {
  begin: number
  end: number
  past: number
  slot: number
}

/** Two sequences; the second was at position 21 before. */
const first: Piece = { begin: 0, end: 90, past: 0, slot: 2 }
const second: Piece = { begin: 90, end: 150, past: 21, slot: 0 }
const [T, W, D] = [150, 4, 24]
const pool = 8

const cut = ({ begin, end, past, slot }: Piece, at: number): [Piece, Piece] => [
  { begin, end: begin + at, past, slot },
  { begin: begin + at, end, past: past + at, slot },
]

/** The rows that neighbouring pieces cover. */
const rows = (t: Tensor, batch: Piece[]) => t.rows(batch[0]!.begin, batch.at(-1)!.end)
const sequences = (batch: Piece[]) =>
  [offsets(batch.map((p) => p.end - p.begin)), vector(batch.map((p) => p.past)), vector(batch.map((p) => p.slot))].map(
    (v) => ints([...v.data]),
  ) as [Tensor<'i32'>, Tensor<'i32'>, Tensor<'i32'>]

/** Tokens of the batch, and the slots that the states before them go to. */
type Saves = (readonly [token: number, slot: number])[]
type Op = (batch: Piece[], state: Tensor, act: Act, saves?: Saves) => Tensor

interface Scan {
  H: number
  P: number
  G: number
  N: number
  chunk: number
  segment?: number
}
const narrow = { H: 4, P: 6, G: 2, N: 10 }
/** Heads that Hopper has a kernel of its own for. */
const wide = { H: 2, P: 64, G: 1, N: 64 }
const shapes: [string, Omit<Scan, 'chunk'>, Way][] = [
  ...implementations.map((way): [string, typeof narrow, Way] => [`narrow heads, ${way.name}`, narrow, way]),
  ...kernels.map((way): [string, typeof wide, Way] => [`wide heads, ${way.name}`, wide, way]),
]

function scanOf(random: Random, { H, P, G, N, chunk, segment = 0 }: Scan, stateDtype: State = 'f32') {
  const [x, dt, B, C, z] = [
    random.normal([T, H, P]),
    random.normal([T, H]),
    random.normal([T, G, N]),
    random.normal([T, G, N]),
    random.normal([T, H, P]),
  ]
  const [A, D, bias] = [random.uniform([H], -0.1, 0), random.normal([H]), random.normal([H])]
  const run: Op = (batch, state, act, saves) => {
    const [xs, dts, Bs, Cs, zs] = [x, dt, B, C, z].map((v) => rows(upload(v, act), batch) as Tensor<Act>)
    const [As, Ds, biases] = [A, D, bias].map((v) => upload(v) as Tensor<'f32'>)
    return binding.ssmScan(
      ...([xs!, dts!, As!, Bs!, Cs!, Ds!, biases!, 0, Infinity, zs, chunk, segment] as const),
      ...sequences(batch),
      state as Tensor<State>,
      saves && ints(saves.flat(), [saves.length, 2]),
    )
  }
  return { run, state: random.normal([pool, H, P, N]), stateDtype: (_: Act) => stateDtype }
}

function convolutionOf(random: Random) {
  const [x, weight, bias] = [random.normal([T, D]), random.normal([W, D]), random.normal([D])]
  const run: Op = (batch, state, act) =>
    binding.causalConv1d(
      rows(upload(x, act), batch) as Tensor<Act>,
      upload(weight) as Tensor<'f32'>,
      upload(bias) as Tensor<'f32'>,
      ...sequences(batch),
      state as Tensor<Act>,
    )
  const step: Op = (batch, state, act) => {
    const [, past, slots] = sequences(batch)
    const [xs, ws, bs] = [rows(upload(x, act), batch), upload(weight), upload(bias)]
    return binding.causalConv1dStep(
      xs as Tensor<Act>,
      ws as Tensor<'f32'>,
      bs as Tensor<'f32'>,
      past,
      slots,
      state as Tensor<Act>,
    )
  }
  return { run, step, state: random.normal([pool, W - 1, D]), stateDtype: (act: Act) => act }
}

interface Case {
  run: Op
  state: Nd
  stateDtype(act: Act): Act | State
}

/** The bits of y, of all batches one after the other, and of the state after them. */
async function bits({ run, state, stateDtype }: Case, act: Act, batches: Piece[][], saves?: Saves) {
  const after = upload(state, stateDtype(act))
  const y: Uint8Array[] = []
  for (const batch of batches) y.push(await run(batch, after, act, saves).readBytes())
  return { y: { bits: Buffer.concat(y) }, state: { bits: await after.readBytes() } }
}

describe.each(['f32', 'bf16'] as const)('%s', (act) => {
  describe.each(shapes)('%s', (_, shape, way) => {
    test.each([
      ['chunks of 32', { chunk: 32 }, 32],
      ['chunks of 80', { chunk: 80 }, 80],
      ['segments of a chunk', { chunk: 32, segment: 32 }, 32],
      ['segments of two chunks', { chunk: 16, segment: 32 }, 32],
    ])('a scan cut at multiples of %s is the whole scan', async (_, options, unit) => {
      way.use()
      const scan = scanOf(new Random(1), { ...shape, ...options })
      const whole = await bits(scan, act, [[first, second]])
      expectSame(await bits(scan, act, [[first], [second]]), whole, 'one by one')
      const [a, b] = cut(first, Math.floor(first.end / unit) * unit)
      const [c, d] = cut(second, unit - second.past)
      expectSame(await bits(scan, act, [[a], [b], [c], [d]]), whole, 'cut')
      expectSame(await bits(scan, act, [[a], [b, c], [d]]), whole, 'cut, and some together')
    })

    test.each([
      ['f32', 0],
      ['f16', 0],
      ['f32', 64],
    ] as const)('a saved state is what a scan leaves that ends there: %s, segment %i', async (dtype, segment) => {
      way.use()
      const scan = scanOf(new Random(1), { ...shape, chunk: 32, segment }, dtype)
      const ofSlot = ({ state }: Awaited<ReturnType<typeof bits>>, slot: number) => {
        const bytes = state.bits.length / pool
        return { state: { bits: state.bits.subarray(slot * bytes, (slot + 1) * bytes) } }
      }
      // Before tokens 101 and 133 the second sequence is at positions 32 and 64.
      const saves = Object.entries({ 32: 3, 64: 7, 90: 4, 101: 1, 133: 5 }).map(
        ([t, slot]) => [Number(t), slot] as const,
      )
      const whole = await bits(scan, act, [[first, second]], saves)
      const without = await bits(scan, act, [[first, second]])
      expectSame({ y: whole.y }, { y: without.y }, 'without saves')
      for (const slot of [first.slot, second.slot, 6]) {
        expectSame(ofSlot(whole, slot), ofSlot(without, slot), `slot ${slot} without saves`)
      }
      for (const [t, slot] of saves) {
        const sequence = t <= first.end ? first : second
        const alone = await bits(scan, act, [[{ ...sequence, end: t }]])
        expectSame(ofSlot(whole, slot), ofSlot(alone, sequence.slot), `before token ${t}`)
      }
    })

    test('a scan leaves the state that as many steps leave', async () => {
      way.use()
      const { H, P, G, N } = shape
      const sizes = { T: 70, S: 1, G, heads: H / G, P, N, chunk: 32, gate: 1 }
      const [scan, step] = ['ssmScan', 'ssmStep'].map((name) => binding.ops.find((op) => op.name === name)!)
      const { kept, written } = await runOp(scan!, mamba2Specs.ssmScan.make(sizes, new Random(1)), { act })
      const past = tensorOf(kept, 'past').data[0]!
      const token = (name: string, t: number): Nd => {
        const { shape, data } = tensorOf(kept, name)
        const row = data.length / sizes.T
        return { shape: [1, ...shape.slice(1)], data: data.slice(t * row, (t + 1) * row) }
      }
      let state = tensorOf(kept, 'state')
      for (let t = 0; t < sizes.T; t++) {
        const inputs: Inputs = { ...kept, state, past: vector([past + t]), seed: 0 }
        for (const name of ['x', 'dt', 'B', 'C', 'z']) inputs[name] = token(name, t)
        const { written } = await runOp(step!, inputs, { act })
        state = { shape: state.shape, data: Float64Array.from(written.state!.data) }
      }
      const inChunks = recurrence(kept, onCpu || act === 'f32' ? f32Arithmetic : tensorCores).state!
      const inSteps = recurrence({ ...kept, chunk: 1 }, f32Arithmetic).state!
      const own = tensorOf(kept, 'slots').data[0]! * H * P * N
      for (let i = own; i < own + H * P * N; i++) {
        const apart = Math.abs(written.state!.data[i]! - state.data[i]!)
        const [a, b] = [inChunks, inSteps].map(({ error }) => (error as Float64Array)[i]!)
        if (!(apart <= a! + b!)) expect.fail(`state[${i}] is ${apart} apart, expected at most ${a! + b!}`)
      }
    })
  })

  test('a convolution cut anywhere, down to steps, is the whole convolution', async () => {
    const convolution = convolutionOf(new Random(1))
    const whole = await bits(convolution, act, [[first, second]])
    const [a, b] = cut(first, 1)
    const [c, d] = cut(second, 2)
    expectSame(await bits(convolution, act, [[a], [b, c], [d]]), whole, 'cut')

    const tokens = [first, second].flatMap((s) =>
      Array.from({ length: s.end - s.begin }, (_, t) => [
        { begin: s.begin + t, end: s.begin + t + 1, past: s.past + t, slot: s.slot },
      ]),
    )
    expectSame(await bits({ ...convolution, run: convolution.step }, act, tokens), whole, 'in steps')
  })
})

// Strong decay goes to 0 through subnormal numbers, of which products take an x86 processor ten times as long. Repeated
// where the machine was busy with other things.
test.runIf(onCpu)('a scan takes as long whatever the decay', { retry: 2 }, async () => {
  const [T, H, P, G, N] = [128, 32, 64, 2, 128]
  const random = new Random(1)
  const normal = (...shape: number[]) => tensor(Float32Array.from(random.normal(shape).data), 'f32', shape)
  const all = (value: number) => tensor(new Float32Array(H).fill(value), 'f32', [H])
  const [x, dt, B, C] = [normal(T, H, P), normal(T, H), normal(T, G, N), normal(T, G, N)]
  const milliseconds = async (A: number) => {
    const times: number[] = []
    for (let i = 0; i < 7; i++) {
      const sequence = [ints([0, T]), ints([0]), ints([0]), empty('f32', [1, H, P, N])] as const
      await sequence[0].read()
      const began = performance.now()
      await binding.ssmScan(x, dt, all(A), B, C, all(1), all(0), 0, Infinity, undefined, T, 0, ...sequence).read()
      times.push(performance.now() - began)
    }
    return Math.min(...times)
  }
  expect(await milliseconds(-1)).toBeLessThan(3 * (await milliseconds(-0.001)))
})

describe('refuses, with nothing written,', () => {
  const scan = scanOf(new Random(1), { ...narrow, chunk: 32 })
  const convolution = convolutionOf(new Random(1))
  const contents: [string, Piece[], string][] = [
    ['a slot out of the pool', [first, { ...second, slot: pool }], `slots[1] is ${pool}, expected 0 to ${pool - 1}`],
    ['a slot named twice', [first, { ...second, slot: 2 }], 'slots names 2 twice, expected a slot for each sequence'],
    ['a negative past', [first, { ...second, past: -1 }], 'past[1] is -1, expected at least 0'],
  ]
  for (const [what, batch, message] of contents) {
    test.each([
      ['ssmScan', scan.run, scan.state],
      ['causalConv1d', convolution.run, convolution.state],
      ['causalConv1dStep', convolution.step, convolution.state],
    ] as const)(`${what}: %s`, async (name, run, state) => {
      const pieces = name.endsWith('Step') ? batch.map((p, s) => ({ ...p, begin: s, end: s + 1 })) : batch
      const after = upload(state)
      run(pieces, after, 'f32')
      await expect(after.read()).rejects.toThrow(`${name}: ${message}`)
      // A GPU checks steps a sequence at a time: those that are right have been made.
      if (onCpu || !name.endsWith('Step')) expect(await after.read()).toEqual(Float32Array.from(state.data))
    })
  }

  type Change = { G?: number; dtMin?: number; dtMax?: number; chunk?: number; segment?: number; offsets?: number[] }
  const zeros = (...shape: number[]) => tensor(new Float32Array(shape.reduce((n, size) => n * size, 1)), 'f32', shape)
  const scanWith = ({ G = 2, dtMin = 0, dtMax = Infinity, chunk = 4, segment = 0, offsets = [0, 2, 3] }: Change) => {
    const [x, dt, BC, perHead] = [zeros(3, 4, 2), zeros(3, 4), zeros(3, G, 5), zeros(4)]
    const sequence = [x, dt, perHead, BC, BC, perHead, perHead, dtMin, dtMax, undefined, chunk, segment] as const
    return binding.ssmScan(...sequence, ints(offsets), ints([0, 0]), ints([0, 1]), zeros(2, 4, 2, 5))
  }
  const stepWith = ({ G = 2, dtMin = 0, dtMax = Infinity }: Change) => {
    const [x, dt, BC, perHead] = [zeros(2, 4, 2), zeros(2, 4), zeros(2, G, 5), zeros(4)]
    const sequence = [x, dt, perHead, BC, BC, perHead, perHead, dtMin, dtMax, undefined] as const
    return binding.ssmStep(...sequence, ints([0, 0]), ints([0, 1]), zeros(2, 4, 2, 5), 0)
  }
  test.each<[string, Change, string]>([
    ['groups that do not divide the heads', { G: 3 }, 'G is 3, expected a divisor of H=4'],
    ['no groups for heads', { G: 0 }, 'G is 0, expected a divisor of H=4'],
    ['an empty range of steps', { dtMin: 2, dtMax: 1.5 }, 'dtMin is 2, expected at most dtMax=1.5'],
  ])('%s', async (_, change, message) => {
    await expect(scanWith(change).read()).rejects.toThrow(`ssmScan: ${message}`)
    await expect(stepWith(change).read()).rejects.toThrow(`ssmStep: ${message}`)
  })
  test.each<[string, Change, string]>([
    ['chunks of nothing', { chunk: 0 }, 'chunk is 0, expected at least 1'],
    ['segments that cut chunks', { segment: 6 }, 'segment is 6, expected 0 or a multiple of chunk=4'],
    ['segments of less than nothing', { segment: -4 }, 'segment is -4, expected 0 or a multiple of chunk=4'],
    ['sequences that do not begin at the first token', { offsets: [1, 2, 3] }, 'offsets[0] is 1, expected 0'],
    ['sequences that run backwards', { offsets: [0, 4, 3] }, 'offsets[2] is 3, expected at least 4'],
    ['sequences that leave tokens over', { offsets: [0, 1, 2] }, 'offsets[2] is 2, expected 3, the number of tokens'],
  ])('%s', async (_, change, message) => {
    await expect(scanWith(change).read()).rejects.toThrow(`ssmScan: ${message}`)
  })
})
