/* cmd_witness.c - witness: replays the log, cosigns what it finds right, over HTTP.
 *
 *     POST /add-checkpoint   C2SP tlog-witness
 *     GET  /key              our verifier key
 *     GET  /healthz
 *
 * The HTTP loop only passes requests on; this thread replays and answers, one request at a time. */
#include <stdio.h>
#include <string.h>

#include "services/openledger/cli.h"
#include "services/openledger/commands.h"
#include "services/openledger/output.h"
#include "services/openledger/witness.h"
#include "shared/http/http.h"
#include "shared/ledger/ledger.h"
#include "shared/platform/clock.h"
#include "shared/platform/mailbox.h"
#include "shared/platform/signals.h"

enum { WAITING_MAX = 16, TICK_MS = 200, GRACE_MS = 1000, BODY_MAX = 131072 };

static const struct setting SETTINGS[] = {
    {.name = "log",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "the log's URL: a front door or a settlement service; empty: --url"},
    {.name = "genesis", .type = SETTING_TEXT, .fallback = NULL, .doc = "the genesis file"},
    {.name = "key-file",
     .type = SETTING_TEXT,
     .fallback = NULL,
     .doc = "our key, made when missing; a key of its own, not an account's"},
    {.name = "dir", .type = SETTING_TEXT, .fallback = NULL, .doc = "folder of what we have seen"},
    {.name = "http",
     .type = SETTING_TEXT,
     .fallback = "127.0.0.1:0",
     .doc = "address to serve; port 0 picks a free one"},
    {.name = "name",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "our name in cosignatures; empty: the one genesis has for our key"},
};

static void on_add(void *context, struct http_request *request)
{
    if (mailbox_post(context, request) != ERR_OK) {
        http_reply_error(request, WITNESS_BEHIND, "busy", "too many requests wait");
    }
}

static void on_health(void *context, struct http_request *request)
{
    (void)context;
    http_reply(request, 200, "text/plain; charset=utf-8", bytes_of_text("ok\n"));
}

static void on_key(void *context, struct http_request *request)
{
    struct buf key;
    buf_init(&key, 1024);
    (void)witness_key(context, &key);
    (void)buf_append_text(&key, "\n");
    http_reply(request, 200, "text/plain; charset=utf-8", buf_bytes(&key));
    buf_deinit(&key);
}

static void handle(struct witness *witness, struct http_request *request)
{
    struct buf body;
    buf_init(&body, BODY_MAX);
    int status = witness_answer(witness, http_body(request), clock_real_ms() / 1000, &body);
    bool size =
        status == TLOG_CONFLICT && body.size > 0 && body.data[0] >= '0' && body.data[0] <= '9';
    http_reply(request, status, size ? TLOG_SIZE_CONTENT_TYPE : "text/plain; charset=utf-8",
               buf_bytes(&body));
    buf_deinit(&body);
}

static void drop(void *message)
{
    http_reply_error(message, WITNESS_BEHIND, "stopping", "the witness stops");
}

static enum err serve(struct witness *witness, const char *address, struct note *note)
{
    struct http_server *server = NULL;
    struct mailbox *mailbox = mailbox_create(WAITING_MAX);
    const struct http_options options = {.address = address, .body_max = BODY_MAX};
    enum err err = mailbox == NULL ? ERR_NO_MEMORY : http_open(&options, &server, note);
    if (err == ERR_OK) {
        http_route(server, "POST", "/add-checkpoint", on_add, mailbox);
        http_route(server, "GET", "/key", on_key, witness);
        http_route(server, "GET", "/healthz", on_health, NULL);
        err = http_start(server);
    }
    if (err == ERR_OK) {
        struct buf key;
        buf_init(&key, 1024);
        (void)witness_key(witness, &key);
        printf("witness: port %u, key %s\n", http_port(server), buf_text(&key));
        (void)fflush(stdout);
        buf_deinit(&key);
    }
    while (err == ERR_OK && !signals_stop_requested()) {
        void *message = NULL;
        if (mailbox_take(mailbox, TICK_MS, &message) == ERR_OK) {
            handle(witness, message);
        }
    }
    if (mailbox != NULL) {
        mailbox_close(mailbox);
    }
    http_close(server, GRACE_MS);
    if (mailbox != NULL) {
        mailbox_destroy(mailbox, drop);
    }
    return err;
}

static enum err run(struct cli *cli)
{
    const struct settings *settings = cli->settings;
    const char *log = settings_text(settings, "log");
    struct key_pair *keys = NULL;
    struct witness *witness = NULL;
    struct buf genesis;
    buf_init(&genesis, LEDGER_GENESIS_MAX);
    enum err err = file_read(settings_text(settings, "genesis"), &genesis, &cli->note);
    err = err != ERR_OK
              ? err
              : key_pair_load_or_create(settings_text(settings, "key-file"),
                                        settings_text(settings, "passphrase"), &keys, &cli->note);
    if (err == ERR_OK) {
        const struct witness_options options = {.folder = settings_text(settings, "dir"),
                                                .log_url = log[0] == '\0' ? cli->url : log,
                                                .genesis = buf_bytes(&genesis),
                                                .name = settings_text(settings, "name"),
                                                .keys = keys};
        err = witness_open(&options, &witness, &cli->note);
    }
    buf_deinit(&genesis);
    err = err != ERR_OK ? err : serve(witness, settings_text(settings, "http"), &cli->note);
    witness_close(witness);
    key_pair_destroy(keys);
    return err;
}

int cmd_witness(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger witness",
        .usage = "",
        .about =
            "Replays a ledger's log by itself and cosigns the checkpoints that it finds right;\n"
            "serves C2SP tlog-witness (POST /add-checkpoint). Ends with SIGTERM or Ctrl-C.",
        .settings = SETTINGS,
        .count = sizeof SETTINGS / sizeof SETTINGS[0]};
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    signals_init();
    code = run(&cli) == ERR_OK ? 0 : cli_fail(&cli, "witness");
    cli_close(&cli);
    return code;
}
