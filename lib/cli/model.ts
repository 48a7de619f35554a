/**
 * The models of commands: those that are only described, folders and presets; the options by which others are loaded, and
 * the loading, with a bar where someone watches.
 */
import cliProgress from 'cli-progress'
import { Argument, type Command, Option } from 'commander'
import type { Checkpoint } from '../checkpoint/folder.js'
import type { LoadProgress } from '../checkpoint/weights.js'
import type { LoadOptions, Model } from '../load.js'
import type { Config } from '../model/config.js'
import { presetOf, presetPaths, presets } from '../model/presets.js'
import { choices, integer } from '../options.js'
import { choiceFlag, numberFlag, pick } from './flags.js'

export const modelArgument = () =>
  new Argument('<model>', `folder of a Hugging Face checkpoint, or ${choices(presetPaths)}`)

export type Tensors = Checkpoint['tensors']

/** What a folder or preset describes; of a folder, also its tensors. */
export async function openModel(name: string): Promise<{ config: Config; tensors?: Tensors }> {
  if (name.startsWith('preset:')) {
    const preset = presetOf(name)
    if (!preset) throw new RangeError(`model is '${name}', expected ${choices(presetPaths)}`)
    return { config: presets[preset] }
  }
  const { openCheckpoint } = await import('../checkpoint/folder.js')
  return await openCheckpoint(name)
}

const loadFlags = {
  init: choiceFlag('--init <kind>', 'random: draw the weights of a preset:NAME, to measure its speed', 'random'),
  device: new Option('--device <name>', 'cpu, cuda (the first GPU) or cuda:N; cpu by default'),
  dtype: choiceFlag('--dtype <type>', 'activations: f32 or bf16; f32 on the CPU, bf16 on a GPU', 'f32', 'bf16'),
  kvCache: choiceFlag('--kv-cache <format>', 'keys and values: fp8; as activations by default', 'fp8'),
  ssmState: choiceFlag('--ssm-state <type>', 'states of Mamba-2: f32 (default) or f16', 'f32', 'f16'),
  weights: choiceFlag('--weights <format>', 'matrices: f32, bf16 or fp8; as stored by default', 'f32', 'bf16', 'fp8'),
  bf16Gemms: numberFlag(
    '--bf16-gemms <n>',
    'with --weights fp8: products at each end left in bf16; 4',
    integer({ min: 0 }),
  ),
  activationScaling: choiceFlag(
    '--activation-scaling <kind>',
    'fp8 activations by row, tensor or none',
    'row',
    'tensor',
    'none',
  ),
  context: numberFlag('--context <n>', "tokens a sequence may have; the model's own limit", integer({ min: 1 })),
  sequences: numberFlag('--sequences <n>', 'sequences to keep room for; 1 by default', integer({ min: 1 })),
} satisfies Partial<Record<keyof LoadOptions, Option>>

const threads = numberFlag('--threads <n>', 'threads on the CPU; one a core by default', integer({ min: 1, max: 1024 }))

export function addLoadOptions(command: Command): Command {
  for (const option of [...Object.values(loadFlags), threads]) command.addOption(option)
  return command
}

export async function loadModel(folder: string, options: Record<string, unknown>, signal: AbortSignal): Promise<Model> {
  const { load } = await import('../load.js')
  const { setThreads } = await import('../binding.js')
  if (options.threads !== undefined) setThreads(options.threads as number)
  const bar = process.stderr.isTTY ? loadBar() : undefined
  try {
    const chosen = pick<LoadOptions>(options, loadFlags)
    return await load(folder, { ...chosen, sequences: chosen.sequences ?? 1, onProgress: bar?.update, signal })
  } finally {
    bar?.stop()
  }
}

function loadBar() {
  const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(2)
  const bar = new cliProgress.SingleBar({
    format: 'loading {bar} {percentage}% | {done} of {all} GiB',
    stream: process.stderr,
    clearOnComplete: true,
    gracefulExit: false, // Ctrl-C is main.ts's
  })
  bar.start(1, 0, { done: gib(0), all: '?' })
  return {
    update: ({ loaded, total }: LoadProgress) => {
      bar.setTotal(total)
      bar.update(loaded, { done: gib(loaded), all: gib(total) })
    },
    stop: () => bar.stop(),
  }
}
