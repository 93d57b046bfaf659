/* cmd_suite.c - up, down, status: a suite on this machine. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "services/openledger/commands.h"
#include "services/openledger/output.h"
#include "services/openledger/suite.h"
#include "shared/json/json.h"
#include "shared/platform/clock.h"
#include "shared/platform/process.h"

enum { STOP_WAIT_MS = 20000 };

static const struct setting UP_SETTINGS[] = {
    {.name = "dir",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "the suite's folder: keys, ledger, blobs, logs; empty: --home"},
    {.name = "http",
     .type = SETTING_TEXT,
     .fallback = "127.0.0.1:8080",
     .doc = "address of the front door"},
    {.name = "genesis",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "genesis file; empty: one is made for development"},
    {.name = "witnesses",
     .type = SETTING_U64,
     .fallback = "3",
     .max = SUITE_WITNESSES_MAX,
     .doc = "witnesses that replay the log and cosign its checkpoints"},
    {.name = "settlement-replicas",
     .type = SETTING_U64,
     .fallback = "1",
     .min = 1,
     .max = SUITE_REPLICAS_MAX,
     .doc = "processes that keep the ledger; with 3, any one may die and payments go on"},
};

static const char *suite_folder(const struct cli *cli)
{
    const char *folder = settings_text(cli->settings, "dir");
    return folder[0] != '\0' ? folder : cli->home;
}

int cmd_up(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger up",
        .usage = "",
        .about = "Runs the whole suite on this machine: nats-server, redis-server, six services.\n"
                 "Ends with SIGTERM, Ctrl-C or `openledger down`.",
        .settings = UP_SETTINGS,
        .count = sizeof UP_SETTINGS / sizeof UP_SETTINGS[0]};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    const char *genesis = settings_text(cli.settings, "genesis");
    struct suite_options options = {
        .folder = suite_folder(&cli),
        .http = settings_text(cli.settings, "http"),
        .genesis = genesis[0] != '\0' ? genesis : NULL,
        .allocations = SUITE_ALLOCATIONS,
        .allocation_count = SUITE_ALLOCATION_COUNT,
        .witnesses = (uint32_t)settings_u64(cli.settings, "witnesses"),
        .settlement_replicas = (uint32_t)settings_u64(cli.settings, "settlement-replicas")};
    code = suite_run(&options);
    cli_close(&cli);
    return code;
}

int cmd_down(int argc, char **argv)
{
    static const struct cli_spec SPEC = {.name = "openledger down",
                                         .usage = "",
                                         .about = "Stops the suite that runs in a folder.",
                                         .settings = UP_SETTINGS,
                                         .count = 1};
    struct cli cli;
    struct suite_info info;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    if (suite_read(suite_folder(&cli), &info, &cli.note) != ERR_OK || info.pid <= 1) {
        code = cli_fail(&cli, "down");
    } else if (kill(info.pid, SIGTERM) != 0) {
        code = output_error("down: no process %d: the suite was killed, not stopped", info.pid);
    } else {
        uint64_t end_ms = clock_mono_ms() + STOP_WAIT_MS;
        while (kill(info.pid, 0) == 0 && clock_mono_ms() < end_ms) {
            clock_sleep_ms(50);
        }
        code = kill(info.pid, 0) == 0 ? output_error("down: it has not ended yet") : 0;
    }
    cli_close(&cli);
    return code;
}

static void status_json(const struct suite_info *info, bool answers)
{
    struct buf text;
    struct json_writer writer;
    buf_init(&text, 65536);
    json_writer_init(&writer, &text, true);
    json_begin_object(&writer);
    json_put_text(&writer, "url", info->url);
    json_put_bool(&writer, "answers", answers);
    json_put_i64(&writer, "pid", info->pid);
    json_write_key(&writer, "programs");
    json_begin_array(&writer);
    for (size_t i = 0; i < info->program_count; i++) {
        json_begin_object(&writer);
        json_put_text(&writer, "name", info->programs[i].name);
        json_put_i64(&writer, "pid", info->programs[i].pid);
        json_put_u64(&writer, "starts", info->programs[i].starts);
        json_end_object(&writer);
    }
    json_end_array(&writer);
    json_end_object(&writer);
    printf("%s\n", buf_text(&text));
    buf_deinit(&text);
}

int cmd_status(int argc, char **argv)
{
    static const struct cli_spec SPEC = {.name = "openledger status",
                                         .usage = "",
                                         .about = "Shows what runs in a suite's folder.",
                                         .settings = UP_SETTINGS,
                                         .count = 1};
    struct cli cli;
    struct suite_info info;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    if (suite_read(suite_folder(&cli), &info, &cli.note) != ERR_OK) {
        code = cli_fail(&cli, "status");
        cli_close(&cli);
        return code;
    }
    struct cli door = {.settings = NULL};
    Openledger__V1__Empty request = OPENLEDGER__V1__EMPTY__INIT;
    const Openledger__V1__LedgerInfo *ledger = NULL;
    bool answers = cli_connect(&door, info.url, cli.home) == ERR_OK &&
                   cli_call(&door, "Settlement.GetInfo", &request.base, &ledger) == ERR_OK;
    if (cli.json) {
        status_json(&info, answers);
    } else {
        static const char *const HEADERS[] = {"PROGRAM", ">PID", ">STARTS"};
        struct output_table *table = output_table_create(3, HEADERS);
        for (size_t i = 0; i < info.program_count; i++) {
            output_cell(table, "%s", info.programs[i].name);
            output_cell(table, "%d", info.programs[i].pid);
            output_cell(table, "%u", info.programs[i].starts);
        }
        output_table_finish(table);
        printf("front door %s %s\n", info.url, answers ? "answers" : "does not answer");
        if (answers) {
            printf("chain %s: height %llu, %llu transactions, supply %s OPEN\n", ledger->chain_name,
                   (unsigned long long)ledger->height, (unsigned long long)ledger->transactions,
                   ledger->supply);
        }
    }
    cli_close(&door);
    cli_close(&cli);
    return answers ? 0 : 1;
}
