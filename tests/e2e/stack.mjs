// stack.mjs - a whole suite for an end-to-end test: `openledger up` in a private folder, one datanet,
// one trained adapter, one grant with its API key; all through the command line, as a person would.
import { execFileSync, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'

export const bin = process.env.OPENLEDGER_BIN ?? 'build/release/bin'
const data = process.env.OPENLEDGER_TEST_DATA ?? '../shared/data'

export const sleep = ms => new Promise(done => setTimeout(done, ms))

/** Asks until it gets something true; throws after limit_ms. */
export async function until(what, ask, limit_ms = 60000) {
  for (const end = Date.now() + limit_ms; ;) {
    try {
      const found = await ask()
      if (found) return found
    } catch (error) {
      if (Date.now() > end) throw error
    }
    if (Date.now() > end) throw new Error(`no ${what} within ${limit_ms} ms`)
    await sleep(250)
  }
}

/** A free port below those that outgoing connections are given. */
async function freePort() {
  for (;;) {
    const port = randomInt(10000, 16000)
    const free = await new Promise(done => {
      const server = createServer().once('error', () => done(false)).listen(port, '127.0.0.1', () => server.close(() => done(true)))
    })
    if (free) return port
  }
}

/** A base model's folder, or null: then the test says SKIP. */
export function baseModel() {
  const shipped = existsSync('deploy/models') ? readdirSync('deploy/models').map(name => path.join('deploy/models', name)) : []
  return [path.join(data, 'stories260K'), ...shipped].find(folder => existsSync(path.join(folder, 'config.json'))) ?? null
}

/** Runs {name: test} in order and prints TAP; shows the logs that are named when one fails. Returns the exit code. */
export async function runTests(tests, stack, logs = []) {
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
  for (const name of failed ? logs : []) console.log(stack.log(name).trim().split('\n').slice(-15).map(line => `${name}: ${line}`).join('\n').replace(/^/gm, '# '))
  return failed ? 1 : 0
}

/** {url, home, apiKey, grant, adapter, job, account, cli(...words), cliStart(...words), rpc(method, request),
 * pid(program), kill(program), log(program), suite(), stop()}. cliStart gives {child, done}: done resolves to {code, out, error}.
 * prepare(home) is called before anything starts, cleanup() when all has ended; binaries: where `up` and its services are
 * taken from; funds: OPEN that payer and developer get; grant: OPEN that it is opened with. */
export async function startStack(folder, { prepare = () => {}, cleanup = () => {}, binaries = bin, funds = '1000', grant: limit = '20' } = {}) {
  const home = mkdtempSync(path.join(tmpdir(), 'openledger-e2e-'))
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const env = { ...process.env, OPENLEDGER_HOME: home, OPENLEDGER_URL: url }
  const cli = (...words) => execFileSync(path.join(bin, 'openledger'), words, { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim()
  const cliStart = (...words) => {
    const child = spawn(path.join(bin, 'openledger'), words, { env, stdio: ['ignore', 'pipe', 'pipe'] })
    let out = '', error = ''
    child.stdout.on('data', text => (out += text))
    child.stderr.on('data', text => (error += text))
    return { child, done: new Promise(done => child.once('close', code => done({ code, out, error }))) }
  }
  const pid = name => JSON.parse(readFileSync(path.join(home, 'suite.json'), 'utf8')).programs.find(program => program.name === name).pid
  const kill = name => process.kill(pid(name), 'SIGKILL')
  prepare(home)
  const up = spawn(path.join(binaries, 'openledger'), ['up', '--dir', home, '--http', `127.0.0.1:${port}`], { env, stdio: 'ignore' })
  const ended = new Promise(done => up.once('exit', done))
  const rpc = async (method, request) => {
    const reply = await fetch(`${url}/openledger.v1.${method}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(request) })
    const body = await reply.json()
    if (!reply.ok) throw Object.assign(new Error(body.message), { code: body.code })
    return body
  }
  const stop = async () => {
    up.kill('SIGTERM')
    await ended
    cleanup()
    rmSync(home, { recursive: true, force: true })
  }
  try {
    await until('front door', async () => (await rpc('Settlement/GetInfo', {})).height >= 1)
    const account = {}
    for (const name of ['contributor', 'developer', 'payer']) {
      account[name] = cli('keys', 'new', name).match(/open1[a-z0-9]+/)[0]
      cli('account', 'open', name, '--as', name)
    }
    for (const name of ['developer', 'payer']) cli('transfer', account[name], funds, '--as', 'treasury')
    const rows = path.join(home, 'rows.jsonl')
    writeFileSync(rows, Array.from({ length: 40 }, (_, i) => JSON.stringify({ prompt: `Who is number ${i}?`, completion: ` Cat ${i} is Zorbo. He lives in a big blue house with ${i + 2} dogs.` }) + '\n').join(''))
    cli('datanet', 'create', 'tales', '--as', 'developer', '--licence', 'CC0-1.0')
    const { contribution } = JSON.parse(cli('datanet', 'contribute', 'tales', rows, '--as', 'contributor', '--json'))
    cli('datanet', 'review', Buffer.from(contribution, 'base64').toString('hex'), 'accept', '--as', 'developer')
    cli('datanet', 'publish', 'tales', '--as', 'developer')
    cli('model', 'register', 'base', folder, '--as', 'developer', '--blob-dir', path.join(home, 'blobs'))
    const job = cli('train', 'submit', 'tales', 'base', '--as', 'developer', '--steps', '40', '--rows', '4', '--context', '96').match(/\b[0-9a-f]{64}\b/)[0]
    cli('adapter', 'publish', 'tale', job, '--as', 'developer')
    await until('model', async () => (await (await fetch(`${url}/v1/models`)).json()).data.some(m => m.id === 'tale' && m.openledger.attributed))
    const granted = cli('grant', 'open', limit, '--as', 'payer')
    const apiKey = granted.match(/ol-[0-9a-f]+/)[0]
    const grant = granted.match(/\b[0-9a-f]{64}\b/)[0]
    return { url, home, apiKey, grant, adapter: 'tale', job, account, cli, cliStart, rpc, pid, kill, stop, log: name => readFileSync(path.join(home, 'logs', `${name}.log`), 'utf8'), suite: () => readFileSync(path.join(home, 'suite.json'), 'utf8') }
  } catch (error) {
    await stop()
    throw error
  }
}
