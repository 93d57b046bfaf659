// governance.mjs - rules of proposals: who may make one, snapshots of stake, votes, quorum, timelock, execution.
import { need, zero32 } from './codec.mjs'
import { choice, list, plain, record, text } from './fields.mjs'
import { GRAIN, powerAt, VOTES } from './stake.mjs'
import { PARAMETERS } from './texts.mjs'

const NONE = 0, QUEUED = 1, EXECUTED = 2, CANCELLED = 3
const FIELD_OF_CHOICE = [, 'against_grains', 'for_grains', 'abstain_grains'] // eslint-disable-line no-sparse-arrays
const proposal = record('proposal')

/** Opens a snapshot in the first slot of [from, to] that nobody looks at any more. */
export function openSnapshot(ledger, from, to, { height, until_height, subject }) {
  const free = Array.from({ length: to - from + 1 }, (_, i) => from + i).find(slot => !isOpen(ledger, ledger.state.get('snapshot', { slot })))
  need(free !== undefined, 'LIMIT', 'open at once')
  Object.assign(ledger.state.ensure('snapshot', { slot: free }), { height, until_height, subject, opener: ledger.sender })
}
export function closeSnapshot(ledger, subject) {
  const found = ledger.state.all('snapshot').find(snapshot => snapshot.subject.equals(subject))
  if (found) ledger.state.get('snapshot', found).until_height = 0
}
const isOpen = (ledger, snapshot) => Boolean(snapshot && snapshot.until_height >= ledger.block)
export const hasOpen = (ledger, from, to) => ledger.state.all('snapshot').some(snapshot => snapshot.slot >= from && snapshot.slot <= to && isOpen(ledger, snapshot) && snapshot.opener.equals(ledger.sender))

/** The parameters with these changes; refuses what is not consistent. */
function changed(ledger, changes) {
  const next = { ...ledger.parameters }
  for (const { name, value } of changes) next[name] = PARAMETERS.get(name).parse(value)
  need(next.platform_bp + next.model_bp + next.stakers_bp + next.contributors_bp === 10_000n, 'RANGE', 'parts of a fee sum')
  return next
}
function change(_, { name, value }) {
  const parameter = PARAMETERS.get(name)
  need(parameter, 'INVALID', `no parameter ${name}`)
  need(parameter.amount || (/^(0|[1-9][0-9]*)$/.test(value) && BigInt(value) < 2n ** 64n), 'INVALID', `'${value}' is not a number`)
  const found = parameter.parse(value)
  need(found >= parameter.least && found <= parameter.most, 'RANGE', name)
  return { name, value }
}
const linesOf = text => text.split('\n').map(line => { const [name, value] = line.split(' '); return { name, value } })

function succeeded(ledger, { for_grains, against_grains, abstain_grains, staked_grains, quorum_bp, end_height }) {
  const quorum = (staked_grains * BigInt(quorum_bp) + 9999n) / 10_000n
  return ledger.height >= end_height && for_grains > against_grains && for_grains + abstain_grains >= quorum
}

export const GOVERNANCE = {
  propose: {
    fields: { title: text(128), changes: list(1, 16, change) },
    run: (ledger, { title, changes }) => {
      need(new Set(changes.map(({ name }) => name)).size === changes.length, 'INVALID', 'a parameter twice')
      changed(ledger, changes)
      const { voting_delay_blocks, voting_period_blocks, proposal_threshold, quorum_bp } = ledger.parameters
      need(powerAt(ledger, VOTES, ledger.sender, ledger.block) * GRAIN >= proposal_threshold, 'DENIED', 'votes')
      need(!hasOpen(ledger, 0, 15), 'CONFLICT', 'an open proposal')
      const snapshot_height = ledger.block + Number(voting_delay_blocks), end_height = snapshot_height + Number(voting_period_blocks)
      openSnapshot(ledger, 0, 15, { height: snapshot_height, until_height: end_height, subject: ledger.tx })
      ledger.state.ensure('proposal', {
        id: ledger.tx, proposer: ledger.sender, title, changes: changes.map(({ name, value }) => `${name} ${value}`).join('\n'), snapshot_height, end_height, quorum_bp: Number(quorum_bp),
        staked_grains: 0n, for_grains: 0n, against_grains: 0n, abstain_grains: 0n, eta_ms: 0n, expires_ms: 0n, outcome: NONE, index: ledger.index
      })
    }
  },
  vote: {
    fields: { proposal, choice: plain },
    run: (ledger, { proposal, choice: chosen }) => {
      const { id, snapshot_height, end_height, outcome } = proposal
      need(outcome === NONE && ledger.height >= snapshot_height && ledger.height < end_height, 'CONFLICT', 'not active')
      choice(3)(ledger, chosen)
      need(!ledger.state.get('vote', { proposal: id, account: ledger.sender }), 'CONFLICT', 'voted already')
      const grains = powerAt(ledger, VOTES, ledger.sender, snapshot_height)
      need(grains > 0n, 'DENIED', 'votes')
      proposal.staked_grains = powerAt(ledger, VOTES, zero32, snapshot_height)
      proposal[FIELD_OF_CHOICE[chosen]] += grains
      ledger.state.ensure('vote', { proposal: id, account: ledger.sender, choice: chosen, grains })
    }
  },
  queue_proposal: {
    fields: { proposal },
    run: (ledger, { proposal }) => {
      need(proposal.outcome === NONE && succeeded(ledger, proposal), 'CONFLICT', 'not succeeded')
      const eta_ms = ledger.now + ledger.parameters.timelock_ms
      Object.assign(proposal, { outcome: QUEUED, eta_ms, expires_ms: eta_ms + ledger.parameters.proposal_grace_ms })
    }
  },
  execute_proposal: {
    fields: { proposal },
    run: (ledger, { proposal }) => {
      need(proposal.outcome === QUEUED && ledger.now >= proposal.eta_ms && ledger.now < proposal.expires_ms, 'CONFLICT', 'not its time')
      Object.assign(ledger.parameters, changed(ledger, linesOf(proposal.changes)))
      proposal.outcome = EXECUTED
    }
  },
  cancel_proposal: {
    fields: { proposal },
    run: (ledger, { proposal }) => {
      const { outcome, expires_ms, end_height, id, proposer } = proposal
      const isDefeated = ledger.height >= end_height && !succeeded(ledger, proposal)
      need((outcome === NONE && !isDefeated) || (outcome === QUEUED && ledger.now < expires_ms), 'CONFLICT', 'over')
      need(proposer.equals(ledger.sender) || powerAt(ledger, VOTES, proposer, ledger.block) * GRAIN < ledger.parameters.proposal_threshold, 'DENIED', 'the proposer')
      proposal.outcome = CANCELLED
      closeSnapshot(ledger, id)
    }
  }
}
