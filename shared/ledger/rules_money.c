/* rules_money.c - accounts, transfers, grants and leases. README.md has the rules in words. */
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/machine.h"
#include "shared/ledger/tx.h"

enum err step_key(struct step *step, ProtobufCBinaryData field, struct public_key *out)
{
    if (field.len != PUBLIC_KEY_SIZE) {
        return note_set(step->note, ERR_INVALID, "key has %zu bytes, not %d", field.len,
                        PUBLIC_KEY_SIZE);
    }
    memcpy(out->bytes, field.data, PUBLIC_KEY_SIZE);
    return ERR_OK;
}

enum err rule_open_account(struct step *step, const Openledger__V1__OpenAccount *action)
{
    struct ledger_account fresh = {.id = step->sender, .has_key = true, .first_index = step->index};
    struct account_id owner;
    enum err err = step_key(step, action->key, &fresh.key);
    err = err ? err : step_text(step, action->name, LEDGER_NAME_MAX, "name", fresh.name);
    if (err != ERR_OK) {
        return err;
    }
    account_id_from_key(&fresh.key, &owner);
    if (!account_id_equal(&owner, &step->sender)) {
        return note_set(step->note, ERR_DENIED, "account %s is not the hash of its first key",
                        short_hex(step->sender.bytes).text);
    }
    if (!step_signed_by(step, &step->sender, &fresh.key)) {
        return note_set(step->note, ERR_DENIED, "the new account's key did not sign");
    }
    const struct ledger_account *found = ledger_account(step->ledger, &step->sender);
    if (found == NULL) {
        (void)state_add(step->state, STATE_ACCOUNT, &fresh);
        return ERR_OK;
    }
    if (found->has_key) {
        return note_set(step->note, ERR_CONFLICT, "account %s is open already",
                        short_hex(step->sender.bytes).text);
    }
    struct ledger_account *account = state_edit(step->state, found);
    account->has_key = true;
    account->key = fresh.key;
    memcpy(account->name, fresh.name, sizeof account->name);
    return ERR_OK;
}

enum err rule_rotate_key(struct step *step, const Openledger__V1__RotateKey *action)
{
    struct public_key key;
    enum err err = step_key(step, action->key, &key);
    if (err != ERR_OK) {
        return err;
    }
    if (!step_signed_by(step, &step->sender, &key)) {
        return note_set(step->note, ERR_DENIED, "the new key did not sign");
    }
    const struct ledger_account *account = ledger_account(step->ledger, &step->sender);
    if (public_key_equal(&account->key, &key)) {
        return note_set(step->note, ERR_CONFLICT, "this is the account's key already");
    }
    key_replace(step, account, &key);
    return ERR_OK;
}

enum err rule_transfer(struct step *step, const Openledger__V1__Transfer *action)
{
    struct account_id to;
    struct amount amount;
    char memo[LEDGER_REASON_MAX + 1];
    enum err err = step_account(step, action->to, "to", &to);
    err = err ? err : step_amount(step, action->amount, "amount", &amount);
    err = err ? err : step_text(step, action->memo, LEDGER_REASON_MAX, "memo", memo);
    if (err == ERR_OK && account_id_equal(&to, &step->sender)) {
        err = note_set(step->note, ERR_INVALID, "a transfer to oneself");
    }
    return err ? err : step_pay(step, &step->sender, &to, amount, "transfer", &step->tx);
}

/* ---- grants ------------------------------------------------------------------------------------- */

enum err rule_open_grant(struct step *step, const Openledger__V1__OpenGrant *action)
{
    struct ledger_grant grant = {.id = step->tx,
                                 .payer = step->sender,
                                 .expires_ms = action->expires_ms,
                                 .index = step->index};
    struct account_id escrow;
    enum err err = step_account(step, action->gateway, "gateway", &grant.gateway);
    if (err != ERR_OK) {
        return err;
    }
    const struct ledger_account *gateway = ledger_account(step->ledger, &grant.gateway);
    if (gateway == NULL || !gateway->has_key) {
        return note_set(step->note, ERR_NOT_FOUND, "gateway %s is not an open account",
                        short_hex(grant.gateway.bytes).text);
    }
    err = step_amount(step, action->limit, "limit", &grant.limit);
    if (err != ERR_OK) {
        return err;
    }
    if (grant.expires_ms <= step->time_ms ||
        grant.expires_ms - step->time_ms > LEDGER_GRANT_MS_MAX) {
        return note_set(step->note, ERR_RANGE,
                        "the grant expires at %llu, which is past or over %llu "
                        "ms away",
                        (unsigned long long)grant.expires_ms,
                        (unsigned long long)LEDGER_GRANT_MS_MAX);
    }
    ledger_grant_escrow_id(&grant.id, &escrow);
    (void)state_add(step->state, STATE_GRANT, &grant);
    return step_pay(step, &step->sender, &escrow, grant.limit, "grant.hold", &grant.id);
}

static enum err grant_take(struct step *step, ProtobufCBinaryData field,
                           const struct ledger_grant **out)
{
    struct digest id;
    enum err err = step_digest(step, field, "grant", &id);
    if (err != ERR_OK) {
        return err;
    }
    *out = ledger_grant(step->ledger, &id);
    if (*out == NULL) {
        return note_set(step->note, ERR_NOT_FOUND, "no grant %s", short_hex(id.bytes).text);
    }
    return (*out)->closed
               ? note_set(step->note, ERR_CONFLICT, "grant %s is closed", short_hex(id.bytes).text)
               : ERR_OK;
}

enum err rule_open_lease(struct step *step, const Openledger__V1__OpenLease *action)
{
    const struct ledger_grant *found;
    struct amount amount;
    struct amount leased;
    enum err err = grant_take(step, action->grant, &found);
    err = err ? err : step_amount(step, action->amount, "amount", &amount);
    if (err != ERR_OK) {
        return err;
    }
    if (!account_id_equal(&found->gateway, &step->sender)) {
        return note_set(step->note, ERR_DENIED, "only the grant's gateway may lease from it");
    }
    if (found->expires_ms <= step->time_ms) {
        return note_set(step->note, ERR_CONFLICT, "the grant expired at %llu ms",
                        (unsigned long long)found->expires_ms);
    }
    if (action->lease != found->lease_count + 1) {
        return note_set(step->note, ERR_CONFLICT, "lease %u is not the next one, %u", action->lease,
                        found->lease_count + 1);
    }
    if (amount_add(found->leased, amount, &leased) != ERR_OK ||
        amount_compare(leased, found->limit) > 0) {
        char limit[AMOUNT_TEXT_SIZE];
        char text[AMOUNT_TEXT_SIZE];
        return note_set(
            step->note, ERR_FUNDS, "leases of %s and %s OPEN exceed the grant's limit %s",
            amount_format(found->leased, text), action->amount, amount_format(found->limit, limit));
    }
    struct ledger_grant *grant = state_edit(step->state, found);
    grant->leased = leased;
    grant->lease_count++;
    const struct ledger_lease lease = {
        .grant = grant->id, .lease = action->lease, .amount = amount, .next_number = 1};
    (void)state_add(step->state, STATE_LEASE, &lease);
    return ERR_OK;
}

enum err rule_close_grant(struct step *step, const Openledger__V1__CloseGrant *action)
{
    const struct ledger_grant *found;
    enum err err = grant_take(step, action->grant, &found);
    if (err != ERR_OK) {
        return err;
    }
    if (!account_id_equal(&found->payer, &step->sender) &&
        !account_id_equal(&found->gateway, &step->sender)) {
        return note_set(step->note, ERR_DENIED, "only payer and gateway may close the grant");
    }
    uint64_t due_ms = found->expires_ms + ledger_parameters(step->ledger)->settlement_window_ms;
    if (step->time_ms < due_ms) {
        return note_set(step->note, ERR_CONFLICT,
                        "the grant can be closed from %llu ms, log time is "
                        "%llu",
                        (unsigned long long)due_ms, (unsigned long long)step->time_ms);
    }
    struct ledger_grant *grant = state_edit(step->state, found);
    struct amount rest;
    struct account_id escrow;
    grant->closed = true;
    CHECK(amount_sub(grant->limit, grant->drawn, &rest) == ERR_OK);
    ledger_grant_escrow_id(&grant->id, &escrow);
    return step_pay(step, &escrow, &grant->payer, rest, "grant.refund", &grant->id);
}
