/* rows.c - see rows.h. */
#include "shared/ledger/rows.h"

#include <stdlib.h>
#include <string.h>

#include "shared/crypto/sha256.h"
#include "shared/ledger/ledger.h"
#include "shared/ledger/tx.h"
#include "shared/merkle/merkle.h"

static const char ROW_DOMAIN[] = "openledger/row/v1"; /* its NUL is part of it */

void ledger_row_hash(const struct salt *salt, struct bytes row, struct digest *out_hash)
{
    const struct bytes parts[] = {bytes_of(ROW_DOMAIN, sizeof ROW_DOMAIN),
                                  bytes_of(salt->bytes, SALT_SIZE), row};
    sha256_parts(parts, 3, out_hash);
}

enum err ledger_row_leaf_encode(const struct ledger_row_leaf *leaf, struct buf *out)
{
    Openledger__V1__RowLeaf message = OPENLEDGER__V1__ROW_LEAF__INIT;
    message.row_hash = ledger_binary(leaf->row_hash.bytes, DIGEST_SIZE);
    message.contributor = ledger_binary(leaf->contributor.bytes, ACCOUNT_ID_SIZE);
    union { /* protobuf-c has no const in its structs, but does not write either */
        const char *in;
        char *out;
    } licence = {.in = leaf->licence};
    message.licence = licence.out;
    message.permission = (Openledger__V1__Permission)leaf->permission;
    return ledger_pack(&message.base, out);
}

enum err ledger_row_leaf_hash(const struct ledger_row_leaf *leaf, struct digest *out_leaf_hash)
{
    struct buf encoded;
    buf_init(&encoded, 4096);
    enum err err = ledger_row_leaf_encode(leaf, &encoded);
    if (err == ERR_OK) {
        merkle_leaf(encoded.data, encoded.size, out_leaf_hash);
    }
    buf_deinit(&encoded);
    return err;
}

enum err ledger_contribution_root(const Openledger__V1__Contribution *contribution,
                                  struct digest *out_root, uint64_t *out_byte_count,
                                  struct digest *out_leaves, struct note *note)
{
    if (contribution->n_rows == 0 || contribution->n_rows > LEDGER_ROWS_MAX) {
        return note_set(note, ERR_RANGE, "contribution has %zu rows, allowed are 1 to %d",
                        contribution->n_rows, LEDGER_ROWS_MAX);
    }
    if (contribution->contributor.len != ACCOUNT_ID_SIZE) {
        return note_set(note, ERR_INVALID, "contributor has %zu bytes, not %d",
                        contribution->contributor.len, ACCOUNT_ID_SIZE);
    }
    struct ledger_row_leaf leaf = {.licence = contribution->licence,
                                   .permission = (uint32_t)contribution->permission};
    memcpy(leaf.contributor.bytes, contribution->contributor.data, ACCOUNT_ID_SIZE);
    struct merkle_tree tree = {0};
    uint64_t byte_count = 0;
    for (size_t i = 0; i < contribution->n_rows; i++) {
        const Openledger__V1__Row *row = contribution->rows[i];
        if (row->salt.len != SALT_SIZE) {
            return note_set(note, ERR_INVALID, "row %zu has a salt of %zu bytes, not %d", i,
                            row->salt.len, SALT_SIZE);
        }
        if (row->data.len == 0 || row->data.len > LEDGER_ROW_SIZE_MAX) {
            return note_set(note, ERR_LIMIT, "row %zu has %zu bytes, allowed are 1 to %u", i,
                            row->data.len, LEDGER_ROW_SIZE_MAX);
        }
        struct salt salt;
        memcpy(salt.bytes, row->salt.data, SALT_SIZE);
        ledger_row_hash(&salt, ledger_bytes(row->data), &leaf.row_hash);
        struct digest leaf_hash;
        enum err err = ledger_row_leaf_hash(&leaf, &leaf_hash);
        if (err == ERR_OK) {
            err = merkle_tree_append(&tree, &leaf_hash);
        }
        if (err != ERR_OK) {
            return note_set(note, err, "row %zu cannot be hashed", i);
        }
        if (out_leaves != NULL) {
            out_leaves[i] = leaf_hash;
        }
        byte_count += row->data.len;
    }
    struct merkle_head head;
    merkle_tree_head(&tree, &head);
    *out_root = head.root;
    *out_byte_count = byte_count;
    return ERR_OK;
}
