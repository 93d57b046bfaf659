// texts.mjs - the tables of shared/ledger/FORMAT.md and README.md, read out of the texts themselves: records and parameters.
import { readFileSync } from 'node:fs'
import { units } from './codec.mjs'

const rows = (file, cells) => readFileSync(file, 'utf8').split('\n').filter(line => line.startsWith('|')).map(line => line.split('|').slice(1, -1).map(cell => cell.trim())).filter(row => row.length === cells)

export const KINDS = new Map(rows('shared/ledger/FORMAT.md', 4).filter(([kind]) => /^\d+$/.test(kind)).map(([kind, name, keys, fields]) => [name, {
  kind: Number(kind), keys: Number(keys), fields: fields.split(' ').map(field => field.split(':'))
}]))

/** name -> {parse, value, least, most}: as numbers, or amounts, in BigInt. */
export const PARAMETERS = new Map(rows('shared/ledger/README.md', 5).filter(([name]) => /^`[a-z_]+`$/.test(name)).map(([name, unit, value, bounds]) => {
  const parse = unit === 'OPEN' ? units : BigInt
  const [least, most] = bounds.split(' to ').map(parse)
  return [name.slice(1, -1), { amount: unit === 'OPEN', parse, value: parse(value), least, most }]
}))
