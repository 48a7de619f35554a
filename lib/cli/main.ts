#!/usr/bin/env node
/**
 * The command `nemotron-h`: results to standard output, all else to standard error. Exits 0; 1 after an error, told in
 * one line; 128 + the signal when stopped by Ctrl-C or by a reader that left the pipe.
 *
 * Commands import the library when they run, so that help and doctor work where the native addon does not load.
 */
import { readFileSync } from 'node:fs'
import { Command } from 'commander'
import { doctorCommand } from './doctor.js'
import { generateCommand } from './generate.js'
import { infoCommand } from './info.js'
import { logitsCommand } from './logits.js'
import { planCommand } from './plan.js'

const { version, description } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))

const say = (message: string) => process.stderr.write(`nemotron-h: ${message.replace(/^nemotron-h: /, '')}\n`)

const stopped = new AbortController()
const stop = (exitCode: number) => {
  process.exitCode = exitCode
  stopped.abort()
}
process.once('SIGINT', () => stop(130)) // the second Ctrl-C ends the process as usual
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (stopped.signal.aborted) return
  if (error.code === 'EPIPE') return stop(141)
  say(`standard output: ${error.message}`)
  stop(1)
})

const program = new Command('nemotron-h')
  .description(description)
  .version(version)
  .configureOutput({
    // "error: unknown option '--tempo'\n(Did you mean --temperature?)\n" as one line
    outputError: (text) =>
      say(
        text
          .replace(/^error: /, '')
          .replace(/\n\(Did you (.*)\)/, ', did you $1')
          .trimEnd(),
      ),
  })
  .addHelpText('after', '\nnemotron-h COMMAND --help tells more, with examples.')

const commands = [
  generateCommand(stopped.signal),
  logitsCommand(stopped.signal),
  infoCommand(),
  planCommand(),
  doctorCommand(version),
]
for (const command of commands) program.addCommand(command.copyInheritedSettings(program))

try {
  await program.parseAsync()
} catch (error) {
  if (!stopped.signal.aborted) {
    say((error as Error).message)
    process.exitCode = 1
  }
}
