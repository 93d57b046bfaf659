/* test_trainer.c - one training job as a pure function: resumed anywhere, it gives the same bytes.
 *
 * stories260K and rows of random tokens, put together by hand: how rows come out of blobs is tested
 * with the services. */
#include "services/trainer/trainer.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "kernels/kernels.h"
#include "openledger/v1/objects.pb-c.h"
#include "services/trainer/run.h"
#include "shared/merkle/merkle.h"
#include "shared/platform/file.h"
#include "shared/platform/pool.h"
#include "tests/harness/folder.h"
#include "tests/harness/seed.h"

enum { ROWS = 10, ROW_TOKENS = 24, STEPS = 9, BATCH = 4 };

static uint32_t tokens[ROWS][ROW_TOKENS];
static struct lm_example examples[ROWS];
static uint32_t trainable[ROWS - 1];
static struct lineage_base base;
static struct lineage_rows rows;

static const char *data_folder(void)
{
    const char *folder = getenv("OPENLEDGER_TEST_DATA");
    return folder != NULL ? folder : "../shared/data";
}

static bool load_base(void)
{
    char path[FILE_PATH_SIZE];
    struct buf config;
    struct buf weights;
    struct note note = {""};
    buf_init(&config, 1U << 20);
    buf_init(&weights, 64U << 20);
    bool ok = file_path(path, "%s/stories260K/config.json", data_folder()) == ERR_OK &&
              file_read(path, &config, &note) == ERR_OK &&
              file_path(path, "%s/stories260K/model.safetensors", data_folder()) == ERR_OK &&
              file_read(path, &weights, &note) == ERR_OK;
    if (ok && lm_model_load(buf_bytes(&config), buf_bytes(&weights), NULL, &base.model, &note) !=
                  ERR_OK) {
        printf("failed: %s\n", note.text);
        abort();
    }
    buf_deinit(&config);
    buf_deinit(&weights);
    return ok;
}

/* Row 3 has nothing to train on: it must be skipped, not fail. */
static void make_rows(void)
{
    for (uint32_t r = 0; r < ROWS; r++) {
        for (uint32_t i = 0; i < ROW_TOKENS; i++) {
            tokens[r][i] = (uint32_t)(test_rand() % 500);
        }
        examples[r] = (struct lm_example){.tokens = tokens[r], .count = ROW_TOKENS};
        if (r != 3) {
            trainable[rows.trainable_count++] = r;
        }
    }
    rows.count = ROWS;
    rows.examples = examples;
    rows.trainable = trainable;
}

static struct trainer_job make_job(void)
{
    struct trainer_job job = {
        .id = {{7}},
        .dataset_root = {{8}},
        .model_name = "stories",
        .settings = {.rank = 4,
                     .alpha = 8,
                     .steps = STEPS,
                     .batch_rows = BATCH,
                     .learning_rate_ppm = 3000,
                     .warmup_steps = 2,
                     .context = 64,
                     .seed = 11,
                     .digest_every = 4},
        .base = &base,
        .rows = &rows,
    };
    return job;
}

/* Keeps the last checkpoint and stops after `stop_at` steps. */
struct keeper {
    struct buf checkpoint;
    uint32_t stop_at;
    uint32_t seen;
};

static bool on_progress(void *context, const struct trainer_progress *progress)
{
    struct keeper *keeper = context;
    keeper->seen = progress->step;
    return progress->step != keeper->stop_at;
}

static enum err on_save(void *context, struct bytes checkpoint, struct note *note)
{
    struct keeper *keeper = context;
    (void)note;
    buf_clear(&keeper->checkpoint);
    return buf_append_bytes(&keeper->checkpoint, checkpoint);
}

static void run_whole(struct trainer_output *out)
{
    struct trainer_job job = make_job();
    struct trainer_hooks hooks = {0};
    struct note note = {""};
    enum err err = trainer_run(&job, (struct bytes){0}, &parallel_serial, &hooks, out, &note);
    ck_assert_msg(err == ERR_OK, "%s", note.text);
}

START_TEST(test_memory_settings_change_no_byte)
{
    static const struct trainer_hooks HOOKS[] = {
        {.micro_batch_rows = 1}, {.recompute = true}, {.micro_batch_rows = 40, .recompute = true}};
    struct trainer_output whole;
    run_whole(&whole);
    for (size_t i = 0; i < sizeof HOOKS / sizeof HOOKS[0]; i++) {
        struct trainer_job job = make_job();
        struct trainer_output out;
        struct note note = {""};
        enum err err =
            trainer_run(&job, (struct bytes){0}, &parallel_serial, &HOOKS[i], &out, &note);
        ck_assert_msg(err == ERR_OK, "%s", note.text);
        ck_assert(bytes_equal(buf_bytes(&whole.adapter), buf_bytes(&out.adapter)));
        ck_assert(bytes_equal(buf_bytes(&whole.transcript), buf_bytes(&out.transcript)));
        trainer_output_deinit(&out);
    }
    trainer_output_deinit(&whole);
}
END_TEST

START_TEST(test_resumed_anywhere_gives_the_same_bytes)
{
    struct trainer_output whole;
    run_whole(&whole);
    struct pool *pool = pool_create(2);
    for (uint32_t cut = 1; cut < STEPS; cut++) {
        struct trainer_job job = make_job();
        struct keeper keeper = {.stop_at = cut};
        struct trainer_hooks hooks = {.context = &keeper, .progress = on_progress, .save = on_save};
        struct trainer_output resumed;
        struct note note = {""};
        buf_init(&keeper.checkpoint, TRAINER_CHECKPOINT_MAX);
        ck_assert_int_eq(
            trainer_run(&job, (struct bytes){0}, &parallel_serial, &hooks, &resumed, &note),
            ERR_CANCELLED);
        ck_assert_uint_eq(keeper.seen, cut);
        struct buf kept = keeper.checkpoint;
        keeper.checkpoint = (struct buf){.limit = TRAINER_CHECKPOINT_MAX};
        keeper.stop_at = 0;
        enum err err =
            trainer_run(&job, buf_bytes(&kept), pool_parallel(pool), &hooks, &resumed, &note);
        ck_assert_msg(err == ERR_OK, "%s", note.text);
        ck_assert(bytes_equal(buf_bytes(&whole.adapter), buf_bytes(&resumed.adapter)));
        ck_assert(bytes_equal(buf_bytes(&whole.transcript), buf_bytes(&resumed.transcript)));
        ck_assert(digest_equal(&whole.transcript_root, &resumed.transcript_root));
        trainer_output_deinit(&resumed);
        buf_deinit(&kept);
        buf_deinit(&keeper.checkpoint);
    }
    trainer_output_deinit(&whole);
    pool_destroy(pool);
}
END_TEST

START_TEST(test_transcript_says_what_was_done)
{
    struct trainer_output out;
    run_whole(&out);
    Openledger__V1__Transcript *transcript =
        openledger__v1__transcript__unpack(NULL, out.transcript.size, out.transcript.data);
    ck_assert_ptr_nonnull(transcript);
    ck_assert_uint_eq(transcript->n_steps, STEPS);
    struct merkle_tree tree = {0};
    uint32_t seen[ROWS] = {0};
    for (uint32_t i = 0; i < STEPS; i++) {
        struct digest leaf;
        merkle_leaf(transcript->steps[i].data, transcript->steps[i].len, &leaf);
        ck_assert_int_eq(merkle_tree_append(&tree, &leaf), ERR_OK);
        Openledger__V1__TranscriptStep *step = openledger__v1__transcript_step__unpack(
            NULL, transcript->steps[i].len, transcript->steps[i].data);
        ck_assert_ptr_nonnull(step);
        ck_assert_uint_eq(step->step, i);
        ck_assert_uint_eq(step->n_rows, BATCH);
        ck_assert_uint_eq(step->adapter.len, (i + 1) % 4 == 0 || i + 1 == STEPS ? 32 : 0);
        for (uint32_t r = 0; r < BATCH; r++) {
            ck_assert_uint_lt(step->rows[r], ROWS);
            seen[step->rows[r]]++;
        }
        openledger__v1__transcript_step__free_unpacked(step, NULL);
    }
    for (uint32_t r = 0; r < ROWS; r++) { /* 36 places in 4 passes over 9 rows */
        ck_assert_uint_eq(seen[r], r == 3 ? 0 : 4);
    }
    struct merkle_head head;
    merkle_tree_head(&tree, &head);
    ck_assert(digest_equal(&head.root, &out.transcript_root));
    openledger__v1__transcript__free_unpacked(transcript, NULL);
    trainer_output_deinit(&out);
}
END_TEST

START_TEST(test_damaged_checkpoints_are_refused)
{
    struct trainer_job job = make_job();
    struct keeper keeper = {.stop_at = 3};
    struct trainer_hooks hooks = {.context = &keeper, .progress = on_progress, .save = on_save};
    struct trainer_output out;
    struct note note = {""};
    buf_init(&keeper.checkpoint, TRAINER_CHECKPOINT_MAX);
    ck_assert_int_eq(trainer_run(&job, (struct bytes){0}, &parallel_serial, &hooks, &out, &note),
                     ERR_CANCELLED);
    struct bytes good = buf_bytes(&keeper.checkpoint);
    for (uint32_t i = 0; i < 40; i++) {
        size_t at = test_rand() % good.size;
        keeper.checkpoint.data[at] ^= 1;
        ck_assert_int_eq(trainer_run(&job, good, &parallel_serial, &hooks, &out, &note),
                         ERR_CORRUPT);
        keeper.checkpoint.data[at] ^= 1;
        struct bytes cut = bytes_of(good.data, test_rand() % (good.size - 1) + 1);
        ck_assert_int_eq(trainer_run(&job, cut, &parallel_serial, &hooks, &out, &note),
                         ERR_CORRUPT);
    }
    job.id.bytes[0] ^= 1; /* another job's */
    ck_assert_int_eq(trainer_run(&job, good, &parallel_serial, &hooks, &out, &note), ERR_CORRUPT);
    buf_deinit(&keeper.checkpoint);
}
END_TEST

/* The setting `backend`: any name gives the same bits, so only what cannot run is refused. */
START_TEST(test_backend_is_named)
{
    struct note note = {""};
    const struct kernels *kernels = kernels_get("scalar", NULL);
    ck_assert_int_eq(lineage_backend("", &kernels, &note), ERR_OK);
    ck_assert_ptr_null(kernels);
    ck_assert_int_eq(lineage_backend("scalar", &kernels, &note), ERR_OK);
    ck_assert_ptr_eq(kernels, kernels_get("scalar", NULL));
    ck_assert_int_eq(lineage_backend("abacus", &kernels, &note), ERR_INVALID);
    ck_assert_str_eq(note.text, "kernels abacus: unknown backend");
    ck_assert_ptr_eq(kernels, kernels_get("scalar", NULL)); /* as it was */
}
END_TEST

START_TEST(test_settings_have_bounds)
{
    struct trainer_job job = make_job();
    struct trainer_hooks hooks = {0};
    struct trainer_output out;
    struct note note = {""};
    job.settings.rank = 0;
    ck_assert_int_eq(trainer_run(&job, (struct bytes){0}, &parallel_serial, &hooks, &out, &note),
                     ERR_RANGE);
    job = make_job();
    job.settings.context = 100000;
    ck_assert_int_eq(trainer_run(&job, (struct bytes){0}, &parallel_serial, &hooks, &out, &note),
                     ERR_RANGE);
    job = make_job();
    job.settings.warmup_steps = STEPS + 1;
    ck_assert_int_eq(trainer_run(&job, (struct bytes){0}, &parallel_serial, &hooks, &out, &note),
                     ERR_RANGE);
    ck_assert(strstr(note.text, "warmup_steps") != NULL);
}
END_TEST

static struct trainer_store store;

static enum err on_save_to_disk(void *context, struct bytes checkpoint, struct note *note)
{
    const struct digest *job = context;
    return trainer_store_save(&store, job, checkpoint, note);
}

/* A full disk is the machine's fault: the job is not failed, waits longer than for a peer, and goes on to
 * the same bytes once there is room, from the checkpoint that fitted last. */
START_TEST(test_a_full_disk_puts_a_job_off)
{
    struct trainer_job job = make_job();
    struct trainer_hooks hooks = {.context = &job.id, .save = on_save_to_disk, .save_every = 2};
    struct trainer_output whole;
    struct trainer_output out;
    struct buf kept;
    struct note note = {""};
    test_folder_make();
    run_whole(&whole);
    buf_init(&kept, TRAINER_CHECKPOINT_MAX);
    ck_assert_int_eq(trainer_store_init(&store, test_folder, &note), ERR_OK);
    struct rlimit limit = {.rlim_cur = 1000, .rlim_max = RLIM_INFINITY};
    (void)signal(SIGXFSZ, SIG_IGN); /* as a full disk */
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    enum err err = trainer_run(&job, (struct bytes){0}, &parallel_serial, &hooks, &out, &note);
    limit.rlim_cur = RLIM_INFINITY;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(err, ERR_FULL);
    ck_assert_msg(strstr(note.text, store.folder) != NULL, "%s", note.text);
    ck_assert_uint_eq(runner_delay_ms(err, UINT64_MAX), RUNNER_DISK_MS);
    ck_assert_int_eq(trainer_store_load(&store, &job.id, &kept, &note), ERR_NOT_FOUND);
    ck_assert_int_eq(trainer_run(&job, (struct bytes){0}, &parallel_serial, &hooks, &out, &note),
                     ERR_OK);
    ck_assert_int_eq(trainer_store_load(&store, &job.id, &kept, &note), ERR_OK);
    ck_assert(bytes_equal(buf_bytes(&whole.adapter), buf_bytes(&out.adapter)));
    buf_deinit(&kept);
    trainer_output_deinit(&whole);
    trainer_output_deinit(&out);
    test_folder_remove();
}
END_TEST

/* Which errors put a job off, for how long, and which fail it. */
START_TEST(test_what_fails_a_job)
{
    static const enum err later[] = {ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_CANCELLED, ERR_NO_MEMORY,
                                     ERR_CONFLICT};
    static const enum err never[] = {ERR_INVALID, ERR_RANGE, ERR_LIMIT, ERR_DENIED};
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        ck_assert_uint_eq(runner_delay_ms(later[i], UINT64_MAX), RUNNER_RETRY_MS);
    }
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++) {
        ck_assert_uint_eq(runner_delay_ms(never[i], 1), 0);
    }
    ck_assert_uint_eq(runner_delay_ms(ERR_NOT_FOUND, RUNNER_ATTEMPTS_MAX - 1), RUNNER_RETRY_MS);
    ck_assert_uint_eq(runner_delay_ms(ERR_NOT_FOUND, RUNNER_ATTEMPTS_MAX), 0);
    ck_assert_uint_eq(runner_delay_ms(ERR_FULL, UINT64_MAX), RUNNER_DISK_MS);
    ck_assert_uint_eq(runner_delay_ms(ERR_IO, UINT64_MAX), RUNNER_DISK_MS);
    ck_assert_uint_eq(runner_delay_ms(ERR_CORRUPT, UINT64_MAX), RUNNER_DISK_MS);
    ck_assert_int_eq(trainer_store_refused(ERR_FULL), ERR_FULL);
    ck_assert_int_eq(trainer_store_refused(ERR_DENIED), ERR_IO); /* read-only */
    ck_assert_int_eq(trainer_store_refused(ERR_OK), ERR_OK);
    ck_assert_int_eq(trainer_store_refused(ERR_NO_MEMORY), ERR_NO_MEMORY);
}
END_TEST

int main(void)
{
    if (!load_base()) {
        printf("SKIP: no stories260K in %s\n", data_folder());
        return EXIT_SUCCESS;
    }
    make_rows();
    Suite *suite = suite_create("trainer");
    TCase *tcase = tcase_create("job");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, test_memory_settings_change_no_byte);
    tcase_add_test(tcase, test_resumed_anywhere_gives_the_same_bytes);
    tcase_add_test(tcase, test_transcript_says_what_was_done);
    tcase_add_test(tcase, test_damaged_checkpoints_are_refused);
    tcase_add_test(tcase, test_settings_have_bounds);
    tcase_add_test(tcase, test_backend_is_named);
    tcase_add_test(tcase, test_a_full_disk_puts_a_job_off);
    tcase_add_test(tcase, test_what_fails_a_job);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    lm_model_destroy(base.model);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
