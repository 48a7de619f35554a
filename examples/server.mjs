// A small HTTP server: node examples/server.mjs [folder] [port] [device], then
// curl -N localhost:8080 -d 'In the beginning God'
// Requests share batches, a client that goes away frees its sequence, and the process stays responsive.
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { load } from 'nemotron-h'

const [folder = 'demo/model', port = '8080', device = 'cpu'] = process.argv.slice(2)
const model = await load(folder, { device })

const server = createServer(async (request, response) => {
  const gone = new AbortController()
  response.on('close', () => gone.abort())
  try {
    for await (const piece of model.generate(await text(request), { maxTokens: 64, signal: gone.signal })) {
      response.write(piece.text)
    }
    response.end('\n')
  } catch (error) {
    if (response.headersSent) response.destroy()
    else response.writeHead(400).end(`${error.message}\n`)
  }
})
server.listen(Number(port), () => console.log(`listening on ${server.address().port}`))
process.once('SIGTERM', () => server.close(() => model.dispose()))
