// Inputs that ops refuse for numbers in their tensors, which only the device has: what it says is the first thing
// wrong in the order of the CPU backend, and nothing is written.
import type { Ops } from '../../binding.js'
import type { Sizes } from './spec.ts'

export interface Refusal {
  /** Accepted inputs, as the op's spec makes them; */
  sizes: Sizes
  /** of their tensors these elements are then others: a value by its index. */
  wrong: Record<string, Record<number, number>>
  message: string
  /** A GPU checks such an op a sequence at a time: those that are right have been made. */
  partly?: true
}

const counted = (n: number) => Array.from({ length: n }, (_, i) => i)

// Of the checks in batch.cu, as a block of 256 threads makes them.
const token = { S: 300, shortest: 1, longest: 1, past: 0, H: 1, P: 4 }
const slots = { T: 6, S: 3, D: 4, W: 4 }
const steps = { S: 131, D: 8, W: 4 }
const stepOne = { S: 1, G: 1, heads: 2, P: 70, N: 128 }
const layerOne = { ...stepOne, W: 4 }

// A sequence of 5 tokens, and one of 4 that 2 came before: chunks end before tokens 4 and 7.
const saves = { T: 9, S: 2, G: 1, heads: 1, P: 8, N: 8, chunk: 4, saves: 3 }
const sequences = { offsets: [0, 5, 9], past: [0, 2], slots: [0, 1] }
const noEnd = 'expected the end of a sequence or of a chunk of 4'
const named = 'expected a slot that neither slots nor another row names'

// Of page tables: 32 warps take the sequences in turn, 32 lanes the pages of one.
const append = { S: 2, shortest: 3, longest: 3, past: 0, G: 1, P: 4, pageSize: 4 } // a table of 2 pages, a pool of 4
const attend = { ...append, heads: 2 }

export const refused: { [K in keyof Ops]?: Record<string, Refusal> } = {
  takeIds: {
    'the first of several slots out of the pool': {
      sizes: { S: 300, slots: 300 },
      wrong: { slots: { 280: -1, 299: 300 } },
      message: 'slots[280] is -1, expected 0 to 299',
    },
  },
  nextStep: {
    'a slot out of the pool before one named twice': {
      sizes: { S: 300, slots: 300 },
      wrong: { slots: { 0: 7, 1: 7, 299: 300 } },
      message: 'slots[299] is 300, expected 0 to 299',
    },
    'a slot named twice': {
      sizes: { S: 300, slots: 300 },
      wrong: { slots: { 290: 7, 299: 7 } },
      message: 'slots names 7 twice, expected a slot for each sequence',
    },
  },
  embedding: {
    'the first of several ids, in more than a block has threads': {
      sizes: { T: 600, V: 5, D: 2 },
      wrong: { ids: { 299: 5, 398: 6, 555: -1 } },
      message: 'ids[299] is 5, expected 0 to 4',
    },
    'a negative id, the last': {
      sizes: { T: 300, V: 5, D: 2 },
      wrong: { ids: { 299: -1 } },
      message: 'ids[299] is -1, expected 0 to 4',
    },
  },
  lastRows: {
    'the first offset before all others': {
      sizes: { S: 300, D: 2, longest: 1 },
      wrong: { offsets: { 0: 1, 7: 5, 300: 299 } },
      message: 'offsets[0] is 1, expected 0',
    },
    'an empty sequence before the last offset': {
      sizes: { S: 300, D: 2, longest: 1 },
      wrong: { offsets: { 280: 279, 300: 302 } },
      message: 'offsets[280] is 279, expected more than 279, as no sequence may be empty',
    },
    'tokens of no sequence': {
      sizes: { S: 300, D: 2, longest: 1 },
      wrong: { offsets: { 300: 301 } },
      message: 'offsets[300] is 301, expected 300, the number of tokens',
    },
  },
  rope: {
    'the first offset before the last': {
      sizes: token,
      wrong: { offsets: { 0: 1, 300: 7 } },
      message: 'offsets[0] is 1, expected 0',
    },
    'the last offset before one that falls': {
      sizes: token,
      wrong: { offsets: { 3: 9, 300: 299 } },
      message: 'offsets[300] is 299, expected 300, the number of tokens',
    },
    'an offset that falls before a negative past': {
      sizes: token,
      wrong: { offsets: { 270: 268 }, past: { 9: -1 } },
      message: 'offsets[270] is 268, expected at least 269',
    },
    'the first of several negative pasts': {
      sizes: token,
      wrong: { past: { 290: -5, 299: -1 } },
      message: 'past[290] is -5, expected at least 0',
    },
  },
  causalConv1d: {
    'a negative past before a slot out of the pool': {
      sizes: slots,
      wrong: { past: [0, 1, -1], slots: [5, 1, 2] },
      message: 'past[2] is -1, expected at least 0',
    },
    'a slot out of the pool before one named twice': {
      sizes: slots,
      wrong: { slots: [2, 2, 5] },
      message: 'slots[2] is 5, expected 0 to 4',
    },
    'the first of several slots named twice': {
      sizes: { ...slots, S: 300 },
      wrong: { slots: { ...counted(300), 270: 8, 299: 3 } },
      message: 'slots names 8 twice, expected a slot for each sequence',
    },
  },
  causalConv1dStep: {
    'the last two of more slots than threads': {
      sizes: steps,
      wrong: { slots: { ...counted(131), 130: 129 } },
      message: 'slots names 129 twice, expected a slot for each sequence',
      partly: true,
    },
    'a slot that three name': {
      sizes: { ...steps, S: 3 },
      wrong: { slots: [2, 2, 2] },
      message: 'slots names 2 twice, expected a slot for each sequence',
      partly: true,
    },
    'a slot past the pool': {
      sizes: { ...steps, S: 1 },
      wrong: { slots: [3] },
      message: 'slots[0] is 3, expected 0 to 2',
    },
    'a negative slot': {
      sizes: { ...steps, S: 1 },
      wrong: { slots: [-1] },
      message: 'slots[0] is -1, expected 0 to 2',
    },
    'a negative past before its slot': {
      sizes: { ...steps, S: 1 },
      wrong: { past: [-1], slots: [3] },
      message: 'past[0] is -1, expected at least 0',
    },
  },
  ssmScan: {
    'a sequence that ends after the tokens': {
      sizes: { T: 9, S: 2, G: 1, heads: 1, P: 8, N: 8, chunk: 4 },
      wrong: { offsets: [0, 1000, 9] },
      message: 'offsets[2] is 9, expected at least 1000',
    },
    'a slot named twice before a save': {
      sizes: saves,
      wrong: { ...sequences, slots: [1, 1], saves: [0, 2, 5, 3, 9, 4] },
      message: 'slots names 1 twice, expected a slot for each sequence',
    },
    'a save before the first token': {
      sizes: saves,
      wrong: { ...sequences, saves: [0, 2, 5, 3, 9, 4] },
      message: 'saves[0,0] is 0, expected 1 to 9',
    },
    'a save after the last token': {
      sizes: saves,
      wrong: { ...sequences, saves: [4, 2, 5, 3, 10, 4] },
      message: 'saves[2,0] is 10, expected 1 to 9',
    },
    'saves that do not rise': {
      sizes: saves,
      wrong: { ...sequences, saves: [4, 2, 4, 3, 9, 4] },
      message: 'saves[1,0] is 4, expected more than 4',
    },
    'saves that fall': {
      sizes: saves,
      wrong: { ...sequences, saves: [5, 2, 9, 3, 7, 4] },
      message: 'saves[2,0] is 7, expected more than 9',
    },
    'a save inside a chunk': {
      sizes: saves,
      wrong: { ...sequences, saves: [4, 2, 6, 3, 9, 4] },
      message: `saves[1,0] is 6, ${noEnd}`,
    },
    'a save where a chunk of the batch would end': {
      sizes: saves,
      wrong: { ...sequences, saves: [4, 2, 8, 3, 9, 4] },
      message: `saves[1,0] is 8, ${noEnd}`,
    },
    'a save past the pool': {
      sizes: saves,
      wrong: { ...sequences, saves: [4, 2, 5, 7, 9, 4] },
      message: 'saves[1,1] is 7, expected 0 to 6',
    },
    'a save before the pool': {
      sizes: saves,
      wrong: { ...sequences, saves: [4, 2, 7, 3, 9, -1] },
      message: 'saves[2,1] is -1, expected 0 to 6',
    },
    "a save in a sequence's slot": {
      sizes: saves,
      wrong: { ...sequences, saves: [4, 1, 7, 3, 9, 4] },
      message: `saves[0,1] is 1, ${named}`,
    },
    'two saves in one slot': {
      sizes: saves,
      wrong: { ...sequences, saves: [4, 2, 7, 3, 9, 2] },
      message: `saves[2,1] is 2, ${named}`,
    },
    'a slot of a save before the token of the next': {
      sizes: saves,
      wrong: { ...sequences, saves: [4, 9, 3, 3, 11, 2] },
      message: 'saves[0,1] is 9, expected 0 to 6',
    },
    'the first of several, of more saves than threads': {
      sizes: { T: 300, S: 1, G: 1, heads: 1, P: 1, N: 1, chunk: 1, saves: 300 },
      wrong: { saves: { 541: 999, 598: 0 } },
      message: 'saves[270,1] is 999, expected 0 to 302',
    },
  },
  ssmStep: {
    'a slot past the pool': { sizes: stepOne, wrong: { slots: [3] }, message: 'slots[0] is 3, expected 0 to 2' },
    'a negative slot': { sizes: stepOne, wrong: { slots: [-1] }, message: 'slots[0] is -1, expected 0 to 2' },
    'a negative past before its slot': {
      sizes: stepOne,
      wrong: { past: [-1], slots: [3] },
      message: 'past[0] is -1, expected at least 0',
    },
    'a slot past the pool, of the second of three': {
      sizes: { ...stepOne, S: 3 },
      wrong: { slots: [0, 5, 1] },
      message: 'slots[1] is 5, expected 0 to 4',
      partly: true,
    },
    'a slot named twice': {
      sizes: { ...stepOne, S: 3 },
      wrong: { slots: [2, 1, 2] },
      message: 'slots names 2 twice, expected a slot for each sequence',
      partly: true,
    },
  },
  mamba2Step: {
    'a slot past the pool': { sizes: layerOne, wrong: { slots: [3] }, message: 'slots[0] is 3, expected 0 to 2' },
    'a negative slot': { sizes: layerOne, wrong: { slots: [-1] }, message: 'slots[0] is -1, expected 0 to 2' },
    'a negative past before its slot': {
      sizes: layerOne,
      wrong: { past: [-1], slots: [3] },
      message: 'past[0] is -1, expected at least 0',
    },
    'a slot past the pool, of the second of three': {
      sizes: { ...layerOne, S: 3 },
      wrong: { slots: [0, 5, 1] },
      message: 'slots[1] is 5, expected 0 to 4',
      partly: true,
    },
    'a slot named twice': {
      sizes: { ...layerOne, S: 3 },
      wrong: { slots: [2, 1, 2] },
      message: 'slots names 2 twice, expected a slot for each sequence',
      partly: true,
    },
  },
  mamba2StepQuantize: {
    'a slot past the pool': { sizes: layerOne, wrong: { slots: [3] }, message: 'slots[0] is 3, expected 0 to 2' },
    'a negative slot': { sizes: layerOne, wrong: { slots: [-1] }, message: 'slots[0] is -1, expected 0 to 2' },
    'a negative past before its slot': {
      sizes: layerOne,
      wrong: { past: [-1], slots: [3] },
      message: 'past[0] is -1, expected at least 0',
    },
    'a slot past the pool, of the second of three': {
      sizes: { ...layerOne, S: 3 },
      wrong: { slots: [0, 5, 1] },
      message: 'slots[1] is 5, expected 0 to 4',
      partly: true,
    },
    'a slot named twice': {
      sizes: { ...layerOne, S: 3, each: 1 },
      wrong: { slots: [2, 1, 2] },
      message: 'slots names 2 twice, expected a slot for each sequence',
      partly: true,
    },
  },
  countTokens: {
    'a slot before an id': {
      sizes: { S: 5, longest: 12, V: 7, generated: 1 },
      wrong: { slots: [0, 1, 2, 3, 7], ids: [9] },
      message: 'slots[4] is 7, expected 0 to 6',
    },
    'an id past the vocabulary': {
      sizes: { S: 5, longest: 12, V: 7, generated: 1 },
      wrong: { ids: { 4: 7 } },
      message: 'ids[4] is 7, expected 0 to 6',
    },
  },
  penalize: {
    'a negative slot': {
      sizes: { S: 1, V: 40 },
      wrong: { slots: [-1] },
      message: 'slots[0] is -1, expected 0 to 2',
    },
  },
  biasLogits: {
    'the last offset before one that falls': {
      sizes: { S: 4, V: 5, longest: 9 },
      wrong: { offsets: { 1: 99, 4: 98 } },
      message: 'offsets[4] is 98, expected 20, the number of ids',
    },
    'an offset before an id': {
      sizes: { S: 4, V: 5, longest: 9 },
      wrong: { offsets: [1], ids: [5] },
      message: 'offsets[0] is 1, expected 0',
    },
    'an id past the vocabulary': {
      sizes: { S: 4, V: 5, longest: 9 },
      wrong: { ids: { 3: 5 } },
      message: 'ids[3] is 5, expected 0 to 4',
    },
  },
  logProbs: {
    'a negative id': { sizes: { S: 1, V: 37 }, wrong: { ids: [-1] }, message: 'ids[0] is -1, expected 0 to 36' },
  },
  kvAppend: {
    'a page of a sequence before the length of the next': {
      sizes: append,
      wrong: { pages: [9], past: { 1: 1000 } },
      message: 'pages[0,0] is 9, expected 0 to 3',
    },
    'a length before its pages and those of the next': {
      sizes: append,
      wrong: { past: [1000], pages: [9, 9, 9, 9] },
      message: 'sequence 0 is 1003 tokens with its past, expected at most 8, 2 pages of 4',
    },
    'the length of a sequence without new tokens': {
      sizes: { ...append, S: 1, shortest: 0, longest: 0 },
      wrong: { past: [5] },
      message: 'sequence 0 is 5 tokens with its past, expected at most 4, 1 pages of 4',
    },
    'the first of several pages, of more sequences than warps': {
      sizes: { ...append, S: 70 },
      wrong: { pages: { 80: 72, 120: -7 } },
      message: 'pages[40,0] is 72, expected 0 to 71',
    },
    'the last of more pages than lanes': {
      sizes: { ...append, S: 1, shortest: 40, longest: 40, pageSize: 1 },
      wrong: { pages: { 39: -1 } },
      message: 'pages[0,39] is -1, expected 0 to 41',
    },
    'a page out of the pool, quantised': {
      sizes: { ...append, fp8: 1 },
      wrong: { pages: { 2: 9 } },
      message: 'pages[1,0] is 9, expected 0 to 3',
    },
    'a negative past before a page': {
      sizes: append,
      wrong: { past: [-9], pages: { 2: 9 } },
      message: 'past[0] is -9, expected at least 0',
    },
    'a page that two write, of more sequences than warps': {
      sizes: { ...append, S: 70 },
      wrong: { pages: { 80: 5, 138: 5 } },
      message: 'pages names 5 twice, expected a page of its own wherever tokens are written',
    },
    'the first of the pages that two write': {
      sizes: { ...append, S: 4 },
      wrong: { pages: { 0: 3, 2: 3, 4: 1, 6: 1 } },
      message: 'pages names 1 twice, expected a page of its own wherever tokens are written',
    },
  },
  attention: {
    'a page of the second of two sequences': {
      sizes: attend,
      wrong: { pages: { 2: 4 } },
      message: 'pages[1,0] is 4, expected 0 to 3',
    },
    'a page of keys that are split': {
      sizes: { S: 1, shortest: 1, longest: 1, before: 520, past: 520, G: 1, heads: 2, P: 16, pageSize: 400 },
      wrong: { pages: { 1: 4 } },
      message: 'pages[0,1] is 4, expected 0 to 3',
    },
    'a page of many tokens': {
      sizes: { S: 1, shortest: 70, longest: 70, past: 0, G: 1, heads: 1, P: 64, pageSize: 64 },
      wrong: { pages: { 1: 4 } },
      message: 'pages[0,1] is 4, expected 0 to 3',
    },
  },
}
