// Bugs in random weights.
import { type Mutant, unordered } from '../mutant.ts'

const file = 'csrc/cuda/random.cu'
const header = { file: 'csrc/random.h', source: file }
const wrong = /is .*, expected/
const of = { op: 'fillNormal', cases: ['odd'], caught: wrong }

export const mutants: Mutant[] = [
  {
    ...of,
    file,
    title: 'blocks do not go on where all have ended',
    find: 'int64_t{gridDim.x} * kThreads * kPack',
    replace: 'int64_t{kThreads} * kPack',
    cases: ['more than blocks hold at first'],
    caught: unordered,
  },
  {
    ...of,
    file,
    title: 'blocks end after their first packs',
    find: 'i += step',
    replace: 'i += n',
    cases: ['more than blocks hold at first'],
  },
  { ...of, file, title: 'both halves of a pack are of one call', find: '(i + j) / 4', replace: 'i / 4' },
  {
    ...of,
    file,
    title: 'both pairs are of one point',
    find: 'sqrtf(-2 * logf(points.v[p].share))',
    replace: 'sqrtf(-2 * logf(points.v[0].share))',
  },
  { ...of, file, title: 'the angle is half of what it is', find: '2 * points.v[p].turn', replace: 'points.v[p].turn' },
  {
    ...of,
    file,
    title: 'sine and cosine changed places',
    find: '&sine, &cosine',
    replace: '&cosine, &sine',
  },
  {
    file,
    title: 'packs where they do not begin',
    find: 'packs(n, y)',
    replace: 'n % kPack == 0',
    op: 'fillNormal',
    places: true,
    caught: /accesses 16 bytes at .*, expected a multiple of 16/,
  },
  {
    file: 'csrc/cuda/rows.cuh',
    source: file,
    title: 'elements past the end',
    find: 'if (d + i < D) row[d + i] = from.v[i];',
    replace: 'row[d + i] = from.v[i];',
    op: 'fillNormal',
    places: true,
    caught: /not allocated/,
  },
  { ...of, ...header, title: 'nine rounds of Philox', find: 'philox<10>', replace: 'philox<9>' },
  { ...of, ...header, title: 'the counter stays', find: 'static_cast<uint32_t>(four),', replace: '0,' },
  {
    ...of,
    ...header,
    title: 'the upper word of the seed is lost',
    find: 'static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)',
    replace: 'static_cast<uint32_t>(seed), 0',
  },
  {
    ...of,
    ...header,
    title: 'the lower word of the seed is the upper',
    find: 'static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)',
    replace: 'static_cast<uint32_t>(seed >> 32), static_cast<uint32_t>(seed >> 32)',
  },
  {
    ...of,
    ...header,
    title: 'points that share a word',
    find: 'point(words.v[2], words.v[3])',
    replace: 'point(words.v[1], words.v[2])',
  },
  {
    ...of,
    ...header,
    title: 'the logarithm of 0',
    find: '(static_cast<float>(distance) + 0.5f)',
    replace: 'static_cast<float>(distance)',
    cases: ['the greatest distance, of a word that is 0'],
  },
]
