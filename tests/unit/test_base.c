/* test_base.c - money, identifiers and buffers: published vectors, slow models, bounds. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/base/account_id.h"
#include "shared/base/amount.h"
#include "shared/base/arena.h"
#include "shared/base/base64.h"
#include "shared/base/bech32m.h"
#include "shared/base/buf.h"
#include "shared/base/digest.h"
#include "shared/base/hex.h"
#include "shared/base/log.h"
#include "shared/base/metrics.h"
#include "shared/base/note.h"
#include "shared/base/utf8.h"
#include "tests/harness/seed.h"

static struct amount parse(const char *text)
{
    struct amount amount = {0};
    ck_assert_msg(amount_parse(text, &amount) == ERR_OK, "%s", text);
    return amount;
}

static void check_text(struct amount amount, const char *expected)
{
    char text[AMOUNT_TEXT_SIZE];
    ck_assert_str_eq(amount_format(amount, text), expected);
}

static const struct amount MAX = {UINT64_MAX, UINT64_MAX};
static const char MAX_TEXT[] = "340282366920938463463.374607431768211455";

START_TEST(test_amount_text)
{
    static const char *const round[] = {
        "0", "1", "0.000000000000000001", "1000000000", "12.5", "0.000001", MAX_TEXT};
    for (size_t i = 0; i < sizeof round / sizeof round[0]; i++) {
        check_text(parse(round[i]), round[i]);
    }
    check_text(parse("0.500"), "0.5");
    check_text((struct amount){1, 0}, "18.446744073709551616");
    /* Where the whole OPEN need more than 64 bits. */
    check_text(parse("18446744073709551615.000000000000000001"),
               "18446744073709551615.000000000000000001");
    check_text(parse("18446744073709551616"), "18446744073709551616");
    check_text(parse("300000000000000000007.25"), "300000000000000000007.25");
    ck_assert(amount_equal(parse(MAX_TEXT), MAX));
    ck_assert(amount_equal(parse("1000000000"), amount_from_open(AMOUNT_SUPPLY_OPEN)));
    static const char *const bad[] = {
        "",     ".",   "1.", ".5",  "-1",  "+1",  " 1",
        "1 ",   "01",  "00", "1e3", "1,0", "0x1", "1.0000000000000000001",
        "1..2", "00.5"};
    struct amount out = {1, 2};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(amount_parse(bad[i], &out) == ERR_INVALID, "'%s'", bad[i]);
    }
    ck_assert_uint_eq(amount_parse("340282366920938463463.374607431768211456", &out), ERR_RANGE);
    ck_assert_uint_eq(amount_parse("999999999999999999999999999999999999999999", &out), ERR_RANGE);
    ck_assert_uint_eq(out.high, 1); /* untouched */
    uint8_t bytes[AMOUNT_BYTES];
    for (int run = 0; run < 1000; run++) {
        struct amount a = {test_rand() >> test_rand() % 64, test_rand()};
        char text[AMOUNT_TEXT_SIZE];
        amount_to_bytes(a, bytes);
        ck_assert_uint_eq(bytes[0], a.high >> 56);
        ck_assert_uint_eq(bytes[AMOUNT_BYTES - 1], a.low & 0xff);
        ck_assert(amount_equal(amount_from_bytes(bytes), a));
        ck_assert(amount_equal(parse(amount_format(a, text)), a));
    }
}
END_TEST

START_TEST(test_amount_arithmetic)
{
    struct amount out;
    struct amount one = amount_from_units(1);
    ck_assert_uint_eq(amount_add(MAX, one, &out), ERR_RANGE);
    ck_assert_uint_eq(amount_sub(AMOUNT_ZERO, one, &out), ERR_RANGE);
    ck_assert_uint_eq(amount_mul(MAX, 2, &out), ERR_RANGE);
    ck_assert_uint_eq(amount_mul_ratio(MAX, 1, 0, &out), ERR_RANGE);
    ck_assert_uint_eq(amount_mul_ratio(MAX, 2, 1, &out), ERR_RANGE);
    ck_assert_uint_eq(amount_mul_div(MAX, MAX, MAX, &out), ERR_OK);
    ck_assert(amount_equal(out, MAX));
    /* (2^128 - 1)^2 / (2^128 - 2) = 2^128 remainder 1: just too large; / MAX fits. */
    struct amount below;
    ck_assert_uint_eq(amount_sub(MAX, one, &below), ERR_OK);
    ck_assert_uint_eq(amount_mul_div(MAX, MAX, below, &out), ERR_RANGE);
    ck_assert_uint_eq(amount_mul_div(MAX, below, MAX, &out), ERR_OK);
    ck_assert(amount_equal(out, below));
    for (int run = 0; run < 2000; run++) { /* (q * d + r) with r < d gives q back, at any width */
        struct amount q = {test_rand() >> (test_rand() % 64), test_rand()};
        uint64_t d = (test_rand() >> (test_rand() % 63)) | 1;
        ck_assert_uint_eq(amount_mul_ratio(q, d, d, &out), ERR_OK);
        ck_assert(amount_equal(out, q));
        struct amount product;
        if (amount_mul(q, d, &product) == ERR_OK) {
            ck_assert_uint_eq(amount_mul_ratio(product, 1, d, &out), ERR_OK);
            ck_assert(amount_equal(out, q));
        }
    }
    check_text(amount_min(parse("2"), parse("1.5")), "1.5");
}
END_TEST

START_TEST(test_amount_split)
{
    struct amount parts[64];
    uint64_t even[3] = {1, 1, 1};
    uint32_t rank[3] = {2, 0, 1};
    ck_assert_uint_eq(amount_split(amount_from_units(5), even, NULL, 3, parts), ERR_OK);
    ck_assert(parts[0].low == 2 && parts[1].low == 2 && parts[2].low == 1);
    ck_assert_uint_eq(amount_split(amount_from_units(5), even, rank, 3, parts), ERR_OK);
    ck_assert(parts[0].low == 1 && parts[1].low == 2 && parts[2].low == 2);
    uint64_t zero[2] = {0, 0};
    ck_assert_uint_eq(amount_split(MAX, zero, NULL, 2, parts), ERR_INVALID);
    ck_assert_uint_eq(amount_split(MAX, zero, NULL, 0, parts), ERR_INVALID);
    ck_assert_uint_eq(amount_split(MAX, zero, NULL, AMOUNT_SPLIT_MAX + 1, parts), ERR_LIMIT);
    for (int run = 0; run < 2000; run++) {
        uint64_t weights[64];
        size_t count = 1 + test_rand() % 64;
        for (size_t i = 0; i < count; i++) {
            weights[i] = test_rand() % 4 == 0 ? 0 : test_rand() >> (test_rand() % 64);
        }
        weights[test_rand() % count] |= 1;
        struct amount total = {test_rand() >> (test_rand() % 64), test_rand()};
        ck_assert_uint_eq(amount_split(total, weights, NULL, count, parts), ERR_OK);
        struct amount sum = AMOUNT_ZERO;
        for (size_t i = 0; i < count; i++) {
            ck_assert_uint_eq(amount_add(sum, parts[i], &sum), ERR_OK);
            ck_assert(weights[i] != 0 || amount_is_zero(parts[i]));
            bool fair = true; /* more weight never earns less */
            for (size_t k = 0; k < i; k++) {
                int order = amount_compare(parts[k], parts[i]);
                fair = fair && (weights[k] <= weights[i] || order >= 0) &&
                       (weights[k] >= weights[i] || order <= 0);
            }
            ck_assert(fair);
        }
        ck_assert(amount_equal(sum, total));
    }
}
END_TEST

/* BIP-350's valid strings that hold whole bytes, and its invalid ones. */
START_TEST(test_bech32m)
{
    uint8_t data[BECH32M_DATA_MAX];
    size_t size = 99;
    char text[BECH32M_TEXT_SIZE];
    ck_assert_uint_eq(bech32m_decode("a", "A1LQFN3A", data, sizeof data, &size), ERR_OK);
    ck_assert_uint_eq(size, 0);
    ck_assert_uint_eq(bech32m_decode("?", "?1v759aa", data, sizeof data, &size), ERR_OK);
    ck_assert_uint_eq(bech32m_encode("?", bytes_of(NULL, 0), text), ERR_OK);
    ck_assert_str_eq(text, "?1v759aa");
    ck_assert_uint_eq(bech32m_decode("abcdef", "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
                                     data, sizeof data, &size),
                      ERR_OK);
    ck_assert_uint_eq(size, 20);
    ck_assert_uint_eq(bech32m_encode("abcdef", bytes_of(data, size), text), ERR_OK);
    ck_assert_str_eq(text, "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx");
    ck_assert_uint_eq(bech32m_decode("split",
                                     "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
                                     data, sizeof data, &size),
                      ERR_OK);
    ck_assert_uint_eq(size, 30);
    static const char *const bad[] = {"a1lqfn3",  "a1lqfn3q", "A1lqfn3a", "a1lqfn3a ", "1lqfn3a",
                                      "A1G7SGD8", "a",        "",         "10a06t8",   "a1b"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(bech32m_decode("a", bad[i], data, sizeof data, &size) == ERR_INVALID, "%s",
                      bad[i]);
    }
    for (int run = 0; run < 500; run++) { /* round trip; any changed letter is noticed */
        struct account_id id;
        struct account_id back;
        char id_text[ACCOUNT_ID_TEXT_SIZE];
        for (size_t i = 0; i < ACCOUNT_ID_SIZE; i++) {
            id.bytes[i] = (uint8_t)test_rand();
        }
        ck_assert_uint_eq(account_id_parse(account_id_format(&id, id_text), &back), ERR_OK);
        ck_assert(account_id_equal(&id, &back));
        ck_assert_int_eq(strncmp(id_text, "open1", 5), 0);
        id_text[test_rand() % 63] ^= (char)(1 << test_rand() % 5);
        ck_assert_uint_eq(account_id_parse(id_text, &back), ERR_INVALID);
    }
    memset(data, 0, sizeof data);
    ck_assert_uint_eq(bech32m_encode("x", bytes_of(data, BECH32M_DATA_MAX), text), ERR_OK);
    ck_assert_uint_eq(bech32m_encode("xxxx", bytes_of(data, BECH32M_DATA_MAX), text), ERR_RANGE);
}
END_TEST

/* RFC 4648 section 10, and what strict and lenient refuse. */
START_TEST(test_base64_and_hex)
{
    static const char *const vector[][2] = {{"", ""},
                                            {"f", "Zg=="},
                                            {"fo", "Zm8="},
                                            {"foo", "Zm9v"},
                                            {"foob", "Zm9vYg=="},
                                            {"fooba", "Zm9vYmE="},
                                            {"foobar", "Zm9vYmFy"}};
    struct buf out;
    buf_init(&out, 1000);
    for (size_t i = 0; i < sizeof vector / sizeof vector[0]; i++) {
        buf_clear(&out);
        ck_assert_uint_eq(base64_encode(bytes_of_text(vector[i][0]), &out), ERR_OK);
        ck_assert_str_eq(buf_text(&out), vector[i][1]);
        buf_clear(&out);
        ck_assert_uint_eq(base64_decode(bytes_of_text(vector[i][1]), false, &out), ERR_OK);
        ck_assert_str_eq(buf_text(&out), vector[i][0]);
        buf_clear(&out);
        struct bytes bare = bytes_of_text(vector[i][1]);
        while (bare.size > 0 && bare.data[bare.size - 1] == '=') {
            bare.size--;
        }
        ck_assert_uint_eq(base64_decode(bare, true, &out), ERR_OK);
        ck_assert_str_eq(buf_text(&out), vector[i][0]);
    }
    static const char *const bad[] = {
        "Zg=", "Zg", "Zh==", "Zm9=", "=", "Zg==Zg==", "Z===", "Z", "Zm 9", "-_-_", "Zm9v\n"};
    buf_clear(&out);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(base64_decode(bytes_of_text(bad[i]), false, &out) == ERR_INVALID, "%s",
                      bad[i]);
    }
    ck_assert_uint_eq(base64_decode(bytes_of_text("-_-_"), true, &out), ERR_OK);
    ck_assert_uint_eq(base64_decode(bytes_of_text("Z"), true, &out), ERR_INVALID);
    buf_deinit(&out);

    uint8_t bytes[3] = {0};
    char text[7];
    ck_assert_uint_eq(hex_decode("00ff1a", 6, bytes, 3), ERR_OK);
    ck_assert_str_eq(hex_encode(bytes, 3, text), "00ff1a");
    ck_assert_uint_eq(hex_decode("00FF1A", 6, bytes, 3), ERR_INVALID);
    ck_assert_uint_eq(hex_decode("00ff1", 5, bytes, 3), ERR_INVALID);
    struct digest digest;
    char digest_text[DIGEST_TEXT_SIZE];
    static const char ABC[] =
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    ck_assert_uint_eq(digest_parse(ABC, &digest), ERR_OK);
    ck_assert_str_eq(digest_format(&digest, digest_text), ABC);
    ck_assert_uint_eq(digest_parse(ABC + 1, &digest), ERR_INVALID);
    ck_assert_uint_eq(digest_parse("sha256:", &digest), ERR_INVALID);
}
END_TEST

START_TEST(test_utf8)
{
    static const char *const good[] = {"",
                                       "abc",
                                       "\xc3\xa9",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc3",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "a\xe2\x82",
                                      "\xff"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ck_assert_msg(utf8_valid(bytes_of_text(good[i])), "%zu", i);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(!utf8_valid(bytes_of_text(bad[i])), "%zu", i);
    }
}
END_TEST

START_TEST(test_buf)
{
    struct buf buf;
    buf_init(&buf, 20);
    ck_assert_str_eq(buf_text(&buf), "");
    ck_assert_uint_eq(buf_append_varint(&buf, UINT64_MAX), ERR_OK);
    ck_assert_uint_eq(buf_append_u64be(&buf, UINT64_C(0x0102030405060708)), ERR_OK);
    ck_assert_uint_eq(buf_append_u16le(&buf, 0x0102), ERR_OK);
    ck_assert_uint_eq(buf.size, 20);
    ck_assert_uint_eq(buf_append_byte(&buf, 1), ERR_LIMIT);
    ck_assert_uint_eq(buf_append(&buf, NULL, 0), ERR_LIMIT); /* sticky */
    ck_assert_uint_eq(buf_err(&buf), ERR_LIMIT);
    struct bytes in = buf_bytes(&buf);
    uint64_t u64 = 0;
    uint16_t u16 = 0;
    uint32_t u32 = 7;
    ck_assert_uint_eq(bytes_take_varint(&in, &u64), ERR_OK);
    ck_assert_uint_eq(u64, UINT64_MAX);
    ck_assert_uint_eq(bytes_take_u64be(&in, &u64), ERR_OK);
    ck_assert_uint_eq(u64, UINT64_C(0x0102030405060708));
    ck_assert_uint_eq(bytes_take_u32le(&in, &u32), ERR_INVALID);
    ck_assert_uint_eq(u32, 7);
    ck_assert_uint_eq(bytes_take_u16le(&in, &u16), ERR_OK);
    ck_assert_uint_eq(u16, 0x0102);
    ck_assert_uint_eq(in.size, 0);
    in = bytes_of("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10); /* 65 bits */
    ck_assert_uint_eq(bytes_take_varint(&in, &u64), ERR_INVALID);
    in = bytes_of("\xff", 1);
    ck_assert_uint_eq(bytes_take_varint(&in, &u64), ERR_INVALID);
    buf_clear(&buf);
    ck_assert_uint_eq(buf_printf(&buf, "%d-%s", 42, "x"), ERR_OK);
    ck_assert_str_eq(buf_text(&buf), "42-x");
    size_t size = 0;
    uint8_t *taken = buf_take(&buf, &size);
    ck_assert_uint_eq(size, 4);
    free(taken);
    ck_assert_uint_eq(buf.size, 0);
    buf_deinit(&buf);
}
END_TEST

START_TEST(test_arena)
{
    struct arena *arena = arena_create(100000);
    for (int round = 0; round < 3; round++) {
        size_t total = 0;
        for (size_t size = 0;; size = (size * 7 + 3) % 5000) {
            uint8_t *data = arena_alloc(arena, size);
            if (data == NULL) {
                break;
            }
            ck_assert_uint_eq((uintptr_t)data % 16, 0);
            for (size_t i = 0; i < size; i++) {
                ck_assert_uint_eq(data[i], 0);
            }
            memset(data, 0xff, size);
            total += size;
        }
        ck_assert_uint_gt(total, 90000);
        ck_assert_uint_le(arena_used(arena), 100000);
        arena_reset(arena);
        ck_assert_uint_eq(arena_used(arena), 0);
    }
    ck_assert_str_eq(arena_printf(arena, "%s=%d", "a", 1), "a=1");
    ck_assert_str_eq(arena_strdup(arena, "text"), "text");
    ck_assert_ptr_null(arena_alloc(arena, SIZE_MAX));
    ck_assert_ptr_null(arena_alloc_array(arena, SIZE_MAX / 2, 3));
    arena_destroy(arena);
}
END_TEST

START_TEST(test_errors)
{
    for (enum err err = ERR_OK; err < ERR_COUNT;
         err++) { /* what we send, a peer of ours gets back */
        enum err back = err_from_grpc_status(err_grpc_status(err));
        ck_assert(back == err || (err == ERR_NO_MEMORY && back == ERR_LIMIT) ||
                  (err == ERR_FULL && back == ERR_UNAVAILABLE));
        ck_assert_int_ge(err_http_status(err), 200);
        ck_assert_ptr_nonnull(err_meaning(err));
    }
    ck_assert_int_eq(err_grpc_status(ERR_DENIED), 7);
    ck_assert_int_eq(err_http_status(ERR_DENIED), 403);
    ck_assert_int_eq(err_http_status(ERR_FULL), 507);
    /* ERR_LIMIT is about the content: what the machine lacks must never read so */
    static const int lacks[] = {ENOSPC, EDQUOT, EFBIG, EMFILE, ENFILE, ENOMEM};
    for (size_t i = 0; i < sizeof lacks / sizeof lacks[0]; i++) {
        ck_assert_uint_eq(err_from_errno(lacks[i]), i < 3 ? ERR_FULL : ERR_NO_MEMORY);
    }
    ck_assert_uint_eq(err_from_grpc_status(-1), ERR_IO);
    ck_assert_uint_eq(err_from_grpc_status(2), ERR_IO);
    ck_assert_uint_eq(err_from_grpc_status(6), ERR_CONFLICT);
    struct note note = {""};
    ck_assert_uint_eq(note_set(&note, ERR_RANGE, "row %d", 7), ERR_RANGE);
    ck_assert_uint_eq(note_wrap(&note, ERR_RANGE, "file %s", "a"), ERR_RANGE);
    ck_assert_str_eq(note.text, "file a: row 7");
}
END_TEST

START_TEST(test_metrics)
{
    static const double BOUNDS[] = {0.1, 1};
    struct metrics *metrics = metrics_create();
    struct metric *count = metrics_counter(metrics, "a_total", "method=\"X\"", "calls");
    struct metric *gauge = metrics_gauge(metrics, "b_bytes", "", "memory");
    struct metric *other = metrics_counter(metrics, "a_total", "", "calls");
    struct metric *seconds = metrics_histogram(metrics, "c_seconds", "k=\"v\"", "time", BOUNDS, 2);
    ck_assert_ptr_eq(metrics_counter(metrics, "a_total", "", "calls"), other);
    metric_add(count, 3);
    metric_set(gauge, 1.5);
    metric_observe(seconds, 0.1);
    metric_observe(seconds, 0.5);
    metric_observe(seconds, 5);
    struct buf out;
    buf_init(&out, METRICS_TEXT_MAX);
    ck_assert_uint_eq(metrics_write(metrics, &out), ERR_OK);
    ck_assert_str_eq(buf_text(&out), "# HELP a_total calls\n# TYPE a_total counter\n"
                                     "a_total{method=\"X\"} 3\na_total 0\n"
                                     "# HELP b_bytes memory\n# TYPE b_bytes gauge\nb_bytes 1.5\n"
                                     "# HELP c_seconds time\n# TYPE c_seconds histogram\n"
                                     "c_seconds_bucket{k=\"v\",le=\"0.1\"} 1\n"
                                     "c_seconds_bucket{k=\"v\",le=\"1\"} 2\n"
                                     "c_seconds_bucket{k=\"v\",le=\"+Inf\"} 3\n"
                                     "c_seconds_sum{k=\"v\"} 5.5999999999999996\n"
                                     "c_seconds_count{k=\"v\"} 3\n");
    buf_deinit(&out);
    metrics_destroy(metrics);
}
END_TEST

START_TEST(test_log_is_one_line)
{
    FILE *file = tmpfile();
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(dup2(fileno(file), 2), 0);
    log_start("test", LOG_LEVEL_INFO, NULL);
    log_debug("hidden x=1");
    log_info("event_word a=%d text=\"%s\"", 1, "two\nlines");
    char line[LOG_LINE_MAX + 100] = "";
    char big[4000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    log_error("big %s", big);
    rewind(file);
    ck_assert_ptr_nonnull(fgets(line, sizeof line, file));
    ck_assert_str_eq(line, "level=info program=test event=event_word a=1 text=\"two?lines\"\n");
    ck_assert_ptr_nonnull(fgets(line, sizeof line, file));
    ck_assert_uint_le(strlen(line), LOG_LINE_MAX);
    ck_assert_int_eq(line[strlen(line) - 1], '\n');
    (void)fclose(file);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base");
    TCase *rules = tcase_create("rules");
    tcase_add_test(rules, test_amount_text);
    tcase_add_test(rules, test_amount_arithmetic);
    tcase_add_test(rules, test_amount_split);
    tcase_add_test(rules, test_bech32m);
    tcase_add_test(rules, test_base64_and_hex);
    tcase_add_test(rules, test_utf8);
    tcase_add_test(rules, test_buf);
    tcase_add_test(rules, test_arena);
    tcase_add_test(rules, test_errors);
    tcase_add_test(rules, test_metrics);
    tcase_add_test(rules, test_log_is_one_line);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
