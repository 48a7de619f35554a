// Bugs in the rotary embedding: its angles, what a block takes at once, and its edges.
import { type Mutant, unordered } from '../mutant.ts'

const wrong = /is .*, expected/
const wide = 'wide heads, more pairs than a block takes at once'

const list: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: 'tokens rotated although offsets fall',
    find: 'if (faults.pending()) return;',
    replace: '',
    refuses: ['an offset that falls before a negative past'],
    caught: /x is written|nobody has written/,
  },
  {
    title: 'cosines and sines read before they are there',
    find: '  __syncthreads();\n\n  const int all',
    replace: '  const int all',
    cases: ['one token each'],
    caught: unordered,
  },
  {
    title: 'positions in the packed batch for those in the sequence',
    find: 'past[s] + (t - offsets[s])',
    replace: 'past[s] + t',
    cases: ['ragged'],
    caught: wrong,
  },
  {
    title: 'pairs past the row are loaded',
    find: 'first_of(i < all ? i : begin)',
    replace: 'first_of(i)',
    cases: ['ragged'],
  },
  {
    title: 'pairs past the row are stored',
    find: '      if (i >= all) break;\n',
    replace: '',
    cases: ['ragged'],
  },
  {
    title: 'pairs rotated twice',
    find: 'begin += kAhead * step',
    replace: 'begin += step',
    cases: [wide],
    caught: wrong,
  },
  {
    title: 'packs across both halves of a head',
    find: 'packs(P / 2, x)',
    replace: 'packs(P, x)',
    cases: ['the last position of a context of 131072'],
  },
  {
    title: 'room for cosines only',
    find: '.smem = P * sizeof(float)',
    replace: '.smem = P / 2 * sizeof(float)',
    cases: ['one token each'],
  },
]

const turns: Omit<Mutant, 'file' | 'op' | 'source'>[] = [
  {
    title: 'one cosine and sine to a thread',
    find: 'for (int j = threadIdx.x; j < pairs; j += kThreads) {',
    replace: 'if (const int j = threadIdx.x; j < pairs) {',
    cases: [wide],
    caught: unordered,
  },
  {
    title: 'angles in f32',
    find: 'sincos(static_cast<double>(position)',
    replace: 'sincos(static_cast<float>(position)',
    cases: ['the last position of a context of 131072'],
    caught: wrong,
  },
]

const source = 'csrc/cuda/rope.cu'
export const mutants: Mutant[] = [
  ...list.map((mutant) => ({ ...mutant, file: source, op: 'rope' })),
  ...turns.map((mutant) => ({ ...mutant, file: 'csrc/cuda/rotation.cuh', source, op: 'rope' })),
]
