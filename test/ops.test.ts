// Every op, but those of sequence-ops.test.ts.
import { ofSequences, testOps } from './ops/every.ts'

testOps((name) => !ofSequences(name))
