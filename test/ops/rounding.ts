// How a step rounds its state to f16: to one of the two neighbours, at random, from Philox 4x32-7 (csrc/random.h).
import { philox } from './sample.ts'
import { type Inputs, type Nd, nd, tensorOf } from './spec.ts'

/** The distance of f16 from |v| to the next that is farther from 0. */
export function gapOfF16(v: number): number {
  const a = Math.abs(v)
  if (a < 2 ** -14) return 2 ** -24
  const exponent = Math.floor(Math.log2(a))
  return 2 ** (exponent + (2 ** exponent > a ? -11 : 2 ** (exponent + 1) <= a ? -9 : -10))
}

/** To the nearest integer, ties to even. */
export function nearest(v: number): number {
  const below = Math.floor(v)
  if (v - below !== 0.5) return Math.round(v)
  return below % 2 ? below + 1 : below
}

/** v, a number of f32, with `noise` of 13 bits. */
export function roundRandomly(v: number, noise: number): number {
  if (Number.isNaN(v)) return v
  if (Math.abs(v) >= 2 ** 16) return Math.sign(v) * 65504
  const gap = gapOfF16(v)
  const parts = nearest(Math.abs(v) / (gap / 2 ** 13)) // whole already but where gaps no longer shrink
  return Math.sign(v) * Math.min(Math.floor((parts + noise) / 2 ** 13) * gap, 65504)
}

/** The noise for column n of row `row` in a layer's [H P,N]. */
export function stateNoise(seed: number, position: number, row: number, n: number, N: number): number {
  const eight = row * Math.ceil(N / 8) + Math.floor(n / 8)
  const word = philox([position, eight, 0, 0], [seed % 2 ** 32, Math.floor(seed / 2 ** 32)], 7)[(n % 8) >> 1]!
  return n % 2 ? Math.floor(word / 2 ** 19) : word % 2 ** 13
}

/** state [Slots,H,P,N], where the sequences of a step have slots, as the step rounds it. */
export function roundedState(state: Nd, inputs: Inputs): Nd {
  const [past, slots] = [tensorOf(inputs, 'past').data, tensorOf(inputs, 'slots').data]
  const [, H, P, N] = state.shape as [number, number, number, number]
  const rounded = nd(state.shape, (i) => state.data[i]!)
  past.forEach((position, s) => {
    const first = slots[s]! * H * P * N
    for (let i = 0; i < H * P * N; i++) {
      const noise = stateNoise(inputs.seed as number, position, Math.floor(i / N), i % N, N)
      rounded.data[first + i] = roundRandomly(state.data[first + i]!, noise)
    }
  })
  return rounded
}
