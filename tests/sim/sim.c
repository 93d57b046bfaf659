/* sim.c - see sim.h: the bus, faults, clients and the run. Time is simulated milliseconds. */
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/platform/file.h"
#include "tests/sim/attributions.h"
#include "tests/sim/disk.h"
#include "tests/sim/gateways.h"
#include "tests/sim/inside.h"
#include "tests/sim/witnesses.h"

struct sim sim;

uint64_t sim_draw(void) /* splitmix64 */
{
    uint64_t z = (sim.rng += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

bool sim_chance(uint32_t per_mille)
{
    return sim_draw() % 1000 < per_mille;
}

void sim_trace(const char *format, ...)
{
    if (sim.trace) {
        va_list arguments;
        va_start(arguments, format);
        printf("%6" PRIu64 " ", sim.now_ms);
        (void)vprintf(format, arguments);
        (void)putchar('\n');
        va_end(arguments);
    }
}

void sim_fail(const char *what, uint32_t node, const char *note)
{
    if (sim.report->failure[0] == '\0') {
        (void)snprintf(sim.report->failure, sizeof sim.report->failure, "%s: node %u: %s", what,
                       node, note);
    }
}

/* ---- events ------------------------------------------------------------------------------------- */

void sim_push(struct event event, uint64_t delay_ms)
{
    event.at_ms = sim.now_ms + delay_ms;
    events_push(&sim.events, &event);
}

uint64_t sim_delay(void)
{
    if (!sim.healed && sim_chance(sim.slow)) {
        return 50 + sim_draw() % 1500;
    }
    return 1 + sim_draw() % 8;
}

/* Through the bus: lost, doubled, late; nothing reaches or leaves who is cut off. */
bool sim_lost(uint32_t a, uint32_t b)
{
    bool cut =
        sim.node[a].cut_off_until_ms > sim.now_ms || sim.node[b].cut_off_until_ms > sim.now_ms;
    bool is = !sim.healed && (cut || sim_chance(sim.loss));
    sim.report->lost_messages += is ? 1 : 0;
    return is;
}

struct bytes sim_copy(struct bytes bytes)
{
    uint8_t *data = malloc(bytes.size + 1);
    CHECK(data != NULL);
    memcpy(data, bytes.data, bytes.size);
    return bytes_of(data, bytes.size);
}

void sim_drop(struct bytes bytes)
{
    free((void *)(uintptr_t)bytes.data);
}

/* ---- faults ------------------------------------------------------------------------------------- */

/* May this node lose its disk? Only when all others are full members and hold what is final: a majority
 * must keep its disks. */
static bool may_lose_disk(uint32_t id)
{
    if (sim.nodes < 3 || sim.truth.count == 0) {
        return false;
    }
    for (uint32_t r = 1; r <= sim.nodes; r++) {
        const struct node *node = &sim.node[r];
        if (r != id && (!node->up || node->replica == NULL || node->broken || node->flipped ||
                        !replica_epoch(node->replica)->promise.full ||
                        !replica_epoch(node->replica)->promise.formed)) {
            return false;
        }
    }
    return true;
}

static void fault(void)
{
    struct node *node = &sim.node[1 + sim_draw() % sim.nodes];
    uint64_t what = sim_draw() % 100;
    if (what < 15) {
        node->cut_off_until_ms = sim.now_ms + 100 + sim_draw() % 2500;
        sim_trace("node %u is cut off", node->id);
    } else if (what < 20) {
        sim.claim_epoch = sim.claim_before; /* the stream's tail is lost */
    } else if (what < 30) {
        node->skew_ms += (int64_t)(sim_draw() % 20000) - 10000;
        node->skew_ms = node->skew_ms > 30000    ? 30000
                        : node->skew_ms < -30000 ? -30000
                                                 : node->skew_ms;
    } else if (!node->up || node->replica == NULL) {
        return;
    } else if (what < 45) {
        sim_trace("node %u killed", node->id);
        node_stop(node);
        sim.report->kills++;
        disk_kill(node->id);
        if (sim_chance(200)) {
            node_index_remove(node);
        }
        node_bury(node, 50 + sim_draw() % 1500);
    } else if (what < 55) {
        sim_trace("node %u loses power", node->id);
        node_stop(node);
        sim.report->power_cuts++;
        disk_power_cut(node->id);
        node_bury(node, 50 + sim_draw() % 1500);
    } else if (what < 70) {
        disk_die_after(node->id, (uint32_t)(sim_draw() % 40)); /* in the middle of something */
    } else if (what < 73) {
        disk_full(node->id, true);
    } else if (what < 76 && may_lose_disk(node->id)) {
        sim_trace("node %u loses its disk", node->id);
        node_stop(node);
        sim.report->wipes++;
        disk_wipe(node->id);
        node_index_remove(node);
        node_bury(node, 50 + sim_draw() % 500);
    } else if (what < 79 && may_lose_disk(node->id) && disk_flip(node->id)) {
        sim_trace("node %u has a flipped bit", node->id);
        sim.report->flips++;
        node->flipped = true;
        node_stop(node);
        disk_kill(node->id);
        node_bury(node, 50);
    }
}

/* ---- clients ------------------------------------------------------------------------------------ */

static bool may_begin(size_t task)
{
    if (task < sim.work->setup_count) {
        return task == 0 || sim.tasks[task - 1].done;
    }
    return sim.tasks[sim.work->setup_count - 1].done;
}

/* Of a batch's two submissions one is enough; shares may come too late. */
static bool must_end(size_t task)
{
    return sim.work->tasks[task].kind == WORK_SETUP ||
           sim.work->tasks[task].kind == WORK_TRANSFER ||
           (sim.work->tasks[task].kind == WORK_GRANT && sim.work->tasks[task].batch == 0);
}

/* What its twin achieved, or what came too late, is not tried for ever. */
static bool pointless(size_t task)
{
    const struct work_task *work = &sim.work->tasks[task];
    uint32_t tries = sim.tasks[task].tries;
    const struct ledger_grant *grant = NULL;
    switch (work->kind) {
    case WORK_SETUP:
    case WORK_TRANSFER:
        return false;
    case WORK_RECEIPTS:
        return sim.truth.charged[work->batch][0];
    case WORK_GRANT:
        return work->batch == 1 && tries > 12;
    case WORK_CHARGE:
        grant = ledger_grant(sim.truth.witness, &work->grant);
        return truth_charged(&sim.truth, &work->receipt) || (grant != NULL && grant->closed);
    case WORK_CLOSE:
        return ledger_grant(sim.truth.witness, &sim.work->grants[1]) == NULL && sim.healed &&
               tries > 12; /* it never began */
    case WORK_LEASE:
        return sim.tasks[task].held || tries > 5;
    case WORK_SHARES:
    case WORK_SHARE:
    case WORK_FALSE:
        return tries > 12;
    }
    return false;
}

static void clients(void)
{
    uint32_t active = 0;
    for (size_t i = 0; i < sim.work->count; i++) {
        struct task *task = &sim.tasks[i];
        bool own = i >= sim.work->fixed_count || sim.work->tasks[i].kind == WORK_CLOSE;
        if (task->done || (!own && active == ACTIVE_MAX) || !may_begin(i) || pointless(i)) {
            continue;
        }
        active += own ? 0 : 1; /* gateways and attribution do not wait for the clients */
        if (task->next_ms > sim.now_ms) {
            continue;
        }
        task->tries++;
        task->next_ms = sim.now_ms + 150 + sim_draw() % 300;
        uint32_t to = 1 + (uint32_t)(sim_draw() % sim.nodes);
        for (uint32_t r = 1; r <= sim.nodes && sim_chance(700); r++) { /* most know who leads */
            to = sim.node[r].up && sim.node[r].replica != NULL && replica_leads(sim.node[r].replica)
                     ? r
                     : to;
        }
        if (sim.healed || !sim_chance(sim.loss)) {
            sim_push((struct event){.kind = SUBMIT, .node = to, .task = i}, sim_delay());
        }
    }
}

static void on_reply(const struct event *event)
{
    struct task *task = &sim.tasks[event->task];
    task->done = task->done || event->err == ERR_OK;
    if (!task->done && event->err != ERR_UNAVAILABLE && must_end(event->task)) {
        char text[64];
        (void)snprintf(text, sizeof text, "transaction %zu: %s", event->task, err_name(event->err));
        sim_fail("a good transaction was refused", event->node, text);
    }
    if (!must_end(event->task) && event->err == ERR_CONFLICT) {
        task->next_ms = sim.now_ms + 300 +
                        sim_draw() % 500; /* an earlier batch first, or settled by its twin */
    }
}

/* ---- the run ------------------------------------------------------------------------------------ */

static struct node *node_of(const struct event *event)
{
    CHECK(event->node >= 1 && event->node <= NODES_MAX);
    return &sim.node[event->node];
}

static void on_message(struct node *node, struct event *event)
{
    if (node->up && node->inbox_count < QUEUE_MAX) {
        node->inbox[node->inbox_count++].data = event->data;
        event->data = bytes_of(NULL, 0);
        node_resume(node);
    }
}

static void on_tick(struct node *node, const struct event *event)
{
    if (node->up && event->life == node->life) {
        sim_push((struct event){.kind = TICK, .node = node->id, .life = node->life}, TICK_MS);
        node->ticked = true;
        if (!node->waiting) {
            node_resume(node);
        }
    }
}

static void on_submit(struct node *node, const struct event *event)
{
    if (node->up && node->submit_count < QUEUE_MAX) {
        node->submits[node->submit_count++].task = event->task;
        if (!node->waiting) {
            node_resume(node);
        }
    }
}

/* The next fault, perhaps; at the end of their time everything heals. */
static void on_fault(void)
{
    if (sim.now_ms < FAULTS_END_MS) {
        if (sim_chance(350)) {
            fault();
        }
        sim_push((struct event){.kind = FAULT}, FAULT_MS);
        return;
    }
    sim_trace("healed");
    sim.healed = true;
    sim.healed_ms = sim.now_ms;
    for (uint32_t r = 1; r <= sim.nodes; r++) {
        sim.node[r].cut_off_until_ms = 0;
        disk_full(r, false);
    }
}

static void handle(struct event *event)
{
    struct node *node = NULL;
    switch (event->kind) {
    case MESSAGE:
        on_message(node_of(event), event);
        break;
    case TICK:
        on_tick(node_of(event), event);
        break;
    case WAKE:
        node = node_of(event);
        if (node->up && node->waiting && event->life == node->wait) {
            node_resume(node);
        }
        break;
    case SUBMIT:
        on_submit(node_of(event), event);
        break;
    case REPLY:
        on_reply(event);
        break;
    case CLIENTS:
        clients();
        sim_push((struct event){.kind = CLIENTS}, CLIENT_MS);
        break;
    case FAULT:
        on_fault();
        break;
    case START:
        node = node_of(event);
        if (!node->up && event->life == node->life) {
            node_start(node);
        }
        break;
    case BLOBS: { /* a batch's bytes arrive, perhaps long after its transaction was submitted */
        struct digest digest;
        CHECK(blob_put(sim.work->blobs, sim.work->receipt_bytes[event->task], &digest, NULL) ==
              ERR_OK);
        CHECK(blob_put(sim.work->blobs, sim.work->share_bytes[event->task], &digest, NULL) ==
              ERR_OK);
        break;
    }
    case BLOB: {
        struct digest digest;
        CHECK(blob_put(sim.work->blobs, event->data, &digest, NULL) == ERR_OK);
        break;
    }
    case OPENING:
        attributions_heard(event->data, event->life);
        break;
    case GATEWAYS:
        gateways_step();
        sim_push((struct event){.kind = GATEWAYS}, GATEWAYS_MS);
        break;
    case ASK:
        witnesses_asked(event->node, event->data);
        break;
    case ANSWER:
        witnesses_answered(event->node, event->data, event->life);
        break;
    case WITNESSES:
        witnesses_step();
        sim_push((struct event){.kind = WITNESSES}, WITNESSES_MS);
        break;
    }
}

/* Everything is acknowledged, and every replica shows all of it. */
static bool finished(void)
{
    if (!sim.healed) {
        return false;
    }
    uint32_t charges = sim.truth.charges;
    for (size_t i = 0; i < sim.work->count; i++) {
        if (must_end(i) && !sim.tasks[i].done) {
            return false;
        }
    }
    for (uint32_t r = 1; r <= sim.nodes; r++) {
        if (!sim.node[r].up || sim.node[r].view.entries != sim.truth.count ||
            (sim.nodes > 1 && !replica_epoch(sim.node[r].replica)->promise.full)) {
            return false;
        }
    }
    return charges == WORK_BATCHES && sim.truth.waiting == 0 && gateways_done() && witnesses_done();
}

static void prepare(struct work *work, const char *folder, uint64_t seed, bool traced,
                    struct sim_report *report)
{
    memset(&sim, 0, sizeof sim);
    sim.work = work;
    sim.report = report;
    sim.folder = folder;
    sim.trace = traced;
    sim.rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    events_init(&sim.events);
    sim.nodes = seed % 8 == 0 ? 1 : seed % 8 == 1 ? 5 : 3;
    sim.loss = (uint32_t)(sim_draw() % 4) * 40;
    sim.doubles = (uint32_t)(sim_draw() % 3) * 60;
    sim.slow = (uint32_t)(sim_draw() % 4) * 30;
    CHECK(sem_init(&sim.back, 0, 0) == 0);
    disk_start(sim_draw);
    work_forget(work);
    truth_start(&sim.truth, work, report);
    gateways_start();
    witnesses_start();
    for (size_t batch = 0; batch < WORK_BATCHES; batch++) {
        (void)!blob_remove(work->blobs, &work->receipts[batch], NULL);
        (void)!blob_remove(work->blobs, &work->shares[batch], NULL);
        sim_push((struct event){.kind = BLOBS, .task = batch}, sim_draw() % 6000);
    }
    for (uint32_t r = 1; r <= sim.nodes; r++) {
        struct node *node = &sim.node[r];
        node->id = r;
        CHECK(sem_init(&node->turn, 0, 0) == 0);
        node_index_remove(node);
        sim_push((struct event){.kind = START, .node = r}, sim_draw() % 300);
    }
    sim_push((struct event){.kind = CLIENTS}, 100);
    /* In every second history the setup is over before anything fails. */
    sim_push((struct event){.kind = FAULT}, seed % 2 == 0 ? 2500 : 1200);
    sim_push((struct event){.kind = GATEWAYS}, 200);
    sim_push((struct event){.kind = WITNESSES}, 300);
}

bool sim_run(struct work *work, const char *folder, uint64_t seed, bool traced,
             struct sim_report *report)
{
    report->failure[0] = '\0';
    prepare(work, folder, seed, traced, report);
    while (report->failure[0] == '\0' && sim.events.count > 0 && !finished()) {
        struct event event = events_pop(&sim.events);
        sim.now_ms = event.at_ms;
        if (sim.now_ms > END_MS) {
            sim_drop(event.data);
            sim_fail("not everything was done in time", 0, "liveness");
            break;
        }
        report->events++;
        handle(&event);
        sim_drop(event.data);
    }
    if (report->failure[0] == '\0') {
        truth_conclude(&sim.truth);
        gateways_conclude();
    }
    sim_trace("end: %s", report->failure[0] == '\0' ? "good" : report->failure);
    for (uint32_t r = 1; r <= sim.nodes; r++) {
        struct node *node = &sim.node[r];
        if (node->up) {
            node_stop(node);
            node_bury(node, 0);
        }
        node_empty(node);
        (void)sem_destroy(&node->turn);
    }
    while (sim.events.count > 0) {
        sim_drop(events_pop(&sim.events).data);
    }
    events_deinit(&sim.events);
    gateways_end();
    report->seeds++;
    report->overdue += sim.truth.overdue;
    report->entries += sim.truth.count;
    report->epochs += sim.truth.epochs;
    truth_end(&sim.truth);
    disk_clear();
    file_simulate(NULL);
    (void)sem_destroy(&sim.back);
    return report->failure[0] == '\0';
}
