/* segment.c - see segment.h. */
#include "shared/journal/segment.h"

#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/crypto/sha256.h"

enum {
    MAGIC_SIZE = 8,
    HEADER_CHECKED = 48, /* bytes of a segment's header under its check */
    RECORD_CHECKED = 20,
    SECTOR_SIZE = 512, /* what a disk writes whole or not at all */
    AHEAD_MAX = 1 << 26,
};

static const uint8_t MAGIC[MAGIC_SIZE] = {'O', 'L', 'J', 'R', 'N', 'L', '1', 0};
const uint8_t SEGMENT_RECORD_END = 0xa5; /* not zero: the record's last byte was written */

static void put_le(uint8_t *out, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        out[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint64_t get_le(const uint8_t *in, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++) {
        value |= (uint64_t)in[i] << (8 * i);
    }
    return value;
}

static bool all_zero(const uint8_t *data, size_t size)
{
    return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

void segment_header_write(uint64_t first, const struct digest *chain,
                          uint8_t out[SEGMENT_HEADER_SIZE])
{
    struct digest check;
    memcpy(out, MAGIC, MAGIC_SIZE);
    put_le(out + MAGIC_SIZE, first, 8);
    memcpy(out + 16, chain->bytes, DIGEST_SIZE);
    sha256(bytes_of(out, HEADER_CHECKED), &check);
    memcpy(out + HEADER_CHECKED, check.bytes, SEGMENT_HEADER_SIZE - HEADER_CHECKED);
}

enum err segment_header_read(const uint8_t in[SEGMENT_HEADER_SIZE], uint64_t *out_first,
                             struct digest *out_chain)
{
    struct digest check;
    sha256(bytes_of(in, HEADER_CHECKED), &check);
    if (memcmp(in, MAGIC, MAGIC_SIZE) != 0 ||
        memcmp(in + HEADER_CHECKED, check.bytes, SEGMENT_HEADER_SIZE - HEADER_CHECKED) != 0) {
        return ERR_CORRUPT;
    }
    *out_first = get_le(in + MAGIC_SIZE, 8);
    memcpy(out_chain->bytes, in + 16, DIGEST_SIZE);
    return ERR_OK;
}

void segment_chain(const struct digest *before, struct bytes payload, struct digest *out_chain)
{
    struct bytes parts[2] = {digest_bytes(before), payload};
    sha256_parts(parts, 2, out_chain);
}

static uint64_t record_check(const uint8_t *header)
{
    struct digest check;
    sha256(bytes_of(header, RECORD_CHECKED), &check);
    return get_le(check.bytes, 8);
}

void segment_record_write(uint64_t index, uint64_t synced, struct bytes payload,
                          const struct digest *chain, uint8_t out[RECORD_HEADER_SIZE + DIGEST_SIZE])
{
    CHECK(payload.size <= JOURNAL_RECORD_MAX);
    put_le(out, payload.size + 1, 4);
    put_le(out + 4, index, 8);
    put_le(out + 12, synced, 8);
    put_le(out + RECORD_CHECKED, record_check(out), 8);
    memcpy(out + RECORD_HEADER_SIZE, chain->bytes, DIGEST_SIZE);
}

/* Is this the header of record index? Gives its payload's size. */
static bool header_ok(const uint8_t *header, uint64_t index, size_t *out_size)
{
    uint64_t size = get_le(header, 4);
    if (size == 0 || size - 1 > JOURNAL_RECORD_MAX || get_le(header + 4, 8) != index ||
        get_le(header + RECORD_CHECKED, 8) != record_check(header)) {
        return false;
    }
    *out_size = (size_t)size - 1;
    return true;
}

enum err segment_record_read(struct bytes in, uint64_t index, const struct digest *before,
                             struct segment_record *out_record)
{
    size_t size = 0;
    if (in.size < RECORD_OVERHEAD || !header_ok(in.data, index, &size) ||
        in.size < RECORD_OVERHEAD + size) {
        return ERR_INVALID;
    }
    const uint8_t *payload = in.data + RECORD_HEADER_SIZE + DIGEST_SIZE;
    struct segment_record record = {.payload = bytes_of(payload, size),
                                    .synced = get_le(in.data + 12, 8)};
    segment_chain(before, record.payload, &record.chain);
    if (payload[size] != SEGMENT_RECORD_END ||
        memcmp(record.chain.bytes, in.data + RECORD_HEADER_SIZE, DIGEST_SIZE) != 0) {
        return ERR_INVALID;
    }
    *out_record = record;
    return ERR_OK;
}

/* Does a later record say that record index was durable? */
static bool was_synced(struct bytes rest, uint64_t index)
{
    for (size_t at = 1; at + RECORD_HEADER_SIZE <= rest.size; at++) {
        const uint8_t *header = rest.data + at;
        uint64_t other = get_le(header + 4, 8);
        size_t size;
        if (other > index && other - index < AHEAD_MAX && get_le(header + 12, 8) > index &&
            header_ok(header, other, &size)) {
            return true;
        }
    }
    return false;
}

/* Could a crash while writing leave this? A killed process leaves the front of what it wrote, a
 * power cut leaves whole sectors out; both leave zeros. A changed byte leaves none. */
static bool looks_torn(struct bytes rest, uint64_t offset, uint64_t index)
{
    size_t size = 0;
    if (rest.size < RECORD_OVERHEAD || all_zero(rest.data, RECORD_HEADER_SIZE)) {
        return true;
    }
    size_t sector_left = SECTOR_SIZE - (size_t)(offset % SECTOR_SIZE);
    if (!header_ok(rest.data, index, &size)) {
        return all_zero(rest.data + RECORD_HEADER_SIZE, DIGEST_SIZE) ||
               (sector_left < RECORD_HEADER_SIZE && all_zero(rest.data, sector_left));
    }
    size_t whole = RECORD_OVERHEAD + size;
    if (rest.size < whole || rest.data[whole - 1] == 0) {
        return true;
    }
    for (size_t at = sector_left; at + SECTOR_SIZE <= whole; at += SECTOR_SIZE) {
        if (all_zero(rest.data + at, SECTOR_SIZE)) {
            return true;
        }
    }
    return false;
}

enum segment_end segment_end_of(struct bytes rest, uint64_t offset, uint64_t index)
{
    if (all_zero(rest.data, rest.size)) {
        return SEGMENT_END_CLEAN;
    }
    return !was_synced(rest, index) && looks_torn(rest, offset, index) ? SEGMENT_END_TORN
                                                                       : SEGMENT_END_DAMAGED;
}
