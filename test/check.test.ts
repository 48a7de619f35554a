// scripts/check.mjs can fail: every rule is broken once in a copy of the tree, and each breach is named.
import { execFileSync, spawnSync } from 'node:child_process'
import { appendFile, cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'

const root = join(import.meta.dirname, '..')
let tree: string

beforeAll(async () => {
  tree = await mkdtemp(join(tmpdir(), 'check-'))
  for (const name of ['csrc', 'lib', 'test', 'bench', 'examples', 'scripts', 'package.json', 'binding.d.ts']) {
    await cp(join(root, name), join(tree, name), { recursive: true, filter: (path) => !path.includes('golden') })
  }
})
afterAll(() => rm(tree, { recursive: true }))

const check = () => spawnSync(process.execPath, [join(root, 'scripts/check.mjs'), tree], { encoding: 'utf8' })

/** Files to plant, and what each line of them breaks. */
const plants: [file: string, lines: string[], failures: string[]][] = [
  ['csrc/layer.h', ['// A file.'], [':1: belongs to no layer of scripts/check.mjs']],
  [
    'csrc/cpu/simd/up.h',
    ['// A file.', '#include "tensor.h"', '#include "cpu/cpu.h"'],
    [':2: csrc/cpu/simd/ may not know csrc/tensor.h', ':3: csrc/cpu/simd/ may not know csrc/cpu/cpu.h'],
  ],
  ['csrc/cpu/up.h', ['// A file.', '#include "binding/call.h"'], [':2: csrc/cpu/ may not know csrc/binding/call.h']],
  ['csrc/cpu/across.cc', ['// A file.', '#include "cuda/up.cuh"'], [':2: csrc/cpu/ may not know csrc/cuda/up.cuh']],
  ['csrc/simt/up.h', ['// A file.', '#include "cpu/cpu.h"'], [':2: csrc/simt/ may not know csrc/cpu/cpu.h']],
  ['csrc/cuda/up.cuh', ['// A file.', '#include "cpu/cpu.h"'], [':2: csrc/cuda/ may not know csrc/cpu/cpu.h']],
  [
    'csrc/cpu/places.cc',
    [
      '// A file; a comment may name <thread> and asm().',
      '#include <napi.h>',
      'Napi::Value value;',
      '#include <cuda_runtime.h>',
      'asm volatile("nop");',
      '#include <immintrin.h>',
      '#include <mutex>',
      'if (name == "cuda") return;',
      'std::printf("%d", 1);',
      `// ${'TO'}DO`,
    ],
    [
      ':2: Node-API belongs to csrc/binding/',
      ':3: Node-API belongs to csrc/binding/',
      ':4: CUDA headers belong to csrc/cuda/ and csrc/simt/',
      ':5: assembly belongs to csrc/cuda/ptx.cuh, wgmma.cuh and the fibers of csrc/simt/',
      ':6: intrinsics belong to csrc/cpu/simd/',
      ':7: threads and locks belong to csrc/queue.h, csrc/cpu/parallel.cc and csrc/simt/',
      ':8: a device is asked for a property, not for its name',
      ':9: a library prints nothing and ends no process',
      ':10: a note to do something: do it, or open an issue',
    ],
  ],
  ['csrc/cpu/bare.h', ['#pragma once'], [':1: begins without a comment that says what the file is']],
  ['csrc/cpu/long.h', ['// A file.', ...Array(700).fill('')], [':701: has 701 lines, at most 700']],
  [
    'lib/model/up.ts',
    [
      '/** A file. */',
      "import { readFile } from 'node:fs/promises'",
      "import type { Checkpoint } from '../checkpoint/folder.js'",
      "import { load } from '../load.js'",
      'export {',
      "} from '../binding.js'",
      `await ${'import'}('../text/chat.js')`,
    ],
    [
      ':2: lib/model/ may not know node:fs/promises',
      ':3: lib/model/ may not know lib/checkpoint/folder.ts',
      ':4: lib/model/ may not know lib/load.ts',
      ':6: lib/model/ may not know lib/binding.ts',
      ':7: lib/model/ may not know lib/text/chat.ts',
    ],
  ],
  [
    'lib/checkpoint/up.ts',
    ['/** A file. */', "import { Mlp } from '../model/mlp.js'"],
    [':2: lib/checkpoint/ may not know lib/model/mlp.ts'],
  ],
  [
    'lib/text/places.ts',
    [
      '/** A file. */',
      'const { HOME } = process.env',
      "createRequire(import.meta.url)('node-gyp-build')",
      "if (device === 'cuda') use()",
      "if (config.family === 'llama') use()",
      "console.log('here')",
    ],
    [
      ':2: the environment is read in lib/binding.ts',
      ':3: the addon is loaded in lib/binding.ts',
      ':4: a device is asked for a property, not for its name',
      ':5: a model is asked for a property, not for its family',
      ':6: a library prints nothing and ends no process',
    ],
  ],
  ['lib/text/one.ts', ['/** A file. */', "import './two.js'"], []],
  [
    'lib/text/two.ts',
    ['/** A file. */', "import './one.js'"],
    [':2: a cycle: lib/text/one.ts -> lib/text/two.ts -> lib/text/one.ts'],
  ],
  [
    'examples/inside.mjs',
    ['// A file.', "import { scope } from '../lib/scope.ts'"],
    [':2: examples/ may not know lib/scope.ts'],
  ],
]

test('every rule names its breach', async () => {
  const before = new Set(check().stderr.split('\n'))
  for (const [file, lines] of plants) {
    await mkdir(dirname(join(tree, file)), { recursive: true })
    await writeFile(join(tree, file), `${lines.join('\n')}\n`)
  }
  const { status, stderr } = check()
  const said = stderr.split('\n').filter((line) => !before.has(line))
  const expected = plants.flatMap(([file, , failures]) => failures.map((text) => file + text))
  expect(said.sort()).toEqual(expected.sort())
  expect(status).toBe(1)
  for (const [file] of plants) await rm(join(tree, file))
})

test('a rule that names nothing is a breach', async () => {
  await rm(join(tree, 'lib/sampling.ts'))
  expect(check().stderr).toContain('scripts/check.mjs:1: names lib/sampling.ts, which is not there')
  await cp(join(root, 'lib/sampling.ts'), join(tree, 'lib/sampling.ts'))
})

test.runIf(process.arch === 'x64')('a weak symbol in a unit compiled for AVX is a breach', async () => {
  const objects = join(tree, 'build/CMakeFiles/simd.dir/csrc/cpu/simd')
  await mkdir(objects, { recursive: true })
  await appendFile(join(tree, 'weak.cc'), 'inline int shared() { return 1; }\nint use() { return shared(); }\n')
  for (const unit of ['avx2', 'avx512']) {
    execFileSync('c++', ['-c', '-O0', join(tree, 'weak.cc'), '-o', join(objects, `${unit}.cc.o`)])
  }
  expect(check().stderr).toContain('csrc/cpu/simd/avx2.cc:1: defines the weak symbol shared()')
  await rm(join(objects, 'avx2.cc.o'))
  expect(check().stderr).toMatch(/csrc\/cpu\/simd\/avx2\.cc:1: its symbols cannot be read: .*No such file/)
})
