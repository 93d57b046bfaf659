// test_bad_input.mjs - one test for each kind of bad input that a stranger may send. Each gets an error
// that names what and why, changes nothing and loses nothing. Transactions are signed here, by
// node's own Ed25519 and protobuf.js, so that the format is checked by code that is not ours. Prints TAP.
import { execFileSync } from 'node:child_process'
import assert from 'node:assert/strict'
import { createHash, createPrivateKey, randomBytes, sign } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import grpc from '@grpc/grpc-js'
import loader from '@grpc/proto-loader'
import protobuf from 'protobufjs'
import { baseModel, runTests, sleep, startStack, until } from './stack.mjs'

const folder = baseModel()
if (!folder) {
  console.log('SKIP: no base model')
  process.exit(0)
}

// ---- what a wallet that others wrote would do ----
const root = new protobuf.Root()
root.resolvePath = (_, target) => path.join('proto', target)
root.loadSync('openledger/v1/ledger.proto', { keepCase: true })
const type = name => root.lookupType(`openledger.v1.${name}`)
const encode = (name, fields) => Buffer.from(type(name).encode(type(name).create(fields)).finish())
const sha256 = (...parts) => createHash('sha256').update(Buffer.concat(parts)).digest()
const domain = text => Buffer.from(`${text}\0`)

const stack = await startStack(folder)
const info = await stack.rpc('Settlement/GetInfo', {})
const chain = Buffer.from(info.chainId, 'base64')
const services = grpc.loadPackageDefinition(loader.loadSync('openledger/v1/services.proto', { includeDirs: ['proto'], longs: String })).openledger.v1
const settlement = new services.Settlement(new URL(stack.url).host, grpc.credentials.createInsecure())
const submit = signed_tx => new Promise((resolve, reject) => settlement.Submit({ signedTx: signed_tx }, (error, reply) => (error ? reject(error) : resolve(reply))))

function keys(name) {
  const file = JSON.parse(readFileSync(path.join(stack.home, 'keys', `${name}.json`), 'utf8'))
  const publicKey = Buffer.from(file.public, 'base64')
  const seed = Buffer.from(file.secret, 'base64').subarray(0, 32)
  const secret = createPrivateKey({ key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]), format: 'der', type: 'pkcs8' })
  return { publicKey, account: sha256(domain('openledger/account/v1'), publicKey), sign: message => sign(null, message, secret) }
}

function signedTransfer(from, to, amount) {
  const now = Date.now()
  const body = encode('TxBody', { chain_id: chain, sender: from.account, valid_from_ms: now - 60000, valid_until_ms: now + 240000, nonce: randomBytes(16), transfer: { to: to.account, amount } })
  const signature = from.sign(Buffer.concat([domain('openledger/tx/v1'), chain, sha256(body)]))
  return { body, signature, bytes: encode('SignedTx', { body, signatures: [{ account: from.account, key: from.publicKey, signature }] }) }
}

// ---- what must not change ----
const payer = keys('payer'), developer = keys('developer')
const money = async () => {
  const balances = {}
  for (const name of ['payer', 'developer', 'contributor']) balances[name] = (await stack.rpc('Settlement/GetAccount', { account: keys(name).account.toString('base64') })).balance
  return balances
}
const counts = async () => ({
  models: (await stack.rpc('Registry/ListModels', {})).models?.length,
  adapters: (await stack.rpc('Registry/ListAdapters', {})).adapters?.length,
  contributions: (await stack.rpc('Datanet/ListContributions', { datanet: 'tales' })).contributions?.length,
  receipts: (await stack.rpc('Gateway/GetInfo', {})).receipts,
})
async function unchanged(test) {
  const before = { ...(await counts()), ...(await money()) }
  await test()
  assert.deepEqual({ ...(await counts()), ...(await money()) }, before)
}
/** The command fails with one line on standard error, which is returned. */
async function refused(...words) {
  const { code, error } = await stack.cliStart(...words).done
  assert.notEqual(code, 0, `${words.join(' ')} must fail`)
  assert.notEqual(code, null, `${words.join(' ')} must not be killed`)
  return error.trim().split(/[\n\r]/).at(-1)
}
const post = async (body, headers = {}) => {
  const reply = await fetch(`${stack.url}/v1/chat/completions`, { method: 'POST', headers: { authorization: `Bearer ${stack.apiKey}`, 'content-type': 'application/json', ...headers }, body })
  return { status: reply.status, ...(await reply.json()) }
}
const rowsFile = (name, bytes) => {
  const file = path.join(stack.home, name)
  writeFileSync(file, bytes)
  return file
}
const row = text => JSON.stringify({ text }) + '\n'
const hex = base64 => Buffer.from(base64, 'base64').toString('hex')

const tests = {
  'a wrong signature': () => unchanged(async () => {
    const { body, signature, bytes } = signedTransfer(payer, developer, '1')
    const forged = Buffer.from(signature)
    forged[40] ^= 1
    const send = signatures => submit(encode('SignedTx', { body, signatures }))
    const refusal = error => [grpc.status.UNAUTHENTICATED, grpc.status.PERMISSION_DENIED, grpc.status.INVALID_ARGUMENT].includes(error.code) && /sign|key/.test(error.details)
    await assert.rejects(send([{ account: payer.account, key: payer.publicKey, signature: forged }]), refusal)
    await assert.rejects(send([{ account: payer.account, key: developer.publicKey, signature: developer.sign(body) }]), refusal)
    await assert.rejects(send([]), refusal)
    await assert.rejects(submit(bytes.subarray(0, bytes.length - 5)), error => error.code === grpc.status.INVALID_ARGUMENT && error.details.length > 10)
  }),
  'a replayed transaction': async () => {
    const before = await money()
    const { bytes } = signedTransfer(payer, developer, '1.5')
    const first = await submit(bytes)
    const again = await submit(bytes)
    assert.ok(!first.repeatedSubmission)
    assert.equal(again.repeatedSubmission, true)
    assert.equal(again.index, first.index)
    const after = await money()
    assert.equal(Number(after.developer) - Number(before.developer), 1.5)
    const gas = bytes.length * 1e-6 + 2 * 1e-5 // once: per byte and per leg
    assert.ok(Math.abs(Number(before.payer) - Number(after.payer) - 1.5 - gas) < 1e-9)
  },
  'an over-spent account': () => unchanged(async () => {
    assert.match(await refused('transfer', stack.account.developer, '5000000', '--as', 'payer'), /5000000|balance|spendable/)
  }),
  'an over-spent grant': async () => {
    const granted = stack.cli('grant', 'open', '0.0001', '--as', 'payer')
    const key = granted.match(/ol-[0-9a-f]+/)[0]
    await unchanged(async () => {
      const { status, error } = await post(JSON.stringify({ model: stack.adapter, messages: [{ role: 'user', content: 'Who?' }], max_tokens: 50 }), { authorization: `Bearer ${key}` })
      assert.equal(status, 429)
      assert.equal(error.code, 'insufficient_quota')
      assert.match(error.message, /grant|0\.0001/)
    })
  },
  'an unknown adapter': () => unchanged(async () => {
    const { status, error } = await post(JSON.stringify({ model: 'nobody', messages: [{ role: 'user', content: 'Who?' }] }))
    assert.deepEqual([status, error.code], [404, 'model_not_found'])
    assert.match(error.message, /nobody/)
    assert.match(await refused('chat', 'nobody', 'Who?', '--api-key', stack.apiKey), /nobody/)
    assert.match(await refused('adapter', 'show', 'nobody'), /nobody/)
    await assert.rejects(stack.rpc('Registry/GetAdapter', { name: 'nobody' }), { code: 'not_found', message: /nobody/ })
  }),
  'malformed JSON': () => unchanged(async () => {
    for (const body of ['{"model": "tale", "messages": [', 'nonsense', '{"model": "tale", "model": "tale"}', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])]) {
      const { status, error } = await post(body)
      assert.deepEqual([status, error.code, error.type], [400, 'invalid_json', 'invalid_request_error'])
      assert.ok(error.message.length > 10)
    }
    const reply = await fetch(`${stack.url}/openledger.v1.Registry/ListAdapters`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"query": ' })
    assert.equal(reply.status, 400)
    assert.equal((await reply.json()).code, 'invalid_argument')
    const file = rowsFile('broken.jsonl', row('One fine row.') + '{"text": "never ends\n')
    assert.match(await refused('datanet', 'contribute', 'tales', file, '--as', 'contributor'), /row 1|line 2|row 2/)
  }),
  'an oversized body': () => unchanged(async () => {
    // curl waits for "100 Continue" before it sends so much, so it gets to read the refusal.
    const file = rowsFile('body', 'x'.repeat((1 << 20) + 1))
    const reply = execFileSync('curl', ['-sS', '-w', ' %{http_code}', '-H', `Authorization: Bearer ${stack.apiKey}`, '-H', 'Expect: 100-continue', '--data-binary', `@${file}`, `${stack.url}/v1/chat/completions`], { encoding: 'utf8' })
    assert.match(reply, / 413$/)
    const { error } = JSON.parse(reply.slice(0, -4))
    assert.equal(error.type, 'invalid_request_error')
    assert.match(error.message, /1048577 bytes, the limit is 1048576/)
  }),
  'an oversized row': () => unchanged(async () => {
    const file = rowsFile('large.jsonl', row('A small row.') + row('x'.repeat(64 * 1024)))
    assert.match(await refused('datanet', 'contribute', 'tales', file, '--as', 'contributor'), /row 1.*(65536|64 KiB|bytes)|65536/)
  }),
  'a row of no known form': () => unchanged(async () => {
    for (const line of ['{"foo": 1}', '{"text": ""}', '{"prompt": "half a row"}', '{"messages": [{"role": "poet", "content": "x"}]}']) {
      const file = rowsFile('form.jsonl', row('One fine row.') + line + '\n')
      assert.match(await refused('datanet', 'contribute', 'tales', file, '--as', 'contributor'), /row 1: /)
    }
  }),
  'a row that is not UTF-8': () => unchanged(async () => {
    const file = rowsFile('latin.jsonl', Buffer.concat([Buffer.from(row('A fine row.')), Buffer.from('{"text": "caf\xe9"}\n', 'latin1')]))
    assert.match(await refused('datanet', 'contribute', 'tales', file, '--as', 'contributor'), /row 1.*not UTF-8/)
  }),
  'a truncated safetensors file': () => unchanged(async () => {
    const copy = path.join(stack.home, 'truncated')
    for (const size of [4, 100, 100000]) {
      rmSync(copy, { recursive: true, force: true })
      mkdirSync(copy)
      for (const name of ['config.json', 'tokenizer.json', 'model.safetensors']) {
        writeFileSync(path.join(copy, name), readFileSync(path.join(folder, name)))
      }
      truncateSync(path.join(copy, 'model.safetensors'), size)
      assert.match(await refused('model', 'register', 'cut', copy, '--as', 'developer', '--blob-dir', path.join(stack.home, 'blobs')), /safetensors|header|byte/)
    }
  }),
  'a contribution cut off half-way': async () => {
    const before = (await counts()).contributions
    const lines = Array.from({ length: 3000 }, (_, i) => row(`${i} ${randomBytes(1500).toString('base64')}`)).join('')
    const file = rowsFile('long.jsonl', lines)
    const words = ['datanet', 'contribute', 'tales', file, '--as', 'contributor']
    const first = stack.cliStart(...words)
    await until('upload', () => existsSync(`${file}.upload`), 20000)
    await sleep(30)
    first.child.kill('SIGKILL')
    assert.equal((await first.done).code, null)
    const second = stack.cliStart(...words)
    await sleep(60)
    stack.kill('datanet')
    const done = await second.done
    assert.equal(done.code, 0, done.error)
    assert.match(done.out, /3000/)
    assert.ok(!existsSync(`${file}.upload`))
    assert.equal(await until('contributions', async () => (await counts()).contributions), before + 1, 'one contribution, committed once')
  },
  'a duplicate row': async () => {
    const original = 'The harbour master of Vell counts the lanterns twice each night before the tide turns and writes the number on slate.'
    const contribute = (name, text, as) => JSON.parse(stack.cli('datanet', 'contribute', 'tales', rowsFile(name, text), '--as', as, '--json'))
    const first = contribute('first.jsonl', row(original), 'contributor')
    const second = contribute('second.jsonl', row(original) + row(original.replace('slate', 'a slate')) + row('Nothing here was said before by anyone at all.'), 'developer')
    assert.equal(first.uniqueRows, 1)
    assert.equal(second.uniqueRows, 1)
    assert.deepEqual(second.duplicates.map(d => [d.row ?? 0, d.verdict, d.ofContribution]), [
      [0, 'ROW_VERDICT_EXACT_DUPLICATE', first.contribution],
      [1, 'ROW_VERDICT_NEAR_DUPLICATE', first.contribution],
    ])
    for (const { contribution } of [first, second]) stack.cli('datanet', 'review', hex(contribution), 'accept', '--as', 'developer')
    stack.cli('datanet', 'publish', 'tales', '--as', 'developer')
    const version = (await until('version', async () => {
      const { versions } = await stack.rpc('Registry/GetDatanet', { name: 'tales' })
      return versions.length === 2 && versions
    }))[1]
    const rows = Object.fromEntries(version.contributors.map(c => [hex(c.account), c.rowCount]))
    assert.equal(rows[keys('contributor').account.toString('hex')], 41, 'the first contributor keeps the credit')
    assert.equal(rows[developer.account.toString('hex')], 1)
  },
  'and the supply is what it was': async () => {
    assert.equal((await stack.rpc('Settlement/GetInfo', {})).supply, '1000000000')
    assert.match(stack.cli('verify', '--dir', stack.home), /supply 1000000000/)
  },
}

const code = await runTests(tests, stack, ['settlement', 'datanet'])
settlement.close()
await stack.stop()
process.exit(code)
