// Bugs of attention of few new tokens: shares of work, the ring, operands, and the parts that blocks leave each other.
import { type Mutant, unordered } from '../mutant.ts'

const inFlight = /still being written|nobody has written/
const wrong = /is .*, expected/
const unwritten = /nobody has written|is .*, expected/
const whole = 'decode, whole packs'
const quantised = 'decode, whole packs of a cache of e4m3'
const eight = 'up to eight tokens each'
const rows = 'eight tokens, more rows than a tile'
const edges = 'lengths about the edges of pages of 16, of blocks and parts'

const source = 'csrc/cuda/attention/attention.cu'
const planted = (file: string, list: Omit<Mutant, 'file' | 'op' | 'source'>[]): Mutant[] =>
  list.map((mutant) => ({ file: `csrc/cuda/attention/${file}`, source, op: 'attention', ...mutant }))

export const mutants: Mutant[] = [
  ...planted('work.cuh', [
    {
      title: 'no part for the last keys',
      find: 'ceil_div(length(s), kSplit)',
      replace: 'int64_t{length(s)} / kSplit + (length(s) < kSplit)',
      cases: [whole],
    },
    {
      title: 'no tile for the last rows',
      find: 'ceil_div(int64_t{batch.tokens(s)} * heads, rows)',
      replace: 'max(int64_t{1}, int64_t{batch.tokens(s)} * heads / rows)',
      cases: [rows],
      caught: unwritten,
    },
    {
      title: 'eight tokens are nobody’s',
      find: 'tokens <= kDecodeTokens ?',
      replace: 'tokens < kDecodeTokens ?',
      cases: [rows],
      caught: unwritten,
    },
    {
      title: 'an item is thought to be the next worker’s',
      find: '((item + 1) * workers - 1) / items',
      replace: '((item + 1) * workers) / items',
      cases: [whole],
    },
    {
      title: 'more workers than items',
      find: 'min(int64_t{gridDim.x}, shares.items)',
      replace: 'gridDim.x',
      cases: ['decode, room for many more keys'],
    },
    {
      title: 'keys past the length',
      find: 'min(length, (part + 1) * kSplit)',
      replace: '(part + 1) * kSplit',
      cases: [edges],
    },
    {
      title: 'a part too many',
      find: '++part < parts',
      replace: '++part <= parts',
      cases: [whole],
    },
    {
      title: 'the first tile only',
      find: '    if (++tile < tiles) return;\n',
      replace: '',
      cases: [rows],
    },
    {
      title: 'the first key head only',
      find: '    if (++g < work.groups) return;\n',
      replace: '',
      cases: [whole],
    },
    {
      title: 'sequences without items are entered',
      find: 's < work.batch.sequences && work.items(s) == 0',
      replace: 'false',
      cases: ['more sequences than threads'],
    },
    {
      title: 'counts are read before all are there',
      find: '  __syncthreads();\n\n  Shares',
      replace: '\n  Shares',
      cases: ['more sequences than threads'],
      caught: unordered,
    },
    {
      title: 'a share begins in the sequences after its own',
      find: 'before + counts[i] <= begin',
      replace: 'before + counts[i] <= begin + 1',
      cases: [edges],
    },
    {
      title: 'a thread counts the sequences of the next, too',
      find: 'static_cast<int>(threadIdx.x + 1) * each',
      replace: 'static_cast<int>(threadIdx.x + 2) * each',
      cases: ['more sequences than threads'],
    },
    {
      title: 'a share begins with the first part of its tile',
      find: 'static_cast<int>(within % at.parts), at.key',
      replace: '0, at.key',
      cases: [whole],
    },
  ]),
  ...planted('decode.cuh', [
    {
      title: 'something is written although a page is out of the pool',
      find: 'if (faults.pending()) return;',
      replace: '',
      refuses: ['a page of keys that are split'],
      caught: /not allocated|y is written/,
    },
    {
      title: 'two chunks in one place',
      find: '(chunk ^ (row',
      replace: '(chunk | (row',
      cases: [whole],
    },
    {
      title: 'copies are waited for one stage too late',
      find: 'wait_for_copies(p.stages - 2)',
      replace: 'wait_for_copies(p.stages - 1)',
      cases: [whole],
      caught: inFlight,
    },
    {
      title: 'copies of a longer ring are waited for one stage too late',
      find: 'else cp_async_wait_group<4>();',
      replace: 'else cp_async_wait_group<5>();',
      cases: [quantised],
      caught: inFlight,
    },
    {
      title: 'no barrier: keys are read before all of them are there',
      find: '    __syncthreads();  // this stage',
      replace: '    // this stage',
      cases: [whole],
      caught: unordered,
    },
    {
      title: 'the next keys come where these are read',
      find: 'fetch(slot == 0 ? p.stages - 1 : slot - 1)',
      replace: 'fetch(slot)',
      cases: [whole],
    },
    {
      title: 'the ring is a stage shorter for those who read',
      find: 'slot + 1 == p.stages ? 0',
      replace: 'slot + 2 >= p.stages ? 0',
      cases: [whole],
    },
    {
      title: 'stale keys and values',
      find: 'key < end ? (work',
      replace: 'true ? (work',
      cases: [edges],
    },
    {
      title: 'columns past the last of a key',
      find: 'of_key >= 0 && column < p.P',
      replace: 'of_key >= 0',
      cases: ['decode, heads of 80'],
    },
    {
      title: 'a lane gives all others its own key',
      find: '__shfl_sync(kAllLanes, place, from)',
      replace: '__shfl_sync(kAllLanes, place, lane % kShare)',
      cases: [whole],
    },
    {
      title: 'all key heads are the first',
      find: 'work.groups + ahead.g) * p.P',
      replace: 'work.groups) * p.P',
      cases: [whole],
      caught: wrong,
    },
    {
      title: 'queries past the last column',
      find: 'return column < p.P ? *',
      replace: 'return true ? *',
      cases: ['decode, heads of 80'],
    },
    {
      title: 'rows past the last',
      find: 'row[r] = index < count ?',
      replace: 'row[r] = true ?',
      cases: [eight, whole],
    },
    {
      title: 'the lower row sees what the upper does',
      find: 'rows.seen[1] + 1 - at.key',
      replace: 'rows.seen[0] + 1 - at.key',
      cases: [eight],
      caught: wrong,
    },
    {
      title: 'queries are read before all of them are there',
      find: 'rows.enter(p, at, own_queries);\n      __syncthreads();',
      replace: 'rows.enter(p, at, own_queries);',
      cases: [whole],
      caught: unordered,
    },
    {
      title: 'a warp leaves out queries of its own',
      find: 'k = i * D::kTeam + threadIdx.x / kWarp % D::kTeam',
      replace: 'k = i * D::kTeam',
      cases: [whole],
    },
    {
      title: 'a tile of rows has the queries of the first',
      find: 'queries + team * (kP / 16) * kWarp',
      replace: 'queries',
      cases: [eight],
    },
    {
      title: 'scores are read before all of them are there',
      find: '      bar_sync(1 + team, D::kTeam * kWarp);',
      replace: '',
      cases: [whole],
      caught: unordered,
    },
    {
      title: 'the scores of all warps in one place',
      find: '*pair(r, member * D::kOwnKeys / 8 + n)',
      replace: '*pair(r, n)',
      cases: [whole],
    },
    {
      title: 'parts of two operands of keys exchanged',
      find: 'first + row + 8 * quarter, half)',
      replace: 'first + row + 8 * half, quarter)',
      cases: [whole],
      caught: wrong,
    },
    {
      title: 'halves of an operand of keys exchanged, e4m3',
      find: 'lane % 2 ? 0x7632 : 0x5410',
      replace: 'lane % 2 ? 0x5410 : 0x7632',
      cases: [quantised],
      caught: wrong,
    },
    {
      title: 'the upper half of a chunk of keys for the lower, e4m3',
      find: 'reinterpret_cast<const uint32_t*>(from + 8)',
      replace: 'reinterpret_cast<const uint32_t*>(from)',
      cases: [quantised],
      caught: wrong,
    },
    {
      title: 'other columns of values',
      find: 'first : first + lane / 16)',
      replace: 'first : first + lane / 8 % 2)',
      cases: [whole],
      caught: wrong,
    },
    {
      title: 'all warps have the first columns of values',
      find: 'D::kTeam * D::kColumns * int{sizeof(KV)} / 16;',
      replace: 'D::kTeam * 0;',
      cases: [whole],
      caught: wrong,
    },
    {
      title: 'odd columns before even ones, e4m3',
      find: 'even[1], odd[1]);',
      replace: 'odd[1], even[1]);',
      // Of the two lines that end so, the one for bf16 does not.
      cases: [quantised],
      caught: wrong,
    },
    {
      title: 'keys of values exchanged, e4m3',
      find: '__byte_perm(pairs[0], pairs[1], 0x7531)',
      replace: '__byte_perm(pairs[0], pairs[1], 0x5731)',
      cases: [quantised],
      caught: wrong,
    },
    {
      title: 'columns of y past the last',
      find: '      if (column < p.P)\n',
      replace: '',
      cases: ['decode, heads of 80'],
    },
    {
      title: 'the scale of the keys of the first head',
      find: 'p.k_scales[at.g]',
      replace: 'p.k_scales[0]',
      cases: [quantised],
      caught: wrong,
    },
    {
      title: 'the scale of the values of the first head',
      find: 'p.v_scales[g]',
      replace: 'p.v_scales[0]',
      cases: [quantised],
      caught: wrong,
    },
    {
      title: 'several threads tell the log of a sum',
      find: 'p.lse && q == 0 && team == 0',
      replace: 'p.lse && q == 0',
      cases: [whole],
      caught: unordered,
    },
    {
      title: 'what a segment has summed stays',
      find: '      sum.clear();\n',
      replace: '',
      cases: [whole],
    },
    {
      title: 'a part that is taken stays',
      find: '      part.clear();\n      ++index;',
      replace: '      ++index;',
      cases: [whole],
    },
    {
      title: 'a segment that began elsewhere is summed here',
      find: 'whole_from_here = index >= at.part',
      replace: 'whole_from_here = true',
      cases: [whole],
    },
    {
      title: 'totals of four lanes are that of one',
      find: 'part.total[0] = quad_reduce(part.total[0], Sum{}), ',
      replace: '',
      cases: [whole],
      caught: wrong,
    },
    {
      title: 'parts are kept where others are',
      find: 'Kept<kP, KV, kTiles>(p, worker, 1 + index).store',
      replace: 'Kept<kP, KV, kTiles>(p, worker, index).store',
      cases: [whole],
    },
    {
      title: 'no room for what a segment has summed from its beginning',
      find: 'std::min(most_parts, 1 + ceil_div',
      replace: 'std::min(most_parts, ceil_div',
      cases: ['decode after more than 1024 keys'],
    },
    {
      title: 'several threads tell the total of a part',
      find: 'threadIdx.x % 4 == 0 && threadIdx.x / kWarp % D::kTeam == 0',
      replace: 'threadIdx.x % 4 == 0',
      cases: [whole],
      caught: unordered,
    },
    {
      title: 'one worker too many is waited for',
      find: 'last_worker - first_worker);',
      replace: 'last_worker - first_worker + 1);',
      cases: [whole],
    },
    {
      title: 'one worker too few is waited for',
      find: 'last_worker - first_worker);',
      replace: 'last_worker - first_worker - 1);',
      cases: [whole],
    },
    {
      title: 'every worker has a ticket of its own',
      find: 'p.tickets[first_worker]',
      replace: 'p.tickets[worker]',
      cases: [whole],
    },
    {
      title: 'parts of the next segment are merged, too',
      find: 'min(shares.begin(w + 1), first + at.parts)',
      replace: 'shares.begin(w + 1)',
      cases: [whole],
    },
    {
      title: 'the parts of the last worker are forgotten',
      find: 'w <= last_worker; ++w',
      replace: 'w < last_worker; ++w',
      cases: [whole],
    },
    {
      title: 'the parts of a worker are merged from the second on',
      find: 'for (int i = 0; i < to - from; ++i)',
      replace: 'for (int i = 1; i < to - from; ++i)',
      cases: [whole],
    },
  ]),
  ...planted('tile.cuh', [
    {
      title: 'nine tokens are nobody’s',
      find: 'p.batch.tokens(s) <= p.decoded',
      replace: 'p.batch.tokens(s) <= p.decoded + 8',
      cases: ['sequences to decode among others'],
      caught: unwritten,
    },
  ]),
  ...planted('attention.cu', [
    {
      title: 'sequences to decode are left out where one is not',
      find: 'S > 1 || T <= kDecodeTokens',
      replace: 'T <= kDecodeTokens',
      cases: ['sequences to decode among others'],
      caught: unwritten,
    },
    {
      title: 'decoding rows that begin where 16 bytes do not',
      find: 'aligned(k_cache) && aligned(v_cache)',
      replace: 'true',
      places: true,
      caught: /cp.async of 16 bytes/,
    },
  ]),
]
