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
    if (m->key[c->sender] != NOBODY || key != c->sender || !model_signed(c, c->sender, key) ||
        !MODEL_TEXT(a->name, 64)) {
        return false;
    }
    m->key[c->sender] = key;
    return true;
}

MODEL_RULE(rotate_key, RotateKey)
{
    int key = model_key_find(m, a->key);
    if (key == NOBODY || key == m->key[c->sender] || !model_signed(c, c->sender, key)) {
        return false;
    }
    key_set(m, c->sender, key);
    return true;
}

/* ---- transfers ---------------------------------------------------------------------------------- */

MODEL_RULE(transfer, Transfer)
{
    struct account_id to;
    struct amount amount;
    return model_id(a->to, &to) && model_amount(a->amount, &amount) && MODEL_TEXT(a->memo, 256) &&
           !account_id_equal(&to, &m->ids[c->sender]) &&
           model_pay(m, &m->ids[c->sender], &to, amount);
}

MODEL_RULE(transfer_batch, TransferBatch)
{
    struct amount total = AMOUNT_ZERO;
    size_t count = a->items.len / 48;
    if (count == 0 || a->items.len % 48 != 0) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        struct amount amount = amount_from_bytes(a->items.data + 48 * i + 32);
        if (amount_is_zero(amount) ||
            memcmp(a->items.data + 48 * i, m->ids[c->sender].bytes, 32) == 0 ||
            amount_add(total, amount, &total) != ERR_OK) {
            return false;
        }
    }
    if (amount_compare(*model_purse(m, &m->ids[c->sender]), total) < 0) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        struct account_id to;
        memcpy(to.bytes, a->items.data + 48 * i, 32);
        CHECK(
            model_pay(m, &m->ids[c->sender], &to, amount_from_bytes(a->items.data + 48 * i + 32)));
    }
    return true;
}

MODEL_RULE(linked_transfers, LinkedTransfers)
{
    static struct purse before[PURSES_MAX];
    bool good = a->n_transfers >= 1 && a->n_transfers <= 64;
    int count = m->purse_count;
    memcpy(before, m->purses, sizeof before);
    for (size_t i = 0; good && i < a->n_transfers; i++) {
        struct account_id to;
        struct amount amount;
        int from = model_who(m, a->transfers[i]->from);
        good = from != NOBODY && model_id(a->transfers[i]->to, &to) &&
               model_amount(a->transfers[i]->amount, &amount) && m->key[from] != NOBODY &&
               model_signed(c, from, m->key[from]) && !account_id_equal(&to, &m->ids[from]) &&
               model_pay(m, &m->ids[from], &to, amount);
    }
    if (!good) {
        memcpy(m->purses, before, sizeof before);
        m->purse_count = count;
    }
    return good;
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
    if (!model_id(a->to, &hold.to) || !model_amount(a->amount, &hold.amount) ||
        account_id_equal(&hold.to, &m->ids[c->sender]) || a->expires_ms <= m->now_ms ||
        a->expires_ms - m->now_ms > LEDGER_GRANT_MS_MAX ||
        !model_pay(m, &m->ids[c->sender], &escrow, hold.amount)) {
        return false;
    }
    CHECK(m->hold_count < ITEMS_MAX);
    m->holds[m->hold_count++] = hold;
    return true;
}

static struct model_hold *hold_of(struct model *m, ProtobufCBinaryData id)
{
    for (int i = 0; i < m->hold_count; i++) {
        if (id.len == DIGEST_SIZE && memcmp(m->holds[i].id.bytes, id.data, DIGEST_SIZE) == 0) {
            return m->holds[i].pending ? &m->holds[i] : NULL;
        }
    }
    return NULL;
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
    struct model_hold *hold = hold_of(m, a->hold);
    struct amount amount;
    if (hold == NULL || hold->arbiter != c->sender || m->now_ms >= hold->expires_ms) {
        return false;
    }
    amount = hold->amount;
    if (a->amount[0] != '\0' &&
        (!model_amount(a->amount, &amount) || amount_compare(amount, hold->amount) > 0)) {
        return false;
    }
    hold_end(m, hold, amount);
    return true;
}

MODEL_RULE(void_transfer, VoidTransfer)
{
    struct model_hold *hold = hold_of(m, a->hold);
    if (hold == NULL || (m->now_ms < hold->expires_ms && hold->arbiter != c->sender &&
                         !account_id_equal(&hold->to, &m->ids[c->sender]))) {
        return false;
    }
    hold_end(m, hold, AMOUNT_ZERO);
    return true;
}

/* ---- guardians ---------------------------------------------------------------------------------- */

MODEL_RULE(set_guardians, SetGuardians)
{
    struct model_guards fresh = {
        .count = (uint32_t)a->n_guardians, .threshold = a->threshold, .delay_ms = a->delay_ms};
    bool none = a->n_guardians == 0;
    if (a->n_guardians > 8 || a->threshold > a->n_guardians || (a->threshold == 0) != none ||
        (none ? a->delay_ms != 0 : a->delay_ms < 3600000 || a->delay_ms > UINT64_C(7776000000))) {
        return false;
    }
    for (size_t i = 0; i < a->n_guardians; i++) {
        int who = model_who(m, a->guardians[i]);
        if (who == c->sender || (i > 0 && memcmp(a->guardians[i - 1].data, a->guardians[i].data,
                                                 ACCOUNT_ID_SIZE) >= 0)) {
            return false;
        }
        fresh.guard[who] = true;
    }
    m->guards[c->sender] = fresh;
    return true;
}

MODEL_RULE(approve_recovery, ApproveRecovery)
{
    int who = model_who(m, a->account);
    int key = model_key_find(m, a->key);
    if (who == NOBODY || key == NOBODY || !m->guards[who].guard[c->sender] ||
        (m->guards[who].approved_ms[c->sender] != 0 && m->guards[who].key[c->sender] == key)) {
        return false;
    }
    m->guards[who].approved_ms[c->sender] = m->now_ms;
    m->guards[who].key[c->sender] = key;
    return true;
}

/* Enough guardians want the key since at least the delay. */
MODEL_RULE(complete_recovery, CompleteRecovery)
{
    struct model_guards *guards = &m->guards[c->sender];
    int key = model_key_find(m, a->key);
    uint32_t long_enough = 0;
    if (key == NOBODY || guards->count == 0 || !model_signed(c, c->sender, key) ||
        key == m->key[c->sender]) {
        return false;
    }
    for (int i = 0; i < PEOPLE; i++) {
        long_enough += guards->approved_ms[i] != 0 && guards->key[i] == key &&
                               m->now_ms >= guards->approved_ms[i] + guards->delay_ms
                           ? 1
                           : 0;
    }
    if (long_enough < guards->threshold) {
        return false;
    }
    memset(guards->approved_ms, 0, sizeof guards->approved_ms);
    key_set(m, c->sender, key);
    return true;
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
    return any;
}

/* ---- vesting and claims ------------------------------------------------------------------------- */

/* The team's 100 million: nothing for 1,000 s, then linear over 1,000 s. */
MODEL_RULE(claim_vested, ClaimVested)
{
    const uint64_t cliff_ms = m->world->time_ms + 1000000;
    struct amount vested = amount_from_open(100000000);
    struct account_id escrow;
    struct amount due;
    (void)a;
    if (c->sender != WORLD_TEAM || m->now_ms <= cliff_ms) {
        return false;
    }
    if (m->now_ms - cliff_ms < 1000000) {
        CHECK(amount_mul(amount_from_open(100), m->now_ms - cliff_ms, &vested) == ERR_OK);
    }
    CHECK(amount_sub(vested, m->vested_taken, &due) == ERR_OK);
    if (amount_is_zero(due)) {
        return false;
    }
    m->vested_taken = vested;
    ledger_vesting_escrow_id(&m->ids[WORLD_TEAM], &escrow);
    return model_pay(m, &escrow, &m->ids[WORLD_TEAM], due);
}

MODEL_RULE(publish_claims, PublishClaims)
{
    struct model_claims claims = {
        .id = c->tx, .publisher = c->sender, .count = a->count, .expires_ms = a->expires_ms};
    struct account_id escrow;
    ledger_claims_escrow_id(&c->tx, &escrow);
    if (digest_from_bytes(ledger_bytes(a->root), &claims.root) != ERR_OK ||
        !model_amount(a->total, &claims.total) || a->count == 0 || a->count > 10000000 ||
        a->expires_ms <= m->now_ms || a->expires_ms - m->now_ms > LEDGER_GRANT_MS_MAX ||
        !model_pay(m, &m->ids[c->sender], &escrow, claims.total)) {
        return false;
    }
    CHECK(m->claims_count < ITEMS_MAX);
    m->claims[m->claims_count++] = claims;
    return true;
}

static struct model_claims *claims_of(struct model *m, ProtobufCBinaryData id)
{
    for (int i = 0; i < m->claims_count; i++) {
        if (id.len == DIGEST_SIZE && memcmp(m->claims[i].id.bytes, id.data, DIGEST_SIZE) == 0) {
            return m->claims[i].closed ? NULL : &m->claims[i];
        }
    }
    return NULL;
}

MODEL_RULE(claim, Claim)
{
    struct model_claims *claims = claims_of(m, a->claims);
    struct amount amount;
    struct amount paid;
    struct buf leaf;
    struct account_id escrow;
    if (claims == NULL || !model_amount(a->amount, &amount) || m->now_ms >= claims->expires_ms ||
        a->number > 1 || claims->count > 2) {
        return false;
    }
    buf_init(&leaf, 256);
    CHECK(ledger_claim_leaf(&m->ids[c->sender], a->amount, &leaf) == ERR_OK);
    struct digest root;
    struct digest other;
    bool fits = a->path.len == (claims->count == 1 ? 0 : DIGEST_SIZE);
    merkle_leaf(leaf.data, leaf.size, &root);
    buf_deinit(&leaf);
    if (fits && claims->count == 2) {
        memcpy(other.bytes, a->path.data, DIGEST_SIZE);
        merkle_node(a->number == 0 ? &root : &other, a->number == 0 ? &other : &root, &root);
    }
    if (!fits || a->number >= claims->count || !digest_equal(&root, &claims->root) ||
        claims->taken[a->number] || amount_add(claims->paid, amount, &paid) != ERR_OK ||
        amount_compare(paid, claims->total) > 0) {
        return false;
    }
    claims->taken[a->number] = true;
    claims->paid = paid;
    ledger_claims_escrow_id(&claims->id, &escrow);
    return model_pay(m, &escrow, &m->ids[c->sender], amount);
}

MODEL_RULE(close_claims, CloseClaims)
{
    struct model_claims *claims = claims_of(m, a->claims);
    struct account_id escrow;
    struct amount rest;
    (void)c;
    if (claims == NULL || m->now_ms < claims->expires_ms) {
        return false;
    }
    claims->closed = true;
    CHECK(amount_sub(claims->total, claims->paid, &rest) == ERR_OK);
    ledger_claims_escrow_id(&claims->id, &escrow);
    return model_pay(m, &escrow, &m->ids[claims->publisher], rest);
}
