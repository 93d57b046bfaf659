/* cmd_stake.c - stake: bonds in roles, delegations to validators, unbonding, rewards. */
#include <stdio.h>
#include <string.h>

#include "services/openledger/act.h"
#include "services/openledger/commands.h"
#include "services/openledger/output.h"
#include "shared/base/hex.h"
#include "shared/ledger/ledger.h"
#include "shared/ledger/tx.h"

enum { CLAIM_MAX = 64 };

static const char *const ROLES[LEDGER_ROLE_END] = {"-", "validator", "gateway", "attribution",
                                                   "trainer"};

static const char *role_name(Openledger__V1__Role role)
{
    return (int)role > 0 && (int)role < LEDGER_ROLE_END ? ROLES[(int)role] : "?";
}

static enum err role_parse(struct cli *cli, const char *word, Openledger__V1__Role *out)
{
    for (int i = 1; i < LEDGER_ROLE_END; i++) {
        if (strcmp(ROLES[i], word) == 0) {
            *out = (Openledger__V1__Role)i;
            return ERR_OK;
        }
    }
    return note_set(&cli->note, ERR_INVALID,
                    "'%.32s' is not a role: validator, gateway, attribution, trainer", word);
}

/* Signs, submits and prints the transaction's id, unless err says that something was wrong before. */
static int submit(struct cli *cli, enum err err, Openledger__V1__TxBody *action, const char *what)
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

static enum err stake_of(struct cli *cli, const struct account_id *id,
                         const Openledger__V1__StakeState **out)
{
    Openledger__V1__GetAccountRequest request = OPENLEDGER__V1__GET_ACCOUNT_REQUEST__INIT;
    request.account = ledger_binary(id->bytes, ACCOUNT_ID_SIZE);
    return cli_call(cli, "Settlement.GetStake", &request.base, out);
}

static void show(const Openledger__V1__StakeState *state)
{
    char account[ACCOUNT_ID_TEXT_SIZE];
    char when[32];
    printf("rewards    %s OPEN\nvotes      %s OPEN\nvoting by  %s\n", state->rewards, state->votes,
           cli_account(state->delegate, account));
    for (size_t i = 0; i < state->n_bonds; i++) {
        printf("bonded     %s OPEN as %s\n", state->bonds[i]->amount,
               role_name(state->bonds[i]->role));
    }
    for (size_t i = 0; i < state->n_delegations; i++) {
        printf("delegated  %s OPEN to %s\n", state->delegations[i]->amount,
               cli_account(state->delegations[i]->validator, account));
    }
    for (size_t i = 0; i < state->n_unbondings; i++) {
        const Openledger__V1__UnbondingState *item = state->unbondings[i];
        printf("unbonding  %s OPEN as %s, free from %s\n", item->amount, role_name(item->role),
               cli_time(item->release_ms, when));
    }
}

static int stake_show(int argc, char **argv)
{
    static const struct cli_spec SPEC = {.name = "openledger stake show",
                                         .usage = "ACCOUNT",
                                         .about = "Shows an account's stake, rewards and votes.",
                                         .positional_min = 1,
                                         .positional_max = 1};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct account_id id;
    const Openledger__V1__StakeState *state = NULL;
    enum err err = cli_parse_account(&cli, settings_positional(cli.settings, 0), &id);
    err = err != ERR_OK ? err : stake_of(&cli, &id, &state);
    code = err == ERR_OK ? 0 : cli_fail(&cli, "stake show");
    if (err == ERR_OK && !cli_print_json(&cli, &state->base)) {
        show(state);
    }
    cli_close(&cli);
    return code;
}

static int stake_bond(int argc, char **argv)
{
    static const struct cli_spec SPEC = {.name = "openledger stake bond",
                                         .usage = "ROLE AMOUNT",
                                         .about = "Bonds OPEN as validator, gateway, attribution "
                                                  "or trainer.",
                                         .positional_min = 2,
                                         .positional_max = 2};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__Bond bond = OPENLEDGER__V1__BOND__INIT;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_BOND;
    action.bond = &bond;
    bond.amount = (char *)(uintptr_t)settings_positional(cli.settings, 1);
    enum err err = role_parse(&cli, settings_positional(cli.settings, 0), &bond.role);
    return submit(&cli, err, &action, "stake bond");
}

static int stake_unbond(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger stake unbond",
        .usage = "ROLE AMOUNT",
        .about = "Takes OPEN out of a bond; free for `stake release` after the unbonding time.",
        .positional_min = 2,
        .positional_max = 2};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__Unbond unbond = OPENLEDGER__V1__UNBOND__INIT;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_UNBOND;
    action.unbond = &unbond;
    unbond.amount = (char *)(uintptr_t)settings_positional(cli.settings, 1);
    enum err err = role_parse(&cli, settings_positional(cli.settings, 0), &unbond.role);
    return submit(&cli, err, &action, "stake unbond");
}

static int stake_release(int argc, char **argv)
{
    static const struct setting SETTINGS[] = {
        {.name = "validator",
         .type = SETTING_TEXT,
         .fallback = "",
         .doc = "account from which stake was undelegated; empty: a bond of one's own"}};
    static const struct cli_spec SPEC = {.name = "openledger stake release",
                                         .usage = "ROLE",
                                         .about = "Pays out what was unbonded long enough ago.",
                                         .settings = SETTINGS,
                                         .count = 1,
                                         .positional_min = 1,
                                         .positional_max = 1};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct account_id validator;
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__Release release = OPENLEDGER__V1__RELEASE__INIT;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_RELEASE;
    action.release = &release;
    enum err err = role_parse(&cli, settings_positional(cli.settings, 0), &release.role);
    if (err == ERR_OK && settings_text(cli.settings, "validator")[0] != '\0') {
        err = cli_parse_account(&cli, settings_text(cli.settings, "validator"), &validator);
        release.validator = ledger_binary(validator.bytes, ACCOUNT_ID_SIZE);
    }
    return submit(&cli, err, &action, "stake release");
}

static int stake_delegate(int argc, char **argv)
{
    static const struct cli_spec SPEC = {.name = "openledger stake delegate",
                                         .usage = "VALIDATOR AMOUNT",
                                         .about = "Stakes OPEN behind a validator's bond.",
                                         .positional_min = 2,
                                         .positional_max = 2};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct account_id validator;
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__Delegate delegate = OPENLEDGER__V1__DELEGATE__INIT;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_DELEGATE;
    action.delegate = &delegate;
    delegate.validator = ledger_binary(validator.bytes, ACCOUNT_ID_SIZE);
    delegate.amount = (char *)(uintptr_t)settings_positional(cli.settings, 1);
    enum err err = cli_parse_account(&cli, settings_positional(cli.settings, 0), &validator);
    return submit(&cli, err, &action, "stake delegate");
}

static int stake_undelegate(int argc, char **argv)
{
    static const struct cli_spec SPEC = {.name = "openledger stake undelegate",
                                         .usage = "VALIDATOR AMOUNT",
                                         .about = "Takes OPEN back from behind a validator.",
                                         .positional_min = 2,
                                         .positional_max = 2};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct account_id validator;
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__Undelegate undelegate = OPENLEDGER__V1__UNDELEGATE__INIT;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_UNDELEGATE;
    action.undelegate = &undelegate;
    undelegate.validator = ledger_binary(validator.bytes, ACCOUNT_ID_SIZE);
    undelegate.amount = (char *)(uintptr_t)settings_positional(cli.settings, 1);
    enum err err = cli_parse_account(&cli, settings_positional(cli.settings, 0), &validator);
    return submit(&cli, err, &action, "stake undelegate");
}

static int stake_claim(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger stake claim",
        .usage = "",
        .about = "Pays out what one's bonds and delegations have earned."};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct key_pair *keys = NULL;
    struct account_id self;
    const Openledger__V1__StakeState *state = NULL;
    ProtobufCBinaryData validators[CLAIM_MAX];
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__ClaimRewards claim = OPENLEDGER__V1__CLAIM_REWARDS__INIT;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_CLAIM_REWARDS;
    action.claim_rewards = &claim;
    claim.validators = validators;
    enum err err = cli_signer(&cli, &keys);
    if (err == ERR_OK) {
        account_id_from_key(key_pair_public(keys), &self);
        err = stake_of(&cli, &self, &state);
    }
    for (size_t i = 0; err == ERR_OK && i < state->n_delegations && i < CLAIM_MAX; i++) {
        validators[claim.n_validators++] = state->delegations[i]->validator;
    }
    key_pair_destroy(keys);
    return submit(&cli, err, &action, "stake claim");
}

int cmd_stake(int argc, char **argv)
{
    static const struct command COMMANDS[] = {
        {"show", "stake, rewards and votes of an account", stake_show},
        {"bond", "bond OPEN in a role", stake_bond},
        {"unbond", "take OPEN out of a bond", stake_unbond},
        {"release", "get what was unbonded", stake_release},
        {"delegate", "stake behind a validator", stake_delegate},
        {"undelegate", "take it back", stake_undelegate},
        {"claim", "get what stake has earned", stake_claim},
        {NULL, NULL, NULL}};
    return cli_dispatch("openledger stake", COMMANDS, argc, argv);
}
