/* attribution.c - see attribution.h. */
#include "services/attribution/attribution.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/arena.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"

#define TEXT_MAX (64U << 10) /* bytes of one excerpt */

enum err attribution_answer_read(struct bytes data, struct attribution_answer *out,
                                 struct note *note)
{
    struct attribution_answer answer = {
        .message = openledger__v1__answer_finished__unpack(NULL, data.size, data.data)};
    if (answer.message == NULL || answer.message->opening == NULL) {
        attribution_answer_deinit(&answer);
        return note_set(note, ERR_INVALID, "not an AnswerFinished with an opening");
    }
    struct bytes receipt = ledger_bytes(answer.message->receipt_bytes);
    ledger_receipt_id(receipt, &answer.receipt_id);
    enum err err = ledger_receipt_decode(receipt, &answer.receipt, note);
    if (err == ERR_OK &&
        answer.receipt->kind == OPENLEDGER__V1__RECEIPT_KIND__RECEIPT_KIND_CHARGE) {
        err = lineage_opening_check(answer.receipt, &answer.receipt_id, answer.message->opening,
                                    note);
    }
    if (err != ERR_OK) {
        attribution_answer_deinit(&answer);
        return err == ERR_NO_MEMORY ? err : ERR_INVALID;
    }
    *out = answer;
    return ERR_OK;
}

void attribution_answer_deinit(struct attribution_answer *answer)
{
    openledger__v1__answer_finished__free_unpacked(answer->message, NULL);
    openledger__v1__receipt__free_unpacked(answer->receipt, NULL);
    *answer = (struct attribution_answer){.message = NULL};
}

/* ---- evidence ------------------------------------------------------------------------------------- */

/* Decoded text of tokens, in the arena; "" where there is none. */
static char *text_of(struct arena *arena, const struct lm_tokenizer *tokenizer,
                     const uint32_t *tokens, size_t count)
{
    struct buf text;
    buf_init(&text, TEXT_MAX);
    if (lm_tokenizer_decode(tokenizer, tokens, count, false, &text) != ERR_OK) {
        buf_clear(&text);
    }
    char *out = arena_strdup(arena, buf_text(&text));
    buf_deinit(&text);
    return out;
}

/* Where a row's excerpt begins: a little before its span, or at its start. */
static uint32_t excerpt_start(const struct attrib_evidence *evidence)
{
    uint32_t before = ATTRIBUTION_EXCERPT_TOKENS / 4;
    return evidence->span_length > 0 && evidence->span_row_at > before
               ? evidence->span_row_at - before
               : 0;
}

static enum err fill_row(const struct lineage_judge *judge, const Openledger__V1__Opening *opening,
                         const struct attrib_evidence *evidence, struct arena *arena,
                         Openledger__V1__RowEvidence *out)
{
    const struct lm_tokenizer *tokenizer = judge->base->tokenizer;
    struct lm_example row = attrib_index_example(judge->index, evidence->row);
    struct account_id *contributor = arena_dup(
        arena, attrib_index_contributor(judge->index, evidence->row)->bytes, ACCOUNT_ID_SIZE);
    uint32_t start = excerpt_start(evidence);
    uint32_t count = row.count - start;
    count = count < ATTRIBUTION_EXCERPT_TOKENS ? count : ATTRIBUTION_EXCERPT_TOKENS;
    openledger__v1__row_evidence__init(out);
    out->row = evidence->row;
    out->influence = (double)evidence->influence;
    out->span_start = evidence->span_start;
    out->span_length = evidence->span_length;
    out->share_ppb = evidence->share_ppb;
    out->excerpt = text_of(arena, tokenizer, row.tokens + start, count);
    out->span_text = text_of(arena, tokenizer, opening->answer_ids + evidence->span_start,
                             evidence->span_length);
    if (contributor == NULL || out->excerpt == NULL || out->span_text == NULL) {
        return ERR_NO_MEMORY;
    }
    out->contributor = ledger_binary(contributor->bytes, ACCOUNT_ID_SIZE);
    return ERR_OK;
}

bool attribution_hopeless(enum err err)
{
    return err == ERR_INVALID || err == ERR_RANGE || err == ERR_LIMIT;
}

bool attribution_disk(enum err err)
{
    return err == ERR_FULL || err == ERR_IO || err == ERR_CORRUPT || err == ERR_DENIED;
}

enum err attribution_evidence(const struct lineage_judge *judge,
                              const struct attribution_answer *answer,
                              const struct attrib_result *result, struct bytes share_set,
                              struct buf *out, struct note *note)
{
    struct arena *arena = arena_create(ATTRIBUTION_EVIDENCE_MAX * 4UL);
    Openledger__V1__ShareSet *set =
        openledger__v1__share_set__unpack(NULL, share_set.size, share_set.data);
    Openledger__V1__RowEvidence rows[ATTRIB_EVIDENCE_MAX];
    Openledger__V1__RowEvidence *list[ATTRIB_EVIDENCE_MAX];
    struct digest receipt = answer->receipt_id;
    enum err err = arena != NULL && set != NULL ? ERR_OK : ERR_NO_MEMORY;
    for (uint32_t i = 0; err == ERR_OK && i < result->evidence_count; i++) {
        err = fill_row(judge, answer->message->opening, &result->evidence[i], arena, &rows[i]);
        list[i] = &rows[i];
    }
    if (err == ERR_OK) {
        Openledger__V1__AnswerAttribution record = OPENLEDGER__V1__ANSWER_ATTRIBUTION__INIT;
        record.receipt = ledger_binary(receipt.bytes, DIGEST_SIZE);
        record.adapter = answer->receipt->adapter;
        record.shares = set;
        record.rows = list;
        record.n_rows = result->evidence_count;
        err = ledger_pack(&record.base, out);
    }
    openledger__v1__share_set__free_unpacked(set, NULL);
    arena_destroy(arena);
    return err == ERR_OK ? ERR_OK : note_set(note, err, "could not write the evidence down");
}

enum err attribution_set_batch(struct bytes evidence, const struct digest *batch, struct buf *out)
{
    Openledger__V1__AnswerAttribution *record =
        openledger__v1__answer_attribution__unpack(NULL, evidence.size, evidence.data);
    if (record == NULL) {
        return ERR_CORRUPT;
    }
    struct digest digest = *batch;
    ProtobufCBinaryData kept = record->batch;
    record->batch = ledger_binary(digest.bytes, DIGEST_SIZE);
    enum err err = ledger_pack(&record->base, out);
    record->batch = kept; /* so that what was unpacked is what is freed */
    openledger__v1__answer_attribution__free_unpacked(record, NULL);
    return err;
}

enum err attribution_share_set(struct bytes evidence, struct buf *out)
{
    Openledger__V1__AnswerAttribution *record =
        openledger__v1__answer_attribution__unpack(NULL, evidence.size, evidence.data);
    if (record == NULL || record->shares == NULL) {
        openledger__v1__answer_attribution__free_unpacked(record, NULL);
        return ERR_CORRUPT;
    }
    enum err err = ledger_pack(&record->shares->base, out);
    openledger__v1__answer_attribution__free_unpacked(record, NULL);
    return err;
}

uint32_t attribution_batch_pick(const enum attribution_standing *standings, const size_t *sizes,
                                uint32_t count, uint32_t *ready, uint32_t *ready_count)
{
    size_t bytes = 0;
    *ready_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (standings[i] != ATTRIBUTION_WAITING) {
            continue;
        }
        if (sizes[i] > ATTRIBUTION_BATCH_BYTES - bytes) {
            return i;
        }
        bytes += sizes[i];
        ready[(*ready_count)++] = i;
    }
    return count;
}

bool attribution_batch_over(uint32_t closed, uint64_t age_ms)
{
    return closed > 0 || age_ms >= ATTRIBUTION_REBATCH_MS;
}
