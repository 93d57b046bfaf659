// evidence.mjs - rules of what a signer can be held to (two things about one slot, a thing that is contradicted, a forked
// checkpoint) and of trainings that validators do again.
import { leafHash, parseCheckpoint, parseNote, signers } from '../tlog.mjs'
import { accountId, big, domain, escrow, fits, H, need, number, receiptsMessage, Refused, sharesMessage, zero32 } from './codec.mjs'
import { bytes32, plain, record, text } from './fields.mjs'
import { closeSnapshot, hasOpen, openSnapshot } from './governance.mjs'
import { climb, pathOf } from './money.mjs'
import { areContributors, ATTRIBUTION, contradiction, readReceipt, readShares } from './settle.mjs'
import { powerAt, slash, VALIDATOR, VALIDATORS } from './stake.mjs'

const GATEWAY = 2, TRAINER = 4
const CONFLICT = 1, INVALID = 2, CHECKPOINTS = 3
const OPEN = 1, REFUTED = 2, SOUND = 3, UNDECIDED = 4
const COMPLETED = 3, JOB_REFUTED = 5

// ---- signed items ----------------------------------------------------------------------------------------------

/** What read() gives; what it throws is a refusal. */
function valid(read, code, why) { try { return read() } catch { throw new Refused(code, why) } }
/** What a read of bytes gives; null: they do not decode. */
function readOrNull(read, bytes) {
  try { return read(bytes) } catch (error) { if (error instanceof Refused) return null; throw error }
}
/** One item of a signed batch that its signer can be held to. */
function held(ledger, isShares, item) {
  need(item, 'INVALID', 'no item')
  for (const field of ['account', 'key', 'root', ...(isShares ? [] : ['grant'])]) bytes32(ledger, item[field])
  need(item.signature.length === 64, 'INVALID', 'signature')
  need(item.place < item.count, 'INVALID', 'place')
  need(climb(item.place, item.count, leafHash(item.item), pathOf(ledger, item.path))?.equals(item.root), 'INVALID', 'not under the root')
  const { account, key, grant, lease, count, root } = item, first_number = big(item.first_number)
  const former = ledger.state.get('former_key', { account, key })
  need(ledger.isKey(account, key) || (former && ledger.now < former.until_ms + ledger.parameters.unbonding_ms), 'DENIED', 'not its key')
  const message = isShares ? sharesMessage(ledger.chain, { account, count, root }) : receiptsMessage(ledger.chain, { gateway: account, grant, lease, first_number, count, root })
  need(fits(key, message, item.signature), 'DENIED', 'signature')
  return { account, grant, lease, number: BigInt.asUintN(64, first_number + BigInt(item.place)), bytes: item.item, leaf: leafHash(item.item) }
}
function slotOf(isShares, { bytes }) {
  if (isShares) return Buffer.concat([readShares(bytes).receipt, Buffer.alloc(12)])
  const receipt = readReceipt(bytes)
  return Buffer.concat([receipt.grant, number(receipt.lease, 4), number(receipt.number, 8)])
}
/** Slashes for an offence, once. */
function punish(ledger, { kind, role, account, slot, bp }) {
  const id = H(domain('openledger/offence/v1'), number(kind, 1), number(role, 1), account, slot)
  need(!account.equals(ledger.sender), 'DENIED', 'the accused')
  need(!ledger.state.get('offence', { id }), 'CONFLICT', 'reported already')
  const slashed = slash(ledger, { account, role, bp, reporter: ledger.sender, reference: id })
  need(slashed > 0n, 'CONFLICT', 'nothing at stake')
  ledger.state.ensure('offence', { id, account, role, kind, reporter: ledger.sender, slashed, index: ledger.index })
}
function isContradicted(ledger, isShares, item) {
  if (isShares) {
    const set = readOrNull(readShares, item.bytes)
    if (!set) return true
    const receipt = ledger.state.get('receipt', { id: set.receipt }), adapter = receipt && ledger.state.get('adapter', { name: receipt.adapter })
    return Boolean(adapter?.has_index) && (!adapter.attribution_index.equals(set.index) || !areContributors(ledger, adapter, set.shares))
  }
  const receipt = readOrNull(readReceipt, item.bytes)
  if (!receipt || receipt.number !== item.number || receipt.lease !== item.lease || !receipt.grant.equals(item.grant)) return true
  const adapter = ledger.state.get('adapter', { name: receipt.adapter })
  return Boolean(adapter) && receipt.opened_ms <= ledger.now && contradiction(ledger, adapter, receipt) !== null
}
const roleOf = isShares => (isShares ? ATTRIBUTION : GATEWAY)

// ---- challenges ------------------------------------------------------------------------------------------------

function openChallenge(ledger, value) {
  const found = ledger.state.get('challenge', { job: bytes32(ledger, value) })
  need(found?.outcome === OPEN, 'NOT_FOUND', 'no open challenge')
  return found
}
function endChallenge(ledger, challenge, outcome, depositTo) {
  challenge.outcome = outcome
  closeSnapshot(ledger, challenge.id)
  ledger.pay(escrow('challenge', challenge.id), depositTo, challenge.deposit, 'challenge.return', challenge.job)
}
function refute(ledger, challenge, job) {
  job.state = JOB_REFUTED
  for (const { name, revoked_ms, job: of } of ledger.state.all('adapter')) if (of.equals(job.id) && !revoked_ms) ledger.state.get('adapter', { name }).revoked_ms = ledger.now + ledger.parameters.price_notice_ms
  endChallenge(ledger, challenge, REFUTED, challenge.challenger)
  slash(ledger, { account: job.trainer, role: TRAINER, bp: ledger.parameters.slash_job_bp, reporter: challenge.challenger, harmed: job.developer, harmedMost: job.fee, reference: job.id })
}

export const EVIDENCE = {
  report_conflict: {
    fields: { shares: plain, first: plain, second: plain },
    run: (ledger, { shares, first, second }) => {
      const [a, b] = [first, second].map(item => held(ledger, shares, item))
      const slot = slotOf(shares, a)
      need(a.account.equals(b.account) && slot.equals(slotOf(shares, b)) && !a.bytes.equals(b.bytes), 'INVALID', 'no conflict')
      punish(ledger, { kind: CONFLICT, role: roleOf(shares), account: a.account, slot, bp: ledger.parameters.slash_conflict_bp })
    }
  },
  report_invalid: {
    fields: { shares: plain, item: plain },
    run: (ledger, { shares, item: signed }) => {
      const item = held(ledger, shares, signed)
      need(isContradicted(ledger, shares, item), 'INVALID', 'not contradicted')
      punish(ledger, { kind: INVALID, role: roleOf(shares), account: item.account, slot: item.leaf, bp: ledger.parameters.slash_invalid_bp })
    }
  },
  report_checkpoints: {
    fields: { key: bytes32, first: plain, second: plain },
    run: (ledger, { key, first, second }) => {
      const origin = `openledger/${ledger.chain.toString('hex')}`
      const witness = ledger.witnesses.find(witness => witness.key.equals(key))
      need(witness || ledger.parameters.sequencer.equals(key), 'DENIED', 'not a key of this log')
      const signer = witness ? { name: witness.name, type: 4, raw: key } : { name: origin, type: 1, raw: key }
      const [a, b] = [first, second].map(bytes => {
        const note = bytes.toString()
        valid(() => parseNote(note), 'INVALID', 'not a signed note')
        need(valid(() => signers(note, [signer]), 'DENIED', 'a wrong signature') === 1, 'DENIED', 'not signed by the key')
        return valid(() => parseCheckpoint(note), 'INVALID', 'not a checkpoint')
      })
      need(a.origin === origin && b.origin === origin && a.size === b.size && !a.root.equals(b.root), 'INVALID', 'no conflict')
      punish(ledger, { kind: CHECKPOINTS, role: VALIDATOR, account: accountId(key), slot: number(a.size, 8), bp: ledger.parameters.slash_conflict_bp })
    }
  },
  challenge_job: {
    fields: { job: record('job'), reason: text(256) },
    run: (ledger, { job, reason }) => {
      const { challenge_window_ms, challenge_blocks, challenge_quorum_bp, challenge_deposit: deposit } = ledger.parameters
      need(ledger.isBonded(ledger.sender, VALIDATOR), 'DENIED', 'bonded validator')
      need(job.state === COMPLETED && ledger.now - job.completed_ms < challenge_window_ms, 'CONFLICT', 'completed a while ago')
      const before = ledger.state.get('challenge', { job: job.id })
      need(!before || before.outcome === UNDECIDED, 'CONFLICT', 'challenged already')
      need(!hasOpen(ledger, 16, 31), 'CONFLICT', 'one per challenger')
      const snapshot_height = ledger.block, end_height = snapshot_height + Number(challenge_blocks)
      openSnapshot(ledger, 16, 31, { height: snapshot_height, until_height: end_height, subject: ledger.tx })
      Object.assign(ledger.state.ensure('challenge', { job: job.id }), {
        id: ledger.tx, challenger: ledger.sender, deposit, snapshot_height, end_height, quorum_bp: Number(challenge_quorum_bp), failed_grains: 0n, sound_grains: 0n, outcome: OPEN, reason
      })
      ledger.pay(ledger.sender, escrow('challenge', ledger.tx), deposit, 'challenge.deposit', job.id)
    }
  },
  attest_job: {
    fields: { job: openChallenge, failed: plain },
    run: (ledger, { job: challenge, failed }) => {
      const { id, snapshot_height, end_height, quorum_bp } = challenge
      need(ledger.height >= snapshot_height && ledger.height < end_height, 'CONFLICT', 'not in time')
      const grains = powerAt(ledger, VALIDATORS, ledger.sender, snapshot_height), all = powerAt(ledger, VALIDATORS, zero32, snapshot_height)
      need(grains > 0n, 'DENIED', 'stake as validator')
      need(!ledger.state.get('attestation', { challenge: id, account: ledger.sender }), 'CONFLICT', 'once')
      ledger.state.ensure('attestation', { challenge: id, account: ledger.sender, failed })
      challenge[failed ? 'failed_grains' : 'sound_grains'] += grains
      const quorum = (all * BigInt(quorum_bp) + 9999n) / 10_000n
      const job = ledger.state.get('job', { id: challenge.job })
      if (challenge.failed_grains >= quorum) refute(ledger, challenge, job)
      else if (all - challenge.sound_grains < quorum) endChallenge(ledger, challenge, SOUND, job.trainer)
    }
  },
  close_challenge: {
    fields: { job: openChallenge },
    run: (ledger, { job: challenge }) => {
      need(ledger.height >= challenge.end_height, 'CONFLICT', 'still open')
      endChallenge(ledger, challenge, UNDECIDED, challenge.challenger)
    }
  }
}
