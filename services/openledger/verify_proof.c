/* verify_proof.c - see verify_proof.h. */
#include "services/openledger/verify_proof.h"

#include <stdio.h>
#include <string.h>

#include "services/openledger/cli.h"
#include "shared/base/hex.h"
#include "shared/crypto/sha256.h"
#include "shared/json/json.h"
#include "shared/ledger/account_proof.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"
#include "shared/platform/file.h"
#include "shared/tlog/proof.h"

/* What was shown, as steps: sentences for people, fields for programs. */
struct story {
    struct buf text;
    struct buf json;
    struct json_writer writer;
};

static void story_init(struct story *story)
{
    buf_init(&story->text, 65536);
    buf_init(&story->json, 65536);
    json_writer_init(&story->writer, &story->json, true);
    json_begin_object(&story->writer);
    json_put_bool(&story->writer, "verified", true);
}

static void story_print(struct story *story, bool json)
{
    json_end_object(&story->writer);
    printf("%s%s", json ? buf_text(&story->json) : buf_text(&story->text), json ? "\n" : "");
}

static void story_deinit(struct story *story)
{
    buf_deinit(&story->text);
    buf_deinit(&story->json);
}

static void tell_block(struct story *story, uint64_t height, uint64_t time_ms,
                       const struct ledger_checkpoint *checkpoint)
{
    char when[32];
    (void)buf_printf(&story->text, "block:      %llu of %s\n", (unsigned long long)height,
                     cli_time(time_ms, when));
    (void)buf_printf(&story->text, "checkpoint: %llu blocks, signed, %u cosignatures: %s\n",
                     (unsigned long long)checkpoint->height, checkpoint->cosignatures,
                     checkpoint->final ? "final" : "NOT FINAL, witnesses are missing");
    json_put_u64(&story->writer, "block", height);
    json_put_u64(&story->writer, "timeMs", time_ms);
    json_put_u64(&story->writer, "checkpoint", checkpoint->height);
    json_put_u64(&story->writer, "cosignatures", checkpoint->cosignatures);
    json_put_bool(&story->writer, "final", checkpoint->final);
}

/* ---- accounts ---- */

static enum err account_proof(struct bytes proof, const struct ledger_trust *trust,
                              struct story *story, struct note *note)
{
    struct ledger_account_claim claim;
    char id[ACCOUNT_ID_TEXT_SIZE];
    char amount[AMOUNT_TEXT_SIZE] = "0";
    enum err err = ledger_account_proof_verify(proof, trust, &claim, note);
    if (err != ERR_OK) {
        return err;
    }
    (void)account_id_format(&claim.id, id);
    if (claim.exists) {
        (void)buf_printf(&story->text, "account:    %s has %s OPEN\n", id,
                         amount_format(claim.account.balance, amount));
    } else {
        (void)buf_printf(&story->text, "account:    %s is not on the ledger\n", id);
    }
    json_put_text(&story->writer, "kind", "account");
    json_put_text(&story->writer, "account", id);
    json_put_bool(&story->writer, "exists", claim.exists);
    json_put_text(&story->writer, "balance", amount);
    tell_block(story, claim.height, claim.block_time_ms, &claim.checkpoint);
    return ERR_OK;
}

/* ---- receipts: receipt -> batch -> the transaction that settles it ---- */

/* The batch that the proved entry settles. */
static enum err settled_batch(struct bytes proof_bytes, struct digest *out_batch, struct note *note)
{
    enum err err = ERR_INVALID;
    Openledger__V1__InclusionProof *proof =
        openledger__v1__inclusion_proof__unpack(NULL, proof_bytes.size, proof_bytes.data);
    Openledger__V1__Entry *entry =
        proof == NULL || proof->posting
            ? NULL
            : openledger__v1__entry__unpack(NULL, proof->leaf.len, proof->leaf.data);
    Openledger__V1__SignedTx *tx =
        entry == NULL || entry->content_case != OPENLEDGER__V1__ENTRY__CONTENT_SIGNED_TX
            ? NULL
            : openledger__v1__signed_tx__unpack(NULL, entry->signed_tx.len, entry->signed_tx.data);
    Openledger__V1__TxBody *body =
        tx == NULL ? NULL : openledger__v1__tx_body__unpack(NULL, tx->body.len, tx->body.data);
    if (body != NULL && body->action_case == OPENLEDGER__V1__TX_BODY__ACTION_SETTLE_RECEIPTS) {
        err = digest_from_bytes(ledger_bytes(body->settle_receipts->batch), out_batch);
    }
    if (body != NULL) {
        openledger__v1__tx_body__free_unpacked(body, NULL);
    }
    if (tx != NULL) {
        openledger__v1__signed_tx__free_unpacked(tx, NULL);
    }
    if (entry != NULL) {
        openledger__v1__entry__free_unpacked(entry, NULL);
    }
    if (proof != NULL) {
        openledger__v1__inclusion_proof__free_unpacked(proof, NULL);
    }
    return err ? note_set(note, err, "the proved transaction settles no receipts") : ERR_OK;
}

static void tell_receipt(struct story *story, const Openledger__V1__Receipt *receipt,
                         const char *id, size_t place, size_t count)
{
    (void)buf_printf(&story->text, "receipt:    %.16s.. number %llu, adapter %s, fee %s OPEN\n", id,
                     (unsigned long long)receipt->number, receipt->adapter, receipt->fee);
    (void)buf_printf(&story->text, "batch:      receipt %zu of %zu in it, signed by the gateway\n",
                     place + 1, count);
    json_put_text(&story->writer, "receipt", id);
    json_put_text(&story->writer, "fee", receipt->fee);
    json_put_text(&story->writer, "adapter", receipt->adapter);
}

static enum err receipt_in(const struct verify_proof_options *options, struct bytes proof,
                           const struct ledger_trust *trust, struct story *story, struct note *note)
{
    struct digest named;
    struct digest found;
    struct digest wanted;
    struct buf bytes;
    Openledger__V1__ReceiptBatch *batch = NULL;
    buf_init(&bytes, LEDGER_BATCH_BLOB_MAX);
    enum err err =
        hex_decode(options->receipt, strlen(options->receipt), wanted.bytes, DIGEST_SIZE) == ERR_OK
            ? settled_batch(proof, &named, note)
            : note_set(note, ERR_INVALID, "--receipt takes 64 hex digits");
    err = err ? err : file_read(options->batch_file, &bytes, note);
    if (err == ERR_OK) {
        sha256(buf_bytes(&bytes), &found);
        err = digest_equal(&named, &found)
                  ? ledger_receipt_batch_verify(buf_bytes(&bytes), &trust->chain_id, &batch, note)
                  : note_set(note, ERR_CORRUPT, "the batch is not the one that was settled");
    }
    bool seen = false;
    for (size_t i = 0; err == ERR_OK && batch != NULL && !seen && i < batch->n_receipts; i++) {
        Openledger__V1__Receipt *receipt = NULL;
        char hex[2 * DIGEST_SIZE + 1];
        ledger_receipt_id(ledger_bytes(batch->receipts[i]), &found);
        seen = digest_equal(&found, &wanted);
        err = ledger_receipt_decode(ledger_bytes(batch->receipts[i]), &receipt, note);
        if (err == ERR_OK && seen) {
            tell_receipt(story, receipt, hex_encode(found.bytes, DIGEST_SIZE, hex), i,
                         batch->n_receipts);
        }
        if (receipt != NULL) {
            openledger__v1__receipt__free_unpacked(receipt, NULL);
        }
    }
    if (err == ERR_OK && !seen) {
        err = note_set(note, ERR_NOT_FOUND, "the receipt is not in the batch");
    }
    if (batch != NULL) {
        openledger__v1__receipt_batch__free_unpacked(batch, NULL);
    }
    buf_deinit(&bytes);
    return err;
}

/* ---- entries and legs ---- */

static enum err leaf_proof(const struct verify_proof_options *options, struct bytes proof,
                           const struct ledger_trust *trust, struct story *story, struct note *note)
{
    struct ledger_proof_claim claim;
    char text[ACCOUNT_ID_TEXT_SIZE];
    char amount[AMOUNT_TEXT_SIZE];
    char hex[2 * DIGEST_SIZE + 1];
    enum err err = ledger_proof_verify(proof, trust, &claim, note);
    if (err == ERR_OK && options->batch_file[0] != '\0') {
        err = receipt_in(options, proof, trust, story, note);
    }
    if (err != ERR_OK) {
        return err;
    }
    json_put_text(&story->writer, "kind", claim.posting ? "payout" : "entry");
    json_put_u64(&story->writer, "entry", claim.index);
    if (claim.posting) {
        (void)buf_printf(&story->text, "leg:        %u of entry %llu %s %s OPEN %s %s (%s)\n",
                         claim.leg, (unsigned long long)claim.index,
                         claim.credit ? "pays" : "takes", amount_format(claim.amount, amount),
                         claim.credit ? "to" : "from", account_id_format(&claim.account, text),
                         claim.reason);
        json_put_u64(&story->writer, "leg", claim.leg);
        json_put_text(&story->writer, "account", text);
        json_put_text(&story->writer, "amount", amount);
        json_put_bool(&story->writer, "credit", claim.credit);
        json_put_text(&story->writer, "reason", claim.reason);
    } else {
        (void)hex_encode(claim.tx.bytes, DIGEST_SIZE, hex);
        (void)buf_printf(&story->text, "entry:      %llu, transaction %s\n",
                         (unsigned long long)claim.index, hex);
        json_put_text(&story->writer, "tx", hex);
    }
    tell_block(story, claim.height, claim.block_time_ms, &claim.checkpoint);
    return ERR_OK;
}

/* A StateProof's first field is an account of 32 bytes, an InclusionProof's is an entry or posting, which
 * never has that size; and each is checked whole by its own rules anyway. */
static bool is_account_proof(struct bytes proof)
{
    return proof.size > 2 && proof.data[0] == 0x0a && proof.data[1] == ACCOUNT_ID_SIZE;
}

enum err verify_proof(const struct verify_proof_options *options, struct note *note)
{
    struct buf genesis;
    struct buf file;
    struct buf proof;
    struct story story;
    struct ledger_trust trust;
    struct ledger *ledger = NULL;
    buf_init(&genesis, LEDGER_GENESIS_MAX);
    buf_init(&file, TLOG_PROOF_MAX);
    buf_init(&proof, TLOG_PROOF_MAX);
    story_init(&story);
    enum err err = (options->batch_file[0] == '\0') == (options->receipt[0] == '\0')
                       ? file_read(options->genesis_file, &genesis, note)
                       : note_set(note, ERR_INVALID, "--receipt and --batch go together");
    err = err ? err : ledger_create(buf_bytes(&genesis), &ledger, note);
    err = err ? err : file_read(options->proof_file, &file, note);
    err = err ? err : ledger_proof_import(buf_bytes(&file), &proof, note);
    if (err == ERR_OK) {
        ledger_trust(ledger, &trust);
        err = is_account_proof(buf_bytes(&proof))
                  ? account_proof(buf_bytes(&proof), &trust, &story, note)
                  : leaf_proof(options, buf_bytes(&proof), &trust, &story, note);
    }
    if (err == ERR_OK) {
        story_print(&story, options->json);
    }
    ledger_destroy(ledger);
    story_deinit(&story);
    buf_deinit(&proof);
    buf_deinit(&file);
    buf_deinit(&genesis);
    return err;
}
