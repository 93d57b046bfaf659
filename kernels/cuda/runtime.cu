/* runtime.cu - the context: device, stream, one arena, remembered failures, graphs. See cuda.h. */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/cuda/device.h"

#define ALIGNMENT 256

/* The simulated device runs under ASan: what nobody took is closed to it, a gap behind each buffer too. */
#if defined(OPENLEDGER_SIMT)
#include <sanitizer/asan_interface.h>
#define ARENA_GAP ALIGNMENT
#define arena_close(memory, size) ASAN_POISON_MEMORY_REGION(memory, size)
#define arena_open(memory, size) ASAN_UNPOISON_MEMORY_REGION(memory, size)
#else
#define ARENA_GAP 0
#define arena_close(memory, size) ((void)(memory), (void)(size))
#define arena_open(memory, size) ((void)(memory), (void)(size))
#endif

struct cuda_graph {
    cudaGraphExec_t exec;
};

extern "C" {

static enum err call_failed(struct note *note, const char *call, cudaError_t status)
{
    const enum err err = status == cudaErrorMemoryAllocation ? ERR_LIMIT : ERR_UNAVAILABLE;
    return note_set(note, err, "cuda: %s: %s", call, cudaGetErrorString(status));
}

bool cuda_available(struct note *note)
{
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess || count == 0) {
        (void)note_set(note, ERR_UNAVAILABLE, "cuda: no device: %s",
                       status == cudaSuccess ? "none found" : cudaGetErrorString(status));
        return false;
    }
    cudaDeviceProp properties;
    const cudaError_t asked = cudaGetDeviceProperties(&properties, 0);
    if (asked != cudaSuccess) {
        (void)call_failed(note, "cudaGetDeviceProperties", asked);
        return false;
    }
    if (properties.major < 8) {
        (void)note_set(note, ERR_UNAVAILABLE, "cuda: %s has capability %d.%d, 8.0 is needed",
                       properties.name, properties.major, properties.minor);
        return false;
    }
    return true;
}

static uint32_t attribute(cudaDeviceAttr what)
{
    int value = 0;
    return cudaDeviceGetAttribute(&value, what, 0) == cudaSuccess && value > 0 ? (uint32_t)value
                                                                               : 0;
}

static void info_fill(struct cuda_info *info)
{
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, 0) == cudaSuccess) {
        (void)snprintf(info->name, sizeof info->name, "%.63s", properties.name);
        info->capability = (uint32_t)(properties.major * 10 + properties.minor);
    }
    info->multiprocessor_count = attribute(cudaDevAttrMultiProcessorCount);
    info->clock_khz = attribute(cudaDevAttrClockRate);
    info->memory_clock_khz = attribute(cudaDevAttrMemoryClockRate);
    info->bus_bits = attribute(cudaDevAttrGlobalMemoryBusWidth);
}

/* What cuda_open acquires, so that one place releases it, whole or half built. */
static enum err acquire(struct cuda *cuda, const struct cuda_options *options, struct note *note)
{
    cudaError_t status = cudaSetDevice(0);
    if (status != cudaSuccess) {
        return call_failed(note, "cudaSetDevice", status);
    }
    status = cudaStreamCreate(&cuda->stream);
    if (status != cudaSuccess) {
        cuda->stream = NULL;
        return call_failed(note, "cudaStreamCreate", status);
    }
    void *memory = NULL;
    const size_t scratch_at = ceil_div(options->arena_size, ALIGNMENT) * ALIGNMENT;
    status = cudaMalloc(&memory, scratch_at + options->scratch_size);
    if (status != cudaSuccess) {
        return call_failed(note, "cudaMalloc", status);
    }
    cuda->arena = static_cast<unsigned char *>(memory);
    cuda->arena_size = options->arena_size;
    arena_close(cuda->arena, cuda->arena_size);
    cuda->scratch = reinterpret_cast<float *>(cuda->arena + scratch_at);
    cuda->scratch_count = options->scratch_size / sizeof(float);
    info_fill(&cuda->info);
    return ERR_OK;
}

enum err cuda_open(const struct cuda_options *options, struct cuda **out_cuda, struct note *note)
{
    CHECK(options->arena_size + options->scratch_size > 0);
    if (!cuda_available(note)) {
        return ERR_UNAVAILABLE;
    }
    struct cuda *cuda = static_cast<struct cuda *>(calloc(1, sizeof *cuda));
    if (cuda == NULL) {
        return note_set(note, ERR_NO_MEMORY, "cuda: no memory for a context");
    }
    const enum err err = acquire(cuda, options, note);
    if (err != ERR_OK) {
        cuda_close(cuda);
        return err;
    }
    *out_cuda = cuda;
    return ERR_OK;
}

/* Nothing to do about a failure while giving things back: the first one was reported. */
void cuda_close(struct cuda *cuda)
{
    if (cuda == NULL) {
        return;
    }
    if (cuda->stream != NULL) {
        (void)cudaStreamSynchronize(cuda->stream);
        (void)cudaStreamDestroy(cuda->stream);
    }
    (void)cudaFree(cuda->arena);
    free(cuda);
}

void cuda_info(const struct cuda *cuda, struct cuda_info *out_info)
{
    *out_info = cuda->info;
}

enum err cuda_sync(struct cuda *cuda, struct note *note)
{
    (void)cuda_ok(cuda, "cudaStreamSynchronize", cudaStreamSynchronize(cuda->stream));
    const enum err failure = cuda->failure;
    cuda->failure = ERR_OK;
    return failure == ERR_OK ? ERR_OK : note_set(note, failure, "%s", cuda->failed.text);
}

void *cuda_take(struct cuda *cuda, size_t size)
{
    const size_t left = cuda->arena_size - cuda->arena_used;
    if (size > left) {
        cuda_refuse(cuda, "arena", size, left);
        return NULL;
    }
    void *memory = cuda->arena + cuda->arena_used;
    arena_open(memory, size);
    const size_t whole = ceil_div(size, ALIGNMENT) * ALIGNMENT + ARENA_GAP;
    cuda->arena_used += whole < left ? whole : left;
    return memory;
}

size_t cuda_mark(const struct cuda *cuda)
{
    return cuda->arena_used;
}

void cuda_release(struct cuda *cuda, size_t mark)
{
    CHECK(mark <= cuda->arena_used);
    arena_close(cuda->arena + mark, cuda->arena_used - mark);
    cuda->arena_used = mark;
}

void cuda_put(struct cuda *cuda, const struct cuda_rows *rows, const void *host, void *device)
{
    if (cuda->failure == ERR_OK && rows->row_count > 0 && rows->width > 0) {
        (void)cuda_ok(cuda, "cudaMemcpy2DAsync to the device",
                      cudaMemcpy2DAsync(device, rows->device_stride, host, rows->host_stride,
                                        rows->width, rows->row_count, cudaMemcpyHostToDevice,
                                        cuda->stream));
    }
}

void cuda_fetch(struct cuda *cuda, const struct cuda_rows *rows, const void *device, void *host)
{
    if (cuda->failure == ERR_OK && rows->row_count > 0 && rows->width > 0) {
        (void)cuda_ok(cuda, "cudaMemcpy2DAsync to the host",
                      cudaMemcpy2DAsync(host, rows->host_stride, device, rows->device_stride,
                                        rows->width, rows->row_count, cudaMemcpyDeviceToHost,
                                        cuda->stream));
    }
}

void cuda_record_begin(struct cuda *cuda)
{
    if (cuda->failure == ERR_OK) {
        (void)cuda_ok(cuda, "cudaStreamBeginCapture",
                      cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal));
    }
}

struct cuda_graph *cuda_record_end(struct cuda *cuda)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    const cudaError_t ended = cudaStreamEndCapture(cuda->stream, &graph);
    if (cuda_ok(cuda, "cudaStreamEndCapture", ended)) {
        (void)cuda_ok(cuda, "cudaGraphInstantiate", cudaGraphInstantiate(&exec, graph, 0));
    }
    if (graph != NULL) {
        (void)cudaGraphDestroy(graph);
    }
    struct cuda_graph *out =
        exec == NULL ? NULL : static_cast<struct cuda_graph *>(malloc(sizeof *out));
    if (out == NULL) {
        if (exec != NULL) {
            (void)cudaGraphExecDestroy(exec);
            cuda_refuse(cuda, "host memory for a graph", sizeof *out, 0);
        }
        return NULL;
    }
    out->exec = exec;
    return out;
}

void cuda_graph_run(struct cuda *cuda, struct cuda_graph *graph)
{
    if (cuda->failure == ERR_OK) {
        (void)cuda_ok(cuda, "cudaGraphLaunch", cudaGraphLaunch(graph->exec, cuda->stream));
    }
}

void cuda_graph_destroy(struct cuda_graph *graph)
{
    if (graph != NULL) {
        (void)cudaGraphExecDestroy(graph->exec);
        free(graph);
    }
}

} /* extern "C" */

bool cuda_ok(struct cuda *cuda, const char *call, cudaError_t status)
{
    if (status != cudaSuccess && cuda->failure == ERR_OK) {
        cuda->failure = call_failed(&cuda->failed, call, status);
    }
    return cuda->failure == ERR_OK;
}

void cuda_refuse(struct cuda *cuda, const char *what, size_t need, size_t have)
{
    if (cuda->failure == ERR_OK) {
        cuda->failure = note_set(&cuda->failed, ERR_LIMIT, "cuda: %s: %zu bytes needed, %zu left",
                                 what, need, have);
    }
}
