/* test_lora_gateway.c - the gateway's pure parts: requests, stop sequences, holds, numbers, recovery.
 *
 * Method: tables of good and hostile requests; the stop filter against cutting the finished text; a
 * random life of a gateway, recorded, whose journal is then cut at every record: from each prefix a
 * new gateway must go on with money conserved and numbers without gaps. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/lora-gateway/gateway.h"
#include "services/lora-gateway/openai.h"
#include "services/lora-gateway/stops.h"
#include "services/lora-gateway/store.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"
#include "tests/harness/seed.h"

/* ---- requests ------------------------------------------------------------------------------------ */

static enum err parse(const char *text, bool chat, struct openai_request *request,
                      struct openai_error *error)
{
    memset(error, 0, sizeof *error);
    return openai_request_parse(bytes_of_text(text), chat, request, error);
}

START_TEST(test_request_whole)
{
    struct openai_request request;
    struct openai_error error;
    const char *text =
        "{\"model\":\"m\",\"messages\":[{\"role\":\"developer\",\"content\":\"be brief\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Hi \"},"
        "{\"type\":\"text\",\"text\":\"there\"}]}],\"max_completion_tokens\":7,"
        "\"temperature\":0,\"top_p\":0.5,\"top_k\":3,\"seed\":-1,\"stop\":[\"a\",\"b\"],"
        "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"user\":\"u\",\"n\":1,"
        "\"logprobs\":false,\"tools\":[],\"presence_penalty\":0,\"response_format\":"
        "{\"type\":\"text\"},\"logit_bias\":null}";
    ck_assert_uint_eq(parse(text, true, &request, &error), ERR_OK);
    ck_assert_str_eq(request.model, "m");
    ck_assert_uint_eq(request.message_count, 2);
    ck_assert_int_eq((int)request.messages[0].role, LM_ROLE_SYSTEM);
    ck_assert(bytes_equal(request.messages[1].content, bytes_of_text("Hi there")));
    ck_assert_uint_eq(request.max_tokens, 7);
    ck_assert(request.temperature == 0.0);
    ck_assert(request.top_p == 0.5);
    ck_assert_uint_eq(request.top_k, 3);
    ck_assert(request.has_seed);
    ck_assert_uint_eq(request.seed, UINT64_MAX);
    ck_assert_uint_eq(request.stop_count, 2);
    ck_assert(request.stream);
    ck_assert(request.include_usage);
    openai_request_deinit(&request);
    ck_assert_uint_eq(parse("{\"model\":\"m\",\"prompt\":[\"x\"]}", false, &request, &error),
                      ERR_OK);
    ck_assert(bytes_equal(request.text, bytes_of_text("x")));
    ck_assert(request.temperature == 1.0);
    openai_request_deinit(&request);
}
END_TEST

#define M "\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]"

static const struct refused {
    const char *text;
    const char *param; /* NULL: none */
    const char *code;
} REFUSED[] = {
    {"", NULL, "invalid_json"},
    {"{", NULL, "invalid_json"},
    {"[]", NULL, "invalid_json"},
    {"{\"model\":\"m\",\"model\":\"n\"}", NULL, "invalid_json"},
    {"\xff", NULL, "invalid_json"},
    {"{}", "model", "missing_required_parameter"},
    {"{\"model\":\"m\"}", "messages", "missing_required_parameter"},
    {"{\"model\":7}", "model", "invalid_value"},
    {"{\"model\":\"m\",\"messages\":[]}", "messages", "invalid_value"},
    {"{\"model\":\"m\",\"messages\":[{}]}", "messages", "invalid_value"},
    {"{\"model\":\"m\",\"messages\":[7]}", "messages", "invalid_value"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", "messages",
     "invalid_value"},
    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
     "messages", "unsupported_parameter"},
    {"{" M ",\"prompt\":\"x\"}", "prompt", "invalid_value"},
    {"{" M ",\"n\":2}", "n", "unsupported_parameter"},
    {"{" M ",\"logprobs\":true}", "logprobs", "unsupported_parameter"},
    {"{" M ",\"tools\":[{}]}", "tools", "unsupported_parameter"},
    {"{" M ",\"frequency_penalty\":0.5}", "frequency_penalty", "unsupported_parameter"},
    {"{" M ",\"response_format\":{\"type\":\"json_object\"}}", "response_format",
     "unsupported_parameter"},
    {"{" M ",\"max_tokens\":0}", "max_tokens", "invalid_value"},
    {"{" M ",\"max_tokens\":1.5}", "max_tokens", "invalid_value"},
    {"{" M ",\"max_tokens\":99999999999}", "max_tokens", "invalid_value"},
    {"{" M ",\"temperature\":2.1}", "temperature", "invalid_value"},
    {"{" M ",\"temperature\":\"hot\"}", "temperature", "invalid_value"},
    {"{" M ",\"top_p\":-0.1}", "top_p", "invalid_value"},
    {"{" M ",\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}", "stop", "invalid_value"},
    {"{" M ",\"stop\":\"\"}", "stop", "invalid_value"},
    {"{" M ",\"stream\":1}", "stream", "invalid_value"},
    {"{" M ",\"stream_options\":{\"include_usage\":true}}", "stream_options", "invalid_value"},
    {"{" M ",\"wings\":2}", NULL, "unknown_parameter"},
};

START_TEST(test_request_refused)
{
    const struct refused *refused = &REFUSED[_i];
    struct openai_request request;
    struct openai_error error;
    ck_assert_uint_ne(parse(refused->text, true, &request, &error), ERR_OK);
    ck_assert_int_eq(error.status, 400);
    ck_assert_str_eq(error.type, "invalid_request_error");
    ck_assert_str_eq(error.code, refused->code);
    ck_assert_pstr_eq(error.param, refused->param);
    ck_assert_str_ne(error.note.text, "");
    struct buf out;
    struct json *root;
    buf_init(&out, OPENAI_RESPONSE_MAX);
    openai_write_error(&out, &error);
    ck_assert_uint_eq(json_parse(buf_bytes(&out), out.size, &root, NULL), ERR_OK);
    ck_assert_pstr_eq(json_as_text(json_member(json_member(root, "error"), "code"), ""),
                      refused->code);
    json_destroy(root);
    buf_deinit(&out);
}
END_TEST

START_TEST(test_request_cut_and_flipped)
{
    static const char WHOLE[] = "{" M ",\"stop\":[\"x\",\"y\"],\"temperature\":0.5,\"seed\":12}";
    struct openai_request request;
    struct openai_error error;
    for (size_t size = 0; size < sizeof WHOLE - 1; size++) {
        ck_assert_uint_ne(openai_request_parse(bytes_of(WHOLE, size), true, &request, &error),
                          ERR_OK);
    }
    for (size_t round = 0; round < 4000; round++) {
        char text[sizeof WHOLE];
        memcpy(text, WHOLE, sizeof WHOLE);
        text[test_rand() % (sizeof WHOLE - 1)] = (char)test_rand();
        if (openai_request_parse(bytes_of(text, sizeof WHOLE - 1), true, &request, &error) ==
            ERR_OK) {
            ck_assert_ptr_nonnull(request.model);
            openai_request_deinit(&request);
        }
    }
    char *large = calloc(1, OPENAI_BODY_MAX + 1);
    memset(large, '[', OPENAI_BODY_MAX + 1);
    ck_assert_uint_ne(
        openai_request_parse(bytes_of(large, OPENAI_BODY_MAX + 1), true, &request, &error), ERR_OK);
    ck_assert_int_eq(error.status, 413);
    ck_assert_uint_ne(openai_request_parse(bytes_of(large, 5000), true, &request, &error), ERR_OK);
    free(large);
}
END_TEST

START_TEST(test_events_are_json)
{
    struct openai_answer answer = {.chat = true,
                                   .id = "00ff",
                                   .created_s = 5,
                                   .model = "m",
                                   .prompt_tokens = 3,
                                   .completion_tokens = 4,
                                   .finish_reason = "stop",
                                   .receipt = "ab",
                                   .adapter = "sha256:cd",
                                   .grant = "ef",
                                   .lease = 1,
                                   .number = 9,
                                   .fee = "0.5"};
    for (int chat = 0; chat < 2; chat++) {
        struct buf out;
        answer.chat = chat == 1;
        buf_init(&out, OPENAI_RESPONSE_MAX);
        openai_write_first(&out, &answer);
        openai_write_text(&out, &answer, bytes_of_text("a\n\n\"\xff"));
        openai_write_finish(&out, &answer, true);
        char *text = strdup(buf_text(&out));
        char *rest = text;
        char *end;
        size_t count = 0;
        while ((end = strstr(rest, "\n\n")) != NULL) {
            *end = '\0';
            ck_assert(strncmp(rest, "data: ", 6) == 0);
            struct json *root = NULL;
            bool done = strcmp(rest, "data: [DONE]") == 0;
            if (!done) {
                ck_assert_uint_eq(json_parse(bytes_of_text(rest + 6), 65536, &root, NULL), ERR_OK);
                json_destroy(root);
            }
            count++;
            rest = end + 2;
            ck_assert(done == (rest[0] == '\0'));
        }
        ck_assert_uint_eq(count, chat == 1 ? 5 : 4);
        free(text);
        buf_deinit(&out);
    }
}
END_TEST

/* ---- stop sequences ------------------------------------------------------------------------------ */

START_TEST(test_stops_streaming_equals_cutting)
{
    for (size_t round = 0; round < 3000; round++) {
        char text[64];
        size_t size = test_rand() % sizeof text;
        for (size_t i = 0; i < size; i++) {
            text[i] = (char)('a' + test_rand() % 2);
        }
        char stop_text[3][5] = {{0}};
        const char *stops[3];
        size_t count = test_rand() % 4;
        for (size_t i = 0; i < count; i++) {
            size_t length = 1 + test_rand() % 4;
            for (size_t k = 0; k < length; k++) {
                stop_text[i][k] = (char)('a' + test_rand() % 2);
            }
            stops[i] = stop_text[i];
        }
        size_t shown = 0;
        size_t grown = 0;
        size_t at = STOPS_NONE;
        while (grown < size && at == STOPS_NONE) { /* tokens of 1 to 3 bytes */
            size_t before = grown;
            grown += 1 + test_rand() % 3;
            grown = grown < size ? grown : size;
            at = stops_find(bytes_of(text, grown), before, stops, count);
            size_t end =
                at != STOPS_NONE ? at : grown - stops_hold(bytes_of(text, grown), stops, count);
            ck_assert_uint_ge(end, shown); /* nothing shown has to be taken back */
            shown = end;
        }
        /* What was found is a stop sequence, and nothing before it holds a whole one. */
        size_t cut = at == STOPS_NONE ? size : at;
        for (size_t i = 0; i < count; i++) {
            size_t length = strlen(stops[i]);
            for (size_t k = 0; k + length <= cut; k++) {
                ck_assert_int_ne(memcmp(text + k, stops[i], length), 0);
            }
        }
    }
}
END_TEST

/* ---- holds, numbers, recovery -------------------------------------------------------------------- */

#define GRANTS 3
#define RECORDS_MAX 1200

struct life {
    struct buf records[RECORDS_MAX];
    size_t count;
    struct gateway *gateway;
    uint64_t ids;
    uint64_t gap; /* added to the next receipt's number: a record that must be refused */
};

static struct digest grant_of(uint64_t number)
{
    struct digest grant = {{0}};
    grant.bytes[0] = (uint8_t)(number + 1);
    return grant;
}

static enum err record(struct life *life, Openledger__V1__GatewayRecord *message)
{
    struct note note;
    enum err err = gateway_apply(life->gateway, message, &note);
    if (err == ERR_OK) {
        ck_assert_uint_lt(life->count, RECORDS_MAX);
        buf_init(&life->records[life->count], JOURNAL_RECORD_MAX);
        ck_assert_uint_eq(ledger_pack(&message->base, &life->records[life->count]), ERR_OK);
        life->count++;
    }
    return err;
}

static enum err lease(struct life *life, uint64_t grant_number, uint32_t number, const char *amount)
{
    struct digest grant = grant_of(grant_number);
    Openledger__V1__GatewayLease content = OPENLEDGER__V1__GATEWAY_LEASE__INIT;
    Openledger__V1__GatewayRecord message = OPENLEDGER__V1__GATEWAY_RECORD__INIT;
    char text[AMOUNT_TEXT_SIZE];
    (void)snprintf(text, sizeof text, "%s", amount);
    content.grant = ledger_binary(grant.bytes, DIGEST_SIZE);
    content.lease = number;
    content.amount = text;
    content.tx = ledger_binary(grant.bytes, DIGEST_SIZE);
    message.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_LEASE;
    message.lease = &content;
    enum err err = record(life, &message);
    if (err == ERR_OK) {
        ck_assert(gateway_lease_confirm(life->gateway, &grant, number, &grant));
    }
    return err;
}

static enum err opening(struct life *life, uint64_t grant_number, uint32_t number, uint64_t price)
{
    struct digest grant = grant_of(grant_number);
    uint8_t id[GATEWAY_REQUEST_ID_SIZE] = {0};
    memcpy(id, &life->ids, sizeof life->ids);
    life->ids++;
    char text[AMOUNT_TEXT_SIZE];
    char adapter[] = "adapter";
    Openledger__V1__GatewayOpened content = OPENLEDGER__V1__GATEWAY_OPENED__INIT;
    Openledger__V1__GatewayRecord message = OPENLEDGER__V1__GATEWAY_RECORD__INIT;
    amount_format(amount_from_open(price), text);
    content.request_id = ledger_binary(id, sizeof id);
    content.grant = ledger_binary(grant.bytes, DIGEST_SIZE);
    content.lease = number;
    content.price_max = text;
    content.adapter = adapter;
    content.prompt_commitment = content.grant;
    content.empty_commitment = content.grant;
    content.profile = content.grant;
    content.opened_ms = 1000;
    message.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_OPENED;
    message.opened = &content;
    return record(life, &message);
}

static enum err finish(struct life *life, const struct gateway_opening *open, bool served,
                       uint64_t fee)
{
    struct gateway_outcome outcome = {.served = served,
                                      .fee = amount_from_open(served ? fee : 0),
                                      .completion_tokens = served ? 3 : 0,
                                      .finished_ms = 2000,
                                      .finish_reason = served ? "stop" : "restart"};
    struct buf receipt;
    buf_init(&receipt, GATEWAY_RECEIPT_MAX);
    ck_assert_uint_eq(gateway_receipt_write(life->gateway, open, &outcome, &receipt), ERR_OK);
    Openledger__V1__Receipt *decoded = NULL;
    ck_assert_uint_eq(ledger_receipt_decode(buf_bytes(&receipt), &decoded, NULL), ERR_OK);
    decoded->number += life->gap;
    buf_clear(&receipt);
    ck_assert_uint_eq(ledger_pack(&decoded->base, &receipt), ERR_OK);
    openledger__v1__receipt__free_unpacked(decoded, NULL);
    Openledger__V1__GatewayFinished content = OPENLEDGER__V1__GATEWAY_FINISHED__INIT;
    Openledger__V1__GatewayRecord message = OPENLEDGER__V1__GATEWAY_RECORD__INIT;
    content.receipt = ledger_binary(receipt.data, receipt.size);
    message.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_FINISHED;
    message.finished = &content;
    enum err err = record(life, &message);
    buf_deinit(&receipt);
    return err;
}

static void batch(struct life *life, const struct key_pair *keys)
{
    size_t cursor = 0;
    struct gateway_pending pending;
    struct digest chain = {{7}};
    struct account_id account = {{8}};
    while (gateway_pending_next(life->gateway, 1, &cursor, &pending)) {
        struct buf data;
        buf_init(&data, JOURNAL_RECORD_MAX);
        struct ledger_receipt_batch sign = {.chain_id = &chain,
                                            .gateway = &account,
                                            .grant = &pending.lease->grant,
                                            .lease = pending.lease->lease,
                                            .first_number = pending.first_number,
                                            .receipts = pending.receipts,
                                            .count = pending.count};
        ck_assert_uint_eq(ledger_receipt_batch_sign(&sign, keys, &data), ERR_OK);
        Openledger__V1__ReceiptBatch *checked = NULL; /* consecutive numbers, right lease */
        ck_assert_uint_eq(ledger_receipt_batch_verify(buf_bytes(&data), &chain, &checked, NULL),
                          ERR_OK);
        openledger__v1__receipt_batch__free_unpacked(checked, NULL);
        Openledger__V1__GatewayBatch content = OPENLEDGER__V1__GATEWAY_BATCH__INIT;
        Openledger__V1__GatewayRecord message = OPENLEDGER__V1__GATEWAY_RECORD__INIT;
        content.batch = ledger_binary(data.data, data.size);
        message.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_BATCH;
        message.batch = &content;
        ck_assert_uint_eq(record(life, &message), ERR_OK);
        buf_deinit(&data);
    }
}

static void check_sound(const struct gateway *gateway)
{
    struct amount held = AMOUNT_ZERO;
    struct amount open = AMOUNT_ZERO;
    for (size_t i = 0; i < gateway_lease_count(gateway); i++) {
        const struct gateway_lease *about = gateway_lease_at(gateway, i);
        ck_assert_uint_lt(about->batched, about->next_number);
        (void)gateway_lease_left(about); /* aborts unless drawn + held <= amount */
        ck_assert_uint_eq(amount_add(held, about->held, &held), ERR_OK);
    }
    for (size_t i = 0; i < gateway_opening_count(gateway); i++) {
        ck_assert_uint_eq(amount_add(open, gateway_opening_at(gateway, i)->price_max, &open),
                          ERR_OK);
    }
    ck_assert(amount_equal(held, open));
}

static void live(struct life *life, size_t steps, const struct key_pair *keys)
{
    for (uint64_t i = 0; i < GRANTS; i++) {
        ck_assert_uint_eq(lease(life, i, 1, "100"), ERR_OK);
    }
    for (size_t step = 0; step < steps; step++) {
        uint64_t dice = test_rand() % 10;
        size_t count = gateway_opening_count(life->gateway);
        if (dice < 5) {
            struct digest grant = grant_of(test_rand() % GRANTS);
            uint64_t price = 1 + test_rand() % 8;
            const struct gateway_lease *from =
                gateway_lease_for(life->gateway, &grant, amount_from_open(price));
            if (from != NULL) {
                ck_assert_uint_eq(opening(life, grant.bytes[0] - 1U, from->lease, price), ERR_OK);
            } else { /* the next lease, as the desk would ask for it */
                uint32_t next = gateway_lease_newest(life->gateway, &grant)->lease + 1;
                ck_assert_uint_eq(lease(life, grant.bytes[0] - 1U, next, "20"), ERR_OK);
            }
        } else if (dice < 9 && count > 0) {
            const struct gateway_opening *open =
                gateway_opening_at(life->gateway, test_rand() % count);
            bool served = test_rand() % 4 != 0;
            ck_assert_uint_eq(finish(life, open, served, test_rand() % 2), ERR_OK);
        } else if (dice == 9) {
            batch(life, keys);
        }
        check_sound(life->gateway);
    }
}

static void life_end(struct life *life)
{
    for (size_t i = 0; i < life->count; i++) {
        buf_deinit(&life->records[i]);
    }
    gateway_destroy(life->gateway);
    free(life);
}

START_TEST(test_every_prefix_of_the_journal_goes_on)
{
    crypto_start();
    uint8_t seed[KEY_SEED_SIZE] = {1};
    struct key_pair *keys = key_pair_from_seed(seed);
    struct life *life = calloc(1, sizeof *life);
    life->gateway = gateway_create();
    live(life, 400, keys);
    for (size_t cut = 0; cut <= life->count; cut++) {
        struct life *next = calloc(1, sizeof *next);
        next->gateway = gateway_create();
        next->ids = life->ids;
        for (size_t i = 0; i < cut; i++) {
            Openledger__V1__GatewayRecord *message = NULL;
            ck_assert_uint_eq(gateway_record_decode(buf_bytes(&life->records[i]), &message, NULL),
                              ERR_OK);
            ck_assert_uint_eq(gateway_apply(next->gateway, message, NULL), ERR_OK);
            openledger__v1__gateway_record__free_unpacked(message, NULL);
        }
        check_sound(next->gateway);
        while (gateway_opening_count(next->gateway) > 0) { /* what a restart does */
            ck_assert_uint_eq(finish(next, gateway_opening_at(next->gateway, 0), false, 0), ERR_OK);
        }
        batch(next, keys);
        check_sound(next->gateway);
        for (size_t i = 0; i < gateway_lease_count(next->gateway); i++) {
            const struct gateway_lease *about = gateway_lease_at(next->gateway, i);
            ck_assert(amount_is_zero(about->held));
            ck_assert_uint_eq(about->batched + 1, about->next_number);
        }
        life_end(next);
    }
    life_end(life);
    key_pair_destroy(keys);
}
END_TEST

START_TEST(test_holds_are_bounded)
{
    struct life *life = calloc(1, sizeof *life);
    life->gateway = gateway_create();
    struct digest grant = grant_of(0);
    struct digest other = grant_of(5);
    ck_assert_uint_eq(opening(life, 0, 1, 1), ERR_CORRUPT); /* no lease */
    ck_assert_uint_eq(lease(life, 0, 1, "10"), ERR_OK);
    ck_assert_uint_eq(lease(life, 0, 1, "12"), ERR_OK); /* asked again: not used yet */
    ck_assert_uint_eq(opening(life, 0, 1, 7), ERR_OK);
    ck_assert_uint_eq(opening(life, 0, 1, 6), ERR_CORRUPT); /* 7 + 6 > 12 */
    ck_assert_uint_eq(opening(life, 0, 1, 5), ERR_OK);
    ck_assert_uint_eq(lease(life, 0, 1, "12"), ERR_CORRUPT);
    ck_assert_ptr_null(gateway_lease_for(life->gateway, &grant, amount_from_units(1)));
    ck_assert_ptr_null(gateway_lease_for(life->gateway, &other, AMOUNT_ZERO));
    life->gap = 1;
    ck_assert_uint_eq(finish(life, gateway_opening_at(life->gateway, 0), true, 2), ERR_CORRUPT);
    life->gap = 0;
    ck_assert_uint_eq(finish(life, gateway_opening_at(life->gateway, 0), true, 2), ERR_OK);
    const struct gateway_lease *about = gateway_lease_newest(life->gateway, &grant);
    ck_assert(amount_equal(gateway_lease_left(about), amount_from_open(5))); /* 12 - 2 - 5 */
    ck_assert_uint_eq(about->next_number, 2);
    ck_assert_uint_eq(finish(life, gateway_opening_at(life->gateway, 0), false, 0), ERR_OK);
    ck_assert_uint_eq(gateway_receipt_count(life->gateway), 2);
    /* The ledger knows more than our journal: hands off. */
    ck_assert(gateway_lease_check(life->gateway, &grant, 1, amount_from_open(12), 3));
    ck_assert(!gateway_lease_check(life->gateway, &grant, 1, amount_from_open(12), 4));
    ck_assert_ptr_null(gateway_lease_for(life->gateway, &grant, AMOUNT_ZERO));
    /* Another's transaction opened the number that we asked for. */
    struct digest tx = {{9}};
    ck_assert(!gateway_lease_confirm(life->gateway, &grant, 1, &tx));
    life_end(life);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lora-gateway");
    TCase *tests = tcase_create("all");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_request_whole);
    tcase_add_loop_test(tests, test_request_refused, 0, sizeof REFUSED / sizeof *REFUSED);
    tcase_add_test(tests, test_request_cut_and_flipped);
    tcase_add_test(tests, test_events_are_json);
    tcase_add_test(tests, test_stops_streaming_equals_cutting);
    tcase_add_test(tests, test_holds_are_bounded);
    tcase_add_test(tests, test_every_prefix_of_the_journal_goes_on);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
