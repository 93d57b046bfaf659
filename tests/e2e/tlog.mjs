// tlog.mjs - a second, independent implementation of what the log publishes, written from the C2SP and RFC 6962
// texts with nothing but node's own crypto: signed notes, cosignatures, checkpoints, tiles, proofs.
import assert from 'node:assert/strict'
import { createHash, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto'

export const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest()
export const leafHash = data => sha256(Buffer.of(0), data)
export const nodeHash = (left, right) => sha256(Buffer.of(1), left, right)

const publicKey = raw => createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: raw.toString('base64url') }, format: 'jwk' })
const keyId = (name, type, raw) => sha256(name, Buffer.of(0x0a, type), raw).subarray(0, 4)

/** {text, signatures: [{name, id, rest}]} of a signed note. */
export function parseNote(note) {
  const end = note.lastIndexOf('\n\n')
  assert.ok(end > 0 && note.endsWith('\n'))
  const signatures = note.slice(end + 2, -1).split('\n').map(line => {
    const [, name, base64] = line.match(/^\u2014 (\S+) (\S+)$/u)
    const raw = Buffer.from(base64, 'base64')
    assert.equal(raw.toString('base64'), base64)
    return { name, id: raw.subarray(0, 4), rest: raw.subarray(4) }
  })
  return { text: note.slice(0, end + 1), signatures }
}

/** How many of keys [{name, type, raw}] signed the note; a wrong signature of one of them throws. */
export function signers(note, keys) {
  const { text, signatures } = parseNote(note)
  const found = new Set()
  for (const { name, id, rest } of signatures) {
    const key = keys.find(key => key.name === name && keyId(key.name, key.type, key.raw).equals(id))
    if (!key) continue
    const cosigned = key.type === 4
    const message = cosigned ? `cosignature/v1\ntime ${rest.readBigUInt64BE(0)}\n${text}` : text
    const signature = cosigned ? rest.subarray(8) : rest
    assert.ok(signature.length === 64 && verify(null, Buffer.from(message), publicKey(key.raw), signature), `signature of ${name}`)
    found.add(key)
  }
  return found.size
}

export function parseCheckpoint(note) {
  const [origin, size, root] = parseNote(note).text.split('\n')
  assert.match(size, /^(0|[1-9][0-9]*)$/)
  return { origin, size: Number(size), root: Buffer.from(root, 'base64') }
}

/** A log's plain signature over text, with the 32-byte seed of its key. */
export function signNote(text, name, raw, seed) {
  const key = createPrivateKey({ key: { kty: 'OKP', crv: 'Ed25519', x: raw.toString('base64url'), d: seed.toString('base64url') }, format: 'jwk' })
  return `${text}\n\u2014 ${name} ${Buffer.concat([keyId(name, 1, raw), sign(null, Buffer.from(text), key)]).toString('base64')}\n`
}

/** RFC 6962 section 2.1: the tree's hash, recursively, from leaf hashes. */
export function treeHash(leaves) {
  if (leaves.length === 0) return sha256('')
  if (leaves.length === 1) return leaves[0]
  let k = 1
  while (k * 2 < leaves.length) k *= 2
  return nodeHash(treeHash(leaves.slice(0, k)), treeHash(leaves.slice(k)))
}

/** RFC 6962 section 2.1.2, PROOF(m, D[n]). */
export function consistency(m, leaves, whole = true) {
  if (m === leaves.length) return whole ? [] : [treeHash(leaves)]
  let k = 1
  while (k * 2 < leaves.length) k *= 2
  return m <= k
    ? [...consistency(m, leaves.slice(0, k), whole), treeHash(leaves.slice(k))]
    : [...consistency(m - k, leaves.slice(k), false), treeHash(leaves.slice(0, k))]
}

/** RFC 9162 section 2.1.3.2. */
export function included(leaf, index, size, path, root) {
  let fn = index, sn = size - 1, r = leaf
  if (index >= size) return false
  for (const p of path) {
    if (sn === 0) return false
    if (fn % 2 === 1 || fn === sn) {
      r = nodeHash(p, r)
      while (fn % 2 === 0 && fn !== 0) (fn = Math.floor(fn / 2)), (sn = Math.floor(sn / 2))
    } else r = nodeHash(r, p)
    fn = Math.floor(fn / 2)
    sn = Math.floor(sn / 2)
  }
  return sn === 0 && r.equals(root)
}

const group = n => (n >= 1000 ? n.toString().padStart(Math.ceil(n.toString().length / 3) * 3, '0').match(/.../g).map((g, i, all) => (i < all.length - 1 ? `x${g}` : g)).join('/') : n.toString().padStart(3, '0'))
export const tilePath = (level, index, width) => `tile/${level}/${group(index)}${width < 256 ? `.p/${width}` : ''}`

/** {index, path, checkpoint, extra} of a c2sp.org/tlog-proof@v1 file. */
export function parseProof(text) {
  const end = text.indexOf('\n\n')
  const lines = text.slice(0, end).split('\n')
  assert.equal(lines.shift(), 'c2sp.org/tlog-proof@v1')
  const extra = lines[0].startsWith('extra ') ? Buffer.from(lines.shift().slice(6), 'base64') : null
  const index = Number(lines.shift().match(/^index (0|[1-9][0-9]*)$/)[1])
  return { index, path: lines.map(line => Buffer.from(line, 'base64')), checkpoint: text.slice(end + 2), extra }
}
