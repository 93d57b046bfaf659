/* snapshot.c - the whole state as bytes, so that a restart need not replay the log from genesis.
 *
 *     magic, chain id, index, entry hash, epoch, time, height, header hash, transactions,
 *     headers' tree edge, state root, records
 *
 * Only right after a seal: then no block is half built. Numbers are big-endian. */
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/machine.h"

static const char MAGIC[] = "openledger/snapshot/v1"; /* its NUL is part of it */

enum err ledger_snapshot(struct ledger *ledger, struct buf *out)
{
    const struct ledger_head *head = &ledger->head;
    if (head->sealed_index != head->index) {
        return ERR_CONFLICT;
    }
    struct digest root;
    ledger_state_root(ledger, &root);
    buf_append(out, MAGIC, sizeof MAGIC);
    buf_append(out, head->chain_id.bytes, DIGEST_SIZE);
    buf_append_u64be(out, head->index);
    buf_append(out, head->entry_hash.bytes, DIGEST_SIZE);
    buf_append_u64be(out, head->epoch);
    buf_append_u64be(out, head->time_ms);
    buf_append_u64be(out, head->height);
    buf_append(out, head->header_hash.bytes, DIGEST_SIZE);
    buf_append_u64be(out, head->transactions);
    for (size_t i = 0; i <= MERKLE_PATH_MAX; i++) {
        buf_append(out, ledger->headers.edge[i].bytes, DIGEST_SIZE);
    }
    buf_append(out, root.bytes, DIGEST_SIZE);
    return state_encode(ledger->state, out);
}

static enum err digest_take(struct bytes *in, struct digest *out)
{
    return bytes_take_copy(in, out->bytes, DIGEST_SIZE);
}

static enum err head_take(struct bytes *in, struct ledger *ledger, struct digest *out_root)
{
    struct bytes magic;
    struct digest chain_id;
    struct ledger_head *head = &ledger->head;
    if (bytes_take(in, sizeof MAGIC, &magic) != ERR_OK ||
        memcmp(magic.data, MAGIC, sizeof MAGIC) != 0 || digest_take(in, &chain_id) != ERR_OK ||
        !digest_equal(&chain_id, &head->chain_id) || bytes_take_u64be(in, &head->index) != ERR_OK ||
        digest_take(in, &head->entry_hash) != ERR_OK ||
        bytes_take_u64be(in, &head->epoch) != ERR_OK ||
        bytes_take_u64be(in, &head->time_ms) != ERR_OK ||
        bytes_take_u64be(in, &head->height) != ERR_OK ||
        digest_take(in, &head->header_hash) != ERR_OK ||
        bytes_take_u64be(in, &head->transactions) != ERR_OK) {
        return ERR_CORRUPT;
    }
    for (size_t i = 0; i <= MERKLE_PATH_MAX; i++) {
        if (digest_take(in, &ledger->headers.edge[i]) != ERR_OK) {
            return ERR_CORRUPT;
        }
    }
    head->sealed_index = head->index;
    ledger->headers.leaf_count = head->height;
    return digest_take(in, out_root) == ERR_OK && head->height <= MERKLE_LEAF_MAX ? ERR_OK
                                                                                  : ERR_CORRUPT;
}

enum err ledger_restore(struct bytes genesis, struct bytes snapshot, struct ledger **out_ledger,
                        struct note *note)
{
    struct ledger *ledger;
    enum err err = ledger_create(genesis, &ledger, note);
    if (err != ERR_OK) {
        return err;
    }
    struct digest stated;
    struct digest found;
    struct merkle_head headers;
    state_destroy(ledger->state);
    ledger->state = state_create();
    err = head_take(&snapshot, ledger, &stated);
    err = err ? err : state_decode(ledger->state, snapshot);
    if (err == ERR_OK) {
        ledger_state_root(ledger, &found);
        err = digest_equal(&found, &stated) ? ERR_OK : ERR_CORRUPT;
    }
    if (err != ERR_OK || state_next(ledger->state, STATE_PARAMETERS, NULL) == NULL) {
        ledger_destroy(ledger);
        return note_set(note, ERR_CORRUPT,
                        "the snapshot is damaged, of another chain, or not what its root says");
    }
    merkle_tree_head(&ledger->headers, &headers);
    ledger->head.headers_root = headers.root;
    ledger_derive(ledger);
    (void)ledger_supply(ledger);
    *out_ledger = ledger;
    return ERR_OK;
}
