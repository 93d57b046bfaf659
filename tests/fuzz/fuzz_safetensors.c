/* fuzz_safetensors.c - whatever the bytes: an error, or tensors that cover the data exactly.
 *
 * The oracle: every tensor shown lies inside the file, its size is its shape's, sizes add up to the
 * data, names are sorted and found again, and reading every value touches nothing else (ASan). */
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/lm/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    /* Most inputs spend their luck on the header's size; give half of them a right one. */
    uint8_t *file = malloc(data_size + 8);
    CHECK(file != NULL);
    struct bytes bytes = {file, data_size};
    memcpy(file, data, data_size);
    if (data_size > 0 && data[0] == '{') {
        const uint8_t *end = memchr(data, '\n', data_size);
        uint64_t header = end == NULL ? data_size : (uint64_t)(end - data);
        memcpy(file, &header, 8);
        memcpy(file + 8, data, data_size);
        bytes.size = data_size + 8;
    }
    struct safetensors set;
    if (safetensors_init(&set, bytes, NULL) == ERR_OK) {
        size_t total = 0;
        for (uint32_t i = 0; i < set.count; i++) {
            const struct safetensors_tensor *tensor = &set.tensors[i];
            CHECK(i == 0 || strcmp(set.tensors[i - 1].name, tensor->name) < 0);
            CHECK(safetensors_find(&set, tensor->name) == tensor);
            CHECK(tensor->data.size == tensor->count * (tensor->type == SAFETENSORS_F32 ? 4 : 2));
            CHECK(tensor->data.data >= bytes.data);
            CHECK(tensor->data.data + tensor->data.size <= bytes.data + bytes.size);
            float *values = malloc(tensor->count * sizeof *values + 1);
            CHECK(values != NULL);
            safetensors_read(tensor, values);
            free(values);
            total += tensor->data.size;
        }
        CHECK(total <= bytes.size);
        safetensors_deinit(&set);
    }
    free(file);
    return 0;
}
