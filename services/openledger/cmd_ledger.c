/* cmd_ledger.c - keys, account, balance, transfer, block: people and their money. */
#include <stdio.h>
#include <string.h>

#include "services/openledger/act.h"
#include "services/openledger/commands.h"
#include "services/openledger/output.h"
#include "shared/base/hex.h"
#include "shared/json/json.h"
#include "shared/ledger/tx.h"

/* ---- keys ---- */

static int keys_new(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger keys new",
        .usage = "NAME",
        .about = "Makes a key pair in <home>/keys. OPENLEDGER_PASSPHRASE protects it.",
        .positional_min = 1,
        .positional_max = 1};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    char folder[FILE_PATH_SIZE];
    char path[FILE_PATH_SIZE];
    char text[ACCOUNT_ID_TEXT_SIZE];
    struct account_id id;
    const char *name = settings_positional(cli.settings, 0);
    struct key_pair *keys = key_pair_create();
    enum err err = keys == NULL ? ERR_NO_MEMORY : cli_key_path(cli.home, name, path);
    if (err == ERR_INVALID) {
        (void)note_set(&cli.note, err, "'%.64s' is not a key name: letters, digits, - _ .", name);
    }
    err = err != ERR_OK ? err : file_path(folder, "%s/keys", cli.home);
    err = err != ERR_OK ? err : file_make_folders(folder, &cli.note);
    err = err != ERR_OK
              ? err
              : key_pair_save(keys, path, settings_text(cli.settings, "passphrase"), &cli.note);
    if (err == ERR_OK) {
        account_id_from_key(key_pair_public(keys), &id);
        printf("%s\n", account_id_format(&id, text));
    }
    code = err == ERR_OK ? 0 : cli_fail(&cli, "keys new");
    key_pair_destroy(keys);
    cli_close(&cli);
    return code;
}

static int keys_list(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger keys list", .usage = "", .about = "Lists the keys in <home>/keys."};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    static const char *const HEADERS[] = {"NAME", "ACCOUNT"};
    struct output_table *table = output_table_create(2, HEADERS);
    struct file_names names = {.count = 0};
    struct buf json;
    struct json_writer writer;
    char folder[FILE_PATH_SIZE];
    buf_init(&json, 1U << 24);
    json_writer_init(&writer, &json, true);
    json_begin_array(&writer);
    enum err err = file_path(folder, "%s/keys", cli.home);
    err = err != ERR_OK ? err : file_list(folder, 100000, &names, &cli.note);
    for (size_t i = 0; i < names.count; i++) {
        struct account_id id;
        char text[ACCOUNT_ID_TEXT_SIZE];
        size_t size = strlen(names.items[i]);
        size = size > 5 ? size - 5 : 0; /* without ".json" */
        names.items[i][size] = '\0';
        bool known = cli_parse_account(&cli, names.items[i], &id) == ERR_OK;
        output_cell(table, "%s", names.items[i]);
        output_cell(table, "%s", known ? account_id_format(&id, text) : "(protected or damaged)");
        json_begin_object(&writer);
        json_put_text(&writer, "name", names.items[i]);
        json_put_text(&writer, "account", known ? text : NULL);
        json_end_object(&writer);
    }
    json_end_array(&writer);
    if (cli.json) {
        output_table_discard(table);
        printf("%s\n", buf_text(&json));
    } else {
        output_table_finish(table);
    }
    buf_deinit(&json);
    file_names_deinit(&names);
    code = err == ERR_OK || err == ERR_NOT_FOUND ? 0 : cli_fail(&cli, "keys list");
    cli_close(&cli);
    return code;
}

int cmd_keys(int argc, char **argv)
{
    static const struct command COMMANDS[] = {{"new", "make a key pair", keys_new},
                                              {"list", "list local keys", keys_list},
                                              {NULL, NULL, NULL}};
    return cli_dispatch("openledger keys", COMMANDS, argc, argv);
}

/* ---- account and balance ---- */

static int account_open(int argc, char **argv)
{
    static const struct cli_spec SPEC = {.name = "openledger account open",
                                         .usage = "NAME",
                                         .about = "Opens the signing key's account on the ledger.",
                                         .positional_min = 1,
                                         .positional_max = 1};
    struct cli cli;
    struct key_pair *keys = NULL;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    enum err err = cli_signer(&cli, &keys);
    err = err != ERR_OK ? err : act_open_account(&cli, keys, settings_positional(cli.settings, 0));
    code = err == ERR_OK ? 0 : cli_fail(&cli, "account open");
    key_pair_destroy(keys);
    cli_close(&cli);
    return code;
}

static int show_account(struct cli *cli, const char *who)
{
    struct account_id id;
    const Openledger__V1__AccountState *state;
    Openledger__V1__GetAccountRequest request = OPENLEDGER__V1__GET_ACCOUNT_REQUEST__INIT;
    enum err err = cli_parse_account(cli, who, &id);
    if (err == ERR_OK) {
        request.account = ledger_binary(id.bytes, ACCOUNT_ID_SIZE);
        err = cli_call(cli, "Settlement.GetAccount", &request.base, &state);
    }
    if (err != ERR_OK) {
        return cli_fail(cli, "account");
    }
    if (cli_print_json(cli, &state->base)) {
        return 0;
    }
    char text[ACCOUNT_ID_TEXT_SIZE];
    printf("account    %s\nname       %s\nbalance    %s OPEN\n", account_id_format(&id, text),
           state->name, state->balance);
    if (state->vesting != NULL) {
        char when[32];
        printf("vesting    %s OPEN, from %s over %llu days; %s claimed, %s can be claimed now\n",
               state->vesting->total, cli_time(state->vesting->cliff_at_ms, when),
               (unsigned long long)(state->vesting->vest_ms / 86400000), state->vesting->claimed,
               state->vesting->claimable);
    }
    for (size_t i = 0; i < state->n_bonds; i++) {
        static const char *const ROLES[] = {"-", "validator", "gateway", "attribution", "trainer"};
        unsigned role = (unsigned)state->bonds[i]->role;
        printf("bonded     %s OPEN as %s\n", state->bonds[i]->amount,
               role < sizeof ROLES / sizeof ROLES[0] ? ROLES[role] : "?");
    }
    return 0;
}

static int account_show(int argc, char **argv)
{
    static const struct cli_spec SPEC = {.name = "openledger account show",
                                         .usage = "ACCOUNT",
                                         .about = "Shows an account (open1... or a key's name).",
                                         .positional_min = 1,
                                         .positional_max = 1};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    code = show_account(&cli, settings_positional(cli.settings, 0));
    cli_close(&cli);
    return code;
}

static const struct setting LIST_SETTINGS[] = {
    {.name = "query", .type = SETTING_TEXT, .fallback = "", .doc = "words that must all occur"},
    {.name = "page-size",
     .type = SETTING_U64,
     .fallback = "100",
     .min = 1,
     .max = 1000,
     .doc = "records on a page"},
    {.name = "page", .type = SETTING_TEXT, .fallback = "", .doc = "token of the page to show"},
};

static int account_list(int argc, char **argv)
{
    static const struct cli_spec SPEC = {.name = "openledger account list",
                                         .usage = "",
                                         .about = "Lists the accounts on the ledger.",
                                         .settings = LIST_SETTINGS,
                                         .count = 3};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    Openledger__V1__ListRequest request = OPENLEDGER__V1__LIST_REQUEST__INIT;
    const Openledger__V1__ListAccountsReply *reply;
    request.query = (char *)(uintptr_t)settings_text(cli.settings, "query");
    request.page_token = (char *)(uintptr_t)settings_text(cli.settings, "page");
    request.page_size = (uint32_t)settings_u64(cli.settings, "page-size");
    code = 0;
    if (cli_call(&cli, "Registry.ListAccounts", &request.base, &reply) != ERR_OK) {
        code = cli_fail(&cli, "account list");
    } else if (!cli_print_json(&cli, &reply->base)) {
        static const char *const HEADERS[] = {"ACCOUNT", "NAME", ">ENTRY"};
        struct output_table *table = output_table_create(3, HEADERS);
        for (size_t i = 0; i < reply->n_accounts; i++) {
            char text[ACCOUNT_ID_TEXT_SIZE];
            output_cell(table, "%s", cli_account(reply->accounts[i]->account, text));
            output_cell(table, "%s", reply->accounts[i]->name);
            output_cell(table, "%llu", (unsigned long long)reply->accounts[i]->index);
        }
        output_table_finish(table);
        if (reply->next_page_token[0] != '\0') {
            printf("more: --page %s\n", reply->next_page_token);
        }
    }
    cli_close(&cli);
    return code;
}

int cmd_account(int argc, char **argv)
{
    static const struct command COMMANDS[] = {
        {"open", "open the signing key's account", account_open},
        {"show", "balance, key and bonds of an account", account_show},
        {"list", "list and search accounts", account_list},
        {NULL, NULL, NULL}};
    return cli_dispatch("openledger account", COMMANDS, argc, argv);
}

int cmd_balance(int argc, char **argv)
{
    static const struct cli_spec SPEC = {.name = "openledger balance",
                                         .usage = "ACCOUNT",
                                         .about = "Shows what an account has.",
                                         .positional_min = 1,
                                         .positional_max = 1};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    code = show_account(&cli, settings_positional(cli.settings, 0));
    cli_close(&cli);
    return code;
}

int cmd_transfer(int argc, char **argv)
{
    static const struct setting SETTINGS[] = {
        {.name = "memo", .type = SETTING_TEXT, .fallback = "", .doc = "a word to the receiver"}};
    static const struct cli_spec SPEC = {.name = "openledger transfer",
                                         .usage = "TO AMOUNT",
                                         .about = "Sends AMOUNT OPEN to an account.",
                                         .settings = SETTINGS,
                                         .count = 1,
                                         .positional_min = 2,
                                         .positional_max = 2};
    struct cli cli;
    struct key_pair *keys = NULL;
    struct account_id to;
    struct digest tx;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    enum err err = cli_signer(&cli, &keys);
    err = err != ERR_OK ? err : cli_parse_account(&cli, settings_positional(cli.settings, 0), &to);
    err = err != ERR_OK ? err
                        : act_transfer(&cli, keys, &to, settings_positional(cli.settings, 1),
                                       settings_text(cli.settings, "memo"), &tx);
    if (err == ERR_OK) {
        char hex[2 * DIGEST_SIZE + 1];
        printf("%s\n", hex_encode(tx.bytes, DIGEST_SIZE, hex));
    }
    code = err == ERR_OK ? 0 : cli_fail(&cli, "transfer");
    key_pair_destroy(keys);
    cli_close(&cli);
    return code;
}

/* ---- blocks ---- */

int cmd_block(int argc, char **argv)
{
    static const struct cli_spec SPEC = {.name = "openledger block",
                                         .usage = "[HEIGHT]",
                                         .about = "Shows a block's header; the newest by default.",
                                         .positional_max = 1};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    Openledger__V1__GetBlockRequest request = OPENLEDGER__V1__GET_BLOCK_REQUEST__INIT;
    const Openledger__V1__BlockRecord *block;
    code = 0;
    if ((settings_positional_count(cli.settings) > 0 &&
         cli_parse_number(&cli, settings_positional(cli.settings, 0), INT64_MAX, &request.height) !=
             ERR_OK) ||
        cli_call(&cli, "Settlement.GetBlock", &request.base, &block) != ERR_OK) {
        code = cli_fail(&cli, "block");
    } else if (!cli_print_json(&cli, &block->base)) {
        const Openledger__V1__BlockHeader *header = block->decoded;
        char hex[2 * DIGEST_SIZE + 1];
        char when[32];
        printf("height         %llu\n", (unsigned long long)header->height);
        printf("time           %s\n", cli_time(header->time_ms, when));
        printf("entries        %llu to %llu\n", (unsigned long long)header->first_index,
               (unsigned long long)header->last_index);
        printf("entries root   %s\n", cli_hex(header->entries_root, hex));
        printf("postings root  %s\n", cli_hex(header->postings_root, hex));
        printf("state root     %s\n", cli_hex(header->state_root, hex));
        printf("previous       %s\n", cli_hex(header->previous, hex));
        printf("hash           %s\n", cli_hex(block->hash, hex));
    }
    cli_close(&cli);
    return code;
}
