/* node.c - one replica's program: the hands that replica.h wants, submissions, ticks; starting and ending.
 *
 * Each runs in a thread of its own, since a sequencer's sync blocks; a baton lets exactly one thread run at a
 * time, so that a seed is one history. It is two semaphores, not a mutex: a mutex would be held while a replica
 * takes and keeps the locks of its index. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/platform/file.h"
#include "tests/sim/disk.h"
#include "tests/sim/inside.h"

/* ---- the baton ---------------------------------------------------------------------------------- */

static void hand_over(sem_t *to, sem_t *from)
{
    CHECK(sem_post(to) == 0);
    while (sem_wait(from) != 0) {
        CHECK(errno == EINTR);
    }
}

static void node_run(struct node *node)
{
    hand_over(&node->turn, &sim.back);
}

/* Called by a node's thread: lets the scheduler go on until it is this node's turn again. */
static void yield_turn(struct node *node)
{
    hand_over(&sim.back, &node->turn);
}

/* ---- hands -------------------------------------------------------------------------------------- */

static uint64_t hand_now(void *context)
{
    (void)context;
    return sim.now_ms;
}

static uint64_t hand_clock(void *context)
{
    const struct node *node = context;
    return sim.work->world->now_ms + sim.now_ms + (uint64_t)(node->skew_ms + 60000);
}

static uint64_t hand_random(void *context)
{
    (void)context;
    return sim_draw();
}

static void hand_send(void *context, uint32_t to, struct bytes message)
{
    const struct node *node = context;
    if (node->dying || disk_dead(node->id)) {
        return;
    }
    int copies = sim.healed || !sim_chance(sim.doubles) ? 1 : 2;
    for (int i = 0; i < copies; i++) {
        if (!sim_lost(node->id, to)) {
            sim_push((struct event){.kind = MESSAGE, .node = to, .data = sim_copy(message)},
                     sim_delay());
        }
    }
}

static enum err hand_receive(void *context, uint64_t timeout_ms, struct buf *out)
{
    struct node *node = context;
    if (node->inbox_count == 0 && !node->dying) {
        sim_push((struct event){.kind = WAKE, .node = node->id, .life = ++node->wait},
                 timeout_ms + 1);
        node->waiting = true;
        yield_turn(node);
        node->waiting = false;
        node->wait++;
    }
    if (node->dying || disk_dead(node->id)) {
        return ERR_CANCELLED;
    }
    if (node->inbox_count == 0) {
        return ERR_TIMEOUT;
    }
    struct bytes data = node->inbox[0].data;
    node->inbox_count--;
    memmove(node->inbox, node->inbox + 1, node->inbox_count * sizeof *node->inbox);
    enum err err = buf_append_bytes(out, data);
    sim_drop(data);
    return err;
}

static enum err hand_claim(void *context, uint64_t above, uint64_t *out_epoch)
{
    struct node *node = context;
    if (node->dying || (!sim.healed && (node->cut_off_until_ms > sim.now_ms || sim_chance(50)))) {
        return ERR_UNAVAILABLE;
    }
    uint64_t epoch = (sim.claim_epoch > above ? sim.claim_epoch : above) + 1;
    sim.claim_before = sim.claim_epoch;
    sim.claim_epoch = epoch;
    sim.claim_sequence++;
    sim_trace("node %u claims epoch %" PRIu64, node->id, epoch);
    if (!sim.healed && sim_chance(50)) {
        return ERR_TIMEOUT; /* it went through, and nobody knows */
    }
    *out_epoch = epoch;
    return ERR_OK;
}

static void hand_opened(void *context, struct settlement *settlement)
{
    struct node *node = context;
    (void)settlement;
    sim_trace("node %u opens", node->id);
}

static void hand_differs(void *context, uint32_t replica, uint64_t height)
{
    struct node *node = context;
    (void)height;
    char text[32];
    (void)snprintf(text, sizeof text, "replica %u", replica);
    sim_fail("roots differ", node->id, text);
}

/* ---- a node's program --------------------------------------------------------------------------- */

static void reply(struct node *node, size_t task, enum err err, uint64_t index)
{
    if (node->dying || disk_dead(node->id)) {
        return;
    }
    if (err == ERR_OK) {
        sim_trace("node %u acknowledges %zu at %" PRIu64, node->id, task, index);
        truth_promise(&sim.truth, task, index);
    }
    if (sim.healed || !sim_chance(sim.loss)) {
        sim_push((struct event){.kind = REPLY, .node = node->id, .task = task, .err = err},
                 sim_delay());
    }
}

/* As api.c: take all that wait, one sync for them, answer; refusals only once it is sure that we lead. */
static enum err take_submissions(struct node *node)
{
    struct {
        size_t task;
        uint64_t index;
        enum err err;
        bool behind; /* decided on a state that had not all that was final then */
    } waiting[QUEUE_MAX];
    size_t count = 0;
    bool refused = false;
    while (node->submit_count > 0) {
        size_t task = node->submits[0].task;
        struct settlement_result result;
        struct note note = {""};
        node->submit_count--;
        memmove(node->submits, node->submits + 1, node->submit_count * sizeof *node->submits);
        enum err err = !replica_leads(node->replica)
                           ? ERR_UNAVAILABLE
                           : settlement_submit(replica_settlement(node->replica),
                                               buf_bytes(&sim.work->tasks[task].tx),
                                               hand_clock(node), &result, &note);
        struct ledger_head head;
        ledger_head(settlement_ledger(replica_settlement(node->replica)), &head);
        waiting[count].behind = head.index < sim.truth.count;
        waiting[count].task = task;
        waiting[count].index = err == ERR_OK ? result.index : 0;
        waiting[count++].err = err == ERR_IO ? ERR_UNAVAILABLE : err;
        if (err != ERR_OK) {
            refused = refused || err != ERR_UNAVAILABLE;
            if (err != ERR_UNAVAILABLE && err != ERR_CONFLICT && err != ERR_NOT_FOUND) {
                sim_trace("node %u refuses %zu: %s: %s", node->id, task, err_name(err), note.text);
            }
        }
        if (err == ERR_IO) {
            return err;
        }
    }
    if (count == 0) {
        return ERR_OK;
    }
    struct settlement *settlement = replica_settlement(node->replica);
    enum err err = refused ? settlement_confirm(settlement, &node->note)
                           : settlement_sync(settlement, &node->note);
    for (size_t i = 0; i < count; i++) {
        /* What is final stays so: an acceptance may be told again from behind, and truth_promise holds it. */
        if (err == ERR_OK && waiting[i].err != ERR_OK && waiting[i].err != ERR_UNAVAILABLE &&
            waiting[i].behind) {
            sim_fail("refused from a state that was left behind", node->id, "");
        }
        reply(node, waiting[i].task, err == ERR_OK ? waiting[i].err : ERR_UNAVAILABLE,
              waiting[i].index);
    }
    return err == ERR_UNAVAILABLE ? ERR_OK : err;
}

static enum err tick(struct node *node)
{
    enum err err = replica_tick(node->replica, &node->note);
    struct settlement *settlement = replica_settlement(node->replica);
    if (err == ERR_OK && replica_leads(node->replica) && sim.now_ms - node->sealed_ms >= SEAL_MS &&
        (settlement_wants_seal(settlement) || replica_wants_entry(node->replica))) {
        node->sealed_ms = sim.now_ms;
        err = settlement_seal(settlement, hand_clock(node), &node->note);
        err = err == ERR_UNAVAILABLE ? ERR_OK : err;
    }
    return err;
}

static enum err work_through(struct node *node)
{
    enum err err = ERR_OK;
    while (err == ERR_OK && !node->dying &&
           (node->inbox_count > 0 || node->submit_count > 0 || node->ticked)) {
        if (node->inbox_count > 0) {
            struct bytes data = node->inbox[0].data;
            node->inbox_count--;
            memmove(node->inbox, node->inbox + 1, node->inbox_count * sizeof *node->inbox);
            err = replica_receive(node->replica, data, &node->note);
            sim_drop(data);
        } else if (node->submit_count > 0) {
            err = take_submissions(node);
        } else {
            node->ticked = false;
            err = tick(node);
        }
    }
    return err;
}

static void options_of(struct node *node, char folder[32], char index[FILE_PATH_SIZE],
                       struct replica_options *out)
{
    (void)snprintf(folder, 32, "sim:%u", node->id);
    CHECK(file_path(index, "%s/index-%u", sim.folder, node->id) == ERR_OK);
    *out = (struct replica_options){.epoch = {.self = node->id,
                                              .replicas = sim.nodes,
                                              .heartbeat_ms = HEARTBEAT_MS,
                                              .takeover_ms = TAKEOVER_MS},
                                    .settlement = {.folder = folder,
                                                   .index_folder = index,
                                                   .genesis = buf_bytes(&sim.work->world->genesis),
                                                   .blobs = sim.work->blobs,
                                                   .sequencer = sim.work->world->sequencer,
                                                   .snapshot_blocks = 5,
                                                   .segment_size = SEGMENT_SIZE},
                                    .hands = {.context = node,
                                              .now_ms = hand_now,
                                              .clock_ms = hand_clock,
                                              .random = hand_random,
                                              .send = hand_send,
                                              .receive = hand_receive,
                                              .claim = hand_claim,
                                              .opened = hand_opened,
                                              .differs = hand_differs}};
}

static void *program(void *argument)
{
    struct node *node = argument;
    struct replica_options options;
    char folder[32];
    char index[FILE_PATH_SIZE];
    while (sem_wait(&node->turn) != 0) {
        CHECK(errno == EINTR);
    }
    options_of(node, folder, index, &options);
    enum err err = replica_open(&options, &node->replica, &node->note);
    if (err == ERR_OK && node->flipped) {
        sim_fail("a flipped bit in the journal went unnoticed", node->id, "");
    }
    while (err == ERR_OK && !node->dying) {
        err = work_through(node);
        if (err == ERR_OK && !node->dying) {
            yield_turn(node);
        }
    }
    if (err != ERR_OK) {
        sim_trace("node %u ends: %s: %s", node->id, err_name(err), node->note.text);
        bool hurt =
            node->dying || disk_dead(node->id) || node->flipped || err == ERR_FULL || err == ERR_IO;
        if (!hurt) {
            sim_fail("a replica cannot go on", node->id, node->note.text);
        }
        node->broken = err == ERR_CORRUPT;
    }
    replica_close(node->replica);
    node->replica = NULL;
    node->up = false;
    CHECK(sem_post(&sim.back) == 0);
    return NULL;
}

/* ---- starting and stopping nodes ---------------------------------------------------------------- */

void node_empty(struct node *node)
{
    for (size_t i = 0; i < node->inbox_count; i++) {
        sim_drop(node->inbox[i].data);
    }
    node->inbox_count = 0;
    node->submit_count = 0;
}

/* The program has ended: join it, start it again later. */
void node_bury(struct node *node, uint64_t restart_ms)
{
    CHECK(pthread_join(node->thread, NULL) == 0);
    node_empty(node);
    node->life++;
    node->dying = false;
    node->waiting = false;
    node->view = (struct truth_view){0};
    sim_push((struct event){.kind = START, .node = node->id, .life = node->life}, restart_ms);
}

void node_index_remove(struct node *node)
{
    char index[FILE_PATH_SIZE];
    CHECK(file_path(index, "%s/index-%u", sim.folder, node->id) == ERR_OK);
    CHECK(file_remove_tree(index, NULL) == ERR_OK);
}

void node_resume(struct node *node)
{
    if (node->up) {
        node_run(node);
    }
    if (node->up && node->replica != NULL) {
        truth_check(&sim.truth, node->id, node->replica, &node->view,
                    disk_dead(node->id) || node->flipped);
    }
    if (!node->up &&
        node->life % 2 == 1) { /* it ended by itself: kill, or the power that its disk lost */
        if (disk_dead(node->id) && sim_chance(500)) {
            sim.report->power_cuts++;
            disk_power_cut(node->id);
        } else {
            sim.report->kills++;
            disk_kill(node->id);
        }
        node_bury(node, 50 + sim_draw() % 1000);
    }
}

/* life is odd while the program runs. */
void node_start(struct node *node)
{
    disk_full(node->id, false);
    if (node->broken) { /* an operator gives it a new disk: it joins anew */
        sim_trace("node %u: disk replaced", node->id);
        sim.report->wipes++;
        disk_wipe(node->id);
        node_index_remove(node);
        node->broken = false;
        node->flipped = false;
    }
    node->up = true;
    node->life++;
    CHECK(node->life % 2 == 1);
    CHECK(pthread_create(&node->thread, NULL, program, node) == 0);
    sim_trace("node %u starts", node->id);
    sim_push((struct event){.kind = TICK, .node = node->id, .life = node->life},
             sim_draw() % TICK_MS);
    node_resume(node);
}

void node_stop(struct node *node)
{
    node->dying = true;
    node_run(node);
    CHECK(!node->up);
}
