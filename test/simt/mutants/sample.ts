// Bugs in the draw: which tokens are kept, what their weights add up to, and where the draw falls.
import { type Mutant, unordered } from '../mutant.ts'

const wrong = /is .*, expected/
const sample = { file: 'csrc/cuda/sample.cu', op: 'sample' }
const header = { file: 'csrc/cuda/logits.cuh', source: 'csrc/cuda/sample.cu', op: 'sample' }
const large = ['more tokens than threads hold, odd']

export const mutants: Mutant[] = [
  {
    ...header,
    title: 'the draw reads sums of warps before they are there',
    find: '  if (lane == kWarp - 1) of_warp[warp] = through;\n  __syncthreads();\n',
    replace: '  if (lane == kWarp - 1) of_warp[warp] = through;\n',
    cases: large,
    caught: unordered,
  },
  {
    ...header,
    title: 'the selected token is read while others are still ranked',
    find: '    f(keys[i], masses[i], ahead);\n  }\n  __syncthreads();\n',
    replace: '    f(keys[i], masses[i], ahead);\n  }\n',
    cases: large,
    caught: unordered,
  },
  {
    ...header,
    title: 'NaN counts as the largest',
    find: 'logit != logit ? -INFINITY',
    replace: 'logit != logit ? INFINITY',
    cases: ['few tokens are not banned'],
  },
  {
    ...sample,
    title: 'top-k keeps one more',
    find: 'select(row, top, k - 1,',
    replace: 'select(row, top, k,',
    cases: ['many rows of filters'],
    caught: wrong,
  },
  {
    ...sample,
    title: 'top-p keeps one more where it is reached exactly',
    find: 'needed - 1, [&]',
    replace: 'needed, [&]',
    cases: ['top-p that half of the tokens hold exactly'],
    caught: wrong,
  },
  {
    ...sample,
    title: 'the draw is from what was held before min-p',
    find: 'held = min_p > 0 ? mass_of_kept(min_p) : last.through',
    replace: 'held = last.through',
    cases: ['many rows of filters'],
  },
  {
    ...sample,
    title: 'min-p holds for top-p too',
    find: 'mass_of_kept(top_p < 1 ? 0 : min_p)',
    replace: 'mass_of_kept(min_p)',
    cases: ['many rows of filters'],
  },
  {
    ...sample,
    title: 'a warp sums only the first step of its chunk',
    find: 'i < min(row.V, (c + 1) * chunk); i += kStep',
    replace: 'i < min(row.V, c * chunk + kStep); i += kStep',
    cases: ['more tokens than 1024 chunks of 256'],
    caught: wrong,
  },
  {
    ...sample,
    title: 'the draw falls on the first token of its chunk',
    find: 'target - c.before, mass)',
    replace: '0, mass)',
    cases: ['more tokens than 1024 chunks of 256'],
    caught: wrong,
  },
  {
    ...sample,
    title: 'the likeliest is the last of the largest',
    find: 'if (v[j] > maximum)',
    replace: 'if (v[j] >= maximum)',
    cases: ['thousands of equal tokens'],
    caught: wrong,
  },
  {
    ...sample,
    title: 'nine rounds of Philox',
    find: 'philox<10>',
    replace: 'philox<9>',
    cases: ['one row', 'many rows of filters'],
    caught: wrong,
  },
  {
    file: 'csrc/random.h',
    source: 'csrc/cuda/sample.cu',
    op: 'sample',
    title: 'the keys of Philox stay as they are',
    find: '    key0 += 0x9E3779B9, key1 += 0xBB67AE85;\n',
    replace: '',
    cases: ['many rows of filters'],
    caught: wrong,
  },
]
