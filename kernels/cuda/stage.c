/* stage.c - the one context of the `cuda` backend, and copying. See stage.h. */
#include "kernels/cuda/stage.h"

#include <pthread.h>

#include "shared/base/check.h"
#include "shared/base/log.h"

#define ARENA_SIZE_MIN ((size_t)16 << 20)
#define SCRATCH_SIZE ((size_t)64 << 20)
#define SLACK 512      /* bytes that rounding and a gap may cost one buffer */
#define BUFFERS_MAX 16 /* of one call */
#define KEPT_ALIGN 16  /* of what products read in 128-bit copies */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct cuda *context; /* under the lock */
static size_t context_size;

/* Bytes of the host with a copy on the device, in a context's arena of their own. Under the lock. */
static struct kept {
    const unsigned char *host;
    size_t size;
    struct cuda *cuda;
    unsigned char *device;
} kept[STAGE_KEPT_MAX];
static size_t kept_count;

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

/* ---- what stays ------------------------------------------------------------------------------- */

static enum err kept_fill(struct kept *one, struct note *note)
{
    const struct cuda_options options = {.arena_size = one->size};
    const enum err err = cuda_open(&options, &one->cuda, note);
    if (err != ERR_OK) {
        return err;
    }
    one->device = cuda_take(one->cuda, one->size);
    cuda_put(one->cuda, &(struct cuda_rows){1, one->size, one->size, one->size}, one->host,
             one->device);
    return cuda_sync(one->cuda, note); /* other streams read it from here on */
}

enum err stage_keep(const void *data, size_t size, struct note *note)
{
    struct kept one = {.host = data, .size = size};
    (void)pthread_mutex_lock(&lock);
    enum err err =
        kept_count < STAGE_KEPT_MAX
            ? kept_fill(&one, note)
            : note_set(note, ERR_LIMIT, "cuda: %d regions are kept already", STAGE_KEPT_MAX);
    if (err == ERR_OK) {
        kept[kept_count++] = one;
    } else {
        cuda_close(one.cuda);
    }
    (void)pthread_mutex_unlock(&lock);
    return err;
}

void stage_forget(const void *data)
{
    (void)pthread_mutex_lock(&lock);
    for (size_t i = 0; i < kept_count; i++) {
        if (kept[i].host == data) {
            cuda_close(kept[i].cuda);
            kept[i] = kept[--kept_count];
            break;
        }
    }
    (void)pthread_mutex_unlock(&lock);
}

const void *stage_kept(const void *data, size_t size)
{
    const unsigned char *first = data;
    const unsigned char *found = NULL;
    (void)pthread_mutex_lock(&lock);
    for (size_t i = 0; i < kept_count && found == NULL; i++) {
        const uintptr_t begin = (uintptr_t)kept[i].host; /* comparable, whatever data points into */
        const uintptr_t at = (uintptr_t)first;
        if (at >= begin && at - begin <= kept[i].size && size <= kept[i].size - (at - begin)) {
            found = kept[i].device + (at - begin);
        }
    }
    (void)pthread_mutex_unlock(&lock);
    return (uintptr_t)found % KEPT_ALIGN == 0 ? found : NULL;
}

/* ---- memory of one call ------------------------------------------------------------------------ */

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
