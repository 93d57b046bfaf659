/* segment.h - the bytes of one journal segment: layout, checks, and what a break at its end means.
 * Private to this room. Pure: works on memory, so it can be fuzzed.
 *
 *     segment  magic 8, first index u64, chain before it 32, check 16; records; zeros
 *     record   size + 1 u32, index u64, synced u64, check u64, chain 32, payload, END      (LE)
 *
 * synced is how many records were known to be durable when this one was appended: a break before
 * that count cannot be a crash's doing. check is the head of a SHA-256 over what precedes it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/journal/journal.h"

#define SEGMENT_HEADER_SIZE 64
#define RECORD_HEADER_SIZE 28
#define RECORD_OVERHEAD (RECORD_HEADER_SIZE + DIGEST_SIZE + 1)

struct segment_record {
    struct bytes payload; /* borrowed from the bytes parsed */
    uint64_t synced;
    struct digest chain;
};

void segment_header_write(uint64_t first, const struct digest *chain,
                          uint8_t out[SEGMENT_HEADER_SIZE]);
/* ERR_CORRUPT when any byte is not as written. */
MUST_USE enum err segment_header_read(const uint8_t in[SEGMENT_HEADER_SIZE], uint64_t *out_first,
                                      struct digest *out_chain);

/* chain[i + 1] of chain[i] and record i. */
void segment_chain(const struct digest *before, struct bytes payload, struct digest *out_chain);

/* Everything of a record but its payload: header and chain to out, END comes after the payload. */
void segment_record_write(uint64_t index, uint64_t synced, struct bytes payload,
                          const struct digest *chain,
                          uint8_t out[RECORD_HEADER_SIZE + DIGEST_SIZE]);
extern const uint8_t SEGMENT_RECORD_END;

/* Parses record index, which must follow `before`, at the front of in. ERR_INVALID: no whole, right
 * record there. */
MUST_USE enum err segment_record_read(struct bytes in, uint64_t index, const struct digest *before,
                                      struct segment_record *out_record);

/* What stands where record index would begin, when segment_record_read refused it. rest runs to the
 * end of the file, offset is where it begins there. */
enum segment_end {
    SEGMENT_END_CLEAN,   /* only zeros */
    SEGMENT_END_TORN,    /* what a crash leaves of records that were never synced */
    SEGMENT_END_DAMAGED, /* anything else */
};
enum segment_end segment_end_of(struct bytes rest, uint64_t offset, uint64_t index);
