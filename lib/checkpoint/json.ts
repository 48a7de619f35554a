// Reads the JSON files of a checkpoint folder, key by key, each value held against a rule.
// Python writes Infinity and NaN bare, which is not JSON, or as {"__float__": "Infinity"}; both are read as numbers.

import { readFile } from 'node:fs/promises'
import { checkValue, describe, isObject, type Rule } from '../options.js'

/** A JSON object of the file at `path`, which its errors name; `prefix` is where the object stands in the file. */
export class JsonFields {
  constructor(
    readonly path: string,
    readonly values: Readonly<Record<string, unknown>>,
    private readonly prefix = '',
  ) {}

  /** Whether a key is there; Python's None is absence. */
  has(key: string): boolean {
    return Object.hasOwn(this.values, key) && this.values[key] !== null
  }

  /** The value of `key`, or of the first of its spellings that is present; without a fallback it is required. */
  get<T>(keys: string | readonly string[], rule: Rule<T>, fallback?: T): T {
    const spellings = typeof keys === 'string' ? [keys] : keys
    const key = spellings.find((spelling) => this.has(spelling))
    if (key !== undefined) return checkValue(this.path, this.prefix + key, this.values[key], rule)
    if (fallback !== undefined) return fallback
    const [name, ...others] = spellings.map((spelling) => this.prefix + spelling)
    const also = others.length > 0 ? ` (or ${others.join(', ')})` : ''
    throw new Error(`${this.path}: ${name}${also} is missing, expected ${rule.expected}`)
  }

  optional<T>(key: string, rule: Rule<T>): T | undefined {
    return this.has(key) ? this.get(key, rule) : undefined
  }

  /** The object under `key`. */
  object(key: string): JsonFields | undefined {
    if (!this.has(key)) return undefined
    const value = this.values[key]
    if (!isObject(value)) this.refuse(key, 'an object', TypeError)
    return new JsonFields(this.path, value as Record<string, unknown>, `${this.prefix}${key}.`)
  }

  /** Throws unless `key` is absent or has the one value that is implemented. */
  only(key: string, value: string | number | boolean): void {
    if (this.has(key) && this.values[key] !== value) this.refuse(key, describe(value))
  }

  refuse(key: string, expected: string, Fault: ErrorConstructor = RangeError): never {
    throw new Fault(`${this.path}: ${this.prefix}${key} is ${describe(this.values[key])}, expected ${expected}`)
  }
}

export async function readJson(path: string, signal?: AbortSignal): Promise<JsonFields> {
  const text = await readFile(path, { encoding: 'utf8', signal }).catch((cause) => {
    signal?.throwIfAborted()
    throw new Error(`${path}: cannot be read (${cause.code})`, { cause })
  })
  let value: unknown
  try {
    value = parseJson(text.replace(/^\ufeff/, '')) // a byte order mark, as some editors write it
  } catch (cause) {
    throw new Error(`${path}: content is not JSON, expected an object: ${(cause as Error).message}`, { cause })
  }
  if (!isObject(value)) throw new TypeError(`${path}: content is ${describe(value)}, expected an object`)
  return new JsonFields(path, value)
}

const floats = new Map([
  ['Infinity', Infinity],
  ['-Infinity', -Infinity],
  ['NaN', NaN],
])

/** JSON.parse that also takes the spellings of non-finite numbers that Python's json and transformers write. */
export function parseJson(text: string): unknown {
  // Strings match first, so that what stands inside them stays.
  const standard = text.replace(/"[^"\\]*(?:\\.[^"\\]*)*"|-?Infinity|NaN/gs, (token) =>
    token.startsWith('"') ? token : `{"__float__":"${token}"}`,
  )
  return JSON.parse(standard, (_key, value) => {
    if (!isObject(value) || Object.keys(value).join() !== '__float__') return value
    return floats.get(value.__float__ as string) ?? value
  })
}
