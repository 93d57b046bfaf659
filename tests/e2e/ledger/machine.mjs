// machine.mjs - entries: genesis, signatures, gas, legs, seals and headers. What each action does is in the table of rules.
import { leafHash, treeHash } from '../tlog.mjs'
import { amountText, big, decode, domain, encode, escrow, fits, H, need, POOL, signedMessage, txId, uint64, units, zero32 } from './codec.mjs'
import { RULES } from './rules.mjs'
import { overdue } from './settle.mjs'
import { State } from './state.mjs'
import { PARAMETERS } from './texts.mjs'

const ENTRY_MAX = 512 * 1024, LEGS_MAX = 65_536
/** Actions whose key becomes the sender's. */
const GIVE_KEY = ['open_account', 'rotate_key', 'complete_recovery']

export class Ledger {
  state = new State()
  index = 0; height = 0; epoch = 1n; sealed = 0
  entries = []; postings = []; headers = []

  /** blob(digest): the bytes of a published batch; undefined: they are not at hand. */
  constructor(genesisBytes, blob = () => undefined) {
    const genesis = JSON.parse(genesisBytes)
    const { others = [], ...own } = genesis.parameters
    const stated = Object.fromEntries([...Object.entries(own).map(([name, value]) => [name.replace(/[A-Z]/g, c => `_${c.toLowerCase()}`), String(value)]), ...others.map(({ name, value }) => [name, value])])
    this.blob = blob
    this.chain = H(genesisBytes)
    this.previous = this.previousHeader = this.chain
    this.now = BigInt(genesis.timeMs)
    this.witnesses = (genesis.witnesses ?? []).map(({ name, key }) => ({ name, key: Buffer.from(key, 'base64') }))
    const parameters = this.state.ensure('parameters', { platform: Buffer.from(genesis.platformAccount, 'base64'), sequencer: Buffer.from(genesis.sequencerKey, 'base64') })
    for (const [name, { parse, value }] of PARAMETERS) parameters[name] = stated[name] === undefined ? value : parse(stated[name])
    for (const item of genesis.allocations) {
      const id = Buffer.from(item.account, 'base64'), amount = units(item.amount)
      const vests = BigInt(item.cliffMs ?? 0) + BigInt(item.vestMs ?? 0) > 0n
      this.account(id, { name: item.name ?? '', has_key: Boolean(item.key), key: item.key ? Buffer.from(item.key, 'base64') : zero32 }).balance += vests ? 0n : amount
      if (!vests) continue
      this.state.ensure('vesting', { account: id, total: amount, claimed: 0n, cliff_at_ms: this.now + BigInt(item.cliffMs ?? 0), vest_ms: BigInt(item.vestMs ?? 0) })
      this.account(escrow('vesting', id)).balance += amount
    }
    this.state.keep()
  }
  get parameters() { return this.state.get('parameters') }
  /** The block that is being built. */
  get block() { return this.height + 1 }

  // ---- accounts and legs

  account(id, fresh = {}) { return this.state.ensure('account', { id, balance: 0n, first_index: this.index, last_index: 0, ...fresh }) }
  balance(id) { return this.state.get('account', { id })?.balance ?? 0n }
  isOpen(id) { return Boolean(this.state.get('account', { id })?.has_key) }
  /** At least the minimum: what a slash leaves below it counts no more. */
  isBonded(account, role) { const amount = this.bond(account, role); return amount > 0n && amount >= this.parameters.minimum_bond }
  bond(account, role) { return this.state.get('bond', { account, role })?.amount ?? 0n }
  leg(account, credit, amount, reason, reference) {
    if (amount === 0n) return
    const record = credit ? this.account(account) : this.state.get('account', { id: account })
    need(credit || (record && record.balance >= amount), 'FUNDS', `${reason} of ${amountText(amount)}`)
    record.balance += credit ? amount : -amount
    record.last_index = this.index
    this.legs.push({ account, credit, amount, reason, reference })
    need(this.legs.length <= LEGS_MAX, 'LIMIT', 'legs')
  }
  pay(from, to, amount, reason, reference = this.tx) {
    this.leg(from, false, amount, reason, reference)
    this.leg(to, true, amount, reason, reference)
  }
  own(record, field = 'owner') { need(record[field].equals(this.sender), 'DENIED', `not the ${field}`) }

  // ---- entries

  /** Applies an entry; gives what it was. Throws Refused, and is as it was before, where the rules refuse it. */
  apply(bytes) {
    this.tried = 'no entry' // what the last entry asked for, applied or not
    const before = { index: this.index, epoch: this.epoch, now: this.now }
    try {
      need(bytes.length <= ENTRY_MAX, 'LIMIT', 'size')
      const entry = decode('Entry', bytes)
      need(entry.content, 'INVALID', 'an entry of nothing')
      const signed = entry.content === 'signed_tx' ? decode('SignedTx', entry.signed_tx) : null
      const body = signed && decode('TxBody', signed.body)
      this.tried = signed ? body.action ?? 'nothing' : 'seal'
      need(big(entry.index) === BigInt(this.index + 1) && entry.previous.equals(this.previous), 'INVALID', 'the chain of entries')
      need(big(entry.epoch) >= this.epoch && big(entry.time_ms) >= this.now && big(entry.time_ms) <= 253_402_300_799_999n, 'INVALID', 'epoch and time')
      Object.assign(this, { index: this.index + 1, epoch: big(entry.epoch), now: big(entry.time_ms), legs: [] })
      if (signed) this.transaction(signed, body, entry.signed_tx.length)
      else this.seal(entry.seal)
      this.state.keep()
      this.previous = H(domain('openledger/entry/v1'), bytes)
      this.entries.push(leafHash(bytes))
      this.legs.forEach((leg, i) => this.postings.push(leafHash(encode('Posting', { ...leg, reference: leg.reference ?? Buffer.alloc(0), index: this.index, leg: i, amount: amountText(leg.amount) }))))
      if (!signed) this.header()
      return this.tried
    } catch (error) {
      this.state.undo()
      Object.assign(this, before)
      throw error
    }
  }
  transaction({ body: bytes, signatures }, body, size) {
    const { parameters } = this, from = big(body.valid_from_ms), until = big(body.valid_until_ms)
    const rule = RULES[body.action], action = body[body.action]
    need(body.sender.length === 32, 'INVALID', 'sender')
    need(body.chain_id.equals(this.chain), 'INVALID', 'chain')
    need(body.nonce.length === 16, 'INVALID', 'nonce')
    need(until > from && until - from <= parameters.validity_max_ms && from <= this.now && this.now < until, 'RANGE', 'valid by log time')
    this.sender = body.sender
    this.tx = txId(this.chain, bytes)
    need(!this.state.get('tx', { id: this.tx }), 'CONFLICT', 'applied before')
    this.signers = signatures
    const fresh = GIVE_KEY.includes(body.action) ? action.key : null
    need(signatures.length >= 1 && signatures.length <= 4, 'DENIED', '1 to 4 signatures')
    for (const { account, key, signature } of signatures) {
      need(account.length === 32 && key.length === 32 && signature.length === 64, 'INVALID', 'sizes of a signature')
      need(this.isKey(account, key) || (account.equals(this.sender) && fresh?.equals(key)), 'DENIED', 'a current key')
      need(fits(key, signedMessage(this.chain, bytes), signature), 'DENIED', 'signature')
    }
    need(['open_account', 'complete_recovery'].includes(body.action) || this.signedBy(this.sender), 'DENIED', 'signed by the sender')
    need(rule, 'INVALID', `no action ${body.action}`)
    this.run(rule, action)
    this.gas(size)
    const account = this.state.get('account', { id: this.sender })
    if (account) account.last_index = this.index
    this.state.ensure('tx', { id: this.tx, valid_until_ms: until })
  }
  run({ fields, run }, action) {
    const read = {}
    for (const [name, field] of Object.entries(fields)) read[name] = field(this, action[name], read)
    run(this, read)
  }
  isKey(account, key) { const found = this.state.get('account', { id: account }); return Boolean(found?.has_key && found.key.equals(key)) }
  /** Has this account signed with its current key? */
  signedBy(account) { return this.signers.some(signer => signer.account.equals(account) && this.isKey(account, signer.key)) }
  signedWith(key) { return this.signers.some(signer => signer.account.equals(this.sender) && signer.key.equals(key)) }
  gas(size) {
    const { parameters } = this
    const gas = parameters.gas_per_byte * BigInt(size) + parameters.gas_per_leg * BigInt(this.legs.length)
    if (this.balance(this.sender) >= gas) return this.pay(this.sender, POOL, gas, 'gas')
    const free = this.state.ensure('free_gas', { height: 0, used: 0n })
    const used = free.height === this.block ? free.used + gas : gas
    need(used <= parameters.free_gas_per_block, 'FUNDS', 'gas')
    Object.assign(free, { height: this.block, used })
  }

  // ---- blocks

  seal({ height }) {
    need(big(height) === BigInt(this.block), 'INVALID', 'height')
    overdue(this)
    for (const tx of this.state.all('tx')) if (tx.valid_until_ms <= this.now) this.state.remove('tx', tx)
    this.height++
  }
  header() {
    const header = encode('BlockHeader', {
      chain_id: this.chain, height: this.height, epoch: uint64(this.epoch), time_ms: uint64(this.now), first_index: this.sealed + 1, last_index: this.index,
      entries_root: treeHash(this.entries), postings_root: treeHash(this.postings), state_root: this.state.root(), previous: this.previousHeader
    })
    this.previousHeader = H(header)
    this.headers.push(header)
    Object.assign(this, { sealed: this.index, entries: [], postings: [] })
  }
  supply() { return this.state.all('account').reduce((sum, { balance }) => sum + balance, 0n) }
}
