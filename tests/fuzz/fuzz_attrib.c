/* fuzz_attrib.c - an attribution index's bytes are hostile: what is accepted is written back as the very
 * same bytes, and its rows can be looked at. */
#include <stdlib.h>

#include "shared/attrib/attrib.h"
#include "shared/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    struct attrib_index *index = NULL;
    struct attrib_info info;
    struct note note = {""};
    struct buf out;
    if (attrib_index_load(bytes_of(data, data_size), &index, &note) != ERR_OK) {
        return 0;
    }
    buf_init(&out, ATTRIB_INDEX_MAX);
    CHECK(attrib_index_save(index, &out) == ERR_OK);
    CHECK(bytes_equal(buf_bytes(&out), bytes_of(data, data_size)));
    attrib_index_info(index, &info);
    for (uint32_t row = 0; row < info.row_count; row++) {
        struct lm_example example = attrib_index_example(index, row);
        CHECK(example.count >= 1);
        (void)attrib_index_contributor(index, row);
    }
    attrib_index_destroy(index);
    buf_deinit(&out);
    return 0;
}
