// test_ledger_failures.mjs - the ledger's processes under load while what they stand on fails: kill -9 at random
// moments, a full disk, a clock that jumps, a stream that loses its end or everything. What was acknowledged stays,
// every answer is charged and shared once, the books balance and the log verifies. Seed: OPENLEDGER_SEED.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash, randomInt, randomUUID } from 'node:crypto'
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { baseModel, bin, runTests, sleep, startStack, until } from './stack.mjs'

const folder = baseModel()
if (folder === null) {
  console.log('SKIP: ../shared/data/stories260K is not here')
  process.exit(0)
}
const seed = Number(process.env.OPENLEDGER_SEED ?? randomInt(2 ** 31))
console.log(`# seed ${seed}`)
let drawn = 0
const random = limit => createHash('sha256').update(`${seed} ${drawn++}`).digest().readUInt32BE(0) % limit

// ---- a suite whose settlement can be given another clock, and a small disk ------------------------------

const library = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/lib'].map(place => path.join(place, 'faketime/libfaketimeMT.so.1')).find(existsSync)
const binaries = mkdtempSync(path.join(tmpdir(), 'openledger-bin-'))
const clock = path.join(binaries, 'clock') // what settlement's clock is ahead, "+90s"; read at each look at it
const real = path.resolve(bin)
copyFileSync(path.join(real, 'openledger'), path.join(binaries, 'openledger')) // it looks for services beside itself
for (const name of ['registry', 'datanet', 'trainer', 'lora-gateway', 'attribution']) symlinkSync(path.join(real, name), path.join(binaries, name))
writeFileSync(path.join(binaries, 'settlement'), `#!/bin/sh
[ -e '${clock}' ] && export LD_PRELOAD='${library}' FAKETIME_TIMESTAMP_FILE='${clock}' FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1
exec '${real}/settlement' "$@"
`)
chmodSync(path.join(binaries, 'settlement'), 0o755)

let disk = null // the folder of settlement's own small disk
function prepare(home) {
  const place = path.join(home, 'data', 'settlement')
  mkdirSync(place, { recursive: true })
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=96m', 'openledger-test', place], { stdio: 'ignore' })
    disk = place
  } catch { /* not allowed here: the test of the full disk says so */ }
}
const cleanup = () => disk && execFileSync('umount', ['-l', disk])
const stack = await startStack(folder, { prepare, cleanup, binaries })

// ---- load: answers and transfers, each with what it acknowledged ----------------------------------------

const units = text => {
  const [whole, part = ''] = text.split('.')
  return BigInt(whole) * 10n ** 18n + BigInt(part.padEnd(18, '0'))
}
const base64 = hex => Buffer.from(hex, 'hex').toString('base64')
const info = () => stack.rpc('Settlement/GetInfo', {})
const balance = name => units(JSON.parse(stack.cli('balance', name, '--json')).balance)
const answers = []
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
  })
}

/** One transfer of 0.001; true when it was acknowledged. */
async function transfer() {
  const { code, error } = await stack.cliStart('transfer', 'receiver', '0.001', '--as', 'payer').done
  if (code === 0) acknowledged++
  else refused++
  return { ok: code === 0, error }
}

/** Answers (unless not) and transfers in flight while action happens, an acknowledged transfer after it. */
async function during(action, { asking = true } = {}) {
  let stopped = false
  const payers = [1, 2].map(async () => { while (!stopped) if (!(await transfer()).ok) await sleep(100) })
  const asked = asking ? [1, 2].map(ask) : []
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

/** All acknowledged is there, each answer is charged and shared once, the supply is whole, the log verifies. */
async function booksBalance() {
  const paid = balance('receiver') / 10n ** 15n
  assert.ok(paid >= BigInt(acknowledged) && paid <= BigInt(acknowledged + refused), `${paid} transfers arrived, ${acknowledged} acknowledged, ${refused} not`)
  assert.equal(new Set(answers.map(a => a.receipt)).size, answers.length)
  let fees = 0n
  for (const { receipt } of answers) {
    const found = await until(`share of ${receipt}`, async () => {
      const state = await stack.rpc('Settlement/GetReceipt', { receipt: base64(receipt) })
      return Number(state.sharedIndex ?? 0) > 0 && state
    })
    fees += units(found.decoded.fee)
    assert.equal(found.postings.reduce((sum, { credit, amount }) => sum + (credit ? units(amount) : -units(amount)), 0n), 0n)
  }
  assert.equal(units((await stack.rpc('Settlement/GetGrant', { grant: base64(stack.grant) })).drawn), fees)
  const report = JSON.parse(stack.cli('verify', '--dir', stack.home, '--json'))
  assert.ok(report.verified && report.supply === '1000000000', JSON.stringify(report))
}

const killAndWait = async name => {
  const pid = await until(name, () => { const found = stack.pid(name); process.kill(found, 0); return found })
  process.kill(pid, 'SIGKILL')
  await until(`${name} again`, () => stack.pid(name) !== pid)
}
const stream = name => path.join(stack.home, 'nats', 'jetstream', '$G', 'streams', name)

/** nats-server killed; its store is changed before the supervisor starts it again. */
async function breakStore(change) {
  const pid = stack.pid('nats-server')
  process.kill(pid, 'SIGKILL')
  for (;;) { try { process.kill(pid, 0); await sleep(5) } catch { break } }
  change()
  await until('nats-server again', () => stack.pid('nats-server') !== pid)
}

const tests = {
  'kill -9 of settlement, gateway and attribution at random moments under load': async () => {
    for (const name of ['settlement', 'lora-gateway', 'attribution', ['lora-gateway', 'settlement', 'attribution'][random(3)]]) {
      await during(() => killAndWait(name))
      if (name === 'settlement') await during(async () => { await killAndWait(name); await sleep(random(300)); await killAndWait(name) })
    }
    await booksBalance()
  },
  'the stream loses its end, then everything: the journal fills it again': async () => {
    await during(() => breakStore(() => {
      const messages = path.join(stream('OL_LEDGER'), 'msgs')
      const blocks = readdirSync(messages).filter(name => name.endsWith('.blk')).sort((a, b) => parseInt(a) - parseInt(b))
      const last = path.join(messages, blocks.at(-1))
      truncateSync(last, statSync(last).size >> 1)
    }))
    await booksBalance() // receipts and openings that nobody had taken yet would be lost with their streams: README of lora-gateway
    await during(() => breakStore(() => rmSync(path.join(stack.home, 'nats'), { recursive: true, force: true })), { asking: false })
    await during(() => {})
    await booksBalance()
  },
  'a full disk: a clear refusal, nothing acknowledged is lost, and on it goes when there is space': async () => {
    if (disk === null) return console.log('SKIP: a file system cannot be mounted here')
    const filler = path.join(disk, 'filler')
    const seen = stack.log('settlement').length
    const refusals = []
    await during(async () => {
      try {
        try { execFileSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=64k'], { stdio: 'ignore' }) } catch { /* until it is full */ }
        await until('an end for want of space', () => /no space left/i.test(stack.log('settlement').slice(seen)), 20000)
        for (let i = 0; i < 2; i++) refusals.push(await transfer())
      } finally {
        rmSync(filler)
      }
    })
    for (const { ok, error } of refusals) assert.ok(ok || /unavailable|not running|cannot be written|try again/i.test(error), error)
    await booksBalance()
  },
  'a clock that jumps ahead and back: log time never goes back, and transactions go on by it': async () => {
    if (!library) return console.log('SKIP: the package faketime is not here')
    let last = 0
    const time = async () => {
      const now = Number((await until('info', info)).timeMs)
      assert.ok(now >= last, `log time went back from ${last} to ${now}`)
      return (last = now)
    }
    await time()
    writeFileSync(clock, '+0s\n')
    await killAndWait('settlement') // from now on with the clock of that file
    await during(() => {})
    assert.ok(await time() < Date.now() + 60000)
    writeFileSync(clock, '+1500s\n') // a transaction is valid for ten minutes
    await during(() => {})
    assert.ok(await time() > Date.now() + 1400000, 'the jump was not seen')
    writeFileSync(clock, '-3000s\n')
    await during(time)
    assert.ok(await time() > Date.now() + 1300000)
    rmSync(clock)
    await during(() => killAndWait('settlement')) // opens a log that is ahead of its clock
    await time()
    await booksBalance()
  },
}
let code = 1
try {
  code = await runTests(tests, stack, ['settlement', 'lora-gateway'])
} finally {
  if (code !== 0) console.log(`# again with OPENLEDGER_SEED=${seed}`)
  await stack.stop()
  rmSync(binaries, { recursive: true, force: true })
}
console.log(`1..${Object.keys(tests).length}`)
process.exit(code)
