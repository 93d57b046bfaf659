/* demo.c - `openledger demo`: runs the stages of the loop, in order, on a suite of its own. */
#include "services/openledger/demo.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/openledger/commands.h"
#include "services/openledger/output.h"
#include "services/openledger/suite.h"
#include "shared/base/check.h"
#include "shared/platform/clock.h"
#include "shared/platform/process.h"

enum { UP_MS = 90000, STOP_MS = 20000, CORPUS_MS = 300000, PLAN_MAX = 1 << 20 };

static const struct setting SETTINGS[] = {
    {.name = "dir",
     .type = SETTING_TEXT,
     .fallback = "build/demo",
     .doc = "folder of everything the demo makes; emptied first"},
    {.name = "model",
     .type = SETTING_TEXT,
     .fallback = "deploy/models/openledger-3m",
     .doc = "the base model's Hugging Face folder"},
    {.name = "text",
     .type = SETTING_TEXT,
     .fallback = "deploy/text/node_modules",
     .doc = "where the npm texts are installed"},
    {.name = "keep", .type = SETTING_BOOL, .fallback = "false", .doc = "leave the suite running"},
};

/* Ends the stage before (if any) and starts the next; name NULL: only ends. */
static void stage(struct demo *demo, const char *name, const char *title)
{
    uint64_t now_ms = clock_mono_ms();
    if (demo->stage_count > 0) {
        demo->stages[demo->stage_count - 1].seconds = (double)(now_ms - demo->stage_start_ms) / 1e3;
    }
    demo->stage_start_ms = now_ms;
    if (name != NULL) {
        CHECK(demo->stage_count < DEMO_STAGES_MAX);
        demo->stages[demo->stage_count++].name = name;
        output_heading("%u. %s", demo->stage_count, title);
    }
}

/* Cuts the texts with the command that people use, in a program of its own. */
static enum err cut_text(struct demo *demo, const char *node_modules)
{
    struct buf out;
    int exit_code = 0;
    char file[FILE_PATH_SIZE];
    const char *const argv[] = {demo->self, "corpus", "demo",       "--out",
                                demo->text, "--text", node_modules, NULL};
    buf_init(&out, PLAN_MAX);
    enum err err = process_output(argv, CORPUS_MS, &out, &exit_code, &demo->cli.note);
    if (err == ERR_OK && exit_code != 0) {
        err = note_set(&demo->cli.note, ERR_INVALID,
                       "openledger corpus demo ended with %d: run make deps", exit_code);
    }
    printf("%s", buf_text(&out));
    buf_clear(&out);
    err = err != ERR_OK ? err : file_path(file, "%s/demo.json", demo->text);
    err = err != ERR_OK ? err : file_read(file, &out, &demo->cli.note);
    err = err != ERR_OK ? err : json_parse(buf_bytes(&out), PLAN_MAX, &demo->plan, &demo->cli.note);
    buf_deinit(&out);
    return err;
}

static enum err start_suite(struct demo *demo, bool keep, struct process **out_process)
{
    char log[FILE_PATH_SIZE];
    struct suite_info info;
    enum err err = file_path(log, "%s/up.log", demo->folder);
    const char *const argv[] = {demo->self, "up", "--dir", demo->suite, "--http", demo->http, NULL};
    struct process_options options = {
        .argv = argv, .log_path = log, .die_with_parent = !keep, .own_group = true};
    err = err != ERR_OK ? err : process_start(&options, out_process, &demo->cli.note);
    uint64_t end_ms = clock_mono_ms() + UP_MS;
    while (err == ERR_OK && suite_read(demo->suite, &info, &demo->cli.note) != ERR_OK) {
        if (!process_running(*out_process) || clock_mono_ms() >= end_ms) {
            err =
                note_set(&demo->cli.note, ERR_UNAVAILABLE, "the suite did not start, see %s", log);
        }
        clock_sleep_ms(100);
    }
    if (err == ERR_OK) {
        printf("  front door %s, %zu programs, logs in %s/logs\n", info.url, info.program_count,
               demo->suite);
    }
    return err;
}

static enum err prepare(struct demo *demo, const struct cli *cli)
{
    uint16_t port = 0;
    const char *folder = settings_text(cli->settings, "dir");
    struct note *note = &demo->cli.note;
    demo->model_folder = settings_text(cli->settings, "model");
    enum err err = file_path(demo->folder, "%s", folder);
    err = err != ERR_OK ? err : file_path(demo->suite, "%s/suite", folder);
    err = err != ERR_OK ? err : file_path(demo->text, "%s/text", folder);
    err = err != ERR_OK ? err : file_path(demo->openings, "%s/openings", folder);
    err = err != ERR_OK ? err : file_path(demo->proof, "%s/payout.proof", folder);
    err = err != ERR_OK ? err : file_self(demo->self, note);
    err = err != ERR_OK ? err : file_remove_tree(folder, note);
    err = err != ERR_OK ? err : file_make_folders(folder, note);
    err = err != ERR_OK ? err : process_free_port(&port, note);
    (void)snprintf(demo->http, sizeof demo->http, "127.0.0.1:%u", port);
    (void)snprintf(demo->url, sizeof demo->url, "http://%s", demo->http);
    return err != ERR_OK ? err : cli_connect(&demo->cli, demo->url, demo->suite);
}

static enum err run_loop(struct demo *demo)
{
    stage(demo, "accounts", "Accounts: contributors, developer, user, validators");
    enum err err = demo_open_accounts(demo);
    if (err == ERR_OK) {
        stage(demo, "datanets", "Datanets: commit, upload, review, publish");
        err = demo_make_datanets(demo);
    }
    if (err == ERR_OK) {
        stage(demo, "training", "Training: one adapter per datanet, and a control");
        err = demo_train(demo);
    }
    if (err == ERR_OK) {
        stage(demo, "losses", "Loss on held-out documents");
        err = demo_measure_losses(demo);
    }
    err = err != ERR_OK ? err : demo_balances(demo, false);
    if (err == ERR_OK) {
        stage(demo, "chat", "Chat through the OpenAI API, adapters side by side");
        err = demo_ask(demo);
    }
    if (err == ERR_OK) {
        stage(demo, "attribution", "Attribution: whose data shaped each answer");
        err = demo_attribute(demo);
        err = err != ERR_OK ? err : demo_control(demo);
    }
    if (err == ERR_OK) {
        stage(demo, "money", "Money: fee, split, balances");
        err = demo_show_money(demo);
    }
    if (err == ERR_OK) {
        stage(demo, "governance", "Governance: stakers lower the platform's part of a fee");
        err = demo_govern(demo);
    }
    if (err == ERR_OK) {
        stage(demo, "verification", "Verification: a separate program, from files alone");
        err = demo_publish_openings(demo);
        err = err != ERR_OK ? err : demo_verify(demo);
    }
    return err;
}

static void show_keep(const struct demo *demo, const struct process *process)
{
    printf("\nThe suite stays up (pid %d). Talk to it:\n\n"
           "  export OPENLEDGER_URL=%s OPENLEDGER_HOME=%s\n"
           "  curl %s/v1/models -H 'Authorization: Bearer %s'\n"
           "  curl -N %s/v1/chat/completions -H 'Authorization: Bearer %s' \\\n"
           "    -H 'Content-Type: application/json' \\\n"
           "    -d '{\"model\":\"%s\",\"stream\":true,\"max_tokens\":48,"
           "\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}'\n"
           "  curl %s/openledger.v1.Registry/ListAdapters -H 'Content-Type: application/json' -d "
           "'{}'\n"
           "  %s balance user\n"
           "  %s down --dir %s\n",
           process_pid(process), demo->url, demo->suite, demo->url, demo->api_key, demo->url,
           demo->api_key, demo->adapters[0].name, demo->adapters[0].datanet->prompts[0], demo->url,
           demo->self, demo->self, demo->suite);
}

static void demo_deinit(struct demo *demo)
{
    for (uint32_t i = 0; i < demo->person_count; i++) {
        key_pair_destroy(demo->people[i].keys);
    }
    for (uint32_t i = 0; i < demo->answer_count; i++) {
        if (demo->answers[i].asked) {
            chat_answer_deinit(&demo->answers[i].answer);
        }
    }
    json_destroy(demo->plan);
    cli_close(&demo->cli);
}

int cmd_demo(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger demo",
        .usage = "",
        .about = "Runs the whole loop on real text: datanets, training, serving, attribution,\n"
                 "settlement, verification. Needs the texts that `make deps` installs.",
        .settings = SETTINGS,
        .count = sizeof SETTINGS / sizeof SETTINGS[0]};
    struct cli cli;
    struct process *process = NULL;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    bool keep = settings_bool(cli.settings, "keep");
    struct demo *demo = calloc(1, sizeof *demo);
    CHECK(demo != NULL);
    enum err err = prepare(demo, &cli);
    if (err == ERR_OK) {
        stage(demo, "start", "Texts, keys, genesis, suite");
        err = cut_text(demo, settings_text(cli.settings, "text"));
    }
    err = err != ERR_OK ? err : demo_make_people(demo);
    err = err != ERR_OK ? err : start_suite(demo, keep, &process);
    err = err != ERR_OK ? err : run_loop(demo);
    stage(demo, NULL, NULL);
    err = err != ERR_OK ? err : demo_write_report(demo);
    if (err == ERR_OK && keep) {
        show_keep(demo, process);
    } else if (process != NULL) {
        process_stop(process, STOP_MS);
        process_destroy(process);
    }
    if (err == ERR_OK) {
        printf("\nreport: %s/report.json\n", demo->folder);
        printf("demo: verified %llu transactions in %llu blocks, supply %s OPEN\n",
               (unsigned long long)demo->transactions, (unsigned long long)demo->blocks,
               demo->supply);
        code = 0;
    } else {
        code = cli_fail(&demo->cli, "demo");
    }
    demo_deinit(demo);
    free(demo);
    cli_close(&cli);
    return code;
}
