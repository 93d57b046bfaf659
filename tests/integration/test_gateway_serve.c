/* test_gateway_serve.c - the gateway as a process: real NATS and Redis, HTTP from outside, a ledger
 * of the real state machine behind the Settlement methods that it asks for.
 *
 * Method: a client chats, streams, misbehaves; the gateway is killed in the middle of an answer and
 * started again; NATS is away, or comes back without its store; then every batch that it published is
 * settled by the state machine, which accepts them only when prices, numbers and signatures are right and
 * nothing is missing or there twice. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "openledger/v1/events.pb-c.h"
#include "openledger/v1/services.pb-c.h"
#include "shared/base/check.h"
#include "shared/base/hex.h"
#include "shared/blob/blob.h"
#include "shared/bus/bus.h"
#include "shared/http/fetch.h"
#include "shared/json/json.h"
#include "shared/ledger/batch.h"
#include "shared/platform/clock.h"
#include "shared/platform/process.h"
#include "shared/platform/signals.h"
#include "shared/rpc/rpc.h"
#include "tests/harness/folder.h"
#include "tests/harness/served_ledger.h"
#include "tests/harness/servers.h"

#define WAIT_MS 20000
#define BODY_MAX (4U << 20)
#define GRANT_LIMIT "3"

/* Everything one test uses; Check forks for each test. */
static struct world *world;
static struct test_server *nats, *redis;
static struct bus *bus;
static struct blob_store *blobs;
static struct served_ledger *ledger;
static struct process *gateway;
static struct fetch *web;
static uint16_t port;
static char url[64];
static char key_path[FILE_PATH_SIZE], data_path[FILE_PATH_SIZE], log_path[FILE_PATH_SIZE];
static char api_key[128];

static const char *model_folder(void)
{
    static char path[FILE_PATH_SIZE];
    const char *folder = getenv("OPENLEDGER_TEST_DATA");
    enum err err = file_path(path, "%s/stories260K", folder != NULL ? folder : "../shared/data");
    CHECK(err == ERR_OK);
    return path;
}

/* ---- the gateway --------------------------------------------------------------------------------- */

static int get(const char *path, const char *const *headers, const char *body, struct buf *out)
{
    char full[256];
    int status = 0;
    struct note note = {.text = ""};
    snprintf(full, sizeof full, "%s%s", url, path);
    struct fetch_request request = {.url = full, .headers = headers, .timeout_ms = WAIT_MS};
    if (body != NULL) {
        request.body = bytes_of_text(body);
    }
    buf_clear(out);
    enum err err = fetch_run(web, &request, &status, out, &note);
    return err == ERR_OK ? status : -1;
}

static bool is_ready(void *argument)
{
    struct buf out;
    (void)argument;
    buf_init(&out, BODY_MAX);
    int status = get("/readyz", NULL, NULL, &out);
    buf_deinit(&out);
    return status == 200;
}

static void start_gateway(void)
{
    char self[FILE_PATH_SIZE] = "";
    char bin[FILE_PATH_SIZE];
    char address[32];
    ck_assert_int_gt((int)readlink("/proc/self/exe", self, sizeof self - 1), 0);
    for (int i = 0; i < 3; i++) { /* build/MODE/tests/integration/x -> build/MODE */
        *strrchr(self, '/') = '\0';
    }
    ck_assert_uint_eq(file_path(bin, "%s/bin/lora-gateway", self), ERR_OK);
    snprintf(address, sizeof address, "127.0.0.1:%u", port);
    const char *argv[] = {bin,
                          "--nats-url",
                          test_server_address(nats),
                          "--redis",
                          test_server_address(redis),
                          "--data-dir",
                          data_path,
                          "--http",
                          address,
                          "--key-file",
                          key_path,
                          "--model",
                          "stories",
                          "--workers",
                          "1",
                          "--republish-s",
                          "1",
                          NULL};
    struct process_options options = {.argv = argv, .log_path = log_path, .die_with_parent = true};
    struct note note = {.text = ""};
    ck_assert_msg(process_start(&options, &gateway, &note) == ERR_OK, "%s", note.text);
    ck_assert(test_wait(is_ready, NULL, WAIT_MS));
}

static void make_key(void)
{
    struct rpc_client *client = rpc_client_http(url, NULL);
    struct arena *arena = arena_create(RPC_ARENA_MAX);
    struct ledger_head head;
    struct buf message;
    struct signature signature;
    struct note note = {.text = ""};
    ProtobufCMessage *reply;
    ledger_head(world->ledger, &head);
    uint64_t now_ms = clock_real_ms();
    buf_init(&message, 256);
    buf_append(&message, "openledger/apikey/v1", sizeof "openledger/apikey/v1");
    buf_append(&message, head.chain_id.bytes, DIGEST_SIZE);
    buf_append(&message, world->grant.bytes, DIGEST_SIZE);
    buf_append_u64be(&message, now_ms);
    key_pair_sign(world->keys[WORLD_PAYER], buf_bytes(&message), &signature);
    Openledger__V1__CreateApiKeyRequest request = OPENLEDGER__V1__CREATE_API_KEY_REQUEST__INIT;
    request.grant = ledger_binary(world->grant.bytes, DIGEST_SIZE);
    request.time_ms = now_ms;
    request.key = ledger_binary(key_pair_public(world->keys[WORLD_PAYER])->bytes, PUBLIC_KEY_SIZE);
    request.signature = ledger_binary(signature.bytes, SIGNATURE_SIZE);
    ck_assert_msg(
        rpc_call(client, "Gateway.CreateApiKey", &request.base, 0, arena, &reply, &note) == ERR_OK,
        "%s", note.text);
    snprintf(api_key, sizeof api_key, "authorization: Bearer %s",
             ((Openledger__V1__CreateApiKeyReply *)reply)->api_key);
    signature.bytes[3] ^= 1;
    ck_assert_uint_eq(
        rpc_call(client, "Gateway.CreateApiKey", &request.base, 0, arena, &reply, &note),
        ERR_DENIED);
    buf_deinit(&message);
    arena_destroy(arena);
    rpc_client_destroy(client);
}

static void setup(void)
{
    struct note note = {.text = ""};
    signals_init();
    crypto_start();
    test_folder_make();
    ck_assert_uint_eq(file_path(data_path, "%s", test_path("data")), ERR_OK);
    ck_assert_uint_eq(file_path(key_path, "%s", test_path("gateway.key")), ERR_OK);
    ck_assert_uint_eq(file_path(log_path, "%s", test_path("gateway.log")), ERR_OK);
    ck_assert_uint_eq(file_make_folders(data_path, NULL), ERR_OK);
    char blob_path[FILE_PATH_SIZE];
    ck_assert_uint_eq(file_path(blob_path, "%s/blobs", data_path), ERR_OK);
    ck_assert_uint_eq(blob_open(blob_path, &blobs, NULL), ERR_OK);
    ledger = served_ledger_create(blobs, model_folder(), GRANT_LIMIT);
    world = served_ledger_world(ledger);
    ck_assert_uint_eq(key_pair_save(world->keys[WORLD_GATEWAY], key_path, "", &note), ERR_OK);
    nats = test_nats_start();
    redis = test_redis_start();
    web = fetch_create();
    ck_assert_uint_eq(
        bus_open(&(struct bus_options){.url = test_server_address(nats), .name = "test"}, &bus,
                 &note),
        ERR_OK);
    ck_assert(bus_wait_ready(bus, WAIT_MS));
    served_ledger_start(ledger, bus);
    ck_assert_uint_eq(process_free_port(&port, &note), ERR_OK);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", port);
    start_gateway();
    make_key();
}

static void teardown(void)
{
    process_stop(gateway, 5000);
    process_destroy(gateway);
    served_ledger_stop(ledger);
    bus_close(bus);
    fetch_destroy(web);
    test_server_destroy(redis);
    test_server_destroy(nats);
    blob_close(blobs);
    served_ledger_destroy(ledger);
    test_folder_remove();
}

/* ---- settling what was published ----------------------------------------------------------------- */

/* Settles batches from the stream until `numbers` receipts of lease 1 are settled. */
static void settle_until(uint64_t numbers)
{
    struct bus_replay *replay;
    struct bus_message *message;
    uint64_t end_ms = clock_mono_ms() + WAIT_MS;
    ck_assert_uint_eq(bus_replay_open(bus, "OL_RECEIPTS", NULL, 1, &replay), ERR_OK);
    for (;;) {
        const struct ledger_lease *lease = ledger_lease(world->ledger, &world->grant, 1);
        if (lease != NULL && lease->next_number == numbers + 1) {
            break;
        }
        ck_assert_uint_lt(clock_mono_ms(), end_ms);
        if (bus_replay_next(replay, 500, &message) != ERR_OK) {
            continue;
        }
        struct bytes data = bus_message_data(message);
        Openledger__V1__ReceiptBatchPublished *event =
            openledger__v1__receipt_batch_published__unpack(NULL, data.size, data.data);
        struct digest digest;
        struct buf batch;
        buf_init(&batch, BLOB_SIZE_MAX);
        ck_assert_uint_eq(digest_from_bytes(ledger_bytes(event->batch), &digest), ERR_OK);
        ck_assert_uint_eq(blob_get(blobs, &digest, &batch, NULL), ERR_OK);
        served_ledger_lock(ledger);
        world->now_ms = clock_real_ms();
        (void)world_blob(world, buf_bytes(&batch));
        enum err err = world_settle_receipts(world, &digest);
        /* Settled in an earlier round: the replay begins at 1. */
        ck_assert_msg(err == ERR_OK || err == ERR_CONFLICT, "%s", world->note.text);
        served_ledger_unlock(ledger);
        buf_deinit(&batch);
        openledger__v1__receipt_batch_published__free_unpacked(event, NULL);
        bus_message_destroy(message);
    }
    bus_replay_close(replay);
}

/* Different openings in the stream, each checked; some may be there again. */
static uint64_t opening_count(void)
{
    struct bus_replay *replay;
    struct bus_message *message;
    struct digest seen[64];
    uint64_t count = 0;
    ck_assert_uint_eq(bus_replay_open(bus, "OL_OPENINGS", NULL, 1, &replay), ERR_OK);
    while (bus_replay_next(replay, 700, &message) == ERR_OK) {
        struct bytes data = bus_message_data(message);
        Openledger__V1__AnswerFinished *event =
            openledger__v1__answer_finished__unpack(NULL, data.size, data.data);
        Openledger__V1__Receipt *receipt = NULL;
        struct digest id;
        struct digest commitment;
        struct salt salt;
        ck_assert_uint_eq(ledger_receipt_decode(ledger_bytes(event->receipt_bytes), &receipt, NULL),
                          ERR_OK);
        ledger_receipt_id(ledger_bytes(event->receipt_bytes), &id);
        ck_assert(bytes_equal(digest_bytes(&id), ledger_bytes(event->opening->receipt)));
        ck_assert_uint_eq(event->opening->prompt_salt.len, SALT_SIZE);
        memcpy(salt.bytes, event->opening->prompt_salt.data, SALT_SIZE);
        ledger_prompt_commitment(&salt, event->opening->prompt_ids, event->opening->n_prompt_ids,
                                 &commitment);
        ck_assert(bytes_equal(digest_bytes(&commitment), ledger_bytes(receipt->prompt_commitment)));
        memcpy(salt.bytes, event->opening->answer_salt.data, SALT_SIZE);
        ledger_answer_commitment(&salt, event->opening->answer_ids, event->opening->n_answer_ids,
                                 &commitment);
        ck_assert(bytes_equal(digest_bytes(&commitment), ledger_bytes(receipt->answer_commitment)));
        ck_assert_uint_eq(receipt->completion_tokens, event->opening->n_answer_ids);
        openledger__v1__receipt__free_unpacked(receipt, NULL);
        openledger__v1__answer_finished__free_unpacked(event, NULL);
        bus_message_destroy(message);
        uint64_t i = 0;
        while (i < count && !digest_equal(&seen[i], &id)) {
            i++;
        }
        ck_assert_uint_lt(i, 64);
        seen[i] = id;
        count += i == count ? 1 : 0;
    }
    bus_replay_close(replay);
    return count;
}

/* ---- the tests ----------------------------------------------------------------------------------- */

#define CHAT "/v1/chat/completions"
#define ASK(extra)                                                                                 \
    "{\"model\":\"tale\",\"messages\":[{\"role\":\"user\",\"content\":\"Once\"}]" extra "}"

static const char *member(const struct json *root, const char *object, const char *name)
{
    return json_as_text(json_member(json_member(root, object), name), "");
}

/* Asks and checks status and, for errors, the code. */
static void expect(const char *body, const char *authorization, int status, const char *code)
{
    const char *headers[] = {"content-type: application/json", authorization, NULL};
    struct json *root;
    struct buf out;
    buf_init(&out, BODY_MAX);
    int got = get(CHAT, headers, body, &out);
    ck_assert_msg(got == status, "%d, not %d: %s", got, status, buf_text(&out));
    ck_assert_uint_eq(json_parse(buf_bytes(&out), BODY_MAX, &root, NULL), ERR_OK);
    if (code != NULL) {
        ck_assert_str_eq(member(root, "error", "code"), code);
    }
    json_destroy(root);
    buf_deinit(&out);
}

START_TEST(test_chat_stream_refuse_settle)
{
    const char *headers[] = {"content-type: application/json", api_key, "idempotency-key: one",
                             NULL};
    const char *plain[] = {"content-type: application/json", api_key, NULL};
    struct buf first;
    struct buf again;
    struct json *root;
    buf_init(&first, BODY_MAX);
    buf_init(&again, BODY_MAX);
    ck_assert_int_eq(get("/v1/models", NULL, NULL, &first), 200);
    ck_assert_ptr_nonnull(strstr(buf_text(&first), "\"id\":\"tale\""));
    ck_assert_ptr_null(strstr(buf_text(&first), "\"id\":\"adapter\"")); /* of another base */
    ck_assert_int_eq(get("/v1/models/tale", NULL, NULL, &first), 200);
    ck_assert_int_eq(get("/v1/models/none", NULL, NULL, &first), 404);
    ck_assert_int_eq(get("/", NULL, NULL, &first), 200);

    /* 1: an answer; the same key gives the same receipt; another body under it does not. */
    ck_assert_int_eq(get(CHAT, headers, ASK(",\"max_tokens\":8,\"temperature\":0"), &first), 200);
    ck_assert_int_eq(get(CHAT, headers, ASK(",\"max_tokens\":8,\"temperature\":0"), &again), 200);
    ck_assert(bytes_equal(buf_bytes(&first), buf_bytes(&again)));
    ck_assert_int_eq(get(CHAT, headers, ASK(",\"max_tokens\":9"), &again), 409);
    ck_assert_uint_eq(json_parse(buf_bytes(&first), BODY_MAX, &root, NULL), ERR_OK);
    ck_assert_int_eq(
        (int)json_as_i64(json_member(json_member(root, "usage"), "completion_tokens"), 0), 8);
    ck_assert_uint_eq(strlen(member(root, "openledger", "receipt")), 64);
    json_destroy(root);

    /* 2, 3: streams of both kinds. */
    ck_assert_int_eq(get(CHAT, plain,
                         ASK(",\"max_tokens\":5,\"stream\":true,"
                             "\"stream_options\":{\"include_usage\":true}"),
                         &first),
                     200);
    ck_assert_ptr_nonnull(strstr(buf_text(&first), "\"completion_tokens\":5"));
    ck_assert_ptr_nonnull(strstr(buf_text(&first), "\"openledger\":{"));
    ck_assert_ptr_nonnull(strstr(buf_text(&first), "data: [DONE]\n\n"));
    ck_assert_int_eq(get("/v1/completions", plain,
                         "{\"model\":\"tale\",\"prompt\":\"\",\"max_tokens\":30,\"temperature\":0}",
                         &first),
                     200);
    ck_assert_ptr_nonnull(strstr(buf_text(&first), "Once upon a time, there was a little girl"));

    /* Refused, for nothing. */
    expect("{", api_key, 400, "invalid_json");
    expect(ASK(",\"wings\":1"), api_key, 400, "unknown_parameter");
    expect("{\"model\":\"none\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", api_key,
           404, "model_not_found");
    expect(ASK(""), "x-none: 1", 401, "invalid_api_key");
    expect(ASK(""), "authorization: Bearer ol-wrong", 401, "invalid_api_key");
    expect(ASK(",\"max_tokens\":500"), api_key, 200, NULL); /* 4: 0.99 OPEN held; cut to the room */
    char *long_body = malloc(20000);
    snprintf(long_body, 20000,
             "{\"model\":\"tale\",\"messages\":[{\"role\":\"user\",\"content\":\"%0*d\"}]}", 9000,
             7);
    expect(long_body, api_key, 400, "context_length_exceeded");
    free(long_body);
    char *large = malloc(2U << 20);
    memset(large, ' ', (2U << 20) - 1);
    large[(2U << 20) - 1] = '\0';
    ck_assert_int_eq(get(CHAT, plain, large, &first), 413);
    free(large);

    /* The grant of 3 OPEN is used up by answers that may cost 0.9 each. */
    int status = 200;
    uint64_t number = 4;
    for (int i = 0; i < 40 && status == 200; i++) {
        status = get(CHAT, plain, ASK(",\"max_tokens\":450"), &first);
        number += status == 200;
    }
    ck_assert_int_eq(status, 429);
    ck_assert_ptr_nonnull(strstr(buf_text(&first), "insufficient_quota"));
    settle_until(number);
    ck_assert_uint_eq(opening_count(), number);
    const struct ledger_grant *grant = ledger_grant(world->ledger, &world->grant);
    ck_assert_int_gt(amount_compare(grant->drawn, AMOUNT_ZERO), 0);
    ck_assert(amount_equal(ledger_supply(world->ledger), amount_from_open(AMOUNT_SUPPLY_OPEN)));
    buf_deinit(&first);
    buf_deinit(&again);
}
END_TEST

/* The client leaves after some pieces. */
static bool leave(void *context, struct bytes data)
{
    int *pieces = context;
    (void)data;
    return --*pieces > 0;
}

/* The gateway dies when the first piece is here. */
static bool kill_gateway(void *context, struct bytes data)
{
    (void)context;
    (void)data;
    process_signal(gateway, 9);
    return true;
}

static void stream(bool (*on_data)(void *context, struct bytes data), void *context)
{
    const char *headers[] = {"content-type: application/json", api_key, NULL};
    char full[256];
    int status;
    snprintf(full, sizeof full, "%s" CHAT, url);
    struct fetch_request request = {.url = full,
                                    .headers = headers,
                                    .body =
                                        bytes_of_text(ASK(",\"max_tokens\":400,\"stream\":true")),
                                    .timeout_ms = WAIT_MS,
                                    .on_data = on_data,
                                    .context = context};
    ck_assert_uint_ne(fetch_run(web, &request, &status, NULL, NULL), ERR_OK);
}

START_TEST(test_leave_kill_outage)
{
    const char *headers[] = {"content-type: application/json", api_key, NULL};
    struct buf out;
    buf_init(&out, BODY_MAX);
    int pieces = 3;
    stream(leave, &pieces); /* 1: pays for what was generated */
    settle_until(1);
    const struct ledger_lease *lease = ledger_lease(world->ledger, &world->grant, 1);
    ck_assert_int_gt(amount_compare(lease->drawn, AMOUNT_ZERO), 0);
    struct amount drawn = lease->drawn;

    stream(kill_gateway, NULL); /* 2: a void, by the next start */
    int code;
    ck_assert_uint_eq(process_wait(gateway, WAIT_MS, &code), ERR_OK);
    process_destroy(gateway);
    start_gateway();
    settle_until(2);
    lease = ledger_lease(world->ledger, &world->grant, 1);
    ck_assert(amount_equal(lease->drawn, drawn));

    /* 3, 4: without Redis, then with NATS away: answers go on, batches follow. */
    test_server_kill(redis);
    ck_assert_int_eq(get(CHAT, headers, ASK(",\"max_tokens\":3"), &out), 200);
    test_server_kill(nats);
    ck_assert_int_eq(get(CHAT, headers, ASK(",\"max_tokens\":3"), &out), 200);
    test_server_start(nats);
    ck_assert(bus_wait_ready(bus, WAIT_MS));
    settle_until(4);
    ck_assert_uint_eq(opening_count(), 3); /* a void has none */
    test_server_start(redis);
    buf_deinit(&out);
}
END_TEST

static bool streams_hold(void *argument)
{
    uint64_t batches = 0;
    return bus_stream_last(bus, "OL_RECEIPTS", &batches) == ERR_OK && batches > 0 &&
           opening_count() == *(const uint64_t *)argument;
}

/* NATS comes back without its store. */
static void lose_streams(void)
{
    test_server_kill(nats);
    test_server_wipe(nats);
    test_server_start(nats);
    ck_assert(bus_wait_ready(bus, WAIT_MS));
}

START_TEST(test_lost_streams)
{
    const char *headers[] = {"content-type: application/json", api_key, NULL};
    struct buf out;
    buf_init(&out, BODY_MAX);
    uint64_t answers = 2;
    ck_assert_int_eq(get(CHAT, headers, ASK(",\"max_tokens\":3"), &out), 200);
    ck_assert_int_eq(get(CHAT, headers, ASK(",\"max_tokens\":3"), &out), 200);
    ck_assert(test_wait(streams_hold, &answers, WAIT_MS)); /* acknowledged */
    lose_streams();
    ck_assert(test_wait(streams_hold, &answers, WAIT_MS)); /* there again */
    settle_until(2);

    answers = 3;
    ck_assert_int_eq(get(CHAT, headers, ASK(",\"max_tokens\":3"), &out), 200);
    ck_assert(test_wait(streams_hold, &answers, WAIT_MS));
    process_destroy(gateway); /* killed: what it has in view it finds again in its journal */
    lose_streams();
    start_gateway();
    ck_assert(test_wait(streams_hold, &answers, WAIT_MS)); /* none of them is shared yet */
    settle_until(3);
    buf_deinit(&out);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lora-gateway-process");
    TCase *tests = tcase_create("process");
    if (!file_exists(model_folder())) {
        puts("SKIP: the stories260K model is not there");
        return 0;
    }
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_chat_stream_refuse_settle);
    tcase_add_test(tests, test_leave_kill_outage);
    tcase_add_test(tests, test_lost_streams);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
