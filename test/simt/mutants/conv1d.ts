// Bugs in the causal convolution.
import type { Mutant } from '../mutant.ts'

const race = /nothing that orders the two/
const wrong = /is .*, expected/

const prefill: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: 'every run writes the state',
    find: 'if (piece.index == 0) channels.leave_state();',
    replace: 'channels.leave_state();',
    cases: ['channels in packs, longer than a run of tokens'],
    caught: race,
  },
  {
    title: 'runs after the first need the state',
    find: 'std::max<int64_t>(kRun, weight.size(0) - 1)',
    replace: 'int64_t{4}',
    cases: ['a window wider than a run of tokens'],
    caught: /nothing that orders the two|is .*, expected/,
  },
  {
    title: 'rows past the end are loaded',
    find: 'min(t + r, last - 1)',
    replace: '(t + r)',
    cases: ['two sequences'],
    caught: /not allocated|nobody has written/,
  },
  {
    title: 'the window moves by too little',
    find: 'x[w][i] = x[kAhead + w][i]',
    replace: 'x[w][i] = x[kAhead - 1 + w][i]',
    cases: ['two sequences'],
    caught: wrong,
  },
  {
    title: 'no spare run for each sequence',
    find: 'count_pieces(x.size(0), S, run, 1)',
    replace: 'count_pieces(x.size(0), S, run, 0)',
    cases: ['two sequences'],
    caught: /nobody has written|is .*, expected/,
  },
  {
    title: 'sequences are convolved although a slot is out of the pool',
    find: 'if (faults.pending()) return;',
    replace: '',
    refuses: ['a slot out of the pool before one named twice'],
    caught: /nothing that orders the two|not allocated|nobody has written|is written/,
  },
]

/** Of the channels of a thread. */
const channels: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: 'the state is left last row first',
    find: 'for (int w = 0; w < op.W - 1; ++w) store(state',
    replace: 'for (int w = op.W - 2; w >= 0; --w) store(state',
    cases: ['sequences shorter than the window, some empty'],
    caught: wrong,
  },
  {
    title: 'a state without a past is read',
    find: 'if (t >= begin || !fresh)',
    replace: 'if (true)',
    cases: ['two sequences'],
    caught: wrong,
  },
]

const step: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: 'the rows of the state do not move',
    find: 'store(state + (w - 1) * op.D + d, rows[w])',
    replace: 'store(state + (w - 1) * op.D + d, rows[w - 1])',
    cases: ['three sequences'],
    caught: wrong,
  },
  {
    title: 'channels past the last',
    find: 'if (slot < 0 || d >= op.D) return;',
    replace: 'if (slot < 0) return;',
    cases: ['channels in packs'],
  },
]

const file = 'csrc/cuda/conv1d.cu'
export const mutants: Mutant[] = [
  ...prefill.map((mutant) => ({ ...mutant, file, op: 'causalConv1d' })),
  ...channels.map((mutant) => ({ ...mutant, file: 'csrc/cuda/conv1d.cuh', source: file, op: 'causalConv1d' })),
  ...step.map((mutant) => ({ ...mutant, file, op: 'causalConv1dStep' })),
]
