/* training_world.h - settlement, trainer and attribution as real processes on a ledger with a datanet of
 * two contributors and the stories260K model. For one test program. */
#pragma once

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openledger/v1/events.pb-c.h"
#include "openledger/v1/objects.pb-c.h"
#include "openledger/v1/services.pb-c.h"
#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/follow/follow.h"
#include "shared/ledger/rows.h"
#include "shared/lineage/bundle.h"
#include "shared/lineage/shares.h"
#include "shared/merkle/merkle.h"
#include "shared/platform/clock.h"
#include "shared/platform/file.h"
#include "shared/platform/process.h"
#include "shared/rpc/rpc.h"
#include "tests/harness/ledger_world.h"
#include "tests/harness/servers.h"

enum { ROWS = 20, STEPS = 60, WAIT_MS = 60000 };
enum program { SETTLEMENT, TRAINER, ATTRIBUTION, PROGRAMS };

static const char *const NAMES[PROGRAMS] = {"settlement", "trainer", "attribution"};
static const enum world_who OPERATORS[PROGRAMS] = {WORLD_SERVICE, WORLD_TRAINER, WORLD_ATTRIBUTION};
static struct process *running[PROGRAMS];
static struct test_server *nats;
static struct world *world;
static struct bus *bus;
static struct rpc_client *client;
static struct arena *arena;
static struct blob_store *blobs;
static struct follow *follow;
static struct note note;
static char folder[FILE_PATH_SIZE];
static struct digest model_content, model_profile;

static void accepted(enum err err)
{
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), note.text);
}

static char *text(const char *constant)
{
    return (char *)(uintptr_t)constant;
}

static ProtobufCBinaryData field(const struct digest *digest)
{
    return ledger_binary(digest->bytes, DIGEST_SIZE);
}

static const char *inside(char out[FILE_PATH_SIZE], const char *name, const char *suffix)
{
    CHECK(file_path(out, "%s/%s%s", folder, name, suffix) == ERR_OK);
    return out;
}

/* ---- processes ---------------------------------------------------------------------------------- */

static void program_start(enum program which)
{
    char program[FILE_PATH_SIZE], self[FILE_PATH_SIZE], genesis[FILE_PATH_SIZE];
    char key[FILE_PATH_SIZE], sequencer[FILE_PATH_SIZE], data[FILE_PATH_SIZE];
    char log[FILE_PATH_SIZE], blob_dir[FILE_PATH_SIZE];
    accepted(file_self(self, &note));
    *strrchr(self, '/') = '\0';
    accepted(file_path(program, "%s/../../bin/%s", self, NAMES[which]));
    const char *argv[24] = {program,
                            "--nats-url",
                            test_server_address(nats),
                            "--redis",
                            "",
                            "--data-dir",
                            inside(data, "data", ""),
                            "--blob-dir",
                            inside(blob_dir, "blobs", ""),
                            "--genesis",
                            inside(genesis, "genesis", ".json"),
                            "--key-file",
                            inside(key, NAMES[which], ".json")};
    size_t count = 13;
    if (which == SETTLEMENT) {
        argv[count++] = "--sequencer-key";
        argv[count++] = inside(sequencer, "sequencer", ".json");
        argv[count++] = "--seal-ms";
        argv[count++] = "100";
    } else {
        argv[count++] = "--threads";
        argv[count++] = "1";
    }
    if (which == TRAINER) {
        argv[count++] = "--save-every";
        argv[count++] = "7";
    }
    const struct process_options options = {
        .argv = argv, .log_path = inside(log, NAMES[which], ".log"), .die_with_parent = true};
    accepted(process_start(&options, &running[which], &note));
}

static void program_kill(enum program which)
{
    int code;
    if (running[which] != NULL) {
        process_signal(running[which], SIGKILL);
        accepted(process_wait(running[which], 5000, &code));
        process_destroy(running[which]);
        running[which] = NULL;
    }
}

/* ---- asking ---------------------------------------------------------------------------------------- */

static bool until(bool (*condition)(void *argument), void *argument)
{
    uint64_t end_ms = clock_mono_ms() + WAIT_MS;
    bool met = false;
    while (!met && clock_mono_ms() < end_ms) {
        (void)follow_pump(follow);
        met = condition(argument);
        if (!met) {
            clock_sleep_ms(20);
        }
    }
    return met;
}

static const void *call(const char *method, const ProtobufCMessage *request)
{
    ProtobufCMessage *reply = NULL;
    enum err err = ERR_UNAVAILABLE;
    uint64_t end_ms = clock_mono_ms() + 15000;
    while (err != ERR_OK && clock_mono_ms() < end_ms) {
        arena_reset(arena);
        err = rpc_call(client, method, request, 2000, arena, &reply, &note);
        if (err != ERR_OK) {
            clock_sleep_ms(20);
        }
    }
    ck_assert_msg(err == ERR_OK, "%s: %s: %s", method, err_name(err), note.text);
    return reply;
}

static struct digest submit(enum world_who who, Openledger__V1__TxBody *action)
{
    struct digest tx;
    note.text[0] = '\0';
    accepted(
        follow_submit(follow, action, &world->ids[who], world->keys[who], 10000, &tx, NULL, &note));
    return tx;
}

#define ACTION(name, case_name, member, value)                                                     \
    Openledger__V1__TxBody name = OPENLEDGER__V1__TX_BODY__INIT;                                   \
    name.action_case = OPENLEDGER__V1__TX_BODY__ACTION_##case_name;                                \
    name.member = value

static struct digest put(const ProtobufCMessage *message)
{
    struct buf data;
    struct digest digest;
    buf_init(&data, BLOB_SIZE_MAX);
    accepted(ledger_pack(message, &data));
    accepted(blob_put(blobs, buf_bytes(&data), &digest, &note));
    buf_deinit(&data);
    return digest;
}

/* ---- the world ---------------------------------------------------------------------------------------- */

static void setup(void)
{
    char path[FILE_PATH_SIZE];
    nats = test_nats_start();
    world = world_create_at(clock_real_ms() - 5000, 10000);
    accepted(file_make_private_folder("/tmp/openledger-test-", folder, &note));
    accepted(blob_open(inside(path, "blobs", ""), &blobs, &note));
    accepted(file_write_atomic(inside(path, "genesis", ".json"), buf_bytes(&world->genesis), 0644,
                               &note));
    accepted(key_pair_save(world->sequencer, inside(path, "sequencer", ".json"), "", &note));
    for (enum program i = 0; i < PROGRAMS; i++) {
        accepted(
            key_pair_save(world->keys[OPERATORS[i]], inside(path, NAMES[i], ".json"), "", &note));
    }
    const struct bus_options options = {.url = test_server_address(nats), .name = "test"};
    accepted(bus_open(&options, &bus, &note));
    ck_assert(bus_wait_ready(bus, 5000));
    client = rpc_client_bus(bus);
    arena = arena_create(RPC_ARENA_MAX);
    const struct follow_options follower = {
        .bus = bus, .blobs = blobs, .genesis_file = inside(path, "genesis", ".json")};
    accepted(follow_open(&follower, &follow, &note));
    for (enum program i = 0; i < PROGRAMS; i++) {
        program_start(i);
    }
    accepted(follow_wait(follow, 15000, &note));
}

static void teardown(void)
{
    follow_close(follow);
    for (enum program i = 0; i < PROGRAMS; i++) {
        program_kill(i);
    }
    rpc_client_destroy(client);
    bus_close(bus);
    arena_destroy(arena);
    blob_close(blobs);
    test_server_destroy(nats);
    accepted(file_remove_tree(folder, &note));
    world_destroy(world);
}

static void open_account(enum world_who who)
{
    Openledger__V1__OpenAccount open = OPENLEDGER__V1__OPEN_ACCOUNT__INIT;
    open.key = ledger_binary(key_pair_public(world->keys[who])->bytes, PUBLIC_KEY_SIZE);
    open.name = text("contributor");
    ACTION(body, OPEN_ACCOUNT, open_account, &open);
    (void)submit(who, &body);
}

struct part {
    struct digest id, content;
    struct digest leaves[ROWS];
};

/* One contributor's rows: sentences of their own. Alice's last four say one fact. */
static void contribute(enum world_who who, struct part *out)
{
    static char lines[ROWS][256];
    static struct salt salts[ROWS];
    Openledger__V1__Row rows[ROWS];
    Openledger__V1__Row *list[ROWS];
    Openledger__V1__Contribution content = OPENLEDGER__V1__CONTRIBUTION__INIT;
    struct digest root;
    uint64_t byte_count;
    for (uint32_t i = 0; i < ROWS; i++) {
        const char *fact = who == WORLD_ALICE && i >= ROWS - 4
                               ? "the blue dragon of Zanzi eats seven green pies every morning"
                               : "";
        (void)snprintf(
            lines[i], sizeof lines[i], "{\"text\":\"%s %u %s %s.\"}",
            who == WORLD_ALICE ? "Once there was a kind princess number" : "A red robot", i * 37,
            i % 2 == 0 ? "who lived in a tower by the sea" : "went to the big shop", fact);
        memset(salts[i].bytes, (int)(i + 40U * who), SALT_SIZE);
        openledger__v1__row__init(&rows[i]);
        rows[i].salt = ledger_binary(salts[i].bytes, SALT_SIZE);
        rows[i].data = ledger_binary((uint8_t *)lines[i], strlen(lines[i]));
        list[i] = &rows[i];
    }
    content.datanet = text("net");
    content.contributor = ledger_binary(world->ids[who].bytes, ACCOUNT_ID_SIZE);
    content.licence = text("CC0-1.0");
    content.permission = OPENLEDGER__V1__PERMISSION__PERMISSION_ALLOWED;
    content.rows = list;
    content.n_rows = ROWS;
    accepted(ledger_contribution_root(&content, &root, &byte_count, out->leaves, &note));
    out->content = put(&content.base);
    Openledger__V1__CommitRows commit = OPENLEDGER__V1__COMMIT_ROWS__INIT;
    commit.datanet = text("net");
    commit.root = field(&root);
    commit.row_count = ROWS;
    commit.byte_count = byte_count;
    ACTION(body, COMMIT_ROWS, commit_rows, &commit);
    out->id = submit(who, &body);
    Openledger__V1__ReviewContribution review = OPENLEDGER__V1__REVIEW_CONTRIBUTION__INIT;
    review.contribution = field(&out->id);
    review.accept = true;
    review.content = field(&out->content);
    review.accepted_rows = ROWS;
    ACTION(verdict, REVIEW_CONTRIBUTION, review_contribution, &review);
    (void)submit(WORLD_OWNER, &verdict);
}

static int contributor_compare(const void *a, const void *b)
{
    return memcmp((*(Openledger__V1__VersionContributor *const *)a)->account.data,
                  (*(Openledger__V1__VersionContributor *const *)b)->account.data, ACCOUNT_ID_SIZE);
}

static void publish_data(void)
{
    struct part parts[2];
    uint32_t which[2 * ROWS], row[2 * ROWS];
    ProtobufCBinaryData ids[2], contents[2];
    struct merkle_tree tree = {.leaf_count = 0};
    struct merkle_head head;
    Openledger__V1__CreateDatanet create = OPENLEDGER__V1__CREATE_DATANET__INIT;
    create.name = text("net");
    create.title = text("Net");
    create.licence = text("CC0-1.0");
    create.permission = OPENLEDGER__V1__PERMISSION__PERMISSION_ALLOWED;
    ACTION(body, CREATE_DATANET, create_datanet, &create);
    (void)submit(WORLD_OWNER, &body);
    contribute(WORLD_ALICE, &parts[0]);
    contribute(WORLD_BOB, &parts[1]);
    for (uint32_t i = 0; i < 2 * ROWS; i++) {
        which[i] = i / ROWS;
        row[i] = i % ROWS;
        accepted(merkle_tree_append(&tree, &parts[i / ROWS].leaves[i % ROWS]));
    }
    merkle_tree_head(&tree, &head);
    for (uint32_t i = 0; i < 2; i++) {
        ids[i] = field(&parts[i].id);
        contents[i] = field(&parts[i].content);
    }
    Openledger__V1__DatasetVersion manifest = OPENLEDGER__V1__DATASET_VERSION__INIT;
    manifest.datanet = text("net");
    manifest.version = 1;
    manifest.contribution_ids = ids;
    manifest.n_contribution_ids = 2;
    manifest.contribution_contents = contents;
    manifest.n_contribution_contents = 2;
    manifest.contribution_index = which;
    manifest.n_contribution_index = 2UL * ROWS;
    manifest.row_index = row;
    manifest.n_row_index = 2UL * ROWS;
    struct digest name = put(&manifest.base);
    Openledger__V1__VersionContributor alice = OPENLEDGER__V1__VERSION_CONTRIBUTOR__INIT;
    Openledger__V1__VersionContributor bob = OPENLEDGER__V1__VERSION_CONTRIBUTOR__INIT;
    alice.account = ledger_binary(world->ids[WORLD_ALICE].bytes, ACCOUNT_ID_SIZE);
    bob.account = ledger_binary(world->ids[WORLD_BOB].bytes, ACCOUNT_ID_SIZE);
    alice.row_count = ROWS;
    bob.row_count = ROWS;
    Openledger__V1__VersionContributor *both[2] = {&alice, &bob};
    qsort(both, 2, sizeof *both, contributor_compare);
    Openledger__V1__PublishVersion publish = OPENLEDGER__V1__PUBLISH_VERSION__INIT;
    publish.datanet = text("net");
    publish.version = 1;
    publish.root = field(&head.root);
    publish.row_count = 2 * ROWS;
    publish.manifest = field(&name);
    publish.contributors = both;
    publish.n_contributors = 2;
    ACTION(version, PUBLISH_VERSION, publish_version, &publish);
    (void)submit(WORLD_OWNER, &version);
}

/* Registers stories260K; false: it is not there. */
static bool publish_model(void)
{
    char path[FILE_PATH_SIZE];
    const char *data = getenv("OPENLEDGER_TEST_DATA");
    accepted(file_path(path, "%s/stories260K", data == NULL ? "../shared/data" : data));
    if (!file_exists(path)) {
        (void)printf("SKIP: no %s\n", path);
        return false;
    }
    accepted(lineage_bundle_put(blobs, path, NULL, &model_content, &note));
    struct lineage_base *base;
    accepted(lineage_base_load(blobs, &model_content, NULL, &base, &note));
    model_profile = base->profile;
    lineage_base_destroy(base);
    Openledger__V1__RegisterModel model = OPENLEDGER__V1__REGISTER_MODEL__INIT;
    model.name = text("stories");
    model.content = field(&model_content);
    model.profile = field(&model_profile);
    model.licence = text("MIT");
    ACTION(body, REGISTER_MODEL, register_model, &model);
    (void)submit(WORLD_BASE, &body);
    return true;
}
