// cuBLASLt in the place of the kernels here: the same results, from every product it can compute and no other. On `simt`
// it is the stand-in of simt/cublaslt.cc, which says whose a product was; on a GPU the library that doctor finds.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { DType } from '../binding.js'
import { binding } from '../dist/binding.js'
import { device, empty, emulatedCublasLt, onCpu, simt, tensor } from './device.ts'
import { cases } from './ops/cases.ts'
import { check } from './ops/run.ts'
import { Random } from './ops/spec.ts'

if (simt) binding.useCublasLt(emulatedCublasLt!)
const found = onCpu ? null : binding.gpus()!.cublasLt
const usable = found !== null
const statusOf = 'SIMT_CUBLASLT_STATUS' // what the stand-in's products come to

const whole = ['whole tiles', 'one less and one more']
const aligned = 'every row aligned'
const same = {
  linear: [`neither scale nor bias, ${aligned}`, `neither scale nor bias, ${aligned}, decode`, 'sums that cancel'],
  linearAdd: ['bf16 weights', ...whole],
  matmulNn: ['rows that pick columns', ...whole],
  matmulTn: ['rows that pick columns', ...whole],
  matmulTnAdd: ['rows that pick columns', ...whole],
  matmulTt: ['rows that pick columns', ...whole],
  fp8Linear: ['e4m3', 'e5m2'].flatMap((of) => {
    const name = `no bias, one scale, ${aligned}, ${of} by e4m3`
    return [name, `${name}, fast`, `${name}, decode`, `whole numbers, ${of} by e5m2, 20 rows`]
  }),
  fp8LinearAdd: [`whole numbers, one scale, ${aligned}`, 'whole numbers', ...whole],
} as const

beforeEach(() => {
  if (usable) binding.useKernels('cublaslt')
})

describe.skipIf(!usable)(`cuBLASLt: ${found ?? 'not found'}`, () => {
  describe.each(Object.entries(same))('%s', (name, list) => {
    const op = binding.ops.find((op) => op.name === name)!
    const spec = cases[op.name]
    test.each(list)('%s', async (name) => {
      const random = new Random(3)
      const inputs = spec.special?.[name]?.(random) ?? spec.make(spec.sizes[name]!, random)
      await check(op, spec, inputs, 'bf16')
    })
  })

  // As many shapes as are remembered and more; then the first again.
  test('sizes without end', async () => {
    const weight = tensor(new Float32Array(64).fill(1), 'bf16', [8, 8])
    const x = tensor(
      Float32Array.from({ length: 8 * 300 }, (_, i) => Math.floor(i / 8) % 16),
      'bf16',
      [300, 8],
    )
    for (const M of [...Array.from({ length: 300 }, (_, i) => i + 1), 1, 300]) {
      const y = binding.linear(x.rows(0, M), weight, undefined, undefined, false, 'f32')
      const last = (await y.rows(M - 1, M).read())[7]
      expect(last, `${M} rows`).toBe(8 * ((M - 1) % 16))
    }
  })

  test('rows apart, one of them or many', async () => {
    const wide = tensor(
      Float32Array.from({ length: 32 * 48 }, (_, i) => i % 7),
      'bf16',
      [32, 48],
    )
    const dense = (x: typeof wide) => binding.cast(x, 'bf16')
    const part = wide.columns(8, 40)
    for (const [a, b] of [
      [part, part.rows(3, 4)],
      [part.rows(3, 4), part],
      [part.rows(5, 29), part.rows(1, 9)],
    ] as const) {
      const [y, want] = await Promise.all([
        binding.matmulTn(a, a, 'f32').read(),
        binding.matmulTn(dense(a), dense(a), 'f32').read(),
      ])
      expect(y).toEqual(want)
      const [of, from] = [
        binding.linear(a, dense(b), undefined, undefined, false, 'f32'),
        binding.linear(dense(a), dense(b), undefined, undefined, false, 'f32'),
      ]
      expect(await of.read()).toEqual(await from.read())
    }
  })

  test('the first product of a device may be in a graph', async () => {
    const on = simt ? `${device}:1` : device
    const x = tensor(new Float32Array(256).fill(1), 'bf16', [16, 16], on)
    const y = empty('f32', [16, 16], on)
    for (let i = 0; i < 2; i++) {
      const graph = binding.capture(on, () => void binding.matmulNn(x, x, 'f32', y))
      for (let i = 0; i < 2; i++) {
        y.write(new Float32Array(256))
        graph.replay()
        expect(new Set(await y.read())).toEqual(new Set([16]))
      }
      graph.dispose()
    }
  })

  describe.skipIf(!simt)('whose a product is', () => {
    const zeros = (dtype: DType, ...shape: number[]) => {
      const bytes = { f32: 4, bf16: 2 }[dtype as string] ?? 1
      return tensor(new Uint8Array(shape.reduce((a, b) => a * b, bytes)), dtype, shape)
    }
    const one = () => tensor(Float32Array.of(1), 'f32', [1])
    const linear = (x: DType, weight: DType, to: 'f32' | 'bf16', M = 16, N = 32, K = 48) =>
      binding.linear(zeros(x, M, K) as never, zeros(weight, N, K) as never, undefined, undefined, false, to)
    const fp8 = (x: DType, weight: DType, M = 16, N = 32, K = 48, rows = 1, bias = false) =>
      binding.fp8Linear(
        zeros(x, M, K) as never,
        zeros('f32', rows) as never,
        zeros(weight, N, K) as never,
        one(),
        bias ? (zeros('f32', N) as never) : undefined,
        false,
        true,
        'bf16',
      )
    const matmul = (name: 'matmulNn' | 'matmulTn' | 'matmulTt', M: number, N: number, K: number) =>
      binding[name](
        zeros('bf16', ...(name === 'matmulNn' ? [M, K] : [K, M])) as never,
        zeros('bf16', ...(name === 'matmulTt' ? [N, K] : [K, N])) as never,
        'bf16',
      )

    const theirs = {
      'bf16 by bf16': () => linear('bf16', 'bf16', 'bf16'),
      'bf16 by bf16 to f32': () => linear('bf16', 'bf16', 'f32', 1, 4, 8),
      'a b': () => matmul('matmulNn', 3, 8, 16),
      "a' b": () => matmul('matmulTn', 8, 8, 3),
      "a' b'": () => matmul('matmulTt', 8, 8, 16),
      'e4m3 by e4m3': () => fp8('e4m3', 'e4m3'),
      'e5m2 by e4m3': () => fp8('e5m2', 'e4m3'),
      'e4m3 by e5m2': () => fp8('e4m3', 'e5m2'),
    }
    const ours = {
      'e5m2 by e5m2': () => fp8('e5m2', 'e5m2'),
      'M of fp8 is no multiple of 16': () => fp8('e4m3', 'e4m3', 24),
      'N of fp8 is no multiple of 16': () => fp8('e4m3', 'e4m3', 16, 24),
      'a scale for each row': () => fp8('e4m3', 'e4m3', 16, 32, 48, 16),
      'a bias, fp8': () => fp8('e4m3', 'e4m3', 16, 32, 48, 1, true),
      'no rows': () => fp8('e4m3', 'e4m3', 0),
      'f32 by bf16': () => linear('f32', 'bf16', 'f32'),
      'bf16 by f32': () => linear('bf16', 'f32', 'f32'),
      'bf16 by e4m3': () => linear('bf16', 'e4m3', 'bf16'),
      'rows of bf16 that are not aligned': () => linear('bf16', 'bf16', 'f32', 16, 32, 44),
      'rows of y that are not aligned': () => linear('bf16', 'bf16', 'bf16', 16, 12, 48),
      'nothing to sum': () => linear('bf16', 'bf16', 'f32', 16, 32, 0),
      "columns of a of a' b that are not aligned": () => matmul('matmulTn', 12, 8, 16),
      'a bias': () =>
        binding.linear(zeros('bf16', 16, 16) as never, zeros('bf16', 16, 16) as never, undefined, one8(), false, 'f32'),
      'a scale, bf16': () =>
        binding.linear(zeros('bf16', 16, 16) as never, zeros('bf16', 16, 16) as never, one(), undefined, false, 'f32'),
      relu2: () => {
        const [x, weight] = [zeros('bf16', 16, 16), zeros('bf16', 16, 16)] as never[]
        return binding.linearRelu2(x!, weight!, undefined, undefined, false, 1, 'f32')[0]
      },
    }
    const one8 = () => tensor(new Float32Array(16), 'f32', [16])

    beforeAll(() => {
      process.env[statusOf] = '13'
    })
    afterAll(() => {
      delete process.env[statusOf]
    })

    test.each(Object.entries(theirs))('theirs: %s', async (_, product) => {
      await expect(product().read()).rejects.toThrow(/^\w+: cublasLtMatmul: CUBLAS_STATUS_EXECUTION_FAILED$/)
      for (const gemm of ['own', 'portable', 'measured'] as const) {
        binding.useKernels(gemm)
        expect(new Set(await product().read()), gemm).toEqual(new Set([0]))
      }
    })

    test.each(Object.entries(ours))('ours: %s', async (_, product) => {
      const y = await product().read()
      expect(y.every((v) => v === 0)).toBe(true)
    })
  })
})

describe.skipIf(onCpu)('settings', () => {
  const load = (env: Record<string, string>) =>
    promisify(execFile)(process.execPath, ['--import', join(import.meta.dirname, '../dist/binding.js'), '-e', ''], {
      env: { ...process.env, ...env },
    }).then(
      () => '',
      ({ stderr }) => stderr as string,
    )

  test('what is no cuBLASLt is refused, and named', async () => {
    expect(await load({ NEMOTRON_H_CUBLASLT: '/nowhere/libcublasLt.so' })).toMatch(
      /NEMOTRON_H_CUBLASLT is '\/nowhere\/libcublasLt.so': \/nowhere\/libcublasLt.so: cannot open shared object file/,
    )
    expect(() => binding.useCublasLt('libm.so.6')).toThrow(/libm.so.6: undefined symbol: cublasLt\w+$/)
  })

  test('what does not multiply', async () => {
    expect(await load({ NEMOTRON_H_KERNELS: 'fast' })).toMatch("'fast', expected measured, own, portable or cublaslt")
    expect(() => binding.useKernels('' as 'own')).toThrow(TypeError)
    expect(await load({ NEMOTRON_H_OVERLAP: '1' })).toMatch(
      "NEMOTRON_H_OVERLAP is '1': useOverlap: overlap is '1', expected on or off",
    )
  })

  test.skipIf(!simt)('cuBLASLt is asked for and not there', async () => {
    const said = await load({ NEMOTRON_H_KERNELS: 'cublaslt' })
    expect(said).toMatch(
      /NEMOTRON_H_KERNELS is 'cublaslt': cuBLASLt is not found: libcublasLt.so.13: .*libcublasLt.so.12: /,
    )
    expect(await load({ NEMOTRON_H_KERNELS: 'cublaslt', NEMOTRON_H_CUBLASLT: emulatedCublasLt! })).toBe('')
  })
})

test.skipIf(usable || onCpu)('products by cuBLASLt: skipped, as none is found; NEMOTRON_H_CUBLASLT names one', () => {})
