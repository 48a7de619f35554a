// One measurement of the comparison: a batch through a model, prefill and decode apart.
import { trace } from '../dist/trace.js'

/** Tokens that are traced after those that are timed. */
export const tracedTokens = 8

/** `batch` prompts of `input` ids, none like another. */
const prompts = (batch, input, vocabSize) =>
  Array.from({ length: batch }, (_, s) => Array.from({ length: input }, (_, i) => (7919 * i + 31 * s) % vocabSize))

/**
 * Greedy generation of `output` tokens for each of `batch` prompts of `input` tokens by a model that prefills first, and
 * what it took: seconds of prefill, from the call until every sequence has its first token, and of decode, from then until
 * every one has its last. With `traced`, also the ops of the steps for `tracedTokens` tokens more, which the context must
 * have room for; fewer where some were queued before the trace began.
 */
export async function measure(model, { batch, input, output, traced = false, signal }) {
  const maxTokens = output + (traced ? tracedTokens : 0)
  const options = { maxTokens, ignoreEos: true, temperature: 0, signal }
  const ids = prompts(batch, input, model.config.vocabSize)
  const began = performance.now()
  const sequences = ids.map((prompt) => ({ count: 0, pieces: model.generate(prompt, options) }))
  const until = (count) => Promise.all(sequences.map((sequence) => read(sequence, count)))
  await until(1)
  const first = performance.now()
  await until(output)
  const last = performance.now()
  const rest = () => until(Number.POSITIVE_INFINITY)
  const ops = traced ? await opsOf(model, rest) : await rest().then(() => undefined)
  for (const { count } of sequences) {
    if (count !== maxTokens) throw new Error(`bench:figure: a sequence has ${count} tokens, expected ${maxTokens}`)
  }
  return { seconds: { prefill: (first - began) / 1000, decode: (last - first) / 1000 }, ops }
}

/** Reads on until the sequence has `count` tokens, or to its end. */
async function read(sequence, count) {
  while (sequence.count < count) {
    const { value, done } = await sequence.pieces.next()
    if (done) return
    sequence.count += value.ids.length
  }
}

/** The ops of a prefill of `batch` prompts of `input` tokens. */
export const prefillOps = (model, { batch, input, signal }) =>
  opsOf(model, () => measure(model, { batch, input, output: 1, signal }))

async function opsOf({ device }, work) {
  const { spans } = await trace(device.name, work)
  return byName(spans.filter(({ thread }) => thread === device.name))
}

/** { name: { calls, seconds } } of spans. */
export function byName(spans) {
  const ops = {}
  for (const { name, duration } of spans) {
    const { calls, seconds } = ops[name] ?? { calls: 0, seconds: 0 }
    ops[name] = { calls: calls + 1, seconds: seconds + duration / 1e6 }
  }
  return ops
}
