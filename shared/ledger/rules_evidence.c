/* rules_evidence.c - reports of what a signer cannot deny: two different things about one slot, or one
 * that is contradicted. The ledger checks the evidence by itself. README.md has the rules in words. */
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/crypto/signed_note.h"
#include "shared/ledger/proof.h"
#include "shared/ledger/settle.h"
#include "shared/ledger/tx.h"

static const char OFFENCE_DOMAIN[] = "openledger/offence/v1";

const struct ledger_offence *ledger_next_offence(const struct ledger *ledger,
                                                 const struct ledger_offence *previous)
{
    return state_next(ledger->state, STATE_OFFENCE, previous);
}

/* ---- signed items ------------------------------------------------------------------------------- */

enum err ledger_signed_item(struct bytes batch, bool shares, uint32_t place,
                            struct ledger_signed_item *out, struct note *note)
{
    struct batch_view view;
    struct digest leaves[LEDGER_BATCH_ITEMS_MAX];
    struct merkle_head head;
    struct bytes wanted = {0};
    struct bytes items;
    struct bytes item;
    enum err err =
        shares ? share_batch_scan(batch, &view, note) : receipt_batch_scan(batch, &view, note);
    if (err != ERR_OK) {
        return err;
    }
    if (place >= view.count) {
        return note_set(note, ERR_RANGE, "item %u of a batch of %zu", place, view.count);
    }
    items = view.items;
    for (size_t i = 0; batch_next(&items, &item); i++) {
        CHECK(i < LEDGER_BATCH_ITEMS_MAX);
        merkle_leaf(item.data, item.size, &leaves[i]);
        wanted = i == place ? item : wanted;
    }
    merkle_head((struct merkle_leaves){leaves, view.count}, &head);
    CHECK(merkle_prove((struct merkle_leaves){leaves, view.count}, place, &out->proof) == ERR_OK);
    out->root = head.root;
    Openledger__V1__SignedItem *message = &out->message;
    openledger__v1__signed_item__init(message);
    message->account = ledger_binary(view.account.data, view.account.size);
    message->key = ledger_binary(view.key.data, view.key.size);
    message->signature = ledger_binary(view.signature.data, view.signature.size);
    if (!shares) {
        message->grant = ledger_binary(view.grant.data, view.grant.size);
        message->lease = view.lease;
        message->first_number = view.first_number;
    }
    message->count = (uint32_t)view.count;
    message->root = ledger_binary(out->root.bytes, DIGEST_SIZE);
    message->place = place;
    message->item = ledger_binary(wanted.data, wanted.size);
    message->path = ledger_binary(out->proof.path, (size_t)out->proof.path_count * DIGEST_SIZE);
    return ERR_OK;
}

/* An item whose signature and place were checked. */
struct evidence {
    struct account_id account;
    struct bytes bytes;
    const Openledger__V1__SignedItem *item;
};

static enum err place_check(struct step *step, const Openledger__V1__SignedItem *item,
                            const struct digest *root)
{
    struct merkle_proof proof = {.leaf_index = item->place};
    const struct merkle_head head = {.leaf_count = item->count, .root = *root};
    if (item->path.len % DIGEST_SIZE != 0 || item->path.len / DIGEST_SIZE > MERKLE_PATH_MAX) {
        return note_set(step->note, ERR_INVALID, "path has %zu bytes, not up to %d times %d",
                        item->path.len, MERKLE_PATH_MAX, DIGEST_SIZE);
    }
    proof.path_count = (uint32_t)(item->path.len / DIGEST_SIZE);
    for (uint32_t i = 0; i < proof.path_count; i++) {
        memcpy(proof.path[i].bytes, item->path.data + (size_t)i * DIGEST_SIZE, DIGEST_SIZE);
    }
    return merkle_verify(&head, &proof, item->item.data, item->item.len)
               ? ERR_OK
               : note_set(step->note, ERR_INVALID, "the item is not in the batch at place %u",
                          item->place);
}

static enum err evidence_take(struct step *step, const Openledger__V1__SignedItem *item,
                              bool shares, struct evidence *out)
{
    struct digest root;
    struct digest grant;
    struct public_key key;
    if (item == NULL || item->signature.len != SIGNATURE_SIZE) {
        return note_set(step->note, ERR_INVALID, "an item is missing, or its signature malformed");
    }
    enum err err = step_account(step, item->account, "account", &out->account);
    err = err ? err : step_key(step, item->key, &key);
    err = err ? err : step_digest(step, item->root, "root", &root);
    if (err == ERR_OK && !shares) {
        err = step_digest(step, item->grant, "grant", &grant);
    }
    err = err ? err : place_check(step, item, &root);
    if (err != ERR_OK) {
        return err;
    }
    const struct batch_view view = {.chain_id = digest_bytes(&step->ledger->head.chain_id),
                                    .account = ledger_bytes(item->account),
                                    .grant = ledger_bytes(item->grant),
                                    .key = ledger_bytes(item->key),
                                    .signature = ledger_bytes(item->signature),
                                    .lease = item->lease,
                                    .first_number = item->first_number,
                                    .count = item->count};
    if (!batch_signature_fits(&view, shares ? BATCH_SHARES : BATCH_RECEIPTS, &root)) {
        return note_set(step->note, ERR_DENIED, "the signature does not fit the item's batch");
    }
    if (!key_answers(step, &out->account, &key)) {
        return note_set(step->note, ERR_DENIED, "account %s does not answer for that key",
                        short_hex(out->account.bytes).text);
    }
    out->bytes = ledger_bytes(item->item);
    out->item = item;
    return ERR_OK;
}

/* ---- what follows ------------------------------------------------------------------------------- */

struct offence {
    enum ledger_offence_kind kind;
    enum ledger_role role;
    uint32_t bp;
    struct account_id account;
    struct bytes slot; /* what it was about */
};

static enum err offence_apply(struct step *step, const struct offence *offence)
{
    const uint8_t head[2] = {(uint8_t)offence->kind, (uint8_t)offence->role};
    const struct bytes parts[] = {bytes_of(OFFENCE_DOMAIN, sizeof OFFENCE_DOMAIN),
                                  bytes_of(head, sizeof head),
                                  bytes_of(offence->account.bytes, ACCOUNT_ID_SIZE), offence->slot};
    struct ledger_offence record = {.account = offence->account,
                                    .role = (uint32_t)offence->role,
                                    .kind = (uint32_t)offence->kind,
                                    .reporter = step->sender,
                                    .index = step->index};
    sha256_parts(parts, 4, &record.id);
    if (account_id_equal(&offence->account, &step->sender)) {
        return note_set(step->note, ERR_DENIED, "an account cannot report itself");
    }
    if (state_get(step->state, STATE_OFFENCE, &record) != NULL) {
        return note_set(step->note, ERR_CONFLICT, "this was reported already");
    }
    const struct slash slash = {.account = offence->account,
                                .role = offence->role,
                                .bp = offence->bp,
                                .reporter = step->sender,
                                .reference = record.id};
    enum err err = slash_apply(step, &slash, &record.slashed);
    if (err == ERR_OK) {
        (void)state_add(step->state, STATE_OFFENCE, &record);
    }
    return err;
}

/* ---- conflicts ---------------------------------------------------------------------------------- */

enum { SLOT_SIZE = DIGEST_SIZE + 4 + 8 };

static void put_number(uint8_t *out, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        out[i] = (uint8_t)(value >> (8 * (size - 1 - i)));
    }
}

/* What the item is about: grant, lease and number of a receipt; the receipt of a share set. */
static enum err slot_of(struct step *step, const struct evidence *evidence, bool shares,
                        uint8_t out[SLOT_SIZE])
{
    struct receipt_view receipt;
    struct share_set_view set;
    memset(out, 0, SLOT_SIZE);
    enum err err = shares ? share_set_scan(evidence->bytes, &set, step->note)
                          : receipt_scan(evidence->bytes, &receipt, step->note);
    if (err != ERR_OK) {
        return err;
    }
    memcpy(out, shares ? set.receipt.data : receipt.grant.data, DIGEST_SIZE);
    if (!shares) {
        put_number(out + DIGEST_SIZE, receipt.lease, 4);
        put_number(out + DIGEST_SIZE + 4, receipt.number, 8);
    }
    return ERR_OK;
}

enum err rule_report_conflict(struct step *step, const Openledger__V1__ReportConflict *action)
{
    struct evidence first;
    struct evidence second;
    uint8_t slots[2][SLOT_SIZE];
    bool shares = action->shares;
    enum err err = evidence_take(step, action->first, shares, &first);
    err = err ? err : evidence_take(step, action->second, shares, &second);
    err = err ? err : slot_of(step, &first, shares, slots[0]);
    err = err ? err : slot_of(step, &second, shares, slots[1]);
    if (err != ERR_OK) {
        return err;
    }
    if (!account_id_equal(&first.account, &second.account) ||
        memcmp(slots[0], slots[1], SLOT_SIZE) != 0 || bytes_equal(first.bytes, second.bytes)) {
        return note_set(step->note, ERR_INVALID,
                        "the two are the same, of different accounts, or about different things");
    }
    const struct offence offence = {.kind = LEDGER_OFFENCE_CONFLICT,
                                    .role = shares ? LEDGER_ROLE_ATTRIBUTION : LEDGER_ROLE_GATEWAY,
                                    .bp = ledger_parameters(step->ledger)->slash_conflict_bp,
                                    .account = first.account,
                                    .slot = bytes_of(slots[0], SLOT_SIZE)};
    return offence_apply(step, &offence);
}

/* ---- contradictions ----------------------------------------------------------------------------- */

/* The account signed this as a receipt: is that impossible? What may still become true is not. */
static bool receipt_contradicted(const struct step *step, const struct evidence *evidence)
{
    const Openledger__V1__SignedItem *item = evidence->item;
    struct receipt_view receipt;
    char name[LEDGER_NAME_MAX + 1] = "";
    if (receipt_scan(evidence->bytes, &receipt, NULL) != ERR_OK ||
        receipt.number != item->first_number + item->place || receipt.lease != item->lease ||
        !bytes_equal(receipt.grant, ledger_bytes(item->grant))) {
        return true;
    }
    memcpy(name, receipt.adapter.data, receipt.adapter.size);
    const struct ledger_adapter *adapter = ledger_adapter(step->ledger, name);
    return adapter != NULL && receipt.opened_ms <= step->time_ms &&
           settle_receipt_check(step->ledger, &receipt, adapter, NULL) != ERR_OK;
}

static bool shares_contradicted(const struct step *step, const struct evidence *evidence)
{
    struct share_set_view set;
    struct share_view share;
    struct digest id;
    if (share_set_scan(evidence->bytes, &set, NULL) != ERR_OK) {
        return true;
    }
    memcpy(id.bytes, set.receipt.data, DIGEST_SIZE);
    const struct ledger_receipt *receipt = ledger_receipt(step->ledger, &id);
    const struct ledger_adapter *adapter =
        receipt == NULL ? NULL : ledger_adapter(step->ledger, receipt->adapter);
    if (adapter == NULL || !adapter->has_index) {
        return false;
    }
    bool contradicted = !bytes_equal(set.index, digest_bytes(&adapter->attribution_index));
    while (!contradicted && share_next(&set.shares, &share)) {
        struct account_id account;
        memcpy(account.bytes, share.account, ACCOUNT_ID_SIZE);
        contradicted =
            ledger_version_rows(step->ledger, adapter->datanet, adapter->version, &account) == 0;
    }
    return contradicted;
}

enum err rule_report_invalid(struct step *step, const Openledger__V1__ReportInvalid *action)
{
    struct evidence evidence;
    struct digest id;
    enum err err = evidence_take(step, action->item, action->shares, &evidence);
    if (err != ERR_OK) {
        return err;
    }
    if (!(action->shares ? shares_contradicted(step, &evidence)
                         : receipt_contradicted(step, &evidence))) {
        return note_set(step->note, ERR_INVALID, "nothing contradicts the item");
    }
    merkle_leaf(evidence.bytes.data, evidence.bytes.size, &id);
    const struct offence offence = {.kind = LEDGER_OFFENCE_INVALID,
                                    .role = action->shares ? LEDGER_ROLE_ATTRIBUTION
                                                           : LEDGER_ROLE_GATEWAY,
                                    .bp = ledger_parameters(step->ledger)->slash_invalid_bp,
                                    .account = evidence.account,
                                    .slot = digest_bytes(&id)};
    return offence_apply(step, &offence);
}

/* ---- checkpoints -------------------------------------------------------------------------------- */

/* How the key signs checkpoints. ERR_DENIED: it is nobody's who does. */
static enum err signer_take(struct step *step, const struct public_key *key, const char *origin,
                            struct signed_note_key *out)
{
    const struct ledger_witnesses *witnesses = ledger_witnesses(step->ledger);
    if (public_key_equal(key, &ledger_parameters(step->ledger)->sequencer)) {
        *out = (struct signed_note_key){origin, SIGNED_NOTE_PLAIN, *key};
        return ERR_OK;
    }
    for (uint32_t i = 0; i < witnesses->count; i++) {
        if (public_key_equal(key, &witnesses->items[i].key)) {
            *out =
                (struct signed_note_key){witnesses->items[i].name, SIGNED_NOTE_COSIGNATURE, *key};
            return ERR_OK;
        }
    }
    return note_set(step->note, ERR_DENIED, "the key is neither the sequencer's nor a witness's");
}

static enum err checkpoint_take(struct step *step, ProtobufCBinaryData note_bytes,
                                const struct signed_note_key *signer, const char *origin,
                                struct checkpoint *out)
{
    struct bytes text;
    enum err err = signed_note_verify(ledger_bytes(note_bytes), signer, 1, &text, step->note);
    err = err ? err : checkpoint_parse(text, out, NULL, step->note);
    return err == ERR_OK && strcmp(out->origin, origin) != 0
               ? note_set(step->note, ERR_INVALID, "a checkpoint of another log")
               : err;
}

enum err rule_report_checkpoints(struct step *step, const Openledger__V1__ReportCheckpoints *action)
{
    char origin[LEDGER_ORIGIN_SIZE];
    struct public_key key;
    struct signed_note_key signer;
    struct checkpoint first;
    struct checkpoint second;
    uint8_t slot[8];
    (void)ledger_origin(&step->ledger->head.chain_id, origin);
    enum err err = step_key(step, action->key, &key);
    err = err ? err : signer_take(step, &key, origin, &signer);
    err = err ? err : checkpoint_take(step, action->first, &signer, origin, &first);
    err = err ? err : checkpoint_take(step, action->second, &signer, origin, &second);
    if (err != ERR_OK) {
        return err;
    }
    if (first.leaf_count != second.leaf_count || digest_equal(&first.root, &second.root)) {
        return note_set(step->note, ERR_INVALID, "the checkpoints do not contradict each other");
    }
    struct offence offence = {.kind = LEDGER_OFFENCE_CHECKPOINTS,
                              .role = LEDGER_ROLE_VALIDATOR,
                              .bp = ledger_parameters(step->ledger)->slash_conflict_bp,
                              .slot = bytes_of(slot, sizeof slot)};
    put_number(slot, first.leaf_count, sizeof slot);
    account_id_from_key(&key, &offence.account);
    return offence_apply(step, &offence);
}
