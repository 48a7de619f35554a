/** `nemotron-h plan`: whether a model fits on a GPU, what takes how much, and what else has room. By arithmetic alone. */
import { Command, Option } from 'commander'
import { integer, number } from '../options.js'
import { type Fit, fit, gib, gpuPrefillTokens, type Plan, type PlanOptions, planMemory } from '../plan.js'
import { choiceFlag, numberFlag } from './flags.js'
import { modelArgument, openModel } from './model.js'

/** Memory in MiB, as nvidia-smi prints it in logs that people have published; some of it is the driver's. */
const gpus = {
  'a100-40gb': 40960,
  'a100-80gb': 81920,
  b200: 183359,
  h100: 81559,
  h200: 143771,
  l4: 23034,
  l40s: 46068,
  rtx4090: 24564,
  rtx5090: 32607,
  'rtx-pro-6000': 97887,
}

const count = integer({ min: 1, max: 2 ** 31 - 1 })
const flags = [
  numberFlag('--context <n>', "tokens a sequence may have; the model's own limit", count),
  numberFlag('--batch <n>', 'sequences at a time, all of them full; 1 by default', integer({ min: 1, max: 65536 })),
  choiceFlag('--gpu <name>', `where to: ${Object.keys(gpus).join(', ')}`, ...Object.keys(gpus)).conflicts('memory'),
  numberFlag('--memory <gib>', 'or how much memory it has, in GiB', number({ above: 0 })),
  choiceFlag(
    '--weights <format>',
    'matrices: f32, bf16, fp8 or fp4; as stored by default',
    'f32',
    'bf16',
    'fp8',
    'fp4',
  ),
  choiceFlag('--dtype <type>', 'activations: f32 or bf16; bf16 by default', 'f32', 'bf16'),
  choiceFlag(
    '--kv-cache <format>',
    'keys and values: f32, bf16, fp8 or fp4; as activations by default',
    ...['f32', 'bf16', 'fp8', 'fp4'],
  ),
  choiceFlag('--ssm-state <type>', 'states of Mamba-2: f32 (default) or f16', 'f32', 'f16'),
  numberFlag('--prefill-tokens <n>', `prompt tokens in one batch; ${gpuPrefillTokens} by default`, count),
  new Option('--json', 'print one JSON object, sizes in bytes'),
]

const examples = `
fp4 is for planning only.

Examples:
  nemotron-h plan preset:8b --gpu h100 --context 65536 --batch 32 --weights fp8
  nemotron-h plan preset:47b --memory 32 --context 1000000 --weights fp4 --kv-cache fp4 --prefill-tokens 2048
  nemotron-h plan demo/model --json`

export function planCommand(): Command {
  const command = new Command('plan')
    .description('tells whether a model fits on a GPU, and what takes how much of it')
    .addArgument(modelArgument())
    .addHelpText('after', examples)
  for (const flag of flags) command.addOption(flag)
  return command.action(async (name: string, { batch = 1, gpu, memory, json, ...given }: PlanFlags) => {
    const { config, tensors } = await openModel(name)
    const { context = config.maxPositions, weights = tensors } = given
    if (config.attention.rope && context > config.maxPositions) {
      throw new RangeError(`--context is ${context}, expected at most ${config.maxPositions}, the model's own limit`)
    }
    const prefillTokens = Math.max(given.prefillTokens ?? gpuPrefillTokens, config.mamba?.chunkSize ?? 1) // as load has it
    const options = { ...given, context, sequences: batch, weights, prefillTokens }
    const budget = gpu ? gpus[gpu] * 2 ** 20 : memory && memory * 2 ** 30
    if (json) {
      const { plan, ...room } = budget ? fit(config, options, budget) : { plan: planMemory(config, options) }
      const more = budget ? { memory: budget, ...room } : {}
      console.log(JSON.stringify({ model: name, ...plan, ...more }))
      return
    }
    console.log(
      [name, ...planLines(planMemory(config, options), { ...given, prefillTokens }, batch, context)].join('\n'),
    )
    if (budget) console.log(roomLines(fit(config, options, budget), budget, batch, context).join('\n'))
  })
}

interface PlanFlags extends Pick<PlanOptions, 'context' | 'dtype' | 'kvCache' | 'ssmState' | 'prefillTokens'> {
  weights?: 'f32' | 'bf16' | 'fp8' | 'fp4'
  batch?: number
  gpu?: keyof typeof gpus
  memory?: number
  json?: boolean
}

function planLines(plan: Plan, flags: PlanFlags & { prefillTokens: number }, batch: number, context: number) {
  const { weights, dtype = 'bf16', kvCache = dtype, ssmState = 'f32', prefillTokens } = flags
  return [
    row(`weights${weights ? ` (${weights})` : ''}`, plan.weights),
    row(`KV (${kvCache})`, plan.kvCache, ` ${grouped(batch * context)} tokens`),
    row('convolution', plan.convState),
    row(`SSM (${ssmState})`, plan.ssmState),
    row('prefill', plan.prefill, ` activations of ${grouped(Math.min(prefillTokens, batch * context))} tokens`),
    row('decode', plan.decode, ' activations of a step, recorded for each batch size'),
    row('sampling', plan.sampling, ' log-probabilities and penalties'),
    row('workspace', plan.workspace, ' of kernels'),
    row('total', plan.total),
  ]
}

function roomLines({ left, sequences, context: longest }: Fit, budget: number, batch: number, context: number) {
  return [
    row('left', left, ` of ${gib(budget)}`),
    `largest batch of ${grouped(context)} tokens each: ${grouped(sequences)}`,
    `longest context in a batch of ${grouped(batch)}: ${grouped(longest)}`,
  ]
}

const row = (name: string, bytes: number, note = '') => {
  const gigabytes = `${(bytes / 1e9).toFixed(2)} GB`
  return `  ${name.padEnd(14)}${gib(bytes).padStart(12)}${gigabytes.padStart(12)} ${note}`.trimEnd()
}

const grouped = (n: number) => n.toLocaleString('en-US')
