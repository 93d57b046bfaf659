/* ledger_draw.c - see ledger_draw.h: helpers, accounts, transfers, guardians, claims. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/merkle/merkle.h"
#include "tests/harness/ledger_draw_inside.h"

void draw_init(struct draw *d, struct model *m)
{
    *d = (struct draw){.m = m};
    buf_init(&d->notes[0], LEDGER_ENTRY_MAX);
    buf_init(&d->notes[1], LEDGER_ENTRY_MAX);
}

void draw_deinit(struct draw *d)
{
    buf_deinit(&d->notes[0]);
    buf_deinit(&d->notes[1]);
}

void draw_action(struct draw *d, Openledger__V1__TxBody__ActionCase action)
{
    d->body = (Openledger__V1__TxBody)OPENLEDGER__V1__TX_BODY__INIT;
    d->body.action_case = action;
    d->call = (struct model_call){.body = &d->body};
    d->digest_count = 0;
    d->field_count = 0;
    d->text_count = 0;
    switch (action) {
#define DRAW_CASE(upper, lower, Message)                                                           \
    case OPENLEDGER__V1__TX_BODY__ACTION_##upper: {                                                \
        static Openledger__V1__##Message message;                                                  \
        openledger__v1__##lower##__init(&message);                                                 \
        d->body.lower = &message;                                                                  \
        draw_sender(d, draw_to(PEOPLE));                                                           \
        draw_##lower(d, &message);                                                                 \
        break;                                                                                     \
    }
        LEDGER_RULES(DRAW_CASE)
#undef DRAW_CASE
    case OPENLEDGER__V1__TX_BODY__ACTION__NOT_SET:
    case _OPENLEDGER__V1__TX_BODY__ACTION__CASE_IS_INT_SIZE:
        break;
    }
}

/* ---- helpers ------------------------------------------------------------------------------------ */

void draw_sender(struct draw *d, int who)
{
    int sender = who == NOBODY || draw_wrong() ? draw_to(PEOPLE) : who;
    d->call.sender = sender;
    d->call.signer_count = 1;
    d->call.signers[0].who = sender;
    d->call.signers[0].key = d->m->key[sender] == NOBODY ? sender : d->m->key[sender];
}

static void sign_too(struct draw *d, int who, int key)
{
    for (int i = 0; i < d->call.signer_count; i++) {
        if (d->call.signers[i].who == who && d->call.signers[i].key == key) {
            return;
        }
    }
    CHECK(d->call.signer_count < SIGNERS_MAX);
    d->call.signers[d->call.signer_count].who = who;
    d->call.signers[d->call.signer_count++].key = key;
}

char *draw_text(struct draw *d, const char *format, ...)
{
    CHECK(d->text_count < DRAW_TEXTS);
    char *text = d->texts[d->text_count++];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof d->texts[0], format, arguments);
    va_end(arguments);
    return text;
}

char *draw_amount(struct draw *d, int from, int to)
{
    static const char *const WRONG[] = {"0", "01", "", "1.0", "-1", "1000000000", "1e3"};
    return draw_wrong() ? draw_text(d, "%s", WRONG[draw_to(7)])
                        : draw_text(d, "%d", from + draw_to(to - from + 1));
}

ProtobufCBinaryData draw_person(const struct draw *d, int who)
{
    int person = who == NOBODY || draw_wrong() ? draw_to(PEOPLE) : who;
    return ledger_binary(d->m->ids[person].bytes, ACCOUNT_ID_SIZE);
}

ProtobufCBinaryData draw_digest(struct draw *d, const struct digest *digest)
{
    CHECK(d->digest_count < DRAW_TEXTS);
    struct digest *copy = &d->digests[d->digest_count++];
    bool other = digest == NULL || draw_wrong();
    *copy = other ? (struct digest){{0xee, (uint8_t)draw_to(256)}} : *digest;
    return ledger_binary(copy->bytes, other && draw_odds(30) ? 31 : DIGEST_SIZE);
}

ProtobufCBinaryData draw_key(const struct draw *d, int key)
{
    return ledger_binary(key_pair_public(d->m->keys[key])->bytes, PUBLIC_KEY_SIZE);
}

uint64_t draw_expiry(const struct draw *d, int seconds_max)
{
    uint64_t far = d->m->now_ms + LEDGER_GRANT_MS_MAX + 1;
    uint64_t near = d->m->now_ms + 1000 * (uint64_t)(2 + draw_to(seconds_max));
    return draw_wrong() ? (draw_odds(50) ? d->m->now_ms : far) : near;
}

static const struct model *sorting;

static int by_id(const void *a, const void *b)
{
    return account_id_compare(&sorting->ids[*(const int *)a], &sorting->ids[*(const int *)b]);
}

ProtobufCBinaryData *draw_people(struct draw *d, const bool who[PEOPLE], size_t *out_count)
{
    int order[PEOPLE] = {0};
    size_t count = 0;
    ProtobufCBinaryData *first = &d->fields[d->field_count];
    for (int i = 0; i < PEOPLE; i++) {
        if (who[i]) {
            order[count++] = i;
        }
    }
    sorting = d->m;
    qsort(order, count, sizeof order[0], by_id);
    bool swap = count > 1 && draw_wrong();
    CHECK(d->field_count + (int)count <= DRAW_FIELDS);
    for (size_t i = 0; i < count; i++) {
        int person = swap && i < 2 ? order[1 - i] : order[i];
        first[i] = ledger_binary(d->m->ids[person].bytes, ACCOUNT_ID_SIZE);
    }
    d->field_count += (int)count;
    *out_count = count;
    return first;
}

int draw_recent(const struct draw *d, int count, bool (*fits)(const struct model *m, int at))
{
    int first = count > 30 ? count - 30 : 0;
    if (count == 0) {
        return NOBODY;
    }
    for (int i = 0; i < 12 && !draw_wrong(); i++) {
        int at = first + draw_to(count - first);
        if (fits == NULL || fits(d->m, at)) {
            return at;
        }
    }
    for (int at = count - 1; at >= first && draw_odds(90); at--) {
        if (fits == NULL || fits(d->m, at)) {
            return at;
        }
    }
    return first + draw_to(count - first);
}

/* ---- accounts ----------------------------------------------------------------------------------- */

static const int POOR[] = {WORLD_ALICE, WORLD_BOB, WORLD_TEAM, WORLD_DEV};

DRAW(open_account, OpenAccount)
{
    static const int CLOSED[] = {WORLD_ALICE, WORLD_BOB, SEQUENCER};
    int who = CLOSED[draw_to(3)];
    draw_sender(d, who);
    a->key = draw_key(d, draw_wrong() ? draw_to(KEYS) : d->call.sender);
    a->name = draw_text(d, "a name");
}

DRAW(rotate_key, RotateKey)
{
    int key = PEOPLE + draw_to(KEYS - PEOPLE);
    draw_sender(d, POOR[draw_to(4)]);
    if (d->call.sender == WORLD_GATEWAY || d->call.sender == WORLD_ATTRIBUTION) {
        draw_sender(d, WORLD_DEV); /* theirs sign batches in the harness, with their first keys */
    }
    key = d->call.sender == WORLD_GATEWAY || d->call.sender == WORLD_ATTRIBUTION ? d->call.sender
                                                                                 : key;
    a->key = draw_key(d, draw_wrong() ? d->call.signers[0].key : key);
    if (!draw_wrong()) {
        sign_too(d, d->call.sender, key);
    }
}

DRAW(transfer, Transfer)
{
    draw_sender(d, draw_odds(60) ? draw_to(WORLD_ALICE) : NOBODY);
    a->to = draw_person(d, draw_odds(50) ? POOR[draw_to(4)] : draw_to(PEOPLE));
    a->amount = draw_amount(d, 1, 30000);
}

DRAW(transfer_batch, TransferBatch)
{
    static uint8_t items[3 * 48];
    size_t count = draw_wrong() ? 0 : 1 + (size_t)draw_to(3);
    for (size_t i = 0; i < count; i++) {
        int to = (d->call.sender + 1 + draw_to(PEOPLE - 1)) % PEOPLE;
        memcpy(items + 48 * i, d->m->ids[draw_wrong() ? d->call.sender : to].bytes, 32);
        amount_to_bytes(amount_from_open(draw_wrong() ? 0 : 1 + (uint64_t)draw_to(1000)),
                        items + 48 * i + 32);
    }
    a->items = ledger_binary(items, count * 48 - (count > 0 && draw_wrong() ? 1 : 0));
}

DRAW(linked_transfers, LinkedTransfers)
{
    static Openledger__V1__LinkedTransfer items[3];
    static Openledger__V1__LinkedTransfer *pointers[3] = {&items[0], &items[1], &items[2]};
    int other = draw_to(PEOPLE);
    a->n_transfers = draw_wrong() ? 0 : 1 + (size_t)draw_to(3);
    a->transfers = pointers;
    for (size_t i = 0; i < a->n_transfers; i++) {
        openledger__v1__linked_transfer__init(&items[i]);
        int from = i == 1 ? other : d->call.sender;
        items[i].from = ledger_binary(d->m->ids[from].bytes, ACCOUNT_ID_SIZE);
        items[i].to = draw_person(d, (from + 1 + draw_to(PEOPLE - 1)) % PEOPLE);
        items[i].amount = draw_amount(d, 1, 5000);
    }
    if (a->n_transfers > 1 && d->m->key[other] != NOBODY && !draw_wrong()) {
        sign_too(d, other, d->m->key[other]);
    }
}

static bool hold_pending(const struct model *m, int at)
{
    return m->holds[at].pending;
}

DRAW(hold_transfer, HoldTransfer)
{
    a->to = draw_person(d, (d->call.sender + 1 + draw_to(PEOPLE - 1)) % PEOPLE);
    a->arbiter = draw_person(d, NOBODY);
    a->amount = draw_amount(d, 1, 500);
    a->expires_ms = draw_expiry(d, 100);
}

DRAW(post_transfer, PostTransfer)
{
    int at = draw_recent(d, d->m->hold_count, hold_pending);
    const struct model_hold *hold = at == NOBODY ? NULL : &d->m->holds[at];
    draw_sender(d, hold == NULL ? NOBODY : hold->arbiter);
    a->hold = draw_digest(d, hold == NULL ? NULL : &hold->id);
    a->amount = draw_odds(40) ? draw_text(d, "%s", "") : draw_amount(d, 1, 300);
}

DRAW(void_transfer, VoidTransfer)
{
    int at = draw_recent(d, d->m->hold_count, hold_pending);
    const struct model_hold *hold = at == NOBODY ? NULL : &d->m->holds[at];
    draw_sender(d, hold == NULL || draw_odds(40) ? NOBODY : hold->arbiter);
    a->hold = draw_digest(d, hold == NULL ? NULL : &hold->id);
}

/* ---- guardians ---------------------------------------------------------------------------------- */

DRAW(set_guardians, SetGuardians)
{
    bool who[PEOPLE] = {false};
    draw_sender(d, POOR[draw_to(4)]);
    for (int i = 0; i < 3; i++) {
        int other = draw_to(WORLD_ALICE);
        who[other == d->call.sender && !draw_wrong() ? WORLD_OWNER : other] = true;
    }
    if (draw_wrong()) {
        memset(who, 0, sizeof who);
    }
    a->guardians = draw_people(d, who, &a->n_guardians);
    a->threshold = draw_wrong() ? (uint32_t)draw_to(5) : a->n_guardians > 1 ? 2 : 1;
    a->delay_ms = draw_wrong() ? 3599999 : 3600000;
    if (a->n_guardians == 0 && draw_odds(80)) {
        a->threshold = 0;
        a->delay_ms = 0;
    }
}

static int guarded(const struct draw *d, bool approved)
{
    for (int i = 0; i < 10; i++) {
        int who = POOR[draw_to(4)];
        bool any = false;
        for (int k = 0; k < PEOPLE; k++) {
            any = any || d->m->guards[who].approved_ms[k] != 0;
        }
        if (d->m->guards[who].count > 0 && any >= approved) {
            return who;
        }
    }
    return POOR[draw_to(4)];
}

/* Of each account always the same one or two, so that approvals come together. */
static int recovered_key(const struct draw *d, int who)
{
    int key = PEOPLE + who % 3;
    return d->m->key[who] == key ? key + 3 : key;
}

DRAW(approve_recovery, ApproveRecovery)
{
    int who = guarded(d, false);
    int guard = NOBODY;
    for (int i = 0; i < 40 && guard == NOBODY; i++) {
        int other = draw_to(PEOPLE);
        guard = d->m->guards[who].guard[other] ? other : NOBODY;
    }
    draw_sender(d, guard);
    a->account = draw_person(d, who);
    a->key = draw_key(d, recovered_key(d, who));
}

DRAW(complete_recovery, CompleteRecovery)
{
    int who = guarded(d, true);
    int key = recovered_key(d, who);
    draw_sender(d, who);
    a->key = draw_key(d, key);
    if (d->call.sender == who && !draw_wrong()) {
        d->call.signers[0].key = key;
    }
}

DRAW(cancel_recovery, CancelRecovery)
{
    (void)a;
    draw_sender(d, draw_odds(30) ? guarded(d, true) : NOBODY);
}

/* ---- vesting and claims ------------------------------------------------------------------------- */

DRAW(claim_vested, ClaimVested)
{
    (void)a;
    draw_sender(d, WORLD_TEAM);
}

static const int CLAIMANTS[2] = {WORLD_ALICE, WORLD_BOB};
static const char *const CLAIM_AMOUNTS[2] = {"5", "7"};

static void claim_leaf(const struct draw *d, int number, struct digest *out)
{
    struct buf leaf;
    buf_init(&leaf, 256);
    CHECK(ledger_claim_leaf(&d->m->ids[CLAIMANTS[number]], CLAIM_AMOUNTS[number], &leaf) == ERR_OK);
    merkle_leaf(leaf.data, leaf.size, out);
    buf_deinit(&leaf);
}

DRAW(publish_claims, PublishClaims)
{
    struct digest leaves[2];
    struct merkle_head head;
    claim_leaf(d, 0, &leaves[0]);
    claim_leaf(d, 1, &leaves[1]);
    merkle_head((struct merkle_leaves){leaves, 2}, &head);
    a->root = draw_digest(d, &head.root);
    a->count = draw_wrong() ? 0 : 2;
    a->total = draw_odds(80) ? draw_text(d, "12") : draw_amount(d, 1, 9);
    a->expires_ms = draw_expiry(d, 60);
    a->title = draw_text(d, "claims");
}

static bool claims_open(const struct model *m, int at)
{
    return !m->claims[at].closed;
}

static bool claims_over(const struct model *m, int at)
{
    return !m->claims[at].closed && m->now_ms >= m->claims[at].expires_ms;
}

DRAW(claim, Claim)
{
    int at = draw_recent(d, d->m->claims_count, claims_open);
    int number = draw_to(2);
    struct digest sibling;
    claim_leaf(d, 1 - number, &sibling);
    draw_sender(d, CLAIMANTS[number]);
    a->claims = draw_digest(d, at == NOBODY ? NULL : &d->m->claims[at].id);
    a->number = draw_wrong() ? 1 - (uint32_t)number : (uint32_t)number;
    a->amount = draw_wrong() ? draw_amount(d, 1, 9) : draw_text(d, "%s", CLAIM_AMOUNTS[number]);
    a->path = draw_digest(d, &sibling);
}

DRAW(close_claims, CloseClaims)
{
    int at = draw_recent(d, d->m->claims_count, claims_over);
    a->claims = draw_digest(d, at == NOBODY ? NULL : &d->m->claims[at].id);
}
