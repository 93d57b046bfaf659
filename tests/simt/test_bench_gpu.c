/* test_bench_gpu.c - bench_gpu's parts on the simulated device: every case launches, nothing fails,
 * ceilings and shares are what they should be. The times mean nothing here. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "tests/bench/gpu_bench.h"
#include "tests/simt/simt.h"

static bool close_to(double got, double want)
{
    return got >= want * 0.999 && got <= want * 1.001;
}

/* Data sheets: A100 19.5 TFLOP/s, 1,555 GB/s; H100 SXM 66.9, 3,352. int8: three fp32 instructions to
 * 64 operations bound both below their tensor cores. */
START_TEST(test_chip)
{
    const struct gpu_rates a100 = gpu_chip(&(struct cuda_info){.multiprocessor_count = 108,
                                                               .clock_khz = 1410000,
                                                               .memory_clock_khz = 1215000,
                                                               .bus_bits = 5120,
                                                               .capability = 80});
    ck_assert(close_to(a100.of[GPU_FMA], 19.49e12));
    ck_assert(close_to(a100.of[GPU_MEMORY], 1555.2e9));
    ck_assert(close_to(a100.of[GPU_INT8], 19.49e12 * 32 / 3));
    const struct gpu_rates h100 = gpu_chip(&(struct cuda_info){.multiprocessor_count = 132,
                                                               .clock_khz = 1980000,
                                                               .memory_clock_khz = 2619000,
                                                               .bus_bits = 5120,
                                                               .capability = 90});
    ck_assert(close_to(h100.of[GPU_FMA], 66.91e12));
    ck_assert(close_to(h100.of[GPU_MEMORY], 3352.3e9));
    ck_assert(close_to(gpu_int8_ceiling(100.0, 30.0), 100.0));
    ck_assert(close_to(gpu_int8_ceiling(1000.0, 30.0), 320.0));
    ck_assert(close_to(gpu_int8_ceiling(0.0, 30.0), 320.0)); /* tensor cores unknown */
}
END_TEST

static enum err run(struct gpu_bench *bench, struct note *note)
{
    *bench = (struct gpu_bench){.shape = &gpu_shape_tiny, .samples = 1};
    const struct cuda_options options = {gpu_shape_tiny.arena_size, gpu_shape_tiny.scratch_size};
    enum err err = cuda_open(&options, &bench->cuda, note);
    if (err != ERR_OK) {
        return err;
    }
    /* Positions, pages and targets are the bench's own; all other numbers may be anything. */
    err = gpu_bench_run(bench, note);
    cuda_close(bench->cuda);
    return err;
}

START_TEST(test_cases)
{
    static struct gpu_bench bench;
    struct note note = {""};
    ck_assert_msg(run(&bench, &note) == ERR_OK, "%s", note.text);
    ck_assert_uint_eq(bench.row_count, 3 + 17 + 9);
    for (uint32_t i = 0; i < bench.row_count; i++) {
        const struct gpu_row *row = &bench.rows[i];
        const double rate = (row->limit == GPU_MEMORY ? row->bytes : row->flops) / row->seconds;
        ck_assert_msg(row->seconds > 0.0 && rate > 0.0, "%s", row->name);
        ck_assert(close_to(row->share_chip, rate / bench.chip.of[row->limit]));
        if (i >= GPU_LIMIT_COUNT) {
            ck_assert(close_to(row->share_measured, rate / bench.measured.of[row->limit]));
        }
        for (uint32_t j = 0; j < i; j++) {
            ck_assert_str_ne(row->name, bench.rows[j].name);
        }
    }
    struct buf out;
    buf_init(&out, 1 << 20);
    gpu_report_write(&bench, &out);
    ck_assert_int_eq(buf_err(&out), ERR_OK);
    ck_assert_ptr_nonnull(strstr(buf_text(&out), "\"device\": \"simulated\""));
    ck_assert_ptr_nonnull(strstr(buf_text(&out), "\"kernel\": \"decode int8, 1 row\""));
    ck_assert_ptr_nonnull(strstr(buf_text(&out), "\"share_measured\": "));
    buf_deinit(&out);
    gpu_report_print(&bench);
}
END_TEST

/* A device that fails is reported by the case's name and the call's, and the run ends there. */
START_TEST(test_failure)
{
    static struct gpu_bench bench;
    struct note note = {""};
    simt_fail(60);
    ck_assert_int_ne(run(&bench, &note), ERR_OK);
    simt_fail(0);
    ck_assert_msg(strstr(note.text, ": cuda: ") != NULL, "%s", note.text);
    ck_assert_uint_lt(bench.row_count, 29);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench_gpu");
    TCase *tcase = tcase_create("bench_gpu");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, test_chip);
    tcase_add_test(tcase, test_cases);
    tcase_add_test(tcase, test_failure);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
