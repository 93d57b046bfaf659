/* ledger.c - see ledger.h: entries, signatures, seals. The rules themselves are in rules_*.c. */
#include "shared/ledger/ledger.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/machine.h"
#include "shared/ledger/proof.h"
#include "shared/ledger/tx.h"

static const char ENTRY_DOMAIN[] = "openledger/entry/v1"; /* its NUL is part of it */

enum err ledger_create(struct bytes genesis, struct ledger **out_ledger, struct note *note)
{
    struct ledger *ledger = calloc(1, sizeof *ledger);
    if (ledger == NULL) {
        return ERR_NO_MEMORY;
    }
    buf_init(&ledger->genesis, LEDGER_GENESIS_MAX);
    ledger->parallel = &parallel_serial;
    ledger->state = state_create();
    enum err err = genesis_load(ledger, genesis, note);
    if (err != ERR_OK) {
        ledger_destroy(ledger);
        return err;
    }
    state_commit(ledger->state);
    struct merkle_head head;
    merkle_tree_head(&ledger->headers, &head);
    ledger->head.headers_root = head.root;
    CHECK(amount_equal(ledger_supply(ledger), amount_from_open(AMOUNT_SUPPLY_OPEN)));
    *out_ledger = ledger;
    return ERR_OK;
}

void ledger_destroy(struct ledger *ledger)
{
    if (ledger == NULL) {
        return;
    }
    state_destroy(ledger->state);
    postings_deinit(&ledger->postings);
    buf_deinit(&ledger->genesis);
    free(ledger->expiries);
    free(ledger);
}

void ledger_effects_init(struct ledger_effects *effects)
{
    *effects = (struct ledger_effects){0};
    buf_init(&effects->header, 4096);
    buf_init(&effects->postings, (size_t)LEDGER_LEGS_MAX * POSTING_MAX);
}

void ledger_effects_deinit(struct ledger_effects *effects)
{
    buf_deinit(&effects->header);
    buf_deinit(&effects->postings);
    free(effects->legs);
    free(effects->receipts);
    *effects = (struct ledger_effects){0};
}

void ledger_entry_hash(struct bytes entry, struct digest *out_hash)
{
    const struct bytes parts[] = {bytes_of(ENTRY_DOMAIN, sizeof ENTRY_DOMAIN), entry};
    sha256_parts(parts, 2, out_hash);
}

const char *ledger_kind_name(uint32_t kind)
{
    if (kind == LEDGER_KIND_SEAL) {
        return "seal";
    }
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(&openledger__v1__tx_body__descriptor, kind);
    return field == NULL || kind < OPENLEDGER__V1__TX_BODY__ACTION_OPEN_ACCOUNT ? "unknown"
                                                                                : field->name;
}

static void skip_settled(struct ledger *ledger)
{
    const struct ledger_receipt *receipt = ledger->waiting;
    if (receipt == NULL) {
        receipt = state_next(ledger->state, STATE_RECEIPT, NULL);
    }
    while (receipt != NULL && !receipt->waiting) {
        const struct ledger_receipt *next = state_next(ledger->state, STATE_RECEIPT, receipt);
        if (next == NULL) {
            break; /* stay on the last one: later receipts come after it */
        }
        receipt = next;
    }
    ledger->waiting = receipt;
}

void ledger_derive(struct ledger *ledger)
{
    const struct state_tx *tx = NULL;
    while ((tx = state_next(ledger->state, STATE_TX, tx)) != NULL) {
        remember_tx(ledger, tx);
    }
    skip_settled(ledger);
}

/* ---- transactions ------------------------------------------------------------------------------- */

bool step_signed_by(const struct step *step, const struct account_id *account,
                    const struct public_key *key)
{
    for (size_t i = 0; i < step->signed_tx->n_signatures; i++) {
        const Openledger__V1__TxSignature *signature = step->signed_tx->signatures[i];
        if (memcmp(signature->account.data, account->bytes, ACCOUNT_ID_SIZE) == 0 &&
            memcmp(signature->key.data, key->bytes, PUBLIC_KEY_SIZE) == 0) {
            return true;
        }
    }
    return false;
}

/* Every signature must be valid and by a key that speaks for its account: the current one, or the key
 * that this very transaction gives the sender. */
static enum err signatures_check(struct step *step, const Openledger__V1__TxBody *body)
{
    const Openledger__V1__SignedTx *tx = step->signed_tx;
    if (tx->n_signatures == 0 || tx->n_signatures > LEDGER_SIGNATURES_MAX) {
        return note_set(step->note, ERR_DENIED,
                        "the transaction has %zu signatures, allowed are "
                        "1 to %d",
                        tx->n_signatures, LEDGER_SIGNATURES_MAX);
    }
    struct bytes fresh = {0}; /* a key that the transaction itself introduces */
    if (body->action_case == OPENLEDGER__V1__TX_BODY__ACTION_OPEN_ACCOUNT) {
        fresh = ledger_bytes(body->open_account->key);
    } else if (body->action_case == OPENLEDGER__V1__TX_BODY__ACTION_ROTATE_KEY) {
        fresh = ledger_bytes(body->rotate_key->key);
    } else if (body->action_case == OPENLEDGER__V1__TX_BODY__ACTION_COMPLETE_RECOVERY) {
        fresh = ledger_bytes(body->complete_recovery->key);
    }
    for (size_t i = 0; i < tx->n_signatures; i++) {
        const Openledger__V1__TxSignature *entry = tx->signatures[i];
        struct account_id signer;
        struct public_key key;
        enum err err = step_account(step, entry->account, "signature's account", &signer);
        if (err == ERR_OK &&
            (entry->key.len != PUBLIC_KEY_SIZE || entry->signature.len != SIGNATURE_SIZE)) {
            err = note_set(step->note, ERR_INVALID, "signature %zu is malformed", i);
        }
        if (err != ERR_OK) {
            return err;
        }
        memcpy(key.bytes, entry->key.data, PUBLIC_KEY_SIZE);
        const struct ledger_account *account = ledger_account(step->ledger, &signer);
        bool current = account != NULL && account->has_key && public_key_equal(&account->key, &key);
        bool introduced = account_id_equal(&signer, &step->sender) &&
                          bytes_equal(fresh, bytes_of(key.bytes, PUBLIC_KEY_SIZE));
        if (!current && !introduced) {
            return note_set(step->note, ERR_DENIED,
                            "signature %zu: not a current key of account %s", i,
                            short_hex(signer.bytes).text);
        }
        if (!step->prepared->signature_fits[i]) {
            return note_set(step->note, ERR_DENIED, "signature %zu does not fit the transaction",
                            i);
        }
    }
    return ERR_OK;
}

static enum err sender_check(struct step *step, const Openledger__V1__TxBody *body)
{
    if (body->action_case == OPENLEDGER__V1__TX_BODY__ACTION_OPEN_ACCOUNT ||
        body->action_case == OPENLEDGER__V1__TX_BODY__ACTION_COMPLETE_RECOVERY) {
        return ERR_OK; /* their rules say which key must have signed */
    }
    const struct ledger_account *sender = ledger_account(step->ledger, &step->sender);
    if (sender == NULL || !sender->has_key || !step_signed_by(step, &step->sender, &sender->key)) {
        return note_set(step->note, ERR_DENIED, "sender %s is not open or did not sign",
                        short_hex(step->sender.bytes).text);
    }
    return ERR_OK;
}

static enum err validity_check(struct step *step, const Openledger__V1__TxBody *body)
{
    const struct ledger *ledger = step->ledger;
    if (!bytes_equal(ledger_bytes(body->chain_id), digest_bytes(&ledger->head.chain_id))) {
        return note_set(step->note, ERR_INVALID, "the transaction is for another chain");
    }
    if (body->nonce.len != LEDGER_NONCE_SIZE) {
        return note_set(step->note, ERR_INVALID, "nonce has %zu bytes, not %d", body->nonce.len,
                        LEDGER_NONCE_SIZE);
    }
    if (body->valid_until_ms <= body->valid_from_ms ||
        body->valid_until_ms - body->valid_from_ms > ledger_parameters(ledger)->validity_max_ms) {
        return note_set(step->note, ERR_RANGE,
                        "the transaction's validity is empty or above %llu ms",
                        (unsigned long long)ledger_parameters(ledger)->validity_max_ms);
    }
    if (step->time_ms < body->valid_from_ms || step->time_ms >= body->valid_until_ms) {
        return note_set(step->note, ERR_RANGE,
                        "the transaction is valid from %llu until %llu ms, log time is %llu",
                        (unsigned long long)body->valid_from_ms,
                        (unsigned long long)body->valid_until_ms,
                        (unsigned long long)step->time_ms);
    }
    if (ledger_remembers(ledger, &step->tx)) {
        return note_set(step->note, ERR_CONFLICT, "transaction %s is on the ledger already",
                        short_hex(step->tx.bytes).text);
    }
    return ERR_OK;
}

static enum err action_apply(struct step *step, const Openledger__V1__TxBody *body)
{
    switch (body->action_case) {
#define APPLY(upper, lower, Message)                                                               \
    case OPENLEDGER__V1__TX_BODY__ACTION_##upper:                                                  \
        return rule_##lower(step, body->lower);
        LEDGER_RULES(APPLY)
#undef APPLY
    case OPENLEDGER__V1__TX_BODY__ACTION__NOT_SET:
    case _OPENLEDGER__V1__TX_BODY__ACTION__CASE_IS_INT_SIZE:
        break;
    }
    return note_set(step->note, ERR_INVALID, "the transaction has no action");
}

/* The sender's history has this entry, even when it moved none of its money. */
static void sender_touch(struct step *step)
{
    const struct ledger_account *sender = ledger_account(step->ledger, &step->sender);
    CHECK(sender != NULL);
    step->effects->sender_previous = sender->last_index;
    if (sender->last_index != step->index) {
        struct ledger_account *account = state_edit(step->state, sender);
        account->last_index = step->index;
    }
}

static enum err tx_apply(struct step *step)
{
    CHECK(step->prepared != NULL); /* only a seal goes without */
    const Openledger__V1__TxBody *body = step->prepared->body;
    step->signed_tx = step->prepared->signed_tx;
    step->tx = step->prepared->tx;
    step->effects->kind = (uint32_t)body->action_case;
    enum err err = step_account(step, body->sender, "sender", &step->sender);
    err = err ? err : validity_check(step, body);
    err = err ? err : signatures_check(step, body);
    err = err ? err : sender_check(step, body);
    err = err ? err : action_apply(step, body);
    err = err ? err : gas_charge(step, step->prepared->signed_size);
    if (err == ERR_OK) {
        sender_touch(step);
        struct state_tx record = {.id = step->tx, .valid_until_ms = body->valid_until_ms};
        (void)state_add(step->state, STATE_TX, &record);
    }
    step->signed_tx = NULL;
    return err;
}

/* ---- entries ------------------------------------------------------------------------------------ */

/* Money is conserved, whatever the rules did: checked for each entry, in every build. */
static void legs_check(const struct ledger_effects *effects)
{
    struct amount debits = AMOUNT_ZERO;
    struct amount credits = AMOUNT_ZERO;
    for (size_t i = 0; i < effects->leg_count; i++) {
        struct amount *sum = effects->legs[i].credit ? &credits : &debits;
        CHECK(amount_add(*sum, effects->legs[i].amount, sum) == ERR_OK);
    }
    CHECK(amount_equal(debits, credits));
}

static enum err entry_check(const struct step *step, const Openledger__V1__Entry *entry)
{
    const struct ledger_head *head = &step->ledger->head;
    if (entry->index != head->index + 1) {
        return note_set(step->note, ERR_INVALID, "entry has index %llu where %llu is due",
                        (unsigned long long)entry->index, (unsigned long long)head->index + 1);
    }
    if (!bytes_equal(ledger_bytes(entry->previous), digest_bytes(&head->entry_hash))) {
        return note_set(step->note, ERR_INVALID, "entry %llu does not name its predecessor's hash",
                        (unsigned long long)entry->index);
    }
    if (entry->epoch < head->epoch || entry->time_ms < head->time_ms) {
        return note_set(step->note, ERR_INVALID, "entry %llu goes back in epoch or time",
                        (unsigned long long)entry->index);
    }
    if (entry->time_ms > LEDGER_TIME_MS_MAX) {
        return note_set(step->note, ERR_INVALID, "entry %llu is of %llu ms, at most %llu",
                        (unsigned long long)entry->index, (unsigned long long)entry->time_ms,
                        (unsigned long long)LEDGER_TIME_MS_MAX);
    }
    return ERR_OK;
}

/* Root and header of a block, after its seal was applied. */
static void header_make(struct step *step, const Openledger__V1__Entry *entry)
{
    struct ledger *ledger = step->ledger;
    struct merkle_head entries;
    struct digest postings_root_now;
    struct merkle_head headers;
    struct digest state_root_now;
    merkle_tree_head(&ledger->entries, &entries);
    postings_root(&ledger->postings, ledger->parallel, &postings_root_now);
    state_root(ledger->state, &state_root_now);
    Openledger__V1__BlockHeader header = OPENLEDGER__V1__BLOCK_HEADER__INIT;
    header.chain_id = ledger_binary(ledger->head.chain_id.bytes, DIGEST_SIZE);
    header.height = entry->seal->height;
    header.epoch = entry->epoch;
    header.time_ms = entry->time_ms;
    header.first_index = ledger->head.sealed_index + 1;
    header.last_index = entry->index;
    header.entries_root = ledger_binary(entries.root.bytes, DIGEST_SIZE);
    header.postings_root = ledger_binary(postings_root_now.bytes, DIGEST_SIZE);
    header.state_root = ledger_binary(state_root_now.bytes, DIGEST_SIZE);
    header.previous = ledger_binary(ledger->head.header_hash.bytes, DIGEST_SIZE);
    struct buf *out = &step->effects->header;
    CHECK(ledger_pack(&header.base, out) == ERR_OK);
    struct digest leaf;
    merkle_leaf(out->data, out->size, &leaf);
    CHECK(merkle_tree_append(&ledger->headers, &leaf) == ERR_OK);
    merkle_tree_head(&ledger->headers, &headers);
    ledger->head.headers_root = headers.root;
    sha256(buf_bytes(out), &ledger->head.header_hash);
    ledger->head.height = entry->seal->height;
    ledger->head.sealed_index = entry->index;
    ledger->entries = (struct merkle_tree){0};
}

/* Puts a leg's posting into the effects and into the block's tree. */
static void posting_add(struct step *step, uint32_t number)
{
    struct buf *out = &step->effects->postings;
    size_t begin = out->size;
    CHECK(buf_append_u16le(out, 0) == ERR_OK);
    CHECK(ledger_posting_encode(step->index, number, &step->effects->legs[number], out) == ERR_OK);
    size_t size = out->size - begin - 2;
    CHECK(size <= POSTING_MAX - 2);
    out->data[begin] = (uint8_t)size;
    postings_add(&step->ledger->postings, bytes_of(out->data + begin, size + 2));
}

/* The entry is accepted: everything from here on cannot fail. */
static void entry_commit(struct step *step, const Openledger__V1__Entry *entry,
                         const struct digest *hash, const struct digest *entry_leaf)
{
    struct ledger *ledger = step->ledger;
    bool is_seal = step->effects->kind == LEDGER_KIND_SEAL;
    legs_check(step->effects);
    if (is_seal) {
        remember_forget(ledger, entry->time_ms);
    }
    state_commit(ledger->state);
    if (!is_seal) {
        remember_tx(ledger, &(struct state_tx){step->tx, step->prepared->body->valid_until_ms});
        ledger->head.transactions++;
    }
    skip_settled(ledger);
    step->effects->entry_hash = *hash;
    ledger->head.index = entry->index;
    ledger->head.entry_hash = step->effects->entry_hash;
    ledger->head.epoch = entry->epoch;
    ledger->head.time_ms = entry->time_ms;
    CHECK(merkle_tree_append(&ledger->entries, entry_leaf) == ERR_OK);
    for (size_t i = 0; i < step->effects->leg_count; i++) {
        posting_add(step, (uint32_t)i);
    }
    if (is_seal) {
        header_make(step, entry);
    }
}

static enum err seal_apply(struct step *step, const Openledger__V1__Seal *seal)
{
    step->effects->kind = LEDGER_KIND_SEAL;
    if (seal->height != step->ledger->head.height + 1) {
        return note_set(step->note, ERR_INVALID, "the seal has height %llu where %llu is due",
                        (unsigned long long)seal->height,
                        (unsigned long long)step->ledger->head.height + 1);
    }
    return settle_overdue(step, seal->height);
}

/* An entry's bytes by their hashes. */
struct entry_hashes {
    const struct digest *hash; /* NULL: the entry is only tried, and undone */
    const struct digest *leaf;
};

static uint32_t signatures_of(const struct ledger_prepared *prepared)
{
    return prepared == NULL || prepared->signed_tx == NULL
               ? 0
               : (uint32_t)prepared->signed_tx->n_signatures + (prepared->batch != NULL ? 1 : 0);
}

static enum err entry_apply(struct ledger *ledger, const Openledger__V1__Entry *entry,
                            const struct ledger_prepared *prepared, struct entry_hashes hashes,
                            struct ledger_effects *effects, struct note *note)
{
    if (prepared != NULL && prepared->err != ERR_OK) {
        return note_set(note, prepared->err, "%s", prepared->note.text);
    }
    struct step step = {.ledger = ledger,
                        .state = ledger->state,
                        .prepared = prepared,
                        .effects = effects,
                        .note = note,
                        .index = entry->index,
                        .time_ms = entry->time_ms};
    effects->leg_count = 0;
    effects->receipt_count = 0;
    effects->kind = 0;
    effects->sender_previous = entry->index;
    buf_clear(&effects->header);
    buf_clear(&effects->postings);
    enum err err = entry_check(&step, entry);
    if (err == ERR_OK) {
        switch (entry->content_case) {
        case OPENLEDGER__V1__ENTRY__CONTENT_SIGNED_TX:
            err = tx_apply(&step);
            break;
        case OPENLEDGER__V1__ENTRY__CONTENT_SEAL:
            err = seal_apply(&step, entry->seal);
            break;
        case OPENLEDGER__V1__ENTRY__CONTENT__NOT_SET:
        case _OPENLEDGER__V1__ENTRY__CONTENT__CASE_IS_INT_SIZE:
            err = note_set(note, ERR_INVALID, "entry %llu is empty",
                           (unsigned long long)entry->index);
            break;
        }
    }
    if (err == ERR_OK && hashes.hash != NULL) {
        effects->index = entry->index;
        effects->time_ms = entry->time_ms;
        effects->tx = step.tx;
        effects->sender = step.sender;
        effects->signatures = signatures_of(prepared);
        entry_commit(&step, entry, hashes.hash, hashes.leaf);
    } else {
        state_rollback(ledger->state);
    }
    return err;
}

enum err ledger_apply_prepared(struct ledger *ledger, const struct ledger_prepared *prepared,
                               struct ledger_effects *effects, struct note *note)
{
    CHECK(prepared->is_entry);
    return entry_apply(ledger, prepared->entry, prepared,
                       (struct entry_hashes){&prepared->entry_hash, &prepared->entry_leaf}, effects,
                       note);
}

enum err ledger_apply(struct ledger *ledger, struct bytes entry, const struct ledger_blobs *blobs,
                      struct ledger_effects *effects, struct note *note)
{
    struct ledger_prepared *prepared =
        ledger_prepare_entry(&ledger->head.chain_id, entry, blobs, 0);
    enum err err = ledger_apply_prepared(ledger, prepared, effects, note);
    ledger_prepared_destroy(prepared);
    return err;
}

static Openledger__V1__Entry next_entry(const struct ledger *ledger, uint64_t time_ms)
{
    Openledger__V1__Entry entry = OPENLEDGER__V1__ENTRY__INIT;
    entry.index = ledger->head.index + 1;
    entry.previous = ledger_binary(ledger->head.entry_hash.bytes, DIGEST_SIZE);
    entry.epoch = ledger->epoch > ledger->head.epoch ? ledger->epoch : ledger->head.epoch;
    entry.time_ms = time_ms > ledger->head.time_ms ? time_ms : ledger->head.time_ms;
    return entry;
}

void ledger_set_epoch(struct ledger *ledger, uint64_t epoch)
{
    ledger->epoch = epoch;
}

static Openledger__V1__Entry tx_entry(const struct ledger *ledger, struct bytes signed_tx,
                                      uint64_t time_ms)
{
    Openledger__V1__Entry entry = next_entry(ledger, time_ms);
    entry.content_case = OPENLEDGER__V1__ENTRY__CONTENT_SIGNED_TX;
    entry.signed_tx = ledger_binary(signed_tx.data, signed_tx.size);
    return entry;
}

enum err ledger_make_entry(const struct ledger *ledger, struct bytes signed_tx, uint64_t time_ms,
                           struct buf *out)
{
    const Openledger__V1__Entry entry = tx_entry(ledger, signed_tx, time_ms);
    return ledger_pack(&entry.base, out);
}

enum err ledger_sequence(struct ledger *ledger, const struct ledger_prepared *prepared,
                         uint64_t time_ms, struct buf *out_entry, struct ledger_effects *effects,
                         struct note *note)
{
    CHECK(!prepared->is_entry);
    size_t before = out_entry->size;
    const Openledger__V1__Entry entry =
        tx_entry(ledger, buf_bytes(&prepared->signed_bytes), time_ms);
    if (ledger_pack(&entry.base, out_entry) != ERR_OK ||
        out_entry->size - before > LEDGER_ENTRY_MAX) {
        return note_set(note, ERR_LIMIT, "the transaction has %zu bytes, an entry at most %u",
                        prepared->signed_bytes.size, LEDGER_ENTRY_MAX);
    }
    struct digest hash;
    struct digest leaf;
    struct bytes bytes = bytes_of(out_entry->data + before, out_entry->size - before);
    ledger_entry_hash(bytes, &hash);
    merkle_leaf(bytes.data, bytes.size, &leaf);
    return entry_apply(ledger, &entry, prepared, (struct entry_hashes){&hash, &leaf}, effects,
                       note);
}

enum err ledger_check(struct ledger *ledger, struct bytes signed_tx, uint64_t time_ms,
                      const struct ledger_blobs *blobs, struct note *note)
{
    struct ledger_effects effects;
    if (signed_tx.size > LEDGER_ENTRY_MAX) {
        return note_set(note, ERR_LIMIT, "the transaction has %zu bytes, an entry at most %u",
                        signed_tx.size, LEDGER_ENTRY_MAX);
    }
    ledger_effects_init(&effects);
    struct ledger_prepared *prepared = ledger_prepare_tx(&ledger->head.chain_id, signed_tx, blobs);
    const Openledger__V1__Entry entry = tx_entry(ledger, signed_tx, time_ms);
    enum err err =
        entry_apply(ledger, &entry, prepared, (struct entry_hashes){NULL, NULL}, &effects, note);
    ledger_prepared_destroy(prepared);
    ledger_effects_deinit(&effects);
    return err;
}

const struct parallel *ledger_parallel(struct ledger *ledger, const struct parallel *parallel)
{
    ledger->parallel = parallel;
    return state_parallel(ledger->state, parallel);
}

uint32_t ledger_hashing_take(struct ledger *ledger)
{
    return postings_take(&ledger->postings);
}

void ledger_hashing_task(struct ledger *ledger, uint32_t i)
{
    postings_hash(&ledger->postings, i);
}

enum err ledger_make_seal(const struct ledger *ledger, uint64_t time_ms, struct buf *out)
{
    Openledger__V1__Entry entry = next_entry(ledger, time_ms);
    Openledger__V1__Seal seal = OPENLEDGER__V1__SEAL__INIT;
    seal.height = ledger->head.height + 1;
    entry.content_case = OPENLEDGER__V1__ENTRY__CONTENT_SEAL;
    entry.seal = &seal;
    return ledger_pack(&entry.base, out);
}
