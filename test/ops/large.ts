// Matrix products past the tiles of Hopper's kernels, for the specs of linear.ts. Whole numbers: every sum is exact.
//
// An emulated GPU has 4 processors. There one tile of 128 x 128 is enough for few columns; three and more columns of
// tiles are 256 wide; two tiles of rows are shared by a pair of blocks; and of five tiles one block has two. Shared
// memory holds 6 blocks of k of square tiles, 4 of others: 64 of bf16 each, 128 of fp8.
import { type Inputs, nd, type Random, type Sizes } from './spec.ts'

type Cases = Record<string, (random: Random) => Inputs>

const operands = ({ M, N, K }: Sizes, random: Random): Inputs => ({
  x: random.integers([M!, K!], -4, 4),
  weight: random.integers([N!, K!], -4, 4),
  bias: random.integers([N!], -9, 9),
  decode: false,
})
const bf16 = (sizes: Sizes, more: Inputs = { to: 'f32' }) => {
  return (random: Random): Inputs => ({
    ...operands(sizes, random),
    'x.dtype': 'bf16',
    'weight.dtype': 'bf16',
    ...more,
  })
}
const fp8 = (x: string, weight: string, fast: boolean, sizes: Sizes, more: Inputs = { to: 'f32' }) => {
  return (random: Random): Inputs => ({
    ...operands(sizes, random),
    'x.dtype': x,
    xScale: nd([sizes.M!], (m) => 2 ** (m % 3)),
    'weight.dtype': weight,
    weightScale: nd([1], () => 0.5),
    fast,
    ...more,
  })
}

const transposed = (a: number[], b: number[]) => {
  return (random: Random): Inputs => ({
    a: random.integers(a, -4, 4),
    'a.dtype': 'bf16',
    b: random.integers(b, -4, 4),
    'b.dtype': 'bf16',
    to: 'f32',
  })
}

const linear: Cases = {
  ...Object.fromEntries(
    [1, 5, 6, 7, 18].map((blocks) => [`${blocks} blocks of k, a square tile`, bf16({ M: 20, N: 24, K: 64 * blocks })]),
  ),
  ...Object.fromEntries(
    [3, 4, 5].map((blocks) => [`${blocks} blocks of k, five wide tiles`, bf16({ M: 70, N: 1180, K: 64 * blocks })]),
  ),
  '12 blocks of k, a wide tile for each': bf16({ M: 70, N: 520, K: 768 }),
  'three pairs of tiles': bf16({ M: 200, N: 520, K: 328 }),
  'a pair of square tiles': bf16({ M: 200, N: 40, K: 200 }, { to: 'bf16' }),
  'an odd number of tiles below each other': bf16({ M: 300, N: 300, K: 136 }, { to: 'bf16' }),
  'more rows than lie together': bf16({ M: 2100, N: 300, K: 8 }),
  'one more than tiles have, each way': bf16({ M: 129, N: 513, K: 72 }),
}

const linearRelu2: Cases = {
  'pairs of tiles, a largest for each row': bf16({ M: 200, N: 520, K: 72 }, { scales: 200, to: 'bf16' }),
  'wide tiles, a largest for all': bf16({ M: 70, N: 521, K: 72 }, { scales: 1, to: 'f32' }),
}

const linearAdd: Cases = {
  'pairs of tiles': (random) => ({
    ...bf16({ M: 200, N: 520, K: 72 }, {})(random),
    y: random.integers([200, 520], -9, 9),
    'y.dtype': 'bf16',
  }),
}

const matmulNn: Cases = {
  'three pairs of tiles': transposed([200, 136], [136, 520]),
  'a pair of square tiles': transposed([200, 72], [72, 40]),
}
const matmulTn: Cases = {
  'three pairs of tiles': transposed([136, 200], [136, 520]),
  'a pair of square tiles': transposed([72, 200], [72, 40]),
}
const matmulTt: Cases = {
  'three pairs of tiles': transposed([136, 200], [520, 136]),
  'a pair of square tiles': transposed([72, 200], [40, 72]),
}
const matmulTnAdd: Cases = {
  'three pairs of tiles': (random) => {
    const { to, ...inputs } = transposed([136, 200], [136, 520])(random)
    return { ...inputs, y: random.integers([200, 520], -9, 9) }
  },
}

const fp8Linear: Cases = {
  'fast, five wide tiles': fp8('e4m3', 'e4m3', true, { M: 70, N: 1180, K: 528 }),
  'fast, three pairs of tiles': fp8('e5m2', 'e4m3', true, { M: 200, N: 520, K: 272 }),
  'fast, a pair of square tiles': fp8('e4m3', 'e5m2', true, { M: 200, N: 40, K: 272 }),
  'promoted, pairs of tiles side by side': fp8('e4m3', 'e5m2', false, { M: 300, N: 260, K: 400 }),
  'promoted, five tiles below each other': fp8('e5m2', 'e4m3', false, { M: 1100, N: 100, K: 144 }),
  'promoted, 5 blocks of k': fp8('e4m3', 'e4m3', false, { M: 20, N: 24, K: 640 }),
}

const fp8LinearRelu2: Cases = {
  'promoted, pairs of tiles': fp8('e4m3', 'e4m3', false, { M: 130, N: 261, K: 144 }, { scales: 130, to: 'bf16' }),
}

export const large = {
  linear,
  linearRelu2,
  linearAdd,
  matmulNn,
  matmulTn,
  matmulTt,
  matmulTnAdd,
  fp8Linear,
  fp8LinearRelu2,
}
