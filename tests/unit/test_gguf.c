/* test_gguf.c - GGUF files: the same model as a folder to the bit, and hostile bytes by name. */
#include "shared/gguf/gguf.h"

#include "shared/lineage/bundle.h"
#include "shared/lineage/lineage.h"
#include "shared/lm/engine.h"
#include "shared/lm/session.h"
#include "shared/lm/weights.h"
#include "shared/token/tokenizer.h"
#include "shared/token/tokenizer_gguf.h"
#include "tests/harness/folder.h"
#include "tests/harness/gguf_file.h"

enum { ROWS = 40, VARIANTS = 5, TYPES = 4 };

static const uint32_t TYPE_LIST[TYPES] = {GGUF_FILE_TYPE_F32, GGUF_FILE_TYPE_BF16,
                                          GGUF_FILE_TYPE_F16, GGUF_FILE_TYPE_Q8_0};

/* Widths that Q8_0 can hold. The last variant is Llama 3.1. */
static struct lm_config config_make(uint32_t variant)
{
    struct lm_config config = random_config(variant < LM_ARCHITECTURE_COUNT ? variant : 0);
    config.hidden = 64;
    config.ffn = 96;
    config.head_dim = 16;
    if (variant >= LM_ARCHITECTURE_COUNT) {
        config.rope_theta = 500000.0F;
        config.rope = (struct lm_rope_scaling){.factor = 8.0F,
                                               .low_frequency = 1.0F,
                                               .high_frequency = 4.0F,
                                               .original_context = 8192};
    }
    return config;
}

static const char *architecture_of(const struct lm_config *config)
{
    return config->architecture == LM_MISTRAL ? "llama"
                                              : lm_architecture_type(config->architecture);
}

static void file_make(struct gguf_file *file, struct random_model *random,
                      const struct lm_config *config, uint32_t type)
{
    gguf_file_init(file);
    random_model_make(random, config);
    gguf_file_model(file, random, architecture_of(config), type);
    if (config->rope.factor != 0.0F) {
        struct lm_config plain = *config;
        plain.rope.factor = 0.0F;
        gguf_file_tensor(file, "rope_freqs.weight", 0, config->head_dim / 2, GGUF_FILE_TYPE_F32);
        for (uint32_t i = 0; i < config->head_dim / 2; i++) {
            float factor = (float)(plain_frequency(&plain, i) / plain_frequency(config, i));
            (void)buf_append(&file->data, &factor, sizeof factor);
        }
    }
}

static enum err open_file(struct bytes data, const struct lm_load *how, struct lm_model **out,
                          struct note *note)
{
    struct lm_file files[] = {{"README.md", {NULL, 0}}, {"model.gguf", data}};
    return lm_model_open(files, 2, how, out, note);
}

/* NOLINTNEXTLINE(readability-non-const-parameter): goes into a step */
static void logits_make(const struct lm_model *model, float *out)
{
    uint32_t tokens[ROWS];
    struct lm_session *session = NULL;
    struct lm_batch *batch = NULL;
    fixture_tokens(4, lm_model_config(model)->vocab, ROWS, tokens);
    ck_assert_int_eq(lm_session_create(model, ROWS, &session), ERR_OK);
    ck_assert_int_eq(lm_batch_create(model, ROWS, &batch), ERR_OK);
    struct lm_step step = {
        .session = session, .tokens = tokens, .token_count = ROWS, .out_logits = out};
    ck_assert_int_eq(lm_batch_step(batch, &step, 1, &parallel_serial, NULL), ERR_OK);
    lm_batch_destroy(batch);
    lm_session_destroy(session);
}

/* Every architecture in every type: config, digest and logits of the same numbers in a folder. */
START_TEST(test_same_model_as_a_folder)
{
    struct lm_config config = config_make((uint32_t)_i / TYPES);
    struct random_model random;
    struct gguf_file file;
    struct buf data;
    struct note note = {0};
    file_make(&file, &random, &config, TYPE_LIST[_i % TYPES]);
    gguf_file_write(&file, &data);
    struct lm_model *mine = NULL;
    struct lm_load fp32 = {.precision = LM_FP32};
    ck_assert_msg(open_file(buf_bytes(&data), &fp32, &mine, &note) == ERR_OK, "%s", note.text);
    if (config.architecture == LM_MISTRAL) {
        random.config.architecture = LM_LLAMA; /* as the file says */
    }
    struct lm_model *other = random_model_load(&random, NULL);
    float got[128];
    float want[128];
    struct digest digests[2];
    ck_assert_uint_le(config.vocab, 128);
    logits_make(mine, got);
    logits_make(other, want);
    ck_assert_mem_eq(got, want, config.vocab * sizeof(float));
    lm_model_digest(mine, &digests[0]);
    lm_model_digest(other, &digests[1]);
    ck_assert(digest_equal(&digests[0], &digests[1]));
    lm_model_destroy(mine);
    lm_model_destroy(other);
    random_model_free(&random);
    gguf_file_deinit(&file);
    buf_deinit(&data);
}
END_TEST

/* A file of Q8_0 is an int8 model whose codes are the file's, -128 among them. */
START_TEST(test_codes_are_used_as_they_are)
{
    struct lm_config config = config_make(LM_QWEN2);
    struct random_model random;
    struct gguf_file file;
    struct buf data;
    struct note note = {0};
    file_make(&file, &random, &config, GGUF_FILE_TYPE_Q8_0);
    for (size_t i = 2; i < 64; i += 7) { /* in the first block of the first matrix and the next */
        file.data.data[i] = i % 34 < 2 ? file.data.data[i] : 0x80;
    }
    gguf_file_write(&file, &data);
    struct lm_model *models[2] = {NULL, NULL};
    struct lm_load scalar = {.kernels = kernels_get("scalar", &note)};
    ck_assert_msg(open_file(buf_bytes(&data), NULL, &models[0], &note) == ERR_OK, "%s", note.text);
    ck_assert_int_eq(open_file(buf_bytes(&data), &scalar, &models[1], &note), ERR_OK);
    ck_assert_int_eq(lm_model_precision(models[0]), LM_INT8);
    float row[64];
    float want[64];
    lm_net_row(&models[0]->net, lm_tensor_embed(), 0, row);
    kernels_dequantize_q8(64, file.data.data, want);
    ck_assert_mem_eq(row, want, sizeof row);
    ck_assert_uint_eq(file.data.data[2], 0x80);
    float got[2][128];
    logits_make(models[0], got[0]);
    logits_make(models[1], got[1]);
    ck_assert_mem_eq(got[0], got[1], config.vocab * sizeof(float));
    lm_model_destroy(models[0]);
    lm_model_destroy(models[1]);
    random_model_free(&random);
    gguf_file_deinit(&file);
    buf_deinit(&data);
}
END_TEST

START_TEST(test_every_cut_is_an_error)
{
    struct lm_config config = config_make(LM_LLAMA);
    struct random_model random;
    struct gguf_file file;
    struct buf data;
    struct note note = {0};
    file_make(&file, &random, &config, GGUF_FILE_TYPE_BF16);
    gguf_file_write(&file, &data);
    size_t header = data.size - file.data.size;
    struct lm_model *model = NULL;
    for (size_t size = 0; size < data.size; size += size < header + 40 ? 1 : 997) {
        uint8_t *exact = malloc(size + 1); /* so that ASan sees a read behind it */
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, data.data, size);
        struct gguf gguf;
        ck_assert_int_ne(gguf_init(&gguf, bytes_of(exact, size), &note), ERR_OK);
        ck_assert_int_ne(open_file(bytes_of(exact, size), NULL, &model, &note), ERR_OK);
        ck_assert_uint_gt(strlen(note.text), 0);
        free(exact);
    }
    ck_assert_ptr_null(model);
    random_model_free(&random);
    gguf_file_deinit(&file);
    buf_deinit(&data);
}
END_TEST

/* What is not supported, or wrong, is named; each case spoils a good file. */
enum spoil {
    SPOIL_NOTHING,
    SPOIL_VERSION,
    SPOIL_BIG_ENDIAN,
    SPOIL_ALIGNMENT,
    SPOIL_MEMBER,
    SPOIL_MEMBER_TWICE,
    SPOIL_SCALING,
    SPOIL_ROTATION,
    SPOIL_TYPE,
    SPOIL_TENSOR,
    SPOIL_TENSOR_TWICE,
    SPOIL_BIAS,
    SPOIL_FREQUENCIES,
    SPOIL_PARTS,
    SPOIL_ADAPTER,
    SPOIL_TAIL,
    SPOIL_HOLE,
    SPOIL_BOOL,
    SPOIL_NAME,
    SPOIL_NESTED,
    SPOIL_COUNT
};
static const char *const SAYS[SPOIL_COUNT] = {"",
                                              "version 4",
                                              "big-endian",
                                              "general.alignment",
                                              "llama.expert_count",
                                              "twice",
                                              "scaling.type",
                                              "partial",
                                              "is Q4_K",
                                              "'blk.0.ffn_gate_exps.weight'",
                                              "twice",
                                              "belong to no part",
                                              "rope_freqs",
                                              "split.count",
                                              "general.type",
                                              "behind the last",
                                              "right behind",
                                              "a bool of 2",
                                              "byte 0x0a",
                                              "array of kind 9"};

static void spoil_meta(struct gguf_file *file, enum spoil what)
{
    if (what == SPOIL_ALIGNMENT) {
        gguf_file_u32(file, "general.alignment", 24);
    } else if (what == SPOIL_MEMBER || what == SPOIL_MEMBER_TWICE) {
        gguf_file_u32(file, what == SPOIL_MEMBER ? "llama.expert_count" : "llama.vocab_size", 8);
    } else if (what == SPOIL_SCALING) {
        gguf_file_string(file, "llama.rope.scaling.type", "yarn");
    } else if (what == SPOIL_PARTS) {
        gguf_file_u32(file, "split.count", 2);
    } else if (what == SPOIL_ADAPTER) {
        gguf_file_string(file, "general.type", "adapter");
    } else if (what == SPOIL_BOOL) {
        gguf_file_meta(file, "general.sure", GGUF_FILE_BOOL);
        (void)buf_append_byte(&file->meta, 2);
    } else if (what == SPOIL_NAME) {
        gguf_file_u32(file, "general.\nname", 1);
    } else if (what == SPOIL_NESTED) {
        gguf_file_meta(file, "general.lists", 9);
        (void)buf_append_u32le(&file->meta, 9);
        (void)buf_append_u64le(&file->meta, 1);
    } else if (what == SPOIL_ROTATION) {
        static const char KEY[] = "rope.dimension_count";
        uint8_t *at = memmem(file->meta.data, file->meta.size, KEY, sizeof KEY - 1);
        ck_assert_ptr_nonnull(at);
        at[sizeof KEY - 1 + 4] = 8;
    }
}

static void spoil_tensors(struct gguf_file *file, enum spoil what)
{
    static const float NUMBERS[16] = {1, 1, 1, 1, 2, 3, 4, 9};
    static const struct {
        enum spoil what;
        const char *name;
        uint32_t columns, type;
    } MORE[] = {{SPOIL_TYPE, "blk.0.attn_q.bias", 16, 12},
                {SPOIL_TENSOR, "blk.0.ffn_gate_exps.weight", 16, GGUF_FILE_TYPE_F32},
                {SPOIL_TENSOR_TWICE, "output_norm.weight", 16, GGUF_FILE_TYPE_F32},
                {SPOIL_BIAS, "blk.0.attn_q.bias", 16, GGUF_FILE_TYPE_F32},
                {SPOIL_FREQUENCIES, "rope_freqs.weight", 8, GGUF_FILE_TYPE_F32},
                {SPOIL_HOLE, "output.weight", 16, GGUF_FILE_TYPE_F32}};
    for (size_t i = 0; i < sizeof MORE / sizeof MORE[0]; i++) {
        if (MORE[i].what == what) {
            gguf_file_tensor(file, MORE[i].name, 0, MORE[i].columns, MORE[i].type);
            (void)buf_append(&file->data, NUMBERS, MORE[i].columns * sizeof(float));
        }
    }
    if (what == SPOIL_HOLE) {
        file->table.data[file->table.size - 8] ^= 32;
    }
}

START_TEST(test_refusals_name_what_they_refuse)
{
    enum spoil what = (enum spoil)_i;
    struct lm_config config = config_make(LM_LLAMA);
    struct random_model random;
    struct gguf_file file;
    struct buf data;
    struct note note = {0};
    struct lm_model *model = NULL;
    file_make(&file, &random, &config, GGUF_FILE_TYPE_BF16);
    spoil_meta(&file, what);
    spoil_tensors(&file, what);
    file.version = what == SPOIL_VERSION ? 4 : what == SPOIL_BIG_ENDIAN ? 0x03000000 : 3;
    gguf_file_write(&file, &data);
    for (int i = 0; i < 64 && what == SPOIL_TAIL; i++) {
        (void)buf_append_byte(&data, 0);
    }
    enum err err = open_file(buf_bytes(&data), NULL, &model, &note);
    ck_assert_msg((err == ERR_OK) == (what == SPOIL_NOTHING), "case %d: %s", _i, note.text);
    ck_assert_msg(strstr(note.text, SAYS[what]) != NULL, "case %d: %s", _i, note.text);
    lm_model_destroy(model);
    random_model_free(&random);
    gguf_file_deinit(&file);
    buf_deinit(&data);
}
END_TEST

/* Which file of a folder is the model, and numbers that do not fit. */
START_TEST(test_choice_and_values)
{
    struct note note = {0};
    struct lm_model *model = NULL;
    struct lm_file two[] = {{"a.gguf", {NULL, 0}}, {"b.gguf", {NULL, 0}}};
    ck_assert_int_eq(lm_model_open(two, 2, NULL, &model, &note), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(note.text, "two models"));
    ck_assert_int_eq(lm_model_open(two, 0, NULL, &model, &note), ERR_NOT_FOUND);
    struct gguf_file file;
    struct gguf gguf;
    struct buf data;
    struct bytes text;
    uint32_t number = 7;
    float real = 7.0F;
    bool truth = false;
    gguf_file_init(&file);
    gguf_file_meta(&file, "wide", 10);
    (void)buf_append_u64le(&file.meta, UINT64_C(1) << 32);
    gguf_file_meta(&file, "negative", 1);
    (void)buf_append_byte(&file.meta, 0xff);
    gguf_file_u32(&file, "number", 5);
    gguf_file_f32(&file, "real", 0.5F);
    gguf_file_bool(&file, "truth", true);
    gguf_file_string(&file, "text", "words");
    gguf_file_write(&file, &data);
    ck_assert_msg(gguf_init(&gguf, buf_bytes(&data), &note) == ERR_OK, "%s", note.text);
    ck_assert_int_eq(gguf_get_u32(&gguf, "wide", &number, &note), ERR_INVALID);
    ck_assert_int_eq(gguf_get_u32(&gguf, "negative", &number, &note), ERR_INVALID);
    ck_assert_int_eq(gguf_get_u32(&gguf, "text", &number, &note), ERR_INVALID);
    ck_assert_int_eq(gguf_get_u32(&gguf, "none", &number, &note), ERR_NOT_FOUND);
    ck_assert_uint_eq(number, 7);
    ck_assert_int_eq(gguf_get_u32(&gguf, "number", &number, &note), ERR_OK);
    ck_assert_uint_eq(number, 5);
    ck_assert_int_eq(gguf_get_f32(&gguf, "number", &real, &note), ERR_INVALID);
    ck_assert_int_eq(gguf_get_f32(&gguf, "real", &real, &note), ERR_OK);
    ck_assert_int_eq(gguf_get_bool(&gguf, "truth", &truth, &note), ERR_OK);
    ck_assert(real == 0.5F && truth);
    ck_assert_int_eq(gguf_get_text(&gguf, "truth", &text, &note), ERR_INVALID);
    ck_assert_int_eq(gguf_get_text(&gguf, "text", &text, &note), ERR_OK);
    ck_assert(gguf_text_is(text, "words") && !gguf_text_is(text, "word"));
    gguf_deinit(&gguf);
    gguf_file_deinit(&file);
    buf_deinit(&data);
}
END_TEST

/* ---- tokenizers ---- */

static void texts_put(struct gguf_file *file, const char *key, const char *const *texts,
                      uint32_t count)
{
    gguf_file_meta(file, key, GGUF_ARRAY);
    (void)buf_append_u32le(&file->meta, GGUF_TEXT);
    (void)buf_append_u64le(&file->meta, count);
    for (uint32_t i = 0; i < count; i++) {
        gguf_file_text(&file->meta, texts[i]);
    }
}

static void numbers_put(struct gguf_file *file, const char *key, enum gguf_kind kind,
                        const void *numbers, uint32_t count)
{
    gguf_file_meta(file, key, GGUF_ARRAY);
    (void)buf_append_u32le(&file->meta, kind);
    (void)buf_append_u64le(&file->meta, count);
    (void)buf_append(&file->meta, numbers, (size_t)count * 4);
}

/* The tokenizer of the metadata, or NULL and why. */
static struct lm_tokenizer *tokenizer_of(const struct gguf_file *file, struct note *note)
{
    struct lm_tokenizer *tokenizer = NULL;
    struct gguf gguf;
    struct buf data;
    struct buf json;
    buf_init(&json, 1 << 20);
    gguf_file_write(file, &data);
    ck_assert_msg(gguf_init(&gguf, buf_bytes(&data), note) == ERR_OK, "%s", note->text);
    if (lm_tokenizer_from_gguf(&gguf, &json, note) == ERR_OK) {
        enum err err = lm_tokenizer_load(buf_bytes(&json), &tokenizer, note);
        ck_assert_msg(err == ERR_OK, "%s: %s", note->text, buf_text(&json));
    }
    gguf_deinit(&gguf);
    buf_deinit(&json);
    buf_deinit(&data);
    return tokenizer;
}

static void expect(const struct lm_tokenizer *tokenizer, const char *text, const uint32_t *want,
                   size_t count)
{
    struct lm_ids ids;
    struct buf back;
    lm_ids_init(&ids, 100);
    buf_init(&back, 100);
    ck_assert_int_eq(lm_tokenizer_encode(tokenizer, bytes_of_text(text), false, &ids, NULL),
                     ERR_OK);
    ck_assert_uint_eq(ids.count, count);
    for (size_t i = 0; i < count; i++) {
        ck_assert_uint_eq(ids.items[i], want[i]);
    }
    ck_assert_int_eq(lm_tokenizer_decode(tokenizer, ids.items, ids.count, false, &back), ERR_OK);
    ck_assert_str_eq(buf_text(&back), text);
    lm_ids_deinit(&ids);
    buf_deinit(&back);
}

#define BLANK "\xE2\x96\x81"
static const char BLANK_A[] = BLANK "a";

/* Scores decide which merge is first, whatever the order of the ids; bytes stand in for the rest. */
START_TEST(test_sentencepiece_of_metadata)
{
    static const char *const TEXTS[] = {"<unk>", "<s>", "<0xC3>", "<0xA4>", BLANK,  "a",
                                        "b",     "c",   "bc",     "ab",     BLANK_A};
    static const int32_t KINDS[] = {2, 3, 6, 6, 1, 1, 1, 1, 1, 1, 1};
    static const float SCORES[] = {0, 0, 0, 0, -9, -9, -9, -9, -2, -1, -3};
    struct note note = {0};
    struct gguf_file file;
    gguf_file_init(&file);
    gguf_file_string(&file, "tokenizer.ggml.model", "llama");
    texts_put(&file, "tokenizer.ggml.tokens", TEXTS, 11);
    ck_assert_ptr_null(tokenizer_of(&file, &note));
    ck_assert_ptr_nonnull(strstr(note.text, "token_type"));
    numbers_put(&file, "tokenizer.ggml.token_type", GGUF_I32, KINDS, 11);
    ck_assert_ptr_null(tokenizer_of(&file, &note));
    ck_assert_ptr_nonnull(strstr(note.text, "scores"));
    numbers_put(&file, "tokenizer.ggml.scores", GGUF_F32, SCORES, 11);
    struct lm_tokenizer *tokenizer = tokenizer_of(&file, &note);
    ck_assert_msg(tokenizer != NULL, "%s", note.text);
    expect(tokenizer, "abc", (uint32_t[]){4, 9, 7}, 3);
    expect(tokenizer, "a bc\xC3\xA4", (uint32_t[]){10, 4, 8, 2, 3}, 5);
    ck_assert(lm_tokenizer_is_special(tokenizer, 1));
    ck_assert_uint_eq(lm_tokenizer_find(tokenizer, "<s>"), 1);
    lm_tokenizer_destroy(tokenizer);
    gguf_file_deinit(&file);
}
END_TEST

START_TEST(test_byte_level_of_metadata)
{
    static const struct {
        const char *pre;
        uint32_t want[4];
        uint32_t count; /* 0: refused */
    } KNOWN[] = {{"gpt-2", {3, 5}, 2},
                 {"llama-bpe", {3, 5}, 2},
                 {"qwen2", {3, 1, 1}, 3},
                 {"smollm", {3, 1, 1}, 3},
                 {"bloom", {0}, 0}};
    static const char *const TEXTS[] = {"a", "1", "b", "ab", "<|end|>", "11"};
    static const char *const MERGES[] = {"a b", "1 1"};
    static const int32_t KINDS[] = {1, 1, 1, 1, 3, 1};
    for (size_t i = 0; i < sizeof KNOWN / sizeof KNOWN[0]; i++) {
        struct note note = {0};
        struct gguf_file file;
        gguf_file_init(&file);
        gguf_file_string(&file, "tokenizer.ggml.model", "gpt2");
        gguf_file_string(&file, "tokenizer.ggml.pre", KNOWN[i].pre);
        texts_put(&file, "tokenizer.ggml.tokens", TEXTS, 6);
        texts_put(&file, "tokenizer.ggml.merges", MERGES, 2);
        numbers_put(&file, "tokenizer.ggml.token_type", GGUF_I32, KINDS, 6);
        struct lm_tokenizer *tokenizer = tokenizer_of(&file, &note);
        ck_assert_msg((tokenizer != NULL) == (KNOWN[i].count != 0), "%s", note.text);
        if (tokenizer != NULL) {
            expect(tokenizer, "ab11", KNOWN[i].want, KNOWN[i].count);
            ck_assert_uint_eq(lm_tokenizer_find(tokenizer, "<|end|>"), 4);
            ck_assert(lm_tokenizer_is_special(tokenizer, 4));
        } else {
            ck_assert_ptr_nonnull(strstr(note.text, "'bloom'"));
        }
        lm_tokenizer_destroy(tokenizer);
        gguf_file_deinit(&file);
    }
}
END_TEST

/* ---- a registered base ---- */

/* One file is model and tokenizer; the profile that comes out is one that loads it again. */
START_TEST(test_base_of_one_file)
{
    static const char *const TEXTS[] = {"a", "1", "b", "ab", "<|end|>", "11"};
    static const char *const MERGES[] = {"a b", "1 1"};
    struct lm_config config = config_make(LM_QWEN3);
    struct random_model random;
    struct gguf_file file;
    struct buf data;
    struct note note = {0};
    struct digest content;
    struct blob_store *blobs = NULL;
    struct lineage_base *base = NULL;
    struct lineage_base *again = NULL;
    file_make(&file, &random, &config, GGUF_FILE_TYPE_Q8_0);
    gguf_file_string(&file, "tokenizer.ggml.model", "gpt2");
    gguf_file_string(&file, "tokenizer.ggml.pre", "qwen2");
    texts_put(&file, "tokenizer.ggml.tokens", TEXTS, 6);
    texts_put(&file, "tokenizer.ggml.merges", MERGES, 2);
    gguf_file_write(&file, &data);
    test_folder_make();
    ck_assert_int_eq(file_write_quick(test_path("any.gguf"), buf_bytes(&data), 0644, &note),
                     ERR_OK);
    ck_assert_int_eq(blob_open(test_path("blobs"), &blobs, &note), ERR_OK);
    ck_assert_int_eq(lineage_bundle_put(blobs, test_path("any.gguf"), NULL, &content, &note),
                     ERR_OK);
    enum err err = lineage_base_load(blobs, &content, NULL, &base, &note);
    ck_assert_msg(err == ERR_OK, "%s", note.text);
    ck_assert_int_eq(lm_model_precision(base->model), LM_INT8);
    expect(base->tokenizer, "ab", (uint32_t[]){3}, 1);
    struct lineage_load registered = {.profile = &base->profile};
    ck_assert_int_eq(lineage_base_load(blobs, &content, &registered, &again, &note), ERR_OK);
    lineage_base_destroy(again);
    lineage_base_destroy(base);
    blob_close(blobs);
    test_folder_remove();
    random_model_free(&random);
    gguf_file_deinit(&file);
    buf_deinit(&data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gguf");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 120);
    tcase_add_loop_test(rules, test_same_model_as_a_folder, 0, VARIANTS * TYPES);
    tcase_add_test(rules, test_codes_are_used_as_they_are);
    tcase_add_test(rules, test_every_cut_is_an_error);
    tcase_add_loop_test(rules, test_refusals_name_what_they_refuse, 0, SPOIL_COUNT);
    tcase_add_test(rules, test_choice_and_values);
    tcase_add_test(rules, test_sentencepiece_of_metadata);
    tcase_add_test(rules, test_byte_level_of_metadata);
    tcase_add_test(rules, test_base_of_one_file);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
