/** `nemotron-h generate`: text from a prompt, token ids or a conversation, as it comes or as one JSON object. */
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { Command, Option } from 'commander'
import type { GenerateOptions, Piece, Prompt, TokenLogprobs } from '../generate.js'
import type { Model } from '../load.js'
import { integer, isObject, list, number, type Rule } from '../options.js'
import type { ChatMessage } from '../text/chat.js'
import { argumentText, jsonFile, jsonFlag, numberFlag, pick, repeatedFlag } from './flags.js'
import { addLoadOptions, loadModel } from './model.js'

const ids = list(integer({ min: 0 }))
const biases: Rule<object> = {
  expected: 'a JSON object of token ids and numbers',
  fault: (value) => (isObject(value) ? undefined : TypeError),
}

const conversation: Rule<readonly ChatMessage[]> = {
  expected: 'a list of one or more {role, content}',
  fault: (value) => (Array.isArray(value) && value.length > 0 && value.every(isObject) ? undefined : TypeError),
}

const promptFlags = [
  new Option('--prompt <text>', 'text to go on from').conflicts(['ids', 'chat', 'messages']),
  jsonFlag('--ids <json>', 'token ids to go on from, as a JSON array', ids).conflicts(['chat', 'messages']),
  new Option('--chat <text>', "what the user says, in the model's chat template").conflicts(['messages']),
  new Option('--system <text>', 'what the system says before --chat'),
  new Option('--messages <file>', 'a conversation: a JSON array of {"role", "content"}'),
]

// biome-ignore format: a table
const generateFlags = {
  maxTokens: numberFlag('--max-tokens <n>', 'tokens to generate at most; 256 by default', integer({ min: 0 })),
  temperature: numberFlag('--temperature <t>', '0: always the likeliest token', number({ min: 0 })),
  topK: numberFlag('--top-k <k>', 'draw among the k likeliest tokens; 0: all', integer({ min: 0 })),
  topP: numberFlag('--top-p <p>', 'draw among the fewest tokens of probability p together', number({ above: 0, max: 1 })),
  minP: numberFlag('--min-p <p>', 'draw among tokens p times as likely as the likeliest', number({ min: 0, max: 1 })),
  repetitionPenalty: numberFlag('--repetition-penalty <r>', 'divides the logits of tokens seen; 1: none', number({ above: 0 })),
  frequencyPenalty: numberFlag('--frequency-penalty <f>', 'taken from a logit each time its token was generated', number()),
  presencePenalty: numberFlag('--presence-penalty <p>', 'taken from a logit once its token was generated', number()),
  logitBias: jsonFlag('--logit-bias <json>', 'added to logits, by token id: {"42": -5}', biases),
  seed: numberFlag('--seed <n>', 'same seed, same tokens; random by default', integer({ min: 0 })),
  stop: repeatedFlag('--stop <text>', 'ends the text and is not part of it; may be given again'),
  ignoreEos: new Option('--ignore-eos', 'go on after an end-of-text token'),
  logprobs: numberFlag('--logprobs <n>', 'with --json: log-probabilities, also of the n likeliest', integer({ min: 0, max: 1000 })),
} satisfies Record<Exclude<keyof GenerateOptions, 'signal'>, Option>

const examples = `
In place of a text or a file, - is standard input. Sampling options that are left out are as the model's
generation_config.json says, or else temperature 0.

Examples:
  nemotron-h generate demo/model --prompt 'In the beginning God' --max-tokens 96
  nemotron-h generate demo/model --prompt 'The LORD is my' --temperature 0.8 --top-p 0.95 --seed 7 --json
  nemotron-h generate MODEL --chat 'Which is the tallest bird?' --system '/no_think'
  git diff | nemotron-h generate MODEL --prompt - --stop $'\\n\\n'`

export function generateCommand(signal: AbortSignal): Command {
  const command = new Command('generate')
    .description('generates text, printed as it comes (token ids where the model has no tokenizer)')
    .argument('<model>', 'folder of a Hugging Face checkpoint, or preset:NAME with --init random')
  for (const option of [...promptFlags, ...Object.values(generateFlags)]) command.addOption(option)
  return addLoadOptions(command)
    .option('--json', 'print one JSON object: ids, text, finishReason, usage, timings in ms')
    .option('--trace <file>', "write when each op ran, in Chrome's trace format, for ui.perfetto.dev")
    .addHelpText('after', examples)
    .action(async (folder: string, options: Record<string, unknown>) => {
      if (options.logprobs !== undefined && !options.json) throw new Error('--logprobs needs --json')
      const prompt = await promptOf(options, signal)
      using model = await loadModel(folder, options, signal)
      const generate = async () => {
        const pieces = model.generate(prompt, { ...pick<GenerateOptions>(options, generateFlags), signal })
        if (!options.json) return await stream(pieces, model, signal)
        await print(`${JSON.stringify(await whole(pieces, options.logprobs !== undefined))}\n`, signal)
      }
      if (options.trace === undefined) return await generate()
      const { chromeTrace, trace } = await import('../trace.js')
      const { spans } = await trace(model.device.name, generate)
      await writeFile(options.trace as string, chromeTrace(spans))
    })
}

async function promptOf(options: Record<string, unknown>, signal: AbortSignal): Promise<Prompt> {
  const text = (name: string) => argumentText(options[name] as string, signal)
  if (options.system !== undefined && options.chat === undefined) throw new Error('--system needs --chat')
  if (options.ids !== undefined) return options.ids as number[]
  if (options.prompt !== undefined) return text('prompt')
  if (options.messages !== undefined) {
    return jsonFile(options.messages as string, conversation, signal)
  }
  if (options.chat === undefined) throw new Error('no prompt, expected --prompt, --ids, --chat or --messages')
  if (options.system === '-' && options.chat === '-')
    throw new Error('--system and --chat are both -, expected one to be text')
  const system = options.system === undefined ? [] : [{ role: 'system', content: await text('system') }]
  return [...system, { role: 'user', content: await text('chat') }]
}

/** All pieces as one. */
async function whole(pieces: AsyncIterable<Piece>, withLogprobs: boolean) {
  const texts: string[] = []
  const ids: number[] = []
  const logprobs: TokenLogprobs[] = []
  let last: Piece | undefined
  for await (last of pieces) {
    texts.push(last.text)
    ids.push(...last.ids)
    logprobs.push(...(last.logprobs ?? []))
  }
  const { finishReason, usage, timings } = last!
  return { ids, text: texts.join(''), finishReason, usage, timings, ...(withLogprobs ? { logprobs } : {}) }
}

async function stream(pieces: AsyncIterable<Piece>, { tokenizer }: Model, signal: AbortSignal): Promise<void> {
  let begun = false
  let lineEnded = true
  let last: Piece | undefined
  try {
    for await (last of pieces) {
      const text = tokenizer ? last.text : last.ids.map((id, i) => (begun || i > 0 ? ` ${id}` : `${id}`)).join('')
      if (text === '') continue
      begun = true
      lineEnded = text.endsWith('\n')
      await print(text, signal)
    }
  } finally {
    if (!lineEnded && !process.stdout.destroyed) process.stdout.write('\n')
  }
  if (process.stderr.isTTY) process.stderr.write(`${summary(last!)}\n`)
}

/** Writes to standard output, no faster than it is read. */
async function print(text: string, signal: AbortSignal): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, 'drain', { signal })
}

function summary({ usage, timings, finishReason }: Piece): string {
  const { promptTokens, completionTokens } = usage!
  const { prefill, decode } = timings!
  const rate = completionTokens > 1 ? `, ${((1000 * (completionTokens - 1)) / decode).toFixed(1)} tokens/s` : ''
  return `[prompt of ${promptTokens} in ${(prefill / 1000).toFixed(2)} s; ${completionTokens} generated${rate}; ${finishReason}]`
}
