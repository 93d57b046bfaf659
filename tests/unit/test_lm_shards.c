/* test_lm_shards.c - a model in several files: the same as in one, and every contradiction between
 * index, files and config refused by name, before memory is taken for what they promise. */
#include "shared/lm/weights.h"
#include "tests/harness/lm_random.h"

enum { FIRST_TENSORS = 9, FILES = 4 };

/* config.json, index, two shards: as a user would bring them. */
struct sharded {
    struct random_model random;
    struct buf texts[FILES];
    struct lm_file files[FILES + 1];
    uint32_t count;
};

static const char *const SHARDS[2] = {"model-00001-of-00002.safetensors",
                                      "model-00002-of-00002.safetensors"};

static void index_entry(struct buf *index, const char *tensor, const char *file)
{
    bool first = index->data[index->size - 1] == '{';
    (void)buf_append_text(index, first ? "\"" : ",\"");
    (void)buf_append_text(index, tensor);
    (void)buf_append_text(index, "\":\"");
    (void)buf_append_text(index, file);
    (void)buf_append_text(index, "\"");
}

/* Writes the shards; the tensors of random may have been changed before. */
static void shards_write(struct sharded *sharded)
{
    const struct random_model *random = &sharded->random;
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t begin = i == 0 ? 0 : FIRST_TENSORS;
        uint32_t count = i == 0 ? FIRST_TENSORS : random->count - FIRST_TENSORS;
        buf_clear(&sharded->texts[2 + i]);
        ck_assert_int_eq(safetensors_write(random->tensors + begin, count, &sharded->texts[2 + i]),
                         ERR_OK);
        sharded->files[2 + i] = (struct lm_file){SHARDS[i], buf_bytes(&sharded->texts[2 + i])};
    }
}

static void sharded_init(struct sharded *sharded)
{
    struct lm_config config = random_config(LM_LLAMA);
    *sharded = (struct sharded){.count = FILES};
    random_model_make(&sharded->random, &config);
    for (uint32_t i = 0; i < FILES; i++) {
        buf_init(&sharded->texts[i], (size_t)16 << 20);
    }
    ck_assert_int_eq(lm_config_write(&config, &sharded->texts[0]), ERR_OK);
    (void)buf_append_text(&sharded->texts[1], "{\"weight_map\":{");
    for (uint32_t t = 0; t < sharded->random.count; t++) {
        index_entry(&sharded->texts[1], sharded->random.names[t], SHARDS[t >= FIRST_TENSORS]);
    }
    ck_assert_int_eq(buf_append_text(&sharded->texts[1], "}}"), ERR_OK);
    sharded->files[0] = (struct lm_file){"config.json", buf_bytes(&sharded->texts[0])};
    sharded->files[1] = (struct lm_file){LM_INDEX, buf_bytes(&sharded->texts[1])};
    shards_write(sharded);
}

static void sharded_deinit(struct sharded *sharded)
{
    for (uint32_t i = 0; i < FILES; i++) {
        buf_deinit(&sharded->texts[i]);
    }
    random_model_free(&sharded->random);
}

/* The same text with the first `old` in it replaced. */
static void text_replace(struct sharded *sharded, uint32_t file, const char *old, const char *new)
{
    struct buf *text = &sharded->texts[file];
    struct buf changed;
    buf_init(&changed, (size_t)16 << 20);
    const uint8_t *at = memmem(text->data, text->size, old, strlen(old));
    ck_assert_ptr_nonnull(at);
    size_t before = (size_t)(at - text->data);
    (void)buf_append(&changed, text->data, before);
    (void)buf_append_text(&changed, new);
    ck_assert_int_eq(buf_append(&changed, at + strlen(old), text->size - before - strlen(old)),
                     ERR_OK);
    buf_deinit(text);
    *text = changed;
    sharded->files[file].data = buf_bytes(text);
}

static void expect(const struct sharded *sharded, enum err want, const char *words)
{
    struct lm_model *model = NULL;
    struct note note = {""};
    enum err err = lm_model_open(sharded->files, sharded->count, NULL, &model, &note);
    ck_assert_msg(err == want && strstr(note.text, words) != NULL, "%s, wanted '%s': %s",
                  err_name(err), words, note.text);
    ck_assert_ptr_null(model);
}

START_TEST(test_same_as_one_file)
{
    struct sharded sharded;
    struct lm_model *model = NULL;
    struct note note = {""};
    struct digest digests[2];
    sharded_init(&sharded);
    struct lm_model *single = random_model_load(&sharded.random, NULL);
    for (uint32_t i = 0; i < FILES; i++) { /* in whatever order the files come */
        struct lm_file first = sharded.files[0];
        memmove(sharded.files, sharded.files + 1, (FILES - 1) * sizeof first);
        sharded.files[FILES - 1] = first;
        enum err err = lm_model_open(sharded.files, FILES, NULL, &model, &note);
        ck_assert_msg(err == ERR_OK, "%s", note.text);
        lm_model_digest(single, &digests[0]);
        lm_model_digest(model, &digests[1]);
        ck_assert(digest_equal(&digests[0], &digests[1]));
        lm_model_destroy(model);
    }
    lm_model_destroy(single);
    sharded_deinit(&sharded);
}
END_TEST

/* What an index may say wrong: a text in it, what it becomes, and what the error names. */
START_TEST(test_indexes)
{
    static const struct {
        const char *old, *new, *words;
    } CASES[] = {
        {"\"model.norm.weight\":\"model-00002", "\"model.norm.weight\":\"model-00001",
         "'model.norm.weight' is not in 'model-00001-of-00002.safetensors'"},
        {"\"model.norm.weight\":", "\"model.noise.weight\":",
         "'model.noise.weight' is not in 'model-00002-of-00002.safetensors'"},
        {"model-00002-of-00002.safetensors", "model-00003-of-00002.safetensors",
         "no file 'model-00003-of-00002.safetensors'"},
        {"model-00002-of-00002.safetensors", "../model-00002-of-00002.safetensors",
         "'../model-00002-of-00002.safetensors', which is no file"},
        {"model-00002-of-00002.safetensors", "/model-00002-of-00002.safetensors", "is no file"},
        {"\"model-00002-of-00002.safetensors\"", "[\"model-00002-of-00002.safetensors\"]",
         "is no file"},
        {"model-00002-of-00002.safetensors", "config.json", "is no file"},
        {"\"model.norm.weight\":", "\"model.layers.0.mlp.up_proj.weight\":", LM_INDEX},
        {",\"model.norm.weight\":\"model-00002-of-00002.safetensors\"", "", "its files hold "},
        {"{\"weight_map\"", "[\"weight_map\"", LM_INDEX},
        {"\"weight_map\"", "\"weights\"", "weight_map"},
        {"\"weight_map\":{", "\"weight_map\":7,\"rest\":{", "weight_map"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct sharded sharded;
        sharded_init(&sharded);
        text_replace(&sharded, 1, CASES[i].old, CASES[i].new);
        expect(&sharded, ERR_INVALID, CASES[i].words);
        sharded_deinit(&sharded);
    }
}
END_TEST

/* A shard that is cut names itself; one tensor in both is not a choice. */
START_TEST(test_files)
{
    struct sharded sharded;
    sharded_init(&sharded);
    sharded.files[3].data.size -= 2;
    expect(&sharded, ERR_INVALID, SHARDS[1]);
    sharded.files[3].data.size = 5;
    expect(&sharded, ERR_INVALID, SHARDS[1]);
    sharded.count = 3;
    expect(&sharded, ERR_INVALID, SHARDS[1]);
    sharded.count = 2;
    expect(&sharded, ERR_INVALID, SHARDS[0]);
    sharded.count = 1;
    expect(&sharded, ERR_NOT_FOUND, LM_INDEX);
    sharded.count = FILES;
    shards_write(&sharded);
    struct safetensors_source *twice = &sharded.random.tensors[FIRST_TENSORS];
    const char *name = twice->name;
    text_replace(&sharded, 1, name, "gone");
    text_replace(&sharded, 1, ",\"gone\":\"model-00002-of-00002.safetensors\"", "");
    twice->name = sharded.random.names[1]; /* which the first shard has */
    shards_write(&sharded);
    expect(&sharded, ERR_INVALID, "its files hold ");
    twice->name = name;
    sharded_deinit(&sharded);
}
END_TEST

/* Tensors that are not what the architecture has. */
START_TEST(test_tensors)
{
    struct sharded sharded;
    sharded_init(&sharded);
    struct safetensors_source *query = &sharded.random.tensors[1];
    struct safetensors_source good = *query;
    ck_assert_str_eq(good.name, "model.layers.0.self_attn.q_proj.weight");
    ck_assert_uint_eq(good.dims[0], good.dims[1]);
    query->dims[0] = good.dims[0] / 2;
    query->dims[1] = good.dims[1] * 2;
    shards_write(&sharded);
    expect(&sharded, ERR_INVALID, "'model.layers.0.self_attn.q_proj.weight' is not 40 x 40");
    *query = good;
    query->dim_count = 1;
    query->dims[0] = good.dims[0] * good.dims[1];
    shards_write(&sharded);
    expect(&sharded, ERR_INVALID, "'model.layers.0.self_attn.q_proj.weight' is not 40 x 40");
    *query = good;
    query->dim_count = 3;
    query->dims[2] = 1;
    shards_write(&sharded);
    expect(&sharded, ERR_INVALID,
           "'model.layers.0.self_attn.q_proj.weight' is no matrix and no vector");
    *query = good;
    shards_write(&sharded);
    text_replace(&sharded, 2, "BF16", "BOOL");
    expect(&sharded, ERR_INVALID, "has dtype 'BOOL'");
    shards_write(&sharded);
    text_replace(&sharded, 2, "\"model.embed_tokens.weight\"", "\"model.embed_tokens.height\"");
    text_replace(&sharded, 1, "\"model.embed_tokens.weight\"", "\"model.embed_tokens.height\"");
    expect(&sharded, ERR_INVALID, "");
    sharded_deinit(&sharded);
}
END_TEST

/* Files of a few kilobytes under a config of a hundred billion weights; too many files. */
START_TEST(test_promises)
{
    struct sharded sharded;
    struct lm_file many[LM_FILES_MAX + 1];
    struct lm_weights weights = {0};
    struct note note = {""};
    sharded_init(&sharded);
    struct lm_config config = sharded.random.config;
    config.hidden = LM_HIDDEN_MAX;
    config.ffn = LM_FFN_MAX;
    config.layer_count = LM_LAYERS_MAX;
    config.head_count = LM_HEADS_MAX;
    config.kv_head_count = LM_HEADS_MAX;
    config.head_dim = LM_HEAD_DIM_MAX;
    config.vocab = LM_VOCAB_MAX;
    config.context = LM_CONTEXT_MAX;
    buf_clear(&sharded.texts[0]);
    ck_assert_int_eq(lm_config_write(&config, &sharded.texts[0]), ERR_OK);
    sharded.files[0].data = buf_bytes(&sharded.texts[0]);
    expect(&sharded, ERR_INVALID, "the files hold ");
    for (uint32_t i = 0; i <= LM_FILES_MAX; i++) {
        many[i] = sharded.files[i % FILES];
    }
    ck_assert_int_eq(lm_weights_init(&weights, many, LM_FILES_MAX + 1, &note), ERR_RANGE);
    ck_assert_ptr_nonnull(strstr(note.text, "257 files, at most 256"));
    sharded_deinit(&sharded);
}
END_TEST

START_TEST(test_names)
{
    static const char *const GOOD[] = {"a", "model.safetensors", "x-1_2~", "a..b"};
    static const char *const BAD[] = {"",     ".",   "..",   ".x",   "a/b",      "../x",
                                      "/etc", "a b", "a\nb", "\x7f", "a\xc3\xa4"};
    char longest[LM_FILE_NAME_MAX + 2] = "";
    for (size_t i = 0; i < sizeof GOOD / sizeof GOOD[0]; i++) {
        ck_assert_msg(lm_file_name_ok(GOOD[i]), "%s", GOOD[i]);
    }
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        ck_assert_msg(!lm_file_name_ok(BAD[i]), "%s", BAD[i]);
    }
    memset(longest, 'x', LM_FILE_NAME_MAX);
    ck_assert(lm_file_name_ok(longest));
    longest[LM_FILE_NAME_MAX] = 'x';
    ck_assert(!lm_file_name_ok(longest));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lm_shards");
    TCase *tcase = tcase_create("all");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, test_same_as_one_file);
    tcase_add_test(tcase, test_indexes);
    tcase_add_test(tcase, test_files);
    tcase_add_test(tcase, test_tensors);
    tcase_add_test(tcase, test_promises);
    tcase_add_test(tcase, test_names);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
