// The ops of Mamba-2 give the same bits however a batch is cut, and refuse what their signatures cannot.
import { describe, expect, test } from 'vitest'
import type { Act, Tensor } from '../../binding.js'
import { binding } from '../../dist/binding.js'
import { onCpu, tensor } from '../device.ts'
import { type Nd, offsets, Random, vector } from './spec.ts'

const upload = (value: Nd, act: Act = 'f32') => tensor(Float32Array.from(value.data), act, value.shape)
const ints = (values: number[]) => tensor(Int32Array.from(values), 'i32', [values.length])

interface Piece {
  begin: number
  end: number
  past: number
  slot: number
}

/** Two sequences; the second was at position 21 before. */
const first: Piece = { begin: 0, end: 90, past: 0, slot: 2 }
const second: Piece = { begin: 90, end: 150, past: 21, slot: 0 }
const [T, H, P, G, N, W] = [150, 4, 6, 2, 10, 4]

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

type Op = (batch: Piece[], state: Tensor, act: Act) => Tensor

function scanOf(random: Random, chunk: number) {
  const [x, dt, B, C] = [
    random.normal([T, H, P]),
    random.normal([T, H]),
    random.normal([T, G, N]),
    random.normal([T, G, N]),
  ]
  const [A, D, bias] = [random.uniform([H], -2, 0), random.normal([H]), random.normal([H])]
  const run: Op = (batch, state, act) => {
    const [xs, dts, Bs, Cs] = [x, dt, B, C].map((v) => rows(upload(v, act), batch)) as [
      Tensor<Act>,
      Tensor<Act>,
      Tensor<Act>,
      Tensor<Act>,
    ]
    const weights = [A, D, bias].map((v) => upload(v)) as [Tensor<'f32'>, Tensor<'f32'>, Tensor<'f32'>]
    return binding.ssmScan(
      xs,
      dts,
      weights[0],
      Bs,
      Cs,
      weights[1],
      weights[2],
      0,
      Infinity,
      chunk,
      ...sequences(batch),
      state as Tensor<'f32'>,
    )
  }
  return { run, state: random.normal([3, H, P, N]), stateDtype: (_: Act): Act => 'f32' }
}

function convolutionOf(random: Random) {
  const [x, weight, bias] = [random.normal([T, H * P]), random.normal([W, H * P]), random.normal([H * P])]
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
  return { run, step, state: random.normal([3, W - 1, H * P]), stateDtype: (act: Act) => act }
}

/** The bits of y, of all batches one after the other, and of the state after them. */
async function bits(
  { run, state, stateDtype }: { run: Op; state: Nd; stateDtype: (act: Act) => Act },
  act: Act,
  batches: Piece[][],
) {
  const after = upload(state, stateDtype(act))
  const y: number[] = []
  for (const batch of batches) y.push(...(await run(batch, after, act).readBytes()))
  return { y, state: [...(await after.readBytes())] }
}

describe.each(['f32', 'bf16'] as const)('%s', (act) => {
  test.each([32, 80])('a scan cut at multiples of the chunk, %i, is the whole scan', async (chunk) => {
    const scan = scanOf(new Random(1), chunk)
    const whole = await bits(scan, act, [[first, second]])
    expect(await bits(scan, act, [[first], [second]])).toEqual(whole)
    const [a, b] = cut(first, Math.floor(first.end / chunk) * chunk)
    const [c, d] = cut(second, chunk - second.past)
    expect(await bits(scan, act, [[a], [b], [c], [d]])).toEqual(whole)
    expect(await bits(scan, act, [[a], [b, c], [d]])).toEqual(whole)
  })

  test('a convolution cut anywhere, down to steps, is the whole convolution', async () => {
    const convolution = convolutionOf(new Random(1))
    const whole = await bits(convolution, act, [[first, second]])
    const [a, b] = cut(first, 1)
    const [c, d] = cut(second, 2)
    expect(await bits(convolution, act, [[a], [b, c], [d]])).toEqual(whole)

    const tokens = [first, second].flatMap((s) =>
      Array.from({ length: s.end - s.begin }, (_, t) => [
        { begin: s.begin + t, end: s.begin + t + 1, past: s.past + t, slot: s.slot },
      ]),
    )
    expect(await bits({ ...convolution, run: convolution.step }, act, tokens)).toEqual(whole)
  })
})

describe('refuses, with nothing written,', () => {
  const scan = scanOf(new Random(1), 32)
  const convolution = convolutionOf(new Random(1))
  const contents: [string, Piece[], string][] = [
    ['a slot out of the pool', [first, { ...second, slot: 3 }], 'slots[1] is 3, expected 0 to 2'],
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

  type Change = { G?: number; dtMin?: number; dtMax?: number; chunk?: number; offsets?: number[] }
  const zeros = (...shape: number[]) => tensor(new Float32Array(shape.reduce((n, size) => n * size, 1)), 'f32', shape)
  const scanWith = ({ G = 2, dtMin = 0, dtMax = Infinity, chunk = 4, offsets = [0, 2, 3] }: Change) => {
    const [x, dt, BC, perHead] = [zeros(3, 4, 2), zeros(3, 4), zeros(3, G, 5), zeros(4)]
    return binding.ssmScan(
      x,
      dt,
      perHead,
      BC,
      BC,
      perHead,
      perHead,
      dtMin,
      dtMax,
      chunk,
      ints(offsets),
      ints([0, 0]),
      ints([0, 1]),
      zeros(2, 4, 2, 5),
    )
  }
  const stepWith = ({ G = 2, dtMin = 0, dtMax = Infinity }: Change) => {
    const [x, dt, BC, perHead] = [zeros(2, 4, 2), zeros(2, 4), zeros(2, G, 5), zeros(4)]
    return binding.ssmStep(
      x,
      dt,
      perHead,
      BC,
      BC,
      perHead,
      perHead,
      dtMin,
      dtMax,
      ints([0, 0]),
      ints([0, 1]),
      zeros(2, 4, 2, 5),
    )
  }
  test.each<[string, Change, string]>([
    ['groups that do not divide the heads', { G: 3 }, 'G is 3, expected a divisor of H=4'],
    ['no groups for heads', { G: 0 }, 'G is 0, expected a divisor of H=4'],
    ['an empty range of steps', { dtMin: 2, dtMax: 1.5 }, 'dtMin is 2.000000, expected at most dtMax=1.500000'],
  ])('%s', async (_, change, message) => {
    await expect(scanWith(change).read()).rejects.toThrow(`ssmScan: ${message}`)
    await expect(stepWith(change).read()).rejects.toThrow(`ssmStep: ${message}`)
  })
  test.each<[string, Change, string]>([
    ['chunks of nothing', { chunk: 0 }, 'chunk is 0, expected at least 1'],
    ['sequences that do not begin at the first token', { offsets: [1, 2, 3] }, 'offsets[0] is 1, expected 0'],
    ['sequences that run backwards', { offsets: [0, 4, 3] }, 'offsets[2] is 3, expected at least 4'],
    ['sequences that leave tokens over', { offsets: [0, 1, 2] }, 'offsets[2] is 2, expected 3, the number of tokens'],
  ])('%s', async (_, change, message) => {
    await expect(scanWith(change).read()).rejects.toThrow(`ssmScan: ${message}`)
  })
})
