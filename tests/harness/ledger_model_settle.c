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

bool model_take(struct model *m, const struct model_call *c)
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
            return false;
        }
    }
    bool by_new_key = action == OPENLEDGER__V1__TX_BODY__ACTION_OPEN_ACCOUNT ||
                      action == OPENLEDGER__V1__TX_BODY__ACTION_COMPLETE_RECOVERY;
    if (!by_new_key &&
        (m->key[c->sender] == NOBODY || !model_signed(c, c->sender, m->key[c->sender]))) {
        return false;
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
    return false;
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
    if (grant.gateway == NOBODY || m->key[grant.gateway] == NOBODY ||
        !model_amount(a->limit, &grant.limit) || a->expires_ms <= m->now_ms ||
        a->expires_ms - m->now_ms > LEDGER_GRANT_MS_MAX ||
        !model_pay(m, &m->ids[c->sender], &escrow, grant.limit)) {
        return false;
    }
    CHECK(m->grant_count < ITEMS_MAX);
    m->grants[m->grant_count++] = grant;
    return true;
}

static struct model_grant *grant_of(struct model *m, ProtobufCBinaryData id)
{
    for (int i = 0; i < m->grant_count; i++) {
        if (id.len == DIGEST_SIZE && memcmp(m->grants[i].id.bytes, id.data, DIGEST_SIZE) == 0) {
            return m->grants[i].closed ? NULL : &m->grants[i];
        }
    }
    return NULL;
}

MODEL_RULE(open_lease, OpenLease)
{
    struct model_grant *grant = grant_of(m, a->grant);
    struct amount amount;
    struct amount leased;
    if (grant == NULL || grant->gateway != c->sender || grant->expires_ms <= m->now_ms ||
        a->lease != grant->leases + 1 || !model_amount(a->amount, &amount) ||
        amount_add(grant->leased, amount, &leased) != ERR_OK ||
        amount_compare(leased, grant->limit) > 0) {
        return false;
    }
    CHECK(grant->leases < 16);
    grant->leased = leased;
    grant->lease[grant->leases].has = amount;
    grant->lease[grant->leases].next = 1;
    grant->leases++;
    return true;
}

MODEL_RULE(close_grant, CloseGrant)
{
    struct model_grant *grant = grant_of(m, a->grant);
    struct account_id escrow;
    struct amount rest;
    if (grant == NULL || (grant->payer != c->sender && grant->gateway != c->sender) ||
        m->now_ms < grant->expires_ms + WINDOW_MS) {
        return false;
    }
    grant->closed = true;
    CHECK(amount_sub(grant->limit, grant->drawn, &rest) == ERR_OK);
    ledger_grant_escrow_id(&grant->id, &escrow);
    return model_pay(m, &escrow, &m->ids[grant->payer], rest);
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
static bool receipt_fits(const struct model *m, int adapter, const Openledger__V1__Receipt *receipt)
{
    struct amount fee = AMOUNT_ZERO;
    const struct model_base *base = &m->bases[m->jobs[m->adapters[adapter].job].base];
    return memcmp(receipt->profile.data, base->profile.bytes, DIGEST_SIZE) == 0 &&
           amount_parse(receipt->fee, &fee) == ERR_OK &&
           model_price_fits(m, adapter, receipt->opened_ms, receipt->prompt_tokens,
                            receipt->completion_tokens, fee);
}

static bool charge(struct model *m, struct model_grant *grant, uint32_t lease, bool pay,
                   ProtobufCBinaryData bytes, struct amount *drawn)
{
    Openledger__V1__Receipt *receipt = openledger__v1__receipt__unpack(NULL, bytes.len, bytes.data);
    CHECK(receipt != NULL);
    struct amount fee;
    int adapter = adapter_of(m, receipt->adapter);
    bool good = adapter != NOBODY && receipt_fits(m, adapter, receipt) &&
                amount_parse(receipt->fee, &fee) == ERR_OK &&
                amount_add(*drawn, fee, drawn) == ERR_OK &&
                amount_compare(*drawn, grant->lease[lease].has) <= 0;
    openledger__v1__receipt__free_unpacked(receipt, NULL);
    if (!good || !pay) {
        return good;
    }
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
    ledger_receipt_id(ledger_bytes(bytes), &record->id);
    CHECK(amount_add(grant->drawn, fee, &grant->drawn) == ERR_OK);
    return true;
}

MODEL_RULE(settle_receipts, SettleReceipts)
{
    struct bytes data = blob_of(m, a->batch);
    (void)c;
    if (data.size == 0) {
        return false;
    }
    Openledger__V1__ReceiptBatch *batch =
        openledger__v1__receipt_batch__unpack(NULL, data.size, data.data);
    CHECK(batch != NULL);
    struct model_grant *grant = grant_of(m, batch->grant);
    uint32_t lease = batch->lease - 1;
    bool good = grant != NULL && lease < grant->leases &&
                model_who(m, batch->gateway) == grant->gateway &&
                model_key_find(m, batch->key) == m->key[grant->gateway] &&
                batch->first_number == grant->lease[lease].next;
    for (int pay = 0; good && pay < 2; pay++) { /* first whether all may, then all */
        struct amount drawn = grant->lease[lease].drawn;
        for (size_t i = 0; i < batch->n_receipts && good; i++) {
            good = charge(m, grant, lease, pay == 1, batch->receipts[i], &drawn);
        }
        if (good && pay == 1) {
            grant->lease[lease].drawn = drawn;
            grant->lease[lease].next += batch->n_receipts;
        }
    }
    openledger__v1__receipt_batch__free_unpacked(batch, NULL);
    return good;
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

/* The tests' batches are of one set. */
static bool set_pay(struct model *m, const Openledger__V1__ShareSet *set)
{
    struct model_receipt *receipt = receipt_of(m, set->receipt);
    if (receipt == NULL || !receipt->waiting) {
        return false;
    }
    const struct model_adapter *adapter = &m->adapters[receipt->adapter];
    const struct model_job *job = &m->jobs[adapter->job];
    bool good = adapter->indexed && memcmp(adapter->index.bytes, set->index.data, DIGEST_SIZE) == 0;
    for (size_t i = 0; good && i < set->n_shares; i++) {
        int who = model_who(m, set->shares[i]->account);
        good = false;
        for (int v = 0; v < m->version_count; v++) {
            good = good || (m->versions[v].net == job->net &&
                            m->versions[v].version == job->version && m->versions[v].rows[who] > 0);
        }
    }
    if (!good) {
        return false;
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
    return true;
}

MODEL_RULE(settle_shares, SettleShares)
{
    struct bytes data = blob_of(m, a->batch);
    (void)c;
    if (data.size == 0) {
        return false;
    }
    Openledger__V1__ShareBatch *batch =
        openledger__v1__share_batch__unpack(NULL, data.size, data.data);
    CHECK(batch != NULL);
    CHECK(batch->n_sets == 1);
    int who = model_who(m, batch->account);
    bool good = who != NOBODY && model_key_find(m, batch->key) == m->key[who] &&
                model_bonded(m, who, LEDGER_ROLE_ATTRIBUTION);
    Openledger__V1__ShareSet *set =
        openledger__v1__share_set__unpack(NULL, batch->sets[0].len, batch->sets[0].data);
    CHECK(set != NULL);
    good = good && set_pay(m, set);
    openledger__v1__share_set__free_unpacked(set, NULL);
    openledger__v1__share_batch__free_unpacked(batch, NULL);
    return good;
}

/* ---- evidence ----------------------------------------------------------------------------------- */

static bool offend(struct model *m, const struct model_call *c, int who, int role, uint32_t bp,
                   const char *kind, struct bytes slot)
{
    const struct bytes parts[] = {bytes_of_text(kind), bytes_of(&role, sizeof role),
                                  bytes_of(&who, sizeof who), slot};
    struct digest id;
    sha256_parts(parts, 4, &id);
    for (int i = 0; i < m->offence_count; i++) {
        if (digest_equal(&m->offences[i], &id)) {
            return false;
        }
    }
    if (who == c->sender || !model_slash(m, who, role, bp, c->sender, NOBODY, AMOUNT_ZERO)) {
        return false;
    }
    CHECK(m->offence_count < ITEMS_MAX);
    m->offences[m->offence_count++] = id;
    return true;
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
    slot_of(a->first->item, first);
    slot_of(a->second->item, second);
    return who == model_who(m, a->second->account) && model_key_answers(m, who, a->first->key) &&
           model_key_answers(m, who, a->second->key) && memcmp(first, second, sizeof first) == 0 &&
           !bytes_equal(ledger_bytes(a->first->item), ledger_bytes(a->second->item)) &&
           offend(m, c, who, LEDGER_ROLE_GATEWAY, 5000, "conflict", bytes_of(first, sizeof first));
}

MODEL_RULE(report_invalid, ReportInvalid)
{
    const Openledger__V1__SignedItem *item = a->item;
    Openledger__V1__Receipt *receipt =
        openledger__v1__receipt__unpack(NULL, item->item.len, item->item.data);
    CHECK(receipt != NULL);
    int adapter = adapter_of(m, receipt->adapter);
    bool wrong =
        adapter != NOBODY && receipt->opened_ms <= m->now_ms && !receipt_fits(m, adapter, receipt);
    openledger__v1__receipt__free_unpacked(receipt, NULL);
    int who = model_who(m, item->account);
    return wrong && model_key_answers(m, who, item->key) &&
           offend(m, c, who, LEDGER_ROLE_GATEWAY, 1000, "invalid", ledger_bytes(item->item));
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
    return model_key_find(m, a->key) == SEQUENCER && first == second &&
           strcmp(first_root, second_root) != 0 &&
           offend(m, c, SEQUENCER, LEDGER_ROLE_VALIDATOR, 5000, "checkpoints",
                  bytes_of(&first, sizeof first));
}
