// Bugs of the paged cache: the check of page tables, and what is written.
import type { Mutant } from '../mutant.ts'

const race = /no barrier between the two|nobody has written/
const wrong = /is .*, expected/
const beyond = /not allocated|nobody has written/
const firstPage = { refuses: ['the first of several pages, of more sequences than warps'] }
const lastPage = { refuses: ['the last of more pages than lanes'] }
const pageTwice = { refuses: ['the first of the pages that two write'] }

const planted = (file: string, list: Omit<Mutant, 'file' | 'source'>[]): Mutant[] =>
  list.map((mutant) => ({ file: `csrc/cuda/attention/${file}`, op: 'kvAppend', ...mutant }))

export const mutants: Mutant[] = [
  ...planted('append.cu', [
    {
      title: 'one pass over a long row',
      find: 'for (int begin = threadIdx.x % kWarp; begin < width; begin += kWarp * kAhead) {',
      replace: 'if (const int begin = threadIdx.x % kWarp; begin < width) {',
      cases: ['rows longer than a warp takes at once'],
      caught: wrong,
    },
    {
      title: 'elements past the row',
      find: 'if (i < width) k_cache',
      replace: 'k_cache',
      cases: ['ragged'],
    },
    {
      title: 'tokens past the last',
      find: 'if (t >= tokens) return;',
      replace: '',
      cases: ['ragged', 'one token each'],
    },
    {
      title: 'something is written although a page is out of the pool',
      find: 'if (faults.pending()) return;\n  const int64_t t = int64_t',
      replace: 'const int64_t t = int64_t',
      ...firstPage,
    },
    {
      title: 'something is written although a page is out of the pool, quantised',
      find: 'if (faults.pending()) return;\n  const int64_t t = blockIdx.x;',
      replace: 'const int64_t t = blockIdx.x;',
      refuses: ['a page out of the pool, quantised'],
      caught: /not allocated|Cache is written/,
    },
    {
      title: 'keys are rotated before all cosines are there',
      find: '  __syncthreads();\n  for (int i = threadIdx.x * kN; i < groups * pairs;',
      replace: '  for (int i = threadIdx.x * kN; i < groups * pairs;',
      cases: ['rotated keys'],
      caught: race,
    },
    {
      title: 'keys rotated beyond the last head',
      find: 'i < groups * pairs; i +=',
      replace: 'i <= groups * pairs; i +=',
      cases: ['rotated keys'],
    },
    {
      title: 'one pass over a long row, rotated',
      find: 'for (int i = threadIdx.x * kN; i < groups * pairs; i += kThreads * kN) {',
      replace: 'if (const int i = threadIdx.x * kN; i < groups * pairs) {',
      cases: ['rotated keys of whole packs'],
      caught: wrong,
    },
    {
      title: 'one pass over a long row, quantised',
      find: 'for (int i = threadIdx.x * kN; i < width; i += kThreads * kN) {',
      replace: 'if (const int i = threadIdx.x * kN; i < width) {',
      cases: ['a cache of e4m3, whole packs'],
      caught: wrong,
    },
    {
      title: 'elements past the row, quantised',
      find: 'for (int i = threadIdx.x * kN; i < width; i +=',
      replace: 'for (int i = threadIdx.x * kN; i <= width; i +=',
      cases: ['a cache of e4m3'],
    },
    {
      title: 'the scale of the first head for all',
      find: 'scale[i / P]',
      replace: 'scale[0 * i]',
      cases: ['a cache of e4m3'],
      caught: wrong,
    },
    {
      title: 'the scales of keys for values',
      find: 'append(v[t], v_cache, changes.v_scale);',
      replace: 'append(v[t], v_cache, changes.k_scale);',
      cases: ['a cache of e4m3'],
      caught: wrong,
    },
    {
      title: 'packs wherever the keys allow them',
      find: 'packs(k.row_size(), k, v,',
      replace: 'packs(k.row_size(), k,',
      places: true,
      caught: /a multiple of 16/,
    },
  ]),
  ...planted('pages.cu', [
    {
      title: 'pages are looked at although a past is negative',
      find: 'if (faults.pending()) return;',
      replace: '',
      refuses: ['a negative past before a page'],
      caught: beyond,
    },
    {
      title: 'pages out of the pool are counted',
      find: '    return;\n  }\n  if (!taken)',
      replace: '  }\n  if (!taken)',
      ...firstPage,
    },
    {
      title: 'counters of pages that nobody has cleared',
      find: 'atomicExch(&taken[batch.page(s, i)], 0)',
      replace: '',
      cases: ['ragged'],
    },
    {
      title: 'pages of the past counted as written',
      find: 'taken ? batch.past[s] : 0',
      replace: '0',
      cases: ['a page of the past that two sequences share'],
      caught: /names 1 twice/,
    },
    {
      title: 'pages of an empty sequence',
      find: '  if (batch.tokens(s) == 0) return;\n',
      replace: '',
      op: 'attention',
      cases: ['empty sequences without pages'],
    },
    {
      title: 'the page after the last',
      find: 'batch.tokens(s) - 1) / batch.page_size',
      replace: 'batch.tokens(s)) / batch.page_size',
      op: 'attention',
      cases: ['pages of one token'],
    },
    {
      title: 'a page out of the pool is found before the place for it is set',
      find: 'twice = INT32_MAX;\n  __syncthreads();',
      replace: 'twice = INT32_MAX;',
      caught: race,
      ...firstPage,
    },
    {
      title: 'what is found is read before all have looked',
      find: '  __syncthreads();\n  if (first != none) {',
      replace: '  if (first != none) {',
      caught: race,
      ...firstPage,
    },
    {
      title: 'pages are counted while their counters are still cleared',
      find: 'batch.page(s, i)], 0); });\n  __syncthreads();',
      replace: 'batch.page(s, i)], 0); });',
      ...pageTwice,
    },
    {
      title: 'pages named twice are told before all are counted',
      find: 'atomicMin(&twice, batch.page(s, i));\n    });\n  __syncthreads();',
      replace: 'atomicMin(&twice, batch.page(s, i));\n    });',
      caught: race,
      ...pageTwice,
    },
    {
      title: 'the last page to be found named twice is told',
      find: 'atomicMin(&twice,',
      replace: 'atomicExch(&twice,',
      ...pageTwice,
    },
    {
      title: 'the last page to be found out of the pool is told',
      find: 'atomicMin(&first, s * step + 1 + i)',
      replace: 'atomicExch(&first, s * step + 1 + i)',
      ...firstPage,
    },
    {
      title: 'a length is told before pages of earlier sequences',
      find: 'atomicMin(&first, s * step);',
      replace: 'atomicExch(&first, s * step);',
      refuses: ['a page of a sequence before the length of the next'],
    },
    {
      title: 'pages of a sequence that is too long',
      find: 's * step);\n      continue;',
      replace: 's * step);',
      refuses: ['a length before its pages and those of the next'],
    },
    {
      title: 'one token more than there are pages for',
      find: 'length(s) > room &&',
      replace: 'length(s) > room + 1 &&',
      refuses: ['the length of a sequence without new tokens'],
    },
    {
      title: 'lengths of sequences without new tokens',
      find: '(taken || batch.tokens(s) > 0)',
      replace: 'batch.tokens(s) > 0',
      refuses: ['the length of a sequence without new tokens'],
    },
    {
      title: 'lengths of sequences of which nothing is read',
      find: ' && (taken || batch.tokens(s) > 0)',
      replace: '',
      op: 'attention',
      cases: ['empty sequences without pages'],
      caught: /expected at most/,
    },
    {
      title: 'as many sequences as there are warps',
      find: 's < batch.sequences; s += warps) {',
      replace: 's < batch.sequences; s += batch.sequences) {',
      ...firstPage,
    },
    {
      title: 'pages of as many sequences as there are warps are cleared',
      find: 's += warps)\n    visit_pages(batch, s, from(s), [&](int i) { atomicExch',
      replace: 's += batch.sequences)\n    visit_pages(batch, s, from(s), [&](int i) { atomicExch',
      ...firstPage,
    },
    {
      title: 'pages of as many sequences as there are warps are counted',
      find: 's += warps)\n    visit_pages(batch, s, from(s), [&](int i) {\n      if (atomicAdd',
      replace: 's += batch.sequences)\n    visit_pages(batch, s, from(s), [&](int i) {\n      if (atomicAdd',
      refuses: ['a page that two write, of more sequences than warps'],
    },
    {
      title: 'as many pages as there are lanes',
      find: 'i <= last; i += kWarp',
      replace: 'i <= last; i += last + 1',
      ...lastPage,
    },
    { title: 'pages before the last', find: 'i <= last', replace: 'i < last', ...lastPage },
    { title: 'negative pages', find: 'batch.page(s, i) < 0 || ', replace: '', ...lastPage },
    {
      title: 'the page after the pool',
      find: 'batch.page(s, i) >= pool',
      replace: 'batch.page(s, i) > pool',
      ...firstPage,
    },
  ]),
]
