// data.mjs - rules of datanets, contributions, versions and treasuries.
import { need, partOf, treasury } from './codec.mjs'
import { bytes32, choice, list, name, optional32, plain, positive, record, text, within } from './fields.mjs'

const datanet = record('datanet'), contribution = record('contribution')
/** A datanet of the sender's. */
const owned = (ledger, value) => { const found = datanet(ledger, value); ledger.own(found); return found }
/** A contribution that the sender can still withdraw from. */
function withdrawable(ledger, value) {
  const found = contribution(ledger, value)
  ledger.own(found, 'contributor')
  need(found.state === 1 || found.state === 2, 'CONFLICT', 'committed or accepted')
  return found
}
/** How many rows of a contribution a version may use. */
const usable = ({ state, accepted_rows, row_count, withdrawn_rows }) => (state === 2 ? Math.min(accepted_rows, row_count - withdrawn_rows) : 0)
/** A contribution changes: how many of its rows count changes its contributor's standing. */
function change(ledger, found, edit) {
  const before = usable(found)
  edit()
  const { datanet, contributor: account } = found, after = usable(found)
  if (before !== after) ledger.state.ensure('standing', { datanet, account, accepted_rows: 0n }).accepted_rows += BigInt(after - before)
}

export const DATA = {
  create_datanet: {
    fields: { name, title: text(128), description: text(1024), licence: text(128, { empty: false }), permission: choice(3), validators: list(0, 16, bytes32) },
    run: (ledger, { name, title, description, licence, permission, validators }) => {
      need(!ledger.state.get('datanet', { name }), 'CONFLICT', 'name taken')
      ledger.state.ensure('datanet', { name, owner: ledger.sender, treasury: treasury(name), title, description, licence, permission, validator_count: validators.length, validators, contributions: 0, versions: 0, index: ledger.index })
    }
  },
  offer_datanet: {
    fields: { datanet: owned, to: optional32 },
    run: (ledger, { datanet, to }) => {
      need(!to?.equals(ledger.sender), 'INVALID', 'to itself')
      datanet.offered_to = to
    }
  },
  accept_datanet: {
    fields: { datanet },
    run: (ledger, { datanet }) => {
      need(datanet.offered_to?.equals(ledger.sender), 'DENIED', 'offered to it')
      Object.assign(datanet, { owner: ledger.sender, offered_to: null })
    }
  },
  set_validators: {
    fields: { datanet: owned, validators: list(0, 16, bytes32, { ascending: true }) },
    run: (ledger, { datanet, validators }) => { Object.assign(datanet, { validators, validator_count: validators.length }) }
  },
  pay_from_treasury: {
    fields: { datanet: owned, to: bytes32, amount: positive, memo: text(256) },
    run: (ledger, { datanet, to, amount }) => {
      need(!to.equals(datanet.treasury), 'INVALID', 'to the treasury')
      const { treasury_period_ms, treasury_payout_bp } = ledger.parameters
      const fresh = { from_ms: ledger.now, limit: partOf(ledger.balance(datanet.treasury), treasury_payout_bp), paid: 0n }
      const payouts = ledger.state.ensure('payouts', { datanet: datanet.name, ...fresh })
      if (ledger.now >= payouts.from_ms + treasury_period_ms) Object.assign(payouts, fresh)
      payouts.paid += amount
      need(payouts.paid <= payouts.limit, 'FUNDS', 'limit of the period')
      ledger.pay(datanet.treasury, to, amount, 'treasury.pay')
    }
  },
  commit_rows: {
    fields: { datanet, root: bytes32, row_count: within(1, 100_000), byte_count: within(1, 2n ** 64n - 1n) },
    run: (ledger, { datanet, root, row_count, byte_count }) => {
      datanet.contributions++
      ledger.state.ensure('contribution', { id: ledger.tx, datanet: datanet.name, contributor: ledger.sender, root, row_count, byte_count: BigInt(String(byte_count)), state: 1, accepted_rows: 0, withdrawn_rows: 0, index: ledger.index })
    }
  },
  review_contribution: {
    fields: { contribution, accept: plain, content: (ledger, value, { accept }) => (accept ? bytes32 : optional32)(ledger, value), accepted_rows: plain, reason: text(256) },
    run: (ledger, { contribution: found, accept, content, accepted_rows, reason }) => {
      const { owner, validators } = ledger.state.get('datanet', { name: found.datanet })
      need([owner, ...validators].some(who => who.equals(ledger.sender)), 'DENIED', 'owner or validator')
      need(found.state === 1, 'CONFLICT', 'reviewed already')
      need(accept ? accepted_rows >= 1 && accepted_rows <= found.row_count - found.withdrawn_rows : accepted_rows === 0, 'RANGE', 'accepted rows')
      change(ledger, found, () => Object.assign(found, { state: accept ? 2 : 3, content, accepted_rows, reason, review_index: ledger.index }))
    }
  },
  withdraw_contribution: {
    fields: { contribution: withdrawable },
    run: (ledger, { contribution: found }) => change(ledger, found, () => { found.state = 4 })
  },
  withdraw_rows: {
    fields: { contribution: withdrawable, rows: list(1, 1024, plain) },
    run: (ledger, { contribution: found, rows }) => {
      rows.forEach((row, i) => {
        need(row < found.row_count, 'RANGE', 'row')
        need(i === 0 || row > rows[i - 1], 'INVALID', 'rows that do not ascend')
        need(!ledger.state.get('withdrawn_row', { contribution: found.id, row }), 'CONFLICT', 'withdrawn already')
        ledger.state.ensure('withdrawn_row', { contribution: found.id, row })
      })
      change(ledger, found, () => { found.withdrawn_rows += rows.length })
    }
  },
  publish_version: {
    fields: { datanet, version: plain, root: bytes32, row_count: plain, manifest: bytes32, contributors: plain },
    run: (ledger, { datanet: found, version, root, row_count, manifest, contributors }) => {
      ledger.own(found)
      const datanet = found.name
      need(version === found.versions + 1, 'CONFLICT', 'next number')
      need(contributors.length >= 1 && contributors.length <= 8192, 'LIMIT', 'contributors')
      found.versions = version
      ledger.state.ensure('version', { datanet, version, root, row_count, manifest, contributor_count: contributors.length, index: ledger.index })
      contributors.forEach(({ account, row_count }, i) => {
        bytes32(ledger, account)
        need(i === 0 || Buffer.compare(contributors[i - 1].account, account) < 0, 'INVALID', 'accounts that do not ascend')
        need(row_count >= 1 && BigInt(row_count) <= (ledger.state.get('standing', { datanet, account })?.accepted_rows ?? 0n), 'RANGE', 'rows')
        ledger.state.ensure('version_contributor', { datanet, version, account, row_count })
      })
      need(row_count === contributors.reduce((sum, item) => sum + item.row_count, 0), 'INVALID', 'rows sum')
    }
  }
}
