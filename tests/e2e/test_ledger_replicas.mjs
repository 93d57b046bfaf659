// test_ledger_replicas.mjs - three replicas of the ledger as real processes: the sequencer is killed with -9 again
// and again while transfers are made, nats-server too. Every transfer counts once, and all replicas agree.
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { runTests, sleep, until } from './stack.mjs'

const bin = process.env.OPENLEDGER_BIN ?? 'build/release/bin'
const home = mkdtempSync(path.join(tmpdir(), 'openledger-e2e-'))
const port = await new Promise(done => {
  const server = createServer().listen(0, '127.0.0.1', () => { const { port } = server.address(); server.close(() => done(port)) })
})
const url = `http://127.0.0.1:${port}`
const env = { ...process.env, OPENLEDGER_HOME: home, OPENLEDGER_URL: url }
const cli = (...words) => execFileSync(path.join(bin, 'openledger'), words, { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim()
const up = spawn(path.join(bin, 'openledger'), ['up', '--dir', home, '--http', `127.0.0.1:${port}`, '--settlement-replicas', '3'], { env, stdio: 'ignore' })
const ended = new Promise(done => up.once('exit', done))
const info = async () => (await fetch(`${url}/openledger.v1.Settlement/GetInfo`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}', signal: AbortSignal.timeout(3000) })).json()
const pid = name => JSON.parse(readFileSync(path.join(home, 'suite.json'), 'utf8')).programs.find(program => program.name === name).pid
const nameOf = replica => (replica === 1 ? 'settlement' : `settlement-${replica}`)
const check = (condition, message) => { if (!condition) throw new Error(message) }
let sent = 0, longest_ms = 0
const transfer = () => until('transfer', async () => { cli('transfer', 'alice', '1', '--as', 'treasury'); return ++sent }, 20000)

const tests = {
  'three replicas come up and take transfers': async () => {
    await until('sequencer', async () => readFileSync(path.join(home, 'suite.json'), 'utf8') && (await info()).sequencerReplica > 0)
    cli('keys', 'new', 'alice')
    cli('account', 'open', 'alice', '--as', 'alice')
    await transfer()
  },
  'the sequencer killed with -9: another takes over within seconds, nothing is lost': async () => {
    for (let i = 0; i < 3; i++) {
      const { sequencerReplica, epoch } = await until('sequencer', async () => { const found = await info(); return found.sequencerReplica > 0 && found })
      process.kill(pid(nameOf(sequencerReplica)), 'SIGKILL')
      const begin = Date.now()
      await transfer()
      longest_ms = Math.max(longest_ms, Date.now() - begin)
      check(BigInt((await until('info', info)).epoch) >= BigInt(epoch), 'the epoch went back')
      await sleep(1500)
    }
  },
  'nats-server killed: replicas find each other again': async () => {
    process.kill(pid('nats-server'), 'SIGKILL')
    await sleep(1000)
    await transfer()
  },
  'every transfer counts once, every replica shows the same root, the log verifies': async () => {
    await until('balance', async () => JSON.parse(cli('balance', 'alice', '--json')).balance === String(sent))
    await until('agreement', async () => {
      const roots = new Map()
      for (let i = 0; i < 30; i++) { const found = await info(); roots.set(found.replica, `${found.lastIndex} ${found.stateRoot}`) }
      return roots.size === 3 && new Set(roots.values()).size === 1
    })
    check(JSON.parse(cli('verify', '--json')).verified, 'the log does not verify')
  }
}
let code = 1
try {
  code = await runTests(tests, { log: name => readFileSync(path.join(home, 'logs', `${name}.log`), 'utf8') }, ['settlement'])
} finally {
  up.kill('SIGTERM')
  await ended
  rmSync(home, { recursive: true, force: true })
}
console.log(`# the longest pause after a kill: ${longest_ms} ms`)
console.log(`1..${Object.keys(tests).length}`)
process.exit(code)
