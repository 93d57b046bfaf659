/* test_openledger_genesis.c - the genesis that `openledger up` makes: who gets which part of the supply, and
 * when. The demo's has the same parts. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "services/openledger/suite.h"
#include "shared/ledger/claims.h"
#include "tests/harness/folder.h"

static const char *const CATEGORIES[] = {"community", "ecosystem", "investors", "team",
                                         "liquidity"};
/* In OPEN: 51.71 % and 10 %, together 61.71 %; 18.29 %, 15 %, 5 %. */
static const char *const PARTS[] = {"517100000", "100000000", "182900000", "150000000", "50000000"};

START_TEST(test_parts)
{
    for (size_t c = 0; c < sizeof CATEGORIES / sizeof CATEGORIES[0]; c++) {
        struct amount sum = AMOUNT_ZERO;
        char text[AMOUNT_TEXT_SIZE];
        for (size_t i = 0; i < SUITE_ALLOCATION_COUNT; i++) {
            struct amount amount;
            if (strcmp(SUITE_ALLOCATIONS[i].category, CATEGORIES[c]) == 0) {
                ck_assert_int_eq(amount_parse(SUITE_ALLOCATIONS[i].amount, &amount), ERR_OK);
                ck_assert_int_eq(amount_add(sum, amount, &sum), ERR_OK);
            }
        }
        ck_assert_str_eq(amount_format(sum, text), PARTS[c]);
    }
}
END_TEST

/* The vested part of a key's allocation so many months after genesis. */
static const char *vested_after(const struct ledger *ledger, const char *folder, const char *name,
                                uint64_t months, char out[AMOUNT_TEXT_SIZE])
{
    char path[FILE_PATH_SIZE];
    struct key_pair *keys = NULL;
    struct account_id id;
    struct ledger_head head;
    ledger_head(ledger, &head);
    ck_assert_int_eq(file_path(path, "%s/keys/%s.json", folder, name), ERR_OK);
    ck_assert_int_eq(key_pair_load(path, "", &keys, NULL), ERR_OK);
    account_id_from_key(key_pair_public(keys), &id);
    key_pair_destroy(keys);
    const struct ledger_vesting *vesting = ledger_vesting(ledger, &id);
    ck_assert_ptr_nonnull(vesting);
    ck_assert(amount_is_zero(ledger_account(ledger, &id)->balance));
    return amount_format(ledger_vested(vesting, head.time_ms + months * SUITE_YEAR_MS / 12), out);
}

START_TEST(test_vesting)
{
    const char *folder = test_folder;
    char path[FILE_PATH_SIZE];
    char text[AMOUNT_TEXT_SIZE];
    struct note note = {""};
    struct ledger *ledger = NULL;
    struct buf genesis;
    const struct suite_options options = {.folder = folder,
                                          .allocations = SUITE_ALLOCATIONS,
                                          .allocation_count = SUITE_ALLOCATION_COUNT};
    ck_assert_msg(suite_prepare(&options, &note) == ERR_OK, "%s", note.text);
    ck_assert_int_eq(file_path(path, "%s/genesis.json", folder), ERR_OK);
    buf_init(&genesis, LEDGER_GENESIS_MAX);
    ck_assert_int_eq(file_read(path, &genesis, &note), ERR_OK);
    ck_assert_msg(ledger_create(buf_bytes(&genesis), &ledger, &note) == ERR_OK, "%s", note.text);
    static const struct {
        const char *name;
        uint64_t months;
        const char *vested;
    } CASES[] = {
        {"community", 0, "0"},          {"community", 12, "129275000"},
        {"community", 48, "517100000"}, {"team", 12, "0"},
        {"team", 24, "50000000"},       {"team", 47, "145833333.333333333333333333"},
        {"team", 48, "150000000"},      {"investors", 12, "0"},
        {"investors", 30, "91450000"},  {"investors", 48, "182900000"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        ck_assert_str_eq(vested_after(ledger, folder, CASES[i].name, CASES[i].months, text),
                         CASES[i].vested);
    }
    ledger_destroy(ledger);
    buf_deinit(&genesis);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("openledger genesis");
    TCase *tcase = tcase_create("all");
    crypto_start();
    tcase_add_test(tcase, test_parts);
    tcase_add_checked_fixture(tcase, test_folder_make, test_folder_remove);
    tcase_add_test(tcase, test_vesting);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
