// test_log.mjs - the public log as auditors meet it: checkpoint, tiles, proofs and witnesses, checked by an
// independent implementation (tlog.mjs); forks refused; balances, receipts and payouts proved offline. Prints TAP.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { baseModel, runTests, startStack, until } from './stack.mjs'
import { consistency, included, leafHash, parseCheckpoint, parseNote, parseProof, sha256, signers, signNote, tilePath, treeHash } from './tlog.mjs'

const folder = baseModel()
if (!folder) {
  console.log('ok 1 - SKIP: no base model')
  process.exit(0)
}
const stack = await startStack(folder)
const genesisFile = path.join(stack.home, 'genesis.json')
const genesisBytes = readFileSync(genesisFile)
const genesis = JSON.parse(genesisBytes)
const origin = `openledger/${sha256(genesisBytes).toString('hex')}`
const raw = text => Buffer.from(text, text.length === 64 ? 'hex' : 'base64')
const logKey = { name: origin, type: 1, raw: raw(genesis.sequencerKey) }
const witnesses = genesis.witnesses.map(({ name, key }) => ({ name, type: 4, raw: raw(key) }))
const get = async name => {
  const reply = await fetch(`${stack.url}/${name}`)
  if (!reply.ok) throw new Error(`${name}: ${reply.status}`)
  return Buffer.from(await reply.arrayBuffer())
}
const checkpointAt = size => until(`checkpoint ${size}`, async () => {
  const note = (await get('checkpoint')).toString()
  return parseCheckpoint(note).size >= size && signers(note, witnesses) === witnesses.length && note
})
const height = async () => Number((await stack.rpc('Settlement/GetInfo', {})).height)
const cliFails = (...words) => {
  try {
    stack.cli(...words)
  } catch (error) {
    return error.stderr
  }
  throw new Error(`accepted: ${words.join(' ')}`)
}
/** What a refusal says to a program. */
const jsonFails = (...words) => {
  try {
    stack.cli(...words, '--json')
  } catch (error) {
    return JSON.parse(error.stdout)
  }
  throw new Error(`accepted: ${words.join(' ')}`)
}

/** All leaves of a tree: level 0 tiles checked against entry bundles. */
async function readLeaves(size) {
  const leaves = [], entries = []
  for (let index = 0; index * 256 < size; index++) {
    const width = Math.min(256, size - index * 256)
    const tile = await get(tilePath(0, index, width))
    const bundle = await get(tilePath('entries', index, width))
    assert.equal(tile.length, 32 * width)
    let at = 0
    for (let i = 0; i < width; i++) {
      const entry = bundle.subarray(at + 2, at + 2 + bundle.readUInt16BE(at))
      at += 2 + entry.length
      assert.ok(leafHash(entry).equals(tile.subarray(32 * i, 32 * i + 32)))
      leaves.push(leafHash(entry))
      entries.push(entry)
    }
    assert.equal(at, bundle.length)
  }
  return { leaves, entries }
}

/** The 32 bytes in a bech32m account id, as hex. */
function accountHex(text) {
  const digits = [...text.slice(5, -6)].map(c => 'qpzry9x8gf2tvdw0s3jn54khce6mua7l'.indexOf(c))
  const bits = digits.map(d => d.toString(2).padStart(5, '0')).join('')
  return Array.from({ length: 32 }, (_, i) => parseInt(bits.slice(8 * i, 8 * i + 8), 2).toString(16).padStart(2, '0')).join('')
}

let receipt
const tests = {
  'the checkpoint is signed by the log and by every witness, its root is that of the tiles': async () => {
    const note = await checkpointAt(await height())
    const { origin: named, size, root } = parseCheckpoint(note)
    assert.equal(named, origin)
    assert.equal(signers(note, [logKey]), 1)
    assert.equal(signers(note, [logKey, ...witnesses]), 4)
    const { leaves } = await readLeaves(size)
    assert.ok(treeHash(leaves).equals(root))
    assert.throws(() => signers(note.replace(`\n${size}\n`, `\n${size + 1}\n`), [logKey]))
    const info = await stack.rpc('Settlement/GetCheckpoint', {})
    assert.ok(info.final && info.quorum === 2)
  },
  'what is not there is not there': async () => {
    for (const name of ['tile/0/999', 'tile/0/000.p/0', 'tile/0/000.p/256', 'tile/9/000', 'tile/0/../../log', 'tile/entries/00', 'batch/00', `batch/${'0'.repeat(64)}`]) {
      const reply = await fetch(`${stack.url}/${name}`)
      assert.equal(reply.status, 404, name)
    }
    const blobs = readdirSync(path.join(stack.home, 'blobs'), { recursive: true }).map(name => path.basename(name)).filter(name => /^[0-9a-f]{64}$/.test(name))
    assert.ok(blobs.length > 3) /* rows, models and adapters are not handed out */
    for (const name of blobs) assert.equal((await fetch(`${stack.url}/batch/${name}`)).status, 404)
    const reply = await fetch(`${stack.url}/${tilePath(0, 0, 1)}`)
    assert.match(reply.headers.get('cache-control'), /immutable/)
  },
  'a transaction is proved by a file that others can check': async () => {
    const tx = stack.cli('transfer', stack.account.contributor, '1.5', '--as', 'treasury')
    const file = path.join(stack.home, 'tx.tlog-proof')
    stack.cli('prove', tx, '--out', file)
    const proof = parseProof(readFileSync(file, 'utf8'))
    const { size, root } = parseCheckpoint(proof.checkpoint)
    assert.equal(signers(proof.checkpoint, [logKey]), 1)
    await checkpointAt(size)
    const { leaves } = await readLeaves(size)
    assert.ok(included(leaves[proof.index], proof.index, size, proof.path, root))
    assert.match(stack.cli('verify', '--dir', stack.home, '--proof', file), new RegExp(tx))
    assert.equal(jsonFails('verify', '--dir', stack.home, '--proof', path.join(stack.home, 'genesis.json')).verified, false)
    const bytes = readFileSync(file)
    for (const at of [30, 200, bytes.length - 200, bytes.length - 20]) {
      const changed = Buffer.from(bytes)
      changed[at] ^= 1
      writeFileSync(`${file}.bad`, changed)
      cliFails('verify', '--dir', stack.home, '--proof', `${file}.bad`)
    }
  },
  'a balance, and that there is none, with the cosignatures of a quorum': async () => {
    const file = path.join(stack.home, 'balance.proof')
    stack.cli('transfer', stack.account.contributor, '2', '--as', 'treasury')
    stack.cli('prove', 'balance', 'contributor', '--out', file)
    const { balance } = await stack.rpc('Settlement/GetAccount', { account: raw(sha256('x').toString('hex')).toString('base64') }).catch(() => ({}))
    assert.equal(balance, undefined)
    const shown = JSON.parse(stack.cli('verify', '--dir', stack.home, '--proof', file, '--json'))
    assert.equal(shown.account, stack.account.contributor)
    assert.ok(Number(shown.balance) > 3 && shown.exists && shown.final && shown.cosignatures >= 2)
    stack.cli('keys', 'new', 'nobody')
    stack.cli('prove', 'balance', 'nobody', '--out', file)
    assert.match(stack.cli('verify', '--dir', stack.home, '--proof', file), /not on the ledger/)
  },
  'a receipt: in its batch, in the transaction that settles it, in a block': async () => {
    const reply = await fetch(`${stack.url}/v1/chat/completions`, { method: 'POST', headers: { 'content-type': 'application/json', authorization: `Bearer ${stack.apiKey}` }, body: JSON.stringify({ model: stack.adapter, messages: [{ role: 'user', content: 'Who is number 7?' }], max_tokens: 16, temperature: 0 }) })
    receipt = (await reply.json()).openledger.receipt
    const file = path.join(stack.home, 'receipt.tlog-proof')
    await until('receipt', () => stack.cli('prove', 'receipt', receipt, '--out', file))
    const shown = stack.cli('verify', '--dir', stack.home, '--proof', file, '--batch', `${file}.batch`, '--receipt', receipt)
    for (const step of ['receipt:', 'batch:', 'entry:', 'block:', 'checkpoint:']) assert.ok(shown.includes(step), step)
    cliFails('verify', '--dir', stack.home, '--proof', file, '--batch', `${file}.batch`, '--receipt', receipt.replace(/^./, c => (c === '0' ? '1' : '0')))
    const batch = readFileSync(`${file}.batch`)
    batch[batch.length >> 1] ^= 1
    writeFileSync(`${file}.batch`, batch)
    cliFails('verify', '--dir', stack.home, '--proof', file, '--batch', `${file}.batch`, '--receipt', receipt)
  },
  'a witness follows through settlement of receipts, and refuses every fork': async () => {
    await checkpointAt(await height()) /* signed by all three, with receipts and shares replayed */
    const url = stack.log('witness-2').match(/port (\d+)/)[1]
    const ask = (old, proof, note) => fetch(`http://127.0.0.1:${url}/add-checkpoint`, { method: 'POST', body: `old ${old}\n${proof.map(hash => hash.toString('base64') + '\n').join('')}\n${note}` })
    const seen = await ask(0, [], await checkpointAt(1))
    assert.equal(seen.status, 409)
    assert.equal(seen.headers.get('content-type'), 'text/x.tlog.size')
    const size = Number(await seen.text())
    const { leaves } = await readLeaves(size)
    const key = JSON.parse(readFileSync(path.join(stack.home, 'keys', 'settlement.json'), 'utf8'))
    const secret = Object.entries(key).find(([name]) => /secret|seed|private/.test(name))[1]
    const seed = raw(secret)
    const forge = hashes => signNote(`${origin}\n${hashes.length}\n${treeHash(hashes).toString('base64')}\n`, origin, logKey.raw, seed)
    const fork = [...leaves]
    fork[fork.length - 1] = leafHash('another block')
    const same = await ask(size, [], forge(fork))
    assert.equal(same.status, 409) /* the same size, other blocks: by the log's own key */
    const longer = [...fork, leafHash('and one more')]
    assert.equal((await ask(size, consistency(size, longer), forge(longer))).status, 422)
    const rewritten = [...leaves, leafHash('a block that follows from no entries')]
    const answer = await ask(size, consistency(size, rewritten), forge(rewritten))
    assert.ok([422, 503].includes(answer.status)) /* consistent, but not what the entries give */
    assert.ok(!(await answer.text()).includes('\u2014 '))
    const stranger = forge(leaves).replaceAll(origin, `${origin}x`)
    assert.ok([403, 404].includes((await ask(size, [], stranger)).status))
    assert.ok(existsSync(path.join(stack.home, 'data', 'witness-2', `fork-${size}`)))
    const { text } = parseNote(readFileSync(path.join(stack.home, 'data', 'witness-2', `fork-${size}`), 'utf8'))
    assert.ok(text.startsWith(origin))
  },
  'the whole replay tells an account, a receipt and a payout step by step': async () => {
    const dir = ['verify', '--dir', stack.home]
    await until('shares', async () => (await stack.rpc('Settlement/GetReceipt', { receipt: raw(receipt).toString('base64') })).sharedIndex > 0)
    const told = await until('blocks closed', () => {
      const found = JSON.parse(stack.cli(...dir, '--receipt', receipt, '--json'))
      return found.steps.every(step => step.block > 0) && found
    })
    await checkpointAt(await height())
    assert.ok(told.steps.some(step => step.kind === 'settle_receipts' && /fee /.test(step.detail ?? '')))
    assert.ok(told.steps.some(step => step.kind === 'settle_shares' && /contributors share/.test(step.detail ?? '')))
    const units = (steps, credit) => steps.filter(step => step.ofReceipt && step.credit === credit).reduce((sum, { amount }) => { const [whole, part = ''] = amount.split('.'); return sum + BigInt(whole + part.padEnd(18, '0')) }, 0n)
    assert.ok(units(told.steps, true) > 0n && units(told.steps, true) === units(told.steps, false))
    assert.equal(told.covered, true)
    const own = told.steps.find(step => step.credit && step.reason === 'fee.contributor')
    const paid = JSON.parse(stack.cli(...dir, '--payout', `${own.entry}:${own.leg}`, '--json')).steps
    assert.ok(paid.some(step => step.ofReceipt && step.reference === receipt && step.amount === own.amount))
    assert.equal(units(paid, true), units([{ ...paid.find(step => !step.ofReceipt), ofReceipt: true }], true)) /* its parts are the whole */
    const account = JSON.parse(stack.cli(...dir, '--account', stack.account.contributor, '--json'))
    const { balance } = await stack.rpc('Settlement/GetAccount', { account: raw(accountHex(stack.account.contributor)).toString('base64') })
    assert.equal(account.balance, balance)
    assert.equal(account.steps.at(-1).balance, balance)
    const pay = account.steps.find(step => step.credit)
    assert.match(stack.cli(...dir, '--payout', `${pay.entry}:${pay.leg}`), new RegExp(`pays ${pay.amount} OPEN to ${stack.account.contributor}`))
    assert.match(cliFails(...dir, '--receipt', '0'.repeat(64)), /nowhere/)
    const refusal = jsonFails(...dir, '--receipt', '0'.repeat(64))
    assert.ok(refusal.verified === false && /nowhere/.test(refusal.error))
    assert.match(cliFails(...dir, '--receipt', receipt, '--payout', '1:1'), /only one/)
  },
  'killed witnesses come back to where they were and cosign again': async () => {
    stack.kill('witness-1')
    stack.kill('witness-3')
    stack.cli('transfer', stack.account.contributor, '0.25', '--as', 'treasury')
    await checkpointAt(await height())
  },
}
const code = await runTests(tests, stack, ['settlement', 'witness-1', 'witness-2', 'witness-3'])
await stack.stop()
console.log(`1..${Object.keys(tests).length}`)
process.exit(code)
