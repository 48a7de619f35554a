// The package as a user has it: prebuilt and packed from a copy of the tree, installed by npm into an empty folder
// where no compiler is found, and used from there.
import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'

const root = join(import.meta.dirname, '..')
const prebuild = `linux-${process.arch}/nemotron-h.node`
// npm tells its scripts where it runs; the npm that a script starts in another folder would believe it.
const inherited = Object.entries(process.env).filter(
  ([name]) => !/^(npm_(?!config_(registry|cache))|NODE_|VITEST)/.test(name),
)
const environment: NodeJS.ProcessEnv = Object.fromEntries(inherited)

let temporary: string
let tree: string
let app: string
let installed: string
let bare: NodeJS.ProcessEnv // with no compiler, no CMake, no nvcc in its PATH
let packed: { filename: string; size: number; files: { path: string }[] }

async function run(command: string, args: string[], cwd: string, env: NodeJS.ProcessEnv = environment) {
  return promisify(execFile)(command, args, { cwd, env, maxBuffer: 2 ** 26 })
}
const tellError = `import('nemotron-h').catch((error) => console.log(error.message))`
const inApp = (...args: string[]) => run('node', args, app, bare)

// Stands before the compiler: takes the object files that `npm test` has just built from the same sources, which
// saves compiling everything twice. CMake, the linker, strip, prebuildify and npm do all they do for a release.
const launcher = `#!/bin/sh
for argument; do
  if [ "$previous" = -o ]; then object=$argument; fi
  if [ "$previous" = -c ]; then source=$argument; fi
  previous=$argument
done
if [ "${root}/build/$object" -nt "$source" ]; then cp "${root}/build/$object" "$object"; else exec "$@"; fi
`

async function copyTree() {
  const { stdout } = await run('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], root)
  for (const file of stdout.split('\0').filter((name) => name !== '')) {
    await mkdir(join(tree, dirname(file)), { recursive: true })
    await cp(join(root, file), join(tree, file), { preserveTimestamps: true }).catch(() => {}) // deleted, not committed
  }
  await symlink(join(root, 'node_modules'), join(tree, 'node_modules'))
}

async function hideCompilers(): Promise<NodeJS.ProcessEnv> {
  const bin = join(temporary, 'bin')
  await mkdir(bin)
  for (const name of ['node', 'npm', 'npx', 'sh', 'env', 'cat', 'cp', 'dirname', 'ls', 'mkdir', 'rm', 'sed', 'uname']) {
    const { stdout } = await run('which', [name], root)
    await symlink(stdout.trim(), join(bin, name))
  }
  const { CC: _, CXX, CUDACXX, CUDA_HOME, CUDA_PATH, ...rest } = environment
  return { ...rest, PATH: bin }
}

beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), 'package-'))
  tree = join(temporary, 'tree')
  app = join(temporary, 'app')
  installed = join(app, 'node_modules/nemotron-h')
  await copyTree()
  await writeFile(join(temporary, 'launcher'), launcher, { mode: 0o755 })
  await run('npm', ['run', 'prebuild'], tree, {
    ...environment,
    CMAKE_CXX_COMPILER_LAUNCHER: join(temporary, 'launcher'),
    CMAKE_CUDA_COMPILER_LAUNCHER: join(temporary, 'launcher'),
  })
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', temporary], tree)
  packed = JSON.parse(stdout.slice(stdout.indexOf('[\n')))[0]
  bare = await hideCompilers()
  await mkdir(app)
  const tarball = join(temporary, packed.filename)
  await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', tarball], app, bare)
}, 300_000)
afterAll(() => rm(temporary, { recursive: true, force: true }))

test('it holds what is needed to run and to build, and nothing else', async () => {
  const paths = packed.files.map(({ path }) => path)
  const expected = /^(csrc|demo\/model|dist|docs|examples)\/|^[\w.]+$/
  expect(paths.filter((path) => !expected.test(path) || path.endsWith('.map'))).toEqual([`prebuilds/${prebuild}`])
  expect(paths.filter((path) => !path.includes('/')).sort()).toEqual(
    ['CHANGELOG.md', 'CMakeLists.txt', 'LICENSE', 'README.md', 'binding.d.ts', 'package.json'].sort(),
  )
  const filesOf = async (folder: string) => {
    const entries = await readdir(join(tree, folder), { recursive: true, withFileTypes: true })
    return entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(tree.length + 1))
  }
  const modules = (await filesOf('lib')).filter((file) => file.endsWith('.ts')).map((file) => file.slice(4, -3))
  const built = modules.flatMap((name) => [`dist/${name}.js`, `dist/${name}.d.ts`])
  const sources = [...(await filesOf('csrc')), ...(await filesOf('demo/model')), ...built]
  expect(sources.filter((path) => !paths.includes(path))).toEqual([])
  expect(paths.filter((path) => path.startsWith('dist/')).length).toBe(built.length)
  expect(packed.size, 'bytes: the demo model, and kernels for three architectures').toBeLessThan(24e6)
})

test('installing compiled nothing', async () => {
  await expect(stat(join(installed, 'build'))).rejects.toThrow('ENOENT')
  await expect(run('c++', ['--version'], app, bare)).rejects.toThrow('ENOENT')
  const maps = `require('nemotron-h'); console.log(require('node:fs').readFileSync('/proc/self/maps', 'utf8'))`
  expect((await inApp('--eval', maps)).stdout).toContain(`${installed}/prebuilds/${prebuild}`)
})

test('import and require give the same', async () => {
  const names = (
    await inApp(
      '--input-type=module',
      '--eval',
      `import * as all from 'nemotron-h'; console.log(Object.keys(all).join())`,
    )
  ).stdout
  expect(names.trim().split(',')).toEqual(expect.arrayContaining(['load', 'ops', 'presets', 'scope', 'tensor']))
  const required = await inApp('--eval', `console.log(Object.keys(require('nemotron-h')).join())`)
  expect(required.stdout).toBe(names)
  expect(required.stderr).toBe('')
  await expect(inApp('--eval', `require('nemotron-h/dist/binding.js')`)).rejects.toThrow(
    'ERR_PACKAGE_PATH_NOT_EXPORTED',
  )
})

test("README's first program runs", async () => {
  const readme = await readFile(join(installed, 'README.md'), 'utf8')
  const program = readme
    .match(/```js\n(import \{ load \}[^`]*)```/)![1]!
    .replace(`'demo/model'`, JSON.stringify(join(installed, 'demo/model')))
  const { stdout, stderr } = await inApp('--input-type=module', '--eval', program)
  expect(stdout.length).toBeGreaterThan(100)
  expect(stderr).toBe('')
})

test('the command', async () => {
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
  expect((await run('npx', ['nemotron-h', '--version'], app, bare)).stdout.trim()).toBe(version)
})

test('the declarations are complete', async () => {
  const program = `import { load, ops, scope, tensor, type Piece, type Tensor } from 'nemotron-h'
const x: Tensor<'bf16'> = tensor(new Float32Array(4), 'bf16', [2, 2])
export const y: Promise<Float32Array> = scope(() => ops.relu2(x)).read()
export const pieces = async (): Promise<AsyncGenerator<Piece>> => (await load('folder')).generate('text', { topK: 3 })
// @ts-expect-error an option that is none
load('folder', { weight: 'fp8' })
`
  await writeFile(join(app, 'program.mts'), program)
  const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2023', '--lib', 'es2023,dom']
  await run(join(root, 'node_modules/.bin/tsc'), [...options, 'program.mts'], app)
})

test('with neither a prebuilt binary nor a compiler, it says what to do', async () => {
  await rename(join(installed, 'prebuilds'), join(temporary, 'prebuilds'))
  expect((await inApp('--eval', tellError)).stdout).toBe(
    `nemotron-h: the native addon for linux-${process.arch} did not load
  No native build was found for platform=linux arch=${process.arch} runtime=node abi=${process.versions.modules} uv=${process.versions.uv!.split('.')[0]} libc=glibc node=${process.versions.node}
  install again with scripts enabled (npm install, without --ignore-scripts); building needs CMake 3.24 and a C++20 compiler
`,
  )
  await expect(run('npm', ['rebuild', 'nemotron-h'], app, bare), 'and installing fails').rejects.toThrow(/cmake/i)
  await rename(join(temporary, 'prebuilds'), join(installed, 'prebuilds'))
})

test('a binary that does not fit is explained', async () => {
  const file = join(installed, 'prebuilds', prebuild)
  await rename(file, `${file}.kept`)
  await writeFile(file, 'not a library')
  expect((await inApp('--eval', tellError)).stdout).toBe(
    `nemotron-h: the native addon for linux-${process.arch} did not load
  ${file}: file too short
  the binary does not fit this system: build it here with \`npm_config_build_from_source=true npm rebuild nemotron-h\`, in a checkout with \`npm run compile\`
`,
  )
  await rename(`${file}.kept`, file)
})

test('npm_config_build_from_source builds even though the binary loads', async () => {
  await run('npm', ['rebuild', 'nemotron-h'], app, bare)
  const build = run('npm', ['rebuild', 'nemotron-h'], app, { ...bare, npm_config_build_from_source: 'true' })
  await expect(build, 'had it a compiler').rejects.toThrow(/cmake/i)
})
