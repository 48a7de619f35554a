// Bugs of the products of sm_90a: stages and their barriers, pairs of blocks, descriptors, tiles, and the way to y.
import type { Mutant } from '../mutant.ts'

const planted = (
  file: string,
  kernels: 'bf16' | 'fp8',
  op: string,
  list: (Omit<Mutant, 'file' | 'source' | 'op'> & { file?: string })[],
): Mutant[] =>
  list.map((mutant) => ({
    file: `csrc/cuda/gemm/hopper/${file}`,
    source: `csrc/cuda/gemm/hopper/${kernels}.cu`,
    op,
    ...mutant,
  }))

const pipeline = 'csrc/cuda/pipeline.cuh'
const wide = ['5 blocks of k, five wide tiles']
const square = ['18 blocks of k, a square tile']
const pairs = ['three pairs of tiles']
const promoted = ['promoted, pairs of tiles side by side']

export const mutants: Mutant[] = [
  ...planted('kernel.cuh', 'bf16', 'linear', [
    {
      title: 'a stage is filled while it is multiplied',
      find: 'mbarrier_wait(&s.empty[turn.stage], turn.parity ^ 1);',
      replace: '',
      cases: square,
    },
    {
      title: 'the producer waits for the phase before',
      find: 'mbarrier_wait(&s.empty[turn.stage], turn.parity ^ 1)',
      replace: 'mbarrier_wait(&s.empty[turn.stage], turn.parity)',
      cases: square,
    },
    {
      title: 'parity of the stages does not turn',
      file: pipeline,
      find: 'stage = 0, parity ^= 1',
      replace: 'stage = 0',
      cases: square,
    },
    {
      title: 'one stage less than its barriers',
      file: pipeline,
      find: 'if (++stage == kStages)',
      replace: 'if (++stage == kStages + 1)',
      cases: square,
    },
    {
      title: 'fewer bytes are expected than come',
      find: 'sizeof(to_a) + sizeof(to_b)',
      replace: 'sizeof(to_a)',
      cases: square,
    },
    {
      title: 'more bytes are expected than come',
      find: 'sizeof(to_a) + sizeof(to_b)',
      replace: 'sizeof(to_a) + sizeof(to_b) + 128',
      cases: square,
    },
    {
      title: 'empty counts warps of one warpgroup',
      find: 'kConsumers * 4 * plan.cluster',
      replace: '4 * plan.cluster',
      cases: square,
    },
    {
      title: 'empty counts warps of one block',
      find: 'kConsumers * 4 * plan.cluster',
      replace: 'kConsumers * 4',
      cases: pairs,
    },
    {
      title: 'a stage is given back to this block alone',
      find: 'if (lane < plan.cluster)',
      replace: 'if (lane < 1)',
      cases: pairs,
    },
    {
      title: 'a stage is given back before its products are done',
      find: 'wgmma_wait_group<1>();  // the stage before has been read',
      replace: '',
      cases: square,
    },
    {
      title: 'the stage that is being multiplied is given back',
      find: 'if (block > 0) release(last);\n          last = turn.stage;',
      replace: 'last = turn.stage;\n          if (block > 0) release(last);',
      cases: square,
    },
    {
      title: 'the last stage of a tile is not given back',
      find: '        wgmma_wait_group<0>(sums[0]);\n        release(last);',
      replace: '        wgmma_wait_group<0>(sums[0]);',
      cases: wide,
    },
    {
      title: 'sums are stored before the last products are done',
      find: 'wgmma_wait_group<0>(sums[0])',
      replace: 'wgmma_wait_group<1>(sums[0])',
      cases: square,
    },
    {
      title: 'consumers do not wait for the bytes',
      find: 'mbarrier_wait(&s.full[turn.stage], turn.parity);\n          multiply<A, B, kMajorA, kMajorB>(sums[0]',
      replace: 'multiply<A, B, kMajorA, kMajorB>(sums[0]',
      cases: square,
    },
    { title: 'no wgmma.fence', find: '  wgmma_fence();\n', replace: '', cases: square },
    { title: 'no group of products', find: '  wgmma_commit_group();\n', replace: '', cases: square },
    {
      title: 'the products of a tile are added to those before it',
      find: 'stage.b, block > 0)',
      replace: 'stage.b, true)',
      cases: wide,
    },
    {
      title: 'every stage begins anew',
      find: 'accumulate || i > 0',
      replace: 'i > 0',
      cases: square,
    },
    {
      title: 'both warpgroups multiply the same rows',
      find: 'stage.a + first * kDepth',
      replace: 'stage.a',
      cases: pairs,
    },
    {
      title: 'the second step of k again',
      find: 'advance(of_b, i * kStep<kMajorB>)',
      replace: 'advance(of_b, (i & 1) * kStep<kMajorB>)',
      cases: square,
    },
    {
      title: 'blocks of k are as wide as those of fp8',
      find: 'block * (kDepth / sizeof(A))',
      replace: 'block * kDepth',
      cases: square,
    },
    {
      title: 'both blocks of a pair load the first half',
      find: 'half ? cluster_ctarank() * rows : 0',
      replace: '0',
      cases: pairs,
    },
    {
      title: 'halves of the shared operand go to their own block only',
      find: 'map, x, y, full, 3)',
      replace: 'map, x, y, full, 1 << cluster_ctarank())',
      cases: pairs,
    },
    {
      title: 'halves are loaded from the same rows',
      find: 'box(first, k, row + first)',
      replace: 'box(first, k, row)',
      cases: pairs,
    },
    {
      title: 'a block goes on before the barriers of the other are there',
      find: '  barrier_cluster_arrive();\n  barrier_cluster_wait();  // the barriers',
      replace: '  __syncthreads();  // the barriers',
      cases: pairs,
    },
    {
      title: 'a block ends while the other still reports to it',
      find: '  barrier_cluster_arrive();\n  barrier_cluster_wait();  // the other block',
      replace: '  // the other block',
      cases: pairs,
    },
    {
      title: 'both blocks of a pair have the first tile',
      find: 'f(row + rank * Tile::kRows, column)',
      replace: 'f(row, column)',
      cases: pairs,
    },
    {
      title: 'blocks take every tile after their first',
      find: 'i += gridDim.x / plan.cluster',
      replace: 'i += gridDim.x',
      cases: ['an odd number of tiles below each other'],
    },
    {
      title: 'the last rows that lie together are as many as the others',
      find: 'min(2048 / rows, plan.down - top)',
      replace: '2048 / rows',
      cases: ['more rows than lie together'],
    },
    {
      title: 'the first rows again',
      find: '(top + i % group % high)',
      replace: '(i % group % high)',
      cases: ['more rows than lie together'],
    },
    {
      title: 'K in whole blocks',
      find: 'ceil_div(p.K(), kDepth / sizeof(A))',
      replace: 'p.K() / (kDepth / sizeof(A))',
      cases: pairs,
    },
  ]),
  ...planted('kernel.cuh', 'bf16', 'matmulTn', [
    {
      title: 'MN-major panels as far apart as K-major rows',
      find: 'kMajor ? 16 : 64 * kDepth',
      replace: '16',
      cases: pairs,
    },
    {
      title: 'MN-major steps of k as long as K-major ones',
      find: 'kMajor ? 32 : 16 * kDepth',
      replace: '32',
      cases: ['a pair of square tiles'],
    },
    {
      title: 'the same MN-major box for all',
      find: 'box(i, row + i, k)',
      replace: 'box(i, row, k)',
      cases: pairs,
    },
    {
      title: 'MN-major boxes where the first one goes',
      find: 'box(i, row + i, k)',
      replace: 'box(first, row + i, k)',
      cases: pairs,
    },
  ]),
  ...planted('kernel.cuh', 'fp8', 'fp8Linear', [
    {
      title: 'promoted: consumers do not wait for the bytes',
      find: 'mbarrier_wait(&s.full[turn.stage], turn.parity);\n#pragma unroll',
      replace: '#pragma unroll',
      cases: promoted,
    },
    {
      title: 'promoted: sums are not waited for',
      find: 'wgmma_wait_group<0>(products);',
      replace: '',
      cases: promoted,
    },
    {
      title: 'promoted: a stage is given back before its last rows are multiplied',
      find: 'if (slab == Tile::kSlabs - 1) release',
      replace: 'if (slab == 0) release',
      cases: promoted,
    },
    {
      title: 'promoted: a stage is given back twice',
      find: 'if (slab == Tile::kSlabs - 1) release',
      replace: 'release',
      cases: promoted,
    },
    {
      title: 'promoted: both slabs are the first rows',
      find: '(first + slab * 64) * kDepth',
      replace: 'first * kDepth',
      cases: promoted,
    },
    {
      title: 'promoted: the second slab is stored over the first',
      find: 'row + first + slab * 64 + warp * 16',
      replace: 'row + first + warp * 16',
      cases: promoted,
    },
    {
      title: 'promoted: sums of a tile go on into the next',
      find: 'for (float& sum : slab) sum = 0;',
      replace: ';',
      cases: ['promoted, five tiles below each other'],
    },
    {
      title: 'promoted: a pair shares the narrow operand',
      find: 'pair && !Tile::kSharesB',
      replace: 'false',
      cases: promoted,
    },
    {
      title: 'promoted: both blocks of a pair have the first columns',
      find: 'f(row, column + rank * Tile::kCols)',
      replace: 'f(row, column)',
      cases: promoted,
    },
    {
      title: 'warps store the first rows of their warpgroup',
      find: '+ warp * 16, column',
      replace: ', column',
      cases: promoted,
    },
  ]),
  ...planted('epilogue.cuh', 'bf16', 'linear', [
    {
      title: 'pairs of columns come from the same lane',
      find: '(upper ? low : high) = received;',
      replace: '(upper ? high : low) = received;',
      cases: square,
    },
    {
      title: 'lanes keep what they should give',
      find: 'upper ? low : high, bit)',
      replace: 'upper ? high : low, bit)',
      cases: square,
    },
    {
      title: 'upper and lower rows exchanged',
      find: 'i / 2 * 4 + half * 2',
      replace: 'i / 2 * 4 + (1 - half) * 2',
      cases: square,
    },
    {
      title: 'columns of the instruction, not of the lane',
      find: 'column + i * 2 + q * 8',
      replace: 'column + i * 2 + q * 2',
      cases: square,
    },
    {
      title: 'lower rows over upper ones',
      find: 'lane / 4 + half * 8',
      replace: 'lane / 4',
      cases: square,
    },
  ]),
  ...planted('epilogue.cuh', 'bf16', 'linearRelu2', [
    {
      title: 'amax of the last 32 columns',
      find: 'largest = fmaxf(largest, y.store(of_y, column + i * 2 + q * 8, neighbours))',
      replace: 'largest = y.store(of_y, column + i * 2 + q * 8, neighbours)',
      cases: ['pairs of tiles, a largest for each row'],
    },
  ]),
  ...planted('kernel.cuh', 'bf16', 'linearRelu2', [
    {
      title: 'no amax of all',
      find: '    amax.finish();\n',
      replace: '',
      cases: ['wide tiles, a largest for all'],
    },
  ]),
  ...planted('config.h', 'bf16', 'linear', [
    {
      title: 'one column of tiles too few',
      find: 'across = (N + cols - 1) / cols',
      replace: 'across = N / cols',
      cases: ['one more than tiles have, each way'],
    },
  ]),
]
