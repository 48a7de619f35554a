// Bugs in the ops that copy rows.
import { type Mutant, unordered } from '../mutant.ts'

const file = 'csrc/cuda/embedding.cu'

export const mutants: Mutant[] = [
  {
    file,
    title: 'the row after the last one',
    find: 'source.rows[t] - source.after',
    replace: 'source.rows[t]',
    op: 'lastRows',
    cases: ['ragged'],
    caught: /is .*, expected|not allocated|nobody has written/,
  },
  {
    file,
    title: 'packs past the end of a row are stored',
    find: 'if (pieces.begin(i) >= pieces.width) continue;',
    replace: '',
    op: 'cast',
    cases: ['odd'],
    caught: /is .*, expected|not allocated|nothing that orders the two/,
  },
  {
    file: 'csrc/cuda/rows.cuh',
    source: file,
    title: 'packs past the end of a row are loaded',
    find: 'row + min(d, D - kN)',
    replace: 'row + d',
    op: 'cast',
    cases: ['one row', 'a block and one access wide'],
    caught: /not allocated|nobody has written/,
  },
  {
    file: 'csrc/cuda/rows.cuh',
    source: file,
    title: 'pieces of a row overlap',
    find: 'int64_t{blockIdx.x % of_row} * kEach + i',
    replace: 'int64_t{blockIdx.x % of_row} + i',
    op: 'embedding',
    cases: ['a block and one access wide'],
    caught: unordered,
  },
]
