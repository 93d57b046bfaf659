// ledger.mjs - a second implementation of a part of the state machine, written from shared/ledger/FORMAT.md and README.md:
// accounts and their guardians, transfers of every sort, holds, bonds, grants and leases, claims under a root, datanets with their
// contributions and versions, models, gas, seals. It shares no code with ours: the records' layout and the
// parameters' defaults are read out of those two texts, messages out of the proto files.
import assert from 'node:assert/strict'
import { createHash, createPublicKey, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'
import protobuf from 'protobufjs'
import { leafHash, nodeHash, treeHash } from './tlog.mjs'

const H = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest()
const domain = text => Buffer.from(`${text}\0`)
const number = (value, size) => { const out = Buffer.alloc(8); out.writeBigUInt64BE(BigInt(value)); return out.subarray(8 - size) }
const proto = new protobuf.Root()
proto.resolvePath = (_, target) => (target.startsWith('proto/') ? target : `proto/${target}`)
proto.loadSync('proto/openledger/v1/ledger.proto', { keepCase: true })
export const message = name => proto.lookupType(`openledger.v1.${name}`)
const big = value => BigInt(String(value ?? 0))
const zero32 = Buffer.alloc(32)
const UNITS = 10n ** 18n

export function units(text) {
  const [whole, part = ''] = text.split('.')
  const value = BigInt(whole) * UNITS + BigInt(part.padEnd(18, '0'))
  assert.equal(amountText(value), text, 'canonical')
  return value
}
export function amountText(value) {
  const part = (value % UNITS).toString().padStart(18, '0').replace(/0+$/, '')
  return part === '' ? `${value / UNITS}` : `${value / UNITS}.${part}`
}
const amountBytes = value => Buffer.concat([number(value >> 64n, 8), number(value & (2n ** 64n - 1n), 8)])

// ---- the two texts ------------------------------------------------------------------------------------------

const rows = (file, cells) => readFileSync(file, 'utf8').split('\n').filter(line => line.startsWith('|')).map(line => line.split('|').slice(1, -1).map(cell => cell.trim())).filter(row => row.length === cells)
export const KINDS = new Map(rows('shared/ledger/FORMAT.md', 4).filter(([kind]) => /^\d+$/.test(kind)).map(([kind, name, keys, fields]) => [name, {
  kind: Number(kind), keys: Number(keys), fields: fields.split(' ').map(field => field.split(':'))
}]))
const DEFAULTS = rows('shared/ledger/README.md', 5).filter(([name]) => /^`[a-z_]+`$/.test(name)).map(([name, unit, value]) => ({ name: name.slice(1, -1), amount: unit === 'OPEN', value }))

function encodeField(type, value) {
  const many = type.match(/^(\d+)x(.+)$/)
  if (many) return Buffer.concat(Array.from({ length: Number(many[1]) }, (_, i) => encodeField(many[2], value?.[i])))
  switch (type) {
    case 'u32': return number(value ?? 0, 4)
    case 'u64': return number(value ?? 0, 8)
    case 'bool': return number(value ? 1 : 0, 1)
    case '32': return value ?? zero32
    case 'amount': return amountBytes(value ?? 0n)
    case 'text': return Buffer.concat([number(Buffer.byteLength(value ?? ''), 2), Buffer.from(value ?? '')])
    default: throw new Error(`no type ${type}`)
  }
}

// ---- state ---------------------------------------------------------------------------------------------------

const bit = (key, at) => (key[at >> 3] >> (7 - (at & 7))) & 1

/** [hash, ...] of the crit-bit trie over leaves [{key, hash}] that ascend by key. */
function trieHash(leaves, from = 0, to = leaves.length) {
  if (to === from) return zero32
  if (to - from === 1) return leaves[from].hash
  const first = leaves[from].key, last = leaves[to - 1].key
  let at = 0
  while (bit(first, at) === bit(last, at)) at++
  let middle = from
  while (bit(leaves[middle].key, at) === 0) middle++
  return H(Buffer.of(1), number(at, 2), trieHash(leaves, from, middle), trieHash(leaves, middle, to))
}

class State {
  records = new Map()
  key(name, record) {
    const { kind, keys, fields } = KINDS.get(name)
    return H(number(kind, 1), ...fields.slice(0, keys).map(([field, type]) => encodeField(type, record[field])))
  }
  get(name, probe = {}) { return this.records.get(this.key(name, probe).toString('hex'))?.record }
  /** The record, made with these fields when there is none. */
  ensure(name, fresh) {
    const key = this.key(name, fresh), text = key.toString('hex')
    if (!this.records.has(text)) this.records.set(text, { name, key, record: { ...fresh } })
    return this.records.get(text).record
  }
  remove(name, probe) { assert.ok(this.records.delete(this.key(name, probe).toString('hex'))) }
  all(name) { return [...this.records.values()].filter(item => item.name === name).map(item => item.record) }
  root() {
    const leaves = [...this.records.values()].map(({ name, key, record }) => ({ key, hash: H(Buffer.of(0), key, ...KINDS.get(name).fields.map(([field, type]) => encodeField(type, record[field]))) }))
    return trieHash(leaves.sort((a, b) => Buffer.compare(a.key, b.key)))
  }
}

// ---- the machine ---------------------------------------------------------------------------------------------

const POOL = H(domain('openledger/pool/stakers/v1'))
const GRAIN = 10n ** 9n, SCALE = 10n ** 12n
export const accountId = key => H(domain('openledger/account/v1'), key)
export const txId = (chain, body) => H(domain('openledger/txid/v1'), chain, body)
export const signedMessage = (chain, body) => Buffer.concat([domain('openledger/tx/v1'), chain, H(body)])
const escrow = (what, ...parts) => H(domain(`openledger/escrow/${what}/v1`), ...parts)
const fits = (key, data, signature) => verify(null, data, createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: key.toString('base64url') }, format: 'jwk' }), signature)

/** Exactly what decodes to this message again, byte for byte. */
function decode(name, bytes) {
  const decoded = message(name).decode(bytes)
  assert.ok(Buffer.from(message(name).encode(decoded).finish()).equals(bytes), `${name} is canonical`)
  return decoded
}
/** A message with what has its default left out. */
const encode = (name, fields) => Buffer.from(message(name).encode(message(name).create(Object.fromEntries(Object.entries(fields).filter(([, value]) => value && value.length !== 0)))).finish())
const uint64 = value => protobuf.util.Long.fromString(String(value), true)

/** The root that an RFC 6962 inclusion proof shows for a leaf; null: it has another length. */
function climb(at, count, hash, path) {
  for (let last = count - 1; last > 0; at >>= 1, last >>= 1) {
    if (at === last && at % 2 === 0) continue // no sibling here
    if (path.length === 0) return null
    const sibling = path.shift()
    hash = at % 2 === 1 ? nodeHash(sibling, hash) : nodeHash(hash, sibling)
  }
  return path.length === 0 ? hash : null
}
/** How many rows of a contribution a version may use. */
const usable = ({ state, accepted_rows, row_count, withdrawn_rows }) => (state === 2 ? Math.min(accepted_rows, row_count - withdrawn_rows) : 0)
const split32 = bytes => Array.from({ length: bytes.length / 32 }, (_, i) => bytes.subarray(32 * i, 32 * i + 32))

export class Ledger {
  state = new State()
  index = 0; height = 0; epoch = 1; sealed = 0
  entries = []; postings = []; headers = []

  constructor(genesisBytes) {
    const genesis = JSON.parse(genesisBytes)
    const { others = [], ...own } = genesis.parameters
    const stated = Object.fromEntries([...Object.entries(own).map(([name, value]) => [name.replace(/[A-Z]/g, c => `_${c.toLowerCase()}`), String(value)]), ...others.map(({ name, value }) => [name, value])])
    this.chain = H(genesisBytes)
    this.previous = this.previousHeader = this.chain
    this.time = Number(genesis.timeMs)
    this.parameters = this.state.ensure('parameters', { platform: Buffer.from(genesis.platformAccount, 'base64'), sequencer: Buffer.from(genesis.sequencerKey, 'base64') })
    for (const { name, amount, value } of DEFAULTS) this.parameters[name] = amount ? units(stated[name] ?? value) : BigInt(stated[name] ?? value)
    for (const item of genesis.allocations) {
      const id = Buffer.from(item.account, 'base64'), amount = units(item.amount)
      const vests = BigInt(item.cliffMs ?? 0) + BigInt(item.vestMs ?? 0) > 0n
      this.account(id, { name: item.name ?? '', has_key: Boolean(item.key), key: item.key ? Buffer.from(item.key, 'base64') : zero32 }).balance += vests ? 0n : amount
      if (!vests) continue
      this.state.ensure('vesting', { account: id, total: amount, cliff_at_ms: BigInt(this.time) + BigInt(item.cliffMs ?? 0), vest_ms: BigInt(item.vestMs ?? 0) })
      this.account(escrow('vesting', id)).balance += amount
    }
  }

  account(id, fresh = {}) { return this.state.ensure('account', { id, balance: 0n, first_index: this.index, last_index: 0, ...fresh }) }

  leg(account, credit, amount, reason, reference) {
    if (amount === 0n) return
    const record = credit ? this.account(account) : this.state.get('account', { id: account })
    assert.ok(credit || record?.balance >= amount, 'funds')
    record.balance += credit ? amount : -amount
    record.last_index = this.index
    this.legs.push({ account, credit, amount, reason, reference })
  }
  pay(from, to, amount, reason, reference) {
    this.leg(from, false, amount, reason, reference)
    this.leg(to, true, amount, reason, reference)
  }

  // ---- stake

  staking() {
    const staking = this.state.ensure('staking', { grains: 0n, index: 0n, owed: 0n })
    const pool = this.state.get('account', { id: POOL })
    if (!pool || staking.grains === 0n) return staking
    const fresh = pool.balance - staking.owed
    const step = fresh * SCALE / staking.grains
    if (step > 0n) {
      const spread = step * staking.grains / SCALE + 1n
      staking.index += step
      staking.owed += spread < fresh ? spread : fresh
    }
    return staking
  }
  power(series, account, less, more) {
    if (less === more) return
    const power = this.state.ensure('power', { account, series, count: 0, heights: [], grains: [] })
    const sum = (power.grains.at(-1) ?? 0n) - less + more
    const keep = power.heights.at(-1) === this.height + 1 ? power.count - 1 : 0 // no snapshot is ever open in this part
    power.heights = [...power.heights.slice(0, keep), this.height + 1]
    power.grains = [...power.grains.slice(0, keep), sum]
    power.count = keep + 1
  }
  setBond(account, role, amount) {
    const bond = this.state.get('bond', { account, role }) ?? this.state.ensure('bond', { account, role, amount: 0n, rewarded_to: this.staking().index, delegations: 0 })
    const staking = this.staking()
    const due = bond.amount / GRAIN * (staking.index - bond.rewarded_to) / SCALE
    bond.rewarded_to = staking.index
    staking.owed -= due
    this.pay(POOL, account, due, 'stakers.reward', this.tx)
    const before = bond.amount / GRAIN, after = amount / GRAIN
    bond.amount = amount
    this.staking().grains += after - before
    const staker = this.state.ensure('staker', { account, grains: 0n, delegate: account })
    staker.grains += after - before
    this.power(1, staker.delegate, before, after)
    this.power(1, zero32, before, after)
    if (role !== 1) return
    this.power(2, account, before, after)
    this.power(2, zero32, before, after)
  }

  // ---- actions

  actions = {
    open_account: ({ key, name }) => {
      assert.ok(accountId(key).equals(this.sender))
      Object.assign(this.account(this.sender), { key, name, has_key: true })
    },
    rotate_key: ({ key }) => {
      const account = this.account(this.sender)
      this.state.ensure('former_key', { account: this.sender, key: account.key }).until_ms = BigInt(this.time)
      account.key = key
    },
    transfer: ({ to, amount }) => this.pay(this.sender, to, units(amount), 'transfer', this.tx),
    linked_transfers: ({ transfers }) => { for (const { from, to, amount } of transfers) this.pay(from, to, units(amount), 'transfer', this.tx) },
    transfer_batch: ({ items }) => {
      const list = Array.from({ length: items.length / 48 }, (_, i) => items.subarray(48 * i, 48 * i + 48)).map(item => ({ to: item.subarray(0, 32), amount: item.readBigUInt64BE(32) << 64n | item.readBigUInt64BE(40) }))
      this.leg(this.sender, false, list.reduce((sum, { amount }) => sum + amount, 0n), 'transfer')
      for (const { to, amount } of list) this.leg(to, true, amount, 'transfer')
    },
    hold_transfer: ({ to, amount, arbiter, expires_ms }) => {
      this.state.ensure('hold', { id: this.tx, payer: this.sender, to, arbiter, amount: units(amount), posted: 0n, expires_ms: big(expires_ms), state: 1, index: this.index })
      this.pay(this.sender, escrow('hold', this.tx), units(amount), 'transfer.hold', this.tx)
    },
    post_transfer: ({ hold: id, amount }) => {
      const hold = this.state.get('hold', { id })
      assert.ok(hold.state === 1 && hold.arbiter.equals(this.sender))
      this.endHold(hold, 2, amount ? units(amount) : hold.amount)
    },
    void_transfer: ({ hold: id }) => this.endHold(this.state.get('hold', { id }), 3, 0n),
    bond: ({ role, amount }) => {
      this.pay(this.sender, escrow('bond', this.sender, number(role, 1)), units(amount), 'bond', this.tx)
      this.setBond(this.sender, role, (this.state.get('bond', { account: this.sender, role })?.amount ?? 0n) + units(amount))
    },
    unbond: ({ role, amount }) => {
      this.setBond(this.sender, role, this.state.get('bond', { account: this.sender, role }).amount - units(amount))
      const slot = [0, 1, 2, 3, 4, 5, 6, 7].find(slot => !this.state.get('unbonding', { account: this.sender, role, slot })?.amount)
      Object.assign(this.state.ensure('unbonding', { account: this.sender, role, slot }), { amount: units(amount), release_ms: BigInt(this.time) + this.parameters.unbonding_ms })
    },
    open_grant: ({ gateway, limit, expires_ms }) => {
      this.state.ensure('grant', { id: this.tx, payer: this.sender, gateway, limit: units(limit), expires_ms: big(expires_ms), index: this.index })
      this.pay(this.sender, escrow('grant', this.tx), units(limit), 'grant.hold', this.tx)
    },
    open_lease: ({ grant: id, lease, amount }) => {
      const grant = this.state.get('grant', { id })
      assert.ok(grant.gateway.equals(this.sender) && lease === (grant.lease_count ?? 0) + 1)
      Object.assign(grant, { lease_count: lease, leased: (grant.leased ?? 0n) + units(amount) })
      assert.ok(grant.leased <= grant.limit)
      this.state.ensure('lease', { grant: id, lease, amount: units(amount), next_number: 1 })
    },
    set_guardians: ({ guardians, threshold, delay_ms }) => {
      Object.assign(this.state.ensure('guardians', { account: this.sender }), { count: guardians.length, threshold, delay_ms: big(delay_ms), guardians, keys: [], approved_ms: [] })
    },
    approve_recovery: ({ account, key }) => {
      const found = this.state.get('guardians', { account })
      const at = found.guardians.findIndex(guardian => guardian.equals(this.sender))
      assert.ok(at >= 0 && !found.keys[at]?.equals(key))
      found.keys[at] = key
      found.approved_ms[at] = BigInt(this.time)
    },
    cancel_recovery: () => {
      const found = this.state.get('guardians', { account: this.sender })
      assert.ok(found.approved_ms.some(time => time))
      Object.assign(found, { keys: [], approved_ms: [] })
    },
    publish_claims: ({ root, count, total, expires_ms, title }) => {
      this.state.ensure('claims', { id: this.tx, publisher: this.sender, root, count, claimed: 0, total: units(total), paid: 0n, expires_ms: big(expires_ms), title, index: this.index })
      this.pay(this.sender, escrow('claims', this.tx), units(total), 'claims.hold', this.tx)
    },
    claim: ({ claims: id, number: at, amount, path }) => {
      const claims = this.state.get('claims', { id })
      const leaf = leafHash(encode('ClaimLeaf', { account: this.sender, amount }))
      assert.ok(!claims.closed && BigInt(this.time) < claims.expires_ms)
      assert.ok(climb(at, claims.count, leaf, split32(path))?.equals(claims.root), 'a leaf under the root')
      assert.ok(!this.state.get('claimed', { claims: id, number: at }))
      Object.assign(claims, { claimed: claims.claimed + 1, paid: claims.paid + units(amount) })
      assert.ok(claims.paid <= claims.total)
      this.state.ensure('claimed', { claims: id, number: at })
      this.pay(escrow('claims', id), this.sender, units(amount), 'claims.pay', id)
    },
    create_datanet: ({ name, title, description, licence, permission, validators }) => {
      assert.ok(!this.state.get('datanet', { name }))
      this.state.ensure('datanet', { name, owner: this.sender, treasury: H(domain('openledger/treasury/v1'), Buffer.from(name)), title, description, licence, permission, validator_count: validators.length, validators, contributions: 0, versions: 0, index: this.index })
    },
    offer_datanet: ({ datanet, to }) => { this.owned(datanet).offered_to = to.length ? to : zero32 },
    accept_datanet: ({ datanet }) => {
      const found = this.state.get('datanet', { name: datanet })
      assert.ok(found.offered_to?.equals(this.sender))
      Object.assign(found, { owner: this.sender, offered_to: zero32 })
    },
    set_validators: ({ datanet, validators }) => Object.assign(this.owned(datanet), { validators, validator_count: validators.length }),
    commit_rows: ({ datanet, root, row_count, byte_count }) => {
      this.state.get('datanet', { name: datanet }).contributions++
      this.state.ensure('contribution', { id: this.tx, datanet, contributor: this.sender, root, row_count, byte_count: big(byte_count), state: 1, accepted_rows: 0, withdrawn_rows: 0, index: this.index })
    },
    review_contribution: ({ contribution: id, accept, content, accepted_rows, reason }) => {
      const found = this.state.get('contribution', { id }), datanet = this.state.get('datanet', { name: found.datanet })
      assert.ok(found.state === 1 && [datanet.owner, ...datanet.validators].some(who => who.equals(this.sender)))
      Object.assign(found, { state: accept ? 2 : 3, content: content.length ? content : zero32, accepted_rows, reason, review_index: this.index })
      if (accept) this.standing(found, 0, usable(found))
    },
    withdraw_rows: ({ contribution: id, rows }) => {
      const found = this.state.get('contribution', { id }), before = usable(found)
      assert.ok(found.contributor.equals(this.sender) && found.state <= 2)
      for (const row of rows) {
        assert.ok(row < found.row_count && !this.state.get('withdrawn_row', { contribution: id, row }))
        this.state.ensure('withdrawn_row', { contribution: id, row })
      }
      found.withdrawn_rows += rows.length
      if (before) this.standing(found, before, usable(found))
    },
    withdraw_contribution: ({ contribution: id }) => {
      const found = this.state.get('contribution', { id }), before = usable(found)
      assert.ok(found.contributor.equals(this.sender) && found.state <= 2)
      found.state = 4
      if (before) this.standing(found, before, 0)
    },
    publish_version: ({ datanet, version, root, row_count, manifest, contributors }) => {
      const found = this.owned(datanet)
      assert.ok(version === found.versions + 1 && row_count === contributors.reduce((sum, { row_count }) => sum + row_count, 0))
      found.versions = version
      this.state.ensure('version', { datanet, version, root, row_count, manifest, contributor_count: contributors.length, index: this.index })
      for (const { account, row_count } of contributors) {
        assert.ok(BigInt(row_count) <= this.state.get('standing', { datanet, account }).accepted_rows)
        this.state.ensure('version_contributor', { datanet, version, account, row_count })
      }
    },
    register_model: ({ name, content, profile, licence }) => {
      assert.ok(!this.state.get('model', { name }))
      this.state.ensure('model', { name, content, profile, licence, developer: this.sender, index: this.index })
    },
    revoke_model: ({ model: name }) => {
      const model = this.state.get('model', { name })
      assert.ok(model.developer.equals(this.sender) && !model.revoked)
      model.revoked = true
    }
  }
  owned(name) {
    const datanet = this.state.get('datanet', { name })
    assert.ok(datanet.owner.equals(this.sender))
    return datanet
  }
  standing({ datanet, contributor: account }, less, more) {
    this.state.ensure('standing', { datanet, account, accepted_rows: 0n }).accepted_rows += BigInt(more - less)
  }
  endHold(hold, state, posted) {
    Object.assign(hold, { state, posted })
    this.pay(escrow('hold', hold.id), hold.to, posted, 'transfer.post', hold.id)
    this.pay(escrow('hold', hold.id), hold.payer, hold.amount - posted, 'transfer.void', hold.id)
  }

  // ---- entries

  gas(size) {
    const gas = this.parameters.gas_per_byte * BigInt(size) + this.parameters.gas_per_leg * BigInt(this.legs.length)
    if (this.state.get('account', { id: this.sender }).balance >= gas) return this.pay(this.sender, POOL, gas, 'gas', this.tx)
    const free = this.state.ensure('free_gas', { height: 0, used: 0n })
    const used = free.height === this.height + 1 ? free.used + gas : gas
    assert.ok(used <= this.parameters.free_gas_per_block, 'gas')
    Object.assign(free, { height: this.height + 1, used })
  }
  transaction(bytes) {
    const signed = decode('SignedTx', bytes)
    const body = decode('TxBody', signed.body)
    const fresh = body[body.action].key
    assert.ok(body.chain_id.equals(this.chain) && body.nonce.length === 16)
    assert.ok(big(body.valid_from_ms) <= BigInt(this.time) && BigInt(this.time) < big(body.valid_until_ms), 'valid by log time')
    this.sender = body.sender
    this.tx = txId(this.chain, signed.body)
    assert.ok(!this.state.get('tx', { id: this.tx }), 'the first time')
    for (const { account, key, signature } of signed.signatures) {
      assert.ok(this.state.get('account', { id: account })?.key?.equals(key) || (account.equals(this.sender) && fresh?.equals(key)), 'a current key')
      assert.ok(fits(key, signedMessage(this.chain, signed.body), signature), 'signature')
    }
    assert.ok(signed.signatures.some(({ account }) => account.equals(this.sender)))
    assert.ok(this.actions[body.action], `${body.action} is not in this part`)
    this.actions[body.action](body[body.action])
    this.gas(bytes.length)
    this.account(this.sender).last_index = this.index
    this.state.ensure('tx', { id: this.tx, valid_until_ms: big(body.valid_until_ms) })
    return body.action
  }
  /** Applies an entry; gives what it was. */
  apply(bytes) {
    const entry = decode('Entry', bytes)
    assert.equal(Number(entry.index), this.index + 1)
    assert.ok(entry.previous.equals(this.previous), 'the chain of entries')
    assert.ok(Number(entry.epoch) >= this.epoch && Number(entry.time_ms) >= this.time)
    Object.assign(this, { index: this.index + 1, epoch: Number(entry.epoch), time: Number(entry.time_ms), legs: [] })
    const what = entry.content === 'seal' ? 'seal' : this.transaction(entry.signed_tx)
    this.previous = H(domain('openledger/entry/v1'), bytes)
    this.entries.push(leafHash(bytes))
    this.legs.forEach((leg, i) => this.postings.push(leafHash(encode('Posting', { ...leg, index: this.index, leg: i, amount: amountText(leg.amount) }))))
    if (what === 'seal') this.seal(entry.seal)
    return what
  }
  seal(seal) {
    assert.equal(Number(seal.height), this.height + 1)
    for (const tx of this.state.all('tx').filter(tx => tx.valid_until_ms <= BigInt(this.time))) this.state.remove('tx', tx)
    this.height++
    const header = encode('BlockHeader', {
      chain_id: this.chain, height: this.height, epoch: this.epoch, time_ms: uint64(this.time), first_index: this.sealed + 1, last_index: this.index,
      entries_root: treeHash(this.entries), postings_root: treeHash(this.postings), state_root: this.state.root(), previous: this.previousHeader
    })
    this.previousHeader = H(header)
    this.headers.push(header)
    Object.assign(this, { sealed: this.index, entries: [], postings: [] })
  }
}
