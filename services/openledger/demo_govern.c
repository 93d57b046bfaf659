/* demo_govern.c - one governance change from proposal to effect; see demo.h. */
#include <stdio.h>
#include <string.h>

#include "services/openledger/demo.h"
#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/params.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"

enum { PLATFORM_BP = 500, CONTRIBUTORS_BP = 5500, STATE_WAIT_MS = 60000, POLL_MS = 200 };

static enum err parameters_now(struct demo *demo, struct ledger_parameters *out)
{
    Openledger__V1__Empty request = OPENLEDGER__V1__EMPTY__INIT;
    const Openledger__V1__LedgerInfo *info;
    enum err err = cli_call(&demo->cli, "Settlement.GetInfo", &request.base, &info);
    return err != ERR_OK ? err
                         : ledger_parameters_from_message(info->parameters, out, &demo->cli.note);
}

/* Votes are counted by blocks, and the settlement seals them while a vote is open: only time is needed. */
static enum err wait_state(struct demo *demo, const struct digest *proposal, const char *wanted,
                           const Openledger__V1__ProposalState **out)
{
    Openledger__V1__GetProposalRequest request = OPENLEDGER__V1__GET_PROPOSAL_REQUEST__INIT;
    uint64_t end_ms = clock_mono_ms() + STATE_WAIT_MS;
    request.proposal = ledger_binary(proposal->bytes, DIGEST_SIZE);
    for (;;) {
        enum err err = cli_call(&demo->cli, "Settlement.GetProposal", &request.base, out);
        if (err != ERR_OK || strcmp((*out)->state, wanted) == 0) {
            return err;
        }
        if (clock_mono_ms() >= end_ms) {
            return note_set(&demo->cli.note, ERR_TIMEOUT, "the proposal is %s, not %s",
                            (*out)->state, wanted);
        }
        clock_sleep_ms(POLL_MS);
    }
}

static enum err propose(struct demo *demo, const struct demo_person *proposer,
                        struct digest *out_proposal)
{
    char platform[16];
    char contributors[16];
    (void)snprintf(platform, sizeof platform, "%d", PLATFORM_BP);
    (void)snprintf(contributors, sizeof contributors, "%d", CONTRIBUTORS_BP);
    Openledger__V1__ParameterChange changes[2] = {OPENLEDGER__V1__PARAMETER_CHANGE__INIT,
                                                  OPENLEDGER__V1__PARAMETER_CHANGE__INIT};
    Openledger__V1__ParameterChange *pointers[2] = {&changes[0], &changes[1]};
    char names[2][32] = {"platform_bp", "contributors_bp"};
    char title[] = "Half of the platform's part goes to contributors";
    changes[0].name = names[0];
    changes[0].value = platform;
    changes[1].name = names[1];
    changes[1].value = contributors;
    Openledger__V1__Propose action = OPENLEDGER__V1__PROPOSE__INIT;
    action.title = title;
    action.n_changes = 2;
    action.changes = pointers;
    Openledger__V1__TxBody body = OPENLEDGER__V1__TX_BODY__INIT;
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_PROPOSE;
    body.propose = &action;
    return act_submit(&demo->cli, proposer->keys, &body, out_proposal);
}

static enum err vote(struct demo *demo, const struct digest *proposal)
{
    Openledger__V1__Vote action = OPENLEDGER__V1__VOTE__INIT;
    Openledger__V1__TxBody body = OPENLEDGER__V1__TX_BODY__INIT;
    action.proposal = ledger_binary(proposal->bytes, DIGEST_SIZE);
    action.choice = OPENLEDGER__V1__VOTE_CHOICE__VOTE_CHOICE_FOR;
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_VOTE;
    body.vote = &action;
    enum err err = ERR_OK;
    for (uint32_t i = 1; i <= 2 && err == ERR_OK; i++) {
        char name[DEMO_NAME];
        (void)snprintf(name, sizeof name, "validator-%u", i);
        const struct demo_person *validator = demo_find_person(demo, name);
        CHECK(validator != NULL);
        err = act_submit(&demo->cli, validator->keys, &body, NULL);
    }
    return err;
}

/* Queues, waits for the timelock, executes: anybody may; the user does. */
static enum err enact(struct demo *demo, const struct digest *proposal)
{
    const Openledger__V1__ProposalState *state = NULL;
    Openledger__V1__QueueProposal queue = OPENLEDGER__V1__QUEUE_PROPOSAL__INIT;
    Openledger__V1__ExecuteProposal execute = OPENLEDGER__V1__EXECUTE_PROPOSAL__INIT;
    Openledger__V1__TxBody body = OPENLEDGER__V1__TX_BODY__INIT;
    queue.proposal = execute.proposal = ledger_binary(proposal->bytes, DIGEST_SIZE);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_QUEUE_PROPOSAL;
    body.queue_proposal = &queue;
    enum err err = act_submit(&demo->cli, demo->user->keys, &body, NULL);
    err = err != ERR_OK ? err : wait_state(demo, proposal, "queued", &state);
    while (err == ERR_OK && clock_real_ms() < state->eta_ms) {
        clock_sleep_ms(POLL_MS);
    }
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_EXECUTE_PROPOSAL;
    body.execute_proposal = &execute;
    return err != ERR_OK ? err : act_submit(&demo->cli, demo->user->keys, &body, NULL);
}

/* The next answer's legs, as the ledger has them, are those of the new parameters. */
static enum err judge_split(struct demo *demo, const struct ledger_parameters *parameters,
                            const struct demo_answer *answer)
{
    Openledger__V1__GetReceiptRequest request = OPENLEDGER__V1__GET_RECEIPT_REQUEST__INIT;
    const Openledger__V1__ReceiptState *state;
    struct ledger_fee_split split;
    struct amount fee;
    struct amount platform = AMOUNT_ZERO;
    struct amount contributors = AMOUNT_ZERO;
    request.receipt = ledger_binary(answer->answer.receipt.bytes, DIGEST_SIZE);
    enum err err = cli_call(&demo->cli, "Settlement.GetReceipt", &request.base, &state);
    err =
        err != ERR_OK ? err : ledger_amount_parse(answer->answer.fee, "fee", &fee, &demo->cli.note);
    for (size_t i = 0; err == ERR_OK && i < state->n_postings; i++) {
        const Openledger__V1__Posting *posting = state->postings[i];
        struct amount *out = strcmp(posting->reason, "fee.platform") == 0            ? &platform
                             : strcmp(posting->reason, "fee.contributors.hold") == 0 ? &contributors
                                                                                     : NULL;
        if (out != NULL && posting->credit) {
            err = ledger_amount_parse(posting->amount, "amount", out, &demo->cli.note);
        }
    }
    if (err != ERR_OK) {
        return err;
    }
    ledger_split_fee(parameters, fee, &split);
    (void)snprintf(demo->governance.fee, AMOUNT_TEXT_SIZE, "%s", answer->answer.fee);
    (void)amount_format(platform, demo->governance.platform_part);
    return amount_equal(platform, split.platform) &&
                   amount_equal(contributors, split.contributors) && !amount_is_zero(platform)
               ? ERR_OK
               : note_set(&demo->cli.note, ERR_CORRUPT,
                          "the platform got %s of a fee of %s: not by the parameters in force",
                          demo->governance.platform_part, demo->governance.fee);
}

enum err demo_govern(struct demo *demo)
{
    const struct demo_person *proposer = demo_find_person(demo, "validator-1");
    const struct demo_answer *answer = NULL;
    const Openledger__V1__ProposalState *state = NULL;
    struct ledger_parameters before;
    struct ledger_parameters after;
    struct digest proposal;
    CHECK(proposer != NULL);
    enum err err = parameters_now(demo, &before);
    err = err != ERR_OK ? err : propose(demo, proposer, &proposal);
    err = err != ERR_OK ? err : wait_state(demo, &proposal, "active", &state);
    err = err != ERR_OK ? err : vote(demo, &proposal);
    err = err != ERR_OK ? err : wait_state(demo, &proposal, "succeeded", &state);
    if (err != ERR_OK) {
        return err;
    }
    (void)hex_encode(proposal.bytes, DIGEST_SIZE, demo->governance.proposal);
    (void)snprintf(demo->governance.votes_for, AMOUNT_TEXT_SIZE, "%s", state->votes_for);
    (void)snprintf(demo->governance.quorum, AMOUNT_TEXT_SIZE, "%s", state->quorum);
    printf("  \"%s\": %s OPEN of stake for, quorum %s of %s\n", state->title, state->votes_for,
           state->quorum, state->staked);
    err = enact(demo, &proposal);
    err = err != ERR_OK ? err : parameters_now(demo, &after);
    err = err != ERR_OK ? err : demo_ask_again(demo, &answer);
    err = err != ERR_OK ? err : judge_split(demo, &after, answer);
    if (err != ERR_OK) {
        return err;
    }
    demo->governance.platform_bp_before = before.platform_bp;
    demo->governance.platform_bp_after = after.platform_bp;
    printf("  platform_bp was %u and is %u; of the next answer's %s OPEN the platform got %s\n",
           before.platform_bp, after.platform_bp, demo->governance.fee,
           demo->governance.platform_part);
    return after.platform_bp == PLATFORM_BP && before.platform_bp != PLATFORM_BP
               ? ERR_OK
               : note_set(&demo->cli.note, ERR_CORRUPT, "platform_bp is %u, not %d",
                          after.platform_bp, PLATFORM_BP);
}
