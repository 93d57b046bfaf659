/* batch.c - see batch.h. */
#include "shared/ledger/batch.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/ledger.h"
#include "shared/ledger/scan.h"
#include "shared/ledger/tx.h"
#include "shared/merkle/merkle.h"

/* The final NUL of each text is the 0x00 that separates it from what follows. */
static const char PROMPT_DOMAIN[] = "openledger/prompt/v1";
static const char ANSWER_DOMAIN[] = "openledger/answer/v1";
static const char RECEIPTS_DOMAIN[] = "openledger/receipts/v1";
static const char SHARES_DOMAIN[] = "openledger/shares/v1";

enum { REQUEST_ID_SIZE = 16, FINISH_REASON_MAX = 32, SHARES_MAX = 8192, SIGNED_MAX = 512 };

void ledger_receipt_id(struct bytes receipt, struct digest *out_id)
{
    merkle_leaf(receipt.data, receipt.size, out_id);
}

static void commitment(const char *domain, size_t domain_size, const struct salt *salt,
                       const uint32_t *ids, size_t count, struct digest *out)
{
    struct sha256 *sha = sha256_create();
    sha256_update(sha, bytes_of(domain, domain_size));
    sha256_update(sha, bytes_of(salt->bytes, SALT_SIZE));
    for (size_t i = 0; i < count; i++) {
        const uint8_t id[4] = {(uint8_t)ids[i], (uint8_t)(ids[i] >> 8), (uint8_t)(ids[i] >> 16),
                               (uint8_t)(ids[i] >> 24)};
        sha256_update(sha, bytes_of(id, sizeof id));
    }
    sha256_final(sha, out);
    sha256_destroy(sha);
}

void ledger_prompt_commitment(const struct salt *salt, const uint32_t *ids, size_t count,
                              struct digest *out)
{
    commitment(PROMPT_DOMAIN, sizeof PROMPT_DOMAIN, salt, ids, count, out);
}

void ledger_answer_commitment(const struct salt *salt, const uint32_t *ids, size_t count,
                              struct digest *out)
{
    commitment(ANSWER_DOMAIN, sizeof ANSWER_DOMAIN, salt, ids, count, out);
}

enum err ledger_fee(struct amount price_prompt, struct amount price_completion,
                    uint32_t prompt_tokens, uint32_t completion_tokens, struct amount *out_fee)
{
    struct amount prompt;
    struct amount completion;
    enum err err = amount_mul(price_prompt, prompt_tokens, &prompt);
    if (err == ERR_OK) {
        err = amount_mul(price_completion, completion_tokens, &completion);
    }
    return err == ERR_OK ? amount_add(prompt, completion, out_fee) : err;
}

void ledger_split_fee(const struct ledger_parameters *parameters, struct amount fee,
                      struct ledger_fee_split *out_split)
{
    const uint64_t weights[4] = {parameters->platform_bp, parameters->model_bp,
                                 parameters->stakers_bp, parameters->contributors_bp};
    const uint64_t halves[2] = {1, 1}; /* an odd unit goes to the adapter's developer */
    struct amount parts[4];
    struct amount developers[2];
    CHECK(amount_split(fee, weights, NULL, 4, parts) == ERR_OK);
    CHECK(amount_split(parts[1], halves, NULL, 2, developers) == ERR_OK);
    *out_split = (struct ledger_fee_split){
        .platform = parts[0],
        .adapter_developer = developers[0],
        .base_developer = developers[1],
        .stakers = parts[2],
        .contributors = parts[3],
    };
}

enum err ledger_amount_parse(const char *text, const char *field, struct amount *out,
                             struct note *note)
{
    char canonical[AMOUNT_TEXT_SIZE];
    struct amount amount;
    if (amount_parse(text, &amount) != ERR_OK ||
        strcmp(amount_format(amount, canonical), text) != 0) {
        return note_set(note, ERR_INVALID, "%s \"%.48s\" is not a canonical amount", field, text);
    }
    *out = amount;
    return ERR_OK;
}

/* ---- items --------------------------------------------------------------------------------------- */

static enum err length_check(ProtobufCBinaryData field, size_t size, const char *name,
                             struct note *note)
{
    return field.len == size
               ? ERR_OK
               : note_set(note, ERR_INVALID, "%s has %zu bytes, not %zu", name, field.len, size);
}

static enum err receipt_check(const Openledger__V1__Receipt *receipt, struct note *note)
{
    struct amount fee = AMOUNT_ZERO;
    enum err err = length_check(receipt->grant, DIGEST_SIZE, "receipt.grant", note);
    err =
        err ? err : length_check(receipt->request_id, REQUEST_ID_SIZE, "receipt.request_id", note);
    err = err ? err : length_check(receipt->profile, DIGEST_SIZE, "receipt.profile", note);
    err = err ? err
              : length_check(receipt->prompt_commitment, DIGEST_SIZE, "receipt.prompt_commitment",
                             note);
    err = err ? err
              : length_check(receipt->answer_commitment, DIGEST_SIZE, "receipt.answer_commitment",
                             note);
    err = err ? err : ledger_amount_parse(receipt->fee, "receipt.fee", &fee, note);
    if (err != ERR_OK) {
        return err;
    }
    if (receipt->kind != OPENLEDGER__V1__RECEIPT_KIND__RECEIPT_KIND_CHARGE &&
        receipt->kind != OPENLEDGER__V1__RECEIPT_KIND__RECEIPT_KIND_VOID) {
        return note_set(note, ERR_INVALID, "receipt.kind %d is unknown", (int)receipt->kind);
    }
    bool is_void = receipt->kind == OPENLEDGER__V1__RECEIPT_KIND__RECEIPT_KIND_VOID;
    if (is_void && (!amount_is_zero(fee) || receipt->completion_tokens != 0)) {
        return note_set(note, ERR_INVALID, "a void receipt charges \"%s\"", receipt->fee);
    }
    if (!ledger_name_valid(receipt->adapter)) {
        return note_set(note, ERR_INVALID, "receipt.adapter is not a name");
    }
    if (receipt->prompt_tokens > LEDGER_TOKENS_MAX ||
        receipt->completion_tokens > LEDGER_TOKENS_MAX) {
        return note_set(note, ERR_RANGE, "receipt counts %u and %u tokens, allowed are %d",
                        receipt->prompt_tokens, receipt->completion_tokens, LEDGER_TOKENS_MAX);
    }
    if (receipt->number == 0 || receipt->lease == 0 || receipt->finished_ms < receipt->opened_ms ||
        strlen(receipt->finish_reason) > FINISH_REASON_MAX) {
        return note_set(note, ERR_INVALID,
                        "receipt has a lease or number of 0, ends before it begins, or a "
                        "finish_reason above %d bytes",
                        FINISH_REASON_MAX);
    }
    return ERR_OK;
}

enum err ledger_receipt_decode(struct bytes data, Openledger__V1__Receipt **out_receipt,
                               struct note *note)
{
    ProtobufCMessage *message = NULL;
    enum err err =
        ledger_unpack(&openledger__v1__receipt__descriptor, "receipt", data, &message, note);
    if (err != ERR_OK) {
        return err;
    }
    Openledger__V1__Receipt *receipt = (Openledger__V1__Receipt *)message;
    err = receipt_check(receipt, note);
    if (err != ERR_OK) {
        openledger__v1__receipt__free_unpacked(receipt, NULL);
        return err;
    }
    *out_receipt = receipt;
    return ERR_OK;
}

static enum err share_set_check(const Openledger__V1__ShareSet *set, struct note *note)
{
    enum err err = length_check(set->receipt, DIGEST_SIZE, "share set's receipt", note);
    err = err ? err : length_check(set->index, DIGEST_SIZE, "share set's index", note);
    if (err != ERR_OK) {
        return err;
    }
    if (set->n_shares > SHARES_MAX) {
        return note_set(note, ERR_RANGE, "share set has %zu shares, allowed are %d", set->n_shares,
                        SHARES_MAX);
    }
    uint64_t total = set->unearned_ppb;
    for (size_t i = 0; i < set->n_shares; i++) {
        const Openledger__V1__Share *share = set->shares[i];
        err = length_check(share->account, ACCOUNT_ID_SIZE, "share's account", note);
        if (err != ERR_OK) {
            return err;
        }
        if (i > 0 &&
            memcmp(set->shares[i - 1]->account.data, share->account.data, ACCOUNT_ID_SIZE) >= 0) {
            return note_set(note, ERR_INVALID, "share %zu: accounts do not ascend", i);
        }
        if (share->share_ppb == 0 ||
            (uint64_t)share->influence_ppb + share->span_ppb != share->share_ppb) {
            return note_set(note, ERR_INVALID, "share %zu: %u is 0 or not influence %u and span %u",
                            i, share->share_ppb, share->influence_ppb, share->span_ppb);
        }
        total += share->share_ppb;
    }
    return total == LEDGER_SHARE_TOTAL
               ? ERR_OK
               : note_set(note, ERR_INVALID, "shares and the unearned part sum to %llu, not %u",
                          (unsigned long long)total, LEDGER_SHARE_TOTAL);
}

enum err ledger_share_set_decode(struct bytes data, Openledger__V1__ShareSet **out_set,
                                 struct note *note)
{
    ProtobufCMessage *message = NULL;
    enum err err =
        ledger_unpack(&openledger__v1__share_set__descriptor, "share set", data, &message, note);
    if (err != ERR_OK) {
        return err;
    }
    Openledger__V1__ShareSet *set = (Openledger__V1__ShareSet *)message;
    err = share_set_check(set, note);
    if (err != ERR_OK) {
        openledger__v1__share_set__free_unpacked(set, NULL);
        return err;
    }
    *out_set = set;
    return ERR_OK;
}

/* ---- batches ------------------------------------------------------------------------------------- */

/* What a batch signature is over; grant NULL for shares. */
struct batch_head {
    const char *domain;
    size_t domain_size;
    struct bytes chain_id;
    struct bytes account;
    struct bytes grant;
    uint32_t lease;
    uint64_t first_number;
};

static enum err items_root(const ProtobufCBinaryData *items, size_t count, struct digest *out_root)
{
    struct merkle_tree tree = {0};
    for (size_t i = 0; i < count; i++) {
        struct digest leaf;
        merkle_leaf(items[i].data, items[i].len, &leaf);
        enum err err = merkle_tree_append(&tree, &leaf);
        if (err != ERR_OK) {
            return err;
        }
    }
    struct merkle_head head;
    merkle_tree_head(&tree, &head);
    *out_root = head.root;
    return ERR_OK;
}

static enum err root_message(const struct batch_head *batch, const struct digest *root,
                             size_t count, struct buf *out)
{
    buf_append(out, batch->domain, batch->domain_size);
    buf_append_bytes(out, batch->chain_id);
    buf_append_bytes(out, batch->account);
    if (batch->grant.data != NULL) {
        buf_append_bytes(out, batch->grant);
        buf_append_u32be(out, batch->lease);
        buf_append_u64be(out, batch->first_number);
    }
    buf_append_u32be(out, (uint32_t)count);
    buf_append(out, root->bytes, DIGEST_SIZE);
    return buf_err(out);
}

static enum err batch_message(const struct batch_head *batch, const ProtobufCBinaryData *items,
                              size_t count, struct buf *out)
{
    struct digest root;
    enum err err = items_root(items, count, &root);
    return err ? err : root_message(batch, &root, count, out);
}

bool batch_signature_fits(const struct batch_view *batch, enum batch_sort sort,
                          const struct digest *root)
{
    struct batch_head head = {
        .domain = sort == BATCH_RECEIPTS ? RECEIPTS_DOMAIN : SHARES_DOMAIN,
        .domain_size = sort == BATCH_RECEIPTS ? sizeof RECEIPTS_DOMAIN : sizeof SHARES_DOMAIN,
        .chain_id = batch->chain_id,
        .account = batch->account,
    };
    if (sort == BATCH_RECEIPTS) {
        head.grant = batch->grant;
        head.lease = batch->lease;
        head.first_number = batch->first_number;
    }
    struct public_key key;
    struct signature signature;
    memcpy(key.bytes, batch->key.data, PUBLIC_KEY_SIZE);
    memcpy(signature.bytes, batch->signature.data, SIGNATURE_SIZE);
    struct buf message;
    buf_init(&message, SIGNED_MAX);
    bool fits = root_message(&head, root, batch->count, &message) == ERR_OK &&
                signature_verify(&key, buf_bytes(&message), &signature);
    buf_deinit(&message);
    return fits;
}

static enum err batch_sign(const struct batch_head *head, const ProtobufCBinaryData *items,
                           size_t count, const struct key_pair *keys,
                           struct signature *out_signature)
{
    struct buf message;
    buf_init(&message, SIGNED_MAX);
    enum err err = batch_message(head, items, count, &message);
    if (err == ERR_OK) {
        key_pair_sign(keys, buf_bytes(&message), out_signature);
    }
    buf_deinit(&message);
    return err;
}

static enum err batch_verify(const struct batch_head *head, const ProtobufCBinaryData *items,
                             size_t count, ProtobufCBinaryData key, ProtobufCBinaryData signature,
                             struct note *note)
{
    struct public_key public_key;
    struct signature decoded;
    memcpy(public_key.bytes, key.data, PUBLIC_KEY_SIZE);
    memcpy(decoded.bytes, signature.data, SIGNATURE_SIZE);
    struct buf message;
    buf_init(&message, SIGNED_MAX);
    enum err err = batch_message(head, items, count, &message);
    if (err == ERR_OK && !signature_verify(&public_key, buf_bytes(&message), &decoded)) {
        err = note_set(note, ERR_DENIED, "the batch's signature does not fit its contents");
    }
    buf_deinit(&message);
    return err;
}

static ProtobufCBinaryData *items_of(const struct bytes *items, size_t count)
{
    CHECK(count >= 1);
    CHECK(count <= LEDGER_BATCH_ITEMS_MAX);
    ProtobufCBinaryData *fields = malloc(count * sizeof *fields);
    for (size_t i = 0; fields != NULL && i < count; i++) {
        fields[i] = ledger_binary(items[i].data, items[i].size);
    }
    return fields;
}

static struct batch_head receipts_head(const Openledger__V1__ReceiptBatch *batch)
{
    return (struct batch_head){
        .domain = RECEIPTS_DOMAIN,
        .domain_size = sizeof RECEIPTS_DOMAIN,
        .chain_id = ledger_bytes(batch->chain_id),
        .account = ledger_bytes(batch->gateway),
        .grant = ledger_bytes(batch->grant),
        .lease = batch->lease,
        .first_number = batch->first_number,
    };
}

static struct batch_head shares_head(const Openledger__V1__ShareBatch *batch)
{
    return (struct batch_head){
        .domain = SHARES_DOMAIN,
        .domain_size = sizeof SHARES_DOMAIN,
        .chain_id = ledger_bytes(batch->chain_id),
        .account = ledger_bytes(batch->account),
    };
}

enum err ledger_receipt_batch_sign(const struct ledger_receipt_batch *batch,
                                   const struct key_pair *keys, struct buf *out)
{
    Openledger__V1__ReceiptBatch message = OPENLEDGER__V1__RECEIPT_BATCH__INIT;
    message.receipts = items_of(batch->receipts, batch->count);
    if (message.receipts == NULL) {
        return ERR_NO_MEMORY;
    }
    message.n_receipts = batch->count;
    message.chain_id = ledger_binary(batch->chain_id->bytes, DIGEST_SIZE);
    message.gateway = ledger_binary(batch->gateway->bytes, ACCOUNT_ID_SIZE);
    message.grant = ledger_binary(batch->grant->bytes, DIGEST_SIZE);
    message.lease = batch->lease;
    message.first_number = batch->first_number;
    struct signature signature;
    struct batch_head head = receipts_head(&message);
    enum err err = batch_sign(&head, message.receipts, batch->count, keys, &signature);
    if (err == ERR_OK) {
        message.key = ledger_binary(key_pair_public(keys)->bytes, PUBLIC_KEY_SIZE);
        message.signature = ledger_binary(signature.bytes, SIGNATURE_SIZE);
        err = ledger_pack(&message.base, out);
    }
    free(message.receipts);
    return err;
}

enum err ledger_share_batch_sign(const struct ledger_share_batch *batch,
                                 const struct key_pair *keys, struct buf *out)
{
    Openledger__V1__ShareBatch message = OPENLEDGER__V1__SHARE_BATCH__INIT;
    message.sets = items_of(batch->sets, batch->count);
    if (message.sets == NULL) {
        return ERR_NO_MEMORY;
    }
    message.n_sets = batch->count;
    message.chain_id = ledger_binary(batch->chain_id->bytes, DIGEST_SIZE);
    message.account = ledger_binary(batch->account->bytes, ACCOUNT_ID_SIZE);
    struct signature signature;
    struct batch_head head = shares_head(&message);
    enum err err = batch_sign(&head, message.sets, batch->count, keys, &signature);
    if (err == ERR_OK) {
        message.key = ledger_binary(key_pair_public(keys)->bytes, PUBLIC_KEY_SIZE);
        message.signature = ledger_binary(signature.bytes, SIGNATURE_SIZE);
        err = ledger_pack(&message.base, out);
    }
    free(message.sets);
    return err;
}

static enum err batch_form(struct batch_head head, size_t count, ProtobufCBinaryData key,
                           ProtobufCBinaryData signature, const struct digest *chain_id,
                           struct note *note)
{
    if (!bytes_equal(head.chain_id, digest_bytes(chain_id))) {
        return note_set(note, ERR_INVALID, "the batch is for another chain");
    }
    if (head.account.size != ACCOUNT_ID_SIZE || key.len != PUBLIC_KEY_SIZE ||
        signature.len != SIGNATURE_SIZE) {
        return note_set(note, ERR_INVALID,
                        "the batch's account, key or signature has a wrong size");
    }
    return count >= 1 && count <= LEDGER_BATCH_ITEMS_MAX
               ? ERR_OK
               : note_set(note, ERR_RANGE, "the batch has %zu items, allowed are 1 to %d", count,
                          LEDGER_BATCH_ITEMS_MAX);
}

/* Each receipt decodes, and counts on from the batch's first number. */
static enum err receipts_check(const Openledger__V1__ReceiptBatch *batch, struct note *note)
{
    if (batch->grant.len != DIGEST_SIZE || batch->lease == 0 || batch->first_number == 0 ||
        batch->first_number > UINT64_MAX - LEDGER_BATCH_ITEMS_MAX) {
        return note_set(note, ERR_INVALID, "the batch's grant, lease or first number is malformed");
    }
    for (size_t i = 0; i < batch->n_receipts; i++) {
        Openledger__V1__Receipt *receipt = NULL;
        enum err err = ledger_receipt_decode(ledger_bytes(batch->receipts[i]), &receipt, note);
        if (err != ERR_OK) {
            return note_wrap(note, err, "receipt %zu of the batch", i);
        }
        if (receipt->lease != batch->lease || receipt->number != batch->first_number + i ||
            !bytes_equal(ledger_bytes(receipt->grant), ledger_bytes(batch->grant))) {
            err = note_set(note, ERR_INVALID,
                           "receipt %zu of the batch has number %llu where %llu is due, or another "
                           "grant or lease",
                           i, (unsigned long long)receipt->number,
                           (unsigned long long)batch->first_number + i);
        }
        openledger__v1__receipt__free_unpacked(receipt, NULL);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

enum err ledger_receipt_batch_verify(struct bytes data, const struct digest *chain_id,
                                     Openledger__V1__ReceiptBatch **out_batch, struct note *note)
{
    ProtobufCMessage *message = NULL;
    enum err err = ledger_unpack(&openledger__v1__receipt_batch__descriptor, "receipt batch", data,
                                 &message, note);
    if (err != ERR_OK) {
        return err;
    }
    Openledger__V1__ReceiptBatch *batch = (Openledger__V1__ReceiptBatch *)message;
    struct batch_head head = receipts_head(batch);
    err = batch_form(head, batch->n_receipts, batch->key, batch->signature, chain_id, note);
    err = err ? err : receipts_check(batch, note);
    err = err ? err
              : batch_verify(&head, batch->receipts, batch->n_receipts, batch->key,
                             batch->signature, note);
    if (err != ERR_OK) {
        openledger__v1__receipt_batch__free_unpacked(batch, NULL);
        return err;
    }
    *out_batch = batch;
    return ERR_OK;
}

enum err ledger_share_batch_verify(struct bytes data, const struct digest *chain_id,
                                   Openledger__V1__ShareBatch **out_batch, struct note *note)
{
    ProtobufCMessage *message = NULL;
    enum err err = ledger_unpack(&openledger__v1__share_batch__descriptor, "share batch", data,
                                 &message, note);
    if (err != ERR_OK) {
        return err;
    }
    Openledger__V1__ShareBatch *batch = (Openledger__V1__ShareBatch *)message;
    struct batch_head head = shares_head(batch);
    err = batch_form(head, batch->n_sets, batch->key, batch->signature, chain_id, note);
    for (size_t i = 0; i < batch->n_sets && err == ERR_OK; i++) {
        Openledger__V1__ShareSet *set = NULL;
        err = ledger_share_set_decode(ledger_bytes(batch->sets[i]), &set, note);
        err = err ? note_wrap(note, err, "share set %zu of the batch", i) : err;
        if (err == ERR_OK) {
            openledger__v1__share_set__free_unpacked(set, NULL);
        }
    }
    err = err ? err
              : batch_verify(&head, batch->sets, batch->n_sets, batch->key, batch->signature, note);
    if (err != ERR_OK) {
        openledger__v1__share_batch__free_unpacked(batch, NULL);
        return err;
    }
    *out_batch = batch;
    return ERR_OK;
}
