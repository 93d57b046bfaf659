/* edits.c - see edits.h. */
#include "tests/harness/edits.h"

#include "shared/base/check.h"

static size_t at_most(size_t size, size_t limit)
{
    return size < limit ? size : limit;
}

void edits_make(struct bytes script, struct buf *target)
{
    uint16_t place;
    uint8_t gone;
    uint8_t come;
    struct bytes added;
    while (bytes_take_u16le(&script, &place) == ERR_OK && bytes_take_u8(&script, &gone) == ERR_OK &&
           bytes_take_u8(&script, &come) == ERR_OK) {
        struct buf edited;
        size_t from = place % (target->size + 1);
        size_t to = from + at_most(gone, target->size - from);
        CHECK(bytes_take(&script, at_most(come, script.size), &added) == ERR_OK);
        buf_init(&edited, target->limit);
        buf_append(&edited, target->data, from);
        buf_append_bytes(&edited, added);
        buf_append(&edited, target->data + to, target->size - to);
        CHECK(buf_err(&edited) == ERR_OK);
        buf_deinit(target);
        *target = edited;
    }
}
