/* fuzz_tlog.c - hostile tile paths, proof files, witness requests, notes and proofs of accounts.
 *
 * Oracles: what a parser accepts, its formatter writes back the same; nothing is ever found signed by keys that
 * signed nothing, and no bytes prove an account. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/account_proof.h"
#include "shared/tlog/proof.h"
#include "shared/tlog/store.h"
#include "shared/tlog/witness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size);

static void path(const char *text)
{
    struct tlog_tile tile;
    char again[TLOG_PATH_SIZE];
    if (tlog_tile_parse(text, &tile) == ERR_OK) {
        CHECK(strcmp(tlog_tile_path(&tile, again), text) == 0);
    }
}

static void proof_file(struct bytes input)
{
    struct tlog_proof proof;
    struct buf extra;
    struct buf again;
    buf_init(&extra, TLOG_PROOF_MAX);
    buf_init(&again, (size_t)2 * TLOG_PROOF_MAX);
    if (tlog_proof_parse(input, &proof, &extra, NULL) == ERR_OK) {
        CHECK(tlog_proof_format(&proof, buf_bytes(&extra), &again) == ERR_OK);
        CHECK(bytes_equal(buf_bytes(&again), input));
    }
    buf_deinit(&extra);
    buf_deinit(&again);
}

static void request(struct bytes input, const struct signed_note_key *log)
{
    struct tlog_request request;
    struct checkpoint checkpoint;
    struct buf again;
    const struct tlog_seen seen = {.size = 3};
    buf_init(&again, TLOG_REQUEST_MAX);
    if (tlog_request_parse(input, &request, NULL) == ERR_OK) {
        CHECK(tlog_judge(&seen, &request, log, &checkpoint, NULL) != TLOG_SIGN);
        if (!request.too_long) {
            CHECK(tlog_request_format(&request, &again) == ERR_OK);
            CHECK(bytes_equal(buf_bytes(&again), input));
        }
    }
    buf_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    static const struct signed_note_key KEYS[2] = {
        {"log", SIGNED_NOTE_PLAIN, {.bytes = {9}}},
        {"witness", SIGNED_NOTE_COSIGNATURE, {.bytes = {8}}}};
    static const struct ledger_trust TRUST = {.witnesses = {.count = 0}};
    struct bytes input = bytes_of(data, data_size);
    struct ledger_account_claim claim;
    bool signed_by[2];
    struct bytes text;
    char word[128] = {0};
    crypto_start();
    memcpy(word, data, data_size < sizeof word - 1 ? data_size : sizeof word - 1);
    path(word);
    proof_file(input);
    request(input, &KEYS[0]);
    if (signed_note_check(input, KEYS, 2, signed_by, &text, NULL) == ERR_OK) {
        CHECK(!signed_by[0] && !signed_by[1]);
    }
    for (struct bytes entry; tlog_bundle_take(&input, &entry) == ERR_OK;) {
        CHECK(entry.size <= TLOG_ENTRY_MAX);
    }
    CHECK(ledger_account_proof_verify(bytes_of(data, data_size), &TRUST, &claim, NULL) != ERR_OK);
    return 0;
}
