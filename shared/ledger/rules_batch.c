/* rules_batch.c - many transfers under one signature. */
#include <stddef.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/machine.h"
#include "shared/ledger/tx.h"

static_assert(LEDGER_TRANSFER_SIZE == ACCOUNT_ID_SIZE + AMOUNT_BYTES, "receiver and amount");
static_assert(offsetof(struct ledger_account, id) == 0, "a transfer is a probe for its receiver");

static void item_take(const uint8_t *item, struct account_id *out_to, struct amount *out_amount)
{
    memcpy(out_to->bytes, item, ACCOUNT_ID_SIZE);
    *out_amount = amount_from_bytes(item + ACCOUNT_ID_SIZE);
}

/* What all of them cost together. */
static enum err items_check(struct step *step, struct bytes items, size_t count,
                            struct amount *out_total)
{
    *out_total = AMOUNT_ZERO;
    for (size_t i = 0; i < count; i++) {
        struct account_id to;
        struct amount amount;
        item_take(items.data + i * LEDGER_TRANSFER_SIZE, &to, &amount);
        if (amount_is_zero(amount) || account_id_equal(&to, &step->sender)) {
            return note_set(step->note, ERR_INVALID,
                            "transfer %zu of the batch is of nothing or to oneself", i);
        }
        if (amount_add(*out_total, amount, out_total) != ERR_OK) {
            return note_set(step->note, ERR_RANGE, "the batch's amounts are too large together");
        }
    }
    return ERR_OK;
}

enum { AHEAD = 32 }; /* receivers whose records are on their way from memory at one time */

static enum err items_credit(struct step *step, struct bytes items, size_t count)
{
    struct digest keys[AHEAD];
    const struct ledger_account *found[AHEAD];
    enum err err = ERR_OK;
    for (size_t first = 0; first < count && err == ERR_OK; first += AHEAD) {
        const uint8_t *at = items.data + first * LEDGER_TRANSFER_SIZE;
        size_t some = count - first < AHEAD ? count - first : AHEAD;
        state_keys(STATE_ACCOUNT, at, LEDGER_TRANSFER_SIZE, some, keys);
        for (size_t i = 0; i < some; i++) {
            state_prefetch(step->state, &keys[i]);
        }
        for (size_t i = 0; i < some; i++) {
            state_prefetch_record(step->state, STATE_ACCOUNT, &keys[i]);
        }
        for (size_t i = 0; i < some; i++) {
            found[i] = state_get_key(step->state, &keys[i]);
        }
        for (size_t i = 0; i < some && err == ERR_OK; i++) {
            struct account_id to;
            struct amount amount;
            item_take(at + i * LEDGER_TRANSFER_SIZE, &to, &amount);
            if (found[i] == NULL) { /* an earlier transfer may have made it since */
                found[i] = state_get_key(step->state, &keys[i]);
            }
            err = step_credit(step, found[i], &to, amount, "transfer");
        }
    }
    return err;
}

enum err rule_transfer_batch(struct step *step, const Openledger__V1__TransferBatch *action)
{
    struct bytes items = ledger_bytes(action->items);
    size_t count = items.size / LEDGER_TRANSFER_SIZE;
    struct amount total;
    char memo[LEDGER_REASON_MAX + 1];
    if (count == 0 || count > LEDGER_TRANSFERS_MAX || items.size % LEDGER_TRANSFER_SIZE != 0) {
        return note_set(step->note, ERR_RANGE,
                        "the batch has %zu bytes, not 1 to %d transfers of %d", items.size,
                        LEDGER_TRANSFERS_MAX, LEDGER_TRANSFER_SIZE);
    }
    enum err err = step_text(step, action->memo, LEDGER_REASON_MAX, "memo", memo);
    err = err ? err : items_check(step, items, count, &total);
    err = err ? err : step_leg(step, &step->sender, false, total, "transfer", NULL);
    return err ? err : items_credit(step, items, count);
}
