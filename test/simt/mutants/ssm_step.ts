// Bugs in the single step of the Mamba-2 recurrence.
import type { Mutant } from '../mutant.ts'

const wrong = /is .*, expected/

const list: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: 'a state without a past is read',
    find: 'if (r < rows && !fresh)',
    replace: 'if (r < rows)',
    cases: ['three sequences'],
    caught: wrong,
  },
  {
    title: 'rows past the last are written',
    find: 'if (r < rows) store_columns',
    replace: 'store_columns',
    cases: ['three sequences'],
  },
  {
    title: 'columns past the last are written',
    find: 'if (i < left) to[i] = pack.v[i];',
    replace: 'to[i] = pack.v[i];',
    cases: ['three sequences'],
  },
  {
    title: "x past the last head's",
    find: 'min(p0 + r, op.P - 1)',
    replace: '(p0 + r)',
    cases: ['three sequences'],
    caught: /not allocated|nobody has written/,
  },
  {
    title: 'heads take groups in turn',
    find: 'h / (op.H / op.G)',
    replace: 'h % op.G',
    cases: ['three sequences'],
    caught: wrong,
  },
  {
    title: 'one pass over a long state',
    find: 'n < op.N; n += kWarp * kColumns',
    replace: 'n < min(op.N, kWarp * kColumns); n += kWarp * kColumns',
    cases: ['a state of more than a warp at a time'],
    caught: wrong,
  },
]

export const mutants: Mutant[] = list.map((mutant) => ({ ...mutant, file: 'csrc/cuda/ssm/step.cu', op: 'ssmStep' }))
