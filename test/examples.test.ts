// The examples and the README's programs do what they say.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const root = new URL('..', import.meta.url).pathname
const expected = JSON.parse(readFileSync(`${root}demo/model/expected.json`, 'utf8'))
const node = (...args: string[]) => promisify(execFile)(process.execPath, args, { cwd: root })

test('every example has a test here', () => {
  expect(readdirSync(`${root}examples`)).toEqual(['generate.mjs', 'perplexity.mjs', 'server.mjs'])
})

test('generate', async () => {
  const { prompt, text } = expected[0]
  const { stdout } = await node('examples/generate.mjs', 'demo/model', prompt)
  expect(stdout).toContain(prompt + text)
  expect(stdout).toMatch(/\[length, 48 tokens\]\n$/)
})

test('perplexity', async () => {
  const perplexity = async (...args: string[]) =>
    Number(/^perplexity ([\d.]+) over \d+ tokens\n$/.exec((await node('examples/perplexity.mjs', ...args)).stdout)?.[1])
  const psalm = await perplexity()
  const shuffled = await perplexity('demo/model', 'shall want not shepherd my LORD is; The I.')
  expect(psalm).toBeGreaterThan(1)
  expect(shuffled).toBeGreaterThan(2 * psalm)
})

test('server', async () => {
  const server = spawn(process.execPath, ['examples/server.mjs', 'demo/model', '0'], { cwd: root })
  try {
    const [line] = await once(server.stdout, 'data')
    const url = `http://localhost:${/(\d+)\n$/.exec(String(line))![1]}`
    const ask = async (body: string) => (await fetch(url, { method: 'POST', body })).text()
    const [one, two] = await Promise.all([ask(expected[0].prompt), ask(expected[1].prompt)])
    expect(one.startsWith(expected[0].text)).toBe(true)
    expect(two.startsWith(expected[1].text)).toBe(true)

    const tooLong = await fetch(url, { method: 'POST', body: 'word '.repeat(10_000) })
    expect(tooLong.status).toBe(400)
    expect(await tooLong.text()).toMatch(/^generate: prompt is \d+ tokens, expected at most 4095 /)

    const gone = new AbortController()
    const response = await fetch(url, { method: 'POST', body: expected[2].prompt, signal: gone.signal })
    gone.abort()
    await expect(response.text()).rejects.toThrow()
    expect((await ask(expected[2].prompt)).startsWith(expected[2].text)).toBe(true)
  } finally {
    server.kill()
  }
  const [code] = await once(server, 'exit')
  expect(code).toBe(0)
})

test('the first program and the tensor program of the README', async () => {
  const programs = [...readFileSync(`${root}README.md`, 'utf8').matchAll(/```js\n([\s\S]*?)```/g)].map(
    (match) => match[1]!,
  )
  const [first, , , tensors] = programs
  const { stdout } = await node('--input-type=module', '-e', first!)
  expect(stdout.length).toBeGreaterThan(100)
  const { stdout: numbers } = await node('--input-type=module', '-e', tensors!)
  expect(numbers).toContain('Float32Array(4)')
})
