// codec.mjs - bytes of the ledger: numbers, amounts, hashes, messages in their one canonical encoding, signatures. From
// shared/ledger/FORMAT.md and the proto files.
import { createHash, createPublicKey, verify } from 'node:crypto'
import protobuf from 'protobufjs'

export const H = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest()
export const domain = text => Buffer.from(`${text}\0`)
export function number(value, size) {
  const out = Buffer.allocUnsafe(size)
  if (size === 8) out.writeBigUInt64BE(BigInt(value))
  else out.writeUIntBE(Number(value), 0, size)
  return out
}
export const big = value => BigInt(String(value ?? 0))
export const zero32 = Buffer.alloc(32)
export const UNITS = 10n ** 18n
export const SUPPLY = 1_000_000_000n * UNITS

/** Why an entry is not applied: code is the name of the error. */
export class Refused extends Error {
  constructor(code, why) { super(`${code}: ${why}`); this.code = code }
}
export function need(condition, code, why) { if (!condition) throw new Refused(code, why) }

// ---- amounts ---------------------------------------------------------------------------------------------------

export function units(text) {
  need(/^(0|[1-9][0-9]*)(\.[0-9]{0,17}[1-9])?$/.test(text), 'INVALID', `'${text}' is not an amount`)
  const [whole, part = ''] = text.split('.')
  const value = BigInt(whole) * UNITS + BigInt(part.padEnd(18, '0'))
  need(value < 2n ** 128n, 'INVALID', `'${text}' is too much`)
  return value
}
export function amountText(value) {
  const part = (value % UNITS).toString().padStart(18, '0').replace(/0+$/, '')
  return part === '' ? `${value / UNITS}` : `${value / UNITS}.${part}`
}
export const amountBytes = value => Buffer.concat([number(value >> 64n, 8), number(value & (2n ** 64n - 1n), 8)])
export const partOf = (total, bp) => total * BigInt(bp) / 10000n

/** Parts of total by weights: rounded down, the units left go one each to the largest remainders, ties to the first. */
export function proportional(total, weights) {
  const sum = weights.reduce((all, weight) => all + weight, 0n)
  const parts = weights.map(weight => total * weight / sum)
  const order = weights.map((weight, at) => ({ at, rest: total * weight % sum })).sort((a, b) => (a.rest === b.rest ? a.at - b.at : a.rest > b.rest ? -1 : 1))
  const left = Number(total - parts.reduce((all, part) => all + part, 0n))
  for (const { at } of order.slice(0, left)) parts[at]++
  return parts
}

// ---- messages --------------------------------------------------------------------------------------------------

const proto = new protobuf.Root()
proto.resolvePath = (_, target) => (target.startsWith('proto/') ? target : `proto/${target}`)
proto.loadSync('proto/openledger/v1/ledger.proto', { keepCase: true })
const types = new Map()
export function message(name) {
  if (!types.has(name)) types.set(name, proto.lookupType(`openledger.v1.${name}`))
  return types.get(name)
}
export const uint64 = value => protobuf.util.Long.fromString(String(value), true)

const isDefault = value => value === 0 || value === false || value.length === 0 || (protobuf.util.Long.isLong(value) && value.isZero())
/** The message with what has its default left out; members of a oneof stay as they are. */
function canonical(type, fields) {
  const out = type.create()
  for (const field of type.fieldsArray.map(field => field.resolve())) {
    const value = fields[field.name]
    if (!Object.hasOwn(fields, field.name) || value === undefined || value === null) continue
    const inner = field.resolvedType instanceof protobuf.Type ? item => canonical(field.resolvedType, item) : item => item
    if (field.repeated) { if (value.length > 0) out[field.name] = value.map(inner) } else if (field.partOf || !isDefault(value)) out[field.name] = inner(value)
  }
  return out
}
export const encode = (name, fields) => Buffer.from(message(name).encode(canonical(message(name), fields)).finish())
/** What decodes to this message again, byte for byte; else INVALID. */
export function decode(name, bytes) {
  let decoded
  try { decoded = message(name).decode(bytes) } catch { throw new Refused('INVALID', `not a ${name}`) }
  need(encode(name, decoded).equals(bytes), 'INVALID', `a ${name} that is not canonical`)
  return decoded
}

// ---- ids and signatures ----------------------------------------------------------------------------------------

export const accountId = key => H(domain('openledger/account/v1'), key)
export const txId = (chain, body) => H(domain('openledger/txid/v1'), chain, body)
export const signedMessage = (chain, body) => Buffer.concat([domain('openledger/tx/v1'), chain, H(body)])
export const receiptsMessage = (chain, { gateway, grant, lease, first_number, count, root }) => Buffer.concat([domain('openledger/receipts/v1'), chain, gateway, grant, number(lease, 4), number(first_number, 8), number(count, 4), root])
export const sharesMessage = (chain, { account, count, root }) => Buffer.concat([domain('openledger/shares/v1'), chain, account, number(count, 4), root])
export const escrow = (what, ...parts) => H(domain(`openledger/escrow/${what}/v1`), ...parts)
export const bondEscrow = (account, role) => escrow('bond', account, number(role, 1))
export const treasury = datanet => H(domain('openledger/treasury/v1'), datanet)
export const POOL = H(domain('openledger/pool/stakers/v1'))

const keys = new Map()
export function publicKey(raw) {
  const text = raw.toString('base64url')
  if (!keys.has(text)) keys.set(text, createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: text }, format: 'jwk' }))
  return keys.get(text)
}
export function fits(key, data, signature) {
  try { return verify(null, data, publicKey(key), signature) } catch { return false }
}
export const split32 = bytes => Array.from({ length: bytes.length / 32 }, (_, i) => bytes.subarray(32 * i, 32 * i + 32))
