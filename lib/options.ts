// One checker for every option object in the library: a table of rules, one per key, mapped from the option's
// interface, so that a key without a rule does not compile. Absent and undefined are the same; null is an error.

/** What a value has to be. `fault` gives the class of the error that a wrong value deserves. */
export interface Rule<T> {
  readonly expected: string
  fault(value: unknown): TypeErrorConstructor | RangeErrorConstructor | undefined
  /** Carries the type only. */
  readonly type?: T
}

/** A rule for every key of an option interface. */
export type Rules<T> = { readonly [K in keyof T]-?: Rule<T[K]> }

export interface Range {
  readonly min?: number
  readonly max?: number
  /** Like `min`, itself excluded. */
  readonly above?: number
}

function typeRule<T>(expected: string, is: (value: unknown) => boolean): Rule<T> {
  return { expected, fault: (value) => (is(value) ? undefined : TypeError) }
}

function rangeRule(kind: string, is: (value: unknown) => boolean, { min, max, above }: Range): Rule<number> {
  const bounds = [
    ...(min === undefined ? [] : [`>= ${min}`]),
    ...(above === undefined ? [] : [`> ${above}`]),
    ...(max === undefined ? [] : [`<= ${max}`]),
  ]
  return {
    expected: [kind, bounds.join(' and ')].filter(Boolean).join(' '),
    fault(value) {
      if (typeof value !== 'number') return TypeError
      const within = value >= (min ?? -Infinity) && value <= (max ?? Infinity) && value > (above ?? -Infinity)
      return is(value) && within ? undefined : RangeError
    },
  }
}

export const string: Rule<string> = typeRule('a string', (value) => typeof value === 'string')
export const boolean: Rule<boolean> = typeRule('true or false', (value) => typeof value === 'boolean')
export const tokenIds: Rule<ArrayLike<number>> = typeRule(
  'a list of token ids',
  (value) => Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView)),
)
export const signal: Rule<AbortSignal> = typeRule('an AbortSignal', (value) => value instanceof AbortSignal)

export function callback<F extends (...args: never[]) => unknown>(): Rule<F> {
  return typeRule('a function', (value) => typeof value === 'function')
}

/** A finite number. */
export const number = (range: Range = {}) => rangeRule('a number', Number.isFinite, range)

/** A whole number that doubles hold exactly. */
export const integer = (range: Range = {}) => rangeRule('an integer', Number.isSafeInteger, range)

/** A number that stays in range as an f32, which is what the ops take. */
export function float(range: Range = {}): Rule<number> {
  const { expected, fault } = number(range)
  const rounded = (value: unknown) => (typeof value === 'number' ? Math.fround(value) : value)
  return { expected: `${expected} in f32`, fault: (value) => fault(value) ?? fault(rounded(value)) }
}

export function oneOf<const T extends string>(...values: T[]): Rule<T> {
  return {
    expected: choices(values.map(describe)),
    fault(value) {
      if (typeof value !== 'string') return TypeError
      return (values as string[]).includes(value) ? undefined : RangeError
    },
  }
}

export function list<T>(item: Rule<T>): Rule<readonly T[]> {
  return {
    expected: `a list, each ${item.expected}`,
    fault: (value) => (Array.isArray(value) ? value.map((each) => item.fault(each)).find(Boolean) : TypeError),
  }
}

export function either<A, B>(a: Rule<A>, b: Rule<B>): Rule<A | B> {
  return {
    expected: `${a.expected} or ${b.expected}`,
    fault(value) {
      const faults = [a.fault(value), b.fault(value)]
      if (faults.includes(undefined)) return undefined
      return faults.includes(RangeError) ? RangeError : TypeError
    },
  }
}

/**
 * Gives the options that are present, each held against its rule.
 * TypeError for a key without a rule or a value of the wrong kind, RangeError for a value out of range.
 */
export function check<T extends object>(op: string, options: unknown, rules: Rules<T>): Partial<T> {
  if (options === undefined) return {}
  if (!isObject(options) || options instanceof Map || options instanceof Date)
    throw new TypeError(`${op}: options is ${describe(options)}, expected an object`)
  const checked: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(options)) {
    if (!Object.hasOwn(rules, key)) {
      throw new TypeError(`${op}: unknown option ${describe(key)}, ${suggest(key, Object.keys(rules))}`)
    }
    if (value === undefined) continue
    checked[key] = checkValue(op, key, value, rules[key as keyof T])
  }
  return checked as Partial<T>
}

/** Gives `value` back if the rule accepts it; `subject` and `name` say in the error where it stood. */
export function checkValue<T>(subject: string, name: string, value: unknown, rule: Rule<T>): T {
  const Fault = rule.fault(value)
  if (Fault) throw new Fault(`${subject}: ${name} is ${describe(value)}, expected ${rule.expected}`)
  return value as T
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A value as an error message shows it: short, and on one line. */
export function describe(value: unknown): string {
  if (typeof value === 'string') {
    const shown = value.length > 60 ? `${value.slice(0, 60)}…` : value
    return `'${JSON.stringify(shown).slice(1, -1).replaceAll('\\"', '"')}'`
  }
  if (typeof value === 'function') return 'a function'
  if (Array.isArray(value)) {
    const shown = value.slice(0, 4).map((item) => (Array.isArray(item) ? '[…]' : describe(item)))
    return `[${value.length > 4 ? [...shown, '…'] : shown}]`
  }
  if (typeof value === 'object' && value !== null) {
    const name = value.constructor?.name ?? 'Object'
    return name === 'Object' ? 'an object' : `${/^[AEIO]/.test(name) ? 'an' : 'a'} ${name}`
  }
  return typeof value === 'bigint' ? `${value}n` : String(value)
}

/** 'a', 'b' or 'c'. */
export function choices(words: readonly string[]): string {
  return words.length > 1 ? `${words.slice(0, -1).join(', ')} or ${words.at(-1)}` : words.join()
}

function suggest(key: string, known: readonly string[]): string {
  const near = known
    .map((name) => ({ name, distance: editDistance(key.toLowerCase(), name.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)[0]
  if (near && near.distance <= Math.max(2, key.length / 2)) return `did you mean '${near.name}'?`
  return `expected ${choices(known) || 'none'}`
}

/** Levenshtein: the fewest insertions, deletions and substitutions. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const above = row
    row = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      row.push(Math.min(replaced, above[j]! + 1, row[j - 1]! + 1))
    }
  }
  return row[b.length]!
}
