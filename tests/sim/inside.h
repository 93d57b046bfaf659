/* inside.h - what the simulator's files share; for no one else. */
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/events.h"
#include "tests/sim/sim.h"
#include "tests/sim/truth.h"

enum {
    NODES_MAX = 5,
    QUEUE_MAX = 512,
    TICK_MS = 50,
    HEARTBEAT_MS = 100,
    TAKEOVER_MS = 500,
    SEAL_MS = 250,
    CLIENT_MS = 20,
    FAULT_MS = 100,
    FAULTS_END_MS = 7000, /* from then on nothing goes wrong any more */
    END_MS = 60000,       /* everything must be done by then */
    ACTIVE_MAX = 6,       /* tasks that clients work on at a time */
    SEGMENT_SIZE = 16384
};

struct item { /* in a node's queue */
    struct bytes data;
    size_t task;
};

struct node {
    uint32_t id;
    pthread_t thread;
    sem_t turn;
    bool up, waiting, ticked;
    bool dying; /* its program is being killed: every call fails */
    bool broken, flipped;
    uint64_t life, wait;
    int64_t skew_ms;
    struct item inbox[QUEUE_MAX], submits[QUEUE_MAX];
    size_t inbox_count, submit_count;
    uint64_t sealed_ms;
    uint64_t cut_off_until_ms;
    struct replica *replica;
    struct truth_view view;
    struct note note;
};

struct task {
    bool done;
    bool held; /* not to be submitted: a gateway has not recorded it yet */
    uint64_t next_ms;
    uint32_t tries;
};

struct sim {
    struct work *work;
    struct sim_report *report;
    struct truth truth;
    const char *folder;
    bool trace, healed;
    uint64_t rng, now_ms, healed_ms;
    struct events events;
    uint32_t nodes, loss, doubles, slow; /* per mille */
    struct node node[NODES_MAX + 1];
    struct task tasks[WORK_TASKS_MAX];
    uint64_t claim_sequence, claim_epoch, claim_before; /* the stream of claims */
    sem_t back;                                         /* the scheduler's turn */
};
extern struct sim sim;

uint64_t sim_draw(void);
bool sim_chance(uint32_t per_mille);
void sim_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sim_fail(const char *what, uint32_t node, const char *note);
void sim_push(struct event event, uint64_t delay_ms);
uint64_t sim_delay(void);
/* Does the bus lose this message? Nothing reaches or leaves who is cut off. */
bool sim_lost(uint32_t a, uint32_t b);
struct bytes sim_copy(struct bytes bytes);
void sim_drop(struct bytes bytes);

/* node.c: the program of one replica, as main.c and api.c of the service run it. */
void node_start(struct node *node);
void node_stop(struct node *node); /* kill: it ends at its next call */
/* Its program has ended: joins it and starts it again later. */
void node_bury(struct node *node, uint64_t restart_ms);
/* Lets it run until it waits, checks what it shows, buries it if it ended by itself. */
void node_resume(struct node *node);
void node_empty(struct node *node);
void node_index_remove(struct node *node);
