/* cmd_verify.c - verify: everything again, from the log and the blobs alone.
 *
 * Talks to nobody: no front door, no bus, no service. Two findings are reported apart: what anyone can
 * check from public bytes (log, legs, roots, signatures), and what follows from the openings that
 * payers published (that each answer's shares are the ones that were paid). */
#include <stdio.h>
#include <string.h>

#include "services/openledger/cli.h"
#include "services/openledger/commands.h"
#include "services/openledger/output.h"
#include "services/openledger/verify_ledger.h"
#include "services/openledger/verify_proof.h"
#include "services/openledger/verify_shares.h"
#include "services/openledger/verify_trace.h"
#include "shared/base/hex.h"
#include "shared/json/json.h"

static const struct setting SETTINGS[] = {
    {.name = "dir",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "a suite's folder, from which the folders below follow; empty: --home"},
    {.name = "log", .type = SETTING_TEXT, .fallback = "", .doc = "the journal's folder"},
    {.name = "blobs", .type = SETTING_TEXT, .fallback = "", .doc = "the blob folder"},
    {.name = "genesis", .type = SETTING_TEXT, .fallback = "", .doc = "the genesis file"},
    {.name = "openings",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "folder of published openings: also derive the shares again"},
    {.name = "proof",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "check only this proof of a transaction, payout, receipt or account, with nothing but "
            "the genesis file"},
    {.name = "receipt",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "tell the steps of this receipt; with --proof and --batch: that it is in the batch"},
    {.name = "account",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "tell every leg of this account (open1... or a key's name)"},
    {.name = "payout",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "tell where this leg (ENTRY:LEG) comes from, down to its receipt"},
    {.name = "batch", .type = SETTING_TEXT, .fallback = "", .doc = "file of the receipt's batch"},
    {.name = "threads",
     .type = SETTING_U64,
     .fallback = "0",
     .max = 256,
     .doc = "for the model; 0: one per core; does not change the result"},
};

enum { LONG_LOG = 20000 }; /* entries: what has fewer is replayed before a bar can be read */

struct verify {
    char log[FILE_PATH_SIZE], blobs[FILE_PATH_SIZE], genesis[FILE_PATH_SIZE];
    const char *openings;
    struct verify_ledger_report ledger;
    struct verify_shares_report shares;
    struct verify_trace *trace; /* NULL: no steps are told */
};

static enum err pick(const struct cli *cli, const char *name, const char *below,
                     char out[FILE_PATH_SIZE])
{
    const char *given = settings_text(cli->settings, name);
    const char *folder = settings_text(cli->settings, "dir");
    return given[0] != '\0'
               ? file_path(out, "%s", given)
               : file_path(out, "%s/%s", folder[0] != '\0' ? folder : cli->home, below);
}

static void on_progress(void *context, const char *what, uint32_t done, uint32_t total)
{
    struct output_progress *progress = context;
    progress->total = total;
    output_progress_update(progress, done, "%s", what);
}

static void on_replayed(void *context, uint64_t done, uint64_t total)
{
    struct output_progress *progress = context;
    if (total >= LONG_LOG) {
        progress->total = total;
        output_progress_update(progress, done, "entry %llu", (unsigned long long)done);
    }
}

static enum err run(struct verify *verify, uint32_t threads, bool quiet, struct note *note)
{
    struct output_progress progress;
    struct output_progress replayed;
    struct verify_shares *shares = NULL;
    struct verify_shares_options again = {.blob_folder = verify->blobs,
                                          .openings_folder = verify->openings,
                                          .threads = threads,
                                          .progress = quiet ? NULL : on_progress,
                                          .context = &progress};
    struct verify_ledger_options replay = {.log_folder = verify->log,
                                           .blob_folder = verify->blobs,
                                           .genesis_file = verify->genesis,
                                           .on_progress = quiet ? NULL : on_replayed,
                                           .progress_context = &replayed};
    enum err err = ERR_OK;
    output_progress_start(&replayed, "log", 0);
    output_progress_start(&progress, "shares", 0);
    if (verify->trace != NULL) {
        replay.on_entry = verify_trace_entry;
        replay.context = verify->trace;
    } else if (verify->openings[0] != '\0') {
        err = verify_shares_create(&again, &shares, note);
        replay.on_entry = verify_shares_entry;
        replay.context = shares;
    }
    err = err != ERR_OK ? err : verify_ledger(&replay, &verify->ledger, note);
    if (replayed.drawn) {
        replayed.total = err == ERR_OK ? replayed.total : 0; /* no bar at its end */
        output_progress_finish(&replayed, "%llu entries hold",
                               (unsigned long long)verify->ledger.entries);
    }
    if (err == ERR_OK && shares != NULL) {
        err = verify_shares_run(shares, &verify->shares, note);
        if (err == ERR_OK && !quiet) {
            output_progress_finish(&progress, "all equal");
        }
    }
    verify_shares_destroy(shares);
    return err;
}

static void print_text(const struct verify *verify)
{
    const struct verify_ledger_report *ledger = &verify->ledger;
    char supply[AMOUNT_TEXT_SIZE];
    char hex[2 * DIGEST_SIZE + 1];
    printf("ledger: %llu transactions in %llu blocks, %llu postings, %llu signatures checked\n",
           (unsigned long long)ledger->transactions, (unsigned long long)ledger->blocks,
           (unsigned long long)ledger->postings, (unsigned long long)ledger->signatures);
    printf("ledger: %llu receipts charged, %llu share sets paid, %llu entries not yet sealed\n",
           (unsigned long long)ledger->receipts, (unsigned long long)ledger->share_sets,
           (unsigned long long)ledger->unsealed);
    printf("ledger: supply %s OPEN, state root %s\n", amount_format(ledger->supply, supply),
           hex_encode(ledger->state_root.bytes, DIGEST_SIZE, hex));
    printf("ledger: checkpoint %llu holds, %u witnesses cosigned it\n",
           (unsigned long long)ledger->checkpoint_height, ledger->cosignatures);
    if (verify->openings[0] != '\0') {
        printf("shares: %u indexes over %u rows built again, %u openings, %u share sets derived "
               "again bit for bit, %u not opened\n",
               verify->shares.indexes, verify->shares.rows, verify->shares.openings,
               verify->shares.share_sets, verify->shares.unopened);
    }
}

static void print_json(const struct verify *verify, enum err err, const struct note *note)
{
    const struct verify_ledger_report *ledger = &verify->ledger;
    struct buf text;
    struct json_writer writer;
    char supply[AMOUNT_TEXT_SIZE];
    char hex[2 * DIGEST_SIZE + 1];
    buf_init(&text, 65536);
    json_writer_init(&writer, &text, true);
    json_begin_object(&writer);
    json_put_bool(&writer, "verified", err == ERR_OK);
    json_put_text(&writer, "error", err == ERR_OK ? NULL : note->text);
    json_put_u64(&writer, "transactions", ledger->transactions);
    json_put_u64(&writer, "blocks", ledger->blocks);
    json_put_u64(&writer, "postings", ledger->postings);
    json_put_u64(&writer, "signatures", ledger->signatures);
    json_put_u64(&writer, "receipts", ledger->receipts);
    json_put_u64(&writer, "shareSets", ledger->share_sets);
    json_put_text(&writer, "supply", amount_format(ledger->supply, supply));
    json_put_text(&writer, "stateRoot", hex_encode(ledger->state_root.bytes, DIGEST_SIZE, hex));
    json_put_u64(&writer, "checkpointHeight", ledger->checkpoint_height);
    json_put_u64(&writer, "cosignatures", ledger->cosignatures);
    json_put_u64(&writer, "indexesRebuilt", verify->shares.indexes);
    json_put_u64(&writer, "openings", verify->shares.openings);
    json_put_u64(&writer, "shareSetsRederived", verify->shares.share_sets);
    json_end_object(&writer);
    printf("%s\n", buf_text(&text));
    buf_deinit(&text);
}

/* Of --proof and of steps: programs get the finding as they get the others. */
static void print_refusal(const struct note *note)
{
    struct buf text;
    struct json_writer writer;
    buf_init(&text, 65536);
    json_writer_init(&writer, &text, true);
    json_begin_object(&writer);
    json_put_bool(&writer, "verified", false);
    json_put_text(&writer, "error", note->text);
    json_end_object(&writer);
    printf("%s\n", buf_text(&text));
    buf_deinit(&text);
}

/* Which steps are to be told. False: none, everything is verified without. */
static enum err trace_wanted(struct cli *cli, const struct verify *verify,
                             struct verify_trace_options *out, bool *out_wanted)
{
    const char *account = settings_text(cli->settings, "account");
    const char *receipt = settings_text(cli->settings, "receipt");
    const char *payout = settings_text(cli->settings, "payout");
    int given = (account[0] != '\0') + (receipt[0] != '\0') + (payout[0] != '\0');
    *out = (struct verify_trace_options){.blob_folder = verify->blobs};
    *out_wanted = given == 1;
    if (given > 1) {
        return note_set(&cli->note, ERR_INVALID, "only one of --account, --receipt, --payout");
    }
    if (account[0] != '\0') {
        out->kind = TRACE_ACCOUNT;
        return cli_parse_account(cli, account, &out->account);
    }
    if (receipt[0] != '\0') {
        out->kind = TRACE_RECEIPT;
        return cli_parse_digest(cli, receipt, "receipt", &out->receipt);
    }
    out->kind = TRACE_PAYOUT;
    return given == 1 ? cli_parse_leg(cli, payout, &out->entry, &out->leg) : ERR_OK;
}

/* Replays everything, and tells what concerns one thing. */
static enum err tell(struct cli *cli, struct verify *verify,
                     const struct verify_trace_options *options)
{
    struct buf text;
    buf_init(&text, 1U << 30);
    verify->trace = verify_trace_create(options);
    enum err err = verify->trace == NULL ? ERR_NO_MEMORY : run(verify, 0, cli->json, &cli->note);
    err = err != ERR_OK
              ? err
              : verify_trace_tell(verify->trace, &verify->ledger, cli->json, &text, &cli->note);
    if (err == ERR_OK) {
        (void)fputs(buf_text(&text), stdout);
    }
    verify_trace_destroy(verify->trace);
    buf_deinit(&text);
    return err;
}

int cmd_verify(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger verify",
        .usage = "",
        .about = "Replays the log from genesis and checks every signature, leg and root; with\n"
                 "--openings, derives every answer's shares again. Asks no service for anything.",
        .settings = SETTINGS,
        .count = sizeof SETTINGS / sizeof SETTINGS[0]};
    static struct verify verify;
    struct cli cli;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct verify_trace_options trace;
    bool traced = false;
    const char *proof = settings_text(cli.settings, "proof");
    verify.openings = settings_text(cli.settings, "openings");
    enum err err = pick(&cli, "log", "data/settlement/log", verify.log);
    err = err != ERR_OK ? err : pick(&cli, "blobs", "blobs", verify.blobs);
    err = err != ERR_OK ? err : pick(&cli, "genesis", "genesis.json", verify.genesis);
    if (err == ERR_OK && proof[0] != '\0') {
        const struct verify_proof_options options = {
            .genesis_file = verify.genesis,
            .proof_file = proof,
            .batch_file = settings_text(cli.settings, "batch"),
            .receipt = settings_text(cli.settings, "receipt"),
            .json = cli.json};
        err = verify_proof(&options, &cli.note);
    } else if (err == ERR_OK) {
        err = trace_wanted(&cli, &verify, &trace, &traced);
    }
    if (err == ERR_OK && traced) {
        err = tell(&cli, &verify, &trace);
    } else if (err == ERR_OK && proof[0] == '\0') {
        err = run(&verify, (uint32_t)settings_u64(cli.settings, "threads"), cli.json, &cli.note);
        if (cli.json) {
            print_json(&verify, err, &cli.note);
        } else if (err == ERR_OK) {
            print_text(&verify);
        }
    }
    if (err != ERR_OK && cli.json && (traced || proof[0] != '\0')) {
        print_refusal(&cli.note);
    }
    code = err == ERR_OK ? 0 : cli_fail(&cli, "verify");
    cli_close(&cli);
    return code;
}
