// The least that prefill and decode of a model must move and compute, and the seconds that takes a machine.
//
// Counted: weights, keys and values, states of Mamba-2, and the operations of products, attention, scan and convolution.
// Not counted: activations, which need not leave the chip, and norms and the like, which are few operations. A multiply
// and an add are two operations. What is computed in fp8 has a rate of its own. Letters as in lib/model/config.ts.

// `precision` is { weights, act, kvCache, ssmState, bf16Gemms } as load() calls them (its dtype is act). Work is { bytes,
// flops, fp8Flops }: to and from memory, in the type of activations, in fp8. Ceilings are { copy, act, fp8 }: bytes a
// second, read and written, and operations a second of products in the type of activations and in fp8.
import { tensorSpecs } from '../dist/checkpoint/names.js'
import { formatsOf, mambaWidths, outerProducts, stateBytes } from '../dist/model/config.js'

const sizes = { f32: 4, bf16: 2, fp8: 1 }
const work = ({ bytes = 0, flops = 0, fp8Flops = 0 }) => ({ bytes, flops, fp8Flops })
const count = (config, kind) => config.layers.filter((layer) => layer === kind).length

/**
 * The weights that a token meets, as lib/checkpoint/weights.ts keeps them: elements and bytes of the layers' matrices, of
 * them those in fp8, bytes of vectors (f32), elements and bytes of the head, bytes of the embedding's row for one token.
 */
export function weightsOf(config, { weights, bf16Gemms = 4 }) {
  const specs = tensorSpecs(config).map(({ name, shape, role }) => ({
    name,
    role,
    n: shape.reduce((a, b) => a * b, 1),
  }))
  const matrices = specs.filter(({ role }) => role === 'matrix')
  const outer = outerProducts(
    matrices.map(({ name }) => name),
    bf16Gemms,
  )
  const elements = (list) => list.reduce((sum, { n }) => sum + n, 0)
  const all = elements(matrices)
  const fp8 = weights === 'fp8' ? elements(matrices.filter(({ name }) => !outer.has(name))) : 0
  const wide = weights === 'fp8' ? sizes.bf16 : sizes[weights]
  const head = config.vocabSize * config.hiddenSize
  return {
    matrices: { elements: all, fp8Elements: fp8, bytes: fp8 + (all - fp8) * wide },
    vectorBytes: 4 * elements(specs.filter(({ role }) => role === 'vector')),
    head: { elements: head, bytes: head * wide },
    embeddingBytes: config.hiddenSize * wide,
  }
}

/** Operations that all attention layers spend on one token for each position it sees: Q K^T and P V. */
const attentionFlops = (config) => 4 * config.attention.heads * config.attention.headDim * count(config, 'attention')

/**
 * Prefill of `batch` prompts of `input` tokens in batches of `prefillTokens`, to the first token of each.
 */
export function prefillWork(config, precision, { batch, input, prefillTokens }) {
  const { matrices, vectorBytes, head, embeddingBytes } = weightsOf(config, precision)
  const state = stateBytes(config, formatsOf(precision.act, precision.kvCache, precision.ssmState))
  const tokens = batch * input
  const batches = Math.ceil(tokens / prefillTokens) // each reads all weights
  const pieces = Math.ceil(input / prefillTokens) // of one prompt; each but the first reads what went before
  const reread = (prefillTokens * pieces * (pieces - 1)) / 2
  return {
    products: work({
      bytes: batches * (matrices.bytes + vectorBytes) + tokens * embeddingBytes,
      flops: 2 * tokens * (matrices.elements - matrices.fp8Elements),
      fp8Flops: 2 * tokens * matrices.fp8Elements,
    }),
    attention: work({
      bytes: batch * (input + reread) * state.kvPerToken,
      flops: (batch * attentionFlops(config) * input * (input + 1)) / 2, // token p sees p + 1 positions
    }),
    mamba2: work({
      bytes: batch * (2 * pieces - 1) * (state.ssmPerSequence + state.convPerSequence),
      flops: tokens * count(config, 'mamba2') * scanFlops(config),
    }),
    head: work({ bytes: Math.min(batches, batch) * head.bytes, flops: 2 * batch * head.elements }),
  }
}

/**
 * Operations of a Mamba-2 layer between its projections for one token, in chunks of Q tokens (Dao and Gu 2024, section 6),
 * of which causality needs half: C B^T for each group, then for each head scores times x, state in and state out. And the
 * convolution.
 */
function scanFlops({ mamba }) {
  if (!mamba) return 0
  const { heads: H, headDim: P, groups: G, stateSize: N, chunkSize: Q, convKernel: W } = mamba
  return H * (Q * P + 4 * P * N) + G * Q * N + 2 * W * mambaWidths(mamba).channels
}

/**
 * One decode step: a token for each of `batch` sequences, each with `past` tokens before it (a mean is fine: all is linear
 * in it).
 */
export function decodeWork(config, precision, { batch, past }) {
  const { matrices, vectorBytes, head, embeddingBytes } = weightsOf(config, precision)
  const state = stateBytes(config, formatsOf(precision.act, precision.kvCache, precision.ssmState))
  return {
    products: work({
      bytes: matrices.bytes + vectorBytes + batch * embeddingBytes,
      flops: 2 * batch * (matrices.elements - matrices.fp8Elements),
      fp8Flops: 2 * batch * matrices.fp8Elements,
    }),
    attention: work({
      bytes: batch * (past + 1) * state.kvPerToken, // those before are read, the token's own are written
      flops: batch * (past + 1) * attentionFlops(config),
    }),
    mamba2: work({
      bytes: 2 * batch * (state.ssmPerSequence + state.convPerSequence), // read and written
      flops: batch * count(config, 'mamba2') * stepFlops(config),
    }),
    head: work({ bytes: head.bytes, flops: 2 * batch * head.elements }),
  }
}

/** Operations of a Mamba-2 layer for one token as a recurrence: h = a h + (dt x) B is 3 an element, y = C h is 2. */
function stepFlops({ mamba }) {
  if (!mamba) return 0
  const { heads: H, headDim: P, stateSize: N, convKernel: W } = mamba
  return 5 * H * P * N + 2 * W * mambaWidths(mamba).channels
}

/** The seconds in which a machine can do it at best: moving and computing overlap entirely. */
export const secondsOf = ({ bytes, flops, fp8Flops }, { copy, act, fp8 }) =>
  Math.max(bytes / copy, flops / act + fp8Flops / fp8)

/** All of it together. */
export const totalOf = (works) =>
  work({
    bytes: works.reduce((sum, { bytes }) => sum + bytes, 0),
    flops: works.reduce((sum, { flops }) => sum + flops, 0),
    fp8Flops: works.reduce((sum, { fp8Flops }) => sum + fp8Flops, 0),
  })

/**
 * A run of `batch` sequences: `input` prompt tokens each, then `output` generated, of which prefill makes the first. Work
 * and, where there are ceilings, seconds at best, of prefill and of all decode steps.
 */
export function limitsOf(config, precision, { batch, input, output, prefillTokens }, ceilings) {
  const steps = output - 1
  const step = decodeWork(config, precision, { batch, past: input + (steps - 1) / 2 })
  const phase = (works, times) => ({
    ...totalOf(Object.values(works).map((w) => scaled(w, times))),
    ...(ceilings ? { seconds: times * secondsOf(totalOf(Object.values(works)), ceilings) } : {}),
    kinds: Object.fromEntries(
      Object.entries(works).map(([kind, w]) => [
        kind,
        { ...scaled(w, times), ...(ceilings ? { seconds: times * secondsOf(w, ceilings) } : {}) },
      ]),
    ),
  })
  return {
    prefill: phase(prefillWork(config, precision, { batch, input, prefillTokens }), 1),
    decode: phase(step, steps),
  }
}

const scaled = ({ bytes, flops, fp8Flops }, times) =>
  work({ bytes: times * bytes, flops: times * flops, fp8Flops: times * fp8Flops })
