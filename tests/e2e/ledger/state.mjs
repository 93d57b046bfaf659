// state.mjs - the map of typed records and its root: a crit-bit trie whose hashes are kept along paths that did not change.
// What an entry touches is remembered until it is kept or undone.
import { amountBytes, H, number, zero32 } from './codec.mjs'
import { KINDS } from './texts.mjs'

const ENCODERS = {
  u32: value => number(value ?? 0, 4),
  u64: value => number(value ?? 0, 8),
  bool: value => number(value ? 1 : 0, 1),
  32: value => value ?? zero32,
  amount: value => amountBytes(value ?? 0n),
  text: value => Buffer.concat([number(Buffer.byteLength(value ?? ''), 2), Buffer.from(value ?? '')])
}
function encoder(type) {
  const [, count, item] = type.match(/^(\d+)x(.+)$/) ?? []
  return item ? value => Buffer.concat(Array.from({ length: Number(count) }, (_, i) => ENCODERS[item](value?.[i]))) : ENCODERS[type]
}
const LAYOUT = new Map([...KINDS].map(([name, { kind, keys, fields }]) => {
  const list = fields.map(([field, type]) => [field, encoder(type)])
  return [name, { kind: number(kind, 1), keys: list.slice(0, keys), fields: list }]
}))
const bytesOf = (fields, record) => fields.map(([field, encode]) => encode(record[field]))

// ---- the trie: a leaf is {key, hash}, a branch {at, sides: [left, right], hash} --------------------------------

const bit = (key, at) => (key[at >> 3] >> (7 - (at & 7))) & 1
const hashOf = node => (node.sides ? (node.hash ??= H(Buffer.of(1), number(node.at, 2), hashOf(node.sides[0]), hashOf(node.sides[1]))) : node.hash)

function put(node, leaf, differs) {
  if (node.sides && node.at < differs) {
    const side = bit(leaf.key, node.at)
    node.hash = undefined
    node.sides[side] = put(node.sides[side], leaf, differs)
    return node
  }
  if (differs === 256) return leaf
  return { at: differs, sides: bit(leaf.key, differs) ? [node, leaf] : [leaf, node] }
}
function insert(root, leaf) {
  if (!root) return leaf
  let near = root, differs = 0
  while (near.sides) near = near.sides[bit(leaf.key, near.at)]
  while (differs < 256 && bit(near.key, differs) === bit(leaf.key, differs)) differs++
  return put(root, leaf, differs)
}
function without(node, key) {
  if (!node.sides) return null
  const side = bit(key, node.at), rest = without(node.sides[side], key)
  node.hash = undefined
  node.sides[side] = rest
  return rest ? node : node.sides[1 - side]
}

// ---- records ---------------------------------------------------------------------------------------------------

function copy(record) {
  const out = { ...record }
  for (const name in out) if (Array.isArray(out[name])) out[name] = [...out[name]]
  return out
}

export class State {
  kinds = new Map([...KINDS.keys()].map(name => [name, new Map()]))
  touched = new Map() // item -> its record before; null: it is new
  trie = null

  key(name, record) {
    const { kind, keys } = LAYOUT.get(name)
    return H(kind, ...bytesOf(keys, record))
  }
  /** The record with these key fields, to be read or changed; undefined: there is none. */
  get(name, probe = {}) {
    const item = this.kinds.get(name).get(this.key(name, probe).toString('hex'))
    if (item && !this.touched.has(item)) this.touched.set(item, copy(item.record))
    return item?.record
  }
  /** The record, made with these fields when there is none. */
  ensure(name, fresh = {}) {
    const found = this.get(name, fresh)
    if (found) return found
    const key = this.key(name, fresh), item = { name, key, record: { ...fresh } }
    this.kinds.get(name).set(key.toString('hex'), item)
    this.touched.set(item, null)
    return item.record
  }
  /** Key fields and all of every record of a kind, in the order in which they were made; not to be changed. */
  all(name) { return [...this.kinds.get(name).values()].map(({ record }) => record) }
  remove(name, probe) {
    const key = this.key(name, probe)
    this.touched.delete(this.kinds.get(name).get(key.toString('hex')))
    this.kinds.get(name).delete(key.toString('hex'))
    this.trie = without(this.trie, key)
  }
  keep() {
    for (const item of this.touched.keys()) {
      const hash = H(Buffer.of(0), item.key, ...bytesOf(LAYOUT.get(item.name).fields, item.record))
      if (item.hash?.equals(hash)) continue
      item.hash = hash
      this.trie = insert(this.trie, { key: item.key, hash })
    }
    this.touched.clear()
  }
  undo() {
    for (const [item, before] of this.touched) {
      if (before) item.record = before
      else this.kinds.get(item.name).delete(item.key.toString('hex'))
    }
    this.touched.clear()
  }
  root() { return this.trie ? hashOf(this.trie) : zero32 }
}
