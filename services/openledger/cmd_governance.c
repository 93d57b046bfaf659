/* cmd_governance.c - governance and stake: parameters in force, proposals and votes, bonds and rewards. */
#include <stdio.h>
#include <string.h>

#include "services/openledger/act.h"
#include "services/openledger/commands.h"
#include "services/openledger/output.h"
#include "shared/base/hex.h"
#include "shared/json/json.h"
#include "shared/ledger/governance.h"
#include "shared/ledger/params.h"
#include "shared/ledger/tx.h"

static char *text_of(const char *borrowed)
{
    return (char *)(uintptr_t)borrowed; /* packing only reads */
}

/* Signs, submits and prints the transaction's id. */
static int submit(struct cli *cli, Openledger__V1__TxBody *action, const char *what)
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
    return err == ERR_OK ? 0 : cli_fail(cli, what);
}

/* ---- parameters --------------------------------------------------------------------------------- */

static void params_json(const struct ledger_parameters *parameters)
{
    struct buf json;
    struct json_writer writer;
    char value[AMOUNT_TEXT_SIZE];
    buf_init(&json, 1U << 20);
    json_writer_init(&writer, &json, true);
    json_begin_array(&writer);
    for (size_t i = 0; i < LEDGER_PARAMETER_COUNT; i++) {
        const struct ledger_parameter *row = &LEDGER_PARAMETERS[i];
        json_begin_object(&writer);
        json_put_text(&writer, "name", row->name);
        json_put_text(&writer, "value", ledger_parameter_format(row, parameters, value));
        json_put_text(&writer, "unit", row->unit);
        json_put_text(&writer, "default", row->fallback);
        json_put_text(&writer, "minimum", row->minimum);
        json_put_text(&writer, "maximum", row->maximum);
        json_put_text(&writer, "meaning", row->meaning);
        json_end_object(&writer);
    }
    json_end_array(&writer);
    printf("%s\n", buf_text(&json));
    buf_deinit(&json);
}

static void params_table(const struct ledger_parameters *parameters)
{
    static const char *const HEADERS[] = {"PARAMETER", ">VALUE", "UNIT", ">DEFAULT", "BOUNDS"};
    struct output_table *table = output_table_create(5, HEADERS);
    char value[AMOUNT_TEXT_SIZE];
    for (size_t i = 0; i < LEDGER_PARAMETER_COUNT; i++) {
        const struct ledger_parameter *row = &LEDGER_PARAMETERS[i];
        output_cell(table, "%s", row->name);
        output_cell(table, "%s", ledger_parameter_format(row, parameters, value));
        output_cell(table, "%s", row->unit);
        output_cell(table, "%s", row->fallback);
        output_cell(table, "%s to %s", row->minimum, row->maximum);
    }
    output_table_finish(table);
}

static int governance_params(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger governance params",
        .usage = "",
        .about = "Shows the parameters in force, as the ledger's state has them."};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    Openledger__V1__Empty request = OPENLEDGER__V1__EMPTY__INIT;
    const Openledger__V1__LedgerInfo *info;
    struct ledger_parameters parameters;
    enum err err = cli_call(&cli, "Settlement.GetInfo", &request.base, &info);
    if (err == ERR_OK) {
        err = info->parameters == NULL
                  ? note_set(&cli.note, ERR_INVALID, "the ledger states no parameters")
                  : ledger_parameters_from_message(info->parameters, &parameters, &cli.note);
    }
    code = err == ERR_OK ? 0 : cli_fail(&cli, "governance params");
    if (err == ERR_OK && cli.json) {
        params_json(&parameters);
    } else if (err == ERR_OK) {
        params_table(&parameters);
    }
    cli_close(&cli);
    return code;
}

/* ---- proposals ---------------------------------------------------------------------------------- */

static int governance_list(int argc, char **argv)
{
    static const struct setting SETTINGS[] = {
        {.name = "page", .type = SETTING_TEXT, .fallback = "", .doc = "token of the page to show"}};
    static const struct cli_spec SPEC = {.name = "openledger governance list",
                                         .usage = "",
                                         .about = "Lists proposals, newest first.",
                                         .settings = SETTINGS,
                                         .count = 1};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    Openledger__V1__ListRequest request = OPENLEDGER__V1__LIST_REQUEST__INIT;
    const Openledger__V1__ListProposalsReply *reply;
    request.page_token = text_of(settings_text(cli.settings, "page"));
    code = 0;
    if (cli_call(&cli, "Settlement.ListProposals", &request.base, &reply) != ERR_OK) {
        code = cli_fail(&cli, "governance list");
    } else if (!cli_print_json(&cli, &reply->base)) {
        static const char *const HEADERS[] = {"PROPOSAL", "STATE", ">FOR", ">AGAINST", "TITLE"};
        struct output_table *table = output_table_create(5, HEADERS);
        for (size_t i = 0; i < reply->n_proposals; i++) {
            const Openledger__V1__ProposalState *item = reply->proposals[i];
            char hex[2 * DIGEST_SIZE + 1];
            output_cell(table, "%s", cli_hex(item->proposal, hex));
            output_cell(table, "%s", item->state);
            output_cell(table, "%s", item->votes_for);
            output_cell(table, "%s", item->votes_against);
            output_cell(table, "%s", item->title);
        }
        output_table_finish(table);
        if (reply->next_page_token[0] != '\0') {
            printf("more: --page %s\n", reply->next_page_token);
        }
    }
    cli_close(&cli);
    return code;
}

static int governance_show(int argc, char **argv)
{
    static const struct cli_spec SPEC = {.name = "openledger governance show",
                                         .usage = "PROPOSAL",
                                         .about = "Shows a proposal, its votes and its times.",
                                         .positional_min = 1,
                                         .positional_max = 1};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct digest id;
    const Openledger__V1__ProposalState *state = NULL;
    enum err err = cli_parse_digest(&cli, settings_positional(cli.settings, 0), "proposal", &id);
    if (err == ERR_OK) {
        Openledger__V1__GetProposalRequest request = OPENLEDGER__V1__GET_PROPOSAL_REQUEST__INIT;
        request.proposal = ledger_binary(id.bytes, DIGEST_SIZE);
        err = cli_call(&cli, "Settlement.GetProposal", &request.base, &state);
    }
    code = err == ERR_OK ? 0 : cli_fail(&cli, "governance show");
    if (err == ERR_OK && !cli_print_json(&cli, &state->base)) {
        char account[ACCOUNT_ID_TEXT_SIZE];
        char when[32];
        printf("title     %s\nstate     %s\nproposer  %s\n", state->title, state->state,
               cli_account(state->proposer, account));
        for (size_t i = 0; i < state->n_changes; i++) {
            printf("changes   %s to %s\n", state->changes[i]->name, state->changes[i]->value);
        }
        printf("snapshot  block %llu\nvotes     until block %llu\n",
               (unsigned long long)state->snapshot_height, (unsigned long long)state->end_height);
        printf("for       %s OPEN\nagainst   %s OPEN\nabstain   %s OPEN\nquorum    %s of %s OPEN\n",
               state->votes_for, state->votes_against, state->votes_abstain, state->quorum,
               state->staked);
        if (state->eta_ms != 0) {
            printf("execute   from %s", cli_time(state->eta_ms, when));
            printf(" until %s\n", cli_time(state->expires_ms, when));
        }
    }
    cli_close(&cli);
    return code;
}

static int governance_propose(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger governance propose",
        .usage = "TITLE NAME=VALUE...",
        .about = "Proposes to change parameters; prints the proposal's id.",
        .positional_min = 2,
        .positional_max = 1 + LEDGER_CHANGES_MAX};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__Propose propose = OPENLEDGER__V1__PROPOSE__INIT;
    Openledger__V1__ParameterChange changes[LEDGER_CHANGES_MAX];
    Openledger__V1__ParameterChange *pointers[LEDGER_CHANGES_MAX];
    propose.title = text_of(settings_positional(cli.settings, 0));
    propose.changes = pointers;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_PROPOSE;
    action.propose = &propose;
    for (size_t i = 1; i < settings_positional_count(cli.settings) && code < 0; i++) {
        char *pair = arena_strdup(cli.arena, settings_positional(cli.settings, i));
        char *equals = pair == NULL ? NULL : strchr(pair, '=');
        if (equals == NULL) {
            code = output_error("governance propose: '%s' is not NAME=VALUE",
                                settings_positional(cli.settings, i));
            break;
        }
        *equals = '\0';
        Openledger__V1__ParameterChange *change = &changes[propose.n_changes];
        openledger__v1__parameter_change__init(change);
        change->name = pair;
        change->value = equals + 1;
        pointers[propose.n_changes++] = change;
    }
    code = code < 0 ? submit(&cli, &action, "governance propose") : code;
    cli_close(&cli);
    return code;
}

static int governance_vote(int argc, char **argv)
{
    static const struct cli_spec SPEC = {.name = "openledger governance vote",
                                         .usage = "PROPOSAL for|against|abstain",
                                         .about = "Votes with the stake at the snapshot.",
                                         .positional_min = 2,
                                         .positional_max = 2};
    static const char *const CHOICES[] = {NULL, "against", "for", "abstain"};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct digest id;
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__Vote vote = OPENLEDGER__V1__VOTE__INIT;
    for (int i = 1; i <= LEDGER_CHOICE_ABSTAIN; i++) {
        if (strcmp(CHOICES[i], settings_positional(cli.settings, 1)) == 0) {
            vote.choice = (Openledger__V1__VoteChoice)i;
        }
    }
    vote.proposal = ledger_binary(id.bytes, DIGEST_SIZE);
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_VOTE;
    action.vote = &vote;
    if (vote.choice == OPENLEDGER__V1__VOTE_CHOICE__VOTE_CHOICE_UNSPECIFIED) {
        code = output_error("governance vote: '%s' is not for, against or abstain",
                            settings_positional(cli.settings, 1));
    } else if (cli_parse_digest(&cli, settings_positional(cli.settings, 0), "proposal", &id) !=
               ERR_OK) {
        code = cli_fail(&cli, "governance vote");
    } else {
        code = submit(&cli, &action, "governance vote");
    }
    cli_close(&cli);
    return code;
}

/* queue, execute and cancel differ in their name alone. */
static int on_proposal(const struct cli_spec *spec, Openledger__V1__TxBody__ActionCase kind,
                       int argc, char **argv)
{
    struct cli cli;
    int code = cli_open(&cli, spec, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct digest id;
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__QueueProposal queue = OPENLEDGER__V1__QUEUE_PROPOSAL__INIT;
    Openledger__V1__ExecuteProposal execute = OPENLEDGER__V1__EXECUTE_PROPOSAL__INIT;
    Openledger__V1__CancelProposal cancel = OPENLEDGER__V1__CANCEL_PROPOSAL__INIT;
    queue.proposal = execute.proposal = cancel.proposal = ledger_binary(id.bytes, DIGEST_SIZE);
    action.action_case = kind;
    if (kind == OPENLEDGER__V1__TX_BODY__ACTION_QUEUE_PROPOSAL) {
        action.queue_proposal = &queue;
    } else if (kind == OPENLEDGER__V1__TX_BODY__ACTION_EXECUTE_PROPOSAL) {
        action.execute_proposal = &execute;
    } else {
        action.cancel_proposal = &cancel;
    }
    enum err err = cli_parse_digest(&cli, settings_positional(cli.settings, 0), "proposal", &id);
    code = err == ERR_OK ? submit(&cli, &action, spec->name) : cli_fail(&cli, spec->name);
    cli_close(&cli);
    return code;
}

#define ON_PROPOSAL(verb, KIND, words)                                                             \
    static int governance_##verb(int argc, char **argv)                                            \
    {                                                                                              \
        static const struct cli_spec SPEC = {.name = "openledger governance " #verb,               \
                                             .usage = "PROPOSAL",                                  \
                                             .about = (words),                                     \
                                             .positional_min = 1,                                  \
                                             .positional_max = 1};                                 \
        return on_proposal(&SPEC, OPENLEDGER__V1__TX_BODY__ACTION_##KIND, argc, argv);             \
    }
ON_PROPOSAL(queue, QUEUE_PROPOSAL, "Starts the timelock of a proposal that was accepted.")
ON_PROPOSAL(execute, EXECUTE_PROPOSAL, "Puts a queued proposal into force after its timelock.")
ON_PROPOSAL(cancel, CANCEL_PROPOSAL,
            "Cancels one's own proposal, or one whose proposer has lost its votes.")

static int governance_delegate(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger governance delegate",
        .usage = "[ACCOUNT]",
        .about = "Lets ACCOUNT vote with one's stake; without it, one votes oneself again.",
        .positional_max = 1};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct account_id to;
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__DelegateVotes votes = OPENLEDGER__V1__DELEGATE_VOTES__INIT;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_DELEGATE_VOTES;
    action.delegate_votes = &votes;
    enum err err = ERR_OK;
    if (settings_positional_count(cli.settings) == 1) {
        err = cli_parse_account(&cli, settings_positional(cli.settings, 0), &to);
        votes.to = ledger_binary(to.bytes, ACCOUNT_ID_SIZE);
    }
    code = err == ERR_OK ? submit(&cli, &action, "governance delegate")
                         : cli_fail(&cli, "governance delegate");
    cli_close(&cli);
    return code;
}

int cmd_governance(int argc, char **argv)
{
    static const struct command COMMANDS[] = {
        {"params", "the parameters in force", governance_params},
        {"list", "proposals, newest first", governance_list},
        {"show", "a proposal and its votes", governance_show},
        {"propose", "propose to change parameters", governance_propose},
        {"vote", "vote for, against or abstain", governance_vote},
        {"queue", "start an accepted proposal's timelock", governance_queue},
        {"execute", "put a queued proposal into force", governance_execute},
        {"cancel", "cancel a proposal", governance_cancel},
        {"delegate", "let another account vote with one's stake", governance_delegate},
        {NULL, NULL, NULL}};
    return cli_dispatch("openledger governance", COMMANDS, argc, argv);
}
