/* rules_price.c - an adapter's price changes, an adapter or a base model is revoked. README.md has the
 * rules in words.
 *
 * Both take effect for receipts opened a notice later: by then every gateway has read of it, so none
 * signs a receipt that the ledger will not take. */
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/machine.h"

static const struct ledger_price *
price_number(const struct ledger *ledger, const struct ledger_adapter *adapter, uint32_t number)
{
    struct ledger_price probe = {.number = number};
    memcpy(probe.adapter, adapter->name, sizeof probe.adapter);
    return state_get(ledger->state, STATE_PRICE, &probe);
}

void ledger_price_at(const struct ledger *ledger, const struct ledger_adapter *adapter,
                     uint64_t opened_ms, struct ledger_price *out_price)
{
    *out_price = (struct ledger_price){.number = adapter->price_changes,
                                       .prompt = adapter->price_prompt,
                                       .completion = adapter->price_completion,
                                       .from_ms = adapter->price_from_ms};
    memcpy(out_price->adapter, adapter->name, sizeof out_price->adapter);
    if (opened_ms >= adapter->price_from_ms) {
        return;
    }
    /* The last earlier price that was in force by then; the first one always was. */
    uint32_t low = 0;
    uint32_t high = adapter->price_changes;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        const struct ledger_price *price = price_number(ledger, adapter, middle);
        CHECK(price != NULL);
        if (price->from_ms <= opened_ms) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const struct ledger_price *found = price_number(ledger, adapter, low);
    CHECK(found != NULL);
    *out_price = *found;
}

bool ledger_adapter_revoked(const struct ledger_adapter *adapter, uint64_t opened_ms)
{
    return adapter->revoked_ms != 0 && opened_ms >= adapter->revoked_ms;
}

/* The adapter, if the sender is its developer and it is not revoked. */
static enum err adapter_take(struct step *step, const char *name, const struct ledger_adapter **out)
{
    *out = ledger_adapter(step->ledger, name);
    if (*out == NULL) {
        return note_set(step->note, ERR_NOT_FOUND, "no adapter \"%.64s\"", name);
    }
    if (!account_id_equal(&(*out)->developer, &step->sender)) {
        return note_set(step->note, ERR_DENIED, "only its developer may change adapter \"%s\"",
                        (*out)->name);
    }
    return (*out)->revoked_ms != 0
               ? note_set(step->note, ERR_CONFLICT, "adapter \"%s\" is revoked", (*out)->name)
               : ERR_OK;
}

/* When what is announced now takes effect; never before what was announced earlier. */
static uint64_t notice_end(const struct step *step, const struct ledger_adapter *adapter)
{
    uint64_t end = step->time_ms + ledger_parameters(step->ledger)->price_notice_ms;
    return end > adapter->price_from_ms ? end : adapter->price_from_ms;
}

enum err rule_set_price(struct step *step, const Openledger__V1__SetPrice *action)
{
    const struct ledger_adapter *found;
    struct amount prompt;
    struct amount completion;
    enum err err = adapter_take(step, action->adapter, &found);
    err = err ? err
              : prices_take(step, action->price_prompt, action->price_completion, &prompt,
                            &completion);
    if (err != ERR_OK) {
        return err;
    }
    struct ledger_price before = {.number = found->price_changes,
                                  .prompt = found->price_prompt,
                                  .completion = found->price_completion,
                                  .from_ms = found->price_from_ms};
    struct ledger_adapter *adapter = state_edit(step->state, found);
    memcpy(before.adapter, adapter->name, sizeof before.adapter);
    (void)state_add(step->state, STATE_PRICE, &before);
    adapter->price_from_ms = notice_end(step, adapter);
    adapter->price_changes++;
    adapter->price_prompt = prompt;
    adapter->price_completion = completion;
    return ERR_OK;
}

enum err rule_revoke_adapter(struct step *step, const Openledger__V1__RevokeAdapter *action)
{
    char reason[LEDGER_REASON_MAX + 1];
    const struct ledger_adapter *found;
    enum err err = step_text(step, action->reason, LEDGER_REASON_MAX, "reason", reason);
    err = err ? err : adapter_take(step, action->adapter, &found);
    if (err == ERR_OK) {
        struct ledger_adapter *adapter = state_edit(step->state, found);
        adapter->revoked_ms = step->time_ms + ledger_parameters(step->ledger)->price_notice_ms;
    }
    return err;
}

enum err rule_revoke_model(struct step *step, const Openledger__V1__RevokeModel *action)
{
    char reason[LEDGER_REASON_MAX + 1];
    enum err err = step_text(step, action->reason, LEDGER_REASON_MAX, "reason", reason);
    if (err != ERR_OK) {
        return err;
    }
    const struct ledger_model *found = ledger_model(step->ledger, action->model);
    if (found == NULL) {
        return note_set(step->note, ERR_NOT_FOUND, "no model \"%.64s\"", action->model);
    }
    if (!account_id_equal(&found->developer, &step->sender)) {
        return note_set(step->note, ERR_DENIED, "only its developer may revoke model \"%s\"",
                        found->name);
    }
    if (found->revoked) {
        return note_set(step->note, ERR_CONFLICT, "model \"%s\" is revoked", found->name);
    }
    ((struct ledger_model *)state_edit(step->state, found))->revoked = true;
    return ERR_OK;
}
