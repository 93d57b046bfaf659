/* net.c - netting: see settle.h. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/settle.h"

enum { SLOTS_MIN = 64 };

static size_t slot_home(const struct net *net, const struct account_id *account)
{
    uint64_t head;
    memcpy(&head, account->bytes, sizeof head); /* an id is a hash */
    return (size_t)(head * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (net->slot_count - 1);
}

static size_t slot_find(const struct net *net, const struct account_id *account, const char *reason,
                        bool credit)
{
    size_t at = slot_home(net, account);
    for (;; at = (at + 1) & (net->slot_count - 1)) {
        if (net->slots[at] == 0) {
            return at;
        }
        const struct net_sum *sum = &net->sums[net->slots[at] - 1];
        if (account_id_equal(&sum->account, account) && sum->credit == credit &&
            strcmp(sum->reason, reason) == 0) {
            return at;
        }
    }
}

static void slots_grow(struct net *net)
{
    net->slot_count = net->slot_count == 0 ? SLOTS_MIN : 2 * net->slot_count;
    free(net->slots);
    net->slots = calloc(net->slot_count, sizeof *net->slots);
    CHECK(net->slots != NULL);
    for (size_t i = 0; i < net->count; i++) {
        const struct net_sum *sum = &net->sums[i];
        net->slots[slot_find(net, &sum->account, sum->reason, sum->credit)] = (uint32_t)i + 1;
    }
}

size_t net_place(struct net *net, const struct account_id *account, const char *reason, bool credit)
{
    if (2 * (net->count + 1) > net->slot_count) {
        slots_grow(net);
    }
    uint32_t *slot = &net->slots[slot_find(net, account, reason, credit)];
    if (*slot == 0) {
        if (net->count == net->capacity) {
            net->capacity = net->capacity == 0 ? SLOTS_MIN : 2 * net->capacity;
            net->sums = realloc(net->sums, net->capacity * sizeof *net->sums);
            CHECK(net->sums != NULL);
        }
        net->sums[net->count++] = (struct net_sum){*account, reason, credit, AMOUNT_ZERO};
        *slot = (uint32_t)net->count;
    }
    return *slot - 1;
}

void net_add(struct net *net, size_t place, struct amount amount)
{
    struct amount *sum = &net->sums[place].amount;
    CHECK(amount_add(*sum, amount, sum) == ERR_OK); /* all of them are parts of the supply */
}

enum err net_post(const struct net *net, struct step *step, const struct digest *reference)
{
    enum err err = ERR_OK;
    for (int credit = 0; credit < 2; credit++) {
        for (size_t i = 0; i < net->count && err == ERR_OK; i++) {
            const struct net_sum *sum = &net->sums[i];
            if (sum->credit == (credit == 1)) {
                err =
                    step_leg(step, &sum->account, sum->credit, sum->amount, sum->reason, reference);
            }
        }
    }
    return err;
}

void net_deinit(struct net *net)
{
    free(net->sums);
    free(net->slots);
    *net = (struct net){.count = 0};
}
