// The CUDA kernels on the CPU: `npm run test:simt [-- --reports FOLDER] [--sanitize PART] [-- vitest arguments]`. Builds
// the emulator twice: watching every access, with all tests and the planted bugs; and under AddressSanitizer and UBSan,
// with the ops (of which 1/2 means the second of every two) and models. Needs the headers of CUDA, and says so where
// there are none. --reports: vitest's JSON for each run, as simt-NAME.json.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = fileURLToPath(new URL('..', import.meta.url))
const { values, positionals } = parseArgs({
  options: { reports: { type: 'string' }, sanitize: { type: 'string', default: '0/1' } },
  allowPositionals: true,
})
const reports = resolve(values.reports ?? join(tmpdir(), `nemotron-h-simt-${process.pid}`))
mkdirSync(reports, { recursive: true })

function run(command, args, env = {}) {
  const { status } = spawnSync(command, args, { cwd: root, env: { ...process.env, ...env }, stdio: 'inherit' })
  return status === 0
}

function stop(code, text) {
  console.log(`test:simt: ${text}`)
  process.exit(code)
}

/** Builds the addon of the emulator; false where the toolkit is missing. */
function build(name, ...options) {
  const folder = `build/${name}`
  const configure = spawnSync('cmake', ['-S', '.', '-B', folder, '-DNEMOTRON_H_SIMT=ON', ...options], {
    cwd: root,
    encoding: 'utf8',
  })
  if (configure.status !== 0) stop(1, `cmake fails: ${configure.stderr ?? configure.error}`)
  const without = /nemotron-h: (.*): building for the CPU only/.exec(configure.stdout)
  if (without) stop(0, `skipped: ${without[1]}`)
  const built = run('cmake', ['--build', folder, '--target', 'simt', '--parallel', `${availableParallelism()}`])
  if (!built) stop(1, `${folder} does not build`)
}

const total = { passed: 0, failed: 0 }

function test(name, build, files, env = {}) {
  console.log(`\ntest:simt: ${name}`)
  const report = join(reports, `simt-${name}.json`)
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
  const chosen = files.map((file) => `test/${file}`)
  const passed = run('npx', ['vitest', 'run', ...reporters, ...chosen, ...positionals], {
    NEMOTRON_H_ADDON: join(root, `build/${build}/nemotron_h.node`),
    NEMOTRON_H_TEST_DEVICE: 'simt',
    ...env,
  })
  const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(report, 'utf8'))
  total.passed += numPassedTests
  total.failed += numFailedTests
  if (!passed && numFailedTests === 0) total.failed++ // a file that does not load
}

build('simt', '-DCMAKE_BUILD_TYPE=Release')
build('simt-asan', '-DNEMOTRON_H_SANITIZE=ON', '-DCMAKE_BUILD_TYPE=Release', '-DCMAKE_CXX_FLAGS_RELEASE=-O1')

const kernels = ['sequence-ops.test.ts', 'ops.test.ts', 'golden.test.ts']
test('watched', 'simt', [
  ...kernels,
  'ops/',
  'device.test.ts',
  'devices.test.ts',
  'cublaslt.test.ts',
  'bench.test.ts',
  'decode.test.ts',
  'trace.test.ts',
  'simt/',
])
// Node itself is not built with the sanitizer, whose run-time library has to come first.
const libraries = ['libasan.so', 'libubsan.so'].map((name) =>
  execFileSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim(),
)
test('sanitized', 'simt-asan', kernels, {
  NEMOTRON_H_OPS: values.sanitize,
  LD_PRELOAD: libraries.join(' '),
  ASAN_OPTIONS: 'detect_leaks=0',
  UBSAN_OPTIONS: 'print_stacktrace=1',
})

stop(total.failed > 0 ? 1 : 0, `${total.passed} passed, ${total.failed} failed`)
