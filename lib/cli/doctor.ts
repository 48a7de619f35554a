/** `nemotron-h doctor`: looks at this machine and prints what lib/doctor.ts makes of it. */
import { readFile } from 'node:fs/promises'
import { availableParallelism, freemem, totalmem } from 'node:os'
import { Command } from 'commander'
import { type Addon, diagnose, reportLines } from '../doctor.js'

export function doctorCommand(version: string): Command {
  return new Command('doctor')
    .description('tells what was built, which GPUs and drivers are seen, and what to do where one is not')
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nExamples:\n  nemotron-h doctor\n  nemotron-h doctor --json')
    .action(async ({ json }: { json?: boolean }) => {
      const report = diagnose({
        version,
        node: process.versions.node,
        platform: `${process.platform}-${process.arch}`,
        cores: availableParallelism(),
        memory: { total: totalmem(), free: freemem() },
        addon: await addon(),
        kernelDriver: await kernelDriver(),
      })
      console.log(json ? JSON.stringify(report) : reportLines(report).join('\n'))
    })
}

async function addon(): Promise<Addon | { error: string }> {
  try {
    const { binding } = await import('../binding.js')
    const refusal = thrownBy(() => binding.empty('u8', [0], 'cuda').dispose())
    return { build: binding.buildInfo(), gpus: binding.gpus(), refusal }
  } catch (error) {
    return { error: (error as Error).message }
  }
}

function thrownBy(run: () => void): string | undefined {
  try {
    run()
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

/** The version of NVIDIA's kernel module: in a container it may be there, and the rest of the driver not. */
async function kernelDriver(): Promise<string | undefined> {
  const text = await readFile('/proc/driver/nvidia/version', 'utf8').catch(() => '')
  return /\s(\d+\.[\d.]+)\s/.exec(text)?.[1]
}
