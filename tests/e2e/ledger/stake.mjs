// stake.mjs - rules of bonds, delegations and rewards; the stakers' pool, and who weighs how much at which height.
import { bondEscrow, need, partOf, POOL, zero32 } from './codec.mjs'
import { bytes32, choice, list, optional32, plain, positive } from './fields.mjs'

export const GRAIN = 10n ** 9n
const SCALE = 10n ** 12n
export const VALIDATOR = 1, VOTES = 1, VALIDATORS = 2
const CHECKPOINTS = 33, SLOTS = [0, 1, 2, 3, 4, 5, 6, 7], DELEGATIONS_MAX = 1024
const grainsOf = amount => amount / GRAIN

// ---- power -----------------------------------------------------------------------------------------------------

/** Does a snapshot that is still open look at a height in [from, to)? */
const isSeen = (ledger, from, to) => ledger.state.all('snapshot').some(({ height, until_height }) => until_height >= ledger.block && height >= from && height < to)

function addPower(ledger, series, account, difference) {
  if (difference === 0n) return
  const power = ledger.state.ensure('power', { account, series, count: 0, heights: [], grains: [] })
  const sum = (power.grains.at(-1) ?? 0n) + difference
  if (power.heights.at(-1) === ledger.block) {
    power.grains[power.count - 1] = sum
    return
  }
  const kept = power.heights.map((height, i) => i).filter(i => isSeen(ledger, power.heights[i], power.heights[i + 1] ?? ledger.block))
  Object.assign(power, { heights: [...kept.map(i => power.heights[i]), ledger.block], grains: [...kept.map(i => power.grains[i]), sum] })
  power.count = power.heights.length
  need(power.count <= CHECKPOINTS, 'LIMIT', 'checkpoints')
}
export function powerAt(ledger, series, account, height) {
  const power = ledger.state.get('power', { account, series })
  const at = power?.heights.findLastIndex(from => from <= height) ?? -1
  return at < 0 ? 0n : power.grains[at]
}

// ---- the pool and positions ------------------------------------------------------------------------------------

/** Spreads what the pool got since the last time over all grains. */
function spread(ledger) {
  const staking = ledger.state.ensure('staking', { grains: 0n, index: 0n, owed: 0n })
  const fresh = ledger.balance(POOL) - staking.owed
  if (staking.grains === 0n || fresh * SCALE >= 2n ** 128n) return staking
  const step = fresh * SCALE / staking.grains
  if (step === 0n) return staking
  const owed = step * staking.grains / SCALE + 1n
  staking.index += step
  staking.owed += owed < fresh ? owed : fresh
  return staking
}
/** Pays a position what it has earned. commissionTo: the validator of a delegation. */
function payDue(ledger, position, owner, commissionTo) {
  const staking = spread(ledger)
  const due = grainsOf(position.amount) * (staking.index - position.rewarded_to) / SCALE
  position.rewarded_to = staking.index
  staking.owed -= due
  const commission = commissionTo ? partOf(due, ledger.parameters.commission_bp) : 0n
  if (commissionTo) ledger.pay(POOL, commissionTo, commission, 'stakers.commission')
  ledger.pay(POOL, owner, due - commission, 'stakers.reward')
}
function setPosition(ledger, position, owner, validator, amount) {
  const difference = grainsOf(amount) - grainsOf(position.amount)
  position.amount = amount
  const staking = spread(ledger)
  staking.grains += difference
  const staker = ledger.state.ensure('staker', { account: owner, grains: 0n, delegate: owner })
  staker.grains += difference
  addPower(ledger, VOTES, staker.delegate, difference)
  addPower(ledger, VOTES, zero32, difference)
  if (!validator) return
  addPower(ledger, VALIDATORS, validator, difference)
  addPower(ledger, VALIDATORS, zero32, difference)
}
export function setBond(ledger, account, role, amount) {
  const bond = ledger.state.get('bond', { account, role }) ?? ledger.state.ensure('bond', { account, role, amount: 0n, rewarded_to: spread(ledger).index, delegations: 0 })
  payDue(ledger, bond, account)
  setPosition(ledger, bond, account, role === VALIDATOR ? account : null, amount)
}
export function setDelegation(ledger, delegator, validator, amount) {
  const delegation = ledger.state.get('delegation', { delegator, validator }) ?? ledger.state.ensure('delegation', { delegator, validator, amount: 0n, rewarded_to: spread(ledger).index })
  payDue(ledger, delegation, delegator, validator)
  const bond = ledger.state.get('bond', { account: validator, role: VALIDATOR })
  bond.delegations += Number(amount > 0n) - Number(delegation.amount > 0n)
  setPosition(ledger, delegation, delegator, validator, amount)
}

// ---- on the way out --------------------------------------------------------------------------------------------

function leave(ledger, role, validator, amount) {
  const slot = SLOTS.find(slot => !ledger.state.get('unbonding', { account: ledger.sender, role, validator, slot })?.amount)
  need(slot !== undefined, 'LIMIT', 'parts on the way out')
  Object.assign(ledger.state.ensure('unbonding', { account: ledger.sender, role, validator, slot }), { amount, release_ms: ledger.now + ledger.parameters.unbonding_ms })
}
function remains(ledger, has, amount) {
  need(amount <= has, 'FUNDS', 'more than there is')
  const rest = has - amount
  need(rest === 0n || rest >= ledger.parameters.minimum_bond, 'RANGE', 'minimum bond')
  return rest
}
const delegated = (ledger, validator) => ledger.state.get('delegation', { delegator: ledger.sender, validator })?.amount ?? 0n
const role = choice(4)

export const STAKE = {
  bond: {
    fields: { role, amount: positive },
    run: (ledger, { role, amount }) => {
      const sum = ledger.bond(ledger.sender, role) + amount
      need(sum >= ledger.parameters.minimum_bond, 'RANGE', 'minimum bond')
      ledger.pay(ledger.sender, bondEscrow(ledger.sender, role), amount, 'bond')
      setBond(ledger, ledger.sender, role, sum)
    }
  },
  unbond: {
    fields: { role, amount: positive },
    run: (ledger, { role, amount }) => {
      setBond(ledger, ledger.sender, role, remains(ledger, ledger.bond(ledger.sender, role), amount))
      leave(ledger, role, zero32, amount)
    }
  },
  release: {
    fields: { role, validator: optional32 },
    run: (ledger, { role, validator }) => {
      need(!validator || role === VALIDATOR, 'INVALID', 'a validator of another role')
      const parts = SLOTS.map(slot => ledger.state.get('unbonding', { account: ledger.sender, role, validator, slot })).filter(part => part?.amount && part.release_ms <= ledger.now)
      need(parts.length > 0, 'CONFLICT', 'nothing is due')
      ledger.pay(bondEscrow(validator ?? ledger.sender, role), ledger.sender, parts.reduce((sum, { amount }) => sum + amount, 0n), 'unbond')
      for (const part of parts) part.amount = 0n
    }
  },
  delegate: {
    fields: { validator: bytes32, amount: positive },
    run: (ledger, { validator, amount }) => {
      need(!validator.equals(ledger.sender), 'INVALID', 'to oneself')
      need(ledger.isBonded(validator, VALIDATOR), 'DENIED', 'bonded as validator')
      const has = delegated(ledger, validator)
      need(has > 0n || ledger.state.get('bond', { account: validator, role: VALIDATOR }).delegations < DELEGATIONS_MAX, 'LIMIT', 'delegations')
      need(has + amount >= ledger.parameters.minimum_bond, 'RANGE', 'minimum bond')
      ledger.pay(ledger.sender, bondEscrow(validator, VALIDATOR), amount, 'delegate')
      setDelegation(ledger, ledger.sender, validator, has + amount)
    }
  },
  undelegate: {
    fields: { validator: bytes32, amount: positive },
    run: (ledger, { validator, amount }) => {
      setDelegation(ledger, ledger.sender, validator, remains(ledger, delegated(ledger, validator), amount))
      leave(ledger, VALIDATOR, validator, amount)
    }
  },
  claim_rewards: {
    fields: { validators: list(0, 64, plain) },
    run: (ledger, { validators }) => {
      const bonds = [1, 2, 3, 4].map(role => ledger.state.get('bond', { account: ledger.sender, role })).filter(bond => bond)
      need(validators.length > 0 || bonds.length > 0, 'NOT_FOUND', 'a bond')
      for (const { role, amount } of bonds) setBond(ledger, ledger.sender, role, amount)
      for (const validator of validators) {
        need(ledger.state.get('delegation', { delegator: ledger.sender, validator: bytes32(ledger, validator) }), 'NOT_FOUND', 'delegation')
        setDelegation(ledger, ledger.sender, validator, delegated(ledger, validator))
      }
    }
  },
  delegate_votes: {
    fields: { to: optional32 },
    run: (ledger, { to }) => {
      const delegate = to ?? ledger.sender
      need(ledger.isOpen(delegate), 'NOT_FOUND', 'an open account')
      const staker = ledger.state.ensure('staker', { account: ledger.sender, grains: 0n, delegate: ledger.sender })
      addPower(ledger, VOTES, staker.delegate, -staker.grains)
      addPower(ledger, VOTES, delegate, staker.grains)
      staker.delegate = delegate
    }
  }
}

// ---- slash -----------------------------------------------------------------------------------------------------

/** Everything at stake of an account in a role: [{amount, take(part)}], in the order in which it is slashed. */
function atStake(ledger, account, role) {
  const { state } = ledger
  const out = (list, fits) => state.all('unbonding').filter(part => part.role === role && part.amount && fits(part)).map(part => state.get('unbonding', part))
    .forEach(part => list.push({ amount: part.amount, take: amount => { part.amount -= amount } }))
  const found = []
  const bond = ledger.bond(account, role)
  found.push({ amount: bond, take: part => setBond(ledger, account, role, bond - part) })
  if (role === VALIDATOR) {
    for (const { delegator, amount } of state.all('delegation').filter(({ validator }) => validator.equals(account))) found.push({ amount, take: part => setDelegation(ledger, delegator, account, amount - part) })
  }
  const own = part => part.account.equals(account) && (part.validator ?? zero32).equals(zero32)
  out(found, part => own(part) || (role === VALIDATOR && part.validator?.equals(account)))
  return found
}
/** Takes a part of it: to the reporter, to whom it harmed up to a limit, the rest to the stakers' pool. Returns how much. */
export function slash(ledger, { account, role, bp, reporter, harmed, harmedMost = 0n, reference }) {
  const sums = atStake(ledger, account, role).filter(({ amount }) => amount > 0n).map(({ amount, take }) => {
    const part = partOf(amount, bp)
    if (part > 0n) take(part)
    return part
  })
  const total = sums.reduce((sum, part) => sum + part, 0n)
  const toReporter = partOf(total, ledger.parameters.slash_reporter_bp)
  const toHarmed = total - toReporter < harmedMost ? total - toReporter : harmedMost
  const from = bondEscrow(account, role)
  ledger.pay(from, reporter, toReporter, 'slash.reporter', reference)
  if (harmed) ledger.pay(from, harmed, toHarmed, 'slash.harmed', reference)
  ledger.pay(from, POOL, total - toReporter - (harmed ? toHarmed : 0n), 'slash.stakers', reference)
  return total
}
