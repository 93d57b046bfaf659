/* recover.c - what a start takes from disk, and how far it trusts it.
 *
 * The state: the last snapshot, if index, snapshot and journal all agree. Signatures: those of the journal's
 * entries were checked before the checkpoint over their blocks was signed, and checking a million takes most of a
 * minute. Our own signature under the last checkpoint vouches for every entry below it, provided that the replay
 * comes to its root: then they are the same bytes, or SHA-256 is broken. The index says where its last block
 * ends; that is only a hint, as the root is compared exactly there. Entries behind it are checked as any.
 *
 * What was final and is not in the journal any more: its end was lost, or it is another one. Numbering on from there
 * would be a second history, signed by the key of the first. So a start is refused as long as anything in the
 * folder still says so: the index's mark, or the last checkpoint that we signed. */
#include <stdlib.h>
#include <string.h>

#include "openledger/v1/ledger.pb-c.h"
#include "services/settlement/internal.h"
#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/crypto/sha256.h"
#include "shared/crypto/signed_note.h"
#include "shared/ledger/proof.h"
#include "shared/ledger/tx.h"
#include "shared/merkle/merkle.h"

static enum err lacks(const struct settlement *settlement, const char *what, uint64_t count,
                      struct note *note)
{
    return note_set(note, ERR_CORRUPT,
                    "%llu %s were final and the journal %.160s lacks them: put it back from a copy",
                    (unsigned long long)count, what, settlement->log_folder);
}

/* ---- state ---- */

/* Entry index of the journal hashes to this? An error is the disk's: then nobody knows. */
static enum err journal_holds(struct settlement *settlement, uint64_t index,
                              const struct digest *hash, bool *out_holds, struct note *note)
{
    struct digest found;
    if (index == 0 || index > journal_count(settlement->journal)) {
        *out_holds = false;
        return ERR_OK;
    }
    buf_clear(&settlement->entry);
    enum err err = journal_read(settlement->journal, index - 1, &settlement->entry, note);
    if (err == ERR_OK) {
        ledger_entry_hash(buf_bytes(&settlement->entry), &found);
        *out_holds = digest_equal(&found, hash);
    }
    return err;
}

/* Reads the headers of all blocks up to the snapshot's and compares the last with the state. */
static enum err headers_load(struct settlement *settlement, struct ledger *ledger)
{
    struct ledger_head head;
    struct digest hash;
    struct digest root;
    struct buf header;
    ledger_head(ledger, &head);
    ledger_state_root(ledger, &root);
    buf_init(&header, 4096);
    enum err err = ERR_OK;
    bool same = head.height == 0;
    for (uint64_t height = 1; height <= head.height && err == ERR_OK; height++) {
        buf_clear(&header);
        err = settlement_store_header(settlement->store, height, &header);
        Openledger__V1__BlockHeader *decoded =
            err ? NULL : openledger__v1__block_header__unpack(NULL, header.size, header.data);
        if (decoded == NULL) {
            err = ERR_CORRUPT;
            break;
        }
        settlement_block_add(settlement, decoded->last_index, buf_bytes(&header));
        if (height == head.height) {
            sha256(buf_bytes(&header), &hash);
            same = digest_equal(&hash, &head.header_hash) &&
                   bytes_equal(ledger_bytes(decoded->state_root), digest_bytes(&root));
        }
        openledger__v1__block_header__free_unpacked(decoded, NULL);
    }
    buf_deinit(&header);
    return same ? err : ERR_CORRUPT;
}

enum err settlement_state_load(struct settlement *settlement, struct bytes genesis,
                               struct note *note)
{
    struct settlement_store_mark mark;
    struct ledger_head head;
    struct buf snapshot;
    buf_init(&snapshot, SNAPSHOT_MAX);
    ledger_head(settlement->ledger, &head);
    struct ledger *restored = NULL;
    struct note why = {""};
    bool marked = settlement_store_mark_get(settlement->store, &mark) == ERR_OK &&
                  digest_equal(&mark.chain_id, &head.chain_id);
    bool holds = true;
    enum err read =
        marked ? journal_holds(settlement, mark.index, &mark.entry_hash, &holds, note) : ERR_OK;
    if (read != ERR_OK || !holds) {
        buf_deinit(&snapshot);
        return read ? read : lacks(settlement, "entries", mark.index, note);
    }
    bool kept = marked && settlement_store_snapshot_get(settlement->store, &snapshot) == ERR_OK;
    bool fits = kept && ledger_restore(genesis, buf_bytes(&snapshot), &restored, &why) == ERR_OK;
    if (fits) {
        ledger_head(restored, &head);
        fits = head.index <= mark.index &&
               journal_holds(settlement, head.index, &head.entry_hash, &holds, NULL) == ERR_OK &&
               holds && headers_load(settlement, restored) == ERR_OK;
    }
    buf_deinit(&snapshot);
    if (!fits) {
        if (kept) {
            log_warn("snapshot_refused index=%llu journal=%llu note=\"%s\" now=\"replaying from "
                     "genesis\"",
                     (unsigned long long)head.index,
                     (unsigned long long)journal_count(settlement->journal),
                     why.text[0] != '\0' ? why.text : "index, snapshot and journal do not agree");
        }
        ledger_destroy(restored);
        settlement->block_count = 0;
        return settlement_store_clear(settlement->store, note);
    }
    ledger_destroy(settlement->ledger);
    settlement->ledger = restored;
    settlement->snapshot_height = head.height;
    settlement->final = mark.index; /* the index holds only what was final */
    return ERR_OK;
}

/* ---- signatures ---- */

static enum err checkpoint_read(const struct settlement *settlement,
                                struct ledger_checkpoint *out_checkpoint)
{
    struct ledger_head head;
    struct buf note;
    ledger_head(settlement->ledger, &head);
    const struct ledger_trust trust = {.chain_id = head.chain_id,
                                       .sequencer = *key_pair_public(settlement->sequencer)};
    buf_init(&note, SIGNED_NOTE_MAX);
    enum err err = file_read(settlement->checkpoint_path, &note, NULL);
    err = err ? err : ledger_checkpoint_verify(buf_bytes(&note), &trust, out_checkpoint, NULL);
    buf_deinit(&note);
    return err;
}

void settlement_vouch_read(struct settlement *settlement)
{
    struct settlement_vouched vouched = {.last_index = 0};
    struct ledger_checkpoint read;
    struct buf header;
    buf_init(&header, 4096);
    if (checkpoint_read(settlement, &read) == ERR_OK) {
        vouched.checkpoint = read;
    }
    if (vouched.checkpoint.height != 0 &&
        settlement_store_header(settlement->store, vouched.checkpoint.height, &header) == ERR_OK) {
        Openledger__V1__BlockHeader *decoded =
            openledger__v1__block_header__unpack(NULL, header.size, header.data);
        vouched.last_index = decoded == NULL ? 0 : decoded->last_index;
        if (decoded != NULL) {
            openledger__v1__block_header__free_unpacked(decoded, NULL);
        }
    }
    buf_deinit(&header);
    settlement->vouched = vouched;
}

enum err settlement_vouch_check(struct settlement *settlement, struct note *note)
{
    struct settlement_vouched *vouched = &settlement->vouched;
    struct ledger_head head;
    ledger_head(settlement->ledger, &head);
    if (head.index != vouched->last_index || vouched->last_index == 0) {
        return ERR_OK;
    }
    vouched->refuted = head.sealed_index != head.index ||
                       head.height != vouched->checkpoint.height ||
                       !digest_equal(&head.headers_root, &vouched->checkpoint.root);
    if (!vouched->refuted) {
        return ERR_OK;
    }
    char signed_root[DIGEST_TEXT_SIZE];
    char found_root[DIGEST_TEXT_SIZE];
    log_warn("checkpoint_refuted height=%llu root=%s index=%llu found_height=%llu found_root=%s "
             "now=\"replaying from genesis, every signature checked\"",
             (unsigned long long)vouched->checkpoint.height,
             digest_format(&vouched->checkpoint.root, signed_root), (unsigned long long)head.index,
             (unsigned long long)head.height, digest_format(&head.headers_root, found_root));
    return note_set(note, ERR_CORRUPT, "the journal does not lead to the checkpoint of height %llu",
                    (unsigned long long)vouched->checkpoint.height);
}

/* ---- what is missing ---- */

/* Of the first `height` headers, which there are. */
static void headers_root(const struct settlement *settlement, uint64_t height,
                         struct digest *out_root)
{
    struct merkle_tree tree = {.leaf_count = 0};
    struct merkle_head head;
    for (uint64_t i = 0; i < height; i++) {
        CHECK(merkle_tree_append(&tree, &settlement->blocks[i].leaf) == ERR_OK);
    }
    merkle_tree_head(&tree, &head);
    *out_root = head.root;
}

enum err settlement_lost_check(const struct settlement *settlement, struct note *note)
{
    const struct ledger_checkpoint *checkpoint = &settlement->vouched.checkpoint;
    struct ledger_head head;
    struct digest root;
    ledger_head(settlement->ledger, &head);
    if (checkpoint->height > head.height && settlement->agreement != NULL) {
        return ERR_OK; /* not all that is final is applied yet */
    }
    bool has = checkpoint->height <= head.height;
    if (has && checkpoint->height == head.height) {
        root = head.headers_root;
    } else if (has) {
        headers_root(settlement, checkpoint->height, &root);
    }
    has = has && (checkpoint->height == 0 || digest_equal(&root, &checkpoint->root));
    return has ? ERR_OK : lacks(settlement, "blocks", checkpoint->height, note);
}
