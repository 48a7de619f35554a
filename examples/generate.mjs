// Streams text from a model folder: node examples/generate.mjs [folder] [prompt] [device]
import { load } from 'nemotron-h'

const [folder = 'demo/model', prompt = 'In the beginning God', device = 'cpu'] = process.argv.slice(2)
const model = await load(folder, { device }) // 'cuda' for the first GPU

process.stdout.write(prompt)
for await (const piece of model.generate(prompt, { maxTokens: 48 })) {
  process.stdout.write(piece.text)
  if (piece.finishReason) console.log(`\n[${piece.finishReason}, ${piece.usage.completionTokens} tokens]`)
}
model.dispose()
