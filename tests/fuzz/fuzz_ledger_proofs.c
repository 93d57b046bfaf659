/* fuzz_ledger_proofs.c - true proofs of an entry, a posting and accounts, proof files and cosigned checkpoints,
 * with edits: what is still accepted must say nothing but the truth.
 *
 * Byte 0 chooses the proof, the rest are edits. Oracle: the ledger that the proofs are of. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/signed_note.h"
#include "shared/ledger/account_proof.h"
#include "tests/harness/edits.h"
#include "tests/harness/ledger_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size);

enum { ENTRY, POSTING, ENTRY_FILE, ACCOUNT, NO_ACCOUNT, CHECKPOINT, SUBJECTS, BYTES_MAX = 1 << 21 };

static struct world *world;
static struct ledger_trust trust;
static struct buf truth[SUBJECTS];
static struct ledger_proof_claim shown[POSTING + 1];
static struct digest headers_root;

static void checkpoint_make(const struct ledger_head *head)
{
    struct buf *out = &truth[CHECKPOINT];
    CHECK(ledger_checkpoint_sign(&head->chain_id, head->height, &head->headers_root,
                                 world->sequencer, out) == ERR_OK);
    trust.witnesses = (struct ledger_witnesses){.count = 2, .quorum = 2};
    for (uint32_t i = 0; i < 2; i++) {
        struct ledger_witness *witness = &trust.witnesses.items[i];
        struct buf line;
        memcpy(witness->name, i == 0 ? "w0" : "w1", 3);
        witness->key = *key_pair_public(world->keys[i]);
        buf_init(&line, SIGNED_NOTE_MAX);
        CHECK(signed_note_cosign(buf_bytes(out), witness->name, world->keys[i], 1000, &line) ==
              ERR_OK);
        buf_append_bytes(out, buf_bytes(&line));
        buf_deinit(&line);
    }
}

/* A transfer and a seal, and an empty block after it. */
static void start(void)
{
    struct buf posting;
    struct digest entries[2];
    struct digest postings[8];
    struct digest headers[2];
    struct bytes header[2];
    struct bytes legs;
    struct bytes leg = {0};
    struct merkle_proof header_path;
    struct ledger_head head;
    struct note note;
    size_t count = 0;
    world = world_create();
    ledger_trust(world->ledger, &trust);
    for (int i = 0; i < SUBJECTS; i++) {
        buf_init(&truth[i], BYTES_MAX);
    }
    buf_init(&posting, BYTES_MAX);
    CHECK(world_transfer(world, WORLD_PAYER, WORLD_BOB, "12.5") == ERR_OK);
    CHECK(buf_append_bytes(&posting, buf_bytes(&world->effects.postings)) == ERR_OK);
    legs = buf_bytes(&posting);
    for (uint16_t size; bytes_take_u16le(&legs, &size) == ERR_OK; count++) {
        CHECK(count < 8 && bytes_take(&legs, size, &leg) == ERR_OK);
        merkle_leaf(leg.data, leg.size, &postings[count]);
    }
    for (int i = 0; i < 2; i++) {
        static struct buf kept[2];
        CHECK(world_seal(world) == ERR_OK);
        buf_init(&kept[i], BYTES_MAX);
        CHECK(buf_append_bytes(&kept[i], buf_bytes(&world->effects.header)) == ERR_OK);
        header[i] = buf_bytes(&kept[i]);
        merkle_leaf(header[i].data, header[i].size, &headers[i]);
        merkle_leaf(world->entries[i].data, world->entries[i].size, &entries[i]);
    }
    ledger_head(world->ledger, &head);
    headers_root = head.headers_root;
    checkpoint_make(&head);
    CHECK(merkle_prove((struct merkle_leaves){headers, 2}, 0, &header_path) == ERR_OK);
    struct ledger_proof_parts parts = {.leaf = buf_bytes(&world->entries[0]),
                                       .leaves = entries,
                                       .leaf_count = 2,
                                       .header = header[0],
                                       .header_path = &header_path,
                                       .checkpoint = buf_bytes(&truth[CHECKPOINT])};
    CHECK(ledger_proof_make(&parts, &truth[ENTRY], &note) == ERR_OK);
    CHECK(ledger_proof_export(buf_bytes(&truth[ENTRY]), &truth[ENTRY_FILE], &note) == ERR_OK);
    parts.posting = true;
    parts.leaf = leg;
    parts.leaves = postings;
    parts.leaf_count = count;
    parts.leaf_index = count - 1;
    CHECK(ledger_proof_make(&parts, &truth[POSTING], &note) == ERR_OK);
    for (int i = ENTRY; i <= POSTING; i++) {
        CHECK(ledger_proof_verify(buf_bytes(&truth[i]), &trust, &shown[i], &note) == ERR_OK);
    }
    CHECK(merkle_prove((struct merkle_leaves){headers, 2}, 1, &header_path) == ERR_OK);
    for (int i = ACCOUNT; i <= NO_ACCOUNT; i++) {
        struct buf path;
        buf_init(&path, BYTES_MAX);
        CHECK(ledger_account_path(world->ledger,
                                  &world->ids[i == ACCOUNT ? WORLD_BOB : WORLD_ALICE], &path,
                                  &note) == ERR_OK);
        CHECK(ledger_account_proof_make(buf_bytes(&path), header[1], &header_path,
                                        buf_bytes(&truth[CHECKPOINT]), &truth[i], &note) == ERR_OK);
        buf_deinit(&path);
    }
    buf_deinit(&posting);
}

/* Cosignatures may have been taken off, and then the checkpoint is not final. */
static void checkpoint_true(const struct ledger_checkpoint *found)
{
    CHECK(found->height == 2 && digest_equal(&found->root, &headers_root));
    CHECK(found->cosignatures <= 2 && found->final == (found->cosignatures == 2));
}

static bool inclusion(struct bytes bytes, const struct ledger_proof_claim *is)
{
    struct ledger_proof_claim says;
    if (ledger_proof_verify(bytes, &trust, &says, NULL) != ERR_OK) {
        return false;
    }
    checkpoint_true(&says.checkpoint);
    CHECK(says.posting == is->posting && says.height == is->height && says.index == is->index);
    CHECK(says.block_time_ms == is->block_time_ms && digest_equal(&says.tx, &is->tx));
    CHECK(says.leg == is->leg && account_id_equal(&says.account, &is->account));
    CHECK(says.credit == is->credit && amount_equal(says.amount, is->amount));
    CHECK(strcmp(says.reason, is->reason) == 0 && digest_equal(&says.reference, &is->reference));
    return true;
}

/* Both forms of a proof say the same: no byte of the file may differ but in what it says of the witnesses. */
static bool file(struct bytes bytes)
{
    struct buf proof;
    struct buf again;
    buf_init(&proof, BYTES_MAX);
    buf_init(&again, BYTES_MAX);
    bool taken = ledger_proof_import(bytes, &proof, NULL) == ERR_OK &&
                 inclusion(buf_bytes(&proof), &shown[ENTRY]);
    if (taken && !bytes_equal(buf_bytes(&proof), bytes)) {
        CHECK(ledger_proof_export(buf_bytes(&proof), &again, NULL) == ERR_OK);
        CHECK(bytes_equal(buf_bytes(&again), bytes));
    }
    buf_deinit(&proof);
    buf_deinit(&again);
    return taken;
}

static bool account(struct bytes bytes)
{
    struct ledger_account_claim says;
    if (ledger_account_proof_verify(bytes, &trust, &says, NULL) != ERR_OK) {
        return false;
    }
    const struct ledger_account *is = ledger_account(world->ledger, &says.id);
    checkpoint_true(&says.checkpoint);
    CHECK(says.height == 2 && says.exists == (is != NULL));
    if (is != NULL) {
        CHECK(amount_equal(says.account.balance, is->balance));
        CHECK(says.account.has_key == is->has_key && strcmp(says.account.name, is->name) == 0);
        CHECK(memcmp(&says.account.key, &is->key, sizeof is->key) == 0);
        CHECK(says.account.first_index == is->first_index);
        CHECK(says.account.last_index == is->last_index);
    }
    return true;
}

static bool checkpoint(struct bytes bytes)
{
    struct ledger_checkpoint found;
    if (ledger_checkpoint_verify(bytes, &trust, &found, NULL) != ERR_OK) {
        return false;
    }
    checkpoint_true(&found);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    struct buf edited;
    bool taken = false;
    if (world == NULL) {
        start();
    }
    if (data_size == 0) {
        return 0;
    }
    int subject = data[0] % SUBJECTS;
    buf_init(&edited, BYTES_MAX);
    CHECK(buf_append_bytes(&edited, buf_bytes(&truth[subject])) == ERR_OK);
    edits_make(bytes_of(data + 1, data_size - 1), &edited);
    switch (subject) {
    case ENTRY:
    case POSTING:
        taken = inclusion(buf_bytes(&edited), &shown[subject]);
        break;
    case ENTRY_FILE:
        taken = file(buf_bytes(&edited));
        break;
    case ACCOUNT:
    case NO_ACCOUNT:
        taken = account(buf_bytes(&edited));
        break;
    default:
        taken = checkpoint(buf_bytes(&edited));
        break;
    }
    CHECK(taken || !bytes_equal(buf_bytes(&edited), buf_bytes(&truth[subject])));
    buf_deinit(&edited);
    return 0;
}
