/* test_ledger_replay.c - shared/ledger/replay.h: the same state as applying one by one, the same refusal. */
#include <check.h>
#include <stdlib.h>

#include "openledger/v1/ledger.pb-c.h"
#include "shared/base/check.h"
#include "shared/ledger/replay.h"
#include "shared/merkle/merkle.h"
#include "shared/platform/pool.h"
#include "tests/harness/ledger_world.h"

enum { TRANSFERS = 3 * LEDGER_REPLAY_ENTRIES + 7 };

static struct world *world;
static struct ledger_effects effects;
static size_t applied;
static struct merkle_tree postings; /* of the block so far, leaf by leaf */

/* The header commits to the postings that effects told of, whoever hashed them. */
static void postings_follow(void)
{
    struct bytes in = buf_bytes(&effects.postings);
    uint16_t size;
    struct bytes posting;
    struct digest leaf;
    while (bytes_take_u16le(&in, &size) == ERR_OK) {
        ck_assert_int_eq(bytes_take(&in, size, &posting), ERR_OK);
        merkle_leaf(posting.data, posting.size, &leaf);
        ck_assert_int_eq(merkle_tree_append(&postings, &leaf), ERR_OK);
    }
    if (effects.kind == LEDGER_KIND_SEAL) {
        struct merkle_head head;
        merkle_tree_head(&postings, &head);
        Openledger__V1__BlockHeader *header =
            openledger__v1__block_header__unpack(NULL, effects.header.size, effects.header.data);
        ck_assert_ptr_nonnull(header);
        ck_assert_mem_eq(header->postings_root.data, head.root.bytes, DIGEST_SIZE);
        openledger__v1__block_header__free_unpacked(header, NULL);
        postings = (struct merkle_tree){.leaf_count = 0};
    }
}

static enum err count_applied(void *context, struct bytes entry, struct note *note)
{
    const size_t *stop_at = context;
    postings_follow();
    ck_assert_uint_eq(entry.size, world->entries[applied].size);
    ck_assert_uint_eq(effects.index, applied + 1);
    applied++;
    return stop_at != NULL && applied == *stop_at ? note_set(note, ERR_CANCELLED, "enough")
                                                  : ERR_OK;
}

/* Replays the world's log into a new ledger on workers threads, up to *stop_at (a size_t) or, NULL, to its end. */
static enum err replay(uint32_t workers, void *stop_at, struct ledger **out_ledger,
                       struct note *note)
{
    struct pool *pool = pool_create(workers);
    struct ledger_blobs blobs = world_blobs(world);
    ck_assert(pool != NULL);
    ck_assert_int_eq(ledger_create(buf_bytes(&world->genesis), out_ledger, note), ERR_OK);
    const struct ledger_replay_options options = {.ledger = *out_ledger,
                                                  .blobs = &blobs,
                                                  .parallel = pool_parallel(pool),
                                                  .effects = &effects,
                                                  .applied = count_applied,
                                                  .context = stop_at};
    applied = 0;
    postings = (struct merkle_tree){.leaf_count = 0};
    struct ledger_replay *replay = ledger_replay_begin(&options);
    enum err err = ERR_OK;
    for (size_t i = 0; i < world->entry_count && err == ERR_OK; i++) {
        err = ledger_replay_entry(replay, buf_bytes(&world->entries[i]), note);
    }
    enum err ended = ledger_replay_end(replay, note);
    pool_destroy(pool);
    return err ? err : ended;
}

static void setup(void)
{
    ledger_effects_init(&effects);
    world = world_create();
    world_setup(world);
    struct digest receipts[3];
    ck_assert_int_eq(world_grant(world, "10"), ERR_OK);
    struct digest charged = world_receipts(world, 1, 3, 10, 20, NULL, receipts);
    ck_assert_int_eq(world_settle_receipts(world, &charged), ERR_OK);
    struct digest shared = world_shares(world, receipts, 3, 300000000, 200000000);
    ck_assert_int_eq(world_settle_shares(world, &shared), ERR_OK);
    for (int i = 0; i < TRANSFERS; i++) {
        ck_assert_int_eq(world_transfer(world, WORLD_PAYER, WORLD_DEV, "1"), ERR_OK);
    }
    ck_assert_int_eq(world_seal(world), ERR_OK);
    ck_assert_int_eq(world_transfer(world, WORLD_PAYER, WORLD_DEV, "1"), ERR_OK);
    ck_assert_int_eq(world_seal(world), ERR_OK); /* a small block behind a large one */
}

static void teardown(void)
{
    world_destroy(world);
    ledger_effects_deinit(&effects);
}

START_TEST(same_state)
{
    struct digest expected;
    struct ledger_head expected_head;
    ledger_state_root(world->ledger, &expected);
    ledger_head(world->ledger, &expected_head);
    for (uint32_t workers = 1; workers <= 3; workers++) {
        struct ledger *ledger = NULL;
        struct note note = {""};
        struct digest root;
        struct ledger_head head;
        ck_assert_msg(replay(workers, NULL, &ledger, &note) == ERR_OK, "%s", note.text);
        ck_assert_uint_eq(applied, world->entry_count);
        ledger_state_root(ledger, &root);
        ledger_head(ledger, &head);
        ck_assert(digest_equal(&root, &expected));
        ck_assert_uint_eq(head.index, world->entry_count);
        ck_assert(digest_equal(&head.header_hash, &expected_head.header_hash));
        ledger_destroy(ledger);
    }
}
END_TEST

/* One flipped byte anywhere: everything before it is applied, it is refused as ledger_apply() refuses it. */
START_TEST(same_refusal)
{
    const size_t places[] = {0, 1, LEDGER_REPLAY_ENTRIES - 1, LEDGER_REPLAY_ENTRIES,
                             world->entry_count - 1};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct buf *entry = &world->entries[places[i]];
        struct ledger *ledger = NULL;
        struct note note = {""};
        struct note alone = {""};
        struct ledger_head head;
        struct ledger_blobs blobs = world_blobs(world);
        entry->data[entry->size / 2] ^= 1;
        enum err err = replay(2, NULL, &ledger, &note);
        ck_assert_int_ne(err, ERR_OK);
        ledger_head(ledger, &head);
        ck_assert_uint_eq(head.index, places[i]);
        ck_assert_int_eq(ledger_apply(ledger, buf_bytes(entry), &blobs, &effects, &alone), err);
        ck_assert_str_eq(note.text, alone.text);
        entry->data[entry->size / 2] ^= 1;
        ledger_destroy(ledger);
    }
}
END_TEST

/* Entries that somebody vouches for are not checked for their signatures; the next one is. */
START_TEST(signatures_vouched_for)
{
    struct note note = {""};
    size_t forged = world->entry_count - 2; /* a transfer, before the last seal */
    world->entries[forged].data[world->entries[forged].size - 40] ^= 1;
    for (uint64_t until = forged; until <= forged + 1; until++) {
        struct ledger *ledger = NULL;
        struct ledger_effects applied_effects;
        ck_assert_int_eq(ledger_create(buf_bytes(&world->genesis), &ledger, &note), ERR_OK);
        ledger_effects_init(&applied_effects);
        enum err err = ERR_OK;
        for (size_t i = 0; i <= forged && err == ERR_OK; i++) {
            struct ledger_head head;
            struct ledger_blobs blobs = world_blobs(world);
            ledger_head(ledger, &head);
            struct ledger_prepared *prepared =
                ledger_prepare_entry(&head.chain_id, buf_bytes(&world->entries[i]), &blobs, until);
            err = ledger_apply_prepared(ledger, prepared, &applied_effects, &note);
            ledger_prepared_destroy(prepared);
        }
        ck_assert_int_eq(err, until == forged ? ERR_DENIED : ERR_OK);
        ledger_effects_deinit(&applied_effects);
        ledger_destroy(ledger);
    }
}
END_TEST

START_TEST(stops_where_told)
{
    size_t stop_at = LEDGER_REPLAY_ENTRIES + 5;
    struct ledger *ledger = NULL;
    struct note note = {""};
    struct ledger_head head;
    ck_assert_int_eq(replay(2, &stop_at, &ledger, &note), ERR_CANCELLED);
    ledger_head(ledger, &head);
    ck_assert_uint_eq(head.index, stop_at);
    ck_assert_uint_eq(applied, stop_at);
    ledger_destroy(ledger);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger_replay");
    TCase *tcase = tcase_create("replay");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, same_state);
    tcase_add_test(tcase, same_refusal);
    tcase_add_test(tcase, signatures_vouched_for);
    tcase_add_test(tcase, stops_where_told);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
