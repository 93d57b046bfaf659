/* answers.c - one finished answer: checked, attributed, kept; see engine.h. */
#include "services/attribution/internal.h"
#include "shared/base/log.h"
#include "shared/crypto/sha256.h"
#include "shared/platform/clock.h"

#define COMPLAIN_MS 10000 /* between two lines about answers that wait for a disk */

/* Every answer comes again each second: one line for all of them. */
static void complain(struct engine *engine, enum err err, const struct note *note)
{
    uint64_t now_ms = clock_mono_ms();
    if (attribution_disk(err) && now_ms >= engine->complain_at_ms) {
        engine->complain_at_ms = now_ms + COMPLAIN_MS;
        log_warn("answers_wait err=%s note=\"%s\"", err_name(err), note->text);
    }
}

/* Writes down why a message can never be processed. */
static enum engine_outcome park(struct engine *engine, const struct digest *key,
                                const struct note *why)
{
    struct note note = {""};
    char text[DIGEST_TEXT_SIZE];
    if (attribution_store_park(engine->options.store, key, why->text, &note) != ERR_OK) {
        log_error("park_failed note=\"%s\"", note.text);
        return ENGINE_LATER;
    }
    metric_add(engine->parked_total, 1);
    log_warn("answer_parked receipt=%s note=\"%s\"", digest_format(key, text), why->text);
    return ENGINE_PARKED;
}

/* Appends an answer's ShareSet and evidence; result: deinit it. */
static enum err judge_answer(struct engine *engine, const struct attribution_answer *answer,
                             struct attrib_result *result, struct buf *set, struct buf *evidence,
                             struct note *note)
{
    const struct lineage_judge *judge = NULL;
    enum err err = engine_judge_get(engine, answer->receipt->adapter, &judge, note);
    if (err == ERR_OK &&
        !bytes_equal(bytes_of(answer->receipt->profile.data, answer->receipt->profile.len),
                     digest_bytes(&judge->base->profile))) {
        err = note_set(note, ERR_INVALID, "answer was served under another arithmetic profile");
    }
    if (err == ERR_OK) {
        err = lineage_shares(judge, &answer->receipt_id, answer->message->opening,
                             pool_parallel(engine->pool), result, set, note);
    }
    if (err == ERR_OK) {
        err = attribution_evidence(judge, answer, result, buf_bytes(set), evidence, note);
    }
    return err;
}

/* The shares of an answer, worked out and kept. Where the judging cannot go well it is parked; whatever keeps the
 * result from our disk passes. */
static enum engine_outcome attribute(struct engine *engine, const struct attribution_answer *answer,
                                     struct note *note)
{
    struct attrib_result result = {.share_count = 0};
    struct buf set;
    struct buf evidence;
    uint64_t started = clock_mono_ms();
    buf_init(&set, LINEAGE_SHARE_SET_MAX);
    buf_init(&evidence, ATTRIBUTION_EVIDENCE_MAX);
    enum err err = judge_answer(engine, answer, &result, &set, &evidence, note);
    bool hopeless = attribution_hopeless(err);
    if (err == ERR_OK) {
        err = attribution_store_answer(engine->options.store, &answer->receipt_id,
                                       buf_bytes(&evidence), buf_bytes(&set), note);
    }
    if (err == ERR_OK) {
        char text[DIGEST_TEXT_SIZE];
        metric_add(engine->answers_total, 1);
        log_info("answer_attributed receipt=%s adapter=%s contributors=%u unearned_ppb=%u ms=%llu",
                 digest_format(&answer->receipt_id, text), answer->receipt->adapter,
                 result.share_count, result.unearned_ppb,
                 (unsigned long long)(clock_mono_ms() - started));
    }
    attrib_result_deinit(&result);
    buf_deinit(&set);
    buf_deinit(&evidence);
    if (hopeless) {
        return park(engine, &answer->receipt_id, note);
    }
    complain(engine, err, note);
    return err == ERR_OK ? ENGINE_DONE : ENGINE_LATER;
}

enum engine_outcome engine_answer(struct engine *engine, struct bytes data, struct note *note)
{
    struct attribution_answer answer = {.message = NULL};
    struct digest key;
    enum err err = attribution_answer_read(data, &answer, note);
    if (err == ERR_INVALID) {
        sha256(data, &key); /* it may not even have a receipt */
        return park(engine, &key, note);
    }
    if (err != ERR_OK) {
        return ENGINE_LATER;
    }
    bool known = false;
    bool charge = answer.receipt->kind == OPENLEDGER__V1__RECEIPT_KIND__RECEIPT_KIND_CHARGE;
    enum engine_outcome outcome = ENGINE_DONE;
    err = attribution_store_known(engine->options.store, &answer.receipt_id, &known, note);
    if (err != ERR_OK) {
        outcome = ENGINE_LATER;
    } else if (!known && charge) {
        outcome = attribute(engine, &answer, note);
    }
    attribution_answer_deinit(&answer);
    return outcome;
}
