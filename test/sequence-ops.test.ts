// The ops of Mamba-2 and attention, which take as long as all others: a file each, so that two workers share them.
import { ofSequences, testOps } from './ops/every.ts'

testOps(ofSequences)
