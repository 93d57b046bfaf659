/* cmd_report.c - evidence: two batches that contradict each other, an item that is wrong by itself, two
 * checkpoints of one size. The ledger checks it again and slashes. */
#include <stdio.h>
#include <string.h>

#include "services/openledger/act.h"
#include "services/openledger/commands.h"
#include "services/openledger/output.h"
#include "shared/base/hex.h"
#include "shared/crypto/signed_note.h"
#include "shared/ledger/evidence.h"

static const struct setting SETTINGS[] = {
    {.name = "shares", .type = SETTING_BOOL, .fallback = "false", .doc = "batches of shares"}};

static int finish(struct cli *cli, enum err err, Openledger__V1__TxBody *action, const char *what)
{
    struct key_pair *keys = NULL;
    struct digest tx;
    err = err != ERR_OK ? err : cli_signer(cli, &keys);
    err = err != ERR_OK ? err : act_submit(cli, keys, action, &tx);
    if (err == ERR_OK) {
        char hex[2 * DIGEST_SIZE + 1];
        printf("%s\n", hex_encode(tx.bytes, DIGEST_SIZE, hex));
    }
    key_pair_destroy(keys);
    int code = err == ERR_OK ? 0 : cli_fail(cli, what);
    cli_close(cli);
    return code;
}

static enum err item_read(struct cli *cli, size_t word, struct buf *batch, bool shares,
                          struct ledger_signed_item *out)
{
    const char *place = settings_positional(cli->settings, word + 1);
    uint64_t number = 0;
    enum err err = cli_parse_number(cli, place, LEDGER_BATCH_ITEMS_MAX, &number);
    err = err != ERR_OK ? err
                        : file_read(settings_positional(cli->settings, word), batch, &cli->note);
    return err != ERR_OK
               ? err
               : ledger_signed_item(buf_bytes(batch), shares, (uint32_t)number, out, &cli->note);
}

static int report_conflict(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger report conflict",
        .usage = "BATCH PLACE BATCH PLACE",
        .about = "Reports two receipts for one number, or two share sets for one receipt.",
        .settings = SETTINGS,
        .count = 1,
        .positional_min = 4,
        .positional_max = 4};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct ledger_signed_item first;
    struct ledger_signed_item second;
    struct buf batches[2];
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__ReportConflict report = OPENLEDGER__V1__REPORT_CONFLICT__INIT;
    report.shares = settings_bool(cli.settings, "shares");
    report.first = &first.message;
    report.second = &second.message;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_REPORT_CONFLICT;
    action.report_conflict = &report;
    buf_init(&batches[0], LEDGER_BATCH_BLOB_MAX);
    buf_init(&batches[1], LEDGER_BATCH_BLOB_MAX);
    enum err err = item_read(&cli, 0, &batches[0], report.shares, &first);
    err = err != ERR_OK ? err : item_read(&cli, 2, &batches[1], report.shares, &second);
    code = finish(&cli, err, &action, "report conflict");
    buf_deinit(&batches[0]);
    buf_deinit(&batches[1]);
    return code;
}

static int report_invalid(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger report invalid",
        .usage = "BATCH PLACE",
        .about = "Reports a signed receipt or share set that is contradicted.",
        .settings = SETTINGS,
        .count = 1,
        .positional_min = 2,
        .positional_max = 2};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct ledger_signed_item item;
    struct buf batch;
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__ReportInvalid report = OPENLEDGER__V1__REPORT_INVALID__INIT;
    report.shares = settings_bool(cli.settings, "shares");
    report.item = &item.message;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_REPORT_INVALID;
    action.report_invalid = &report;
    buf_init(&batch, LEDGER_BATCH_BLOB_MAX);
    enum err err = item_read(&cli, 0, &batch, report.shares, &item);
    code = finish(&cli, err, &action, "report invalid");
    buf_deinit(&batch);
    return code;
}

static int report_checkpoints(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger report checkpoints",
        .usage = "KEY CHECKPOINT CHECKPOINT",
        .about = "Reports two checkpoints (files) of one size that a key (64 hex digits) signed.",
        .positional_min = 3,
        .positional_max = 3};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct digest key;
    struct buf notes[2];
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__ReportCheckpoints report = OPENLEDGER__V1__REPORT_CHECKPOINTS__INIT;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_REPORT_CHECKPOINTS;
    action.report_checkpoints = &report;
    enum err err = cli_parse_digest(&cli, settings_positional(cli.settings, 0), "key", &key);
    for (size_t i = 0; i < 2; i++) {
        buf_init(&notes[i], SIGNED_NOTE_MAX);
        err = err != ERR_OK
                  ? err
                  : file_read(settings_positional(cli.settings, 1 + i), &notes[i], &cli.note);
    }
    report.key = ledger_binary(key.bytes, DIGEST_SIZE);
    report.first = ledger_binary(notes[0].data, notes[0].size);
    report.second = ledger_binary(notes[1].data, notes[1].size);
    code = finish(&cli, err, &action, "report checkpoints");
    buf_deinit(&notes[0]);
    buf_deinit(&notes[1]);
    return code;
}

int cmd_report(int argc, char **argv)
{
    static const struct command COMMANDS[] = {
        {"conflict", "two signed things about one slot", report_conflict},
        {"invalid", "a signed item that is contradicted", report_invalid},
        {"checkpoints", "two checkpoints of one size", report_checkpoints},
        {NULL, NULL, NULL}};
    return cli_dispatch("openledger report", COMMANDS, argc, argv);
}
