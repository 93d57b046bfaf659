/* agree.c - struct settlement as one of several replicas: see settlement.h. */
#include "services/settlement/internal.h"
#include "shared/base/check.h"

struct journal *settlement_journal(struct settlement *settlement)
{
    return settlement->journal;
}

enum err settlement_follow(struct settlement *settlement, uint64_t index, struct note *note)
{
    if (settlement->broken) {
        return note_set(note, settlement->broken, "the ledger cannot be written");
    }
    CHECK(index <= journal_synced_count(settlement->journal));
    return settlement_replay(settlement, index, true, note);
}

enum err settlement_lead(struct settlement *settlement, uint64_t epoch, uint64_t now_ms,
                         struct note *note)
{
    if (settlement->broken) {
        return note_set(note, settlement->broken, "the ledger cannot be written");
    }
    enum err err = settlement_replay(settlement, journal_count(settlement->journal), false, note);
    if (err != ERR_OK) {
        return settlement_fail(settlement, err, note);
    }
    ledger_set_epoch(settlement->ledger, epoch);
    return settlement_seal(settlement, now_ms, note);
}

enum err settlement_confirm(struct settlement *settlement, struct note *note)
{
    struct ledger_head head;
    const struct settlement_agreement *agreement = settlement->agreement;
    ledger_head(settlement->ledger, &head);
    bool asks = settlement->final < head.index; /* what a majority takes from us now confirms us */
    enum err err = settlement_sync(settlement, note);
    if (err == ERR_OK && !asks && agreement != NULL &&
        agreement->confirm(agreement->context, note) != ERR_OK) {
        return settlement_fail(settlement, ERR_UNAVAILABLE, note);
    }
    return err;
}

const struct digest *settlement_header_leaf(const struct settlement *settlement, uint64_t height)
{
    CHECK(height >= 1 && height <= settlement->block_count);
    return &settlement->blocks[height - 1].leaf;
}
