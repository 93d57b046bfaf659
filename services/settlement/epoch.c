/* epoch.c - see epoch.h. */
#include "services/settlement/epoch.h"

#include <string.h>

#include "shared/base/check.h"

static struct epoch_action *act(struct epoch_actions *out, enum epoch_act what)
{
    CHECK(out->count < EPOCH_ACTIONS_MAX);
    struct epoch_action *action = &out->items[out->count++];
    *action = (struct epoch_action){.act = what};
    return action;
}

static void keep(const struct epoch *epoch, struct epoch_actions *out)
{
    act(out, EPOCH_DO_KEEP)->promise = epoch->promise;
}

/* A message to replica `to` about our promised epoch. */
static struct epoch_message *say(struct epoch *epoch, uint32_t to, enum epoch_kind kind,
                                 struct epoch_actions *out)
{
    struct epoch_action *action = act(out, EPOCH_DO_SEND);
    action->to = to;
    action->message = (struct epoch_message){.kind = kind,
                                             .from = epoch->config.self,
                                             .epoch = epoch->promise.epoch,
                                             .final = epoch->final,
                                             .life = epoch->promise.life,
                                             .full = epoch->promise.full,
                                             .formed = epoch->promise.formed};
    return &action->message;
}

static uint32_t majority(const struct epoch *epoch)
{
    return epoch->config.replicas / 2 + 1;
}

void epoch_init(struct epoch *epoch, const struct epoch_config *config,
                const struct epoch_promise *promise, uint64_t now_ms)
{
    CHECK(config->replicas >= 1 && config->replicas <= EPOCH_REPLICAS_MAX);
    CHECK(config->self >= 1 && config->self <= config->replicas);
    *epoch = (struct epoch){.config = *config,
                            .role = EPOCH_FOLLOWING,
                            .promise = *promise,
                            .highest = promise->epoch,
                            .final = promise->final,
                            .heard_ms = now_ms};
}

/* Whoever leads or claims stops doing so. */
static void step_down(struct epoch *epoch, uint64_t now_ms, struct epoch_actions *out)
{
    if (epoch->role == EPOCH_LEADING) {
        (void)act(out, EPOCH_DO_STOP);
    }
    epoch->role = EPOCH_FOLLOWING;
    epoch->leader = 0;
    epoch->heard_ms = now_ms;
}

void epoch_resign(struct epoch *epoch, uint64_t now_ms, struct epoch_actions *out)
{
    step_down(epoch, now_ms, out);
}

static void final_is(struct epoch *epoch, uint64_t final, struct epoch_actions *out)
{
    if (final <= epoch->final) {
        return;
    }
    epoch->final = final;
    epoch->promise.final = final; /* kept with the next promise: a lower bound is enough */
    if (!epoch->promise.formed) {
        epoch->promise.formed = true;
        keep(epoch, out);
    }
    (void)act(out, EPOCH_DO_FINAL);
}

/* ---- leading ------------------------------------------------------------------------------------ */

static void append_to(struct epoch *epoch, uint32_t to, uint64_t now_ms, struct epoch_actions *out)
{
    struct epoch_peer *peer = &epoch->peers[to];
    struct epoch_message *message = say(epoch, to, EPOCH_APPEND, out);
    message->index = peer->next;
    message->round = epoch->round;
    /* A newcomer counts once something that was appended after its arrival is final, and on its disk:
     * what its lost disk may have promised to a higher epoch would have kept that from happening. */
    if (!peer->full && (peer->forming || peer->admitted == peer->life ||
                        (epoch->final > peer->joined && peer->match >= epoch->final))) {
        peer->admitted = peer->life;
        message->admit = peer->life;
    }
    peer->sent_ms = now_ms;
}

static void append_to_all(struct epoch *epoch, uint64_t now_ms, uint64_t behind,
                          struct epoch_actions *out)
{
    for (uint32_t to = 1; to <= epoch->config.replicas; to++) {
        if (to != epoch->config.self && epoch->peers[to].next < behind) {
            append_to(epoch, to, now_ms, out);
        }
    }
}

/* What a majority of full members has on disk is final, if an entry of our own epoch is among it: an
 * entry of an earlier epoch alone could still be outvoted. */
static void count_copies(struct epoch *epoch, uint64_t now_ms, struct epoch_actions *out)
{
    struct epoch_peer *self = &epoch->peers[epoch->config.self];
    uint64_t best = 0;
    self->match = epoch->synced;
    self->full = true;
    for (uint32_t r = 1; r <= epoch->config.replicas; r++) {
        uint64_t index = epoch->peers[r].match;
        uint32_t copies = 0;
        for (uint32_t other = 1; other <= epoch->config.replicas; other++) {
            copies += epoch->peers[other].full && epoch->peers[other].match >= index ? 1 : 0;
        }
        best = copies >= majority(epoch) && index > best ? index : best;
    }
    if (best >= epoch->first && best > epoch->final) {
        final_is(epoch, best, out);
        append_to_all(epoch, now_ms, UINT64_MAX, out); /* they may show it now */
    }
}

uint64_t epoch_ask_round(struct epoch *epoch, uint64_t now_ms, struct epoch_actions *out)
{
    epoch->round++;
    if (epoch->role == EPOCH_LEADING) {
        append_to_all(epoch, now_ms, UINT64_MAX, out);
    }
    return epoch->round;
}

bool epoch_confirmed(const struct epoch *epoch, uint64_t round)
{
    uint32_t answered = 1; /* we ourselves */
    for (uint32_t r = 1; r <= epoch->config.replicas; r++) {
        const struct epoch_peer *peer = &epoch->peers[r];
        answered += r != epoch->config.self && peer->full && peer->round >= round ? 1 : 0;
    }
    return epoch->role == EPOCH_LEADING && answered >= majority(epoch);
}

void epoch_offer(struct epoch *epoch, uint64_t now_ms, uint64_t count, struct epoch_actions *out)
{
    if (epoch->role == EPOCH_LEADING) {
        CHECK(count >= epoch->offered);
        epoch->offered = count;
        append_to_all(epoch, now_ms, count, out);
    }
}

void epoch_sent(struct epoch *epoch, uint32_t to, uint64_t count)
{
    if (epoch->role == EPOCH_LEADING && epoch->peers[to].next < count) {
        epoch->peers[to].next = count;
    }
}

void epoch_synced(struct epoch *epoch, uint64_t now_ms, uint64_t count, struct epoch_actions *out)
{
    if (epoch->role == EPOCH_LEADING) {
        CHECK(count >= epoch->synced);
        CHECK(count <= epoch->offered);
        epoch->synced = count;
        count_copies(epoch, now_ms, out);
    }
}

bool epoch_wants_entry(const struct epoch *epoch)
{
    if (epoch->role != EPOCH_LEADING) {
        return false;
    }
    for (uint32_t r = 1; r <= epoch->config.replicas; r++) {
        const struct epoch_peer *peer = &epoch->peers[r];
        if (r != epoch->config.self && peer->life != 0 && !peer->full &&
            peer->joined >= epoch->synced) {
            return true;
        }
    }
    return false;
}

/* May this answer count, and as whose? What a lost disk said before it was lost must not: once a newcomer
 * has shown itself, only its own life is heard. */
static bool life_fits(struct epoch *epoch, const struct epoch_message *message)
{
    struct epoch_peer *peer = &epoch->peers[message->from];
    if (!message->full) {
        if (peer->life != message->life || peer->full) {
            uint64_t next = message->count < epoch->offered ? message->count : epoch->offered;
            *peer = (struct epoch_peer){.life = message->life,
                                        .joined = epoch->offered,
                                        .next = next,
                                        .admitted = peer->admitted};
        }
        return true;
    }
    if (peer->life == 0) {
        peer->life = message->life;
        peer->full = true;
    }
    if (!peer->full && (message->life == peer->life || message->life == peer->admitted)) {
        peer->life = message->life;
        peer->full = peer->admitted == message->life;
    }
    return peer->full && peer->life == message->life;
}

static void on_ack(struct epoch *epoch, uint64_t now_ms, const struct epoch_message *message,
                   struct epoch_actions *out)
{
    struct epoch_peer *peer = &epoch->peers[message->from];
    if (epoch->role != EPOCH_LEADING || message->epoch != epoch->promise.epoch ||
        !life_fits(epoch, message)) {
        return;
    }
    peer->heard_ms = now_ms;
    if (message->round > peer->round && message->round <= epoch->round) {
        peer->round = message->round;
    }
    if (!message->ok) {
        /* Shorter than we thought, or different: then from what is final, where all agree. */
        uint64_t back = message->count < message->index ? message->count : message->final;
        peer->next = back < epoch->offered ? back : epoch->offered;
        append_to(epoch, message->from, now_ms, out);
        return;
    }
    if (message->index > peer->match && message->index <= epoch->offered) {
        peer->match = message->index;
    }
    peer->next = peer->next < peer->match ? peer->match : peer->next;
    count_copies(epoch, now_ms, out);
    if (peer->next < epoch->offered) {
        append_to(epoch, message->from, now_ms, out);
    }
}

static void lead(struct epoch *epoch, uint64_t now_ms, struct epoch_log log,
                 struct epoch_actions *out)
{
    uint32_t full = 0;
    for (uint32_t r = 1; r <= epoch->config.replicas; r++) {
        full += epoch->peers[r].promised && epoch->peers[r].full ? 1 : 0;
    }
    epoch->role = EPOCH_LEADING;
    epoch->leader = epoch->config.self;
    epoch->heard_ms = now_ms;
    epoch->tries = 0;
    epoch->first = log.count + 1;
    epoch->offered = log.count;
    epoch->synced = log.count;
    epoch->round = 0;
    for (uint32_t r = 1; r <= epoch->config.replicas; r++) {
        struct epoch_peer *peer = &epoch->peers[r];
        peer->forming = full < majority(epoch) && peer->promised && !peer->full;
        peer->match = 0;
        peer->round = 0;
        peer->next = log.count;
        peer->joined = log.count; /* the seal that comes first is beyond it */
        peer->heard_ms = peer->promised ? now_ms : 0;
        peer->sent_ms = now_ms;
        peer->admitted = 0;
    }
    if (!epoch->promise.full) { /* only a cluster that is being formed is led by a newcomer */
        epoch->promise.full = true;
        keep(epoch, out);
    }
    (void)act(out, EPOCH_DO_LEAD);
}

static void tick_leading(struct epoch *epoch, uint64_t now_ms, struct epoch_actions *out)
{
    uint32_t heard = 1;
    for (uint32_t r = 1; r <= epoch->config.replicas; r++) {
        struct epoch_peer *peer = &epoch->peers[r];
        if (r == epoch->config.self) {
            continue;
        }
        heard += peer->full && peer->heard_ms + epoch->config.takeover_ms > now_ms ? 1 : 0;
        if (now_ms - peer->sent_ms >= epoch->config.heartbeat_ms) {
            if (peer->next > peer->match && now_ms - peer->heard_ms > epoch->config.heartbeat_ms) {
                peer->next = peer->match > 0 ? peer->match : peer->next; /* lost on the way */
            }
            append_to(epoch, r, now_ms, out);
        }
    }
    if (heard < majority(epoch) && now_ms - epoch->heard_ms > epoch->config.takeover_ms) {
        step_down(epoch, now_ms, out);
    }
}

/* ---- claiming ----------------------------------------------------------------------------------- */

static void ask_all(struct epoch *epoch, uint64_t now_ms, struct epoch_actions *out)
{
    epoch->asked_ms = now_ms;
    for (uint32_t to = 1; to <= epoch->config.replicas; to++) {
        if (to != epoch->config.self && !epoch->peers[to].promised) {
            (void)say(epoch, to, EPOCH_ASK, out);
        }
    }
}

static void fetch(struct epoch *epoch, uint64_t now_ms, struct epoch_actions *out)
{
    epoch->asked_ms = now_ms;
    say(epoch, epoch->source, EPOCH_FETCH, out)->index = epoch->gathered;
}

void epoch_claimed(struct epoch *epoch, uint64_t now_ms, uint64_t number, struct epoch_log log,
                   struct epoch_actions *out)
{
    if (epoch->role != EPOCH_FOLLOWING || number <= epoch->promise.epoch) {
        return; /* a higher epoch came in between */
    }
    epoch->promise.epoch = number;
    epoch->promise.claimant = epoch->config.self;
    epoch->highest = number > epoch->highest ? number : epoch->highest;
    epoch->role = EPOCH_ASKING;
    epoch->leader = 0;
    epoch->heard_ms = now_ms;
    memset(epoch->peers, 0, sizeof epoch->peers);
    epoch->peers[epoch->config.self] = (struct epoch_peer){.promised = true,
                                                           .count = log.count,
                                                           .last_epoch = log.last_epoch,
                                                           .formed = epoch->promise.formed,
                                                           .life = epoch->promise.life,
                                                           .full = epoch->promise.full};
    keep(epoch, out);
    ask_all(epoch, now_ms, out);
}

/* A majority of full members; or everybody, while nothing was ever final in an epoch: that is how a
 * cluster begins, and how a lone replica's log becomes the log of several. */
static bool promised_enough(const struct epoch *epoch)
{
    uint32_t full = 0;
    uint32_t all = 0;
    bool formed = false;
    for (uint32_t r = 1; r <= epoch->config.replicas; r++) {
        const struct epoch_peer *peer = &epoch->peers[r];
        all += peer->promised ? 1 : 0;
        full += peer->promised && peer->full ? 1 : 0;
        formed = formed || (peer->promised && peer->formed);
    }
    return (full >= majority(epoch) && epoch->promise.full) ||
           (all == epoch->config.replicas && !formed);
}

static void on_promise(struct epoch *epoch, uint64_t now_ms, const struct epoch_message *message,
                       struct epoch_log log, struct epoch_actions *out)
{
    if (epoch->role != EPOCH_ASKING || message->epoch != epoch->promise.epoch) {
        return;
    }
    struct epoch_peer *peer = &epoch->peers[message->from];
    peer->promised = true;
    peer->count = message->count;
    peer->last_epoch = message->last_epoch;
    peer->formed = message->formed;
    peer->life = message->life;
    peer->full = message->full;
    if (!promised_enough(epoch)) {
        return;
    }
    /* Whose log ends in the highest epoch, and is the longest of those, has all that is final. */
    uint32_t best = epoch->config.self;
    for (uint32_t r = 1; r <= epoch->config.replicas; r++) {
        const struct epoch_peer *other = &epoch->peers[r];
        const struct epoch_peer *most = &epoch->peers[best];
        if (other->promised &&
            (other->last_epoch > most->last_epoch ||
             (other->last_epoch == most->last_epoch && other->count > most->count))) {
            best = r;
        }
    }
    if (best == epoch->config.self) {
        lead(epoch, now_ms, log, out);
        return;
    }
    epoch->role = EPOCH_GATHERING;
    epoch->source = best;
    epoch->gathered = epoch->final < log.count ? epoch->final : log.count;
    epoch->wanted = epoch->peers[best].count;
    fetch(epoch, now_ms, out);
}

static void on_entries(struct epoch *epoch, uint64_t now_ms, const struct epoch_message *message,
                       bool fits, struct epoch_actions *out)
{
    if (epoch->role != EPOCH_GATHERING || message->epoch != epoch->promise.epoch ||
        message->from != epoch->source || message->index != epoch->gathered || !fits) {
        return;
    }
    (void)act(out, EPOCH_DO_TAKE);
    epoch->gathered += message->carried;
    if (epoch->gathered < epoch->wanted) {
        if (message->carried > 0) {
            fetch(epoch, now_ms, out);
        }
        return;
    }
    /* The log is now the source's: what we had beyond it was cut. */
    lead(epoch, now_ms, (struct epoch_log){epoch->gathered, epoch->peers[epoch->source].last_epoch},
         out);
}

/* ---- following ---------------------------------------------------------------------------------- */

/* Takes up a higher epoch: from now on nothing of a lower one. */
static void promise(struct epoch *epoch, uint64_t now_ms, const struct epoch_message *message,
                    struct epoch_actions *out)
{
    step_down(epoch, now_ms, out);
    epoch->promise.epoch = message->epoch;
    epoch->promise.claimant = message->from;
    keep(epoch, out);
}

static bool promised_to(struct epoch *epoch, uint64_t now_ms, const struct epoch_message *message,
                        struct epoch_actions *out)
{
    if (message->epoch > epoch->promise.epoch) {
        promise(epoch, now_ms, message, out);
    }
    if (message->epoch == epoch->promise.epoch && message->from == epoch->promise.claimant) {
        return true;
    }
    (void)say(epoch, message->from, EPOCH_REFUSE, out);
    return false;
}

static void on_ask(struct epoch *epoch, uint64_t now_ms, const struct epoch_message *message,
                   struct epoch_log log, struct epoch_actions *out)
{
    if (promised_to(epoch, now_ms, message, out)) {
        epoch->heard_ms = now_ms;
        struct epoch_message *answer = say(epoch, message->from, EPOCH_PROMISE, out);
        answer->count = log.count;
        answer->last_epoch = log.last_epoch;
    }
}

static void on_append(struct epoch *epoch, uint64_t now_ms, const struct epoch_message *message,
                      bool fits, struct epoch_log log, struct epoch_actions *out)
{
    if (!promised_to(epoch, now_ms, message, out)) {
        return;
    }
    epoch->leader = message->from;
    epoch->heard_ms = now_ms;
    epoch->tries = 0;
    if (message->admit == epoch->promise.life && !epoch->promise.full) {
        epoch->promise.full = true;
        keep(epoch, out);
    }
    uint64_t end = message->index + message->carried;
    if (fits && message->carried > 0) {
        (void)act(out, EPOCH_DO_TAKE);
    }
    struct epoch_message *answer = say(epoch, message->from, EPOCH_ACK, out);
    answer->ok = fits;
    answer->index = fits ? end : message->index;
    answer->count = log.count;
    answer->round = message->round;
    if (fits) {
        final_is(epoch, message->final < end ? message->final : end, out);
    }
}

void epoch_receive(struct epoch *epoch, uint64_t now_ms, const struct epoch_message *message,
                   bool fits, struct epoch_log log, struct epoch_actions *out)
{
    CHECK(message->from >= 1 && message->from <= epoch->config.replicas);
    CHECK(message->from != epoch->config.self);
    epoch->highest = message->epoch > epoch->highest ? message->epoch : epoch->highest;
    switch (message->kind) {
    case EPOCH_ASK:
        on_ask(epoch, now_ms, message, log, out);
        break;
    case EPOCH_PROMISE:
        on_promise(epoch, now_ms, message, log, out);
        break;
    case EPOCH_REFUSE:
        if (message->epoch > epoch->promise.epoch && epoch->role != EPOCH_FOLLOWING) {
            step_down(epoch, now_ms, out);
        }
        break;
    case EPOCH_FETCH:
        if (promised_to(epoch, now_ms, message, out) && message->index <= log.count) {
            epoch->heard_ms = now_ms;
            say(epoch, message->from, EPOCH_ENTRIES, out)->index = message->index;
        }
        break;
    case EPOCH_ENTRIES:
        on_entries(epoch, now_ms, message, fits, out);
        break;
    case EPOCH_APPEND:
        on_append(epoch, now_ms, message, fits, log, out);
        break;
    case EPOCH_ACK:
        on_ack(epoch, now_ms, message, out);
        break;
    case EPOCH_KIND_END:
        break;
    }
}

void epoch_tick(struct epoch *epoch, uint64_t now_ms, struct epoch_log log,
                struct epoch_actions *out)
{
    (void)log;
    uint64_t silence_ms = now_ms - epoch->heard_ms;
    uint32_t spread = (epoch->config.self - 1 + epoch->tries) % epoch->config.replicas;
    switch (epoch->role) {
    case EPOCH_FOLLOWING:
        if (silence_ms >= epoch->config.takeover_ms + spread * (epoch->config.takeover_ms / 4)) {
            epoch->heard_ms = now_ms; /* the next try, if this one comes to nothing */
            epoch->tries++;
            (void)act(out, EPOCH_DO_CLAIM);
        }
        break;
    case EPOCH_ASKING:
    case EPOCH_GATHERING:
        if (silence_ms >= 2 * (uint64_t)epoch->config.takeover_ms) {
            step_down(epoch, now_ms, out);
        } else if (now_ms - epoch->asked_ms >= epoch->config.heartbeat_ms) {
            if (epoch->role == EPOCH_ASKING) {
                ask_all(epoch, now_ms, out);
            } else {
                fetch(epoch, now_ms, out);
            }
        }
        break;
    case EPOCH_LEADING:
        tick_leading(epoch, now_ms, out);
        break;
    }
}

const char *epoch_role_name(enum epoch_role role)
{
    static const char *const NAMES[] = {"following", "asking", "gathering", "leading"};
    return NAMES[role];
}

const char *epoch_kind_name(enum epoch_kind kind)
{
    static const char *const NAMES[EPOCH_KIND_END] = {"",      "ask",     "promise", "refuse",
                                                      "fetch", "entries", "append",  "ack"};
    return kind < EPOCH_KIND_END ? NAMES[kind] : "";
}
