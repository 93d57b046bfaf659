// test_ledger_format.mjs - the ledger as its texts specify it: a second implementation (ledger.mjs) signs transactions that
// the service takes, replays the log that came of it and gives every block header bit for bit. Prints TAP.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import protobuf from 'protobufjs'
import { accountId, amountText, KINDS, Ledger, message, signedMessage, txId, units } from './ledger.mjs'
import { bin, runTests, until } from './stack.mjs'
import { parseCheckpoint, tilePath, treeHash, leafHash } from './tlog.mjs'

const home = mkdtempSync(path.join(tmpdir(), 'openledger-e2e-'))
const port = await new Promise(done => {
  const server = createServer().listen(0, '127.0.0.1', () => { const { port } = server.address(); server.close(() => done(port)) })
})
const url = `http://127.0.0.1:${port}`
const env = { ...process.env, OPENLEDGER_HOME: home, OPENLEDGER_URL: url }
const cli = (...words) => execFileSync(path.join(bin, 'openledger'), words, { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim()
const up = spawn(path.join(bin, 'openledger'), ['up', '--dir', home, '--http', `127.0.0.1:${port}`], { env, stdio: 'ignore' })
const ended = new Promise(done => up.once('exit', done))
const rpc = async (method, request) => {
  const reply = await fetch(`${url}/openledger.v1.Settlement/${method}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(request) })
  const body = await reply.json()
  if (!reply.ok) throw new Error(`${body.code}: ${body.message}`)
  return body
}

// ---- a client of its own: keys, transactions, signatures from the texts alone -------------------------------

const long = value => protobuf.util.Long.fromString(String(value), true)
function newKey() {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const key = Buffer.from(publicKey.export({ format: 'jwk' }).x, 'base64url')
  return { privateKey, key, id: accountId(key) }
}
let chain
async function submit(action, ...signers) {
  const now = Date.now()
  const body = Buffer.from(message('TxBody').encode(message('TxBody').create({ chain_id: chain, sender: signers[0].id, valid_from_ms: long(now - 30000), valid_until_ms: long(now + 300000), nonce: randomBytes(16), ...action })).finish())
  const signatures = signers.map(({ id, key, privateKey }) => ({ account: id, key, signature: sign(null, signedMessage(chain, body), privateKey) }))
  const signed = Buffer.from(message('SignedTx').encode({ body, signatures }).finish())
  const { tx } = await rpc('Submit', { signedTx: signed.toString('base64') })
  assert.ok(Buffer.from(tx, 'base64').equals(txId(chain, body)), 'the transaction id')
  return txId(chain, body)
}
const item = (to, amount) => Buffer.concat([to, Buffer.alloc(8), (() => { const out = Buffer.alloc(8); out.writeBigUInt64BE(amount); return out })()])
const [alice, bob, carol] = [newKey(), newKey(), newKey()]

const hasGo = () => { try { return execFileSync('go', ['version'], { stdio: 'pipe' }).length > 0 } catch { return false } }

/** Is this entry a seal? */
const isSeal = async index => {
  const { entries } = await rpc('GetEntries', { fromIndex: index, count: 1 })
  return message('Entry').decode(Buffer.from(entries[0], 'base64')).content === 'seal'
}

/** All headers of the log, out of its public tiles. */
async function publishedHeaders(size) {
  const headers = []
  for (let index = 0; index * 256 < size; index++) {
    const bundle = Buffer.from(await (await fetch(`${url}/${tilePath('entries', index, Math.min(256, size - index * 256))}`)).arrayBuffer())
    for (let at = 0; at < bundle.length; at += 2 + bundle.readUInt16BE(at)) headers.push(bundle.subarray(at + 2, at + 2 + bundle.readUInt16BE(at)))
  }
  return headers
}

const tests = {
  'the table of records is that of the program': () => {
    const source = readFileSync('shared/ledger/records.c', 'utf8'), numbers = readFileSync('shared/ledger/state.h', 'utf8')
    const classes = { U32: /^u32$/, U64: /^u64$/, U64S: /^\d+xu64$/, BOOL: /^bool$/, BYTES: /^(\d+x)?32$/, AMOUNT: /^amount$/, TEXT: /^text$/ }
    const kinds = [...source.matchAll(/\[STATE_(\w+)\] = KIND\((\w+), \w+, (\d)\)/g)]
    assert.equal(kinds.length, KINDS.size)
    for (const [, name, table, keys] of kinds) {
      const told = KINDS.get(name.toLowerCase())
      const fields = [...source.match(new RegExp(`field ${table}\\[\\] = \\{([^;]*)\\};`))[1].matchAll(/FIELD\((\w+), \w+, ([\w.]+)\)/g)]
      assert.deepEqual([told.kind, told.keys], [Number(numbers.match(new RegExp(`STATE_${name} = (\\d+)`))[1]), Number(keys)], name)
      assert.deepEqual(told.fields.map(([field]) => field), fields.map(([, , field]) => field.replace('settings.', '')), name)
      fields.forEach(([, type, field], i) => assert.match(told.fields[i][1], classes[type], `${name}.${field}`))
    }
  },
  'transactions that were made from the texts are taken': async () => {
    await until('front door', async () => readFileSync(path.join(home, 'suite.json')) && (await rpc('GetInfo', {})).height >= 1)
    chain = Buffer.from((await rpc('GetInfo', {})).chainId, 'base64')
    for (const who of [alice, bob]) await submit({ open_account: { key: who.key, name: who === alice ? 'Alice \u00e9' : 'Bob' } }, who) // with forgiven gas
    await submitFromTreasury()
  },
  'the second implementation gives every header of the log, bit for bit': async () => {
    const info = await until('a block with all of it', async () => { const found = await rpc('GetInfo', {}); const height = Number(found.height); return (await isSeal(Number(found.lastIndex))) && { ...found, height } })
    const ledger = new Ledger(readFileSync(path.join(home, 'genesis.json')))
    const seen = new Set()
    for (let from = 1; ledger.height < info.height;) {
      const { entries } = await rpc('GetEntries', { fromIndex: from, count: 100 })
      for (const bytes of entries) if (ledger.height < info.height) seen.add(ledger.apply(Buffer.from(bytes, 'base64')))
      from += entries.length
    }
    for (const kind of ['seal', 'open_account', 'rotate_key', 'transfer', 'transfer_batch', 'linked_transfers', 'hold_transfer', 'post_transfer', 'void_transfer', 'bond', 'unbond', 'open_grant', 'open_lease', 'publish_claims', 'claim', 'set_guardians', 'approve_recovery', 'cancel_recovery', 'create_datanet', 'offer_datanet', 'accept_datanet', 'set_validators', 'commit_rows', 'review_contribution', 'withdraw_rows', 'withdraw_contribution', 'publish_version', 'register_model', 'revoke_model']) assert.ok(seen.has(kind), `no ${kind} in the log`)
    const published = await publishedHeaders(info.height)
    assert.equal(published.length, ledger.headers.length)
    published.forEach((header, i) => assert.ok(header.equals(ledger.headers[i]), `header ${i + 1}: ${JSON.stringify(message('BlockHeader').decode(header))} published, ${JSON.stringify(message('BlockHeader').decode(ledger.headers[i]))} computed`))
    const note = await until('checkpoint', async () => { const text = await (await fetch(`${url}/checkpoint`)).text(); return parseCheckpoint(text).size >= info.height && text })
    const all = await publishedHeaders(parseCheckpoint(note).size)
    assert.ok(treeHash(all.map(leafHash)).equals(parseCheckpoint(note).root))
    for (const { id } of [alice, bob, carol]) {
      const { balance } = await rpc('GetAccount', { account: id.toString('base64') })
      assert.equal(balance, amountText(ledger.state.get('account', { id }).balance))
    }
    assert.equal(ledger.state.all('account').reduce((sum, { balance }) => sum + balance, 0n), units('1000000000'))
  },
  'the log verifies with the Go project\'s note and tlog packages': () => {
    const modules = '/usr/share/gocode'
    if (!existsSync(`${modules}/src/golang.org/x/mod/sumdb/tlog`) || !hasGo()) return console.log('SKIP: golang-go and golang-golang-x-mod-dev are not here')
    const genesis = JSON.parse(readFileSync(path.join(home, 'genesis.json')))
    const hex = text => Buffer.from(text, 'base64').toString('hex')
    const proof = path.join(home, 'tx.tlog-proof')
    cli('prove', cli('transfer', bech32(bob.id), '1', '--as', 'treasury'), '--out', proof)
    const words = ['run', 'tests/e2e/tlog_others.go', url, hex(genesis.sequencerKey), proof, ...genesis.witnesses.flatMap(({ name, key }) => [name, hex(key)])]
    const out = execFileSync('go', words, { env: { ...process.env, GO111MODULE: 'off', GOPATH: modules, GOCACHE: path.join(home, 'go'), GOFLAGS: '' }, encoding: 'utf8' })
    assert.match(out, /^\d+ headers, [2-4] signatures, proof of header \d+$/m)
  },
  'it notices another outcome, and refuses what the rules refuse': async () => {
    const genesis = readFileSync(path.join(home, 'genesis.json'))
    const { entries } = await rpc('GetEntries', { fromIndex: 1, count: 100 })
    const changed = Buffer.from(entries[0], 'base64')
    changed[changed.length - 1] ^= 1
    assert.throws(() => new Ledger(genesis).apply(changed))
    assert.throws(() => new Ledger(genesis).apply(Buffer.from(entries[1], 'base64')))
  }
}

/** Two payouts under a root, one of them taken; guardians who change their mind. */
async function submitClaims(expires_ms) {
  const leaf = (account, amount) => leafHash(Buffer.from(message('ClaimLeaf').encode({ account, amount }).finish()))
  const leaves = [leaf(alice.id, '1'), leaf(carol.id, '2'), leaf(bob.id, '0.75')]
  const claims = await submit({ publish_claims: { root: treeHash(leaves), count: 3, total: '3.75', expires_ms, title: 'three payouts' } }, alice)
  await submit({ claim: { claims, number: 2, amount: '0.75', path: treeHash(leaves.slice(0, 2)) } }, bob)
  await assert.rejects(submit({ claim: { claims, number: 2, amount: '0.75', path: treeHash(leaves.slice(0, 2)) } }, bob), /paid already/)
  await submit({ claim: { claims, amount: '1', path: Buffer.concat([leaves[1], leaves[2]]) } }, alice)
  const guardians = [bob.id, carol.id].sort(Buffer.compare)
  await submit({ set_guardians: { guardians, threshold: 2, delay_ms: long(3600000) } }, alice)
  await submit({ approve_recovery: { account: alice.id, key: newKey().key } }, bob)
  await submit({ cancel_recovery: {} }, alice)
  await submit({ approve_recovery: { account: alice.id, key: newKey().key } }, bob)
}

/** A datanet changes hands; rows are committed, reviewed, withdrawn and published; a model is registered and revoked. */
async function submitDatanet() {
  const datanet = 'second.net', digest = () => randomBytes(32)
  await submit({ create_datanet: { name: datanet, title: 'Caf\u00e9', description: 'rows', licence: 'CC0-1.0', permission: 1, validators: [carol.id] } }, alice)
  const commit = rows => submit({ commit_rows: { datanet, root: digest(), row_count: rows, byte_count: long(100 * rows) } }, bob)
  const [first, second, third, fourth] = [await commit(10), await commit(3), await commit(4), await commit(5)]
  await submit({ review_contribution: { contribution: first, accept: true, content: digest(), accepted_rows: 8, reason: 'two again' } }, alice)
  await submit({ review_contribution: { contribution: second, reason: 'noise' } }, alice)
  await submit({ review_contribution: { contribution: third, accept: true, content: digest(), accepted_rows: 4 } }, alice)
  await submit({ withdraw_rows: { contribution: first, rows: [0, 4, 9] } }, bob) // 7 are left
  await submit({ withdraw_rows: { contribution: fourth, rows: [1] } }, bob)
  await submit({ offer_datanet: { datanet, to: bob.id } }, alice)
  await submit({ accept_datanet: { datanet } }, bob)
  await submit({ set_validators: { datanet, validators: [alice.id, carol.id].sort(Buffer.compare) } }, bob)
  await submit({ review_contribution: { contribution: fourth, accept: true, content: digest(), accepted_rows: 4 } }, alice)
  const version = (number, rows) => submit({ publish_version: { datanet, version: number, root: digest(), row_count: rows, manifest: digest(), contributors: [{ account: bob.id, row_count: rows }] } }, bob)
  await assert.rejects(version(1, 16), /accepted were 15/)
  await version(1, 15)
  await submit({ withdraw_contribution: { contribution: third } }, bob)
  await version(2, 11)
  await submit({ register_model: { name: 'second-model', content: digest(), profile: digest(), licence: 'Apache-2.0' } }, bob)
  await submit({ revoke_model: { model: 'second-model', reason: 'withdrawn' } }, bob)
}

/** Money for the keys made here, then one of everything. */
async function submitFromTreasury() {
  const text = id => bech32(id)
  cli('transfer', text(alice.id), '3000', '--as', 'treasury')
  cli('transfer', text(bob.id), '20', '--as', 'treasury')
  await submit({ transfer: { to: bob.id, amount: '1.000000000000000001', memo: 'to Bob' } }, alice)
  await submit({ transfer_batch: { items: Buffer.concat([item(bob.id, 5n * 10n ** 17n), item(carol.id, 7n), item(bob.id, 1n)]) } }, alice)
  await submit({ linked_transfers: { transfers: [{ from: alice.id, to: bob.id, amount: '2' }, { from: bob.id, to: alice.id, amount: '0.5' }] } }, alice, bob)
  const expires_ms = long(Date.now() + 86400000)
  const first = await submit({ hold_transfer: { to: bob.id, amount: '10', arbiter: alice.id, expires_ms } }, alice)
  const second = await submit({ hold_transfer: { to: bob.id, amount: '4', arbiter: bob.id, expires_ms } }, alice)
  await submit({ post_transfer: { hold: first, amount: '2.5' } }, alice)
  await submit({ void_transfer: { hold: second } }, bob)
  await submit({ bond: { role: 1, amount: '1500' } }, alice)
  await submit({ transfer: { to: carol.id, amount: '1' } }, bob)
  await submit({ unbond: { role: 1, amount: '400.0000000005' } }, alice)
  const grant = await submit({ open_grant: { gateway: bob.id, limit: '3', expires_ms } }, alice)
  await submit({ open_lease: { grant, lease: 1, amount: '1.5' } }, bob)
  await submit({ open_lease: { grant, lease: 2, amount: '1.5' } }, bob)
  await assert.rejects(submit({ open_lease: { grant, lease: 3, amount: '0.1' } }, bob), /exceed/)
  await submitClaims(expires_ms)
  await submitDatanet()
  const next = newKey()
  await submit({ rotate_key: { key: next.key } }, alice, { ...next, id: alice.id })
  Object.assign(alice, { key: next.key, privateKey: next.privateKey })
  await submit({ transfer: { to: bob.id, amount: '0.25' } }, alice)
  await assert.rejects(submit({ post_transfer: { hold: first } }, alice), /already/)
}

/** Bech32m of an account id, as the command line reads it. */
function bech32(id) {
  const digits = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l', prefix = 'open'
  const bits = [...id].map(byte => byte.toString(2).padStart(8, '0')).join('').padEnd(260, '0')
  const data = bits.match(/.{5}/g).map(group => parseInt(group, 2))
  const polymod = values => values.reduce((sum, value) => {
    const top = sum >>> 25
    const next = ((sum & 0x1ffffff) << 5) ^ value
    return [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3].reduce((acc, generator, i) => ((top >>> i) & 1 ? acc ^ generator : acc), next)
  }, 1)
  const codes = [...prefix].map(c => c.charCodeAt(0))
  const check = polymod([...codes.map(c => c >> 5), 0, ...codes.map(c => c & 31), ...data, 0, 0, 0, 0, 0, 0]) ^ 0x2bc830a3
  return `${prefix}1${[...data, ...[0, 1, 2, 3, 4, 5].map(i => (check >> (5 * (5 - i))) & 31)].map(d => digits[d]).join('')}`
}

let code = 1
try {
  code = await runTests(tests, { log: name => readFileSync(path.join(home, 'logs', `${name}.log`), 'utf8') }, ['settlement'])
} finally {
  up.kill('SIGTERM')
  await ended
  rmSync(home, { recursive: true, force: true })
}
console.log(`1..${Object.keys(tests).length}`)
process.exit(code)
