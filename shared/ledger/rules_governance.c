/* rules_governance.c - proposals: propose, vote, queue, execute, cancel. README.md has the rules in
 * words; governance.h the model.
 *
 *     pending --snapshot sealed--> active --end--> succeeded --queue--> queued --execute--> executed
 *        |                           |       \--> defeated       \--too late--> expired
 *        \---------- cancel: from every state but executed, expired, defeated ----> cancelled */
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/machine.h"
#include "shared/ledger/params.h"

enum { BP_TOTAL = 10000 };

/* ---- getters ------------------------------------------------------------------------------------ */

const struct ledger_proposal *ledger_proposal(const struct ledger *ledger, const struct digest *id)
{
    return state_get(ledger->state, STATE_PROPOSAL, &(struct ledger_proposal){.id = *id});
}

const struct ledger_proposal *ledger_next_proposal(const struct ledger *ledger,
                                                   const struct ledger_proposal *previous)
{
    return state_next(ledger->state, STATE_PROPOSAL, previous);
}

const struct ledger_vote *ledger_vote(const struct ledger *ledger, const struct digest *proposal,
                                      const struct account_id *account)
{
    return state_get(ledger->state, STATE_VOTE,
                     &(struct ledger_vote){.proposal = *proposal, .account = *account});
}

uint64_t ledger_proposal_quorum(const struct ledger_proposal *proposal)
{
    /* At most 10^18 grains: the product with 10,000 would not fit 64 bits. Rounded up. */
    uint64_t whole = proposal->staked_grains / BP_TOTAL * proposal->quorum_bp;
    uint64_t rest = proposal->staked_grains % BP_TOTAL * proposal->quorum_bp;
    return whole + (rest + BP_TOTAL - 1) / BP_TOTAL;
}

static enum ledger_proposal_state state_at(const struct ledger *ledger,
                                           const struct ledger_proposal *proposal, uint64_t time_ms)
{
    const uint64_t block = ledger->head.height + 1;
    switch ((enum ledger_outcome)proposal->outcome) {
    case LEDGER_OUTCOME_EXECUTED:
        return LEDGER_PROPOSAL_EXECUTED;
    case LEDGER_OUTCOME_CANCELLED:
        return LEDGER_PROPOSAL_CANCELLED;
    case LEDGER_OUTCOME_QUEUED:
        return time_ms >= proposal->expires_ms ? LEDGER_PROPOSAL_EXPIRED : LEDGER_PROPOSAL_QUEUED;
    case LEDGER_OUTCOME_NONE:
        break;
    }
    if (block <= proposal->snapshot_height) {
        return LEDGER_PROPOSAL_PENDING;
    }
    if (block <= proposal->end_height) {
        return LEDGER_PROPOSAL_ACTIVE;
    }
    bool quorate =
        proposal->for_grains + proposal->abstain_grains >= ledger_proposal_quorum(proposal);
    return quorate && proposal->for_grains > proposal->against_grains ? LEDGER_PROPOSAL_SUCCEEDED
                                                                      : LEDGER_PROPOSAL_DEFEATED;
}

enum ledger_proposal_state ledger_proposal_state(const struct ledger *ledger,
                                                 const struct ledger_proposal *proposal)
{
    return state_at(ledger, proposal, ledger->head.time_ms);
}

const char *ledger_proposal_state_name(enum ledger_proposal_state state)
{
    static const char *const NAMES[] = {"pending", "active",  "defeated", "succeeded",
                                        "queued",  "expired", "executed", "cancelled"};
    CHECK((size_t)state < sizeof NAMES / sizeof NAMES[0]);
    return NAMES[state];
}

/* ---- changes ------------------------------------------------------------------------------------ */

/* Each names a parameter once, with a value inside its bounds; written as text into out. */
static enum err changes_take(struct step *step, const Openledger__V1__Propose *action,
                             char out[LEDGER_CHANGES_TEXT_MAX + 1])
{
    struct ledger_parameters trial = *ledger_parameters(step->ledger);
    struct buf text;
    if (action->n_changes == 0 || action->n_changes > LEDGER_CHANGES_MAX) {
        return note_set(step->note, ERR_LIMIT, "%zu changes, allowed are 1 to %d",
                        action->n_changes, LEDGER_CHANGES_MAX);
    }
    buf_init(&text, LEDGER_CHANGES_TEXT_MAX);
    enum err err = ERR_OK;
    for (size_t i = 0; i < action->n_changes && err == ERR_OK; i++) {
        const Openledger__V1__ParameterChange *change = action->changes[i];
        const struct ledger_parameter *row = ledger_parameter_find(change->name);
        for (size_t j = 0; j < i; j++) {
            if (strcmp(action->changes[j]->name, change->name) == 0) {
                row = NULL;
            }
        }
        err = row == NULL ? note_set(step->note, ERR_INVALID,
                                     "\"%.40s\" is no parameter, or is there twice", change->name)
                          : ledger_parameter_set(row, change->value, &trial, step->note);
        buf_printf(&text, "%s%s %s", i == 0 ? "" : "\n", change->name, change->value);
    }
    err = err ? err : ledger_parameters_check(&trial, step->note);
    err = err ? err : buf_err(&text);
    if (err == ERR_OK) {
        memcpy(out, text.data, text.size);
        out[text.size] = '\0';
    }
    buf_deinit(&text);
    return err;
}

/* Applies the lines of a proposal that was checked when it was made; what holds between parameters may
 * have changed since. */
static enum err changes_apply(struct step *step, const struct ledger_proposal *proposal)
{
    struct ledger_parameters changed = *ledger_parameters(step->ledger);
    char lines[LEDGER_CHANGES_TEXT_MAX + 1];
    char *rest = NULL;
    memcpy(lines, proposal->changes, sizeof lines);
    enum err err = ERR_OK;
    for (char *line = strtok_r(lines, "\n", &rest); line != NULL && err == ERR_OK;
         line = strtok_r(NULL, "\n", &rest)) {
        char *space = strchr(line, ' ');
        CHECK(space != NULL);
        *space = '\0';
        const struct ledger_parameter *row = ledger_parameter_find(line);
        CHECK(row != NULL);
        err = ledger_parameter_set(row, space + 1, &changed, step->note);
    }
    err = err ? err : ledger_parameters_check(&changed, step->note);
    if (err == ERR_OK) {
        *(struct ledger_parameters *)state_edit(step->state, ledger_parameters(step->ledger)) =
            changed;
    }
    return err;
}

/* ---- rules -------------------------------------------------------------------------------------- */

static enum err proposal_take(struct step *step, ProtobufCBinaryData field,
                              const struct ledger_proposal **out)
{
    struct digest id;
    enum err err = step_digest(step, field, "proposal", &id);
    if (err != ERR_OK) {
        return err;
    }
    *out = ledger_proposal(step->ledger, &id);
    return *out == NULL
               ? note_set(step->note, ERR_NOT_FOUND, "no proposal %s", short_hex(id.bytes).text)
               : ERR_OK;
}

static enum err state_wanted(struct step *step, const struct ledger_proposal *proposal,
                             enum ledger_proposal_state wanted)
{
    enum ledger_proposal_state state = state_at(step->ledger, proposal, step->time_ms);
    return state == wanted
               ? ERR_OK
               : note_set(step->note, ERR_CONFLICT, "proposal %s is %s, not %s",
                          short_hex(proposal->id.bytes).text, ledger_proposal_state_name(state),
                          ledger_proposal_state_name(wanted));
}

/* May this many votes keep a proposal alive? */
static bool above_threshold(const struct step *step, const struct account_id *account)
{
    struct amount power;
    uint64_t grains =
        ledger_power_at(step->ledger, LEDGER_SERIES_VOTES, account, step->ledger->head.height + 1);
    CHECK(amount_mul(amount_from_units(grains), LEDGER_STAKE_GRAIN, &power) == ERR_OK);
    return amount_compare(power, ledger_parameters(step->ledger)->proposal_threshold) >= 0;
}

enum err rule_propose(struct step *step, const Openledger__V1__Propose *action)
{
    const struct ledger_parameters *parameters = ledger_parameters(step->ledger);
    struct ledger_proposal proposal = {.id = step->tx,
                                       .proposer = step->sender,
                                       .quorum_bp = parameters->quorum_bp,
                                       .index = step->index};
    proposal.snapshot_height = step->ledger->head.height + 1 + parameters->voting_delay_blocks;
    proposal.end_height = proposal.snapshot_height + parameters->voting_period_blocks;
    enum err err = step_text(step, action->title, LEDGER_TITLE_MAX, "title", proposal.title);
    err = err ? err : changes_take(step, action, proposal.changes);
    if (err == ERR_OK && !above_threshold(step, &step->sender)) {
        char needs[AMOUNT_TEXT_SIZE];
        err = note_set(step->note, ERR_DENIED, "a proposer needs votes of %s OPEN of stake",
                       amount_format(parameters->proposal_threshold, needs));
    }
    const struct ledger_snapshot_slot slot = {.height = proposal.snapshot_height,
                                              .until_height = proposal.end_height,
                                              .subject = proposal.id,
                                              .opener = step->sender};
    err = err ? err : stake_snapshot(step, true, &slot);
    if (err == ERR_OK) {
        (void)state_add(step->state, STATE_PROPOSAL, &proposal);
    }
    return err;
}

enum err rule_vote(struct step *step, const Openledger__V1__Vote *action)
{
    const struct ledger_proposal *found;
    enum err err = proposal_take(step, action->proposal, &found);
    err = err ? err : state_wanted(step, found, LEDGER_PROPOSAL_ACTIVE);
    if (err != ERR_OK) {
        return err;
    }
    const struct ledger_vote vote = {.proposal = found->id,
                                     .account = step->sender,
                                     .choice = (uint32_t)action->choice,
                                     .grains =
                                         ledger_power_at(step->ledger, LEDGER_SERIES_VOTES,
                                                         &step->sender, found->snapshot_height)};
    if (vote.choice < LEDGER_CHOICE_AGAINST || vote.choice > LEDGER_CHOICE_ABSTAIN) {
        return note_set(step->note, ERR_INVALID, "choice %u is unknown", vote.choice);
    }
    if (ledger_vote(step->ledger, &found->id, &step->sender) != NULL) {
        return note_set(step->note, ERR_CONFLICT, "account %s has voted already",
                        short_hex(step->sender.bytes).text);
    }
    if (vote.grains == 0) {
        return note_set(step->note, ERR_DENIED, "account %s had no votes at height %llu",
                        short_hex(step->sender.bytes).text,
                        (unsigned long long)found->snapshot_height);
    }
    struct ledger_proposal *proposal = state_edit(step->state, found);
    uint64_t *sum = vote.choice == LEDGER_CHOICE_FOR       ? &proposal->for_grains
                    : vote.choice == LEDGER_CHOICE_AGAINST ? &proposal->against_grains
                                                           : &proposal->abstain_grains;
    *sum += vote.grains;
    proposal->staked_grains =
        ledger_power_at(step->ledger, LEDGER_SERIES_VOTES, NULL, proposal->snapshot_height);
    CHECK(proposal->for_grains + proposal->against_grains + proposal->abstain_grains <=
          proposal->staked_grains);
    (void)state_add(step->state, STATE_VOTE, &vote);
    return ERR_OK;
}

enum err rule_delegate_votes(struct step *step, const Openledger__V1__DelegateVotes *action)
{
    struct account_id to = step->sender;
    enum err err = action->to.len == 0 ? ERR_OK : step_account(step, action->to, "to", &to);
    if (err != ERR_OK) {
        return err;
    }
    const struct ledger_account *account = ledger_account(step->ledger, &to);
    if (account == NULL || !account->has_key) {
        return note_set(step->note, ERR_NOT_FOUND, "account %s is not open",
                        short_hex(to.bytes).text);
    }
    stake_delegate_votes(step, &to);
    return ERR_OK;
}

enum err rule_queue_proposal(struct step *step, const Openledger__V1__QueueProposal *action)
{
    const struct ledger_parameters *parameters = ledger_parameters(step->ledger);
    const struct ledger_proposal *found;
    enum err err = proposal_take(step, action->proposal, &found);
    err = err ? err : state_wanted(step, found, LEDGER_PROPOSAL_SUCCEEDED);
    if (err == ERR_OK) {
        struct ledger_proposal *proposal = state_edit(step->state, found);
        proposal->outcome = LEDGER_OUTCOME_QUEUED;
        proposal->eta_ms = step->time_ms + parameters->timelock_ms;
        proposal->expires_ms = proposal->eta_ms + parameters->proposal_grace_ms;
    }
    return err;
}

enum err rule_execute_proposal(struct step *step, const Openledger__V1__ExecuteProposal *action)
{
    const struct ledger_proposal *found;
    enum err err = proposal_take(step, action->proposal, &found);
    err = err ? err : state_wanted(step, found, LEDGER_PROPOSAL_QUEUED);
    if (err == ERR_OK && step->time_ms < found->eta_ms) {
        err = note_set(step->note, ERR_CONFLICT, "proposal %s is locked until %llu ms, not %llu",
                       short_hex(found->id.bytes).text, (unsigned long long)found->eta_ms,
                       (unsigned long long)step->time_ms);
    }
    err = err ? err : changes_apply(step, found);
    if (err == ERR_OK) {
        ((struct ledger_proposal *)state_edit(step->state, found))->outcome =
            LEDGER_OUTCOME_EXECUTED;
    }
    return err;
}

/* The proposer may, and anyone once the proposer's votes have fallen below the threshold: so one stake
 * cannot hold many proposals open by moving its votes around. */
enum err rule_cancel_proposal(struct step *step, const Openledger__V1__CancelProposal *action)
{
    const struct ledger_proposal *found;
    enum err err = proposal_take(step, action->proposal, &found);
    if (err != ERR_OK) {
        return err;
    }
    enum ledger_proposal_state state = state_at(step->ledger, found, step->time_ms);
    if (state == LEDGER_PROPOSAL_DEFEATED || state == LEDGER_PROPOSAL_EXPIRED ||
        state == LEDGER_PROPOSAL_EXECUTED || state == LEDGER_PROPOSAL_CANCELLED) {
        return note_set(step->note, ERR_CONFLICT, "proposal %s is %s already",
                        short_hex(found->id.bytes).text, ledger_proposal_state_name(state));
    }
    if (!account_id_equal(&found->proposer, &step->sender) &&
        above_threshold(step, &found->proposer)) {
        return note_set(step->note, ERR_DENIED,
                        "only the proposer may cancel while it has votes above the threshold");
    }
    ((struct ledger_proposal *)state_edit(step->state, found))->outcome = LEDGER_OUTCOME_CANCELLED;
    stake_snapshot_close(step, &found->id);
    return ERR_OK;
}
