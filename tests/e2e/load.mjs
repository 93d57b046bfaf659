// load.mjs - answers and transfers on a suite while something is done to it, and the books afterwards: what was
// acknowledged stays, every answer is charged and shared once, the supply is whole, the log verifies.
import assert from 'node:assert/strict'
import { createHash, randomInt, randomUUID } from 'node:crypto'
import { rmSync } from 'node:fs'
import path from 'node:path'
import { sleep, until } from './stack.mjs'

/** Numbers from OPENLEDGER_SEED, or from a seed that is printed: {seed, random(limit)}. */
export function seeded() {
  const seed = Number(process.env.OPENLEDGER_SEED ?? randomInt(2 ** 31))
  console.log(`# seed ${seed}`)
  let drawn = 0
  return { seed, random: limit => createHash('sha256').update(`${seed} ${drawn++}`).digest().readUInt32BE(0) % limit }
}

const units = text => {
  const [whole, part = ''] = text.split('.')
  return BigInt(whole) * 10n ** 18n + BigInt(part.padEnd(18, '0'))
}
const base64 = hex => Buffer.from(hex, 'hex').toString('base64')

/** {counts(), transfer(), during(action, {asking}), booksBalance(), killAndWait(program), breakNats(change), wipeNats()} */
export function makeLoad(stack, random) {
  const answers = [] // {receipt, ...} as the client saw them
  let charged = 0, fees = 0n // of the first answers, whose receipts have been looked at
  let acknowledged = 0, refused = 0
  stack.cli('keys', 'new', 'receiver')

  async function ask(number) {
    const key = randomUUID()
    await until('answer', async () => {
      const reply = await fetch(`${stack.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${stack.apiKey}`, 'content-type': 'application/json', 'idempotency-key': key },
        body: JSON.stringify({ model: stack.adapter, max_tokens: 12, temperature: 0, messages: [{ role: 'user', content: `Who is number ${number}?` }] }),
        signal: AbortSignal.timeout(15000)
      })
      const body = await reply.json()
      if (reply.status >= 500 || reply.status === 429 || reply.status === 409) return false
      assert.ok(reply.ok, `HTTP ${reply.status}: ${JSON.stringify(body)}`)
      return answers.push(body.openledger)
    }, 120000)
  }

  /** One transfer of 0.001; ok when it was acknowledged. */
  async function transfer() {
    const { code, error } = await stack.cliStart('transfer', 'receiver', '0.001', '--as', 'payer').done
    if (code === 0) acknowledged++
    else refused++
    return { ok: code === 0, error }
  }

  /** Answers and transfers in flight while action happens, an acknowledged transfer after it. */
  async function during(action) {
    let stopped = false
    const payers = [1, 2].map(async () => { while (!stopped) if (!(await transfer()).ok) await sleep(100) })
    const asked = [1, 2].map(async i => { do await ask(i); while (!stopped) })
    try {
      await sleep(random(400))
      await action()
      const before = acknowledged
      await until('transfers to go on', () => acknowledged > before)
    } finally {
      stopped = true
      await Promise.allSettled(payers)
    }
    await Promise.all(asked)
  }

  /** Asserts it all; nothing may be in flight. */
  async function booksBalance() {
    const paid = units(JSON.parse(stack.cli('balance', 'receiver', '--json')).balance) / 10n ** 15n
    assert.ok(paid >= BigInt(acknowledged) && paid <= BigInt(acknowledged + refused), `${paid} transfers arrived, ${acknowledged} acknowledged, ${refused} not`)
    assert.equal(new Set(answers.map(a => a.receipt)).size, answers.length)
    for (; charged < answers.length; charged++) {
      const { receipt } = answers[charged]
      const found = await until(`share of ${receipt}`, async () => {
        const state = await stack.rpc('Settlement/GetReceipt', { receipt: base64(receipt) })
        return Number(state.sharedIndex ?? 0) > 0 && state
      }, 120000)
      fees += units(found.decoded.fee)
      assert.equal(found.postings.reduce((sum, { credit, amount }) => sum + (credit ? units(amount) : -units(amount)), 0n), 0n)
      assert.ok(!found.postings.some(({ reason }) => reason === 'fee.overdue'), `the shares of ${receipt} came too late`)
    }
    assert.equal(units((await stack.rpc('Settlement/GetGrant', { grant: base64(stack.grant) })).drawn), fees)
    const report = JSON.parse(stack.cli('verify', '--dir', stack.home, '--json'))
    assert.ok(report.verified && report.supply === '1000000000', JSON.stringify(report))
  }

  async function killAndWait(name) {
    const pid = await until(name, () => { const found = stack.pid(name); process.kill(found, 0); return found })
    process.kill(pid, 'SIGKILL')
    await until(`${name} again`, () => stack.pid(name) !== pid)
  }

  /** nats-server is killed; its store is changed before the supervisor starts it again. */
  async function breakNats(change) {
    const pid = stack.pid('nats-server')
    process.kill(pid, 'SIGKILL')
    for (;;) { try { process.kill(pid, 0); await sleep(5) } catch { break } }
    change(path.join(stack.home, 'nats'))
    await until('nats-server again', () => stack.pid('nats-server') !== pid)
  }
  const wipeNats = () => breakNats(store => rmSync(store, { recursive: true, force: true }))

  return { counts: () => ({ answers: answers.length, acknowledged, refused }), transfer, during, booksBalance, killAndWait, breakNats, wipeNats }
}
