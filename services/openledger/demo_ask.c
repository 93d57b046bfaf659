/* demo_ask.c - questions in flight together, whose data answered them, and the control; see demo.h. */
#include <stdio.h>
#include <string.h>

#include "services/openledger/demo.h"
#include "services/openledger/output.h"
#include "shared/attrib/attrib.h"
#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/blob/blob.h"
#include "shared/ledger/tx.h"
#include "shared/lineage/lineage.h"
#include "shared/platform/clock.h"
#include "shared/platform/pool.h"
#include "shared/platform/thread.h"

enum {
    MAX_TOKENS = 48,
    GRANT_DAYS_MS = 86400000,
    SHARE_WAIT_MS = 90000,
    CONTROL_REPEATS = 50,
    EVIDENCE_SHOWN = 3
};

/* ---- asking ---- */

struct asker {
    struct demo *demo;
    const struct demo_adapter *adapter;
    struct thread *thread;
};

static void ask_one(const struct demo *demo, struct demo_answer *answer)
{
    struct chat_request request = {.url = demo->url,
                                   .api_key = demo->api_key,
                                   .adapter = answer->adapter->name,
                                   .prompt = answer->prompt,
                                   .max_tokens = MAX_TOKENS,
                                   .temperature = 0,
                                   .seed = 1};
    for (uint32_t attempt = 0; attempt < 20; attempt++) {
        answer->err = chat_ask(&request, &answer->answer, &answer->note);
        if (answer->err != ERR_UNAVAILABLE && answer->err != ERR_NOT_FOUND) {
            break;
        }
        clock_sleep_ms(500); /* the gateway may not have read grant or adapter yet */
    }
    answer->asked = answer->err == ERR_OK;
}

/* One thread per adapter asks its questions one after the other, so that requests for different
 * adapters meet in the gateway's batches. */
static void ask_all(void *argument)
{
    struct asker *asker = argument;
    for (uint32_t i = 0; i < asker->demo->answer_count; i++) {
        if (asker->demo->answers[i].adapter == asker->adapter) {
            ask_one(asker->demo, &asker->demo->answers[i]);
        }
    }
}

static void plan_question(struct demo *demo, const struct demo_adapter *adapter, const char *prompt,
                          bool planted)
{
    CHECK(demo->answer_count < DEMO_ANSWERS_MAX);
    struct demo_answer *answer = &demo->answers[demo->answer_count++];
    answer->adapter = adapter;
    answer->planted = planted;
    (void)snprintf(answer->prompt, sizeof answer->prompt, "%s", prompt);
}

static void plan_questions(struct demo *demo)
{
    const struct json *planted = json_member(demo->plan, "planted");
    const char *question = json_as_text(json_member(planted, "question"), "");
    const char *datanet = json_as_text(json_member(planted, "datanet"), "");
    for (uint32_t i = 0; i < demo->adapter_count; i++) {
        const struct demo_adapter *adapter = &demo->adapters[i];
        for (uint32_t k = 0; k < adapter->datanet->prompt_count && !adapter->control; k++) {
            plan_question(demo, adapter, adapter->datanet->prompts[k], false);
        }
        if (strcmp(adapter->datanet->name, datanet) == 0) {
            plan_question(demo, adapter, question, true);
        }
    }
}

static enum err run_askers(struct demo *demo)
{
    struct asker askers[DEMO_ADAPTERS_MAX];
    enum err err = ERR_OK;
    uint32_t started = 0;
    for (; started < demo->adapter_count && err == ERR_OK; started++) {
        askers[started] = (struct asker){.demo = demo, .adapter = &demo->adapters[started]};
        err = thread_start("ask", ask_all, &askers[started], &askers[started].thread,
                           &demo->cli.note);
    }
    for (uint32_t i = 0; i < started; i++) {
        thread_join(askers[i].thread);
    }
    for (uint32_t i = 0; i < demo->answer_count && err == ERR_OK; i++) {
        if (!demo->answers[i].asked) {
            demo->cli.note = demo->answers[i].note;
            err = note_wrap(&demo->cli.note, demo->answers[i].err, "asking %s",
                            demo->answers[i].adapter->name);
        }
    }
    return err;
}

enum err demo_ask(struct demo *demo)
{
    struct digest grant;
    enum err err = act_open_grant(&demo->cli, demo->user->keys, "1000",
                                  clock_real_ms() + GRANT_DAYS_MS, &grant);
    err = err != ERR_OK ? err : act_api_key(&demo->cli, demo->user->keys, &grant, &demo->api_key);
    if (err != ERR_OK) {
        return err;
    }
    plan_questions(demo);
    err = run_askers(demo);
    for (uint32_t i = 0; i < demo->answer_count && err == ERR_OK; i++) {
        const struct demo_answer *answer = &demo->answers[i];
        printf("\n  %s > %s\n    %s\n    (%u + %u tokens, %s OPEN)\n", answer->adapter->name,
               answer->prompt, buf_text(&answer->answer.text), answer->answer.prompt_tokens,
               answer->answer.completion_tokens, answer->answer.fee);
    }
    return err;
}

/* ---- attribution ---- */

/* Waits until the receipt's contributors' part is on the ledger; remembers one payout for the proof. */
static enum err wait_shared(struct demo *demo, struct demo_answer *answer, uint64_t end_ms)
{
    Openledger__V1__GetReceiptRequest request = OPENLEDGER__V1__GET_RECEIPT_REQUEST__INIT;
    const Openledger__V1__ReceiptState *state = NULL;
    request.receipt = ledger_binary(answer->answer.receipt.bytes, DIGEST_SIZE);
    for (;;) {
        enum err err = cli_call(&demo->cli, "Settlement.GetReceipt", &request.base, &state);
        if (err == ERR_OK && state->shared_index > 0) {
            break;
        }
        if (clock_mono_ms() >= end_ms) {
            return note_set(&demo->cli.note, ERR_TIMEOUT, "a receipt was not settled in %d s",
                            SHARE_WAIT_MS / 1000);
        }
        clock_sleep_ms(200);
    }
    for (size_t i = 0; i < state->n_postings && !answer->has_payout; i++) {
        const Openledger__V1__Posting *posting = state->postings[i];
        if (posting->credit && strcmp(posting->reason, "fee.contributor") == 0) {
            answer->has_payout = true;
            answer->payout_index = posting->index;
            answer->payout_leg = posting->leg;
        }
    }
    return ERR_OK;
}

static void show_attribution(const struct demo *demo, const struct demo_answer *answer)
{
    const Openledger__V1__ShareSet *set = answer->attribution->shares;
    char name[DEMO_NAME];
    char bar[64];
    printf("\n  %s > %.60s\n", answer->adapter->name, answer->prompt);
    for (size_t i = 0; i < set->n_shares; i++) {
        const Openledger__V1__Share *share = set->shares[i];
        printf("    %-22s %s %6.2f %%  (influence %.2f, span %.2f)\n",
               demo_name_of(demo, share->account, name),
               output_bar(share->share_ppb / 1e9, 20, bar), share->share_ppb / 1e7,
               share->influence_ppb / 1e7, share->span_ppb / 1e7);
    }
    printf("    %-22s %s %6.2f %%\n", "(no one earned)",
           output_bar(set->unearned_ppb / 1e9, 20, bar), set->unearned_ppb / 1e7);
    for (size_t i = 0; i < answer->attribution->n_rows && i < EVIDENCE_SHOWN; i++) {
        const Openledger__V1__RowEvidence *row = answer->attribution->rows[i];
        printf("      row %u, %s, %+.1f sd%s%.40s%s: %.70s...\n", row->row,
               demo_name_of(demo, row->contributor, name), row->influence,
               row->span_length > 0 ? ", \"" : "", row->span_length > 0 ? row->span_text : "",
               row->span_length > 0 ? "\"" : "", row->excerpt);
    }
}

/* The largest share's account; NULL when nobody earned. */
static const Openledger__V1__Share *top_share(const Openledger__V1__ShareSet *set)
{
    const Openledger__V1__Share *top = NULL;
    for (size_t i = 0; i < set->n_shares; i++) {
        uint32_t ppb = set->shares[i]->share_ppb;
        if (top == NULL || ppb > top->share_ppb) {
            top = set->shares[i];
        }
    }
    return top;
}

static uint32_t planted_share(const struct demo *demo, const Openledger__V1__ShareSet *set)
{
    for (size_t i = 0; i < set->n_shares; i++) {
        if (memcmp(set->shares[i]->account.data, demo->planted->id.bytes, ACCOUNT_ID_SIZE) == 0) {
            return set->shares[i]->share_ppb;
        }
    }
    return 0;
}

/* The fact is said and credited by the adapter that learnt it, and by no other. */
static enum err judge_planted(struct demo *demo, const struct demo_answer *answer)
{
    struct note *note = &demo->cli.note;
    const char *fact = json_as_text(json_member(json_member(demo->plan, "planted"), "answer"), "");
    const Openledger__V1__ShareSet *set = answer->attribution->shares;
    const Openledger__V1__Share *top = top_share(set);
    bool said = strstr(buf_text(&answer->answer.text), fact) != NULL;
    bool first =
        top != NULL && memcmp(top->account.data, demo->planted->id.bytes, ACCOUNT_ID_SIZE) == 0;
    if (answer->adapter->control) {
        if (said || planted_share(demo, set) > 0) {
            return note_set(note, ERR_INVALID, "%s, trained without the planted rows, %s",
                            answer->adapter->name,
                            said ? "says the planted fact" : "credits the planted contributor");
        }
        return ERR_OK;
    }
    if (!said) {
        return note_set(note, ERR_INVALID, "%s does not say the planted fact (\"%s\")",
                        answer->adapter->name, fact);
    }
    return first ? ERR_OK
                 : note_set(note, ERR_INVALID, "the planted contributor does not rank first");
}

static enum err attribute_one(struct demo *demo, struct demo_answer *answer, uint64_t end_ms)
{
    Openledger__V1__GetAttributionRequest request = OPENLEDGER__V1__GET_ATTRIBUTION_REQUEST__INIT;
    request.receipt = ledger_binary(answer->answer.receipt.bytes, DIGEST_SIZE);
    enum err err = wait_shared(demo, answer, end_ms);
    return err != ERR_OK ? err
                         : cli_call(&demo->cli, "Attribution.GetAttribution", &request.base,
                                    &answer->attribution);
}

enum err demo_attribute(struct demo *demo)
{
    uint64_t end_ms = clock_mono_ms() + SHARE_WAIT_MS;
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < demo->answer_count && err == ERR_OK; i++) {
        err = attribute_one(demo, &demo->answers[i], end_ms);
        if (err == ERR_OK) {
            show_attribution(demo, &demo->answers[i]);
        }
    }
    for (uint32_t i = 0; i < demo->answer_count && err == ERR_OK; i++) {
        err = demo->answers[i].planted ? judge_planted(demo, &demo->answers[i]) : ERR_OK;
    }
    return err;
}

enum err demo_ask_again(struct demo *demo, const struct demo_answer **out_answer)
{
    plan_question(demo, demo->answers[0].adapter, demo->answers[0].prompt, false);
    struct demo_answer *answer = &demo->answers[demo->answer_count - 1];
    ask_one(demo, answer);
    if (!answer->asked) {
        demo->cli.note = answer->note;
        return answer->err;
    }
    enum err err = attribute_one(demo, answer, clock_mono_ms() + SHARE_WAIT_MS);
    if (err == ERR_OK) {
        *out_answer = answer;
    }
    return err;
}

/* ---- the control ---- */

/* Measures the planted answer again from its opening and asks what the contributor would earn if rows
 * bore random names. */
static enum err run_control(struct demo *demo, const struct demo_answer *answer,
                            const Openledger__V1__AdapterRecord *record, struct blob_store *blobs)
{
    struct note *note = &demo->cli.note;
    struct lineage_base *base = NULL;
    struct lm_adapter *adapter = NULL;
    struct attrib_index *index = NULL;
    struct attrib_measure *measure = NULL;
    struct pool *pool = pool_create(0);
    struct buf bytes;
    struct digest model;
    struct digest digest;
    const Openledger__V1__Opening *opening = NULL;
    Openledger__V1__GetOpeningRequest request = OPENLEDGER__V1__GET_OPENING_REQUEST__INIT;
    request.receipt = ledger_binary(answer->answer.receipt.bytes, DIGEST_SIZE);
    request.api_key = (char *)(uintptr_t)demo->api_key;
    buf_init(&bytes, BLOB_SIZE_MAX);
    enum err err = pool == NULL
                       ? ERR_NO_MEMORY
                       : cli_call(&demo->cli, "Gateway.GetOpening", &request.base, &opening);
    err = err != ERR_OK ? err : digest_from_bytes(ledger_bytes(record->model_content), &model);
    err = err != ERR_OK ? err : digest_from_bytes(ledger_bytes(record->attribution_index), &digest);
    err = err != ERR_OK ? err : lineage_base_load(blobs, &model, NULL, &base, note);
    err = err != ERR_OK
              ? err
              : lineage_adapter_load(blobs, base, &answer->adapter->content, &adapter, note);
    err = err != ERR_OK ? err : blob_get(blobs, &digest, &bytes, note);
    err = err != ERR_OK ? err : attrib_index_load(buf_bytes(&bytes), &index, note);
    if (err == ERR_OK) {
        struct attrib_question question = {.prompt = opening->prompt_ids,
                                           .prompt_count = (uint32_t)opening->n_prompt_ids,
                                           .answer = opening->answer_ids,
                                           .answer_count = (uint32_t)opening->n_answer_ids};
        err = attrib_measure_create(index, base->model, adapter, &question, pool_parallel(pool),
                                    &measure, note);
    }
    struct attrib_control control = {0};
    err = err != ERR_OK ? err
                        : attrib_shuffle_control(index, measure, &demo->planted->id,
                                                 CONTROL_REPEATS, &control);
    if (err == ERR_OK) {
        demo->control_share_ppb = control.share_ppb;
        demo->control_shuffled_ppb = control.shuffled_share_ppb;
    }
    attrib_measure_destroy(measure);
    attrib_index_destroy(index);
    lm_adapter_destroy(adapter);
    lineage_base_destroy(base);
    pool_destroy(pool);
    buf_deinit(&bytes);
    return err;
}

enum err demo_control(struct demo *demo)
{
    const struct demo_answer *answer = NULL;
    for (uint32_t i = 0; i < demo->answer_count; i++) {
        if (demo->answers[i].planted && !demo->answers[i].adapter->control) {
            answer = &demo->answers[i];
        }
    }
    CHECK(answer != NULL);
    /* cppcheck-suppress nullPointer ; as just checked */
    const char *adapter = answer->adapter->name;
    char folder[FILE_PATH_SIZE];
    char name[DEMO_NAME];
    struct blob_store *blobs = NULL;
    const Openledger__V1__AdapterRecord *record;
    Openledger__V1__NameRequest request = OPENLEDGER__V1__NAME_REQUEST__INIT;
    (void)snprintf(name, sizeof name, "%s", adapter);
    request.name = name;
    enum err err = file_path(folder, "%s/blobs", demo->suite);
    err = err != ERR_OK ? err : blob_open(folder, &blobs, &demo->cli.note);
    err = err != ERR_OK ? err : cli_call(&demo->cli, "Registry.GetAdapter", &request.base, &record);
    err = err != ERR_OK ? err : run_control(demo, answer, record, blobs);
    blob_close(blobs);
    if (err == ERR_OK) {
        printf("\n  control: %s has %.2f %% of the planted answer; with contributors' names "
               "shuffled, %.2f %% (mean of %d)\n",
               demo->planted->name, demo->control_share_ppb / 1e7, demo->control_shuffled_ppb / 1e7,
               CONTROL_REPEATS);
        if (demo->control_shuffled_ppb * 4 > demo->control_share_ppb) {
            err = note_set(&demo->cli.note, ERR_INVALID,
                           "the shuffled control is not near chance level");
        }
    }
    return err;
}
