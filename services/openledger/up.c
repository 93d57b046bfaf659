/* up.c - `openledger up`: starts the servers and services of a suite and keeps them running.
 *
 * Order of life: nats-server and redis-server, then the services, all at once: each waits by itself for
 * what it needs. Whatever ends is started again after RESTART_MS. When the front door and settlement
 * answer, the operators' bonds are made good and the suite is announced in suite.json. On SIGTERM the
 * services stop first, then the servers. One thread. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "services/openledger/act.h"
#include "services/openledger/output.h"
#include "services/openledger/suite.h"
#include "shared/base/check.h"
#include "shared/json/json.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"
#include "shared/platform/process.h"
#include "shared/platform/signals.h"

enum {
    RESTART_MS = 500,
    TICK_MS = 100,
    READY_MS = 60000, /* from the start until everything must answer */
    STOP_MS = 6000,
    ARGS_MAX = 24,
    ARG_SIZE = FILE_PATH_SIZE
};

struct program {
    const char *name;
    char args[ARGS_MAX][ARG_SIZE];
    const char *argv[ARGS_MAX + 1];
    uint32_t arg_count;
    char log[FILE_PATH_SIZE];
    struct process *process;
    uint64_t restart_at_ms; /* 0: it runs */
    uint32_t starts;
};

struct up {
    const struct suite_options *options;
    struct program programs[SUITE_PROGRAMS];
    uint32_t count;
    char bin[FILE_PATH_SIZE];
    char genesis[FILE_PATH_SIZE];
    char url[64], nats[64], redis[64];
    char witnesses[SUITE_WITNESSES_MAX * 32]; /* URLs */
};

static void add_arg(struct program *program, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void add_arg(struct program *program, const char *format, ...)
{
    CHECK(program->arg_count < ARGS_MAX);
    char *arg = program->args[program->arg_count];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(arg, ARG_SIZE, format, args);
    va_end(args);
    program->argv[program->arg_count++] = arg;
    program->argv[program->arg_count] = NULL;
}

static struct program *add_program(struct up *up, const char *name)
{
    CHECK(up->count < SUITE_PROGRAMS);
    struct program *program = &up->programs[up->count++];
    program->name = name;
    (void)snprintf(program->log, sizeof program->log, "%s/logs/%s.log", up->options->folder, name);
    return program;
}

/* nats-server takes what matters here from flags alone. */
static void add_servers(struct up *up, uint16_t nats_port, uint16_t redis_port)
{
    struct program *nats = add_program(up, "nats-server");
    add_arg(nats, "nats-server");
    add_arg(nats, "-a");
    add_arg(nats, "127.0.0.1");
    add_arg(nats, "-p");
    add_arg(nats, "%u", nats_port);
    add_arg(nats, "-js");
    add_arg(nats, "-sd");
    add_arg(nats, "%s/nats", up->options->folder);
    struct program *redis = add_program(up, "redis-server");
    add_arg(redis, "redis-server");
    add_arg(redis, "--bind");
    add_arg(redis, "127.0.0.1");
    add_arg(redis, "--port");
    add_arg(redis, "%u", redis_port);
    add_arg(redis, "--dir");
    add_arg(redis, "%s/redis", up->options->folder);
    add_arg(redis, "--save");
    add_arg(redis, "%s", "");
    (void)snprintf(up->nats, sizeof up->nats, "nats://127.0.0.1:%u", nats_port);
    (void)snprintf(up->redis, sizeof up->redis, "127.0.0.1:%u", redis_port);
}

static void add_service(struct up *up, const char *name)
{
    struct program *program = add_program(up, name);
    const char *folder = up->options->folder;
    add_arg(program, "%s/%s", up->bin, name);
    add_arg(program, "--nats-url=%s", up->nats);
    add_arg(program, "--redis=%s", up->redis);
    add_arg(program, "--data-dir=%s/data", folder);
    add_arg(program, "--blob-dir=%s/blobs", folder);
    add_arg(program, "--genesis=%s", up->genesis);
    add_arg(program, "--key-file=%s/keys/%s.json", folder, name);
    if (strcmp(name, "lora-gateway") == 0) {
        add_arg(program, "--http=%s", up->options->http);
    }
}

/* A witness asks the front door for what it replays; settlement asks it to cosign. */
static enum err add_witnesses(struct up *up, struct note *note)
{
    static const char *const NAMES[] = {"witness-1", "witness-2", "witness-3"};
    const char *folder = up->options->folder;
    enum err err = ERR_OK;
    const uint32_t count = up->options->witnesses;
    CHECK(count <= sizeof NAMES / sizeof *NAMES);
    for (uint32_t i = 0; i < count && err == ERR_OK; i++) {
        uint16_t port = 0;
        err = process_free_port(&port, note);
        struct program *program = add_program(up, NAMES[i]);
        add_arg(program, "%s/openledger", up->bin);
        add_arg(program, "witness");
        add_arg(program, "--log=%s", up->url);
        add_arg(program, "--genesis=%s", up->genesis);
        add_arg(program, "--key-file=%s/keys/%s.json", folder, NAMES[i]);
        add_arg(program, "--dir=%s/data/%s", folder, NAMES[i]);
        add_arg(program, "--http=127.0.0.1:%u", port);
        add_arg(program, "--name=openledger-local/%s", NAMES[i]);
        size_t size = strlen(up->witnesses);
        (void)snprintf(up->witnesses + size, sizeof up->witnesses - size, "%shttp://127.0.0.1:%u",
                       i == 0 ? "" : ",", port);
    }
    return err;
}

/* Replicas of the ledger: the first keeps its data where a lone one does, so that one can become many. */
static void add_settlement(struct up *up)
{
    static const char *const NAMES[SUITE_REPLICAS_MAX] = {
        "settlement",   "settlement-2", "settlement-3", "settlement-4",
        "settlement-5", "settlement-6", "settlement-7"};
    uint32_t count = up->options->settlement_replicas == 0 ? 1 : up->options->settlement_replicas;
    CHECK(count <= SUITE_REPLICAS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        add_service(up, "settlement");
        struct program *program = &up->programs[up->count - 1];
        add_arg(program, "--witnesses=%s", up->witnesses);
        if (count == 1) {
            return;
        }
        program->name = NAMES[i];
        (void)snprintf(program->log, sizeof program->log, "%s/logs/%s.log", up->options->folder,
                       NAMES[i]);
        add_arg(program, "--replica=%u", i + 1);
        add_arg(program, "--replica-count=%u", count);
        if (i > 0) { /* the last one given counts */
            add_arg(program, "--data-dir=%s/data/replica-%u", up->options->folder, i + 1);
        }
    }
}

static enum err plan(struct up *up, struct note *note)
{
    static const char *const SERVICES[] = {"settlement", "registry",     "datanet",
                                           "trainer",    "lora-gateway", "attribution"};
    uint16_t nats_port = 0;
    uint16_t redis_port = 0;
    const char *folder = up->options->folder;
    enum err err = file_self(up->bin, note);
    err = err != ERR_OK ? err : process_free_port(&nats_port, note);
    err = err != ERR_OK ? err : process_free_port(&redis_port, note);
    if (err != ERR_OK) {
        return err;
    }
    char *slash = strrchr(up->bin, '/');
    CHECK(slash != NULL);
    *slash = '\0';
    err = up->options->genesis != NULL ? file_path(up->genesis, "%s", up->options->genesis)
                                       : file_path(up->genesis, "%s/genesis.json", folder);
    (void)snprintf(up->url, sizeof up->url, "http://%s", up->options->http);
    add_servers(up, nats_port, redis_port);
    err = err != ERR_OK ? err : add_witnesses(up, note);
    for (size_t i = 0; i < sizeof SERVICES / sizeof SERVICES[0]; i++) {
        if (strcmp(SERVICES[i], "settlement") == 0) {
            add_settlement(up);
        } else {
            add_service(up, SERVICES[i]);
        }
    }
    return err;
}

static enum err write_info(const struct up *up, struct note *note)
{
    char path[FILE_PATH_SIZE];
    struct buf text;
    struct json_writer writer;
    buf_init(&text, 65536);
    json_writer_init(&writer, &text, true);
    json_begin_object(&writer);
    json_put_text(&writer, "url", up->url);
    json_put_text(&writer, "nats", up->nats);
    json_put_text(&writer, "redis", up->redis);
    json_put_text(&writer, "folder", up->options->folder);
    json_put_i64(&writer, "pid", (int64_t)getpid());
    json_write_key(&writer, "programs");
    json_begin_array(&writer);
    for (uint32_t i = 0; i < up->count; i++) {
        const struct program *program = &up->programs[i];
        json_begin_object(&writer);
        json_put_text(&writer, "name", program->name);
        json_put_i64(&writer, "pid", program->process != NULL ? process_pid(program->process) : 0);
        json_put_u64(&writer, "starts", program->starts);
        json_end_object(&writer);
    }
    json_end_array(&writer);
    json_end_object(&writer);
    enum err err = file_path(path, "%s/suite.json", up->options->folder);
    err = err != ERR_OK ? err : buf_err(&text);
    err = err != ERR_OK ? err : file_write_quick(path, buf_bytes(&text), 0644, note);
    buf_deinit(&text);
    return err;
}

static enum err start_program(struct program *program, struct note *note)
{
    struct process_options options = {.argv = program->argv,
                                      .log_path = program->log,
                                      .die_with_parent = true,
                                      .own_group = true};
    process_destroy(program->process);
    program->process = NULL;
    enum err err = process_start(&options, &program->process, note);
    program->restart_at_ms = err == ERR_OK ? 0 : clock_mono_ms() + RESTART_MS;
    program->starts++;
    return err;
}

/* Looks after every program once; says on standard error what ended. */
static bool tend(struct up *up)
{
    bool changed = false;
    uint64_t now_ms = clock_mono_ms();
    for (uint32_t i = 0; i < up->count; i++) {
        struct program *program = &up->programs[i];
        int exit_code = 0;
        struct note note = {""};
        if (program->restart_at_ms != 0 && now_ms >= program->restart_at_ms) {
            if (start_program(program, &note) != ERR_OK) {
                (void)output_error("%s: %s", program->name, note.text);
            }
            changed = true;
        } else if (program->restart_at_ms == 0 &&
                   process_wait(program->process, 0, &exit_code) == ERR_OK) {
            (void)fprintf(stderr, "%s ended with %d, starting it again (log: %s)\n", program->name,
                          exit_code, program->log);
            program->restart_at_ms = now_ms + RESTART_MS;
            changed = true;
        }
    }
    return changed;
}

static void stop_all(struct up *up)
{
    for (uint32_t i = up->count; i > 0; i--) { /* services all at once, before the servers */
        if (i > 2 && up->programs[i - 1].process != NULL) {
            process_signal(up->programs[i - 1].process, SIGTERM);
        }
    }
    for (uint32_t i = up->count; i > 0; i--) {
        struct program *program = &up->programs[i - 1];
        if (program->process != NULL) {
            process_stop(program->process, STOP_MS);
            process_destroy(program->process);
            program->process = NULL;
        }
    }
    char path[FILE_PATH_SIZE];
    if (file_path(path, "%s/suite.json", up->options->folder) == ERR_OK && file_exists(path)) {
        struct note note;
        if (file_remove(path, &note) != ERR_OK) {
            (void)output_error("%s", note.text);
        }
    }
}

/* ---- bonds ---- */

static bool has_bond(const Openledger__V1__AccountState *state, Openledger__V1__Role role)
{
    for (size_t i = 0; i < state->n_bonds; i++) {
        if (state->bonds[i]->role == role && strcmp(state->bonds[i]->amount, "0") != 0) {
            return true;
        }
    }
    return false;
}

/* An operator that may act is bonded; its money comes from genesis. */
static enum err ensure_bond(struct cli *cli, const char *folder, const char *name,
                            Openledger__V1__Role role)
{
    char path[FILE_PATH_SIZE];
    struct key_pair *keys = NULL;
    struct account_id id;
    const Openledger__V1__AccountState *state = NULL;
    enum err err = file_path(path, "%s/keys/%s.json", folder, name);
    err = err != ERR_OK ? err : key_pair_load(path, "", &keys, &cli->note);
    if (err != ERR_OK) {
        return err;
    }
    Openledger__V1__GetAccountRequest request = OPENLEDGER__V1__GET_ACCOUNT_REQUEST__INIT;
    account_id_from_key(key_pair_public(keys), &id);
    request.account = ledger_binary(id.bytes, ACCOUNT_ID_SIZE);
    err = cli_call(cli, "Settlement.GetAccount", &request.base, &state);
    if (err == ERR_OK && !has_bond(state, role)) {
        err = act_bond(cli, keys, role, "10000");
    }
    key_pair_destroy(keys);
    return err;
}

/* Trainer and attribution bond themselves; these two have no other reason to. */
static enum err ensure_bonds(struct cli *cli, const char *folder)
{
    enum err err = ensure_bond(cli, folder, "settlement", OPENLEDGER__V1__ROLE__ROLE_VALIDATOR);
    return err != ERR_OK
               ? err
               : ensure_bond(cli, folder, "lora-gateway", OPENLEDGER__V1__ROLE__ROLE_GATEWAY);
}

/* Tends the programs until the front door reaches settlement. */
static enum err wait_ready(struct up *up, struct cli *cli)
{
    Openledger__V1__Empty request = OPENLEDGER__V1__EMPTY__INIT;
    const Openledger__V1__LedgerInfo *info;
    uint64_t end_ms = clock_mono_ms() + READY_MS;
    while (!signals_stop_requested()) {
        (void)tend(up);
        if (cli_call(cli, "Settlement.GetInfo", &request.base, &info) == ERR_OK) {
            return ensure_bonds(cli, up->options->folder);
        }
        if (clock_mono_ms() >= end_ms) {
            return note_wrap(&cli->note, ERR_TIMEOUT, "not ready after %d s (logs in %s/logs)",
                             READY_MS / 1000, up->options->folder);
        }
        (void)signals_wait(TICK_MS);
    }
    return ERR_CANCELLED;
}

int suite_run(const struct suite_options *options)
{
    static struct up up; /* large, and one per process */
    struct cli cli = {.settings = NULL};
    struct note note = {""};
    up = (struct up){.options = options};
    signals_init();
    enum err err = suite_prepare(options, &note);
    err = err != ERR_OK ? err : plan(&up, &note);
    err = err != ERR_OK ? err : cli_connect(&cli, up.url, options->folder);
    for (uint32_t i = 0; i < up.count && err == ERR_OK; i++) {
        err = start_program(&up.programs[i], &note);
        err = err == ERR_OK ? err : note_wrap(&note, err, "%s", up.programs[i].name);
    }
    if (err == ERR_OK) {
        err = wait_ready(&up, &cli);
        note = cli.note;
    }
    err = err != ERR_OK ? err : write_info(&up, &note);
    if (err == ERR_OK) {
        printf("up: %s\n", up.url);
        (void)fflush(stdout);
    }
    while (err == ERR_OK && !signals_wait(TICK_MS)) {
        if (tend(&up)) {
            err = write_info(&up, &note);
        }
    }
    stop_all(&up);
    cli_close(&cli);
    if (err != ERR_OK && err != ERR_CANCELLED) {
        return output_error("up: %s", note.text);
    }
    return 0;
}
