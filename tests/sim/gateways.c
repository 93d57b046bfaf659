/* gateways.c - see gateways.h. */
#include "tests/sim/gateways.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"
#include "tests/sim/actors.h"
#include "tests/sim/attributions.h"
#include "tests/sim/disk.h"
#include "tests/sim/inside.h"
#include "tests/sim/openings.h"

enum {
    FIRST_DISK = 6,
    OPENINGS_MIN = 4, /* also when faults kept it from work for most of it */
    SLOTS_MAX = 4,    /* answers at a time */
    GONE_MS = 30000   /* bytes that come after their grant was closed */
};

static const char PRICE_MAX[] = "0.05"; /* of 10 and 20 tokens at 0.001 and 0.002 OPEN */
static const char LEASE_AMOUNT[] = "0.5";

struct actor actors[ACTORS];

static uint64_t clock_now(void)
{
    return sim.work->world->now_ms + sim.now_ms + WORK_CLOCK_MS;
}

/* ---- records ------------------------------------------------------------------------------------ */

void actor_wrong(const struct actor *actor, const char *what, const struct note *note)
{
    sim_fail(what, actor->disk, note->text);
}

const struct ledger_grant *actor_grant(const struct digest *id)
{
    return ledger_grant(sim.truth.witness, id);
}

/* As the desk: appended, then applied. Not on disk yet. */
static enum err record(struct actor *actor, Openledger__V1__GatewayRecord *message)
{
    struct note note = {""};
    struct buf data;
    uint64_t index = 0;
    buf_init(&data, JOURNAL_RECORD_MAX);
    enum err err = ledger_pack(&message->base, &data);
    err = err ? err : journal_append(actor->journal, buf_bytes(&data), &index, &note);
    buf_deinit(&data);
    if (err == ERR_OK) {
        err = gateway_apply(actor->gateway, message, &note);
        if (err != ERR_OK) {
            actor_wrong(actor, "a gateway's own record does not follow", &note);
        }
    }
    return err;
}

static enum err replay(void *argument, uint64_t index, struct bytes data)
{
    struct actor *actor = argument;
    (void)index;
    Openledger__V1__GatewayRecord *message =
        openledger__v1__gateway_record__unpack(NULL, data.size, data.data);
    enum err err = message == NULL ? ERR_CORRUPT : gateway_apply(actor->gateway, message, NULL);
    openledger__v1__gateway_record__free_unpacked(message, NULL);
    return err;
}

/* A receipt for an opening: what was served, with what attribution must know of it, or a void. */
static enum err finish(struct actor *actor, const struct gateway_opening *opening, bool served,
                       const char *reason)
{
    uint32_t tokens = (uint32_t)(sim_draw() % (OPENING_ANSWER_TOKENS_MAX + 1));
    struct gateway_outcome outcome = {.served = served,
                                      .prompt_tokens = served ? OPENING_PROMPT_TOKENS : 0,
                                      .completion_tokens = served ? tokens : 0,
                                      .fee = AMOUNT_ZERO,
                                      .finished_ms = clock_now(),
                                      .finish_reason = reason};
    openings_answer(opening->request_id, tokens, &outcome.answer_commitment);
    if (served) {
        struct amount prompt;
        struct amount completion;
        CHECK(amount_parse("0.001", &prompt) == ERR_OK);
        CHECK(amount_parse("0.002", &completion) == ERR_OK);
        CHECK(ledger_fee(prompt, completion, OPENING_PROMPT_TOKENS, tokens, &outcome.fee) ==
              ERR_OK);
    }
    struct buf receipt;
    struct buf opened;
    buf_init(&receipt, GATEWAY_RECEIPT_MAX);
    buf_init(&opened, OPENING_SIZE_MAX);
    CHECK(gateway_receipt_write(actor->gateway, opening, &outcome, &receipt) == ERR_OK);
    if (served) {
        openings_pack(opening->request_id, tokens, buf_bytes(&receipt), &opened);
    }
    Openledger__V1__GatewayFinished finished = OPENLEDGER__V1__GATEWAY_FINISHED__INIT;
    finished.receipt = ledger_binary(receipt.data, receipt.size);
    finished.opening = ledger_binary(opened.data, opened.size);
    Openledger__V1__GatewayRecord message = OPENLEDGER__V1__GATEWAY_RECORD__INIT;
    message.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_FINISHED;
    message.finished = &finished;
    enum err err = record(actor, &message);
    buf_deinit(&receipt);
    buf_deinit(&opened);
    return err;
}

/* ---- life and death ----------------------------------------------------------------------------- */

static void die(struct actor *actor)
{
    journal_close(actor->journal);
    gateway_destroy(actor->gateway);
    unsettled_destroy(actor->unsettled);
    actor->journal = NULL;
    actor->gateway = NULL;
    actor->unsettled = NULL;
    if (sim_chance(500)) {
        disk_power_cut(actor->disk);
        sim.report->power_cuts++;
    } else {
        disk_kill(actor->disk);
    }
    sim.report->gateway_deaths++;
    actor->restart_ms = sim.now_ms + 30 + sim_draw() % 1200;
    sim_trace("gateway %u dies", actor->disk);
}

/* Every opening that has no receipt becomes a void: its reader is gone. */
static void begin(struct actor *actor)
{
    char folder[16];
    struct note note = {""};
    (void)snprintf(folder, sizeof folder, "sim:%u", actor->disk);
    const struct journal_options options = {.folder = folder, .segment_size = SEGMENT_SIZE};
    actor->gateway = gateway_create();
    CHECK(actor->gateway != NULL);
    if (sim_chance(300)) { /* its index is lost: whoever hears it all again knows it */
        actor->outbox = 0;
        actor->settled = 0;
    }
    actor->unsettled = unsettled_create(actor->settled, REPUBLISH_MS);
    CHECK(actor->unsettled != NULL);
    enum err err = journal_open(&options, &actor->journal, &note);
    if (err == ERR_OK) {
        err = journal_each(actor->journal, 0, replay, actor, &note);
    }
    if (err != ERR_OK && !disk_dead(actor->disk)) {
        actor_wrong(actor, "a gateway cannot go on from its journal", &note);
    }
    while (err == ERR_OK && gateway_opening_count(actor->gateway) > 0) {
        err = finish(actor, gateway_opening_at(actor->gateway, 0), false, "restart");
    }
    err = err ? err : journal_sync(actor->journal, &note);
    sim_trace("gateway %u begins: %s", actor->disk, err_name(err));
    if (err != ERR_OK) {
        die(actor);
    }
}

/* ---- leases ------------------------------------------------------------------------------------- */

/* An OpenLease that is on the ledger makes the lease ours, if our journal knows the transaction. */
static void leases_see(struct actor *actor)
{
    for (size_t i = sim.work->fixed_count; i < sim.work->count; i++) {
        const struct work_task *task = &sim.work->tasks[i];
        if (task->kind == WORK_LEASE && sim.truth.placed[i] != 0) {
            (void)gateway_lease_confirm(actor->gateway, &task->grant, task->lease, &task->id);
        }
    }
}

static enum err lease_ask(struct actor *actor, const struct digest *id)
{
    const struct ledger_grant *grant = actor_grant(id);
    struct note note = {""};
    if (grant == NULL || sim.now_ms < actor->lease_ms || clock_now() >= grant->expires_ms) {
        return ERR_OK;
    }
    const struct gateway_lease *newest = gateway_lease_newest(actor->gateway, id);
    if (newest != NULL && newest->lease > grant->lease_count && newest->next_number != 1) {
        return ERR_OK;
    }
    actor->lease_ms = sim.now_ms + 400;
    Openledger__V1__OpenLease open = OPENLEDGER__V1__OPEN_LEASE__INIT;
    open.grant = ledger_binary(id->bytes, DIGEST_SIZE);
    open.lease = grant->lease_count + 1;
    open.amount = world_text(LEASE_AMOUNT);
    WORLD_ACTION(body, OPEN_LEASE, open_lease, &open);
    struct work_task *task = work_make(sim.work, WORK_LEASE, WORLD_GATEWAY, sim_draw(), &body);
    if (task == NULL) {
        return ERR_OK;
    }
    task->grant = *id;
    task->lease = open.lease;
    Openledger__V1__GatewayLease lease = OPENLEDGER__V1__GATEWAY_LEASE__INIT;
    lease.grant = open.grant;
    lease.lease = open.lease;
    lease.amount = open.amount;
    lease.tx = ledger_binary(task->id.bytes, DIGEST_SIZE);
    Openledger__V1__GatewayRecord message = OPENLEDGER__V1__GATEWAY_RECORD__INIT;
    message.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_LEASE;
    message.lease = &lease;
    sim.tasks[sim.work->count - 1].held = true; /* until it is on our disk */
    enum err err = record(actor, &message);
    err = err ? err : journal_sync(actor->journal, &note);
    sim.tasks[sim.work->count - 1].held = err != ERR_OK;
    return err;
}

/* ---- answers ------------------------------------------------------------------------------------ */

static enum err open_one(struct actor *actor, const struct digest *grant, uint32_t lease)
{
    static const uint8_t profile[DIGEST_SIZE] = {0x3d};
    struct seen *seen = &actor->seen[actor->seen_count];
    struct note note = {""};
    *seen = (struct seen){.request_id = {(uint8_t)actor->disk, (uint8_t)++actor->begun}};
    Openledger__V1__GatewayOpened opened = OPENLEDGER__V1__GATEWAY_OPENED__INIT;
    opened.request_id = ledger_binary(seen->request_id, sizeof seen->request_id);
    opened.grant = ledger_binary(grant->bytes, DIGEST_SIZE);
    opened.lease = lease;
    opened.price_max = world_text(PRICE_MAX);
    opened.adapter = world_text("adapter");
    opened.opened_ms = clock_now();
    struct digest prompt;
    struct digest empty;
    openings_prompt(seen->request_id, &prompt);
    openings_answer(seen->request_id, 0, &empty);
    opened.prompt_commitment = ledger_binary(prompt.bytes, DIGEST_SIZE);
    opened.empty_commitment = ledger_binary(empty.bytes, DIGEST_SIZE);
    opened.profile = ledger_binary((uint8_t *)(uintptr_t)profile, sizeof profile);
    Openledger__V1__GatewayRecord message = OPENLEDGER__V1__GATEWAY_RECORD__INIT;
    message.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_OPENED;
    message.opened = &opened;
    enum err err = record(actor, &message);
    err = err ? err : journal_sync(actor->journal, &note);
    actor->seen_count += err == ERR_OK ? 1 : 0; /* the first token goes out */
    return err;
}

static enum err answers(struct actor *actor)
{
    const struct digest *grant = &sim.work->grants[sim_draw() % WORK_GRANTS];
    struct amount price;
    enum err err = ERR_OK;
    CHECK(amount_parse(PRICE_MAX, &price) == ERR_OK);
    const struct ledger_grant *known = actor_grant(grant);
    uint32_t wanted = sim.healed ? OPENINGS_MIN : OPENINGS_MAX;
    if (known != NULL && actor->begun < wanted &&
        gateway_opening_count(actor->gateway) < SLOTS_MAX && sim_chance(600)) {
        const struct gateway_lease *lease = gateway_lease_for(actor->gateway, grant, price);
        if (lease == NULL) {
            err = lease_ask(actor, grant);
        } else if (clock_now() < known->expires_ms) {
            err = open_one(actor, grant, lease->lease);
        }
    }
    size_t open = gateway_opening_count(actor->gateway);
    if (err == ERR_OK && open > 0 && (sim.healed || sim_chance(200))) {
        struct note note = {""};
        bool served = sim_chance(800);
        err = finish(actor, gateway_opening_at(actor->gateway, sim_draw() % open), served,
                     served ? "stop" : "cancelled");
        err = err ? err : journal_sync(actor->journal, &note);
    }
    return err;
}

/* ---- batches ------------------------------------------------------------------------------------ */

static enum err batch_make(struct actor *actor)
{
    struct gateway_pending pending;
    struct ledger_head head;
    size_t cursor = 0;
    enum err err = ERR_OK;
    ledger_head(sim.work->world->ledger, &head);
    while (err == ERR_OK && gateway_pending_next(actor->gateway, 1, &cursor, &pending)) {
        const struct ledger_receipt_batch batch = {.chain_id = &head.chain_id,
                                                   .gateway = &sim.work->world->ids[WORLD_GATEWAY],
                                                   .grant = &pending.lease->grant,
                                                   .lease = pending.lease->lease,
                                                   .first_number = pending.first_number,
                                                   .receipts = pending.receipts,
                                                   .count = pending.count};
        struct buf data;
        buf_init(&data, JOURNAL_RECORD_MAX);
        CHECK(ledger_receipt_batch_sign(&batch, sim.work->world->keys[WORLD_GATEWAY], &data) ==
              ERR_OK);
        Openledger__V1__GatewayBatch made = OPENLEDGER__V1__GATEWAY_BATCH__INIT;
        made.batch = ledger_binary(data.data, data.size);
        Openledger__V1__GatewayRecord message = OPENLEDGER__V1__GATEWAY_RECORD__INIT;
        message.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_BATCH;
        message.batch = &made;
        err = record(actor, &message);
        buf_deinit(&data);
    }
    struct note note = {""};
    return err ? err : journal_sync(actor->journal, &note);
}

/* Is it in the stream already, and known to it by its id? */
static bool in_stream(const struct digest *blob)
{
    for (size_t i = sim.work->fixed_count; i < sim.work->count; i++) {
        if (sim.work->tasks[i].kind == WORK_CHARGE && !sim.tasks[i].done &&
            digest_equal(&sim.work->tasks[i].blob, blob)) {
            return true;
        }
    }
    return false;
}

/* The streams lose their disks: no feeder sees any more what it has not submitted with success, and openings on
 * their way do not arrive. */
static void stream_wipe(void)
{
    for (size_t i = sim.work->fixed_count; i < sim.work->count; i++) {
        sim.tasks[i].done = sim.tasks[i].done || sim.work->tasks[i].kind != WORK_LEASE;
    }
    attributions_wipe();
    sim_trace("the streams are wiped");
}

/* Its bytes are on their way, perhaps for long; a feeder submits it. */
static bool batch_publish(struct bytes data)
{
    struct digest digest;
    sha256(data, &digest);
    if (in_stream(&digest) && sim_chance(700)) {
        return true; /* ids are not remembered for ever */
    }
    Openledger__V1__ReceiptBatch *batch =
        openledger__v1__receipt_batch__unpack(NULL, data.size, data.data);
    CHECK(batch != NULL);
    CHECK(batch->n_receipts > 0);
    Openledger__V1__SettleReceipts settle = OPENLEDGER__V1__SETTLE_RECEIPTS__INIT;
    settle.batch = ledger_binary(digest.bytes, DIGEST_SIZE);
    WORLD_ACTION(body, SETTLE_RECEIPTS, settle_receipts, &settle);
    struct work_task *task = work_make(sim.work, WORK_CHARGE, WORLD_SERVICE, sim_draw(), &body);
    if (task != NULL) {
        task->blob = digest;
        CHECK(digest_from_bytes(ledger_bytes(batch->grant), &task->grant) == ERR_OK);
        ledger_receipt_id(ledger_bytes(batch->receipts[0]), &task->receipt);
        bool lost = digest_equal(&task->grant, &sim.work->grants[1]) && sim_chance(60);
        uint64_t late = sim_draw() % (sim.healed || sim_chance(700) ? 200 : 2500);
        sim_push((struct event){.kind = BLOB, .data = sim_copy(data)}, lost ? GONE_MS : late);
    }
    openledger__v1__receipt_batch__free_unpacked(batch, NULL);
    return task != NULL;
}

static Openledger__V1__GatewayRecord *record_read(struct actor *actor, uint64_t index)
{
    struct buf data;
    buf_init(&data, JOURNAL_RECORD_MAX);
    enum err err = journal_read(actor->journal, index, &data, NULL);
    Openledger__V1__GatewayRecord *message =
        err ? NULL : openledger__v1__gateway_record__unpack(NULL, data.size, data.data);
    CHECK(message != NULL || disk_dead(actor->disk));
    buf_deinit(&data);
    return message;
}

static void answer_publish(const Openledger__V1__GatewayFinished *finished)
{
    struct buf data;
    buf_init(&data, OPENING_SIZE_MAX);
    openings_message(finished, &data);
    attributions_publish(buf_bytes(&data));
    buf_deinit(&data);
}

/* As publish.c: batches, and the openings of what was served. False: not now. */
static bool record_publish(void *argument, uint64_t index)
{
    Openledger__V1__GatewayRecord *message = record_read(argument, index);
    bool good = message != NULL;
    if (good && message->content_case == OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_BATCH) {
        good = batch_publish(ledger_bytes(message->batch->batch));
    } else if (good && message->content_case == OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_FINISHED &&
               message->finished->opening.len > 0) {
        answer_publish(message->finished);
    }
    openledger__v1__gateway_record__free_unpacked(message, NULL);
    return good;
}

/* What is on disk goes out in order; after a lost index from the beginning: whoever hears it knows it. */
static void outbox(struct actor *actor)
{
    while (actor->outbox < journal_synced_count(actor->journal) &&
           record_publish(actor, actor->outbox)) {
        actor->outbox++;
    }
}

/* And again while the ledger does not show it. */
static void outbox_watch(struct actor *actor)
{
    while (unsettled_next(actor->unsettled) < actor->outbox) {
        Openledger__V1__GatewayRecord *message =
            record_read(actor, unsettled_next(actor->unsettled));
        if (message == NULL) {
            return;
        }
        CHECK(unsettled_add(actor->unsettled, message, sim.now_ms, NULL) == ERR_OK);
        openledger__v1__gateway_record__free_unpacked(message, NULL);
    }
    (void)unsettled_look(actor->unsettled, sim.truth.witness, sim.now_ms, record_publish, actor);
    actor->settled = unsettled_floor(actor->unsettled);
}

/* ---- steps -------------------------------------------------------------------------------------- */

static void step(struct actor *actor)
{
    if (actor->journal == NULL) {
        if (sim.now_ms >= actor->restart_ms) {
            begin(actor);
        }
        return;
    }
    if (!sim.healed && sim_chance(15)) { /* in the middle of something */
        disk_die_after(actor->disk, (uint32_t)(sim_draw() % 12));
    }
    leases_see(actor);
    enum err err = answers(actor);
    if (err == ERR_OK && (sim.healed || sim_chance(60))) {
        err = batch_make(actor);
    }
    if (err == ERR_OK) {
        outbox(actor);
        outbox_watch(actor);
    }
    if (err != ERR_OK || disk_dead(actor->disk)) {
        die(actor);
    }
}

void gateways_start(void)
{
    memset(actors, 0, sizeof actors);
    for (uint32_t i = 0; i < ACTORS; i++) {
        actors[i].disk = FIRST_DISK + i;
    }
    attributions_start();
}

void gateways_step(void)
{
    if (!sim.healed && sim_chance(12)) {
        stream_wipe();
    }
    for (uint32_t i = 0; i < ACTORS; i++) {
        step(&actors[i]);
    }
    attributions_step();
}

static bool settled(const struct work_task *task)
{
    return truth_charged(&sim.truth, &task->receipt) || actor_grant(&task->grant)->closed;
}

bool gateways_done(void)
{
    for (uint32_t i = 0; i < ACTORS; i++) {
        struct gateway_pending pending;
        size_t cursor = 0;
        const struct actor *actor = &actors[i];
        if (actor->journal == NULL || actor->begun < OPENINGS_MIN ||
            gateway_opening_count(actor->gateway) > 0 ||
            gateway_pending_next(actor->gateway, 1, &cursor, &pending) ||
            actor->outbox < journal_count(actor->journal) ||
            unsettled_floor(actor->unsettled) < actor->outbox) {
            return false;
        }
    }
    for (size_t i = sim.work->fixed_count; i < sim.work->count; i++) {
        if (sim.work->tasks[i].kind == WORK_CHARGE && !settled(&sim.work->tasks[i])) {
            return false;
        }
    }
    const struct ledger_grant *brief = actor_grant(&sim.work->grants[1]);
    return brief == NULL || brief->closed;
}

/* ---- the end ------------------------------------------------------------------------------------ */

void gateways_end(void)
{
    for (uint32_t i = 0; i < ACTORS; i++) {
        journal_close(actors[i].journal);
        gateway_destroy(actors[i].gateway);
        unsettled_destroy(actors[i].unsettled);
    }
    memset(actors, 0, sizeof actors);
}
