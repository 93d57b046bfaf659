// money.mjs - rules of accounts, transfers, holds, guardians, vesting and claims.
import { leafHash, nodeHash } from '../tlog.mjs'
import { accountId, amountText, encode, escrow, need, split32 } from './codec.mjs'
import { bytes32, expiry, list, plain, positive, record, text, within, long, DAY_MS } from './fields.mjs'

const memo = text(256)
const other = (a, b) => need(!a.equals(b), 'INVALID', 'a payment to oneself')

// ---- transfers

const ITEM = 48
const items = (_, bytes) => {
  need(bytes.length > 0 && bytes.length % ITEM === 0 && bytes.length <= 8190 * ITEM, 'RANGE', 'items')
  return Array.from({ length: bytes.length / ITEM }, (_, i) => bytes.subarray(ITEM * i, ITEM * i + ITEM)).map(item => ({ to: item.subarray(0, 32), amount: item.readBigUInt64BE(32) << 64n | item.readBigUInt64BE(40) }))
}
const linked = (ledger, item) => ({ from: bytes32(ledger, item.from), to: bytes32(ledger, item.to), amount: positive(ledger, item.amount), memo: memo(ledger, item.memo) })

function endHold(ledger, hold, state, posted) {
  Object.assign(hold, { state, posted })
  ledger.pay(escrow('hold', hold.id), hold.to, posted, 'transfer.post', hold.id)
  ledger.pay(escrow('hold', hold.id), hold.payer, hold.amount - posted, 'transfer.void', hold.id)
}
const pending = record('hold', ({ state }) => state !== 1)

// ---- guardians

function replaceKey(ledger, account, key) {
  Object.assign(ledger.state.ensure('former_key', { account: account.id, key: account.key }), { until_ms: ledger.now })
  account.key = key
}
const forget = guardians => Object.assign(guardians, { keys: [], approved_ms: [] })

// ---- claims

/** The root that an RFC 6962 inclusion proof shows for a leaf; null: it has another length. */
export function climb(at, count, hash, path) {
  for (let last = count - 1; last > 0; at = Math.floor(at / 2), last = Math.floor(last / 2)) {
    if (at === last && at % 2 === 0) continue // no sibling here
    if (path.length === 0) return null
    const sibling = path.shift()
    hash = at % 2 === 1 ? nodeHash(sibling, hash) : nodeHash(hash, sibling)
  }
  return path.length === 0 ? hash : null
}
export const pathOf = (_, bytes) => { need(bytes.length % 32 === 0 && bytes.length <= 32 * 32, 'INVALID', 'path'); return split32(bytes) }
const open = record('claims', ({ closed }) => closed)

export const MONEY = {
  open_account: {
    fields: { key: bytes32, name: text(64) },
    run: (ledger, { key, name }) => {
      need(accountId(key).equals(ledger.sender) && ledger.signedWith(key), 'DENIED', 'its first key')
      need(!ledger.isOpen(ledger.sender), 'CONFLICT', 'open already')
      Object.assign(ledger.account(ledger.sender), { key, name, has_key: true })
    }
  },
  rotate_key: {
    fields: { key: bytes32 },
    run: (ledger, { key }) => {
      const account = ledger.account(ledger.sender)
      need(ledger.signedWith(key), 'DENIED', 'the new key signs too')
      need(!account.key.equals(key), 'CONFLICT', 'another key')
      replaceKey(ledger, account, key)
    }
  },
  transfer: {
    fields: { to: bytes32, amount: positive, memo },
    run: (ledger, { to, amount }) => { other(to, ledger.sender); ledger.pay(ledger.sender, to, amount, 'transfer') }
  },
  transfer_batch: {
    fields: { items, memo },
    run: (ledger, { items }) => {
      for (const { to, amount } of items) { need(amount > 0n, 'INVALID', 'an amount of 0'); other(to, ledger.sender) }
      const total = items.reduce((sum, { amount }) => sum + amount, 0n)
      need(total < 2n ** 128n, 'RANGE', 'too much together')
      ledger.leg(ledger.sender, false, total, 'transfer')
      for (const { to, amount } of items) ledger.leg(to, true, amount, 'transfer')
    }
  },
  linked_transfers: {
    fields: { transfers: list(1, 64, plain) },
    run: (ledger, { transfers }) => {
      for (const item of transfers) {
        const { from, to, amount } = linked(ledger, item)
        other(from, to)
        need(ledger.signedBy(from), 'DENIED', 'signed by each sender')
        ledger.pay(from, to, amount, 'transfer')
      }
    }
  },
  hold_transfer: {
    fields: { to: bytes32, amount: positive, arbiter: bytes32, expires_ms: long, memo },
    run: (ledger, { to, amount, arbiter, expires_ms }) => {
      other(to, ledger.sender)
      expiry(ledger, expires_ms)
      ledger.state.ensure('hold', { id: ledger.tx, payer: ledger.sender, to, arbiter, amount, posted: 0n, expires_ms, state: 1, index: ledger.index })
      ledger.pay(ledger.sender, escrow('hold', ledger.tx), amount, 'transfer.hold')
    }
  },
  post_transfer: {
    fields: { hold: pending, amount: plain },
    run: (ledger, { hold, amount: text }) => {
      ledger.own(hold, 'arbiter')
      need(ledger.now < hold.expires_ms, 'CONFLICT', 'expired')
      const amount = text === '' ? hold.amount : positive(ledger, text)
      need(amount <= hold.amount, 'FUNDS', 'more than is held')
      endHold(ledger, hold, 2, amount)
    }
  },
  void_transfer: {
    fields: { hold: pending },
    run: (ledger, { hold }) => {
      need(ledger.now >= hold.expires_ms || [hold.arbiter, hold.to].some(who => who.equals(ledger.sender)), 'DENIED', 'arbiter or receiver')
      endHold(ledger, hold, 3, 0n)
    }
  },
  set_guardians: {
    fields: { guardians: list(0, 8, plain), threshold: plain, delay_ms: long },
    run: (ledger, { guardians, threshold, delay_ms }) => {
      const off = guardians.length === 0 && threshold === 0 && delay_ms === 0n
      need(off || (threshold >= 1 && threshold <= guardians.length), 'RANGE', 'threshold')
      need(off || (delay_ms >= DAY_MS / 24n && delay_ms <= 90n * DAY_MS), 'RANGE', 'delay')
      list(0, 8, bytes32, { ascending: true })(ledger, guardians)
      need(!guardians.some(guardian => guardian.equals(ledger.sender)), 'INVALID', 'its own guardian')
      forget(Object.assign(ledger.state.ensure('guardians', { account: ledger.sender }), { count: guardians.length, threshold, delay_ms, guardians }))
    }
  },
  approve_recovery: {
    fields: { account: bytes32, key: bytes32 },
    run: (ledger, { account, key }) => {
      const found = ledger.state.get('guardians', { account })
      const at = found?.guardians.findIndex(guardian => guardian.equals(ledger.sender)) ?? -1
      need(at >= 0, 'DENIED', 'a guardian')
      need(!found.approved_ms[at] || !found.keys[at].equals(key), 'CONFLICT', 'approved already')
      found.keys[at] = key
      found.approved_ms[at] = ledger.now
    }
  },
  complete_recovery: {
    fields: { key: bytes32 },
    run: (ledger, { key }) => {
      const found = ledger.state.get('guardians', { account: ledger.sender }), account = ledger.state.get('account', { id: ledger.sender })
      need(found?.count, 'NOT_FOUND', 'guardians')
      need(ledger.signedWith(key), 'DENIED', 'signed with the new key')
      need(!account.key.equals(key), 'CONFLICT', 'another key')
      const times = found.approved_ms.filter((time, i) => time && found.keys[i].equals(key)).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
      need(times.length >= found.threshold, 'DENIED', 'approvals')
      need(times[found.threshold - 1] + found.delay_ms <= ledger.now, 'CONFLICT', 'the delay')
      replaceKey(ledger, account, key)
      forget(found)
    }
  },
  cancel_recovery: {
    fields: {},
    run: ledger => {
      const found = ledger.state.get('guardians', { account: ledger.sender })
      need(found?.approved_ms.some(time => time), 'NOT_FOUND', 'approvals')
      forget(found)
    }
  },
  claim_vested: {
    fields: {},
    run: ledger => {
      const vesting = ledger.state.get('vesting', { account: ledger.sender })
      need(vesting, 'NOT_FOUND', 'vesting')
      const { total, cliff_at_ms, vest_ms, claimed } = vesting, elapsed = ledger.now - cliff_at_ms
      const vested = elapsed < 0n ? 0n : elapsed >= vest_ms ? total : total * elapsed / vest_ms
      need(vested > claimed, 'CONFLICT', 'nothing is due')
      vesting.claimed = vested
      ledger.pay(escrow('vesting', ledger.sender), ledger.sender, vested - claimed, 'vesting.claim')
    }
  },
  publish_claims: {
    fields: { root: bytes32, count: plain, total: positive, expires_ms: long, title: text(128) },
    run: (ledger, { root, count, total, expires_ms, title }) => {
      within(1, 10_000_000)(ledger, count)
      expiry(ledger, expires_ms)
      ledger.state.ensure('claims', { id: ledger.tx, publisher: ledger.sender, root, count, claimed: 0, total, paid: 0n, expires_ms, title, index: ledger.index })
      ledger.pay(ledger.sender, escrow('claims', ledger.tx), total, 'claims.hold', ledger.tx)
    }
  },
  claim: {
    fields: { claims: open, number: plain, amount: positive, path: plain },
    run: (ledger, { claims, number, amount, path }) => {
      const { id, count, root } = claims
      need(ledger.now < claims.expires_ms, 'CONFLICT', 'expired')
      const leaf = leafHash(encode('ClaimLeaf', { account: ledger.sender, amount: amountText(amount) })), hashes = pathOf(ledger, path)
      need(number < count && climb(number, count, leaf, hashes)?.equals(root), 'DENIED', 'a leaf under the root')
      need(!ledger.state.get('claimed', { claims: id, number }), 'CONFLICT', 'paid already')
      need(claims.paid + amount <= claims.total, 'FUNDS', 'what is left')
      Object.assign(claims, { claimed: claims.claimed + 1, paid: claims.paid + amount })
      ledger.state.ensure('claimed', { claims: id, number })
      ledger.pay(escrow('claims', id), ledger.sender, amount, 'claims.pay', id)
    }
  },
  close_claims: {
    fields: { claims: open },
    run: (ledger, { claims }) => {
      need(ledger.now >= claims.expires_ms, 'CONFLICT', 'not expired')
      claims.closed = true
      ledger.pay(escrow('claims', claims.id), claims.publisher, claims.total - claims.paid, 'claims.rest', claims.id)
    }
  }
}
