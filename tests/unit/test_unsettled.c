/* test_unsettled.c - what the gateway published and the ledger does not show: when it goes out again.
 *
 * Method: a real ledger that settles, or does not, under records as the gateway's journal has them; time is
 * a number. What is sent is collected and compared with what the contract says, to the millisecond. */
#include <check.h>
#include <string.h>

#include "services/lora-gateway/unsettled.h"
#include "tests/harness/ledger_world.h"

enum { RETRY_MS = 100, SENT_MAX = 16, DEADLINE_BLOCKS = 3 };

static struct world *world;
static struct unsettled *view;
static uint64_t sent[SENT_MAX]; /* indices of the last look */
static size_t sent_count, sent_room;

static void setup(void)
{
    crypto_start();
    world = world_create_at(WORLD_TIME_MS, DEADLINE_BLOCKS);
    world_setup(world);
    ck_assert_int_eq(world_grant(world, "10"), ERR_OK);
    view = unsettled_create(0, RETRY_MS);
    ck_assert_ptr_nonnull(view);
}

static void teardown(void)
{
    unsettled_destroy(view);
    world_destroy(world);
}

static bool send(void *context, uint64_t index)
{
    (void)context;
    if (sent_count == sent_room) {
        return false;
    }
    sent[sent_count++] = index;
    return true;
}

/* Looks with room for so many; returns how many went out. */
static size_t look_room(uint64_t now_ms, size_t room)
{
    sent_count = 0;
    sent_room = room;
    size_t count = unsettled_look(view, world->ledger, now_ms, send, NULL);
    ck_assert_uint_eq(count, sent_count);
    return count;
}

static size_t look(uint64_t now_ms)
{
    return look_room(now_ms, SENT_MAX);
}

static const struct buf *blob(const struct digest *name)
{
    for (size_t i = 0; i < world->blob_count; i++) {
        if (digest_equal(&world->blob_names[i], name)) {
            return &world->blobs[i];
        }
    }
    ck_abort_msg("no such blob");
}

static enum err add_batch(const struct digest *name, uint64_t now_ms)
{
    Openledger__V1__GatewayBatch batch = OPENLEDGER__V1__GATEWAY_BATCH__INIT;
    Openledger__V1__GatewayRecord record = OPENLEDGER__V1__GATEWAY_RECORD__INIT;
    batch.batch = ledger_binary(blob(name)->data, blob(name)->size);
    record.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_BATCH;
    record.batch = &batch;
    return unsettled_add(view, &record, now_ms, NULL);
}

/* The Finished record of a batch's receipt; a void has no opening. */
static enum err add_answer(const struct digest *name, size_t at, bool served, uint64_t now_ms)
{
    Openledger__V1__ReceiptBatch *batch =
        openledger__v1__receipt_batch__unpack(NULL, blob(name)->size, blob(name)->data);
    ck_assert_ptr_nonnull(batch);
    uint8_t opening[1] = {0};
    Openledger__V1__GatewayFinished finished = OPENLEDGER__V1__GATEWAY_FINISHED__INIT;
    Openledger__V1__GatewayRecord record = OPENLEDGER__V1__GATEWAY_RECORD__INIT;
    finished.receipt = batch->receipts[at];
    finished.opening = ledger_binary(opening, served ? 1 : 0);
    record.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_FINISHED;
    record.finished = &finished;
    enum err err = unsettled_add(view, &record, now_ms, NULL);
    openledger__v1__receipt_batch__free_unpacked(batch, NULL);
    return err;
}

static struct digest receipts(uint64_t first, size_t count, struct digest *out_ids)
{
    return world_receipts(world, first, count, 10, 20, NULL, out_ids);
}

static void close_grant(void)
{
    world->now_ms += 3600000 + ledger_parameters(world->ledger)->settlement_window_ms;
    Openledger__V1__CloseGrant close = OPENLEDGER__V1__CLOSE_GRANT__INIT;
    close.grant = ledger_binary(world->grant.bytes, DIGEST_SIZE);
    WORLD_ACTION(body, CLOSE_GRANT, close_grant, &close);
    ck_assert_int_eq(world_try(world, WORLD_PAYER, &body), ERR_OK);
}

START_TEST(test_again_until_the_ledger_shows_it)
{
    static const uint64_t DUE_MS[] = {100, 300, 700, 1500, 3100, 4700, 6300};
    struct digest batch = receipts(1, 2, NULL);
    ck_assert_int_eq(add_batch(&batch, 0), ERR_OK);
    for (size_t i = 0; i < sizeof DUE_MS / sizeof *DUE_MS;
         i++) { /* twice as long, up to 16 times */
        ck_assert_uint_eq(look(DUE_MS[i] - 1), 0);
        ck_assert_uint_eq(look(DUE_MS[i]), 1);
        ck_assert_uint_eq(sent[0], 0);
        ck_assert_uint_eq(look(DUE_MS[i]), 0);
    }
    ck_assert_uint_eq(unsettled_floor(view), 0);
    ck_assert_int_eq(world_settle_receipts(world, &batch), ERR_OK);
    ck_assert_int_eq(world_settle_receipts(world, &batch), ERR_CONFLICT); /* a repetition */
    ck_assert_uint_eq(look(1000000), 0);
    ck_assert_uint_eq(unsettled_count(view), 0);
    ck_assert_uint_eq(unsettled_floor(view), 1);
}
END_TEST

START_TEST(test_a_batch_is_shown_by_its_last_number)
{
    struct digest first = receipts(1, 2, NULL);
    struct digest second = receipts(3, 2, NULL);
    ck_assert_int_eq(add_batch(&first, 0), ERR_OK);
    ck_assert_int_eq(add_batch(&second, 0), ERR_OK);
    ck_assert_int_eq(world_settle_receipts(world, &first), ERR_OK);
    ck_assert_uint_eq(look(RETRY_MS), 1);
    ck_assert_uint_eq(sent[0], 1);
    ck_assert_uint_eq(unsettled_floor(view), 1);
    ck_assert_int_eq(world_settle_receipts(world, &second), ERR_OK);
    ck_assert_uint_eq(look(0), 0);
    ck_assert_uint_eq(unsettled_floor(view), 2);
    struct digest half = receipts(5, 1, NULL); /* the first receipt alone */
    struct digest third = receipts(5, 2, NULL);
    ck_assert_int_eq(add_batch(&third, 1000), ERR_OK);
    ck_assert_int_eq(world_settle_receipts(world, &half), ERR_OK);
    ck_assert_uint_eq(look(1000 + RETRY_MS), 1);
}
END_TEST

START_TEST(test_an_answer_stays_until_its_shares)
{
    struct digest ids[2];
    struct digest batch = receipts(1, 2, ids);
    ck_assert_int_eq(add_answer(&batch, 0, true, 0), ERR_OK);
    ck_assert_int_eq(add_answer(&batch, 1, true, 0), ERR_OK);
    ck_assert_uint_eq(look(100), 2); /* not charged */
    ck_assert_int_eq(world_settle_receipts(world, &batch), ERR_OK);
    ck_assert_uint_eq(look(300), 2); /* charged, its shares are missing */
    struct digest shares = world_shares(world, &ids[1], 1, 600000000, 0);
    ck_assert_int_eq(world_settle_shares(world, &shares), ERR_OK);
    ck_assert_int_eq(world_settle_shares(world, &shares), ERR_CONFLICT); /* a repetition */
    ck_assert_uint_eq(look(700), 1);
    ck_assert_uint_eq(sent[0], 0);
    ck_assert_uint_eq(unsettled_count(view), 1);
    for (int i = 0; i < DEADLINE_BLOCKS + 1; i++) { /* it is paid to the treasury */
        ck_assert_int_eq(world_seal(world), ERR_OK);
    }
    ck_assert_uint_eq(look(1000000), 0);
    ck_assert_uint_eq(unsettled_floor(view), 2);
}
END_TEST

START_TEST(test_nothing_comes_of_a_closed_grant)
{
    struct digest charged = receipts(1, 1, NULL);
    struct digest lost = receipts(2, 1, NULL);
    ck_assert_int_eq(add_answer(&charged, 0, true, 0), ERR_OK);
    ck_assert_int_eq(add_answer(&lost, 0, true, 0), ERR_OK);
    ck_assert_int_eq(add_batch(&lost, 0), ERR_OK);
    ck_assert_int_eq(world_settle_receipts(world, &charged), ERR_OK);
    close_grant();
    ck_assert_uint_eq(look(100), 1); /* what was charged is still to be shared */
    ck_assert_uint_eq(sent[0], 0);
    ck_assert_uint_eq(unsettled_count(view), 1);
}
END_TEST

START_TEST(test_what_is_not_published_is_passed_over)
{
    struct digest batch = receipts(1, 2, NULL);
    Openledger__V1__GatewayKey key = OPENLEDGER__V1__GATEWAY_KEY__INIT;
    Openledger__V1__GatewayRecord record = OPENLEDGER__V1__GATEWAY_RECORD__INIT;
    record.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_KEY;
    record.key = &key;
    unsettled_destroy(view);
    view = unsettled_create(7, RETRY_MS);
    ck_assert_int_eq(unsettled_add(view, &record, 0, NULL), ERR_OK);
    ck_assert_int_eq(add_answer(&batch, 0, false, 0), ERR_OK);
    ck_assert_uint_eq(unsettled_next(view), 9);
    ck_assert_uint_eq(unsettled_floor(view), 9);
    ck_assert_uint_eq(look(1000), 0);
}
END_TEST

START_TEST(test_no_room_means_later_in_order)
{
    struct digest batches[4];
    for (size_t i = 0; i < 4; i++) {
        batches[i] = receipts(1 + i, 1, NULL);
        ck_assert_int_eq(add_batch(&batches[i], i), ERR_OK);
    }
    ck_assert_uint_eq(look_room(200, 3), 3);
    ck_assert_uint_eq(sent[2], 2);
    ck_assert_uint_eq(look_room(200, 0), 0);
    ck_assert_uint_eq(look_room(200, 3), 1);
    ck_assert_uint_eq(sent[0], 3);
    ck_assert_uint_eq(look(399), 0);
    ck_assert_uint_eq(look(400), 4);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_uint_eq(sent[i], i);
    }
}
END_TEST

START_TEST(test_the_view_is_bounded)
{
    struct digest first = receipts(1, 1, NULL);
    struct digest second = receipts(2, 1, NULL);
    for (uint64_t i = 0; i < UNSETTLED_MAX; i++) {
        ck_assert_int_eq(add_batch(i < 3 ? &first : &second, 0), ERR_OK);
    }
    ck_assert_int_eq(add_batch(&second, 0), ERR_LIMIT);
    ck_assert_uint_eq(unsettled_next(view), UNSETTLED_MAX);
    ck_assert_int_eq(add_answer(&second, 0, false, 0), ERR_OK); /* a void takes none */
    ck_assert_int_eq(world_settle_receipts(world, &first), ERR_OK);
    ck_assert_uint_eq(look(0), 0);
    ck_assert_uint_eq(unsettled_floor(view), 3);
    for (uint64_t i = 0; i < 3; i++) {
        ck_assert_int_eq(add_batch(&second, 0), ERR_OK);
    }
    ck_assert_int_eq(add_batch(&second, 0), ERR_LIMIT);
    ck_assert_uint_eq(look(RETRY_MS), SENT_MAX);
    ck_assert_uint_eq(sent[0], 3);
    ck_assert_int_eq(world_settle_receipts(world, &second), ERR_OK);
    ck_assert_uint_eq(look(RETRY_MS), 0);
    ck_assert_uint_eq(unsettled_count(view), 0);
}
END_TEST

START_TEST(test_malformed_records)
{
    uint8_t bytes[3] = {0xff, 0xff, 0xff};
    Openledger__V1__GatewayBatch batch = OPENLEDGER__V1__GATEWAY_BATCH__INIT;
    Openledger__V1__GatewayFinished finished = OPENLEDGER__V1__GATEWAY_FINISHED__INIT;
    Openledger__V1__GatewayRecord record = OPENLEDGER__V1__GATEWAY_RECORD__INIT;
    record.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_BATCH;
    record.batch = &batch; /* empty: no receipts */
    ck_assert_int_eq(unsettled_add(view, &record, 0, NULL), ERR_CORRUPT);
    batch.batch = ledger_binary(bytes, sizeof bytes);
    ck_assert_int_eq(unsettled_add(view, &record, 0, NULL), ERR_CORRUPT);
    record.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_FINISHED;
    record.finished = &finished;
    finished.opening = ledger_binary(bytes, sizeof bytes);
    ck_assert_int_eq(unsettled_add(view, &record, 0, NULL), ERR_CORRUPT); /* no grant */
    finished.receipt = ledger_binary(bytes, sizeof bytes);
    ck_assert_int_eq(unsettled_add(view, &record, 0, NULL), ERR_CORRUPT);
    ck_assert_uint_eq(unsettled_next(view), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("unsettled");
    TCase *tests = tcase_create("all");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_again_until_the_ledger_shows_it);
    tcase_add_test(tests, test_a_batch_is_shown_by_its_last_number);
    tcase_add_test(tests, test_an_answer_stays_until_its_shares);
    tcase_add_test(tests, test_nothing_comes_of_a_closed_grant);
    tcase_add_test(tests, test_what_is_not_published_is_passed_over);
    tcase_add_test(tests, test_no_room_means_later_in_order);
    tcase_add_test(tests, test_the_view_is_bounded);
    tcase_add_test(tests, test_malformed_records);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
