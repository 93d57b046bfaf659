/* cmd_prove.c - prove: proofs from the ledger, checked here before they are shown or saved. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/openledger/cli.h"
#include "services/openledger/commands.h"
#include "services/openledger/output.h"
#include "shared/base/hex.h"
#include "shared/crypto/sha256.h"
#include "shared/http/fetch.h"
#include "shared/ledger/account_proof.h"
#include "shared/ledger/proof.h"
#include "shared/ledger/tx.h"
#include "shared/tlog/proof.h"

enum { FETCH_MS = 10000 };

static const struct setting SETTINGS[] = {
    {.name = "out",
     .type = SETTING_TEXT,
     .fallback = "",
     .doc = "file for the proof, checked by openledger verify --proof"}};

/* What proofs are checked with: from the genesis file's bytes, which are the chain's id. */
static enum err trust_get(struct cli *cli, struct ledger_trust *out_trust)
{
    Openledger__V1__Empty request = OPENLEDGER__V1__EMPTY__INIT;
    const Openledger__V1__LedgerInfo *info;
    struct ledger *ledger = NULL;
    enum err err = cli_call(cli, "Settlement.GetInfo", &request.base, &info);
    err = err != ERR_OK ? err : ledger_create(ledger_bytes(info->genesis), &ledger, &cli->note);
    if (err == ERR_OK) {
        ledger_trust(ledger, out_trust);
        ledger_destroy(ledger);
    }
    return err;
}

static enum err save(struct cli *cli, struct bytes proof)
{
    const char *path = settings_text(cli->settings, "out");
    return path[0] == '\0' ? ERR_OK : file_write_atomic(path, proof, 0644, &cli->note);
}

/* Checks, saves as a .tlog-proof, shows. */
static enum err finish(struct cli *cli, const Openledger__V1__InclusionProof *proof)
{
    struct ledger_trust trust;
    struct ledger_proof_claim claim;
    struct buf packed;
    struct buf file;
    buf_init(&packed, TLOG_PROOF_MAX);
    buf_init(&file, TLOG_PROOF_MAX);
    enum err err = trust_get(cli, &trust);
    err = err != ERR_OK ? err : ledger_pack(&proof->base, &packed);
    err = err != ERR_OK ? err : ledger_proof_verify(buf_bytes(&packed), &trust, &claim, &cli->note);
    err = err != ERR_OK ? err : ledger_proof_export(buf_bytes(&packed), &file, &cli->note);
    err = err != ERR_OK ? err : save(cli, buf_bytes(&file));
    if (err == ERR_OK && !cli_print_json(cli, &proof->base)) {
        char when[32];
        printf(
            "proved: entry %llu in block %llu of %s, under checkpoint %llu with %u cosignatures\n",
            (unsigned long long)claim.index, (unsigned long long)claim.height,
            cli_time(claim.block_time_ms, when), (unsigned long long)claim.checkpoint.height,
            claim.checkpoint.cosignatures);
    }
    buf_deinit(&packed);
    buf_deinit(&file);
    return err;
}

static enum err prove_tx(struct cli *cli, ProtobufCBinaryData tx)
{
    const Openledger__V1__InclusionProof *proof;
    Openledger__V1__ProveTxRequest request = OPENLEDGER__V1__PROVE_TX_REQUEST__INIT;
    request.tx = tx;
    enum err err = cli_call_fresh(cli, "Settlement.ProveTx", &request.base, &proof);
    return err != ERR_OK ? err : finish(cli, proof);
}

static enum err prove_payout(struct cli *cli, const char *text)
{
    const Openledger__V1__InclusionProof *proof;
    Openledger__V1__ProvePostingRequest request = OPENLEDGER__V1__PROVE_POSTING_REQUEST__INIT;
    enum err err = cli_parse_leg(cli, text, &request.index, &request.leg);
    err =
        err != ERR_OK ? err : cli_call_fresh(cli, "Settlement.ProvePosting", &request.base, &proof);
    return err != ERR_OK ? err : finish(cli, proof);
}

/* The batch goes beside the proof: receipt in batch, batch in transaction, transaction in block. */
static enum err batch_save(struct cli *cli, ProtobufCBinaryData batch)
{
    char hex[2 * DIGEST_SIZE + 1];
    char url[1024];
    char path[FILE_PATH_SIZE];
    int status = 0;
    struct digest found;
    struct buf bytes;
    const char *out = settings_text(cli->settings, "out");
    struct fetch *fetch = fetch_create();
    buf_init(&bytes, LEDGER_BATCH_BLOB_MAX);
    (void)snprintf(url, sizeof url, "%.900s/batch/%s", cli->url, cli_hex(batch, hex));
    const struct fetch_request request = {.url = url, .timeout_ms = FETCH_MS};
    enum err err =
        fetch == NULL ? ERR_NO_MEMORY : fetch_run(fetch, &request, &status, &bytes, &cli->note);
    if (err == ERR_OK && status != 200) {
        err = note_set(&cli->note, ERR_NOT_FOUND, "%s: status %d", url, status);
    }
    if (err == ERR_OK) {
        sha256(buf_bytes(&bytes), &found);
        err = bytes_equal(digest_bytes(&found), ledger_bytes(batch))
                  ? ERR_OK
                  : note_set(&cli->note, ERR_CORRUPT, "%s: not the batch of that name", url);
    }
    err = err != ERR_OK ? err : file_path(path, "%s.batch", out);
    err = err != ERR_OK ? err : file_write_atomic(path, buf_bytes(&bytes), 0644, &cli->note);
    fetch_destroy(fetch);
    buf_deinit(&bytes);
    return err;
}

static enum err prove_receipt(struct cli *cli, const char *text)
{
    struct digest id;
    const Openledger__V1__ReceiptState *state;
    const Openledger__V1__GetEntriesReply *entries;
    Openledger__V1__GetReceiptRequest request = OPENLEDGER__V1__GET_RECEIPT_REQUEST__INIT;
    Openledger__V1__GetEntriesRequest entry = OPENLEDGER__V1__GET_ENTRIES_REQUEST__INIT;
    Openledger__V1__Empty empty = OPENLEDGER__V1__EMPTY__INIT;
    const Openledger__V1__LedgerInfo *info;
    struct digest tx = {{0}};
    struct digest chain;
    enum err err = cli_parse_digest(cli, text, "receipt", &id);
    request.receipt = ledger_binary(id.bytes, DIGEST_SIZE);
    err = err != ERR_OK ? err : cli_call_fresh(cli, "Settlement.GetReceipt", &request.base, &state);
    if (err == ERR_OK) {
        entry.from_index = state->charged_index;
        entry.count = 1;
        err = cli_call(cli, "Settlement.GetEntries", &entry.base, &entries);
    }
    err = err != ERR_OK ? err : cli_call(cli, "Settlement.GetInfo", &empty.base, &info);
    err = err != ERR_OK ? err : digest_from_bytes(ledger_bytes(info->chain_id), &chain);
    if (err == ERR_OK) {
        Openledger__V1__Entry *decoded =
            entries->n_entries == 0 ? NULL
                                    : openledger__v1__entry__unpack(NULL, entries->entries[0].len,
                                                                    entries->entries[0].data);
        err = decoded == NULL
                  ? note_set(&cli->note, ERR_INVALID, "the ledger's answer is malformed")
                  : ledger_signed_tx_id(&chain, ledger_bytes(decoded->signed_tx), &tx, &cli->note);
        if (decoded != NULL) {
            openledger__v1__entry__free_unpacked(decoded, NULL);
        }
    }
    if (err == ERR_OK && settings_text(cli->settings, "out")[0] != '\0') {
        err = batch_save(cli, state->batch);
    }
    return err != ERR_OK ? err : prove_tx(cli, ledger_binary(tx.bytes, DIGEST_SIZE));
}

static enum err prove_balance(struct cli *cli, const char *who)
{
    struct account_id id;
    struct ledger_trust trust;
    struct ledger_account_claim claim;
    struct buf packed;
    const Openledger__V1__StateProof *proof;
    Openledger__V1__ProveAccountRequest request = OPENLEDGER__V1__PROVE_ACCOUNT_REQUEST__INIT;
    buf_init(&packed, TLOG_PROOF_MAX);
    enum err err = cli_parse_account(cli, who, &id);
    request.account = ledger_binary(id.bytes, ACCOUNT_ID_SIZE);
    err =
        err != ERR_OK ? err : cli_call_fresh(cli, "Settlement.ProveAccount", &request.base, &proof);
    err = err != ERR_OK ? err : trust_get(cli, &trust);
    err = err != ERR_OK ? err : ledger_pack(&proof->base, &packed);
    err = err != ERR_OK
              ? err
              : ledger_account_proof_verify(buf_bytes(&packed), &trust, &claim, &cli->note);
    if (err == ERR_OK && !account_id_equal(&claim.id, &id)) {
        err = note_set(&cli->note, ERR_INVALID, "the proof is of another account");
    }
    err = err != ERR_OK ? err : save(cli, buf_bytes(&packed));
    if (err == ERR_OK && !cli_print_json(cli, &proof->base)) {
        char amount[AMOUNT_TEXT_SIZE];
        char when[32];
        printf("proved: %s%s after block %llu of %s, under checkpoint %llu with %u cosignatures\n",
               claim.exists ? amount_format(claim.account.balance, amount) : "no such account",
               claim.exists ? " OPEN" : "", (unsigned long long)claim.height,
               cli_time(claim.block_time_ms, when), (unsigned long long)claim.checkpoint.height,
               claim.checkpoint.cosignatures);
    }
    buf_deinit(&packed);
    return err;
}

int cmd_prove(int argc, char **argv)
{
    static const struct cli_spec SPEC = {
        .name = "openledger prove",
        .usage = "TX | balance ACCOUNT | receipt RECEIPT | payout ENTRY:LEG",
        .about =
            "Gets and checks a proof that a transaction is in a signed block, of what an account\n"
            "had after a block (or that it was not there), of a receipt (its batch is saved\n"
            "beside it as FILE.batch), or of one leg of an entry.",
        .settings = SETTINGS,
        .count = 1,
        .positional_min = 1,
        .positional_max = 2};
    struct cli cli;
    struct digest tx;
    int code = cli_open(&cli, &SPEC, argc, argv);
    if (code >= 0) {
        return code;
    }
    const char *what = settings_positional(cli.settings, 0);
    bool two = settings_positional_count(cli.settings) == 2;
    const char *which = two ? settings_positional(cli.settings, 1) : "";
    enum err err = ERR_OK;
    if (two && strcmp(what, "balance") == 0) {
        err = prove_balance(&cli, which);
    } else if (two && strcmp(what, "receipt") == 0) {
        err = prove_receipt(&cli, which);
    } else if (two && strcmp(what, "payout") == 0) {
        err = prove_payout(&cli, which);
    } else if (two) {
        err = note_set(&cli.note, ERR_INVALID, "'%.40s' is none of balance, receipt, payout", what);
    } else {
        err = cli_parse_digest(&cli, what, "transaction", &tx);
        err = err != ERR_OK ? err : prove_tx(&cli, ledger_binary(tx.bytes, DIGEST_SIZE));
    }
    code = err == ERR_OK ? 0 : cli_fail(&cli, "prove");
    cli_close(&cli);
    return code;
}
