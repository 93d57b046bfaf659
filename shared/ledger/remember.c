/* remember.c - ids of transactions, kept until their validity has ended, so that none is applied twice. The
 * state holds them; the heap by expiry is derived from it. */
#include <stdlib.h>

#include "shared/base/check.h"
#include "shared/ledger/machine.h"

void remember_tx(struct ledger *ledger, const struct state_tx *tx)
{
    if (ledger->expiry_count == ledger->expiry_capacity) {
        ledger->expiry_capacity = ledger->expiry_capacity == 0 ? 64 : 2 * ledger->expiry_capacity;
        ledger->expiries =
            realloc(ledger->expiries, ledger->expiry_capacity * sizeof *ledger->expiries);
        CHECK(ledger->expiries != NULL);
    }
    struct expiry *heap = ledger->expiries;
    size_t i = ledger->expiry_count++;
    for (; i > 0 && heap[(i - 1) / 2].valid_until_ms > tx->valid_until_ms; i = (i - 1) / 2) {
        heap[i] = heap[(i - 1) / 2];
    }
    heap[i] = (struct expiry){tx->valid_until_ms, tx->id};
}

static struct expiry expiry_pop(struct ledger *ledger)
{
    struct expiry *heap = ledger->expiries;
    struct expiry top = heap[0];
    struct expiry last = heap[--ledger->expiry_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < ledger->expiry_count &&
            heap[child + 1].valid_until_ms < heap[child].valid_until_ms) {
            child++;
        }
        if (child >= ledger->expiry_count || heap[child].valid_until_ms >= last.valid_until_ms) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

void remember_forget(struct ledger *ledger, uint64_t time_ms)
{
    while (ledger->expiry_count > 0 && ledger->expiries[0].valid_until_ms <= time_ms) {
        struct state_tx probe = {.id = expiry_pop(ledger).id};
        const void *record = state_get(ledger->state, STATE_TX, &probe);
        CHECK(record != NULL);
        state_remove(ledger->state, record);
    }
}

bool ledger_remembers(const struct ledger *ledger, const struct digest *tx)
{
    return state_get(ledger->state, STATE_TX, &(struct state_tx){.id = *tx}) != NULL;
}
