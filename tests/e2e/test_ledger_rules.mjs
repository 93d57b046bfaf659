// test_ledger_rules.mjs - every action of the ledger, taken and refused, by two implementations: the unit tests' worlds write down
// what they did (tests/harness/ledger_tape.h), and the second implementation (ledger.mjs) comes to the same error for every entry,
// the same state root after it and the same header for every block. Prints TAP.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { H, KINDS, Ledger, message, PARAMETERS, Refused, RULES, units } from './ledger.mjs'
import { bin, runTests } from './stack.mjs'

/** The tests of each family, which know its corners; beside them the property test, which draws every action. */
const PROGRAMS = ['batches', 'challenge', 'claims', 'custody', 'evidence', 'gas', 'governance', 'rules', 'stake'].map(topic => `test_ledger_${topic}`).concat('test_ledger')
const SUPPLY = units('1000000000')
const home = mkdtempSync(path.join(tmpdir(), 'openledger-e2e-'))

/** Lines of a tape: {word, ...}. */
function readTape(file) {
  return readFileSync(file, 'utf8').trimEnd().split('\n').map(line => {
    const [word, ...rest] = line.split(' ')
    const bytes = Buffer.from(rest.at(-1), 'hex')
    return word === 'entry' ? { word, bytes, code: rest[0], root: rest[1], header: rest[2] } : { word, bytes }
  })
}
/** Repeats a tape; calls each(code, entry, ledger) after every entry. */
function repeat(tape, each) {
  const blobs = new Map()
  let ledger
  tape.forEach((line, at) => {
    if (line.word === 'genesis') ledger = new Ledger(line.bytes, digest => blobs.get(digest.toString('hex')))
    else if (line.word === 'blob') blobs.set(H(line.bytes).toString('hex'), line.bytes)
    else {
      let code = 'OK', why = ''
      try { ledger.apply(line.bytes) } catch (error) {
        if (!(error instanceof Refused)) throw error
        code = error.code
        why = error.message
      }
      each({ ...line, at, why, found: code, action: ledger.tried }, ledger)
    }
  })
}
/** Insists on what the tape says. Bytes that are not those of their name are CORRUPT where they are fetched: here nobody has them. */
function compare({ at, action, code, found, why, root, header }, ledger, file) {
  const where = `${file} line ${at + 1}, ${action}`
  assert.equal(found, code === 'CORRUPT' ? 'NOT_FOUND' : code, `${where}: ${why}`)
  assert.equal(ledger.state.root().toString('hex'), root, `${where}: state root`)
  assert.equal(ledger.previousHeader.toString('hex'), header, `${where}: header`)
  if (action === 'seal') assert.equal(ledger.supply(), SUPPLY, `${where}: supply`)
}
const tapes = []

const tests = {
  'the tables are whole: every action has its rule, every parameter its field': () => {
    const actions = message('TxBody').oneofs.action.oneof
    assert.deepEqual([...actions].sort(), Object.keys(RULES).sort())
    for (const action of actions) {
      const type = message('TxBody').fields[action].resolve().resolvedType
      for (const field of Object.keys(RULES[action].fields)) assert.ok(type.fields[field], `${action}.${field}`)
    }
    const fields = KINDS.get('parameters').fields.map(([name]) => name)
    for (const name of PARAMETERS.keys()) assert.ok(fields.includes(name), name)
  },
  'the second implementation takes and refuses the same, and comes to the same roots and headers': async () => {
    const taken = new Map(), refused = new Map()
    const repeatAll = (folder, most) => {
      for (const file of readdirSync(folder).sort().slice(0, most).map(name => path.join(folder, name))) {
        const tape = { file, lines: readTape(file), open: new Set(), sealed: new Set() }
        repeat(tape.lines, (entry, ledger) => {
          compare(entry, ledger, file)
          const counts = entry.code === 'OK' ? taken : refused
          counts.set(entry.action, (counts.get(entry.action) ?? 0) + 1)
          if (entry.code === 'OK') tape.open.add(entry.action)
          if (entry.code === 'OK' && entry.action === 'seal') for (const action of tape.open) tape.sealed.add(action)
        })
        tapes.push(tape)
      }
    }
    const run = (name, folder) => promisify(execFile)(path.join(bin, '../tests/unit', name), [], { env: { ...process.env, LEDGER_TAPES: folder }, maxBuffer: 1 << 24 })
    const [corners, draws] = ['corners', 'draws'].map(name => path.join(home, name))
    for (const folder of [corners, draws]) mkdirSync(folder)
    for (const name of PROGRAMS) await run(name, corners)
    const drawn = run('test_ledger_model', draws)
    repeatAll(corners) // meanwhile
    await drawn
    repeatAll(draws, 1) // of four that are much alike
    assert.ok(tapes.length >= 60)
    for (const action of Object.keys(RULES)) assert.ok(taken.get(action) > 0 && refused.get(action) > 0, `${action}: ${taken.get(action)} taken, ${refused.get(action)} refused`)
    const sum = counts => [...counts.values()].reduce((all, count) => all + count, 0)
    console.log(`# ${tapes.length} histories: ${sum(taken)} entries taken, ${sum(refused)} refused`)
  },
  'one unit, one leg or one check less is noticed': () => {
    const lies = {
      transfer: (ledger, read, run) => run(ledger, { ...read, amount: read.amount - 1n }),
      unbond: (ledger, read, run) => { run(ledger, read); ledger.state.get('staking').owed += 1n },
      settle_receipts: (ledger, read, run) => { run(ledger, read); ledger.legs.reverse() },
      post_transfer: (ledger, read, run) => { read.hold.expires_ms = 2n ** 63n; run(ledger, read) }
    }
    for (const [action, lie] of Object.entries(lies)) {
      const { run } = RULES[action]
      const { file, lines } = tapes.filter(({ sealed }) => sealed.has(action)).sort((a, b) => a.lines.length - b.lines.length)[0]
      RULES[action].run = (ledger, read) => lie(ledger, read, run)
      try {
        assert.throws(() => repeat(lines, (entry, ledger) => compare(entry, ledger, file)), { name: 'AssertionError' }, action)
      } finally { RULES[action].run = run }
    }
  }
}

let code = 1
try { code = await runTests(tests) } finally { rmSync(home, { recursive: true, force: true }) }
console.log(`1..${Object.keys(tests).length}`)
process.exit(code)
