/** `nemotron-h info`: what a model is made of and what it takes in memory, without loading it. */
import { Command } from 'commander'
import {
  type Config,
  type Formats,
  formatsOf,
  type LayerKind,
  layerLetters,
  parameterCounts,
  stateBytes,
} from '../model/config.js'
import { choiceFlag } from './flags.js'
import { modelArgument, openModel, type Tensors } from './model.js'

const examples = `
Examples:
  nemotron-h info demo/model
  nemotron-h info preset:8b --dtype bf16 --json`

export function infoCommand(): Command {
  return new Command('info')
    .description('tells the layers, parameters and memory of a model')
    .addArgument(modelArgument())
    .addOption(choiceFlag('--dtype <type>', 'activations and caches: f32 or bf16; f32 by default', 'f32', 'bf16'))
    .addOption(choiceFlag('--kv-cache <format>', 'keys and values: fp8; as activations by default', 'fp8'))
    .option('--json', 'print one JSON object')
    .addHelpText('after', examples)
    .addOption(choiceFlag('--ssm-state <type>', 'states of Mamba-2: f32 (default) or f16', 'f32', 'f16'))
    .action(async (name: string, { dtype = 'f32', kvCache, ssmState, json }: InfoOptions) => {
      const { config, tensors } = await openModel(name)
      const info = describeModel(config, tensors && storedOf(tensors), formatsOf(dtype, kvCache, ssmState))
      console.log(json ? JSON.stringify({ model: name, ...info }) : [name, ...infoLines(info)].join('\n'))
    })
}

interface InfoOptions {
  dtype?: 'f32' | 'bf16'
  kvCache?: 'fp8'
  ssmState?: 'f32' | 'f16'
  json?: boolean
}

/** Tensors and bytes in the files, by dtype. */
type Stored = Record<string, { tensors: number; bytes: number }>

function storedOf(tensors: Tensors): Stored {
  const stored: Stored = {}
  for (const { dtype, start, end } of tensors.values()) {
    const before = stored[dtype] ?? { tensors: 0, bytes: 0 }
    stored[dtype] = { tensors: before.tensors + 1, bytes: before.bytes + end - start }
  }
  return stored
}

function describeModel(config: Config, stored: Stored | undefined, formats: Formats) {
  const letters = Object.fromEntries(Object.entries(layerLetters).map(([letter, kind]) => [kind, letter]))
  const count = (kind: LayerKind) => config.layers.filter((layer) => layer === kind).length
  return {
    family: config.family,
    vocabSize: config.vocabSize,
    hiddenSize: config.hiddenSize,
    maxPositions: config.maxPositions,
    pattern: config.layers.map((kind) => letters[kind]).join(''),
    layers: { mamba2: count('mamba2'), attention: count('attention'), mlp: count('mlp') },
    parameters: parameterCounts(config),
    ...(stored ? { stored } : {}),
    state: { dtype: formats.act, kv: formats.kv, ssm: formats.ssm, ...stateBytes(config, formats) },
  }
}

function infoLines(info: ReturnType<typeof describeModel>): string[] {
  const { layers, parameters, stored, state } = info
  const { total, ...kinds } = parameters
  const row = (name: string, value: number, note = '') => `  ${name.padEnd(16)}${grouped(value).padStart(18)}${note}`
  const share = (n: number) => `${((100 * n) / total).toFixed(1)} %`.padStart(9)
  return [
    `  ${info.family}, vocabulary ${info.vocabSize}, width ${info.hiddenSize}, ${info.maxPositions} positions`,
    `  ${info.pattern}`,
    'layers',
    ...Object.entries(layers).map(([kind, n]) => row(kind, n)),
    'parameters',
    ...Object.entries(kinds).map(([kind, n]) => row(kind, n, share(n))),
    row('total', total),
    ...(stored ? ['bytes as stored'] : []),
    ...Object.entries(stored ?? {}).map(([dtype, { bytes, tensors }]) => row(dtype, bytes, ` in ${tensors} tensors`)),
    `bytes beside the weights, in ${state.dtype}`,
    row(state.kv === state.dtype ? 'KV' : `KV (${state.kv})`, state.kvPerToken, ' per token'),
    row('convolution', state.convPerSequence, ' per sequence'),
    row(`SSM (${state.ssm})`, state.ssmPerSequence, ' per sequence'),
  ]
}

const grouped = (n: number) => n.toLocaleString('en-US')
