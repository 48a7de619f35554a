// Bugs in the scan of Mamba-2: its barriers, its tiles, and what of a chunk belongs to whom.
import { type Mutant, unordered } from '../mutant.ts'

const inFlight = /still being written|nobody has written/
const wrong = /is .*, expected/
const tiles = 'heads and states wider than a tile'

const scan: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: 'steps are summed although offsets fall',
    find: 'chunk_cumsum_kernel(Scan<T> scan) {\n  wait_for_previous_launch();\n  if (scan.faults.pending()) return;',
    replace: 'chunk_cumsum_kernel(Scan<T> scan) {\n  wait_for_previous_launch();',
    refuses: ['a sequence that ends after the tokens'],
    caught: /not allocated|nobody has written/,
  },
  {
    title: 'chunks are scanned although offsets fall',
    find: 'chunk_scan_kernel(Scan<T> scan) {\n  wait_for_previous_launch();\n  if (scan.faults.pending()) return;',
    replace: 'chunk_scan_kernel(Scan<T> scan) {\n  wait_for_previous_launch();',
    refuses: ['a sequence that ends after the tokens'],
    caught: /not allocated|nobody has written/,
  },
  {
    title: 'a state is left although offsets fall',
    find: 'chunk_state_kernel(Scan<T> scan) {\n  wait_for_previous_launch();\n  if (scan.faults.pending()) return;',
    replace: 'chunk_state_kernel(Scan<T> scan) {\n  wait_for_previous_launch();',
    refuses: ['a sequence that ends after the tokens'],
    caught: /nobody has written|state is written|offsets\[2\] is 9/, // or that is told twice
  },
  {
    title: 'packs wherever B allows them',
    find: 'packs(N, B, C)',
    replace: 'packs(N, B)',
    places: true,
  },
  {
    title: 'factors used before they are there, tiles filled while the chunk before is still multiplied',
    find: '__syncthreads();  // the factors are there',
    replace: '// the factors are there',
    cases: ['many chunks'],
    caught: unordered,
  },
  {
    title: 'x and B multiplied before they are there',
    find: 'cp_async_wait_all();\n    __syncthreads();\n\n    each',
    replace: 'cp_async_wait_all();\n\n    each',
    cases: ['many chunks'],
    caught: unordered,
  },
  {
    title: 'B multiplied before its copy is there',
    find: 'cp_async_wait_all();\n    __syncthreads();\n\n    each',
    replace: '__syncthreads();\n\n    each',
    cases: [tiles],
    caught: inFlight,
  },
  {
    title: 'tiles filled while the columns before are still multiplied',
    find: 'if (n > 0) __syncthreads();  // the tiles before have been read',
    replace: '',
    cases: [tiles],
    caught: unordered,
  },
  {
    title: 'B, C and the state multiplied before they are there',
    find: 'cp_async_wait_all();\n    __syncthreads();\n    if (first < end) {',
    replace: 'cp_async_wait_all();\n    if (first < end) {',
    cases: [tiles],
    caught: unordered,
  },
  {
    title: 'B, C and the state multiplied before their copies are there',
    find: 'cp_async_wait_all();\n    __syncthreads();\n    if (first < end) {',
    replace: '__syncthreads();\n    if (first < end) {',
    cases: [tiles],
    caught: inFlight,
  },
  {
    title: 'steps and x read before they are there, without a state',
    find: 'if (N == 0) {',
    replace: 'if (false) {',
    cases: ['no state'],
    caught: inFlight,
  },
  {
    title: 'a token does not see itself',
    find: 'd[half][e] = j <= i ?',
    replace: 'd[half][e] = j < i ?',
    cases: ['two sequences'],
    caught: wrong,
  },
  {
    title: "no products of the warp's own tokens",
    find: 'if (j <= first) multiply(scores',
    replace: 'if (j < first) multiply(scores',
    cases: ['two sequences'],
    caught: wrong,
  },
  {
    title: 'sums of d A in one part',
    find: 'expf((high - earlier.high) + (low - earlier.low))',
    replace: 'expf(high - earlier.high)',
    cases: ['strong decay now and then'],
    caught: wrong,
  },
  {
    title: 'lanes add what no lane before them has',
    find: 'if (lane >= by) sum += earlier;',
    replace: 'sum += earlier;',
    cases: ['odd ones'],
    caught: wrong,
  },
  {
    title: 'a state without a past is read',
    find: 'fresh ? 0 : left',
    replace: 'left',
    cases: ['two sequences'],
    caught: wrong,
  },
  {
    title: 'no room for a chunk cut at both ends',
    find: 'count_pieces(T, S, part, 2), head_tiles',
    replace: 'count_pieces(T, S, part, 1), head_tiles',
    cases: ['two sequences', 'many short sequences, some empty'],
  },
  {
    title: 'chunks that a sequence does not reach are computed',
    find: 'min(boundary + chunk, end) - begin',
    replace: 'boundary + chunk - begin',
    cases: ['many short sequences, some empty'],
  },
  {
    title: 'packs wherever x and y allow them',
    find: 'packs(P, x, z, y)',
    replace: 'packs(P, x, y)',
    places: true,
  },
  {
    title: 'packs of the state wherever its rows allow them',
    find: 'packs(N, state)',
    replace: '(N % kPack == 0)',
    places: true,
  },
  {
    title: 'no gate for every second column',
    find: 'v[0] *= silu(z[0]), v[1] *= silu(z[1]);',
    replace: 'v[0] *= silu(z[0]);',
    cases: ['two sequences'],
    caught: wrong,
  },
  {
    title: 'the gate of the first token of a chunk',
    find: 'scan.z[chunk.begin + i]',
    replace: 'scan.z[chunk.begin]',
    cases: ['a gate, in packs'],
    caught: wrong,
  },
  {
    title: 'what comes after a chunk saved before it',
    find: 'save_slot(scan.saves, scan.E, next)',
    replace: 'save_slot(scan.saves, scan.E, chunk.begin)',
    cases: ['many saves'],
    caught: wrong,
  },
  {
    title: 'nothing after what is saved',
    find: 'if (save >= 0) leave(',
    replace: 'if (save >= 0) return leave(',
    cases: ['many saves'],
  },
  {
    title: 'all heads saved where the first belongs',
    find: 'leave(scan.of_slot(save, h))',
    replace: 'leave(scan.of_slot(save, 0))',
    cases: ['many saves'],
    caught: unordered,
  },
]

const pool: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: 'f16 does not saturate',
    find: 'narrow<f16>(saturated(v))',
    replace: 'narrow<f16>(v)',
    cases: ['a state beyond f16'],
    caught: /Infinity, expected/,
  },
  {
    title: 'pairs of f16 do not saturate',
    find: '{saturated(a), saturated(b)}',
    replace: '{a, b}',
    cases: ['a state beyond f16, in packs'],
    caught: /Infinity, expected/,
  },
  {
    title: 'pairs read where there is nothing to read',
    find: 'if (!aligned || left < 2) {\n      if (left > 0) v[0]',
    replace: 'if (!aligned) {\n      if (left > 0) v[0]',
    cases: ['a state of f16, in packs'],
  },
  {
    title: 'pairs written after the last row',
    find: 'if (!aligned || left < 2) {\n      if (left > 0) store',
    replace: 'if (!aligned) {\n      if (left > 0) store',
    cases: ['a state of f16, in packs'],
  },
  {
    title: 'the second of two written after the last column',
    find: 'if (left > 1) store(i + 1, b);',
    replace: 'store(i + 1, b);',
    cases: ['odd ones'],
  },
]

const pieces: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: 'the first piece of a sequence taken for the last of the one before',
    find: 'length, spare) <= i) low',
    replace: 'length, spare) < i) low',
    cases: ['two sequences'],
  },
  {
    title: 'the save after the one that is looked for',
    find: 'saves[2 * middle] < t',
    replace: 'saves[2 * middle] <= t',
    cases: ['many saves'],
    caught: wrong,
  },
  {
    title: 'a save wherever another comes later',
    find: 'low < rows && saves[2 * low] == t ?',
    replace: 'low < rows ?',
    cases: ['a state of f16'],
    caught: unordered,
  },
]

const saves: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: 'saves before the first token',
    find: 't < 1 || t > tokens',
    replace: 't > tokens',
    refuses: ['a save before the first token'],
  },
  {
    title: 'saves after the last token',
    find: 't < 1 || t > tokens',
    replace: 't < 1',
    refuses: ['a save after the last token'],
  },
  {
    title: 'two saves before the same token',
    find: 't <= saves[2 * e - 2]',
    replace: 't < saves[2 * e - 2]',
    refuses: ['saves that do not rise'],
  },
  {
    title: 'saves where chunks of the batch would end',
    find: 'past[s] + static_cast<int64_t>(t - offsets[s])',
    replace: 't',
    refuses: ['a save where a chunk of the batch would end'],
  },
  {
    title: 'chunks counted from where a call begins',
    find: 'past[s] + static_cast<int64_t>(t - offsets[s])',
    replace: 't - offsets[s]',
    cases: ['a state of f16'],
    caught: /expected the end of a sequence/,
  },
  {
    title: 'no saves where a sequence ends',
    find: 't != offsets[s + 1] && ',
    replace: '',
    cases: ['two sequences'],
    caught: /expected the end of a sequence/,
  },
  {
    title: 'saves before the pool',
    find: 'if (slot < 0 || slot >= pool) return Rule::index;',
    replace: 'if (slot >= pool) return Rule::index;',
    refuses: ['a save before the pool'],
  },
  {
    title: 'saves past the pool',
    find: 'if (slot < 0 || slot >= pool) return Rule::index;',
    replace: 'if (slot < 0 || slot > pool) return Rule::index;',
    refuses: ['a save past the pool'],
  },
  {
    title: "saves in the last sequence's slot",
    find: 'other < sequences; ++other',
    replace: 'other + 1 < sequences; ++other',
    refuses: ["a save in a sequence's slot"],
  },
  {
    title: 'saves in the slot of the first save',
    find: 'for (int other = 0; other < e; ++other)',
    replace: 'for (int other = 1; other < e; ++other)',
    refuses: ['two saves in one slot'],
  },
]

const tile: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: 'sums put where lanes still read',
    find: '__syncwarp();  // all lanes have read what was there',
    replace: '',
    cases: ['odd ones'],
    caught: unordered,
  },
  {
    title: 'sums read before they are put',
    find: '  __syncwarp();\n}',
    replace: '}',
    cases: ['odd ones'],
    caught: unordered,
  },
  {
    title: 'no zeros after the last column',
    find: 'cp_async_16(&tile[row][column], at, inside)',
    replace: 'cp_async_16(&tile[row][column], at)',
    cases: [tiles],
    caught: wrong,
  },
  {
    title: 'no zeros after the last scaled row',
    find: '      const bool inside = row < rows && column < columns;\n#pragma',
    replace: '      const bool inside = column < columns;\n#pragma',
    cases: ['odd rows in packs'],
  },
  {
    title: 'transposed blocks in the order of others',
    find: 'block + (column + lane % 8) * ld + row',
    replace: 'block + (row + lane % 8) * ld + column',
    cases: ['two sequences', tiles],
  },
]

const source = 'csrc/cuda/ssm/scan.cu'
const op = 'ssmScan'
export const mutants: Mutant[] = [
  ...scan.map((mutant) => ({ ...mutant, file: source, op })),
  ...tile.map((mutant) => ({ ...mutant, file: 'csrc/cuda/ssm/tile.cuh', source, op })),
  ...pool.map((mutant) => ({ ...mutant, file: 'csrc/cuda/ssm/state_pool.cuh', source, op })),
  ...pieces.map((mutant) => ({ ...mutant, file: 'csrc/cuda/ssm/pieces.cuh', source, op })),
  ...saves.map((mutant) => ({ ...mutant, file: 'csrc/cuda/batch.cu', op })),
]
