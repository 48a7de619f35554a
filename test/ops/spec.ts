// What a test knows of an op: its definition in f64, and inputs to try. test/ops/every.ts does the rest.
import type fc from 'fast-check'
import type { Way } from '../device.ts'

/** Numbers in a shape, row-major, in f64. */
export interface Nd {
  shape: number[]
  data: Float64Array
}

/** Arguments by the names of the op's signature. A left-out optional tensor is absent. */
export type Inputs = Record<string, Nd | number | boolean | string>
export type Sizes = Record<string, number>

/** A result or an updated tensor as it must be, and how far f32 arithmetic may miss it. */
export interface Expected {
  value: Nd
  /**
   * The largest absolute error of f32 evaluation in any order, before the result is rounded to its dtype (the
   * runner adds that): one bound for all elements or one for each. 0: exact.
   */
  error: number | Float64Array
}

/** How matrix products may round, beside the order of their sums. */
export interface Arithmetic {
  /** Unit roundoff of what computed operands are rounded to before they are multiplied; 0: they stay f32. */
  operands: number
  /** The error of one addition, relative to the sum of magnitudes. */
  sums: number
}

export interface Spec {
  /**
   * The slow, obvious definition: every result and every `mut` tensor by name. Inputs hold what the dtypes keep.
   * An op without matrix products needs no arithmetic.
   */
  reference(inputs: Inputs, arithmetic: Arithmetic): Record<string, Expected>
  /** Inputs of given sizes. */
  make(sizes: Sizes, random: Random): Inputs
  /** Sizes worth a test of their own, by name. */
  sizes: Record<string, Sizes>
  /** Sizes for fast-check. */
  arbitrary: fc.Arbitrary<Sizes>
  /** Inputs that need more than sizes: extreme values, options, edges. */
  special?: Record<string, (random: Random) => Inputs>
  /** Of `sizes` those, besides the first, whose tensors are also tried as views, and where there can be no packs. */
  placed?: string[]
  /** Whether a case is about kernels for bf16 only: other activations have cases enough. */
  onlyBf16?(name: string): boolean
  /** The implementations that compute this, where they are not the device's. */
  ways?(inputs: Inputs): Way[]
}

/** The unit roundoff of f32: the largest relative error of one rounding. */
export const u = 2 ** -24

export const f32Arithmetic: Arithmetic = { operands: 0, sums: u }

/**
 * Tensor cores multiply bf16 exactly. They align the products of a block and the accumulator to the largest exponent
 * among them and cut off what is below its 24 bits, which may lose 2^-23 of it for each term; and cut the sum of the
 * block to f32, another 2^-23 (Fasi, Higham, Mikaitis and Pranesh 2021, PeerJ Computer Science 7:e330).
 */
export const tensorCores: Arithmetic = { operands: 2 ** -8, sums: 2 ** -22 }

/** A seeded source of numbers (mulberry32). */
export class Random {
  constructor(private state: number) {}

  /** Uniform in [0, 1). */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  integer(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1))
  }
  normal(shape: number[], scale = 1): Nd {
    return nd(shape, () => scale * Math.sqrt(-2 * Math.log(1 - this.next())) * Math.cos(2 * Math.PI * this.next()))
  }
  uniform(shape: number[], low: number, high: number): Nd {
    return nd(shape, () => low + (high - low) * this.next())
  }
  integers(shape: number[], low: number, high: number): Nd {
    return nd(shape, () => this.integer(low, high))
  }
  /** `count` different integers of 0 to pool - 1. */
  distinct(count: number, pool: number): Nd {
    const all = Array.from({ length: pool }, (_, i) => i)
    for (let i = pool - 1; i > 0; i--) {
      const j = this.integer(0, i)
      ;[all[i], all[j]] = [all[j]!, all[i]!]
    }
    return nd([count], (i) => all[i]!)
  }
}

export function nd(shape: number[], element: (i: number) => number): Nd {
  const data = new Float64Array(shape.reduce((n, size) => n * size, 1))
  for (let i = 0; i < data.length; i++) data[i] = element(i)
  return { shape, data }
}

export const vector = (values: number[]): Nd => ({ shape: [values.length], data: Float64Array.from(values) })

/** Offsets of packed sequences from their lengths. */
export function offsets(lengths: number[]): Nd {
  let sum = 0
  return vector([0, ...lengths.map((n) => (sum += n))])
}

/** The tensor argument `name`, which the signature says is one. */
export const tensorOf = (inputs: Inputs, name: string): Nd => inputs[name] as Nd
