// Chat messages to the text a model was tuned on, by the Jinja template that its folder carries: the file
// chat_template.jinja, or else chat_template of tokenizer_config.json. A folder without a template is not an
// error until something is rendered.

import { join } from 'node:path'
import { Template } from '@huggingface/jinja'
import { boolean, check, choices, describe, isObject, type Rules, string } from '../options.js'
import { readObject, readText, specialTokens } from './files.js'

export interface ChatMessage {
  role: string
  content: string
}

export interface ChatOptions {
  /** Ends the text where the assistant's answer begins, in templates that ask; default true. */
  addGenerationPrompt?: boolean | undefined
  /** Which of several named templates; default the one called "default". */
  template?: string | undefined
  /** Further variables of the template, such as enable_thinking. */
  variables?: Record<string, unknown> | undefined
}

const rules: Rules<ChatOptions> = {
  addGenerationPrompt: boolean,
  template: string,
  variables: { expected: 'an object', fault: (value) => (isObject(value) ? undefined : TypeError) },
}

export class ChatTemplate {
  readonly #folder: string
  readonly #sources: ReadonlyMap<string, string>
  readonly #special: Record<string, string>
  readonly #compiled = new Map<string, Template>()

  private constructor(folder: string, sources: ReadonlyMap<string, string>, special: Record<string, string>) {
    this.#folder = folder
    this.#sources = sources
    this.#special = special
  }

  /** Reads the templates of a model folder. Throws an Error naming a file that is there but broken. */
  static async load(folder: string): Promise<ChatTemplate> {
    const path = join(folder, 'tokenizer_config.json')
    const config = (await readObject('ChatTemplate.load', path)) ?? {}
    const sources = namedTemplates(path, config.chat_template)
    const file = await readText('ChatTemplate.load', join(folder, 'chat_template.jinja'))
    if (file !== undefined) sources.set('default', file)
    const special = Object.entries(specialTokens(config)).map(([name, token]) => [`${name}_token`, token])
    return new ChatTemplate(folder, sources, Object.fromEntries(special))
  }

  /** Of a model without a folder: no templates. */
  static none(model: string): ChatTemplate {
    return new ChatTemplate(model, new Map(), {})
  }

  /** The names of the templates that the folder has. */
  get names(): string[] {
    return [...this.#sources.keys()]
  }

  /**
   * The text of a conversation, special tokens included: encode it with `addSpecialTokens: false`.
   * Throws a TypeError naming the message that is malformed; an Error when there is no such template or when it
   * fails, with the template's own words where it raises an exception.
   */
  render(messages: readonly ChatMessage[], options?: ChatOptions): string {
    const { addGenerationPrompt = true, template: name = 'default', variables = {} } = check('chat', options, rules)
    checkMessages(messages)
    const template = this.#template(name)
    try {
      return template.render({
        ...this.#special,
        ...variables,
        messages,
        add_generation_prompt: addGenerationPrompt,
      })
    } catch (error) {
      throw new Error(`chat: the template of ${this.#folder} failed: ${(error as Error).message}`, { cause: error })
    }
  }

  #template(name: string): Template {
    const source = this.#sources.get(name)
    if (source === undefined) {
      const expected =
        this.#sources.size === 0
          ? 'expected chat_template.jinja or chat_template in tokenizer_config.json: add one, or pass a prompt instead'
          : `expected ${choices(this.names.map(describe))}`
      const found = this.#sources.size === 0 ? 'no chat template' : `no chat template ${describe(name)}`
      throw new Error(`chat: ${this.#folder} has ${found}, ${expected}`)
    }
    let template = this.#compiled.get(name)
    if (!template) {
      try {
        template = new Template(source)
      } catch (error) {
        const reason = (error as Error).message
        throw new Error(`chat: the template of ${this.#folder} cannot be parsed: ${reason}`, { cause: error })
      }
      this.#compiled.set(name, template)
    }
    return template
  }
}

function namedTemplates(path: string, value: unknown): Map<string, string> {
  if (value === undefined || value === null) return new Map()
  if (typeof value === 'string') return new Map([['default', value]])
  const named = Array.isArray(value) ? value : []
  const complete = named.every((t) => isObject(t) && typeof t.name === 'string' && typeof t.template === 'string')
  if (!Array.isArray(value) || !complete) {
    throw new Error(
      `ChatTemplate.load: ${path}: chat_template is ${describe(value)}, expected a string or a list of {name, template}`,
    )
  }
  return new Map(named.map(({ name, template }: { name: string; template: string }) => [name, template]))
}

function checkMessages(messages: readonly ChatMessage[]): void {
  const expected = 'a list of one or more {role, content}'
  if (!Array.isArray(messages)) throw new TypeError(`chat: messages is ${describe(messages)}, expected ${expected}`)
  if (messages.length === 0) throw new RangeError(`chat: messages is [], expected ${expected}`)
  for (const [i, message] of messages.entries()) {
    if (!isObject(message)) {
      throw new TypeError(`chat: messages[${i}] is ${describe(message)}, expected {role, content}`)
    }
    for (const key of ['role', 'content'] as const) {
      if (typeof message[key] !== 'string') {
        throw new TypeError(`chat: messages[${i}].${key} is ${describe(message[key])}, expected a string`)
      }
    }
  }
}
