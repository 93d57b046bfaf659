/* stage.c - the one context of the `cuda` backend, and copying. See stage.h. */
#include "kernels/cuda/stage.h"

#include <pthread.h>

#include "shared/base/check.h"
#include "shared/base/log.h"

#define ARENA_SIZE_MIN ((size_t)16 << 20)
#define SCRATCH_SIZE ((size_t)64 << 20)
#define SLACK 512      /* bytes that rounding and a gap may cost one buffer */
#define BUFFERS_MAX 16 /* of one call */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct cuda *context; /* under the lock */
static size_t context_size;

static void check_ok(enum err err, const struct note *note)
{
    if (err != ERR_OK) {
        log_error("cuda_failed error=%s detail=\"%s\"", err_name(err), note->text);
    }
    CHECK(err == ERR_OK);
}

struct cuda *stage_begin(size_t size)
{
    struct note note = {""};
    (void)pthread_mutex_lock(&lock);
    size += (size_t)SLACK * BUFFERS_MAX;
    if (size > context_size) {
        const size_t grown = size > ARENA_SIZE_MIN ? size + size / 2 : ARENA_SIZE_MIN;
        cuda_close(context);
        context = NULL;
        check_ok(cuda_open(&(struct cuda_options){grown, SCRATCH_SIZE}, &context, &note), &note);
        context_size = grown;
    }
    cuda_release(context, 0);
    return context;
}

void stage_end(struct cuda *cuda)
{
    struct note note = {""};
    check_ok(cuda_sync(cuda, &note), &note);
    (void)pthread_mutex_unlock(&lock);
}

void *stage_take(struct cuda *cuda, size_t size)
{
    void *memory = cuda_take(cuda, size);
    CHECK(memory != NULL);
    return memory;
}

struct cuda_rows stage_rows(size_t count, size_t width, size_t stride)
{
    return (struct cuda_rows){count, width, width, count == 1 ? width : stride};
}

void *stage_put(struct cuda *cuda, const void *host, size_t count, size_t width, size_t stride)
{
    const struct cuda_rows rows = stage_rows(count, width, stride);
    void *device = stage_take(cuda, count * width);
    cuda_put(cuda, &rows, host, device);
    return device;
}

void stage_fetch(struct cuda *cuda, const void *device, void *host, size_t count, size_t width,
                 size_t stride)
{
    const struct cuda_rows rows = stage_rows(count, width, stride);
    cuda_fetch(cuda, &rows, device, host);
}

void *stage_put_flat(struct cuda *cuda, const void *host, size_t size)
{
    return stage_put(cuda, host, 1, size, size);
}

void stage_fetch_flat(struct cuda *cuda, const void *device, void *host, size_t size)
{
    stage_fetch(cuda, device, host, 1, size, size);
}
