/* answer_stake.c - answers about stake, rewards, votes and proposals; see answer.h. */
#include <stdlib.h>
#include <string.h>

#include "services/settlement/answer.h"
#include "shared/base/check.h"
#include "shared/ledger/governance.h"
#include "shared/ledger/stake.h"
#include "shared/ledger/tx.h"

enum { PROPOSALS_PAGE = 50, DELEGATIONS_MAX = 1000 };

static char *grains_text(struct arena *arena, uint64_t grains)
{
    struct amount amount;
    CHECK(amount_mul(amount_from_units(grains), LEDGER_STAKE_GRAIN, &amount) == ERR_OK);
    return answer_amount_text(arena, amount);
}

/* ---- stake -------------------------------------------------------------------------------------- */

static enum err fill_bonds(const struct ledger *ledger, const struct account_id *id,
                           struct arena *arena, Openledger__V1__StakeState *out)
{
    out->bonds = arena_alloc_array(arena, LEDGER_ROLE_END, sizeof(void *));
    for (int role = 1; role < LEDGER_ROLE_END && out->bonds != NULL; role++) {
        struct amount amount = ledger_bond(ledger, id, (enum ledger_role)role);
        Openledger__V1__BondState *bond = arena_alloc(arena, sizeof *bond);
        if (bond == NULL) {
            return ERR_LIMIT;
        }
        if (!amount_is_zero(amount)) {
            openledger__v1__bond_state__init(bond);
            bond->role = (Openledger__V1__Role)role;
            bond->amount = answer_amount_text(arena, amount);
            out->bonds[out->n_bonds++] = bond;
        }
    }
    return out->bonds == NULL ? ERR_LIMIT : ERR_OK;
}

static enum err fill_delegations(const struct ledger *ledger, const struct account_id *id,
                                 struct arena *arena, Openledger__V1__StakeState *out)
{
    const struct ledger_delegation *item = NULL;
    out->delegations = arena_alloc_array(arena, DELEGATIONS_MAX, sizeof(void *));
    if (out->delegations == NULL) {
        return ERR_LIMIT;
    }
    while ((item = ledger_next_delegation(ledger, item)) != NULL &&
           out->n_delegations < DELEGATIONS_MAX) {
        if (!account_id_equal(&item->delegator, id) || amount_is_zero(item->amount)) {
            continue;
        }
        Openledger__V1__DelegationState *state = arena_alloc(arena, sizeof *state);
        if (state == NULL) {
            return ERR_LIMIT;
        }
        openledger__v1__delegation_state__init(state);
        state->validator = answer_copy(arena, item->validator.bytes, ACCOUNT_ID_SIZE);
        state->amount = answer_amount_text(arena, item->amount);
        out->delegations[out->n_delegations++] = state;
    }
    return ERR_OK;
}

static enum err fill_unbondings(const struct ledger *ledger, const struct account_id *id,
                                struct arena *arena, Openledger__V1__StakeState *out)
{
    static const struct account_id NONE = {{0}};
    const struct ledger_unbonding *item = NULL;
    out->unbondings = arena_alloc_array(arena, DELEGATIONS_MAX, sizeof(void *));
    if (out->unbondings == NULL) {
        return ERR_LIMIT;
    }
    while ((item = ledger_next_unbonding(ledger, item)) != NULL &&
           out->n_unbondings < DELEGATIONS_MAX) {
        if (!account_id_equal(&item->account, id) || amount_is_zero(item->amount)) {
            continue;
        }
        Openledger__V1__UnbondingState *state = arena_alloc(arena, sizeof *state);
        if (state == NULL) {
            return ERR_LIMIT;
        }
        openledger__v1__unbonding_state__init(state);
        state->role = (Openledger__V1__Role)item->role;
        if (!account_id_equal(&item->validator, &NONE)) {
            state->validator = answer_copy(arena, item->validator.bytes, ACCOUNT_ID_SIZE);
        }
        state->amount = answer_amount_text(arena, item->amount);
        state->release_ms = item->release_ms;
        out->unbondings[out->n_unbondings++] = state;
    }
    return ERR_OK;
}

enum err answer_get_stake(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    const Openledger__V1__GetAccountRequest *request = message;
    struct arena *arena = rpc_arena(call);
    struct digest digest;
    struct account_id id;
    struct ledger_head head;
    enum err err = answer_digest_of(call, request->account, "account", &digest);
    err = err ? err : desk_flush(desk);
    if (err != ERR_OK) {
        return err;
    }
    const struct ledger *ledger = settlement_ledger(desk->settlement);
    memcpy(id.bytes, digest.bytes, ACCOUNT_ID_SIZE);
    ledger_head(ledger, &head);
    Openledger__V1__StakeState state = OPENLEDGER__V1__STAKE_STATE__INIT;
    const struct ledger_staker *staker = ledger_staker(ledger, &id);
    err = fill_bonds(ledger, &id, arena, &state);
    err = err ? err : fill_delegations(ledger, &id, arena, &state);
    err = err ? err : fill_unbondings(ledger, &id, arena, &state);
    if (err != ERR_OK) {
        return err;
    }
    state.rewards = answer_amount_text(arena, ledger_rewards(ledger, &id));
    state.votes =
        grains_text(arena, ledger_power_at(ledger, LEDGER_SERIES_VOTES, &id, head.height + 1));
    state.delegate = staker == NULL ? answer_copy(arena, id.bytes, ACCOUNT_ID_SIZE)
                                    : answer_copy(arena, staker->delegate.bytes, ACCOUNT_ID_SIZE);
    return state.votes == NULL ? ERR_LIMIT : rpc_reply(call, &state);
}

/* ---- proposals ---------------------------------------------------------------------------------- */

static enum err fill_changes(const struct ledger_proposal *proposal, struct arena *arena,
                             Openledger__V1__ProposalState *out)
{
    char *lines = arena_strdup(arena, proposal->changes);
    char *rest = NULL;
    out->changes = arena_alloc_array(arena, LEDGER_CHANGES_MAX, sizeof(void *));
    if (lines == NULL || out->changes == NULL) {
        return ERR_LIMIT;
    }
    for (char *line = strtok_r(lines, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        Openledger__V1__ParameterChange *change = arena_alloc(arena, sizeof *change);
        char *space = strchr(line, ' ');
        CHECK(space != NULL);
        if (change == NULL) {
            return ERR_LIMIT;
        }
        *space = '\0';
        openledger__v1__parameter_change__init(change);
        change->name = line;
        change->value = space + 1;
        out->changes[out->n_changes++] = change;
    }
    return ERR_OK;
}

static enum err fill_proposal(const struct ledger *ledger, const struct ledger_proposal *proposal,
                              struct arena *arena, Openledger__V1__ProposalState *out)
{
    openledger__v1__proposal_state__init(out);
    out->proposal = answer_copy(arena, proposal->id.bytes, DIGEST_SIZE);
    out->proposer = answer_copy(arena, proposal->proposer.bytes, ACCOUNT_ID_SIZE);
    out->title = arena_strdup(arena, proposal->title);
    out->state =
        arena_strdup(arena, ledger_proposal_state_name(ledger_proposal_state(ledger, proposal)));
    out->snapshot_height = proposal->snapshot_height;
    out->end_height = proposal->end_height;
    out->votes_for = grains_text(arena, proposal->for_grains);
    out->votes_against = grains_text(arena, proposal->against_grains);
    out->votes_abstain = grains_text(arena, proposal->abstain_grains);
    out->quorum = grains_text(arena, ledger_proposal_quorum(proposal));
    out->staked = grains_text(arena, proposal->staked_grains);
    out->eta_ms = proposal->eta_ms;
    out->expires_ms = proposal->expires_ms;
    out->index = proposal->index;
    return out->staked == NULL ? ERR_LIMIT : fill_changes(proposal, arena, out);
}

enum err answer_get_proposal(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    const Openledger__V1__GetProposalRequest *request = message;
    struct digest id;
    enum err err = answer_digest_of(call, request->proposal, "proposal", &id);
    err = err ? err : desk_flush(desk);
    if (err != ERR_OK) {
        return err;
    }
    const struct ledger *ledger = settlement_ledger(desk->settlement);
    const struct ledger_proposal *proposal = ledger_proposal(ledger, &id);
    if (proposal == NULL) {
        return note_set(rpc_note(call), ERR_NOT_FOUND, "no such proposal on the ledger");
    }
    Openledger__V1__ProposalState state;
    err = fill_proposal(ledger, proposal, rpc_arena(call), &state);
    return err ? err : rpc_reply(call, &state);
}

/* A page token is the entry index before which the next page begins. */
enum err answer_list_proposals(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    const Openledger__V1__ListRequest *request = message;
    struct arena *arena = rpc_arena(call);
    enum err err = desk_flush(desk);
    if (err != ERR_OK) {
        return err;
    }
    char *end = NULL;
    uint64_t before = strtoull(request->page_token, &end, 10);
    if (*end != '\0') {
        return note_set(rpc_note(call), ERR_INVALID, "page_token is not one of ours");
    }
    const struct ledger *ledger = settlement_ledger(desk->settlement);
    uint32_t wanted = request->page_size == 0 || request->page_size > PROPOSALS_PAGE
                          ? PROPOSALS_PAGE
                          : request->page_size;
    Openledger__V1__ListProposalsReply reply = OPENLEDGER__V1__LIST_PROPOSALS_REPLY__INIT;
    const struct ledger_proposal *newest[PROPOSALS_PAGE + 1] = {NULL};
    size_t count = 0; /* the last of them in log order, one more than a page */
    for (const struct ledger_proposal *item = NULL;
         (item = ledger_next_proposal(ledger, item)) != NULL;) {
        if (before == 0 || item->index < before) {
            newest[count++ % (wanted + 1)] = item;
        }
    }
    reply.proposals = arena_alloc_array(arena, wanted, sizeof(void *));
    for (size_t i = 0; i < count && i < wanted && err == ERR_OK; i++) {
        Openledger__V1__ProposalState *state = arena_alloc(arena, sizeof *state);
        if (state == NULL || reply.proposals == NULL) {
            return ERR_LIMIT;
        }
        err = fill_proposal(ledger, newest[(count - 1 - i) % (wanted + 1)], arena, state);
        reply.proposals[reply.n_proposals++] = state;
    }
    if (err == ERR_OK && count > wanted) {
        reply.next_page_token =
            arena_printf(arena, "%llu", (unsigned long long)reply.proposals[wanted - 1]->index);
        err = reply.next_page_token == NULL ? ERR_LIMIT : ERR_OK;
    }
    return err ? err : rpc_reply(call, &reply);
}
