/* fuzz_ledger_records.c - the state's records as bytes, with edits: what is read is written back the same.
 *
 * Byte 0 chooses the kind, the rest are edits of an empty record of it. By themselves, for a snapshot's root refuses
 * nearly all changed records after they were read (fuzz_ledger_state.c). Oracles: encoding what was decoded gives the
 * very bytes that were consumed; a key is the front of its record; decoding again gives the same struct. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/records.h"
#include "tests/harness/edits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size);

enum { EDITED_MAX = 1 << 20 };

static void look(enum state_kind kind, struct bytes bytes)
{
    _Alignas(max_align_t) uint8_t decoded[RECORD_ENCODED_MAX] = {0};
    _Alignas(max_align_t) uint8_t again[RECORD_ENCODED_MAX] = {0};
    struct record_encoder whole = {.size = 0};
    struct record_encoder key = {.size = 0};
    struct bytes rest = bytes;
    if (record_decode(kind, &rest, decoded) != ERR_OK) {
        return;
    }
    record_encode(kind, false, decoded, &whole);
    CHECK(whole.size == bytes.size - rest.size);
    CHECK(memcmp(whole.data, bytes.data, whole.size) == 0);
    record_encode(kind, true, decoded, &key);
    CHECK(key.size <= whole.size && memcmp(key.data, whole.data, key.size) == 0);
    rest = bytes_of(whole.data, whole.size);
    CHECK(record_decode(kind, &rest, again) == ERR_OK && rest.size == 0);
    CHECK(memcmp(decoded, again, record_size(kind)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    static const uint8_t EMPTY[RECORD_ENCODED_MAX];
    struct record_encoder encoder = {.size = 0};
    struct buf edited;
    if (data_size == 0) {
        return 0;
    }
    enum state_kind kind = (enum state_kind)(1 + data[0] % (STATE_KIND_END - 1));
    record_encode(kind, false, EMPTY, &encoder);
    buf_init(&edited, EDITED_MAX);
    CHECK(buf_append(&edited, encoder.data, encoder.size) == ERR_OK);
    edits_make(bytes_of(data + 1, data_size - 1), &edited);
    look(kind, buf_bytes(&edited));
    buf_deinit(&edited);
    return 0;
}
