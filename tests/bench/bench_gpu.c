/* bench_gpu.c - how much of a GPU the kernels of kernels/cuda use: bandwidth and rate as shares of the
 * chip's own and of what plain kernels reach in the same run. Writes build/bench/gpu.json. See
 * gpu_bench.h. Without a device it says so and passes. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "shared/base/buf.h"
#include "tests/bench/gpu_bench.h"

#define OUT_FOLDER "build/bench"
#define REPORT_SIZE_MAX ((size_t)1 << 20)
#define SAMPLE_S 0.02
#define FILL_COUNT ((size_t)1 << 21) /* floats */

static bool report_save(const struct gpu_bench *bench)
{
    struct buf out;
    buf_init(&out, REPORT_SIZE_MAX);
    gpu_report_write(bench, &out);
    (void)mkdir("build", 0755);
    (void)mkdir(OUT_FOLDER, 0755);
    FILE *file = fopen(OUT_FOLDER "/gpu.json", "w");
    bool ok = file != NULL && buf_err(&out) == ERR_OK &&
              fwrite(buf_bytes(&out).data, 1, buf_bytes(&out).size, file) == buf_bytes(&out).size;
    ok = file != NULL && fclose(file) == 0 && ok;
    buf_deinit(&out);
    return ok;
}

/* Ordinary numbers everywhere: a chip's clock, and so its rate, depends on the data. */
static enum err arena_fill(struct cuda *cuda, size_t size, struct note *note)
{
    float *numbers = malloc(FILL_COUNT * sizeof *numbers);
    if (numbers == NULL) {
        return note_set(note, ERR_NO_MEMORY, "no memory for the numbers");
    }
    uint32_t state = 1;
    for (size_t i = 0; i < FILL_COUNT; i++) {
        state = state * 1664525U + 1013904223U; /* Numerical Recipes */
        numbers[i] = (float)(int32_t)state * 0x1p-31F;
    }
    const size_t mark = cuda_mark(cuda);
    char *arena = cuda_take(cuda, size);
    for (size_t at = 0; arena != NULL && at < size; at += FILL_COUNT * sizeof *numbers) {
        const size_t left = size - at;
        const size_t part =
            left < FILL_COUNT * sizeof *numbers ? left : FILL_COUNT * sizeof *numbers;
        cuda_put(cuda, &(struct cuda_rows){1, part, part, part}, numbers, arena + at);
    }
    cuda_release(cuda, mark);
    const enum err err = cuda_sync(cuda, note);
    free(numbers);
    return err;
}

int main(void)
{
    struct note note = {""};
    struct gpu_bench bench = {
        .shape = &gpu_shape_large, .samples = GPU_SAMPLES, .sample_s = SAMPLE_S};
    if (!cuda_available(&note)) {
        (void)printf("SKIP: %s\n", note.text);
        return 0;
    }
    const struct cuda_options options = {bench.shape->arena_size, bench.shape->scratch_size};
    enum err err = cuda_open(&options, &bench.cuda, &note);
    if (err == ERR_OK) {
        err = arena_fill(bench.cuda, options.arena_size, &note);
        err = err == ERR_OK ? gpu_bench_run(&bench, &note) : err;
        cuda_close(bench.cuda);
    }
    if (err != ERR_OK) {
        (void)fprintf(stderr, "bench_gpu: %s\n", note.text);
        return 1;
    }
    gpu_report_print(&bench);
    if (!report_save(&bench)) {
        (void)fprintf(stderr, "bench_gpu: could not write " OUT_FOLDER "/gpu.json\n");
        return 1;
    }
    return 0;
}
