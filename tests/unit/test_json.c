/* test_json.c - strict parsing, exact writing, and messages there and back. */
#include "shared/json/json.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "openledger/v1/events.pb-c.h"
#include "openledger/v1/ledger.pb-c.h"
#include "openledger/v1/objects.pb-c.h"
#include "shared/json/message.h"
#include "tests/harness/seed.h"

static struct note note;

static enum err parse(const char *text, struct json **out)
{
    note.text[0] = '\0';
    return json_parse(bytes_of_text(text), JSON_SIZE_MAX, out, &note);
}

START_TEST(test_parse_is_strict)
{
    struct json *root = NULL;
    static const char *const bad[] = {"",
                                      "{",
                                      "{\"a\":1,}",
                                      "[1 2]",
                                      "{\"a\":1,\"a\":2}",
                                      "nul",
                                      "\"\\u0000\"",
                                      "\"\xff\"",
                                      "01",
                                      "1 1",
                                      "99999999999999999999",
                                      "{'a':1}",
                                      "[NaN]",
                                      "\"\x01\""};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(parse(bad[i], &root) == ERR_INVALID, "%s", bad[i]);
        ck_assert_ptr_null(root);
    }
    ck_assert_uint_eq(parse("{\n \"a\": x}", &root), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(note.text, "line 2"));
    ck_assert_uint_eq(json_parse(bytes_of_text("[1]"), 2, &root, &note), ERR_LIMIT);
    char deep[2 * JSON_DEPTH_MAX + 3];
    for (int depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        memset(deep, '[', (size_t)depth);
        memset(deep + depth, ']', (size_t)depth);
        deep[2 * depth] = '\0';
        enum err err = parse(deep, &root);
        ck_assert_uint_eq(err, depth <= JSON_DEPTH_MAX ? ERR_OK : ERR_LIMIT);
        if (err == ERR_OK) {
            json_destroy(root);
        }
    }
}
END_TEST

START_TEST(test_typed_access)
{
    struct json *root = NULL;
    ck_assert_uint_eq(
        parse("{\"t\":\"x\",\"n\":-5,\"r\":1.5,\"b\":true,\"a\":[1,2],\"o\":{},\"z\":null}", &root),
        ERR_OK);
    const char *text = NULL;
    uint64_t u64 = 9;
    int64_t i64 = 0;
    double real = 0;
    bool boolean = false;
    const struct json *node = NULL;
    ck_assert_uint_eq(json_get_text(root, "t", &text, &note), ERR_OK);
    ck_assert_str_eq(text, "x");
    ck_assert_uint_eq(json_get_i64(root, "n", &i64, &note), ERR_OK);
    ck_assert_int_eq(i64, -5);
    ck_assert_uint_eq(json_get_u64(root, "n", &u64, &note), ERR_INVALID);
    ck_assert_str_eq(note.text, "\"n\" must be a whole number from 0 up");
    ck_assert_uint_eq(json_get_u64(root, "nope", &u64, &note), ERR_INVALID);
    ck_assert_str_eq(note.text, "\"nope\" is missing, must be a whole number from 0 up");
    ck_assert_uint_eq(json_get_text(root, "z", &text, &note), ERR_INVALID);
    ck_assert_uint_eq(json_opt_u64(root, "z", &u64, &note), ERR_OK);
    ck_assert_uint_eq(json_opt_u64(root, "t", &u64, &note), ERR_INVALID);
    ck_assert_uint_eq(u64, 9);
    ck_assert_uint_eq(json_get_double(root, "r", &real, &note), ERR_OK);
    ck_assert(real == 1.5);
    ck_assert_uint_eq(json_get_double(root, "n", &real, &note), ERR_OK);
    ck_assert_uint_eq(json_get_bool(root, "b", &boolean, &note), ERR_OK);
    ck_assert(boolean);
    ck_assert_uint_eq(json_get_array(root, "a", &node, &note), ERR_OK);
    ck_assert_uint_eq(json_count(node), 2);
    ck_assert_int_eq(json_as_i64(json_item(node, 1), 0), 2);
    ck_assert_ptr_null(json_item(node, 2));
    ck_assert_uint_eq(json_get_object(root, "a", &node, &note), ERR_INVALID);
    json_destroy(root);
}
END_TEST

START_TEST(test_writer)
{
    struct buf out;
    struct json_writer writer;
    buf_init(&out, 10000);
    json_writer_init(&writer, &out, false);
    json_begin_object(&writer);
    json_put_text(&writer, "text", "a\"\\\n\t\x01\xc3\xa9\xff");
    json_put_u64(&writer, "u", UINT64_MAX);
    json_put_i64(&writer, "i", INT64_MIN);
    json_put_double(&writer, "d", 0.1);
    json_put_double(&writer, "nan", (double)NAN);
    json_put_bool(&writer, "b", false);
    json_put_text(&writer, "null", NULL);
    json_write_key(&writer, "a");
    json_begin_array(&writer);
    json_begin_object(&writer);
    json_end_object(&writer);
    json_write_raw(&writer, bytes_of_text("[1]"));
    json_end_array(&writer);
    json_end_object(&writer);
    ck_assert_str_eq(buf_text(&out),
                     "{\"text\":\"a\\\"\\\\\\n\\t\\u0001\xc3\xa9\xef\xbf\xbd\","
                     "\"u\":18446744073709551615,\"i\":-9223372036854775808,\"d\":0.1,\"nan\":null,"
                     "\"b\":false,\"null\":null,\"a\":[{},[1]]}");
    buf_clear(&out);
    struct json *root = NULL;
    static const char PRETTY[] = "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": \"x\"\n}";
    ck_assert_uint_eq(parse(PRETTY, &root), ERR_OK);
    json_writer_init(&writer, &out, true);
    json_write_node(&writer, root);
    ck_assert_str_eq(buf_text(&out), PRETTY);
    json_destroy(root);
    for (int run = 0; run < 2000; run++) { /* any double reads back equal */
        union {
            uint64_t bits;
            double value;
        } number = {.bits = test_rand()};
        if (!isfinite(number.value)) {
            continue;
        }
        buf_clear(&out);
        json_writer_init(&writer, &out, false);
        json_write_double(&writer, number.value);
        ck_assert(strtod(buf_text(&out), NULL) == number.value);
    }
    buf_deinit(&out);
}
END_TEST

static enum err to_tx(const char *text, Openledger__V1__TxBody **out)
{
    ProtobufCMessage *message = NULL;
    note.text[0] = '\0';
    enum err err = json_to_message(bytes_of_text(text), 10000, &openledger__v1__tx_body__descriptor,
                                   NULL, &message, &note);
    *out = (Openledger__V1__TxBody *)(void *)message;
    return err;
}

static const char TX[] =
    "{\"chainId\":\"AAEC\",\"validUntilMs\":\"18446744073709551615\",\"createDatanet\":{"
    "\"name\":\"n\",\"permission\":\"PERMISSION_NOT_ALLOWED\",\"validators\":[\"AQ==\",\"\"]}}";

START_TEST(test_message_round_trip)
{
    Openledger__V1__TxBody *tx = NULL;
    ck_assert_msg(to_tx(TX, &tx) == ERR_OK, "%s", note.text);
    ck_assert_uint_eq(tx->chain_id.len, 3);
    ck_assert_uint_eq(tx->valid_until_ms, UINT64_MAX);
    ck_assert_int_eq(tx->action_case, OPENLEDGER__V1__TX_BODY__ACTION_CREATE_DATANET);
    ck_assert_uint_eq(tx->create_datanet->n_validators, 2);
    ck_assert_int_eq(tx->create_datanet->permission,
                     OPENLEDGER__V1__PERMISSION__PERMISSION_NOT_ALLOWED);
    struct buf out;
    buf_init(&out, 10000);
    ck_assert_uint_eq(json_from_message(&tx->base, 0, &out, &note), ERR_OK);
    ck_assert_str_eq(buf_text(&out), TX);

    /* The same through the wire: what JSON gave is a message like any other. */
    size_t size = protobuf_c_message_get_packed_size(&tx->base);
    uint8_t *packed = malloc(size);
    ck_assert_uint_eq(protobuf_c_message_pack(&tx->base, packed), size);
    ProtobufCMessage *back =
        protobuf_c_message_unpack(&openledger__v1__tx_body__descriptor, NULL, size, packed);
    buf_clear(&out);
    ck_assert_uint_eq(json_from_message(back, 0, &out, &note), ERR_OK);
    ck_assert_str_eq(buf_text(&out), TX);
    protobuf_c_message_free_unpacked(back, NULL);
    protobuf_c_message_free_unpacked(&tx->base, NULL);
    free(packed);

    buf_deinit(&out);
    buf_init(&out, 20);
    ck_assert_uint_eq(to_tx(TX, &tx), ERR_OK);
    ck_assert_uint_eq(json_from_message(&tx->base, 0, &out, &note), ERR_LIMIT);
    protobuf_c_message_free_unpacked(&tx->base, NULL);
    buf_deinit(&out);
}
END_TEST

START_TEST(test_message_forms_and_refusals)
{
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"[]", "TxBody must be a JSON object"},
        {"{\"nope\":1}", "nope: no such field"},
        {"{\"chain_id\":\"AA==\",\"chainId\":\"AA==\"}", "chain_id: is given under two names"},
        {"{\"chainId\":1}", "chainId: must be base64 text"},
        {"{\"chainId\":\"!\"}", "chainId: is not base64"},
        {"{\"validUntilMs\":-1}", "validUntilMs: is out of range"},
        {"{\"validUntilMs\":\"1x\"}", "validUntilMs: must be a whole number from 0 up"},
        {"{\"validUntilMs\":1.5}", "validUntilMs: must be a whole number"},
        {"{\"validUntilMs\":\"18446744073709551616\"}", "validUntilMs: must be a whole number"},
        {"{\"transfer\":{},\"bond\":{}}", "bond: only one of its kind is allowed"},
        {"{\"transfer\":[]}", "transfer: must be an object"},
        {"{\"transfer\":{\"amount\":5}}", "transfer.amount: must be text"},
        {"{\"createDatanet\":{\"validators\":\"AA==\"}}",
         "createDatanet.validators: must be an array"},
        {"{\"createDatanet\":{\"validators\":[\"AA==\",7]}}",
         "createDatanet.validators[1]: must be base64 text"},
        {"{\"createDatanet\":{\"permission\":\"NOPE\"}}",
         "createDatanet.permission: is not a known name"},
        {"{\"commitRows\":{\"rowCount\":4294967296}}", "commitRows.rowCount: is out of range"},
    };
    Openledger__V1__TxBody *tx = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(to_tx(bad[i].text, &tx) == ERR_INVALID, "%s", bad[i].text);
        ck_assert_msg(strstr(note.text, bad[i].why) == note.text, "%s: %s", bad[i].text, note.text);
        ck_assert_ptr_null(tx);
    }
    ck_assert_uint_eq(to_tx("{\"chain_id\":\"-_8\",\"valid_until_ms\":7,\"nonce\":null,"
                            "\"create_datanet\":{\"permission\":1}}",
                            &tx),
                      ERR_OK);
    ck_assert_uint_eq(tx->chain_id.data[1], 0xff);
    ck_assert_uint_eq(tx->valid_until_ms, 7);
    ck_assert_int_eq(tx->create_datanet->permission, 1);
    protobuf_c_message_free_unpacked(&tx->base, NULL);

    Openledger__V1__TrainProgress progress = OPENLEDGER__V1__TRAIN_PROGRESS__INIT;
    ProtobufCMessage *message = NULL;
    struct buf out;
    buf_init(&out, 1000);
    progress.loss = (double)INFINITY;
    progress.learning_rate = 0.001;
    ck_assert_uint_eq(json_from_message(&progress.base, 0, &out, &note), ERR_OK);
    ck_assert_str_eq(buf_text(&out), "{\"loss\":\"Infinity\",\"learningRate\":0.001}");
    ck_assert_uint_eq(
        json_to_message(buf_bytes(&out), 1000, progress.base.descriptor, NULL, &message, &note),
        ERR_OK);
    ck_assert(isinf(((Openledger__V1__TrainProgress *)(void *)message)->loss));
    protobuf_c_message_free_unpacked(message, NULL);
    buf_clear(&out);
    Openledger__V1__DatasetVersion version = OPENLEDGER__V1__DATASET_VERSION__INIT;
    ck_assert_uint_eq(json_from_message(&version.base, JSON_MESSAGE_DEFAULTS, &out, &note), ERR_OK);
    ck_assert_ptr_nonnull(strstr(buf_text(&out), "\"datanet\":\"\",\"version\":0,"));
    ck_assert_ptr_nonnull(strstr(buf_text(&out), "\"rowIndex\":[]"));
    buf_deinit(&out);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("json");
    TCase *rules = tcase_create("rules");
    tcase_add_test(rules, test_parse_is_strict);
    tcase_add_test(rules, test_typed_access);
    tcase_add_test(rules, test_writer);
    tcase_add_test(rules, test_message_round_trip);
    tcase_add_test(rules, test_message_forms_and_refusals);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
