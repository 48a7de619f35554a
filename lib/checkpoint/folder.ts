// A Hugging Face model folder, opened: config.json, generation_config.json, and every tensor found and checked in one
// file or in shards. Headers only; the data is left where it is.

import { access, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Config } from '../model/config.js'
import { boolean, float, integer } from '../options.js'
import { eosIds, parseConfig } from './config-json.js'
import { readJson } from './json.js'
import { type MatchedTensor, matchTensors, type StoredTensor } from './names.js'
import { readHeader } from './safetensors.js'

/** What generation_config.json says about how to sample; a key that it lacks is absent. */
export interface GenerationDefaults {
  /** Ids that end a text: those of generation_config.json, else of config.json. */
  readonly eosIds: readonly number[]
  readonly doSample: boolean
  readonly temperature?: number
  readonly topP?: number
  readonly topK?: number
  readonly minP?: number
  readonly repetitionPenalty?: number
}

export interface Checkpoint {
  readonly folder: string
  readonly config: Config
  readonly generation: GenerationDefaults
  /** By the model's names: `layers.3.mixer.in_proj.weight`. */
  readonly tensors: ReadonlyMap<string, MatchedTensor>
}

/** Opens the model folder; throws before any data is read when a file or a tensor is not as it has to be. */
export async function openCheckpoint(
  folder: string,
  { signal }: { signal?: AbortSignal | undefined } = {},
): Promise<Checkpoint> {
  signal?.throwIfAborted()
  await requireFolder(folder)
  const configPath = join(folder, 'config.json')
  if (!(await exists(configPath))) throw new Error(`${configPath}: file is missing, expected the model's configuration`)

  const config = parseConfig(await readJson(configPath, signal))
  const generation = await readGeneration(folder, config, signal)
  const stored = await readTensors(folder, signal)
  return { folder, config, generation, tensors: matchTensors(config, stored, folder) }
}

async function requireFolder(folder: string): Promise<void> {
  const found = await stat(folder).catch(absent)
  if (found?.isDirectory()) return
  if (found) throw new Error(`${folder}: is a file, expected a model folder`)
  const hint = /^[\w.-]+\/[\w.-]+$/.test(folder)
    ? ` (models are read from local folders; for one on the Hugging Face Hub: hf download ${folder} --local-dir DIR)`
    : ''
  throw new Error(`${folder}: folder is missing, expected a local model folder${hint}`)
}

async function readGeneration(folder: string, config: Config, signal?: AbortSignal): Promise<GenerationDefaults> {
  const path = join(folder, 'generation_config.json')
  if (!(await exists(path))) return { eosIds: config.eosIds, doSample: false }
  const json = await readJson(path, signal)
  const settings = {
    temperature: json.optional('temperature', float({ min: 0 })),
    topP: json.optional('top_p', float({ above: 0, max: 1 })),
    topK: json.optional('top_k', integer({ min: 0, max: 2 ** 31 - 1 })),
    minP: json.optional('min_p', float({ min: 0, max: 1 })),
    repetitionPenalty: json.optional('repetition_penalty', float({ above: 0 })),
  }
  return {
    eosIds: eosIds(json) ?? config.eosIds,
    doSample: json.get('do_sample', boolean, false),
    ...(Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)) as Partial<
      Record<keyof typeof settings, number>
    >),
  }
}

const single = 'model.safetensors'
const index = 'model.safetensors.index.json'

/** All tensors of the folder, by their names in the files. */
async function readTensors(folder: string, signal?: AbortSignal): Promise<Map<string, StoredTensor>> {
  if (await exists(join(folder, single))) return new Map(await readShard(join(folder, single), signal))
  if (await exists(join(folder, index))) return readShards(folder, signal)
  throw new Error(`${folder}: weights are missing, expected ${single} or ${index}`)
}

async function readShard(file: string, signal?: AbortSignal): Promise<[string, StoredTensor][]> {
  const { tensors } = await readHeader(file, { signal })
  return Array.from(tensors, ([name, entry]) => [name, { file, ...entry }])
}

async function readShards(folder: string, signal?: AbortSignal): Promise<Map<string, StoredTensor>> {
  const path = join(folder, index)
  const weightMap = (await readJson(path, signal)).object('weight_map')
  if (!weightMap) throw new Error(`${path}: weight_map is missing, expected an object`)

  const shardOf = new Map<string, string>()
  for (const [name, shard] of Object.entries(weightMap.values)) {
    // A shard lies in this folder: an index from elsewhere must not reach other files.
    if (typeof shard !== 'string' || shard === '' || basename(shard) !== shard || /^\.\.?$/.test(shard))
      weightMap.refuse(name, 'a file name')
    shardOf.set(name, shard as string)
  }
  const shards = [...new Set(shardOf.values())]
  for (const shard of shards) {
    if (!(await exists(join(folder, shard)))) {
      throw new Error(`${join(folder, shard)}: file is missing, expected the shard that ${index} names`)
    }
  }
  const stored = new Map<string, StoredTensor>()
  const headers = await Promise.all(shards.map((shard) => readShard(join(folder, shard), signal)))
  for (const [name, tensor] of headers.flat()) {
    const shard = shardOf.get(name)
    if (shard === undefined || join(folder, shard) !== tensor.file) {
      throw new Error(`${tensor.file}: holds ${name}, expected it in ${shard ?? 'no shard'} as ${index} says`)
    }
    stored.set(name, tensor)
  }
  for (const [name, shard] of shardOf) {
    if (!stored.has(name)) throw new Error(`${join(folder, shard)}: ${name} is missing, expected it as ${index} says`)
  }
  return stored
}

async function exists(path: string): Promise<boolean> {
  return (await access(path).then(() => true, absent)) ?? false
}

/** Turns "there is nothing" into undefined; anything else that a file system refuses stays an error with its path. */
function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error
}
