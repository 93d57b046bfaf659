/* test_ledger_params.c - the table of parameters: README.md shows exactly it, every default is within its
 * bounds, and both bounds are values that can be set. PARAMS_UPDATE=1 rewrites the README's table. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/ledger/params.h"
#include "shared/platform/file.h"

#define README "shared/ledger/README.md"

static const char BEGIN[] =
    "<!-- parameters: made from params.c by tests/unit/test_ledger_params.c -->\n";
static const char END[] = "<!-- end of parameters -->\n";

static void table_write(struct buf *out)
{
    buf_append_text(out,
                    "| parameter | unit | default | bounds | meaning |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < LEDGER_PARAMETER_COUNT; i++) {
        const struct ledger_parameter *row = &LEDGER_PARAMETERS[i];
        buf_printf(out, "| `%s` | %s | %s | %s to %s | %s |\n", row->name, row->unit, row->fallback,
                   row->minimum, row->maximum, row->meaning);
    }
}

START_TEST(test_readme)
{
    struct buf readme;
    struct buf wanted;
    struct note note = {""};
    buf_init(&readme, 1U << 20);
    buf_init(&wanted, 1U << 20);
    ck_assert_msg(file_read(README, &readme, &note) == ERR_OK, "%s", note.text);
    const char *text = buf_text(&readme);
    const char *begin = strstr(text, BEGIN);
    ck_assert_ptr_nonnull(begin);
    begin += strlen(BEGIN);
    const char *end = strstr(begin, END);
    ck_assert_ptr_nonnull(end);
    if (getenv("PARAMS_UPDATE") != NULL) {
        struct buf whole;
        buf_init(&whole, 1U << 20);
        buf_append(&whole, text, (size_t)(begin - text));
        table_write(&whole);
        buf_append_text(&whole, end);
        ck_assert_int_eq(file_write_atomic(README, buf_bytes(&whole), 0644, &note), ERR_OK);
        buf_deinit(&whole);
    } else {
        table_write(&wanted);
        ck_assert_msg(
            wanted.size == (size_t)(end - begin) && memcmp(wanted.data, begin, wanted.size) == 0,
            "the table in %s is not params.c's: run this test with PARAMS_UPDATE=1", README);
    }
    buf_deinit(&readme);
    buf_deinit(&wanted);
}
END_TEST

START_TEST(test_bounds)
{
    struct ledger_parameters parameters;
    char text[AMOUNT_TEXT_SIZE];
    ledger_parameters_defaults(&parameters);
    for (size_t i = 0; i < LEDGER_PARAMETER_COUNT; i++) {
        const struct ledger_parameter *row = &LEDGER_PARAMETERS[i];
        const char *const values[] = {row->minimum, row->maximum, row->fallback};
        ck_assert_ptr_eq(ledger_parameter_find(row->name), row);
        ck_assert_str_eq(ledger_parameter_format(row, &parameters, text), row->fallback);
        for (int v = 0; v < 3; v++) {
            ck_assert_msg(ledger_parameter_set(row, values[v], &parameters, NULL) == ERR_OK,
                          "%s %s", row->name, values[v]);
            ck_assert_str_eq(ledger_parameter_format(row, &parameters, text), values[v]);
        }
        ck_assert_int_ne(ledger_parameter_set(row, "100000000000000000000", &parameters, NULL),
                         ERR_OK);
        ck_assert_int_eq(ledger_parameter_set(row, "01", &parameters, NULL), ERR_INVALID);
        ck_assert_int_eq(ledger_parameter_set(row, "", &parameters, NULL), ERR_INVALID);
    }
    ck_assert_ptr_null(ledger_parameter_find("platform"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger params");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, test_readme);
    tcase_add_test(tcase, test_bounds);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
