/* verify_ledger.c - see verify_ledger.h. */
#include "services/openledger/verify_ledger.h"

#include <stdlib.h>
#include <string.h>

#include "openledger/v1/ledger.pb-c.h"
#include "services/openledger/verify_objects.h"
#include "shared/base/check.h"
#include "shared/blob/blob.h"
#include "shared/journal/journal.h"
#include "shared/ledger/proof.h"
#include "shared/ledger/replay.h"
#include "shared/ledger/tx.h"
#include "shared/platform/file.h"
#include "shared/platform/pool.h"

enum { PROGRESS_ENTRIES = 1024 }; /* between two reports of progress */

struct run {
    const struct verify_ledger_options *options;
    struct verify_ledger_report *report;
    struct note *note;
    struct ledger *ledger;
    struct blob_store *blobs;
    struct ledger_effects effects;
    struct pool *pool;
    struct journal *journal;
    struct ledger_replay *replay;
    bool told;             /* the note says which entry is meant */
    struct note blob_note; /* what is wrong with the blob that the ledger asked for */
    struct buf checkpoint;
    uint64_t checkpoint_height; /* 0: there is none */
    struct digest checkpoint_root;
    bool checkpoint_met;
};

static enum err blob_find(void *context, const struct digest *digest, struct buf *out)
{
    return blob_get(context, digest, out, NULL);
}

static enum err blob_explain(void *context, const struct digest *digest, struct buf *out)
{
    struct run *run = context;
    return blob_get(run->blobs, digest, out, &run->blob_note);
}

/* The signed statement to compare with is read first: it says at which height. */
static enum err checkpoint_load(struct run *run)
{
    char path[FILE_PATH_SIZE];
    struct ledger_trust trust;
    struct ledger_checkpoint checkpoint;
    const char *given = run->options->checkpoint_file;
    enum err err = given != NULL && given[0] != '\0'
                       ? file_path(path, "%s", given)
                       : file_path(path, "%s/../checkpoint", run->options->log_folder);
    err = err ? err : file_read(path, &run->checkpoint, run->note);
    if (err != ERR_OK) {
        return note_wrap(run->note, err, "the checkpoint");
    }
    ledger_trust(run->ledger, &trust);
    err = ledger_checkpoint_verify(buf_bytes(&run->checkpoint), &trust, &checkpoint, run->note);
    if (err == ERR_OK) {
        run->checkpoint_height = checkpoint.height;
        run->checkpoint_root = checkpoint.root;
        run->report->signatures += 1 + checkpoint.cosignatures;
        run->report->checkpoint_height = checkpoint.height;
        run->report->cosignatures = checkpoint.cosignatures;
    }
    return err;
}

static enum err checkpoint_compare(struct run *run, struct note *note)
{
    struct ledger_head head;
    ledger_head(run->ledger, &head);
    if (head.height != run->checkpoint_height || head.sealed_index != head.index) {
        return ERR_OK;
    }
    run->checkpoint_met = true;
    return digest_equal(&head.headers_root, &run->checkpoint_root)
               ? ERR_OK
               : note_set(note, ERR_CORRUPT,
                          "block %llu: the headers' root is not the one that the sequencer signed: "
                          "the log was changed",
                          (unsigned long long)head.height);
}

/* What an applied entry adds to the counts. */
static void entry_count(struct run *run)
{
    struct verify_ledger_report *report = run->report;
    uint32_t kind = run->effects.kind;
    report->entries++;
    report->postings += run->effects.leg_count;
    if (kind == LEDGER_KIND_SEAL) {
        report->blocks++;
        report->unsealed = 0;
        return;
    }
    report->transactions++;
    report->unsealed++;
    if (kind == OPENLEDGER__V1__TX_BODY__ACTION_SETTLE_RECEIPTS) {
        report->receipts += run->effects.receipt_count;
    } else if (kind == OPENLEDGER__V1__TX_BODY__ACTION_SETTLE_SHARES) {
        report->share_sets += run->effects.receipt_count;
    }
    report->signatures += run->effects.signatures;
}

static enum err entry_applied(void *argument, struct bytes entry, struct note *note)
{
    struct run *run = argument;
    entry_count(run);
    enum err err = run->effects.kind == LEDGER_KIND_SEAL ? checkpoint_compare(run, note) : ERR_OK;
    if (err == ERR_OK && run->options->on_entry != NULL) {
        err =
            run->options->on_entry(run->options->context, run->ledger, &run->effects, entry, note);
        err =
            err ? note_wrap(note, err, "entry %llu", (unsigned long long)run->effects.index) : err;
    }
    run->told = err != ERR_OK;
    if (run->options->on_progress != NULL && run->effects.index % PROGRESS_ENTRIES == 0) {
        run->options->on_progress(run->options->progress_context, run->effects.index,
                                  journal_count(run->journal));
    }
    return err;
}

/* What the replay says; an entry that was refused is tried once more, alone: now the blob store can say what
 * is wrong with a blob. */
static enum err entry_explain(struct run *run, enum err err)
{
    const struct ledger_blobs blobs = {.get = blob_explain, .context = run};
    struct ledger_head head;
    struct buf entry;
    struct note ignored = {""};
    if (err == ERR_OK || run->told) {
        return err;
    }
    run->told = true;
    ledger_head(run->ledger, &head);
    buf_init(&entry, LEDGER_ENTRY_MAX);
    if (journal_read(run->journal, head.index, &entry, &ignored) == ERR_OK) {
        CHECK(ledger_apply(run->ledger, buf_bytes(&entry), &blobs, &run->effects, &ignored) == err);
    }
    buf_deinit(&entry);
    if (run->blob_note.text[0] != '\0') {
        (void)note_set(run->note, err, "%s", run->blob_note.text);
    }
    return note_wrap(run->note, err, "entry %llu", (unsigned long long)head.index + 1);
}

static enum err entry_take(void *argument, uint64_t position, struct bytes entry)
{
    struct run *run = argument;
    (void)position;
    return entry_explain(run, ledger_replay_entry(run->replay, entry, run->note));
}

static enum err replay(struct run *run)
{
    const struct journal_options options = {.folder = run->options->log_folder, .read_only = true};
    const struct ledger_blobs blobs = {.get = blob_find, .context = run->blobs};
    const struct ledger_replay_options how = {.ledger = run->ledger,
                                              .blobs = &blobs,
                                              .parallel = pool_parallel(run->pool),
                                              .effects = &run->effects,
                                              .applied = entry_applied,
                                              .context = run};
    enum err err = journal_open(&options, &run->journal, run->note);
    if (err == ERR_OK) {
        struct note note = {""};
        (void)ledger_parallel(run->ledger, how.parallel);
        run->replay = ledger_replay_begin(&how);
        err = journal_each(run->journal, 0, entry_take, run, &note);
        if (run->note->text[0] == '\0') {
            *run->note = note;
        }
        enum err ended = entry_explain(run, ledger_replay_end(run->replay, run->note));
        err = ended ? ended
                    : err; /* it is of an entry before the one that the journal could not give */
    }
    journal_close(run->journal);
    return err;
}

/* After the last entry: what only the whole shows. */
static enum err whole_check(struct run *run)
{
    struct ledger_head head;
    struct digest slow;
    ledger_head(run->ledger, &head);
    run->report->supply = ledger_supply(run->ledger);
    run->report->headers_root = head.headers_root;
    ledger_state_root(run->ledger, &run->report->state_root);
    ledger_state_root_slow(run->ledger, &slow);
    if (!digest_equal(&slow, &run->report->state_root)) {
        return note_set(run->note, ERR_CORRUPT,
                        "the state's root kept entry by entry is not the root of the whole state");
    }
    return run->checkpoint_met
               ? ERR_OK
               : note_set(run->note, ERR_CORRUPT,
                          "the sequencer signed %llu blocks, the log has %llu: its end is missing",
                          (unsigned long long)run->checkpoint_height,
                          (unsigned long long)head.height);
}

static enum err verify(struct run *run)
{
    struct buf genesis;
    struct ledger_head head;
    buf_init(&genesis, LEDGER_GENESIS_MAX);
    enum err err = file_read(run->options->genesis_file, &genesis, run->note);
    err = err ? err : ledger_create(buf_bytes(&genesis), &run->ledger, run->note);
    buf_deinit(&genesis);
    if (err != ERR_OK) {
        return note_wrap(run->note, err, "the genesis file");
    }
    ledger_head(run->ledger, &head);
    run->report->chain_id = head.chain_id;
    run->pool = pool_create(0);
    if (run->pool == NULL) {
        return note_set(run->note, ERR_NO_MEMORY, "no threads");
    }
    err = blob_open(run->options->blob_folder, &run->blobs, run->note);
    err = err ? err : checkpoint_load(run);
    err = err ? err : replay(run);
    err = err ? err : whole_check(run);
    if (err == ERR_OK) {
        struct verify_objects objects = {0};
        err = verify_objects(run->ledger, run->blobs, &objects, run->note);
        run->report->blobs = objects.blobs;
        run->report->contributions = objects.contributions;
        run->report->versions = objects.versions;
        run->report->transcripts = objects.transcripts;
    }
    return err;
}

enum err verify_ledger(const struct verify_ledger_options *options,
                       struct verify_ledger_report *out_report, struct note *note)
{
    *out_report = (struct verify_ledger_report){0};
    struct run run = {.options = options, .report = out_report, .note = note};
    buf_init(&run.checkpoint, 65536);
    ledger_effects_init(&run.effects);
    enum err err = verify(&run);
    ledger_effects_deinit(&run.effects);
    buf_deinit(&run.checkpoint);
    blob_close(run.blobs);
    ledger_destroy(run.ledger);
    pool_destroy(run.pool);
    return err;
}
