/* published.c - rows of a published version, listed and proved; see datanet.h. */
#include <stdlib.h>
#include <string.h>

#include "services/datanet/datanet.h"
#include "services/datanet/load.h"
#include "shared/ledger/rows.h"
#include "shared/ledger/tx.h"
#include "shared/merkle/merkle.h"

/* A version's manifest with the contributions that it names. */
struct opened {
    const struct ledger_version *version;
    Openledger__V1__DatasetVersion *manifest;
    Openledger__V1__Contribution **contributions;
};

static void opened_deinit(struct opened *opened)
{
    if (opened->manifest != NULL && opened->contributions != NULL) {
        for (size_t i = 0; i < opened->manifest->n_contribution_contents; i++) {
            load_free(opened->contributions[i]);
        }
    }
    free(opened->contributions);
    load_free(opened->manifest);
}

static enum err open_version(struct blob_store *blobs, const struct ledger *ledger,
                             const char *name, uint32_t number, struct opened *opened,
                             struct note *note)
{
    *opened = (struct opened){.version = ledger_version(ledger, name, number)};
    if (opened->version == NULL) {
        return note_set(note, ERR_NOT_FOUND, "datanet '%.64s' has no version %u", name, number);
    }
    ProtobufCMessage *message;
    enum err err = load_message(blobs, &openledger__v1__dataset_version__descriptor,
                                "dataset version", &opened->version->manifest, &message, note);
    if (err != ERR_OK) {
        return err;
    }
    opened->manifest = (Openledger__V1__DatasetVersion *)message;
    size_t count = opened->manifest->n_contribution_contents;
    opened->contributions = calloc(count + 1, sizeof(Openledger__V1__Contribution *));
    if (opened->contributions == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        struct digest content;
        err = digest_from_bytes(ledger_bytes(opened->manifest->contribution_contents[i]), &content);
        err = err != ERR_OK ? err
                            : load_contribution(blobs, &content, &opened->contributions[i], note);
    }
    if (err == ERR_OK && (opened->manifest->n_row_index != opened->version->row_count ||
                          opened->manifest->n_contribution_index != opened->version->row_count)) {
        err = note_set(note, ERR_CORRUPT, "the manifest of %.64s version %u is damaged", name,
                       number);
    }
    return err;
}

/* Row number of an opened version: its contribution and its data. */
static enum err opened_row(const struct opened *opened, uint32_t number,
                           const Openledger__V1__Contribution **out_contribution,
                           const Openledger__V1__Row **out_row)
{
    uint32_t which = opened->manifest->contribution_index[number];
    uint32_t row = opened->manifest->row_index[number];
    if (which >= opened->manifest->n_contribution_contents ||
        row >= opened->contributions[which]->n_rows) {
        return ERR_CORRUPT;
    }
    *out_contribution = opened->contributions[which];
    *out_row = opened->contributions[which]->rows[row];
    return ERR_OK;
}

static enum err encode_leaf(const struct opened *opened, uint32_t number, struct buf *out)
{
    const Openledger__V1__Contribution *contribution;
    const Openledger__V1__Row *row;
    enum err err = opened_row(opened, number, &contribution, &row);
    if (err != ERR_OK) {
        return err;
    }
    if (row->salt.len != SALT_SIZE || contribution->contributor.len != ACCOUNT_ID_SIZE) {
        return ERR_CORRUPT;
    }
    struct salt salt;
    struct ledger_row_leaf leaf = {.licence = contribution->licence,
                                   .permission = (uint32_t)contribution->permission};
    (void)memcpy(salt.bytes, row->salt.data, SALT_SIZE);
    (void)memcpy(leaf.contributor.bytes, contribution->contributor.data, ACCOUNT_ID_SIZE);
    ledger_row_hash(&salt, ledger_bytes(row->data), &leaf.row_hash);
    buf_clear(out);
    return ledger_row_leaf_encode(&leaf, out);
}

static enum err list_row(const struct opened *opened, uint32_t number, bool with_text,
                         struct arena *arena, Openledger__V1__RowRecord **out_record)
{
    const Openledger__V1__Contribution *contribution;
    const Openledger__V1__Row *row;
    struct buf leaf;
    buf_init(&leaf, 1024);
    enum err err = opened_row(opened, number, &contribution, &row);
    err = err != ERR_OK ? err : encode_leaf(opened, number, &leaf);
    if (err != ERR_OK) {
        buf_deinit(&leaf);
        return err;
    }
    Openledger__V1__RowRecord *record = arena_alloc(arena, sizeof *record);
    uint8_t *leaf_copy = arena_dup(arena, leaf.data, leaf.size);
    uint8_t *contributor = arena_dup(arena, contribution->contributor.data, ACCOUNT_ID_SIZE);
    char *data =
        with_text ? arena_dup(arena, row->data.data, row->data.len) : arena_strdup(arena, "");
    size_t leaf_size = leaf.size;
    buf_deinit(&leaf);
    if (record == NULL || leaf_copy == NULL || contributor == NULL || data == NULL) {
        return ERR_LIMIT;
    }
    openledger__v1__row_record__init(record);
    record->row = number;
    record->leaf = ledger_binary(leaf_copy, leaf_size);
    record->contributor = ledger_binary(contributor, ACCOUNT_ID_SIZE);
    record->data = data;
    *out_record = record;
    return ERR_OK;
}

enum err datanet_rows(struct blob_store *blobs, const struct ledger *ledger,
                      const Openledger__V1__ListRowsRequest *request, struct arena *arena,
                      Openledger__V1__ListRowsReply **out_reply, struct note *note)
{
    uint32_t size = request->page_size == 0 ? DATANET_PAGE_DEFAULT : request->page_size;
    if (size > DATANET_PAGE_MAX) {
        return note_set(note, ERR_LIMIT, "page size %u is above the limit of %d", size,
                        DATANET_PAGE_MAX);
    }
    const struct ledger_datanet *record = ledger_datanet(ledger, request->datanet);
    bool with_text =
        record != NULL && record->permission == OPENLEDGER__V1__PERMISSION__PERMISSION_ALLOWED;
    struct opened opened;
    Openledger__V1__ListRowsReply *reply = arena_alloc(arena, sizeof *reply);
    Openledger__V1__RowRecord **rows =
        arena_alloc_array(arena, size, sizeof(Openledger__V1__RowRecord *));
    enum err err = open_version(blobs, ledger, request->datanet, request->version, &opened, note);
    if (err == ERR_OK && (reply == NULL || rows == NULL)) {
        err = ERR_LIMIT;
    }
    if (err == ERR_OK) {
        openledger__v1__list_rows_reply__init(reply);
        reply->rows = rows;
        uint64_t end = (uint64_t)request->from_row + size;
        end = end < opened.version->row_count ? end : opened.version->row_count;
        for (uint64_t i = request->from_row; i < end && err == ERR_OK; i++) {
            err = list_row(&opened, (uint32_t)i, with_text, arena, &rows[reply->n_rows]);
            reply->n_rows += err == ERR_OK;
        }
    }
    if (err == ERR_OK) {
        *out_reply = reply;
    }
    opened_deinit(&opened);
    return err;
}

static enum err make_proof(const struct opened *opened, const struct merkle_proof *path,
                           const struct buf *leaf, struct arena *arena,
                           Openledger__V1__RowProof **out_proof)
{
    Openledger__V1__RowProof *proof = arena_alloc(arena, sizeof *proof);
    struct merkle_proof *copy = arena_dup(arena, path, sizeof *path);
    ProtobufCBinaryData *steps = arena_alloc_array(arena, path->path_count + 1, sizeof *steps);
    uint8_t *leaf_copy = arena_dup(arena, leaf->data, leaf->size);
    if (proof == NULL || copy == NULL || steps == NULL || leaf_copy == NULL) {
        return ERR_LIMIT;
    }
    openledger__v1__row_proof__init(proof);
    proof->leaf = ledger_binary(leaf_copy, leaf->size);
    proof->leaf_index = path->leaf_index;
    proof->leaf_count = opened->version->row_count;
    proof->root = ledger_binary(opened->version->root.bytes, DIGEST_SIZE);
    proof->path = steps;
    proof->n_path = path->path_count;
    for (uint32_t i = 0; i < path->path_count; i++) {
        steps[i] = ledger_binary(copy->path[i].bytes, DIGEST_SIZE);
    }
    *out_proof = proof;
    return ERR_OK;
}

enum err datanet_prove_row(struct blob_store *blobs, const struct ledger *ledger,
                           const Openledger__V1__ProveRowRequest *request, struct arena *arena,
                           Openledger__V1__RowProof **out_proof, struct note *note)
{
    struct opened opened;
    struct buf leaf;
    struct digest *leaves = NULL;
    buf_init(&leaf, 1024);
    enum err err = open_version(blobs, ledger, request->datanet, request->version, &opened, note);
    if (err == ERR_OK && request->row >= opened.version->row_count) {
        err = note_set(note, ERR_RANGE, "row %u is outside of version %u's %u rows", request->row,
                       request->version, opened.version->row_count);
    }
    if (err == ERR_OK) {
        leaves = calloc(opened.version->row_count, sizeof *leaves);
        err = leaves == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    for (uint32_t i = 0; err == ERR_OK && i < opened.version->row_count; i++) {
        err = encode_leaf(&opened, i, &leaf);
        if (err == ERR_OK) {
            merkle_leaf(leaf.data, leaf.size, &leaves[i]);
        }
    }
    struct merkle_proof path;
    struct merkle_leaves all = {leaves, opened.version != NULL ? opened.version->row_count : 0};
    err = err != ERR_OK ? err : merkle_prove(all, request->row, &path);
    err = err != ERR_OK ? err : encode_leaf(&opened, request->row, &leaf);
    err = err != ERR_OK ? err : make_proof(&opened, &path, &leaf, arena, out_proof);
    free(leaves);
    buf_deinit(&leaf);
    opened_deinit(&opened);
    return err;
}
