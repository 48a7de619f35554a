// The C++ test of the CPU's inner loops, built and run.
import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'

const root = new URL('..', import.meta.url).pathname

test('simd_test', { timeout: 180_000 }, () => {
  execFileSync('cmake', ['--build', 'build', '--target', 'simd_test'], { cwd: root })
  const output = execFileSync('build/simd_test', { cwd: root, encoding: 'utf8' })
  expect(output).toMatch(/(^|\n)[1-9]\d* passed, 0 failed\n$/)
})
