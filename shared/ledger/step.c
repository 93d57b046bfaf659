/* step.c - see machine.h: money and field checks that all rules share. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/machine.h"
#include "shared/ledger/tx.h"

struct short_hex short_hex(const uint8_t bytes[DIGEST_SIZE])
{
    struct short_hex out = {""};
    (void)hex_encode(bytes, 8, out.text);
    return out;
}

bool ledger_name_valid(const char *name)
{
    size_t size = strnlen(name, LEDGER_NAME_MAX + 1);
    if (size < 2 || size > LEDGER_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        char c = name[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!letter && (i == 0 || (c != '.' && c != '_' && c != '-'))) {
            return false;
        }
    }
    return true;
}

/* Bytes of the valid UTF-8 sequence (RFC 3629) at text, or 0. Stops before a NUL by itself. */
static size_t utf8_size(const unsigned char *text)
{
    unsigned char c = text[0];
    size_t size = c < 0x80                ? 1
                  : c >= 0xc2 && c < 0xe0 ? 2
                  : c >= 0xe0 && c < 0xf0 ? 3
                  : c >= 0xf0 && c < 0xf5 ? 4
                                          : 0;
    for (size_t i = 1; i < size; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool overlong = (c == 0xe0 && text[1] < 0xa0) || (c == 0xf0 && text[1] < 0x90);
    bool outside = (c == 0xed && text[1] >= 0xa0) || (c == 0xf4 && text[1] >= 0x90);
    return overlong || outside ? 0 : size;
}

bool text_valid(const char *text, size_t max)
{
    size_t size = strnlen(text, max + 1);
    if (size > max) {
        return false;
    }
    for (size_t i = 0; i < size;) {
        const unsigned char *at = (const unsigned char *)text + i;
        size_t step = utf8_size(at);
        if (step == 0 || (at[0] < 0x20 && at[0] != '\n' && at[0] != '\t') || at[0] == 0x7f) {
            return false;
        }
        i += step;
    }
    return true;
}

/* ---- field checks ------------------------------------------------------------------------------- */

enum err step_digest(struct step *step, ProtobufCBinaryData field, const char *name,
                     struct digest *out)
{
    if (field.len != DIGEST_SIZE) {
        return note_set(step->note, ERR_INVALID, "%s has %zu bytes, not %d", name, field.len,
                        DIGEST_SIZE);
    }
    memcpy(out->bytes, field.data, DIGEST_SIZE);
    return ERR_OK;
}

enum err step_account(struct step *step, ProtobufCBinaryData field, const char *name,
                      struct account_id *out)
{
    struct digest bytes;
    enum err err = step_digest(step, field, name, &bytes);
    if (err == ERR_OK) {
        memcpy(out->bytes, bytes.bytes, ACCOUNT_ID_SIZE);
    }
    return err;
}

enum err step_text(struct step *step, const char *text, size_t max, const char *name, char *out)
{
    if (!text_valid(text, max)) {
        return note_set(step->note, ERR_INVALID, "%s is not UTF-8 text of at most %zu bytes", name,
                        max);
    }
    memcpy(out, text, strlen(text) + 1);
    return ERR_OK;
}

enum err step_name(struct step *step, const char *text, const char *what, char *out)
{
    if (!ledger_name_valid(text)) {
        return note_set(step->note, ERR_INVALID,
                        "%s is not a name: 2 to %d of a-z 0-9 . _ -, not beginning with . _ -",
                        what, LEDGER_NAME_MAX);
    }
    memcpy(out, text, strlen(text) + 1);
    return ERR_OK;
}

enum err step_amount(struct step *step, const char *text, const char *name, struct amount *out)
{
    enum err err = ledger_amount_parse(text, name, out, step->note);
    return err == ERR_OK && amount_is_zero(*out)
               ? note_set(step->note, ERR_INVALID, "%s is 0", name)
               : err;
}

/* ---- money -------------------------------------------------------------------------------------- */

static struct ledger_leg *leg_next(struct step *step)
{
    struct ledger_effects *effects = step->effects;
    if (effects->leg_count == effects->leg_capacity) {
        effects->leg_capacity = effects->leg_capacity == 0 ? 16 : 2 * effects->leg_capacity;
        effects->legs = realloc(effects->legs, effects->leg_capacity * sizeof *effects->legs);
        CHECK(effects->legs != NULL);
    }
    return &effects->legs[effects->leg_count++];
}

void step_receipt(struct step *step, const struct digest *receipt)
{
    struct ledger_effects *effects = step->effects;
    if (effects->receipt_count == effects->receipt_capacity) {
        effects->receipt_capacity =
            effects->receipt_capacity == 0 ? 16 : 2 * effects->receipt_capacity;
        effects->receipts =
            realloc(effects->receipts, effects->receipt_capacity * sizeof *effects->receipts);
        CHECK(effects->receipts != NULL);
    }
    effects->receipts[effects->receipt_count++] = *receipt;
}

static enum err leg_room(struct step *step)
{
    return step->effects->leg_count < LEDGER_LEGS_MAX
               ? ERR_OK
               : note_set(step->note, ERR_LIMIT, "the entry has more than %d legs",
                          LEDGER_LEGS_MAX);
}

enum err step_credit(struct step *step, const struct ledger_account *found,
                     const struct account_id *id, struct amount amount, const char *reason)
{
    struct ledger_account *account;
    enum err err = leg_room(step);
    if (err != ERR_OK) {
        return err;
    }
    if (found == NULL) {
        const struct ledger_account fresh = {.id = *id, .first_index = step->index};
        account = state_add(step->state, STATE_ACCOUNT, &fresh);
    } else {
        account = state_edit(step->state, found);
    }
    /* The whole supply fits 128 bits with room to spare. */
    CHECK(amount_add(account->balance, amount, &account->balance) == ERR_OK);
    struct ledger_leg *leg = leg_next(step);
    leg->account = *id;
    leg->credit = true;
    leg->amount = amount;
    leg->reason = reason;
    leg->has_reference = false;
    leg->previous = account->last_index;
    account->last_index = step->index;
    return ERR_OK;
}

static enum err step_debit(struct step *step, const struct ledger_account *found,
                           const struct account_id *id, struct amount amount, const char *reason)
{
    enum err err = leg_room(step);
    if (err != ERR_OK) {
        return err;
    }
    struct amount balance = found == NULL ? AMOUNT_ZERO : found->balance;
    if (amount_compare(balance, amount) < 0) {
        char has[AMOUNT_TEXT_SIZE];
        char needs[AMOUNT_TEXT_SIZE];
        return note_set(step->note, ERR_FUNDS, "account %s can spend %s OPEN, %s is needed",
                        short_hex(id->bytes).text, amount_format(balance, has),
                        amount_format(amount, needs));
    }
    struct ledger_account *account = state_edit(step->state, found);
    CHECK(amount_sub(account->balance, amount, &account->balance) == ERR_OK);
    *leg_next(step) = (struct ledger_leg){
        .account = *id, .amount = amount, .reason = reason, .previous = account->last_index};
    account->last_index = step->index;
    return ERR_OK;
}

enum err step_leg(struct step *step, const struct account_id *id, bool credit, struct amount amount,
                  const char *reason, const struct digest *reference)
{
    if (amount_is_zero(amount)) {
        return ERR_OK;
    }
    const struct ledger_account *found = ledger_account(step->ledger, id);
    enum err err = credit ? step_credit(step, found, id, amount, reason)
                          : step_debit(step, found, id, amount, reason);
    if (err == ERR_OK && reference != NULL) {
        struct ledger_leg *leg = &step->effects->legs[step->effects->leg_count - 1];
        leg->has_reference = true;
        leg->reference = *reference;
    }
    return err;
}

enum err step_pay(struct step *step, const struct account_id *from, const struct account_id *to,
                  struct amount amount, const char *reason, const struct digest *reference)
{
    enum err err = step_leg(step, from, false, amount, reason, reference);
    return err ? err : step_leg(step, to, true, amount, reason, reference);
}

/* ---- gas ---------------------------------------------------------------------------------------- */

/* Senders who cannot pay may use what the block forgives: somebody must be able to begin with nothing,
 * and a flood of such transactions is bounded by it, without slowing those who pay. */
static enum err gas_forgive(struct step *step, struct amount gas, struct amount balance)
{
    const uint64_t height = step->ledger->head.height + 1;
    const struct state_free_gas *found = state_next(step->state, STATE_FREE_GAS, NULL);
    struct amount used = found == NULL || found->height != height ? AMOUNT_ZERO : found->used;
    if (amount_add(used, gas, &used) != ERR_OK ||
        amount_compare(used, ledger_parameters(step->ledger)->free_gas_per_block) > 0) {
        char has[AMOUNT_TEXT_SIZE];
        char needs[AMOUNT_TEXT_SIZE];
        return note_set(step->note, ERR_FUNDS,
                        "gas is %s OPEN, account %s can spend %s, and the block forgives no more",
                        amount_format(gas, needs), short_hex(step->sender.bytes).text,
                        amount_format(balance, has));
    }
    const struct state_free_gas fresh = {.height = height, .used = used};
    if (found == NULL) {
        (void)state_add(step->state, STATE_FREE_GAS, &fresh);
    } else {
        *(struct state_free_gas *)state_edit(step->state, found) = fresh;
    }
    return ERR_OK;
}

enum err gas_charge(struct step *step, size_t tx_size)
{
    const struct ledger_parameters *parameters = ledger_parameters(step->ledger);
    const struct ledger_account *sender = ledger_account(step->ledger, &step->sender);
    struct account_id pool;
    struct amount gas;
    struct amount legs;
    /* The bounds of the parameters, of an entry and of its legs keep this far below 2^128. */
    CHECK(amount_mul(parameters->gas_per_byte, tx_size, &gas) == ERR_OK);
    CHECK(amount_mul(parameters->gas_per_leg, step->effects->leg_count, &legs) == ERR_OK);
    CHECK(amount_add(gas, legs, &gas) == ERR_OK);
    CHECK(sender != NULL);
    if (amount_compare(sender->balance, gas) < 0) {
        return gas_forgive(step, gas, sender->balance);
    }
    ledger_stakers_pool_id(&pool);
    return step_pay(step, &step->sender, &pool, gas, "gas", &step->tx);
}
