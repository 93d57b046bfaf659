/* test_tlog.c - tiles, proofs out of tiles against the plain tree, proof files, what a witness signs. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/keys.h"
#include "shared/platform/file.h"
#include "shared/tlog/proof.h"
#include "shared/tlog/store.h"
#include "shared/tlog/witness.h"
#include "tests/harness/folder.h"
#include "tests/harness/seed.h"

static struct note note;

START_TEST(test_paths)
{
    static const struct {
        struct tlog_tile tile;
        const char *path;
    } good[] = {
        {{.level = 0, .index = 0, .width = 256}, "tile/0/000"},
        {{.level = 0, .index = 999, .width = 1}, "tile/0/999.p/1"},
        {{.level = 1, .index = 1000, .width = 255}, "tile/1/x001/000.p/255"},
        {{.level = 4, .index = 1234067, .width = 256}, "tile/4/x001/x234/067"},
        {{.entries = true, .index = 16777215, .width = 256}, "tile/entries/x016/x777/215"},
    };
    static const char *const bad[] = {
        "",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "/tile/0/000",
        "tile/00/000",
        "tile/5/000",
        "tile/-1/000",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/001/000",
        "tile/0/x000/001",
        "tile/0/x001",
        "tile/0/x001/",
        "tile/0/x001/x000/x000/x000/000",
        "tile/0/000.p",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/1/",
        "tile/0/000/../000",
        "tile/entries",
        "tile/entries/0",
        "tile/entry/000",
        "tile/0/000 ",
    };
    char path[TLOG_PATH_SIZE];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct tlog_tile tile;
        ck_assert_str_eq(tlog_tile_path(&good[i].tile, path), good[i].path);
        ck_assert_uint_eq(tlog_tile_parse(good[i].path, &tile), ERR_OK);
        ck_assert_uint_eq(tile.level, good[i].tile.level);
        ck_assert_uint_eq(tile.index, good[i].tile.index);
        ck_assert_uint_eq(tile.width, good[i].tile.width);
        ck_assert(tile.entries == good[i].tile.entries);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct tlog_tile tile;
        ck_assert_msg(tlog_tile_parse(bad[i], &tile) == ERR_INVALID, "%s", bad[i]);
    }
    /* the specification's example: a tree of 70,000 leaves */
    ck_assert_uint_eq(tlog_tile_width(70000, 0, 272), 256);
    ck_assert_uint_eq(tlog_tile_width(70000, 0, 273), 112);
    ck_assert_uint_eq(tlog_tile_width(70000, 0, 274), 0);
    ck_assert_uint_eq(tlog_tile_width(70000, 1, 0), 256);
    ck_assert_uint_eq(tlog_tile_width(70000, 1, 1), 17);
    ck_assert_uint_eq(tlog_tile_width(70000, 2, 0), 1);
    ck_assert_uint_eq(tlog_tile_width(256, 0, 1), 0);
    ck_assert_uint_eq(tlog_tile_width(256, 1, 0), 1);
}
END_TEST

/* ---- stores ------------------------------------------------------------------------------------- */

struct log {
    struct tlog_store *store;
    struct digest *leaves;
    uint64_t size;
};

static struct bytes entry_of(uint64_t index, char out[24])
{
    return bytes_of(out, (size_t)snprintf(out, 24, "leaf %llu", (unsigned long long)index));
}

static void log_grow(struct log *log, uint64_t size)
{
    char text[24];
    log->leaves = realloc(log->leaves, size * sizeof *log->leaves);
    ck_assert_ptr_nonnull(log->leaves);
    for (; log->size < size; log->size++) {
        struct bytes entry = entry_of(log->size, text);
        merkle_leaf(entry.data, entry.size, &log->leaves[log->size]);
        if (log->size >= tlog_store_size(log->store)) {
            ck_assert_uint_eq(tlog_store_append(log->store, entry, &note), ERR_OK);
        }
    }
}

/* Everything that the reader gives for a tree of size leaves equals what the plain tree gives. */
static void log_compare(const struct log *log, const struct tlog_reader *reader, uint64_t size,
                        uint64_t leaf, uint64_t old_size)
{
    const struct merkle_leaves leaves = {log->leaves, size};
    struct merkle_head head;
    struct digest root;
    merkle_head(leaves, &head);
    ck_assert_uint_eq(tlog_root(reader, size, &root, &note), ERR_OK);
    ck_assert(digest_equal(&root, &head.root));
    struct merkle_proof want;
    struct merkle_proof got;
    ck_assert_uint_eq(merkle_prove(leaves, leaf, &want), ERR_OK);
    ck_assert_uint_eq(tlog_prove(reader, size, leaf, &got, &note), ERR_OK);
    ck_assert_uint_eq(got.leaf_index, leaf);
    ck_assert_uint_eq(got.path_count, want.path_count);
    ck_assert_mem_eq(got.path, want.path, want.path_count * sizeof want.path[0]);
    struct merkle_consistency older;
    struct merkle_consistency newer;
    ck_assert_uint_eq(merkle_prove_consistency(leaves, old_size, &older), ERR_OK);
    ck_assert_uint_eq(tlog_prove_consistency(reader, old_size, size, &newer, &note), ERR_OK);
    ck_assert_uint_eq(newer.path_count, older.path_count);
    ck_assert_mem_eq(newer.path, older.path, older.path_count * sizeof older.path[0]);
}

START_TEST(test_small_logs)
{
    struct log log = {.size = 0};
    ck_assert_uint_eq(tlog_store_open(test_path("log"), &log.store, &note), ERR_OK);
    struct tlog_reader own = tlog_store_reader(log.store);
    struct tlog_reader files = tlog_files_reader(tlog_store_folder(log.store));
    struct digest root;
    struct merkle_head empty;
    merkle_head((struct merkle_leaves){NULL, 0}, &empty);
    ck_assert_uint_eq(tlog_root(&own, 0, &root, &note), ERR_OK);
    ck_assert(digest_equal(&root, &empty.root));
    for (uint64_t size = 1; size <= 1100; size++) {
        log_grow(&log, size);
        uint64_t leaf = test_rand() % size;
        uint64_t old = test_rand() % (size + 1);
        if (size <= 20 || size % 256 <= 2 || size % 50 == 0) {
            ck_assert_uint_eq(tlog_store_publish(log.store, &note), ERR_OK);
            log_compare(&log, &own, size, leaf, old);
            log_compare(&log, &files, size, leaf, old);
        }
    }
    /* older sizes stay readable: from their partial tiles, or from the full ones when those are gone */
    for (uint64_t size = 1; size <= 20; size++) {
        log_compare(&log, &files, size, size - 1, size / 2);
        log_compare(&log, &own, size, size / 2, size / 3);
    }
    ck_assert(!file_exists(test_path("log/tile/0/000.p")));
    ck_assert(file_exists(test_path("log/tile/0/003.p")));
    struct merkle_proof proof;
    struct merkle_consistency older;
    ck_assert_uint_eq(tlog_prove(&own, 10, 10, &proof, &note), ERR_RANGE);
    ck_assert_uint_eq(tlog_prove_consistency(&own, 11, 10, &older, &note), ERR_RANGE);
    static uint8_t large[TLOG_ENTRY_MAX + 1];
    ck_assert_uint_eq(tlog_store_append(log.store, bytes_of(large, sizeof large), &note),
                      ERR_LIMIT);
    ck_assert_uint_eq(tlog_store_clear(log.store, &note), ERR_OK);
    ck_assert_uint_eq(tlog_store_size(log.store), 0);
    tlog_store_close(log.store);
    free(log.leaves);
}
END_TEST

/* Bundles hold the leaves in order; a partial bundle is the beginning of the full one. */
START_TEST(test_bundles)
{
    struct log log = {.size = 0};
    struct buf bundle;
    char text[24];
    buf_init(&bundle, TLOG_BUNDLE_MAX);
    ck_assert_uint_eq(tlog_store_open(test_path("bundles"), &log.store, &note), ERR_OK);
    log_grow(&log, 300);
    ck_assert_uint_eq(tlog_store_publish(log.store, &note), ERR_OK);
    const struct tlog_tile wanted[] = {{.entries = true, .index = 0, .width = 256},
                                       {.entries = true, .index = 0, .width = 7},
                                       {.entries = true, .index = 1, .width = 44}};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        buf_clear(&bundle);
        ck_assert_uint_eq(tlog_files_read(test_path("bundles"), &wanted[i], &bundle, &note),
                          ERR_OK);
        struct bytes rest = buf_bytes(&bundle);
        for (uint32_t n = 0; n < wanted[i].width; n++) {
            struct bytes entry;
            ck_assert_uint_eq(tlog_bundle_take(&rest, &entry), ERR_OK);
            ck_assert(bytes_equal(entry, entry_of(wanted[i].index * 256 + n, text)));
        }
        ck_assert_uint_eq(rest.size, 0);
    }
    const struct tlog_tile none = {.entries = true, .index = 1, .width = 45};
    buf_clear(&bundle);
    ck_assert_uint_eq(tlog_files_read(test_path("bundles"), &none, &bundle, &note), ERR_NOT_FOUND);
    buf_deinit(&bundle);
    tlog_store_close(log.store);
    free(log.leaves);
}
END_TEST

/* Level 2 begins at 65,536 leaves. Opened again, a store knows its full tiles and gets the rest anew;
 * a level's tile that a crash left out is made again. */
START_TEST(test_large_log_and_restart)
{
    enum { SIZE = 66100, FULL = 66048 /* 258 tiles */ };
    struct log log = {.size = 0};
    ck_assert_uint_eq(tlog_store_open(test_path("large"), &log.store, &note), ERR_OK);
    log_grow(&log, SIZE);
    ck_assert_uint_eq(tlog_store_publish(log.store, &note), ERR_OK);
    struct tlog_reader own = tlog_store_reader(log.store);
    struct tlog_reader files = tlog_files_reader(tlog_store_folder(log.store));
    static const uint64_t OLD[] = {1, 255, 256, 257, 65535, 65536, 65537, 66000, SIZE};
    for (size_t i = 0; i < sizeof OLD / sizeof OLD[0]; i++) {
        log_compare(&log, &own, SIZE, OLD[i] - 1, OLD[i]);
        log_compare(&log, &files, SIZE, OLD[i] - 1, OLD[i]);
    }
    tlog_store_close(log.store);
    ck_assert_uint_eq(file_remove(test_path("large/tile/1/000"), &note), ERR_OK);
    ck_assert_uint_eq(tlog_store_open(test_path("large"), &log.store, &note), ERR_OK);
    ck_assert_uint_eq(tlog_store_size(log.store), FULL);
    log.size = FULL;
    log_grow(&log, SIZE + 300);
    own = tlog_store_reader(log.store);
    log_compare(&log, &own, SIZE + 300, 65000, 66001);
    ck_assert(file_exists(test_path("large/tile/1/000")));
    tlog_store_close(log.store);
    free(log.leaves);
}
END_TEST

/* ---- proof files -------------------------------------------------------------------------------- */

static void head_of(uint32_t count, struct digest *leaves, struct merkle_head *out)
{
    for (uint32_t i = 0; i < count; i++) {
        merkle_leaf(&i, sizeof i, &leaves[i]);
    }
    merkle_head((struct merkle_leaves){leaves, count}, out);
}

START_TEST(test_proof_files)
{
    struct digest leaves[9];
    struct merkle_head head;
    struct tlog_proof proof = {.checkpoint = bytes_of_text("log\n9\nx\n\nsigned\n")};
    struct tlog_proof back;
    struct buf text;
    struct buf extra;
    buf_init(&text, TLOG_PROOF_MAX);
    buf_init(&extra, 100);
    head_of(9, leaves, &head);
    ck_assert_uint_eq(merkle_prove((struct merkle_leaves){leaves, 9}, 5, &proof.path), ERR_OK);
    ck_assert_uint_eq(tlog_proof_format(&proof, bytes_of_text("beside"), &text), ERR_OK);
    ck_assert_uint_eq(tlog_proof_parse(buf_bytes(&text), &back, &extra, &note), ERR_OK);
    ck_assert_str_eq(buf_text(&extra), "beside");
    ck_assert(bytes_equal(back.checkpoint, proof.checkpoint));
    uint32_t five = 5;
    ck_assert(merkle_verify(&head, &back.path, &five, sizeof five));
    size_t before = text.size - proof.checkpoint.size; /* of what the checkpoint does not protect */
    for (size_t at = 0; at < before; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            text.data[at] ^= (uint8_t)(1U << bit);
            buf_clear(&extra);
            enum err err = tlog_proof_parse(buf_bytes(&text), &back, &extra, &note);
            bool same = err == ERR_OK && merkle_verify(&head, &back.path, &five, sizeof five);
            ck_assert(!same || strcmp(buf_text(&extra), "beside") != 0);
            text.data[at] ^= (uint8_t)(1U << bit);
        }
    }
    for (size_t size = 0; size < before; size++) {
        ck_assert_uint_eq(tlog_proof_parse(bytes_of(text.data, size), &back, NULL, &note),
                          ERR_INVALID);
    }
    static const char *const bad[] = {
        "c2sp.org/tlog-proof@v2\nindex 0\n\nx",
        "c2sp.org/tlog-proof@v1\nindex 00\n\nx",
        "c2sp.org/tlog-proof@v1\nindex -1\n\nx",
        "c2sp.org/tlog-proof@v1\nextra \nindex 0\n\nx",
        "c2sp.org/tlog-proof@v1\nindex 0\nAA==\n\nx",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(tlog_proof_parse(bytes_of_text(bad[i]), &back, NULL, &note) == ERR_INVALID,
                      "%s", bad[i]);
    }
    buf_deinit(&text);
    buf_deinit(&extra);
}
END_TEST

/* ---- witnesses ---------------------------------------------------------------------------------- */

static struct key_pair *log_keys;
static struct digest tree[300];

static void checkpoint_text(const char *origin, const struct merkle_head *head,
                            const struct key_pair *keys, struct buf *out)
{
    struct checkpoint checkpoint = {.leaf_count = head->leaf_count, .root = head->root};
    struct buf body;
    buf_init(&body, 4096);
    (void)snprintf(checkpoint.origin, sizeof checkpoint.origin, "%s", origin);
    ck_assert_uint_eq(checkpoint_format(&checkpoint, bytes_of(NULL, 0), &body), ERR_OK);
    ck_assert_uint_eq(signed_note_sign(buf_bytes(&body), "log.example", keys, out), ERR_OK);
    buf_deinit(&body);
}

/* Sends a request as text through parser and judge. */
static enum tlog_verdict ask(const struct tlog_seen *seen, const struct tlog_request *request)
{
    struct signed_note_key log = {"log.example", SIGNED_NOTE_PLAIN, *key_pair_public(log_keys)};
    struct buf body;
    struct tlog_request parsed;
    struct checkpoint checkpoint;
    buf_init(&body, TLOG_REQUEST_MAX);
    ck_assert_uint_eq(tlog_request_format(request, &body), ERR_OK);
    enum tlog_verdict verdict = TLOG_MALFORMED;
    if (tlog_request_parse(buf_bytes(&body), &parsed, &note) == ERR_OK) {
        verdict = tlog_judge(seen, &parsed, &log, &checkpoint, &note);
    }
    buf_deinit(&body);
    return verdict;
}

START_TEST(test_witness_verdicts)
{
    struct merkle_head seven;
    struct merkle_head nine;
    struct merkle_head fork;
    struct buf text;
    struct digest other[9];
    struct key_pair *stranger = key_pair_create();
    log_keys = key_pair_create();
    buf_init(&text, SIGNED_NOTE_MAX);
    head_of(7, tree, &seven);
    head_of(9, tree, &nine);
    head_of(9, other, &fork);
    other[2] = other[3]; /* another history under seven leaves */
    merkle_head((struct merkle_leaves){other, 9}, &fork);
    const struct tlog_seen none = {0};
    const struct tlog_seen at_seven = {7, seven.root};
    const struct tlog_seen at_nine = {9, nine.root};
    struct tlog_request request = {.old_size = 7};
    ck_assert_uint_eq(merkle_prove_consistency((struct merkle_leaves){tree, 9}, 7, &request.proof),
                      ERR_OK);
    checkpoint_text("log.example", &nine, log_keys, &text);
    request.checkpoint = buf_bytes(&text);
    ck_assert_uint_eq(ask(&at_seven, &request), TLOG_SIGN);
    ck_assert_uint_eq(ask(&none, &request), TLOG_CONFLICT);    /* it never saw the first seven */
    ck_assert_uint_eq(ask(&at_nine, &request), TLOG_CONFLICT); /* it saw more: no going back */
    struct tlog_request changed = request;
    changed.proof.path[0].bytes[0] ^= 1;
    ck_assert_uint_eq(ask(&at_seven, &changed), TLOG_INCONSISTENT);
    changed = request;
    changed.proof.path_count--;
    ck_assert_uint_eq(ask(&at_seven, &changed), TLOG_INCONSISTENT);
    changed = (struct tlog_request){.old_size = 0, .checkpoint = request.checkpoint};
    ck_assert_uint_eq(ask(&none, &changed), TLOG_SIGN); /* the first one it sees */
    changed.proof = request.proof;
    ck_assert_uint_eq(ask(&none, &changed), TLOG_INCONSISTENT); /* no proof from nothing */
    changed = (struct tlog_request){.old_size = 9, .checkpoint = request.checkpoint};
    ck_assert_uint_eq(ask(&at_nine, &changed), TLOG_SIGN); /* again, with a new time */
    changed.old_size = 10;
    ck_assert_uint_eq(ask(&at_nine, &changed), TLOG_MALFORMED); /* older is larger */

    buf_clear(&text); /* the fork: same size, then growing out of seven */
    checkpoint_text("log.example", &fork, log_keys, &text);
    changed = (struct tlog_request){.old_size = 9, .checkpoint = buf_bytes(&text)};
    ck_assert_uint_eq(ask(&at_nine, &changed), TLOG_CONFLICT);
    changed = (struct tlog_request){.old_size = 7, .checkpoint = buf_bytes(&text)};
    ck_assert_uint_eq(merkle_prove_consistency((struct merkle_leaves){other, 9}, 7, &changed.proof),
                      ERR_OK);
    ck_assert_uint_eq(ask(&at_seven, &changed), TLOG_INCONSISTENT);

    buf_clear(&text);
    checkpoint_text("log.example", &nine, stranger, &text);
    request.checkpoint = buf_bytes(&text);
    ck_assert_uint_eq(ask(&at_seven, &request), TLOG_UNSIGNED);
    buf_clear(&text);
    checkpoint_text("other.example", &nine, log_keys, &text);
    request.checkpoint = buf_bytes(&text);
    ck_assert_uint_eq(ask(&at_seven, &request), TLOG_UNKNOWN_LOG);
    request.checkpoint = bytes_of_text("log.example\n9\n");
    ck_assert_uint_eq(ask(&at_seven, &request), TLOG_MALFORMED);
    buf_deinit(&text);
    key_pair_destroy(stranger);
    key_pair_destroy(log_keys);
}
END_TEST

START_TEST(test_requests)
{
    static const char HASH[] = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
    struct tlog_request request;
    struct buf text;
    buf_init(&text, TLOG_REQUEST_MAX);
    static const char *const bad[] = {
        "",        "old\n\nx",         "old 01\n\nx", "old -1\n\nx", "old 1",
        "old 1\n", "old 1\nAA==\n\nx", "old 1 \n\nx", "new 1\n\nx",  "old 9999999999999999999\n\nx",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(tlog_request_parse(bytes_of_text(bad[i]), &request, &note) == ERR_INVALID,
                      "%s", bad[i]);
    }
    for (uint32_t count = 0; count <= 64; count++) {
        buf_clear(&text);
        (void)buf_append_text(&text, "old 5\n");
        for (uint32_t i = 0; i < count; i++) {
            (void)buf_append_text(&text, HASH);
        }
        (void)buf_append_text(&text, "\nnote");
        enum err err = tlog_request_parse(buf_bytes(&text), &request, &note);
        ck_assert_uint_eq(err, count <= 63 ? ERR_OK : ERR_INVALID);
        if (err == ERR_OK) {
            ck_assert(request.too_long == (count > MERKLE_CONSISTENCY_MAX));
            ck_assert(bytes_equal(request.checkpoint, bytes_of_text("note")));
        }
    }
    buf_deinit(&text);
}
END_TEST

int main(void)
{
    crypto_start();
    Suite *suite = suite_create("tlog");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 120);
    tcase_add_checked_fixture(rules, test_folder_make, test_folder_remove);
    tcase_add_test(rules, test_paths);
    tcase_add_test(rules, test_small_logs);
    tcase_add_test(rules, test_bundles);
    tcase_add_test(rules, test_large_log_and_restart);
    tcase_add_test(rules, test_proof_files);
    tcase_add_test(rules, test_witness_verdicts);
    tcase_add_test(rules, test_requests);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
