/* fuzz_journal.c - a segment's bytes are hostile: no input may be read past its end, and a record that
 * is accepted carries the hash of the chain before it. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/journal/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    struct bytes rest = bytes_of(data, data_size);
    struct digest chain = {{0}};
    struct segment_record record;
    uint64_t index = 0;
    if (data_size >= SEGMENT_HEADER_SIZE) {
        (void)segment_header_read(data, &index, &chain);
    }
    while (segment_record_read(rest, index, &chain, &record) == ERR_OK) {
        struct digest expected;
        segment_chain(&chain, record.payload, &expected);
        CHECK(digest_equal(&expected, &record.chain));
        chain = record.chain;
        index++;
        rest = bytes_of(rest.data + RECORD_OVERHEAD + record.payload.size,
                        rest.size - RECORD_OVERHEAD - record.payload.size);
    }
    (void)segment_end_of(rest, data_size - rest.size, index);
    return 0;
}
