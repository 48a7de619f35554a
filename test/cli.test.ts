// The command as a user runs it: a child process, its output, its exit code. And what doctor concludes from machines
// that this one is not.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, describe, expect, test } from 'vitest'
import type { GpuDevice, Gpus } from '../binding.js'
import { readHeader } from '../dist/checkpoint/safetensors.js'
import { diagnose, type Probe, reportLines } from '../dist/doctor.js'

const root = new URL('..', import.meta.url).pathname
const demo = join(root, 'demo/model')
const hub = join(root, 'test/golden/nemotron-h-hub') // without tokenizer
const scratch = mkdtempSync(join(tmpdir(), 'nemotron-h-cli-'))
afterAll(() => rmSync(scratch, { recursive: true }))

const start = (...args: string[]) => spawn(process.execPath, [join(root, 'dist/cli/main.js'), ...args])

async function run(args: string[], input = '') {
  const child = start(...args)
  child.stdin.end(input)
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  return { stdout, stderr, code }
}

/** What a run that succeeds prints, with nothing on standard error. */
async function printed(args: string[], input = ''): Promise<string> {
  const { stdout, stderr, code } = await run(args, input)
  expect({ stderr, code }).toEqual({ stderr: '', code: 0 })
  return stdout
}

const readJson = (path: string) => JSON.parse(readFileSync(path, 'utf8'))
const printedJson = async (args: string[], input = '') => JSON.parse(await printed([...args, '--json'], input))

interface Expected {
  prompt: string
  ids: number[]
  greedy: number[]
  logprobs: number[]
  text: string
}

describe('generate', () => {
  const expected: Expected[] = readJson(join(demo, 'expected.json'))
  const [first] = expected as [Expected]
  const generate = ['generate', demo, '--max-tokens', `${first.greedy.length}`]

  test.each(expected)('--json: the tokens of transformers after $prompt', async ({ prompt, ids, greedy, ...want }) => {
    const got = await printedJson([...generate, '--prompt', prompt, '--logprobs', '1'])
    expect(Object.keys(got)).toEqual(['ids', 'text', 'finishReason', 'usage', 'timings', 'logprobs'])
    expect(got).toMatchObject({ ids: greedy, text: want.text, finishReason: 'length' })
    expect(got.usage).toEqual({ promptTokens: ids.length, completionTokens: greedy.length })
    expect(Object.keys(got.timings)).toEqual(['queue', 'prefill', 'decode'])
    // Half a unit of the four decimals in the file, and the 1e-4 that logits may differ by.
    got.logprobs.forEach(({ logprob }: { logprob: number }, i: number) => {
      expect(Math.abs(logprob - want.logprobs[i]!), `token ${i}`).toBeLessThan(1.5e-4)
    })
  })

  test('streams the text, and ends its line', async () => {
    expect(await printed([...generate, '--prompt', first.prompt])).toBe(`${first.text}\n`)
  })

  test('--prompt - is standard input without its last line break; --ids takes token ids', async () => {
    expect(await printed([...generate, '--prompt', '-'], `${first.prompt}\n`)).toBe(`${first.text}\n`)
    expect(await printed([...generate, '--ids', JSON.stringify(first.ids)])).toBe(`${first.text}\n`)
  })

  test('prints ids where the model has no tokenizer', async () => {
    const [{ prompt, greedy }] = readJson(join(hub, 'expected.json'))
    const args = ['generate', hub, '--ids', JSON.stringify(prompt), '--max-tokens', '8']
    expect(await printed(args)).toBe(`${greedy.slice(0, 8).join(' ')}\n`)
  })

  test('--chat, --system and --messages go through the chat template', async () => {
    const folder = mkdtempSync(join(scratch, 'chat-'))
    for (const file of ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']) {
      symlinkSync(join(demo, file), join(folder, file))
    }
    writeFileSync(
      join(folder, 'chat_template.jinja'),
      '{{ bos_token }}{% for m in messages %}{{ m.content }}\n{% endfor %}',
    )
    const messages = join(folder, 'messages.json')
    writeFileSync(messages, '[{"role":"system","content":"Ge 1"},{"role":"user","content":"In the"}]')
    const wanted = await printedJson(['generate', demo, '--max-tokens', '9', '--prompt', 'Ge 1\nIn the\n'])
    const short = ['generate', folder, '--max-tokens', '9']
    for (const args of [
      ['--system', 'Ge 1', '--chat', 'In the'],
      ['--messages', messages],
    ]) {
      const { ids, usage } = await printedJson([...short, ...args])
      expect({ ids, usage }).toEqual({ ids: wanted.ids, usage: wanted.usage })
    }
    for (const [args, input] of [
      [['--system', '-', '--chat', 'In the'], 'Ge 1\n'],
      [['--system', 'Ge 1', '--chat', '-'], 'In the\n'],
    ] as const) {
      expect(JSON.parse(await printed([...short, ...args, '--json'], input)).ids, args.join(' ')).toEqual(wanted.ids)
    }
  })

  test('sampling options arrive', async () => {
    const drawn = [...generate, '--prompt', first.prompt, '--temperature', '1.5', '--seed']
    const texts = await Promise.all(['7', '7', '8'].map((seed) => printed([...drawn, seed])))
    expect(texts[0]).toBe(texts[1])
    expect(texts[0]).not.toBe(texts[2])

    const greedy = [...generate, '--prompt', first.prompt]
    const stopped = await printedJson([...greedy, '--stop', 'nothing', '--stop', ', in'])
    expect(stopped).toMatchObject({ text: first.text.slice(0, first.text.indexOf(', in')), finishReason: 'stop' })
    const banned = first.greedy[0]!
    expect((await printedJson([...greedy, '--logit-bias', `{"${banned}": -100}`])).ids).not.toContain(banned)
    for (const flag of ['--repetition-penalty', '--frequency-penalty', '--presence-penalty']) {
      expect((await printedJson([...greedy, flag, '3'])).ids, flag).not.toEqual(first.greedy)
    }
    const neutral = ['--temperature', '1', '--top-k', '1', '--top-p', '1', '--min-p', '0', '--ignore-eos']
    expect((await printedJson([...greedy, ...neutral])).ids).toEqual(first.greedy)
  })

  test('--dtype, --weights, --threads, --context and --sequences arrive', async () => {
    const args = '--dtype bf16 --weights bf16 --threads 1 --context 64 --sequences 2 --max-tokens 54'.split(' ')
    const { stderr } = await run(['generate', demo, '--prompt', first.prompt, ...args])
    expect(stderr).toBe(
      'nemotron-h: generate: maxTokens is 54, expected at most 53 after 11 prompt tokens (the context is 64)\n',
    )
    expect(await printed(['generate', demo, '--prompt', first.prompt, ...args.slice(0, -1), '4'])).not.toBe('')
  })

  const endless = ['generate', demo, '--prompt', 'In the', '--ignore-eos', '--max-tokens', '4000']

  test('--trace writes a time line', async () => {
    const file = join(scratch, 'trace.json')
    expect(await printed([...generate, '--prompt', first.prompt, '--trace', file])).toBe(`${first.text}\n`)
    const names = readJson(file).traceEvents.map(({ name }: { name: string }) => name)
    expect(names).toEqual(expect.arrayContaining(['thread_name', 'step', 'mamba2Step', 'sample']))
  })

  test('Ctrl-C ends it: the line, no error, exit code 130', async () => {
    const child = start(...endless)
    let stdout = ''
    child.stdout.on('data', (chunk) => {
      if (stdout === '') child.kill('SIGINT')
      stdout += chunk
    })
    const [stderr, [code]] = await Promise.all([text(child.stderr), once(child, 'close')])
    expect({ stderr, code }).toEqual({ stderr: '', code: 130 })
    expect(stdout).toMatch(/^[^\n]+.*\n$/s)
  })

  test('a reader that leaves the pipe ends it, without an error', async () => {
    const child = start(...endless)
    child.stdout.once('data', () => child.stdout.destroy())
    const [stderr, [code]] = await Promise.all([text(child.stderr), once(child, 'close')])
    expect({ stderr, code }).toEqual({ stderr: '', code: 141 })
  })
})

describe('logits', () => {
  test.each(['nemotron-h-hub', 'llama-tied', 'qwen2-untied'])('%s: as transformers computes them', async (name) => {
    const folder = join(root, 'test/golden', name)
    const want = await tensors(join(folder, 'expected.safetensors'))
    const count = want.size / 2
    const ids = Array.from({ length: count }, (_, i) => [...want.get(`ids.${i}`)!.values])
    const out = join(scratch, `${name}.safetensors`)
    expect(await printed(['logits', folder, '--ids', '-', '--out', out], JSON.stringify(ids))).toBe('')

    const got = await tensors(out)
    expect(got.size).toBe(count)
    for (let i = 0; i < count; i++) {
      const { shape, values } = got.get(`logits.${i}`)!
      const { shape: wantShape, values: wantValues } = want.get(`logits.${i}`)!
      expect(shape).toEqual(wantShape)
      const V = shape[1]!
      for (let start = 0; start < values.length; start += V) {
        const row = wantValues.subarray(start, start + V)
        const size = Math.max(...row.map(Math.abs))
        const error = Math.max(...row.map((value, v) => Math.abs(value - values[start + v]!)))
        expect(error / size, `row ${start / V} of logits.${i}`).toBeLessThan(1e-4) // the promise of the golden tests
      }
    }
  })

  async function tensors(path: string) {
    const header = await readHeader(path)
    const { buffer } = new Uint8Array(await readFile(path))
    return new Map(
      Array.from(header.tensors, ([name, { dtype, shape, start, end }]) => {
        const bytes = buffer.slice(start, end)
        return [name, { shape, values: dtype === 'I32' ? new Int32Array(bytes) : new Float32Array(bytes) }]
      }),
    )
  }
})

describe('info', () => {
  test.each([
    ['4b', 4_489_223_040],
    ['8b', 8_100_852_736],
    ['47b', 46_791_554_816],
    ['56b', 56_324_350_464],
    ['9b-v2', 8_888_227_328],
    ['12b-v2', 12_310_001_152],
    ['llama-3.1-8b', 8_030_261_248],
  ])('preset:%s has %i parameters', async (name, total) => {
    const { parameters } = await printedJson(['info', `preset:${name}`])
    expect(parameters.total).toBe(total)
  })

  test('a preset: layers, and state in the dtype asked for', async () => {
    const { layers, state, stored } = await printedJson(['info', 'preset:8b', '--dtype', 'bf16'])
    expect(layers).toEqual({ mamba2: 24, attention: 4, mlp: 24 })
    // 2 (K, V) * 8 heads * 128 * 2 bytes * 4 layers; 128 heads * 64 * 128 * 4 bytes * 24 layers
    expect(state).toMatchObject({ dtype: 'bf16', kvPerToken: 16_384, ssmPerSequence: 100_663_296 })
    expect(stored).toBeUndefined()
    const fp8 = await printedJson(['info', 'preset:8b', '--dtype', 'bf16', '--kv-cache', 'fp8'])
    expect(fp8.state).toMatchObject({ dtype: 'bf16', kv: 'e4m3', kvPerToken: 8192, ssmPerSequence: 100_663_296 })
    expect(await printed(['info', 'preset:8b', '--kv-cache', 'fp8'])).toMatch(/^ {2}KV \(e4m3\) +8,192 per token$/m)
  })

  test('a folder: also what is stored', async () => {
    const info = await printedJson(['info', demo])
    expect(info).toMatchObject({ model: demo, family: 'nemotron_h', pattern: 'M-M-M*-M-' })
    expect(info.stored).toEqual({ BF16: { tensors: 56, bytes: 2 * info.parameters.total } })
    const lines = await printed(['info', demo])
    expect(lines).toMatch(/^ {2}total +4,427,456$/m)
    expect(lines).toMatch(/^ {2}BF16 +8,854,912 in 56 tensors$/m)
  })
})

describe('plan', () => {
  test('the 56B in FP4: 31.7 GB of weights, 29.5 GiB', async () => {
    const lines = await printed(['plan', 'preset:56b', '--weights', 'fp4'])
    expect(lines).toMatch(/^preset:56b\n {2}weights \(fp4\) +29\.51 GiB +31\.68 GB\n/)
    expect(lines).not.toContain('left') // of what, nobody has said
  })

  test('a million tokens of the 47B in FP4 on 32 GiB', async () => {
    const fp4 = ['--weights', 'fp4', '--kv-cache', 'fp4', '--prefill-tokens', '2048', '--context', '1000000']
    const plan = await printedJson(['plan', 'preset:47b', '--memory', '32', ...fp4])
    const parts = ['weights', 'kvCache', 'convState', 'ssmState', 'prefill', 'decode', 'sampling', 'workspace']
    expect(Object.keys(plan)).toEqual([
      ...['model', ...parts, 'total', 'memory', 'left', 'cacheTokens', 'sequences', 'context'],
    ])
    expect(plan.memory).toBe(32 * 2 ** 30)
    expect(plan.left).toBe(plan.memory - plan.total)
    expect(parts.reduce((sum, part) => sum + plan[part], 0)).toBe(plan.total)
    expect(plan.sequences).toBe(1)
    expect(plan.context).toBeGreaterThan(1_000_000)
  })

  test('a GPU by its name: what is left, the largest batch, the longest context', async () => {
    const args = ['plan', 'preset:8b', '--gpu', 'h100', '--context', '65536', '--batch', '32', '--weights', 'fp8']
    const { left, sequences, context } = await printedJson(args)
    const lines = await printed(args)
    expect(lines).toMatch(new RegExp(`^ {2}left +${(left / 2 ** 30).toFixed(2)} GiB .* of 79\\.65 GiB$`, 'm'))
    expect(lines).toContain(`\nlargest batch of 65,536 tokens each: ${sequences}\n`)
    expect(lines).toContain(`\nlongest context in a batch of 32: ${context.toLocaleString('en-US')}\n`)
  })

  test('prompt tokens in one batch are at least a chunk of the scan', async () => {
    const [one, chunk] = await Promise.all(
      ['1', '64'].map((tokens) => printed(['plan', demo, '--prefill-tokens', tokens])),
    )
    expect(one).toBe(chunk)
    expect(one).toContain('activations of 64 tokens\n')
  })

  test('a folder: matrices as they are stored', async () => {
    const { weights } = await printedJson(['plan', demo])
    const { parameters } = await printedJson(['info', demo])
    expect(weights).toBeGreaterThan(2 * parameters.total)
    expect((await printedJson(['plan', demo, '--weights', 'f32'])).weights).toBeGreaterThan(4 * parameters.total)
  })

  test('what does not fit: the parts, and an error with what would', async () => {
    const { stdout, stderr, code } = await run(['plan', 'preset:8b', '--memory', '16', '--weights', 'bf16'])
    expect(stdout).toMatch(/^ {2}total /m)
    expect(stderr).toMatch(
      /^nemotron-h: plan: memory is 16\.00 GiB, expected at least .* GiB are missing; it fits with weights fp8\b.*\n$/,
    )
    expect(code).toBe(1)
  })
})

describe('help and errors', () => {
  test.each(['generate', 'logits', 'info', 'plan', 'doctor'])('%s --help shows examples', async (command) => {
    expect(await printed([command, '--help'])).toMatch(/^Usage: nemotron-h .*^Examples?:\n {2}\S/ms)
  })

  test('--version is that of the package', async () => {
    expect(await printed(['--version'])).toBe(`${readJson(join(root, 'package.json')).version}\n`)
  })

  const presetNames =
    'preset:4b, preset:8b, preset:47b, preset:56b, preset:9b-v2, preset:12b-v2, preset:llama-3.1-8b, preset:llama-3.1-70b, preset:llama-3.1-405b, preset:qwen-2.5-7b, preset:qwen-2.5-72b or preset:nemotron-t-8b'
  const prompted = (...args: string[]) => ['generate', demo, '--prompt', 'x', ...args]
  test.each<[string[], string, string?]>([
    [['genrate', demo], "unknown command 'genrate', did you mean generate?"],
    [prompted('--temprature', '1'), "unknown option '--temprature', did you mean --temperature?"],
    [['generate'], "missing required argument 'model'"],
    [['generate', demo], 'no prompt, expected --prompt, --ids, --chat or --messages'],
    [prompted('--ids', '[1]'), "option '--prompt <text>' cannot be used with option '--ids <json>'"],
    [prompted('--system', 'x'), '--system needs --chat'],
    [['generate', demo, '--system', '-', '--chat', '-'], '--system and --chat are both -, expected one to be text'],
    [prompted('--logprobs', '1'), '--logprobs needs --json'],
    [prompted('--top-k', '12abc'), "--top-k is '12abc', expected an integer >= 0"],
    [prompted('--seed', ''), "--seed is '', expected an integer >= 0"],
    [prompted('--max-tokens', '1.5'), "--max-tokens is '1.5', expected an integer >= 0"],
    [prompted('--temperature', '-1'), "--temperature is '-1', expected a number >= 0"],
    [prompted('--top-p', '0'), "--top-p is '0', expected a number > 0 and <= 1"],
    [prompted('--frequency-penalty', 'Infinity'), "--frequency-penalty is 'Infinity', expected a number"],
    [prompted('--logit-bias', '{"1": 2'), `--logit-bias is '{"1": 2', expected a JSON object of token ids and numbers`],
    [prompted('--dtype', 'f16'), "--dtype is 'f16', expected 'f32' or 'bf16'"],
    [prompted('--device', 'gpu'), "device is 'gpu', expected cpu, cuda or cuda:N"],
    [prompted('--weights', 'int8'), "--weights is 'int8', expected 'f32', 'bf16' or 'fp8'"],
    [['generate', demo, '--ids', '[1,-2]'], "--ids is '[1,-2]', expected a list, each an integer >= 0"],
    [['generate', demo, '--ids', '[]'], 'generate: prompt is empty, expected at least one token'],
    [['generate', demo, '--ids', '[5000]'], 'generate: prompt[0] is 5000, expected an integer >= 0 and <= 1535'],
    [
      ['generate', demo, '--messages', '-'],
      'standard input: content is [1], expected a list of one or more {role, content}',
      '[1]',
    ],
    [['generate', '/nowhere', '--prompt', 'x'], '/nowhere: folder is missing, expected a local model folder'],
    [['generate', 'preset:8b', '--ids', '[1]', '--init', 'zeros'], "--init is 'zeros', expected 'random'"],
    [
      ['generate', demo, '--ids', '[1]', '--init', 'random'],
      "load: init is 'random', expected none for a folder, which has weights",
    ],
    [['generate', 'preset:8b', '--ids', '[1]'], "load: init is undefined, expected 'random': preset:8b has no weights"],
    [['logits', demo, '--ids', 'ids.json'], "required option '--out <file>' not specified"],
    [
      ['logits', demo, '--ids', '-', '--out', join(scratch, 'none')],
      'standard input: content is [1,2], expected a list, each a list, each an integer >= 0',
      '[1, 2]',
    ],
    [['plan', 'preset:9b'], `model is 'preset:9b', expected ${presetNames}`],
    [['plan', demo, '--memory', '0'], "--memory is '0', expected a number > 0"],
    [
      ['plan', demo, '--gpu', 'h100', '--memory', '80'],
      "option '--gpu <name>' cannot be used with option '--memory <gib>'",
    ],
    [
      ['plan', 'preset:llama-3.1-8b', '--context', '200000'],
      "--context is 200000, expected at most 131072, the model's own limit",
    ],
    [['info', 'preset:9b'], `model is 'preset:9b', expected ${presetNames}`],
  ])('%j', async (args, message, input) => {
    expect(await run(args, input)).toEqual({ stdout: '', stderr: `nemotron-h: ${message}\n`, code: 1 })
  })
})

describe('doctor', () => {
  test('runs here', async () => {
    const report = await printedJson(['doctor'])
    expect(report.ready.cpu).toBe(true)
    expect(report.addon.build.simd).toMatch(/^(portable|avx2|avx512)$/)
    expect(report.addon.gpus === null).toBe(report.addon.build.cuda === null)
    if (!report.ready.cuda) expect(report.advice).not.toEqual([])
    expect(await printed(['doctor'])).toMatch(/^nemotron-h .*\nCPU: .*\nCUDA: /)
  })

  const h100: GpuDevice = {
    name: 'NVIDIA H100',
    computeCapability: '9.0',
    totalBytes: 80 * 2 ** 30,
    freeBytes: 2 ** 30,
  }
  const probe = (gpus: Gpus | null, kernelDriver?: string, refusal?: string): Probe => ({
    version: '1.2.3',
    node: '20.19.0',
    platform: 'linux-x64',
    cores: 8,
    memory: { total: 16 * 2 ** 30, free: 4 * 2 ** 30 },
    addon: { build: { simd: 'avx2', threads: 4, cuda: gpus && '13.0.88' }, gpus, refusal },
    kernelDriver,
  })
  const insufficient = 'cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version'
  const noDevice = 'cudaErrorNoDevice: no CUDA-capable device is detected'
  const gpus = (some: Partial<Gpus>): Gpus => ({
    driver: '13.0',
    runtime: '13.0',
    cublasLt: null,
    devices: [],
    ...some,
  })

  test.each<[string, Probe, RegExp]>([
    ['not built', probe(null), /^the addon was built without CUDA\. .*toolkit, 12\.4 or newer.*nvcc/],
    [
      'not built, but a driver',
      probe(null, '580.65.06'),
      /^NVIDIA's driver 580\.65\.06 is loaded, but the addon was built/,
    ],
    ['no driver', probe(gpus({ driver: null, error: insufficient })), /^No NVIDIA driver is found\. .*for CUDA 13\.0/],
    [
      'a container without its GPUs',
      probe(gpus({ driver: null, error: insufficient }), '580.65.06'),
      /^NVIDIA's kernel module 580\.65\.06 is loaded, but libcuda\.so\.1 is not found\. .*--gpus all/,
    ],
    [
      'an old driver',
      probe(gpus({ driver: '12.10', error: insufficient })),
      /serves CUDA 12\.10, and this build needs 13\.0\. Update it.*or build with the CUDA toolkit 12\.10/,
    ],
    [
      'a driver older than any toolkit that will do',
      probe(gpus({ driver: '12.2', error: insufficient })),
      /serves CUDA 12\.2, and this build needs 13\.0\. Update it: \S+$/,
    ],
    ['no device', probe(gpus({ error: noDevice })), /^The NVIDIA driver sees no GPU\. .*CUDA_VISIBLE_DEVICES/],
    ['no device, and no error', probe(gpus({})), /^The NVIDIA driver sees no GPU\./],
    [
      'a runtime that fails',
      probe(gpus({ error: 'cudaErrorUnknown: unknown error' })),
      /^The CUDA runtime failed with cudaErrorUnknown: unknown error/,
    ],
    [
      'an old GPU',
      probe(gpus({ devices: [{ ...h100, name: 'Tesla T4', computeCapability: '7.5' }] })),
      /^GPU 0 has compute capability 7\.5, and kernels need 8\.0/,
    ],
    [
      'a GPU in use',
      probe(gpus({ devices: [{ ...h100, error: 'cudaErrorDevicesUnavailable: busy' }] })),
      /^GPU 0 cannot be used: cudaErrorDevicesUnavailable: busy\./,
    ],
    [
      'a good GPU that has no memory left',
      probe(gpus({ devices: [h100] }), '580.65.06', 'device cuda: cudaErrorMemoryAllocation: out of memory'),
      /^device cuda: cudaErrorMemoryAllocation: out of memory\.$/,
    ],
  ])('%s', (_, seen, advice) => {
    const report = diagnose(seen)
    expect(report.ready).toEqual({ cpu: true, cuda: false })
    expect(report.advice).toEqual([expect.stringMatching(advice)])
    expect(reportLines(report).at(-1)).toBe(report.advice[0])
  })

  test('a good GPU beside an old one', () => {
    const old = { ...h100, name: 'Tesla T4', computeCapability: '7.5' }
    const cublasLt = '/usr/lib/libcublasLt.so.13, version 13.1.1'
    const seen = gpus({ cublasLt, devices: [old, { ...h100, computeCapability: '12.0' }] })
    const report = diagnose(probe(seen, '580.65.06', 'device cuda: compute capability is 7.5, expected 8.0 or newer'))
    expect(report.ready).toEqual({ cpu: true, cuda: false })
    expect(report.advice).toEqual([expect.stringMatching(/^GPU 0 has /), 'GPU 1 can be used: --device cuda:1.'])
    expect(diagnose(probe(gpus({ devices: [h100, old] }))).ready).toEqual({ cpu: true, cuda: true })
    expect(reportLines(report).slice(0, -3)).toEqual([
      'nemotron-h 1.2.3, Node.js 20.19.0, linux-x64',
      'CPU: 4 threads on 8 cores, avx2; memory 4.0 of 16.0 GiB free',
      'CUDA: toolkit 13.0.88, runtime 13.0; driver for CUDA 13.0, kernel module 580.65.06',
      `cuBLASLt: ${cublasLt}`,
      'GPU 0: Tesla T4, compute capability 7.5; memory 1.0 of 80.0 GiB free',
      'GPU 1: NVIDIA H100, compute capability 12.0; memory 1.0 of 80.0 GiB free',
      'ready: --device cpu yes, --device cuda no',
    ])
  })

  test('an addon that does not load', () => {
    const report = diagnose({ ...probe(null), addon: { error: 'the native addon did not load' } })
    expect(report.ready).toEqual({ cpu: false, cuda: false })
    expect(reportLines(report)).toEqual([
      'nemotron-h 1.2.3, Node.js 20.19.0, linux-x64',
      'ready: --device cpu no, --device cuda no',
      '',
      'the native addon did not load',
    ])
  })
})
