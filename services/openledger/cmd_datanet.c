/* cmd_datanet.c - datanet: create, contribute, review, publish, list, show, rows. */
#include <stdio.h>
#include <string.h>

#include "services/openledger/act.h"
#include "services/openledger/commands.h"
#include "services/openledger/form.h"
#include "services/openledger/output.h"
#include "shared/ledger/rows.h"
#include "shared/ledger/tx.h"

static char *text(const char *borrowed)
{
    return (char *)(uintptr_t)borrowed;
}

/* Ends a command: prints what went wrong, frees. */
static int finish(struct cli *cli, struct key_pair *keys, enum err err, const char *what)
{
    int code = err == ERR_OK ? 0 : cli_fail(cli, what);
    key_pair_destroy(keys);
    cli_close(cli);
    return code;
}

static int datanet_create(int argc, char **argv)
{
    static const struct setting SETTINGS[] = {
        {.name = "title", .type = SETTING_TEXT, .fallback = "", .doc = "for people"},
        {.name = "description", .type = SETTING_TEXT, .fallback = "", .doc = "what is in it"},
        {.name = "licence",
         .type = SETTING_TEXT,
         .fallback = "CC-BY-4.0",
         .doc = "SPDX expression of its rows"},
    };
    static const struct cli_spec SPEC = {.name = "openledger datanet create",
                                         .usage = "NAME",
                                         .about = "Creates a datanet owned by the signing key.",
                                         .settings = SETTINGS,
                                         .count = 3,
                                         .positional_min = 1,
                                         .positional_max = 1};
    struct cli cli;
    struct key_pair *keys = NULL;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct act_datanet datanet = {.name = settings_positional(cli.settings, 0),
                                  .title = settings_text(cli.settings, "title"),
                                  .description = settings_text(cli.settings, "description"),
                                  .licence = settings_text(cli.settings, "licence")};
    enum err err = cli_signer(&cli, &keys);
    err = err != ERR_OK ? err : act_create_datanet(&cli, keys, &datanet);
    return finish(&cli, keys, err, "datanet create");
}

static void show_upload(void *context, uint64_t done, uint64_t total)
{
    struct output_progress *progress = context;
    progress->total = total;
    output_progress_update(progress, done, "%llu of %llu KiB", (unsigned long long)done / 1024,
                           (unsigned long long)total / 1024);
}

static void print_contribution(const struct cli *cli,
                               const Openledger__V1__ContributionRecord *record)
{
    char hex[2 * DIGEST_SIZE + 1];
    char who[ACCOUNT_ID_TEXT_SIZE];
    if (cli_print_json(cli, &record->base)) {
        return;
    }
    printf("contribution  %s\ndatanet       %s\ncontributor   %s\nstate         %s\n",
           cli_hex(record->contribution, hex), record->datanet,
           cli_account(record->contributor, who), record->state);
    printf("rows          %u, %u new\n", record->row_count, record->unique_rows);
    for (size_t i = 0; i < record->n_duplicates && i < 20; i++) {
        const Openledger__V1__DuplicateRow *row = record->duplicates[i];
        bool exact = row->verdict == OPENLEDGER__V1__ROW_VERDICT__ROW_VERDICT_EXACT_DUPLICATE;
        printf("  row %u %s row %u of %.16s...\n", row->row,
               exact ? "says the same as" : "nearly says the same as", row->of_row,
               cli_hex(row->of_contribution, hex));
    }
}

static int datanet_contribute(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger datanet contribute",
        .usage = "NAME FILE.jsonl",
        .about =
            "Signs a commitment to the rows of a JSONL file and uploads them. Run it again after\n"
            "an interruption: it goes on where it stopped (state in FILE.jsonl.upload).",
        .positional_min = 2,
        .positional_max = 2};
    struct cli cli;
    struct key_pair *keys = NULL;
    struct buf rows;
    char state[FILE_PATH_SIZE];
    const Openledger__V1__ContributionRecord *record;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    const char *path = settings_positional(cli.settings, 1);
    struct output_progress progress;
    output_progress_start(&progress, "upload", 0);
    buf_init(&rows, LEDGER_CONTRIBUTION_SIZE_MAX);
    enum err err = file_path(state, "%s.upload", path);
    err = err != ERR_OK ? err : file_read(path, &rows, &cli.note);
    err = err != ERR_OK ? err : cli_signer(&cli, &keys);
    struct act_contribution contribution = {.datanet = settings_positional(cli.settings, 0),
                                            .rows = buf_bytes(&rows),
                                            .state_file = state,
                                            .progress = show_upload,
                                            .context = &progress};
    err = err != ERR_OK ? err : act_contribute(&cli, keys, &contribution, &record);
    if (err == ERR_OK) {
        output_progress_finish(&progress, "done");
        print_contribution(&cli, record);
    }
    buf_deinit(&rows);
    return finish(&cli, keys, err, "datanet contribute");
}

static int datanet_review(int argc, char **argv)
{
    static const struct setting SETTINGS[] = {
        {.name = "reason", .type = SETTING_TEXT, .fallback = "", .doc = "kept on the ledger"}};
    static const struct cli_spec SPEC = {.name = "openledger datanet review",
                                         .usage = "CONTRIBUTION accept|reject",
                                         .about = "Accepts or rejects an uploaded contribution.",
                                         .settings = SETTINGS,
                                         .count = 1,
                                         .positional_min = 2,
                                         .positional_max = 2};
    struct cli cli;
    struct key_pair *keys = NULL;
    struct digest contribution;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    const char *verdict = settings_positional(cli.settings, 1);
    bool accept = strcmp(verdict, "accept") == 0;
    enum err err =
        cli_parse_digest(&cli, settings_positional(cli.settings, 0), "contribution", &contribution);
    if (err == ERR_OK && !accept && strcmp(verdict, "reject") != 0) {
        err = note_set(&cli.note, ERR_INVALID, "'%.32s' is neither accept nor reject", verdict);
    }
    err = err != ERR_OK ? err : cli_signer(&cli, &keys);
    err = err != ERR_OK ? err
                        : act_review(&cli, keys, &contribution, accept,
                                     settings_text(cli.settings, "reason"));
    return finish(&cli, keys, err, "datanet review");
}

static int datanet_publish(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger datanet publish",
        .usage = "NAME",
        .about = "Publishes the next version: every accepted row that is no duplicate.",
        .positional_min = 1,
        .positional_max = 1};
    struct cli cli;
    struct key_pair *keys = NULL;
    const Openledger__V1__PublishVersion *version;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    enum err err = cli_signer(&cli, &keys);
    err = err != ERR_OK
              ? err
              : act_publish_version(&cli, keys, settings_positional(cli.settings, 0), &version);
    if (err == ERR_OK && !cli_print_json(&cli, &version->base)) {
        char hex[2 * DIGEST_SIZE + 1];
        printf("%s version %u: %u rows of %zu contributors\nroot %s\n", version->datanet,
               version->version, version->row_count, version->n_contributors,
               cli_hex(version->root, hex));
    }
    return finish(&cli, keys, err, "datanet publish");
}

static int datanet_list(int argc, char **argv)
{
    static const struct setting SETTINGS[] = {
        {.name = "query", .type = SETTING_TEXT, .fallback = "", .doc = "words that must all occur"},
        {.name = "page", .type = SETTING_TEXT, .fallback = "", .doc = "token of the page to show"}};
    static const struct cli_spec SPEC = {.name = "openledger datanet list",
                                         .usage = "",
                                         .about = "Lists the datanets.",
                                         .settings = SETTINGS,
                                         .count = 2};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    Openledger__V1__ListRequest request = OPENLEDGER__V1__LIST_REQUEST__INIT;
    const Openledger__V1__ListDatanetsReply *reply;
    request.query = text(settings_text(cli.settings, "query"));
    request.page_token = text(settings_text(cli.settings, "page"));
    enum err err = cli_call(&cli, "Registry.ListDatanets", &request.base, &reply);
    if (err == ERR_OK && !cli_print_json(&cli, &reply->base)) {
        static const char *const HEADERS[] = {"NAME", "TITLE", "LICENCE", ">VERSIONS", ">ROWS"};
        struct output_table *table = output_table_create(5, HEADERS);
        for (size_t i = 0; i < reply->n_datanets; i++) {
            const Openledger__V1__DatanetRecord *datanet = reply->datanets[i];
            size_t versions = datanet->n_versions;
            output_cell(table, "%s", datanet->name);
            output_cell(table, "%s", datanet->title);
            output_cell(table, "%s", datanet->licence);
            output_cell(table, "%zu", versions);
            output_cell(table, "%u", versions > 0 ? datanet->versions[versions - 1]->row_count : 0);
        }
        output_table_finish(table);
        if (reply->next_page_token[0] != '\0') {
            printf("more: --page %s\n", reply->next_page_token);
        }
    }
    return finish(&cli, NULL, err, "datanet list");
}

static int datanet_show(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger datanet show",
        .usage = "NAME",
        .about = "Shows a datanet's versions, contributors and contributions.",
        .positional_min = 1,
        .positional_max = 1};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    Openledger__V1__NameRequest request = OPENLEDGER__V1__NAME_REQUEST__INIT;
    const Openledger__V1__DatanetRecord *datanet;
    request.name = text(settings_positional(cli.settings, 0));
    enum err err = cli_call(&cli, "Registry.GetDatanet", &request.base, &datanet);
    if (err == ERR_OK && !cli_print_json(&cli, &datanet->base)) {
        char who[ACCOUNT_ID_TEXT_SIZE];
        char hex[2 * DIGEST_SIZE + 1];
        printf("%s: %s (%s)\nowner     %s\n", datanet->name, datanet->title, datanet->licence,
               cli_account(datanet->owner, who));
        printf("treasury  %s\n", cli_account(datanet->treasury, who));
        for (size_t i = 0; i < datanet->n_versions; i++) {
            const Openledger__V1__VersionRecord *version = datanet->versions[i];
            printf("version %u: %u rows, root %s\n", version->version, version->row_count,
                   cli_hex(version->root, hex));
            for (size_t k = 0; k < version->n_contributors; k++) {
                printf("  %s  %u rows\n", cli_account(version->contributors[k]->account, who),
                       version->contributors[k]->row_count);
            }
        }
    }
    return finish(&cli, NULL, err, "datanet show");
}

static int datanet_contributions(int argc, char **argv)
{
    static const struct cli_spec SPEC = {.name = "openledger datanet contributions",
                                         .usage = "NAME",
                                         .about = "Lists a datanet's contributions.",
                                         .positional_min = 1,
                                         .positional_max = 1};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    Openledger__V1__ListContributionsRequest request =
        OPENLEDGER__V1__LIST_CONTRIBUTIONS_REQUEST__INIT;
    const Openledger__V1__ListContributionsReply *reply;
    request.datanet = text(settings_positional(cli.settings, 0));
    enum err err = cli_call(&cli, "Datanet.ListContributions", &request.base, &reply);
    if (err == ERR_OK && !cli_print_json(&cli, &reply->base)) {
        static const char *const HEADERS[] = {"CONTRIBUTION", "STATE", ">ROWS", ">NEW"};
        struct output_table *table = output_table_create(4, HEADERS);
        for (size_t i = 0; i < reply->n_contributions; i++) {
            char hex[2 * DIGEST_SIZE + 1];
            output_cell(table, "%s", cli_hex(reply->contributions[i]->contribution, hex));
            output_cell(table, "%s", reply->contributions[i]->state);
            output_cell(table, "%u", reply->contributions[i]->row_count);
            output_cell(table, "%u", reply->contributions[i]->unique_rows);
        }
        output_table_finish(table);
    }
    return finish(&cli, NULL, err, "datanet contributions");
}

static int datanet_rows(int argc, char **argv)
{
    static const struct setting SETTINGS[] = {
        {.name = "version",
         .type = SETTING_U64,
         .fallback = "1",
         .min = 1,
         .max = 1e9,
         .doc = "which"},
        {.name = "from", .type = SETTING_U64, .fallback = "0", .max = 1e9, .doc = "first row"},
        {.name = "count",
         .type = SETTING_U64,
         .fallback = "20",
         .min = 1,
         .max = 1000,
         .doc = "how many rows"}};
    static const struct cli_spec SPEC = {.name = "openledger datanet rows",
                                         .usage = "NAME",
                                         .about = "Shows rows of a published version.",
                                         .settings = SETTINGS,
                                         .count = 3,
                                         .positional_min = 1,
                                         .positional_max = 1};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    Openledger__V1__ListRowsRequest request = OPENLEDGER__V1__LIST_ROWS_REQUEST__INIT;
    const Openledger__V1__ListRowsReply *reply;
    request.datanet = text(settings_positional(cli.settings, 0));
    request.version = (uint32_t)settings_u64(cli.settings, "version");
    request.from_row = (uint32_t)settings_u64(cli.settings, "from");
    request.page_size = (uint32_t)settings_u64(cli.settings, "count");
    enum err err = cli_call(&cli, "Datanet.ListRows", &request.base, &reply);
    if (err == ERR_OK && !cli_print_json(&cli, &reply->base)) {
        static const char *const HEADERS[] = {">ROW", "CONTRIBUTOR", "DATA"};
        struct output_table *table = output_table_create(3, HEADERS);
        for (size_t i = 0; i < reply->n_rows; i++) {
            char who[ACCOUNT_ID_TEXT_SIZE];
            output_cell(table, "%u", reply->rows[i]->row);
            output_cell(table, "%.14s...", cli_account(reply->rows[i]->contributor, who));
            output_cell(table, "%s", reply->rows[i]->data);
        }
        output_table_finish(table);
    }
    return finish(&cli, NULL, err, "datanet rows");
}

/* ---- roles, withdrawing, treasury ---- */

static int datanet_offer(int argc, char **argv)
{
    static const struct form FORM = {
        "openledger datanet offer", "NAME [ACCOUNT]",
        "Offers the datanet to another owner; to nobody without ACCOUNT.",
        OPENLEDGER__V1__TX_BODY__ACTION_OFFER_DATANET, "datanet:text to:account?"};
    return form_run(&FORM, argc, argv);
}

static int datanet_accept(int argc, char **argv)
{
    static const struct form FORM = {
        "openledger datanet accept", "NAME", "Becomes the owner of a datanet that was offered.",
        OPENLEDGER__V1__TX_BODY__ACTION_ACCEPT_DATANET, "datanet:text"};
    return form_run(&FORM, argc, argv);
}

static int datanet_validators(int argc, char **argv)
{
    static const struct form FORM = {"openledger datanet validators", "NAME [ACCOUNT]...",
                                     "Sets who may review besides the owner; accounts ascend.",
                                     OPENLEDGER__V1__TX_BODY__ACTION_SET_VALIDATORS,
                                     "datanet:text validators:accounts"};
    return form_run(&FORM, argc, argv);
}

static int datanet_withdraw(int argc, char **argv)
{
    static const struct form FORM = {"openledger datanet withdraw", "CONTRIBUTION",
                                     "Takes one's contribution out of all later versions.",
                                     OPENLEDGER__V1__TX_BODY__ACTION_WITHDRAW_CONTRIBUTION,
                                     "contribution:digest"};
    return form_run(&FORM, argc, argv);
}

static int datanet_withdraw_rows(int argc, char **argv)
{
    static const struct form FORM = {
        "openledger datanet withdraw-rows", "CONTRIBUTION ROW...",
        "Takes single rows (places from 0, ascending) out of all later versions.",
        OPENLEDGER__V1__TX_BODY__ACTION_WITHDRAW_ROWS, "contribution:digest rows:numbers"};
    return form_run(&FORM, argc, argv);
}

static int datanet_pay(int argc, char **argv)
{
    static const struct form FORM = {"openledger datanet pay", "NAME TO AMOUNT [MEMO]",
                                     "Pays OPEN out of the datanet's treasury.",
                                     OPENLEDGER__V1__TX_BODY__ACTION_PAY_FROM_TREASURY,
                                     "datanet:text to:account amount:text memo:text?"};
    return form_run(&FORM, argc, argv);
}

int cmd_datanet(int argc, char **argv)
{
    static const struct command COMMANDS[] = {
        {"create", "create a datanet", datanet_create},
        {"contribute", "commit to rows and upload them", datanet_contribute},
        {"review", "accept or reject a contribution", datanet_review},
        {"publish", "publish the next version", datanet_publish},
        {"offer", "offer a datanet to another owner", datanet_offer},
        {"accept", "become the owner of one that was offered", datanet_accept},
        {"validators", "set who may review", datanet_validators},
        {"withdraw", "take a contribution out of later versions", datanet_withdraw},
        {"withdraw-rows", "take rows out of later versions", datanet_withdraw_rows},
        {"pay", "pay out of the treasury", datanet_pay},
        {"list", "list and search datanets", datanet_list},
        {"show", "versions and contributors", datanet_show},
        {"contributions", "contributions and their state", datanet_contributions},
        {"rows", "rows of a version", datanet_rows},
        {NULL, NULL, NULL}};
    return cli_dispatch("openledger datanet", COMMANDS, argc, argv);
}
