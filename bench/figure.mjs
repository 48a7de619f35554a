// The comparison of the Nemotron-H paper's figures 1 and 7 on one GPU: accuracy, as published, against output tokens a second
// with the largest batch that fits. All models run through this engine, in the same precision, with random weights, greedily;
// prefill and decode are timed apart. Beside each time its physical limit, and transformers where python3 has it.
//
// npm run bench:figure [-- --device cuda --models 8b,47b --scenarios 65536/1024,1024/1024@1 --weights fp8 --kv-cache fp8
//                          --ssm-state f16 --prefill-tokens 8192 --batch 8 --minutes 30 --only REGEXP --tiny --out FOLDER]
//
// The first of the scenarios (IN/OUT or IN/OUT@BATCH) is measured for all models before the next, until the minutes are
// over. --batch is the most that "the largest that fits" may be. --only measures the rows whose `MODEL SCENARIO` it
// matches, and keeps the others that FOLDER/figure.json has. --tiny: models of the same shape that any device can run.
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual, parseArgs } from 'node:util'
import { device as deviceOf, parameterCounts, presets } from '../dist/index.js'
import { loadRandom } from '../dist/load.js'
import { gpuPrefillTokens } from '../dist/plan.js'
import { ceilingsOf } from './ceilings.mjs'
import { commit } from './commit.mjs'
import { chart } from './figure-chart.mjs'
import { largestBatch } from './figure-fit.mjs'
import { measure, prefillOps, tracedTokens } from './figure-measure.mjs'
import {
  keyOf,
  models,
  parseScenario,
  scenarios,
  throughput,
  tiny,
  tinyScenarios,
  yardstick,
} from './figure-models.mjs'
import { markdown } from './figure-table.mjs'
import { limitsOf } from './limits.mjs'
import { machineOf } from './machine.mjs'
import { python } from './python.mjs'

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'cpu' },
    models: { type: 'string' },
    scenarios: { type: 'string' },
    weights: { type: 'string', default: 'fp8' },
    'kv-cache': { type: 'string' },
    'ssm-state': { type: 'string' },
    'prefill-tokens': { type: 'string' },
    batch: { type: 'string' },
    minutes: { type: 'string', default: '60' },
    only: { type: 'string' },
    tiny: { type: 'boolean', default: false },
    out: { type: 'string', default: 'bench/results/figure' },
  },
})

function fail(message) {
  console.error(`bench:figure: ${message}`)
  process.exit(2)
}
const number = (name, otherwise) => {
  const value = Number(values[name] ?? otherwise)
  if (!(value > 0)) fail(`--${name} is ${values[name]}, expected a number above 0`)
  return value
}

const end = Date.now() + 60_000 * number('minutes')
const chosen = values.models?.split(',') ?? models.map(({ name }) => name)
const unknown = chosen.filter((name) => !models.some((model) => model.name === name))
if (unknown.length > 0) fail(`--models names ${unknown}, expected some of ${models.map(({ name }) => name)}`)
const asked = values.scenarios?.split(',') ?? (values.tiny ? tinyScenarios : scenarios)
const only = new RegExp(values.only ?? '.')
const target = deviceOf(values.device)
const act = target.name === 'cpu' ? 'f32' : 'bf16'
const setup = {
  device: target.name,
  weights: values.weights,
  act,
  kvCache: values['kv-cache'],
  ssmState: values['ssm-state'],
  prefillTokens: number('prefill-tokens', values.tiny ? 64 : act === 'f32' ? 512 : gpuPrefillTokens),
  tiny: values.tiny,
  commit: await commit(),
}
const mostSequences = number('batch', values.tiny ? 4 : 65536) // load() takes no more

const configOf = (name) => (values.tiny ? tiny(presets[name]) : presets[name])
/** Milliseconds, at least one. */
const left = () => Math.max(1, Math.round(end - Date.now()))

/** A row for a model and a scenario, measured; or why it is not. */
async function rowOf({ name, gpus }, text) {
  const scenario = parseScenario(text)
  const config = configOf(name)
  const context = scenario.input + scenario.output + tracedTokens
  const row = { model: name, scenario: text, input: scenario.input, output: scenario.output }
  let fits
  try {
    fits = largestBatch(config, setup, { context, least: scenario.batch ?? 1 }, bytesOf(gpus ?? 1))
  } catch (error) {
    return { ...row, why: `it does not fit: ${error.message}` }
  }
  const batch = scenario.batch ?? Math.min(fits, mostSequences)
  const run = { batch, input: scenario.input, output: scenario.output, prefillTokens: setup.prefillTokens }
  Object.assign(row, { batch, fits, limit: limitsOf(config, setup, run, ceilings) })
  if (gpus) return modelled(row, gpus)
  const atBest = row.limit.prefill.seconds + row.limit.decode.seconds
  if (left() < 2000 * (atBest || 0) + 1000) return { ...row, why: 'no time left' }
  return timed(row, config, run, setup)
}

const bytesOf = (gpus) => gpus * target.memory().free

/** The row with its seconds, and its kernels. */
async function timed(row, config, { batch, input, output, prefillTokens }, { weights, kvCache, ssmState }) {
  const context = input + output + tracedTokens
  const signal = AbortSignal.timeout(left())
  let model
  let measured = row // keeps its seconds where there is no time for the kernels
  try {
    // Positions are no more than numbers to a rotary embedding with random weights: any length runs.
    model = await loadRandom({ ...config, maxPositions: Math.max(context, config.maxPositions) }, row.model, {
      device: setup.device,
      weights,
      kvCache,
      ssmState,
      seed: 1,
      sequences: batch,
      context,
      cacheTokens: batch * Math.ceil(context / 64) * 64, // whole pages (lib/model/pools.ts)
      prefillTokens,
      prefillFirst: true,
      signal,
    })
    // Warms up what is made once: the step of this batch, and the kernels of a full batch of a prompt.
    await measure(model, { batch, input: Math.min(input, 16), output: Math.min(output, 4), signal })
    await measure(model, { batch: 1, input: Math.min(input, prefillTokens), output: 1, signal })
    const { seconds, ops } = await measure(model, { batch, input, output, traced: true, signal })
    measured = { ...row, seconds }
    const few = Math.min(batch, Math.ceil(prefillTokens / input)) // one batch of prompts stands for all
    const prompts = await prefillOps(model, { batch: few, input, signal })
    const kernels = {
      prefill: { part: few / batch, ops: prompts },
      decode: { part: ops.sample.calls / (output - 1), ops }, // a step draws once
    }
    return { ...measured, kernels }
  } catch (error) {
    return { ...measured, why: signal.aborted ? 'no time left: it was stopped' : error.message }
  } finally {
    model?.dispose()
    target.releaseCached()
  }
}

/** Seconds of a model on several GPUs that share all work evenly, with the shares of its limits that another reached. */
function modelled(row, gpus) {
  const other = rows.find(({ model, scenario, seconds }) => seconds && model === yardstick && scenario === row.scenario)
  if (!other?.limit.prefill.seconds) return { ...row, why: `modelled from ${yardstick}, which has no share of a limit` }
  const seconds = Object.fromEntries(
    ['prefill', 'decode'].map((phase) => {
      const share = other.limit[phase].seconds / other.seconds[phase]
      return [phase, row.limit[phase].seconds / gpus / share]
    }),
  )
  return { ...row, seconds, modelled: { gpus, shareOf: yardstick } }
}

/** Transformers and this engine on the same lengths in bf16, at batches of 1 and 8: on a GPU, or tiny. */
async function comparePeers() {
  const onGpu = target.name.startsWith('cuda')
  if (!onGpu && !values.tiny) return []
  const [input, output] = values.tiny ? [64, 8] : [1024, 64]
  const hybrids = chosen.filter((name) => configOf(name)?.mamba)
  const runs = [1, 8].map((batch) => ({ batch, input, output }))
  const peers = []
  for (const name of hybrids) {
    if (left() < 30_000) return peers
    const config = configOf(name)
    const answer = await python('figure_transformers.py', { device: onGpu ? 'cuda' : 'cpu', config, runs }, left())
    if (!answer) return peers
    const { total } = parameterCounts(config)
    if (![total, null].includes(answer.parameters))
      throw new Error(`bench:figure: transformers' ${name} has ${answer.parameters} parameters, expected ${total}`)
    for (const [i, run] of runs.entries()) {
      const row = { model: name, scenario: `${input}/${output}@${run.batch}`, ...run }
      const prompts = { ...run, prefillTokens: setup.prefillTokens }
      const { seconds, why } = await timed(row, config, prompts, { weights: 'bf16' })
      peers.push({ ...row, seconds, why, transformers: answer.runs[i], version: answer.version })
    }
  }
  return peers
}

await mkdir(values.out, { recursive: true })
const path = join(values.out, 'figure.json')
const before = await readFile(path, 'utf8').then(JSON.parse, () => undefined)
const same = before && isDeepStrictEqual(before.setup, JSON.parse(JSON.stringify(setup)))
if (values.only && before && !same)
  fail(`${path} is of another setup: ${JSON.stringify(before.setup)}; name another --out`)

const ceilings = await ceilingsOf(values.device)
const rows = values.only && same ? before.rows : []
const result = {
  date: new Date().toISOString(),
  setup,
  machine: { ...machineOf(target.name), driver: ceilings?.driver },
  memoryBytes: bytesOf(1),
  ceilings,
  parameters: Object.fromEntries(models.map(({ name }) => [name, parameterCounts(configOf(name)).total])),
  rows,
  peers: (values.only && same && before.peers) || [],
}
const save = async () => {
  await writeFile(path, `${JSON.stringify(result, null, 1)}\n`)
  await writeFile(join(values.out, 'figure.md'), markdown(result))
  await writeFile(join(values.out, 'figure.svg'), chart(result))
}

for (const scenario of asked) {
  for (const model of models.filter(({ name }) => chosen.includes(name))) {
    if (!only.test(keyOf({ model: model.name, scenario }))) continue
    const row = await rowOf(model, scenario)
    const place = rows.findIndex((other) => keyOf(other) === keyOf(row))
    rows.splice(place < 0 ? rows.length : place, place < 0 ? 0 : 1, row)
    const told = row.seconds ? `${throughput(row).toPrecision(3)} output tokens/s, batch ${row.batch}` : row.why
    console.error(`${keyOf(row)}: ${row.modelled ? 'modelled: ' : ''}${told}`)
    await save()
  }
}
if (only.test('transformers')) {
  result.peers = await comparePeers()
  await save()
}
console.log(markdown(result))
