/* test_lm_files.c - config.json, safetensors and PEFT folders: round trips and hostile bytes. */
#include <math.h>

#include "shared/base/check.h"
#include "shared/lm/adapter.h"
#include "shared/lm/safetensors.h"
#include "tests/harness/lm_fixture.h"

#define SMALL                                                                                      \
    "\"hidden_size\": 8, \"intermediate_size\": 12, \"num_hidden_layers\": 1, "                    \
    "\"num_attention_heads\": 2, \"vocab_size\": 10"

#define OTHERS ", \"num_key_value_heads\": 2, \"max_position_embeddings\": 9000"

#define SCALING(factor)                                                                            \
    "{\"rope_type\": \"llama3\", \"factor\": " #factor ", \"low_freq_factor\": 1.0, "              \
    "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}"

START_TEST(test_config_round_trip_and_refusals)
{
    struct lm_config config;
    struct note note = {0};
    ck_assert_int_eq(lm_config_parse(bytes_of_text("{" SMALL "}"), &config, &note), ERR_OK);
    ck_assert_uint_eq(config.kv_head_count, 2);
    ck_assert_uint_eq(config.head_dim, 4);
    ck_assert(!config.tied);
    ck_assert_uint_eq(config.eos, LM_NO_TOKEN);
    struct lm_config made = fixture_config(true);
    struct lm_config back;
    struct buf text;
    buf_init(&text, 65536);
    ck_assert_int_eq(lm_config_write(&made, &text), ERR_OK);
    ck_assert_int_eq(lm_config_parse(buf_bytes(&text), &back, &note), ERR_OK);
    ck_assert_uint_eq(back.head_dim, made.head_dim);
    ck_assert_uint_eq(back.context, made.context);
    ck_assert(back.norm_epsilon == made.norm_epsilon && back.rope_theta == made.rope_theta);
    ck_assert(back.tied && back.eos == 0 && back.bos == LM_NO_TOKEN);
    buf_deinit(&text);

    static const struct {
        const char *json, *named;
    } BAD[] = {
        {"[]", "object"},
        {"{", "config.json"},
        {"{\"hidden_size\": 8}", "intermediate_size"},
        {"{" SMALL ", \"hidden_act\": \"gelu\"}", "hidden_act"},
        {"{" SMALL ", \"model_type\": \"gpt2\"}", "model_type"},
        {"{" SMALL ", \"model_type\": \"mistral\"}", "num_key_value_heads"},
        {"{" SMALL ", \"architectures\": [\"LlamaModel\"]}", "'LlamaModel'"},
        {"{" SMALL ", \"num_experts\": 8}", "num_experts is 8"},
        {"{" SMALL ", \"sliding_window\": 64}", "sliding_window is 64"},
        {"{" SMALL ", \"quantization_config\": {}}", "quantization_config"},
        {"{" SMALL ", \"partial_rotary_factor\": 0.5}", "partial_rotary_factor is 0.5"},
        {"{" SMALL ", \"pretraining_tp\": 2}", "pretraining_tp is 2"},
        {"{" SMALL ", \"rope_interleaved\": true}", "rope_interleaved"},
        {"{" SMALL ", \"model_type\": \"qwen3\", \"attention_bias\": true}", "attention_bias"},
        {"{" SMALL ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}", "linear"},
        {"{" SMALL ", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}}", "dynamic"},
        {"{" SMALL ", \"rope_parameters\": {\"rope_type\": \"longrope\"}}", "longrope"},
        {"{" SMALL ", \"rope_scaling\": {\"rope_type\": \"yarn\"}}", "yarn"},
        {"{" SMALL ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}}",
         "low_freq_factor"},
        {"{" SMALL ", \"rope_scaling\": " SCALING(0.5) "}", "factor"},
        {"{" SMALL ", \"rope_scaling\": " SCALING(1e9) "}", "factor"},
        {"{" SMALL ", \"layer_types\": [\"sliding_attention\"]}", "layer_types"},
        {"{" SMALL ", \"attention_bias\": true}", "attention_bias"},
        {"{" SMALL ", \"mlp_bias\": true}", "mlp_bias"},
        {"{" SMALL ", \"rope_scaling\": {\"factor\": 2}}", "rope_scaling"},
        {"{" SMALL ", \"num_key_value_heads\": 3}", "key-value"},
        {"{" SMALL ", \"head_dim\": 3}", "head_dim"},
        {"{" SMALL ", \"max_position_embeddings\": 99999999}", "max_position_embeddings"},
        {"{" SMALL ", \"max_position_embeddings\": 0}", "max_position_embeddings"},
        {"{" SMALL ", \"rms_norm_eps\": 0}", "rms_norm_eps"},
        {"{" SMALL ", \"eos_token_id\": 10}", "eos"},
        {"{" SMALL ", \"eos_token_id\": -1}", "eos"},
        {"{" SMALL ", \"head_dim\": 4294967296}", "head_dim"},
    };
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        enum err err = lm_config_parse(bytes_of_text(BAD[i].json), &config, &note);
        ck_assert_msg(err != ERR_OK && strstr(note.text, BAD[i].named) != NULL, "%s: %s",
                      BAD[i].json, note.text);
    }
}
END_TEST

/* What published files of each family say, read, written and read again. */
START_TEST(test_config_of_each_architecture)
{
    static const struct {
        const char *json;
        enum lm_architecture architecture;
        uint32_t context, head_dim;
        bool scaled;
    } KNOWN[] = {
        {"{" SMALL ", \"rope_interleaved\": false, \"torch_dtype\": \"bfloat16\"}", LM_LLAMA, 2048,
         4, false},
        {"{" SMALL ", \"max_position_embeddings\": 131072, \"rope_scaling\": " SCALING(8.0) "}",
         LM_LLAMA, 131072, 4, true},
        {"{" SMALL OTHERS ", \"model_type\": \"mistral\", \"sliding_window\": null}", LM_MISTRAL,
         9000, 4, false},
        {"{" SMALL OTHERS ", \"model_type\": \"mistral\", \"sliding_window\": 64}", LM_MISTRAL, 64,
         4, false},
        {"{" SMALL OTHERS ", \"model_type\": \"mistral\"}", LM_MISTRAL, 4096, 4, false},
        {"{" SMALL OTHERS ", \"model_type\": \"qwen2\", \"use_sliding_window\": false, "
         "\"sliding_window\": 32, \"max_window_layers\": 21}",
         LM_QWEN2, 9000, 4, false},
        {"{" SMALL OTHERS ", \"model_type\": \"qwen2\", \"use_sliding_window\": true, "
         "\"sliding_window\": 32}",
         LM_QWEN2, 32, 4, false},
        {"{" SMALL OTHERS ", \"model_type\": \"qwen3\"}", LM_QWEN3, 9000, 128, false},
        {"{" SMALL OTHERS ", \"model_type\": \"qwen3\", \"head_dim\": 6, \"rope_parameters\": "
         "{\"rope_theta\": 1000000, \"rope_type\": \"default\"}}",
         LM_QWEN3, 9000, 6, false},
    };
    for (size_t i = 0; i < sizeof KNOWN / sizeof KNOWN[0]; i++) {
        struct lm_config config;
        struct lm_config back;
        struct note note = {0};
        enum err err = lm_config_parse(bytes_of_text(KNOWN[i].json), &config, &note);
        ck_assert_msg(err == ERR_OK, "%s: %s", KNOWN[i].json, note.text);
        struct buf text;
        buf_init(&text, 65536);
        ck_assert_int_eq(lm_config_write(&config, &text), ERR_OK);
        err = lm_config_parse(buf_bytes(&text), &back, &note);
        ck_assert_msg(err == ERR_OK, "%s: %s", buf_text(&text), note.text);
        ck_assert_int_eq(back.architecture, KNOWN[i].architecture);
        ck_assert_uint_eq(back.context, KNOWN[i].context);
        ck_assert_uint_eq(back.head_dim, KNOWN[i].head_dim);
        ck_assert((back.rope.factor == 8.0F) == KNOWN[i].scaled);
        ck_assert_mem_eq(&back.rope, &config.rope, sizeof back.rope);
        ck_assert(back.rope_theta == config.rope_theta);
        buf_deinit(&text);
    }
}
END_TEST

/* A file made of a header text and size bytes of data. */
static void file_make(struct buf *out, const char *header, size_t data_size)
{
    buf_init(out, 1 << 20);
    (void)buf_append_u64le(out, strlen(header));
    (void)buf_append_text(out, header);
    for (size_t i = 0; i < data_size; i++) {
        (void)buf_append_byte(out, (uint8_t)i);
    }
    ck_assert_int_eq(buf_err(out), ERR_OK);
}

START_TEST(test_hostile_safetensors)
{
    static const struct {
        const char *header;
        size_t data_size;
        bool good;
    } CASES[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, true},
        {"{}", 0, true},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, true},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, true},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, false},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9, false},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, false},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, false},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, false},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, false},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 0,
         false},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]}}", 4,
         false},
        {"{\"a\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8, false},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, false},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, false},
        {"{\"a\":7}", 0, false},
        {"[1]", 0, false},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[2,6]}}",
         6, false},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[6,8]}}",
         8, false},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]},"
         "\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[4,8]}}",
         8, false},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct buf file;
        struct safetensors set;
        struct note note = {0};
        file_make(&file, CASES[i].header, CASES[i].data_size);
        enum err err = safetensors_init(&set, buf_bytes(&file), &note);
        ck_assert_msg((err == ERR_OK) == CASES[i].good, "case %zu: %s", i, note.text);
        if (err == ERR_OK) {
            safetensors_deinit(&set);
        } else {
            ck_assert_uint_gt(strlen(note.text), 0);
        }
        buf_deinit(&file);
    }
    const uint8_t huge[8] = {255, 255, 255, 255, 255, 255, 255, 255};
    struct safetensors set;
    ck_assert_int_eq(safetensors_init(&set, (struct bytes){huge, 8}, NULL), ERR_INVALID);
    ck_assert_int_eq(safetensors_init(&set, (struct bytes){huge, 3}, NULL), ERR_INVALID);
    ck_assert_int_eq(safetensors_init(&set, (struct bytes){NULL, 0}, NULL), ERR_INVALID);
}
END_TEST

START_TEST(test_half_precision_is_widened_exactly)
{
    static const struct {
        uint16_t bits;
        float value;
    } HALVES[] = {{0x3c00, 1.0F},        {0xc000, -2.0F},        {0x7bff, 65504.0F},
                  {0x0001, 0x1p-24F},    {0x03ff, 0x1.ff8p-15F}, {0x0400, 0x1p-14F},
                  {0x3555, 0x1.554p-2F}, {0x7c00, INFINITY},     {0x8000, -0.0F}};
    for (size_t i = 0; i < sizeof HALVES / sizeof HALVES[0]; i++) {
        struct safetensors_tensor tensor = {
            .type = SAFETENSORS_F16, .count = 1, .data = {(const uint8_t *)&HALVES[i].bits, 2}};
        float got = 0.0F;
        safetensors_read(&tensor, &got);
        ck_assert(got == HALVES[i].value && signbit(got) == signbit(HALVES[i].value));
    }
}
END_TEST

START_TEST(test_model_round_trip_and_cut_files)
{
    struct lm_model *model = fixture_model(NULL);
    struct lm_model *back = NULL;
    struct buf config;
    struct buf weights;
    struct note note = {0};
    struct digest digest[2];
    buf_init(&config, 65536);
    buf_init(&weights, 1 << 24);
    ck_assert_int_eq(lm_config_write(lm_model_config(model), &config), ERR_OK);
    ck_assert_int_eq(lm_model_export(model, &weights), ERR_OK);
    enum err err = lm_model_load(buf_bytes(&config), buf_bytes(&weights), NULL, &back, &note);
    ck_assert_msg(err == ERR_OK, "%s", note.text);
    lm_model_digest(model, &digest[0]);
    lm_model_digest(back, &digest[1]);
    ck_assert(digest_equal(&digest[0], &digest[1]));
    lm_model_destroy(back);
    for (size_t size = 0; size < weights.size; size += 1 + weights.size / 97) {
        struct bytes cut = {weights.data, size};
        ck_assert_int_ne(lm_model_load(buf_bytes(&config), cut, NULL, &back, &note), ERR_OK);
    }
    /* A weight that is not finite: the last bf16 of the file. */
    weights.data[weights.size - 1] = 0x7f;
    weights.data[weights.size - 2] = 0x80;
    ck_assert_int_eq(lm_model_load(buf_bytes(&config), buf_bytes(&weights), NULL, &back, &note),
                     ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(note.text, "finite"));
    struct lm_config other = *lm_model_config(model);
    other.ffn += 1;
    buf_clear(&config);
    ck_assert_int_eq(lm_config_write(&other, &config), ERR_OK);
    ck_assert_int_eq(lm_model_load(buf_bytes(&config), buf_bytes(&weights), NULL, &back, &note),
                     ERR_INVALID);
    buf_deinit(&config);
    buf_deinit(&weights);
    lm_model_destroy(model);
}
END_TEST

START_TEST(test_peft_round_trip)
{
    struct lm_model *model = fixture_model(NULL);
    static const uint32_t TARGETS[] = {LM_TARGETS_ALL, 1U << LM_Q | 1U << LM_V, 1U << LM_DOWN};
    for (size_t i = 0; i < sizeof TARGETS / sizeof TARGETS[0]; i++) {
        struct lm_adapter *adapter = fixture_adapter(model, 4, TARGETS[i], 8);
        struct lm_adapter *back = NULL;
        struct buf config;
        struct buf weights;
        struct note note = {0};
        struct digest digest[2];
        buf_init(&config, 65536);
        buf_init(&weights, 1 << 24);
        ck_assert_int_eq(lm_adapter_export(adapter, "base", &config, &weights), ERR_OK);
        enum err err =
            lm_adapter_import(model, buf_bytes(&config), buf_bytes(&weights), &back, &note);
        ck_assert_msg(err == ERR_OK, "%s", note.text);
        lm_adapter_digest(adapter, &digest[0]);
        lm_adapter_digest(back, &digest[1]);
        ck_assert(digest_equal(&digest[0], &digest[1]));
        uint64_t size = lm_adapter_size(lm_model_config(model), lm_adapter_get_config(adapter));
        ck_assert_mem_eq(lm_adapter_vector(adapter), lm_adapter_vector(back), size * sizeof(float));
        struct safetensors set;
        ck_assert_int_eq(safetensors_init(&set, buf_bytes(&weights), NULL), ERR_OK);
        ck_assert_ptr_nonnull(safetensors_find(
            &set, i < 2 ? "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
                        : "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight"));
        safetensors_deinit(&set);
        lm_adapter_destroy(back);
        lm_adapter_destroy(adapter);
        buf_deinit(&config);
        buf_deinit(&weights);
    }
    lm_model_destroy(model);
}
END_TEST

START_TEST(test_peft_refusals_name_the_field)
{
    struct lm_model *model = fixture_model(NULL);
    struct lm_adapter *adapter = fixture_adapter(model, 4, 1U << LM_Q, 8);
    struct lm_adapter *back = NULL;
    struct buf config;
    struct buf weights;
    buf_init(&config, 65536);
    buf_init(&weights, 1 << 24);
    ck_assert_int_eq(lm_adapter_export(adapter, "base", &config, &weights), ERR_OK);
#define LORA "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 8, \"target_modules\": "
    static const struct {
        const char *json, *named;
    } BAD[] = {
        {LORA "[\"q_proj\"], \"use_dora\": true}", "use_dora"},
        {LORA "[\"q_proj\"], \"use_rslora\": 1}", "use_rslora"},
        {LORA "[\"q_proj\"], \"alpha_pattern\": {\"q_proj\": 2}}", "alpha_pattern"},
        {LORA "[\"q_proj\"], \"fan_in_fan_out\": true}", "fan_in_fan_out"},
        {LORA "[\"q_proj\"], \"alora_invocation_tokens\": [1]}", "alora_invocation_tokens"},
        {LORA "[\"q_proj\"], \"init_lora_weights\": \"pissa_niter_4\"}", "pissa_niter_4"},
        {LORA "\".*q_proj\"}", "target_modules"},
        {LORA "[\"q_proj\"], \"bias\": \"all\"}", "bias"},
        {LORA "[\"q_proj\"], \"modules_to_save\": [\"lm_head\"]}", "modules_to_save"},
        {LORA "[\"q_proj\"], \"rank_pattern\": {\"q_proj\": 2}}", "rank_pattern"},
        {LORA "[\"lm_head\"]}", "lm_head"},
        {LORA "[]}", "target"},
        {LORA "[\"k_proj\"]}", "q_proj"},
        {"{\"peft_type\": \"IA3\", \"r\": 4}", "IA3"},
        {"{\"peft_type\": \"LORA\", \"r\": 5, \"lora_alpha\": 8, \"target_modules\": [\"q_proj\"]}",
         "q_proj"},
        {"{\"peft_type\": \"LORA\", \"r\": 9999, \"lora_alpha\": 8, "
         "\"target_modules\": [\"q_proj\"]}",
         "rank"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 0, \"target_modules\": [\"q_proj\"]}",
         "alpha"},
    };
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        struct note note = {0};
        enum err err =
            lm_adapter_import(model, bytes_of_text(BAD[i].json), buf_bytes(&weights), &back, &note);
        ck_assert_msg(err != ERR_OK && strstr(note.text, BAD[i].named) != NULL, "%s: %s",
                      BAD[i].json, note.text);
    }
    struct note note = {0};
    ck_assert_int_eq(lm_adapter_import(model, bytes_of_text(LORA "[\"q_proj\", \"v_proj\"]}"),
                                       buf_bytes(&weights), &back, &note),
                     ERR_OK); /* a target without tensors changes nothing */
    lm_adapter_destroy(back);
    ck_assert_msg(lm_adapter_import(model,
                                    bytes_of_text(LORA "[\"q_proj\"], \"use_rslora\": true, "
                                                       "\"init_lora_weights\": \"gaussian\", "
                                                       "\"layers_to_transform\": [0, 1], "
                                                       "\"peft_version\": \"0.17.1\", "
                                                       "\"use_dora\": false}"),
                                    buf_bytes(&weights), &back, &note) == ERR_OK,
                  "%s", note.text);
    ck_assert(lm_adapter_get_config(back)->alpha == 16.0F); /* 8 sqrt(4): scale 8 / sqrt(4) */
    lm_adapter_destroy(back);
    lm_adapter_destroy(adapter);
    lm_model_destroy(model);
    buf_deinit(&config);
    buf_deinit(&weights);
}
END_TEST

/* Known answers of Random123's kat_vectors for philox4x32-10. */
START_TEST(test_philox_published_vectors)
{
    struct philox_block zero = philox_rounds((struct philox_block){{0, 0, 0, 0}}, 0, 0);
    const uint32_t want_zero[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    ck_assert_mem_eq(zero.word, want_zero, sizeof want_zero);
    struct philox_block ones =
        philox_rounds((struct philox_block){{UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX}},
                      UINT32_MAX, UINT32_MAX);
    const uint32_t want_ones[4] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    ck_assert_mem_eq(ones.word, want_ones, sizeof want_ones);
    struct philox_block pi =
        philox_rounds((struct philox_block){{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
                      0xa4093822, 0x299f31d0);
    const uint32_t want_pi[4] = {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1};
    ck_assert_mem_eq(pi.word, want_pi, sizeof want_pi);
    uint32_t order[50];
    bool seen[50] = {false};
    philox_permutation(3, PHILOX_SHUFFLE, 50, order);
    for (uint32_t i = 0; i < 50; i++) {
        ck_assert(order[i] < 50 && !seen[order[i]]);
        seen[order[i]] = true;
        float value = philox_signed(3, PHILOX_DEMO, i);
        ck_assert(value >= -1.0F && value < 1.0F);
        ck_assert_uint_lt(philox_below(3, PHILOX_DEMO, i, 7), 7);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lm_files");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 120);
    tcase_add_test(rules, test_config_round_trip_and_refusals);
    tcase_add_test(rules, test_config_of_each_architecture);
    tcase_add_test(rules, test_hostile_safetensors);
    tcase_add_test(rules, test_half_precision_is_widened_exactly);
    tcase_add_test(rules, test_model_round_trip_and_cut_files);
    tcase_add_test(rules, test_peft_round_trip);
    tcase_add_test(rules, test_peft_refusals_name_the_field);
    tcase_add_test(rules, test_philox_published_vectors);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
