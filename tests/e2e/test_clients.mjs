// test_clients.mjs - the front door as programs meet it that speak gRPC (@grpc/grpc-js), gRPC-Web and
// Connect, with nothing of ours but the .proto files; and what test_openai.mjs leaves out. Prints TAP.
import assert from 'node:assert/strict'
import path from 'node:path'
import grpc from '@grpc/grpc-js'
import loader from '@grpc/proto-loader'
import OpenAI from 'openai'
import protobuf from 'protobufjs'
import { baseModel, runTests, startStack, until } from './stack.mjs'

const folder = baseModel()
if (!folder) {
  console.log('SKIP: no base model')
  process.exit(0)
}
const stack = await startStack(folder)
const services = grpc.loadPackageDefinition(loader.loadSync('openledger/v1/services.proto', { includeDirs: ['proto'], longs: String })).openledger.v1
const clients = []
function client(name) {
  clients.push(new services[name](new URL(stack.url).host, grpc.credentials.createInsecure()))
  return clients.at(-1)
}
const registry = client('Registry'), settlement = client('Settlement'), trainer = client('Trainer')
const call = (service, method, request) => new Promise((resolve, reject) => service[method](request, { deadline: Date.now() + 20000 }, (error, reply) => (error ? reject(error) : resolve(reply))))
const watch = job => new Promise((resolve, reject) => {
  const seen = []
  const stream = trainer.WatchJob({ job })
  stream.on('data', message => seen.push(message))
  stream.on('error', reject)
  stream.on('end', () => resolve(seen))
})

// protobuf.js alone, for the transports without a client library
const root = new protobuf.Root()
root.resolvePath = (_, target) => path.join('proto', target)
root.loadSync('openledger/v1/services.proto')
const type = name => root.lookupType(`openledger.v1.${name}`)
const encode = (name, fields) => type(name).encode(type(name).create(fields)).finish()
const post = (method, contentType, body) => fetch(`${stack.url}/openledger.v1.${method}`, { method: 'POST', headers: { 'content-type': contentType }, body })

const tests = {
  'gRPC: one method of each service that keeps lists': async () => {
    const { adapters } = await call(registry, 'ListAdapters', {})
    assert.deepEqual(adapters.map(a => a.name), [stack.adapter])
    assert.equal((await call(settlement, 'GetInfo', {})).supply, '1000000000')
    const { jobs } = await call(trainer, 'ListJobs', {})
    assert.deepEqual(jobs.map(j => [j.job.toString('hex'), j.state]), [[stack.job, 'completed']])
  },
  'gRPC: an error has a status and says what is wrong': async () => {
    await assert.rejects(call(registry, 'GetAdapter', { name: 'nobody' }), error => error.code === grpc.status.NOT_FOUND && error.details.includes('nobody'))
    await assert.rejects(call(settlement, 'GetTx', { tx: Buffer.from('short') }), error => error.code === grpc.status.INVALID_ARGUMENT && error.details.length > 5)
    const strange = new grpc.Client(new URL(stack.url).host, grpc.credentials.createInsecure())
    clients.push(strange)
    await assert.rejects(new Promise((resolve, reject) => strange.makeUnaryRequest('/openledger.v1.Registry/Nothing', value => value, value => value, Buffer.alloc(0), (error, reply) => (error ? reject(error) : resolve(reply)))), { code: grpc.status.UNIMPLEMENTED })
  },
  'gRPC: a server stream follows a training to its end': async () => {
    const training = stack.cliStart('train', 'submit', 'tales', 'base', '--as', 'developer', '--steps', '200', '--rows', '4', '--context', '96')
    const job = await until('job', async () => (await call(trainer, 'ListJobs', {})).jobs.map(j => j.job).find(id => id.toString('hex') !== stack.job))
    const seen = await watch(job)
    assert.equal((await training.done).code, 0)
    assert.ok(seen.length >= 1)
    assert.deepEqual([seen.at(-1).state, seen.at(-1).step, seen.at(-1).steps], ['completed', 200, 200])
    for (const [i, progress] of seen.entries()) assert.ok(i === 0 || (progress.step ?? 0) >= (seen[i - 1].step ?? 0), JSON.stringify(seen.slice(i - 1, i + 1)))
    await assert.rejects(watch(Buffer.alloc(32, 7)), { code: grpc.status.NOT_FOUND })
  },
  'Connect: JSON and binary give the same': async () => {
    const json = await (await post('Registry/ListAdapters', 'application/json', '{}')).json()
    assert.deepEqual(json.adapters.map(a => a.name), [stack.adapter])
    const reply = await post('Registry/ListAdapters', 'application/proto', encode('ListRequest', {}))
    assert.equal(reply.headers.get('content-type'), 'application/proto')
    const binary = type('ListAdaptersReply').decode(new Uint8Array(await reply.arrayBuffer()))
    assert.equal(Buffer.from(binary.adapters[0].content).toString('base64'), json.adapters[0].content)
    const missing = await post('Registry/GetAdapter', 'application/json', '{"name":"nobody"}')
    assert.equal(missing.status, 404)
    assert.equal((await missing.json()).code, 'not_found')
    const unknown = await post('Registry/GetAdapter', 'application/json', '{"nombre":"x"}')
    assert.equal(unknown.status, 400)
    assert.match((await unknown.json()).message, /nombre/)
  },
  'gRPC-Web: a message, then the trailers': async () => {
    const message = encode('NameRequest', { name: stack.adapter })
    const frame = Buffer.concat([Buffer.alloc(5), message])
    frame.writeUInt32BE(message.length, 1)
    const bytes = Buffer.from(await (await post('Registry/GetAdapter', 'application/grpc-web+proto', frame)).arrayBuffer())
    const size = bytes.readUInt32BE(1)
    assert.equal(bytes[0], 0)
    assert.equal(type('AdapterRecord').decode(bytes.subarray(5, 5 + size)).name, stack.adapter)
    assert.equal(bytes[5 + size], 0x80)
    assert.match(bytes.subarray(10 + size).toString(), /grpc-status: ?0/)
  },
  'OpenAI: a grant that is spent is a quota error': async () => {
    const apiKey = stack.cli('grant', 'open', '0.0001', '--as', 'payer').match(/ol-[0-9a-f]+/)[0]
    const poor = new OpenAI({ baseURL: `${stack.url}/v1`, apiKey, maxRetries: 0 })
    await assert.rejects(poor.chat.completions.create({ model: stack.adapter, messages: [{ role: 'user', content: 'Who?' }], max_tokens: 40 }), error => error instanceof OpenAI.RateLimitError && error.code === 'insufficient_quota')
  },
}

const code = await runTests(tests, stack, ['lora-gateway', 'registry'])
for (const each of clients) each.close()
await stack.stop()
process.exit(code)
