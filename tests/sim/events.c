/* events.c - see events.h: a binary heap. */
#include "tests/sim/events.h"

#include <stdbool.h>
#include <stdlib.h>

#include "shared/base/check.h"

enum { EVENTS_MAX = 1 << 16 };

static bool before(const struct event *a, const struct event *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->number < b->number;
}

void events_init(struct events *events)
{
    *events = (struct events){.heap = calloc(EVENTS_MAX, sizeof *events->heap)};
    CHECK(events->heap != NULL);
}

void events_deinit(struct events *events)
{
    free(events->heap);
}

void events_push(struct events *events, const struct event *event)
{
    struct event added = *event;
    struct event *heap = events->heap;
    CHECK(events->count < EVENTS_MAX);
    added.number = events->made++;
    size_t i = events->count++;
    for (; i > 0 && before(&added, &heap[(i - 1) / 2]); i = (i - 1) / 2) {
        heap[i] = heap[(i - 1) / 2];
    }
    heap[i] = added;
}

struct event events_pop(struct events *events)
{
    struct event *heap = events->heap;
    CHECK(events->count > 0);
    struct event top = heap[0];
    struct event last = heap[--events->count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < events->count && before(&heap[child + 1], &heap[child])) {
            child++;
        }
        if (child >= events->count || before(&last, &heap[child])) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}
