/* cmd_model.c - train, adapter, grant, chat, attribution: from a datanet to a paid answer. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "services/openledger/act.h"
#include "services/openledger/chat.h"
#include "services/openledger/commands.h"
#include "services/openledger/form.h"
#include "services/openledger/output.h"
#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/json/json.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"

static char *text(const char *borrowed)
{
    return (char *)(uintptr_t)borrowed;
}

static int finish(struct cli *cli, struct key_pair *keys, enum err err, const char *what)
{
    int code = err == ERR_OK ? 0 : cli_fail(cli, what);
    key_pair_destroy(keys);
    cli_close(cli);
    return code;
}

static void print_digest(const struct digest *digest)
{
    char hex[2 * DIGEST_SIZE + 1];
    printf("%s\n", hex_encode(digest->bytes, DIGEST_SIZE, hex));
}

/* ---- training ---- */

static void show_progress(void *context, const Openledger__V1__TrainProgress *news)
{
    struct output_progress *progress = context;
    progress->total = news->steps;
    output_progress_update(progress, news->step, "%s loss %.3f  %.0f tokens/s", news->state,
                           news->loss, news->tokens_per_second);
}

static enum err watch(struct cli *cli, const struct digest *job)
{
    struct output_progress progress;
    output_progress_start(&progress, "train", 0);
    enum err err = act_watch(cli, job, show_progress, &progress);
    if (err == ERR_OK) {
        output_progress_finish(&progress, "completed");
    }
    return err;
}

static const struct setting TRAIN_SETTINGS[] = {
    {.name = "version",
     .type = SETTING_U64,
     .fallback = "1",
     .min = 1,
     .max = 1e9,
     .doc = "of the datanet"},
    {.name = "rank", .type = SETTING_U64, .fallback = "8", .min = 1, .max = 256, .doc = "of LoRA"},
    {.name = "alpha",
     .type = SETTING_U64,
     .fallback = "16",
     .min = 1,
     .max = 4096,
     .doc = "of LoRA"},
    {.name = "steps",
     .type = SETTING_U64,
     .fallback = "200",
     .min = 1,
     .max = 1e6,
     .doc = "optimiser steps"},
    {.name = "rows",
     .type = SETTING_U64,
     .fallback = "8",
     .min = 1,
     .max = 1024,
     .doc = "rows in a step"},
    {.name = "rate-ppm",
     .type = SETTING_U64,
     .fallback = "2000",
     .min = 1,
     .max = 1e6,
     .doc = "peak learning rate in millionths"},
    {.name = "warmup", .type = SETTING_U64, .fallback = "10", .max = 1e6, .doc = "steps"},
    {.name = "context",
     .type = SETTING_U64,
     .fallback = "256",
     .min = 8,
     .max = 8192,
     .doc = "tokens; longer rows are cut"},
    {.name = "seed", .type = SETTING_U64, .fallback = "1", .doc = "of weights and order"},
    {.name = "fee", .type = SETTING_TEXT, .fallback = "1", .doc = "OPEN for the trainer"},
    {.name = "watch", .type = SETTING_BOOL, .fallback = "true", .doc = "wait until it is done"},
};

static int train_submit(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger train submit",
        .usage = "DATANET MODEL",
        .about = "Orders the training of a LoRA adapter on a datanet version; prints the job's id.",
        .settings = TRAIN_SETTINGS,
        .count = sizeof TRAIN_SETTINGS / sizeof TRAIN_SETTINGS[0],
        .positional_min = 2,
        .positional_max = 2};
    struct cli cli;
    struct key_pair *keys = NULL;
    struct digest id;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct act_job job = {.datanet = settings_positional(cli.settings, 0),
                          .version = (uint32_t)settings_u64(cli.settings, "version"),
                          .model = settings_positional(cli.settings, 1),
                          .fee = settings_text(cli.settings, "fee"),
                          .settings = OPENLEDGER__V1__TRAIN_SETTINGS__INIT};
    job.settings.rank = (uint32_t)settings_u64(cli.settings, "rank");
    job.settings.alpha = (uint32_t)settings_u64(cli.settings, "alpha");
    job.settings.steps = (uint32_t)settings_u64(cli.settings, "steps");
    job.settings.batch_rows = (uint32_t)settings_u64(cli.settings, "rows");
    job.settings.learning_rate_ppm = (uint32_t)settings_u64(cli.settings, "rate-ppm");
    job.settings.warmup_steps = (uint32_t)settings_u64(cli.settings, "warmup");
    job.settings.context = (uint32_t)settings_u64(cli.settings, "context");
    job.settings.seed = settings_u64(cli.settings, "seed");
    job.settings.digest_every = 50;
    enum err err = cli_signer(&cli, &keys);
    err = err != ERR_OK ? err : act_train(&cli, keys, &job, &id);
    if (err == ERR_OK) {
        print_digest(&id);
        err = settings_bool(cli.settings, "watch") ? watch(&cli, &id) : ERR_OK;
    }
    return finish(&cli, keys, err, "train submit");
}

static int train_watch(int argc, char **argv)
{
    static const struct cli_spec SPEC = {.name = "openledger train watch",
                                         .usage = "JOB",
                                         .about = "Follows a job until it ends.",
                                         .positional_min = 1,
                                         .positional_max = 1};
    struct cli cli;
    struct digest job;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    enum err err = cli_parse_digest(&cli, settings_positional(cli.settings, 0), "job", &job);
    err = err != ERR_OK ? err : watch(&cli, &job);
    return finish(&cli, NULL, err, "train watch");
}

static int train_list(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger train list", .usage = "", .about = "Lists training jobs."};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    Openledger__V1__ListRequest request = OPENLEDGER__V1__LIST_REQUEST__INIT;
    const Openledger__V1__ListJobsReply *reply;
    enum err err = cli_call(&cli, "Trainer.ListJobs", &request.base, &reply);
    if (err == ERR_OK && !cli_print_json(&cli, &reply->base)) {
        static const char *const HEADERS[] = {"JOB", "DATANET", ">VERSION", "STATE", ">FEE"};
        struct output_table *table = output_table_create(5, HEADERS);
        for (size_t i = 0; i < reply->n_jobs; i++) {
            char hex[2 * DIGEST_SIZE + 1];
            output_cell(table, "%s", cli_hex(reply->jobs[i]->job, hex));
            output_cell(table, "%s", reply->jobs[i]->datanet);
            output_cell(table, "%u", reply->jobs[i]->version);
            output_cell(table, "%s", reply->jobs[i]->state);
            output_cell(table, "%s", reply->jobs[i]->fee);
        }
        output_table_finish(table);
    }
    return finish(&cli, NULL, err, "train list");
}

static int train_challenge(int argc, char **argv)
{
    static const struct form FORM = {"openledger train challenge", "JOB [REASON]",
                                     "As a validator: training the job again gave something else.",
                                     OPENLEDGER__V1__TX_BODY__ACTION_CHALLENGE_JOB,
                                     "job:digest reason:text?"};
    return form_run(&FORM, argc, argv);
}

static int train_attest(int argc, char **argv)
{
    static const struct form FORM = {
        "openledger train attest", "JOB yes|no",
        "As a validator: did training a challenged job again give something else?",
        OPENLEDGER__V1__TX_BODY__ACTION_ATTEST_JOB, "job:digest failed:choice"};
    return form_run(&FORM, argc, argv);
}

static int train_close(int argc, char **argv)
{
    static const struct form FORM = {"openledger train close", "JOB",
                                     "Ends a challenge that no quorum decided.",
                                     OPENLEDGER__V1__TX_BODY__ACTION_CLOSE_CHALLENGE, "job:digest"};
    return form_run(&FORM, argc, argv);
}

int cmd_train(int argc, char **argv)
{
    static const struct command COMMANDS[] = {
        {"submit", "order a training", train_submit},
        {"watch", "follow a job", train_watch},
        {"list", "list jobs", train_list},
        {"challenge", "dispute a completed job", train_challenge},
        {"attest", "say what training it again gave", train_attest},
        {"close", "end an undecided challenge", train_close},
        {NULL, NULL, NULL}};
    return cli_dispatch("openledger train", COMMANDS, argc, argv);
}

/* ---- adapters ---- */

static int adapter_publish(int argc, char **argv)
{
    static const struct setting SETTINGS[] = {{.name = "price-prompt",
                                               .type = SETTING_TEXT,
                                               .fallback = "0.00001",
                                               .doc = "OPEN per prompt token"},
                                              {.name = "price-completion",
                                               .type = SETTING_TEXT,
                                               .fallback = "0.00003",
                                               .doc = "OPEN per generated token"}};
    static const struct cli_spec SPEC = {.name = "openledger adapter publish",
                                         .usage = "NAME JOB",
                                         .about = "Publishes a completed job's adapter for sale.",
                                         .settings = SETTINGS,
                                         .count = 2,
                                         .positional_min = 2,
                                         .positional_max = 2};
    struct cli cli;
    struct key_pair *keys = NULL;
    struct digest job;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    enum err err = cli_parse_digest(&cli, settings_positional(cli.settings, 1), "job", &job);
    err = err != ERR_OK ? err : cli_signer(&cli, &keys);
    err = err != ERR_OK ? err
                        : act_publish_adapter(&cli, keys, settings_positional(cli.settings, 0),
                                              &job, settings_text(cli.settings, "price-prompt"),
                                              settings_text(cli.settings, "price-completion"));
    return finish(&cli, keys, err, "adapter publish");
}

static int adapter_list(int argc, char **argv)
{
    static const struct setting SETTINGS[] = {{.name = "query",
                                               .type = SETTING_TEXT,
                                               .fallback = "",
                                               .doc = "words that must all occur"}};
    static const struct cli_spec SPEC = {.name = "openledger adapter list",
                                         .usage = "",
                                         .about = "Lists published adapters.",
                                         .settings = SETTINGS,
                                         .count = 1};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    Openledger__V1__ListRequest request = OPENLEDGER__V1__LIST_REQUEST__INIT;
    const Openledger__V1__ListAdaptersReply *reply;
    request.query = text(settings_text(cli.settings, "query"));
    enum err err = cli_call(&cli, "Registry.ListAdapters", &request.base, &reply);
    if (err == ERR_OK && !cli_print_json(&cli, &reply->base)) {
        static const char *const HEADERS[] = {
            "NAME", "MODEL", "DATANET", ">VERSION", ">PROMPT PRICE", ">TOKEN PRICE", "INDEX"};
        struct output_table *table = output_table_create(7, HEADERS);
        for (size_t i = 0; i < reply->n_adapters; i++) {
            const Openledger__V1__AdapterRecord *adapter = reply->adapters[i];
            output_cell(table, "%s", adapter->name);
            output_cell(table, "%s", adapter->model);
            output_cell(table, "%s", adapter->datanet);
            output_cell(table, "%u", adapter->version);
            output_cell(table, "%s", adapter->price_prompt);
            output_cell(table, "%s", adapter->price_completion);
            output_cell(table, "%s", adapter->attribution_index.len > 0 ? "ready" : "waiting");
        }
        output_table_finish(table);
    }
    return finish(&cli, NULL, err, "adapter list");
}

static int adapter_show(int argc, char **argv)
{
    static const struct cli_spec SPEC = {.name = "openledger adapter show",
                                         .usage = "NAME",
                                         .about = "Shows an adapter's lineage.",
                                         .positional_min = 1,
                                         .positional_max = 1};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    Openledger__V1__NameRequest request = OPENLEDGER__V1__NAME_REQUEST__INIT;
    const Openledger__V1__AdapterRecord *adapter;
    request.name = text(settings_positional(cli.settings, 0));
    enum err err = cli_call(&cli, "Registry.GetAdapter", &request.base, &adapter);
    if (err == ERR_OK && !cli_print_json(&cli, &adapter->base)) {
        char hex[2 * DIGEST_SIZE + 1];
        char who[ACCOUNT_ID_TEXT_SIZE];
        printf("adapter          %s\ncontent          %s\n", adapter->name,
               cli_hex(adapter->content, hex));
        printf("developer        %s\n", cli_account(adapter->developer, who));
        printf("base model       %s %s\n", adapter->model, cli_hex(adapter->model_content, hex));
        printf("datanet          %s version %u\n", adapter->datanet, adapter->version);
        printf("dataset root     %s\n", cli_hex(adapter->dataset_root, hex));
        printf("job              %s\n", cli_hex(adapter->job, hex));
        printf("trainer          %s\n", cli_account(adapter->trainer, who));
        printf("transcript root  %s\n", cli_hex(adapter->transcript_root, hex));
        printf("index            %s\n", cli_hex(adapter->attribution_index, hex));
        printf("price            %s per prompt token, %s per generated token\n",
               adapter->price_prompt, adapter->price_completion);
    }
    return finish(&cli, NULL, err, "adapter show");
}

static int adapter_price(int argc, char **argv)
{
    static const struct form FORM = {
        "openledger adapter price", "NAME PROMPT COMPLETION",
        "Sets OPEN per prompt and per generated token, in force after the notice.",
        OPENLEDGER__V1__TX_BODY__ACTION_SET_PRICE,
        "adapter:text price_prompt:text price_completion:text"};
    return form_run(&FORM, argc, argv);
}

static int adapter_revoke(int argc, char **argv)
{
    static const struct form FORM = {"openledger adapter revoke", "NAME [REASON]",
                                     "Ends the serving of an adapter after the notice.",
                                     OPENLEDGER__V1__TX_BODY__ACTION_REVOKE_ADAPTER,
                                     "adapter:text reason:text?"};
    return form_run(&FORM, argc, argv);
}

int cmd_adapter(int argc, char **argv)
{
    static const struct command COMMANDS[] = {
        {"publish", "put an adapter up for sale", adapter_publish},
        {"price", "change the price of an adapter", adapter_price},
        {"revoke", "take an adapter off sale", adapter_revoke},
        {"list", "list and search adapters", adapter_list},
        {"show", "an adapter's lineage", adapter_show},
        {NULL, NULL, NULL}};
    return cli_dispatch("openledger adapter", COMMANDS, argc, argv);
}

/* ---- paying and asking ---- */

static int grant_open(int argc, char **argv)
{
    static const struct setting SETTINGS[] = {{.name = "days",
                                               .type = SETTING_U64,
                                               .fallback = "30",
                                               .min = 1,
                                               .max = 365,
                                               .doc = "until it expires"}};
    static const struct cli_spec SPEC = {
        .name = "openledger grant open",
        .usage = "LIMIT",
        .about = "Sets LIMIT OPEN aside for inference and prints the grant and an API key.",
        .settings = SETTINGS,
        .count = 1,
        .positional_min = 1,
        .positional_max = 1};
    struct cli cli;
    struct key_pair *keys = NULL;
    struct digest grant;
    const char *key = "";
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    uint64_t expires_ms = clock_real_ms() + settings_u64(cli.settings, "days") * 86400000U;
    enum err err = cli_signer(&cli, &keys);
    err = err != ERR_OK ? err
                        : act_open_grant(&cli, keys, settings_positional(cli.settings, 0),
                                         expires_ms, &grant);
    err = err != ERR_OK ? err : act_api_key(&cli, keys, &grant, &key);
    if (err == ERR_OK) {
        char hex[2 * DIGEST_SIZE + 1];
        printf(cli.json ? "{\"grant\": \"%s\", \"apiKey\": \"%s\"}\n"
                        : "grant    %s\nAPI key  %s\n",
               hex_encode(grant.bytes, DIGEST_SIZE, hex), key);
    }
    return finish(&cli, keys, err, "grant open");
}

static int grant_show(int argc, char **argv)
{
    static const struct cli_spec SPEC = {.name = "openledger grant show",
                                         .usage = "GRANT",
                                         .about = "Shows what a grant still holds.",
                                         .positional_min = 1,
                                         .positional_max = 1};
    struct cli cli;
    struct digest grant;
    const Openledger__V1__GrantState *state;
    Openledger__V1__GetGrantRequest request = OPENLEDGER__V1__GET_GRANT_REQUEST__INIT;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    enum err err = cli_parse_digest(&cli, settings_positional(cli.settings, 0), "grant", &grant);
    if (err == ERR_OK) {
        request.grant = ledger_binary(grant.bytes, DIGEST_SIZE);
        err = cli_call(&cli, "Settlement.GetGrant", &request.base, &state);
    }
    if (err == ERR_OK && !cli_print_json(&cli, &state->base)) {
        char when[32];
        printf("limit    %s OPEN\nleased   %s OPEN\ndrawn    %s OPEN\nexpires  %s%s\n",
               state->limit, state->leased, state->drawn, cli_time(state->expires_ms, when),
               state->closed ? " (closed)" : "");
    }
    return finish(&cli, NULL, err, "grant show");
}

int cmd_grant(int argc, char **argv)
{
    static const struct command COMMANDS[] = {
        {"open", "set money aside, get an API key", grant_open},
        {"show", "what a grant still holds", grant_show},
        {NULL, NULL, NULL}};
    return cli_dispatch("openledger grant", COMMANDS, argc, argv);
}

static void print_piece(void *context, const char *piece)
{
    (void)context;
    (void)fputs(piece, stdout);
    (void)fflush(stdout);
}

static void print_answer(const struct chat_answer *answer)
{
    char hex[2 * DIGEST_SIZE + 1];
    struct json_writer writer;
    struct buf out;
    buf_init(&out, answer->text.size * 6 + 1024); /* every byte escaped, and the rest */
    json_writer_init(&writer, &out, true);
    json_begin_object(&writer);
    json_write_key(&writer, "text");
    json_write_text_bytes(&writer, buf_bytes(&answer->text));
    json_put_text(&writer, "finishReason", answer->finish_reason);
    json_put_u64(&writer, "promptTokens", answer->prompt_tokens);
    json_put_u64(&writer, "completionTokens", answer->completion_tokens);
    json_put_text(&writer, "fee", answer->fee);
    json_put_text(&writer, "receipt", hex_encode(answer->receipt.bytes, DIGEST_SIZE, hex));
    json_end_object(&writer);
    CHECK(out.err == ERR_OK);
    (void)fwrite(out.data, 1, out.size, stdout);
    printf("\n");
    buf_deinit(&out);
}

int cmd_chat(int argc, char **argv)
{
    static const struct setting SETTINGS[] = {
        {.name = "api-key",
         .type = SETTING_TEXT,
         .fallback = "",
         .secret = true,
         .doc = "of a grant"},
        {.name = "max-tokens",
         .type = SETTING_U64,
         .fallback = "64",
         .min = 1,
         .max = 4096,
         .doc = "to generate at most"},
        {.name = "temperature", .type = SETTING_F64, .fallback = "0", .max = 2, .doc = "0: greedy"},
        {.name = "seed", .type = SETTING_U64, .fallback = "1", .doc = "of sampling"}};
    static const struct cli_spec SPEC = {
        .name = "openledger chat",
        .usage = "ADAPTER PROMPT",
        .about = "Asks an adapter and streams its answer. The API key comes from\n"
                 "OPENLEDGER_API_KEY or --api-key (see openledger grant open).",
        .settings = SETTINGS,
        .count = 4,
        .positional_min = 2,
        .positional_max = 2};
    struct cli cli;
    struct chat_answer answer;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct chat_request request = {.url = cli.url,
                                   .api_key = settings_text(cli.settings, "api-key"),
                                   .adapter = settings_positional(cli.settings, 0),
                                   .prompt = settings_positional(cli.settings, 1),
                                   .max_tokens = (uint32_t)settings_u64(cli.settings, "max-tokens"),
                                   .temperature = settings_f64(cli.settings, "temperature"),
                                   .seed = settings_u64(cli.settings, "seed"),
                                   .on_text = cli.json ? NULL : print_piece};
    enum err err = chat_ask(&request, &answer, &cli.note);
    if (err == ERR_OK && cli.json) {
        print_answer(&answer);
        chat_answer_deinit(&answer);
    } else if (err == ERR_OK) {
        char hex[2 * DIGEST_SIZE + 1];
        printf("\n");
        (void)fprintf(stderr, "%u + %u tokens, %s OPEN, receipt %s\n", answer.prompt_tokens,
                      answer.completion_tokens, answer.fee,
                      hex_encode(answer.receipt.bytes, DIGEST_SIZE, hex));
        chat_answer_deinit(&answer);
    }
    return finish(&cli, NULL, err, "chat");
}

int cmd_attribution(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger attribution",
        .usage = "RECEIPT",
        .about = "Shows whose data shaped an answer, by influence and by matched span.",
        .positional_min = 1,
        .positional_max = 1};
    struct cli cli;
    struct digest receipt;
    const Openledger__V1__AnswerAttribution *answer;
    Openledger__V1__GetAttributionRequest request = OPENLEDGER__V1__GET_ATTRIBUTION_REQUEST__INIT;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    enum err err =
        cli_parse_digest(&cli, settings_positional(cli.settings, 0), "receipt", &receipt);
    if (err == ERR_OK) {
        request.receipt = ledger_binary(receipt.bytes, DIGEST_SIZE);
        err = cli_call(&cli, "Attribution.GetAttribution", &request.base, &answer);
    }
    if (err == ERR_OK && !cli_print_json(&cli, &answer->base)) {
        static const char *const HEADERS[] = {"CONTRIBUTOR", ">SHARE", ">INFLUENCE", ">SPAN"};
        struct output_table *table = output_table_create(4, HEADERS);
        char who[ACCOUNT_ID_TEXT_SIZE];
        for (size_t i = 0; i < answer->shares->n_shares; i++) {
            const Openledger__V1__Share *share = answer->shares->shares[i];
            output_cell(table, "%s", cli_account(share->account, who));
            output_cell(table, "%.2f %%", share->share_ppb / 1e7);
            output_cell(table, "%.2f %%", share->influence_ppb / 1e7);
            output_cell(table, "%.2f %%", share->span_ppb / 1e7);
        }
        output_cell(table, "(no one earned)");
        output_cell(table, "%.2f %%", answer->shares->unearned_ppb / 1e7);
        output_cell(table, "%s", "");
        output_cell(table, "%s", "");
        output_table_finish(table);
        for (size_t i = 0; i < answer->n_rows && i < 8; i++) {
            const Openledger__V1__RowEvidence *row = answer->rows[i];
            printf("row %u of %.14s... (%.2f sd%s%s): %s\n", row->row,
                   cli_account(row->contributor, who), row->influence,
                   row->span_length > 0 ? ", span: " : "",
                   row->span_length > 0 ? row->span_text : "", row->excerpt);
        }
    }
    return finish(&cli, NULL, err, "attribution");
}
