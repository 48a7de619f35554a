// The Python programs of this folder, for benches that compare with PyTorch.
import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'

/** What `script`, given `asked` as JSON, answers in JSON; null without python3, or if it fails or is not done in `ms`. */
export async function python(script, asked, ms) {
  const child = spawn('python3', [fileURLToPath(new URL(script, import.meta.url))], {
    stdio: ['pipe', 'pipe', 'inherit'],
    timeout: ms,
  })
  const failed = new Promise((resolve) => child.on('error', resolve)) // no python3
  child.stdin.on('error', () => {}).end(JSON.stringify(asked))
  const answer = await Promise.race([text(child.stdout), failed])
  try {
    return JSON.parse(answer)
  } catch {
    return null
  }
}
