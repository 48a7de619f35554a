/** From logits to tokens: each sequence's settings, packed for the ops that read them. */
import { ops } from './ops.js'
import { scope } from './scope.js'
import { type Tensor, tensor } from './tensor.js'

/** How one sequence draws its tokens. Neutral values leave the distribution as it is. */
export interface Sampling {
  temperature: number // 0: always the likeliest
  topK: number // 0: all
  topP: number
  minP: number
  repetitionPenalty: number
  frequencyPenalty: number
  presencePenalty: number
  logitBias: ReadonlyMap<number, number>
  seed: number // an integer from 0 to 2^53 - 1
  logprobs: number | undefined // how many alternatives to report; undefined: no log-probabilities
}

/** One row of a batch that samples. */
export interface SamplingRow {
  sampling: Sampling
  slot: number
  /** Tokens already generated: the draw is a function of seed and step. */
  step: number
}

export interface TokenLogprob {
  id: number
  logprob: number
}

export interface SampledToken extends Partial<TokenLogprob> {
  id: number
  top?: TokenLogprob[]
}

export const usesHistory = ({ repetitionPenalty, frequencyPenalty, presencePenalty }: Sampling) =>
  repetitionPenalty !== 1 || frequencyPenalty !== 0 || presencePenalty !== 0

/**
 * Draws a token for each row of logits[S,V], which are used up. `history` [Slots,V] counts tokens for the penalties, if
 * any row has some, and is moved on. Log-probabilities are those of the model, before any setting.
 */
export async function sampleTokens(
  logits: Tensor<'f32'>,
  rows: readonly SamplingRow[],
  history: Tensor<'i32'> | undefined,
): Promise<SampledToken[]> {
  const [S, V] = [rows.length, logits.shape[1]!]
  const settings = rows.map(({ sampling }) => sampling)
  const widest = Math.max(-1, ...settings.map(({ logprobs }) => logprobs ?? -1))
  const results = scope(() => {
    const i32 = (values: Int32Array, shape = [values.length]) => tensor(values, 'i32', shape, logits.device)
    const integers = (f: (row: SamplingRow) => number) => i32(Int32Array.from(rows, f))
    const floats = (f: (s: Sampling) => number) => tensor(Float32Array.from(settings, f), 'f32', [S], logits.device)
    const slots = integers(({ slot }) => slot)
    const original = widest >= 0 ? ops.cast(logits, 'f32') : undefined

    if (history) {
      const [repetition, frequency, presence] = [
        floats((s) => s.repetitionPenalty),
        floats((s) => s.frequencyPenalty),
        floats((s) => s.presencePenalty),
      ]
      ops.penalize(logits, history, slots, repetition, frequency, presence)
    }
    if (settings.some(({ logitBias }) => logitBias.size > 0)) addBias(logits, settings)

    const ids = ops.sample(
      logits,
      floats((s) => s.temperature),
      integers(({ sampling }) => sampling.topK),
      floats((s) => s.topP),
      floats((s) => s.minP),
      i32(Int32Array.from(settings.flatMap(({ seed }) => [seed | 0, Math.floor(seed / 2 ** 32)])), [S, 2]),
      integers(({ step }) => step),
    )
    if (history) {
      const one = i32(Int32Array.from({ length: S + 1 }, (_, s) => s))
      const notFirst = i32(new Int32Array(S).fill(1))
      ops.countTokens(ids, one, notFirst, slots, true, history)
    }
    return original
      ? { ids, logprobs: ops.logProbs(original, ids), top: ops.topLogProbs(original, Math.min(widest, V)) }
      : { ids }
  })
  try {
    return await readTokens(results, settings)
  } finally {
    for (const t of [results.ids, results.logprobs, ...(results.top ?? [])]) t?.dispose()
  }
}

interface Results {
  ids: Tensor<'i32'> // [S]
  logprobs?: Tensor<'f32'> // [S]
  top?: [ids: Tensor<'i32'>, values: Tensor<'f32'>] // [S,count] each
}

async function readTokens({ ids, logprobs, top }: Results, settings: readonly Sampling[]): Promise<SampledToken[]> {
  const [sampled, chosen, topIds, topValues] = await Promise.all([
    ids.read(),
    logprobs?.read(),
    top?.[0].read(),
    top?.[1].read(),
  ])
  return settings.map(({ logprobs: wanted }, s) => {
    const id = sampled[s]!
    if (wanted === undefined || !chosen || !topIds || !topValues) return { id }
    const count = topIds.length / settings.length
    const best = Array.from({ length: Math.min(wanted, count) }, (_, i) => ({
      id: topIds[s * count + i]!,
      logprob: topValues[s * count + i]!,
    }))
    return { id, logprob: chosen[s]!, top: best }
  })
}

function addBias(logits: Tensor<'f32'>, settings: readonly Sampling[]): void {
  const offsets = [0]
  const entries: [number, number][] = []
  for (const { logitBias } of settings) {
    entries.push(...logitBias)
    offsets.push(entries.length)
  }
  const ids = Int32Array.from(entries, ([id]) => id)
  const bias = Float32Array.from(entries, ([, value]) => value)
  ops.biasLogits(
    logits,
    tensor(Int32Array.from(offsets), 'i32', [offsets.length], logits.device),
    tensor(ids, 'i32', [ids.length], logits.device),
    tensor(bias, 'f32', [bias.length], logits.device),
  )
}
