/* rules_challenge.c - bonded validators train a job again and attest what came of it. README.md has the
 * rules in words.
 *
 *     open --attested as failed by the quorum--> refuted: the trainer is slashed, its adapters revoked
 *     open --the quorum has become impossible--> sound: the trainer gets the deposit
 *     open --closed after its last block-------> undecided: the challenger gets the deposit back */
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/machine.h"

enum { BP_TOTAL = 10000 };

static const char CHALLENGE_DOMAIN[] = "openledger/escrow/challenge/v1";

void ledger_challenge_escrow_id(const struct digest *challenge, struct account_id *out_id)
{
    const struct bytes parts[] = {bytes_of(CHALLENGE_DOMAIN, sizeof CHALLENGE_DOMAIN),
                                  digest_bytes(challenge)};
    struct digest digest;
    sha256_parts(parts, 2, &digest);
    memcpy(out_id->bytes, digest.bytes, ACCOUNT_ID_SIZE);
}

const struct ledger_challenge *ledger_challenge(const struct ledger *ledger,
                                                const struct digest *job)
{
    const struct ledger_challenge probe = {.job = *job};
    return state_get(ledger->state, STATE_CHALLENGE, &probe);
}

static enum err job_challengeable(struct step *step, const struct ledger_job *job,
                                  const struct ledger_challenge *found)
{
    const uint64_t window_ms = ledger_parameters(step->ledger)->challenge_window_ms;
    if (job->state != LEDGER_JOB_COMPLETED) {
        return note_set(step->note, ERR_CONFLICT, "job %s is not completed, or refuted already",
                        short_hex(job->id.bytes).text);
    }
    if (step->time_ms - job->completed_ms >= window_ms) {
        return note_set(step->note, ERR_CONFLICT, "job %s could be challenged for %llu ms",
                        short_hex(job->id.bytes).text, (unsigned long long)window_ms);
    }
    return found == NULL || found->outcome == LEDGER_CHALLENGE_UNDECIDED
               ? ERR_OK
               : note_set(step->note, ERR_CONFLICT, "job %s is challenged already%s",
                          short_hex(job->id.bytes).text,
                          found->outcome == LEDGER_CHALLENGE_SOUND ? ", and was found sound" : "");
}

enum err rule_challenge_job(struct step *step, const Openledger__V1__ChallengeJob *action)
{
    const struct ledger_parameters *parameters = ledger_parameters(step->ledger);
    const struct ledger_job *job;
    struct account_id escrow;
    struct ledger_challenge challenge = {.id = step->tx,
                                         .challenger = step->sender,
                                         .deposit = parameters->challenge_deposit,
                                         .snapshot_height = step->ledger->head.height + 1,
                                         .quorum_bp = parameters->challenge_quorum_bp,
                                         .outcome = LEDGER_CHALLENGE_OPEN};
    enum err err = job_take(step, action->job, &job);
    err =
        err ? err : step_text(step, action->reason, LEDGER_REASON_MAX, "reason", challenge.reason);
    if (err != ERR_OK) {
        return err;
    }
    const struct ledger_challenge *found = ledger_challenge(step->ledger, &job->id);
    if (!ledger_is_bonded(step->ledger, &step->sender, LEDGER_ROLE_VALIDATOR)) {
        return note_set(step->note, ERR_DENIED, "%s has no bond as validator",
                        short_hex(step->sender.bytes).text);
    }
    challenge.job = job->id;
    challenge.end_height = challenge.snapshot_height + parameters->challenge_blocks;
    const struct ledger_snapshot_slot slot = {.height = challenge.snapshot_height,
                                              .until_height = challenge.end_height,
                                              .subject = challenge.id,
                                              .opener = step->sender};
    err = job_challengeable(step, job, found);
    err = err ? err : stake_snapshot(step, false, &slot);
    if (err != ERR_OK) {
        return err;
    }
    if (found == NULL) {
        (void)state_add(step->state, STATE_CHALLENGE, &challenge);
    } else {
        *(struct ledger_challenge *)state_edit(step->state, found) = challenge;
    }
    ledger_challenge_escrow_id(&challenge.id, &escrow);
    return step_pay(step, &step->sender, &escrow, challenge.deposit, "challenge.deposit",
                    &challenge.job);
}

static enum err open_take(struct step *step, ProtobufCBinaryData field,
                          const struct ledger_job **out_job, const struct ledger_challenge **out)
{
    enum err err = job_take(step, field, out_job);
    if (err != ERR_OK) {
        return err;
    }
    *out = ledger_challenge(step->ledger, &(*out_job)->id);
    return *out == NULL || (*out)->outcome != LEDGER_CHALLENGE_OPEN
               ? note_set(step->note, ERR_NOT_FOUND, "job %s has no open challenge",
                          short_hex((*out_job)->id.bytes).text)
               : ERR_OK;
}

static enum err challenge_end(struct step *step, struct ledger_challenge *challenge,
                              enum ledger_challenge_outcome outcome, const struct account_id *to)
{
    struct account_id escrow;
    challenge->outcome = (uint32_t)outcome;
    stake_snapshot_close(step, &challenge->id);
    ledger_challenge_escrow_id(&challenge->id, &escrow);
    return step_pay(step, &escrow, to, challenge->deposit, "challenge.return", &challenge->job);
}

/* No adapter of a refuted job is served any longer than the notice. */
static void adapters_revoke(struct step *step, const struct digest *job)
{
    const struct ledger_adapter *item = NULL;
    while ((item = ledger_next_adapter(step->ledger, item)) != NULL) {
        if (digest_equal(&item->job, job) && item->revoked_ms == 0) {
            ((struct ledger_adapter *)state_edit(step->state, item))->revoked_ms =
                step->time_ms + ledger_parameters(step->ledger)->price_notice_ms;
        }
    }
}

static enum err job_refute(struct step *step, struct ledger_challenge *challenge,
                           const struct ledger_job *found)
{
    struct ledger_job *job = state_edit(step->state, found);
    struct amount slashed;
    const struct slash slash = {.account = job->trainer,
                                .role = LEDGER_ROLE_TRAINER,
                                .bp = ledger_parameters(step->ledger)->slash_job_bp,
                                .reporter = challenge->challenger,
                                .harmed = &job->developer,
                                .harmed_max = job->fee,
                                .reference = job->id};
    job->state = LEDGER_JOB_REFUTED;
    adapters_revoke(step, &job->id);
    enum err err = challenge_end(step, challenge, LEDGER_CHALLENGE_REFUTED, &challenge->challenger);
    err = err ? err : slash_apply(step, &slash, &slashed);
    return err == ERR_CONFLICT ? ERR_OK : err; /* the trainer left long ago: the verdict stands */
}

/* a * bp of b, without overflow: grains are at most 10^18. */
static bool reaches(uint64_t grains, uint64_t bp, uint64_t all)
{
    struct amount has;
    struct amount needs;
    CHECK(amount_mul(amount_from_units(grains), BP_TOTAL, &has) == ERR_OK);
    CHECK(amount_mul(amount_from_units(all), bp, &needs) == ERR_OK);
    return amount_compare(has, needs) >= 0;
}

enum err rule_attest_job(struct step *step, const Openledger__V1__AttestJob *action)
{
    const struct ledger_job *job;
    const struct ledger_challenge *found;
    const uint64_t height = step->ledger->head.height;
    enum err err = open_take(step, action->job, &job, &found);
    if (err != ERR_OK) {
        return err;
    }
    if (height < found->snapshot_height || height >= found->end_height) {
        return note_set(step->note, ERR_CONFLICT, "attestations count in blocks %llu to %llu",
                        (unsigned long long)found->snapshot_height + 1,
                        (unsigned long long)found->end_height);
    }
    const struct ledger_attestation mark = {
        .challenge = found->id, .account = step->sender, .failed = action->failed};
    uint64_t grains = ledger_power_at(step->ledger, LEDGER_SERIES_VALIDATORS, &step->sender,
                                      found->snapshot_height);
    uint64_t all =
        ledger_power_at(step->ledger, LEDGER_SERIES_VALIDATORS, NULL, found->snapshot_height);
    if (grains == 0) {
        return note_set(step->note, ERR_DENIED, "account %s had no stake as validator at %llu",
                        short_hex(step->sender.bytes).text,
                        (unsigned long long)found->snapshot_height);
    }
    if (state_get(step->state, STATE_ATTESTATION, &mark) != NULL) {
        return note_set(step->note, ERR_CONFLICT, "account %s has attested already",
                        short_hex(step->sender.bytes).text);
    }
    struct ledger_challenge *challenge = state_edit(step->state, found);
    (void)state_add(step->state, STATE_ATTESTATION, &mark);
    *(mark.failed ? &challenge->failed_grains : &challenge->sound_grains) += grains;
    CHECK(challenge->failed_grains + challenge->sound_grains <= all);
    if (reaches(challenge->failed_grains, challenge->quorum_bp, all)) {
        return job_refute(step, challenge, job);
    }
    return reaches(all - challenge->sound_grains, challenge->quorum_bp, all)
               ? ERR_OK
               : challenge_end(step, challenge, LEDGER_CHALLENGE_SOUND, &job->trainer);
}

enum err rule_close_challenge(struct step *step, const Openledger__V1__CloseChallenge *action)
{
    const struct ledger_job *job;
    const struct ledger_challenge *found;
    enum err err = open_take(step, action->job, &job, &found);
    if (err != ERR_OK) {
        return err;
    }
    if (step->ledger->head.height < found->end_height) {
        return note_set(step->note, ERR_CONFLICT, "the challenge is open until block %llu",
                        (unsigned long long)found->end_height);
    }
    struct ledger_challenge *challenge = state_edit(step->state, found);
    return challenge_end(step, challenge, LEDGER_CHALLENGE_UNDECIDED, &challenge->challenger);
}
