/* proof.c - see proof.h. */
#include "shared/ledger/proof.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/crypto/signed_note.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"
#include "shared/merkle/merkle.h"
#include "shared/tlog/proof.h"

static const char ORIGIN_PREFIX[] = "openledger/";

const char *ledger_origin(const struct digest *chain_id, char out[LEDGER_ORIGIN_SIZE])
{
    memcpy(out, ORIGIN_PREFIX, sizeof ORIGIN_PREFIX);
    (void)hex_encode(chain_id->bytes, DIGEST_SIZE, out + sizeof ORIGIN_PREFIX - 1);
    return out;
}

enum err ledger_checkpoint_sign(const struct digest *chain_id, uint64_t height,
                                const struct digest *root, const struct key_pair *keys,
                                struct buf *out)
{
    struct checkpoint checkpoint = {.leaf_count = height, .root = *root};
    (void)ledger_origin(chain_id, checkpoint.origin);
    struct buf body;
    buf_init(&body, SIGNED_NOTE_MAX);
    enum err err = checkpoint_format(&checkpoint, (struct bytes){0}, &body);
    if (err == ERR_OK) {
        err = signed_note_sign(buf_bytes(&body), checkpoint.origin, keys, out);
    }
    buf_deinit(&body);
    return err;
}

void ledger_trust(const struct ledger *ledger, struct ledger_trust *out_trust)
{
    struct ledger_head head;
    ledger_head(ledger, &head);
    *out_trust = (struct ledger_trust){.chain_id = head.chain_id,
                                       .sequencer = ledger_parameters(ledger)->sequencer,
                                       .witnesses = *ledger_witnesses(ledger)};
}

enum err ledger_checkpoint_verify(struct bytes note_bytes, const struct ledger_trust *trust,
                                  struct ledger_checkpoint *out_checkpoint, struct note *note)
{
    char origin[LEDGER_ORIGIN_SIZE];
    const struct ledger_witnesses *witnesses = &trust->witnesses;
    struct signed_note_key keys[1 + LEDGER_WITNESSES_MAX] = {
        {ledger_origin(&trust->chain_id, origin), SIGNED_NOTE_PLAIN, trust->sequencer}};
    bool signed_by[1 + LEDGER_WITNESSES_MAX] = {false};
    struct bytes body;
    struct checkpoint checkpoint;
    for (uint32_t i = 0; i < witnesses->count; i++) {
        keys[1 + i] = (struct signed_note_key){witnesses->items[i].name, SIGNED_NOTE_COSIGNATURE,
                                               witnesses->items[i].key};
    }
    enum err err =
        signed_note_check(note_bytes, keys, 1 + witnesses->count, signed_by, &body, note);
    if (err == ERR_OK && !signed_by[0]) {
        err = note_set(note, ERR_DENIED, "it is not signed by the sequencer");
    }
    err = err ? err : checkpoint_parse(body, &checkpoint, NULL, note);
    if (err != ERR_OK) {
        return note_wrap(note, err, "checkpoint");
    }
    if (strcmp(checkpoint.origin, origin) != 0) {
        return note_set(note, ERR_INVALID, "checkpoint: it is of another log, \"%.80s\"",
                        checkpoint.origin);
    }
    struct ledger_checkpoint found = {.height = checkpoint.leaf_count, .root = checkpoint.root};
    for (uint32_t i = 0; i < witnesses->count; i++) {
        found.cosignatures += signed_by[1 + i] ? 1 : 0;
    }
    found.final = found.cosignatures >= witnesses->quorum;
    *out_checkpoint = found;
    return ERR_OK;
}

/* Fields of a serialised message in proto3's canonical form: what is 0 or empty is left out. Each returns where
 * the next one goes. */
static uint8_t *number_put(uint8_t *at, unsigned field, uint64_t value)
{
    if (value != 0) {
        *at++ = (uint8_t)(field << 3); /* wire type 0: a varint */
        for (; value >= 0x80; value >>= 7) {
            *at++ = (uint8_t)(value | 0x80);
        }
        *at++ = (uint8_t)value;
    }
    return at;
}

static uint8_t *bytes_put(uint8_t *at, unsigned field, struct bytes value)
{
    CHECK(value.size < 0x80); /* its size is one byte */
    if (value.size != 0) {
        *at++ = (uint8_t)(field << 3 | 2); /* wire type 2: a size and as many bytes */
        *at++ = (uint8_t)value.size;
        memcpy(at, value.data, value.size);
    }
    return at + value.size;
}

/* By hand: packing a message from its descriptor costs several times as much, and this is done for every leg. */
enum err ledger_posting_encode(uint64_t index, uint32_t leg_number, const struct ledger_leg *leg,
                               struct buf *out)
{
    enum { TEXT_BEFORE = 2, NUMBERS_MAX = 11 + 6 + 2, DIGESTS_MAX = 2 * (2 + DIGEST_SIZE) };
    char amount[AMOUNT_TEXT_SIZE];
    struct bytes reason = bytes_of_text(leg->reason);
    uint8_t *const begin = buf_reserve(out, NUMBERS_MAX + DIGESTS_MAX + TEXT_BEFORE +
                                                AMOUNT_TEXT_SIZE + TEXT_BEFORE + reason.size);
    if (begin == NULL) {
        return buf_err(out);
    }
    uint8_t *at = number_put(begin, 1, index);
    at = number_put(at, 2, leg_number);
    at = bytes_put(at, 3, bytes_of(leg->account.bytes, ACCOUNT_ID_SIZE));
    at = number_put(at, 4, leg->credit ? 1 : 0);
    at = bytes_put(at, 5, bytes_of_text(amount_format(leg->amount, amount)));
    at = bytes_put(at, 6, reason);
    if (leg->has_reference) {
        at = bytes_put(at, 7, digest_bytes(&leg->reference));
    }
    buf_commit(out, (size_t)(at - begin));
    return ERR_OK;
}

enum err ledger_proof_make(const struct ledger_proof_parts *parts, struct buf *out,
                           struct note *note)
{
    struct merkle_proof path;
    const struct merkle_proof *header_path = parts->header_path;
    enum err err = merkle_prove((struct merkle_leaves){parts->leaves, parts->leaf_count},
                                parts->leaf_index, &path);
    if (err != ERR_OK) {
        return note_set(note, err, "leaf %llu of %llu in block %llu cannot be proved",
                        (unsigned long long)parts->leaf_index,
                        (unsigned long long)parts->leaf_count,
                        (unsigned long long)header_path->leaf_index + 1);
    }
    char checkpoint[SIGNED_NOTE_MAX + 1];
    if (parts->checkpoint.size > SIGNED_NOTE_MAX) {
        return note_set(note, ERR_LIMIT, "the checkpoint has %zu bytes", parts->checkpoint.size);
    }
    memcpy(checkpoint, parts->checkpoint.data, parts->checkpoint.size);
    checkpoint[parts->checkpoint.size] = '\0';
    ProtobufCBinaryData items[MERKLE_PATH_MAX];
    ProtobufCBinaryData header_items[MERKLE_PATH_MAX];
    for (uint32_t i = 0; i < path.path_count; i++) {
        items[i] = ledger_binary(path.path[i].bytes, DIGEST_SIZE);
    }
    for (uint32_t i = 0; i < header_path->path_count; i++) {
        header_items[i] = ledger_binary(header_path->path[i].bytes, DIGEST_SIZE);
    }
    Openledger__V1__InclusionProof proof = OPENLEDGER__V1__INCLUSION_PROOF__INIT;
    proof.leaf = ledger_binary(parts->leaf.data, parts->leaf.size);
    proof.posting = parts->posting;
    proof.leaf_index = parts->leaf_index;
    proof.leaf_count = parts->leaf_count;
    proof.n_path = path.path_count;
    proof.path = items;
    proof.header = ledger_binary(parts->header.data, parts->header.size);
    proof.header_index = header_path->leaf_index;
    proof.n_header_path = header_path->path_count;
    proof.header_path = header_items;
    proof.checkpoint = checkpoint;
    return ledger_pack(&proof.base, out);
}

/* ---- checking ----------------------------------------------------------------------------------- */

static enum err path_take(const ProtobufCBinaryData *items, size_t count, uint64_t leaf_index,
                          struct merkle_proof *out)
{
    if (count > MERKLE_PATH_MAX) {
        return ERR_INVALID;
    }
    *out = (struct merkle_proof){.leaf_index = leaf_index, .path_count = (uint32_t)count};
    for (size_t i = 0; i < count; i++) {
        if (items[i].len != DIGEST_SIZE) {
            return ERR_INVALID;
        }
        memcpy(out->path[i].bytes, items[i].data, DIGEST_SIZE);
    }
    return ERR_OK;
}

static bool path_leads(const ProtobufCBinaryData *items, size_t count, uint64_t leaf_index,
                       const struct merkle_head *head, struct bytes leaf)
{
    struct merkle_proof path;
    return path_take(items, count, leaf_index, &path) == ERR_OK &&
           merkle_verify(head, &path, leaf.data, leaf.size);
}

static enum err posting_claim(struct bytes leaf, struct ledger_proof_claim *claim,
                              struct note *note)
{
    ProtobufCMessage *message = NULL;
    enum err err =
        ledger_unpack(&openledger__v1__posting__descriptor, "posting", leaf, &message, note);
    if (err != ERR_OK) {
        return err;
    }
    const Openledger__V1__Posting *posting = (Openledger__V1__Posting *)message;
    bool fits = posting->account.len == ACCOUNT_ID_SIZE &&
                strlen(posting->reason) < sizeof claim->reason &&
                (posting->reference.len == 0 || posting->reference.len == DIGEST_SIZE);
    if (!fits) {
        err = note_set(note, ERR_INVALID, "the posting is malformed");
    } else {
        err = ledger_amount_parse(posting->amount, "posting's amount", &claim->amount, note);
    }
    if (err == ERR_OK) {
        claim->posting = true;
        claim->index = posting->index;
        claim->leg = posting->leg;
        claim->credit = posting->credit;
        memcpy(claim->account.bytes, posting->account.data, ACCOUNT_ID_SIZE);
        memcpy(claim->reason, posting->reason, strlen(posting->reason) + 1);
        if (posting->reference.len != 0) {
            memcpy(claim->reference.bytes, posting->reference.data, DIGEST_SIZE);
        }
    }
    protobuf_c_message_free_unpacked(message, NULL);
    return err;
}

static enum err entry_claim(struct bytes leaf, const struct digest *chain_id,
                            struct ledger_proof_claim *claim, struct note *note)
{
    ProtobufCMessage *message = NULL;
    enum err err = ledger_unpack(&openledger__v1__entry__descriptor, "entry", leaf, &message, note);
    if (err != ERR_OK) {
        return err;
    }
    const Openledger__V1__Entry *entry = (Openledger__V1__Entry *)message;
    claim->index = entry->index;
    if (entry->content_case == OPENLEDGER__V1__ENTRY__CONTENT_SIGNED_TX) {
        err = ledger_signed_tx_id(chain_id, ledger_bytes(entry->signed_tx), &claim->tx, note);
    }
    protobuf_c_message_free_unpacked(message, NULL);
    return err;
}

static enum err header_check(const Openledger__V1__InclusionProof *proof,
                             const Openledger__V1__BlockHeader *header,
                             const struct digest *chain_id, struct ledger_proof_claim *claim,
                             struct note *note)
{
    if (!bytes_equal(ledger_bytes(header->chain_id), digest_bytes(chain_id))) {
        return note_set(note, ERR_INVALID, "the header is of another chain");
    }
    if (header->height == 0 || proof->header_index != header->height - 1) {
        return note_set(note, ERR_INVALID, "the header has height %llu, its place is %llu",
                        (unsigned long long)header->height,
                        (unsigned long long)proof->header_index + 1);
    }
    ProtobufCBinaryData root = proof->posting ? header->postings_root : header->entries_root;
    if (root.len != DIGEST_SIZE) {
        return note_set(note, ERR_INVALID, "the header's roots are malformed");
    }
    if (claim->index < header->first_index || claim->index > header->last_index) {
        return note_set(note, ERR_INVALID, "entry %llu is not of block %llu",
                        (unsigned long long)claim->index, (unsigned long long)header->height);
    }
    /* The root does not bind the count; for entries the header does. */
    if (!proof->posting && proof->leaf_count != header->last_index - header->first_index + 1) {
        return note_set(note, ERR_INVALID, "block %llu has not %llu entries",
                        (unsigned long long)header->height, (unsigned long long)proof->leaf_count);
    }
    struct merkle_head head = {.leaf_count = proof->leaf_count};
    memcpy(head.root.bytes, root.data, DIGEST_SIZE);
    if (!path_leads(proof->path, proof->n_path, proof->leaf_index, &head,
                    ledger_bytes(proof->leaf))) {
        return note_set(note, ERR_INVALID, "the %s does not lead to block %llu's root",
                        proof->posting ? "posting" : "entry", (unsigned long long)header->height);
    }
    claim->height = header->height;
    claim->block_time_ms = header->time_ms;
    return ERR_OK;
}

static enum err proof_check(const Openledger__V1__InclusionProof *proof,
                            const struct ledger_trust *trust, struct ledger_proof_claim *claim,
                            struct note *note)
{
    enum err err =
        ledger_checkpoint_verify(bytes_of_text(proof->checkpoint), trust, &claim->checkpoint, note);
    err = err              ? err
          : proof->posting ? posting_claim(ledger_bytes(proof->leaf), claim, note)
                           : entry_claim(ledger_bytes(proof->leaf), &trust->chain_id, claim, note);
    if (err != ERR_OK) {
        return err;
    }
    const struct merkle_head log = {claim->checkpoint.height, claim->checkpoint.root};
    if (!path_leads(proof->header_path, proof->n_header_path, proof->header_index, &log,
                    ledger_bytes(proof->header))) {
        return note_set(note, ERR_INVALID, "the header does not lead to the checkpoint's root");
    }
    ProtobufCMessage *message = NULL;
    err = ledger_unpack(&openledger__v1__block_header__descriptor, "header",
                        ledger_bytes(proof->header), &message, note);
    if (err == ERR_OK) {
        err = header_check(proof, (Openledger__V1__BlockHeader *)message, &trust->chain_id, claim,
                           note);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    return err;
}

enum err ledger_proof_verify(struct bytes proof, const struct ledger_trust *trust,
                             struct ledger_proof_claim *out_claim, struct note *note)
{
    ProtobufCMessage *message = NULL;
    enum err err =
        ledger_unpack(&openledger__v1__inclusion_proof__descriptor, "proof", proof, &message, note);
    if (err != ERR_OK) {
        return err;
    }
    struct ledger_proof_claim claim = {0};
    err = proof_check((Openledger__V1__InclusionProof *)message, trust, &claim, note);
    if (err == ERR_OK) {
        *out_claim = claim;
    }
    protobuf_c_message_free_unpacked(message, NULL);
    return err;
}

/* ---- proof files -------------------------------------------------------------------------------- */

enum err ledger_proof_export(struct bytes proof_bytes, struct buf *out, struct note *note)
{
    ProtobufCMessage *message = NULL;
    enum err err = ledger_unpack(&openledger__v1__inclusion_proof__descriptor, "proof", proof_bytes,
                                 &message, note);
    if (err != ERR_OK) {
        return err;
    }
    const Openledger__V1__InclusionProof *proof = (Openledger__V1__InclusionProof *)message;
    struct tlog_proof file = {.checkpoint = bytes_of_text(proof->checkpoint)};
    err = path_take(proof->header_path, proof->n_header_path, proof->header_index, &file.path);
    err = err ? note_set(note, err, "proof: its header's path is malformed")
              : tlog_proof_format(&file, proof_bytes, out);
    protobuf_c_message_free_unpacked(message, NULL);
    return err;
}

enum err ledger_proof_import(struct bytes file, struct buf *out_proof, struct note *note)
{
    static const char TEXT[] = "c2sp.org/";
    struct tlog_proof parsed;
    if (file.size < sizeof TEXT - 1 || memcmp(file.data, TEXT, sizeof TEXT - 1) != 0) {
        return buf_append_bytes(out_proof, file);
    }
    size_t before = out_proof->size;
    enum err err = tlog_proof_parse(file, &parsed, out_proof, note);
    if (err != ERR_OK) {
        return err;
    }
    /* The two forms must say the same: what other programs check is what we check. */
    struct buf again;
    buf_init(&again, TLOG_PROOF_MAX);
    err = ledger_proof_export(bytes_of(out_proof->data + before, out_proof->size - before), &again,
                              note);
    if (err == ERR_OK && !bytes_equal(buf_bytes(&again), file)) {
        err = note_set(note, ERR_INVALID, "the proof file and the proof inside it differ");
    }
    buf_deinit(&again);
    return err;
}
