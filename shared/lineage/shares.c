/* shares.c - see shares.h. */
#include "shared/lineage/shares.h"

#include <stdlib.h>
#include <string.h>

#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"

enum err lineage_adapter_init(const struct ledger *ledger, const char *name,
                              struct lineage_adapter *out, struct note *note)
{
    const struct ledger_adapter *found = ledger_adapter(ledger, name);
    const struct ledger_model *model = found == NULL ? NULL : ledger_model(ledger, found->model);
    const struct ledger_job *job = found == NULL ? NULL : ledger_job(ledger, &found->job);
    if (found == NULL || model == NULL || job == NULL) {
        return note_set(note, ERR_NOT_FOUND, "no adapter %.64s", name);
    }
    struct lineage_adapter made = {.content = found->content,
                                   .model_content = model->content,
                                   .model_profile = model->profile,
                                   .context = job->settings.context,
                                   .has_index = found->has_index,
                                   .index = found->attribution_index};
    memcpy(made.name, found->name, sizeof made.name);
    enum err err = lineage_plan_init(ledger, found->datanet, found->version, &made.plan, note);
    if (err == ERR_OK) {
        *out = made;
    }
    return err;
}

void lineage_adapter_deinit(struct lineage_adapter *adapter)
{
    lineage_plan_deinit(&adapter->plan);
}

enum err lineage_index_build(const struct lineage_build *build, struct attrib_index **out,
                             struct note *note)
{
    const struct lineage_adapter *origin = build->origin;
    const struct lineage_base *base = build->base;
    if (!digest_equal(&base->profile, &origin->model_profile)) {
        return note_set(note, ERR_INVALID,
                        "this program does not compute under the model's profile");
    }
    struct lineage_rows rows = {.count = 0};
    enum err err =
        lineage_rows_load(build->blobs, &origin->plan, base, origin->context, &rows, note);
    if (err != ERR_OK) {
        return err;
    }
    struct attrib_row *list = calloc(rows.count, sizeof *list);
    err = list == NULL ? ERR_NO_MEMORY : ERR_OK;
    for (uint32_t i = 0; err == ERR_OK && i < rows.count; i++) {
        list[i] =
            (struct attrib_row){.example = rows.examples[i], .contributor = rows.contributors[i]};
    }
    if (err == ERR_OK) {
        struct attrib_source source = {.dataset_root = origin->plan.root, .profile = base->profile};
        const struct attrib_build index = {.model = base->model,
                                           .adapter = build->adapter,
                                           .rows = list,
                                           .row_count = rows.count,
                                           .source = &source,
                                           .parallel = build->parallel,
                                           .progress = build->progress,
                                           .context = build->context};
        err = attrib_index_build(&index, out, note);
    }
    free(list);
    lineage_rows_deinit(&rows);
    return err;
}

/* ---- openings ------------------------------------------------------------------------------------- */

static bool commits(ProtobufCBinaryData salt_field, const uint32_t *ids, size_t count,
                    ProtobufCBinaryData commitment,
                    void (*commit)(const struct salt *salt, const uint32_t *ids, size_t count,
                                   struct digest *out))
{
    struct salt salt;
    struct digest digest;
    if (salt_field.len != SALT_SIZE) {
        return false;
    }
    memcpy(salt.bytes, salt_field.data, SALT_SIZE);
    commit(&salt, ids, count, &digest);
    return bytes_equal(ledger_bytes(commitment), digest_bytes(&digest));
}

enum err lineage_opening_check(const Openledger__V1__Receipt *receipt,
                               const struct digest *receipt_id,
                               const Openledger__V1__Opening *opening, struct note *note)
{
    if (!bytes_equal(ledger_bytes(opening->receipt), digest_bytes(receipt_id))) {
        return note_set(note, ERR_INVALID, "opening is of another receipt");
    }
    if (strcmp(opening->adapter, receipt->adapter) != 0) {
        return note_set(note, ERR_INVALID, "opening names adapter %.64s, the receipt %.64s",
                        opening->adapter, receipt->adapter);
    }
    if (opening->n_prompt_ids != receipt->prompt_tokens ||
        opening->n_answer_ids != receipt->completion_tokens) {
        return note_set(note, ERR_INVALID, "opening has %zu and %zu tokens, the receipt %u and %u",
                        opening->n_prompt_ids, opening->n_answer_ids, receipt->prompt_tokens,
                        receipt->completion_tokens);
    }
    if (!commits(opening->prompt_salt, opening->prompt_ids, opening->n_prompt_ids,
                 receipt->prompt_commitment, ledger_prompt_commitment) ||
        !commits(opening->answer_salt, opening->answer_ids, opening->n_answer_ids,
                 receipt->answer_commitment, ledger_answer_commitment)) {
        return note_set(note, ERR_INVALID, "opening does not fit the receipt's commitments");
    }
    return ERR_OK;
}

static enum err pack_set(const struct attrib_result *result, const struct digest *receipt_id,
                         const struct digest *index, struct buf *out)
{
    struct digest receipt_copy = *receipt_id;
    struct digest index_copy = *index;
    size_t count = result->share_count;
    Openledger__V1__Share *shares = calloc(count + 1, sizeof *shares);
    Openledger__V1__Share **list = calloc(count + 1, sizeof *list);
    enum err err = shares != NULL && list != NULL ? ERR_OK : ERR_NO_MEMORY;
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        struct attrib_share *from = &result->shares[i];
        openledger__v1__share__init(&shares[i]);
        shares[i].account = ledger_binary(from->account.bytes, ACCOUNT_ID_SIZE);
        shares[i].share_ppb = from->share_ppb;
        shares[i].influence_ppb = from->influence_ppb;
        shares[i].span_ppb = from->span_ppb;
        list[i] = &shares[i];
    }
    if (err == ERR_OK) {
        Openledger__V1__ShareSet set = OPENLEDGER__V1__SHARE_SET__INIT;
        set.receipt = ledger_binary(receipt_copy.bytes, DIGEST_SIZE);
        set.shares = list;
        set.n_shares = count;
        set.unearned_ppb = result->unearned_ppb;
        set.index = ledger_binary(index_copy.bytes, DIGEST_SIZE);
        err = ledger_pack(&set.base, out);
    }
    free(shares);
    free(list);
    return err;
}

enum err lineage_shares(const struct lineage_judge *judge, const struct digest *receipt_id,
                        const Openledger__V1__Opening *opening, const struct parallel *parallel,
                        struct attrib_result *out_result, struct buf *out_set, struct note *note)
{
    struct attrib_result result = {.unearned_ppb = ATTRIB_WHOLE_PPB};
    enum err err = ERR_OK;
    if (opening->n_answer_ids > 0) {
        if (opening->n_answer_ids > ATTRIB_QUESTION_TOKENS_MAX ||
            opening->n_prompt_ids > ATTRIB_QUESTION_TOKENS_MAX) {
            return note_set(note, ERR_RANGE, "prompt or answer has more than %u tokens",
                            ATTRIB_QUESTION_TOKENS_MAX);
        }
        struct attrib_question question = {.prompt = opening->prompt_ids,
                                           .prompt_count = (uint32_t)opening->n_prompt_ids,
                                           .answer = opening->answer_ids,
                                           .answer_count = (uint32_t)opening->n_answer_ids};
        err = attrib_shares(judge->index, judge->base->model, judge->adapter, &question, parallel,
                            &result, note);
    }
    if (err == ERR_OK) {
        err = pack_set(&result, receipt_id, &judge->index_digest, out_set);
    }
    if (err != ERR_OK) {
        attrib_result_deinit(&result);
        return err;
    }
    *out_result = result;
    return ERR_OK;
}
