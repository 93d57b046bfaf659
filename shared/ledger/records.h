/* records.h - how the state's records are written as bytes. Internal to this room.
 *
 * Numbers and amounts are big-endian, texts have a 16-bit size, everything else is as it stands. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/err.h"
#include "shared/ledger/state.h"

#define RECORD_ENCODED_MAX 8192 /* bytes of one record and its struct; the largest is a datanet */

struct record_encoder {
    uint8_t data[RECORD_ENCODED_MAX];
    size_t size;
};

void record_put(struct record_encoder *encoder, const void *data, size_t size);
void record_put_number(struct record_encoder *encoder, uint64_t value, size_t size);

/* Appends the record's fields, or only those that are its key. */
void record_encode(enum state_kind kind, bool key_only, const void *record,
                   struct record_encoder *encoder);
/* Bytes of the kind's struct. */
size_t record_size(enum state_kind kind);
/* Reads all fields from the front of *in into a zeroed struct. ERR_CORRUPT. */
MUST_USE enum err record_decode(enum state_kind kind, struct bytes *in, void *out_record);
