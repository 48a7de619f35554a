/** Every op of csrc/ops.def; binding.d.ts documents each. An op returns at once: only reading a tensor waits. */
import type { Ops } from '../binding.js'
import { binding } from './binding.js'

export type { Ops } from '../binding.js'
export const ops: Ops = binding
