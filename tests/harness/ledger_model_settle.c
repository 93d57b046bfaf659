/* ledger_model_settle.c - the model of grants, receipts, shares and of evidence about them; the entry to all
 * rules. See ledger_model.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "tests/harness/ledger_model.h"

enum { DEADLINE_BLOCKS = 3, WINDOW_MS = 10000 };

/* ---- life --------------------------------------------------------------------------------------- */

struct model *model_create(struct world *world)
{
    struct model *m = calloc(1, sizeof *m);
    CHECK(m != NULL);
    m->world = world;
    m->treasury_bp = 2000;
    for (int i = 0; i < KEYS; i++) {
        uint8_t seed[KEY_SEED_SIZE] = {0x42, (uint8_t)i};
        m->keys[i] = i < WORLD_COUNT  ? world->keys[i]
                     : i == SEQUENCER ? world->sequencer
                                      : key_pair_from_seed(seed);
    }
    for (int who = 0; who < PEOPLE; who++) {
        account_id_from_key(key_pair_public(m->keys[who]), &m->ids[who]);
        const struct ledger_account *account = ledger_account(world->ledger, &m->ids[who]);
        m->key[who] = account != NULL && account->has_key ? who : NOBODY;
        m->votes_to[who] = who;
        *model_purse(m, &m->ids[who]) = account == NULL ? AMOUNT_ZERO : account->balance;
    }
    struct account_id vesting;
    ledger_vesting_escrow_id(&m->ids[WORLD_TEAM], &vesting);
    *model_purse(m, &vesting) = amount_from_open(100000000);
    m->now_ms = world->now_ms;
    return m;
}

void model_destroy(struct model *m)
{
    for (int i = PEOPLE; i < KEYS; i++) {
        key_pair_destroy(m->keys[i]);
    }
    free(m);
}

enum err model_take(struct model *m, const struct model_call *c)
{
    int action = (int)c->body->action_case;
    int fresh = NOBODY; /* a key that the transaction itself brings */
    if (action == OPENLEDGER__V1__TX_BODY__ACTION_OPEN_ACCOUNT) {
        fresh = model_key_find(m, c->body->open_account->key);
    } else if (action == OPENLEDGER__V1__TX_BODY__ACTION_ROTATE_KEY) {
        fresh = model_key_find(m, c->body->rotate_key->key);
    } else if (action == OPENLEDGER__V1__TX_BODY__ACTION_COMPLETE_RECOVERY) {
        fresh = model_key_find(m, c->body->complete_recovery->key);
    }
    for (int i = 0; i < c->signer_count; i++) {
        int who = c->signers[i].who;
        int key = c->signers[i].key;
        if (m->key[who] != key && (who != c->sender || key != fresh)) {
            return ERR_DENIED;
        }
    }
    bool by_new_key = action == OPENLEDGER__V1__TX_BODY__ACTION_OPEN_ACCOUNT ||
                      action == OPENLEDGER__V1__TX_BODY__ACTION_COMPLETE_RECOVERY;
    if (!by_new_key &&
        (m->key[c->sender] == NOBODY || !model_signed(c, c->sender, m->key[c->sender]))) {
        return ERR_DENIED;
    }
    switch (c->body->action_case) {
#define MODEL_CASE(upper, lower, Message)                                                          \
    case OPENLEDGER__V1__TX_BODY__ACTION_##upper:                                                  \
        return model_##lower(m, c, c->body->lower);
        LEDGER_RULES(MODEL_CASE)
#undef MODEL_CASE
    case OPENLEDGER__V1__TX_BODY__ACTION__NOT_SET:
    case _OPENLEDGER__V1__TX_BODY__ACTION__CASE_IS_INT_SIZE:
        break;
    }
    return ERR_INVALID;
}

void model_seal(struct model *m)
{
    m->height++;
    CHECK(m->height + 8 < BLOCKS_MAX);
    for (int i = 0; i < m->receipt_count; i++) {
        struct model_receipt *receipt = &m->receipts[i];
        if (receipt->waiting && receipt->deadline <= m->height) {
            const char *net = m->nets[m->jobs[m->adapters[receipt->adapter].job].net].name;
            struct account_id escrow;
            struct account_id treasury;
            ledger_pending_escrow_id(net, &escrow);
            ledger_treasury_id(net, &treasury);
            CHECK(model_pay(m, &escrow, &treasury, receipt->pending));
            receipt->waiting = false;
        }
    }
    model_power(m);
}

/* ---- grants ------------------------------------------------------------------------------------- */

MODEL_RULE(open_grant, OpenGrant)
{
    struct model_grant grant = {.id = c->tx,
                                .payer = c->sender,
                                .gateway = model_who(m, a->gateway),
                                .expires_ms = a->expires_ms};
    struct account_id escrow;
    ledger_grant_escrow_id(&c->tx, &escrow);
    NEED(model_32(a->gateway), ERR_INVALID);
    NEED(grant.gateway != NOBODY && m->key[grant.gateway] != NOBODY, ERR_NOT_FOUND);
    NEED(model_amount(a->limit, &grant.limit), ERR_INVALID);
    NEED(model_expiry(m, a->expires_ms), ERR_RANGE);
    NEED(model_pay(m, &m->ids[c->sender], &escrow, grant.limit), ERR_FUNDS);
    CHECK(m->grant_count < ITEMS_MAX);
    m->grants[m->grant_count++] = grant;
    return ERR_OK;
}

static enum err grant_of(struct model *m, ProtobufCBinaryData id, struct model_grant **out)
{
    NEED(model_32(id), ERR_INVALID);
    for (int i = 0; i < m->grant_count; i++) {
        if (memcmp(m->grants[i].id.bytes, id.data, DIGEST_SIZE) == 0) {
            *out = &m->grants[i];
            return m->grants[i].closed ? ERR_CONFLICT : ERR_OK;
        }
    }
    return ERR_NOT_FOUND;
}

MODEL_RULE(open_lease, OpenLease)
{
    struct model_grant *grant = NULL;
    struct amount amount = AMOUNT_ZERO;
    struct amount leased = AMOUNT_ZERO;
    enum err err = grant_of(m, a->grant, &grant);
    NEED(err == ERR_OK, err);
    NEED(model_amount(a->amount, &amount), ERR_INVALID);
    NEED(grant->gateway == c->sender, ERR_DENIED);
    NEED(m->now_ms < grant->expires_ms, ERR_CONFLICT);
    NEED(a->lease == grant->leases + 1, ERR_CONFLICT);
    NEED(amount_add(grant->leased, amount, &leased) == ERR_OK, ERR_FUNDS);
    NEED(amount_compare(leased, grant->limit) <= 0, ERR_FUNDS);
    CHECK(grant->leases < 16);
    grant->leased = leased;
    grant->lease[grant->leases].has = amount;
    grant->lease[grant->leases].next = 1;
    grant->leases++;
    return ERR_OK;
}

MODEL_RULE(close_grant, CloseGrant)
{
    struct model_grant *grant = NULL;
    struct account_id escrow;
    struct amount rest;
    enum err err = grant_of(m, a->grant, &grant);
    NEED(err == ERR_OK, err);
    NEED(grant->payer == c->sender || grant->gateway == c->sender, ERR_DENIED);
    NEED(m->now_ms >= grant->expires_ms + WINDOW_MS, ERR_CONFLICT);
    grant->closed = true;
    CHECK(amount_sub(grant->limit, grant->drawn, &rest) == ERR_OK);
    ledger_grant_escrow_id(&grant->id, &escrow);
    CHECK(model_pay(m, &escrow, &m->ids[grant->payer], rest));
    return ERR_OK;
}

/* ---- receipts ----------------------------------------------------------------------------------- */

static struct bytes blob_of(const struct model *m, ProtobufCBinaryData name)
{
    for (size_t i = 0; i < m->world->blob_count; i++) {
        if (name.len == DIGEST_SIZE &&
            memcmp(m->world->blob_names[i].bytes, name.data, DIGEST_SIZE) == 0) {
            return buf_bytes(&m->world->blobs[i]);
        }
    }
    return (struct bytes){0};
}

static int adapter_of(const struct model *m, const char *name)
{
    for (int i = 0; i < m->adapter_count; i++) {
        if (strcmp(m->adapters[i].name, name) == 0) {
            return i;
        }
    }
    return NOBODY;
}

/* By profile and by price. */
static enum err receipt_fits(const struct model *m, int adapter,
                             const Openledger__V1__Receipt *receipt)
{
    struct amount fee = AMOUNT_ZERO;
    const struct model_base *base = &m->bases[m->jobs[m->adapters[adapter].job].base];
    NEED(memcmp(receipt->profile.data, base->profile.bytes, DIGEST_SIZE) == 0, ERR_INVALID);
    CHECK(amount_parse(receipt->fee, &fee) == ERR_OK);
    return model_price_fits(m, adapter, receipt->opened_ms, receipt->prompt_tokens,
                            receipt->completion_tokens, fee);
}

static enum err charge_check(const struct model *m, struct amount lease_has,
                             const Openledger__V1__Receipt *receipt, struct amount *fee,
                             struct amount *drawn)
{
    int adapter = adapter_of(m, receipt->adapter);
    NEED(adapter != NOBODY, ERR_NOT_FOUND);
    enum err err = receipt_fits(m, adapter, receipt);
    NEED(err == ERR_OK, err);
    CHECK(amount_parse(receipt->fee, fee) == ERR_OK);
    NEED(amount_add(*drawn, *fee, drawn) == ERR_OK, ERR_FUNDS);
    return amount_compare(*drawn, lease_has) <= 0 ? ERR_OK : ERR_FUNDS;
}

static void charge_pay(struct model *m, struct model_grant *grant, int adapter, struct amount fee,
                       struct bytes bytes)
{
    const struct model_job *job = &m->jobs[m->adapters[adapter].job];
    struct account_id escrow;
    struct account_id pool;
    struct account_id waiting;
    ledger_grant_escrow_id(&grant->id, &escrow);
    ledger_stakers_pool_id(&pool);
    ledger_pending_escrow_id(m->nets[job->net].name, &waiting);
    CHECK(model_pay(m, &escrow, &m->ids[WORLD_PLATFORM], model_part_of(fee, 1000)));
    CHECK(model_pay(m, &escrow, &m->ids[m->adapters[adapter].developer], model_part_of(fee, 1000)));
    CHECK(model_pay(m, &escrow, &m->ids[m->bases[job->base].developer], model_part_of(fee, 1000)));
    CHECK(model_pay(m, &escrow, &pool, model_part_of(fee, 1000)));
    CHECK(model_pay(m, &escrow, &waiting, model_part_of(fee, 6000)));
    CHECK(m->receipt_count < ITEMS_MAX);
    struct model_receipt *record = &m->receipts[m->receipt_count++];
    *record = (struct model_receipt){.adapter = adapter,
                                     .waiting = true,
                                     .pending = model_part_of(fee, 6000),
                                     .deadline = m->height + 1 + DEADLINE_BLOCKS};
    ledger_receipt_id(bytes, &record->id);
    CHECK(amount_add(grant->drawn, fee, &grant->drawn) == ERR_OK);
}

static enum err charge(struct model *m, struct model_grant *grant, uint32_t lease, bool pay,
                       ProtobufCBinaryData bytes, struct amount *drawn)
{
    Openledger__V1__Receipt *receipt = openledger__v1__receipt__unpack(NULL, bytes.len, bytes.data);
    CHECK(receipt != NULL);
    struct amount fee;
    enum err err = charge_check(m, grant->lease[lease].has, receipt, &fee, drawn);
    if (err == ERR_OK && pay) {
        charge_pay(m, grant, adapter_of(m, receipt->adapter), fee, ledger_bytes(bytes));
    }
    openledger__v1__receipt__free_unpacked(receipt, NULL);
    return err;
}

static enum err batch_open(struct model *m, const Openledger__V1__ReceiptBatch *batch,
                           struct model_grant **out)
{
    struct model_grant *grant = NULL;
    enum err err = grant_of(m, batch->grant, &grant);
    NEED(grant != NULL && batch->lease - 1 < grant->leases, ERR_NOT_FOUND);
    NEED(err == ERR_OK, ERR_DENIED);
    NEED(model_who(m, batch->gateway) == grant->gateway, ERR_DENIED);
    NEED(model_key_find(m, batch->key) == m->key[grant->gateway], ERR_DENIED);
    NEED(batch->first_number == grant->lease[batch->lease - 1].next, ERR_CONFLICT);
    *out = grant;
    return ERR_OK;
}

MODEL_RULE(settle_receipts, SettleReceipts)
{
    struct bytes data = blob_of(m, a->batch);
    struct model_grant *grant = NULL;
    (void)c;
    NEED(model_32(a->batch), ERR_INVALID);
    NEED(data.size > 0, ERR_NOT_FOUND);
    Openledger__V1__ReceiptBatch *batch =
        openledger__v1__receipt_batch__unpack(NULL, data.size, data.data);
    CHECK(batch != NULL);
    enum err err = batch_open(m, batch, &grant);
    uint32_t lease = batch->lease - 1;
    for (int pay = 0; err == ERR_OK && pay < 2; pay++) { /* first whether all may, then all */
        struct amount drawn = grant->lease[lease].drawn;
        for (size_t i = 0; err == ERR_OK && i < batch->n_receipts; i++) {
            err = charge(m, grant, lease, pay == 1, batch->receipts[i], &drawn);
        }
        if (err == ERR_OK && pay == 1) {
            grant->lease[lease].drawn = drawn;
            grant->lease[lease].next += batch->n_receipts;
        }
    }
    openledger__v1__receipt_batch__free_unpacked(batch, NULL);
    return err;
}

static struct model_receipt *receipt_of(struct model *m, ProtobufCBinaryData id)
{
    for (int i = 0; i < m->receipt_count; i++) {
        if (memcmp(m->receipts[i].id.bytes, id.data, DIGEST_SIZE) == 0) {
            return &m->receipts[i];
        }
    }
    return NULL;
}

static bool contributed(const struct model *m, const struct model_job *job, int who)
{
    for (int v = 0; v < m->version_count; v++) {
        if (m->versions[v].net == job->net && m->versions[v].version == job->version &&
            m->versions[v].rows[who] > 0) {
            return true;
        }
    }
    return false;
}

/* The tests' batches are of one set. */
static enum err set_pay(struct model *m, const Openledger__V1__ShareSet *set)
{
    struct model_receipt *receipt = receipt_of(m, set->receipt);
    NEED(receipt != NULL, ERR_NOT_FOUND);
    NEED(receipt->waiting, ERR_CONFLICT);
    const struct model_adapter *adapter = &m->adapters[receipt->adapter];
    const struct model_job *job = &m->jobs[adapter->job];
    NEED(adapter->indexed, ERR_CONFLICT);
    NEED(memcmp(adapter->index.bytes, set->index.data, DIGEST_SIZE) == 0, ERR_INVALID);
    for (size_t i = 0; i < set->n_shares; i++) {
        NEED(contributed(m, job, model_who(m, set->shares[i]->account)), ERR_INVALID);
    }
    struct account_id escrow;
    struct account_id treasury;
    struct amount rest = receipt->pending;
    ledger_pending_escrow_id(m->nets[job->net].name, &escrow);
    ledger_treasury_id(m->nets[job->net].name, &treasury);
    for (size_t i = 0; i < set->n_shares; i++) {
        struct amount part;
        CHECK(amount_mul_ratio(receipt->pending, set->shares[i]->share_ppb, LEDGER_SHARE_TOTAL,
                               &part) == ERR_OK);
        CHECK(amount_sub(rest, part, &rest) == ERR_OK);
        CHECK(model_pay(m, &escrow, &m->ids[model_who(m, set->shares[i]->account)], part));
    }
    CHECK(model_pay(m, &escrow, &treasury, rest));
    receipt->waiting = false;
    return ERR_OK;
}

MODEL_RULE(settle_shares, SettleShares)
{
    struct bytes data = blob_of(m, a->batch);
    (void)c;
    NEED(model_32(a->batch), ERR_INVALID);
    NEED(data.size > 0, ERR_NOT_FOUND);
    Openledger__V1__ShareBatch *batch =
        openledger__v1__share_batch__unpack(NULL, data.size, data.data);
    CHECK(batch != NULL);
    CHECK(batch->n_sets == 1);
    int who = model_who(m, batch->account);
    bool signer = who != NOBODY && model_key_find(m, batch->key) == m->key[who] &&
                  model_bonded(m, who, LEDGER_ROLE_ATTRIBUTION);
    Openledger__V1__ShareSet *set =
        openledger__v1__share_set__unpack(NULL, batch->sets[0].len, batch->sets[0].data);
    CHECK(set != NULL);
    enum err err = signer ? set_pay(m, set) : ERR_DENIED;
    openledger__v1__share_set__free_unpacked(set, NULL);
    openledger__v1__share_batch__free_unpacked(batch, NULL);
    return err;
}

/* ---- evidence ----------------------------------------------------------------------------------- */

static enum err offend(struct model *m, const struct model_call *c, int who, int role, uint32_t bp,
                       const char *kind, struct bytes slot)
{
    const struct bytes parts[] = {bytes_of_text(kind), bytes_of(&role, sizeof role),
                                  bytes_of(&who, sizeof who), slot};
    struct digest id;
    sha256_parts(parts, 4, &id);
    NEED(who != c->sender, ERR_DENIED);
    for (int i = 0; i < m->offence_count; i++) {
        NEED(!digest_equal(&m->offences[i], &id), ERR_CONFLICT);
    }
    NEED(model_slash(m, who, role, bp, c->sender, NOBODY, AMOUNT_ZERO), ERR_CONFLICT);
    CHECK(m->offence_count < ITEMS_MAX);
    m->offences[m->offence_count++] = id;
    return ERR_OK;
}

/* Grant, lease and number of a receipt. */
static void slot_of(ProtobufCBinaryData item, uint8_t out[DIGEST_SIZE + 12])
{
    Openledger__V1__Receipt *receipt = openledger__v1__receipt__unpack(NULL, item.len, item.data);
    CHECK(receipt != NULL);
    memcpy(out, receipt->grant.data, DIGEST_SIZE);
    memcpy(out + DIGEST_SIZE, &receipt->lease, 4);
    memcpy(out + DIGEST_SIZE + 4, &receipt->number, 8);
    openledger__v1__receipt__free_unpacked(receipt, NULL);
}

MODEL_RULE(report_conflict, ReportConflict)
{
    uint8_t first[DIGEST_SIZE + 12];
    uint8_t second[DIGEST_SIZE + 12];
    int who = model_who(m, a->first->account);
    int other = model_who(m, a->second->account);
    slot_of(a->first->item, first);
    slot_of(a->second->item, second);
    NEED(model_key_answers(m, who, a->first->key), ERR_DENIED);
    NEED(model_key_answers(m, other, a->second->key), ERR_DENIED);
    NEED(who == other && memcmp(first, second, sizeof first) == 0, ERR_INVALID);
    NEED(!bytes_equal(ledger_bytes(a->first->item), ledger_bytes(a->second->item)), ERR_INVALID);
    return offend(m, c, who, LEDGER_ROLE_GATEWAY, 5000, "conflict", bytes_of(first, sizeof first));
}

MODEL_RULE(report_invalid, ReportInvalid)
{
    const Openledger__V1__SignedItem *item = a->item;
    int who = model_who(m, item->account);
    NEED(model_key_answers(m, who, item->key), ERR_DENIED);
    Openledger__V1__Receipt *receipt =
        openledger__v1__receipt__unpack(NULL, item->item.len, item->item.data);
    CHECK(receipt != NULL);
    int adapter = adapter_of(m, receipt->adapter);
    bool wrong = adapter != NOBODY && receipt->opened_ms <= m->now_ms &&
                 receipt_fits(m, adapter, receipt) != ERR_OK;
    openledger__v1__receipt__free_unpacked(receipt, NULL);
    NEED(wrong, ERR_INVALID);
    return offend(m, c, who, LEDGER_ROLE_GATEWAY, 1000, "invalid", ledger_bytes(item->item));
}

/* Size and root of a checkpoint's note. */
static void checkpoint_read(ProtobufCBinaryData note, unsigned long long *size, char root[64])
{
    char text[400] = "";
    memcpy(text, note.data, note.len < sizeof text ? note.len : sizeof text - 1);
    const char *line = strchr(text, '\n');
    CHECK(line != NULL);
    char *end = NULL;
    *size = strtoull(line, &end, 10);
    CHECK(sscanf(end, " %63s", root) == 1);
}

MODEL_RULE(report_checkpoints, ReportCheckpoints)
{
    unsigned long long first = 0;
    unsigned long long second = 0;
    char first_root[64];
    char second_root[64];
    checkpoint_read(a->first, &first, first_root);
    checkpoint_read(a->second, &second, second_root);
    NEED(model_32(a->key), ERR_INVALID);
    NEED(model_key_find(m, a->key) == SEQUENCER, ERR_DENIED);
    NEED(first == second && strcmp(first_root, second_root) != 0, ERR_INVALID);
    return offend(m, c, SEQUENCER, LEDGER_ROLE_VALIDATOR, 5000, "checkpoints",
                  bytes_of(&first, sizeof first));
}
