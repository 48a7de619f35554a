// What the comparison asks of lib/plan.ts: the batch that fits.
import * as plan from '../dist/plan.js'

/** Of a device's free bytes, what is planned with: some go to the system and to the gaps between blocks. */
const usable = 0.95

/**
 * The most sequences of `context` tokens that a model with these formats has room for in `bytes`.
 * @throws Error where there is none for `least` of them, saying what is missing
 */
export function largestBatch(config, { weights, act, kvCache, ssmState, prefillTokens }, { context, least }, bytes) {
  const options = { weights, dtype: act, kvCache, ssmState, prefillTokens, context, sequences: least }
  return plan.fit(config, options, usable * bytes).sequences
}
