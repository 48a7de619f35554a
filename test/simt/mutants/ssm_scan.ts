// Bugs in the scan of Mamba-2: its barriers, its tiles, and what of a chunk belongs to whom.
import { type Mutant, unordered } from '../mutant.ts'

const inFlight = /still being written|nobody has written/
const wrong = /is .*, expected/
const tiles = 'heads and states wider than a tile'

const scan: Omit<Mutant, 'file' | 'op'>[] = [
  {
    title: 'steps are summed although offsets fall',
    find: 'chunk_cumsum_kernel(Scan<T> scan) {\n  if (scan.faults.pending()) return;',
    replace: 'chunk_cumsum_kernel(Scan<T> scan) {',
    refuses: ['a sequence that ends after the tokens'],
    caught: /not allocated|nobody has written/,
  },
  {
    title: 'chunks are scanned although offsets fall',
    find: 'chunk_scan_kernel(Scan<T> scan) {\n  if (scan.faults.pending()) return;',
    replace: 'chunk_scan_kernel(Scan<T> scan) {',
    refuses: ['a sequence that ends after the tokens'],
    caught: /not allocated|nobody has written/,
  },
  {
    title: 'a state is left although offsets fall',
    find: 'chunk_state_kernel(Scan<T> scan) {\n  if (scan.faults.pending()) return;',
    replace: 'chunk_state_kernel(Scan<T> scan) {',
    refuses: ['a sequence that ends after the tokens'],
    caught: /nobody has written|state is written/,
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
export const mutants: Mutant[] = [
  ...scan.map((mutant) => ({ ...mutant, file: source, op: 'ssmScan' })),
  ...tile.map((mutant) => ({ ...mutant, file: 'csrc/cuda/ssm/tile.cuh', source, op: 'ssmScan' })),
  {
    title: 'the first piece of a sequence taken for the last of the one before',
    file: 'csrc/cuda/ssm/pieces.cuh',
    source,
    op: 'ssmScan',
    find: 'length, spare) <= i) low',
    replace: 'length, spare) < i) low',
    cases: ['two sequences'],
  },
]
