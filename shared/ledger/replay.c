/* replay.c - see replay.h. */
#include "shared/ledger/replay.h"

#include <stdlib.h>

#include "shared/base/check.h"

struct ledger_replay {
    struct ledger_replay_options options;
    struct digest chain_id;
    struct buf entries[LEDGER_REPLAY_ENTRIES];
    struct ledger_prepared *prepared[LEDGER_REPLAY_ENTRIES];
    size_t count, size;
    enum err err;
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
        buf_init(&replay->entries[i], LEDGER_ENTRY_MAX);
    }
    return replay;
}

static void prepare_one(void *argument, uint32_t i)
{
    struct ledger_replay *replay = argument;
    replay->prepared[i] = ledger_prepare_entry(&replay->chain_id, buf_bytes(&replay->entries[i]),
                                               replay->options.blobs);
}

static enum err window_apply(struct ledger_replay *replay, struct note *note)
{
    const struct ledger_replay_options *options = &replay->options;
    const struct parallel *parallel = options->parallel;
    parallel->run(parallel->context, (uint32_t)replay->count, prepare_one, replay);
    enum err err = ERR_OK;
    for (size_t i = 0; i < replay->count; i++) {
        err = err ? err
                  : ledger_apply_prepared(options->ledger, replay->prepared[i], options->effects,
                                          note);
        err = err ? err : options->applied(options->context, buf_bytes(&replay->entries[i]), note);
        ledger_prepared_destroy(replay->prepared[i]);
        buf_clear(&replay->entries[i]);
    }
    replay->count = 0;
    replay->size = 0;
    replay->err = err;
    return err;
}

enum err ledger_replay_entry(struct ledger_replay *replay, struct bytes entry, struct note *note)
{
    CHECK(replay->err == ERR_OK);
    enum err err = buf_append_bytes(&replay->entries[replay->count], entry);
    if (err != ERR_OK) {
        replay->err = note_set(note, err, "entry has %zu bytes, the limit is %u", entry.size,
                               LEDGER_ENTRY_MAX);
        return replay->err;
    }
    replay->count++;
    replay->size += entry.size;
    return replay->count == LEDGER_REPLAY_ENTRIES || replay->size >= LEDGER_REPLAY_BYTES
               ? window_apply(replay, note)
               : ERR_OK;
}

enum err ledger_replay_end(struct ledger_replay *replay, struct note *note)
{
    enum err err = replay->err == ERR_OK ? window_apply(replay, note) : ERR_OK;
    for (size_t i = 0; i < LEDGER_REPLAY_ENTRIES; i++) {
        buf_deinit(&replay->entries[i]);
    }
    free(replay);
    return err;
}
