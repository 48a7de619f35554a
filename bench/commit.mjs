// Which commit a bench measures: of the tree it stands in, or as a bundle (scripts/offline-bundle) says it in a file.
import { spawnSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Its first ten digits, with -dirty where files were changed since; 'unknown' where nothing tells. */
export async function commit() {
  const cwd = fileURLToPath(new URL('..', import.meta.url))
  const { status, stdout } = spawnSync('git', ['describe', '--always', '--dirty', '--abbrev=10', '--exclude=*'], {
    cwd,
  })
  if (status === 0) return `${stdout}`.trim()
  return (await readFile(join(cwd, 'commit'), 'utf8').catch(() => 'unknown')).trim()
}
