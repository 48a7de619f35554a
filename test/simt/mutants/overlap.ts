// Bugs of launches that overlap: kernels that do not wait for the launch before, or let the next one begin too early;
// what is read ahead though the launch before writes it.
import type { Mutant } from '../mutant.ts'

const early = /before griddepcontrol.wait/

const kernels: Omit<Mutant, 'file'>[] = [
  {
    title: 'a kernel never waits',
    find: '  griddepcontrol_wait();\n  griddepcontrol_launch_dependents();\n  y[threadIdx.x] = 2',
    replace: '  y[threadIdx.x] = 2',
    caught: early,
  },
  {
    title: 'a kernel that has nothing to do does not wait',
    find: '  griddepcontrol_wait();\n  griddepcontrol_launch_dependents();\n  y[threadIdx.x] = 2',
    replace: '  if (x) return;\n  y[threadIdx.x] = 2',
    caught: /exits without griddepcontrol.wait/,
  },
  {
    title: 'one thread waits for all',
    find: '  griddepcontrol_wait();\n  griddepcontrol_launch_dependents();\n  y[threadIdx.x] = 2',
    replace: '  if (threadIdx.x == 0) griddepcontrol_wait();\n  y[threadIdx.x] = 2',
    caught: early,
  },
  {
    title: 'the next launch begins before the wait',
    find: '  griddepcontrol_wait();\n  griddepcontrol_launch_dependents();\n  y[threadIdx.x] = 2',
    replace: '  griddepcontrol_launch_dependents();\n  griddepcontrol_wait();\n  y[threadIdx.x] = 2',
    caught: /launch_dependents before griddepcontrol.wait/,
  },
  {
    title: 'x is read ahead',
    find: 'const float w = weight[threadIdx.x];',
    replace: 'const float w = weight[threadIdx.x] + 0 * x[threadIdx.x];',
    caught: early,
  },
  {
    title: 'a result is written ahead',
    find: 'const float w = weight[threadIdx.x];',
    replace: 'const float w = weight[threadIdx.x];\n  y[threadIdx.x] = 0;',
    caught: early,
  },
  {
    title: 'what the launch before writes is read ahead',
    find: 'run(product_kernel, first, weight, +y, +weight, +doubled)',
    replace: 'run(product_kernel, first, doubled, +y, +doubled, +weight)',
    caught: /which the launch before writes/,
  },
]

const rules: Omit<Mutant, 'file'>[] = [
  { title: 'all memory may be read ahead', find: '!any(read_, ', replace: '!any(std::vector<Extent>{ahead}, ' },
  { title: 'a part of an argument is enough', find: 'return within(ahead, e);', replace: 'return meet(ahead, e);' },
  { title: 'what the op writes may be read ahead', find: ' || any(written_, meets)', replace: '' },
  { title: 'what the op before writes may be read ahead', find: '!any(written_before_, meets)', replace: 'true' },
  { title: 'a launch begins before a graph is over', find: 'if (!follows_launch_) return false;', replace: '' },
  { title: 'the first launch is treated as the second', find: 'return launched_ || ', replace: 'return true || ' },
  { title: 'the second launch is treated as the first', find: 'return launched_ || ', replace: 'return ' },
  {
    title: 'an op without a launch takes the place of the one before',
    find: 'if (std::exchange(launched_, false)) std::swap',
    replace: 'launched_ = false, std::swap',
  },
  { title: 'only what reads ahead begins early', find: 'if (!ahead.bytes) return true;', replace: '' },
  { title: 'the arguments of ops before are kept', find: '  read_.clear();\n', replace: '' },
  { title: 'results of ops before are kept', find: '  written_.clear();\n', replace: '' },
]

const streaming = { file: 'csrc/cuda/gemm/streaming/kernel.cuh', source: 'csrc/cuda/gemm/streaming/streaming.cu' }

export const mutants: Mutant[] = [
  ...kernels.map((mutant) => ({ file: 'test/simt/overlap.cu', check: 'early_launches', ...mutant })),
  ...rules.map((mutant) => ({
    file: 'csrc/cuda/overlap.cc',
    source: 'test/simt/overlap.cu',
    check: 'beginning_early',
    ...mutant,
  })),
  {
    title: 'a norm does not wait',
    file: 'csrc/cuda/norms.cu',
    find: '  wait_for_previous_launch();\n',
    replace: '',
    op: 'rmsNorm',
    caught: early,
  },
  {
    title: 'all kernels let the next launch begin before they wait',
    file: 'csrc/cuda/kernel.cuh',
    source: 'csrc/cuda/norms.cu',
    find: '  griddepcontrol_wait();\n  griddepcontrol_launch_dependents();\n',
    replace: '  griddepcontrol_launch_dependents();\n  griddepcontrol_wait();\n',
    op: 'rmsNorm',
    caught: /launch_dependents before griddepcontrol.wait/,
  },
  {
    title: 'streamed products load x ahead of the wait',
    ...streaming,
    find: '      wait_for_previous_launch();\n      for (int unit = begin; unit < ahead; ++unit) load_x(unit);\n',
    replace: '      for (int unit = begin; unit < ahead; ++unit) load_x(unit);\n      wait_for_previous_launch();\n',
    op: 'linear',
    made: true,
    caught: early,
  },
  {
    title: 'the warps of streamed products that multiply do not wait',
    ...streaming,
    find: '    wait_for_previous_launch();\n    float sums',
    replace: '    float sums',
    op: 'linear',
    made: true,
    caught: early,
  },
  {
    title: 'streamed products do not say what they read ahead',
    ...streaming,
    find: '.ahead = {p.b.data.get(), p.b.span_bytes()}',
    replace: '.ahead = {}',
    op: 'linear',
    made: true,
    caught: early,
  },
  {
    title: 'weights that the op before makes are read ahead',
    file: 'csrc/cuda/overlap.cc',
    find: '!any(written_before_, meets)',
    replace: 'true',
    op: 'linear',
    made: true,
    caught: /which the launch before writes/,
  },
]
