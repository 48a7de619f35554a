// bench/figure.mjs's JSON as a chart: accuracy against throughput, one panel for each class of models. Filled points are
// measured, hollow ones modelled. node bench/figure-chart.mjs FILE.json > FILE.svg
import { readFile } from 'node:fs/promises'
import { pathToFileURL } from 'node:url'
import { init } from 'echarts'
import { lengthsOf, models, throughput } from './figure-models.mjs'

const [width, height] = [960, 400]
const ink = { text: '#24292f', quiet: '#57606a', line: '#d0d7de', own: '#4c8c2b', other: '#6e7781' }
const panels = ['8B class', '50-70B class']

/** The chart of the first scenario, in SVG. */
export function chart({ rows, machine, setup }) {
  const scenario = rows[0]?.scenario
  const points = rows.flatMap((row) => {
    if (row.scenario !== scenario || !row.seconds) return []
    return [{ ...models.find(({ name }) => name === row.model), row, x: throughput(row) }]
  })
  const where = machine.gpu ?? machine.cpu
  const made = `${where}, ${setup.weights} weights, random${setup.tiny ? '; tiny models: not a result' : ''}`
  const echart = init(null, null, { renderer: 'svg', ssr: true, width, height })
  echart.setOption({
    animation: false,
    backgroundColor: '#ffffff',
    textStyle: { fontFamily: 'system-ui, sans-serif', color: ink.text },
    title: [
      {
        text: 'MMLU-Pro against throughput',
        subtext: points.length > 0 ? `${lengthsOf(scenario)}; ${made}` : 'not measured',
        left: 16,
        top: 8,
        textStyle: { fontSize: 16, color: ink.text },
        subtextStyle: { fontSize: 12, color: ink.quiet },
      },
      ...panels.map((text, i) => ({ text, left: panelLeft(i), top: 66, textStyle: { fontSize: 13, color: ink.text } })),
    ],
    grid: panels.map((_, i) => ({ left: panelLeft(i), width: panelWidth, top: 96, bottom: 52 })),
    xAxis: panels.map((group, i) => axis(points, group, i)),
    yAxis: panels.map((_, i) => ({
      gridIndex: i,
      name: i === 0 ? 'MMLU-Pro, %' : '',
      nameLocation: 'middle',
      nameGap: 34,
      min: i === 0 ? 30 : 45,
      max: i === 0 ? 55 : 65,
      ...quiet,
    })),
    series: panels.map((group, i) => ({
      type: 'scatter',
      xAxisIndex: i,
      yAxisIndex: i,
      symbolSize: 13,
      labelLayout: { moveOverlap: 'shiftY' },
      data: points.filter((point) => point.group === group).map(dot),
    })),
  })
  const svg = echart.renderToSVGString()
  echart.dispose()
  return svg
}

const panelWidth = 380
const panelLeft = (i) => 64 + i * (panelWidth + 76)
const quiet = {
  nameTextStyle: { color: ink.quiet },
  axisLabel: { color: ink.quiet },
  axisLine: { lineStyle: { color: ink.line } },
  splitLine: { lineStyle: { color: '#eef1f4' } },
}

/** From 0, with room for the label to the right of the fastest. */
function axis(points, group, gridIndex) {
  const fastest = Math.max(1, ...points.filter((point) => point.group === group).map(({ x }) => x))
  const step = 10 ** Math.floor(Math.log10(fastest))
  const max = Math.ceil((1.6 * fastest) / step) * step
  return { gridIndex, name: 'output tokens/s/GPU', nameLocation: 'middle', nameGap: 30, min: 0, max, ...quiet }
}

function dot({ label, name, mmluPro, x, row }) {
  const color = /^\d/.test(name) ? ink.own : ink.other // the names of Nemotron-H are sizes
  return {
    value: [x, mmluPro],
    itemStyle: row.modelled
      ? { color: '#ffffff', borderColor: color, borderWidth: 2, opacity: 1 }
      : { color, opacity: 1 },
    label: {
      show: true,
      position: 'right',
      distance: 8,
      formatter: `${label}${row.modelled ? ', modelled' : ''}  ${x >= 100 ? Math.round(x) : x.toPrecision(3)}`,
      color,
      fontSize: 12,
    },
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  console.log(chart(JSON.parse(await readFile(process.argv[2], 'utf8'))))
}
