// fields.mjs - how the fields of an action are read and what is refused about them: each is (ledger, value, read) => what the
// rule gets; read has the fields before it. FORMAT.md, "Applying an entry" step 5 and "Bounds".
import { big, need, SUPPLY, units } from './codec.mjs'

export const DAY_MS = 86_400_000n
const FAR_MS = 31_622_400_000n

export const bytes32 = (_, value) => { need(value.length === 32, 'INVALID', '32 bytes'); return value }
export const optional32 = (_, value) => { need(value.length === 0 || value.length === 32, 'INVALID', '32 bytes or none'); return value.length ? value : null }
export const plain = (_, value) => value
export const long = (_, value) => big(value)

export const isName = value => /^[a-z0-9][a-z0-9._-]{1,63}$/.test(value)
export const name = (_, value) => { need(isName(value), 'INVALID', `'${value}' is not a name`); return value }
export const text = (most, { empty = true } = {}) => (_, value) => {
  // eslint-disable-next-line no-control-regex
  need(Buffer.byteLength(value) <= most && !/[\u0000-\u0008\u000b-\u001f\u007f]/.test(value) && (empty || value !== ''), 'INVALID', 'text')
  return value
}
export const amount = (_, value) => units(value)
export const positive = (_, value) => { const found = units(value); need(found > 0n, 'INVALID', 'an amount of 0'); return found }
export const choice = most => (_, value) => { need(value >= 1 && value <= most, 'INVALID', `no choice ${value}`); return value }
export const within = (least, most) => (_, value) => { need(big(value) >= BigInt(least) && big(value) <= BigInt(most), 'RANGE', `${value} is not ${least} to ${most}`); return value }
export const expiry = (ledger, value) => {
  need(big(value) > ledger.now && big(value) - ledger.now <= FAR_MS, 'RANGE', 'expiry')
  return big(value)
}
/** A list: how many, each in turn, and whether they ascend. */
export const list = (least, most, read, { ascending = false } = {}) => (ledger, values) => {
  need(values.length >= least && values.length <= most, 'LIMIT', `${values.length} items`)
  return values.map((value, i) => {
    const found = read(ledger, value)
    need(!ascending || i === 0 || Buffer.compare(values[i - 1], value) < 0, 'INVALID', 'a list that does not ascend')
    return found
  })
}
/** The record that a field names by its first key; over(record): it is not to be had any more. */
export const record = (kind, over = () => false, code = 'CONFLICT') => (ledger, value) => {
  const key = ['datanet', 'model', 'adapter'].includes(kind) ? { name: value } : { id: bytes32(ledger, value) }
  const found = ledger.state.get(kind, key)
  need(found, 'NOT_FOUND', `no such ${kind}`)
  need(!over(found, ledger), code, `the ${kind} is over`)
  return found
}
/** OPEN for each token, bounded together. */
export const bounded = (prompt, completion) => need(1_000_000n * (prompt + completion) <= SUPPLY, 'RANGE', 'prices')
