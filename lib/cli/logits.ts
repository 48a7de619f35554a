/** `nemotron-h logits`: the logits of every position of token sequences, for evaluation elsewhere. */
import { Command } from 'commander'
import { integer, list } from '../options.js'
import { jsonFile } from './flags.js'
import { addLoadOptions, loadModel } from './model.js'

const examples = `
The file of --ids holds a JSON array of arrays of token ids; - is standard input. The file of --out gets one f32
tensor [T,V] for each, named logits.0, logits.1, ...: row t holds the logits of what follows token t.

Example:
  echo '[[1, 42, 72], [1, 51]]' | nemotron-h logits demo/model --ids - --out logits.safetensors`

export function logitsCommand(signal: AbortSignal): Command {
  const command = new Command('logits')
    .description('writes the logits of token sequences to a safetensors file')
    .argument('<model>', 'folder of a Hugging Face checkpoint, or preset:NAME with --init random')
    .requiredOption('--ids <file>', 'the token ids: a JSON array of arrays')
    .requiredOption('--out <file>', 'the safetensors file to write')
  return addLoadOptions(command)
    .addHelpText('after', examples)
    .action(async (folder: string, options: Record<string, unknown>) => {
      const { writeSafetensors } = await import('../checkpoint/safetensors.js')
      const sequences = await jsonFile(options.ids as string, list(list(integer({ min: 0 }))), signal)
      using model = await loadModel(folder, options, signal)
      const logits = await model.forward(sequences, { signal })
      try {
        const data = await Promise.all(logits.map((t) => t.readBytes()))
        const tensors = logits.map(({ shape }, i) => [`logits.${i}`, { dtype: 'F32', shape, data: data[i]! }] as const)
        await writeSafetensors(options.out as string, Object.fromEntries(tensors), { signal })
      } finally {
        for (const t of logits) t.dispose()
      }
    })
}
