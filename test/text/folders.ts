// Model folders for the text tests: the demo model's, and small ones written for a case. Also sees which
// tokenizer threads run, so that a test can hold that none is left.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Worker } from 'node:worker_threads'
import { afterAll, expect } from 'vitest'

export const demoFolder = new URL('../../demo/model', import.meta.url).pathname
export const demoTokenizer = JSON.parse(readFileSync(join(demoFolder, 'tokenizer.json'), 'utf8'))
export const demoExpected: { prompt: string; ids: number[]; greedy: number[]; text: string }[] = JSON.parse(
  readFileSync(join(demoFolder, 'expected.json'), 'utf8'),
)

const root = mkdtempSync(join(tmpdir(), 'nemotron-h-text-'))
afterAll(() => rmSync(root, { recursive: true }))
let folders = 0

/** A new folder with these files: strings as they are, everything else as JSON. */
export function modelFolder(files: Record<string, unknown>): string {
  const folder = join(root, String(folders++))
  mkdirSync(folder)
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content))
  }
  return folder
}

/**
 * A tokenizer in the manner of SentencePiece: "▁" for the space and one in front of the text, bytes for what the
 * vocabulary lacks, and a decoder that strips the first space.
 */
export function sentencePieceTokenizer(): Record<string, unknown> {
  const specials = ['<unk>', '<s>', '</s>']
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)
  const merges = [
    ['▁', 'h'],
    ['e', 'l'],
    ['l', 'o'],
    ['▁h', 'el'],
    ['▁hel', 'lo'],
    ['▁', '▁'],
  ]
  const pieces = ['▁', ...'abcdefghijklmnopqrstuvwxyz.', ...merges.map((pair) => pair.join(''))]
  const added = specials.map((content, id) => ({ id, content, special: true, normalized: false }))
  return {
    added_tokens: added,
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      unk_token: '<unk>',
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries([...specials, ...bytes, ...pieces].map((token, id) => [token, id])),
      merges,
    },
  }
}

const workers: Worker[] = []
process.on('worker', (worker: Worker) => workers.push(worker))

export function lastWorker(): Worker {
  return workers.at(-1)!
}

/** Every tokenizer thread started so far has ended, or does within a second. */
export async function expectNoThreads(): Promise<void> {
  await expect.poll(() => workers.filter((worker) => worker.threadId !== -1).length).toBe(0)
}
