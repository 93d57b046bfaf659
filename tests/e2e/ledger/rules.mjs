// rules.mjs - the table of all actions: name in TxBody -> {fields, run}. fields are read in the order of their numbers (fields.mjs);
// run(ledger, fields) says who may, checks, and does it.
import { DATA } from './data.mjs'
import { EVIDENCE } from './evidence.mjs'
import { GOVERNANCE } from './governance.mjs'
import { JOBS } from './jobs.mjs'
import { MONEY } from './money.mjs'
import { SETTLEMENT } from './settle.mjs'
import { STAKE } from './stake.mjs'

export const RULES = { ...MONEY, ...DATA, ...JOBS, ...SETTLEMENT, ...STAKE, ...GOVERNANCE, ...EVIDENCE }
