// settle.mjs - rules of grants, leases and of the published batches of receipts and shares; what a seal pays to treasuries.
import { leafHash, treeHash } from '../tlog.mjs'
import { decode, escrow, fits, need, POOL, proportional, receiptsMessage, Refused, sharesMessage, treasury, units, big } from './codec.mjs'
import { bytes32, expiry, isName, plain, positive, record } from './fields.mjs'
import { priceAt } from './jobs.mjs'

const BLOB_MAX = 8 * 1024 * 1024, ITEMS_MAX = 1024, SHARES_MAX = 8192, OVERDUE_MAX = 131_072
export const ATTRIBUTION = 3, TOTAL = 1_000_000_000
const CHARGE = 1, VOID = 2
const grantOf = record('grant', ({ closed }) => closed)

// ---- items and batches -----------------------------------------------------------------------------------------

/** A Receipt from its bytes, with what its form must be; else INVALID. */
export function readReceipt(bytes) {
  const receipt = decode('Receipt', bytes)
  const { grant, profile, prompt_commitment, answer_commitment, request_id, kind, adapter, prompt_tokens, completion_tokens, lease, opened_ms, finished_ms, finish_reason } = receipt
  need([grant, profile, prompt_commitment, answer_commitment].every(field => field.length === 32) && request_id.length === 16, 'INVALID', 'sizes of a receipt')
  need(kind === CHARGE || kind === VOID, 'INVALID', 'kind')
  const fee = units(receipt.fee)
  need(kind === CHARGE || (fee === 0n && completion_tokens === 0), 'INVALID', 'a void')
  need(isName(adapter), 'INVALID', 'the adapter')
  need(prompt_tokens <= 1_000_000 && completion_tokens <= 1_000_000, 'RANGE', 'tokens')
  need(lease > 0 && big(receipt.number) > 0n && big(finished_ms) >= big(opened_ms) && Buffer.byteLength(finish_reason) <= 32, 'INVALID', 'numbers of a receipt')
  return { ...receipt, grant, lease, number: big(receipt.number), kind, adapter, prompt_tokens, completion_tokens, fee, profile, opened_ms: big(opened_ms), id: leafHash(bytes) }
}
/** A ShareSet from its bytes, likewise. */
export function readShares(bytes) {
  const { receipt, shares, unearned_ppb, index } = decode('ShareSet', bytes)
  need(receipt.length === 32 && index.length === 32 && shares.length <= SHARES_MAX, 'INVALID', 'sizes of a share set')
  shares.forEach(({ account, share_ppb, influence_ppb, span_ppb }, i) => {
    need(account.length === 32 && (i === 0 || Buffer.compare(shares[i - 1].account, account) < 0), 'INVALID', 'accounts ascend')
    need(share_ppb >= 1 && influence_ppb + span_ppb === share_ppb, 'INVALID', 'a share')
  })
  need(shares.reduce((sum, { share_ppb }) => sum + share_ppb, unearned_ppb) === TOTAL, 'INVALID', 'shares sum')
  return { receipt, shares, unearned_ppb, index }
}
function blobOf(ledger, digest) {
  const bytes = ledger.blob(digest)
  need(bytes, 'NOT_FOUND', 'the batch is not at hand')
  need(bytes.length <= BLOB_MAX, 'LIMIT', 'size of a batch')
  return bytes
}
function readBatch(ledger, name, bytes, items, ids) {
  const batch = decode(name, bytes)
  need([...ids, 'key'].every(field => batch[field].length === 32) && batch.signature.length === 64, 'INVALID', 'sizes of a batch')
  need(batch[items].length >= 1 && batch[items].length <= ITEMS_MAX, 'RANGE', 'items of a batch')
  need(batch.chain_id.equals(ledger.chain), 'INVALID', 'chain')
  return { ...batch, count: batch[items].length, root: treeHash(batch[items].map(leafHash)) }
}

// ---- legs ------------------------------------------------------------------------------------------------------

/** One leg for each (account, reason, side), in the order of first occurrence, debits before credits. */
class Net {
  legs = new Map()
  add(account, credit, amount, reason) {
    if (amount === 0n) return
    const key = `${account.toString('hex')} ${credit} ${reason}`
    if (!this.legs.has(key)) this.legs.set(key, { account, credit, amount: 0n, reason })
    this.legs.get(key).amount += amount
  }
  post(ledger, reference) {
    for (const side of [false, true]) for (const { account, credit, amount, reason } of this.legs.values()) if (credit === side) ledger.leg(account, credit, amount, reason, reference)
  }
}
const waitingOf = datanet => escrow('pending', Buffer.from(datanet))
const PARTS = ['platform_bp', 'model_bp', 'stakers_bp', 'contributors_bp']

// ---- receipts --------------------------------------------------------------------------------------------------

/** Why an adapter's terms refuse a receipt: code, or null. Also what evidence of a contradicted receipt asks. */
export function contradiction(ledger, adapter, { kind, profile, fee, prompt_tokens, completion_tokens, opened_ms }) {
  if (!profile.equals(ledger.state.get('model', { name: adapter.model }).profile)) return 'INVALID'
  if (kind === VOID) return null
  if (adapter.revoked_ms && opened_ms >= adapter.revoked_ms) return 'DENIED'
  const [prompt, completion] = priceAt(ledger, adapter, opened_ms)
  return fee === prompt * BigInt(prompt_tokens) + completion * BigInt(completion_tokens) ? null : 'INVALID'
}
function charge(ledger, net, batch, lease, grant, receipt) {
  const { parameters } = ledger
  const adapter = ledger.state.get('adapter', { name: receipt.adapter })
  need(adapter, 'NOT_FOUND', 'adapter')
  const wrong = contradiction(ledger, adapter, receipt)
  if (wrong) throw new Refused(wrong, 'a receipt that its adapter contradicts')
  const weights = PARTS.map(part => parameters[part])
  const [platform, model, stakers, contributors] = proportional(receipt.fee, weights)
  const [developer, base] = proportional(model, [1n, 1n])
  lease.drawn += receipt.fee
  need(lease.drawn <= lease.amount, 'FUNDS', 'lease')
  grant.drawn += receipt.fee
  lease.next_number = receipt.number + 1n
  net.add(parameters.platform, true, platform, 'fee.platform')
  net.add(adapter.developer, true, developer, 'fee.model.adapter')
  net.add(ledger.state.get('model', { name: adapter.model }).developer, true, base, 'fee.model.base')
  net.add(waitingOf(adapter.datanet), true, contributors, 'fee.contributors.hold')
  net.add(POOL, true, stakers, 'fee.stakers')
  const waiting = receipt.kind === CHARGE
  ledger.state.ensure('receipt', {
    id: receipt.id, batch, grant: receipt.grant, lease: receipt.lease, number: receipt.number, adapter: receipt.adapter, fee: receipt.fee, split: weights.reduce((all, part) => all << 16n | part, 0n),
    pending: contributors, waiting, charged_index: ledger.index, shared_index: waiting ? 0 : ledger.index, deadline_height: ledger.block + Number(parameters.share_deadline_blocks)
  })
}

// ---- shares ----------------------------------------------------------------------------------------------------

/** Has each account of a share set contributed to the adapter's version? */
export const areContributors = (ledger, { datanet, version }, shares) => shares.every(({ account }) => ledger.state.get('version_contributor', { datanet, version, account }))

function share(ledger, net, paid, { receipt: id, shares, unearned_ppb, index }) {
  const receipt = ledger.state.get('receipt', { id })
  need(receipt, 'NOT_FOUND', 'receipt')
  need(receipt.waiting, 'CONFLICT', 'does not wait')
  const adapter = ledger.state.get('adapter', { name: receipt.adapter })
  need(adapter.has_index, 'CONFLICT', 'no index yet')
  need(adapter.attribution_index.equals(index), 'INVALID', 'another index')
  need(areContributors(ledger, adapter, shares), 'INVALID', 'not a contributor')
  const parts = proportional(receipt.pending, [...shares.map(({ share_ppb }) => BigInt(share_ppb)), BigInt(unearned_ppb)])
  net.add(treasury(adapter.datanet), true, parts.at(-1), 'fee.unearned')
  net.add(waitingOf(adapter.datanet), false, receipt.pending, 'fee.contributors.release')
  if (!paid.has(receipt.adapter)) paid.set(receipt.adapter, [])
  paid.get(receipt.adapter).push(...shares.map(({ account }, i) => ({ account, amount: parts[i] })))
  Object.assign(receipt, { pending: 0n, waiting: false, shared_index: ledger.index })
}

/** Part of a seal: what waited too long for its shares goes to the datanets' treasuries, up to the first that may wait longer. */
export function overdue(ledger) {
  const net = new Net()
  const waiting = ledger.state.all('receipt').filter(({ waiting }) => waiting), first = waiting.findIndex(({ deadline_height }) => deadline_height > ledger.block)
  for (const { id } of waiting.slice(0, Math.min(first < 0 ? waiting.length : first, OVERDUE_MAX))) {
    const receipt = ledger.state.get('receipt', { id }), { datanet } = ledger.state.get('adapter', { name: receipt.adapter })
    net.add(waitingOf(datanet), false, receipt.pending, 'fee.overdue')
    net.add(treasury(datanet), true, receipt.pending, 'fee.overdue')
    Object.assign(receipt, { pending: 0n, waiting: false, shared_index: ledger.index })
  }
  net.post(ledger)
}

const openAccount = (ledger, value) => { need(ledger.isOpen(bytes32(ledger, value)), 'NOT_FOUND', 'an open account'); return value }

export const SETTLEMENT = {
  open_grant: {
    fields: { gateway: openAccount, limit: positive, expires_ms: expiry },
    run: (ledger, { gateway, limit, expires_ms }) => {
      ledger.state.ensure('grant', { id: ledger.tx, payer: ledger.sender, gateway, limit, leased: 0n, drawn: 0n, expires_ms, closed: false, lease_count: 0, index: ledger.index })
      ledger.pay(ledger.sender, escrow('grant', ledger.tx), limit, 'grant.hold')
    }
  },
  open_lease: {
    fields: { grant: grantOf, lease: plain, amount: positive },
    run: (ledger, { grant, lease, amount }) => {
      ledger.own(grant, 'gateway')
      need(ledger.now < grant.expires_ms, 'CONFLICT', 'expired')
      need(lease === grant.lease_count + 1, 'CONFLICT', 'next number')
      Object.assign(grant, { lease_count: lease, leased: grant.leased + amount })
      need(grant.leased <= grant.limit, 'FUNDS', 'leases within the limit')
      ledger.state.ensure('lease', { grant: grant.id, lease, amount, drawn: 0n, next_number: 1n })
    }
  },
  close_grant: {
    fields: { grant: grantOf },
    run: (ledger, { grant }) => {
      need([grant.payer, grant.gateway].some(who => who.equals(ledger.sender)), 'DENIED', 'payer or gateway')
      need(ledger.now >= grant.expires_ms + ledger.parameters.settlement_window_ms, 'CONFLICT', 'receipts may be on their way')
      grant.closed = true
      ledger.pay(escrow('grant', grant.id), grant.payer, grant.limit - grant.drawn, 'grant.refund', grant.id)
    }
  },
  settle_receipts: {
    fields: { batch: bytes32 },
    run: (ledger, { batch: digest }) => {
      const batch = readBatch(ledger, 'ReceiptBatch', blobOf(ledger, digest), 'receipts', ['gateway', 'grant'])
      const receipts = batch.receipts.map(readReceipt), first = big(batch.first_number)
      receipts.forEach(({ grant, lease, number }, i) => need(grant.equals(batch.grant) && lease === batch.lease && number === first + BigInt(i), 'INVALID', 'a receipt of another place'))
      need(fits(batch.key, receiptsMessage(ledger.chain, { ...batch, first_number: first }), batch.signature), 'DENIED', 'signature')
      const grant = ledger.state.get('grant', { id: batch.grant }), lease = ledger.state.get('lease', { grant: batch.grant, lease: batch.lease })
      need(grant && lease, 'NOT_FOUND', 'grant and lease')
      need(!grant.closed, 'DENIED', 'the grant is closed')
      need(grant.gateway.equals(batch.gateway) && ledger.isKey(batch.gateway, batch.key), 'DENIED', 'the gateway')
      need(lease.next_number === first, 'CONFLICT', 'next number')
      const net = new Net()
      for (const receipt of receipts) charge(ledger, net, digest, lease, grant, receipt)
      net.add(escrow('grant', grant.id), false, receipts.reduce((sum, { fee }) => sum + fee, 0n), 'fee.charge')
      net.post(ledger, digest)
    }
  },
  settle_shares: {
    fields: { batch: bytes32 },
    run: (ledger, { batch: digest }) => {
      const batch = readBatch(ledger, 'ShareBatch', blobOf(ledger, digest), 'sets', ['account'])
      const sets = batch.sets.map(readShares)
      need(fits(batch.key, sharesMessage(ledger.chain, batch), batch.signature), 'DENIED', 'signature')
      need(ledger.isBonded(batch.account, ATTRIBUTION) && ledger.isKey(batch.account, batch.key), 'DENIED', 'bonded as attribution')
      const net = new Net(), paid = new Map()
      for (const set of sets) share(ledger, net, paid, set)
      for (const parts of paid.values()) for (const { account, amount } of parts) net.add(account, true, amount, 'fee.contributor')
      net.post(ledger, digest)
    }
  }
}
