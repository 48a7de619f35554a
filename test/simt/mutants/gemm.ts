// Bugs of the matrix products: copies and barriers, the order of k and of columns, edges, fp8 widened.
import { type Mutant, unordered } from '../mutant.ts'

const planted = (file: string, list: Omit<Mutant, 'file' | 'source'>[]): Mutant[] =>
  list.map((mutant) => ({ file: `csrc/cuda/gemm/${file}`, source: 'csrc/cuda/linear.cu', ...mutant }))
const deep = ['long sums of few rows, bf16 weights', 'long sums of some rows, bf16 weights']
const fp8Linear = { op: 'fp8Linear' }

export const mutants: Mutant[] = [
  ...planted('tensor_cores.cuh', [
    {
      title: 'no barrier: a stage is multiplied before all of it is there',
      find: '__syncthreads();  // all have',
      replace: '// all have',
      op: 'linear',
      cases: deep,
      caught: unordered,
    },
    {
      title: 'one stage too many on its way',
      find: 'cp_async_wait_group<kStages - 2>()',
      replace: 'cp_async_wait_group<kStages - 1>()',
      op: 'linear',
      cases: deep,
    },
    {
      title: 'no group where there is nothing to copy: the last stages are not waited for',
      find: '    }\n    cp_async_commit_group();  // even of nothing: waits count groups',
      replace: '      cp_async_commit_group();\n    }',
      op: 'linear',
      cases: deep,
    },
    {
      title: 'the next copy goes where others still read',
      find: '    copy(block + kStages - 1);\n    const',
      replace: '    copy(block + kStages);\n    const',
      op: 'linear',
      cases: deep,
    },
    {
      title: 'copies before the barrier that says the stage is free',
      find: '    __syncthreads();  // all have this stage, and are done with the one before, which is filled next\n    copy(block + kStages - 1);',
      replace: '    copy(block + kStages - 1);\n    __syncthreads();',
      op: 'linear',
      cases: deep,
    },
    {
      title: 'the stage after this one',
      find: 'const S& stage = stages[block % kStages]',
      replace: 'const S& stage = stages[(block + 1) % kStages]',
      op: 'linear',
      cases: deep,
    },
    {
      title: 'upper and lower rows of an operand exchanged',
      find: '{{upper[0], lower[0], upper[1], lower[1]}',
      replace: '{{lower[0], upper[0], lower[1], upper[1]}',
      op: 'linear',
      cases: ['16 rows that pick columns, bf16 weights'],
    },
    {
      title: 'columns of y in the order of the instruction',
      find: 'col + r / 2 * (2 * kN) + 2 * j + r % 2',
      replace: 'col + 8 * j + r',
      op: 'linear',
      cases: ['whole numbers, bf16 weights, 20 rows'],
    },
    {
      title: 'the lower rows stored over the upper',
      find: 'm0 + row + 16 * i + 8 * half + r',
      replace: 'm0 + row + 16 * i + r',
      op: 'linear',
      cases: ['16 rows that pick columns, bf16 weights'],
    },
    {
      title: 'the last slab of e4m3 only',
      find: 'sums[j][e] += slab[e]',
      replace: 'sums[j][e] = slab[e]',
      ...fp8Linear,
      cases: ['whole numbers, e4m3 by e4m3, 2 rows'],
    },
  ]),
  ...planted('operand.cuh', [
    {
      title: 'no edge along k where rows are read 16 bytes at a time',
      find: 'cp_async_16(to, at(m, first), m < rows && first < K)',
      replace: 'cp_async_16(to, at(m, first), m < rows)',
      op: 'linear',
      cases: ['whole numbers, bf16 weights, 2 rows'],
    },
    {
      title: 'no edge along the rows',
      find: 'cp_async_16(to, at(m, first), m < rows && first < K)',
      replace: 'cp_async_16(to, at(m, first), first < K)',
      op: 'linear',
      cases: ['whole numbers, bf16 weights, 2 rows'],
    },
    {
      title: 'no edge along k where rows are read by elements',
      find: 'm < rows && first + e < K',
      replace: 'm < rows',
      op: 'linear',
      cases: ['bf16 weights, 9 rows, neither scale nor bias'],
    },
    {
      title: 'reads 16 bytes where they do not begin',
      find: 'packed = aligned(reinterpret_cast<uintptr_t>(data)) && aligned(K * sizeof(T)) &&',
      replace: 'packed = aligned(reinterpret_cast<uintptr_t>(data)) ||',
      op: 'linear',
      cases: ['bf16 weights, 9 rows, neither scale nor bias'],
    },
    {
      title: 'slabs of a stage exchanged with rows',
      find: 'k + slab * kSlab<T> + c % kAcross * kChunk, stage',
      replace: 'k + c % kAcross * kChunk, stage',
      op: 'linear',
      cases: ['16 rows that pick columns, bf16 weights'],
    },
    {
      title: 'NaN of fp8 as the number after the largest',
      find: 'if (special[0] | special[1])',
      replace: 'if (false)',
      op: 'linear',
      cases: ['NaN among e4m3 weights'],
    },
    {
      title: 'the pairs of four fp8 numbers exchanged',
      find: 'pair ? 0x3424 : 0x1404',
      replace: 'pair ? 0x1404 : 0x3424',
      op: 'linear',
      cases: ['16 rows that pick columns, e4m3 weights'],
    },
  ]),
  ...planted('f32.cuh', [
    {
      title: 'no barrier between filling a block of k and multiplying it',
      find: '__syncthreads();  // this block',
      replace: '// this block',
      op: 'linear',
      cases: ['one row'],
      caught: unordered,
    },
    {
      title: 'one block of k for filling and multiplying',
      find: 'Block& now = held[block % 2]',
      replace: 'Block& now = held[0]',
      op: 'linear',
      cases: ['one row'],
      caught: unordered,
    },
    {
      title: 'no edge along k',
      find: 'm < rows && at < K',
      replace: 'm < rows',
      op: 'linear',
      cases: ['odd'],
    },
  ]),
  ...planted('output.cuh', [
    {
      title: 'the second group of tiles is the first',
      find: '(group * kHigh + within % high)',
      replace: '(within % high)',
      op: 'linear',
      cases: ['more tiles of rows than lie together'],
    },
    {
      title: 'a group of tiles as high as all, though it is the last',
      find: 'const int64_t high = min(kHigh, down - group * kHigh);',
      replace: 'const int64_t high = kHigh;',
      op: 'linear',
      cases: ['more tiles of rows than lie together'],
    },
    {
      title: 'stores 16 bytes where they do not begin',
      find: 'if (packed) return',
      replace: 'if (true) return',
      op: 'linear',
      cases: ['odd'],
    },
    {
      title: 'columns beyond the edge of y',
      find: 'if (i < left) to[i]',
      replace: 'to[i]',
      op: 'linear',
      cases: ['odd'],
    },
  ]),
]
