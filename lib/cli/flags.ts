/** Command line options whose values are held against a rule as they are read; the errors name the option as typed. */
import { readFile } from 'node:fs/promises'
import { text as textOf } from 'node:stream/consumers'
import { Option } from 'commander'
import { checkValue, describe, oneOf, type Rule } from '../options.js'

/** A number as JSON writes it: `12abc`, `0x10` and nothing at all are none. */
export function numberFlag(flags: string, description: string, rule: Rule<number>): Option {
  return flag(flags, description, rule, (text) =>
    /^-?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) ? Number(text) : text,
  )
}

export function choiceFlag(flags: string, description: string, ...values: string[]): Option {
  return flag(flags, description, oneOf(...values), (text) => text)
}

export function jsonFlag<T>(flags: string, description: string, rule: Rule<T>): Option {
  return flag(flags, description, rule, (text) => {
    try {
      return JSON.parse(text)
    } catch {
      return text
    }
  })
}

/** May be given several times; the value is the list. */
export function repeatedFlag(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text, before: string[] = []) => [...before, text])
}

function flag<T>(flags: string, description: string, rule: Rule<T>, parse: (text: string) => unknown): Option {
  const option = new Option(flags, description)
  return option.argParser((text) => {
    const value = parse(text)
    const Fault = rule.fault(value)
    if (Fault) throw new Fault(`${option.long} is ${describe(text)}, expected ${rule.expected}`)
    return value
  })
}

/** The values of those options that `table` has, as the library takes them. */
export function pick<T>(options: Record<string, unknown>, table: Partial<Record<keyof T, Option>>): T {
  return Object.fromEntries(Object.keys(table).map((key) => [key, options[key]])) as T
}

/** The text itself; of `-`, all of standard input, less one line break at its end. */
export async function argumentText(value: string, signal: AbortSignal): Promise<string> {
  return value === '-' ? (await inputText(signal)).replace(/\r?\n$/, '') : value
}

/** The JSON in a file, or of `-`, in standard input. */
export async function jsonFile<T>(path: string, rule: Rule<T>, signal: AbortSignal): Promise<T> {
  const text = path === '-' ? await inputText(signal) : await readFile(path, { encoding: 'utf8', signal })
  const name = path === '-' ? 'standard input' : path
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new Error(`${name}: content is not JSON, expected ${rule.expected}: ${(cause as Error).message}`, { cause })
  }
  return checkValue(name, 'content', value, rule)
}

function inputText(signal: AbortSignal): Promise<string> {
  signal.addEventListener('abort', () => process.stdin.destroy(), { once: true })
  return textOf(process.stdin)
}
