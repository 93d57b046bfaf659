/* act_rows.c - contributing rows; see act.h. */
#include <stdlib.h>
#include <string.h>

#include "openledger/v1/objects.pb-c.h"
#include "services/openledger/act.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/ledger.h"
#include "shared/ledger/rows.h"
#include "shared/ledger/tx.h"
#include "shared/lineage/lineage.h"
#include "shared/platform/clock.h"

enum { CHUNK_SIZE = 256 * 1024, RETRIES_MAX = 40, RETRY_MS = 500 };

static char *text(const char *borrowed)
{
    return (char *)(uintptr_t)borrowed;
}

/* What the datanet would refuse must not be promised on the ledger first. */
static enum err check_line(struct cli *cli, size_t row, struct bytes line)
{
    struct note note = {""};
    enum err err = lineage_row_check(line, NULL, &note);
    return err == ERR_OK ? err : note_set(&cli->note, err, "row %zu: %.200s", row, note.text);
}

/* Adds a row with a fresh salt; it points into line. */
static enum err add_row(struct cli *cli, struct bytes line, size_t *capacity,
                        Openledger__V1__Contribution *contribution)
{
    if (contribution->n_rows == LEDGER_ROWS_MAX) {
        return note_set(&cli->note, ERR_LIMIT, "more than %d rows in one contribution",
                        LEDGER_ROWS_MAX);
    }
    if (contribution->n_rows == *capacity) {
        size_t wanted = *capacity == 0 ? 256 : *capacity * 2;
        void *grown = realloc(contribution->rows, wanted * sizeof *contribution->rows);
        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        contribution->rows = grown;
        *capacity = wanted;
    }
    Openledger__V1__Row *row = arena_alloc(cli->arena, sizeof *row);
    struct salt *salt = arena_alloc(cli->arena, sizeof *salt);
    enum err err = check_line(cli, contribution->n_rows, line);
    if (err != ERR_OK) {
        return err;
    }
    if (row == NULL || salt == NULL) {
        return note_set(&cli->note, ERR_LIMIT, "the rows do not fit into memory");
    }
    openledger__v1__row__init(row);
    salt_create(salt);
    row->salt = ledger_binary(salt->bytes, SALT_SIZE);
    row->data = ledger_binary(line.data, line.size);
    contribution->rows[contribution->n_rows++] = row;
    return ERR_OK;
}

/* One Row per non-empty line, in contribution; free with free_rows. */
static enum err split_lines(struct cli *cli, struct bytes rows,
                            Openledger__V1__Contribution *contribution)
{
    size_t capacity = 0;
    size_t start = 0;
    while (start < rows.size) {
        const uint8_t *newline = memchr(rows.data + start, '\n', rows.size - start);
        size_t end = newline != NULL ? (size_t)(newline - rows.data) : rows.size;
        enum err err = end == start ? ERR_OK
                                    : add_row(cli, bytes_of(rows.data + start, end - start),
                                              &capacity, contribution);
        if (err != ERR_OK) {
            return err;
        }
        start = end + 1;
    }
    return contribution->n_rows > 0 ? ERR_OK
                                    : note_set(&cli->note, ERR_INVALID, "there are no rows");
}

/* Packs a new contribution with the licence and permission of its datanet. */
static enum err pack_new(struct cli *cli, const struct key_pair *keys,
                         const struct act_contribution *wanted, struct buf *out)
{
    Openledger__V1__NameRequest request = OPENLEDGER__V1__NAME_REQUEST__INIT;
    const Openledger__V1__DatanetRecord *datanet;
    struct account_id account;
    request.name = text(wanted->datanet);
    enum err err = cli_call_fresh(cli, "Registry.GetDatanet", &request.base, &datanet);
    if (err != ERR_OK) {
        return err;
    }
    Openledger__V1__Contribution contribution = OPENLEDGER__V1__CONTRIBUTION__INIT;
    account_id_from_key(key_pair_public(keys), &account);
    contribution.datanet = text(wanted->datanet);
    contribution.contributor = ledger_binary(account.bytes, ACCOUNT_ID_SIZE);
    contribution.licence = datanet->licence;
    contribution.permission = datanet->permission;
    err = split_lines(cli, wanted->rows, &contribution);
    err = err != ERR_OK ? err : ledger_pack(&contribution.base, out);
    if (err == ERR_LIMIT && cli->note.text[0] == '\0') {
        err = note_set(&cli->note, err, "the contribution has more than %u bytes",
                       LEDGER_CONTRIBUTION_SIZE_MAX);
    }
    free(contribution.rows);
    return err;
}

/* Signs root and sizes onto the ledger: from here on the rows' place in the log is taken. */
static enum err commit(struct cli *cli, const struct key_pair *keys, struct bytes packed,
                       struct digest *out_contribution)
{
    ProtobufCMessage *message;
    enum err err = ledger_unpack(&openledger__v1__contribution__descriptor, "contribution", packed,
                                 &message, &cli->note);
    if (err != ERR_OK) {
        return err;
    }
    const Openledger__V1__Contribution *contribution =
        (const Openledger__V1__Contribution *)message;
    struct digest root;
    uint64_t byte_count;
    err = ledger_contribution_root(contribution, &root, &byte_count, NULL, &cli->note);
    if (err == ERR_OK) {
        Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
        Openledger__V1__CommitRows rows = OPENLEDGER__V1__COMMIT_ROWS__INIT;
        rows.datanet = contribution->datanet;
        rows.root = ledger_binary(root.bytes, DIGEST_SIZE);
        rows.row_count = (uint32_t)contribution->n_rows;
        rows.byte_count = byte_count;
        action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_COMMIT_ROWS;
        action.commit_rows = &rows;
        err = act_submit(cli, keys, &action, out_contribution);
    }
    protobuf_c_message_free_unpacked(message, NULL);
    return err;
}

static enum err begin(struct cli *cli, const struct key_pair *keys,
                      const struct digest *contribution, struct bytes packed,
                      const Openledger__V1__UploadState **out_state)
{
    static const char DOMAIN[] = "openledger/upload/v1";
    Openledger__V1__Empty empty = OPENLEDGER__V1__EMPTY__INIT;
    const Openledger__V1__LedgerInfo *info;
    enum err err = cli_call_fresh(cli, "Settlement.GetInfo", &empty.base, &info);
    if (err != ERR_OK) {
        return err;
    }
    struct digest digest;
    struct signature signature;
    struct buf message;
    buf_init(&message, 256);
    sha256(packed, &digest);
    buf_append(&message, DOMAIN, sizeof DOMAIN); /* with its NUL */
    buf_append_bytes(&message, ledger_bytes(info->chain_id));
    buf_append(&message, contribution->bytes, DIGEST_SIZE);
    buf_append_u64be(&message, packed.size);
    buf_append(&message, digest.bytes, DIGEST_SIZE);
    err = buf_err(&message);
    if (err == ERR_OK) {
        key_pair_sign(keys, buf_bytes(&message), &signature);
        Openledger__V1__BeginUploadRequest request = OPENLEDGER__V1__BEGIN_UPLOAD_REQUEST__INIT;
        request.contribution = ledger_binary(contribution->bytes, DIGEST_SIZE);
        request.size = packed.size;
        request.digest = ledger_binary(digest.bytes, DIGEST_SIZE);
        request.key = ledger_binary(key_pair_public(keys)->bytes, PUBLIC_KEY_SIZE);
        request.signature = ledger_binary(signature.bytes, SIGNATURE_SIZE);
        err = cli_call_fresh(cli, "Datanet.BeginUpload", &request.base, out_state);
    }
    buf_deinit(&message);
    return err;
}

/* From where the datanet stands to the end. */
static enum err upload(struct cli *cli, const struct key_pair *keys,
                       const struct act_contribution *wanted, const struct digest *contribution,
                       struct bytes packed, const Openledger__V1__ContributionRecord **out_record)
{
    const Openledger__V1__UploadState *state;
    enum err err = begin(cli, keys, contribution, packed, &state);
    if (err != ERR_OK) {
        return err;
    }
    ProtobufCBinaryData token = state->token;
    while (!state->finished && state->received < packed.size) {
        Openledger__V1__PutChunkRequest request = OPENLEDGER__V1__PUT_CHUNK_REQUEST__INIT;
        size_t left = packed.size - (size_t)state->received;
        request.contribution = ledger_binary(contribution->bytes, DIGEST_SIZE);
        request.offset = state->received;
        request.data =
            ledger_binary(packed.data + state->received, left < CHUNK_SIZE ? left : CHUNK_SIZE);
        request.token = token;
        err = cli_call(cli, "Datanet.PutChunk", &request.base, &state);
        if (err != ERR_OK) {
            return err;
        }
        if (wanted->progress != NULL) {
            wanted->progress(wanted->context, state->received, packed.size);
        }
    }
    Openledger__V1__FinishUploadRequest request = OPENLEDGER__V1__FINISH_UPLOAD_REQUEST__INIT;
    request.contribution = ledger_binary(contribution->bytes, DIGEST_SIZE);
    request.token = token;
    return cli_call(cli, "Datanet.FinishUpload", &request.base, out_record);
}

/* A state file is the contribution's id on the ledger and its serialised bytes. */
static enum err state_load(const char *path, struct digest *out_contribution, struct buf *out)
{
    struct buf file;
    buf_init(&file, LEDGER_CONTRIBUTION_SIZE_MAX + DIGEST_SIZE);
    enum err err = file_read(path, &file, NULL);
    struct bytes rest = buf_bytes(&file);
    err = err != ERR_OK ? err : bytes_take_copy(&rest, out_contribution->bytes, DIGEST_SIZE);
    err = err != ERR_OK ? err : buf_append_bytes(out, rest);
    buf_deinit(&file);
    return err;
}

static enum err state_save(const char *path, const struct digest *contribution, struct bytes packed,
                           struct note *note)
{
    struct buf file;
    buf_init(&file, LEDGER_CONTRIBUTION_SIZE_MAX + DIGEST_SIZE);
    buf_append(&file, contribution->bytes, DIGEST_SIZE);
    buf_append_bytes(&file, packed);
    enum err err = buf_err(&file);
    err = err != ERR_OK ? err : file_write_atomic(path, buf_bytes(&file), 0600, note);
    buf_deinit(&file);
    return err;
}

enum err act_contribute(struct cli *cli, const struct key_pair *keys,
                        const struct act_contribution *contribution,
                        const Openledger__V1__ContributionRecord **out_record)
{
    struct buf packed;
    struct digest id;
    const char *state_file = contribution->state_file;
    buf_init(&packed, LEDGER_CONTRIBUTION_SIZE_MAX);
    bool resumed = state_file != NULL && file_exists(state_file) &&
                   state_load(state_file, &id, &packed) == ERR_OK;
    enum err err = ERR_OK;
    if (!resumed) {
        buf_clear(&packed);
        err = pack_new(cli, keys, contribution, &packed);
        err = err != ERR_OK ? err : commit(cli, keys, buf_bytes(&packed), &id);
        if (err == ERR_OK && state_file != NULL) {
            err = state_save(state_file, &id, buf_bytes(&packed), &cli->note);
        }
    }
    for (uint32_t attempt = 0; err == ERR_OK; attempt++) {
        err = upload(cli, keys, contribution, &id, buf_bytes(&packed), out_record);
        bool again = err == ERR_UNAVAILABLE || err == ERR_TIMEOUT ||
                     err == ERR_NOT_FOUND; /* the datanet has not read the commitment yet */
        if (err == ERR_OK || !again || attempt == RETRIES_MAX) {
            break;
        }
        clock_sleep_ms(RETRY_MS);
        err = ERR_OK;
    }
    if (err == ERR_INVALID && state_file != NULL && file_exists(state_file)) {
        struct note
            unused; /* refused for good: the next run begins anew with what the file holds */
        (void)!file_remove(state_file, &unused);
    }
    if (err == ERR_OK && state_file != NULL && file_exists(state_file)) {
        err = file_remove(state_file, &cli->note);
    }
    buf_deinit(&packed);
    return err;
}
