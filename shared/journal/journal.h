/* journal.h - an append-only, hash-chained list of records on disk: the one durable write path.
 *
 * Why: an answer that must not be lost is first a record here. Records carry a chain hash, so that
 * what was written cannot be changed, reordered or cut in the middle without being noticed.
 *
 *     chain[0] = SHA-256("openledger/journal/v1")          (the hash before any record)
 *     chain[i + 1] = SHA-256(chain[i] || record i)
 *
 * On disk: folder/LOCK and segments named by their first index. A segment is a header and records
 * of (size, chain hash, payload), preallocated, so that a sync need not change the file's size.
 *
 * Opening checks the whole chain. What a crash left half-written at the very end is cut off and
 * reported; a break anywhere before the end is ERR_CORRUPT, naming segment and offset.
 *
 * A record is durable after journal_sync() returned ERR_OK; append many, sync once. When a write or
 * sync fails the journal refuses all further appends (ERR_IO): reopen it to learn what is there.
 *
 * One thread at a time per struct journal. One writer per folder (others get ERR_CONFLICT); readers
 * in other processes open read_only and see what was appended with journal_refresh(). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"

#define JOURNAL_RECORD_MAX (1U << 20)    /* bytes of one record */
#define JOURNAL_SEGMENT_SIZE (16U << 20) /* bytes of one segment, unless asked otherwise */
#define JOURNAL_SEGMENT_MIN 4096         /* the smallest a test may ask for */

struct journal;

struct journal_options {
    const char *folder;    /* made when missing, unless read_only */
    uint64_t segment_size; /* 0: JOURNAL_SEGMENT_SIZE; a record larger than it gets its own */
    bool read_only;        /* no lock, no repair: a torn tail is simply not there yet */
};

MUST_USE enum err journal_open(const struct journal_options *options, struct journal **out_journal,
                               struct note *note);
/* Closes without sync: unsynced records may or may not survive. NULL is fine. */
void journal_close(struct journal *journal);

/* Records there are (indexes 0..count-1), and how many of them are known to be durable. */
uint64_t journal_count(const struct journal *journal);
uint64_t journal_synced_count(const struct journal *journal);
/* Bytes of a half-written record that opening cut off: worth a log line. */
uint64_t journal_torn_size(const struct journal *journal);
/* chain[count]: commits to every record so far. */
void journal_head(const struct journal *journal, struct digest *out_head);
/* chain[index], index <= count. ERR_RANGE. */
MUST_USE enum err journal_chain(const struct journal *journal, uint64_t index,
                                struct digest *out_chain);

/* Appends one record, in memory and page cache only. ERR_LIMIT: too large. ERR_FULL. ERR_IO. */
MUST_USE enum err journal_append(struct journal *journal, struct bytes record, uint64_t *out_index,
                                 struct note *note);
/* Makes everything appended so far durable. Costs nothing when nothing is new. */
MUST_USE enum err journal_sync(struct journal *journal, struct note *note);

/* Appends record index to out, checked against its chain hash. ERR_RANGE, ERR_CORRUPT, ERR_LIMIT
 * (out's ceiling). */
MUST_USE enum err journal_read(struct journal *journal, uint64_t index, struct buf *out,
                               struct note *note);

/* Calls visit for records first..count-1 in order; record is borrowed for the call. Stops at the
 * first error, the visitor's own included. */
MUST_USE enum err journal_each(struct journal *journal, uint64_t first,
                               enum err (*visit)(void *argument, uint64_t index,
                                                 struct bytes record),
                               void *argument, struct note *note);

/* Forgets records count.. and later, durably. ERR_RANGE if count > journal_count. */
MUST_USE enum err journal_truncate(struct journal *journal, uint64_t count, struct note *note);

/* Read-only journals: takes in what the writer has appended since. ERR_CONFLICT: records we had
 * are gone (truncated): reopen. */
MUST_USE enum err journal_refresh(struct journal *journal, struct note *note);
