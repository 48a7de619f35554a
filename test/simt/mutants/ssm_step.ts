// Bugs in the single step of the Mamba-2 recurrence, in what it shares with the whole layer's, and in how a state of f16
// is rounded.
import { type Mutant, unordered } from '../mutant.ts'

const wrong = /is .*, expected/
const beyond = /not allocated|nobody has written/
const bits = ['a state of f16, every bit']
const edges = ['a state of f16 at the edges']

const step: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: "x past the last head's",
    find: 'min(team.row(r), op.P - 1)',
    replace: 'team.row(r)',
    cases: ['three sequences'],
    caught: beyond,
  },
  {
    title: 'heads take groups in turn',
    find: 'h / (op.H / op.G)',
    replace: 'h % op.G',
    cases: ['three sequences'],
    caught: wrong,
  },
  {
    title: 'sequences are stepped although a slot is out of the pool',
    find: 'if (slot < 0) return;',
    replace: '',
    refuses: ['a slot past the pool', 'a negative slot'],
    caught: /not allocated|nobody has written|is written/,
  },
  {
    title: 'one pass over a long state',
    find: 'while (state.n() < op.N)',
    replace: 'if (state.n() < op.N)',
    cases: ['a state of more than a warp at a time'],
    caught: wrong,
  },
  {
    title: 'x is added whatever the step is',
    find: 'dx[r] *= d;',
    replace: '{}',
    cases: ['three sequences'],
    caught: wrong,
  },
  {
    title: 'no gate',
    find: 'op.z.data ? y * silu(z) : y',
    replace: 'y',
    cases: ['three sequences'],
    caught: wrong,
  },
  {
    title: 'the gates of the first sequence',
    find: 'op.z[s][own]',
    replace: 'op.z[0][own]',
    cases: ['three sequences'],
    caught: wrong,
  },
  {
    title: 'gates past the last',
    find: 'if (team.takes_one() && op.z.data)',
    replace: 'if (op.z.data)',
    cases: ['three sequences'],
    caught: beyond,
  },
  {
    title: 'packs wherever B and C allow them',
    find: 'packs(N, B, C, state)',
    replace: 'packs(N, B, C)',
    places: true,
  },
  {
    title: 'heads share their noise',
    find: '(head * ceil_div(op.N, 8))',
    replace: '(h * ceil_div(op.N, 8))',
    cases: bits,
    caught: wrong,
  },
  {
    title: 'the seed is not used',
    find: '{op.seed, past, first}',
    replace: '{0, past, first}',
    cases: bits,
    caught: wrong,
  },
]

const shared: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: 'a state without a past is read',
    find: '&& !fresh_ && n < N_',
    replace: '&& n < N_',
    cases: ['more sequences than threads'],
    caught: wrong,
  },
  {
    title: 'columns past the last are read',
    find: '&& !fresh_ && n < N_',
    replace: '&& !fresh_',
    cases: ['heads of the 8B'],
    caught: unordered,
  },
  {
    title: 'rows past the last are read',
    find: 'if (r < team_.rows && !fresh_',
    replace: 'if (!fresh_',
    cases: ['three sequences'],
    caught: /nothing that orders the two|not allocated|no barrier/,
  },
  {
    title: 'rows past the last are written',
    find: 'if (r < team_.rows) store_columns',
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
    title: 'columns past the last count',
    find: 'if (i < left) pack.v[i] = from[i];',
    replace: 'pack.v[i] = from[i];',
    cases: ['three sequences'],
  },
  {
    title: 'half of a team is summed',
    find: 'int by = lanes / 2; by',
    replace: 'int by = lanes / 4; by',
    cases: ['heads of the 8B'],
    caught: wrong,
  },
  {
    title: 'more lanes are summed than a team has',
    find: 'int by = lanes / 2; by',
    replace: 'int by = kWarp / 2; by',
    cases: ['three sequences'],
    caught: wrong,
  },
  {
    title: 'lanes without a row take one',
    find: 'return lane < rows;',
    replace: 'return lane < 8;',
    cases: ['three sequences'],
  },
  {
    title: 'the last row for all that a team has',
    find: 'if (team_.lane == r) y = of_row;',
    replace: 'y = of_row;',
    cases: ['heads of the 8B'],
    caught: wrong,
  },
  {
    title: 'rows as far apart as a full block has teams',
    find: 'apart(blockDim.x / lanes)',
    replace: 'apart(kThreads / lanes)',
    cases: ['a state of more than a warp at a time'],
    caught: wrong,
  },
  {
    title: 'no block for the last rows',
    find: 'std::max<int64_t>(1, ceil_div(P, kThreads / lanes * kRows<E>))',
    replace: 'std::max<int64_t>(1, P / (kThreads / lanes * kRows<E>))',
    cases: ['heads of the 9B and 12B'],
  },
  {
    title: 'no team for the last rows',
    find: 'threads_for(ceil_div(rows, kRows<E>) * lanes',
    replace: 'threads_for(rows / kRows<E> * lanes',
    cases: ['a state of more than a warp at a time'],
    caught: wrong,
  },
  {
    title: 'fewer lanes than a team has rows',
    find: '(std::bit_ceil(accesses), 8, kWarp)',
    replace: '(std::bit_ceil(accesses), 1, kWarp)',
    cases: ['many rows of little state'],
  },
  {
    title: 'the noise of every position is the same',
    find: 'state_noise(noise.seed, noise.position,',
    replace: 'state_noise(noise.seed, 0,',
    cases: bits,
    caught: wrong,
  },
  {
    title: 'the second of two has the noise of the first',
    find: 'second_noise(words.v[i])',
    replace: 'first_noise(words.v[i])',
    cases: bits,
    caught: wrong,
  },
  {
    title: 'what follows the last whole eight of a row shares the noise of the next row',
    find: 'eights_((N + 7) / 8)',
    replace: 'eights_(N / 8)',
    cases: bits,
    caught: wrong,
  },
  {
    title: 'teams share their noise',
    find: 'noise_.first += team.first * eights_;',
    replace: '',
    cases: bits,
    caught: wrong,
  },
  {
    title: 'the rows of a team share their noise',
    find: 'r * team_.apart * eights_ + n_ / 8',
    replace: 'n_ / 8',
    cases: ['a state of f16, every bit, in packs'],
    caught: wrong,
  },
  {
    title: 'all columns share their noise',
    find: 'r * team_.apart * eights_ + n_ / 8',
    replace: 'r * team_.apart * eights_',
    cases: ['a state of f16, every bit, in packs'],
    caught: wrong,
  },
]

const random: Omit<Mutant, 'file' | 'op'>[] = [
  { title: 'six rounds of Philox', find: 'philox<7>', replace: 'philox<6>', cases: bits, caught: wrong },
  {
    title: 'half of the seed',
    find: 'static_cast<uint32_t>(seed),\n                   static_cast<uint32_t>(seed >> 32)',
    replace: 'static_cast<uint32_t>(seed), 0',
    cases: bits,
    caught: wrong,
  },
  { title: 'twelve bits of noise', find: 'word & 0x1fff', replace: 'word & 0xfff', cases: bits, caught: wrong },
  {
    title: 'f16 does not saturate',
    find: 'std::min((magnitude + noise) >> 13, 0x7bffu)',
    replace: '(magnitude + noise) >> 13',
    cases: edges,
    caught: wrong,
  },
  { title: 'no NaN', find: 'v != v ? 0x7e00 : ', replace: '', cases: edges, caught: wrong },
  { title: 'no sign', find: 'sign << 15 | rounded', replace: 'rounded', cases: bits, caught: wrong },
]

const size: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: 'softplus above 20',
    find: 'v > 20 ? v : log1pf(expf(v))',
    replace: 'log1pf(expf(v))',
    cases: ['clamped steps', 'steps that exp cannot hold'],
  },
  {
    title: 'steps are not raised',
    find: 'softplus < low ? low : softplus',
    replace: 'softplus',
    cases: ['clamped steps'],
    caught: wrong,
  },
  {
    title: 'steps are not lowered',
    find: 'raised > high ? high : raised',
    replace: 'raised',
    cases: ['clamped steps'],
    caught: wrong,
  },
]

const source = 'csrc/cuda/ssm/step.cu'
const op = 'ssmStep'
export const mutants: Mutant[] = [
  ...step.map((mutant) => ({ ...mutant, file: source, op })),
  ...shared.map((mutant) => ({ ...mutant, file: 'csrc/cuda/ssm/step.cuh', source, op })),
  ...size.map((mutant) => ({ ...mutant, file: 'csrc/cuda/ssm/step_size.cuh', source, op })),
  ...random.map((mutant) => ({ ...mutant, file: 'csrc/random.h', source, op })),
]
