/* journal.c - see journal.h; segment.h has the layout. Memory holds one entry per record. */
#include "shared/journal/journal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/journal/segment.h"
#include "shared/platform/file.h"

enum { SEGMENTS_MAX = 1 << 20, SUFFIX_SIZE = 8, NAME_DIGITS = 16 };
static const char SUFFIX[] = ".journal";
static const uint64_t SEGMENT_SIZE_LARGEST = UINT64_C(1) << 30;

struct entry {
    uint64_t offset; /* of the record's header in its segment */
    uint32_t segment;
    uint32_t size;       /* of the payload */
    struct digest chain; /* after this record */
};

struct segment {
    uint64_t first; /* index of its first record */
    uint64_t size;  /* bytes of the file */
    uint64_t end;   /* where the next record goes */
};

struct journal {
    char folder[FILE_PATH_SIZE];
    uint64_t segment_size;
    bool read_only;
    bool failed; /* a write went wrong: what is on disk is not known */
    int lock_fd;
    int fd; /* of fd_segment, or -1 */
    uint32_t fd_segment;
    struct segment *segments;
    uint32_t segment_count;
    uint32_t segment_capacity;
    struct entry *entries;
    uint64_t count;
    uint64_t capacity;
    uint64_t synced;
    uint64_t torn_size;
    struct digest genesis; /* chain[0] */
};

static const struct digest *chain_at(const struct journal *journal, uint64_t index)
{
    return index == 0 ? &journal->genesis : &journal->entries[index - 1].chain;
}

static void segment_path(const struct journal *journal, uint64_t first, char out[FILE_PATH_SIZE])
{
    enum err err = file_path(out, "%s/%016" PRIx64 "%s", journal->folder, first, SUFFIX);
    CHECK(err == ERR_OK); /* journal_open checked the folder's length */
}

static enum err damaged(const struct journal *journal, uint32_t segment, uint64_t offset,
                        const char *why, struct note *note)
{
    return note_set(note, ERR_CORRUPT,
                    "journal %s: segment %016" PRIx64 "%s offset %" PRIu64 ": %s", journal->folder,
                    journal->segments[segment].first, SUFFIX, offset, why);
}

/* Makes room for one more item of an array. */
static enum err grow(void **items, uint64_t *capacity, uint64_t count, size_t item_size)
{
    if (count < *capacity) {
        return ERR_OK;
    }
    uint64_t wanted = *capacity == 0 ? 64 : *capacity * 2;
    void *grown = reallocarray(*items, (size_t)wanted, item_size);
    if (grown == NULL) {
        return ERR_NO_MEMORY;
    }
    *items = grown;
    *capacity = wanted;
    return ERR_OK;
}

static enum err add_entry(struct journal *journal, uint32_t segment, uint64_t offset,
                          struct bytes payload, const struct digest *chain)
{
    void *items = journal->entries;
    enum err err = grow(&items, &journal->capacity, journal->count, sizeof *journal->entries);
    journal->entries = items;
    if (err == ERR_OK) {
        journal->entries[journal->count++] = (struct entry){
            .offset = offset, .segment = segment, .size = (uint32_t)payload.size, .chain = *chain};
        journal->segments[segment].end = offset + RECORD_OVERHEAD + payload.size;
    }
    return err;
}

static enum err add_segment(struct journal *journal, uint64_t first, uint64_t size)
{
    void *items = journal->segments;
    uint64_t capacity = journal->segment_capacity;
    enum err err = grow(&items, &capacity, journal->segment_count, sizeof *journal->segments);
    journal->segments = items;
    journal->segment_capacity = (uint32_t)capacity;
    if (err == ERR_OK) {
        journal->segments[journal->segment_count++] =
            (struct segment){.first = first, .size = size, .end = SEGMENT_HEADER_SIZE};
    }
    return err;
}

/* Makes journal->fd that of a segment. */
static enum err use_segment(struct journal *journal, uint32_t segment, struct note *note)
{
    if (journal->fd >= 0 && journal->fd_segment == segment) {
        return ERR_OK;
    }
    char path[FILE_PATH_SIZE];
    int fd = -1;
    segment_path(journal, journal->segments[segment].first, path);
    enum err err = file_open(path, journal->read_only ? FILE_READ : FILE_WRITE, &fd, note);
    if (err == ERR_OK) {
        file_close(journal->fd);
        journal->fd = fd;
        journal->fd_segment = segment;
    }
    return err;
}

/* Reads what follows the known end of a segment and takes in its records. */
static enum err scan_segment(struct journal *journal, uint32_t segment, bool last,
                             struct note *note)
{
    struct segment *at = &journal->segments[segment];
    enum err err = use_segment(journal, segment, note);
    err = err == ERR_OK ? file_fd_size(journal->fd, &at->size, note) : err;
    if (err != ERR_OK) {
        return err;
    }
    if (at->size < at->end || at->size > SEGMENT_SIZE_LARGEST + JOURNAL_RECORD_MAX) {
        return damaged(journal, segment, at->size, "file too short or too long", note);
    }
    uint64_t start = at->end;
    size_t size = (size_t)(at->size - start);
    size_t got = 0;
    uint8_t *data = malloc(size + 1);
    if (data == NULL) {
        return ERR_NO_MEMORY;
    }
    err = file_read_at(journal->fd, start, data, size, &got, note);
    struct bytes rest = bytes_of(data, got);
    struct segment_record record;
    while (err == ERR_OK &&
           segment_record_read(rest, journal->count, chain_at(journal, journal->count), &record) ==
               ERR_OK) {
        uint64_t offset = start + (uint64_t)(rest.data - data);
        size_t whole = RECORD_OVERHEAD + record.payload.size;
        err = add_entry(journal, segment, offset, record.payload, &record.chain);
        rest = bytes_of(rest.data + whole, rest.size - whole);
        journal->synced = record.synced > journal->synced ? record.synced : journal->synced;
    }
    if (err == ERR_OK && last) {
        enum segment_end end = segment_end_of(rest, at->end, journal->count);
        if (end == SEGMENT_END_DAMAGED) {
            err = damaged(journal, segment, at->end, "record damaged", note);
        }
        size_t torn = rest.size;
        while (torn > 0 && rest.data[torn - 1] == 0) {
            torn--;
        }
        journal->torn_size = torn;
    }
    free(data);
    return err;
}

/* Checks a segment's header against what came before. */
static enum err check_header(struct journal *journal, uint32_t segment, struct note *note)
{
    uint8_t header[SEGMENT_HEADER_SIZE];
    size_t got = 0;
    uint64_t first = 0;
    struct digest chain;
    enum err err = use_segment(journal, segment, note);
    err = err == ERR_OK ? file_read_at(journal->fd, 0, header, sizeof header, &got, note) : err;
    if (err != ERR_OK) {
        return err;
    }
    if (got != sizeof header || segment_header_read(header, &first, &chain) != ERR_OK ||
        first != journal->segments[segment].first) {
        return damaged(journal, segment, 0, "segment header damaged", note);
    }
    if (first != journal->count) {
        return segment == 0 ? damaged(journal, 0, 0, "first segment missing", note)
                            : damaged(journal, segment - 1, journal->segments[segment - 1].end,
                                      "record damaged or missing", note);
    }
    return digest_equal(&chain, chain_at(journal, first))
               ? ERR_OK
               : damaged(journal, segment, 0, "chain does not continue the segment before", note);
}

/* The first index in a segment's name; false for other files. */
static bool parse_name(const char *name, uint64_t *out_first)
{
    if (strlen(name) != NAME_DIGITS + SUFFIX_SIZE || strcmp(name + NAME_DIGITS, SUFFIX) != 0 ||
        strspn(name, "0123456789abcdef") != NAME_DIGITS) {
        return false;
    }
    *out_first = strtoull(name, NULL, 16);
    return true;
}

/* Takes in every segment that is not known yet, and what was added to the last known one. */
static enum err load(struct journal *journal, struct note *note)
{
    struct file_names names = {0};
    uint32_t known = journal->segment_count;
    enum err err = file_list(journal->folder, SEGMENTS_MAX, &names, note);
    for (size_t i = 0; i < names.count && err == ERR_OK; i++) {
        uint64_t first = 0;
        if (parse_name(names.items[i], &first) &&
            (journal->segment_count == 0 ||
             first > journal->segments[journal->segment_count - 1].first)) {
            err = add_segment(journal, first, 0);
        }
    }
    file_names_deinit(&names);
    for (uint32_t i = known > 0 ? known - 1 : 0; i < journal->segment_count && err == ERR_OK; i++) {
        err = i >= known ? check_header(journal, i, note) : ERR_OK;
        err = err == ERR_OK ? scan_segment(journal, i, i + 1 == journal->segment_count, note) : err;
    }
    return err;
}

/* Cuts the last segment after its last known record and gives it its zeros back, durably. */
static enum err cut_tail(struct journal *journal, struct note *note)
{
    uint32_t last = journal->segment_count - 1;
    struct segment *segment = &journal->segments[last];
    enum err err = use_segment(journal, last, note);
    err = err == ERR_OK ? file_truncate(journal->fd, segment->end, note) : err;
    err = err == ERR_OK && segment->size > segment->end
              ? file_reserve(journal->fd, segment->size, note)
              : err;
    return err == ERR_OK ? file_sync(journal->fd, note) : err;
}

static enum err open_for_writing(struct journal *journal, struct note *note)
{
    char path[FILE_PATH_SIZE];
    enum err err = file_make_folders(journal->folder, note);
    CHECK(file_path(path, "%s/LOCK", journal->folder) == ERR_OK);
    err = err == ERR_OK ? file_open(path, FILE_WRITE, &journal->lock_fd, note) : err;
    if (err == ERR_OK && file_lock(journal->lock_fd, NULL) != ERR_OK) {
        err = note_set(note, ERR_CONFLICT, "journal %s has another writer", journal->folder);
    }
    err = err == ERR_OK ? load(journal, note) : err;
    if (err == ERR_OK && journal->segment_count > 0) {
        /* A killed writer's records may be in the page cache only, and so may the name of a segment
         * that it was making: sync both before we call them ours. */
        err = journal->torn_size > 0 ? cut_tail(journal, note)
                                     : use_segment(journal, journal->segment_count - 1, note);
        err = err == ERR_OK ? file_sync(journal->fd, note) : err;
        err = err == ERR_OK ? file_sync_parent(path, note) : err;
        journal->synced = journal->count;
    }
    return err;
}

enum err journal_open(const struct journal_options *options, struct journal **out_journal,
                      struct note *note)
{
    uint64_t segment_size =
        options->segment_size == 0 ? JOURNAL_SEGMENT_SIZE : options->segment_size;
    CHECK(segment_size >= JOURNAL_SEGMENT_MIN);
    CHECK(segment_size <= SEGMENT_SIZE_LARGEST);
    struct journal *journal = calloc(1, sizeof *journal);
    if (journal == NULL) {
        return ERR_NO_MEMORY;
    }
    journal->segment_size = segment_size;
    journal->read_only = options->read_only;
    journal->lock_fd = -1;
    journal->fd = -1;
    sha256(bytes_of_text("openledger/journal/v1"), &journal->genesis);
    enum err err = ERR_LIMIT;
    if (strlen(options->folder) + NAME_DIGITS + 32 < FILE_PATH_SIZE) {
        CHECK(file_path(journal->folder, "%s", options->folder) == ERR_OK);
        err = options->read_only ? load(journal, note) : open_for_writing(journal, note);
    }
    if (err != ERR_OK) {
        journal_close(journal);
        return err;
    }
    *out_journal = journal;
    return ERR_OK;
}

void journal_close(struct journal *journal)
{
    if (journal != NULL) {
        file_close(journal->fd);
        file_close(journal->lock_fd);
        free(journal->segments);
        free(journal->entries);
        free(journal);
    }
}

uint64_t journal_count(const struct journal *journal)
{
    return journal->count;
}

uint64_t journal_synced_count(const struct journal *journal)
{
    return journal->synced;
}

uint64_t journal_torn_size(const struct journal *journal)
{
    return journal->torn_size;
}

void journal_head(const struct journal *journal, struct digest *out_head)
{
    *out_head = *chain_at(journal, journal->count);
}

enum err journal_chain(const struct journal *journal, uint64_t index, struct digest *out_chain)
{
    if (index > journal->count) {
        return ERR_RANGE;
    }
    *out_chain = *chain_at(journal, index);
    return ERR_OK;
}

/* Starts the segment that record `count` begins. What came before is synced first, so only the last
 * segment can ever be torn; the name appears when the segment is whole. */
static enum err start_segment(struct journal *journal, size_t record_size, struct note *note)
{
    char temporary[FILE_PATH_SIZE];
    char path[FILE_PATH_SIZE];
    uint8_t header[SEGMENT_HEADER_SIZE];
    uint64_t need = SEGMENT_HEADER_SIZE + (uint64_t)record_size;
    uint64_t size = need > journal->segment_size ? need : journal->segment_size;
    int fd = -1;
    enum err err = journal_sync(journal, note);
    CHECK(file_path(temporary, "%s/segment.tmp", journal->folder) == ERR_OK);
    segment_path(journal, journal->count, path);
    segment_header_write(journal->count, chain_at(journal, journal->count), header);
    err = err == ERR_OK ? file_open(temporary, FILE_WRITE, &fd, note) : err;
    err = err == ERR_OK ? file_truncate(fd, 0, note) : err; /* a crash may have left one */
    err = err == ERR_OK ? file_reserve(fd, size, note) : err;
    err = err == ERR_OK ? file_write_at(fd, 0, header, sizeof header, note) : err;
    err = err == ERR_OK ? file_sync(fd, note) : err;
    err = err == ERR_OK ? file_rename(temporary, path, note) : err;
    err = err == ERR_OK ? add_segment(journal, journal->count, size) : err;
    if (err != ERR_OK) {
        file_close(fd);
        return err;
    }
    file_close(journal->fd);
    journal->fd = fd;
    journal->fd_segment = journal->segment_count - 1;
    return ERR_OK;
}

enum err journal_append(struct journal *journal, struct bytes record, uint64_t *out_index,
                        struct note *note)
{
    CHECK(!journal->read_only);
    if (journal->failed) {
        return note_set(note, ERR_IO, "journal %s failed before: reopen it", journal->folder);
    }
    if (record.size > JOURNAL_RECORD_MAX) {
        return note_set(note, ERR_LIMIT, "journal record has %zu bytes, the limit is %u",
                        record.size, JOURNAL_RECORD_MAX);
    }
    size_t whole = RECORD_OVERHEAD + record.size;
    uint32_t last = journal->segment_count - 1;
    if (journal->segment_count == 0 ||
        journal->segments[last].size - journal->segments[last].end < whole) {
        enum err err = start_segment(journal, whole, note);
        if (err != ERR_OK) {
            return err;
        }
        last = journal->segment_count - 1;
    }
    uint8_t *bytes = malloc(whole);
    if (bytes == NULL) {
        return ERR_NO_MEMORY;
    }
    struct digest chain;
    segment_chain(chain_at(journal, journal->count), record, &chain);
    segment_record_write(journal->count, journal->synced, record, &chain, bytes);
    if (record.size > 0) {
        memcpy(bytes + RECORD_HEADER_SIZE + DIGEST_SIZE, record.data, record.size);
    }
    bytes[whole - 1] = SEGMENT_RECORD_END;
    uint64_t offset = journal->segments[last].end;
    enum err err = use_segment(journal, last, note);
    if (err == ERR_OK) {
        err = file_write_at(journal->fd, offset, bytes, whole, note);
        err = err == ERR_OK ? add_entry(journal, last, offset, record, &chain) : err;
        journal->failed = err != ERR_OK;
    }
    free(bytes);
    if (err == ERR_OK) {
        *out_index = journal->count - 1;
    }
    return err;
}

enum err journal_sync(struct journal *journal, struct note *note)
{
    CHECK(!journal->read_only);
    if (journal->failed) {
        return note_set(note, ERR_IO, "journal %s failed before: reopen it", journal->folder);
    }
    if (journal->synced == journal->count) {
        return ERR_OK;
    }
    enum err err = use_segment(journal, journal->segment_count - 1, note);
    if (err == ERR_OK) {
        err = file_sync(journal->fd, note); /* after a failed fsync the kernel may forget pages */
        journal->failed = err != ERR_OK;
    }
    if (err == ERR_OK) {
        journal->synced = journal->count;
    }
    return err;
}

enum err journal_read(struct journal *journal, uint64_t index, struct buf *out, struct note *note)
{
    if (index >= journal->count) {
        return note_set(note, ERR_RANGE,
                        "journal %s has %" PRIu64 " records, %" PRIu64 " asked for",
                        journal->folder, journal->count, index);
    }
    const struct entry *entry = &journal->entries[index];
    size_t before = out->size;
    size_t got = 0;
    uint8_t *at = buf_reserve(out, entry->size);
    if (at == NULL) {
        return note_set(note, buf_err(out), "journal record %" PRIu64 " has %u bytes", index,
                        entry->size);
    }
    enum err err = use_segment(journal, entry->segment, note);
    err = err == ERR_OK
              ? file_read_at(journal->fd, entry->offset + RECORD_HEADER_SIZE + DIGEST_SIZE, at,
                             entry->size, &got, note)
              : err;
    if (err == ERR_OK) {
        struct digest chain;
        segment_chain(chain_at(journal, index), bytes_of(at, got), &chain);
        if (got != entry->size || !digest_equal(&chain, &entry->chain)) {
            err = damaged(journal, entry->segment, entry->offset, "record damaged", note);
        }
    }
    if (err == ERR_OK) {
        buf_commit(out, got);
    } else {
        buf_truncate(out, before);
    }
    return err;
}

enum err journal_each(struct journal *journal, uint64_t first,
                      enum err (*visit)(void *argument, uint64_t index, struct bytes record),
                      void *argument, struct note *note)
{
    struct buf record;
    buf_init(&record, JOURNAL_RECORD_MAX);
    enum err err = ERR_OK;
    for (uint64_t i = first; i < journal->count && err == ERR_OK; i++) {
        buf_clear(&record);
        err = journal_read(journal, i, &record, note);
        err = err == ERR_OK ? visit(argument, i, buf_bytes(&record)) : err;
    }
    buf_deinit(&record);
    return err;
}

enum err journal_truncate(struct journal *journal, uint64_t count, struct note *note)
{
    CHECK(!journal->read_only);
    if (count > journal->count) {
        return ERR_RANGE;
    }
    if (journal->failed) {
        return note_set(note, ERR_IO, "journal %s failed before: reopen it", journal->folder);
    }
    if (count == journal->count) {
        return ERR_OK;
    }
    /* Segments go last to first, each durably, then the tail: a crash between leaves a shorter, valid
     * journal. The first segment stays, empty. */
    enum err err = ERR_OK;
    while (err == ERR_OK && journal->segment_count > 1 &&
           journal->segments[journal->segment_count - 1].first >= count) {
        char path[FILE_PATH_SIZE];
        struct segment *last = &journal->segments[journal->segment_count - 1];
        segment_path(journal, last->first, path);
        file_close(journal->fd);
        journal->fd = -1;
        err = file_remove(path, note);
        err = err == ERR_OK ? file_sync_parent(path, note) : err;
        if (err == ERR_OK) {
            journal->count = last->first;
            journal->segment_count--;
        }
    }
    if (err == ERR_OK && count < journal->count) {
        journal->segments[journal->segment_count - 1].end = journal->entries[count].offset;
        journal->count = count;
        err = cut_tail(journal, note);
    }
    journal->failed = err != ERR_OK;
    journal->synced = journal->synced > journal->count ? journal->count : journal->synced;
    return err;
}

enum err journal_refresh(struct journal *journal, struct note *note)
{
    CHECK(journal->read_only);
    if (journal->count > 0) { /* is our last record still there? */
        struct buf record;
        buf_init(&record, JOURNAL_RECORD_MAX);
        char path[FILE_PATH_SIZE];
        segment_path(journal, journal->segments[journal->entries[journal->count - 1].segment].first,
                     path);
        enum err err = file_exists(path) ? journal_read(journal, journal->count - 1, &record, note)
                                         : ERR_CORRUPT;
        buf_deinit(&record);
        if (err != ERR_OK) {
            return err == ERR_CORRUPT
                       ? note_set(note, ERR_CONFLICT, "journal %s was cut or changed: reopen it",
                                  journal->folder)
                       : err;
        }
    }
    return load(journal, note);
}
