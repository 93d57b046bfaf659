/* test_tls.c - HTTPS with a throw-away certificate, by curl: ALPN picks HTTP/1.1 or HTTP/2. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/http/http.h"
#include "shared/platform/file.h"
#include "shared/platform/process.h"
#include "shared/platform/signals.h"

static void on_hello(void *context, struct http_request *request)
{
    (void)context;
    static const char words[] = "hello world";
    http_reply(request, 200, "text/plain",
               (struct bytes){.data = (const uint8_t *)words, .size = sizeof words - 1});
}

START_TEST(test_tls_speaks_both_versions)
{
    char folder[FILE_PATH_SIZE];
    char cert[FILE_PATH_SIZE];
    char key[FILE_PATH_SIZE];
    char url[64];
    ck_assert_int_eq(file_make_private_folder("/tmp/openledger-test-", folder, NULL), ERR_OK);
    ck_assert_int_eq(file_path(cert, "%.4000s/cert", folder), ERR_OK);
    ck_assert_int_eq(file_path(key, "%.4000s/key", folder), ERR_OK);
    const char *const make[] = {
        "openssl", "req",   "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes",  "-subj", "/CN=x", "-keyout", key,  "-out",     cert,
        "-days",   "2",     NULL};
    signals_init();
    struct buf out;
    buf_init(&out, 65536);
    int exit_code = 1;
    if (process_output(make, 20000, &out, &exit_code, NULL) != ERR_OK || exit_code != 0) {
        (void)printf("SKIP: openssl is not installed\n");
    } else {
        struct http_server *tls = NULL;
        struct http_options options = {
            .address = "127.0.0.1:0", .cert_file = cert, .key_file = key};
        ck_assert_int_eq(http_open(&options, &tls, NULL), ERR_OK);
        http_route(tls, "GET", "/hello", on_hello, NULL);
        ck_assert_int_eq(http_start(tls), ERR_OK);
        (void)snprintf(url, sizeof url, "https://127.0.0.1:%u/hello", (unsigned)http_port(tls));
        const char *const versions[] = {"--http1.1", "--http2"};
        const char *const names[] = {"HTTP/1.1 200", "HTTP/2 200"};
        for (size_t i = 0; i < 2; i++) {
            const char *const get[] = {"curl", "-sSki", "--max-time", "5", versions[i], url, NULL};
            buf_clear(&out);
            ck_assert_int_eq(process_output(get, 20000, &out, &exit_code, NULL), ERR_OK);
            ck_assert_ptr_nonnull(strstr(buf_text(&out), names[i]));
            ck_assert_ptr_nonnull(strstr(buf_text(&out), "hello world"));
        }
        http_close(tls, 100);
        options.key_file = "/nowhere";
        struct note note = {0};
        ck_assert_int_eq(http_open(&options, &tls, &note), ERR_INVALID);
        ck_assert_str_ne(note.text, "");
    }
    buf_deinit(&out);
    ck_assert_int_eq(file_remove_tree(folder, NULL), ERR_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tls");
    TCase *tests = tcase_create("server");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_tls_speaks_both_versions);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
