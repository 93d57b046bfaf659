/* suite.c - preparing a suite's folder and reading what runs there; see suite.h. */
#include "services/openledger/suite.h"

#include <stdio.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/json/json.h"
#include "shared/json/message.h"
#include "shared/ledger/params.h"
#include "shared/platform/clock.h"

const struct suite_allocation SUITE_ALLOCATIONS[] = {
    SUITE_ALLOCATIONS_COMMON,
    {"treasury", "ecosystem", "99600000", 0, 0},
    {"settlement", "ecosystem", "100000", 0, 0},
    {"lora-gateway", "ecosystem", "100000", 0, 0},
    {"attribution", "ecosystem", "100000", 0, 0},
    {"trainer", "ecosystem", "100000", 0, 0},
};
const size_t SUITE_ALLOCATION_COUNT = sizeof SUITE_ALLOCATIONS / sizeof SUITE_ALLOCATIONS[0];

/* Whose keys a suite needs, whoever has money at genesis. */
static const char *const OPERATORS[] = {"settlement", "lora-gateway", "attribution", "trainer",
                                        "platform"};

enum { GENESIS_MAX = 1 << 22 };

static enum err load_key(const char *folder, const char *name, bool create,
                         struct key_pair **out_keys, struct note *note)
{
    char path[FILE_PATH_SIZE];
    enum err err = file_path(path, "%s/keys/%s.json", folder, name);
    if (err != ERR_OK) {
        return note_set(note, err, "the suite's folder name is too long");
    }
    return create ? key_pair_load_or_create(path, "", out_keys, note)
                  : key_pair_load(path, "", out_keys, note);
}

static enum err fill_allocation(const char *folder, const struct suite_allocation *wanted,
                                struct arena *arena, Openledger__V1__Allocation *allocation,
                                struct note *note)
{
    struct key_pair *keys = NULL;
    enum err err = load_key(folder, wanted->name, true, &keys, note);
    if (err != ERR_OK) {
        return err;
    }
    struct account_id id;
    account_id_from_key(key_pair_public(keys), &id);
    openledger__v1__allocation__init(allocation);
    allocation->account.data = arena_dup(arena, id.bytes, ACCOUNT_ID_SIZE);
    allocation->account.len = ACCOUNT_ID_SIZE;
    allocation->key.data = arena_dup(arena, key_pair_public(keys)->bytes, PUBLIC_KEY_SIZE);
    allocation->key.len = PUBLIC_KEY_SIZE;
    allocation->name = arena_strdup(arena, wanted->name);
    allocation->amount = arena_strdup(arena, wanted->amount);
    allocation->category = arena_strdup(arena, wanted->category);
    allocation->cliff_ms = wanted->cliff_ms;
    allocation->vest_ms = wanted->vest_ms;
    key_pair_destroy(keys);
    return ERR_OK;
}

/* The table's defaults, and what the options say instead. */
static enum err fill_parameters(const struct suite_options *options, struct arena *arena,
                                Openledger__V1__Parameters **out, struct note *note)
{
    struct ledger_parameters parameters;
    enum err err = ERR_OK;
    ledger_parameters_defaults(&parameters);
    for (size_t i = 0; i < options->parameter_count && err == ERR_OK; i++) {
        const struct ledger_parameter *row = ledger_parameter_find(options->parameters[i].name);
        CHECK(row != NULL);
        err = ledger_parameter_set(row, options->parameters[i].value, &parameters, note);
    }
    *out = ledger_parameters_message(&parameters, arena);
    return err == ERR_OK && *out == NULL ? ERR_NO_MEMORY : err;
}

static enum err public_part(const char *folder, const char *name, struct arena *arena,
                            ProtobufCBinaryData *out_key, ProtobufCBinaryData *out_account,
                            struct note *note)
{
    struct key_pair *keys = NULL;
    struct account_id id;
    enum err err = load_key(folder, name, false, &keys, note);
    if (err == ERR_OK) {
        account_id_from_key(key_pair_public(keys), &id);
        *out_key = (ProtobufCBinaryData){
            .data = arena_dup(arena, key_pair_public(keys)->bytes, PUBLIC_KEY_SIZE),
            .len = PUBLIC_KEY_SIZE};
        *out_account = (ProtobufCBinaryData){.data = arena_dup(arena, id.bytes, ACCOUNT_ID_SIZE),
                                             .len = ACCOUNT_ID_SIZE};
    }
    key_pair_destroy(keys);
    return err;
}

/* Their keys, and that more than half of them make a checkpoint final. */
static enum err fill_witnesses(const struct suite_options *options, struct arena *arena,
                               Openledger__V1__Genesis *genesis, struct note *note)
{
    enum err err = ERR_OK;
    uint32_t count = options->witnesses;
    Openledger__V1__Witness *items = arena_alloc_array(arena, count + 1, sizeof *items);
    genesis->witnesses = arena_alloc_array(arena, count + 1, sizeof(Openledger__V1__Witness *));
    if (items == NULL || genesis->witnesses == NULL) {
        return ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < count && err == ERR_OK; i++) {
        ProtobufCBinaryData unused;
        char key[32];
        char name[64];
        (void)snprintf(key, sizeof key, "witness-%u", i + 1);
        (void)snprintf(name, sizeof name, "openledger-local/witness-%u", i + 1);
        openledger__v1__witness__init(&items[i]);
        err = public_part(options->folder, key, arena, &items[i].key, &unused, note);
        items[i].name = arena_strdup(arena, name);
        genesis->witnesses[i] = &items[i];
    }
    genesis->n_witnesses = count;
    genesis->witness_quorum = count == 0 ? 0 : count / 2 + 1;
    return err;
}

static enum err make_genesis(const struct suite_options *options, struct arena *arena,
                             struct buf *out, struct note *note)
{
    Openledger__V1__Genesis genesis = OPENLEDGER__V1__GENESIS__INIT;
    ProtobufCBinaryData unused;
    size_t count = options->allocation_count;
    Openledger__V1__Allocation *items = arena_alloc_array(arena, count, sizeof *items);
    Openledger__V1__Allocation **pointers =
        arena_alloc_array(arena, count, sizeof(Openledger__V1__Allocation *));
    enum err err = items == NULL || pointers == NULL ? ERR_NO_MEMORY : ERR_OK;
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        err = fill_allocation(options->folder, &options->allocations[i], arena, &items[i], note);
        pointers[i] = &items[i];
    }
    err = err != ERR_OK ? err
                        : public_part(options->folder, "settlement", arena, &genesis.sequencer_key,
                                      &unused, note);
    err = err != ERR_OK ? err
                        : public_part(options->folder, "platform", arena, &unused,
                                      &genesis.platform_account, note);
    err = err != ERR_OK ? err : fill_witnesses(options, arena, &genesis, note);
    err = err != ERR_OK ? err : fill_parameters(options, arena, &genesis.parameters, note);
    if (err != ERR_OK) {
        return err;
    }
    genesis.chain_name = arena_strdup(arena, "openledger-local");
    genesis.time_ms = clock_real_ms();
    genesis.allocations = pointers;
    genesis.n_allocations = count;
    return json_from_message(&genesis.base, JSON_MESSAGE_PRETTY, out, note);
}

static enum err ensure_genesis(const struct suite_options *options, struct note *note)
{
    char path[FILE_PATH_SIZE];
    enum err err = file_path(path, "%s/genesis.json", options->folder);
    if (err != ERR_OK || file_exists(path)) {
        return err;
    }
    struct arena *arena = arena_create(GENESIS_MAX);
    struct buf text;
    buf_init(&text, GENESIS_MAX);
    err = arena == NULL ? ERR_NO_MEMORY : make_genesis(options, arena, &text, note);
    err = err != ERR_OK ? err : file_write_atomic(path, buf_bytes(&text), 0644, note);
    buf_deinit(&text);
    arena_destroy(arena);
    return err;
}

enum err suite_prepare(const struct suite_options *options, struct note *note)
{
    static const char *const FOLDERS[] = {"keys", "blobs", "data", "logs", "nats", "redis"};
    enum err err = ERR_OK;
    for (size_t i = 0; i < sizeof FOLDERS / sizeof FOLDERS[0] && err == ERR_OK; i++) {
        char path[FILE_PATH_SIZE];
        err = file_path(path, "%s/%s", options->folder, FOLDERS[i]);
        err = err != ERR_OK ? err : file_make_folders(path, note);
    }
    for (size_t i = 0; i < sizeof OPERATORS / sizeof OPERATORS[0] && err == ERR_OK; i++) {
        struct key_pair *keys = NULL;
        err = load_key(options->folder, OPERATORS[i], true, &keys, note);
        key_pair_destroy(keys);
    }
    for (uint32_t i = 0; i < options->witnesses && err == ERR_OK; i++) {
        struct key_pair *keys = NULL;
        char name[32];
        (void)snprintf(name, sizeof name, "witness-%u", i + 1);
        err = load_key(options->folder, name, true, &keys, note);
        key_pair_destroy(keys);
    }
    return err != ERR_OK || options->genesis != NULL ? err : ensure_genesis(options, note);
}

/* ---- what runs ---- */

static void copy_text(const struct json *object, const char *key, char *out, size_t size)
{
    const char *value = json_as_text(json_member(object, key), "");
    size_t length = strlen(value);
    length = length < size ? length : size - 1;
    (void)memcpy(out, value, length);
    out[length] = '\0';
}

enum err suite_read(const char *folder, struct suite_info *out_info, struct note *note)
{
    char path[FILE_PATH_SIZE];
    struct buf text;
    struct json *root = NULL;
    struct suite_info info = {.pid = 0};
    buf_init(&text, 65536);
    enum err err = file_path(path, "%s/suite.json", folder);
    err = err != ERR_OK ? err : file_read(path, &text, note);
    if (err == ERR_NOT_FOUND) {
        err = note_set(note, err, "nothing runs in %s", folder);
    }
    err = err != ERR_OK ? err : json_parse(buf_bytes(&text), 65536, &root, note);
    if (err == ERR_OK) {
        copy_text(root, "url", info.url, sizeof info.url);
        copy_text(root, "nats", info.nats, sizeof info.nats);
        copy_text(root, "redis", info.redis, sizeof info.redis);
        copy_text(root, "folder", info.folder, sizeof info.folder);
        info.pid = (int)json_as_i64(json_member(root, "pid"), 0);
        const struct json *programs = json_member(root, "programs");
        for (size_t i = 0; i < json_count(programs) && i < SUITE_PROGRAMS; i++) {
            const struct json *program = json_item(programs, i);
            copy_text(program, "name", info.programs[i].name, sizeof info.programs[i].name);
            info.programs[i].pid = (int)json_as_i64(json_member(program, "pid"), 0);
            info.programs[i].starts = (uint32_t)json_as_i64(json_member(program, "starts"), 0);
            info.program_count = i + 1;
        }
        *out_info = info;
    }
    json_destroy(root);
    buf_deinit(&text);
    return err;
}
