/* epoch.h - who is the sequencer and what is final: the decisions of one replica, and nothing else.
 *
 * Pure: no I/O, no clock, no memory of its own. Inputs are messages, ticks, a claim that went through and
 * entries that reached our disk; outputs are actions, to be done in order; whoever cannot do one stops
 * there. replica.c does them for real, tests/sim runs them on a simulated bus and disk. README.md states
 * the protocol and why it is safe.
 *
 *     FOLLOWING --silence, a claim went through--> ASKING --enough promises--> LEADING
 *                                                    |  another holds more       ^
 *                                                    +------> GATHERING ---------+
 *     any --a higher epoch, no majority heard, a claim that takes too long--> FOLLOWING
 *
 * One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EPOCH_REPLICAS_MAX 7

enum epoch_role { EPOCH_FOLLOWING, EPOCH_ASKING, EPOCH_GATHERING, EPOCH_LEADING };

/* Values are those of ReplicaKind in replica.proto. */
enum epoch_kind {
    EPOCH_ASK = 1, /* claimant to all: promise me this epoch */
    EPOCH_PROMISE, /* answer: promised; what I hold */
    EPOCH_REFUSE,  /* I promised the epoch that this message carries */
    EPOCH_FETCH,   /* claimant to who holds most: your entries after index */
    EPOCH_ENTRIES, /* answer: entries after index */
    EPOCH_APPEND,  /* sequencer to all: entries after index, perhaps none: I am here */
    EPOCH_ACK,     /* answer: my log is yours up to index (ok), or differs there */
    EPOCH_KIND_END
};

struct epoch_message {
    enum epoch_kind kind;
    uint32_t from; /* replica, 1..replicas */
    uint64_t epoch;
    uint64_t index;
    uint64_t carried;    /* APPEND, ENTRIES: entries in the message */
    uint64_t count;      /* PROMISE, ACK: entries on the sender's disk */
    uint64_t last_epoch; /* PROMISE: of the last of them; 0: none */
    uint64_t final;      /* what the sender knows to be final */
    uint64_t life;       /* of the sender's disk: a random number from when it was empty */
    uint64_t admit;      /* APPEND: the life that is a full member from now on; 0: none */
    bool full;           /* the sender is a full member */
    bool formed;         /* the sender has seen something become final in an epoch */
    uint64_t round;      /* APPEND: the sender's; ACK: that of the APPEND it answers */
    bool ok;             /* ACK */
};

/* What must survive a crash before anything that follows from it is said. */
struct epoch_promise {
    uint64_t epoch;    /* nothing of a lower epoch is taken any more */
    uint32_t claimant; /* who it was promised to */
    uint64_t life;     /* of this disk; tells what it says from what its predecessor said */
    uint64_t final;    /* entries known to be final: a lower bound */
    bool full;         /* false: a newcomer, whose word does not count yet */
    bool formed;       /* something became final in an epoch */
};

struct epoch_log {       /* what is on our disk */
    uint64_t count;      /* entries */
    uint64_t last_epoch; /* of the last one; 0: none */
};

struct epoch_config {
    uint32_t self, replicas;
    uint32_t heartbeat_ms;
    uint32_t takeover_ms; /* silence after which another replica takes over */
};

struct epoch_peer {
    uint64_t life; /* of its disk; 0: not heard yet */
    bool full;     /* its word counts */
    /* while asking */
    bool promised, formed;
    uint64_t count, last_epoch;
    /* while leading */
    uint64_t match;    /* entries known to be on its disk and ours alike */
    uint64_t round;    /* newest that it answered */
    uint64_t next;     /* entries sent to it */
    uint64_t sent_ms;  /* last APPEND */
    uint64_t heard_ms; /* last answer; 0: none */
    uint64_t
        joined; /* newcomer: entries there were when it answered first; a final one beyond admits it */
    uint64_t admitted; /* life that we made a full member */
    bool forming;      /* newcomer that promised when all did: admitted at once */
};

struct epoch {
    struct epoch_config config;
    enum epoch_role role;
    struct epoch_promise promise;
    uint32_t leader;   /* of promise.epoch, once heard; 0: not known */
    uint64_t highest;  /* epoch ever heard of */
    uint64_t final;    /* entries */
    uint64_t heard_ms; /* from leader or claimant; or when the wait for a claim began */
    uint64_t asked_ms; /* ASKING, GATHERING: last ASK or FETCH; the claim's begin is heard_ms */
    uint32_t tries;    /* claims since a leader was heard: spreads them */
    uint32_t source;   /* GATHERING: from whom */
    uint64_t gathered, wanted;
    uint64_t first;   /* LEADING: index of the first entry of our epoch */
    uint64_t offered; /* LEADING: entries there are to send */
    uint64_t synced;  /* LEADING: entries on our disk */
    uint64_t round;   /* LEADING: newest that was asked */
    struct epoch_peer peers[EPOCH_REPLICAS_MAX + 1];
};

enum epoch_act {
    EPOCH_DO_KEEP, /* put the action's promise on disk: as it was when this was decided, since what comes later
                      in the list may be about entries that are not on disk yet */
    EPOCH_DO_SEND, /* message to replica `to`; APPEND, ENTRIES: with our entries after message.index */
    EPOCH_DO_TAKE, /* put the entries of the message just received on disk: where they differ from ours,
                       ours are cut first */
    EPOCH_DO_FINAL, /* epoch.final rose */
    EPOCH_DO_CLAIM, /* try to claim the next epoch, above epoch.highest, for us */
    EPOCH_DO_LEAD,  /* gathered: append a seal of our epoch as entry epoch.first, then sequence */
    EPOCH_DO_STOP,  /* deposed: what was appended and is not final may be cut */
};

struct epoch_action {
    enum epoch_act act;
    uint32_t to;
    struct epoch_message message;
    struct epoch_promise promise;
};
#define EPOCH_ACTIONS_MAX 32
struct epoch_actions {
    struct epoch_action items[EPOCH_ACTIONS_MAX];
    size_t count;
};

void epoch_init(struct epoch *epoch, const struct epoch_config *config,
                const struct epoch_promise *promise, uint64_t now_ms);

/* All that follow append to out, which the caller empties. log: what is on our disk now. */

/* fits: our log has at least message.index entries and its chain there is the one the message states
 * (only APPEND and ENTRIES state one). Messages may be lost, doubled, late and out of order. */
void epoch_receive(struct epoch *epoch, uint64_t now_ms, const struct epoch_message *message,
                   bool fits, struct epoch_log log, struct epoch_actions *out);
void epoch_tick(struct epoch *epoch, uint64_t now_ms, struct epoch_log log,
                struct epoch_actions *out);
/* The claim of an epoch went through: no other replica claimed it. */
void epoch_claimed(struct epoch *epoch, uint64_t now_ms, uint64_t number, struct epoch_log log,
                   struct epoch_actions *out);
/* LEADING: entries up to count are there to be sent. */
void epoch_offer(struct epoch *epoch, uint64_t now_ms, uint64_t count, struct epoch_actions *out);
/* LEADING: entries up to count are on our disk. */
void epoch_synced(struct epoch *epoch, uint64_t now_ms, uint64_t count, struct epoch_actions *out);
/* Asks all whether we still lead. Returns the round's number, 1 or more, for epoch_confirmed(): it never is when
 * we do not lead any more. */
uint64_t epoch_ask_round(struct epoch *epoch, uint64_t now_ms, struct epoch_actions *out);
/* LEADING, and a majority of full members has answered that round or a later one: when it was asked no
 * other replica had begun a higher epoch (Raft, Ongaro 2014, section 6.4: ReadIndex). */
bool epoch_confirmed(const struct epoch *epoch, uint64_t round);
/* LEADING: an APPEND with entries up to count went to replica to. */
void epoch_sent(struct epoch *epoch, uint32_t to, uint64_t count);
/* Steps down: what it was about to do failed. */
void epoch_resign(struct epoch *epoch, uint64_t now_ms, struct epoch_actions *out);

/* LEADING, and a newcomer waits for something new to become final before it counts. */
bool epoch_wants_entry(const struct epoch *epoch);
const char *epoch_role_name(enum epoch_role role);
const char *epoch_kind_name(enum epoch_kind kind);
