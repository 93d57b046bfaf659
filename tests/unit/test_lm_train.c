/* test_lm_train.c - gradients against finite differences; training that threads, backends,
 * micro-batches and interruptions cannot change. */
#include <math.h>

#include "shared/lm/gradient.h"
#include "shared/lm/trainer.h"
#include "shared/lm/windows.h"
#include "shared/platform/pool.h"
#include "tests/harness/lm_random.h"

enum { VOCAB = 67, EXAMPLES = 5, LONGEST = 270 };

static uint32_t tokens[EXAMPLES][LONGEST];
static uint8_t masks[EXAMPLES][LONGEST];

/* Lengths that differ, two of them with masks. */
static void examples_make(struct lm_example out[EXAMPLES])
{
    static const uint32_t COUNTS[EXAMPLES] = {20, LONGEST, 2, 61, 33};
    for (uint32_t i = 0; i < EXAMPLES; i++) {
        fixture_tokens(50 + i, VOCAB, COUNTS[i], tokens[i]);
        for (uint32_t t = 0; t < COUNTS[i]; t++) {
            masks[i][t] = t > COUNTS[i] / 2;
        }
        out[i] = (struct lm_example){
            .tokens = tokens[i], .mask = i == 1 || i == 3 ? masks[i] : NULL, .count = COUNTS[i]};
    }
}

/* Loss at the present parameters, which stay as they are; the gradient is left in the trainer. */
static double loss_at(struct lm_trainer *trainer, const struct lm_example *examples)
{
    size_t size = trainer->count * sizeof(float);
    float *kept = malloc(size);
    ck_assert_ptr_nonnull(kept);
    memcpy(kept, trainer->values, size);
    struct lm_step_report report;
    struct note note = {0};
    enum err err = lm_trainer_step(trainer, examples, EXAMPLES, &parallel_serial, &report, &note);
    ck_assert_msg(err == ERR_OK, "%s", note.text);
    memcpy(trainer->values, kept, size);
    trainer->step = 0;
    free(kept);
    return report.loss;
}

/* Moves values[offset..] along their own gradient: the loss must change by its length. */
static void direction_check(struct lm_trainer *trainer, const struct lm_example *examples,
                            const float *gradient, size_t offset, size_t count)
{
    double length = 0.0;
    ck_assert_uint_gt(count, 0);
    for (size_t i = 0; i < count; i++) {
        length += (double)gradient[offset + i] * (double)gradient[offset + i];
    }
    length = sqrt(length);
    ck_assert(length > 1e-7);
    double move = fmin(2e-4 / length, 0.02); /* changes the loss by some 4e-4 */
    double loss[2];
    size_t size = count * sizeof(float);
    float *kept = malloc(size);
    ck_assert_ptr_nonnull(kept);
    memcpy(kept, trainer->values + offset, size);
    for (int side = 0; side < 2; side++) {
        double factor = (side == 0 ? move : -move) / length;
        for (size_t i = 0; i < count; i++) {
            trainer->values[offset + i] =
                (float)((double)kept[i] + factor * (double)gradient[offset + i]);
        }
        loss[side] = loss_at(trainer, examples);
    }
    memcpy(trainer->values + offset, kept, size);
    free(kept);
    double got = (loss[0] - loss[1]) / (2.0 * move);
    ck_assert_msg(fabs(got - length) <= 0.02 * length + 2e-5, "offset %zu: %g, gradient says %g",
                  offset, got, length);
}

static float *gradient_copy(const struct lm_trainer *trainer)
{
    float *copy = malloc(trainer->count * sizeof *copy);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, trainer->gradient, trainer->count * sizeof *copy);
    return copy;
}

START_TEST(test_full_gradients_match_finite_differences)
{
    struct lm_example examples[EXAMPLES];
    examples_make(examples);
    struct lm_trainer *trainer = fixture_trainer(NULL, _i == 0, 5);
    trainer->options.learning_rate = 1e-9F;
    (void)loss_at(trainer, examples);
    float *gradient = gradient_copy(trainer);
    for (uint32_t t = 0; t < trainer->net->tensor_count; t++) {
        const struct lm_tensor *tensor = &trainer->net->tensors[t];
        if (tensor->rows > 0) { /* else not in this architecture */
            direction_check(trainer, examples, gradient, tensor->offset,
                            (size_t)tensor->rows * tensor->columns);
        }
    }
    free(gradient);
    lm_trainer_destroy(trainer);
}
END_TEST

static struct lm_trainer *adapter_trainer(const struct lm_model *model, uint32_t targets,
                                          uint32_t micro_batch)
{
    struct lm_adapter *start = fixture_adapter(model, 3, targets, 12);
    struct lm_train_options options = lm_finetune_defaults();
    options.step_count = 50;
    options.seed = 3;
    options.micro_batch_rows = micro_batch;
    struct lm_trainer *trainer = NULL;
    ck_assert_int_eq(lm_trainer_create_adapter(model, lm_adapter_get_config(start), &options,
                                               lm_adapter_vector(start), &trainer, NULL),
                     ERR_OK);
    lm_adapter_destroy(start);
    return trainer;
}

START_TEST(test_adapter_gradients_match_finite_differences)
{
    struct lm_example examples[EXAMPLES];
    examples_make(examples);
    /* The fixture's model, then a random one of each architecture with parts of its own. */
    static const uint32_t VARIANTS[] = {0, LM_QWEN2, LM_QWEN3, LM_ARCHITECTURE_COUNT};
    struct random_model random = {0};
    if (_i > 0) {
        struct lm_config made = random_config(VARIANTS[_i]);
        made.context = FIXTURE_CONTEXT;
        random_model_make(&random, &made);
    }
    struct lm_model *model = _i == 0 ? fixture_model(NULL) : random_model_load(&random, NULL);
    struct lm_trainer *trainer = adapter_trainer(model, LM_TARGETS_ALL, 64);
    trainer->options.learning_rate = 1e-9F;
    (void)loss_at(trainer, examples);
    float *gradient = gradient_copy(trainer);
    const struct lm_config *config = lm_model_config(model);
    for (uint32_t m = 0; m < config->layer_count * LM_PROJECTION_COUNT; m++) {
        struct lm_adapter_place place;
        ck_assert(lm_adapter_offset(config, &trainer->adapter, m / LM_PROJECTION_COUNT,
                                    m % LM_PROJECTION_COUNT, &place));
        direction_check(trainer, examples, gradient, place.a_offset, (size_t)place.in * 3);
        direction_check(trainer, examples, gradient, place.b_offset, (size_t)place.out * 3);
    }
    free(gradient);
    lm_trainer_destroy(trainer);
    lm_model_destroy(model);
    random_model_free(&random);
}
END_TEST

enum { SHORT_TEXTS = 2, SHORT_TEXT = 33 };

/* Mean loss of the texts by the forward pass in double that shares nothing with shared/lm. */
static double plain_loss(const struct random_model *model, const struct lm_example *examples)
{
    static double logits[SHORT_TEXT * VOCAB];
    double loss = 0.0;
    for (uint32_t i = 0; i < SHORT_TEXTS; i++) {
        plain_forward(model, examples[i].tokens, SHORT_TEXT - 1, logits);
        for (uint32_t t = 0; t + 1 < SHORT_TEXT; t++) {
            double sum = 0.0;
            for (uint32_t v = 0; v < VOCAB; v++) {
                sum += exp(logits[(size_t)t * VOCAB + v]);
            }
            loss += log(sum) - logits[(size_t)t * VOCAB + examples[i].tokens[t + 1]];
        }
    }
    return loss / (SHORT_TEXTS * (SHORT_TEXT - 1));
}

/* Single weights of every tensor, tied and untied, with scaled rotary frequencies and without,
 * against central differences in double. */
START_TEST(test_weight_gradients_match_double)
{
    static const uint32_t VARIANTS[] = {LM_LLAMA, LM_MISTRAL, LM_ARCHITECTURE_COUNT};
    struct random_model random = {0};
    struct lm_config config = random_config(VARIANTS[_i]);
    struct lm_train_options options = lm_pretrain_defaults();
    struct lm_trainer *trainer = NULL;
    struct lm_example examples[SHORT_TEXTS];
    struct lm_step_report report;
    struct note note = {0};
    random_model_make(&random, &config);
    options.micro_batch_rows = 1;
    ck_assert_msg(lm_trainer_create_full(&config, &options, NULL, &trainer, &note) == ERR_OK, "%s",
                  note.text);
    for (uint32_t i = 0; i < SHORT_TEXTS; i++) {
        fixture_tokens(80 + i, VOCAB, SHORT_TEXT, tokens[i]);
        examples[i] = (struct lm_example){.tokens = tokens[i], .count = SHORT_TEXT};
    }
    float *weights[RANDOM_TENSORS_MAX] = {NULL};
    for (uint32_t t = 0; t < trainer->net->tensor_count; t++) {
        const struct lm_tensor *tensor = &trainer->net->tensors[t];
        char name[LM_TENSOR_NAME_SIZE];
        lm_tensor_name(&config, t, name);
        if (tensor->rows > 0) {
            weights[t] = (float *)(uintptr_t)random_find(&random, -1, name);
            ck_assert_ptr_nonnull(weights[t]);
            memcpy(trainer->values + tensor->offset, weights[t],
                   (size_t)tensor->rows * tensor->columns * sizeof(float));
        }
    }
    ck_assert_int_eq(
        lm_trainer_step(trainer, examples, SHORT_TEXTS, &parallel_serial, &report, &note), ERR_OK);
    ck_assert(fabs(report.loss - plain_loss(&random, examples)) <= 1e-5);
    for (uint32_t t = 0; t < trainer->net->tensor_count; t++) {
        const struct lm_tensor *tensor = &trainer->net->tensors[t];
        const size_t count = (size_t)tensor->rows * tensor->columns;
        for (uint32_t k = 0; k < 4 && weights[t] != NULL; k++) {
            size_t at = philox_below(t, PHILOX_DEMO, k, (uint32_t)count);
            if (t == lm_tensor_embed() && k < 2) { /* rows that are surely read */
                at = (size_t)tokens[k][3] * config.hidden + at % config.hidden;
            }
            const float kept = weights[t][at];
            const float step = 0x1p-9F;
            weights[t][at] = kept + step;
            const double width = (double)weights[t][at];
            const double above = plain_loss(&random, examples);
            weights[t][at] = kept - step;
            const double want =
                (above - plain_loss(&random, examples)) / (width - (double)weights[t][at]);
            weights[t][at] = kept;
            const double got = (double)trainer->gradient[tensor->offset + at];
            ck_assert_msg(fabs(got - want) <= 2e-6 + 1e-3 * fabs(want),
                          "tensor %u, weight %zu: %g, differences say %g", t, at, got, want);
        }
    }
    lm_trainer_destroy(trainer);
    random_model_free(&random);
}
END_TEST

/* The digest of a trainer after a few steps under the given circumstances. */
static struct digest full_run(const char *backend, uint32_t threads, uint32_t micro_batch,
                              bool tied)
{
    const struct kernels *kernels = kernels_get(backend, NULL);
    struct digest digest = {{0}};
    if (kernels == NULL) {
        return digest; /* this machine has no such backend */
    }
    struct lm_example examples[EXAMPLES];
    examples_make(examples);
    struct pool *pool = pool_create(threads);
    struct lm_trainer *trainer = fixture_trainer(kernels, tied, 1);
    ck_assert_ptr_nonnull(pool);
    trainer->options.micro_batch_rows = micro_batch;
    for (int step = 0; step < 2; step++) {
        struct lm_step_report report;
        ck_assert_int_eq(
            lm_trainer_step(trainer, examples, EXAMPLES, pool_parallel(pool), &report, NULL),
            ERR_OK);
    }
    lm_trainer_digest(trainer, &digest);
    lm_trainer_destroy(trainer);
    pool_destroy(pool);
    return digest;
}

START_TEST(test_circumstances_do_not_change_training)
{
    for (int tied = 0; tied < 2; tied++) {
        struct digest want = full_run("scalar", 1, 4096, tied == 1);
        static const struct {
            uint32_t threads, micro_batch;
        } RUNS[] = {{3, 1}, {7, 40}, {1, 100}, {2, 4096}};
        for (size_t b = 0; kernels_backend(b) != NULL; b++) {
            for (size_t i = b % 2; i < sizeof RUNS / sizeof RUNS[0]; i += 2) {
                struct digest got =
                    full_run(kernels_backend(b), RUNS[i].threads, RUNS[i].micro_batch, tied == 1);
                ck_assert_msg(digest_is_zero(&got) || digest_equal(&got, &want),
                              "%s, run %zu differs", kernels_backend(b), i);
            }
        }
    }
}
END_TEST

START_TEST(test_adapter_training_is_exact_too)
{
    struct lm_example examples[EXAMPLES];
    examples_make(examples);
    struct digest want = {{0}};
    for (uint32_t run = 0; kernels_backend(run / 2) != NULL; run++) {
        const struct kernels *kernels = kernels_get(kernels_backend(run / 2), NULL);
        if (kernels == NULL) {
            continue;
        }
        struct pool *pool = pool_create(run + 1);
        struct lm_model *model = fixture_model(kernels);
        struct lm_trainer *trainer =
            adapter_trainer(model, 1U << LM_K | 1U << LM_UP | 1U << LM_O, run % 2 == 0 ? 1 : 512);
        for (int step = 0; step < 3; step++) {
            struct lm_step_report report;
            ck_assert_int_eq(
                lm_trainer_step(trainer, examples, EXAMPLES, pool_parallel(pool), &report, NULL),
                ERR_OK);
        }
        struct digest got;
        lm_trainer_digest(trainer, &got);
        want = digest_is_zero(&want) ? got : want;
        ck_assert_msg(digest_equal(&got, &want), "%s", kernels_name(kernels));
        lm_trainer_destroy(trainer);
        lm_model_destroy(model);
        pool_destroy(pool);
    }
}
END_TEST

/* Running layers again instead of keeping them: the same bits, less memory, for an adapter and for all
 * weights, also with head norms and biases. */
START_TEST(test_recomputation)
{
    static const uint32_t VARIANTS[] = {LM_LLAMA, LM_QWEN2, LM_QWEN3};
    struct lm_example examples[EXAMPLES];
    examples_make(examples);
    for (uint32_t run = 0; run < 4; run++) {
        struct digest digests[2];
        uint64_t sizes[2];
        for (int recompute = 0; recompute < 2; recompute++) {
            struct random_model random = {0};
            struct lm_model *model = NULL;
            struct lm_trainer *trainer = NULL;
            if (run < 3) {
                struct lm_config made = random_config(VARIANTS[run]);
                made.context = FIXTURE_CONTEXT;
                made.layer_count = 3;
                random_model_make(&random, &made);
                model = random_model_load(&random, NULL);
                trainer = adapter_trainer(model, LM_TARGETS_ALL, 4096);
            } else {
                trainer = fixture_trainer(NULL, true, 0);
            }
            trainer->options.recompute = recompute == 1;
            for (int step = 0; step < 3; step++) {
                struct lm_step_report report;
                ck_assert_int_eq(
                    lm_trainer_step(trainer, examples, EXAMPLES, &parallel_serial, &report, NULL),
                    ERR_OK);
            }
            const struct lm_acts *acts = &trainer->rows.acts;
            lm_trainer_digest(trainer, &digests[recompute]);
            sizes[recompute] = lm_acts_memory(trainer->net, acts->rows, acts->rank, acts->keep);
            ck_assert_int_eq(acts->keep, recompute == 1 ? LM_KEEP_INPUTS : LM_KEEP_LAYERS);
            lm_trainer_destroy(trainer);
            lm_model_destroy(model);
            random_model_free(&random);
        }
        ck_assert_msg(digest_equal(&digests[0], &digests[1]), "run %u", run);
        ck_assert_uint_lt(sizes[1], run < 3 ? sizes[0] * 2 / 3 : sizes[0]);
    }
}
END_TEST

START_TEST(test_memory_of_large_vectors)
{
    const size_t huge = 2UL << 20;
    const size_t counts[] = {0, 1, huge / sizeof(float) - 1, huge / sizeof(float) + 1};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        float *floats = lm_floats_alloc(counts[i]);
        ck_assert_ptr_nonnull(floats);
        ck_assert_uint_eq((uintptr_t)floats % (i < 3 ? 64 : huge), 0);
        memset(floats, 0xff, counts[i] * sizeof *floats);
        free(floats);
    }
    ck_assert_ptr_null(
        lm_floats_alloc(SIZE_MAX / sizeof(float))); /* rounded up it would be little */
}
END_TEST

START_TEST(test_resumed_run_ends_in_the_same_bytes)
{
    struct lm_example examples[EXAMPLES];
    examples_make(examples);
    struct lm_step_report report;
    struct buf saved;
    struct buf whole;
    struct buf resumed;
    buf_init(&saved, 1 << 24);
    buf_init(&whole, 1 << 24);
    buf_init(&resumed, 1 << 24);
    struct lm_trainer *one = fixture_trainer(NULL, true, 0);
    for (int step = 0; step < 4; step++) {
        if (step == 2) {
            ck_assert_int_eq(lm_trainer_save(one, &saved), ERR_OK);
        }
        ck_assert_int_eq(lm_trainer_step(one, examples, EXAMPLES, &parallel_serial, &report, NULL),
                         ERR_OK);
    }
    ck_assert_int_eq(lm_trainer_save(one, &whole), ERR_OK);
    struct lm_trainer *two = fixture_trainer(NULL, true, 1);
    ck_assert_int_eq(lm_trainer_restore(two, buf_bytes(&saved), NULL), ERR_OK);
    ck_assert_uint_eq(lm_trainer_steps(two), 2);
    for (int step = 2; step < 4; step++) {
        ck_assert_int_eq(lm_trainer_step(two, examples, EXAMPLES, &parallel_serial, &report, NULL),
                         ERR_OK);
    }
    ck_assert_int_eq(lm_trainer_save(two, &resumed), ERR_OK);
    ck_assert_uint_eq(whole.size, resumed.size);
    ck_assert_mem_eq(whole.data, resumed.data, whole.size);

    struct note note = {0};
    saved.data[saved.size / 2] ^= 1;
    ck_assert_int_eq(lm_trainer_restore(two, buf_bytes(&saved), &note), ERR_CORRUPT);
    saved.data[saved.size / 2] ^= 1;
    for (size_t size = 0; size < 200; size += 7) {
        struct bytes cut = {saved.data, size};
        ck_assert_int_ne(lm_trainer_restore(two, cut, &note), ERR_OK);
    }
    struct lm_trainer *other = fixture_trainer(NULL, false, 0);
    ck_assert_int_eq(lm_trainer_restore(other, buf_bytes(&saved), &note), ERR_INVALID);
    lm_trainer_destroy(other);
    lm_trainer_destroy(one);
    lm_trainer_destroy(two);
    buf_deinit(&saved);
    buf_deinit(&whole);
    buf_deinit(&resumed);
}
END_TEST

/* Per-example gradients: independent of company, and their sum is the training gradient. */
START_TEST(test_example_gradients)
{
    struct lm_example examples[EXAMPLES];
    examples_make(examples);
    struct lm_model *model = fixture_model(NULL);
    struct lm_trainer *trainer = adapter_trainer(model, LM_TARGETS_ALL, 4096);
    struct lm_adapter *adapter = fixture_adapter(model, 3, LM_TARGETS_ALL, 12);
    struct lm_step_report report;
    ck_assert_int_eq(lm_trainer_step(trainer, examples, EXAMPLES, &parallel_serial, &report, NULL),
                     ERR_OK);
    size_t size = trainer->count;
    float *together = calloc(EXAMPLES * size, sizeof(float));
    float *alone = calloc(size, sizeof(float));
    struct lm_loss losses[EXAMPLES];
    struct lm_loss again[EXAMPLES];
    struct pool *pool = pool_create(2);
    ck_assert_int_eq(lm_adapter_gradients(model, adapter, examples, EXAMPLES, pool_parallel(pool),
                                          together, losses, NULL),
                     ERR_OK);
    ck_assert_int_eq(
        lm_losses(model, adapter, examples, EXAMPLES, &parallel_serial, again, NULL, NULL), ERR_OK);
    uint64_t counted = 0;
    double sum = 0.0;
    for (uint32_t i = 0; i < EXAMPLES; i++) {
        ck_assert(losses[i].sum_nll == again[i].sum_nll && losses[i].count == again[i].count);
        counted += losses[i].count;
        sum += losses[i].sum_nll;
        ck_assert_int_eq(lm_adapter_gradients(model, adapter, &examples[i], 1, &parallel_serial,
                                              alone, NULL, NULL),
                         ERR_OK);
        ck_assert_mem_eq(alone, together + i * size, size * sizeof(float));
    }
    ck_assert_uint_eq(counted, report.target_count);
    ck_assert(fabs(sum / (double)counted - report.loss) < 1e-9);
    for (size_t p = 0; p < size; p++) {
        double total = 0.0;
        for (uint32_t i = 0; i < EXAMPLES; i++) {
            total += (double)together[i * size + p];
        }
        total /= (double)counted;
        ck_assert(fabs(total - (double)trainer->gradient[p]) <= 1e-6 + 1e-4 * fabs(total));
    }
    free(together);
    free(alone);
    pool_destroy(pool);
    lm_adapter_destroy(adapter);
    lm_trainer_destroy(trainer);
    lm_model_destroy(model);
}
END_TEST

START_TEST(test_bad_steps_change_nothing)
{
    struct lm_example examples[EXAMPLES];
    examples_make(examples);
    struct lm_trainer *trainer = fixture_trainer(NULL, true, 1);
    struct digest before;
    struct digest after;
    struct lm_step_report report;
    struct note note = {0};
    lm_trainer_digest(trainer, &before);
    tokens[2][1] = VOCAB;
    ck_assert_int_eq(lm_trainer_step(trainer, examples, EXAMPLES, &parallel_serial, &report, &note),
                     ERR_RANGE);
    tokens[2][1] = 1;
    ck_assert_int_eq(lm_trainer_step(trainer, examples, 0, &parallel_serial, &report, &note),
                     ERR_RANGE);
    uint8_t none[LONGEST] = {0};
    struct lm_example silent = {.tokens = tokens[1], .mask = none, .count = LONGEST};
    ck_assert_int_eq(lm_trainer_step(trainer, &silent, 1, &parallel_serial, &report, &note),
                     ERR_RANGE);
    struct lm_example longer = {.tokens = tokens[1], .count = FIXTURE_CONTEXT + 2};
    ck_assert_int_eq(lm_trainer_step(trainer, &longer, 1, &parallel_serial, &report, &note),
                     ERR_RANGE);
    lm_trainer_digest(trainer, &after);
    ck_assert(digest_equal(&before, &after));
    lm_trainer_destroy(trainer);
}
END_TEST

START_TEST(test_learning_rate_and_windows)
{
    struct lm_train_options options = lm_pretrain_defaults();
    options.step_count = 1000;
    options.warmup_count = 100;
    options.learning_rate = 1.0F;
    ck_assert(lm_learning_rate(&options, 50) == 0.5F);
    ck_assert(lm_learning_rate(&options, 100) == 1.0F);
    ck_assert(fabsf(lm_learning_rate(&options, 550) - 0.55F) < 1e-5F);
    ck_assert(fabsf(lm_learning_rate(&options, 1000) - 0.1F) < 1e-5F);

    enum { STREAM = 101, CONTEXT = 10, WINDOWS = 10 };
    uint32_t stream[STREAM];
    struct lm_windows windows;
    fixture_tokens(1, 1000000, STREAM, stream);
    ck_assert_int_eq(lm_windows_init(&windows, stream, STREAM, CONTEXT, 5), ERR_OK);
    ck_assert_uint_eq(windows.window_count, WINDOWS);
    bool seen[2][WINDOWS] = {{false}};
    for (uint64_t step = 0; step < 5; step++) {
        struct lm_example examples[4];
        struct lm_example again[4];
        lm_windows_step(&windows, step, 4, examples);
        for (uint32_t i = 0; i < 4; i++) {
            uint64_t place = step * 4 + i;
            size_t window = (size_t)(examples[i].tokens - stream) / CONTEXT;
            ck_assert(!seen[place / WINDOWS][window]);
            seen[place / WINDOWS][window] = true;
            ck_assert_uint_eq(examples[i].count, CONTEXT + 1);
        }
        lm_windows_step(&windows, 4 - step, 4, again); /* any order of asking */
        lm_windows_step(&windows, step, 4, again);
        ck_assert_mem_eq(examples, again, sizeof again);
    }
    lm_windows_deinit(&windows);
    ck_assert_int_eq(lm_windows_init(&windows, stream, CONTEXT, CONTEXT, 5), ERR_RANGE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lm_train");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 300);
    tcase_add_loop_test(rules, test_full_gradients_match_finite_differences, 0, 2);
    tcase_add_loop_test(rules, test_adapter_gradients_match_finite_differences, 0, 4);
    tcase_add_loop_test(rules, test_weight_gradients_match_double, 0, 3);
    tcase_add_test(rules, test_circumstances_do_not_change_training);
    tcase_add_test(rules, test_adapter_training_is_exact_too);
    tcase_add_test(rules, test_recomputation);
    tcase_add_test(rules, test_memory_of_large_vectors);
    tcase_add_test(rules, test_resumed_run_ends_in_the_same_bytes);
    tcase_add_test(rules, test_example_gradients);
    tcase_add_test(rules, test_bad_steps_change_nothing);
    tcase_add_test(rules, test_learning_rate_and_windows);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
