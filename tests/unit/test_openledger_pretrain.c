/* test_openledger_pretrain.c - a base model trained again is compared with the manifest it should
 * match: openledger pretrain --expect. */
#include <stdlib.h>
#include <string.h>

#include "services/openledger/commands.h"
#include "services/openledger/pretrain_expect.h"
#include "shared/base/buf.h"
#include "shared/crypto/keys.h"
#include "tests/harness/folder.h"

#define SHIPPED "deploy/models/openledger-3m"

static void file_put(const char *name, const char *text)
{
    struct bytes bytes = {(const uint8_t *)text, strlen(text)};
    ck_assert_int_eq(file_write_atomic(test_path(name), bytes, 0644, NULL), ERR_OK);
}

START_TEST(test_manifests)
{
    static const struct {
        const char *text;
        enum err err;
        const char *note;
    } CASES[] = {
        {"{\"kind\": \"openledger-base-model-v1\", \"model_digest\": \"sha256:"
         "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\"}",
         ERR_OK, ""},
        {"{\"kind\": \"something else\"}", ERR_INVALID, "no base model's manifest"},
        {"{\"kind\": \"openledger-base-model-v1\"}", ERR_INVALID, "no model_digest"},
        {"{\"kind\": \"openledger-base-model-v1\", \"model_digest\": 7}", ERR_INVALID,
         "no model_digest"},
        {"[]", ERR_INVALID, "no base model's manifest"},
        {"{\"kind\"", ERR_INVALID, ""},
    };
    struct digest digest;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct note note = {""};
        file_put("manifest.json", CASES[i].text);
        ck_assert_int_eq(pretrain_expect_load(test_path("manifest.json"), &digest, &note),
                         CASES[i].err);
        ck_assert_msg(strstr(note.text, CASES[i].note) != NULL, "%s", note.text);
    }
    ck_assert_int_eq(digest.bytes[1], 0x11);
    struct note note = {""};
    ck_assert_int_eq(pretrain_expect_load(test_path("absent.json"), &digest, &note), ERR_NOT_FOUND);
}
END_TEST

START_TEST(test_both_digests_are_named)
{
    struct digest shipped;
    struct digest other = {{0xab}};
    char text[DIGEST_TEXT_SIZE];
    struct note note = {""};
    ck_assert_int_eq(pretrain_expect_load(SHIPPED "/manifest.json", &shipped, &note), ERR_OK);
    ck_assert_int_eq(pretrain_expect_check(&shipped, &shipped, &note), ERR_OK);
    ck_assert_int_eq(pretrain_expect_check(&shipped, &other, &note), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(note.text, digest_format(&shipped, text)));
    ck_assert_ptr_nonnull(strstr(note.text, digest_format(&other, text)));
}
END_TEST

/* A model of a few hundred weights per layer; extra: one more flag and its value, or NULL. */
static int pretrain(const char *out, const char *flag, const char *value)
{
    char corpus[FILE_PATH_SIZE];
    char folder[FILE_PATH_SIZE];
    char argument[FILE_PATH_SIZE];
    (void)snprintf(corpus, sizeof corpus, "%s", test_path("text.jsonl"));
    (void)snprintf(folder, sizeof folder, "%s", test_path(out));
    (void)snprintf(argument, sizeof argument, "%s", value);
    const char *words[] = {"pretrain", "--corpus",    corpus,  "--heldout", corpus, "--out",
                           folder,     "--tokenizer", SHIPPED, "--steps",   "3",    "--batch",
                           "2",        "--context",   "16",    "--layers",  "2",    "--hidden",
                           "8",        "--heads",     "2",     "--ffn",     "16",   "--threads",
                           "1",        flag,          argument};
    char *argv[sizeof words / sizeof words[0]];
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        argv[i] = (char *)(uintptr_t)words[i];
    }
    return cmd_pretrain((int)(sizeof words / sizeof words[0]), argv);
}

START_TEST(test_a_run_is_held_to_its_manifest)
{
    file_put("text.jsonl",
             "{\"text\": \"It was the best of times, it was the worst of times, it was "
             "the age of wisdom, it was the age of foolishness.\"}\n"
             "{\"text\": \"We had everything before us, we had nothing before us, we "
             "were all going direct to Heaven.\"}\n");
    ck_assert_int_eq(pretrain("first", "--seed", "5"), EXIT_DONE);
    char manifest[FILE_PATH_SIZE];
    (void)snprintf(manifest, sizeof manifest, "%s", test_path("first/manifest.json"));
    ck_assert_int_eq(pretrain("other", "--expect", manifest), EXIT_FAILED); /* seed 1 */
    ck_assert_int_eq(pretrain("shipped", "--expect", SHIPPED "/manifest.json"), EXIT_FAILED);
    ck_assert_int_eq(pretrain("bad", "--expect", SHIPPED "/config.json"), EXIT_FAILED);
    ck_assert(!file_exists(test_path("bad/checkpoint.bin"))); /* refused before any training */
    (void)snprintf(manifest, sizeof manifest, "%s", test_path("other/manifest.json"));
    ck_assert_int_eq(pretrain("again", "--expect", manifest), EXIT_DONE);
    ck_assert_int_eq(pretrain("usage", "--micro-batch-rows", "0"), EXIT_USAGE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("openledger pretrain");
    TCase *tcase = tcase_create("all");
    crypto_start();
    tcase_add_checked_fixture(tcase, test_folder_make, test_folder_remove);
    tcase_add_test(tcase, test_manifests);
    tcase_add_test(tcase, test_both_digests_are_named);
    tcase_add_test(tcase, test_a_run_is_held_to_its_manifest);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
