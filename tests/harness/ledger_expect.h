/* ledger_expect.h - what tests of the ledger's rules insist on, with Check: an accepted transaction leaves
 * cached and recomputed state roots equal, a refused one leaves the root as it was. */
#pragma once

#include <check.h>
#include <string.h>

#include "tests/harness/ledger_world.h"

static inline void expect_ok(struct world *world, enum world_who who, Openledger__V1__TxBody *body)
{
    struct digest cached;
    struct digest slow;
    enum err err = world_try(world, who, body);
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), world->note.text);
    ledger_state_root(world->ledger, &cached);
    ledger_state_root_slow(world->ledger, &slow);
    ck_assert(digest_equal(&cached, &slow));
    (void)ledger_supply(world->ledger);
}

static inline void expect_refused(struct world *world, enum world_who who,
                                  Openledger__V1__TxBody *body, enum err expected,
                                  const char *words)
{
    struct digest before;
    struct digest after;
    ledger_state_root(world->ledger, &before);
    enum err err = world_try(world, who, body);
    ledger_state_root(world->ledger, &after);
    ck_assert_msg(err == expected, "%s: %s", err_name(err), world->note.text);
    ck_assert_msg(strstr(world->note.text, words) != NULL, "note: %s", world->note.text);
    ck_assert(digest_equal(&before, &after));
}

static inline void expect_balance(struct world *world, const struct account_id *id,
                                  const char *expected)
{
    char text[AMOUNT_TEXT_SIZE];
    ck_assert_str_eq(world_balance(world, id, text), expected);
}

static inline void expect_seals(struct world *world, int count)
{
    for (int i = 0; i < count; i++) {
        world->now_ms += 1000;
        ck_assert_int_eq(world_seal(world), ERR_OK);
    }
}

/* A snapshot taken now restores to the same root, and replaying the whole log gives it too. */
static inline void expect_replays(struct world *world)
{
    struct ledger *copy = NULL;
    struct ledger_effects effects;
    struct ledger_blobs blobs = world_blobs(world);
    struct digest root;
    struct digest other;
    struct buf snapshot;
    buf_init(&snapshot, 1U << 26);
    ledger_effects_init(&effects);
    ck_assert_int_eq(world_seal(world), ERR_OK);
    ledger_state_root(world->ledger, &root);
    ck_assert_int_eq(ledger_snapshot(world->ledger, &snapshot), ERR_OK);
    ck_assert_int_eq(ledger_restore(buf_bytes(&world->genesis), buf_bytes(&snapshot), &copy, NULL),
                     ERR_OK);
    ledger_state_root_slow(copy, &other);
    ck_assert(digest_equal(&root, &other));
    ledger_destroy(copy);
    ck_assert_int_eq(ledger_create(buf_bytes(&world->genesis), &copy, NULL), ERR_OK);
    for (size_t i = 0; i < world->entry_count; i++) {
        ck_assert_int_eq(
            ledger_apply(copy, buf_bytes(&world->entries[i]), &blobs, &effects, &world->note),
            ERR_OK);
    }
    ledger_state_root(copy, &other);
    ck_assert(digest_equal(&root, &other));
    ledger_destroy(copy);
    ledger_effects_deinit(&effects);
    buf_deinit(&snapshot);
}

static inline ProtobufCBinaryData expect_digest_field(const struct digest *digest)
{
    return ledger_binary(digest->bytes, DIGEST_SIZE);
}
