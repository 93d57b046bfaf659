/* settlement.c - see settlement.h. */
#include "services/settlement/settlement.h"

#include <stdlib.h>
#include <string.h>

#include "services/settlement/internal.h"
#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/base/parallel.h"
#include "shared/crypto/sha256.h"
#include "shared/crypto/signed_note.h"
#include "shared/ledger/proof.h"
#include "shared/ledger/replay.h"
#include "shared/ledger/tx.h"
#include "shared/merkle/merkle.h"
#include "shared/platform/file.h"

enum {
    /* Legs whose index LMDB holds in memory before it is committed; 2 MB while somebody waits. */
    INDEX_SPILL_LEGS = 10000,
    INDEX_COMMIT_LEGS = 50000,
    REPEAT_ENTRIES = 1000000, /* how far back a transaction that is not remembered is looked for */
    GROUP_PARTS = 4,
    SNAPSHOT_BLOCKS = 1000
};

static enum err blob_find(void *context, const struct digest *digest, struct buf *out)
{
    return blob_get(context, digest, out, NULL);
}

static struct ledger_blobs blobs_of(struct settlement *settlement)
{
    return (struct ledger_blobs){.get = blob_find, .context = settlement->blobs};
}

void settlement_block_add(struct settlement *settlement, uint64_t last_index, struct bytes header)
{
    if (settlement->block_count == settlement->block_capacity) {
        settlement->block_capacity =
            settlement->block_capacity == 0 ? 256 : 2 * settlement->block_capacity;
        settlement->blocks =
            realloc(settlement->blocks, settlement->block_capacity * sizeof *settlement->blocks);
        CHECK(settlement->blocks != NULL);
    }
    struct block *block = &settlement->blocks[settlement->block_count++];
    block->last_index = last_index;
    merkle_leaf(header.data, header.size, &block->leaf);
}

/* ---- start -------------------------------------------------------------------------------------- */

/* What follows from an entry that was just applied. */
static enum err entry_index(struct settlement *settlement, struct note *note)
{
    const struct ledger_effects *effects = &settlement->effects;
    if (effects->kind == LEDGER_KIND_SEAL) {
        settlement_block_add(settlement, effects->index, buf_bytes(&effects->header));
    }
    settlement->unindexed_legs += effects->leg_count;
    return settlement_store_index(settlement->store, effects, note);
}

static enum err index_commit(struct settlement *settlement, struct note *note)
{
    struct ledger_head head;
    ledger_head(settlement->ledger, &head);
    if (head.index == 0) {
        return settlement_store_commit(settlement->store, note);
    }
    const struct settlement_store_mark mark = {
        .chain_id = head.chain_id, .index = head.index, .entry_hash = head.entry_hash};
    enum err err = settlement_store_mark_put(settlement->store, &mark, note);
    settlement->unindexed_legs = 0;
    if (err == ERR_OK && head.sealed_index == head.index &&
        head.height >= settlement->snapshot_height + settlement->snapshot_blocks) {
        struct buf snapshot;
        buf_init(&snapshot, SNAPSHOT_MAX);
        err = ledger_snapshot(settlement->ledger, &snapshot);
        err = err ? err
                  : settlement_store_snapshot_put(settlement->store, buf_bytes(&snapshot), note);
        buf_deinit(&snapshot);
        settlement->snapshot_height = head.height;
    }
    return err ? err : settlement_store_commit(settlement->store, note);
}

struct replaying {
    struct settlement *settlement;
    bool final;
};

static enum err replayed(void *context, struct bytes entry, struct note *note)
{
    struct replaying *replaying = context;
    struct settlement *settlement = replaying->settlement;
    (void)entry;
    enum err err = settlement_vouch_check(settlement, note);
    err = err ? err : entry_index(settlement, note);
    if (err == ERR_OK && replaying->final) {
        settlement->final = settlement->effects.index;
        settlement->replayed++;
        err = settlement->unindexed_legs >= INDEX_COMMIT_LEGS ? index_commit(settlement, note)
                                                              : ERR_OK;
    }
    return err;
}

enum err settlement_replay(struct settlement *settlement, uint64_t until, bool final,
                           struct note *note)
{
    struct ledger_head head;
    const struct ledger_blobs blobs = blobs_of(settlement);
    struct replaying replaying = {settlement, final};
    const struct ledger_replay_options options = {.ledger = settlement->ledger,
                                                  .blobs = &blobs,
                                                  .parallel = settlement->parallel,
                                                  .signed_until = settlement->vouched.last_index,
                                                  .effects = &settlement->effects,
                                                  .applied = replayed,
                                                  .context = &replaying};
    ledger_head(settlement->ledger, &head);
    if (head.index >= until) {
        return ERR_OK;
    }
    struct ledger_replay *replay = ledger_replay_begin(&options);
    enum err err = ERR_OK;
    for (uint64_t i = head.index; i < until && err == ERR_OK; i++) {
        buf_clear(&settlement->entry);
        err = journal_read(settlement->journal, i, &settlement->entry, note);
        err = err ? err : ledger_replay_entry(replay, buf_bytes(&settlement->entry), note);
    }
    enum err ended = ledger_replay_end(replay, note);
    err = ended ? ended : err;
    ledger_head(settlement->ledger, &head);
    return err ? note_wrap(note, err, "entry %llu of the journal",
                           (unsigned long long)head.index + 1)
               : ERR_OK;
}

/* Applies what is known to be final at the start: everything, when there are no other replicas. */
static enum err replay_all(struct settlement *settlement, uint64_t final, struct note *note)
{
    uint64_t until = journal_count(settlement->journal);
    final = final > settlement->final ? final : settlement->final;
    settlement->final = 0;
    if (settlement->agreement != NULL && final < until) {
        until = final;
    }
    if (until < settlement->vouched.last_index) { /* its root will not be seen */
        settlement->vouched.last_index = 0;
    }
    enum err err = settlement_replay(settlement, until, true, note);
    struct ledger_head head;
    ledger_head(settlement->ledger, &head);
    settlement->final = head.index;
    return err ? err : index_commit(settlement, note);
}

static enum err checkpoint_write(struct settlement *settlement, struct note *note)
{
    struct ledger_head head;
    ledger_head(settlement->ledger, &head);
    if (head.height == 0 || head.height == settlement->checkpoint_height) {
        return ERR_OK;
    }
    buf_clear(&settlement->checkpoint);
    enum err err = ledger_checkpoint_sign(&head.chain_id, head.height, &head.headers_root,
                                          settlement->sequencer, &settlement->checkpoint);
    settlement->checkpoint_height = err ? settlement->checkpoint_height : head.height;
    return err ? err
               : file_write_quick(settlement->checkpoint_path, buf_bytes(&settlement->checkpoint),
                                  0644, note);
}

static enum err folders_open(struct settlement *settlement, const char *folder, struct note *note)
{
    const struct journal_options journal = {.folder = settlement->log_folder,
                                            .segment_size = settlement->segment_size};
    enum err err = file_path(settlement->log_folder, "%s/log", folder);
    if (err == ERR_OK && settlement->index_folder[0] == '\0') {
        err = file_path(settlement->index_folder, "%s/index", folder);
    }
    err = err ? err : file_path(settlement->checkpoint_path, "%s/checkpoint", folder);
    err = err ? err : file_path(settlement->tiles_folder, "%s/tiles", folder);
    err = err ? err : file_make_folders(folder, note);
    err = err ? err : journal_open(&journal, &settlement->journal, note);
    if (err != ERR_OK) {
        return err;
    }
    err = settlement_store_open(settlement->index_folder, &settlement->store, note);
    if (err == ERR_CORRUPT) { /* derived: make it anew */
        log_warn("index_anew note=\"%s\" now=\"deleted, and made again from the journal\"",
                 note->text);
        err = file_remove_tree(settlement->index_folder, note);
        err = err ? err : settlement_store_open(settlement->index_folder, &settlement->store, note);
    }
    return err;
}

static enum err recover(struct settlement *settlement, const struct settlement_options *options,
                        struct note *note)
{
    enum err err = settlement_state_load(settlement, options->genesis, note);
    if (err == ERR_OK) {
        (void)ledger_parallel(settlement->ledger, settlement->parallel);
    }
    return err ? err : replay_all(settlement, options->final, note);
}

/* From genesis and checking every signature: nothing is vouched for. */
static enum err recover_anew(struct settlement *settlement,
                             const struct settlement_options *options, struct note *note)
{
    settlement->vouched.last_index = 0;
    settlement->final = 0;
    settlement->replayed = 0;
    settlement->snapshot_height = 0;
    settlement->unindexed_legs = 0;
    ledger_destroy(settlement->ledger);
    settlement->ledger = NULL;
    enum err err = settlement_store_clear(settlement->store, note);
    err = err ? err : ledger_create(options->genesis, &settlement->ledger, note);
    return err ? err : recover(settlement, options, note);
}

enum err settlement_open(const struct settlement_options *options,
                         struct settlement **out_settlement, struct note *note)
{
    struct settlement *settlement = calloc(1, sizeof *settlement);
    if (settlement == NULL) {
        return ERR_NO_MEMORY;
    }
    ledger_effects_init(&settlement->effects);
    buf_init(&settlement->entry, LEDGER_ENTRY_MAX);
    buf_init(&settlement->checkpoint, 4096);
    buf_init(&settlement->cosigned, SIGNED_NOTE_MAX);
    settlement->blobs = options->blobs;
    settlement->sequencer = options->sequencer;
    settlement->snapshot_blocks =
        options->snapshot_blocks == 0 ? SNAPSHOT_BLOCKS : options->snapshot_blocks;
    settlement->agreement = options->agreement;
    settlement->segment_size = options->segment_size;
    settlement->parallel = options->parallel == NULL ? &parallel_serial : options->parallel;
    enum err err = file_path(settlement->index_folder, "%s",
                             options->index_folder == NULL ? "" : options->index_folder);
    err = err ? err : ledger_create(options->genesis, &settlement->ledger, note);
    if (err == ERR_OK && !public_key_equal(&ledger_parameters(settlement->ledger)->sequencer,
                                           key_pair_public(options->sequencer))) {
        err = note_set(note, ERR_DENIED, "the sequencer's key is not the one in the genesis file");
    }
    err = err ? err : folders_open(settlement, options->folder, note);
    if (err == ERR_OK) {
        settlement_vouch_read(settlement);
        err = recover(settlement, options, note);
    }
    if (err != ERR_OK && settlement->vouched.refuted) {
        err = recover_anew(settlement, options, note);
    }
    err = err ? err : settlement_lost_check(settlement, note);
    err = err ? err : checkpoint_write(settlement, note);
    if (err != ERR_OK) {
        settlement_close(settlement);
        return err;
    }
    *out_settlement = settlement;
    return ERR_OK;
}

void settlement_close(struct settlement *settlement)
{
    if (settlement == NULL) {
        return;
    }
    settlement_store_close(settlement->store);
    journal_close(settlement->journal);
    ledger_destroy(settlement->ledger);
    ledger_effects_deinit(&settlement->effects);
    buf_deinit(&settlement->entry);
    buf_deinit(&settlement->checkpoint);
    buf_deinit(&settlement->cosigned);
    tlog_store_close(settlement->tiles);
    free(settlement->blocks);
    free(settlement);
}

const struct ledger *settlement_ledger(const struct settlement *settlement)
{
    return settlement->ledger;
}

struct settlement_store *settlement_index(struct settlement *settlement)
{
    return settlement->store;
}

void settlement_state_root(struct settlement *settlement, struct digest *out_root)
{
    ledger_state_root(settlement->ledger, out_root);
}

const char *settlement_log_folder(const struct settlement *settlement)
{
    return settlement->log_folder;
}

uint64_t settlement_replayed(const struct settlement *settlement)
{
    return settlement->replayed;
}

uint64_t settlement_torn_size(const struct settlement *settlement)
{
    return journal_torn_size(settlement->journal);
}

/* ---- taking transactions ------------------------------------------------------------------------ */

enum err settlement_fail(struct settlement *settlement, enum err err, struct note *note)
{
    settlement->broken = err == ERR_OK ? ERR_IO : err;
    return note_wrap(note, settlement->broken, "the ledger cannot be written");
}

/* What was just applied, settlement->entry, goes to the journal and the index. */
static enum err keep(struct settlement *settlement, struct note *note)
{
    uint64_t at;
    enum err err = journal_append(settlement->journal, buf_bytes(&settlement->entry), &at, note);
    if (err != ERR_OK) {
        return settlement_fail(settlement, ERR_IO, note);
    }
    CHECK(at + 1 == settlement->effects.index);
    err = entry_index(settlement, note);
    return err ? settlement_fail(settlement, ERR_IO, note) : ERR_OK;
}

/* Submissions [begin, end) of a group are prepared, those before them sequenced. */
struct group {
    struct settlement *settlement;
    struct ledger_blobs blobs;
    struct digest chain_id;
    struct settlement_submission *items;
    size_t sequenced, begin, end;
    uint64_t now_ms;
};

/* Submissions first, then the hashing of what those before them posted. */
static void prepare_one(void *argument, uint32_t i)
{
    struct group *group = argument;
    size_t count = group->end - group->begin;
    if (i >= count) {
        ledger_hashing_task(group->settlement->ledger, i - (uint32_t)count);
        return;
    }
    struct settlement_submission *item = &group->items[group->begin + i];
    item->prepared = ledger_prepare_tx(&group->chain_id, item->signed_tx, &group->blobs);
}

/* Is a refused transaction on the ledger already? The state remembers those that are still valid; of
 * others only recent ones are looked for, so that asking for old ones costs us little. */
static bool is_repeated(struct settlement *settlement, const struct digest *tx, enum err refused,
                        uint64_t *out_index)
{
    struct ledger_head head;
    ledger_head(settlement->ledger, &head);
    if (tx == NULL) {
        return false;
    }
    bool remembered = ledger_remembers(settlement->ledger, tx);
    return (remembered || refused == ERR_RANGE) &&
           settlement_store_tx(settlement->store, tx, head.index,
                               remembered ? UINT64_MAX : REPEAT_ENTRIES, out_index) == ERR_OK;
}

/* The submission's turn. A transaction that is on the ledger already gets the answer it got before. */
static enum err sequence_one(struct settlement *settlement, struct settlement_submission *item,
                             uint64_t now_ms)
{
    if (settlement->broken) {
        return note_set(&item->note, settlement->broken, "the ledger cannot be written");
    }
    struct settlement_result result = {.repeated = false};
    const struct digest *tx = ledger_prepared_tx(item->prepared);
    buf_clear(&settlement->entry);
    enum err err = ledger_sequence(settlement->ledger, item->prepared, now_ms, &settlement->entry,
                                   &settlement->effects, &item->note);
    if (err == ERR_OK) {
        err = keep(settlement, &item->note);
        result.index = settlement->effects.index;
    } else if (is_repeated(settlement, tx, err, &result.index)) {
        result.repeated = true;
        item->note.text[0] = '\0';
        err = ERR_OK;
    }
    if (err == ERR_OK) {
        result.tx = *tx;
        item->result = result;
    }
    return err;
}

static void sequence_prepared(void *argument)
{
    struct group *group = argument;
    for (; group->sequenced < group->begin; group->sequenced++) {
        struct settlement_submission *item = &group->items[group->sequenced];
        item->err = sequence_one(group->settlement, item, group->now_ms);
        ledger_prepared_destroy(item->prepared);
        item->prepared = NULL;
    }
}

/* In parts: the next one is prepared on all cores while this thread sequences the one before. */
void settlement_submit_many(struct settlement *settlement, struct settlement_submission *items,
                            size_t count, uint64_t now_ms)
{
    struct ledger_head head;
    ledger_head(settlement->ledger, &head);
    struct group group = {.settlement = settlement,
                          .blobs = blobs_of(settlement),
                          .chain_id = head.chain_id,
                          .items = items,
                          .now_ms = now_ms};
    const size_t part = count / GROUP_PARTS + 1;
    CHECK(count <= SETTLEMENT_GROUP_MAX);
    while (group.begin < count) {
        group.end = count - group.begin < part ? count : group.begin + part;
        uint32_t tasks =
            (uint32_t)(group.end - group.begin) + ledger_hashing_take(settlement->ledger);
        parallel_beside(settlement->parallel, tasks, prepare_one, &group, sequence_prepared,
                        &group);
        group.begin = group.end;
    }
    sequence_prepared(&group);
}

enum err settlement_submit(struct settlement *settlement, struct bytes signed_tx, uint64_t now_ms,
                           struct settlement_result *out_result, struct note *note)
{
    struct settlement_submission item = {.signed_tx = signed_tx};
    settlement_submit_many(settlement, &item, 1, now_ms);
    if (item.err == ERR_OK) {
        *out_result = item.result;
    } else if (note != NULL) {
        *note = item.note;
    }
    return item.err;
}

enum err settlement_sync(struct settlement *settlement, struct note *note)
{
    if (settlement->broken) {
        return note_set(note, settlement->broken, "the ledger cannot be written");
    }
    struct ledger_head head;
    const struct settlement_agreement *agreement = settlement->agreement;
    ledger_head(settlement->ledger, &head);
    if (settlement->final == head.index &&
        settlement->checkpoint_height == settlement->block_count) {
        return ERR_OK;
    }
    enum err err = ERR_OK;
    if (settlement->final < head.index) {
        if (agreement != NULL) {
            agreement->offer(agreement->context, head.index);
        }
        err = journal_sync(settlement->journal, note);
        if (err == ERR_OK && agreement != NULL &&
            agreement->wait(agreement->context, head.index, note) != ERR_OK) {
            return settlement_fail(settlement, ERR_UNAVAILABLE, note);
        }
        settlement->final = err ? settlement->final : head.index;
    }
    /* What is not committed is derived again at the next opening: it need not wait for the disk each time. */
    if (err == ERR_OK && head.sealed_index == head.index) {
        err = index_commit(settlement, note);
    } else if (err == ERR_OK && settlement->unindexed_legs >= INDEX_SPILL_LEGS) {
        err = settlement_store_spill(settlement->store, note);
        settlement->unindexed_legs = 0;
    }
    err = err ? err : checkpoint_write(settlement, note);
    return err ? settlement_fail(settlement, ERR_IO, note) : ERR_OK;
}

uint64_t settlement_durable(const struct settlement *settlement)
{
    return settlement->final;
}

bool settlement_wants_seal(const struct settlement *settlement)
{
    struct ledger_head head;
    ledger_head(settlement->ledger, &head);
    return head.index > head.sealed_index || ledger_next_deadline(settlement->ledger) != 0;
}

enum err settlement_seal(struct settlement *settlement, uint64_t now_ms, struct note *note)
{
    if (settlement->broken) {
        return note_set(note, settlement->broken, "the ledger cannot be written");
    }
    buf_clear(&settlement->entry);
    enum err err = ledger_make_seal(settlement->ledger, now_ms, &settlement->entry);
    err = err ? err
              : ledger_apply(settlement->ledger, buf_bytes(&settlement->entry), NULL,
                             &settlement->effects, note);
    err = err ? err : keep(settlement, note);
    return err ? err : settlement_sync(settlement, note);
}

/* ---- reading ------------------------------------------------------------------------------------ */

enum err settlement_entry(struct settlement *settlement, uint64_t index, struct buf *out,
                          struct note *note)
{
    if (index == 0 || index > journal_count(settlement->journal)) {
        return note_set(note, ERR_RANGE, "entry %llu, the log has %llu", (unsigned long long)index,
                        (unsigned long long)journal_count(settlement->journal));
    }
    return journal_read(settlement->journal, index - 1, out, note);
}

struct bytes settlement_checkpoint(const struct settlement *settlement)
{
    return buf_bytes(&settlement->checkpoint);
}

uint64_t settlement_height_of(const struct settlement *settlement, uint64_t index)
{
    size_t low = 0;
    size_t high = settlement->block_count;
    while (low < high) { /* the first block that ends at or behind index */
        size_t middle = low + (high - low) / 2;
        if (settlement->blocks[middle].last_index < index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == settlement->block_count ? 0 : low + 1;
}
