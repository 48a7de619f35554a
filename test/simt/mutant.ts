// A bug planted in a kernel: text of the real source replaced, so that kernels know nothing of their bugs, and a
// kernel that changes so that a replacement no longer applies fails the test.

/** One planted bug, and who must catch it. */
export interface Mutant {
  /** The source, from the repository's root: `csrc/cuda/norms.cu`, or a header that it includes. */
  file: string
  /** What is wrong. */
  title: string
  /** Occurs exactly once in the file. */
  find: string
  replace: string
  /** The .cu file to compile when `file` is a header. */
  source?: string
  /** The op whose cases must catch it, as JavaScript names it; */
  op?: string
  /** of its cases these: names of sizes or special cases (all sizes if this and the three below are left out); */
  cases?: string[]
  /** of what it refuses (test/ops/refused.ts), these. */
  refuses?: string[]
  /** The same, of tensors that begin or lie where there can be no packs (checkPlaces of test/ops/run.ts). */
  places?: true
  /** The same, of arguments that the op before makes (checkMade of test/ops/run.ts). */
  made?: true
  /** What the GPU runs meanwhile, as binding.useKernels() takes it. */
  kernels?: 'portable' | 'cublaslt'
  /** Or the check of test/simt/*.cu that must. */
  check?: string
  /** What the emulator or the comparison must say. */
  caught?: RegExp
}

/** Two accesses with nothing between them: what the emulator says, or what comes of it. */
export const unordered = /no barrier between the two|nothing that orders the two|nobody has written|is .*, expected/
