/* ledger_model.c - see ledger_model.h: accounts, keys, transfers, guardians, vesting, claims. */
#include "tests/harness/ledger_model.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/merkle/merkle.h"

/* ---- money -------------------------------------------------------------------------------------- */

struct amount *model_purse(struct model *m, const struct account_id *id)
{
    for (int i = 0; i < m->purse_count; i++) {
        if (account_id_equal(&m->purses[i].id, id)) {
            return &m->purses[i].has;
        }
    }
    CHECK(m->purse_count < PURSES_MAX);
    m->purses[m->purse_count] = (struct purse){.id = *id};
    return &m->purses[m->purse_count++].has;
}

bool model_pay(struct model *m, const struct account_id *from, const struct account_id *to,
               struct amount amount)
{
    struct amount *source = model_purse(m, from);
    struct amount rest;
    if (amount_sub(*source, amount, &rest) != ERR_OK) {
        return false;
    }
    *source = rest;
    struct amount *target = model_purse(m, to);
    CHECK(amount_add(*target, amount, target) == ERR_OK);
    return true;
}

bool model_amount(const char *text, struct amount *out)
{
    char again[AMOUNT_TEXT_SIZE];
    return amount_parse(text, out) == ERR_OK && strcmp(amount_format(*out, again), text) == 0 &&
           !amount_is_zero(*out);
}

bool model_id(ProtobufCBinaryData field, struct account_id *out)
{
    if (field.len != ACCOUNT_ID_SIZE) {
        return false;
    }
    memcpy(out->bytes, field.data, ACCOUNT_ID_SIZE);
    return true;
}

bool model_32(ProtobufCBinaryData field)
{
    return field.len == DIGEST_SIZE;
}

bool model_expiry(const struct model *m, uint64_t expires_ms)
{
    return expires_ms > m->now_ms && expires_ms - m->now_ms <= LEDGER_GRANT_MS_MAX;
}

int model_who(const struct model *m, ProtobufCBinaryData field)
{
    for (int i = 0; i < PEOPLE; i++) {
        if (field.len == ACCOUNT_ID_SIZE &&
            memcmp(m->ids[i].bytes, field.data, ACCOUNT_ID_SIZE) == 0) {
            return i;
        }
    }
    return NOBODY;
}

struct amount model_part_of(struct amount amount, uint32_t bp)
{
    struct amount part;
    CHECK(amount_mul_ratio(amount, bp, 10000, &part) == ERR_OK);
    return part;
}

/* ---- keys --------------------------------------------------------------------------------------- */

bool model_signed(const struct model_call *c, int who, int key)
{
    for (int i = 0; i < c->signer_count; i++) {
        if (c->signers[i].who == who && c->signers[i].key == key) {
            return true;
        }
    }
    return false;
}

int model_key_find(const struct model *m, ProtobufCBinaryData key)
{
    for (int i = 0; i < KEYS; i++) {
        if (key.len == PUBLIC_KEY_SIZE &&
            memcmp(key_pair_public(m->keys[i])->bytes, key.data, PUBLIC_KEY_SIZE) == 0) {
            return i;
        }
    }
    return NOBODY;
}

static void key_set(struct model *m, int who, int key)
{
    int at = 0;
    while (at < m->former_count &&
           (m->formers[at].who != who || m->formers[at].key != m->key[who])) {
        at++;
    }
    CHECK(at < ITEMS_MAX);
    m->former_count = at == m->former_count ? at + 1 : m->former_count;
    m->formers[at] = (struct model_former){who, m->key[who], m->now_ms};
    m->key[who] = key;
}

bool model_key_answers(const struct model *m, int who, ProtobufCBinaryData field)
{
    int key = model_key_find(m, field);
    if (m->key[who] == key) {
        return true;
    }
    for (int i = 0; i < m->former_count; i++) {
        if (m->formers[i].who == who && m->formers[i].key == key) {
            return m->now_ms - m->formers[i].until_ms < 60000;
        }
    }
    return false;
}

MODEL_RULE(open_account, OpenAccount)
{
    int key = model_key_find(m, a->key);
    NEED(model_32(a->key), ERR_INVALID);
    NEED(MODEL_TEXT(a->name, 64), ERR_INVALID);
    NEED(key == c->sender, ERR_DENIED);
    NEED(model_signed(c, c->sender, key), ERR_DENIED);
    NEED(m->key[c->sender] == NOBODY, ERR_CONFLICT);
    m->key[c->sender] = key;
    return ERR_OK;
}

MODEL_RULE(rotate_key, RotateKey)
{
    int key = model_key_find(m, a->key);
    NEED(model_32(a->key), ERR_INVALID);
    NEED(key != NOBODY && model_signed(c, c->sender, key), ERR_DENIED);
    NEED(key != m->key[c->sender], ERR_CONFLICT);
    key_set(m, c->sender, key);
    return ERR_OK;
}

/* ---- transfers ---------------------------------------------------------------------------------- */

MODEL_RULE(transfer, Transfer)
{
    struct account_id to;
    struct amount amount;
    NEED(model_id(a->to, &to), ERR_INVALID);
    NEED(model_amount(a->amount, &amount), ERR_INVALID);
    NEED(MODEL_TEXT(a->memo, 256), ERR_INVALID);
    NEED(!account_id_equal(&to, &m->ids[c->sender]), ERR_INVALID);
    NEED(model_pay(m, &m->ids[c->sender], &to, amount), ERR_FUNDS);
    return ERR_OK;
}

MODEL_RULE(transfer_batch, TransferBatch)
{
    struct amount total = AMOUNT_ZERO;
    size_t count = a->items.len / 48;
    NEED(count >= 1 && count <= 8190 && a->items.len % 48 == 0, ERR_RANGE);
    for (size_t i = 0; i < count; i++) {
        struct amount amount = amount_from_bytes(a->items.data + 48 * i + 32);
        NEED(!amount_is_zero(amount), ERR_INVALID);
        NEED(memcmp(a->items.data + 48 * i, m->ids[c->sender].bytes, 32) != 0, ERR_INVALID);
        NEED(amount_add(total, amount, &total) == ERR_OK, ERR_RANGE);
    }
    NEED(amount_compare(*model_purse(m, &m->ids[c->sender]), total) >= 0, ERR_FUNDS);
    for (size_t i = 0; i < count; i++) {
        struct account_id to;
        memcpy(to.bytes, a->items.data + 48 * i, 32);
        CHECK(
            model_pay(m, &m->ids[c->sender], &to, amount_from_bytes(a->items.data + 48 * i + 32)));
    }
    return ERR_OK;
}

static enum err link(struct model *m, const struct model_call *c,
                     const Openledger__V1__LinkedTransfer *a)
{
    struct account_id from;
    struct account_id to;
    struct amount amount;
    int who = model_who(m, a->from);
    NEED(model_id(a->from, &from), ERR_INVALID);
    NEED(model_id(a->to, &to), ERR_INVALID);
    NEED(model_amount(a->amount, &amount), ERR_INVALID);
    NEED(MODEL_TEXT(a->memo, 256), ERR_INVALID);
    NEED(!account_id_equal(&to, &from), ERR_INVALID);
    NEED(who != NOBODY && m->key[who] != NOBODY && model_signed(c, who, m->key[who]), ERR_DENIED);
    NEED(model_pay(m, &from, &to, amount), ERR_FUNDS);
    return ERR_OK;
}

MODEL_RULE(linked_transfers, LinkedTransfers)
{
    static struct purse before[PURSES_MAX];
    enum err err = ERR_OK;
    int count = m->purse_count;
    NEED(a->n_transfers >= 1 && a->n_transfers <= 64, ERR_LIMIT);
    memcpy(before, m->purses, sizeof before);
    for (size_t i = 0; err == ERR_OK && i < a->n_transfers; i++) {
        err = link(m, c, a->transfers[i]);
    }
    if (err != ERR_OK) {
        memcpy(m->purses, before, sizeof before);
        m->purse_count = count;
    }
    return err;
}

MODEL_RULE(hold_transfer, HoldTransfer)
{
    struct model_hold hold = {.id = c->tx,
                              .payer = c->sender,
                              .arbiter = model_who(m, a->arbiter),
                              .expires_ms = a->expires_ms,
                              .pending = true};
    struct account_id escrow;
    ledger_hold_escrow_id(&c->tx, &escrow);
    NEED(model_id(a->to, &hold.to), ERR_INVALID);
    NEED(model_amount(a->amount, &hold.amount), ERR_INVALID);
    NEED(model_32(a->arbiter), ERR_INVALID);
    NEED(MODEL_TEXT(a->memo, 256), ERR_INVALID);
    NEED(!account_id_equal(&hold.to, &m->ids[c->sender]), ERR_INVALID);
    NEED(model_expiry(m, a->expires_ms), ERR_RANGE);
    NEED(model_pay(m, &m->ids[c->sender], &escrow, hold.amount), ERR_FUNDS);
    CHECK(m->hold_count < ITEMS_MAX);
    m->holds[m->hold_count++] = hold;
    return ERR_OK;
}

static enum err hold_of(struct model *m, ProtobufCBinaryData id, struct model_hold **out)
{
    NEED(model_32(id), ERR_INVALID);
    for (int i = 0; i < m->hold_count; i++) {
        if (memcmp(m->holds[i].id.bytes, id.data, DIGEST_SIZE) == 0) {
            *out = &m->holds[i];
            return m->holds[i].pending ? ERR_OK : ERR_CONFLICT;
        }
    }
    return ERR_NOT_FOUND;
}

static void hold_end(struct model *m, struct model_hold *hold, struct amount posted)
{
    struct account_id escrow;
    struct amount rest;
    ledger_hold_escrow_id(&hold->id, &escrow);
    CHECK(amount_sub(hold->amount, posted, &rest) == ERR_OK);
    CHECK(model_pay(m, &escrow, &hold->to, posted));
    CHECK(model_pay(m, &escrow, &m->ids[hold->payer], rest));
    hold->pending = false;
}

MODEL_RULE(post_transfer, PostTransfer)
{
    struct model_hold *hold = NULL;
    enum err err = hold_of(m, a->hold, &hold);
    NEED(err == ERR_OK, err);
    struct amount amount = hold->amount;
    NEED(hold->arbiter == c->sender, ERR_DENIED);
    NEED(m->now_ms < hold->expires_ms, ERR_CONFLICT);
    NEED(a->amount[0] == '\0' || model_amount(a->amount, &amount), ERR_INVALID);
    NEED(amount_compare(amount, hold->amount) <= 0, ERR_FUNDS);
    hold_end(m, hold, amount);
    return ERR_OK;
}

MODEL_RULE(void_transfer, VoidTransfer)
{
    struct model_hold *hold = NULL;
    enum err err = hold_of(m, a->hold, &hold);
    NEED(err == ERR_OK, err);
    NEED(m->now_ms >= hold->expires_ms || hold->arbiter == c->sender ||
             account_id_equal(&hold->to, &m->ids[c->sender]),
         ERR_DENIED);
    hold_end(m, hold, AMOUNT_ZERO);
    return ERR_OK;
}

/* ---- guardians ---------------------------------------------------------------------------------- */

MODEL_RULE(set_guardians, SetGuardians)
{
    struct model_guards fresh = {
        .count = (uint32_t)a->n_guardians, .threshold = a->threshold, .delay_ms = a->delay_ms};
    bool none = a->n_guardians == 0;
    NEED(a->n_guardians <= 8, ERR_LIMIT);
    NEED(a->threshold <= a->n_guardians && (a->threshold == 0) == none, ERR_RANGE);
    NEED(none ? a->delay_ms == 0 : a->delay_ms >= 3600000 && a->delay_ms <= UINT64_C(7776000000),
         ERR_RANGE);
    for (size_t i = 0; i < a->n_guardians; i++) {
        int who = model_who(m, a->guardians[i]);
        NEED(model_32(a->guardians[i]), ERR_INVALID);
        NEED(who != c->sender, ERR_INVALID);
        NEED(i == 0 || memcmp(a->guardians[i - 1].data, a->guardians[i].data, 32) < 0, ERR_INVALID);
        fresh.guard[who] = true;
    }
    m->guards[c->sender] = fresh;
    return ERR_OK;
}

MODEL_RULE(approve_recovery, ApproveRecovery)
{
    int who = model_who(m, a->account);
    int key = model_key_find(m, a->key);
    NEED(model_32(a->account), ERR_INVALID);
    NEED(model_32(a->key), ERR_INVALID);
    NEED(who != NOBODY && m->guards[who].guard[c->sender], ERR_DENIED);
    NEED(m->guards[who].approved_ms[c->sender] == 0 || m->guards[who].key[c->sender] != key,
         ERR_CONFLICT);
    m->guards[who].approved_ms[c->sender] = m->now_ms;
    m->guards[who].key[c->sender] = key;
    return ERR_OK;
}

/* Enough guardians want the key since at least the delay. */
MODEL_RULE(complete_recovery, CompleteRecovery)
{
    struct model_guards *guards = &m->guards[c->sender];
    int key = model_key_find(m, a->key);
    uint32_t approving = 0;
    uint32_t long_enough = 0;
    NEED(model_32(a->key), ERR_INVALID);
    NEED(guards->count > 0, ERR_NOT_FOUND);
    NEED(model_signed(c, c->sender, key), ERR_DENIED);
    NEED(key != m->key[c->sender], ERR_CONFLICT);
    for (int i = 0; i < PEOPLE; i++) {
        bool approves = guards->approved_ms[i] != 0 && guards->key[i] == key;
        approving += approves ? 1 : 0;
        long_enough += approves && m->now_ms >= guards->approved_ms[i] + guards->delay_ms ? 1 : 0;
    }
    NEED(approving >= guards->threshold, ERR_DENIED);
    NEED(long_enough >= guards->threshold, ERR_CONFLICT);
    memset(guards->approved_ms, 0, sizeof guards->approved_ms);
    key_set(m, c->sender, key);
    return ERR_OK;
}

MODEL_RULE(cancel_recovery, CancelRecovery)
{
    struct model_guards *guards = &m->guards[c->sender];
    bool any = false;
    (void)a;
    for (int i = 0; i < PEOPLE; i++) {
        any = any || guards->approved_ms[i] != 0;
        guards->approved_ms[i] = 0;
    }
    return any ? ERR_OK : ERR_NOT_FOUND;
}

/* ---- vesting and claims ------------------------------------------------------------------------- */

/* The team's 100 million: nothing for 1,000 s, then linear over 1,000 s. */
MODEL_RULE(claim_vested, ClaimVested)
{
    const uint64_t cliff_ms = m->world->time_ms + 1000000;
    struct amount vested = m->now_ms <= cliff_ms ? AMOUNT_ZERO : amount_from_open(100000000);
    struct account_id escrow;
    struct amount due;
    (void)a;
    NEED(c->sender == WORLD_TEAM, ERR_NOT_FOUND);
    if (m->now_ms > cliff_ms && m->now_ms - cliff_ms < 1000000) {
        CHECK(amount_mul(amount_from_open(100), m->now_ms - cliff_ms, &vested) == ERR_OK);
    }
    CHECK(amount_sub(vested, m->vested_taken, &due) == ERR_OK);
    NEED(!amount_is_zero(due), ERR_CONFLICT);
    m->vested_taken = vested;
    ledger_vesting_escrow_id(&m->ids[WORLD_TEAM], &escrow);
    CHECK(model_pay(m, &escrow, &m->ids[WORLD_TEAM], due));
    return ERR_OK;
}

MODEL_RULE(publish_claims, PublishClaims)
{
    struct model_claims claims = {
        .id = c->tx, .publisher = c->sender, .count = a->count, .expires_ms = a->expires_ms};
    struct account_id escrow;
    ledger_claims_escrow_id(&c->tx, &escrow);
    NEED(digest_from_bytes(ledger_bytes(a->root), &claims.root) == ERR_OK, ERR_INVALID);
    NEED(model_amount(a->total, &claims.total), ERR_INVALID);
    NEED(MODEL_TEXT(a->title, 128), ERR_INVALID);
    NEED(a->count >= 1 && a->count <= 10000000, ERR_RANGE);
    NEED(model_expiry(m, a->expires_ms), ERR_RANGE);
    NEED(model_pay(m, &m->ids[c->sender], &escrow, claims.total), ERR_FUNDS);
    CHECK(m->claims_count < ITEMS_MAX);
    m->claims[m->claims_count++] = claims;
    return ERR_OK;
}

static enum err claims_of(struct model *m, ProtobufCBinaryData id, struct model_claims **out)
{
    NEED(model_32(id), ERR_INVALID);
    for (int i = 0; i < m->claims_count; i++) {
        if (memcmp(m->claims[i].id.bytes, id.data, DIGEST_SIZE) == 0) {
            *out = &m->claims[i];
            return m->claims[i].closed ? ERR_CONFLICT : ERR_OK;
        }
    }
    return ERR_NOT_FOUND;
}

/* Does the path of none or one hash show (sender, amount) as that leaf of one or two? */
static bool claim_shown(const struct model *m, const struct model_call *c,
                        const Openledger__V1__Claim *a, const struct model_claims *claims)
{
    struct buf leaf;
    struct digest root;
    struct digest other;
    if (a->number >= claims->count || claims->count > 2 ||
        a->path.len != (size_t)(claims->count - 1) * DIGEST_SIZE) {
        return false;
    }
    buf_init(&leaf, 256);
    CHECK(ledger_claim_leaf(&m->ids[c->sender], a->amount, &leaf) == ERR_OK);
    merkle_leaf(leaf.data, leaf.size, &root);
    buf_deinit(&leaf);
    if (claims->count == 2) {
        memcpy(other.bytes, a->path.data, DIGEST_SIZE);
        merkle_node(a->number == 0 ? &root : &other, a->number == 0 ? &other : &root, &root);
    }
    return digest_equal(&root, &claims->root);
}

MODEL_RULE(claim, Claim)
{
    struct model_claims *claims = NULL;
    struct amount amount = AMOUNT_ZERO;
    struct amount paid = AMOUNT_ZERO;
    struct account_id escrow;
    enum err err = claims_of(m, a->claims, &claims);
    NEED(err == ERR_OK, err);
    NEED(model_amount(a->amount, &amount), ERR_INVALID);
    NEED(m->now_ms < claims->expires_ms, ERR_CONFLICT);
    NEED(a->path.len % DIGEST_SIZE == 0, ERR_INVALID);
    NEED(claim_shown(m, c, a, claims), ERR_DENIED);
    NEED(!claims->taken[a->number], ERR_CONFLICT);
    NEED(amount_add(claims->paid, amount, &paid) == ERR_OK, ERR_FUNDS);
    NEED(amount_compare(paid, claims->total) <= 0, ERR_FUNDS);
    claims->taken[a->number] = true;
    claims->paid = paid;
    ledger_claims_escrow_id(&claims->id, &escrow);
    CHECK(model_pay(m, &escrow, &m->ids[c->sender], amount));
    return ERR_OK;
}

MODEL_RULE(close_claims, CloseClaims)
{
    struct model_claims *claims = NULL;
    struct account_id escrow;
    struct amount rest;
    enum err err = claims_of(m, a->claims, &claims);
    (void)c;
    NEED(err == ERR_OK, err);
    NEED(m->now_ms >= claims->expires_ms, ERR_CONFLICT);
    claims->closed = true;
    CHECK(amount_sub(claims->total, claims->paid, &rest) == ERR_OK);
    ledger_claims_escrow_id(&claims->id, &escrow);
    CHECK(model_pay(m, &escrow, &m->ids[claims->publisher], rest));
    return ERR_OK;
}
