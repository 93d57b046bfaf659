/* replay.c - see replay.h. Two windows: while one is prepared by all, the caller's thread applies the other. */
#include "shared/ledger/replay.h"

#include <stdlib.h>

#include "shared/base/check.h"
#include "shared/ledger/machine.h"

/* A block with more legs than this has its root made by all threads, so not beside their other work. */
enum { LARGE_BLOCK_LEGS = 20000 };

struct window {
    struct buf entries[LEDGER_REPLAY_ENTRIES];
    struct ledger_prepared *prepared[LEDGER_REPLAY_ENTRIES];
    size_t count, size;
    size_t applied; /* the first entries, whose preparation is gone */
};

struct ledger_replay {
    struct ledger_replay_options options;
    struct digest chain_id;
    struct window windows[2];
    struct window *filling, *ready;
    uint64_t block_legs; /* since the last seal */
    uint32_t hashing;    /* tasks of postings beside this turn's preparation */
    enum err err;
    struct note note;
};

struct ledger_replay *ledger_replay_begin(const struct ledger_replay_options *options)
{
    struct ledger_head head;
    struct ledger_replay *replay = calloc(1, sizeof *replay);
    CHECK(replay != NULL);
    ledger_head(options->ledger, &head);
    replay->options = *options;
    replay->chain_id = head.chain_id;
    for (size_t i = 0; i < LEDGER_REPLAY_ENTRIES; i++) {
        buf_init(&replay->windows[0].entries[i], LEDGER_ENTRY_MAX);
        buf_init(&replay->windows[1].entries[i], LEDGER_ENTRY_MAX);
    }
    replay->filling = &replay->windows[0];
    replay->ready = &replay->windows[1];
    return replay;
}

static void prepare_one(void *argument, uint32_t i)
{
    struct ledger_replay *replay = argument;
    struct window *window = replay->filling;
    if (i >= window->count) {
        ledger_hashing_task(replay->options.ledger, i - (uint32_t)window->count);
        return;
    }
    window->prepared[i] = ledger_prepare_entry(&replay->chain_id, buf_bytes(&window->entries[i]),
                                               replay->options.blobs, replay->options.signed_until);
}

static void apply_one(struct ledger_replay *replay, struct window *window)
{
    const struct ledger_replay_options *options = &replay->options;
    size_t i = window->applied++;
    if (replay->err == ERR_OK) {
        replay->err = ledger_apply_prepared(options->ledger, window->prepared[i], options->effects,
                                            &replay->note);
        replay->block_legs = options->effects->kind == LEDGER_KIND_SEAL
                                 ? 0
                                 : replay->block_legs + options->effects->leg_count;
    }
    if (replay->err == ERR_OK) {
        replay->err =
            options->applied(options->context, buf_bytes(&window->entries[i]), &replay->note);
    }
    ledger_prepared_destroy(window->prepared[i]);
    buf_clear(&window->entries[i]);
}

static void apply_beside(void *argument)
{
    struct ledger_replay *replay = argument;
    struct window *window = replay->ready;
    while (window->applied < window->count &&
           (window->prepared[window->applied]->signed_tx != NULL ||
            (replay->hashing == 0 && replay->block_legs <= LARGE_BLOCK_LEGS))) {
        apply_one(replay, window);
    }
}

/* Prepares what was filled in, applies what is ready; then the one is ready and the other empty. */
static void turn(struct ledger_replay *replay)
{
    const struct ledger_replay_options *options = &replay->options;
    struct window *applied = replay->ready;
    const struct parallel *before = ledger_parallel(options->ledger, &parallel_serial);
    replay->hashing = ledger_hashing_take(options->ledger);
    parallel_beside(options->parallel, (uint32_t)replay->filling->count + replay->hashing,
                    prepare_one, replay, apply_beside, replay);
    (void)ledger_parallel(options->ledger, before);
    while (applied->applied < applied->count) {
        apply_one(replay, applied);
    }
    applied->count = 0;
    applied->size = 0;
    applied->applied = 0;
    replay->ready = replay->filling;
    replay->filling = applied;
}

/* Applies all that waits. */
static void flush(struct ledger_replay *replay)
{
    turn(replay);
    turn(replay);
}

static enum err outcome(const struct ledger_replay *replay, struct note *note)
{
    return replay->err ? note_set(note, replay->err, "%s", replay->note.text) : ERR_OK;
}

enum err ledger_replay_entry(struct ledger_replay *replay, struct bytes entry, struct note *note)
{
    struct window *window = replay->filling;
    CHECK(replay->err == ERR_OK);
    if (buf_append_bytes(&window->entries[window->count], entry) != ERR_OK) {
        flush(replay);
        replay->err =
            replay->err ? replay->err
                        : note_set(&replay->note, ERR_LIMIT, "entry has %zu bytes, the limit is %u",
                                   entry.size, LEDGER_ENTRY_MAX);
        return outcome(replay, note);
    }
    window->count++;
    window->size += entry.size;
    if (window->count == LEDGER_REPLAY_ENTRIES || window->size >= LEDGER_REPLAY_BYTES) {
        turn(replay);
    }
    return outcome(replay, note);
}

enum err ledger_replay_end(struct ledger_replay *replay, struct note *note)
{
    flush(replay);
    enum err err = outcome(replay, note);
    for (size_t i = 0; i < LEDGER_REPLAY_ENTRIES; i++) {
        buf_deinit(&replay->windows[0].entries[i]);
        buf_deinit(&replay->windows[1].entries[i]);
    }
    free(replay);
    return err;
}
