// test_full_disks.mjs - datanet, attribution and gateway on disks of their own that become full under load: whoever
// asks is told so, what was acknowledged stays, and when there is room again everything goes on by itself.
// Seed: OPENLEDGER_SEED.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { makeLoad, seeded } from './load.mjs'
import { baseModel, runTests, sleep, startStack, until } from './stack.mjs'

const folder = baseModel()
if (folder === null) {
  console.log('SKIP: ../shared/data/stories260K is not here')
  process.exit(0)
}
const { seed, random } = seeded()
const DISKS = { datanet: '16m', attribution: '16m', 'lora-gateway': '48m' }
const disks = {} // name: folder
function prepare(home) {
  for (const [name, size] of Object.entries(DISKS)) {
    const place = path.join(home, 'data', name)
    mkdirSync(place, { recursive: true })
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'openledger-test', place], { stdio: 'ignore' })
      disks[name] = place
    } catch { /* not allowed here: each test says so */ }
  }
}
const cleanup = () => { for (const place of Object.values(disks)) execFileSync('umount', ['-l', place]) }
const stack = await startStack(folder, { prepare, cleanup })
const { during, booksBalance } = makeLoad(stack, random)

/** Fills the disk of a program, does something, makes room whatever came of it; what the program said meanwhile. */
async function whileFull(name, action) {
  const filler = path.join(disks[name], 'filler')
  const before = stack.log(name).length
  try {
    try { execFileSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=4k'], { stdio: 'ignore' }) } catch { /* until it is full */ }
    await action(() => stack.log(name).slice(before))
  } finally {
    rmSync(filler)
  }
}

const contribute = rows => stack.cliStart('datanet', 'contribute', 'tales', rows, '--as', 'contributor', '--json').done

const tests = {
  'datanet: an upload is refused with the reason, and goes on with what was received': async () => {
    if (!disks.datanet) return console.log('SKIP: a file system cannot be mounted here')
    const rows = path.join(stack.home, 'more.jsonl')
    writeFileSync(rows, Array.from({ length: 400 }, (_, i) => JSON.stringify({ text: `${i} ` + `the tale of cat ${i} and dog ${i * 7}, `.repeat(50) }) + '\n').join(''))
    await whileFull('datanet', async () => {
      const { code, error } = await contribute(rows) // tries for 20 s
      assert.notEqual(code, 0)
      assert.match(error, /no space left/i)
    })
    const id = readFileSync(`${rows}.upload`).subarray(0, 32).toString('base64')
    const { code, out, error } = await contribute(rows)
    assert.equal(code, 0, error)
    assert.equal(JSON.parse(out).contribution, id) // the one that was begun, not another
    assert.ok(!existsSync(`${rows}.upload`))
    stack.cli('datanet', 'review', Buffer.from(id, 'base64').toString('hex'), 'accept', '--as', 'developer')
    stack.cli('datanet', 'publish', 'tales', '--as', 'developer')
  },
  'attribution: answers wait for room, are then shared, and nothing is parked': async () => {
    if (!disks.attribution) return console.log('SKIP: a file system cannot be mounted here')
    await during(() => whileFull('attribution', said => until('answers that wait', () => /answers_wait err=(FULL|IO)/.test(said()), 60000)))
    await booksBalance() // every answer has its shares
    assert.equal(Number((await stack.rpc('Attribution/GetInfo', {})).parked ?? 0), 0)
  },
  'gateway: it ends rather than show what is not on disk, and starts again by itself': async () => {
    if (!disks['lora-gateway']) return console.log('SKIP: a file system cannot be mounted here')
    for (const pause_ms of [0, 100, 1500]) { // there is room while it ends, and after it was started in vain
      await during(() => whileFull('lora-gateway', async said => {
        await until('an end for want of space', () => /journal_failed err=(FULL|IO)/.test(said()), 60000)
        await sleep(pause_ms)
      }))
    }
    await booksBalance()
  }
}
let code = 1
try {
  code = await runTests(tests, stack, Object.keys(DISKS))
} finally {
  if (code !== 0) console.log(`# again with OPENLEDGER_SEED=${seed}`)
  await stack.stop()
}
console.log(`1..${Object.keys(tests).length}`)
process.exit(code)
