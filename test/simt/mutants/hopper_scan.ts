// Bugs of the fused scan of sm_90a: stages and their barriers, pairs of blocks, the state in shared memory, decay, the
// tokens after a chunk's end, segments.
import { type Mutant, unordered } from '../mutant.ts'

const folder = 'csrc/cuda/ssm/hopper/'
const op = 'ssmScan'
const wrong = /is .*, expected/

const whole = ['chunks cut at both ends'] // N = 64: one panel of C and B in a chunk
const panels = ['chunks cut at both ends, pairs of heads'] // N = 128: two panels
const wide = ['heads of 64, a state of 256']
const narrow = ['heads of 32']
const segments = ['segments of a chunk']
const lost = [
  'a sequence that is not a number, before others',
  'a sequence that is not a number, between others',
  'a sequence that is not a number, after others',
]

const kernel: Omit<Mutant, 'file' | 'op'>[] = [
  // ---- the producers
  {
    title: 'x is loaded over what is still read',
    find: 'mbarrier_wait(&s.x_empty[x_turn.stage], x_turn.parity ^ 1);',
    replace: '',
    cases: whole,
  },
  {
    title: 'the steps of a chunk are written over those still read',
    find: 'mbarrier_wait(&s.x_empty[turn.stage], turn.parity ^ 1);',
    replace: '',
    cases: whole,
  },
  {
    title: 'a panel is loaded over what is still read',
    find: 'mbarrier_wait(&s.empty[turn.stage], turn.parity ^ 1);',
    replace: '',
    cases: panels,
  },
  {
    title: 'fewer bytes of x are expected than come',
    find: 'mbarrier_arrive_expect_tx(x_full, sizeof s.x[0]);',
    replace: 'mbarrier_arrive_expect_tx(x_full, sizeof s.x[0] / 2);',
    cases: whole,
  },
  {
    title: 'C is expected where only states are wanted',
    find: 'kStatesOnly ? sizeof panel.B : sizeof panel',
    replace: 'sizeof panel',
    cases: segments,
  },
  {
    title: 'both of a pair load B',
    find: 'kStatesOnly ? rank == k % 2 : rank == 1',
    replace: 'kStatesOnly ? rank == k % 2 : true',
    cases: panels,
  },
  {
    title: 'heads take groups in turn',
    find: 'item.h / (scan.H / scan.G) * kN',
    replace: 'item.h % scan.G * kN',
    cases: ['groups of several heads'],
    caught: wrong,
  },
  {
    title: 'every head has the x of the first',
    find: 'item.h * kP + 64 * i, token, x_full',
    replace: '64 * i, token, x_full',
    cases: ['groups of several heads'],
    caught: wrong,
  },
  {
    title: 'every panel is the first',
    find: 'const int n = column + 64 * k;',
    replace: 'const int n = column;',
    cases: panels,
    caught: wrong,
  },
  {
    title: 'steps after the end of a chunk',
    find: 'lane * kEach + i < length ? step_size(',
    replace: 'true ? step_size(',
    cases: whole,
    caught: wrong,
  },
  {
    title: 'steps of tokens after the last',
    find: 'min(lane * kEach + i, length - 1)',
    replace: '(lane * kEach + i)',
    cases: narrow,
    caught: /not allocated|nobody has written/,
  },
  {
    title: 'sums of d A over half a warp',
    find: 'by < kWarp; by *= 2',
    replace: 'by < kWarp / 2; by *= 2',
    cases: whole,
    caught: wrong,
  },
  {
    title: 'blocks of eight tokens where they are of sixteen',
    find: 'lane | 3)',
    replace: 'lane | 1)',
    cases: whole,
    caught: wrong,
  },
  {
    title: 'what a token leaves does not decay until the end of the chunk',
    find: 'static_cast<float>(in_chunk - total)',
    replace: 'static_cast<float>(in_block - total)',
    cases: whole,
    caught: wrong,
  },
  {
    title: 'exponents of e for exponents of 2',
    find: 'scan.A[item.h] * 1.4426950408889634',
    replace: 'scan.A[item.h]',
    cases: whole,
    caught: wrong,
  },
  {
    title: 'steps are told before they are there',
    find: '      __syncwarp();\n      if (lane == 0) mbarrier_arrive(&s.x_full[turn.stage]);',
    replace: '      if (lane == 0) mbarrier_arrive(&s.x_full[turn.stage]);',
    cases: whole,
    caught: unordered,
  },
  {
    title: 'steps are not waited for',
    find: 'mbarrier_init(&s.x_full[i], 2)',
    replace: 'mbarrier_init(&s.x_full[i], 1)',
    cases: whole,
  },
  {
    title: 'a saved state before its chunk',
    find: 'save_slot(scan.saves, scan.E, token + length)',
    replace: 'save_slot(scan.saves, scan.E, token)',
    cases: ['chunks cut at both ends', 'sequences that end about a chunk'],
    caught: unordered,
  },

  // ---- the state in shared memory
  {
    title: 'the state is written over what the other warpgroup reads',
    find: 'bar_sync(kHasRead + 1 - kHalf, kConsumers);\n#pragma unroll',
    replace: '\n#pragma unroll',
    cases: panels,
  },
  {
    title: 'the state is read before the other warpgroup has written it',
    find: 'if (k == 0) bar_sync(kHasWritten + 1 - kHalf, kConsumers);',
    replace: '',
    cases: panels,
  },
  {
    title: 'no fence between the state and the products with it',
    find: '    fence_proxy_async();\n    bar_arrive(kHasWritten',
    replace: '    bar_arrive(kHasWritten',
    cases: panels,
    caught: /fence.proxy.async/,
  },
  {
    title: 'the state is told to be read while it is',
    find: 'wgmma_wait_group<kLeft>(scores);\n      wgmma_wait_group<kLeft>(y);',
    replace: 'wgmma_wait_group<kLeft + 1>(scores);\n      wgmma_wait_group<kLeft + 1>(y);',
    cases: panels,
  },
  {
    title: 'the state of rows that are not swizzled',
    find: '(lane / 16 ^ row % 8) * 16',
    replace: 'lane / 16 * 16',
    cases: panels,
    caught: wrong,
  },
  {
    title: 'a slab of the state in the place of another',
    find: '[128 * slab * kRow + ',
    replace: '[64 * slab * kRow + ',
    cases: wide,
  },
  {
    title: 'a sequence without a past has one',
    find: 'item.begin == 0 ? 0 :',
    replace: 'false ? 0 :',
    cases: ['sequences that end about a chunk'],
  },
  {
    title: 'an empty sequence keeps what its slot held',
    find: 'if (item.end == 0) leave = slot;',
    replace: '',
    cases: ['sequences that end about a chunk'],
    caught: wrong,
  },

  // ---- tokens after a chunk's end
  {
    title: 'x after the end of a chunk is not cleared',
    find: 'i / 8 % kChunk >= length',
    replace: 'i / 8 % kChunk >= kChunk',
    cases: lost,
    caught: wrong,
  },
  {
    title: 'x is multiplied while it is cleared',
    find: 'bar_sync(kCleared, kConsumers);',
    replace: '',
    cases: narrow,
  },
  {
    title: 'B after the end of a chunk',
    find: '(j < length ? 0xffff : 0)',
    replace: '0xffff',
    cases: lost,
    caught: wrong,
  },
  {
    title: 'B of every second token after the end of a chunk',
    find: '(j + 1 < length ? 0xffff0000 : 0)',
    replace: '0xffff0000',
    cases: lost,
    caught: wrong,
  },
  {
    title: 'y of tokens after the end of a chunk',
    find: 'if (of_chunk < length)\n',
    replace: 'if (true)\n',
    cases: narrow,
    caught: /not allocated|no barrier between|nothing that orders|is .*, expected/,
  },
  {
    title: 'z of tokens after the end of a chunk',
    find: 'scan.z.data && token_row < length',
    replace: 'scan.z.data',
    cases: narrow,
    caught: /not allocated|nobody has written/,
  },

  // ---- products
  {
    title: 'tokens see the next one',
    find: 'if (j <= token)',
    replace: 'if (j <= token + 1)',
    cases: whole,
    caught: wrong,
  },
  {
    title: 'tokens do not see themselves',
    find: 'if (j <= token)',
    replace: 'if (j < token)',
    cases: whole,
    caught: wrong,
  },
  {
    title: 'decay counted from the first token of a block',
    find: '{steps.exp_between(column0 + 15, row), steps',
    replace: '{steps.exp_between(column0, row), steps',
    cases: whole,
    caught: wrong,
  },
  {
    title: 'the second of two rows decays as the first',
    find: 'steps.exp_between(column0 + 15, row + 8)};',
    replace: 'steps.exp_between(column0 + 15, row)};',
    cases: whole,
    caught: wrong,
  },
  {
    title: 'the lower rows see no column of the first',
    find: 'kBlocks = 4 * (kHalf + 1)',
    replace: 'kBlocks = 4',
    cases: whole,
  },
  {
    title: 'a panel is given back before it is read',
    find: 'wgmma_wait_group<2>();  // the panel before has been read',
    replace: '',
    cases: wide,
  },
  {
    title: 'the last panel is not given back',
    find: '      release(previous);\n      bar_arrive(kHasRead',
    replace: '      bar_arrive(kHasRead',
    cases: whole,
  },
  {
    title: 'a panel is given back to this block alone',
    find: 'if (lane < cluster) mbarrier_arrive_cluster(mapa(&s.empty[stage], lane));',
    replace: 'if (lane < 1) mbarrier_arrive_cluster(mapa(&s.empty[stage], lane));',
    cases: panels,
  },
  {
    title: 'the operand of a slab is overwritten while it is multiplied',
    find: 'if (k > 1) wgmma_wait_group<2>();  // the operand',
    replace: 'if (k > 1) wgmma_wait_group<3>();  // the operand',
    cases: wide,
  },
  {
    title: 'the state is used before its products are done',
    find: 'for (auto& slab : state.sums) wgmma_wait_group<1>(slab);',
    replace: '',
    cases: panels,
  },
  {
    title: 'y is used before its products are done',
    find: 'wgmma_wait_group<0>(y);',
    replace: '',
    cases: whole,
  },
  {
    title: 'the state does not decay',
    find: 'state.each([&](float& v, int) { v *= steps.decay; });\n      float scores',
    replace: 'float scores',
    cases: whole,
    caught: wrong,
  },
  {
    title: 'what the state adds to y does not decay',
    find: 'y[i] *= decay[i / 2 % 2];',
    replace: '',
    cases: whole,
    caught: wrong,
  },

  // ---- the way to y
  {
    title: 'x is given back before y is made of it',
    find: '      wgmma_wait_group<0>(y);\n',
    replace: '      if (lane == 0) mbarrier_arrive(&s.x_empty[x_turn.stage]);\n      wgmma_wait_group<0>(y);\n',
    cases: whole,
  },
  {
    title: 'x is given back by the first lane alone',
    find: '      __syncwarp();  // y is staged, x and the steps have been read\n',
    replace: '',
    cases: whole,
    caught: unordered,
  },
  {
    title: 'the gate of the first head',
    find: 'scan.z[token + token_row] + item.h * kP + ',
    replace: 'scan.z[token + token_row] + ',
    cases: ['groups of several heads'],
    caught: wrong,
  },
  {
    title: 'D of the first head',
    find: 'scan.D[item.h]',
    replace: 'scan.D[0]',
    cases: ['groups of several heads'],
    caught: wrong,
  },
  {
    title: 'one arrival too few at a barrier in the end',
    find: '  bar_arrive(kHasRead + kHalf, kConsumers);  // nothing is there to be read\n',
    replace: '',
    cases: panels,
  },
  {
    title: 'a block ends while the other may arrive at its barriers',
    find: '  barrier_cluster_arrive();\n  barrier_cluster_wait();  // the other block may still',
    replace: '  // the other block may still',
    cases: panels,
  },

  // ---- segments
  {
    title: 'what a segment leaves of a state does not decay',
    find: 'decay *= steps.decay;',
    replace: '',
    cases: segments,
    caught: wrong,
  },
  {
    title: 'segments begin with what the one before made',
    find: 'state.each([](float& v, int) { v = 0; });',
    replace: 'if (item.piece == 0) state.each([](float& v, int) { v = 0; });',
    cases: segments,
  },
  {
    title: 'the state of a segment is stored before its products are done',
    find: 'for (auto& slab : state.sums) wgmma_wait_group<0>(slab);',
    replace: '',
    cases: segments,
  },
  {
    title: 'segments are scanned from a state of zero',
    find: 'state.each([&](float& v, int at) { v = before[at]; });',
    replace: 'state.each([&](float& v, int at) { v = 0; });',
    cases: segments,
    caught: wrong,
  },
]

const cutting: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: 'segments counted from where a call begins',
    find: 'past / scan.segment + static_cast<unsigned>(at.index)',
    replace: 'static_cast<unsigned>(at.index)',
    cases: segments,
  },
  {
    title: 'chunks counted from where a call begins',
    find: '(at / scan.chunk + 1) * scan.chunk',
    replace: '((at - item.begin) / scan.chunk + 1) * scan.chunk + item.begin',
    cases: ['chunks cut at both ends'],
  },
  {
    title: 'states of segments that no segment follows',
    find: 'kStatesOnly && !passed',
    replace: 'kStatesOnly && to == end',
    cases: segments,
  },
  {
    title: 'a segment that ends where all do leaves its state twice',
    find: 'passed = to % scan.segment == 0;',
    replace: 'passed = to % scan.segment == 0 && to < end;',
    cases: segments,
  },
  {
    title: 'a pair of blocks takes one head twice',
    find: 'h = i % heads * cluster + rank',
    replace: 'h = i % heads * cluster',
    cases: panels,
  },
]

const passing: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: 'a state that passes through a segment does not decay',
    find: 'fmaf(scan.decay[number * scan.H + h], state, made)',
    replace: 'state + made',
    cases: segments,
    caught: wrong,
  },
  {
    title: 'the first segment begins with zero',
    find: 'float state = past == 0 ? 0 : scan.state.load(own);',
    replace: 'float state = 0;',
    cases: segments,
    caught: wrong,
  },
  {
    title: 'an empty sequence keeps what its slot held, in segments',
    find: 'if (past == end && past == 0) scan.state.store(own, 0);',
    replace: '',
    cases: ['segments of two chunks'],
    caught: wrong,
  },
  {
    title: 'what a sequence leaves at the end of a segment is not stored',
    find: 'if (to == end) scan.state.store(own, state);',
    replace: '',
    cases: segments,
  },
  {
    title: 'states at the ends of segments are not saved',
    find: 'if (save >= 0) scan.state.store(of_slot(save), state);',
    replace: '',
    cases: segments,
  },
  {
    title: 'copies for no tensor that TMA cannot read',
    find: 'if (!has_tensor_map(matrix_)) copy_',
    replace: 'if (false) copy_',
    places: true,
  },
  {
    title: 'y is written by packs wherever it lies',
    find: 'if (!packs(x.size(2), y))',
    replace: 'if (false)',
    places: true,
  },
]

/** The sizes that a case is of: only their kernel is compiled. */
const sizes = (cases?: string[]) => {
  if (cases === panels) return 'p64_n128.cu'
  return cases === wide ? 'p64_n256.cu' : cases === narrow ? 'p32_n128.cu' : 'p64_n64.cu'
}
const planted = (file: string, source: string, mutant: Omit<Mutant, 'file' | 'op'>): Mutant => ({
  file: folder + file,
  source: folder + source,
  op,
  ...mutant,
})

export const mutants: Mutant[] = [
  ...kernel.map((mutant) => planted('kernel.cuh', sizes(mutant.cases), mutant)),
  ...cutting.map((mutant) => planted('scan.cuh', sizes(mutant.cases), mutant)),
  ...passing.map((mutant) => planted('hopper.cu', 'hopper.cu', mutant)),
]
