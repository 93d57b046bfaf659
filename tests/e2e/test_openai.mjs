// test_openai.mjs - the gateway as application developers meet it: the npm `openai` client against
// the whole suite, down to the contributors' pay. Prints TAP.
import assert from 'node:assert/strict'
import OpenAI from 'openai'
import { baseModel, startStack, until } from './stack.mjs'

const folder = baseModel()
if (!folder) {
  console.log('ok 1 - SKIP: no base model')
  process.exit(0)
}
const stack = await startStack(folder)
const client = new OpenAI({ baseURL: `${stack.url}/v1`, apiKey: stack.apiKey, maxRetries: 0 })
const ask = content => ({ model: stack.adapter, messages: [{ role: 'user', content }], temperature: 0, max_tokens: 24 })
const receipts = []

const tests = {
  'lists models with their lineage': async () => {
    const models = (await client.models.list()).data
    assert.deepEqual(models.map(m => m.id), [stack.adapter])
    assert.equal(models[0].openledger.datanet, 'tales')
    assert.equal((await client.models.retrieve(stack.adapter)).id, stack.adapter)
  },
  'answers a chat with usage and a receipt': async () => {
    const answer = await client.chat.completions.create(ask('Who is number 7?'))
    assert.equal(answer.object, 'chat.completion')
    const { prompt_tokens, completion_tokens, total_tokens } = answer.usage
    assert.ok(completion_tokens > 0 && completion_tokens <= 24)
    assert.equal(answer.choices[0].finish_reason, completion_tokens < 24 ? 'stop' : 'length')
    assert.equal(total_tokens, prompt_tokens + completion_tokens)
    assert.match(answer.openledger.receipt, /^[0-9a-f]{64}$/)
    assert.equal(answer._request_id, answer.openledger.request_id)
    receipts.push(answer.openledger)
  },
  'streams the same text that it answers at once': async () => {
    const whole = await client.chat.completions.create(ask('Who is number 9?'))
    const stream = await client.chat.completions.create({ ...ask('Who is number 9?'), stream: true, stream_options: { include_usage: true } })
    let text = '', usage, ledger, reason
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? ''
      usage = chunk.usage ?? usage
      ledger = chunk.openledger ?? ledger
      reason = chunk.choices[0]?.finish_reason ?? reason
    }
    assert.equal(text, whole.choices[0].message.content)
    assert.deepEqual(usage, whole.usage)
    assert.equal(reason, whole.choices[0].finish_reason)
    receipts.push(whole.openledger, ledger)
  },
  'completes a prompt, with a stop sequence': async () => {
    const answer = await client.completions.create({ model: stack.adapter, prompt: 'Once upon a time', max_tokens: 20, temperature: 0, stop: [','] })
    assert.ok(!answer.choices[0].text.includes(','))
    receipts.push(answer.openledger)
  },
  'answers many at once, numbered without gaps': async () => {
    const answers = await Promise.all(Array.from({ length: 12 }, (_, i) => client.chat.completions.create({ ...ask(`Who is number ${i}?`), temperature: 0.8, seed: i })))
    receipts.push(...answers.map(a => a.openledger))
    const numbers = receipts.map(r => r.number).sort((a, b) => a - b)
    assert.deepEqual(numbers, numbers.map((_, i) => i + 1))
  },
  'gives the same answer and receipt for an idempotency key': async () => {
    const options = { headers: { 'Idempotency-Key': 'once-only' } }
    const first = await client.chat.completions.create(ask('Twice?'), options)
    assert.deepEqual(await client.chat.completions.create(ask('Twice?'), options), first)
    await assert.rejects(client.chat.completions.create(ask('Other'), options), { status: 409 })
    receipts.push(first.openledger)
  },
  'refuses with OpenAI errors': async () => {
    const create = body => client.chat.completions.create(body)
    await assert.rejects(create({ ...ask('x'), model: 'nobody' }), error => error instanceof OpenAI.NotFoundError && error.code === 'model_not_found')
    await assert.rejects(create({ ...ask('x'), n: 2 }), error => error instanceof OpenAI.BadRequestError && error.param === 'n')
    await assert.rejects(create({ ...ask('x'), wings: 2 }), { status: 400, code: 'unknown_parameter' })
    await assert.rejects(create(ask('word '.repeat(5000))), { status: 400, code: 'context_length_exceeded' })
    const stranger = new OpenAI({ baseURL: `${stack.url}/v1`, apiKey: 'ol-nobody', maxRetries: 0 })
    await assert.rejects(stranger.chat.completions.create(ask('x')), error => error instanceof OpenAI.AuthenticationError)
  },
  'is settled and shared': async () => {
    for (const { receipt, fee } of receipts.slice(0, 3)) {
      const state = await until('settlement', async () => {
        const found = await stack.rpc('Settlement/GetReceipt', { receipt: Buffer.from(receipt, 'hex').toString('base64') })
        return Number(found.sharedIndex) > 0 && found
      })
      assert.equal(state.postings.find(p => p.reason === 'fee.charge').amount, fee)
      const shares = await stack.rpc('Attribution/GetAttribution', { receipt: Buffer.from(receipt, 'hex').toString('base64') })
      const sum = (shares.shares.shares ?? []).reduce((total, s) => total + s.sharePpb, shares.shares.unearnedPpb ?? 0)
      assert.equal(sum, 1e9)
    }
    assert.equal((await stack.rpc('Settlement/GetInfo', {})).supply, '1000000000')
  },
  'serves the page': async () => {
    const page = await (await fetch(stack.url)).text()
    assert.match(page, /<title>OpenLedger<\/title>/)
  },
}

let failed = 0
for (const [i, [name, test]] of Object.entries(tests).entries()) {
  try {
    await test()
    console.log(`ok ${i + 1} - ${name}`)
  } catch (error) {
    failed++
    console.log(`not ok ${i + 1} - ${name}`)
    console.log(String(error.stack ?? error).replace(/^/gm, '# '))
  }
}
if (failed) console.log(stack.log('lora-gateway').trim().split('\n').slice(-15).join('\n').replace(/^/gm, '# '))
await stack.stop()
process.exit(failed ? 1 : 0)
