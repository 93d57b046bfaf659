/* test_settlement_service.c - the settlement process on a real NATS server: killed again and again, its
 * stream lost, batches settled from JetStream; and a follower that lives through all of it. */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "openledger/v1/events.pb-c.h"
#include "openledger/v1/services.pb-c.h"
#include "shared/base/check.h"
#include "shared/follow/follow.h"
#include "shared/ledger/proof.h"
#include "shared/platform/clock.h"
#include "shared/platform/file.h"
#include "shared/platform/process.h"
#include "shared/rpc/rpc.h"
#include "tests/harness/ledger_world.h"
#include "tests/harness/servers.h"

static struct test_server *nats;
static struct world *world;
static struct bus *bus;
static struct rpc_client *client;
static struct arena *arena;
static struct blob_store *blobs;
static struct process *service;
static struct follow *follow;
static struct note note;
static char folder[FILE_PATH_SIZE];
static char program[FILE_PATH_SIZE];
static uint64_t followed; /* entries that on_entry saw */

static void accepted(enum err err)
{
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), note.text);
}

static const char *inside(const char *name, char out[FILE_PATH_SIZE])
{
    CHECK(file_path(out, "%s/%s", folder, name) == ERR_OK);
    return out;
}

static void service_start(void)
{
    char genesis[FILE_PATH_SIZE];
    char key[FILE_PATH_SIZE];
    char sequencer[FILE_PATH_SIZE];
    char data[FILE_PATH_SIZE];
    char log[FILE_PATH_SIZE];
    char blob_dir[FILE_PATH_SIZE];
    const char *const argv[] = {program,
                                "--nats-url",
                                test_server_address(nats),
                                "--redis",
                                "",
                                "--data-dir",
                                inside("data", data),
                                "--blob-dir",
                                inside("blobs", blob_dir),
                                "--genesis",
                                inside("genesis.json", genesis),
                                "--key-file",
                                inside("operator.json", key),
                                "--sequencer-key",
                                inside("sequencer.json", sequencer),
                                "--seal-ms",
                                "100",
                                "--snapshot-blocks",
                                "3",
                                NULL};
    const struct process_options options = {
        .argv = argv, .log_path = inside("service.log", log), .die_with_parent = true};
    accepted(process_start(&options, &service, &note));
}

static void service_kill(void)
{
    int code;
    process_signal(service, SIGKILL);
    accepted(process_wait(service, 5000, &code));
    process_destroy(service);
    service = NULL;
}

/* Calls until settlement answers. */
static const void *call(const char *method, const ProtobufCMessage *request)
{
    ProtobufCMessage *reply = NULL;
    enum err err = ERR_UNAVAILABLE;
    uint64_t end_ms = clock_mono_ms() + 15000;
    while (err != ERR_OK && clock_mono_ms() < end_ms) {
        arena_reset(arena);
        err = rpc_call(client, method, request, 500, arena, &reply, &note);
        if (err != ERR_OK) {
            clock_sleep_ms(20);
        }
    }
    ck_assert_msg(err == ERR_OK, "%s: %s: %s", method, err_name(err), note.text);
    return reply;
}

static void on_entry(void *context, const struct ledger *ledger,
                     const struct ledger_effects *effects, struct bytes entry)
{
    (void)context;
    (void)ledger;
    (void)entry;
    ck_assert_uint_eq(effects->index, followed + 1);
    followed = effects->index;
}

static void setup_with(uint32_t deadline_blocks)
{
    char path[FILE_PATH_SIZE];
    char self[FILE_PATH_SIZE];
    accepted(file_self(self, &note));
    *strrchr(self, '/') = '\0';
    accepted(file_path(program, "%s/../../bin/settlement", self));
    nats = test_nats_start();
    world = world_create_at(clock_real_ms() - 5000, deadline_blocks);
    accepted(file_make_private_folder("/tmp/openledger-test-", folder, &note));
    accepted(blob_open(inside("blobs", path), &blobs, &note));
    accepted(
        file_write_atomic(inside("genesis.json", path), buf_bytes(&world->genesis), 0644, &note));
    accepted(key_pair_save(world->sequencer, inside("sequencer.json", path), "", &note));
    accepted(key_pair_save(world->keys[WORLD_SERVICE], inside("operator.json", path), "", &note));
    const struct bus_options options = {.url = test_server_address(nats), .name = "test"};
    accepted(bus_open(&options, &bus, &note));
    ck_assert(bus_wait_ready(bus, 5000));
    client = rpc_client_bus(bus);
    arena = arena_create(RPC_ARENA_MAX);
    service_start();
    const struct follow_options follower = {.bus = bus, .blobs = blobs, .on_entry = on_entry};
    accepted(follow_open(&follower, &follow, &note));
}

static void setup(void)
{
    setup_with(10000);
}

static void setup_impatient(void)
{
    setup_with(15); /* blocks of 100 ms */
}

static void teardown(void)
{
    follow_close(follow);
    if (service != NULL) {
        service_kill();
    }
    rpc_client_destroy(client);
    bus_close(bus);
    arena_destroy(arena);
    blob_close(blobs);
    test_server_destroy(nats);
    accepted(file_remove_tree(folder, &note));
    world_destroy(world);
}

static uint64_t submit(struct bytes signed_tx)
{
    Openledger__V1__SubmitRequest request = OPENLEDGER__V1__SUBMIT_REQUEST__INIT;
    request.signed_tx = ledger_binary(signed_tx.data, signed_tx.size);
    const Openledger__V1__SubmitReply *reply = call("Settlement.Submit", &request.base);
    return reply->index;
}

/* The world's own log, given to settlement. */
static void submit_world(size_t first)
{
    for (size_t i = 0; i < world->blob_count; i++) {
        struct digest digest;
        accepted(blob_put(blobs, buf_bytes(&world->blobs[i]), &digest, &note));
    }
    for (size_t i = first; i < world->entry_count; i++) {
        Openledger__V1__Entry *entry;
        struct bytes tx = world_signed_tx(&world->entries[i], &entry);
        if (tx.size != 0) {
            (void)submit(tx);
        }
        openledger__v1__entry__free_unpacked(entry, NULL);
    }
}

static bool caught_up(void *argument)
{
    uint64_t index = *(uint64_t *)argument;
    (void)follow_pump(follow);
    return followed >= index;
}

static void transfer_body(Openledger__V1__TxBody *body, Openledger__V1__Transfer *transfer)
{
    static char amount[] = "0.5";
    openledger__v1__transfer__init(transfer);
    transfer->to = ledger_binary(world->ids[WORLD_BOB].bytes, ACCOUNT_ID_SIZE);
    transfer->amount = amount;
    openledger__v1__tx_body__init(body);
    body->action_case = OPENLEDGER__V1__TX_BODY__ACTION_TRANSFER;
    body->transfer = transfer;
}

/* What was answered is there after kill -9, once, under the number that was answered. */
START_TEST(test_kill_loses_nothing)
{
    enum { ROUNDS = 4, PER_ROUND = 25 };
    static struct buf txs[ROUNDS * PER_ROUND];
    static uint64_t indexes[ROUNDS * PER_ROUND];
    Openledger__V1__TxBody body;
    Openledger__V1__Transfer transfer;
    transfer_body(&body, &transfer);
    size_t count = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < PER_ROUND; i++) {
            buf_init(&txs[count], LEDGER_ENTRY_MAX);
            world_build(world, WORLD_PAYER, &body, &txs[count]);
            indexes[count] = submit(buf_bytes(&txs[count]));
            count++;
        }
        service_kill();
        service_start();
    }
    for (size_t i = 0; i < count; i++) {
        ck_assert_uint_eq(submit(buf_bytes(&txs[i])), indexes[i]);
        buf_deinit(&txs[i]);
    }
    uint64_t last = indexes[count - 1];
    ck_assert(test_wait(caught_up, &last, 10000));
    const struct ledger_account *bob =
        ledger_account(follow_ledger(follow), &world->ids[WORLD_BOB]);
    ck_assert(amount_equal(bob->balance, amount_from_open(ROUNDS * PER_ROUND / 2)));
    /* A refusal is the ledger's own, and the bus carries its note. */
    static char too_much[] = "999999999";
    transfer.amount = too_much;
    ck_assert_int_eq(follow_submit(follow, &body, &world->ids[WORLD_PAYER],
                                   world->keys[WORLD_PAYER], 0, NULL, NULL, &note),
                     ERR_FUNDS);
    ck_assert_ptr_nonnull(strstr(note.text, "can spend"));
}
END_TEST

static bool stream_full(void *argument)
{
    uint64_t last = 0;
    (void)follow_pump(follow);
    return bus_stream_last(bus, "OL_LEDGER", &last) == ERR_OK && last >= *(uint64_t *)argument;
}

/* NATS loses its disk: the stream is filled again from the journal, entry n as message n. */
START_TEST(test_stream_is_refilled)
{
    Openledger__V1__TxBody body;
    Openledger__V1__Transfer transfer;
    struct buf tx;
    transfer_body(&body, &transfer);
    buf_init(&tx, LEDGER_ENTRY_MAX);
    uint64_t index = 0;
    for (int i = 0; i < 20; i++) {
        buf_clear(&tx);
        world_build(world, WORLD_PAYER, &body, &tx);
        index = submit(buf_bytes(&tx));
    }
    ck_assert(test_wait(stream_full, &index, 10000));
    test_server_stop(nats);
    test_server_wipe(nats);
    test_server_start(nats);
    ck_assert(test_wait(stream_full, &index, 20000));
    struct bus_replay *replay = NULL;
    accepted(bus_replay_open(bus, "OL_LEDGER", NULL, 1, &replay));
    for (uint64_t i = 1; i <= index; i++) {
        struct bus_message *message = NULL;
        accepted(bus_replay_next(replay, 5000, &message));
        struct bytes data = bus_message_data(message);
        Openledger__V1__Entry *entry = openledger__v1__entry__unpack(NULL, data.size, data.data);
        ck_assert_ptr_nonnull(entry);
        ck_assert_uint_eq(entry->index, i);
        ck_assert_uint_eq(bus_message_sequence(message), i);
        openledger__v1__entry__free_unpacked(entry, NULL);
        bus_message_destroy(message);
    }
    bus_replay_close(replay);
    accepted(follow_submit(follow, &body, &world->ids[WORLD_PAYER], world->keys[WORLD_PAYER], 0,
                           NULL, &index, &note));
    ck_assert_uint_ge(followed, index); /* a seal may have come since */
    buf_deinit(&tx);
}
END_TEST

static void publish_batch(const char *subject, const struct digest *batch)
{
    Openledger__V1__ReceiptBatchPublished event = OPENLEDGER__V1__RECEIPT_BATCH_PUBLISHED__INIT;
    struct buf bytes;
    buf_init(&bytes, 4096);
    event.batch = ledger_binary(batch->bytes, DIGEST_SIZE);
    accepted(ledger_pack(&event.base, &bytes));
    uint64_t end_ms = clock_mono_ms() + 10000;
    enum err err;
    do {
        err = bus_stream_publish(bus, subject, buf_bytes(&bytes), NULL, NULL, &note);
        if (err != ERR_OK) {
            clock_sleep_ms(50);
        }
    } while (err != ERR_OK && clock_mono_ms() < end_ms);
    accepted(err);
    buf_deinit(&bytes);
}

static bool shared_all(void *argument)
{
    const struct digest *ids = argument;
    (void)follow_pump(follow);
    const struct ledger_receipt *first = ledger_receipt(follow_ledger(follow), &ids[0]);
    const struct ledger_receipt *last = ledger_receipt(follow_ledger(follow), &ids[3]);
    return first != NULL && !first->waiting && last != NULL && !last->waiting;
}

/* Batches in the wrong order, twice, with a hopeless one between, and a kill: paid exactly once. */
START_TEST(test_batches_settle)
{
    struct digest ids[4];
    struct digest more[2];
    world_setup(world);
    accepted(world_grant(world, "10"));
    submit_world(0);
    size_t so_far = world->blob_count;
    struct digest first = world_receipts(world, 1, 2, 100, 50, NULL, ids);
    struct digest second = world_receipts(world, 3, 2, 100, 50, NULL, ids + 2);
    struct digest wrong = world_receipts(world, 1, 2, 100, 50, "0.9", more);
    struct digest shares = world_shares(world, ids, 4, 500000000, 250000000);
    for (size_t i = so_far; i < world->blob_count; i++) {
        struct digest digest;
        accepted(blob_put(blobs, buf_bytes(&world->blobs[i]), &digest, &note));
    }
    publish_batch("ol.shares.batch", &shares);
    publish_batch("ol.receipts.batch", &second);
    publish_batch("ol.receipts.batch", &wrong);
    publish_batch("ol.receipts.batch", &first);
    clock_sleep_ms(200);
    service_kill();
    publish_batch("ol.receipts.batch", &first);
    service_start();
    publish_batch("ol.shares.batch", &shares);
    ck_assert(test_wait(shared_all, ids, 30000));
    char text[AMOUNT_TEXT_SIZE];
    const struct ledger *ledger = follow_ledger(follow);
    const struct ledger_account *alice = ledger_account(ledger, &world->ids[WORLD_ALICE]);
    ck_assert_str_eq(amount_format(alice->balance, text), "0.24"); /* 4 x 0.12, a half */
    (void)ledger_supply(ledger);
    Openledger__V1__GetReceiptRequest request = OPENLEDGER__V1__GET_RECEIPT_REQUEST__INIT;
    request.receipt = ledger_binary(ids[3].bytes, DIGEST_SIZE);
    const Openledger__V1__ReceiptState *state = call("Settlement.GetReceipt", &request.base);
    ck_assert_str_eq(state->decoded->fee, "0.2");
    ck_assert_ptr_nonnull(state->shares);
    ck_assert_uint_eq(state->shares->unearned_ppb, 250000000);
    ck_assert_uint_ge(state->n_postings, 9);
    /* And the payout can be proved with nothing but the sequencer's key. */
    Openledger__V1__ProvePostingRequest prove = OPENLEDGER__V1__PROVE_POSTING_REQUEST__INIT;
    for (size_t i = 0; i < state->n_postings; i++) {
        if (strcmp(state->postings[i]->reason, "fee.contributor") == 0) {
            prove.index = state->postings[i]->index;
            prove.leg = state->postings[i]->leg;
        }
    }
    const Openledger__V1__InclusionProof *proof = call("Settlement.ProvePosting", &prove.base);
    struct buf bytes;
    struct ledger_trust trust;
    struct ledger_proof_claim claim;
    buf_init(&bytes, 1U << 20);
    accepted(ledger_pack(&proof->base, &bytes));
    ledger_trust(ledger, &trust);
    accepted(ledger_proof_verify(buf_bytes(&bytes), &trust, &claim, &note));
    ck_assert(digest_equal(&claim.reference, &shares)); /* the batch that it was netted in */
    buf_deinit(&bytes);
    Openledger__V1__ListTxsRequest list = OPENLEDGER__V1__LIST_TXS_REQUEST__INIT;
    list.account = ledger_binary(world->ids[WORLD_ALICE].bytes, ACCOUNT_ID_SIZE);
    const Openledger__V1__ListTxsReply *txs = call("Settlement.ListTxs", &list.base);
    ck_assert_uint_eq(txs->n_txs, 3);
    ck_assert_str_eq(txs->txs[0]->kind, "settle_shares");
    list.account = (ProtobufCBinaryData){0};
    list.page_size = 5;
    txs = call("Settlement.ListTxs", &list.base);
    ck_assert_uint_eq(txs->n_txs, 5);
    Openledger__V1__GetGrantRequest grant = OPENLEDGER__V1__GET_GRANT_REQUEST__INIT;
    grant.grant = ledger_binary(world->grant.bytes, DIGEST_SIZE);
    const Openledger__V1__GrantState *grant_state = call("Settlement.GetGrant", &grant.base);
    ck_assert_str_eq(grant_state->drawn, "0.8");
    ck_assert_uint_eq(grant_state->leases[0]->next_number, 5);
    Openledger__V1__Empty empty = OPENLEDGER__V1__EMPTY__INIT;
    const Openledger__V1__LedgerInfo *info = call("Settlement.GetInfo", &empty.base);
    ck_assert_str_eq(info->supply, "1000000000");
    Openledger__V1__GetAccountRequest account = OPENLEDGER__V1__GET_ACCOUNT_REQUEST__INIT;
    account.account = ledger_binary(world->ids[WORLD_ATTRIBUTION].bytes, ACCOUNT_ID_SIZE);
    const Openledger__V1__AccountState *bonded = call("Settlement.GetAccount", &account.base);
    ck_assert_uint_eq(bonded->n_bonds, 1);
    Openledger__V1__GetBlockRequest block = OPENLEDGER__V1__GET_BLOCK_REQUEST__INIT;
    const Openledger__V1__BlockRecord *record = call("Settlement.GetBlock", &block.base);
    ck_assert_uint_ge(record->decoded->height, 1);
}
END_TEST

static const struct ledger_receipt *followed_receipt(const struct digest *id)
{
    (void)follow_pump(follow);
    return follow_ledger(follow) == NULL ? NULL : ledger_receipt(follow_ledger(follow), id);
}

static bool charged(void *argument)
{
    return followed_receipt(argument) != NULL;
}

static bool not_waiting(void *argument)
{
    const struct ledger_receipt *receipt = followed_receipt(argument);
    return receipt != NULL && !receipt->waiting;
}

static const char *balance_of(const struct account_id *id, char out[AMOUNT_TEXT_SIZE])
{
    const struct ledger_account *account = ledger_account(follow_ledger(follow), id);
    return amount_format(account == NULL ? AMOUNT_ZERO : account->balance, out);
}

static void batch_arrives(const char *subject, const struct digest *batch, size_t blob)
{
    struct digest digest;
    publish_batch(subject, batch);
    accepted(blob_put(blobs, buf_bytes(&world->blobs[blob]), &digest, &note));
    ck_assert(digest_equal(&digest, batch));
}

/* What README.md states: a batch whose bytes are not there waits, and those behind it with it; receipts
 * without shares pay the treasury at their deadline; shares that come later change nothing; and shares
 * in time are paid as ever. */
START_TEST(test_late_and_missing)
{
    struct digest ids[2];
    struct digest next[1];
    struct account_id treasury;
    char text[AMOUNT_TEXT_SIZE];
    world_setup(world);
    accepted(world_grant(world, "10"));
    submit_world(0);
    ledger_treasury_id("net", &treasury);
    size_t blob = world->blob_count;
    struct digest first = world_receipts(world, 1, 2, 100, 50, NULL, ids);
    struct digest second = world_receipts(world, 3, 1, 100, 50, NULL, next);
    struct digest late = world_shares(world, ids, 2, 500000000, 500000000);
    struct digest in_time = world_shares(world, next, 1, 250000000, 750000000);
    publish_batch("ol.receipts.batch", &first);
    batch_arrives("ol.receipts.batch", &second, blob + 1);
    clock_sleep_ms(1200); /* two rounds of trying again */
    ck_assert_ptr_null(followed_receipt(&ids[0]));
    ck_assert_ptr_null(followed_receipt(&next[0]));
    batch_arrives("ol.receipts.batch", &first, blob);
    ck_assert(test_wait(charged, &next[0], 10000));
    batch_arrives("ol.shares.batch", &in_time, blob + 3);
    ck_assert(test_wait(not_waiting, &ids[0], 10000));
    ck_assert(test_wait(not_waiting, &next[0], 10000));
    ck_assert_str_eq(balance_of(&treasury, text), "0.24"); /* 0.12 of each answer */
    ck_assert_str_eq(balance_of(&world->ids[WORLD_ALICE], text), "0.03");
    batch_arrives("ol.shares.batch", &late, blob + 2);
    uint64_t index = 0;
    Openledger__V1__TxBody body;
    Openledger__V1__Transfer transfer;
    transfer_body(&body, &transfer);
    clock_sleep_ms(700);
    accepted(follow_submit(follow, &body, &world->ids[WORLD_PAYER], world->keys[WORLD_PAYER], 0,
                           NULL, &index, &note));
    ck_assert_str_eq(balance_of(&treasury, text), "0.24");
    ck_assert_str_eq(balance_of(&world->ids[WORLD_ALICE], text), "0.03");
    (void)ledger_supply(follow_ledger(follow));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("settlement service");
    TCase *process = tcase_create("process");
    tcase_add_checked_fixture(process, setup, teardown);
    tcase_set_timeout(process, 120);
    tcase_add_test(process, test_kill_loses_nothing);
    tcase_add_test(process, test_stream_is_refilled);
    tcase_add_test(process, test_batches_settle);
    suite_add_tcase(suite, process);
    TCase *impatient = tcase_create("short deadline");
    tcase_add_checked_fixture(impatient, setup_impatient, teardown);
    tcase_set_timeout(impatient, 120);
    tcase_add_test(impatient, test_late_and_missing);
    suite_add_tcase(suite, impatient);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
