// How well a model predicts a text: node examples/perplexity.mjs [folder] [text] [device]
import { load } from 'nemotron-h'

const [folder = 'demo/model', text = 'The LORD is my shepherd; I shall not want.', device = 'cpu'] =
  process.argv.slice(2)
const model = await load(folder, { device })
const ids = await model.tokenizer.encode(text)

const [logits] = await model.forward([ids]) // [T,V]
const values = await logits.read()
const vocab = logits.shape[1]

let sum = 0
for (let t = 0; t + 1 < ids.length; t++) {
  const row = values.subarray(t * vocab, (t + 1) * vocab)
  const largest = row.reduce((a, b) => Math.max(a, b))
  const logSum = largest + Math.log(row.reduce((total, value) => total + Math.exp(value - largest), 0))
  sum += logSum - row[ids[t + 1]]
}
console.log(`perplexity ${Math.exp(sum / (ids.length - 1)).toFixed(2)} over ${ids.length - 1} tokens`)
logits.dispose()
model.dispose()
