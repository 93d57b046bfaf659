// ledger.mjs - a second implementation of the whole state machine, written from shared/ledger/FORMAT.md and README.md: every action,
// gas, seals, headers. It shares no code with ours: the records' layout and the parameters are read out of those two texts, messages
// out of the proto files.
//
// In reading order: ledger/codec.mjs (bytes, amounts, ids), texts.mjs (the texts' tables), state.mjs (records and their root),
// machine.mjs (entries, gas, blocks), fields.mjs (how an action's fields are read), rules.mjs (the table of all actions) and
// its families: money, data, jobs, settle, stake, governance, evidence.
export { accountId, amountText, decode, encode, H, message, Refused, signedMessage, txId, units } from './ledger/codec.mjs'
export { Ledger } from './ledger/machine.mjs'
export { RULES } from './ledger/rules.mjs'
export { KINDS, PARAMETERS } from './ledger/texts.mjs'
