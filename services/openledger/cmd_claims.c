/* cmd_claims.c - vesting, and lists of payments under a Merkle root: publish, claim, close.
 *
 * A list is a text file: "ACCOUNT AMOUNT" on each line; line i is leaf i. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/openledger/act.h"
#include "services/openledger/commands.h"
#include "services/openledger/form.h"
#include "services/openledger/output.h"
#include "shared/base/hex.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/claims.h"
#include "shared/merkle/merkle.h"
#include "shared/platform/clock.h"

enum { LIST_BYTES_MAX = 1 << 30, LEAF_MAX = 256, DAY_MS = 86400000 };

struct list {
    struct buf text;
    struct digest *leaves;
    struct account_id *accounts;
    const char **amounts; /* in text */
    size_t count;
};

static void list_free(struct list *list)
{
    buf_deinit(&list->text);
    free(list->leaves);
    free(list->accounts);
    free(list->amounts);
}

/* One line, cut in place at its blank. */
static enum err list_line(struct cli *cli, struct list *list, char *line)
{
    struct buf leaf;
    struct amount amount;
    size_t i = list->count;
    char *blank = strchr(line, ' ');
    if (blank == NULL) {
        return note_set(&cli->note, ERR_INVALID, "line %zu is not ACCOUNT AMOUNT", i + 1);
    }
    *blank = '\0';
    list->amounts[i] = blank + 1;
    enum err err = cli_parse_account(cli, line, &list->accounts[i]);
    err = err != ERR_OK ? err : ledger_amount_parse(blank + 1, "amount", &amount, &cli->note);
    buf_init(&leaf, LEAF_MAX);
    err = err != ERR_OK ? err : ledger_claim_leaf(&list->accounts[i], blank + 1, &leaf);
    if (err == ERR_OK) {
        merkle_leaf(leaf.data, leaf.size, &list->leaves[i]);
        list->count++;
    }
    buf_deinit(&leaf);
    return err != ERR_OK ? note_wrap(&cli->note, err, "line %zu", i + 1) : ERR_OK;
}

static enum err list_read(struct cli *cli, const char *path, struct list *list)
{
    size_t lines = 1;
    *list = (struct list){.count = 0};
    buf_init(&list->text, LIST_BYTES_MAX);
    enum err err = file_read(path, &list->text, &cli->note);
    if (err != ERR_OK) {
        return err;
    }
    char *at =
        buf_text(&list->text) == NULL ? NULL : (char *)list->text.data; /* ends it with NUL */
    for (size_t i = 0; at != NULL && i < list->text.size; i++) {
        lines += at[i] == '\n';
    }
    list->leaves = calloc(lines, sizeof *list->leaves);
    list->accounts = calloc(lines, sizeof *list->accounts);
    list->amounts = calloc(lines, sizeof *list->amounts);
    if (at == NULL || list->leaves == NULL || list->accounts == NULL || list->amounts == NULL) {
        return ERR_NO_MEMORY;
    }
    char *rest = NULL;
    for (char *line = strtok_r(at, "\n", &rest); line != NULL && err == ERR_OK;
         line = strtok_r(NULL, "\n", &rest)) {
        err = list_line(cli, list, line);
    }
    return err == ERR_OK && list->count == 0
               ? note_set(&cli->note, ERR_INVALID, "the list is empty")
               : err;
}

static enum err submit(struct cli *cli, Openledger__V1__TxBody *action)
{
    struct key_pair *keys = NULL;
    struct digest tx;
    enum err err = cli_signer(cli, &keys);
    err = err != ERR_OK ? err : act_submit(cli, keys, action, &tx);
    if (err == ERR_OK) {
        char hex[2 * DIGEST_SIZE + 1];
        printf("%s\n", hex_encode(tx.bytes, DIGEST_SIZE, hex));
    }
    key_pair_destroy(keys);
    return err;
}

static int claims_publish(int argc, char **argv)
{
    static const struct setting SETTINGS[] = {
        {.name = "days",
         .type = SETTING_U64,
         .fallback = "90",
         .min = 1,
         .max = 366,
         .doc = "how long it can be claimed"},
        {.name = "title", .type = SETTING_TEXT, .fallback = "", .doc = "what it is for"}};
    static const struct cli_spec SPEC = {
        .name = "openledger claims publish",
        .usage = "FILE",
        .about =
            "Sets aside the sum of a list (ACCOUNT AMOUNT on each line); prints the claims' id.",
        .settings = SETTINGS,
        .count = 2,
        .positional_min = 1,
        .positional_max = 1};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct list list;
    struct merkle_head head;
    struct amount total = AMOUNT_ZERO;
    char text[AMOUNT_TEXT_SIZE];
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__PublishClaims publish = OPENLEDGER__V1__PUBLISH_CLAIMS__INIT;
    enum err err = list_read(&cli, settings_positional(cli.settings, 0), &list);
    for (size_t i = 0; i < list.count && err == ERR_OK; i++) {
        struct amount amount;
        err = amount_parse(list.amounts[i], &amount);
        err = err != ERR_OK ? err : amount_add(total, amount, &total);
    }
    if (err == ERR_OK) {
        merkle_head((struct merkle_leaves){list.leaves, list.count}, &head);
        publish.root = ledger_binary(head.root.bytes, DIGEST_SIZE);
        publish.count = (uint32_t)list.count;
        publish.total = (char *)(uintptr_t)amount_format(total, text);
        publish.expires_ms = clock_real_ms() + settings_u64(cli.settings, "days") * DAY_MS;
        publish.title = (char *)(uintptr_t)settings_text(cli.settings, "title");
        action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_PUBLISH_CLAIMS;
        action.publish_claims = &publish;
        err = submit(&cli, &action);
    }
    list_free(&list);
    code = err == ERR_OK ? 0 : cli_fail(&cli, "claims publish");
    cli_close(&cli);
    return code;
}

/* Claims leaf number of the list. */
static enum err claim_line(struct cli *cli, const struct list *list, size_t number,
                           const struct digest *claims)
{
    struct merkle_proof proof;
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__Claim claim = OPENLEDGER__V1__CLAIM__INIT;
    enum err err = merkle_prove((struct merkle_leaves){list->leaves, list->count}, number, &proof);
    if (err != ERR_OK) {
        return err;
    }
    claim.claims = ledger_binary(claims->bytes, DIGEST_SIZE);
    claim.number = (uint32_t)number;
    claim.amount = (char *)(uintptr_t)list->amounts[number];
    claim.path = ledger_binary(proof.path, (size_t)proof.path_count * DIGEST_SIZE);
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_CLAIM;
    action.claim = &claim;
    return submit(cli, &action);
}

static int claims_claim(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger claims claim",
        .usage = "CLAIMS FILE",
        .about = "Claims every line of a published list that is for the signing account.",
        .positional_min = 2,
        .positional_max = 2};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct list list;
    struct digest claims;
    struct account_id self;
    struct key_pair *keys = NULL;
    size_t found = 0;
    enum err err = list_read(&cli, settings_positional(cli.settings, 1), &list);
    err = err != ERR_OK
              ? err
              : cli_parse_digest(&cli, settings_positional(cli.settings, 0), "claims", &claims);
    err = err != ERR_OK ? err : cli_signer(&cli, &keys);
    if (err == ERR_OK) {
        account_id_from_key(key_pair_public(keys), &self);
    }
    for (size_t i = 0; i < list.count && err == ERR_OK; i++) {
        if (account_id_equal(&list.accounts[i], &self)) {
            found++;
            err = claim_line(&cli, &list, i, &claims);
        }
    }
    if (err == ERR_OK && found == 0) {
        err = note_set(&cli.note, ERR_NOT_FOUND, "the list has no line for the signing account");
    }
    key_pair_destroy(keys);
    list_free(&list);
    code = err == ERR_OK ? 0 : cli_fail(&cli, "claims claim");
    cli_close(&cli);
    return code;
}

static int claims_close(int argc, char **argv)
{
    static const struct form FORM = {"openledger claims close", "CLAIMS",
                                     "Gives what nobody claimed back to the publisher.",
                                     OPENLEDGER__V1__TX_BODY__ACTION_CLOSE_CLAIMS, "claims:digest"};
    return form_run(&FORM, argc, argv);
}

static int claims_vested(int argc, char **argv)
{
    static const struct form FORM = {"openledger claims vested", "",
                                     "Pays out what has vested of the account's allocation.",
                                     OPENLEDGER__V1__TX_BODY__ACTION_CLAIM_VESTED, ""};
    return form_run(&FORM, argc, argv);
}

int cmd_claims(int argc, char **argv)
{
    static const struct command COMMANDS[] = {
        {"vested", "get what has vested", claims_vested},
        {"publish", "set money aside for a list of accounts", claims_publish},
        {"claim", "get one's lines of a list", claims_claim},
        {"close", "give back what nobody claimed", claims_close},
        {NULL, NULL, NULL}};
    return cli_dispatch("openledger claims", COMMANDS, argc, argv);
}
