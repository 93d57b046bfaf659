/* test_lora_gateway.c - the gateway's engine on a real model: many adapters in one batch.
 *
 * Method: every answer of a crowded batch must have the very tokens that it has when computed alone;
 * an adapter whose B is zero must tell the base model's well-known story. */
#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "services/lora-gateway/engine.h"
#include "shared/base/hex.h"
#include "shared/crypto/sha256.h"
#include "shared/lineage/bundle.h"
#include "shared/platform/mailbox.h"
#include "tests/harness/folder.h"
#include "tests/harness/model_folder.h"
#include "tests/harness/seed.h"

#define ADAPTERS 4
#define JOBS 14
#define WAIT_MS 60000

static const char *model_folder(void)
{
    static char path[FILE_PATH_SIZE];
    const char *folder = getenv("OPENLEDGER_TEST_DATA");
    ck_assert_uint_eq(file_path(path, "%s/stories260K", folder != NULL ? folder : "../shared/data"),
                      ERR_OK);
    return path;
}

static bool have_model(void)
{
    if (!file_exists(model_folder())) {
        puts("SKIP: the stories260K model is not there");
        return false;
    }
    return true;
}

struct stage {
    struct blob_store *blobs;
    struct digest base;
    struct digest adapters[ADAPTERS]; /* the first has B = 0 */
    struct engine *engine;
    struct mailbox *done; /* jobs */
    struct mailbox *loaded;
    const struct lineage_base *loaded_base;
    struct note load_note;
    _Atomic uint32_t gone_after; /* tokens; every client leaves then */
};

static void on_loaded(void *context, const struct lineage_base *base, const struct note *note)
{
    struct stage *stage = context;
    stage->loaded_base = base;
    stage->load_note = *note;
    ck_assert_uint_eq(mailbox_post(stage->loaded, stage), ERR_OK);
}

static void on_text(void *context, struct engine_job *job, struct bytes text)
{
    (void)context;
    (void)job;
    ck_assert_uint_gt(text.size, 0);
}

static bool on_gone(void *context, struct engine_job *job)
{
    struct stage *stage = context;
    return job->id_count >= atomic_load(&stage->gone_after);
}

static void on_done(void *context, struct engine_job *job)
{
    struct stage *stage = context;
    ck_assert_uint_eq(mailbox_post(stage->done, job), ERR_OK);
}

static void put_adapters(struct stage *stage)
{
    struct lineage_base *base;
    ck_assert_uint_eq(lineage_base_load(stage->blobs, &stage->base, NULL, &base, NULL), ERR_OK);
    for (uint32_t i = 0; i < ADAPTERS; i++) {
        struct lm_adapter_config config = {
            .rank = 2 + 2 * i, .alpha = 8.0F, .targets = LM_TARGETS_ALL};
        const struct lm_config *shape = lm_model_config(base->model);
        uint64_t size = lm_adapter_size(shape, &config);
        float *vector = calloc(size, sizeof *vector);
        lm_adapter_initialise(shape, &config, i, vector);
        for (uint64_t k = 0; i > 0 && k < size; k++) {
            vector[k] += (float)(int64_t)(test_rand() % 2001 - 1000) * 2e-5F;
        }
        struct lm_adapter *adapter;
        struct buf data;
        buf_init(&data, BLOB_SIZE_MAX);
        ck_assert_uint_eq(lm_adapter_create_rounded(base->model, &config, vector, &adapter, NULL),
                          ERR_OK);
        ck_assert_uint_eq(lineage_adapter_pack(adapter, "base", &data, NULL), ERR_OK);
        ck_assert_uint_eq(blob_put(stage->blobs, buf_bytes(&data), &stage->adapters[i], NULL),
                          ERR_OK);
        buf_deinit(&data);
        lm_adapter_destroy(adapter);
        free(vector);
    }
    lineage_base_destroy(base);
}

static void open_engine(struct stage *stage, uint32_t sequences_max, uint32_t workers)
{
    struct engine_options options = {.blobs = stage->blobs,
                                     .workers = workers,
                                     .sequences_max = sequences_max,
                                     .adapters_max = 1,
                                     .calls = {.context = stage,
                                               .loaded = on_loaded,
                                               .text = on_text,
                                               .gone = on_gone,
                                               .done = on_done}};
    void *message;
    ck_assert_uint_eq(engine_create(&options, &stage->engine, NULL), ERR_OK);
    ck_assert_uint_eq(engine_load(stage->engine, &stage->base, NULL), ERR_OK);
    ck_assert_uint_eq(mailbox_take(stage->loaded, WAIT_MS, &message), ERR_OK);
    ck_assert_msg(stage->loaded_base != NULL, "%s", stage->load_note.text);
}

/* In a test folder that is there. */
static struct stage *stage_open_with(const char *folder)
{
    struct stage *stage = calloc(1, sizeof *stage);
    stage->done = mailbox_create(64);
    stage->loaded = mailbox_create(4);
    atomic_store(&stage->gone_after, UINT32_MAX);
    ck_assert_uint_eq(blob_open(test_path("blobs"), &stage->blobs, NULL), ERR_OK);
    ck_assert_uint_eq(lineage_bundle_put(stage->blobs, folder, NULL, &stage->base, NULL), ERR_OK);
    put_adapters(stage);
    return stage;
}

static struct stage *stage_open(void)
{
    test_folder_make();
    return stage_open_with(model_folder());
}

static void stage_close(struct stage *stage)
{
    engine_destroy(stage->engine);
    blob_close(stage->blobs);
    mailbox_destroy(stage->done, NULL);
    mailbox_destroy(stage->loaded, NULL);
    free(stage);
    test_folder_remove();
}

struct request {
    struct engine_job job;
    uint32_t prompt[200];
};

/* Request number i: its own prompt, adapter and sampling. */
static void make_request(const struct stage *stage, size_t i, struct request *request)
{
    memset(request, 0, sizeof *request);
    struct engine_job *job = &request->job;
    job->prompt_count = (uint32_t)(1 + (i * 37) % 190);
    for (uint32_t k = 0; k < job->prompt_count; k++) {
        request->prompt[k] = k == 0 ? 1 : (uint32_t)(3 + (i * 131 + k * UINT64_C(17)) % 500);
    }
    job->prompt = request->prompt;
    job->max_tokens = (uint32_t)(5 + i * 3);
    job->adapter = stage->adapters[i % ADAPTERS];
    job->sampling = (struct lm_sampling){
        .temperature = i % 3 == 0 ? 0.0F : 0.9F, .top_p = i % 2 == 0 ? 1.0F : 0.9F, .seed = i};
}

static struct engine_job *next_done(struct stage *stage)
{
    void *message = NULL;
    ck_assert_uint_eq(mailbox_take(stage->done, WAIT_MS, &message), ERR_OK);
    return message;
}

START_TEST(test_crowd_equals_alone)
{
    if (!have_model()) {
        return;
    }
    struct stage *stage = stage_open();
    static struct request crowd[JOBS];
    open_engine(stage, 5, 2);
    for (size_t i = 0; i < JOBS; i++) {
        make_request(stage, i, &crowd[i]);
        ck_assert_uint_eq(engine_submit(stage->engine, &crowd[i].job), ERR_OK);
    }
    for (size_t i = 0; i < JOBS; i++) {
        struct engine_job *job = next_done(stage);
        ck_assert_msg(job->end == ENGINE_STOP || job->end == ENGINE_LENGTH, "%s", job->note.text);
    }
    engine_destroy(stage->engine);
    open_engine(stage, 1, 1);
    for (size_t i = 0; i < JOBS; i++) {
        static struct request alone;
        make_request(stage, i, &alone);
        ck_assert_uint_eq(engine_submit(stage->engine, &alone.job), ERR_OK);
        ck_assert_ptr_eq(next_done(stage), &alone.job);
        const struct engine_job *together = &crowd[i].job;
        ck_assert_uint_eq(alone.job.id_count, together->id_count);
        ck_assert_int_eq(
            memcmp(alone.job.ids, together->ids, together->id_count * sizeof *together->ids), 0);
        ck_assert(bytes_equal(buf_bytes(&alone.job.text), buf_bytes(&together->text)));
        engine_job_deinit(&alone.job);
        engine_job_deinit(&crowd[i].job);
    }
    stage_close(stage);
}
END_TEST

START_TEST(test_story_stop_cancel_failure)
{
    if (!have_model()) {
        return;
    }
    static struct request request;
    struct stage *stage = stage_open();
    open_engine(stage, 4, 1);
    struct engine_job *job = &request.job;

    make_request(stage, 0, &request); /* adapter 0 has B = 0: the base model */
    job->max_tokens = 60;
    ck_assert_uint_eq(engine_submit(stage->engine, job), ERR_OK);
    ck_assert_ptr_eq(next_done(stage), job);
    ck_assert_int_eq((int)job->end, ENGINE_LENGTH);
    ck_assert_ptr_nonnull(
        strstr(buf_text(&job->text), "Once upon a time, there was a little girl named Lily."));
    engine_job_deinit(job);

    static const char *const STOPS[] = {"little girl", "named"};
    make_request(stage, 0, &request);
    job->max_tokens = 60;
    job->stops = STOPS;
    job->stop_count = 2;
    ck_assert_uint_eq(engine_submit(stage->engine, job), ERR_OK);
    ck_assert_ptr_eq(next_done(stage), job);
    ck_assert_int_eq((int)job->end, ENGINE_STOP);
    ck_assert_str_eq(buf_text(&job->text), "Once upon a time, there was a ");
    engine_job_deinit(job);

    make_request(stage, 0, &request);
    job->adapter.bytes[0] ^= 1;
    ck_assert_uint_eq(engine_submit(stage->engine, job), ERR_OK);
    ck_assert_ptr_eq(next_done(stage), job);
    ck_assert_int_eq((int)job->end, ENGINE_FAILED);
    ck_assert_uint_eq(job->err, ERR_NOT_FOUND);
    engine_job_deinit(job);

    make_request(stage, 0, &request);
    job->max_tokens = 200;
    atomic_store(&stage->gone_after, 3);
    ck_assert_uint_eq(engine_submit(stage->engine, job), ERR_OK);
    ck_assert_ptr_eq(next_done(stage), job);
    ck_assert_int_eq((int)job->end, ENGINE_CANCELLED);
    ck_assert_uint_eq(job->id_count, 3);
    engine_job_deinit(job);

    /* Stopping ends what is running. */
    atomic_store(&stage->gone_after, UINT32_MAX);
    make_request(stage, 0, &request);
    job->max_tokens = 400;
    ck_assert_uint_eq(engine_submit(stage->engine, job), ERR_OK);
    engine_destroy(stage->engine);
    stage->engine = NULL;
    ck_assert_ptr_eq(next_done(stage), job);
    ck_assert_int_eq((int)job->end, ENGINE_CANCELLED);
    engine_job_deinit(job);
    stage_close(stage);
}
END_TEST

/* A base in two shards of several chunks: loaded, served; not loaded when a chunk is gone. */
START_TEST(test_sharded_base)
{
    struct lm_config config = model_folder_config(512, 1408, 4);
    char folder[FILE_PATH_SIZE];
    test_folder_make();
    ck_assert_int_eq(file_path(folder, "%s/model", test_folder), ERR_OK);
    model_folder_write(folder, &config, 2);
    struct stage *stage = stage_open_with(folder);
    open_engine(stage, 2, 2);
    static struct request request;
    struct engine_job *job = &request.job;
    make_request(stage, 1, &request);
    job->prompt_count = 20;
    job->max_tokens = 8;
    ck_assert_uint_eq(engine_submit(stage->engine, job), ERR_OK);
    ck_assert_ptr_eq(next_done(stage), job);
    ck_assert_msg(job->end == ENGINE_LENGTH, "%s", job->note.text);
    ck_assert_uint_eq(job->id_count, 8);
    engine_job_deinit(job);
    engine_destroy(stage->engine);
    stage->engine = NULL;

    struct lineage_bundle *bundle = NULL;
    struct digest chunk;
    void *message;
    ck_assert_int_eq(lineage_bundle_map(folder, &bundle, NULL), ERR_OK);
    ck_assert_uint_gt(bundle->files[1].data.size, BLOB_CHUNK_SIZE);
    sha256(bytes_of(bundle->files[1].data.data, BLOB_CHUNK_SIZE), &chunk);
    lineage_bundle_close(bundle);
    ck_assert_int_eq(blob_remove(stage->blobs, &chunk, NULL), ERR_OK);
    ck_assert_int_eq(file_remove_tree(test_path("blobs/files"), NULL), ERR_OK);
    const struct engine_options options = {.blobs = stage->blobs,
                                           .sequences_max = 1,
                                           .calls = {.context = stage, .loaded = on_loaded}};
    ck_assert_uint_eq(engine_create(&options, &stage->engine, NULL), ERR_OK);
    ck_assert_uint_eq(engine_load(stage->engine, &stage->base, NULL), ERR_OK);
    ck_assert_uint_eq(mailbox_take(stage->loaded, WAIT_MS, &message), ERR_OK);
    ck_assert_ptr_null(stage->loaded_base);
    ck_assert_ptr_nonnull(strstr(
        stage->load_note.text, "model-00001-of-00002.safetensors: chunk 1 of 2: no blob sha256:"));
    stage_close(stage);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lora-gateway-engine");
    TCase *tests = tcase_create("engine");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, test_crowd_equals_alone);
    tcase_add_test(tests, test_story_stop_cancel_failure);
    tcase_add_test(tests, test_sharded_base);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
