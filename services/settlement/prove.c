/* prove.c - the header log's tiles, and proofs of entries, legs and accounts: see settlement.h. */
#include <stdlib.h>

#include "services/settlement/internal.h"
#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/ledger/account_proof.h"
#include "shared/ledger/proof.h"
#include "shared/merkle/merkle.h"

enum { HEADER_MAX = 4096 /* bytes of a serialised BlockHeader */ };

/* ---- tiles -------------------------------------------------------------------------------------- */

static enum err tiles_append(struct settlement *settlement, struct note *note)
{
    enum err err = ERR_OK;
    struct buf header;
    buf_init(&header, HEADER_MAX);
    for (uint64_t height = tlog_store_size(settlement->tiles) + 1;
         height <= settlement->checkpoint_height && err == ERR_OK; height++) {
        buf_clear(&header);
        err = settlement_store_header(settlement->store, height, &header);
        err =
            err ? note_set(note, err, "header %llu is not in the index", (unsigned long long)height)
                : tlog_store_append(settlement->tiles, buf_bytes(&header), note);
    }
    buf_deinit(&header);
    return err;
}

/* Are the tiles those of our headers? */
static bool tiles_fit(struct settlement *settlement)
{
    struct merkle_tree tree = {.leaf_count = 0};
    struct merkle_head head;
    struct digest root;
    uint64_t size = tlog_store_size(settlement->tiles);
    struct tlog_reader reader = tlog_store_reader(settlement->tiles);
    if (size != settlement->checkpoint_height || tlog_root(&reader, size, &root, NULL) != ERR_OK) {
        return false;
    }
    for (uint64_t i = 0; i < size; i++) {
        CHECK(merkle_tree_append(&tree, &settlement->blocks[i].leaf) == ERR_OK);
    }
    merkle_tree_head(&tree, &head);
    return digest_equal(&head.root, &root);
}

/* What another ledger, a crash or a hand left in the folder is noticed once, here. */
static enum err tiles_open(struct settlement *settlement, struct note *note)
{
    enum err err = tlog_store_open(settlement->tiles_folder, &settlement->tiles, note);
    if (err == ERR_CORRUPT || err == ERR_NOT_FOUND) {
        log_warn("tiles_anew note=\"%s\" now=\"deleted, and made again from the headers\"",
                 note->text);
        err = file_remove_tree(settlement->tiles_folder, note);
        err = err ? err : tlog_store_open(settlement->tiles_folder, &settlement->tiles, note);
    }
    err = err ? err : tiles_append(settlement, note);
    if (err == ERR_OK && !tiles_fit(settlement)) {
        err = tlog_store_clear(settlement->tiles, note);
        err = err ? err : tiles_append(settlement, note);
    }
    if (err != ERR_OK) {
        tlog_store_close(settlement->tiles);
        settlement->tiles = NULL;
    }
    return err;
}

enum err settlement_tiles(struct settlement *settlement, uint64_t *out_size, struct note *note)
{
    enum err err =
        settlement->tiles == NULL ? tiles_open(settlement, note) : tiles_append(settlement, note);
    err = err ? err : tlog_store_publish(settlement->tiles, note);
    if (err == ERR_OK) {
        *out_size = tlog_store_size(settlement->tiles);
    }
    return err;
}

const char *settlement_tiles_folder(const struct settlement *settlement)
{
    return settlement->tiles_folder;
}

void settlement_cosigned(struct settlement *settlement, uint64_t height, struct bytes checkpoint)
{
    if (height >= settlement->cosigned_height && height <= settlement->checkpoint_height) {
        buf_clear(&settlement->cosigned);
        CHECK(buf_append_bytes(&settlement->cosigned, checkpoint) == ERR_OK);
        settlement->cosigned_height = height;
    }
    if (height ==
        settlement->checkpoint_height) { /* who verifies the folder sees who stands for it */
        struct note note = {""};
        if (file_write_quick(settlement->checkpoint_path, checkpoint, 0644, &note) != ERR_OK) {
            log_warn("checkpoint_not_written note=\"%s\"", note.text);
        }
    }
}

/* ---- proofs ------------------------------------------------------------------------------------- */

struct leaves {
    struct digest *items;
    size_t count, capacity;
    uint64_t index; /* the entry, or the leg's entry, looked for */
    uint32_t leg;
    size_t found; /* its place + 1 */
    struct buf leaf;
};

static void leaf_add(struct leaves *leaves, struct bytes data)
{
    if (leaves->count == leaves->capacity) {
        leaves->capacity = leaves->capacity == 0 ? 64 : 2 * leaves->capacity;
        leaves->items = realloc(leaves->items, leaves->capacity * sizeof *leaves->items);
        CHECK(leaves->items != NULL);
    }
    merkle_leaf(data.data, data.size, &leaves->items[leaves->count++]);
}

static enum err leg_add(void *context, uint64_t index, uint32_t leg, struct bytes posting)
{
    struct leaves *leaves = context;
    leaf_add(leaves, posting);
    if (index == leaves->index && leg == leaves->leg) {
        leaves->found = leaves->count;
        return buf_append_bytes(&leaves->leaf, posting);
    }
    return ERR_OK;
}

static enum err entries_add(struct settlement *settlement, struct leaves *leaves, uint64_t first,
                            uint64_t last, struct note *note)
{
    enum err err = ERR_OK;
    for (uint64_t i = first; i <= last && err == ERR_OK; i++) {
        buf_clear(&settlement->entry);
        err = settlement_entry(settlement, i, &settlement->entry, note);
        if (err == ERR_OK) {
            leaf_add(leaves, buf_bytes(&settlement->entry));
        }
        if (err == ERR_OK && i == leaves->index) {
            leaves->found = leaves->count;
            err = buf_append_bytes(&leaves->leaf, buf_bytes(&settlement->entry));
        }
    }
    return err;
}

/* The header of a block and its place in the log, under the cosigned checkpoint where that covers it. */
static enum err header_place(struct settlement *settlement, uint64_t height, struct buf *out_header,
                             struct merkle_proof *out_path, struct bytes *out_checkpoint,
                             struct note *note)
{
    uint64_t size = 0;
    enum err err = settlement_tiles(settlement, &size, note);
    err = err ? err : settlement_store_header(settlement->store, height, out_header);
    if (err == ERR_OK && size < height) {
        err = note_set(note, ERR_UNAVAILABLE, "block %llu is under no checkpoint yet",
                       (unsigned long long)height);
    }
    if (err != ERR_OK) {
        return err;
    }
    bool cosigned = settlement->cosigned_height >= height && settlement->cosigned_height <= size;
    *out_checkpoint = buf_bytes(cosigned ? &settlement->cosigned : &settlement->checkpoint);
    struct tlog_reader reader = tlog_store_reader(settlement->tiles);
    return tlog_prove(&reader, cosigned ? settlement->cosigned_height : size, height - 1, out_path,
                      note);
}

static enum err prove(struct settlement *settlement, struct leaves *leaves, bool posting,
                      struct buf *out, struct note *note)
{
    uint64_t height = settlement_height_of(settlement, leaves->index);
    if (leaves->index == 0 || height == 0) {
        return note_set(note, ERR_UNAVAILABLE, "entry %llu is in no block yet",
                        (unsigned long long)leaves->index);
    }
    uint64_t first = height == 1 ? 1 : settlement->blocks[height - 2].last_index + 1;
    uint64_t last = settlement->blocks[height - 1].last_index;
    enum err err = posting ? settlement_store_legs(settlement->store, first, last, leg_add, leaves)
                           : entries_add(settlement, leaves, first, last, note);
    if (err == ERR_OK && leaves->found == 0) {
        err = note_set(note, ERR_NOT_FOUND, "entry %llu has no leg %u",
                       (unsigned long long)leaves->index, leaves->leg);
    }
    struct buf header;
    struct merkle_proof header_path;
    struct bytes checkpoint;
    buf_init(&header, HEADER_MAX);
    err = err ? err : header_place(settlement, height, &header, &header_path, &checkpoint, note);
    if (err == ERR_OK) {
        const struct ledger_proof_parts parts = {.leaf = buf_bytes(&leaves->leaf),
                                                 .posting = posting,
                                                 .leaves = leaves->items,
                                                 .leaf_count = leaves->count,
                                                 .leaf_index = leaves->found - 1,
                                                 .header = buf_bytes(&header),
                                                 .header_path = &header_path,
                                                 .checkpoint = checkpoint};
        err = ledger_proof_make(&parts, out, note);
    }
    buf_deinit(&header);
    return err;
}

static enum err prove_one(struct settlement *settlement, uint64_t index, bool posting, uint32_t leg,
                          struct buf *out, struct note *note)
{
    struct leaves leaves = {.index = index, .leg = leg};
    buf_init(&leaves.leaf, LEDGER_ENTRY_MAX);
    enum err err = settlement_sync(settlement, note);
    err = err ? err : prove(settlement, &leaves, posting, out, note);
    buf_deinit(&leaves.leaf);
    free(leaves.items);
    return err;
}

enum err settlement_prove_entry(struct settlement *settlement, uint64_t index, struct buf *out,
                                struct note *note)
{
    return prove_one(settlement, index, false, 0, out, note);
}

enum err settlement_prove_leg(struct settlement *settlement, uint64_t index, uint32_t leg,
                              struct buf *out, struct note *note)
{
    return prove_one(settlement, index, true, leg, out, note);
}

enum err settlement_account_path(struct settlement *settlement, const struct account_id *account,
                                 struct buf *out_path, uint64_t *out_height, struct note *note)
{
    struct ledger_head head;
    enum err err = settlement_sync(settlement, note);
    err = err ? err : ledger_account_path(settlement->ledger, account, out_path, note);
    ledger_head(settlement->ledger, &head);
    if (err == ERR_OK) {
        *out_height = head.height;
    }
    return err;
}

enum err settlement_account_proof(struct settlement *settlement, struct bytes path, uint64_t height,
                                  struct buf *out, struct note *note)
{
    struct buf header;
    struct merkle_proof header_path;
    struct bytes checkpoint;
    buf_init(&header, HEADER_MAX);
    enum err err = header_place(settlement, height, &header, &header_path, &checkpoint, note);
    err = err ? err
              : ledger_account_proof_make(path, buf_bytes(&header), &header_path, checkpoint, out,
                                          note);
    buf_deinit(&header);
    return err;
}
