// The emulator itself: every primitive in a small kernel that is right, on schedules of every kind, on one host thread
// and on several.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { compile, emulator, root } from './kernels.ts'

const seeds = [0, 1, 2, 3, 4, 5]
const files = emulator?.watches
  ? readdirSync(import.meta.dirname)
      .filter((name) => name.endsWith('.cu'))
      .sort()
  : []

afterAll(() => {
  emulator?.threads(0)
  emulator?.seed(0)
})

for (const name of files) {
  const file = join('test/simt', name)
  const { path, symbols } = await compile(file, readFileSync(join(root, file), 'utf8'))
  describe.each([1, 4])(`${name}, %i host threads`, (threads) => {
    test.each(symbols.filter((symbol) => !symbol.startsWith('_')))('%s', (check) => {
      emulator!.threads(threads)
      for (const seed of seeds) {
        emulator!.seed(seed)
        expect(emulator!.check(path, check), `seed ${seed}`).toBe('')
      }
    })
  })
}

if (files.length === 0) test.skip('needs an addon of the emulator that watches accesses', () => {})
