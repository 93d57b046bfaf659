/* settle.h - what the files about settlement share. Internal to this room. */
#pragma once

#include "shared/ledger/machine.h"
#include "shared/ledger/scan.h"

struct settle_receipt {
    struct receipt_view view;
    struct digest id;
};

/* The batch that a settlement transaction names. */
struct settle_batch {
    enum err err; /* it is not at hand, or can never be applied: why */
    struct note note;
    enum batch_sort sort;
    struct digest digest;
    struct buf bytes; /* the views point into it */
    struct batch_view head;
    struct settle_receipt *receipts; /* BATCH_RECEIPTS: head.count */
    struct share_set_view *sets;     /* BATCH_SHARES: head.count */
};

/* Are profile and fee what the ledger says they are at the time the receipt was opened? */
MUST_USE enum err settle_receipt_check(const struct ledger *ledger,
                                       const struct receipt_view *receipt,
                                       const struct ledger_adapter *adapter, struct note *note);

/* Sums of a batch, one per (account, reason, direction): they become legs in the order in which they
 * first came up. */
struct net_sum {
    struct account_id account;
    const char *reason;
    bool credit;
    struct amount amount;
};
struct net {
    struct net_sum *sums;
    size_t count, capacity;
    uint32_t *slots; /* place in sums + 1, by hash; 0: free */
    size_t slot_count;
};
/* Where the sum is, made when new. The place holds as long as the net. */
size_t net_place(struct net *net, const struct account_id *account, const char *reason,
                 bool credit);
void net_add(struct net *net, size_t place, struct amount amount);
/* Records the sums as legs with this reference (NULL: none), debits first. ERR_FUNDS, ERR_LIMIT. */
MUST_USE enum err net_post(const struct net *net, struct step *step,
                           const struct digest *reference);
void net_deinit(struct net *net); /* a zeroed net is empty */

/* The split in force when a receipt is charged: kept with it, so that its parts can be derived again
 * after governance has changed the parameters. */
uint64_t settle_split_pack(const struct ledger_parameters *parameters);
void settle_split_unpack(uint64_t split, struct ledger_parameters *out_parameters);
/* Splits pending: out_parts[0..count) by the shares, the last one is unearned. */
void settle_split_shares(struct amount pending, const struct share_set_view *set,
                         struct amount *out_parts);
