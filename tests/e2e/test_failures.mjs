// test_failures.mjs - kill -9 of every process in turn while answers are asked and paid for; Redis
// flushed, frozen, killed; nats-server killed. Whatever happens, each request ends in one answer that is
// charged once, shared once, and the books balance to the last unit.
import { randomUUID } from 'node:crypto'
import { connect } from 'node:net'
import { baseModel, sleep, startStack, until } from './stack.mjs'

const folder = baseModel()
if (folder === null) {
  console.log('SKIP: ../shared/data/stories260K is not here')
  process.exit(0)
}

const units = text => {
  const [whole, part = ''] = text.split('.')
  return BigInt(whole) * 10n ** 18n + BigInt(part.padEnd(18, '0'))
}
const base64 = hex => Buffer.from(hex, 'hex').toString('base64')

let number = 0
let failed = 0
async function test(name, body) {
  number++
  try {
    await body()
    console.log(`ok ${number} - ${name}`)
  } catch (error) {
    failed++
    console.log(`not ok ${number} - ${name}: ${error.stack ?? error}`)
  }
}
function check(condition, message) {
  if (!condition) throw new Error(message)
}

const stack = await startStack(folder)
const answers = []

const pidOf = program => JSON.parse(stack.suite()).programs.find(p => p.name === program).pid
/** The supervisor writes suite.json anew whenever it has started something again. */
const alive = program => until(program, async () => {
  const pid = pidOf(program)
  try { process.kill(pid, 0) } catch { return 0 }
  return pid
})

/** One question; asked again with the same Idempotency-Key until it is answered. */
async function ask(prompt) {
  const key = randomUUID()
  return until('answer', async () => {
    const reply = await fetch(`${stack.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stack.apiKey}`, 'content-type': 'application/json', 'idempotency-key': key },
      body: JSON.stringify({ model: stack.adapter, max_tokens: 24, temperature: 0, messages: [{ role: 'user', content: prompt }] }),
      signal: AbortSignal.timeout(15000)
    })
    const body = await reply.json()
    if (reply.status >= 500 || reply.status === 429 || reply.status === 409) return null
    if (!reply.ok) throw new Error(`HTTP ${reply.status}: ${JSON.stringify(body)}`)
    answers.push(body)
    return body
  }, 60000)
}

/** Questions in flight while something is done to the suite. */
async function during(action) {
  const asked = [1, 2, 3, 4].map(i => ask(`Who is number ${i}?`))
  await sleep(15)
  await action()
  await Promise.all(asked)
  await ask('Who is number 5?')
}

async function kill(program) {
  process.kill(await alive(program), 'SIGKILL')
}

function redisCommand(text) {
  const { redis } = JSON.parse(stack.suite())
  const [host, port] = redis.split(':')
  return new Promise((done, fail) => {
    const socket = connect(Number(port), host, () => socket.write(`${text}\r\n`))
    socket.once('data', data => { socket.end(); done(data.toString()) }).once('error', fail)
  })
}

try {
  for (const program of ['registry', 'datanet', 'trainer', 'attribution', 'lora-gateway', 'settlement']) {
    await test(`kill -9 of ${program}: every question is answered`, () => during(() => kill(program)))
  }
  await test('Redis flushed: the system goes on', () => during(async () => {
    check((await redisCommand('FLUSHALL')).startsWith('+OK'), 'FLUSHALL was refused')
  }))
  await test('Redis frozen, then killed: the system goes on', async () => {
    const pid = await alive('redis-server')
    process.kill(pid, 'SIGSTOP')
    try {
      await during(async () => {})
    } finally {
      process.kill(pid, 'SIGKILL')
    }
    await ask('Who is number 6?')
  })
  await test('nats-server killed: services reconnect and go on', () => during(() => kill('nats-server')))

  await test('a training killed half-way ends in the same adapter as an undisturbed one', async () => {
    const submit = () => stack.cli('train', 'submit', 'tales', 'base', '--as', 'developer', '--steps', '120', '--rows', '4', '--context', '96', '--seed', '7', '--no-watch').match(/\b[0-9a-f]{64}\b/)[0]
    const done = job => until('job', async () => {
      const record = await stack.rpc('Trainer/GetJob', { job: base64(job) })
      check(record.state !== 'failed', `the job failed: ${record.reason}`)
      return record.state === 'completed' && record
    }, 120000)
    const disturbed = submit()
    await until('training', async () => ((await stack.rpc('Trainer/GetJob', { job: base64(disturbed) })).progress?.step ?? 0) > 5)
    await kill('trainer')
    const first = await done(disturbed)
    const second = await done(submit())
    check(first.adapter === second.adapter, 'the adapters differ')
    check(first.transcriptRoot === second.transcriptRoot, 'the transcripts differ')
  })

  await test('every answer is charged once and shared once; the books balance', async () => {
    const ids = new Set(answers.map(a => a.openledger.receipt))
    check(ids.size === answers.length, `${answers.length} answers, ${ids.size} receipts`)
    let fees = 0n
    for (const id of ids) {
      const state = await until(`share of ${id}`, async () => {
        const found = await stack.rpc('Settlement/GetReceipt', { receipt: base64(id) })
        return Number(found.sharedIndex ?? 0) > 0 && found
      }, 90000)
      fees += units(state.decoded.fee)
      let sum = 0n
      for (const posting of state.postings) sum += posting.credit ? units(posting.amount) : -units(posting.amount)
      check(sum === 0n, `the legs of ${id} sum to ${sum}`)
    }
    const grant = await stack.rpc('Settlement/GetGrant', { grant: base64(answers[0].openledger.grant) })
    check(units(grant.drawn) === fees, `drawn ${grant.drawn}, fees ${fees}`)
    check((await stack.rpc('Settlement/GetInfo', {})).supply === '1000000000', 'the supply changed')
  })
  await test('openledger verify agrees, from log and blobs alone', async () => {
    const report = JSON.parse(stack.cli('verify', '--json'))
    check(report.verified && report.supply === '1000000000', JSON.stringify(report))
    check(report.shareSets >= answers.length, `${report.shareSets} share sets`)
  })
} finally {
  await stack.stop()
}
console.log(`1..${number}`)
process.exit(failed === 0 ? 0 : 1)
