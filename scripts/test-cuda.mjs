// The tests that any device can run, on the first GPU: `npm run test:cuda [-- --sanitize] [-- vitest arguments]`.
// With --sanitize the ops and the golden models run under compute-sanitizer, each of its tools in turn (--tool NAME for
// one of them), which is some hundred times slower. Exits 1 with the reason where there is no GPU.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = fileURLToPath(new URL('..', import.meta.url))
const vitest = join(root, 'node_modules/vitest/vitest.mjs')
const kernels = ['sequence-ops.test.ts', 'ops.test.ts', 'ops/', 'golden.test.ts']
const rest = [
  'cublaslt',
  'decode',
  'trace',
  'device',
  'bench',
  'load',
  'forward',
  'generate',
  'scheduler',
  'lifetime',
  'worker',
  'event-loop',
]
const tools = ['memcheck', 'racecheck', 'synccheck']

const { values, positionals } = parseArgs({
  options: { sanitize: { type: 'boolean' }, tool: { type: 'string', multiple: true } },
  allowPositionals: true,
})

function stop(reason) {
  console.error(`test:cuda: ${reason}`)
  process.exit(1)
}

/** Runs to the end, shows what is printed, and gives it back with the exit code. */
async function run(command, args, env) {
  const child = spawn(command, args, {
    cwd: root,
    env: { ...process.env, NEMOTRON_H_TEST_DEVICE: 'cuda', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  child.stdout.on('data', (chunk) => {
    text += chunk
    process.stdout.write(chunk)
  })
  const code = await new Promise((resolve, reject) => child.once('close', resolve).once('error', reject))
  return { code, text }
}

// One file after the other: some tests look at how much memory of the GPU is free.
const testsOf = (files) => [
  vitest,
  'run',
  '--no-file-parallelism',
  ...files.map((name) => `test/${name}`),
  ...positionals,
]

const doctor = spawnSync(process.execPath, [join(root, 'dist/cli/main.js'), 'doctor', '--json'], { encoding: 'utf8' })
if (doctor.status !== 0) stop(`doctor failed: ${doctor.stderr.trim()}`)
const { ready, advice } = JSON.parse(doctor.stdout)
if (!ready.cuda) stop(advice.join(' '))

if (!values.sanitize) {
  process.exit((await run(process.execPath, testsOf([...kernels, ...rest]))).code)
}

const folders = [...process.env.PATH.split(delimiter), join(process.env.CUDA_HOME ?? '/usr/local/cuda', 'bin')]
const sanitizer = folders.map((folder) => join(folder, 'compute-sanitizer')).find(existsSync)
if (!sanitizer) stop('compute-sanitizer is not in PATH or CUDA_HOME/bin, expected the one of the CUDA toolkit')
for (const tool of values.tool ?? tools) {
  const args = ['--tool', tool, '--target-processes', 'all', process.execPath, ...testsOf(kernels)]
  const { code, text } = await run(sanitizer, [...args, '--testTimeout=600000'], { NEMOTRON_H_TEST_REPEATS: '1' })
  // Tests are in processes of their own, whose exit codes do not come through; their summaries do.
  if (code !== 0 || /SUMMARY: [1-9]/.test(text)) stop(`${tool}: exit code ${code}, or errors in its summaries above`)
}
