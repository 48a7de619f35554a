// Normal deviates: Philox gives four words for every four elements, Box and Muller two deviates for every two words.
import fc from 'fast-check'
import { largest } from './quantize.ts'
import { philox } from './sample.ts'
import { type Inputs, type Nd, nd, type Sizes, type Spec, tensorOf, u } from './spec.ts'

/**
 * The deviates of places 4 `four` to 4 `four` + 3, of standard deviation 1. The two numbers that words become are f32, by
 * roundings that every device makes alike.
 */
export function deviates(seed: number, four: number): number[] {
  const words = philox([four % 2 ** 32, Math.floor(four / 2 ** 32), 0, 0], [seed % 2 ** 32, Math.floor(seed / 2 ** 32)])
  return [0, 2].flatMap((i) => {
    const share = Math.fround(Math.fround(words[i]!) + 0.5) * 2 ** -32
    const angle = 2 * Math.PI * Math.fround(words[i + 1]!) * 2 ** -32
    const length = Math.sqrt(-2 * Math.log(share))
    return [length * Math.cos(angle), length * Math.sin(angle)]
  })
}

const real = ['f32', 'bf16', 'f16', 'e4m3', 'e5m2']

/** Elements that are not written stay NaN. */
const unwritten = (T: number, D: number): Nd => nd([T, D], () => Number.NaN)

/** Seeds of which the first word is 0, and large enough to become the share 1 of f32: the greatest distance, and none. */
const [farthest, nearest] = [1836991927, 16390493]

const fillNormal: Spec = {
  /**
   * CUDA's programming guide says of logf and sincospif that they are within 1 ulp of the result rounded correctly, so
   * within 3 u of the result; sqrt halves what it is given, 1.5 u, and rounds; two products round. That is 7.5 u, and less
   * than 8 u with the products of errors. The CPU's functions are of f64, and one rounding is left. The angle of this
   * definition, at most 2 pi, is off by 2^-51, and a distance is below 7.
   */
  reference: (inputs) => {
    const { shape } = tensorOf(inputs, 'y')
    const [std, seed] = [Math.fround(inputs.std as number), inputs.seed as number]
    const most = largest[inputs['y.dtype'] as string] ?? Number.POSITIVE_INFINITY
    let four: number[] = []
    const value = nd(shape, (i) => {
      if (i % 4 === 0) four = deviates(seed, i / 4)
      return std * four[i % 4]!
    })
    const error = value.data.map((v) => 8 * u * Math.abs(v) + 7 * std * 2 ** -51)
    return { y: { value: nd(shape, (i) => Math.max(-most, Math.min(most, value.data[i]!))), error } }
  },
  make: ({ T, D }: Sizes, random) => ({
    y: unwritten(T!, D!),
    std: 0.01 + random.next(),
    seed: random.integer(0, Number.MAX_SAFE_INTEGER),
  }),
  sizes: {
    odd: { T: 5, D: 37 },
    'one element': { T: 1, D: 1 },
    'no rows': { T: 0, D: 8 },
    'no columns': { T: 3, D: 0 },
    'half a pack more than packs': { T: 3, D: 100 },
    'more than blocks hold at first': { T: 9, D: 8200 },
    'after one other, the last of 256 bytes': { T: 7, D: 9 },
  },
  placed: ['after one other, the last of 256 bytes'],
  arbitrary: fc.record({ T: fc.nat(9), D: fc.nat(130) }),
  special: {
    ...Object.fromEntries(
      real.map((dtype) => [
        dtype,
        (): Inputs => ({ y: unwritten(6, 64), 'y.dtype': dtype, std: 3, seed: 2 ** 40 + 7 }),
      ]),
    ),
    ...Object.fromEntries(
      ['e4m3', 'e5m2'].map((dtype) => [
        `${dtype}, as most are too large`,
        (): Inputs => ({ y: unwritten(3, 33), 'y.dtype': dtype, std: 2e5, seed: 3 }),
      ]),
    ),
    subnormal: () => ({ y: unwritten(2, 16), std: 2 ** -140, seed: 4 }),
    'no deviation': () => ({ y: unwritten(2, 16), std: 0, seed: 4 }),
    'a negative seed': () => ({ y: unwritten(2, 16), std: 1, seed: -5 }),
    'the greatest distance, of a word that is 0': () => ({ y: unwritten(1, 8), std: 1, seed: farthest }),
    'no distance': () => ({ y: unwritten(1, 8), std: 1, seed: nearest }),
  },
}

export const randomSpecs = { fillNormal }
