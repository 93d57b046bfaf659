/* cmd_custody.c - money that waits and keys that can be replaced: holds, linked transfers, guardians,
 * vesting. */
#include <stdio.h>
#include <string.h>

#include "services/openledger/act.h"
#include "services/openledger/commands.h"
#include "services/openledger/form.h"
#include "services/openledger/output.h"
#include "shared/base/hex.h"
#include "shared/ledger/custody.h"

/* ---- holds -------------------------------------------------------------------------------------- */

static int hold_open(int argc, char **argv)
{
    static const struct form FORM = {
        "openledger hold open", "TO AMOUNT ARBITER DAYS [MEMO]",
        "Sets OPEN aside for TO until ARBITER decides; prints the hold's id.",
        OPENLEDGER__V1__TX_BODY__ACTION_HOLD_TRANSFER,
        "to:account amount:text arbiter:account expires_ms:days memo:text?"};
    return form_run(&FORM, argc, argv);
}

static int hold_post(int argc, char **argv)
{
    static const struct form FORM = {
        "openledger hold post", "HOLD [AMOUNT]",
        "Pays the receiver of a hold all of it, or AMOUNT; the rest goes back.",
        OPENLEDGER__V1__TX_BODY__ACTION_POST_TRANSFER, "hold:digest amount:text?"};
    return form_run(&FORM, argc, argv);
}

static int hold_void(int argc, char **argv)
{
    static const struct form FORM = {"openledger hold void", "HOLD",
                                     "Gives a hold back to its payer.",
                                     OPENLEDGER__V1__TX_BODY__ACTION_VOID_TRANSFER, "hold:digest"};
    return form_run(&FORM, argc, argv);
}

int cmd_hold(int argc, char **argv)
{
    static const struct command COMMANDS[] = {
        {"open", "set money aside until an arbiter decides", hold_open},
        {"post", "pay it to the receiver", hold_post},
        {"void", "give it back to the payer", hold_void},
        {NULL, NULL, NULL}};
    return cli_dispatch("openledger hold", COMMANDS, argc, argv);
}

/* ---- linked transfers --------------------------------------------------------------------------- */

struct linked {
    Openledger__V1__LinkedTransfer items[LEDGER_LINKED_MAX];
    Openledger__V1__LinkedTransfer *pointers[LEDGER_LINKED_MAX];
    struct account_id from[LEDGER_LINKED_MAX], to[LEDGER_LINKED_MAX];
    struct ledger_signer signers[LEDGER_SIGNATURES_MAX];
    struct account_id signer_ids[LEDGER_SIGNATURES_MAX];
    struct key_pair *keys[LEDGER_SIGNATURES_MAX];
    size_t signer_count;
};

/* Loads the local key of that name, unless it signs already; *out_id: its account. */
static enum err linked_signer(struct cli *cli, struct linked *linked, const char *name,
                              struct account_id *out_id)
{
    char path[FILE_PATH_SIZE];
    struct key_pair *keys = NULL;
    enum err err = cli_key_path(cli->home, name, path);
    err = err != ERR_OK
              ? note_set(&cli->note, err, "'%.64s' is not a key name", name)
              : key_pair_load(path, settings_text(cli->settings, "passphrase"), &keys, &cli->note);
    if (err != ERR_OK) {
        return err;
    }
    account_id_from_key(key_pair_public(keys), out_id);
    for (size_t i = 0; i < linked->signer_count; i++) {
        if (account_id_equal(&linked->signer_ids[i], out_id)) {
            key_pair_destroy(keys);
            return ERR_OK;
        }
    }
    if (linked->signer_count == LEDGER_SIGNATURES_MAX) {
        key_pair_destroy(keys);
        return note_set(&cli->note, ERR_LIMIT, "more than %d senders", LEDGER_SIGNATURES_MAX);
    }
    size_t at = linked->signer_count++;
    linked->signer_ids[at] = *out_id;
    linked->keys[at] = keys;
    linked->signers[at] =
        (struct ledger_signer){.account = &linked->signer_ids[at], .keys = linked->keys[at]};
    return ERR_OK;
}

int cmd_linked(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger linked",
        .usage = "FROM TO AMOUNT [FROM TO AMOUNT]...",
        .about = "Transfers as one, all or none; every FROM is a local key and signs.",
        .positional_min = 3,
        .positional_max = 3 * LEDGER_LINKED_MAX};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct linked linked = {.signer_count = 0};
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__LinkedTransfers message = OPENLEDGER__V1__LINKED_TRANSFERS__INIT;
    size_t count = settings_positional_count(cli.settings) / 3;
    struct digest tx;
    enum err err = settings_positional_count(cli.settings) % 3 == 0
                       ? ERR_OK
                       : note_set(&cli.note, ERR_INVALID, "not FROM TO AMOUNT each time");
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        Openledger__V1__LinkedTransfer *item = &linked.items[i];
        openledger__v1__linked_transfer__init(item);
        err =
            linked_signer(&cli, &linked, settings_positional(cli.settings, 3 * i), &linked.from[i]);
        err = err != ERR_OK ? err
                            : cli_parse_account(&cli, settings_positional(cli.settings, 3 * i + 1),
                                                &linked.to[i]);
        item->from = ledger_binary(linked.from[i].bytes, ACCOUNT_ID_SIZE);
        item->to = ledger_binary(linked.to[i].bytes, ACCOUNT_ID_SIZE);
        item->amount = arena_strdup(cli.arena, settings_positional(cli.settings, 3 * i + 2));
        linked.pointers[i] = item;
    }
    message.transfers = linked.pointers;
    message.n_transfers = count;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_LINKED_TRANSFERS;
    action.linked_transfers = &message;
    err = err != ERR_OK
              ? err
              : act_submit_signed(&cli, linked.signers, linked.signer_count, &action, &tx);
    if (err == ERR_OK) {
        char hex[2 * DIGEST_SIZE + 1];
        printf("%s\n", hex_encode(tx.bytes, DIGEST_SIZE, hex));
    }
    code = err == ERR_OK ? 0 : cli_fail(&cli, "linked");
    for (size_t i = 0; i < linked.signer_count; i++) {
        key_pair_destroy(linked.keys[i]);
    }
    cli_close(&cli);
    return code;
}

/* ---- guardians ---------------------------------------------------------------------------------- */

static int recovery_guardians(int argc, char **argv)
{
    static const struct form FORM = {
        "openledger recovery guardians", "THRESHOLD HOURS [ACCOUNT]...",
        "Sets who together can give this account a new key, after a delay (0 0: nobody); accounts "
        "ascend.",
        OPENLEDGER__V1__TX_BODY__ACTION_SET_GUARDIANS,
        "threshold:number delay_ms:hours guardians:accounts"};
    return form_run(&FORM, argc, argv);
}

static int recovery_approve(int argc, char **argv)
{
    static const struct form FORM = {
        "openledger recovery approve", "ACCOUNT KEY",
        "As a guardian: ACCOUNT may get this public key (64 hex digits).",
        OPENLEDGER__V1__TX_BODY__ACTION_APPROVE_RECOVERY, "account:account key:digest"};
    return form_run(&FORM, argc, argv);
}

static int recovery_cancel(int argc, char **argv)
{
    static const struct form FORM = {"openledger recovery cancel", "",
                                     "Forgets what guardians approved for this account.",
                                     OPENLEDGER__V1__TX_BODY__ACTION_CANCEL_RECOVERY, ""};
    return form_run(&FORM, argc, argv);
}

/* Signed by the new key for an account that it does not name. */
static int recovery_complete(int argc, char **argv)
{
    static const struct cli_spec SPEC = {.name = "openledger recovery complete",
                                         .usage = "ACCOUNT",
                                         .about = "Gives ACCOUNT the signing key as its new key.",
                                         .positional_min = 1,
                                         .positional_max = 1};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__CompleteRecovery complete = OPENLEDGER__V1__COMPLETE_RECOVERY__INIT;
    struct key_pair *keys = NULL;
    struct account_id account;
    struct digest tx;
    enum err err = cli_parse_account(&cli, settings_positional(cli.settings, 0), &account);
    err = err != ERR_OK ? err : cli_signer(&cli, &keys);
    if (err == ERR_OK) {
        const struct ledger_signer signer = {.account = &account, .keys = keys};
        complete.key = ledger_binary(key_pair_public(keys)->bytes, PUBLIC_KEY_SIZE);
        action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_COMPLETE_RECOVERY;
        action.complete_recovery = &complete;
        err = act_submit_signed(&cli, &signer, 1, &action, &tx);
    }
    if (err == ERR_OK) {
        char hex[2 * DIGEST_SIZE + 1];
        printf("%s\n", hex_encode(tx.bytes, DIGEST_SIZE, hex));
    }
    key_pair_destroy(keys);
    code = err == ERR_OK ? 0 : cli_fail(&cli, "recovery complete");
    cli_close(&cli);
    return code;
}

int cmd_recovery(int argc, char **argv)
{
    static const struct command COMMANDS[] = {
        {"guardians", "set who can recover this account", recovery_guardians},
        {"approve", "as a guardian, approve a key", recovery_approve},
        {"complete", "take the account over with the new key", recovery_complete},
        {"cancel", "forget what guardians approved", recovery_cancel},
        {NULL, NULL, NULL}};
    return cli_dispatch("openledger recovery", COMMANDS, argc, argv);
}
