/* fuzz_gguf.c - whatever the bytes: an error, or members and tensors that lie in the file.
 *
 * The oracle: keys ascend, tensors do not overlap and have their shape's size, all texts of all arrays
 * can be taken, and a model opened from the bytes (an error nearly always) touches nothing else. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/gguf/gguf.h"
#include "shared/lm/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size);

static void entries_walk(const struct gguf *gguf, struct bytes file)
{
    for (uint32_t i = 0; i < gguf->entry_count; i++) {
        const struct gguf_entry *entry = &gguf->entries[i];
        CHECK(entry->data.size <= file.size);
        if (entry->kind == GGUF_ARRAY && entry->items == GGUF_TEXT) {
            struct bytes items = entry->data;
            for (uint64_t t = 0; t < entry->count; t++) {
                struct bytes text = gguf_text_take(&items);
                CHECK(text.size == 0 ||
                      (text.data >= file.data && text.data + text.size <= file.data + file.size));
            }
            CHECK(items.size == 0);
        }
    }
}

static void tensors_walk(const struct gguf *gguf, struct bytes file)
{
    const uint8_t *next = file.data;
    for (uint32_t i = 0; i < gguf->tensor_count; i++) {
        const struct gguf_tensor *tensor = &gguf->tensors[i];
        size_t count = (size_t)tensor->rows * tensor->columns;
        size_t size = tensor->type == GGUF_TENSOR_F32    ? count * 4
                      : tensor->type == GGUF_TENSOR_Q8_0 ? count / 32 * 34
                                                         : count * 2;
        CHECK(tensor->data.size == size);
        CHECK(tensor->data.data >= next);
        next = tensor->data.data + size;
    }
    CHECK(next <= file.data + file.size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    /* The first eight bytes and most of the counts are a lottery: give them right. */
    uint8_t *file = malloc(data_size + 24);
    CHECK(file != NULL);
    uint64_t counts[2] = {data_size > 0 ? data[0] % 8 : 0, data_size > 1 ? data[1] % 8 : 0};
    static const uint8_t START[8] = {'G', 'G', 'U', 'F', 3, 0, 0, 0};
    memcpy(file, START, sizeof START);
    memcpy(file + 8, counts, sizeof counts);
    memcpy(file + 24, data_size > 2 ? data + 2 : data, data_size > 2 ? data_size - 2 : 0);
    struct bytes made = {file, 24 + (data_size > 2 ? data_size - 2 : 0)};
    struct bytes tries[2] = {made, {data, data_size}};
    for (int i = 0; i < 2; i++) {
        struct gguf gguf;
        if (gguf_init(&gguf, tries[i], NULL) == ERR_OK) {
            entries_walk(&gguf, tries[i]);
            tensors_walk(&gguf, tries[i]);
            CHECK(gguf_find(&gguf, "no such key") == NULL);
            gguf_deinit(&gguf);
        }
        struct lm_weights weights;
        struct lm_file source = {"model.gguf", tries[i]};
        if (lm_weights_init(&weights, &source, 1, NULL) == ERR_OK) {
            lm_weights_deinit(&weights);
        }
    }
    free(file);
    return 0;
}
