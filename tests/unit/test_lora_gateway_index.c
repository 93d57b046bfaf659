/* test_lora_gateway_index.c - the gateway's LMDB index: it follows the journal, and is made anew from it. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "services/lora-gateway/store.h"
#include "shared/ledger/tx.h"
#include "tests/harness/damaged_store.h"
#include "tests/harness/folder.h"

static void append_key(struct journal *journal, const struct digest *hash, bool revoked)
{
    struct digest grant = {{4, 0xA5, 0x5A}};
    Openledger__V1__GatewayKey content = OPENLEDGER__V1__GATEWAY_KEY__INIT;
    Openledger__V1__GatewayRecord message = OPENLEDGER__V1__GATEWAY_RECORD__INIT;
    content.hash = ledger_binary(hash->bytes, DIGEST_SIZE);
    content.grant = ledger_binary(grant.bytes, DIGEST_SIZE);
    content.revoked = revoked;
    message.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_KEY;
    message.key = &content;
    struct buf data;
    buf_init(&data, JOURNAL_RECORD_MAX);
    ck_assert_uint_eq(ledger_pack(&message.base, &data), ERR_OK);
    uint64_t index;
    ck_assert_uint_eq(journal_append(journal, buf_bytes(&data), &index, NULL), ERR_OK);
    buf_deinit(&data);
}

START_TEST(test_index_follows_the_journal)
{
    test_folder_make();
    struct journal *journal;
    struct gateway_store *store;
    struct journal_options options = {.folder = test_path("journal")};
    struct digest first = {{1}};
    struct digest second = {{2}};
    struct digest grant;
    ck_assert_uint_eq(journal_open(&options, &journal, NULL), ERR_OK);
    ck_assert_uint_eq(gateway_store_open(test_path("index"), &store, NULL), ERR_OK);
    append_key(journal, &first, false);
    append_key(journal, &second, false);
    append_key(journal, &second, true);
    ck_assert_uint_eq(gateway_store_follow(store, journal, NULL), ERR_OK);
    ck_assert_uint_eq(gateway_store_key(store, &first, &grant, NULL),
                      ERR_NOT_FOUND); /* not synced */
    ck_assert_uint_eq(journal_sync(journal, NULL), ERR_OK);
    ck_assert_uint_eq(gateway_store_follow(store, journal, NULL), ERR_OK);
    ck_assert_uint_eq(gateway_store_key(store, &first, &grant, NULL), ERR_OK);
    ck_assert_uint_eq(grant.bytes[0], 4);
    ck_assert_uint_eq(gateway_store_key(store, &second, &grant, NULL), ERR_NOT_FOUND);
    const struct gateway_progress progress = {.published = 2, .settled = 1};
    ck_assert_uint_eq(gateway_store_set_progress(store, &progress, NULL), ERR_OK);
    gateway_store_close(store);
    /* The journal of another: the index starts over. */
    ck_assert_uint_eq(journal_truncate(journal, 0, NULL), ERR_OK);
    ck_assert_uint_eq(gateway_store_open(test_path("index"), &store, NULL), ERR_OK);
    ck_assert_uint_eq(gateway_store_progress(store).published, 2);
    ck_assert_uint_eq(gateway_store_progress(store).settled, 1);
    ck_assert_uint_eq(gateway_store_follow(store, journal, NULL), ERR_OK);
    ck_assert_uint_eq(gateway_store_progress(store).published, 0);
    ck_assert_uint_eq(gateway_store_progress(store).settled, 0);
    ck_assert_uint_eq(gateway_store_key(store, &first, &grant, NULL), ERR_NOT_FOUND);
    gateway_store_close(store);
    journal_close(journal);
    test_folder_remove();
}
END_TEST

/* A damaged index is no loss: the journal has it all. */
START_TEST(test_a_damaged_index_is_made_anew)
{
    struct journal *journal;
    struct gateway_store *store;
    struct digest hash = {{1}};
    struct digest grant = {{4, 0xA5, 0x5A}};
    struct digest found;
    test_folder_make();
    struct journal_options options = {.folder = test_path("journal")};
    ck_assert_uint_eq(journal_open(&options, &journal, NULL), ERR_OK);
    append_key(journal, &hash, false);
    ck_assert_uint_eq(journal_sync(journal, NULL), ERR_OK);
    ck_assert_uint_eq(gateway_store_open(test_path("index"), &store, NULL), ERR_OK);
    for (enum damaged_store how = 0; how < DAMAGED_KINDS; how++) {
        const struct gateway_progress progress = {.published = 1, .settled = 1};
        ck_assert_uint_eq(gateway_store_follow(store, journal, NULL), ERR_OK);
        ck_assert_uint_eq(gateway_store_set_progress(store, &progress, NULL), ERR_OK);
        gateway_store_close(store);
        damaged_store_make(test_path("index"), how, "keys", digest_bytes(&grant));
        ck_assert_uint_eq(gateway_store_open(test_path("index"), &store, NULL), ERR_OK);
        ck_assert(!file_exists(test_path("index/data.mdb.damaged")));
        ck_assert_uint_eq(gateway_store_key(store, &hash, &found, NULL), ERR_NOT_FOUND);
        ck_assert_uint_eq(gateway_store_progress(store).published, 0); /* goes out again */
        ck_assert_uint_eq(gateway_store_follow(store, journal, NULL), ERR_OK);
        ck_assert_uint_eq(gateway_store_key(store, &hash, &found, NULL), ERR_OK);
        ck_assert(digest_equal(&found, &grant));
    }
    gateway_store_close(store);
    journal_close(journal);
    test_folder_remove();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lora-gateway_index");
    TCase *tests = tcase_create("all");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_index_follows_the_journal);
    tcase_add_test(tests, test_a_damaged_index_is_made_anew);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
