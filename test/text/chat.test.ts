// Chat templates: the two published for Nemotron-H against strings written by hand, where templates are found,
// and what goes wrong.

import { describe, expect, it } from 'vitest'
import { ChatTemplate } from '../../dist/text/chat.js'
import { Tokenizer } from '../../dist/text/tokenizer.js'
import { demoFolder, modelFolder } from './folders.js'

// From Megatron-LM's sft_tokenizer.py, prompt format "nemotron-h-aligned".
const aligned = `{% for message in messages %}{% if message['role'] == 'system' %}{{ '<SPECIAL_10>System\\n' + message['content'].strip() + '\\n' }}{% elif message['role'] == 'user' %}{{ '<SPECIAL_11>User\\n' + message['content'].strip() + '\\n' + '<SPECIAL_11>Assistant\\n' }}{% elif message['role'] == 'assistant' %}{{ message['content'].strip() + '\\n' }}{% endif %}{% endfor %}`

// From the model card of Nemotron-H-8B-Reasoning-128K.
const reasoning = `{{ '<SPECIAL_10>System\\n' }}{%- if messages and messages[0]['role'] == 'system' -%}{{ messages[0]['content'].strip() }}{%- endif -%}{% for message in (messages[1:] if messages[0]['role'] == 'system' else messages) %}{%- if message['role'] == 'user' -%}{{ '\\n<SPECIAL_11>User\\n' + message['content'].strip() + '\\n<SPECIAL_11>Assistant\\n' }}{%- if loop.last -%}{%- if messages[0]['role'] == 'system' -%}{%- if "{'reasoning': True}" in messages[0]['content'] -%}{{ '<think>\\n' }}{%- elif "{'reasoning': False}" in messages[0]['content'] -%}{{ '<think></think>' }}{%- endif -%}{%- endif -%}{%- endif -%}{%- elif message['role'] == 'assistant' -%}{{ message['content'].strip() }}{%- endif -%}{%- endfor -%}`

const system = (content: string) => ({ role: 'system', content })
const user = (content: string) => ({ role: 'user', content })
const assistant = (content: string) => ({ role: 'assistant', content })
const withTemplate = (chat_template: unknown, config: object = {}) =>
  ChatTemplate.load(modelFolder({ 'tokenizer_config.json': { ...config, chat_template } }))

describe('the aligned template', () => {
  it('writes one turn and several', async () => {
    const chat = await withTemplate(aligned)
    expect(chat.render([user(' Hi! ')])).toBe('<SPECIAL_11>User\nHi!\n<SPECIAL_11>Assistant\n')
    expect(chat.render([system('Be brief.'), user('Hi!'), assistant('Hello.\n'), user('Who?')])).toBe(
      '<SPECIAL_10>System\nBe brief.\n<SPECIAL_11>User\nHi!\n<SPECIAL_11>Assistant\nHello.\n' +
        '<SPECIAL_11>User\nWho?\n<SPECIAL_11>Assistant\n',
    )
  })
})

describe('the reasoning template', () => {
  const cases: [string, Parameters<ChatTemplate['render']>[0], string][] = [
    ['automatic', [system(''), user('2+2?')], '<SPECIAL_10>System\n\n<SPECIAL_11>User\n2+2?\n<SPECIAL_11>Assistant\n'],
    ['without system', [user('2+2?')], '<SPECIAL_10>System\n\n<SPECIAL_11>User\n2+2?\n<SPECIAL_11>Assistant\n'],
    [
      'on',
      [system("{'reasoning': True}"), user('2+2?')],
      "<SPECIAL_10>System\n{'reasoning': True}\n<SPECIAL_11>User\n2+2?\n<SPECIAL_11>Assistant\n<think>\n",
    ],
    [
      'off',
      [system("Be brief. {'reasoning': False}"), user('2+2?')],
      "<SPECIAL_10>System\nBe brief. {'reasoning': False}\n<SPECIAL_11>User\n2+2?\n<SPECIAL_11>Assistant\n<think></think>",
    ],
    [
      'on, at the last turn only',
      [system("{'reasoning': True}"), user('2+2?'), assistant(' 4 '), user('3+3?')],
      "<SPECIAL_10>System\n{'reasoning': True}\n<SPECIAL_11>User\n2+2?\n<SPECIAL_11>Assistant\n4" +
        '\n<SPECIAL_11>User\n3+3?\n<SPECIAL_11>Assistant\n<think>\n',
    ],
  ]
  for (const [mode, messages, text] of cases) {
    it(`reasoning ${mode}`, async () => {
      expect((await withTemplate(reasoning)).render(messages)).toBe(text)
    })
  }
})

describe('templates', () => {
  const generation = '{% if add_generation_prompt %}A{% endif %}'

  it('ask for an answer unless told not to', async () => {
    const chat = await withTemplate(generation)
    expect(chat.render([user('')])).toBe('A')
    expect(chat.render([user('')], { addGenerationPrompt: false })).toBe('')
  })

  it('see the special tokens, as strings or objects, and variables', async () => {
    const chat = await withTemplate('{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ enable_thinking }}', {
      bos_token: '<s>',
      eos_token: { content: '</s>' },
    })
    expect(chat.render([user('')], { variables: { enable_thinking: false } })).toBe('<s>|</s>||false')
  })

  it('are encoded without a second beginning of sequence', async () => {
    const chat = await withTemplate('{{ bos_token }}{{ messages[0].content }}', { bos_token: '<s>' })
    using tokenizer = await Tokenizer.load(demoFolder)
    const ids = await tokenizer.encode(chat.render([user('God')]), { addSpecialTokens: false })
    expect(ids).toEqual(await tokenizer.encode('God'))
  })

  it('may be several, by name', async () => {
    const chat = await withTemplate([
      { name: 'default', template: 'one' },
      { name: 'rag', template: 'two' },
    ])
    expect(chat.names).toEqual(['default', 'rag'])
    expect(chat.render([user('')])).toBe('one')
    expect(chat.render([user('')], { template: 'rag' })).toBe('two')
    expect(() => chat.render([user('')], { template: 'tools' })).toThrow(
      /^chat: .* has no chat template 'tools', expected 'default' or 'rag'$/,
    )
  })

  it('may be a file, which goes before tokenizer_config.json', async () => {
    const files = { 'tokenizer_config.json': { chat_template: 'config' }, 'chat_template.jinja': 'file\n' }
    expect((await ChatTemplate.load(modelFolder(files))).render([user('')])).toBe('file')
    expect((await ChatTemplate.load(modelFolder({ 'chat_template.jinja': 'file' }))).render([user('')])).toBe('file')
  })
})

describe('bad input', () => {
  it('a folder without a template loads, and says so when one is needed', async () => {
    const folder = modelFolder({ 'tokenizer_config.json': {} })
    for (const each of [folder, demoFolder]) {
      const chat = await ChatTemplate.load(each)
      expect(chat.names).toEqual([])
      expect(() => chat.render([user('Hi')])).toThrow(
        `chat: ${each} has no chat template, expected chat_template.jinja or chat_template in tokenizer_config.json: ` +
          'add one, or pass a prompt instead',
      )
    }
  })

  it('malformed messages are named', async () => {
    const chat = await withTemplate(aligned)
    const render = (messages: unknown, options?: object) => () => chat.render(messages as never, options)
    const expected = 'expected a list of one or more {role, content}'
    expect(render('Hi')).toThrow(new TypeError(`chat: messages is 'Hi', ${expected}`))
    expect(render([])).toThrow(new RangeError(`chat: messages is [], ${expected}`))
    expect(render([user('a'), 'b'])).toThrow(new TypeError("chat: messages[1] is 'b', expected {role, content}"))
    expect(render([user('a'), { role: 'user' }])).toThrow(
      new TypeError('chat: messages[1].content is undefined, expected a string'),
    )
    expect(render([{ role: 7, content: 'a' }])).toThrow(new TypeError('chat: messages[0].role is 7, expected a string'))
    expect(render([user('a')], { addGenerationPromt: true })).toThrow(/did you mean 'addGenerationPrompt'\?/)
    expect(render([user('a')], { variables: 5 })).toThrow('chat: variables is 5, expected an object')
  })

  it("a template's own exception comes through", async () => {
    const chat = await withTemplate("{{ raise_exception('roles must alternate') }}")
    expect(() => chat.render([user('a')])).toThrow(/^chat: the template of .* failed: roles must alternate$/)
  })

  it('a template that cannot be parsed says so when it is used', async () => {
    const chat = await withTemplate('{% if %}')
    expect(() => chat.render([user('a')])).toThrow(/^chat: the template of .* cannot be parsed: /)
  })

  it('a template of another kind, or a broken file, is named', async () => {
    await expect(withTemplate(5)).rejects.toThrow(
      /tokenizer_config\.json: chat_template is 5, expected a string or a list of \{name, template\}$/,
    )
    await expect(withTemplate([{ name: 'default' }])).rejects.toThrow(/chat_template is \[an object\], expected/)
    const folder = modelFolder({ 'tokenizer_config.json': '{' })
    await expect(ChatTemplate.load(folder)).rejects.toThrow(/^ChatTemplate\.load: .*tokenizer_config\.json is not JSON/)
  })
})
