// Bugs in how rows are shared out among blocks and threads, and in packs; more are with the ops.
import type { Mutant } from '../mutant.ts'

const wrong = /is .*, expected/
const misaligned = /a multiple of 16/

const copies: Omit<Mutant, 'file'>[] = [
  {
    title: 'row t, whatever the ids say',
    find: 'load_within<kN>(from[s],',
    replace: 'load_within<kN>(from[t],',
    op: 'embedding',
    cases: ['a few'],
  },
  {
    title: 'rows are copied although an id is out of the vocabulary',
    find: 'if (source.rows && faults.pending()) return;',
    replace: '',
    op: 'embedding',
    refuses: ['the first of several ids, in more than a block has threads'],
  },
  {
    title: 'where sequences begin for where they end',
    find: 'offsets.as<int32_t>() + 1, 1}',
    replace: 'offsets.as<int32_t>(), 1}',
    op: 'lastRows',
    cases: ['ragged'],
  },
]

const gates: Omit<Mutant, 'file'> = {
  title: 'packs wherever the gates allow it',
  find: 'packs(D, gate, up, y)',
  replace: 'packs(D, gate, y)',
  op: 'siluMul',
  places: true,
  caught: misaligned,
}

const sharing: Omit<Mutant, 'file' | 'source'>[] = [
  {
    title: 'no piece for what is left of a row',
    find: 'ceil_div(width, int64_t{kN} * kEach * threads)',
    replace: 'std::max<int64_t>(1, width / (kN * kEach * threads))',
    op: 'relu2',
    cases: ['a block and one access wide'],
  },
  {
    title: 'a row for each block',
    find: 'return blockIdx.x / of_row;',
    replace: 'return blockIdx.x;',
    op: 'relu2',
    cases: ['a block and one access wide'],
  },
  {
    title: 'packs as far apart as those of the largest block',
    find: '+ i) * blockDim.x + threadIdx.x',
    replace: '+ i) * kThreads + threadIdx.x',
    op: 'relu2',
    cases: ['odd'],
  },
]

const packs: Omit<Mutant, 'file' | 'source'>[] = [
  {
    title: 'packs in rows of any width',
    find: 'return width % kPack == 0 && (aligned',
    replace: 'return (aligned',
    op: 'siluMul',
    cases: ['gates of every size'],
  },
  {
    title: 'packs in tensors that begin between two',
    find: 'reinterpret_cast<uintptr_t>(t.data.get()) % access == 0 &&\n          ',
    replace: '',
    op: 'siluMul',
    places: true,
    caught: misaligned,
  },
  {
    title: 'packs in rows that lie apart by less',
    find: 't.row_stride * size_of(t.dtype) % access == 0',
    replace: 'true',
    op: 'siluMul',
    places: true,
    caught: misaligned,
  },
  {
    title: 'the second half of a pack is loaded from the first',
    find: 'reinterpret_cast<const uint4*>(from) + i)',
    replace: 'reinterpret_cast<const uint4*>(from))',
    op: 'siluMul',
    cases: ['rows of one access'],
    caught: wrong,
  },
  {
    title: 'the second half of a pack is stored over the first',
    find: 'reinterpret_cast<uint4*>(to) + i, words[i]',
    replace: 'reinterpret_cast<uint4*>(to), words[i]',
    op: 'siluMul',
    cases: ['rows of one access'],
  },
  {
    title: 'the elements of a pair exchanged',
    find: 'to_a = {__bfloat16_as_ushort(pair.x)}, to_b = {__bfloat16_as_ushort(pair.y)}',
    replace: 'to_a = {__bfloat16_as_ushort(pair.y)}, to_b = {__bfloat16_as_ushort(pair.x)}',
    op: 'siluMul',
    cases: ['rows of one access'],
    caught: wrong,
  },
]

const source = 'csrc/cuda/activations.cu'
export const mutants: Mutant[] = [
  ...copies.map((mutant) => ({ ...mutant, file: 'csrc/cuda/embedding.cu' })),
  { ...gates, file: source },
  ...sharing.map((mutant) => ({ ...mutant, file: 'csrc/cuda/rows.cuh', source })),
  ...packs.map((mutant) => ({ ...mutant, file: 'csrc/cuda/kernel.cuh', source })),
]
