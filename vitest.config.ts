import { availableParallelism } from 'node:os'
import { configDefaults, defineConfig } from 'vitest/config'

const timed = ['test/event-loop.test.ts'] // needs the machine for itself

export default defineConfig({
  test: {
    testTimeout: 30_000,
    pool: 'forks', // a native crash ends one file, not the run
    maxWorkers: availableParallelism(), // by default one less, which of two is half
    projects: [
      {
        extends: true,
        test: {
          name: 'tests',
          include: ['test/**/*.test.ts'],
          exclude: [...configDefaults.exclude, ...timed],
          sequence: { groupOrder: 0 },
        },
      },
      { extends: true, test: { name: 'timed', include: timed, sequence: { groupOrder: 1 } } },
    ],
  },
})
