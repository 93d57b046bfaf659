// soak.mjs - SOAK_MINUTES (30) of a whole suite under load while its programs are killed and frozen and the streams
// deleted, at random: the machinery of test_ledger_failures.mjs, for long. After every tenth fault and at the end
// the books balance and the log verifies. Seed: OPENLEDGER_SEED.
import { makeLoad, seeded } from './load.mjs'
import { baseModel, sleep, startStack } from './stack.mjs'

const ROUNDS = 10 // faults between two looks at the books
const minutes = Number(process.env.SOAK_MINUTES ?? 30)
const folder = baseModel()
if (!(minutes > 0) || folder === null) {
  console.error(folder === null ? '../shared/data/stories260K is not here' : 'SOAK_MINUTES is not a number above 0')
  process.exit(2)
}
const { seed, random } = seeded()
process.env.OPENLEDGER_REPUBLISH_S ??= '5' // of the gateway: what streams lose comes again soon
const stack = await startStack(folder, { funds: '100000', grant: '90000' })
const { during, booksBalance, killAndWait, breakNats, wipeNats, counts } = makeLoad(stack, random)

const SERVICES = ['settlement', 'lora-gateway', 'attribution', 'registry', 'datanet', 'trainer', 'redis-server']
const pick = list => list[random(list.length)]
const faults = {
  kill: () => killAndWait(pick(SERVICES)),
  'kill two': async () => {
    const first = random(SERVICES.length)
    await Promise.all([first, (first + 1 + random(SERVICES.length - 1)) % SERVICES.length].map(i => killAndWait(SERVICES[i])))
  },
  freeze: async () => {
    const pid = stack.pid(pick(SERVICES))
    process.kill(pid, 'SIGSTOP')
    await sleep(random(4000))
    process.kill(pid, 'SIGCONT')
  },
  'kill nats': () => breakNats(() => {}),
  'wipe nats': wipeNats,
}
const done = Object.fromEntries(Object.keys(faults).map(name => [name, 0]))
const end = Date.now() + minutes * 60000
let code = 1
try {
  while (Date.now() < end) {
    for (let round = 0; round < ROUNDS && Date.now() < end; round++) {
      const name = pick(Object.keys(faults))
      await during(faults[name])
      done[name]++
    }
    await booksBalance()
    console.log(`# ${Math.ceil((end - Date.now()) / 60000)} minutes left, the books balance: ${JSON.stringify({ ...counts(), ...done })}`)
  }
  console.log(`ok - ${minutes} minutes: ${JSON.stringify({ ...counts(), ...done })}`)
  code = 0
} catch (error) {
  console.log(`not ok - ${error.stack ?? error}`)
  for (const name of ['settlement', 'lora-gateway', 'attribution']) console.log(stack.log(name).trim().split('\n').slice(-15).map(line => `# ${name}: ${line}`).join('\n'))
  console.log(`# again with OPENLEDGER_SEED=${seed}`)
} finally {
  await stack.stop()
}
process.exit(code)
