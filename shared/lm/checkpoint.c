/* checkpoint.c - a trainer's whole state as bytes, and back. See train.h.
 *
 * Layout, little-endian: "OLTRAIN1"; u32 size of the description; the description (everything that
 * must agree, as bytes to compare); u32 step; u64 count; parameters, m, v as fp32; SHA-256 of all
 * before it. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/crypto/sha256.h"
#include "shared/lm/trainer.h"

static const char MAGIC[8] = "OLTRAIN1";
enum { DESCRIPTION_MAX = 1024 };

static void append_f32(struct buf *out, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    (void)buf_append_u32le(out, bits);
}

/* Everything besides the state that the future of the run depends on. */
static void describe(const struct lm_trainer *trainer, struct buf *out)
{
    const struct lm_config *config = &trainer->net->config;
    const struct lm_train_options *options = &trainer->options;
    const uint32_t numbers[] = {trainer->model == NULL ? 1 : 2,
                                config->hidden,
                                config->ffn,
                                config->layer_count,
                                config->head_count,
                                config->kv_head_count,
                                config->head_dim,
                                config->vocab,
                                config->context,
                                config->tied,
                                trainer->adapter.rank,
                                trainer->adapter.targets,
                                options->warmup_count};
    const float reals[] = {config->norm_epsilon,
                           config->rope_theta,
                           trainer->adapter.alpha,
                           options->learning_rate,
                           options->learning_rate_floor,
                           options->beta1,
                           options->beta2,
                           options->epsilon,
                           options->weight_decay,
                           options->clip_norm};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        (void)buf_append_u32le(out, numbers[i]);
    }
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) {
        append_f32(out, reals[i]);
    }
    (void)buf_append_u64le(out, options->seed);
    if (trainer->model != NULL) {
        (void)buf_append_bytes(out, digest_bytes(&trainer->model->digest));
    }
}

enum err lm_trainer_save(const struct lm_trainer *trainer, struct buf *out)
{
    struct buf description;
    buf_init(&description, DESCRIPTION_MAX);
    describe(trainer, &description);
    size_t begin = out->size;
    size_t size = trainer->count * sizeof(float);
    enum err err = buf_err(&description);
    if (err == ERR_OK) {
        (void)buf_append(out, MAGIC, sizeof MAGIC);
        (void)buf_append_u32le(out, (uint32_t)description.size);
        (void)buf_append_bytes(out, buf_bytes(&description));
        (void)buf_append_u32le(out, trainer->step);
        (void)buf_append_u64le(out, trainer->count);
        (void)buf_append(out, trainer->values, size);
        (void)buf_append(out, trainer->m, size);
        (void)buf_append(out, trainer->v, size);
        err = buf_err(out);
    }
    if (err == ERR_OK) {
        struct digest digest;
        sha256((struct bytes){out->data + begin, out->size - begin}, &digest);
        err = buf_append_bytes(out, digest_bytes(&digest));
    }
    buf_deinit(&description);
    return err;
}

/* Checks frame and digest; *in is then the bytes after the magic, without the digest. */
static enum err frame_open(struct bytes checkpoint, struct bytes *in, struct note *note)
{
    struct bytes rest = checkpoint;
    struct bytes magic;
    if (bytes_take(&rest, sizeof MAGIC, &magic) != ERR_OK ||
        memcmp(magic.data, MAGIC, sizeof MAGIC) != 0 || rest.size < DIGEST_SIZE) {
        return note_set(note, ERR_INVALID, "not a training checkpoint");
    }
    struct digest digest;
    size_t body = checkpoint.size - DIGEST_SIZE;
    sha256((struct bytes){checkpoint.data, body}, &digest);
    if (memcmp(digest.bytes, checkpoint.data + body, DIGEST_SIZE) != 0) {
        return note_set(note, ERR_CORRUPT, "the checkpoint's digest does not match its bytes");
    }
    *in = (struct bytes){rest.data, rest.size - DIGEST_SIZE};
    return ERR_OK;
}

enum err lm_trainer_restore(struct lm_trainer *trainer, struct bytes checkpoint, struct note *note)
{
    struct bytes in;
    enum err err = frame_open(checkpoint, &in, note);
    if (err != ERR_OK) {
        return err;
    }
    struct buf expected;
    buf_init(&expected, DESCRIPTION_MAX);
    describe(trainer, &expected);
    err = buf_err(&expected);
    struct bytes found = {0};
    uint32_t size = 0;
    uint32_t step = 0;
    uint64_t count = 0;
    size_t vector = trainer->count * sizeof(float);
    if (err == ERR_OK &&
        (bytes_take_u32le(&in, &size) != ERR_OK || bytes_take(&in, size, &found) != ERR_OK ||
         found.size != expected.size || memcmp(found.data, expected.data, found.size) != 0)) {
        err = note_set(note, ERR_INVALID,
                       "the checkpoint is of another run: kind, model, seed or options differ");
    }
    buf_deinit(&expected);
    if (err != ERR_OK) {
        return err;
    }
    if (bytes_take_u32le(&in, &step) != ERR_OK || bytes_take_u64le(&in, &count) != ERR_OK ||
        count != trainer->count || in.size != 3 * vector) {
        return note_set(note, ERR_INVALID, "the checkpoint is cut off");
    }
    if (step > trainer->options.step_count) {
        return note_set(note, ERR_INVALID, "the checkpoint is at step %u of %u", step,
                        trainer->options.step_count);
    }
    memcpy(trainer->values, in.data, vector);
    memcpy(trainer->m, in.data + vector, vector);
    memcpy(trainer->v, in.data + 2 * vector, vector);
    trainer->step = step;
    return ERR_OK;
}
