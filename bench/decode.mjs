// Tokens a second and time to the first one, alone and in a batch, of a folder or of preset:8b with random weights:
// node bench/decode.mjs [MODEL] [--device NAME] [--weights f32|bf16|fp8] [--prompt TOKENS] [--tokens GENERATED]
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { load } from '../dist/index.js'

const { values, positionals } = parseArgs({
  options: {
    device: { type: 'string', default: 'cpu' },
    weights: { type: 'string' },
    tokens: { type: 'string', default: '128' },
    prompt: { type: 'string', default: '512' },
  },
  allowPositionals: true,
})
const folder = positionals[0] ?? fileURLToPath(new URL('../demo/model', import.meta.url))
const init = folder.startsWith('preset:') ? 'random' : undefined
const model = await load(folder, { device: values.device, weights: values.weights, init, sequences: 8 })

/** One prompt of `count` ids for each of `batch` sequences, none like another. */
const prompts = (batch, count) =>
  Array.from({ length: batch }, (_, s) => Array.from({ length: count }, (_, i) => (7 * i + s) % model.config.vocabSize))

/** Milliseconds until every sequence had its first token, and from then until all had their last; the best of three. */
async function measure(batch, promptTokens, maxTokens) {
  const runs = []
  for (let i = 0; i < 3; i++) {
    const began = performance.now()
    const firsts = prompts(batch, promptTokens).map(async (ids) => {
      const generation = model.generate(ids, { maxTokens, ignoreEos: true })
      await generation.next()
      return { first: performance.now() - began, generation }
    })
    const sequences = await Promise.all(firsts)
    const first = Math.max(...sequences.map((sequence) => sequence.first))
    await Promise.all(sequences.map(({ generation }) => drain(generation)))
    runs.push({ first, rest: performance.now() - began - first })
  }
  return { first: Math.min(...runs.map(({ first }) => first)), rest: Math.min(...runs.map(({ rest }) => rest)) }
}

async function drain(generation) {
  for await (const _ of generation);
}

const [tokens, prompt] = [Number(values.tokens), Number(values.prompt)]
await measure(1, 8, 8) // fills the caches of memory and code
const rows = []
for (const batch of [1, 8]) {
  const prefill = await measure(batch, prompt, 1)
  const decode = await measure(batch, 8, tokens) // short prompts are one batch: all sequences begin to decode together
  rows.push({
    batch,
    'first token, ms': Number(prefill.first.toFixed(1)),
    'prefill tokens/s': Math.round((batch * prompt * 1000) / prefill.first),
    'decode tokens/s': Math.round((batch * (tokens - 1) * 1000) / decode.rest),
  })
}
console.log(`${folder} on ${values.device}: prompts of ${prompt} tokens, ${tokens} generated`)
console.table(rows)
model.dispose()
