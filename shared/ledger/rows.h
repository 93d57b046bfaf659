/* rows.h - what datanet, command line and verifier must agree on about rows. Pure.
 *
 * row_hash = SHA-256("openledger/row/v1" 0x00 salt row); a tree's leaf i is the serialised RowLeaf of
 * row i; a contribution's root and a version's root are RFC 6962 roots over those. */
#pragma once

#include "openledger/v1/objects.pb-c.h"
#include "shared/base/account_id.h"
#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/crypto/keys.h"

#define LEDGER_ROW_SIZE_MAX 65536u               /* bytes of a row's JSON: 64 KiB */
#define LEDGER_CONTRIBUTION_SIZE_MAX (32u << 20) /* bytes of a serialised Contribution */

void ledger_row_hash(const struct salt *salt, struct bytes row, struct digest *out_hash);

/* What a leaf binds. permission as in ledger.proto. */
struct ledger_row_leaf {
    struct digest row_hash;
    struct account_id contributor;
    const char *licence;
    uint32_t permission;
};
/* Appends the serialised RowLeaf. Errors: as buf. */
MUST_USE enum err ledger_row_leaf_encode(const struct ledger_row_leaf *leaf, struct buf *out);
/* Its RFC 6962 leaf hash, for trees over rows. */
MUST_USE enum err ledger_row_leaf_hash(const struct ledger_row_leaf *leaf,
                                       struct digest *out_leaf_hash);

/* Root, row count and byte count that a CommitRows for this Contribution must state. Checks sizes
 * (ERR_LIMIT names the row) and salts. out_leaves: NULL, or room for contribution->n_rows hashes. */
MUST_USE enum err ledger_contribution_root(const Openledger__V1__Contribution *contribution,
                                           struct digest *out_root, uint64_t *out_byte_count,
                                           struct digest *out_leaves, struct note *note);
