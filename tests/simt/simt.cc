/* simt.cc - the simulated device: fibers for threads, a queue for a stream. See cuda_runtime.h.
 *
 * Source: CUDA C++ Programming Guide (execution model, stream semantics); PTX ISA 8 for the fragments
 * of mma.m16n8k32. */
#include "tests/simt/simt.h"

#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include <memory>
#include <vector>

#include <cuda_runtime.h>

#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ASAN 1
#endif
#endif
#ifdef SIMT_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

#define THREADS_MAX 1024
#define STACK_SIZE 65536
#define WARP 32
#define NOTHING UINT32_MAX /* no thread could run */

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace
{

struct copy {
    void *to;
    const void *from;
    size_t size;
    bool inside;
};

enum state { READY, AT_BARRIER, IN_WARP, DONE };

struct fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    void *fake_stack;
    enum state state;
    std::vector<std::vector<struct copy>> groups; /* committed, oldest first */
    std::vector<struct copy> open;
    unsigned phase; /* warp exchanges done */
};

struct warp {
    uint32_t words[2][WARP]; /* by phase parity: a fast lane is at most one exchange ahead */
    uint32_t fragments[WARP][6];
    unsigned arrived;
};

struct fiber fibers[THREADS_MAX];
struct warp warps[THREADS_MAX / WARP];
unsigned fiber_count, current;
ucontext_t scheduler;
const void *scheduler_stack;
size_t scheduler_size;
const std::function<void(void)> *body;
uint64_t order = 0; /* state of the generator; 0: ascending */
uint64_t call_count, fail_at;

[[noreturn]] void die(const char *why)
{
    fprintf(stderr, "simt: block %u,%u,%u thread %u: %s\n", blockIdx.x, blockIdx.y, blockIdx.z,
            threadIdx.x, why);
    abort();
}

/* A permutation of 0 .. count - 1 in the chosen order. */
std::vector<unsigned> permutation(unsigned count)
{
    std::vector<unsigned> out(count);
    for (unsigned i = 0; i < count; i++) {
        out[i] = i;
    }
    for (unsigned i = count; order != 0 && i > 1; i--) {
        order = order * 6364136223846793005ULL + 1442695040888963407ULL;
        std::swap(out[i - 1], out[(order >> 33) % i]);
    }
    return out;
}

/* Leaves the running fiber for the scheduler. */
void leave(bool for_ever)
{
    struct fiber *self = &fibers[current];
#ifdef SIMT_ASAN
    __sanitizer_start_switch_fiber(for_ever ? nullptr : &self->fake_stack, scheduler_stack,
                                   scheduler_size);
#endif
    swapcontext(&self->context, &scheduler);
    (void)for_ever;
#ifdef SIMT_ASAN
    __sanitizer_finish_switch_fiber(self->fake_stack, nullptr, nullptr);
#endif
}

void enter(unsigned index)
{
    struct fiber *fiber = &fibers[index];
    current = index;
    threadIdx = {index, 0, 0};
#ifdef SIMT_ASAN
    void *fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, fiber->stack.get(), STACK_SIZE);
#endif
    swapcontext(&scheduler, &fiber->context);
#ifdef SIMT_ASAN
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

void fiber_main(void)
{
#ifdef SIMT_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
#endif
    (*body)();
    if (!fibers[current].open.empty() || !fibers[current].groups.empty()) {
        die("ends with copies under way");
    }
    fibers[current].state = DONE;
    leave(true);
    die("runs on after its end");
}

void fiber_start(unsigned index)
{
    struct fiber *fiber = &fibers[index];
    if (fiber->stack == nullptr) {
        fiber->stack.reset(new char[STACK_SIZE]);
    }
    fiber->state = READY;
    fiber->fake_stack = nullptr;
    fiber->phase = 0;
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack.get();
    fiber->context.uc_stack.ss_size = STACK_SIZE;
    fiber->context.uc_link = nullptr;
    makecontext(&fiber->context, fiber_main, 0);
}

/* Runs a warp as far as it gets without the others, and tells how many of its threads ended. */
unsigned warp_run(unsigned warp)
{
    unsigned ended = 0;
    bool any = false;
    for (bool again = true; again;) {
        again = false;
        for (unsigned lane : permutation(WARP)) {
            struct fiber *fiber = &fibers[warp * WARP + lane];
            while (fiber->state == READY) {
                enter(warp * WARP + lane);
                again = any = true;
                ended += fiber->state == DONE ? 1 : 0;
            }
        }
    }
    return any ? ended : NOTHING;
}

/* Runs one block to its end: every warp until it waits, again and again. */
void block_run(void)
{
    for (unsigned i = 0; i < fiber_count; i++) {
        fiber_start(i);
    }
    for (unsigned w = 0; w < fiber_count / WARP; w++) {
        warps[w].arrived = 0;
    }
    for (unsigned done = 0; done < fiber_count;) {
        bool moved = false;
        for (unsigned warp : permutation(fiber_count / WARP)) {
            const unsigned ended = warp_run(warp);
            moved = moved || ended != NOTHING;
            done += ended == NOTHING ? 0 : ended;
        }
        unsigned waiting = 0;
        for (unsigned i = 0; i < fiber_count; i++) {
            waiting += fibers[i].state == AT_BARRIER ? 1 : 0;
        }
        if (waiting > 0 && waiting == fiber_count) {
            for (unsigned i = 0; i < fiber_count; i++) {
                fibers[i].state = READY;
            }
            moved = true;
        }
        if (!moved && done < fiber_count) {
            die("deadlock: not every thread reaches the barrier or the shuffle");
        }
    }
}

void grid_run(const cudaLaunchConfig_t *config, const std::function<void(void)> *thread)
{
    const dim3 grid = config->gridDim;
    blockDim = config->blockDim;
    gridDim = grid;
    fiber_count = config->blockDim.x;
    body = thread;
    for (unsigned index : permutation(grid.x * grid.y * grid.z)) {
        blockIdx = {index % grid.x, index / grid.x % grid.y, index / grid.x / grid.y};
        block_run();
    }
}

} /* namespace */

/* ---- inside a kernel -------------------------------------------------------------------------- */

void simt_barrier(void)
{
    fibers[current].state = AT_BARRIER;
    leave(false);
}

/* Waits until all lanes of the warp are here; the last one wakes the others. */
static void warp_meet(struct warp *warp)
{
    const unsigned first = current / WARP * WARP;
    if (++warp->arrived < WARP) {
        fibers[current].state = IN_WARP;
        leave(false);
        return;
    }
    warp->arrived = 0;
    for (unsigned i = first; i < first + WARP; i++) {
        if (fibers[i].state == IN_WARP) {
            fibers[i].state = READY;
        }
    }
}

uint32_t simt_exchange(uint32_t mask, uint32_t word, unsigned from)
{
    if (mask != 0xffffffffU) {
        die("shuffle by a part of the warp");
    }
    struct fiber *self = &fibers[current];
    struct warp *warp = &warps[current / WARP];
    uint32_t *words = warp->words[self->phase++ % 2];
    words[current % WARP] = word;
    warp_meet(warp);
    return words[from];
}

void simt_mma_s8(const uint32_t a[4], const uint32_t b[2], int32_t c, int32_t d[4])
{
    struct warp *warp = &warps[current / WARP];
    const unsigned lane = current % WARP;
    memcpy(warp->fragments[lane], a, 4 * sizeof *a);
    memcpy(warp->fragments[lane] + 4, b, 2 * sizeof *b);
    warp_meet(warp);
    int32_t sums[4];
    for (unsigned i = 0; i < 4; i++) {
        const unsigned row = lane / 4 + 8 * (i / 2);
        const unsigned column = lane % 4 * 2 + i % 2;
        sums[i] = c;
        for (unsigned k = 0; k < 32; k++) {
            const unsigned t = k % 16 / 4; /* the lane in its group that holds k */
            const uint32_t left =
                warp->fragments[row % 8 * 4 + t][row / 8 + k / 16 * 2] >> k % 4 * 8;
            const uint32_t right = warp->fragments[column * 4 + t][4 + k / 16] >> k % 4 * 8;
            sums[i] += (int8_t)left * (int8_t)right;
        }
    }
    warp_meet(warp); /* nobody overwrites a fragment that another lane still reads */
    memcpy(d, sums, sizeof sums);
}

void simt_copy_start(void *to, const void *from, size_t size, bool inside)
{
    if ((uintptr_t)to % size != 0 || (inside && (uintptr_t)from % size != 0)) {
        die("asynchronous copy is not aligned");
    }
    memset(to, 0xa5, size); /* undefined until it lands */
    fibers[current].open.push_back({to, from, size, inside});
}

void simt_copy_commit(void)
{
    fibers[current].groups.push_back(std::move(fibers[current].open));
    fibers[current].open.clear();
}

void simt_copy_wait(unsigned pending)
{
    auto &groups = fibers[current].groups;
    while (groups.size() > pending) {
        for (const struct copy &copy : groups.front()) {
            if (copy.inside) {
                memcpy(copy.to, copy.from, copy.size);
            } else {
                memset(copy.to, 0, copy.size);
            }
        }
        groups.erase(groups.begin());
    }
}

/* ---- the runtime's calls ------------------------------------------------------------------------ */

struct simt_graph {
    std::vector<std::function<void(void)>> work;
};

struct simt_stream {
    std::vector<std::function<void(void)>> queue;
    struct simt_graph *capture;
};

void simt_seed(uint64_t seed)
{
    order = seed;
}

void simt_fail(uint64_t count)
{
    fail_at = count == 0 ? 0 : call_count + count;
}

uint64_t simt_calls(void)
{
    return call_count;
}

/* True if this call is the one that fails. */
static bool fails(void)
{
    return ++call_count == fail_at;
}

static cudaError_t enqueue(cudaStream_t stream, std::function<void(void)> work)
{
    if (fails()) {
        return cudaErrorLaunchFailure;
    }
    (stream->capture != nullptr ? stream->capture->work : stream->queue).push_back(std::move(work));
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t error)
{
    static const char *const names[] = {"no error", "invalid argument", "out of memory",
                                        "unspecified launch failure", "no device"};
    return names[error];
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return fails() ? cudaErrorNoDevice : cudaSuccess;
}

cudaError_t cudaSetDevice(int)
{
    return fails() ? cudaErrorNoDevice : cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int)
{
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "simulated");
    out->major = 8;
    return fails() ? cudaErrorNoDevice : cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *out, cudaDeviceAttr, int)
{
    *out = 4;
    return fails() ? cudaErrorInvalidValue : cudaSuccess;
}

cudaError_t cudaMalloc(void **out, size_t size)
{
    if (fails()) {
        return cudaErrorMemoryAllocation;
    }
    *out = aligned_alloc(256, (size + 255) / 256 * 256);
    memset(*out, 0xa5, size);
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    if (fails()) {
        return cudaErrorMemoryAllocation;
    }
    *out = new simt_stream();
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    for (auto &work : stream->queue) {
        work();
    }
    stream->queue.clear();
    return fails() ? cudaErrorLaunchFailure : cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_stride, const void *from, size_t from_stride,
                              size_t width, size_t height, cudaMemcpyKind, cudaStream_t stream)
{
    if (to_stride < width || from_stride < width) {
        return cudaErrorInvalidValue;
    }
    return enqueue(stream, [=]() {
        for (size_t i = 0; i < height; i++) {
            memcpy((char *)to + i * to_stride, (const char *)from + i * from_stride, width);
        }
    });
}

cudaError_t simt_launch(const cudaLaunchConfig_t *config, std::function<void(void)> thread)
{
    const dim3 grid = config->gridDim;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535 ||
        config->blockDim.x == 0 || config->blockDim.x > THREADS_MAX ||
        config->blockDim.x % WARP != 0 || config->blockDim.y != 1 || config->blockDim.z != 1) {
        return cudaErrorInvalidValue;
    }
    return enqueue(config->stream, [copy = *config, thread]() { grid_run(&copy, &thread); });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    if (fails() || stream->capture != nullptr) {
        return cudaErrorInvalidValue;
    }
    stream->capture = new simt_graph();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    *out = stream->capture;
    stream->capture = nullptr;
    return *out == nullptr ? cudaErrorInvalidValue : cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long)
{
    if (fails()) {
        return cudaErrorMemoryAllocation;
    }
    *out = new simt_graph(*graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
    const std::vector<std::function<void(void)>> work = graph->work;
    return enqueue(stream, [work]() {
        for (const auto &one : work) {
            one();
        }
    });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph)
{
    delete graph;
    return cudaSuccess;
}
