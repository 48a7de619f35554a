// The text side of a Hugging Face model folder: reads tokenizer.json, tokenizer_config.json and
// chat_template.jinja, telling a file that is absent (undefined: all of them are optional somewhere) from one
// that is broken (an error that names its path).

import { readFile } from 'node:fs/promises'
import { describe, isObject } from '../options.js'

export type SpecialName = 'bos' | 'eos' | 'pad' | 'unk'

/** The text of a file, or undefined when it does not exist. `op` opens the message of any other failure. */
export async function readText(op: string, path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new Error(`${op}: ${path} cannot be read (${(error as Error).message})`, { cause: error })
  }
}

/** The object in a JSON file, or undefined when the file does not exist. */
export async function readObject(op: string, path: string): Promise<Record<string, unknown> | undefined> {
  const text = await readText(op, path)
  if (text === undefined) return undefined
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    const found = text.trim() === '' ? 'empty' : `not JSON (${(error as Error).message})`
    throw new Error(`${op}: ${path} is ${found}, expected a complete JSON file`, { cause: error })
  }
  if (!isObject(value)) throw new Error(`${op}: ${path} is ${describe(value)}, expected a JSON object`)
  return value
}

/** The strings of the special tokens that a tokenizer_config.json names, each as a string or as `{content}`. */
export function specialTokens(config: Record<string, unknown>): Partial<Record<SpecialName, string>> {
  const tokens: Partial<Record<SpecialName, string>> = {}
  for (const name of ['bos', 'eos', 'pad', 'unk'] as const) {
    const value = config[`${name}_token`]
    const token = isObject(value) ? value.content : value
    if (typeof token === 'string') tokens[name] = token
  }
  return tokens
}
