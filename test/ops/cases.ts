// Every op and its spec. An op without one does not compile.
import type { Ops } from '../../binding.js'
import { attentionSpecs } from './attention.ts'
import { linearSpecs } from './linear.ts'
import { logitsSpecs } from './logits.ts'
import { mamba2Specs } from './mamba2.ts'
import { mamba2StepSpecs } from './mamba2_step.ts'
import { normQuantizeSpecs } from './norm_quantize.ts'
import { normSpecs } from './norms.ts'
import { quantizeSpecs } from './quantize.ts'
import { randomSpecs } from './random.ts'
import { rowSpecs } from './rows.ts'
import type { Spec } from './spec.ts'

export const cases: { [K in keyof Ops]: Spec } = {
  ...rowSpecs,
  ...randomSpecs,
  ...normSpecs,
  ...linearSpecs,
  ...quantizeSpecs,
  ...normQuantizeSpecs,
  ...mamba2Specs,
  ...mamba2StepSpecs,
  ...attentionSpecs,
  ...logitsSpecs,
}
