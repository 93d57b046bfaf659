// jobs.mjs - rules of base models, training jobs, adapters and their prices.
import { escrow, need } from './codec.mjs'
import { amount, bounded, bytes32, DAY_MS, name, plain, record, text } from './fields.mjs'

const job = record('job'), adapter = record('adapter'), reason = text(256)
const QUEUED = 1, CLAIMED = 2, COMPLETED = 3, FAILED = 4
const NOT_ALLOWED = 2, TRAINER = 4, ATTRIBUTION = 3

const SETTINGS = {
  rank: [1, 1024], alpha: [1, 65_536], steps: [1, 10_000_000], batch_rows: [1, 4096], learning_rate_ppm: [1, 1_000_000], warmup_steps: [0, 10_000_000], context: [2, 1_048_576], weight_decay_ppm: [0, 1_000_000]
}
function settings(_, value) {
  need(value, 'INVALID', 'no settings')
  for (const [field, [least, most]] of Object.entries(SETTINGS)) need(value[field] >= least && value[field] <= most, 'RANGE', field)
  need(value.warmup_steps <= value.steps, 'RANGE', 'warmup_steps')
  const { rank, alpha, steps, batch_rows, learning_rate_ppm, warmup_steps, context, seed, digest_every, weight_decay_ppm } = value
  return { rank, alpha, steps, batch_rows, learning_rate_ppm, warmup_steps, context, seed: BigInt(String(seed)), digest_every, weight_decay_ppm }
}
/** An adapter of the sender's that is not revoked. */
function served(ledger, value) {
  const found = adapter(ledger, value)
  ledger.own(found, 'developer')
  need(!found.revoked_ms, 'CONFLICT', 'revoked')
  return found
}
const isStale = (ledger, { claimed_ms }) => ledger.now - claimed_ms >= DAY_MS
const isBonded = (ledger, role) => need(ledger.isBonded(ledger.sender, role), 'DENIED', 'bonded')

/** What an adapter's tokens cost a receipt that was opened then: [prompt, completion]. */
export function priceAt(ledger, adapter, opened_ms) {
  let { price_prompt: prompt, price_completion: completion, price_from_ms: from_ms } = adapter
  for (let number = adapter.price_changes - 1; number >= 0 && opened_ms < from_ms; number--) ({ prompt, completion, from_ms } = ledger.state.get('price', { adapter: adapter.name, number }))
  return [prompt, completion]
}

export const JOBS = {
  register_model: {
    fields: { name, content: bytes32, profile: bytes32, licence: text(128) },
    run: (ledger, { name, content, profile, licence }) => {
      need(!ledger.state.get('model', { name }), 'CONFLICT', 'name taken')
      ledger.state.ensure('model', { name, content, profile, licence, developer: ledger.sender, revoked: false, index: ledger.index })
    }
  },
  revoke_model: {
    fields: { reason, model: record('model') },
    run: (ledger, { model }) => {
      ledger.own(model, 'developer')
      need(!model.revoked, 'CONFLICT', 'revoked already')
      model.revoked = true
    }
  },
  submit_job: {
    fields: { datanet: record('datanet'), version: plain, model: plain, settings, fee: amount },
    run: (ledger, { datanet, version, model: modelName, settings, fee }) => {
      need(datanet.permission !== NOT_ALLOWED, 'DENIED', 'training is forbidden')
      need(ledger.state.get('version', { datanet: datanet.name, version }), 'NOT_FOUND', 'version')
      const model = record('model')(ledger, modelName)
      need(!model.revoked, 'DENIED', 'the model is revoked')
      ledger.state.ensure('job', { id: ledger.tx, developer: ledger.sender, datanet: datanet.name, version, model: modelName, ...settings, fee, state: QUEUED, index: ledger.index })
      ledger.pay(ledger.sender, escrow('job', ledger.tx), fee, 'job.hold')
    }
  },
  claim_job: {
    fields: { job },
    run: (ledger, { job }) => {
      isBonded(ledger, TRAINER)
      need(job.state === QUEUED || (job.state === CLAIMED && (job.trainer.equals(ledger.sender) || isStale(ledger, job))), 'CONFLICT', 'not to be claimed')
      Object.assign(job, { state: CLAIMED, trainer: ledger.sender, claimed_ms: ledger.now })
    }
  },
  complete_job: {
    fields: { job, transcript_root: bytes32, transcript: bytes32, adapter: bytes32 },
    run: (ledger, { job, transcript_root, transcript, adapter }) => {
      need(job.state === CLAIMED, 'CONFLICT', 'not claimed')
      ledger.own(job, 'trainer')
      Object.assign(job, { state: COMPLETED, completed_ms: ledger.now, transcript_root, transcript, adapter })
      ledger.pay(escrow('job', job.id), ledger.sender, job.fee, 'job.fee', job.id)
    }
  },
  fail_job: {
    fields: { job, reason },
    run: (ledger, { job, reason }) => {
      const isClaimed = job.state === CLAIMED, claims = isClaimed && job.trainer.equals(ledger.sender)
      need(claims || job.developer.equals(ledger.sender), 'DENIED', 'claimer or developer')
      need(claims || job.state === QUEUED || (isClaimed && isStale(ledger, job)), 'CONFLICT', 'claimed, or over')
      Object.assign(job, { state: FAILED, reason })
      ledger.pay(escrow('job', job.id), job.developer, job.fee, 'job.refund', job.id)
    }
  },
  publish_adapter: {
    fields: { name, job, price_prompt: amount, price_completion: amount },
    run: (ledger, { name, job, price_prompt, price_completion }) => {
      bounded(price_prompt, price_completion)
      ledger.own(job, 'developer')
      need(job.state === COMPLETED, 'CONFLICT', 'not completed')
      need(!job.published, 'CONFLICT', 'published already')
      need(!ledger.state.get('model', { name: job.model }).revoked, 'DENIED', 'the model is revoked')
      need(!ledger.state.get('adapter', { name }), 'CONFLICT', 'name taken')
      const { developer, id, datanet, version, model, adapter: content } = job
      job.published = true
      ledger.state.ensure('adapter', { name, developer, job: id, datanet, version, model, content, price_prompt, price_completion, price_from_ms: 0n, price_changes: 0, index: ledger.index })
    }
  },
  publish_index: {
    fields: { adapter, index: bytes32 },
    run: (ledger, { adapter, index }) => {
      isBonded(ledger, ATTRIBUTION)
      need(!adapter.has_index, 'CONFLICT', 'published already')
      Object.assign(adapter, { has_index: true, attribution_index: index })
    }
  },
  set_price: {
    fields: { adapter: served, price_prompt: amount, price_completion: amount },
    run: (ledger, { adapter, price_prompt, price_completion }) => {
      bounded(price_prompt, price_completion)
      const { name, price_changes: number, price_prompt: prompt, price_completion: completion, price_from_ms: from_ms } = adapter
      const inForce = ledger.now + ledger.parameters.price_notice_ms
      ledger.state.ensure('price', { adapter: name, number, prompt, completion, from_ms })
      Object.assign(adapter, { price_prompt, price_completion, price_from_ms: inForce > from_ms ? inForce : from_ms, price_changes: number + 1 })
    }
  },
  revoke_adapter: {
    fields: { reason, adapter: served },
    run: (ledger, { adapter }) => {
      adapter.revoked_ms = ledger.now + ledger.parameters.price_notice_ms
    }
  }
}
