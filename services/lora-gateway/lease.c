/* lease.c - see desk.h: what the desk asks of the ledger and hears from it.
 *
 * A lease is ours when the ledger holds it through a transaction that our journal names: another
 * replica with our account may have asked for the same number. So the transaction is recorded before
 * it is sent, and whoever's it is shows in the entry. */
#include <stdlib.h>

#include "services/lora-gateway/desk.h"
#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"
#include "shared/platform/random.h"

#define LEASE_ATTEMPTS 3 /* another replica may take the number first */

/* ---- leases -------------------------------------------------------------------------------------- */

/* How much to lease: the setting or everything, at least price, at most what is left. */
static enum err lease_size(const struct desk *desk, const struct ledger_grant *grant,
                           struct amount price, struct amount *out, struct note *note)
{
    struct amount left;
    struct amount size;
    CHECK(amount_sub(grant->limit, grant->leased, &left) == ERR_OK);
    if (amount_compare(left, price) < 0 || amount_is_zero(left)) {
        char text[AMOUNT_TEXT_SIZE];
        return note_set(note, ERR_FUNDS, "the grant has %s OPEN left, the answer may cost more",
                        amount_format(left, text));
    }
    size = left;
    if (desk->settings.lease_amount[0] != '\0') {
        enum err err = amount_parse(desk->settings.lease_amount, &size);
        if (err != ERR_OK) {
            return note_set(note, err, "lease-amount is no amount");
        }
        size = amount_compare(size, price) < 0 ? price : size;
    }
    *out = amount_min(size, left);
    return ERR_OK;
}

/* Records and submits one OpenLease. */
static enum err submit_lease(struct desk *desk, const struct ledger_grant *grant,
                             struct amount amount, struct note *note)
{
    struct ledger_head head;
    struct digest id = grant->id;
    struct digest tx_id;
    uint8_t nonce[LEDGER_NONCE_SIZE];
    char text[AMOUNT_TEXT_SIZE];
    uint32_t number = grant->lease_count + 1;
    ledger_head(desk_ledger(desk), &head);
    random_bytes(nonce, sizeof nonce);
    /* Log time judges it, which is ahead of ours after a jump of the sequencer's clock. */
    uint64_t now_ms = clock_real_ms() > head.time_ms ? clock_real_ms() : head.time_ms;
    struct ledger_tx tx =
        ledger_tx_at(&head.chain_id, &desk->account, now_ms, LEDGER_TX_VALIDITY_MS, nonce);
    Openledger__V1__OpenLease action = OPENLEDGER__V1__OPEN_LEASE__INIT;
    action.grant = ledger_binary(id.bytes, DIGEST_SIZE);
    action.lease = number;
    action.amount = (char *)(uintptr_t)amount_format(amount, text);
    Openledger__V1__TxBody body = OPENLEDGER__V1__TX_BODY__INIT;
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_OPEN_LEASE;
    body.open_lease = &action;
    struct buf signed_tx;
    buf_init(&signed_tx, LEDGER_ENTRY_MAX);
    enum err err = ledger_tx_build(&tx, &body, desk->keys, &signed_tx, &tx_id);
    if (err == ERR_OK) {
        Openledger__V1__GatewayLease lease = OPENLEDGER__V1__GATEWAY_LEASE__INIT;
        lease.grant = action.grant;
        lease.lease = number;
        lease.amount = action.amount;
        lease.tx = ledger_binary(tx_id.bytes, DIGEST_SIZE);
        Openledger__V1__GatewayRecord record = OPENLEDGER__V1__GATEWAY_RECORD__INIT;
        record.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_LEASE;
        record.lease = &lease;
        err = desk_record(desk, &record, NULL, note);
    }
    if (err == ERR_OK) {
        err = journal_sync(desk->journal, note); /* before the ledger hears of it */
        if (err != ERR_OK) {
            desk_fail(desk, err, note);
        }
    }
    if (err == ERR_OK) {
        err = follow_submit_signed(desk->follow, buf_bytes(&signed_tx), DESK_LEASE_WAIT_MS, NULL,
                                   NULL, note);
        log_info("lease_opened lease=%u amount=%s err=%s note=\"%s\"", number, text, err_name(err),
                 err == ERR_OK ? "" : note->text);
    }
    buf_deinit(&signed_tx);
    return err;
}

enum err desk_lease(struct desk *desk, const struct digest *id, struct amount price,
                    uint32_t *out_lease, struct note *note)
{
    enum err err = ERR_CONFLICT;
    for (uint32_t attempt = 0; attempt < LEASE_ATTEMPTS && err == ERR_CONFLICT; attempt++) {
        const struct ledger *ledger = desk_ledger(desk);
        const struct ledger_grant *grant = ledger == NULL ? NULL : ledger_grant(ledger, id);
        if (grant == NULL) {
            return note_set(note, ERR_NOT_FOUND, "the grant is not on the ledger");
        }
        if (!account_id_equal(&grant->gateway, &desk->account)) {
            return note_set(note, ERR_DENIED, "the grant is for another gateway");
        }
        if (grant->closed || clock_real_ms() >= grant->expires_ms) {
            return note_set(note, ERR_DENIED, "the grant is closed or has expired");
        }
        const struct gateway_lease *lease;
        while ((lease = gateway_lease_for(desk->gateway, id, price)) != NULL) {
            const struct ledger_lease *there = ledger_lease(ledger, id, lease->lease);
            uint32_t number = lease->lease;
            CHECK(there != NULL); /* it was confirmed by an entry of this ledger */
            if (gateway_lease_check(desk->gateway, id, number, there->amount, there->next_number)) {
                *out_lease = number;
                return ERR_OK;
            }
            log_error("lease_lost lease=%u next_number=%llu", number,
                      (unsigned long long)there->next_number);
        }
        struct amount size = AMOUNT_ZERO;
        err = lease_size(desk, grant, price, &size, note);
        if (err == ERR_OK) {
            err = submit_lease(desk, grant, size, note);
            err = err == ERR_OK ? ERR_CONFLICT : err; /* look again: it should be there now */
        }
    }
    return err == ERR_CONFLICT
               ? note_set(note, ERR_UNAVAILABLE, "the ledger did not give a lease, try again")
               : err;
}

/* ---- the ledger ---------------------------------------------------------------------------------- */

static void remember_time(struct desk *desk, uint64_t index, uint64_t time_ms)
{
    if (desk->time_count == DESK_ADAPTER_TIMES_MAX) {
        return;
    }
    if (desk->time_count == desk->time_capacity) {
        size_t capacity = desk->time_capacity == 0 ? 64 : desk->time_capacity * 2;
        struct desk_time *times = realloc(desk->times, capacity * sizeof *times);
        if (times == NULL) {
            return;
        }
        desk->times = times;
        desk->time_capacity = capacity;
    }
    desk->times[desk->time_count++] = (struct desk_time){.index = index, .time_ms = time_ms};
}

uint64_t desk_time_of(const struct desk *desk, uint64_t entry_index)
{
    for (size_t i = 0; i < desk->time_count; i++) {
        if (desk->times[i].index == entry_index) {
            return desk->times[i].time_ms;
        }
    }
    return 0;
}

/* A lease of ours went on the ledger: only the entry's transaction tells whose it is. */
static void see_lease(struct desk *desk, const struct ledger *ledger, const struct digest *tx)
{
    for (size_t i = 0; i < gateway_lease_count(desk->gateway); i++) {
        const struct gateway_lease *lease = gateway_lease_at(desk->gateway, i);
        struct digest grant = lease->grant;
        if (!lease->confirmed && ledger_lease(ledger, &grant, lease->lease) != NULL) {
            (void)gateway_lease_confirm(desk->gateway, &grant, lease->lease, tx);
        }
    }
}

void desk_on_entry(void *context, const struct ledger *ledger, const struct ledger_effects *effects,
                   struct bytes entry)
{
    struct desk *desk = context;
    (void)entry;
    if (effects->kind == OPENLEDGER__V1__TX_BODY__ACTION_OPEN_LEASE &&
        account_id_equal(&effects->sender, &desk->account)) {
        see_lease(desk, ledger, &effects->tx);
    } else if (effects->kind == OPENLEDGER__V1__TX_BODY__ACTION_PUBLISH_ADAPTER) {
        remember_time(desk, effects->index, effects->time_ms);
    }
}
