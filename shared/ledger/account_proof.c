/* account_proof.c - see account_proof.h. */
#include "shared/ledger/account_proof.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/signed_note.h"
#include "shared/ledger/machine.h"
#include "shared/ledger/records.h"
#include "shared/ledger/tx.h"

/* ---- making ------------------------------------------------------------------------------------- */

enum err ledger_account_path(struct ledger *ledger, const struct account_id *account,
                             struct buf *out, struct note *note)
{
    struct digest key;
    struct buf record;
    if (ledger->head.index != ledger->head.sealed_index || ledger->head.height == 0) {
        return note_set(note, ERR_UNAVAILABLE, "the state is not that of a block just now");
    }
    struct state_path *path = calloc(1, sizeof *path);
    Openledger__V1__StateStep *steps = calloc((size_t)STATE_PATH_MAX, sizeof *steps);
    Openledger__V1__StateStep **pointers =
        calloc((size_t)STATE_PATH_MAX, sizeof(Openledger__V1__StateStep *));
    CHECK(path != NULL && steps != NULL && pointers != NULL);
    buf_init(&record, RECORD_ENCODED_MAX);
    const struct ledger_account probe = {.id = *account};
    state_key(STATE_ACCOUNT, &probe, &key);
    enum err err = state_path(ledger->state, &key, path, &record);
    if (err == ERR_OK) {
        Openledger__V1__StateProof proof = OPENLEDGER__V1__STATE_PROOF__INIT;
        for (uint32_t i = 0; i < path->count; i++) {
            openledger__v1__state_step__init(&steps[i]);
            steps[i].bit = path->steps[i].bit;
            steps[i].sibling = ledger_binary(path->steps[i].sibling.bytes, DIGEST_SIZE);
            pointers[i] = &steps[i];
        }
        proof.account = ledger_binary(account->bytes, ACCOUNT_ID_SIZE);
        proof.leaf_key = ledger_binary(path->leaf_key.bytes, DIGEST_SIZE);
        proof.record = ledger_binary(record.data, record.size);
        proof.steps = pointers;
        proof.n_steps = path->count;
        err = ledger_pack(&proof.base, out);
    }
    buf_deinit(&record);
    free(pointers);
    free(steps);
    free(path);
    return err;
}

enum err ledger_account_proof_make(struct bytes path, struct bytes header,
                                   const struct merkle_proof *header_path, struct bytes checkpoint,
                                   struct buf *out, struct note *note)
{
    char text[SIGNED_NOTE_MAX + 1];
    ProtobufCBinaryData items[MERKLE_PATH_MAX];
    Openledger__V1__StateProof *proof =
        openledger__v1__state_proof__unpack(NULL, path.size, path.data);
    if (proof == NULL || checkpoint.size > SIGNED_NOTE_MAX) {
        return note_set(note, ERR_INVALID, "not a way through the state");
    }
    for (uint32_t i = 0; i < header_path->path_count; i++) {
        items[i] = ledger_binary(header_path->path[i].bytes, DIGEST_SIZE);
    }
    memcpy(text, checkpoint.data, checkpoint.size);
    text[checkpoint.size] = '\0';
    Openledger__V1__StateProof whole = *proof; /* its own parts stay proof's */
    whole.header = ledger_binary(header.data, header.size);
    whole.header_index = header_path->leaf_index;
    whole.header_path = items;
    whole.n_header_path = header_path->path_count;
    whole.checkpoint = text;
    enum err err = ledger_pack(&whole.base, out);
    openledger__v1__state_proof__free_unpacked(proof, NULL);
    return err;
}

/* ---- checking ----------------------------------------------------------------------------------- */

static unsigned key_bit(const struct digest *key, uint32_t bit)
{
    return (unsigned)key->bytes[bit / 8] >> (7 - bit % 8) & 1U;
}

/* The state root that the way leads to, going left or right by the key searched for. */
static enum err state_root_of(const Openledger__V1__StateProof *proof, const struct digest *key,
                              struct digest *out_root)
{
    struct digest leaf_key;
    struct digest hash;
    uint32_t below = 8 * DIGEST_SIZE;
    if (digest_from_bytes(ledger_bytes(proof->leaf_key), &leaf_key) != ERR_OK ||
        proof->n_steps > (size_t)STATE_PATH_MAX) {
        return ERR_INVALID;
    }
    state_leaf_hash(&leaf_key, ledger_bytes(proof->record), &hash);
    for (size_t i = proof->n_steps; i > 0; i--) {
        struct digest sibling;
        const Openledger__V1__StateStep *step = proof->steps[i - 1];
        if (step->bit >= below || /* the bits grow downwards: so the trie is built */
            digest_from_bytes(ledger_bytes(step->sibling), &sibling) != ERR_OK) {
            return ERR_INVALID;
        }
        below = step->bit;
        bool right = key_bit(key, step->bit) == 1;
        state_branch_hash((uint16_t)step->bit, right ? &sibling : &hash, right ? &hash : &sibling,
                          &hash);
    }
    *out_root = hash;
    return ERR_OK;
}

/* A leaf under another key proves absence; under the right one, its bytes are the account. */
static enum err record_claim(const Openledger__V1__StateProof *proof, const struct digest *key,
                             struct ledger_account_claim *claim)
{
    if (!bytes_equal(ledger_bytes(proof->leaf_key), digest_bytes(key))) {
        return ERR_OK;
    }
    struct bytes in = ledger_bytes(proof->record);
    enum err err = record_decode(STATE_ACCOUNT, &in, &claim->account);
    if (err != ERR_OK || in.size != 0 || !account_id_equal(&claim->account.id, &claim->id)) {
        return ERR_INVALID;
    }
    claim->exists = true;
    return ERR_OK;
}

static enum err header_claim(const Openledger__V1__StateProof *proof,
                             const struct ledger_trust *trust, const struct digest *root,
                             struct ledger_account_claim *claim, struct note *note)
{
    struct merkle_proof path = {.leaf_index = proof->header_index};
    const struct merkle_head log = {claim->checkpoint.height, claim->checkpoint.root};
    bool leads = proof->n_header_path <= MERKLE_PATH_MAX;
    for (size_t i = 0; leads && i < proof->n_header_path; i++) {
        leads = digest_from_bytes(ledger_bytes(proof->header_path[i]), &path.path[i]) == ERR_OK;
        path.path_count++;
    }
    if (!leads || !merkle_verify(&log, &path, proof->header.data, proof->header.len)) {
        return note_set(note, ERR_INVALID, "the header does not lead to the checkpoint's root");
    }
    ProtobufCMessage *message = NULL;
    enum err err = ledger_unpack(&openledger__v1__block_header__descriptor, "header",
                                 ledger_bytes(proof->header), &message, note);
    if (err != ERR_OK) {
        return err;
    }
    const Openledger__V1__BlockHeader *header = (Openledger__V1__BlockHeader *)message;
    if (!bytes_equal(ledger_bytes(header->chain_id), digest_bytes(&trust->chain_id)) ||
        header->height == 0 || header->height - 1 != proof->header_index) {
        err = note_set(note, ERR_INVALID, "the header is of another chain or place");
    } else if (!bytes_equal(ledger_bytes(header->state_root), digest_bytes(root))) {
        err = note_set(note, ERR_INVALID, "the way does not lead to block %llu's state root",
                       (unsigned long long)header->height);
    }
    claim->height = header->height;
    claim->block_time_ms = header->time_ms;
    protobuf_c_message_free_unpacked(message, NULL);
    return err;
}

static enum err proof_check(const Openledger__V1__StateProof *proof,
                            const struct ledger_trust *trust, struct ledger_account_claim *claim,
                            struct note *note)
{
    struct digest id;
    struct digest key;
    struct digest root;
    enum err err =
        ledger_checkpoint_verify(bytes_of_text(proof->checkpoint), trust, &claim->checkpoint, note);
    if (err != ERR_OK) {
        return err;
    }
    if (digest_from_bytes(ledger_bytes(proof->account), &id) != ERR_OK) {
        return note_set(note, ERR_INVALID, "account has %zu bytes, not %d", proof->account.len,
                        ACCOUNT_ID_SIZE);
    }
    memcpy(claim->id.bytes, id.bytes, ACCOUNT_ID_SIZE);
    const struct ledger_account probe = {.id = claim->id};
    state_key(STATE_ACCOUNT, &probe, &key);
    err = state_root_of(proof, &key, &root);
    err = err ? err : record_claim(proof, &key, claim);
    return err ? note_set(note, err, "the way through the state is malformed")
               : header_claim(proof, trust, &root, claim, note);
}

enum err ledger_account_proof_verify(struct bytes bytes, const struct ledger_trust *trust,
                                     struct ledger_account_claim *out_claim, struct note *note)
{
    ProtobufCMessage *message = NULL;
    struct ledger_account_claim claim = {.exists = false};
    enum err err = ledger_unpack(&openledger__v1__state_proof__descriptor, "account proof", bytes,
                                 &message, note);
    if (err != ERR_OK) {
        return err;
    }
    err = proof_check((Openledger__V1__StateProof *)message, trust, &claim, note);
    protobuf_c_message_free_unpacked(message, NULL);
    if (err == ERR_OK) {
        *out_claim = claim;
    }
    return err;
}
