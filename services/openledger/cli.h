/* cli.h - what every command shares: settings, the front door, keys, output.
 *
 * A command is a function (argc, argv) -> exit code: 0 done, 1 failed (the reason is on standard
 * error), 2 wrong usage. argv[0] is the command's own name. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "openledger/v1/services.pb-c.h"
#include "shared/base/account_id.h"
#include "shared/base/arena.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/crypto/keys.h"
#include "shared/platform/file.h"
#include "shared/platform/settings.h"
#include "shared/rpc/rpc.h"

#define CLI_ARENA_MAX (64U << 20) /* replies of one command */

struct command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
};

/* What a command works with. Zeroed, then opened by cli_open. */
struct cli {
    struct settings *settings;
    struct rpc_client *client;
    struct arena *arena; /* replies; freed by cli_close */
    struct note note;
    const char *url;  /* of the front door, without a final '/' */
    const char *home; /* folder of keys */
    bool json;
};

/* Settings that a command adds to the common ones: url, home, json, as, passphrase. */
struct cli_spec {
    const char *name;  /* "datanet contribute" */
    const char *usage; /* positional words, "" when none */
    const char *about;
    const struct setting *settings;
    size_t count;
    uint32_t positional_min, positional_max;
};

/* Reads settings and connects (nothing is sent yet). Returns -1 to go on, or the exit code with which
 * the command should end now: --help, wrong usage. */
MUST_USE int cli_open(struct cli *cli, const struct cli_spec *spec, int argc, char **argv);
void cli_close(struct cli *cli);

/* A client of another front door, with no command line: what the demo uses. */
MUST_USE enum err cli_connect(struct cli *cli, const char *url, const char *home);

/* Runs the subcommand argv[1] of a table ending with {NULL}; prints the list for --help or none. */
int cli_dispatch(const char *program, const struct command *commands, int argc, char **argv);

/* Prints the note with a prefix and returns 1. */
int cli_fail(const struct cli *cli, const char *what);

/* Calls a method through the front door. *out_reply lives until cli_close. */
MUST_USE enum err cli_call(struct cli *cli, const char *method, const ProtobufCMessage *request,
                           void *out_reply);

/* As cli_call, but patient: what was written a moment ago may not have been read from the ledger by
 * every service yet, and a service or the bus may be starting again, so "not found" and "unavailable"
 * are asked again for some seconds. */
MUST_USE enum err cli_call_fresh(struct cli *cli, const char *method,
                                 const ProtobufCMessage *request, void *out_reply);

/* Prints a message as JSON when --json was given and returns true; else returns false. */
bool cli_print_json(const struct cli *cli, const ProtobufCMessage *message);

/* ---- keys: <home>/keys/<name>.json ---- */

/* The key that --as names; the only key in the folder when it names none. */
MUST_USE enum err cli_signer(struct cli *cli, struct key_pair **out_keys);
MUST_USE enum err cli_key_path(const char *home, const char *name, char out[FILE_PATH_SIZE]);
/* "open1...", or the name of a local key. */
MUST_USE enum err cli_parse_account(struct cli *cli, const char *text,
                                    struct account_id *out_account);
/* Decimal digits, at most max. */
MUST_USE enum err cli_parse_number(struct cli *cli, const char *text, uint64_t max, uint64_t *out);
/* "ENTRY:LEG", two decimal numbers: one leg of an entry. */
MUST_USE enum err cli_parse_leg(struct cli *cli, const char *text, uint64_t *out_entry,
                                uint32_t *out_leg);
/* 64 hex digits or "sha256:" and 64 digits. what names it in errors. */
MUST_USE enum err cli_parse_digest(struct cli *cli, const char *text, const char *what,
                                   struct digest *out_digest);

/* ---- texts for tables ---- */

/* A digest field as hex; "-" when empty. */
const char *cli_hex(ProtobufCBinaryData field, char out[2 * DIGEST_SIZE + 1]);
const char *cli_account(ProtobufCBinaryData field, char out[ACCOUNT_ID_TEXT_SIZE]);
/* "2026-11-23 20:36:32Z" */
const char *cli_time(uint64_t time_ms, char out[32]);
