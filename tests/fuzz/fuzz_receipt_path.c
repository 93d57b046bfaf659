/* fuzz_receipt_path.c - what `openledger verify` says of a receipt and of a payout, from hostile files: receipt ->
 * shares -> legs -> block -> checkpoint.
 *
 * Byte 0 chooses the subject, byte 1 an entry, the rest are edits. A log of receipts that were charged, shared and sealed lies on disk,
 * with proofs of it. Edited are: a proof, the receipt's batch, the same batch signed again, an entry of the log, the
 * checkpoint; or an item of a batch that is signed again and settled. Oracles: what is accepted tells the very
 * story that the true files tell, and true files are accepted; of a batch that was settled, the parts that its receipts are told to have
 * in a leg are that leg, to the last unit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/openledger/verify_proof.h"
#include "services/openledger/verify_trace.h"
#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/blob/blob.h"
#include "shared/journal/journal.h"
#include "shared/ledger/proof.h"
#include "shared/platform/file.h"
#include "tests/harness/edits.h"
#include "tests/harness/ledger_world_batches.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size);

enum subject {
    ENTRY_PROOF, /* of the entry that charged the receipt */
    LEG_PROOF,   /* of a contributor's leg */
    BATCH,
    BATCH_SIGNED, /* another batch, signed by the same gateway */
    LOG,
    CHECKPOINT,
    RECEIPTS_SETTLED,
    SHARES_SETTLED,
    SUBJECTS
};
enum { ITEMS = 2, BLOCKS = 3, BYTES_MAX = 1 << 21, STORY_MAX = 1 << 20 };

static struct world *world;
static struct world_mark mark; /* all is sealed, and ITEMS more receipts are charged */
static struct buf proofs[LEG_PROOF + 1], batch, checkpoint;
static struct buf more_receipts, more_shares; /* batches that fit behind the mark */
static struct buf stories[CHECKPOINT + 1];    /* what the true files tell */
static size_t log_count;                      /* entries on disk */
static char receipt_hex[2 * DIGEST_SIZE + 1];
static struct digest receipt;
static struct blob_store *blobs;
static char folder[FILE_PATH_SIZE];

static const char *at(const char *name)
{
    static char paths[8][FILE_PATH_SIZE];
    static unsigned next;
    char *path = paths[next++ % 8];
    CHECK(file_path(path, "%s/%s", folder, name) == ERR_OK);
    return path;
}

static void put(const char *name, struct bytes bytes)
{
    CHECK(file_write_quick(at(name), bytes, 0644, NULL) == ERR_OK);
}

static void take_down(void)
{
    (void)!file_remove_tree(folder, NULL);
}

/* ---- telling ---- */

static enum err proof_told(enum subject subject, struct buf *out)
{
    const struct verify_proof_options options = {
        .genesis_file = at("genesis.json"),
        .proof_file = at("proof"),
        .batch_file = subject == LEG_PROOF ? "" : at("batch"),
        .receipt = subject == LEG_PROOF ? "" : receipt_hex,
    };
    FILE *kept = stdout;
    char *text = NULL;
    size_t size = 0;
    fflush(stdout);
    stdout = open_memstream(&text, &size);
    CHECK(stdout != NULL);
    enum err err = verify_proof(&options, NULL);
    CHECK(fclose(stdout) == 0);
    stdout = kept;
    CHECK(buf_append(out, text, size) == ERR_OK);
    CHECK((err == ERR_OK) == (size > 0)); /* nothing is said of what does not hold */
    free(text);
    return err;
}

static enum err log_told(struct buf *out)
{
    struct verify_ledger_report report;
    const struct verify_trace_options options = {
        .kind = TRACE_RECEIPT, .receipt = receipt, .blob_folder = at("blobs")};
    struct verify_trace *trace = verify_trace_create(&options);
    CHECK(trace != NULL);
    const struct verify_ledger_options replay = {.log_folder = at("log"),
                                                 .blob_folder = at("blobs"),
                                                 .genesis_file = at("genesis.json"),
                                                 .on_entry = verify_trace_entry,
                                                 .context = trace};
    struct note note = {""};
    enum err err = verify_ledger(&replay, &report, &note);
    if (err == ERR_OK) {
        CHECK(verify_trace_tell(trace, &report, false, out, &note) == ERR_OK);
    } else {
        CHECK(note.text[0] != '\0');
    }
    verify_trace_destroy(trace);
    return err;
}

/* ---- the true files ---- */

/* The world's log with other bytes for entry `other`; log_count: none. */
static void log_write(size_t other, struct bytes bytes)
{
    const struct journal_options options = {.folder = at("log"), .segment_size = 1U << 16};
    struct journal *journal = NULL;
    uint64_t index;
    CHECK(file_remove_tree(options.folder, NULL) == ERR_OK);
    CHECK(journal_open(&options, &journal, NULL) == ERR_OK);
    for (size_t i = 0; i < log_count; i++) {
        struct bytes entry = i == other ? bytes : buf_bytes(&world->entries[i]);
        CHECK(entry.size == 0 || journal_append(journal, entry, &index, NULL) == ERR_OK);
    }
    CHECK(journal_sync(journal, NULL) == ERR_OK);
    journal_close(journal);
}

static void keep(struct buf *out, struct bytes bytes)
{
    buf_init(out, BYTES_MAX);
    CHECK(buf_append_bytes(out, bytes) == ERR_OK);
}

static void blob_keep(const struct digest *name, struct buf *out)
{
    struct ledger_blobs found = world_blobs(world);
    buf_init(out, LEDGER_BATCH_BLOB_MAX);
    CHECK(found.get(found.context, name, out) == ERR_OK);
}

/* A block that begins with the entry at `first`. */
struct block {
    size_t first;
    struct buf header, postings;
};

static void block_end(struct block *block)
{
    keep(&block->postings, buf_bytes(&world->effects.postings));
    CHECK(world_seal(world) == ERR_OK);
    keep(&block->header, buf_bytes(&world->effects.header));
}

/* The last posting of the block, and the leaves of all. */
static struct bytes last_posting(const struct block *block, struct digest *leaves, size_t *count)
{
    struct bytes rest = buf_bytes(&block->postings);
    struct bytes leg = {0};
    *count = 0;
    for (uint16_t size; bytes_take_u16le(&rest, &size) == ERR_OK; ++*count) {
        CHECK(*count < 64 && bytes_take(&rest, size, &leg) == ERR_OK);
        merkle_leaf(leg.data, leg.size, &leaves[*count]);
    }
    return leg;
}

/* Proofs of the first entry of block 1 and of the last posting of block 2. */
static void proofs_make(const struct block blocks[BLOCKS])
{
    struct digest headers[BLOCKS];
    struct digest leaves[64];
    struct merkle_proof path;
    struct buf made;
    size_t count = blocks[2].first - blocks[1].first;
    for (int i = 0; i < BLOCKS; i++) {
        merkle_leaf(blocks[i].header.data, blocks[i].header.size, &headers[i]);
    }
    for (size_t i = 0; i < count; i++) {
        const struct buf *entry = &world->entries[blocks[1].first + i];
        merkle_leaf(entry->data, entry->size, &leaves[i]);
    }
    struct ledger_proof_parts parts = {.leaf = buf_bytes(&world->entries[blocks[1].first]),
                                       .leaves = leaves,
                                       .leaf_count = count,
                                       .header = buf_bytes(&blocks[1].header),
                                       .header_path = &path,
                                       .checkpoint = buf_bytes(&checkpoint)};
    buf_init(&made, BYTES_MAX);
    buf_init(&proofs[ENTRY_PROOF], BYTES_MAX);
    buf_init(&proofs[LEG_PROOF], BYTES_MAX);
    CHECK(merkle_prove((struct merkle_leaves){headers, BLOCKS}, 1, &path) == ERR_OK);
    CHECK(ledger_proof_make(&parts, &made, NULL) == ERR_OK);
    CHECK(ledger_proof_export(buf_bytes(&made), &proofs[ENTRY_PROOF], NULL) == ERR_OK);
    parts.posting = true;
    parts.leaf = last_posting(&blocks[2], leaves, &count);
    parts.leaf_count = count;
    parts.leaf_index = count - 1;
    parts.header = buf_bytes(&blocks[2].header);
    CHECK(merkle_prove((struct merkle_leaves){headers, BLOCKS}, 2, &path) == ERR_OK);
    CHECK(ledger_proof_make(&parts, &proofs[LEG_PROOF], NULL) == ERR_OK);
    buf_deinit(&made);
}

static void files_write(void)
{
    const char *shm = "/dev/shm";
    char prefix[64];
    (void)snprintf(prefix, sizeof prefix, "%s/openledger-fuzz-", file_exists(shm) ? shm : "/tmp");
    CHECK(file_make_private_folder(prefix, folder, NULL) == ERR_OK);
    CHECK(atexit(take_down) == 0);
    CHECK(blob_open(at("blobs"), &blobs, NULL) == ERR_OK);
    for (size_t i = 0; i < world->blob_count; i++) {
        struct digest name;
        CHECK(blob_put(blobs, buf_bytes(&world->blobs[i]), &name, NULL) == ERR_OK);
    }
    put("genesis.json", buf_bytes(&world->genesis));
    put("checkpoint", buf_bytes(&checkpoint));
    put("batch", buf_bytes(&batch));
    log_count = world->entry_count;
    log_write(log_count, bytes_of(NULL, 0));
}

static void start(void)
{
    static struct block blocks[BLOCKS];
    struct digest ids[ITEMS];
    struct digest more[ITEMS];
    struct ledger_head head;
    world = world_create();
    world_setup(world);
    CHECK(world_grant(world, "10") == ERR_OK);
    block_end(&blocks[0]);
    blocks[1].first = world->entry_count;
    struct digest name = world_receipts(world, 1, ITEMS, 101, 7, NULL, ids);
    blob_keep(&name, &batch);
    CHECK(world_settle_receipts(world, &name) == ERR_OK);
    block_end(&blocks[1]);
    blocks[2].first = world->entry_count;
    name = world_shares(world, ids, ITEMS, 333333333, 333333334);
    CHECK(world_settle_shares(world, &name) == ERR_OK);
    block_end(&blocks[2]);
    receipt = ids[1];
    (void)hex_encode(receipt.bytes, DIGEST_SIZE, receipt_hex);
    ledger_head(world->ledger, &head);
    buf_init(&checkpoint, 4096);
    CHECK(ledger_checkpoint_sign(&head.chain_id, head.height, &head.headers_root, world->sequencer,
                                 &checkpoint) == ERR_OK);
    proofs_make(blocks);
    files_write();
    for (enum subject i = 0; i <= CHECKPOINT; i++) {
        buf_init(&stories[i], STORY_MAX);
        put("proof", buf_bytes(&proofs[i == LEG_PROOF]));
        CHECK((i < LOG ? proof_told(i, &stories[i]) : log_told(&stories[i])) == ERR_OK);
    }
    name = world_receipts(world, 1 + ITEMS, ITEMS, 64, 33, NULL, more);
    CHECK(world_settle_receipts(world, &name) == ERR_OK);
    CHECK(world_seal(world) == ERR_OK);
    name = world_shares(world, more, ITEMS, 250000001, 250000003);
    blob_keep(&name, &more_shares);
    name = world_receipts(world, 1 + 2 * ITEMS, ITEMS, 13, 5, NULL, NULL);
    blob_keep(&name, &more_receipts);
    world_mark(world, &mark);
}

/* ---- edited files ---- */

/* A script begins with the one edit that most often leaves a sound message: some bits (u8) of the byte at a place
 * (u16, modulo the size) are turned. The rest is for edits_make. */
static void edit(struct bytes script, struct buf *target)
{
    uint16_t place;
    uint8_t bits;
    if (target->size > 0 && bytes_take_u16le(&script, &place) == ERR_OK &&
        bytes_take_u8(&script, &bits) == ERR_OK) {
        target->data[place % target->size] ^= bits;
        edits_make(script, target);
    }
}

/* Puts the edited file in its place, looks, and puts the true one back. */
static void file_look(enum subject subject, struct bytes edited, struct bytes is)
{
    struct buf story;
    const char *name = subject <= LEG_PROOF    ? "proof"
                       : subject == CHECKPOINT ? "checkpoint"
                                               : "batch";
    buf_init(&story, STORY_MAX);
    put("proof", buf_bytes(&proofs[subject == LEG_PROOF]));
    put(name, edited);
    if (subject == CHECKPOINT) { /* the last look at a log left it edited */
        log_write(log_count, bytes_of(NULL, 0));
    }
    enum err err = subject == CHECKPOINT ? log_told(&story) : proof_told(subject, &story);
    CHECK(err == ERR_OK || !bytes_equal(edited, is));
    CHECK(err != ERR_OK || bytes_equal(buf_bytes(&story), buf_bytes(&stories[subject])));
    CHECK(err != ERR_OK || subject < BATCH || bytes_equal(edited, is)); /* nothing in it is free */
    if (subject > LEG_PROOF) {
        put(name, is);
    }
    buf_deinit(&story);
}

static void log_look(uint8_t which, struct bytes script)
{
    struct buf edited;
    struct buf story;
    size_t last =
        log_count -
        1; /* a seal: nobody signs it, no entry names it, only the checkpoint's root holds it */
    size_t other = which >= 128 ? last : which % log_count;
    keep(&edited, buf_bytes(&world->entries[other]));
    edit(script, &edited);
    log_write(other, buf_bytes(&edited));
    buf_init(&story, STORY_MAX);
    enum err err = log_told(&story);
    CHECK((err == ERR_OK) == bytes_equal(buf_bytes(&edited), buf_bytes(&world->entries[other])));
    CHECK(err != ERR_OK || bytes_equal(buf_bytes(&story), buf_bytes(&stories[LOG])));
    buf_deinit(&story);
    buf_deinit(&edited);
}

/* ---- batches that were settled ---- */

/* The parts of leg `number` of the entry just applied, as they are told: the leg itself, and their sum. */
static void parts_look(uint32_t number)
{
    const struct ledger_leg *leg = &world->effects.legs[number];
    const struct verify_trace_options options = {.kind = TRACE_PAYOUT,
                                                 .entry = world->effects.index,
                                                 .leg = number,
                                                 .blob_folder = at("blobs")};
    struct verify_ledger_report report = {.checkpoint_height = 0};
    const char *way = leg->credit ? " pays " : " takes ";
    struct verify_trace *trace = verify_trace_create(&options);
    struct amount sum = AMOUNT_ZERO;
    struct buf story;
    char *rest = NULL;
    size_t whole = 0;
    CHECK(trace != NULL);
    buf_init(&story, STORY_MAX);
    CHECK(verify_trace_entry(trace, world->ledger, &world->effects,
                             buf_bytes(&world->entries[world->entry_count - 1]), NULL) == ERR_OK);
    CHECK(verify_trace_tell(trace, &report, false, &story, NULL) == ERR_OK);
    char *text = strdup(buf_text(&story));
    CHECK(text != NULL);
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        const char *from = strstr(line, "leg ");
        if (from == NULL) {
            continue; /* the block, or the checkpoint */
        }
        bool is_part = strstr(line, ", of receipt ") != NULL;
        char *end = NULL;
        struct amount amount;
        CHECK(strtoul(from + strlen("leg "), &end, 10) == number);
        CHECK(strncmp(end, way, strlen(way)) == 0);
        char *decimal = end + strlen(way);
        end = strstr(decimal, " OPEN ");
        CHECK(end != NULL);
        *end = '\0';
        CHECK(amount_parse(decimal, &amount) == ERR_OK);
        CHECK(is_part ? amount_add(sum, amount, &sum) == ERR_OK
                      : amount_equal(amount, leg->amount));
        whole += !is_part;
    }
    CHECK(whole == 1 && amount_equal(sum, leg->amount));
    free(text);
    buf_deinit(&story);
    verify_trace_destroy(trace);
}

static void settled_look(bool of_shares, struct bytes script)
{
    struct bytes is = buf_bytes(of_shares ? &more_shares : &more_receipts);
    struct buf item;
    struct digest stored;
    world_return(world, &mark);
    buf_init(&item, LEDGER_BATCH_BLOB_MAX);
    world_batch_item(is, of_shares, &item);
    edit(script, &item);
    struct digest name = world_batch_with(world, is, of_shares, buf_bytes(&item));
    struct bytes blob = buf_bytes(&world->blobs[world->blob_count - 1]);
    enum err err =
        of_shares ? world_settle_shares(world, &name) : world_settle_receipts(world, &name);
    CHECK(err == ERR_OK || script.size > 0);
    if (err == ERR_OK) {
        CHECK(blob_put(blobs, blob, &stored, NULL) == ERR_OK);
        for (uint32_t i = 0; i < world->effects.leg_count; i++) {
            parts_look(i);
        }
        CHECK(blob_remove(blobs, &stored, NULL) == ERR_OK);
    }
    buf_deinit(&item);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    if (world == NULL) {
        start();
    }
    if (data_size < 2) {
        return 0;
    }
    enum subject subject = data[0] % SUBJECTS;
    struct bytes script = bytes_of(data + 2, data_size - 2);
    struct buf edited;
    if (subject == LOG) {
        log_look(data[1], script);
        return 0;
    }
    if (subject >= RECEIPTS_SETTLED) {
        settled_look(subject == SHARES_SETTLED, script);
        return 0;
    }
    const struct buf *is = subject <= LEG_PROOF    ? &proofs[subject]
                           : subject == CHECKPOINT ? &checkpoint
                                                   : &batch;
    if (subject == BATCH_SIGNED) {
        struct buf item;
        buf_init(&item, LEDGER_BATCH_BLOB_MAX);
        world_return(world, &mark);
        world_batch_item(buf_bytes(is), false, &item);
        edit(script, &item);
        (void)world_batch_with(world, buf_bytes(is), false, buf_bytes(&item));
        keep(&edited, buf_bytes(&world->blobs[world->blob_count - 1]));
        buf_deinit(&item);
    } else {
        keep(&edited, buf_bytes(is));
        edit(script, &edited);
    }
    file_look(subject, buf_bytes(&edited), buf_bytes(is));
    buf_deinit(&edited);
    return 0;
}
