// Bugs in the step of a whole Mamba-2 layer: tickets and fences, which block may shift and finish what, and the norm.
import { type Mutant, unordered } from '../mutant.ts'

const wrong = /is .*, expected/
const beyond = /not allocated|nobody has written/
const race = /nothing that orders the two/
const tiles = ['a state of more than a tile']
const small = ['three sequences']

// Of comes_last(), which other kernels call too.
const tickets: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: 'a ticket before all threads have written',
    find: '__syncthreads();  // all threads have written',
    replace: '',
    cases: ['heads of the 8B'],
    caught: unordered,
  },
  {
    title: 'no fence before the ticket',
    find: '    __threadfence();\n    last',
    replace: '    last',
    cases: small,
    caught: race,
  },
  {
    title: 'no fence after the ticket',
    find: 'for the next launch\n    __threadfence();',
    replace: 'for the next launch',
    cases: small,
    caught: race,
  },
  {
    title: 'the last but one finishes',
    find: 'atomicInc(ticket, others) == others',
    replace: 'atomicInc(ticket, others) + 1 == others',
    cases: small,
    caught: unordered,
  },
  {
    title: 'tickets go back to 0 too late',
    find: 'atomicInc(ticket, others) == others',
    replace: 'atomicInc(ticket, others + 1) == others',
    cases: small,
  },
]

const step: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: 'sequences share tickets',
    find: 'static_cast<int64_t>(blockIdx.z) * (op.G + 1)',
    replace: '0',
    cases: ['heads of the 8B, a state of f16'],
  },
  {
    title: 'one block of every head is waited for',
    find: 'op.H / op.G * partition.parts - 1',
    replace: 'op.H / op.G - 1',
    cases: ['heads of the 9B and 12B'],
  },
  {
    title: 'all sequences in one launch',
    find: 'most = kTickets / (groups + 1)',
    replace: 'most = S',
    cases: ['more sequences than tickets'],
    caught: beyond,
  },
  {
    title: 'the sequences of the first launch again',
    find: 's = first + blockIdx.z',
    replace: 's = blockIdx.z',
    cases: ['more sequences than tickets'],
  },
  {
    title: 'B and C are shifted while others read them',
    find: `  if (!comes_last(tickets + g, op.H / op.G * partition.parts - 1)) return;
  for (int n = threadIdx.x; n < op.N; n += blockDim.x) {
    channel(op.B_channel(g, n)).leave_state();
    channel(op.C_channel(g, n)).leave_state();
  }
`,
    replace: `  for (int n = threadIdx.x; n < op.N; n += blockDim.x) {
    channel(op.B_channel(g, n)).leave_state();
    channel(op.C_channel(g, n)).leave_state();
  }
  if (!comes_last(tickets + g, op.H / op.G * partition.parts - 1)) return;
`,
    cases: small,
    caught: race,
  },
  {
    title: 'B is not shifted',
    find: 'channel(op.B_channel(g, n)).leave_state();',
    replace: '',
    cases: small,
    caught: wrong,
  },
  {
    title: 'C is not shifted',
    find: 'channel(op.C_channel(g, n)).leave_state();',
    replace: '',
    cases: small,
    caught: wrong,
  },
  {
    title: 'B and C are shifted by everybody',
    find: 'if (is_x) of.leave_state();',
    replace: 'of.leave_state();',
    cases: small,
    caught: race,
  },
  {
    title: 'x is not shifted',
    find: 'if (is_x) of.leave_state();',
    replace: '',
    cases: small,
    caught: wrong,
  },
  {
    title: 'x is shifted before it is convolved',
    find: '      float y[1];\n',
    replace: '      if (is_x) of.leave_state();\n      float y[1];\n',
    cases: small,
    caught: wrong,
  },
  {
    title: "a convolution's state without a past is read",
    find: 'of_slot(op.slots[s]), op.past[s] == 0}',
    replace: 'of_slot(op.slots[s]), false}',
    cases: small,
    caught: wrong,
  },
  {
    title: 'columns convolved while those before are read',
    find: 'if (tile > 0) __syncthreads();  // the columns before have been read',
    replace: '',
    cases: tiles,
    caught: unordered,
  },
  {
    title: 'x, B and C read before they are there',
    find: '    __syncthreads();\n#pragma unroll 1\n    while',
    replace: '#pragma unroll 1\n    while',
    cases: small,
    caught: unordered,
  },
  {
    title: 'the first columns of B again',
    find: 'op.B_channel(g, tile + n)',
    replace: 'op.B_channel(g, n)',
    cases: tiles,
    caught: wrong,
  },
  {
    title: 'the first columns of C again',
    find: 'op.C_channel(g, tile + m)',
    replace: 'op.C_channel(g, m)',
    cases: tiles,
    caught: wrong,
  },
  {
    title: 'columns past the last are convolved',
    find: 'columns = min(kTile, op.N - tile)',
    replace: 'columns = kTile',
    cases: small,
    caught: beyond,
  },
  {
    title: 'columns of the next tile',
    find: 'state.n() < min(op.N, tile + kTile)',
    replace: 'state.n() < op.N',
    cases: tiles,
  },
  {
    title: 'heads take groups in turn',
    find: 'h / (op.H / op.G)',
    replace: 'h % op.G',
    cases: small,
  },
  {
    title: 'C is where B is',
    find: 'return B_channel(G + g, n);',
    replace: 'return B_channel(g, n);',
    cases: small,
  },
  {
    title: 'x of rows that are not there',
    find: 'r < team.rows ? d * convolved.x[team.row(r) - begin] : 0',
    replace: 'd * convolved.x[team.row(r) - begin]',
    cases: small,
  },
  {
    title: 'x is not added to y',
    find: 'fmaf(op.D[h], convolved.x[p - begin], y)',
    replace: 'y',
    cases: small,
    caught: wrong,
  },
  {
    title: 'y is written although a slot is out of the pool',
    find: 'if (!op.quantization.largest) return;',
    replace: '',
    refuses: ['a slot past the pool'],
    caught: /is written/,
  },
  {
    title: 'groups of nothing are normalised',
    find: 'if (size > 0) {',
    replace: '{',
    cases: ['heads of nothing'],
    caught: beyond,
  },
  {
    title: 'the first group again and again',
    find: 'from = g * size, to = from + size',
    replace: 'from = 0, to = size',
    cases: small,
  },
  {
    title: 'packs wherever rows allow them, states or not',
    find: 'packs(N, state) && ',
    replace: '',
    places: true,
  },
  {
    title: 'packs wherever weights allow them, gates or not',
    find: 'packs(I / groups, inner.tensor, z, norm_weight, norm)',
    replace: 'packs(I / groups, inner.tensor, norm_weight, norm)',
    places: true,
  },
  {
    title: 'packs wherever gates allow them, weights or not',
    find: 'packs(I / groups, inner.tensor, z, norm_weight, norm)',
    replace: 'packs(I / groups, inner.tensor, z, norm)',
    places: true,
  },
  {
    title: 'packs wherever gates allow them, results or not',
    find: 'packs(I / groups, inner.tensor, z, norm_weight, norm)',
    replace: 'packs(I / groups, inner.tensor, z, norm_weight)',
    places: true,
  },
  {
    title: 'packs wherever rows are made of them, groups or not',
    find: 'packs(I / groups, inner',
    replace: 'packs(I, inner',
    cases: ['groups that are not whole packs, in rows that are'],
  },
  {
    title: 'the seed is not used',
    find: '{op.seed, past, eights}',
    replace: '{0, past, eights}',
    cases: ['a state of f16, every bit'],
    caught: wrong,
  },
  {
    title: 'the position is not used',
    find: '{op.seed, past, eights}',
    replace: '{op.seed, 0, eights}',
    cases: ['a state of f16, every bit'],
    caught: wrong,
  },
  {
    title: 'heads share their noise',
    find: 'head * ((op.N + 7) / 8)',
    replace: 'h * ((op.N + 7) / 8)',
    cases: ['a state of f16, every bit'],
    caught: wrong,
  },
]

const each = 'three sequences, a scale for each row'
const quantize: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: 'groups of a row do not share a ticket',
    find: 'comes_last(tickets + op.G, op.G - 1)',
    replace: 'comes_last(tickets + g, op.G - 1)',
    cases: [each],
  },
  {
    title: 'a row is quantised before all groups are normalised',
    find: 'comes_last(tickets + op.G, op.G - 1)',
    replace: 'comes_last(tickets + op.G, 0)',
    cases: [each],
  },
  {
    title: 'the largest of the first group',
    find: 'g < op.G; g += blockDim.x) most',
    replace: 'g < 1; g += blockDim.x) most',
    cases: ['the largest in the last group'],
    caught: wrong,
  },
  {
    title: 'the largest of the first sequence',
    find: 'to.maxima[static_cast<int64_t>(s) * op.G + g]',
    replace: 'to.maxima[g]',
    cases: [each],
  },
  {
    title: 'the largest that the first thread has seen',
    find: '  most = block_reduce<kThreads, struct Most>(most, Max{});\n',
    replace: '',
    cases: ['the largest in the last group'],
    caught: wrong,
  },
  {
    title: 'every thread writes the scale',
    find: 'if (threadIdx.x == 0) to.scale[s]',
    replace: 'to.scale[s]',
    cases: ['heads of the 8B, a scale for each row'],
    caught: unordered,
  },
  {
    title: 'every thread writes the largest of its group',
    find: 'if (threadIdx.x == 0) quantization.maxima',
    replace: 'quantization.maxima',
    cases: ['heads of the 8B, a scale for each row'],
    caught: unordered,
  },
  {
    title: 'the largest of its group is not told',
    find: 'if (threadIdx.x == 0) raise(quantization.largest, most);',
    replace: '',
    cases: ['three sequences, one scale'],
    caught: wrong,
  },
  {
    title: 'a maximum that begins anywhere',
    find: '  zero(most, 1);\n',
    replace: '',
    cases: ['three sequences, one scale'],
    caught: beyond,
  },
  {
    title: 'scratch ends a row too early',
    find: 'const Temporary norm(x.dtype, S, z.size(1))',
    replace: 'const Temporary norm(x.dtype, S - 1, z.size(1))',
    cases: ['three sequences, one scale'],
    caught: /not allocated/,
  },
  {
    title: 'the other format',
    find: 'quantization.to == DType::e4m3',
    replace: 'quantization.to != DType::e4m3',
    cases: [each],
    caught: wrong,
  },
  {
    title: 'a row of which the slot is wrong is quantised before it is written',
    find: 'op.norm[s][head + p] = T{};',
    replace: '{}',
    refuses: ['a slot past the pool, of the second of three', 'a slot named twice'],
    caught: /nobody has written/,
  },
  {
    title: 'the results of the first sequence',
    find: 'static_cast<To*>(to.y) + s * I',
    replace: 'static_cast<To*>(to.y)',
    cases: [each],
  },
  {
    title: 'packs wherever the norm allows them, results or not',
    find: 'reinterpret_cast<uintptr_t>(quantization.y) % kPack == 0',
    replace: 'true',
    places: true,
  },
]

const file = 'csrc/cuda/ssm/mamba2_step.cu'
export const mutants: Mutant[] = [
  ...tickets.map((mutant) => ({ ...mutant, file: 'csrc/cuda/kernel.cuh', source: file, op: 'mamba2Step' })),
  ...step.map((mutant) => ({ ...mutant, file, op: 'mamba2Step' })),
  ...quantize.map((mutant) => ({ ...mutant, file, op: 'mamba2StepQuantize' })),
  {
    title: 'all scratch of an op is at one place',
    file: 'csrc/cuda/scratch.cuh',
    source: file,
    find: '    context.workspace_used += bytes_;\n',
    replace: '',
    op: 'mamba2StepQuantize',
    cases: [each],
    caught: /is .*, expected|nobody has written|not allocated|nothing that orders/,
  },
]
