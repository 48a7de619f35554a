// What a model is asked to continue: text, a conversation or token ids; and the ids it comes to.

import { describe } from '../options.js'
import type { ChatMessage, ChatTemplate } from './chat.js'
import type { Tokenizer } from './tokenizer.js'

/** Text; a conversation, rendered by the model's chat template; or token ids, taken as they are. */
export type Prompt = string | readonly ChatMessage[] | readonly number[] | Int32Array

export interface PromptContext {
  folder: string
  tokenizer: Tokenizer | undefined
  chat: ChatTemplate
  bosId: number | undefined
  /** Tokens that prompt and output may have together. */
  context: number
}

/**
 * The token ids of a prompt, not yet held against a vocabulary.
 * @throws TypeError for anything else, and for text where there is no tokenizer
 */
export async function encodePrompt(prompt: Prompt, context: PromptContext): Promise<ArrayLike<number>> {
  const { folder, tokenizer, chat, bosId } = context
  const encode = (text: string, addSpecialTokens: boolean) => {
    // Encoding takes seconds for megabytes, in one thread for all: what cannot fit is not begun.
    const most = context.context * tokenizer!.longest
    if (text.length > most) {
      throw new RangeError(
        `generate: prompt is ${text.length} characters, expected at most ${most} (the context is ${context.context})`,
      )
    }
    return tokenizer!.encode(text, { addSpecialTokens })
  }
  const isText = typeof prompt === 'string'
  const isChat = Array.isArray(prompt) && prompt.length > 0 && prompt.every((item) => typeof item === 'object')
  if (!isText && !isChat) {
    if (prompt instanceof Int32Array || Array.isArray(prompt)) return prompt
    throw new TypeError(`generate: prompt is ${describe(prompt)}, expected text, messages or token ids`)
  }
  if (!tokenizer) {
    const found = isText ? 'text' : 'messages'
    throw new TypeError(`generate: prompt is ${found}, expected token ids: ${folder} has no tokenizer.json`)
  }
  if (!isText) return encode(chat.render(prompt as readonly ChatMessage[]), false)
  const ids = await encode(prompt, true)
  // The beginning of a text is a token too: a base model can write from nothing.
  return ids.length === 0 && bosId !== undefined ? [bosId] : ids
}
