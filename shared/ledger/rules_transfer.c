/* rules_transfer.c - several transfers as one, and transfers in two phases. README.md has the rules in
 * words.
 *
 * A hold:   pending --post by the arbiter, before it expires--> posted
 *           pending --void by arbiter or receiver, by anyone after it expired--> voided */
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/machine.h"

static const char HOLD_DOMAIN[] = "openledger/escrow/hold/v1";

void ledger_hold_escrow_id(const struct digest *hold, struct account_id *out_id)
{
    const struct bytes parts[] = {bytes_of(HOLD_DOMAIN, sizeof HOLD_DOMAIN), digest_bytes(hold)};
    struct digest digest;
    sha256_parts(parts, 2, &digest);
    memcpy(out_id->bytes, digest.bytes, ACCOUNT_ID_SIZE);
}

const struct ledger_hold *ledger_hold(const struct ledger *ledger, const struct digest *id)
{
    const struct ledger_hold probe = {.id = *id};
    return state_get(ledger->state, STATE_HOLD, &probe);
}

/* ---- linked ------------------------------------------------------------------------------------- */

/* The signature itself was checked, and that its key is the account's current one. */
static bool has_signed(const struct step *step, const struct account_id *id)
{
    const struct ledger_account *account = ledger_account(step->ledger, id);
    return account != NULL && account->has_key && step_signed_by(step, id, &account->key);
}

static enum err linked_apply(struct step *step, const Openledger__V1__LinkedTransfer *item,
                             size_t number)
{
    struct account_id from;
    struct account_id to;
    struct amount amount;
    char memo[LEDGER_REASON_MAX + 1];
    enum err err = step_account(step, item->from, "from", &from);
    err = err ? err : step_account(step, item->to, "to", &to);
    err = err ? err : step_amount(step, item->amount, "amount", &amount);
    err = err ? err : step_text(step, item->memo, LEDGER_REASON_MAX, "memo", memo);
    if (err != ERR_OK) {
        return err;
    }
    if (account_id_equal(&from, &to)) {
        return note_set(step->note, ERR_INVALID, "transfer %zu is to oneself", number);
    }
    if (!has_signed(step, &from)) {
        return note_set(step->note, ERR_DENIED, "transfer %zu: account %s did not sign", number,
                        short_hex(from.bytes).text);
    }
    return step_pay(step, &from, &to, amount, "transfer", &step->tx);
}

enum err rule_linked_transfers(struct step *step, const Openledger__V1__LinkedTransfers *action)
{
    if (action->n_transfers == 0 || action->n_transfers > LEDGER_LINKED_MAX) {
        return note_set(step->note, ERR_LIMIT, "%zu linked transfers, allowed are 1 to %d",
                        action->n_transfers, LEDGER_LINKED_MAX);
    }
    enum err err = ERR_OK;
    for (size_t i = 0; i < action->n_transfers && err == ERR_OK; i++) {
        err = linked_apply(step, action->transfers[i], i);
    }
    return err;
}

/* ---- in two phases ------------------------------------------------------------------------------ */

enum err rule_hold_transfer(struct step *step, const Openledger__V1__HoldTransfer *action)
{
    struct ledger_hold hold = {.id = step->tx,
                               .payer = step->sender,
                               .expires_ms = action->expires_ms,
                               .state = LEDGER_HOLD_PENDING,
                               .index = step->index};
    char memo[LEDGER_REASON_MAX + 1];
    struct account_id escrow;
    enum err err = step_account(step, action->to, "to", &hold.to);
    err = err ? err : step_amount(step, action->amount, "amount", &hold.amount);
    err = err ? err : step_account(step, action->arbiter, "arbiter", &hold.arbiter);
    err = err ? err : step_text(step, action->memo, LEDGER_REASON_MAX, "memo", memo);
    if (err != ERR_OK) {
        return err;
    }
    if (account_id_equal(&hold.to, &step->sender)) {
        return note_set(step->note, ERR_INVALID, "a transfer to oneself");
    }
    if (hold.expires_ms <= step->time_ms || hold.expires_ms - step->time_ms > LEDGER_GRANT_MS_MAX) {
        return note_set(
            step->note, ERR_RANGE, "the hold expires at %llu, which is past or over %llu ms away",
            (unsigned long long)hold.expires_ms, (unsigned long long)LEDGER_GRANT_MS_MAX);
    }
    ledger_hold_escrow_id(&hold.id, &escrow);
    (void)state_add(step->state, STATE_HOLD, &hold);
    return step_pay(step, &step->sender, &escrow, hold.amount, "transfer.hold", &hold.id);
}

static enum err hold_take(struct step *step, ProtobufCBinaryData field,
                          const struct ledger_hold **out)
{
    struct digest id;
    enum err err = step_digest(step, field, "hold", &id);
    if (err != ERR_OK) {
        return err;
    }
    *out = ledger_hold(step->ledger, &id);
    if (*out == NULL) {
        return note_set(step->note, ERR_NOT_FOUND, "no hold %s", short_hex(id.bytes).text);
    }
    return (*out)->state == LEDGER_HOLD_PENDING
               ? ERR_OK
               : note_set(step->note, ERR_CONFLICT, "hold %s is %s already",
                          short_hex(id.bytes).text,
                          (*out)->state == LEDGER_HOLD_POSTED ? "posted" : "voided");
}

/* Pays posted to the receiver and the rest back. */
static enum err hold_end(struct step *step, const struct ledger_hold *found,
                         enum ledger_hold_state state, struct amount posted)
{
    struct ledger_hold *hold = state_edit(step->state, found);
    struct account_id escrow;
    struct amount rest;
    CHECK(amount_sub(hold->amount, posted, &rest) == ERR_OK);
    ledger_hold_escrow_id(&hold->id, &escrow);
    hold->state = (uint32_t)state;
    hold->posted = posted;
    enum err err = step_pay(step, &escrow, &hold->to, posted, "transfer.post", &hold->id);
    return err ? err : step_pay(step, &escrow, &hold->payer, rest, "transfer.void", &hold->id);
}

enum err rule_post_transfer(struct step *step, const Openledger__V1__PostTransfer *action)
{
    const struct ledger_hold *hold;
    enum err err = hold_take(step, action->hold, &hold);
    if (err != ERR_OK) {
        return err;
    }
    struct amount amount = hold->amount;
    if (!account_id_equal(&hold->arbiter, &step->sender)) {
        return note_set(step->note, ERR_DENIED, "only the hold's arbiter may post it");
    }
    if (step->time_ms >= hold->expires_ms) {
        return note_set(step->note, ERR_CONFLICT, "the hold expired at %llu ms",
                        (unsigned long long)hold->expires_ms);
    }
    if (action->amount[0] != '\0') {
        err = step_amount(step, action->amount, "amount", &amount);
    }
    if (err == ERR_OK && amount_compare(amount, hold->amount) > 0) {
        char has[AMOUNT_TEXT_SIZE];
        err = note_set(step->note, ERR_FUNDS, "the hold has %s OPEN, not %s",
                       amount_format(hold->amount, has), action->amount);
    }
    return err ? err : hold_end(step, hold, LEDGER_HOLD_POSTED, amount);
}

enum err rule_void_transfer(struct step *step, const Openledger__V1__VoidTransfer *action)
{
    const struct ledger_hold *hold;
    enum err err = hold_take(step, action->hold, &hold);
    if (err != ERR_OK) {
        return err;
    }
    if (step->time_ms < hold->expires_ms && !account_id_equal(&hold->arbiter, &step->sender) &&
        !account_id_equal(&hold->to, &step->sender)) {
        return note_set(step->note, ERR_DENIED,
                        "before %llu ms only the hold's arbiter and receiver may void it",
                        (unsigned long long)hold->expires_ms);
    }
    return hold_end(step, hold, LEDGER_HOLD_VOIDED, AMOUNT_ZERO);
}
