// Bugs of attention: copies and barriers, who sees what, the softmax in parts, and edges.
import { type Mutant, unordered } from '../mutant.ts'

const inFlight = /still being written|nobody has written/
const wrong = /is .*, expected/

const source = 'csrc/cuda/attention/attention.cu'
const planted = (file: string, list: Omit<Mutant, 'file' | 'op' | 'source'>[]): Mutant[] =>
  list.map((mutant) => ({ file: `csrc/cuda/attention/${file}`, source, op: 'attention', ...mutant }))

export const mutants: Mutant[] = [
  ...planted('tile.cuh', [
    {
      title: 'something is written although a page is out of the pool, bf16',
      find: 'if (faults.pending()) return;',
      replace: '',
      refuses: ['a page of the second of two sequences'],
      caught: /not allocated|y is written/,
    },
    {
      title: 'no barrier: keys are read before all of them are there',
      find: '__syncthreads();  // this block',
      replace: '// this block',
      cases: ['prefill'],
      caught: unordered,
    },
    {
      title: 'keys are read before their copies are there',
      find: 'cp_async_wait_group<0>()',
      replace: 'cp_async_wait_group<1>()',
      cases: ['prefill'],
      caught: inFlight,
    },
    {
      title: 'the next keys come before the barrier that says their stage is free',
      find: '    __syncthreads();  // this block has come for all threads, and all have done with the one before\n    if (key + kKeys < end) with_bool(p.kv_packs, fetch_block, key + kKeys);',
      replace:
        '    if (key + kKeys < end) with_bool(p.kv_packs, fetch_block, key + kKeys);\n    cp_async_wait_group<1>();\n    __syncthreads();',
      cases: ['prefill'],
    },
    {
      title: 'one stage for the keys in use and the next',
      find: 'at / kKeys % 2 * Tile::kStage',
      replace: '0 * at',
      cases: ['prefill'],
    },
    {
      title: 'rows of y put together where queries are still read',
      find: '  __syncwarp();\n#pragma unroll',
      replace: '#pragma unroll',
      cases: ['prefill'],
      caught: unordered,
    },
    {
      title: 'rows of y read before they are put together',
      find: '  __syncwarp();\n  for (int i = lane;',
      replace: '  for (int i = lane;',
      cases: ['prefill'],
      caught: unordered,
    },
    {
      title: 'queries past the last row',
      find: 'from < count ? p.P - pack * kPack : 0',
      replace: 'p.P - pack * kPack',
      cases: ['one key head for all'],
    },
    {
      title: 'keys past the last',
      find: 'key < end ? p.batch.place(s, key)',
      replace: 'true ? p.batch.place(s, key)',
      cases: ['ragged'],
    },
    {
      title: 'a lane gives all others its own key',
      find: '__shfl_sync(kAllLanes, own, from)',
      replace: '__shfl_sync(kAllLanes, own, lane)',
      cases: ['prefill'],
    },
    {
      title: 'a warp fetches what is for the next',
      find: 'i < min(share - half * kWarp, kWarp)',
      replace: 'i < kWarp',
      cases: ['prefill'],
    },
    {
      title: 'the lower row sees what the upper does',
      find: 'position(own_first + lane / 4 + 8)}',
      replace: 'position(own_first + lane / 4)}',
      cases: ['prefill'],
      caught: wrong,
    },
    {
      title: 'parts of a queries operand exchanged',
      find: 'queries + swizzled<kP>(row + 8 * half, 2 * k + quarter)',
      replace: 'queries + swizzled<kP>(row + 8 * quarter, 2 * k + half)',
      cases: ['prefill'],
      caught: wrong,
    },
    {
      title: 'parts of two operands of values exchanged',
      find: '16 * k + row + 8 * half, 2 * n + quarter',
      replace: '16 * k + row + 8 * quarter, 2 * n + half',
      cases: ['prefill'],
      caught: wrong,
    },
    {
      title: 'two packs in one place',
      kernels: 'portable',
      find: '(pack ^ (row & 7))',
      replace: '(pack | (row & 7))',
      cases: ['heads of 64'],
    },
    {
      title: 'a part that is merged stays',
      find: '    part.clear();\n  };',
      replace: '  };',
      cases: ['a chunk that passes 1024 keys'],
      caught: wrong,
    },
    {
      title: 'tiles beyond those of a sequence',
      find: 'first >= count || p.batch.tokens(s) <= p.decoded',
      replace: 'false',
      cases: ['empty sequences without pages'],
    },
    {
      title: 'rows of y past the last',
      find: '    if (row >= count) break;\n',
      replace: '',
      cases: ['one key head for all', 'ragged'],
    },
    {
      title: 'columns of y past the last, by packs',
      find: 'else if (c < p.P) {',
      replace: 'else {',
      cases: ['heads of 136'],
    },
    {
      title: 'columns of y past the last, by elements',
      find: 'min(kPack, p.P - c)',
      replace: 'kPack',
      cases: ['ragged'],
    },
  ]),
  ...planted('exact.cuh', [
    {
      title: 'something is written although a page is out of the pool, f32',
      find: 'if (faults.pending()) return;',
      replace: '',
      refuses: ['a page of the second of two sequences'],
      caught: /not allocated|y is written/,
    },
    {
      title: 'keys replaced while others still read them',
      find: '    __syncthreads();\n    for (int j = warp;',
      replace: '    for (int j = warp;',
      cases: ['prefill'],
      caught: unordered,
    },
    {
      title: 'keys read before all of them are there',
      find: '    __syncthreads();\n\n    float scores',
      replace: '    float scores',
      cases: ['prefill'],
      caught: unordered,
    },
    {
      title: 'weights read before they are there',
      find: '    __syncwarp();\n',
      replace: '',
      cases: ['prefill'],
      caught: unordered,
    },
    {
      title: 'weights of a block before',
      find: 'if (key + j > position(own + r)) continue;',
      replace: '',
      cases: ['a later chunk'],
    },
    {
      title: 'keys past the last',
      find: 'c < P && key + lane < end',
      replace: 'c < P',
      cases: ['ragged'],
      caught: inFlight,
    },
    {
      title: 'queries past the last row',
      find: 'if (own + r < count) scores',
      replace: 'scores',
      cases: ['ragged'],
      caught: inFlight,
    },
  ]),
  ...planted('softmax.cuh', [
    {
      title: 'a token sees the next',
      find: 'i % 2 >= sees[i / 2]',
      replace: 'i % 2 > sees[i / 2]',
      cases: ['prefill'],
      caught: wrong,
    },
    {
      title: 'a row that sees part of a block, where the one below sees all',
      find: 'if (sees[0] < kKeys)',
      replace: 'if (sees[1] < kKeys)',
      cases: ['prefill'],
      caught: wrong,
    },
    {
      title: 'a row is shared with other lanes than the four that have it',
      find: 'return op(v, __shfl_xor_sync(kAllLanes, v, 2));',
      replace: 'return op(v, __shfl_xor_sync(kAllLanes, v, 4));',
      cases: ['prefill'],
      caught: wrong,
    },
    {
      title: 'totals of two parts added as they are',
      find: 'total = by(total, other_total)',
      replace: 'total += other_total',
      cases: ['a chunk that passes 1024 keys'],
      caught: wrong,
    },
  ]),
  ...planted('config.h', [
    {
      title: 'no tile for the rest of a sequence',
      find: 'offset * heads / rows + s',
      replace: 'offset * heads / rows',
      cases: ['decode'],
    },
  ]),
  ...planted('pages.cuh', [
    {
      title: 'the first tile of a sequence taken for the last of the one before',
      find: 'first(middle) <= i',
      replace: 'first(middle) < i',
      cases: ['decode'],
    },
    {
      title: 'every position of a page is its first',
      find: ' + position % page_size',
      replace: '',
      cases: ['ragged'],
    },
  ]),
]
