// Bugs of attention on sm_90a: the queue of items, boxes of pages, stages and their barriers, e4m3 on its way; those of
// the consumers are in hopper_attention_rows.ts.
import type { Mutant } from '../mutant.ts'

const source = 'csrc/cuda/attention/hopper/hopper.cu'
const planted = (file: string, list: Omit<Mutant, 'file' | 'op' | 'source'>[]): Mutant[] =>
  list.map((mutant) => ({ file: `csrc/cuda/attention/hopper/${file}`, source, op: 'attention', ...mutant }))

const wrong = /is .*, expected/
const ends = ['tiles: sequences that end about one']
const past = ['tiles: a past that ends about one']
const many = ['tiles: more than there are stages']
const narrow = ['tiles: more than there are stages, heads of 64']
const rounds = ['tiles: many rounds of the stages']
const several = ['tiles: several items for a block']
const stored = ['tiles: e4m3, many rounds of the stages']
const widened = ['tiles: e4m3, several items for a block, heads of 64']
const pages = ['tiles: pages of 16']

export const mutants: Mutant[] = [
  ...planted('kernel.cuh', [
    {
      title: 'a stage is filled while it is multiplied',
      find: '    mbarrier_wait(&empty[turn.stage], turn.parity ^ 1);\n    __syncwarp();',
      replace: '    __syncwarp();',
      cases: many,
    },
    {
      title: 'the producer waits for the phase before',
      find: '    mbarrier_wait(&empty[turn.stage], turn.parity ^ 1);\n    __syncwarp();',
      replace: '    mbarrier_wait(&empty[turn.stage], turn.parity);\n    __syncwarp();',
      cases: many,
      caught: /deadlock/,
    },
    {
      title: 'lanes of the producer fall behind each other',
      find: '__syncwarp();  // a lane that fell behind',
      replace: '// a lane that fell behind',
      cases: [...narrow, ...rounds, ...pages, ...several],
      caught: /deadlock/,
    },
    {
      title: 'fewer bytes are expected than come',
      find: '&full[turn.stage], sizeof stage)',
      replace: '&full[turn.stage], sizeof stage / 2)',
      cases: many,
    },
    {
      title: 'more bytes are expected than come',
      find: '&full[turn.stage], sizeof stage)',
      replace: '&full[turn.stage], 2 * sizeof stage)',
      cases: many,
      caught: /deadlock/,
    },
    {
      title: 'lanes without a box bring one',
      find: 'if (row < kKeys)\n',
      replace: '',
      cases: past,
    },
    {
      title: 'every box goes to the first rows',
      find: 'stage[panel] + row * kRow',
      replace: 'stage[panel]',
      cases: pages,
    },
    {
      title: 'every box goes to the first panel',
      find: 'stage[panel] + row * kRow',
      replace: 'stage[0] + row * kRow',
      cases: pages,
    },
    {
      title: 'every panel holds the first columns',
      find: 'column + 64 * panel',
      replace: 'column',
      cases: pages,
      caught: wrong,
    },
    {
      title: 'a lane for every row of a page',
      find: 'lane / kPanels * min(page_size, kKeys)',
      replace: 'lane / kPanels * min(page_size, 16)',
      cases: past,
    },
    {
      title: 'pages past the last of a sequence',
      find: 'min(position / page_size, last)',
      replace: 'position / page_size',
      cases: pages,
      caught: /not allocated|nobody has written/,
    },
    {
      title: 'every tile begins where its page does',
      find: ' * page_size + position % page_size',
      replace: ' * page_size',
      cases: several,
      caught: wrong,
    },
    {
      title: 'keys of the first key head for all',
      find: 'item.head / work.heads * kP',
      replace: 'item.head / work.heads * 0',
      cases: several,
      caught: wrong,
    },
    {
      title: 'keys of the head of the queries',
      find: 'item.head / work.heads * kP',
      replace: 'item.head % work.heads * kP',
      cases: several,
      caught: wrong,
    },
    {
      title: 'values of the first tile for all',
      find: '      place = next;\n',
      replace: '',
      cases: many,
      caught: wrong,
    },
    {
      title: 'keys of a tile past the last',
      find: 'if (tile + 1 < tiles) {',
      replace: '{',
      cases: several,
    },
    {
      title: 'queries are replaced while they are multiplied',
      find: 'mbarrier_wait(&s.q_empty, parity ^ 1);',
      replace: '',
      cases: several,
    },
    {
      title: 'queries are waited for in the phase before',
      find: 'mbarrier_wait(&s.q_empty, parity ^ 1);',
      replace: 'mbarrier_wait(&s.q_empty, parity);',
      cases: several,
      caught: /deadlock/,
    },
    {
      title: 'queries of the first head for all',
      find: 'item.head * kP + 64 * i, item.token',
      replace: '64 * i, item.token',
      cases: several,
      caught: wrong,
    },
    {
      title: 'every panel of queries holds the first columns',
      find: 'item.head * kP + 64 * i, item.token',
      replace: 'item.head * kP, item.token',
      cases: pages,
      caught: wrong,
    },
    {
      title: 'queries of the first tokens for all',
      find: 'item.head * kP + 64 * i, item.token',
      replace: 'item.head * kP + 64 * i, 0',
      cases: several,
      caught: wrong,
    },
    {
      title: 'nobody is told that there are no more items',
      find: '        mbarrier_arrive(&s.q_full);\n',
      replace: '',
      cases: several,
      caught: /deadlock/,
    },
    {
      title: 'the producer has one parity for all items',
      find: 'for (unsigned parity = 0;; parity ^= 1) {\n    const Item item = any',
      replace: 'for (unsigned parity = 0;;) {\n    const Item item = any',
      cases: several,
    },
    // ---- e4m3
    {
      title: 'tiles are widened before they have come',
      find: '    mbarrier_wait(stored_full, stored_turn.parity);\n',
      replace: '',
      cases: stored,
    },
    {
      title: 'tiles are widened to where they are multiplied',
      find: '    mbarrier_wait(stored_full, stored_turn.parity);\n    mbarrier_wait(&empty[turn.stage], turn.parity ^ 1);\n',
      replace: '    mbarrier_wait(stored_full, stored_turn.parity);\n',
      cases: stored,
    },
    {
      title: 'widened tiles are multiplied without a fence',
      find: '    fence_proxy_async();\n    __syncwarp();  // the warp has read and written\n',
      replace: '    __syncwarp();  // the warp has read and written\n',
      cases: stored,
    },
    {
      title: 'a tile is given on before the warp has written it',
      find: '    __syncwarp();  // the warp has read and written\n',
      replace: '',
      cases: stored,
    },
    {
      title: 'what came is not given back',
      find: 'mbarrier_arrive(stored_empty), ',
      replace: '',
      cases: stored,
      caught: /deadlock/,
    },
    {
      title: 'the parity of what came does not turn',
      find: 'turn.next(), stored_turn.next();',
      replace: 'turn.next();',
      cases: stored,
    },
    {
      title: 'those that widen have one parity for all items',
      find: 'for (unsigned parity = 0;; parity ^= 1) {\n    mbarrier_wait(&s.q_full, parity);\n    if (s.item.head < 0) break;\n    const int count',
      replace:
        'for (unsigned parity = 0;;) {\n    mbarrier_wait(&s.q_full, parity);\n    if (s.item.head < 0) break;\n    const int count',
      cases: widened,
    },
    {
      title: 'those that widen do not wait for items',
      find: '    mbarrier_wait(&s.q_full, parity);\n    if (s.item.head < 0) break;\n    const int count',
      replace: '    if (s.item.head < 0) break;\n    const int count',
      cases: widened,
    },
    {
      title: 'keys past the last tile are widened',
      find: 'if (tile + 1 < count) widen_k();',
      replace: 'widen_k();',
      cases: widened,
    },
    {
      title: 'packs are read as if nothing were swizzled',
      find: '(pack / 2 ^ row % 8) * 16',
      replace: 'pack / 2 * 16',
      cases: stored,
      caught: wrong,
    },
    {
      title: 'both halves of 16 bytes are the first',
      find: ' + pack % 2 * 8;',
      replace: ';',
      cases: stored,
      caught: wrong,
    },
    {
      title: 'packs are written as if nothing were swizzled',
      find: '(pack % 8 ^ row % 8) * 16;\n      uint32_t',
      replace: 'pack % 8 * 16;\n      uint32_t',
      cases: stored,
      caught: wrong,
    },
    {
      title: 'the second panel is written over the first',
      find: 'stage[pack / 8] + row',
      replace: 'stage[0] + row',
      cases: stored,
    },
    {
      title: 'two of the three warps that widen do',
      find: 'init(s.of_tiles, s.kWidens ? kWidening : 1,',
      replace: 'init(s.of_tiles, s.kWidens ? kWidening - 1 : 1,',
      cases: stored,
    },
    {
      title: 'what came is free when two of three warps have read it',
      find: 'init(s.of_stored, 1, kWidening)',
      replace: 'init(s.of_stored, 1, kWidening - 1)',
      cases: stored,
    },
    // ---- all
    {
      title: 'a barrier of keys that seven warps free',
      find: 'for (auto& barrier : barriers.k_empty) mbarrier_init(&barrier, empty);',
      replace: 'for (auto& barrier : barriers.k_empty) mbarrier_init(&barrier, empty - 1);',
      cases: rounds,
    },
    {
      title: 'a barrier of values that seven warps free',
      find: 'for (auto& barrier : barriers.v_empty) mbarrier_init(&barrier, empty);',
      replace: 'for (auto& barrier : barriers.v_empty) mbarrier_init(&barrier, empty - 1);',
      cases: rounds,
    },
    {
      title: 'queries that seven warps give back',
      find: '&s.q_empty, kConsumers / kWarp)',
      replace: '&s.q_empty, kConsumers / kWarp - 1)',
      cases: several,
    },
    {
      title: 'barriers are used before they are there',
      find: '  __syncthreads();  // the barriers are there\n',
      replace: '',
      cases: ends,
    },
    {
      title: 'something is written although a page is out of the pool, on tiles',
      find: '  if (work.faults.pending()) return;\n',
      replace: '',
      refuses: ['a page of many tokens'],
      caught: /not allocated|y is written/,
    },
  ]),
  ...planted('work.cuh', [
    {
      title: 'a tile of keys too few',
      find: '(position + rows + kKeys - 1) / kKeys',
      replace: '(position + rows) / kKeys',
      cases: ends,
    },
    {
      title: 'empty items are computed',
      find: ' while (item.head >= 0 && item.rows <= 0)',
      replace: ' while (false)',
      cases: ends,
    },
    {
      title: 'every block takes every item',
      find: 'atomicAdd(work.taken, 1u)',
      replace: 'atomicAdd(work.taken, 0u)',
      cases: several,
    },
    {
      title: 'tokens of the sequence that follows',
      find: 'min(kRows, tokens - first)',
      replace: 'kRows',
      cases: ends,
    },
    {
      title: 'every item of a sequence is its first',
      find: 'batch.past[s] + first,\n',
      replace: 'batch.past[s],\n',
      cases: ends,
      caught: wrong,
    },
    {
      title: 'a sequence without its past',
      find: '.length = batch.past[s] + tokens',
      replace: '.length = tokens',
      cases: past,
      caught: wrong,
    },
    {
      title: 'the scale of keys of another head',
      find: 'k_scales[head / heads]',
      replace: 'k_scales[0 * head]',
      cases: widened,
      caught: wrong,
    },
    {
      title: 'the scale of values of another head',
      find: 'v_scales[head / heads]',
      replace: 'v_scales[0 * head]',
      cases: widened,
      caught: wrong,
    },
  ]),
  ...planted('hopper.cu', [
    {
      title: 'no tile for the rest of a sequence',
      find: 'count_pieces(T, batch.sequences, kRows, 1)',
      replace: 'count_pieces(T, batch.sequences, kRows, 0)',
      cases: ends,
    },
    {
      title: 'items are taken from where the kernel before ended',
      find: '  check(cudaMemsetAsync(taken.as<void>(), 0, sizeof(unsigned), current().stream));\n',
      replace: '',
      cases: several,
    },
    {
      title: 'boxes of values as long as tiles',
      find: 'tensor_map(tokens_of(v_cache), box_rows)',
      replace: 'tensor_map(tokens_of(v_cache), kKeys)',
      cases: pages,
    },
    {
      title: 'pages that no tile is made of',
      find: '(kKeys % page_size != 0 && page_size % kKeys != 0)',
      replace: 'false',
      cases: ['tiles: pages of 24, of which no tile is made'],
    },
    {
      title: 'pages of fewer keys than are swizzled together',
      find: 'page_size % 8 != 0 || ',
      replace: '',
      cases: ['tiles: pages of 4, less than are swizzled together'],
    },
  ]),
]
