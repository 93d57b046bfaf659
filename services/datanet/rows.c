/* rows.c - checks of whole contributions; see datanet.h. */
#include <string.h>

#include "services/datanet/datanet.h"
#include "shared/ledger/rows.h"
#include "shared/ledger/tx.h"
#include "shared/lineage/lineage.h"

/* What the contribution says of itself against what the ledger says of it. */
static enum err frame_check(const struct ledger *ledger,
                            const struct ledger_contribution *contribution,
                            const Openledger__V1__Contribution *content, struct note *note)
{
    const struct ledger_datanet *datanet = ledger_datanet(ledger, contribution->datanet);
    if (datanet == NULL || strcmp(content->datanet, contribution->datanet) != 0) {
        return note_set(note, ERR_INVALID, "it is for datanet '%.64s', committed was '%s'",
                        content->datanet, contribution->datanet);
    }
    if (content->contributor.len != ACCOUNT_ID_SIZE ||
        memcmp(content->contributor.data, contribution->contributor.bytes, ACCOUNT_ID_SIZE) != 0) {
        return note_set(note, ERR_INVALID, "it names another contributor than the commitment");
    }
    if (strcmp(content->licence, datanet->licence) != 0 ||
        (uint32_t)content->permission != datanet->permission) {
        return note_set(note, ERR_INVALID,
                        "its licence '%.64s' or permission is not the datanet's ('%s')",
                        content->licence, datanet->licence);
    }
    if (content->n_rows != contribution->row_count) {
        return note_set(note, ERR_INVALID, "it has %zu rows, committed were %u", content->n_rows,
                        contribution->row_count);
    }
    return ERR_OK;
}

enum err datanet_content_check(const struct ledger *ledger,
                               const struct ledger_contribution *contribution, struct bytes content,
                               struct note *note)
{
    ProtobufCMessage *message = NULL;
    enum err err = ledger_unpack(&openledger__v1__contribution__descriptor, "contribution", content,
                                 &message, note);
    if (err != ERR_OK) {
        return err;
    }
    const Openledger__V1__Contribution *decoded = (const Openledger__V1__Contribution *)message;
    err = frame_check(ledger, contribution, decoded, note);
    for (size_t i = 0; i < decoded->n_rows && err == ERR_OK; i++) {
        err = lineage_row_check(ledger_bytes(decoded->rows[i]->data), NULL, note);
        if (err != ERR_OK) {
            err = note_wrap(note, err, "row %zu", i);
        }
    }
    struct digest root;
    uint64_t byte_count = 0;
    err = err != ERR_OK ? err : ledger_contribution_root(decoded, &root, &byte_count, NULL, note);
    if (err == ERR_OK && byte_count != contribution->byte_count) {
        err =
            note_set(note, ERR_INVALID, "its rows have %llu bytes, committed were %llu",
                     (unsigned long long)byte_count, (unsigned long long)contribution->byte_count);
    }
    if (err == ERR_OK && !digest_equal(&root, &contribution->root)) {
        char have[DIGEST_TEXT_SIZE];
        char want[DIGEST_TEXT_SIZE];
        err = note_set(note, ERR_INVALID, "its root is %s, committed was %s",
                       digest_format(&root, have), digest_format(&contribution->root, want));
    }
    protobuf_c_message_free_unpacked(message, NULL);
    return err;
}
