/* attributions.c - see attributions.h. */
#include "tests/sim/attributions.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "services/attribution/attribution.h"
#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/tx.h"
#include "tests/sim/gateways.h"
#include "tests/sim/inside.h"

enum {
    ANSWERS_MAX = 256,
    PICK_MAX = 64, /* sets looked at for a batch */
    SET_SIZE = 512,
    REBATCH_MS = 1000, /* simulated for the service's ATTRIBUTION_REBATCH_MS */
    /* Once nothing fails any more, shares are on the ledger within this time from when they could be: the longest
     * pause between two publications, a restart of the gateway, and the way there. */
    IN_TIME_MS = 16 * REPUBLISH_MS + 1600
};

/* Which wrong a set has. */
enum fault { NONE, OTHER_INDEX, STRANGER, FAULTS };

/* What becomes of an answer: a function of its receipt, so that hearing it again changes nothing. */
enum plan { IN_TIME, LATE, NEVER, RIVAL, FALSE_FIRST };

struct answer {
    struct digest receipt;
    uint64_t charged_ms; /* 0: not on the ledger */
    uint64_t heard_ms;   /* 0: not yet */
    uint64_t ready_ms;   /* its shares are known; only if heard */
    bool begun;          /* rivals and false sets were published */
    uint32_t batch;      /* that carries its shares; 0: none */
    bool closed;         /* does not wait any more */
};

struct share_batch {
    uint64_t announced_ms;
    bool over;
};

static struct {
    struct answer answers[ANSWERS_MAX];
    size_t count;
    struct share_batch batches[WORK_TASKS_MAX]; /* number i + 1 */
    uint32_t batch_count;
    size_t next;             /* answer to be looked at next */
    uint64_t stream;         /* which of the bus's streams, since their disks were lost last */
    uint64_t lossy_until_ms; /* what is acknowledged before is lost too */
} self;

static struct answer *answer_find(const struct digest *receipt)
{
    size_t i = 0;
    while (i < self.count && !digest_equal(&self.answers[i].receipt, receipt)) {
        i++;
    }
    return i < self.count ? &self.answers[i] : NULL;
}

static struct answer *answer_of(const struct digest *receipt)
{
    struct answer *answer = answer_find(receipt);
    if (answer == NULL) {
        CHECK(self.count < ANSWERS_MAX);
        answer = &self.answers[self.count++];
        *answer = (struct answer){.receipt = *receipt};
    }
    return answer;
}

static enum plan plan_of(const struct digest *receipt)
{
    uint32_t what = receipt->bytes[0] * 100U / 256;
    return what < 60   ? IN_TIME
           : what < 70 ? LATE
           : what < 78 ? NEVER
           : what < 88 ? RIVAL
                       : FALSE_FIRST;
}

/* How long the shares take to be worked out. */
static uint64_t delay_of(const struct digest *receipt)
{
    uint64_t part = (uint64_t)receipt->bytes[1] * 256 + receipt->bytes[2];
    return plan_of(receipt) == LATE ? 2500 + part % 14000 : part % 300;
}

static uint32_t part_of(const struct digest *receipt)
{
    return (uint32_t)(1 + receipt->bytes[3] * (LEDGER_SHARE_TOTAL / 512));
}

/* ---- the way there ------------------------------------------------------------------------------ */

void attributions_start(void)
{
    memset(&self, 0, sizeof self);
}

void attributions_wipe(void)
{
    self.stream++;
    self.lossy_until_ms = sim.now_ms + sim_draw() % 2000;
}

void attributions_publish(struct bytes message)
{
    int copies = sim.healed || !sim_chance(sim.doubles) ? 1 : 2;
    sim.report->openings++;
    for (int i = 0; i < copies; i++) {
        bool lost = sim_chance(sim.loss) || sim.now_ms < self.lossy_until_ms;
        if (lost && !sim.healed) {
            sim.report->lost_openings++; /* acknowledged, and gone */
        } else {
            sim_push(
                (struct event){.kind = OPENING, .data = sim_copy(message), .life = self.stream},
                sim_delay());
        }
    }
}

void attributions_heard(struct bytes message, uint64_t stream)
{
    struct attribution_answer answer = {.message = NULL};
    struct note note = {""};
    if (stream != self.stream) {
        sim.report->lost_openings++;
        return;
    }
    bool dies = !sim.healed && sim_chance(80);
    bool before = sim_chance(500); /* before it is in the store, or before it is acknowledged */
    if (dies) {
        sim_push((struct event){.kind = OPENING, .data = sim_copy(message), .life = self.stream},
                 200 + sim_draw() % 1000);
        if (before) {
            return;
        }
    }
    if (attribution_answer_read(message, &answer, &note) != ERR_OK) {
        sim_fail("an opening does not open its receipt", 0, note.text);
        return;
    }
    struct answer *known = answer_of(&answer.receipt_id);
    if (known->heard_ms == 0) {
        known->heard_ms = sim.now_ms;
        known->ready_ms = sim.now_ms + delay_of(&known->receipt);
    }
    attribution_answer_deinit(&answer);
}

/* ---- batches ------------------------------------------------------------------------------------ */

static struct bytes set_pack(const struct digest *receipt, uint32_t alice_ppb, enum fault fault,
                             struct buf *out)
{
    const struct world *world = sim.work->world;
    enum world_who other = fault == STRANGER ? WORLD_TEAM : WORLD_BOB;
    uint32_t other_ppb = LEDGER_SHARE_TOTAL / 4;
    bool first = account_id_compare(&world->ids[WORLD_ALICE], &world->ids[other]) < 0;
    Openledger__V1__Share shares[2] = {OPENLEDGER__V1__SHARE__INIT, OPENLEDGER__V1__SHARE__INIT};
    Openledger__V1__Share *pointers[2] = {&shares[first ? 0 : 1], &shares[first ? 1 : 0]};
    shares[0].account = world_id_field(world, WORLD_ALICE);
    shares[0].share_ppb = alice_ppb;
    shares[0].influence_ppb = alice_ppb;
    shares[1].account = world_id_field(world, other);
    shares[1].share_ppb = other_ppb;
    shares[1].span_ppb = other_ppb;
    Openledger__V1__ShareSet set = OPENLEDGER__V1__SHARE_SET__INIT;
    struct digest index = world->files;
    struct digest id = *receipt;
    index.bytes[0] ^= fault == OTHER_INDEX ? 1 : 0;
    set.receipt = ledger_binary(id.bytes, DIGEST_SIZE);
    set.n_shares = 2;
    set.shares = pointers;
    set.unearned_ppb = LEDGER_SHARE_TOTAL - alice_ppb - other_ppb;
    set.index = ledger_binary(index.bytes, DIGEST_SIZE);
    size_t begin = out->size;
    CHECK(ledger_pack(&set.base, out) == ERR_OK);
    return bytes_of(out->data + begin, out->size - begin);
}

/* Signs and announces a batch; its bytes arrive a little later. False: no room for its transaction. */
static bool announce(const struct digest *first, const struct bytes *sets, size_t count,
                     enum fault fault)
{
    struct digest digest;
    struct ledger_head head;
    struct buf out;
    buf_init(&out, LEDGER_BATCH_BLOB_MAX);
    ledger_head(sim.work->world->ledger, &head);
    const struct ledger_share_batch batch = {.chain_id = &head.chain_id,
                                             .account = &sim.work->world->ids[WORLD_ATTRIBUTION],
                                             .sets = sets,
                                             .count = count};
    CHECK(ledger_share_batch_sign(&batch, sim.work->world->keys[WORLD_ATTRIBUTION], &out) ==
          ERR_OK);
    sha256(buf_bytes(&out), &digest);
    Openledger__V1__SettleShares settle = OPENLEDGER__V1__SETTLE_SHARES__INIT;
    settle.batch = ledger_binary(digest.bytes, DIGEST_SIZE);
    WORLD_ACTION(body, SETTLE_SHARES, settle_shares, &settle);
    struct work_task *task = work_make(sim.work, fault == NONE ? WORK_SHARE : WORK_FALSE,
                                       WORLD_SERVICE, sim_draw(), &body);
    if (task != NULL) {
        task->blob = digest;
        task->receipt = *first;
        sim_push((struct event){.kind = BLOB, .data = sim_copy(buf_bytes(&out))}, sim_draw() % 300);
    }
    buf_deinit(&out);
    return task != NULL;
}

/* One set by itself, beside the good one. */
static void announce_other(const struct answer *answer, uint32_t part, enum fault fault)
{
    struct buf item;
    buf_init(&item, SET_SIZE);
    struct bytes set = set_pack(&answer->receipt, part, fault, &item);
    (void)announce(&answer->receipt, &set, 1, fault);
    buf_deinit(&item);
}

static enum attribution_standing standing_of(const struct digest *receipt)
{
    const struct ledger_receipt *record = ledger_receipt(sim.truth.witness, receipt);
    return record == NULL ? ATTRIBUTION_UNKNOWN
                          : (record->waiting ? ATTRIBUTION_WAITING : ATTRIBUTION_CLOSED);
}

static bool pending(const struct answer *answer)
{
    return answer->heard_ms != 0 && answer->ready_ms <= sim.now_ms && answer->batch == 0 &&
           !answer->closed && plan_of(&answer->receipt) != NEVER;
}

/* The next sets, round and round: those whose receipts wait go into a batch, closed ones are put away. */
static void batch_make(void)
{
    struct answer *looked[PICK_MAX] = {NULL};
    enum attribution_standing standings[PICK_MAX] = {ATTRIBUTION_UNKNOWN};
    struct bytes sets[PICK_MAX] = {{0}};
    size_t sizes[PICK_MAX];
    uint32_t ready[PICK_MAX];
    uint32_t count = 0;
    uint32_t ready_count = 0;
    struct buf items;
    buf_init(&items, (size_t)PICK_MAX * SET_SIZE);
    CHECK(buf_reserve(&items, (size_t)PICK_MAX * SET_SIZE) !=
          NULL); /* so that sets stay in place */
    for (size_t i = 0; i < self.count && count < PICK_MAX; i++) {
        struct answer *answer = &self.answers[(self.next + i) % self.count];
        if (pending(answer)) {
            struct bytes set = set_pack(&answer->receipt, part_of(&answer->receipt), NONE, &items);
            standings[count] = standing_of(&answer->receipt);
            sets[count] = set;
            sizes[count] = set.size;
            looked[count++] = answer;
        }
    }
    uint32_t seen = attribution_batch_pick(standings, sizes, count, ready, &ready_count);
    CHECK(seen <= count);
    for (uint32_t i = 0; i < seen; i++) {
        looked[i]->closed = standings[i] == ATTRIBUTION_CLOSED;
    }
    struct bytes picked[PICK_MAX];
    for (uint32_t i = 0; i < ready_count; i++) {
        struct answer *answer = looked[ready[i]];
        enum plan plan = plan_of(&answer->receipt);
        picked[i] = sets[ready[i]];
        if (!answer->begun && plan == RIVAL) {
            announce_other(answer, part_of(&answer->receipt) / 2 + 1, NONE);
        } else if (!answer->begun && plan == FALSE_FIRST) {
            announce_other(answer, part_of(&answer->receipt),
                           (enum fault)(1 + sim_draw() % (FAULTS - 1)));
        }
        answer->begun = true;
    }
    if (ready_count > 0 && self.batch_count < WORK_TASKS_MAX &&
        announce(&looked[ready[0]]->receipt, picked, ready_count, NONE)) {
        self.batches[self.batch_count++] = (struct share_batch){.announced_ms = sim.now_ms};
        for (uint32_t i = 0; i < ready_count; i++) {
            looked[ready[i]]->batch = self.batch_count;
        }
    }
    self.next = self.count == 0 ? 0 : (self.next + seen) % self.count;
    buf_deinit(&items);
}

/* A batch that is over is taken apart: what still waits is pending again. */
static void follow_up(uint32_t number)
{
    struct share_batch *batch = &self.batches[number - 1];
    uint32_t closed = 0;
    for (size_t i = 0; i < self.count; i++) {
        closed += self.answers[i].batch == number &&
                          standing_of(&self.answers[i].receipt) == ATTRIBUTION_CLOSED
                      ? 1
                      : 0;
    }
    uint64_t age_ms = sim.now_ms - batch->announced_ms;
    batch->over = attribution_batch_over(closed, age_ms * (ATTRIBUTION_REBATCH_MS / REBATCH_MS));
    for (size_t i = 0; batch->over && i < self.count; i++) {
        struct answer *answer = &self.answers[i];
        if (answer->batch == number) {
            answer->batch = 0;
            answer->closed = standing_of(&answer->receipt) == ATTRIBUTION_CLOSED;
        }
    }
}

void attributions_step(void)
{
    if (!sim.healed && !sim_chance(300)) {
        return;
    }
    batch_make();
    for (uint32_t number = 1; number <= self.batch_count; number++) {
        if (!self.batches[number - 1].over) {
            follow_up(number);
        }
    }
}

/* ---- what the ledger shows ---------------------------------------------------------------------- */

void attributions_charged(const struct ledger_effects *effects, size_t task)
{
    for (size_t i = 0; sim.work->tasks[task].kind == WORK_CHARGE && i < effects->receipt_count;
         i++) {
        const struct ledger_receipt *record =
            ledger_receipt(sim.truth.witness, &effects->receipts[i]);
        if (record != NULL && record->waiting) {
            answer_of(&record->id)->charged_ms = sim.now_ms;
        }
    }
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

void attributions_overdue(const struct digest *receipt)
{
    const struct answer *answer = answer_find(receipt);
    if (answer == NULL || !sim.healed || plan_of(receipt) == NEVER ||
        (answer->heard_ms != 0 && answer->ready_ms > sim.now_ms)) {
        return; /* brought by a client, or with a reason */
    }
    uint64_t since = later(sim.healed_ms, answer->charged_ms);
    since = answer->heard_ms == 0 ? since : later(since, answer->ready_ms);
    if (sim.now_ms - since > IN_TIME_MS) {
        char text[96];
        (void)snprintf(text, sizeof text, "%s, could be shared for %" PRIu64 " ms",
                       answer->heard_ms == 0 ? "its opening never came" : "its opening came",
                       sim.now_ms - since);
        sim_fail("a part went to the treasury", 0, text);
    }
}
