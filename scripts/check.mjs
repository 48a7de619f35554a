// Who may know whom, as tables, held against every include and import: `node scripts/check.mjs [FOLDER]`.
// Prints what breaks a rule as file:line and the rule, and exits 1. A rule that names nothing breaks one too.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, extname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = process.argv[2] ?? fileURLToPath(new URL('..', import.meta.url))

// What a backend is made of.
const device = ['csrc/dtype.h', 'csrc/tensor.h', 'csrc/device.h', 'csrc/pool.h', 'csrc/queue.h', 'csrc/trace.h']

// A file or folder, and what it may include or import beside itself. The longest name that fits a file counts.
const mayKnow = {
  'csrc/dtype.h': [],
  'csrc/tensor.h': ['csrc/dtype.h'],
  'csrc/pool.h': [],
  'csrc/pool.cc': ['csrc/pool.h'],
  'csrc/queue.h': [],
  'csrc/queue.cc': ['csrc/queue.h'],
  'csrc/trace.h': [],
  'csrc/device.h': ['csrc/tensor.h', 'csrc/pool.h', 'csrc/queue.h', 'csrc/trace.h'],
  'csrc/device.cc': ['csrc/device.h'],
  'csrc/signature.h': ['csrc/tensor.h'],
  'csrc/checks.h': ['csrc/tensor.h'],
  'csrc/random.h': ['csrc/dtype.h'],
  'csrc/ops.def': [],
  'csrc/ops.h': ['csrc/signature.h', 'csrc/ops.def'],
  'csrc/cpu/simd/': ['csrc/dtype.h'],
  'csrc/cpu/': [...device, 'csrc/ops.h', 'csrc/checks.h', 'csrc/random.h', 'csrc/cpu/simd/simd.h'],
  'csrc/cuda/': [...device, 'csrc/ops.h', 'csrc/checks.h', 'csrc/random.h', 'csrc/simt/simt.h'],
  'csrc/simt/': ['csrc/dtype.h'], // of CUDA, its headers: what it runs it does not know
  'csrc/binding/': ['csrc/'],

  'lib/binding.ts': ['binding.d.ts', 'node:module', 'node:path', 'node:url'],
  'lib/options.ts': [],
  'lib/async-generator.ts': [],
  'lib/tensor.ts': ['binding.d.ts', 'lib/binding.ts', 'node:util'],
  'lib/device.ts': ['binding.d.ts', 'lib/binding.ts', 'node:util'],
  'lib/trace.ts': ['lib/binding.ts', 'lib/tensor.ts', 'lib/device.ts'],
  'lib/scope.ts': ['lib/binding.ts', 'lib/tensor.ts'],
  'lib/ops.ts': ['binding.d.ts', 'lib/binding.ts'],
  'lib/model/': ['lib/tensor.ts', 'lib/scope.ts', 'lib/ops.ts'], // no file, and no other Node.js module
  'lib/checkpoint/': [
    'binding.d.ts',
    'lib/binding.ts',
    'lib/options.ts',
    'lib/tensor.ts',
    'lib/ops.ts',
    'lib/scope.ts', // random weights are made of intermediate ones
    'lib/model/config.ts', // what a folder describes, and the two things it fills; of layers, nothing
    'lib/model/layer.ts',
    'lib/model/linear.ts',
    'node:fs/promises',
    'node:path',
  ],
  'lib/text/': [
    'lib/options.ts',
    'node:fs/promises',
    'node:path',
    'node:worker_threads',
    '@huggingface/jinja',
    '@huggingface/tokenizers',
  ],
  'lib/sampling.ts': ['lib/tensor.ts', 'lib/ops.ts'],
  'lib/decode.ts': ['lib/tensor.ts', 'lib/scope.ts', 'lib/ops.ts', 'lib/device.ts', 'lib/model/', 'lib/sampling.ts'],
  'lib/scheduler.ts': [
    'lib/async-generator.ts',
    'lib/tensor.ts',
    'lib/scope.ts',
    'lib/ops.ts',
    'lib/model/',
    'lib/sampling.ts',
    'lib/decode.ts',
    'lib/trace.ts',
  ],
  'lib/generate.ts': [
    'node:events',
    'lib/options.ts',
    'lib/async-generator.ts',
    'lib/checkpoint/folder.ts',
    'lib/text/',
    'lib/sampling.ts',
    'lib/scheduler.ts',
  ],
  'lib/plan.ts': ['lib/model/config.ts'], // arithmetic: where no addon loads, too
  'lib/load.ts': ['lib/'],
  'lib/index.ts': ['lib/'],
  'lib/doctor.ts': ['binding.d.ts'],
  'lib/cli/': ['lib/', 'package.json', 'node:', 'commander', 'cli-progress'],

  'test/': ['csrc/', 'dist/', 'binding.d.ts', 'nemotron-h', 'node:', 'vitest', 'fast-check'],
  'bench/': ['csrc/', 'dist/', 'binding.d.ts', 'nemotron-h', 'node:', 'tinybench', 'echarts'],
  'examples/': ['nemotron-h', 'node:'], // what a user has
  'scripts/': ['node:'],
}

const names = 'cpu|cuda|simt'
// What may stand in code only in some places.
const onlyIn = [
  {
    what: 'Node-API belongs to csrc/binding/',
    pattern: /<(napi|node_api|js_native_api)\b|\bNapi::|\bnapi_\w/,
    among: 'csrc/',
    places: ['csrc/binding/'],
  },
  {
    what: 'CUDA headers belong to csrc/cuda/ and csrc/simt/',
    pattern: /<(cuda|cublas|cooperative_groups|nv\/|nvrtc|nvtx)/,
    among: 'csrc/',
    places: ['csrc/cuda/', 'csrc/simt/'],
  },
  {
    what: 'assembly belongs to csrc/cuda/ptx.cuh, wgmma.cuh and the fibers of csrc/simt/',
    pattern: /\b(asm|__asm__|__asm)\b\s*(volatile|__volatile__)?\s*\(/,
    among: 'csrc/',
    places: ['csrc/cuda/ptx.cuh', 'csrc/cuda/wgmma.cuh', 'csrc/simt/'],
  },
  {
    what: 'intrinsics belong to csrc/cpu/simd/',
    pattern: /<\w*intrin\.h>|<arm_neon\.h>/,
    among: 'csrc/',
    places: ['csrc/cpu/simd/'],
  },
  {
    what: 'threads and locks belong to csrc/queue.h, csrc/cpu/parallel.cc and csrc/simt/',
    pattern: /<(thread|mutex|shared_mutex|condition_variable|future|semaphore|latch|barrier)>/,
    among: 'csrc/',
    places: ['csrc/queue.h', 'csrc/cpu/parallel.cc', 'csrc/simt/'],
  },
  {
    what: 'a device is asked for a property, not for its name',
    pattern: new RegExp(`([=!]==?|case)\\s*(['"])(${names})\\2|(['"])(${names})\\4\\s*([=!]==?|sv\\b)`),
    among: 'csrc/',
    places: ['csrc/binding/'],
  },
  {
    what: 'a device is asked for a property, not for its name',
    pattern: new RegExp(`([=!]==|case)\\s*'(${names})'|'(${names})'\\s*[=!]==`),
    among: 'lib/',
    places: ['lib/binding.ts'],
  },
  {
    what: 'a model is asked for a property, not for its family',
    pattern: /'(nemotron_h|llama|qwen2|\w+ForCausalLM)'/,
    among: 'lib/',
    places: ['lib/checkpoint/', 'lib/model/config.ts', 'lib/model/presets.ts'],
  },
  {
    what: 'the environment is read in lib/binding.ts',
    pattern: /process\.env\b/,
    among: 'lib/',
    places: ['lib/binding.ts'],
  },
  {
    what: 'the addon is loaded in lib/binding.ts',
    pattern: /node-gyp-build|\.node['"`]|\bdlopen\b|\bcreateRequire\b/,
    among: 'lib/',
    places: ['lib/binding.ts'],
  },
  {
    what: 'a library prints nothing and ends no process',
    pattern: /\bconsole\.|\bprocess\.(stdout|stderr|exit|exitCode)\b/,
    among: 'lib/',
    places: ['lib/cli/'],
  },
  {
    what: 'a library prints nothing and ends no process',
    pattern: /\bstd::(cout|cerr|clog)\b|\bf?printf\(|\b(exit|abort)\(/,
    among: 'csrc/',
    places: [],
  },
]

const maxLines = 700
const folders = ['csrc', 'lib', 'test', 'bench', 'examples', 'scripts']
const isSource = /\.(cc|h|inc|def|cu|cuh|ts|mjs|py|sh)$/

const files = folders
  .flatMap((folder) => readdirSync(join(root, folder), { recursive: true }).map((name) => `${folder}/${name}`))
  .filter((name) => isSource.test(name) && !name.startsWith('test/golden/'))
const linesOf = Object.fromEntries(files.map((file) => [file, readFileSync(join(root, file), 'utf8').split('\n')]))
const { dependencies, devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

const failures = []
const fail = (file, line, text) => failures.push(`${file}:${line}: ${text}`)

const covers = (place, name) => (/[/:]$/.test(place) ? name.startsWith(place) : name === place)
const layerOf = (file) =>
  Object.keys(mayKnow)
    .filter((layer) => covers(layer, file))
    .sort((a, b) => b.length - a.length)[0]
const isComment = (line) => /^\s*(\/\/|\/?\*)/.test(line)

/** The file of the tree, or the package, that a line includes or imports. */
function target(file, line) {
  const include = line.match(/^\s*#\s*include\s+"([^"]+)"/)?.[1]
  if (include) return [join(dirname(file), include), `csrc/${include}`].find((name) => linesOf[name]) ?? include
  const module = line.match(/^(?:import|export|\}).*\bfrom '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/)
  const name = module?.[1] ?? module?.[2] ?? module?.[3]
  if (!name?.startsWith('.')) return name
  const path = normalize(join(dirname(file), name))
  const stem = path.slice(0, -extname(path).length)
  return [path, `${stem}.ts`, `${stem}.d.ts`].find((name) => existsSync(join(root, name))) ?? path
}

function checkLayers() {
  for (const file of files) {
    const layer = layerOf(file)
    if (!layer) fail(file, 1, 'belongs to no layer of scripts/check.mjs')
    for (const { line, to } of knows[file]) {
      const allowed = layer && (layerOf(to) === layer || mayKnow[layer].some((place) => covers(place, to)))
      if (!allowed) fail(file, line, `${layer} may not know ${to}`)
    }
  }
}

function checkCycles() {
  const done = new Set()
  const visit = (file, path) => {
    if (done.has(file)) return
    for (const { line, to } of knows[file]) {
      const start = [...path, file].indexOf(to)
      if (start >= 0) fail(file, line, `a cycle: ${[...path, file].slice(start).join(' -> ')} -> ${to}`)
      else if (knows[to]) visit(to, [...path, file])
    }
    done.add(file)
  }
  for (const file of files) visit(file, [])
}

function checkPlaces() {
  for (const { what, pattern, among, places } of onlyIn) {
    for (const file of files.filter((name) => covers(among, name) && !places.some((place) => covers(place, name)))) {
      linesOf[file].forEach((line, i) => {
        if (!isComment(line) && pattern.test(line)) fail(file, i + 1, what)
      })
    }
  }
}

function checkForm() {
  for (const file of files) {
    const lines = linesOf[file]
    const [first, second] = lines
    const head = first.startsWith('#!') ? second : first
    // The head comment of a file beside its header stands in the header.
    const header = [file.replace(/\.(cc|cu)$/, '.h'), file.replace(/\.cu$/, '.cuh')].find((name) => linesOf[name])
    const ownHeader = header && first === `#include "${header.replace('csrc/', '')}"`
    if (!ownHeader && !/^(\/\/|\/\*|# |""")/.test(head)) {
      fail(file, 1, 'begins without a comment that says what the file is')
    }
    if (lines.length - 1 > maxLines) fail(file, maxLines + 1, `has ${lines.length - 1} lines, at most ${maxLines}`)
    lines.forEach((line, i) => {
      if (/\b([T]ODO|[F]IXME|[X]XX)\b/.test(line)) fail(file, i + 1, 'a note to do something: do it, or open an issue')
    })
  }
}

/**
 * A weak symbol of a unit compiled for AVX may be the copy of a common inline function that the linker keeps, and
 * then runs on every processor.
 */
function checkWeakSymbols() {
  const objects = 'build/CMakeFiles/simd.dir/'
  if (!existsSync(join(root, objects)) || process.arch !== 'x64') return
  const units = files.filter((file) => /^csrc\/cpu\/simd\/avx\w*\.cc$/.test(file))
  if (units.length === 0) fail('scripts/check.mjs', 1, 'finds no unit compiled for AVX')
  for (const file of units) {
    const { status, stdout, stderr, error } = spawnSync('nm', ['--demangle', join(root, `${objects}${file}.o`)])
    if (status !== 0) fail(file, 1, `its symbols cannot be read: ${error?.message ?? stderr}`)
    for (const [, symbol] of `${stdout}`.matchAll(/ [WVu] (.+)/g)) fail(file, 1, `defines the weak symbol ${symbol}`)
  }
}

function checkTables() {
  const exists = (place) =>
    files.some((file) => covers(place, file)) ||
    /^node:|^dist\/$|^nemotron-h$/.test(place) ||
    { ...dependencies, ...devDependencies }[place] ||
    (!place.endsWith('/') && existsSync(join(root, place)))
  const places = new Set([
    ...Object.entries(mayKnow).flat(2),
    ...onlyIn.flatMap(({ among, places }) => [among, ...places]),
  ])
  for (const place of places) {
    if (!exists(place)) fail('scripts/check.mjs', 1, `names ${place}, which is not there`)
  }
}

const knows = Object.fromEntries(
  files.map((file) => [
    file,
    linesOf[file].map((line, i) => ({ line: i + 1, to: target(file, line) })).filter(({ to }) => to),
  ]),
)
for (const check of [checkLayers, checkCycles, checkPlaces, checkForm, checkWeakSymbols, checkTables]) check()
if (failures.length > 0) {
  console.error(failures.join('\n'))
  process.exit(1)
}
