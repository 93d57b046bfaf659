/* test_journal.c - the journal against a model in memory, torn tails at every byte, flips of every
 * byte, and readers beside a writer. */
#include "shared/journal/journal.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "shared/journal/segment.h"
#include "tests/harness/folder.h"
#include "tests/harness/seed.h"
#include "tests/sim/disk.h"

enum { SEGMENT = JOURNAL_SEGMENT_MIN, RECORD_MAX = 700 };

static struct note note;

static struct journal *open_at(const char *folder, bool read_only, enum err expected)
{
    struct journal *journal = NULL;
    note.text[0] = '\0';
    enum err err = journal_open(&(struct journal_options){.folder = folder,
                                                          .segment_size = SEGMENT,
                                                          .read_only = read_only},
                                &journal, &note);
    ck_assert_msg(err == expected, "open gave %s, not %s: %s", err_name(err), err_name(expected),
                  note.text);
    return journal;
}

static struct journal *open_journal(bool read_only, enum err expected)
{
    return open_at(test_path("j"), read_only, expected);
}

/* Record i: its own size and bytes, never a zero byte, so that a sector of zeros is a hole. */
static struct bytes record_of(uint64_t i)
{
    static uint8_t data[RECORD_MAX];
    size_t size = (size_t)(i * 37 % RECORD_MAX);
    for (size_t k = 0; k < size; k++) {
        data[k] = (uint8_t)((i * 31 + k * 7) % 255 + 1);
    }
    return bytes_of(data, size);
}

static void append(struct journal *journal, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++) {
        uint64_t index = UINT64_MAX;
        ck_assert_uint_eq(journal_append(journal, record_of(i), &index, &note), ERR_OK);
        ck_assert_uint_eq(index, i);
    }
}

static enum err check_record(void *argument, uint64_t index, struct bytes record)
{
    uint64_t *next = argument;
    ck_assert_uint_eq(index, (*next)++);
    ck_assert(bytes_equal(record, record_of(index)));
    return ERR_OK;
}

static void check_all(struct journal *journal, uint64_t count)
{
    uint64_t next = 0;
    ck_assert_uint_eq(journal_count(journal), count);
    ck_assert_uint_eq(journal_each(journal, 0, check_record, &next, &note), ERR_OK);
    ck_assert_uint_eq(next, count);
}

START_TEST(test_append_sync_reopen_truncate)
{
    test_folder_make();
    struct journal *journal = open_journal(false, ERR_OK);
    struct digest head;
    struct digest chain;
    ck_assert_uint_eq(journal_count(journal), 0);
    append(journal, 0, 50);
    ck_assert_uint_eq(journal_sync(journal, &note), ERR_OK);
    ck_assert_uint_eq(journal_synced_count(journal), 50);
    append(journal, 50, 60);
    ck_assert_uint_lt(journal_synced_count(journal), 60);
    journal_head(journal, &head);
    (void)open_journal(false, ERR_CONFLICT); /* one writer */
    struct journal *reader = open_journal(true, ERR_OK);
    check_all(reader, 60);
    append(journal, 60, 90);
    check_all(reader, 60);
    ck_assert_uint_eq(journal_refresh(reader, &note), ERR_OK);
    check_all(reader, 90);
    journal_close(journal);

    journal = open_journal(false, ERR_OK);
    check_all(journal, 90);
    ck_assert_uint_eq(journal_torn_size(journal), 0);
    ck_assert_uint_eq(journal_chain(journal, 60, &chain), ERR_OK);
    ck_assert(digest_equal(&chain, &head));
    ck_assert_uint_eq(journal_chain(journal, 91, &chain), ERR_RANGE);
    struct buf out;
    buf_init(&out, RECORD_MAX);
    ck_assert_uint_eq(journal_read(journal, 90, &out, &note), ERR_RANGE);
    ck_assert_uint_eq(journal_truncate(journal, 91, &note), ERR_RANGE);
    for (uint64_t count = 89;; count = count > 7 ? count - 7 : count - 1) {
        ck_assert_uint_eq(journal_truncate(journal, count, &note), ERR_OK);
        check_all(journal, count);
        append(journal, count, count + 1); /* and appending goes on from there */
        ck_assert_uint_eq(journal_truncate(journal, count, &note), ERR_OK);
        journal_close(journal);
        journal = open_journal(false, ERR_OK);
        check_all(journal, count);
        if (count == 0) {
            break;
        }
    }
    ck_assert_uint_eq(journal_refresh(reader, &note), ERR_CONFLICT);
    journal_close(reader);
    append(journal, 0, 20);
    check_all(journal, 20);
    buf_deinit(&out);
    journal_close(journal);
    test_folder_remove();
}
END_TEST

START_TEST(test_limits)
{
    test_folder_make();
    struct journal *journal = open_journal(false, ERR_OK);
    uint8_t *large = calloc(1, JOURNAL_RECORD_MAX + 1);
    uint64_t index = 0;
    ck_assert_ptr_nonnull(large);
    ck_assert_uint_eq(
        journal_append(journal, bytes_of(large, JOURNAL_RECORD_MAX + 1), &index, &note), ERR_LIMIT);
    ck_assert_uint_eq(journal_append(journal, bytes_of(large, JOURNAL_RECORD_MAX), &index, &note),
                      ERR_OK); /* larger than a segment: gets its own */
    ck_assert_uint_eq(journal_append(journal, bytes_of(NULL, 0), &index, &note), ERR_OK);
    ck_assert_uint_eq(index, 1);
    journal_close(journal);
    journal = open_journal(false, ERR_OK);
    ck_assert_uint_eq(journal_count(journal), 2);
    struct buf out;
    buf_init(&out, 10);
    ck_assert_uint_eq(journal_read(journal, 0, &out, &note), ERR_LIMIT);
    buf_clear(&out);
    ck_assert_uint_eq(journal_read(journal, 1, &out, &note), ERR_OK);
    ck_assert_uint_eq(out.size, 0);
    buf_deinit(&out);
    journal_close(journal);
    free(large);
    test_folder_remove();
}
END_TEST

/* The first segment's bytes, and how many of them are in use after `count` records. */
struct image {
    struct buf bytes;
    size_t ends[64]; /* offset after record i - 1 */
};
static const char SEGMENT_NAME[] = "j/0000000000000000.journal";

static void make_image(struct image *image, uint64_t synced, uint64_t count)
{
    struct journal *journal = open_journal(false, ERR_OK);
    append(journal, 0, synced);
    ck_assert_uint_eq(journal_sync(journal, &note), ERR_OK);
    append(journal, synced, count);
    journal_close(journal);
    buf_init(&image->bytes, 1 << 20);
    ck_assert_uint_eq(file_read(test_path(SEGMENT_NAME), &image->bytes, &note), ERR_OK);
    image->ends[0] = SEGMENT_HEADER_SIZE;
    for (uint64_t i = 0; i < count; i++) {
        image->ends[i + 1] = image->ends[i] + RECORD_OVERHEAD + record_of(i).size;
    }
    ck_assert_uint_le(image->ends[count], image->bytes.size);
}

static void write_image(struct bytes bytes)
{
    ck_assert_uint_eq(file_write_quick(test_path(SEGMENT_NAME), bytes, 0644, &note), ERR_OK);
}

/* Nothing was synced: a crash may leave the file cut, or zero, from any byte on. */
START_TEST(test_torn_at_every_byte)
{
    enum { COUNT = 6 };
    test_folder_make();
    struct image image;
    make_image(&image, 0, COUNT);
    size_t used = image.ends[COUNT];
    for (int zeroed = 0; zeroed < 2; zeroed++) {
        for (size_t cut = SEGMENT_HEADER_SIZE; cut < used; cut++) {
            struct buf torn;
            buf_init(&torn, 1 << 20);
            (void)buf_append(&torn, image.bytes.data, cut);
            uint8_t *rest = zeroed ? buf_reserve(&torn, image.bytes.size - cut) : NULL;
            if (rest != NULL) {
                memset(rest, 0, image.bytes.size - cut);
                buf_commit(&torn, image.bytes.size - cut);
            }
            write_image(buf_bytes(&torn));
            buf_deinit(&torn);
            uint64_t whole = 0;
            while (image.ends[whole + 1] <= cut) {
                whole++;
            }
            struct journal *journal = open_journal(true, ERR_OK);
            check_all(journal, whole); /* a reader changes nothing */
            journal_close(journal);
            journal = open_journal(false, ERR_OK);
            check_all(journal, whole);
            append(journal, whole, COUNT + 3);
            ck_assert_uint_eq(journal_sync(journal, &note), ERR_OK);
            journal_close(journal);
            journal = open_journal(false, ERR_OK);
            check_all(journal, COUNT + 3);
            ck_assert_uint_eq(journal_truncate(journal, 0, &note), ERR_OK);
            journal_close(journal);
        }
    }
    buf_deinit(&image.bytes);
    test_folder_remove();
}
END_TEST

/* A power cut may keep any sector of what was never synced, and none of it may be taken for damage
 * as long as everything synced is whole. */
START_TEST(test_lost_sectors)
{
    enum { SYNCED = 4, COUNT = 9, SECTOR = 512 };
    test_folder_make();
    struct image image;
    make_image(&image, SYNCED, COUNT);
    for (int run = 0; run < 300; run++) {
        struct buf torn;
        buf_init(&torn, 1 << 20);
        (void)buf_append_bytes(&torn, buf_bytes(&image.bytes));
        for (size_t at = 0; at < torn.size; at += SECTOR) {
            size_t from = at > image.ends[SYNCED] ? at : image.ends[SYNCED];
            if (test_rand() % 2 == 0 && from < at + SECTOR) {
                memset(torn.data + from, 0, at + SECTOR - from);
            }
        }
        write_image(buf_bytes(&torn));
        buf_deinit(&torn);
        struct journal *journal = open_journal(false, ERR_OK);
        ck_assert_uint_ge(journal_count(journal), SYNCED);
        check_all(journal, journal_count(journal));
        journal_close(journal);
    }
    buf_deinit(&image.bytes);
    test_folder_remove();
}
END_TEST

/* One changed bit anywhere in what was written is found, at opening or by a reader. */
START_TEST(test_flip_of_every_byte)
{
    enum { COUNT = 12 };
    test_folder_make();
    struct image image;
    make_image(&image, COUNT, COUNT);
    for (size_t at = 0; at < image.ends[COUNT]; at++) {
        uint8_t bit = (uint8_t)(1U << (test_rand() % 8));
        image.bytes.data[at] ^= bit;
        write_image(buf_bytes(&image.bytes));
        (void)open_journal(true, ERR_CORRUPT);
        (void)open_journal(false, ERR_CORRUPT);
        ck_assert_msg(strstr(note.text, "offset") != NULL, "%s", note.text);
        image.bytes.data[at] ^= bit;
    }
    write_image(buf_bytes(&image.bytes));
    struct journal *journal = open_journal(false, ERR_OK);
    check_all(journal, COUNT);

    journal_close(journal);

    /* A zeroed sector is no excuse when a later record says that this one was durable. */
    ck_assert_uint_eq(file_remove_tree(test_path("j"), &note), ERR_OK);
    buf_deinit(&image.bytes);
    make_image(&image, COUNT, COUNT + 1);
    memset(image.bytes.data + image.ends[3], 0, image.ends[4] - image.ends[3]);
    write_image(buf_bytes(&image.bytes));
    (void)open_journal(false, ERR_CORRUPT);
    buf_deinit(&image.bytes);
    test_folder_remove();
}
END_TEST

static uint64_t draw(void)
{
    return test_rand();
}

/* A new disk, and a writer that ends after so many operations. How many records it was told are durable. */
static uint64_t write_until(uint32_t operations)
{
    uint64_t index = 0;
    struct journal *journal = NULL;
    disk_start(draw);
    disk_die_after(1, operations);
    enum err err = journal_open(
        &(struct journal_options){.folder = "sim:1/j", .segment_size = SEGMENT}, &journal, &note);
    for (uint64_t i = 0; i < 20 && err == ERR_OK; i++) {
        err = journal_append(journal, record_of(i), &index, &note);
        err = err == ERR_OK && i % 3 == 2 ? journal_sync(journal, &note) : err;
    }
    uint64_t promised = journal == NULL ? 0 : journal_synced_count(journal);
    journal_close(journal);
    return promised;
}

/* A writer ends after any number of operations, by a kill or with the power; the next one finds what is
 * in the cache and syncs it, then the power goes: whatever was synced must be there, whichever sectors
 * and names the disk kept. The name of a segment that a killed writer made is such a name. */
START_TEST(test_killed_then_power_cut)
{
    enum { OPERATIONS_MAX = 60, CUTS = 24 };
    uint32_t died = 0;
    uint64_t most = 0;
    for (uint32_t operations = 0; operations < OPERATIONS_MAX; operations++) {
        for (uint32_t cut = 0; cut < CUTS; cut++) {
            uint64_t promised = write_until(operations);
            died += disk_dead(1) ? 1 : 0;
            if (cut % 4 < 2) {
                disk_kill(1);
            } else {
                disk_power_cut(1);
            }

            struct journal *journal = open_at("sim:1/j", false, ERR_OK);
            uint64_t synced = journal_synced_count(journal);
            ck_assert_uint_eq(synced, journal_count(journal));
            ck_assert_uint_ge(synced, promised);
            if (cut % 2 == 0) { /* and what the second one appends to it */
                append(journal, synced, synced + 1);
                ck_assert_uint_eq(journal_sync(journal, &note), ERR_OK);
                synced++;
            }
            journal_close(journal);
            disk_power_cut(1);
            journal = open_at("sim:1/j", false, ERR_OK);
            check_all(journal, synced);
            journal_close(journal);
            most = synced > most ? synced : most;
        }
    }
    ck_assert_uint_gt(died, OPERATIONS_MAX * CUTS / 2);
    ck_assert_uint_gt(most, 10);
    disk_clear();
    file_simulate(NULL);
}
END_TEST

START_TEST(test_missing_or_changed_segments)
{
    test_folder_make();
    struct journal *journal = open_journal(false, ERR_OK);
    append(journal, 0, 60);
    ck_assert_uint_eq(journal_sync(journal, &note), ERR_OK);
    journal_close(journal);
    struct file_names names;
    ck_assert_uint_eq(file_list(test_path("j"), 1000, &names, &note), ERR_OK);
    ck_assert_uint_gt(names.count, 4);
    for (size_t i = 0; i + 2 < names.count; i++) { /* all but the last segment and LOCK */
        char from[FILE_PATH_SIZE];
        char to[FILE_PATH_SIZE];
        ck_assert_uint_eq(file_path(from, "%s/j/%s", test_folder, names.items[i]), ERR_OK);
        ck_assert_uint_eq(file_path(to, "%s/away", test_folder), ERR_OK);
        ck_assert_uint_eq(file_rename(from, to, &note), ERR_OK);
        (void)open_journal(false, ERR_CORRUPT);
        ck_assert_uint_eq(file_rename(to, from, &note), ERR_OK);

        struct buf bytes;
        buf_init(&bytes, 1 << 20);
        ck_assert_uint_eq(file_read(from, &bytes, &note), ERR_OK);
        bytes.data[SEGMENT_HEADER_SIZE + RECORD_HEADER_SIZE + 5] ^= 4;
        ck_assert_uint_eq(file_write_quick(from, buf_bytes(&bytes), 0644, &note), ERR_OK);
        (void)open_journal(false, ERR_CORRUPT);
        bytes.data[SEGMENT_HEADER_SIZE + RECORD_HEADER_SIZE + 5] ^= 4;
        ck_assert_uint_eq(file_write_quick(from, buf_bytes(&bytes), 0644, &note), ERR_OK);
        buf_deinit(&bytes);
    }
    file_names_deinit(&names);
    journal = open_journal(false, ERR_OK);
    check_all(journal, 60);
    journal_close(journal);
    test_folder_remove();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("journal");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 120);
    tcase_add_test(rules, test_append_sync_reopen_truncate);
    tcase_add_test(rules, test_limits);
    tcase_add_test(rules, test_torn_at_every_byte);
    tcase_add_test(rules, test_lost_sectors);
    tcase_add_test(rules, test_flip_of_every_byte);
    tcase_add_test(rules, test_killed_then_power_cut);
    tcase_add_test(rules, test_missing_or_changed_segments);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
