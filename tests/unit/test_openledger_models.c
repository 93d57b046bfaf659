/* test_openledger_models.c - base models on their way into the store and out: sharded, larger than an
 * object, hostile, incomplete. */
#include "shared/lineage/bundle.h"

#include <unistd.h>

#include "openledger/v1/objects.pb-c.h"
#include "services/openledger/commands.h"
#include "shared/base/hex.h"
#include "shared/crypto/keys.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/tx.h"
#include "shared/lineage/lineage.h"
#include "tests/harness/folder.h"
#include "tests/harness/model_folder.h"

static struct note note;
static struct blob_store *blobs;

static void setup(void)
{
    test_folder_make();
    ck_assert_int_eq(blob_open(test_path("blobs"), &blobs, &note), ERR_OK);
}

static void teardown(void)
{
    blob_close(blobs);
    test_folder_remove();
}

/* A model of 0.3 million weights in two shards. */
static void small_make(char out_folder[FILE_PATH_SIZE])
{
    struct lm_config config = model_folder_config(256, 64, 1);
    ck_assert_int_eq(file_path(out_folder, "%s/model", test_folder), ERR_OK);
    model_folder_write(out_folder, &config, 2);
}

static void expect_put(const char *path, enum err err, const char *words)
{
    struct digest content;
    note.text[0] = '\0';
    ck_assert_int_eq(lineage_bundle_put(blobs, path, NULL, &content, &note), err);
    ck_assert_msg(strstr(note.text, words) != NULL, "%s", note.text);
    struct lineage_bundle *bundle = NULL;
    ck_assert_int_eq(lineage_bundle_map(path, &bundle, &note), err);
    lineage_bundle_close(bundle);
}

static void expect_load(const struct digest *content, enum err err, const char *words)
{
    struct lineage_base *base = NULL;
    note.text[0] = '\0';
    ck_assert_int_eq(lineage_base_load(blobs, content, NULL, &base, &note), err);
    ck_assert_msg(strstr(note.text, words) != NULL, "%s", note.text);
    lineage_base_destroy(base);
}

/* ---- a model larger than an object ---- */

struct watched {
    uint64_t done;
    uint32_t calls, stop_after; /* 0: never */
};

static bool watch(void *context, uint64_t done, uint64_t total)
{
    struct watched *watched = context;
    ck_assert_uint_gt(done, watched->done);
    ck_assert_uint_le(done, total);
    watched->done = done;
    watched->calls++;
    return watched->calls != watched->stop_after;
}

static void blob_path(const struct digest *digest, char out[FILE_PATH_SIZE])
{
    char hex[2 * DIGEST_SIZE + 1];
    (void)hex_encode(digest->bytes, DIGEST_SIZE, hex);
    ck_assert_int_eq(file_path(out, "%s/blobs/%.2s/%s", test_folder, hex, hex), ERR_OK);
}

static void byte_flip(const char *path, uint64_t at)
{
    int fd = -1;
    uint8_t byte;
    size_t got;
    ck_assert_int_eq(file_open(path, FILE_WRITE, &fd, NULL), ERR_OK);
    ck_assert_int_eq(file_read_at(fd, at, &byte, 1, &got, NULL), ERR_OK);
    ck_assert_uint_eq(got, 1);
    byte ^= 4;
    ck_assert_int_eq(file_write_at(fd, at, &byte, 1, NULL), ERR_OK);
    file_close(fd);
}

/* The digest of chunk `index` of a file that is mapped. */
static struct digest chunk_of(const struct lineage_bundle *bundle, uint32_t file, uint32_t index)
{
    struct bytes data = bundle->files[file].data;
    uint64_t at = (uint64_t)index * BLOB_CHUNK_SIZE;
    struct digest digest;
    ck_assert_uint_lt(at, data.size);
    size_t left = data.size - at;
    sha256(bytes_of(data.data + at, left < BLOB_CHUNK_SIZE ? left : BLOB_CHUNK_SIZE), &digest);
    return digest;
}

static int evaluate(const char *model)
{
    char heldout[FILE_PATH_SIZE];
    ck_assert_int_eq(file_path(heldout, "%s/heldout.jsonl", test_folder), ERR_OK);
    struct buf text;
    buf_init(&text, 1U << 16);
    for (uint32_t i = 0; i < 100; i++) {
        (void)buf_append_text(&text, "{\"text\":\"It was the best of times.\"}\n");
    }
    ck_assert_int_eq(file_write_quick(heldout, buf_bytes(&text), 0644, NULL), ERR_OK);
    buf_deinit(&text);
    const char *words[] = {"model", "evaluate", model, heldout, "--windows-max", "1"};
    char *argv[sizeof words / sizeof words[0]];
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        argv[i] = (char *)(uintptr_t)words[i];
    }
    return cmd_model((int)(sizeof words / sizeof words[0]), argv);
}

START_TEST(test_sharded_and_larger_than_an_object)
{
    char folder[FILE_PATH_SIZE];
    struct lm_config config = model_folder_config(1024, 2816, 3);
    ck_assert_int_eq(file_path(folder, "%s/model", test_folder), ERR_OK);
    model_folder_write(folder, &config, 3);

    /* In, cut off after four chunks; then on. */
    struct watched watched = {.stop_after = 4};
    struct blob_progress progress = {.report = watch, .context = &watched};
    struct digest content;
    struct digest again;
    ck_assert_int_eq(lineage_bundle_put(blobs, folder, &progress, &content, &note), ERR_CANCELLED);
    watched = (struct watched){.done = 0};
    ck_assert_int_eq(lineage_bundle_put(blobs, folder, &progress, &content, &note), ERR_OK);
    ck_assert_uint_eq(watched.done, progress.total);
    ck_assert_uint_gt(progress.total, BLOB_SIZE_MAX);
    ck_assert_int_eq(lineage_bundle_put(blobs, folder, NULL, &again, &note), ERR_OK);
    ck_assert(digest_equal(&content, &again));
    ck_assert_int_eq(lineage_bundle_check(blobs, &content, &note), ERR_OK);

    /* Out: the very model of the folder. */
    struct lineage_load how = {.serve_only = true, .progress = &progress};
    struct lineage_base *base = NULL;
    struct lineage_base *direct = NULL;
    struct lineage_bundle *bundle = NULL;
    watched = (struct watched){.done = 0};
    ck_assert_msg(lineage_base_load(blobs, &content, &how, &base, &note) == ERR_OK, "%s",
                  note.text);
    ck_assert_uint_eq(watched.done, progress.total);
    ck_assert(digest_equal(&base->content, &content));
    ck_assert_int_eq(lineage_bundle_map(folder, &bundle, &note), ERR_OK);
    ck_assert_int_eq(lineage_base_build(bundle, &how, &direct, &note), ERR_OK);
    struct digest ours;
    struct digest theirs;
    lm_model_digest(base->model, &ours);
    lm_model_digest(direct->model, &theirs);
    ck_assert(digest_equal(&ours, &theirs));
    ck_assert(digest_equal(&base->profile, &direct->profile));
    lineage_base_destroy(direct);
    lineage_base_destroy(base);

    /* A chunk of the second shard is damaged in the store, and no copy is left: both are named. */
    struct digest damaged = chunk_of(bundle, 2, 1);
    char path[FILE_PATH_SIZE];
    char text[DIGEST_TEXT_SIZE];
    ck_assert_str_eq(bundle->files[2].name, "model-00002-of-00003.safetensors");
    blob_path(&damaged, path);
    byte_flip(path, 5000);
    ck_assert_int_eq(file_remove_tree(test_path("blobs/files"), &note), ERR_OK);
    expect_load(&content, ERR_CORRUPT, "model-00002-of-00003.safetensors: chunk 2 of ");
    ck_assert_ptr_nonnull(strstr(note.text, digest_format(&damaged, text)));
    byte_flip(path, 5000);
    expect_load(&content, ERR_OK, "");
    ck_assert_int_eq(blob_remove(blobs, &damaged, &note), ERR_OK);
    ck_assert_int_eq(lineage_bundle_check(blobs, &content, &note), ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(note.text, "model-00002-of-00003.safetensors: no blob "));
    ck_assert_ptr_nonnull(strstr(note.text, digest_format(&damaged, text)));
    lineage_bundle_close(bundle);
}
END_TEST

/* ---- what people bring ---- */

static void index_write(const char *folder, const char *file)
{
    char text[512];
    (void)snprintf(text, sizeof text,
                   "{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\",\"b\":%s}}", file);
    model_folder_file(folder, LM_INDEX, bytes_of(text, strlen(text)));
}

START_TEST(test_folders_that_are_no_model)
{
    static const char *const NAMES[] = {"\"../x.safetensors\"",
                                        "\"/etc/passwd\"",
                                        "\"a/b.safetensors\"",
                                        "\"..\"",
                                        "\"\"",
                                        "\".x.safetensors\"",
                                        "\"config.json\"",
                                        "\".safetensors\"",
                                        "7",
                                        "null",
                                        "\"a b.safetensors\"",
                                        "{}"};
    char folder[FILE_PATH_SIZE];
    char path[FILE_PATH_SIZE];
    small_make(folder);
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        index_write(folder, NAMES[i]);
        expect_put(folder, ERR_INVALID, LM_INDEX ": tensor 'b' is in '");
    }
    index_write(folder, "\"model-00002-of-00002.safetensors\",\"b\":\"x\"");
    expect_put(folder, ERR_INVALID, LM_INDEX);
    index_write(folder, "\"model-00003-of-00002.safetensors\"");
    expect_put(folder, ERR_NOT_FOUND, LM_INDEX ": there is no 'model-00003-of-00002.safetensors'");
    model_folder_file(folder, LM_INDEX, bytes_of_text("{\"weight_map\":[]}"));
    expect_put(folder, ERR_INVALID, LM_INDEX);
    struct buf many;
    buf_init(&many, 1U << 20);
    (void)buf_append_text(&many, "{\"weight_map\":{");
    for (uint32_t i = 0; i <= LM_FILES_MAX; i++) {
        char entry[64];
        (void)snprintf(entry, sizeof entry, "%s\"t%u\":\"%u.safetensors\"", i == 0 ? "" : ",", i,
                       i);
        (void)buf_append_text(&many, entry);
        (void)snprintf(entry, sizeof entry, "%u.safetensors", i);
        model_folder_file(folder, entry, bytes_of_text("x"));
    }
    ck_assert_int_eq(buf_append_text(&many, "}}"), ERR_OK);
    model_folder_file(folder, LM_INDEX, buf_bytes(&many));
    buf_deinit(&many);
    expect_put(folder, ERR_LIMIT, "more than 256 files");
    ck_assert_int_eq(file_path(path, "%s/" LM_INDEX, folder), ERR_OK);
    ck_assert_int_eq(file_remove(path, NULL), ERR_OK);
    expect_put(folder, ERR_NOT_FOUND, "no model.safetensors and no " LM_INDEX);
    model_folder_file(folder, "tokenizer.json", bytes_of_text(""));
    expect_put(folder, ERR_INVALID, "tokenizer.json is empty");
    ck_assert_int_eq(file_path(path, "%s/config.json", folder), ERR_OK);
    ck_assert_int_eq(file_remove(path, NULL), ERR_OK);
    expect_put(folder, ERR_NOT_FOUND, "no config.json");
    expect_put(test_path("nowhere"), ERR_NOT_FOUND, "no config.json");
    expect_put(test_path("nowhere.gguf"), ERR_NOT_FOUND, "nowhere.gguf");
}
END_TEST

/* A sparse file: what would be too much is refused by its size, before a byte is read. */
START_TEST(test_sizes_are_bounded)
{
    char folder[FILE_PATH_SIZE];
    char path[FILE_PATH_SIZE];
    int fd = -1;
    small_make(folder);
    ck_assert_int_eq(file_path(path, "%s/model.safetensors", folder), ERR_OK);
    ck_assert_int_eq(file_open(path, FILE_WRITE_NEW, &fd, &note), ERR_OK);
    ck_assert_int_eq(file_truncate(fd, LINEAGE_MODEL_SIZE_MAX, &note), ERR_OK);
    file_close(fd);
    expect_put(folder, ERR_LIMIT, "with model.safetensors the files have more than");
}
END_TEST

/* What a person has not registered can be judged, too. */
START_TEST(test_evaluate)
{
    char folder[FILE_PATH_SIZE];
    char path[FILE_PATH_SIZE];
    small_make(folder);
    ck_assert_int_eq(evaluate(folder), EXIT_DONE);
    ck_assert_int_eq(file_path(path, "%s/model-00002-of-00002.safetensors", folder), ERR_OK);
    ck_assert_int_eq(file_remove(path, NULL), ERR_OK);
    ck_assert_int_eq(evaluate(folder), EXIT_FAILED);
}
END_TEST

/* Links are followed: that is how a Hugging Face cache looks. */
START_TEST(test_links)
{
    char folder[FILE_PATH_SIZE];
    char link[FILE_PATH_SIZE];
    char target[FILE_PATH_SIZE];
    struct digest content;
    struct digest linked;
    small_make(folder);
    ck_assert_int_eq(lineage_bundle_put(blobs, folder, NULL, &content, &note), ERR_OK);
    ck_assert_int_eq(file_path(target, "%s/elsewhere", test_folder), ERR_OK);
    ck_assert_int_eq(file_path(link, "%s/model-00001-of-00002.safetensors", folder), ERR_OK);
    ck_assert_int_eq(file_rename(link, target, NULL), ERR_OK);
    ck_assert_int_eq(symlink(target, link), 0);
    ck_assert_int_eq(lineage_bundle_put(blobs, folder, NULL, &linked, &note), ERR_OK);
    ck_assert(digest_equal(&content, &linked));
    ck_assert_int_eq(file_remove(target, NULL), ERR_OK);
    expect_put(folder, ERR_NOT_FOUND, "there is no 'model-00001-of-00002.safetensors'");
}
END_TEST

/* ---- lists from strangers ---- */

enum spoil {
    SPOIL_NOTHING,
    SPOIL_NAME_PATH,
    SPOIL_NAME_EMPTY,
    SPOIL_ORDER,
    SPOIL_TWICE,
    SPOIL_EMPTY,
    SPOIL_SIZE,
    SPOIL_HUGE,
    SPOIL_SHORT,
    SPOIL_CHUNK_LESS,
    SPOIL_CHUNK_MORE,
    SPOIL_DIGEST,
    SPOIL_NO_FILE,
    SPOIL_COUNT
};

static struct digest spoiled(const Openledger__V1__ModelFiles *good, enum spoil spoil)
{
    Openledger__V1__ModelFiles files = *good;
    Openledger__V1__ModelFile first = *good->files[0];
    Openledger__V1__ModelFile second = *good->files[1];
    Openledger__V1__ModelFile *list[LM_FILES_MAX];
    ProtobufCBinaryData chunks[2] = {first.chunks[0], first.chunks[0]};
    char names[3][32] = {"../config.json", "", "config.json"};
    for (size_t i = 0; i < good->n_files; i++) {
        list[i] = good->files[i];
    }
    list[0] = &first;
    list[1] = &second;
    first.chunks = chunks;
    files.files = list;
    switch (spoil) {
    case SPOIL_NAME_PATH:
        first.name = names[0];
        break;
    case SPOIL_NAME_EMPTY:
        first.name = names[1];
        break;
    case SPOIL_ORDER:
        list[0] = &second;
        list[1] = &first;
        break;
    case SPOIL_TWICE:
        second.name = names[2];
        break;
    case SPOIL_EMPTY:
        first.size = 0;
        first.n_chunks = 0;
        break;
    case SPOIL_SIZE:
        first.size += BLOB_CHUNK_SIZE;
        break;
    case SPOIL_HUGE:
        first.size = UINT64_MAX;
        break;
    case SPOIL_SHORT:
        first.size--;
        break;
    case SPOIL_CHUNK_LESS:
        first.n_chunks = 0;
        break;
    case SPOIL_CHUNK_MORE:
        first.n_chunks = 2;
        break;
    case SPOIL_DIGEST:
        chunks[0].len--;
        break;
    case SPOIL_NO_FILE:
        files.n_files = 0;
        break;
    case SPOIL_NOTHING:
    case SPOIL_COUNT:
        break;
    }
    struct buf packed;
    struct digest digest;
    buf_init(&packed, LINEAGE_MANIFEST_MAX);
    ck_assert_int_eq(ledger_pack(&files.base, &packed), ERR_OK);
    ck_assert_int_eq(blob_put(blobs, buf_bytes(&packed), &digest, NULL), ERR_OK);
    buf_deinit(&packed);
    return digest;
}

START_TEST(test_hostile_lists)
{
    static const struct {
        enum err err;
        const char *words;
    } WANTED[SPOIL_COUNT] = {
        [SPOIL_NAME_PATH] = {ERR_INVALID, "a name is no file's"},
        [SPOIL_NAME_EMPTY] = {ERR_INVALID, "a name is no file's"},
        [SPOIL_ORDER] = {ERR_INVALID, "names do not ascend"},
        [SPOIL_TWICE] = {ERR_INVALID, "names do not ascend"},
        [SPOIL_EMPTY] = {ERR_INVALID, "a file is empty"},
        [SPOIL_SIZE] = {ERR_INVALID, "size and chunks do not agree"},
        [SPOIL_HUGE] = {ERR_INVALID, "all are too large"},
        [SPOIL_SHORT] = {ERR_LIMIT, "config.json: chunk 1 of 1"},
        [SPOIL_CHUNK_LESS] = {ERR_INVALID, "size and chunks do not agree"},
        [SPOIL_CHUNK_MORE] = {ERR_INVALID, "size and chunks do not agree"},
        [SPOIL_DIGEST] = {ERR_INVALID, "no digest"},
        [SPOIL_NO_FILE] = {ERR_INVALID, "it has no file"},
    };
    char folder[FILE_PATH_SIZE];
    struct digest content;
    struct buf data;
    small_make(folder);
    ck_assert_int_eq(lineage_bundle_put(blobs, folder, NULL, &content, &note), ERR_OK);
    buf_init(&data, LINEAGE_MANIFEST_MAX);
    ck_assert_int_eq(blob_get(blobs, &content, &data, &note), ERR_OK);
    Openledger__V1__ModelFiles *good =
        openledger__v1__model_files__unpack(NULL, data.size, data.data);
    ck_assert_ptr_nonnull(good);
    ck_assert_uint_eq(good->n_files, 5);
    struct digest same = spoiled(good, SPOIL_NOTHING);
    ck_assert(digest_equal(&same, &content));
    expect_load(&content, ERR_OK, "");
    for (enum spoil spoil = SPOIL_NOTHING + 1; spoil < SPOIL_COUNT; spoil++) {
        struct digest bad = spoiled(good, spoil);
        expect_load(&bad, WANTED[spoil].err, WANTED[spoil].words);
        if (WANTED[spoil].err == ERR_INVALID) {
            ck_assert_int_eq(lineage_bundle_check(blobs, &bad, &note), ERR_INVALID);
        }
    }
    openledger__v1__model_files__free_unpacked(good, NULL);
    buf_deinit(&data);
    struct digest other;
    ck_assert_int_eq(blob_put(blobs, bytes_of_text("no list"), &other, NULL), ERR_OK);
    expect_load(&other, ERR_INVALID, "another object");
    other.bytes[0] ^= 1;
    expect_load(&other, ERR_NOT_FOUND, "no blob");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("openledger models");
    TCase *tests = tcase_create("all");
    crypto_start();
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_sharded_and_larger_than_an_object);
    tcase_add_test(tests, test_folders_that_are_no_model);
    tcase_add_test(tests, test_sizes_are_bounded);
    tcase_add_test(tests, test_evaluate);
    tcase_add_test(tests, test_links);
    tcase_add_test(tests, test_hostile_lists);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
