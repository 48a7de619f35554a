// The demo model and what is expected of it, folders made from a model's, and a whole generation in one value.
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import type { Piece } from '../dist/index.js'

export const demoFolder = new URL('../demo/model', import.meta.url).pathname
export const goldenFolder = (name: string) => new URL(`golden/${name}`, import.meta.url).pathname

export interface Expected {
  prompt: string
  ids: number[]
  greedy: number[]
  logprobs: number[]
  text: string
}
export const demoExpected: [Expected, Expected, Expected] = JSON.parse(
  readFileSync(join(demoFolder, 'expected.json'), 'utf8'),
)

const root = mkdtempSync(join(tmpdir(), 'nemotron-h-'))
afterAll(() => rmSync(root, { recursive: true }))

/** A folder with the files of `source`, but these: strings as they are, undefined left out, all else as JSON. */
export function folderLike(source: string, files: Record<string, unknown>): string {
  const folder = mkdtempSync(join(root, 'model-'))
  for (const name of readdirSync(source)) {
    if (!Object.hasOwn(files, name)) symlinkSync(join(source, name), join(folder, name))
  }
  for (const [name, content] of Object.entries(files)) {
    if (content === undefined) continue
    writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content))
  }
  return folder
}

export interface Generated extends Piece {
  logprobs: NonNullable<Piece['logprobs']>
  pieces: Piece[]
}

/** All pieces of a generation as one: texts, ids and log-probabilities joined, the rest from the last. */
export async function collect(generation: AsyncIterable<Piece>): Promise<Generated> {
  const pieces: Piece[] = []
  for await (const piece of generation) pieces.push(piece)
  return {
    ...pieces.at(-1)!,
    text: pieces.map(({ text }) => text).join(''),
    ids: pieces.flatMap(({ ids }) => ids),
    logprobs: pieces.flatMap(({ logprobs = [] }) => logprobs),
    pieces,
  }
}

export const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
