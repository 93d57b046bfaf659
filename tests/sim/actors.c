/* actors.c - what must be true of gateways and their grants at the end of a history; see gateways.h. */
#include "tests/sim/actors.h"

#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"
#include "tests/sim/disk.h"
#include "tests/sim/gateways.h"
#include "tests/sim/inside.h"

/* Adds what a receipt drew to its grant's sum. */
static void receipt_look(struct actor *actor, struct bytes data, struct amount *paid)
{
    struct digest id;
    struct note note = {""};
    Openledger__V1__Receipt *receipt = NULL;
    CHECK(ledger_receipt_decode(data, &receipt, NULL) == ERR_OK);
    ledger_receipt_id(data, &id);
    for (size_t i = 0; i < actor->seen_count; i++) {
        if (memcmp(actor->seen[i].request_id, receipt->request_id.data, GATEWAY_REQUEST_ID_SIZE) ==
            0) {
            actor->seen[i].receipts++;
        }
    }
    struct digest grant;
    char fee[AMOUNT_TEXT_SIZE];
    CHECK(digest_from_bytes(ledger_bytes(receipt->grant), &grant) == ERR_OK);
    const struct ledger_receipt *record = ledger_receipt(sim.truth.witness, &id);
    if (record == NULL && actor_grant(&grant)->closed) {
        sim.report->late_receipts++; /* its grant was closed before: the gateway's loss */
    } else if (record == NULL || strcmp(amount_format(record->fee, fee), receipt->fee) != 0) {
        actor_wrong(actor, "a receipt is not on the ledger as it was shown", &note);
    }
    for (size_t i = 0; record != NULL && i < WORK_GRANTS; i++) {
        if (digest_equal(&grant, &sim.work->grants[i])) {
            CHECK(amount_add(paid[i], record->fee, &paid[i]) == ERR_OK);
        }
    }
    sim.report->receipts++;
    openledger__v1__receipt__free_unpacked(receipt, NULL);
}

struct looking {
    struct actor *actor;
    struct amount paid[WORK_GRANTS];
};

static enum err conclude(void *argument, uint64_t index, struct bytes data)
{
    struct looking *looking = argument;
    (void)index;
    Openledger__V1__GatewayRecord *message =
        openledger__v1__gateway_record__unpack(NULL, data.size, data.data);
    CHECK(message != NULL);
    if (message->content_case == OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_FINISHED) {
        receipt_look(looking->actor, ledger_bytes(message->finished->receipt), looking->paid);
    }
    openledger__v1__gateway_record__free_unpacked(message, NULL);
    return ERR_OK;
}

/* What a grant holds now is what it began with less what its receipts drew; closed, it is nothing. */
static void check_money(const struct amount paid[WORK_GRANTS])
{
    for (size_t i = 0; i < WORK_GRANTS; i++) {
        struct note note = {""};
        struct account_id escrow;
        struct amount rest;
        const struct ledger_grant *grant = actor_grant(&sim.work->grants[i]);
        ledger_grant_escrow_id(&sim.work->grants[i], &escrow);
        const struct ledger_account *account = ledger_account(sim.truth.witness, &escrow);
        struct amount held = account == NULL ? AMOUNT_ZERO : account->balance;
        if (grant == NULL) {
            continue;
        }
        if (!amount_equal(grant->drawn, paid[i]) || amount_sub(grant->limit, paid[i], &rest)) {
            actor_wrong(&actors[0], "a grant has not paid what its receipts say", &note);
        } else if (!amount_equal(held, grant->closed ? AMOUNT_ZERO : rest)) {
            actor_wrong(&actors[0], "a grant does not hold what it has not paid", &note);
        }
    }
}

void gateways_conclude(void)
{
    struct looking looking = {.actor = NULL};
    for (uint32_t i = 0; i < ACTORS; i++) {
        struct actor *actor = &actors[i];
        struct note note = {""};
        disk_die_after(actor->disk, UINT32_MAX); /* what was still to fail does not any more */
        looking.actor = actor;
        CHECK(journal_each(actor->journal, 0, conclude, &looking, &note) == ERR_OK);
        for (size_t k = 0; k < gateway_lease_count(actor->gateway); k++) {
            if (!amount_is_zero(gateway_lease_at(actor->gateway, k)->held)) {
                actor_wrong(actor, "a lease holds something back for ever", &note);
            }
        }
        for (size_t k = 0; k < actor->seen_count; k++) {
            if (actor->seen[k].receipts != 1) {
                (void)note_set(&note, ERR_CONFLICT, "answer %u has %u receipts",
                               actor->seen[k].request_id[1], actor->seen[k].receipts);
                actor_wrong(actor, "not one receipt for an answer that began", &note);
            }
        }
    }
    check_money(looking.paid);
}
