// Bugs in the activations, and in what all ops have that compute element by element.
import type { Mutant } from '../mutant.ts'

const file = 'csrc/cuda/activations.cu'
const wrong = /is .*, expected/

export const mutants: Mutant[] = [
  {
    file: 'csrc/cuda/kernel.cuh',
    source: file,
    title: 'NaN becomes 0',
    find: 'x < 0 ? 0 : x;',
    replace: 'fmaxf(x, 0);',
    op: 'relu2',
    cases: ['extremes'],
    caught: wrong,
  },
  {
    file: 'csrc/cuda/kernel.cuh',
    source: file,
    title: 'minus infinity becomes NaN',
    find: 'fmaxf(x, -200) * rcp_approx_ftz',
    replace: 'x * rcp_approx_ftz',
    op: 'siluMul',
    cases: ['not finite'],
    caught: wrong,
  },
  {
    file: 'csrc/cuda/rows.cuh',
    source: file,
    title: 'packs past the end of a row are stored',
    find: 'if (pieces.begin(i) >= pieces.width) continue;',
    replace: '',
    op: 'siluMul',
    cases: ['odd'],
    caught: /is .*, expected|not allocated|nothing that orders the two/,
  },
]
