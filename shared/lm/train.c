/* train.c - one optimiser step, micro-batch by micro-batch. See train.h.
 *
 * Parameters, gradient and both moments are vectors of one layout (engine.h for all weights,
 * adapter.h for an adapter). A tied embedding has two gradients, as input and as output table; they
 * are kept apart until the step's last row is done, so that each is one chain. */
#include "shared/lm/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/crypto/sha256.h"
#include "shared/lm/philox.h"
#include "shared/lm/trainer.h"
#include "shared/lm/weights.h"

struct lm_train_options lm_pretrain_defaults(void)
{
    return (struct lm_train_options){.seed = 1,
                                     .step_count = 3000,
                                     .warmup_count = 100,
                                     .learning_rate = 3e-3F,
                                     .learning_rate_floor = 0.1F,
                                     .beta1 = 0.9F,
                                     .beta2 = 0.95F,
                                     .epsilon = 1e-8F,
                                     .weight_decay = 0.1F,
                                     .clip_norm = 1.0F,
                                     .micro_batch_rows = 1024};
}

struct lm_train_options lm_finetune_defaults(void)
{
    return (struct lm_train_options){.seed = 1,
                                     .step_count = 100,
                                     .warmup_count = 5,
                                     .learning_rate = 2e-3F,
                                     .learning_rate_floor = 0.1F,
                                     .beta1 = 0.9F,
                                     .beta2 = 0.99F,
                                     .epsilon = 1e-8F,
                                     .weight_decay = 0.0F,
                                     .clip_norm = 1.0F,
                                     .micro_batch_rows = 1024};
}

static bool between(float value, float min, float max)
{
    return value >= min && value <= max; /* false for a NaN */
}

static enum err options_check(const struct lm_train_options *options, struct note *note)
{
    if (options->step_count < 1 || options->step_count > LM_TRAIN_STEPS_MAX) {
        return note_set(note, ERR_RANGE, "%u steps, allowed are 1 to %u", options->step_count,
                        LM_TRAIN_STEPS_MAX);
    }
    if (options->warmup_count > options->step_count) {
        return note_set(note, ERR_RANGE, "%u warm-up steps of %u steps", options->warmup_count,
                        options->step_count);
    }
    if (options->micro_batch_rows < 1 || options->micro_batch_rows > LM_MICRO_BATCH_ROWS_MAX) {
        return note_set(note, ERR_RANGE, "%u rows in a micro-batch, allowed are 1 to %u",
                        options->micro_batch_rows, LM_MICRO_BATCH_ROWS_MAX);
    }
    const struct {
        const char *name;
        float value, min, max;
    } bounds[] = {
        {"learning rate", options->learning_rate, 1e-9F, 10.0F},
        {"learning rate floor", options->learning_rate_floor, 0.0F, 1.0F},
        {"beta1", options->beta1, 0.0F, 0.999999F},
        {"beta2", options->beta2, 0.0F, 0.999999F},
        {"epsilon", options->epsilon, 1e-20F, 1.0F},
        {"weight decay", options->weight_decay, 0.0F, 10.0F},
        {"clip norm", options->clip_norm, 0.0F, 1e9F},
    };
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        if (!between(bounds[i].value, bounds[i].min, bounds[i].max)) {
            return note_set(note, ERR_RANGE, "%s is %g, allowed are %g to %g", bounds[i].name,
                            (double)bounds[i].value, (double)bounds[i].min, (double)bounds[i].max);
        }
    }
    return ERR_OK;
}

float lm_learning_rate(const struct lm_train_options *options, uint32_t step)
{
    if (step <= options->warmup_count) {
        return options->learning_rate * ((float)step / (float)options->warmup_count);
    }
    uint32_t span = options->step_count - options->warmup_count;
    uint32_t done = step - options->warmup_count;
    float part = done >= span ? 1.0F : (float)done / (float)span;
    float wave = 0.5F * (1.0F + kernels_cosf(3.14159265F * part));
    float floor = options->learning_rate_floor;
    return options->learning_rate * (floor + (1.0F - floor) * wave);
}

/* Irwin-Hall: the sum of four uniform numbers is near enough to a normal one, and exact. */
static float normal_like(uint64_t seed, uint64_t index, float deviation)
{
    struct philox_block block = philox_at(seed, PHILOX_WEIGHTS, index);
    int32_t sum = 0;
    for (int i = 0; i < 4; i++) {
        sum += (int32_t)(block.word[i] >> 10) - (1 << 21); /* 24 bits together: exact in fp32 */
    }
    /* Each term, over 2^21, has variance 1/3. */
    return (float)sum * 0x1p-21F * 0.866025404F * deviation;
}

static void weights_initialise(struct lm_net *net, uint64_t seed)
{
    const struct lm_config *config = &net->config;
    float residual = 0.02F / sqrtf(2.0F * (float)config->layer_count);
    for (uint32_t t = 0; t < net->tensor_count; t++) {
        const struct lm_tensor *tensor = &net->tensors[t];
        bool in_layer = t > lm_tensor_embed() && t < lm_tensor_norm(config);
        uint32_t which = in_layer ? (t - 1) % LM_LAYER_TENSORS : UINT32_MAX;
        float deviation = which == LM_O || which == LM_DOWN ? residual : 0.02F;
        size_t count = (size_t)tensor->rows * tensor->columns;
        for (size_t i = tensor->offset; i < tensor->offset + count; i++) {
            net->values[i] = tensor->matrix ? normal_like(seed, i, deviation) : 1.0F;
        }
    }
}

static float *zeros_allocate(size_t count)
{
    float *zeros = lm_floats_alloc(count);
    return zeros == NULL ? NULL : memset(zeros, 0, count * sizeof *zeros);
}

static enum err vectors_allocate(struct lm_trainer *trainer, size_t count)
{
    trainer->count = count;
    trainer->gradient = zeros_allocate(count);
    trainer->m = zeros_allocate(count);
    trainer->v = zeros_allocate(count);
    bool ok = trainer->gradient != NULL && trainer->m != NULL && trainer->v != NULL;
    return ok ? ERR_OK : ERR_NO_MEMORY;
}

enum err lm_trainer_create_full(const struct lm_config *config,
                                const struct lm_train_options *options,
                                const struct kernels *kernels, struct lm_trainer **out,
                                struct note *note)
{
    enum err err = options_check(options, note);
    if (err == ERR_OK && (lm_has_bias(config) || lm_has_head_norms(config))) {
        err = note_set(note, ERR_INVALID, "a %s model can have adapters trained, not all weights",
                       lm_architecture_type(config->architecture));
    }
    if (err != ERR_OK) {
        return err;
    }
    struct lm_trainer *trainer = calloc(1, sizeof *trainer);
    if (trainer == NULL) {
        return ERR_NO_MEMORY;
    }
    trainer->options = *options;
    err = lm_net_init(&trainer->own, config, kernels, note);
    if (err == ERR_OK) {
        trainer->own.values = zeros_allocate(trainer->own.value_count);
        err = trainer->own.values == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    if (err == ERR_OK) {
        trainer->net = &trainer->own;
        trainer->values = trainer->own.values;
        err = vectors_allocate(trainer, trainer->own.value_count);
    }
    if (err == ERR_OK && config->tied) {
        trainer->head = zeros_allocate((size_t)config->vocab * config->hidden);
        err = trainer->head == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    if (err != ERR_OK) {
        lm_trainer_destroy(trainer);
        return err;
    }
    weights_initialise(&trainer->own, options->seed);
    *out = trainer;
    return ERR_OK;
}

/* Takes the next kernels_packed_count(k, n) floats of the packed memory; with none it only counts. */
static const float *pack_next(struct lm_trainer *trainer, size_t k, size_t n,
                              struct kernels_matrix b)
{
    float *at = trainer->packed == NULL ? NULL : trainer->packed + trainer->packed_count;
    if (at != NULL) {
        kernels_pack(trainer->net->kernels, &parallel_serial, k, n, b, at);
    }
    trainer->packed_count += kernels_packed_count(k, n);
    return at;
}

/* Packs the adapter's present values for all products of a step. */
static void adapter_pack(struct lm_trainer *trainer)
{
    const struct lm_config *config = &trainer->net->config;
    const size_t rank = trainer->adapter.rank;
    trainer->packed_count = 0;
    for (uint32_t m = 0; m < config->layer_count * LM_PROJECTION_COUNT; m++) {
        struct lm_lora_module *module = &trainer->lora.modules[m];
        const size_t in = module->in;
        const size_t out = module->out;
        if (module->a == NULL) {
            continue;
        }
        module->packed_a = pack_next(trainer, in, rank, (struct kernels_matrix){module->a, 1, in});
        module->packed_b =
            pack_next(trainer, rank, out, (struct kernels_matrix){module->b, 1, rank});
        module->back_a = pack_next(trainer, rank, in, (struct kernels_matrix){module->a, in, 1});
        module->back_b = pack_next(trainer, out, rank, (struct kernels_matrix){module->b, rank, 1});
    }
}

enum err lm_trainer_create_adapter(const struct lm_model *model,
                                   const struct lm_adapter_config *adapter,
                                   const struct lm_train_options *options, const float *initial,
                                   struct lm_trainer **out, struct note *note)
{
    enum err err = options_check(options, note);
    if (err == ERR_OK) {
        err = lm_adapter_config_check(adapter, note);
    }
    if (err == ERR_OK) {
        err = lm_model_gradients_check(model, note);
    }
    if (err != ERR_OK) {
        return err;
    }
    struct lm_trainer *trainer = calloc(1, sizeof *trainer);
    if (trainer == NULL) {
        return ERR_NO_MEMORY;
    }
    const struct lm_config *config = &model->net.config;
    trainer->options = *options;
    trainer->model = model;
    trainer->net = &model->net;
    trainer->adapter = *adapter;
    err = vectors_allocate(trainer, lm_adapter_size(config, adapter));
    if (err == ERR_OK) {
        trainer->values = malloc(trainer->count * sizeof(float));
        err = trainer->values == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    if (err == ERR_OK) {
        err = lm_lora_init(&trainer->lora, config, adapter, trainer->values);
    }
    if (err == ERR_OK) {
        adapter_pack(trainer); /* counts */
        trainer->packed = malloc(trainer->packed_count * sizeof(float));
        err = trainer->packed == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    if (err != ERR_OK) {
        lm_trainer_destroy(trainer);
        return err;
    }
    if (initial != NULL) {
        memcpy(trainer->values, initial, trainer->count * sizeof(float));
    } else {
        lm_adapter_initialise(config, adapter, options->seed, trainer->values);
    }
    *out = trainer;
    return ERR_OK;
}

void lm_trainer_destroy(struct lm_trainer *trainer)
{
    if (trainer == NULL) {
        return;
    }
    if (trainer->model != NULL) {
        free(trainer->values);
    }
    lm_net_deinit(&trainer->own);
    lm_lora_deinit(&trainer->lora);
    lm_rows_deinit(&trainer->rows);
    free(trainer->gradient);
    free(trainer->head);
    free(trainer->packed);
    free(trainer->m);
    free(trainer->v);
    free(trainer);
}

/* The adapter's gradients: dA += db^T x, dB += sdy^T ax, continued over micro-batches. */
/* NOLINTNEXTLINE(readability-function-size): the callback of struct lm_gradient */
static void adapter_gradient(void *context, uint32_t layer, enum lm_projection projection,
                             const struct lm_lora_module *module, const float *x, const float *ax,
                             const float *sdy, const float *db)
{
    struct lm_trainer *trainer = context;
    struct lm_adapter_place place;
    bool adapted =
        lm_adapter_offset(&trainer->net->config, &trainer->adapter, layer, projection, &place);
    CHECK(adapted);
    size_t rank = trainer->adapter.rank;
    struct kernels_gemm a = {.m = rank,
                             .n = module->in,
                             .k = trainer->rows.pass.rows,
                             .a = {db, 1, rank},
                             .b = {x, module->in, 1},
                             .c = trainer->gradient + place.a_offset,
                             .c_stride = module->in,
                             .accumulate = true};
    kernels_gemm(trainer->net->kernels, trainer->rows.pass.parallel, &a);
    struct kernels_gemm b = {.m = module->out,
                             .n = rank,
                             .k = trainer->rows.pass.rows,
                             .a = {sdy, 1, module->out},
                             .b = {ax, rank, 1},
                             .c = trainer->gradient + place.b_offset,
                             .c_stride = rank,
                             .accumulate = true};
    kernels_gemm(trainer->net->kernels, trainer->rows.pass.parallel, &b);
}

/* One tensor of the optimiser's step: matrices decay, norms do not. */
static void update_range(struct lm_trainer *trainer, const struct parallel *parallel, size_t offset,
                         size_t count, bool decay, const struct kernels_adamw *base)
{
    struct kernels_adamw adamw = *base;
    adamw.count = count;
    adamw.weight = trainer->values + offset;
    adamw.grad = trainer->gradient + offset;
    adamw.m = trainer->m + offset;
    adamw.v = trainer->v + offset;
    adamw.weight_decay = decay ? trainer->options.weight_decay : 0.0F;
    kernels_adamw(trainer->net->kernels, parallel, &adamw);
}

static void update(struct lm_trainer *trainer, const struct parallel *parallel, float rate,
                   float grad_scale)
{
    const struct lm_train_options *options = &trainer->options;
    struct kernels_adamw base = {.step = (uint64_t)trainer->step + 1,
                                 .rate = rate,
                                 .beta1 = options->beta1,
                                 .beta2 = options->beta2,
                                 .eps = options->epsilon,
                                 .grad_scale = grad_scale};
    if (trainer->model != NULL) {
        update_range(trainer, parallel, 0, trainer->count, true, &base);
        return;
    }
    for (uint32_t t = 0; t < trainer->net->tensor_count; t++) {
        const struct lm_tensor *tensor = &trainer->net->tensors[t];
        update_range(trainer, parallel, tensor->offset, (size_t)tensor->rows * tensor->columns,
                     tensor->matrix, &base);
    }
}

static uint64_t targets_count(const struct lm_example *examples, uint32_t count)
{
    uint64_t targets = 0;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t t = 1; t < examples[i].count; t++) {
            targets += examples[i].mask == NULL || examples[i].mask[t] != 0;
        }
    }
    return targets;
}

/* Forward and backward over all examples; the gradient vector is filled. */
static enum err accumulate(struct lm_trainer *trainer, const struct lm_example *examples,
                           uint32_t count, const struct parallel *parallel, uint64_t targets,
                           double *out_sum)
{
    const struct lm_net *net = trainer->net;
    bool full = trainer->model == NULL;
    enum lm_keep keep = trainer->options.recompute ? LM_KEEP_INPUTS : LM_KEEP_LAYERS;
    float *head = trainer->gradient;
    if (full && trainer->head != NULL) {
        head = trainer->head;
        memset(head, 0, (size_t)net->config.vocab * net->config.hidden * sizeof(float));
    } else if (full) {
        head = trainer->gradient + net->tensors[lm_tensor_head(&net->config)].offset;
    }
    memset(trainer->gradient, 0, trainer->count * sizeof(float));
    struct lm_gradient gradient = {.weights = full ? trainer->gradient : NULL,
                                   .head = full ? head : NULL,
                                   .module = full ? NULL : adapter_gradient,
                                   .context = trainer};
    double sum = 0.0;
    if (!full) {
        adapter_pack(trainer);
    }
    for (uint32_t first = 0; first < count;) {
        uint32_t taken =
            lm_rows_fit(examples + first, count - first, trainer->options.micro_batch_rows);
        enum err err = lm_rows_load(&trainer->rows, net, full ? NULL : &trainer->lora, keep,
                                    examples + first, taken);
        if (err != ERR_OK) {
            return err;
        }
        struct lm_rows *rows = &trainer->rows;
        rows->pass.parallel = parallel;
        rows->targets.weight = (float)(1.0 / (double)targets);
        lm_forward(&rows->pass);
        lm_loss(&rows->pass, &rows->targets, &gradient, rows->losses);
        lm_backward(&rows->pass, &gradient);
        for (size_t i = 0; i < rows->targets.count; i++) {
            sum += (double)rows->losses[i];
        }
        first += taken;
    }
    if (full && trainer->head != NULL) {
        float *embed = trainer->gradient + net->tensors[lm_tensor_embed()].offset;
        kernels_add(net->kernels, parallel, (size_t)net->config.vocab * net->config.hidden, embed,
                    trainer->head, embed);
    }
    *out_sum = sum;
    return ERR_OK;
}

enum err lm_trainer_step(struct lm_trainer *trainer, const struct lm_example *examples,
                         uint32_t count, const struct parallel *parallel,
                         struct lm_step_report *out, struct note *note)
{
    if (count < 1 || count > LM_STEP_EXAMPLES_MAX) {
        return note_set(note, ERR_RANGE, "%u examples in a step, allowed are 1 to %u", count,
                        LM_STEP_EXAMPLES_MAX);
    }
    if (trainer->step >= trainer->options.step_count) {
        return note_set(note, ERR_RANGE, "all %u steps are done", trainer->options.step_count);
    }
    enum err err = lm_examples_check(&trainer->net->config, examples, count, note);
    if (err != ERR_OK) {
        return err;
    }
    uint64_t targets = targets_count(examples, count);
    if (targets == 0) {
        return note_set(note, ERR_RANGE, "no token of the step's examples counts");
    }
    double sum = 0.0;
    err = accumulate(trainer, examples, count, parallel, targets, &sum);
    if (err != ERR_OK) {
        return note_set(note, err, "no memory for a micro-batch");
    }
    double squares = kernels_sum_squares(trainer->net->kernels, trainer->count, trainer->gradient);
    if (!isfinite(sum) || !isfinite(squares)) {
        return note_set(note, ERR_INVALID, "step %u: loss or gradient is not finite",
                        trainer->step + 1);
    }
    float rate = lm_learning_rate(&trainer->options, trainer->step + 1);
    float clip = trainer->options.clip_norm;
    float scale = clip > 0.0F ? kernels_clip_scale(squares, (double)clip) : 1.0F;
    update(trainer, parallel, rate, scale);
    trainer->step++;
    *out = (struct lm_step_report){.step = trainer->step,
                                   .loss = sum / (double)targets,
                                   .target_count = targets,
                                   .gradient_norm = (float)sqrt(squares),
                                   .learning_rate = rate};
    return ERR_OK;
}

uint32_t lm_trainer_steps(const struct lm_trainer *trainer)
{
    return trainer->step;
}

const struct lm_train_options *lm_trainer_options(const struct lm_trainer *trainer)
{
    return &trainer->options;
}

void lm_trainer_digest(const struct lm_trainer *trainer, struct digest *out)
{
    struct bytes values = {(const uint8_t *)trainer->values, trainer->count * sizeof(float)};
    sha256(values, out);
}

enum err lm_trainer_take_model(const struct lm_trainer *trainer, struct lm_model **out,
                               struct note *note)
{
    CHECK(trainer->model == NULL);
    const struct lm_net *net = trainer->net;
    uint16_t *halves = malloc(trainer->count * sizeof *halves);
    struct lm_view *views = calloc(net->tensor_count, sizeof *views);
    enum err err = halves == NULL || views == NULL ? ERR_NO_MEMORY : ERR_OK;
    if (err == ERR_OK) {
        kernels_to_bf16(trainer->count, trainer->values, halves);
        for (uint32_t t = 0; t < net->tensor_count; t++) {
            const struct lm_tensor *tensor = &net->tensors[t];
            size_t size = (size_t)tensor->rows * tensor->columns * sizeof *halves;
            views[t] = (struct lm_view){.dtype = LM_DTYPE_BF16,
                                        .rows = tensor->rows,
                                        .columns = tensor->columns,
                                        .data = bytes_of(halves + tensor->offset, size)};
        }
        struct lm_load how = {.kernels = net->kernels};
        err = lm_model_make(&net->config, views, &how, out, note);
    }
    free(views);
    free(halves);
    return err;
}

enum err lm_trainer_take_adapter(const struct lm_trainer *trainer, struct lm_adapter **out,
                                 struct note *note)
{
    CHECK(trainer->model != NULL);
    return lm_adapter_create_rounded(trainer->model, &trainer->adapter, trainer->values, out, note);
}
