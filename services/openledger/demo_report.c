/* demo_report.c - balances, the money of one answer, openings, verification, the report; see demo.h. */
#include <stdio.h>
#include <string.h>

#include "services/openledger/demo.h"
#include "services/openledger/output.h"
#include "shared/base/hex.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"
#include "shared/platform/process.h"

enum { VERIFY_MS = 600000, OUTPUT_MAX = 1 << 20, REPORT_MAX = 16 << 20, SEAL_WAIT_MS = 30000 };

enum err demo_balances(struct demo *demo, bool after)
{
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < demo->person_count && err == ERR_OK; i++) {
        struct demo_person *person = &demo->people[i];
        const Openledger__V1__AccountState *state;
        Openledger__V1__GetAccountRequest request = OPENLEDGER__V1__GET_ACCOUNT_REQUEST__INIT;
        request.account = ledger_binary(person->id.bytes, ACCOUNT_ID_SIZE);
        err = cli_call(&demo->cli, "Settlement.GetAccount", &request.base, &state);
        if (err == ERR_OK) {
            (void)snprintf(after ? person->after : person->before, AMOUNT_TEXT_SIZE, "%s",
                           state->balance);
        }
    }
    return err;
}

/* The legs of one answer, from the user's escrow to everybody. */
static enum err show_legs(struct demo *demo, const struct demo_answer *answer)
{
    Openledger__V1__GetReceiptRequest request = OPENLEDGER__V1__GET_RECEIPT_REQUEST__INIT;
    const Openledger__V1__ReceiptState *state;
    request.receipt = ledger_binary(answer->answer.receipt.bytes, DIGEST_SIZE);
    enum err err = cli_call(&demo->cli, "Settlement.GetReceipt", &request.base, &state);
    if (err != ERR_OK) {
        return err;
    }
    printf("\n  the fee of \"%.50s\": %s OPEN\n", answer->prompt, answer->answer.fee);
    static const char *const HEADERS[] = {"REASON", "ACCOUNT", ">OPEN"};
    struct output_table *table = output_table_create(3, HEADERS);
    for (size_t i = 0; i < state->n_postings; i++) {
        char name[DEMO_NAME];
        const Openledger__V1__Posting *posting = state->postings[i];
        output_cell(table, "%s", posting->reason);
        output_cell(table, "%s", demo_name_of(demo, posting->account, name));
        output_cell(table, "%s%s", posting->credit ? "+" : "-", posting->amount);
    }
    output_table_finish(table);
    return ERR_OK;
}

enum err demo_show_money(struct demo *demo)
{
    Openledger__V1__Empty request = OPENLEDGER__V1__EMPTY__INIT;
    const Openledger__V1__LedgerInfo *info;
    enum err err = demo_balances(demo, true);
    for (uint32_t i = 0; i < demo->answer_count && err == ERR_OK; i++) {
        if (demo->answers[i].planted && !demo->answers[i].adapter->control) {
            err = show_legs(demo, &demo->answers[i]);
        }
    }
    err = err != ERR_OK ? err : cli_call(&demo->cli, "Settlement.GetInfo", &request.base, &info);
    if (err != ERR_OK) {
        return err;
    }
    static const char *const HEADERS[] = {"ACCOUNT", ">BEFORE", ">AFTER"};
    struct output_table *table = output_table_create(3, HEADERS);
    for (uint32_t i = 0; i < demo->person_count; i++) {
        if (strcmp(demo->people[i].before, demo->people[i].after) != 0) {
            output_cell(table, "%s", demo->people[i].name);
            output_cell(table, "%s", demo->people[i].before);
            output_cell(table, "%s", demo->people[i].after);
        }
    }
    printf("\n");
    output_table_finish(table);
    const Openledger__V1__Parameters *split = info->parameters;
    printf("  split: platform %u, model %u, stakers %u, contributors %u of 10000; supply %s OPEN\n",
           split->platform_bp, split->model_bp, split->stakers_bp, split->contributors_bp,
           info->supply);
    (void)snprintf(demo->supply, sizeof demo->supply, "%s", info->supply);
    return strcmp(info->supply, "1000000000") == 0
               ? ERR_OK
               : note_set(&demo->cli.note, ERR_CORRUPT, "the supply is %s", info->supply);
}

/* ---- openings and the proof ---- */

static enum err write_message(const char *path, const ProtobufCMessage *message, struct note *note)
{
    struct buf packed;
    buf_init(&packed, OUTPUT_MAX);
    enum err err = ledger_pack(message, &packed);
    err = err != ERR_OK ? err : file_write_atomic(path, buf_bytes(&packed), 0644, note);
    buf_deinit(&packed);
    return err;
}

/* A proof of one payout to a contributor. The block must be sealed and signed first. */
static enum err save_proof(struct demo *demo)
{
    Openledger__V1__ProvePostingRequest request = OPENLEDGER__V1__PROVE_POSTING_REQUEST__INIT;
    uint64_t end_ms = clock_mono_ms() + SEAL_WAIT_MS;
    for (uint32_t i = 0; i < demo->answer_count; i++) {
        if (demo->answers[i].has_payout) {
            request.index = demo->answers[i].payout_index;
            request.leg = demo->answers[i].payout_leg;
        }
    }
    if (request.index == 0) {
        return note_set(&demo->cli.note, ERR_NOT_FOUND, "no contributor was paid");
    }
    for (;;) {
        const Openledger__V1__InclusionProof *proof;
        enum err err = cli_call(&demo->cli, "Settlement.ProvePosting", &request.base, &proof);
        if (err == ERR_OK) {
            return write_message(demo->proof, &proof->base, &demo->cli.note);
        }
        if (clock_mono_ms() >= end_ms) {
            return err;
        }
        clock_sleep_ms(250);
    }
}

enum err demo_publish_openings(struct demo *demo)
{
    enum err err = file_make_folders(demo->openings, &demo->cli.note);
    for (uint32_t i = 0; i < demo->answer_count && err == ERR_OK; i++) {
        char hex[2 * DIGEST_SIZE + 1];
        char path[FILE_PATH_SIZE];
        const Openledger__V1__Opening *opening;
        Openledger__V1__GetOpeningRequest request = OPENLEDGER__V1__GET_OPENING_REQUEST__INIT;
        request.receipt = ledger_binary(demo->answers[i].answer.receipt.bytes, DIGEST_SIZE);
        request.api_key = (char *)(uintptr_t)demo->api_key;
        err = cli_call(&demo->cli, "Gateway.GetOpening", &request.base, &opening);
        err = err != ERR_OK ? err
                            : file_path(path, "%s/%s", demo->openings,
                                        hex_encode(request.receipt.data, DIGEST_SIZE, hex));
        err = err != ERR_OK ? err : write_message(path, &opening->base, &demo->cli.note);
    }
    return err != ERR_OK ? err : save_proof(demo);
}

/* ---- verification, by a program of its own ---- */

static enum err run_verify(struct demo *demo, const char *option, const char *value,
                           struct buf *out)
{
    char dir[FILE_PATH_SIZE + 8];
    char extra[FILE_PATH_SIZE + 16];
    int exit_code = 0;
    (void)snprintf(dir, sizeof dir, "--dir=%s", demo->suite);
    (void)snprintf(extra, sizeof extra, "--%s=%s", option, value);
    const char *const argv[] = {
        demo->self, "verify", dir, extra, strcmp(option, "proof") == 0 ? NULL : "--json", NULL};
    enum err err = process_output(argv, VERIFY_MS, out, &exit_code, &demo->cli.note);
    if (err == ERR_OK && exit_code != 0) {
        err = note_set(&demo->cli.note, ERR_CORRUPT, "openledger verify --%s ended with %d: %.200s",
                       option, exit_code, buf_text(out));
    }
    return err;
}

enum err demo_verify(struct demo *demo)
{
    struct buf out;
    struct json *report = NULL;
    buf_init(&out, OUTPUT_MAX);
    enum err err = run_verify(demo, "openings", demo->openings, &out);
    err = err != ERR_OK ? err : json_parse(buf_bytes(&out), OUTPUT_MAX, &report, &demo->cli.note);
    if (err == ERR_OK) {
        demo->transactions = (uint64_t)json_as_i64(json_member(report, "transactions"), 0);
        demo->blocks = (uint64_t)json_as_i64(json_member(report, "blocks"), 0);
        demo->verified = json_as_bool(json_member(report, "verified"), false);
        printf("  anyone, from log and blobs: %llu transactions, %llu blocks, %lld signatures, "
               "supply %s\n",
               (unsigned long long)demo->transactions, (unsigned long long)demo->blocks,
               (long long)json_as_i64(json_member(report, "signatures"), 0),
               json_as_text(json_member(report, "supply"), "?"));
        printf("  with the payer's openings: %lld indexes built again, %lld of %u share sets "
               "derived again, bit for bit\n",
               (long long)json_as_i64(json_member(report, "indexesRebuilt"), 0),
               (long long)json_as_i64(json_member(report, "shareSetsRederived"), 0),
               demo->answer_count);
        if (json_as_i64(json_member(report, "shareSetsRederived"), 0) !=
            (int64_t)demo->answer_count) {
            err = note_set(&demo->cli.note, ERR_CORRUPT, "not every answer's shares were derived");
        }
    }
    json_destroy(report);
    buf_clear(&out);
    err = err != ERR_OK ? err : run_verify(demo, "proof", demo->proof, &out);
    if (err == ERR_OK) {
        printf("  one payout, offline:\n%s", buf_text(&out));
    }
    buf_deinit(&out);
    return err;
}

/* ---- the report ---- */

/* A share in parts of a billion as an exact decimal. */
static void put_ppb(struct json_writer *writer, const char *key, uint32_t ppb)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%u.%09u", ppb / 1000000000U, ppb % 1000000000U);
    json_put_text(writer, key, text);
}

static void put_answer(const struct demo *demo, const struct demo_answer *answer,
                       struct json_writer *writer)
{
    char hex[2 * DIGEST_SIZE + 1];
    const Openledger__V1__ShareSet *set = answer->attribution->shares;
    json_begin_object(writer);
    json_put_text(writer, "adapter", answer->adapter->name);
    json_put_text(writer, "prompt", answer->prompt);
    json_put_text(writer, "text", buf_text(&answer->answer.text));
    json_put_u64(writer, "prompt_tokens", answer->answer.prompt_tokens);
    json_put_u64(writer, "completion_tokens", answer->answer.completion_tokens);
    json_put_text(writer, "fee", answer->answer.fee);
    json_put_text(writer, "receipt", hex_encode(answer->answer.receipt.bytes, DIGEST_SIZE, hex));
    json_write_key(writer, "shares");
    json_begin_array(writer);
    for (size_t i = 0; i < set->n_shares; i++) {
        char name[DEMO_NAME];
        json_begin_object(writer);
        json_put_text(writer, "contributor", demo_name_of(demo, set->shares[i]->account, name));
        put_ppb(writer, "share", set->shares[i]->share_ppb);
        put_ppb(writer, "influence", set->shares[i]->influence_ppb);
        put_ppb(writer, "span", set->shares[i]->span_ppb);
        json_end_object(writer);
    }
    json_end_array(writer);
    put_ppb(writer, "unearned", set->unearned_ppb);
    json_end_object(writer);
}

static void put_learning(const struct demo *demo, struct json_writer *writer)
{
    json_write_key(writer, "datanets");
    json_begin_array(writer);
    for (uint32_t i = 0; i < demo->datanet_count; i++) {
        const struct demo_datanet *datanet = &demo->datanets[i];
        json_begin_object(writer);
        json_put_text(writer, "name", datanet->name);
        json_put_u64(writer, "version", datanet->version);
        json_put_u64(writer, "rows", datanet->rows);
        json_put_u64(writer, "contributors", datanet->contributors);
        json_put_text(writer, "root", datanet->root);
        json_end_object(writer);
    }
    json_end_array(writer);
    json_write_key(writer, "adapters");
    json_begin_array(writer);
    for (uint32_t i = 0; i < demo->adapter_count; i++) {
        const struct demo_adapter *adapter = &demo->adapters[i];
        json_begin_object(writer);
        json_put_text(writer, "name", adapter->name);
        json_put_text(writer, "datanet", adapter->datanet->name);
        json_put_u64(writer, "version", adapter->version);
        json_put_u64(writer, "steps", adapter->steps);
        json_put_double(writer, "loss_before", adapter->loss_before);
        json_put_double(writer, "loss_after", adapter->loss_after);
        json_put_u64(writer, "heldout_rows", adapter->heldout_rows);
        json_put_u64(writer, "heldout_rows_better", adapter->heldout_better);
        json_put_text(writer, "transcript_root", adapter->transcript_root);
        json_end_object(writer);
    }
    json_end_array(writer);
}

static void put_balances(const struct demo *demo, struct json_writer *writer)
{
    json_write_key(writer, "balances");
    json_begin_array(writer);
    for (uint32_t i = 0; i < demo->person_count; i++) {
        char text[ACCOUNT_ID_TEXT_SIZE];
        json_begin_object(writer);
        json_put_text(writer, "name", demo->people[i].name);
        json_put_text(writer, "account", account_id_format(&demo->people[i].id, text));
        json_put_text(writer, "before", demo->people[i].before);
        json_put_text(writer, "after", demo->people[i].after);
        json_end_object(writer);
    }
    json_end_array(writer);
}

enum err demo_write_report(struct demo *demo)
{
    struct buf text;
    struct json_writer writer;
    char path[FILE_PATH_SIZE];
    double total = 0;
    buf_init(&text, REPORT_MAX);
    json_writer_init(&writer, &text, true);
    json_begin_object(&writer);
    json_put_text(&writer, "supply", demo->supply);
    json_put_bool(&writer, "verified", demo->verified);
    json_put_u64(&writer, "transactions", demo->transactions);
    json_put_u64(&writer, "blocks", demo->blocks);
    put_learning(demo, &writer);
    json_write_key(&writer, "answers");
    json_begin_array(&writer);
    for (uint32_t i = 0; i < demo->answer_count; i++) {
        put_answer(demo, &demo->answers[i], &writer);
    }
    json_end_array(&writer);
    json_write_key(&writer, "control");
    json_begin_object(&writer);
    put_ppb(&writer, "share", demo->control_share_ppb);
    put_ppb(&writer, "shuffled", demo->control_shuffled_ppb);
    json_end_object(&writer);
    put_balances(demo, &writer);
    json_write_key(&writer, "governance");
    json_begin_object(&writer);
    json_put_text(&writer, "proposal", demo->governance.proposal);
    json_put_text(&writer, "votes_for", demo->governance.votes_for);
    json_put_text(&writer, "quorum", demo->governance.quorum);
    json_put_u64(&writer, "platform_bp_before", demo->governance.platform_bp_before);
    json_put_u64(&writer, "platform_bp_after", demo->governance.platform_bp_after);
    json_put_text(&writer, "fee_of_next_answer", demo->governance.fee);
    json_put_text(&writer, "platform_part_of_it", demo->governance.platform_part);
    json_end_object(&writer);
    json_write_key(&writer, "seconds");
    json_begin_object(&writer);
    for (uint32_t i = 0; i < demo->stage_count; i++) {
        json_put_double(&writer, demo->stages[i].name, demo->stages[i].seconds);
        total += demo->stages[i].seconds;
    }
    json_put_double(&writer, "total", total);
    json_end_object(&writer);
    json_end_object(&writer);
    enum err err = file_path(path, "%s/report.json", demo->folder);
    err = err != ERR_OK ? err : buf_append_text(&text, "\n");
    err = err != ERR_OK ? err : file_write_atomic(path, buf_bytes(&text), 0644, &demo->cli.note);
    buf_deinit(&text);
    return err;
}
