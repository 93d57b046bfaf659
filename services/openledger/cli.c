/* cli.c - see cli.h. */
#include "services/openledger/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "services/openledger/output.h"
#include "shared/base/base64.h"
#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/json/message.h"
#include "shared/platform/clock.h"

enum { SETTINGS_COMMON = 5, FRESH_MS = 5000, FRESH_POLL_MS = 100 };

static const struct setting COMMON[SETTINGS_COMMON] = {
    {.name = "url",
     .type = SETTING_TEXT,
     .fallback = "http://127.0.0.1:8080",
     .doc = "the front door"},
    {.name = "home",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "folder of keys and of a local suite; empty: ~/.openledger"},
    {.name = "json", .type = SETTING_BOOL, .fallback = "false", .doc = "print JSON, for programs"},
    {.name = "as",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "name of the key that signs; empty: the only one there is"},
    {.name = "passphrase",
     .type = SETTING_TEXT,
     .fallback = "",
     .secret = true,
     .doc = "opens a protected key"},
};

/* The merged table must outlive the settings: one command runs per process. */
static struct setting merged[SETTINGS_MAX];
static struct settings_spec merged_spec;
static char default_home[FILE_PATH_SIZE];

static void merge(const struct cli_spec *spec)
{
    CHECK(spec->count + SETTINGS_COMMON <= SETTINGS_MAX);
    (void)memcpy(merged, COMMON, sizeof COMMON);
    for (size_t i = 0; i < spec->count; i++) {
        merged[SETTINGS_COMMON + i] = spec->settings[i];
    }
    merged_spec = (struct settings_spec){.program = spec->name,
                                         .usage = spec->usage,
                                         .about = spec->about,
                                         .table = merged,
                                         .count = SETTINGS_COMMON + spec->count,
                                         .positional_min = spec->positional_min,
                                         .positional_max = spec->positional_max};
}

enum err cli_connect(struct cli *cli, const char *url, const char *home)
{
    cli->url = url;
    cli->home = home;
    cli->arena = arena_create(CLI_ARENA_MAX);
    cli->client = rpc_client_http(url, NULL);
    return cli->arena == NULL || cli->client == NULL ? ERR_NO_MEMORY : ERR_OK;
}

int cli_open(struct cli *cli, const struct cli_spec *spec, int argc, char **argv)
{
    *cli = (struct cli){.settings = NULL};
    merge(spec);
    if (settings_load(&merged_spec, argc, argv, &cli->settings, &cli->note) != ERR_OK) {
        (void)output_error("%s: %s (try --help)", spec->name, cli->note.text);
        return 2;
    }
    if (settings_help_wanted(cli->settings)) {
        struct buf help;
        buf_init(&help, 1U << 20);
        settings_help(&merged_spec, &help);
        (void)fputs(buf_text(&help), stdout);
        buf_deinit(&help);
        cli_close(cli);
        return 0;
    }
    cli->json = settings_bool(cli->settings, "json");
    const char *home = settings_text(cli->settings, "home");
    if (home[0] == '\0') {
        const char *user = settings_environment("HOME");
        if (file_path(default_home, "%s/.openledger", user != NULL ? user : ".") != ERR_OK) {
            return output_error("HOME is too long");
        }
        home = default_home;
    }
    crypto_start();
    if (cli_connect(cli, settings_text(cli->settings, "url"), home) != ERR_OK) {
        return output_error("out of memory");
    }
    return -1;
}

void cli_close(struct cli *cli)
{
    rpc_client_destroy(cli->client);
    arena_destroy(cli->arena);
    settings_destroy(cli->settings);
    *cli = (struct cli){.settings = NULL};
}

static void print_commands(const char *program, const struct command *commands)
{
    printf("usage: %s <command> [options]\n\n", program);
    for (const struct command *command = commands; command->name != NULL; command++) {
        printf("  %-14s %s\n", command->name, command->summary);
    }
    printf("\n%s <command> --help tells more.\n", program);
}

int cli_dispatch(const char *program, const struct command *commands, int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_commands(program, commands);
        return argc < 2 ? 2 : 0;
    }
    for (const struct command *command = commands; command->name != NULL; command++) {
        if (strcmp(argv[1], command->name) == 0) {
            return command->run(argc - 1, argv + 1);
        }
    }
    (void)output_error("no command '%s' (%s --help lists them)", argv[1], program);
    return 2;
}

int cli_fail(const struct cli *cli, const char *what)
{
    return output_error("%s: %s", what, cli->note.text[0] != '\0' ? cli->note.text : "failed");
}

enum err cli_call(struct cli *cli, const char *method, const ProtobufCMessage *request,
                  void *out_reply)
{
    ProtobufCMessage *reply;
    cli->note.text[0] = '\0';
    enum err err = rpc_call(cli->client, method, request, 0, cli->arena, &reply, &cli->note);
    if (err == ERR_OK) {
        (void)memcpy(out_reply, &reply, sizeof reply);
    } else if (cli->note.text[0] == '\0') {
        (void)note_set(&cli->note, err, "%s: %s", method, err_meaning(err));
    }
    return err;
}

enum err cli_call_fresh(struct cli *cli, const char *method, const ProtobufCMessage *request,
                        void *out_reply)
{
    uint64_t end_ms = clock_mono_ms() + FRESH_MS;
    enum err err = cli_call(cli, method, request, out_reply);
    while ((err == ERR_NOT_FOUND || err == ERR_UNAVAILABLE) && clock_mono_ms() < end_ms) {
        clock_sleep_ms(FRESH_POLL_MS);
        err = cli_call(cli, method, request, out_reply);
    }
    return err;
}

bool cli_print_json(const struct cli *cli, const ProtobufCMessage *message)
{
    if (!cli->json) {
        return false;
    }
    struct buf text;
    struct note note;
    buf_init(&text, CLI_ARENA_MAX);
    if (json_from_message(message, JSON_MESSAGE_PRETTY | JSON_MESSAGE_DEFAULTS, &text, &note) !=
        ERR_OK) {
        (void)output_error("%s", note.text);
    } else {
        printf("%s\n", buf_text(&text));
    }
    buf_deinit(&text);
    return true;
}

/* A key's name becomes part of a path: letters, digits, '-', '_' and '.', not at the start. */
static bool key_name_valid(const char *name)
{
    static const char LETTERS[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t size = strlen(name);
    return size >= 1 && size <= 64 && name[0] != '.' && strspn(name, LETTERS) == size;
}

enum err cli_key_path(const char *home, const char *name, char out[FILE_PATH_SIZE])
{
    return key_name_valid(name) ? file_path(out, "%s/keys/%s.json", home, name) : ERR_INVALID;
}

/* With no --as: the only key in the folder. */
static enum err only_key(struct cli *cli, char out_name[FILE_PATH_SIZE])
{
    char folder[FILE_PATH_SIZE];
    struct file_names names = {.count = 0};
    enum err err = file_path(folder, "%s/keys", cli->home);
    err = err != ERR_OK ? err : file_list(folder, 10000, &names, &cli->note);
    size_t size = names.count == 1 ? strlen(names.items[0]) : 0;
    if (err == ERR_OK && size > 5 && strcmp(names.items[0] + size - 5, ".json") == 0) {
        err = file_path(out_name, "%.*s", (int)(size - 5), names.items[0]);
    } else if (err == ERR_OK || err == ERR_NOT_FOUND) {
        err = note_set(&cli->note, ERR_INVALID, "%zu keys in %s: name the one that signs with --as",
                       names.count, folder);
    }
    file_names_deinit(&names);
    return err;
}

enum err cli_signer(struct cli *cli, struct key_pair **out_keys)
{
    char only[FILE_PATH_SIZE];
    char path[FILE_PATH_SIZE];
    const char *name = settings_text(cli->settings, "as");
    enum err err = ERR_OK;
    if (name[0] == '\0') {
        err = only_key(cli, only);
        name = only;
    }
    if (err == ERR_OK && cli_key_path(cli->home, name, path) != ERR_OK) {
        err = note_set(&cli->note, ERR_INVALID, "'%.64s' is not a key name", name);
    }
    return err != ERR_OK ? err
                         : key_pair_load(path, settings_text(cli->settings, "passphrase"), out_keys,
                                         &cli->note);
}

enum err cli_parse_account(struct cli *cli, const char *text, struct account_id *out_account)
{
    if (account_id_parse(text, out_account) == ERR_OK) {
        return ERR_OK;
    }
    char path[FILE_PATH_SIZE];
    struct key_pair *keys = NULL;
    if (cli_key_path(cli->home, text, path) != ERR_OK || !file_exists(path)) {
        return note_set(&cli->note, ERR_INVALID,
                        "'%.80s' is neither an account (open1...) nor a key in %s/keys", text,
                        cli->home);
    }
    enum err err =
        key_pair_load(path, settings_text(cli->settings, "passphrase"), &keys, &cli->note);
    if (err == ERR_OK) {
        account_id_from_key(key_pair_public(keys), out_account);
    }
    key_pair_destroy(keys);
    return err;
}

enum err cli_parse_number(struct cli *cli, const char *text, uint64_t max, uint64_t *out)
{
    char *end = NULL;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || strlen(text) > 19 || value > max) {
        return note_set(&cli->note, ERR_INVALID, "'%.32s' is not a number up to %llu", text,
                        (unsigned long long)max);
    }
    *out = value;
    return ERR_OK;
}

enum err cli_parse_leg(struct cli *cli, const char *text, uint64_t *out_entry, uint32_t *out_leg)
{
    enum { ENTRY_DIGITS_MAX = 18, LEG_DIGITS_MAX = 9 }; /* fit their types whatever the digits */
    size_t entry_size = strspn(text, "0123456789");
    const char *leg = text[entry_size] == ':' ? text + entry_size + 1 : "";
    size_t leg_size = strspn(leg, "0123456789");
    if (entry_size == 0 || entry_size > ENTRY_DIGITS_MAX || leg_size == 0 ||
        leg_size > LEG_DIGITS_MAX || leg[leg_size] != '\0') {
        return note_set(&cli->note, ERR_INVALID, "'%.40s' is not ENTRY:LEG", text);
    }
    *out_entry = strtoull(text, NULL, 10);
    *out_leg = (uint32_t)strtoul(leg, NULL, 10);
    return ERR_OK;
}

enum err cli_parse_digest(struct cli *cli, const char *text, const char *what,
                          struct digest *out_digest)
{
    if (hex_decode(text, strlen(text), out_digest->bytes, DIGEST_SIZE) == ERR_OK ||
        digest_parse(text, out_digest) == ERR_OK) {
        return ERR_OK;
    }
    struct buf decoded; /* base64: as --json prints digests, proto3's JSON */
    buf_init(&decoded, DIGEST_SIZE);
    enum err err = base64_decode(bytes_of_text(text), true, &decoded);
    bool whole = err == ERR_OK && decoded.size == DIGEST_SIZE;
    if (whole) {
        memcpy(out_digest->bytes, decoded.data, DIGEST_SIZE);
    }
    buf_deinit(&decoded);
    return whole ? ERR_OK
                 : note_set(&cli->note, ERR_INVALID,
                            "%s '%.80s' is neither 64 hex digits nor 44 of base64", what, text);
}

const char *cli_hex(ProtobufCBinaryData field, char out[2 * DIGEST_SIZE + 1])
{
    if (field.len == 0 || field.len > DIGEST_SIZE) {
        (void)snprintf(out, 2, "-");
        return out;
    }
    return hex_encode(field.data, field.len, out);
}

const char *cli_account(ProtobufCBinaryData field, char out[ACCOUNT_ID_TEXT_SIZE])
{
    struct account_id account;
    if (field.len != ACCOUNT_ID_SIZE) {
        (void)snprintf(out, 2, "-");
        return out;
    }
    (void)memcpy(account.bytes, field.data, ACCOUNT_ID_SIZE);
    return account_id_format(&account, out);
}

const char *cli_time(uint64_t time_ms, char out[32])
{
    time_t seconds = (time_t)(time_ms / 1000);
    struct tm parts;
    if (gmtime_r(&seconds, &parts) == NULL ||
        strftime(out, 32, "%Y-%m-%d %H:%M:%SZ", &parts) == 0) {
        (void)snprintf(out, 2, "-");
    }
    return out;
}
