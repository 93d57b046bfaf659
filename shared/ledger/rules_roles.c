/* rules_roles.c - a datanet's owner and validators change, contributors withdraw rows, the owner pays out
 * of the treasury. README.md has the rules in words. */
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/machine.h"

enum { BP_TOTAL = 10000 };

static const struct account_id NOBODY;

/* The datanet, if the sender owns it. */
static enum err owned_take(struct step *step, const char *name, const struct ledger_datanet **out)
{
    enum err err = datanet_take(step, name, out);
    return err == ERR_OK && !account_id_equal(&(*out)->owner, &step->sender)
               ? note_set(step->note, ERR_DENIED, "only the owner of \"%s\" may do this",
                          (*out)->name)
               : err;
}

/* ---- roles -------------------------------------------------------------------------------------- */

enum err rule_offer_datanet(struct step *step, const Openledger__V1__OfferDatanet *action)
{
    const struct ledger_datanet *found;
    struct account_id to = NOBODY;
    enum err err = owned_take(step, action->datanet, &found);
    if (err == ERR_OK && action->to.len != 0) {
        err = step_account(step, action->to, "to", &to);
    }
    if (err == ERR_OK && account_id_equal(&to, &step->sender)) {
        err = note_set(step->note, ERR_INVALID, "the sender owns \"%s\" already", found->name);
    }
    if (err == ERR_OK) {
        ((struct ledger_datanet *)state_edit(step->state, found))->offered_to = to;
    }
    return err;
}

enum err rule_accept_datanet(struct step *step, const Openledger__V1__AcceptDatanet *action)
{
    const struct ledger_datanet *found;
    enum err err = datanet_take(step, action->datanet, &found);
    if (err != ERR_OK) {
        return err;
    }
    if (!account_id_equal(&found->offered_to, &step->sender)) {
        return note_set(step->note, ERR_DENIED, "datanet \"%s\" is not offered to the sender",
                        found->name);
    }
    struct ledger_datanet *datanet = state_edit(step->state, found);
    datanet->owner = step->sender;
    datanet->offered_to = NOBODY;
    return ERR_OK;
}

enum err rule_set_validators(struct step *step, const Openledger__V1__SetValidators *action)
{
    const struct ledger_datanet *found;
    struct account_id validators[LEDGER_VALIDATORS_MAX] = {0};
    enum err err = owned_take(step, action->datanet, &found);
    if (err == ERR_OK && action->n_validators > LEDGER_VALIDATORS_MAX) {
        err = note_set(step->note, ERR_LIMIT, "%zu validators, the limit is %d",
                       action->n_validators, LEDGER_VALIDATORS_MAX);
    }
    for (size_t i = 0; err == ERR_OK && i < action->n_validators; i++) {
        err = step_account(step, action->validators[i], "validator", &validators[i]);
        if (err == ERR_OK && i > 0 && account_id_compare(&validators[i - 1], &validators[i]) >= 0) {
            err = note_set(step->note, ERR_INVALID, "validators do not ascend");
        }
    }
    if (err == ERR_OK) {
        struct ledger_datanet *datanet = state_edit(step->state, found);
        memcpy(datanet->validators, validators, sizeof datanet->validators);
        datanet->validator_count = (uint32_t)action->n_validators;
    }
    return err;
}

/* ---- withdrawing -------------------------------------------------------------------------------- */

bool ledger_row_withdrawn(const struct ledger *ledger, const struct digest *contribution,
                          uint32_t row)
{
    const struct ledger_withdrawn_row probe = {.contribution = *contribution, .row = row};
    return state_get(ledger->state, STATE_WITHDRAWN_ROW, &probe) != NULL;
}

/* The contribution, if it is the sender's and something of it can still be used. */
static enum err mine_take(struct step *step, ProtobufCBinaryData field,
                          const struct ledger_contribution **out)
{
    struct digest id;
    enum err err = step_digest(step, field, "contribution", &id);
    if (err != ERR_OK) {
        return err;
    }
    *out = ledger_contribution(step->ledger, &id);
    if (*out == NULL) {
        return note_set(step->note, ERR_NOT_FOUND, "no contribution %s", short_hex(id.bytes).text);
    }
    if (!account_id_equal(&(*out)->contributor, &step->sender)) {
        return note_set(step->note, ERR_DENIED, "contribution %s is another account's",
                        short_hex(id.bytes).text);
    }
    bool usable = (*out)->state == LEDGER_CONTRIBUTION_COMMITTED ||
                  (*out)->state == LEDGER_CONTRIBUTION_ACCEPTED;
    return usable ? ERR_OK
                  : note_set(step->note, ERR_CONFLICT, "contribution %s is rejected or withdrawn",
                             short_hex(id.bytes).text);
}

enum err rule_withdraw_contribution(struct step *step,
                                    const Openledger__V1__WithdrawContribution *action)
{
    const struct ledger_contribution *found;
    enum err err = mine_take(step, action->contribution, &found);
    if (err == ERR_OK) {
        uint64_t counted = contribution_counts(found);
        struct ledger_contribution *contribution = state_edit(step->state, found);
        contribution->state = LEDGER_CONTRIBUTION_WITHDRAWN;
        if (counted > 0) {
            standing_move(step, contribution, counted, 0);
        }
    }
    return err;
}

enum err rule_withdraw_rows(struct step *step, const Openledger__V1__WithdrawRows *action)
{
    const struct ledger_contribution *found;
    enum err err = mine_take(step, action->contribution, &found);
    if (err == ERR_OK && (action->n_rows == 0 || action->n_rows > LEDGER_WITHDRAW_MAX)) {
        err = note_set(step->note, ERR_LIMIT, "%zu rows, allowed are 1 to %d", action->n_rows,
                       LEDGER_WITHDRAW_MAX);
    }
    if (err != ERR_OK) {
        return err;
    }
    uint64_t counted = contribution_counts(found);
    struct ledger_contribution *contribution = state_edit(step->state, found);
    for (size_t i = 0; i < action->n_rows; i++) {
        const struct ledger_withdrawn_row row = {.contribution = contribution->id,
                                                 .row = action->rows[i]};
        if (row.row >= contribution->row_count) {
            return note_set(step->note, ERR_RANGE, "row %u of %u", row.row,
                            contribution->row_count);
        }
        if (i > 0 && action->rows[i - 1] >= row.row) {
            return note_set(step->note, ERR_INVALID, "rows do not ascend");
        }
        if (ledger_row_withdrawn(step->ledger, &row.contribution, row.row)) {
            return note_set(step->note, ERR_CONFLICT, "row %u is withdrawn already", row.row);
        }
        (void)state_add(step->state, STATE_WITHDRAWN_ROW, &row);
    }
    contribution->withdrawn_rows += (uint32_t)action->n_rows;
    if (counted > 0) {
        standing_move(step, contribution, counted, contribution_counts(contribution));
    }
    return ERR_OK;
}

/* ---- treasury ----------------------------------------------------------------------------------- */

const struct ledger_payouts *ledger_payouts(const struct ledger *ledger, const char *datanet)
{
    struct ledger_payouts probe = {.from_ms = 0};
    CHECK(strlen(datanet) <= LEDGER_NAME_MAX);
    memcpy(probe.datanet, datanet, strlen(datanet));
    return state_get(ledger->state, STATE_PAYOUTS, &probe);
}

/* The payouts of the present period, which begins with its first payout. */
static struct ledger_payouts payouts_now(const struct step *step,
                                         const struct ledger_datanet *datanet,
                                         const struct ledger_payouts *found)
{
    const struct ledger_parameters *parameters = ledger_parameters(step->ledger);
    const struct ledger_account *treasury = ledger_account(step->ledger, &datanet->treasury);
    if (found != NULL && step->time_ms - found->from_ms < parameters->treasury_period_ms) {
        return *found;
    }
    struct ledger_payouts fresh = {.from_ms = step->time_ms};
    memcpy(fresh.datanet, datanet->name, sizeof fresh.datanet);
    if (treasury != NULL) {
        CHECK(amount_mul_ratio(treasury->balance, parameters->treasury_payout_bp, BP_TOTAL,
                               &fresh.limit) == ERR_OK);
    }
    return fresh;
}

enum err rule_pay_from_treasury(struct step *step, const Openledger__V1__PayFromTreasury *action)
{
    const struct ledger_datanet *datanet;
    struct account_id to;
    struct amount amount;
    char memo[LEDGER_REASON_MAX + 1];
    enum err err = owned_take(step, action->datanet, &datanet);
    err = err ? err : step_account(step, action->to, "to", &to);
    err = err ? err : step_amount(step, action->amount, "amount", &amount);
    err = err ? err : step_text(step, action->memo, LEDGER_REASON_MAX, "memo", memo);
    if (err == ERR_OK && account_id_equal(&to, &datanet->treasury)) {
        err = note_set(step->note, ERR_INVALID, "a payout to the treasury itself");
    }
    if (err != ERR_OK) {
        return err;
    }
    const struct ledger_payouts *found = ledger_payouts(step->ledger, datanet->name);
    struct ledger_payouts payouts = payouts_now(step, datanet, found);
    struct amount paid;
    if (amount_add(payouts.paid, amount, &paid) != ERR_OK ||
        amount_compare(paid, payouts.limit) > 0) {
        char limit[AMOUNT_TEXT_SIZE];
        char before[AMOUNT_TEXT_SIZE];
        return note_set(step->note, ERR_FUNDS,
                        "the treasury may pay %s OPEN in this period, %s of it are paid",
                        amount_format(payouts.limit, limit), amount_format(payouts.paid, before));
    }
    payouts.paid = paid;
    if (found == NULL) {
        (void)state_add(step->state, STATE_PAYOUTS, &payouts);
    } else {
        *(struct ledger_payouts *)state_edit(step->state, found) = payouts;
    }
    return step_pay(step, &datanet->treasury, &to, amount, "treasury.pay", &step->tx);
}
