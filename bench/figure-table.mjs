// bench/figure.mjs's JSON as Markdown: node bench/figure-table.mjs FILE.json > FILE.md
import { readFile } from 'node:fs/promises'
import { pathToFileURL } from 'node:url'
import {
  decodeRate,
  isOfPaper,
  lengthsOf,
  models,
  parseScenario,
  prefillRate,
  speedups,
  throughput,
} from './figure-models.mjs'

const none = 'not measured'
const digits = (x) => (x === undefined ? '' : x >= 100 ? Math.round(x).toLocaleString('en-US') : x.toPrecision(3))
const percent = (x) => `${(100 * x).toFixed(0)} %`
const gib = (bytes) => (bytes / 2 ** 30).toFixed(1)

function table(head, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

/** All of it, for people. */
export function markdown({ date, setup, machine, memoryBytes, ceilings, parameters, rows, peers }) {
  const scenarios = [...new Set(rows.map(({ scenario }) => scenario))]
  const formats = [
    `weights ${setup.weights}`,
    `activations ${setup.act}`,
    `keys and values ${setup.kvCache ?? setup.act}`,
    `states ${setup.ssmState ?? 'f32'}`,
  ]
  const driver = machine.driver ? `, driver ${machine.driver}` : ''
  const where = machine.gpu ? `${machine.gpu}${driver}` : `${setup.device}, ${machine.cpu}`
  return [
    '# Accuracy against throughput',
    ...(setup.tiny ? ['**Tiny models of the same shapes, to try the bench: not a result.**'] : []),
    `${where}; ${gib(memoryBytes)} GiB free; Node ${machine.node}; commit ${setup.commit}; ${date}. ${formats.join(', ')}; random ` +
      `weights, greedy, prompts in batches of ${setup.prefillTokens} tokens. One run of each.`,
    ceilingsText(ceilings),
    'MMLU-Pro is as published. Output tokens/s are of one GPU and count prefill and decode together; beside them each alone, ' +
      'so that throughput can be read off however it is defined. Of Nemotron-T-8B vocabulary and rotary base are assumed ' +
      '(lib/model/presets.ts).',
    ...scenarios.map((scenario) => scenarioText(scenario, rows, parameters)),
    '## Speed-ups',
    speedupTable(rows, setup.tiny),
    '## Where the time goes',
    kernelTable(rows),
    '## Beside transformers',
    peerTable(peers, setup.act),
    '',
  ].join('\n\n')
}

const ceilingsText = (ceilings) =>
  ceilings
    ? `Limits are what a run must move and compute (bench/limits.mjs) at the rates measured in the same run (${ceilings.by}): a ` +
      `copy ${digits(ceilings.copy / 1e9)} GB/s, products ${digits(ceilings.act / 1e12)} TFLOP/s in the type of activations and ` +
      `${digits(ceilings.fp8 / 1e12)} in fp8.`
    : 'Limits: what this machine reaches in a copy and in products was not measured.'

function scenarioText(text, rows, parameters) {
  const { batch } = parseScenario(text)
  const paper = isOfPaper(text)
  const title = `## ${lengthsOf(text)}`
  const head = ['Model', 'Parameters', 'MMLU-Pro', 'Batch', 'Prefill s', 'Decode s', 'Output tokens/s/GPU']
  const rest = ['Prefill tokens/s', 'Decode tokens/s', 'Limit s', 'Reached', ...(paper ? ['Paper, tokens/s/GPU'] : [])]
  const body = rows
    .filter(({ scenario }) => scenario === text)
    .map((row) => {
      const { name, label, mmluPro, paper: published } = models.find((model) => model.name === row.model)
      const size = `${(parameters[name] / 1e9).toPrecision(3)} B`
      const first = [label, size, mmluPro.toFixed(1)]
      const last = paper ? [published] : []
      if (!row.seconds)
        return [...first, row.batch ?? '', '', '', `${none}: ${row.why}`, '', '', limitOf(row), '', ...last]
      const { prefill, decode } = row.seconds
      const modelled = row.modelled ? ` (modelled: ${row.modelled.gpus} GPUs at ${row.modelled.shareOf}'s share)` : ''
      const limited = row.batch < row.fits && !batch ? ` of ${row.fits} that fit` : ''
      return [
        ...first,
        `${row.batch}${limited}`,
        digits(prefill),
        digits(decode),
        `${digits(throughput(row))}${modelled}`,
        digits(prefillRate(row)),
        digits(decodeRate(row)),
        limitOf(row),
        row.modelled ? '' : reached(row),
        ...last,
      ]
    })
  return [title, table([...head, ...rest], body)].join('\n\n')
}

/** Of prefill + decode. */
function limitOf({ limit }) {
  if (limit?.prefill.seconds === undefined) return none
  return `${digits(limit.prefill.seconds)} + ${digits(limit.decode.seconds)}`
}

function reached({ limit, seconds: { prefill, decode } }) {
  if (limit.prefill.seconds === undefined) return none
  const { prefill: a, decode: b } = limit
  const all = (a.seconds + b.seconds) / (prefill + decode)
  return `${percent(all)} (prefill ${percent(a.seconds / prefill)}, decode ${percent(b.seconds / decode)})`
}

function speedupTable(rows, tiny) {
  const first = rows[0]?.scenario
  const find = (name) => rows.find(({ model, scenario, seconds }) => seconds && model === name && scenario === first)
  const known = isOfPaper(first) && !tiny
  const body = speedups.map(({ model, over, paper }) => {
    const [a, b] = [find(model), find(over)]
    const here = a && b ? `${digits(throughput(a) / throughput(b))}x${b.modelled ? ' (modelled)' : ''}` : none
    return [model, over, here, ...(known ? [`${paper.toFixed(1)}x`] : [])]
  })
  const of = first === undefined ? [] : [`${lengthsOf(first)}.`]
  return [...of, table(['', 'over', 'here', ...(known ? ['paper'] : [])], body)].join('\n\n')
}

/** The kind of bench/limits.mjs that an op belongs to; undefined for norms, quantising and the like, which have no limit. */
function kindOf(op) {
  const name = op.replace(/_./g, (s) => s[1].toUpperCase())
  if (/^(linear|fp8Linear)/.test(name)) return 'products' // the head's too
  if (/^(attention|kvAppend|rope)$/.test(name)) return 'attention'
  if (/^(ssmScan|ssmStep|causalConv1d|causalConv1dStep|mamba2Step|mamba2StepQuantize)$/.test(name)) return 'mamba2'
  return undefined
}

/** The first scenario by kernel; of those that do the same kind of work, how much of their time its limit is. */
function kernelTable(rows) {
  const body = rows
    .filter(({ kernels, scenario }) => kernels && scenario === rows[0].scenario)
    .flatMap((row) =>
      ['prefill', 'decode'].flatMap((phase) => {
        const { part, ops } = row.kernels[phase]
        const total = Object.values(ops).reduce((sum, { seconds }) => sum + seconds, 0)
        const ofKind = (kind) =>
          Object.entries(ops).reduce((sum, [op, { seconds }]) => sum + (kindOf(op) === kind ? seconds : 0), 0)
        return Object.entries(ops)
          .sort(([, a], [, b]) => b.seconds - a.seconds)
          .filter(([, { seconds }]) => seconds >= 0.01 * total)
          .map(([op, { calls, seconds }]) => {
            const kind = kindOf(op)
            const { kinds } = row.limit[phase]
            const least = kind && (kinds[kind].seconds ?? Number.NaN) + (kind === 'products' ? kinds.head.seconds : 0)
            const share = least >= 0 ? `${kind} ${percent((part * least) / ofKind(kind))}` : ''
            return [row.model, phase, op, calls, digits(1000 * seconds), percent(seconds / total), share]
          })
      }),
    )
  if (body.length === 0) return `By kernel: ${none}.`
  const head = ['Model', 'Phase', 'Kernel', 'Calls', 'ms', 'Of the phase', 'Reached of the limit, by kind']
  return [
    'Op by op on the device, of one batch of prompts and of a few decode steps; kernels under 1 % are left out. The JSON has ' +
      'all, and the other lengths.',
    table(head, body),
  ].join('\n\n')
}

function peerTable(peers, act) {
  if (peers.length === 0)
    return `${none[0].toUpperCase()}${none.slice(1)}: python3 with torch and transformers was not asked, not found, or had no time.`
  const rate = (seconds, why, f) => (seconds ? digits(f(seconds)) : `${none}: ${why}`)
  const head = [
    'Model',
    'In/out@batch',
    'Prefill tokens/s here',
    'transformers',
    'Decode tokens/s here',
    'transformers',
  ]
  const body = peers.map(({ model, scenario, batch, input, output, seconds, why, transformers }) => {
    const prefill = (s) => (batch * input) / s.prefill
    const decode = (s) => (batch * (output - 1)) / s.decode
    const both = [prefill, decode].flatMap((f) => [
      rate(seconds, why, f),
      rate(transformers.seconds, transformers.why, f),
    ])
    return [model, scenario, ...both]
  })
  const here = `Here weights are bf16, activations and keys and values ${act}; transformers ${peers[0].version} is in bf16`
  return [`${here}. Random weights, on the same machine.`, table(head, body)].join('\n\n')
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  console.log(markdown(JSON.parse(await readFile(process.argv[2], 'utf8'))))
}
