/* replica_log.c - see replica_log.h. */
#include "services/settlement/replica_log.h"

#include "openledger/v1/ledger.pb-c.h"
#include "services/settlement/replica_wire.h"
#include "shared/base/check.h"
#include "shared/ledger/ledger.h"
#include "shared/ledger/tx.h"

enum err replica_log_learn(struct journal *journal, struct epoch_log *out, struct note *note)
{
    struct epoch_log log = {.count = journal_count(journal)};
    struct buf bytes;
    buf_init(&bytes, LEDGER_ENTRY_MAX);
    enum err err = log.count == 0 ? ERR_OK : journal_read(journal, log.count - 1, &bytes, note);
    if (err == ERR_OK && log.count > 0) {
        Openledger__V1__Entry *entry = openledger__v1__entry__unpack(NULL, bytes.size, bytes.data);
        if (entry == NULL) {
            err = note_set(note, ERR_CORRUPT, "entry %llu of the journal is no entry",
                           (unsigned long long)log.count);
        } else {
            log.last_epoch = entry->epoch;
            openledger__v1__entry__free_unpacked(entry, NULL);
        }
    }
    buf_deinit(&bytes);
    if (err == ERR_OK) {
        *out = log;
    }
    return err;
}

enum err replica_log_take(struct journal *journal, const Openledger__V1__ReplicaMessage *message,
                          uint64_t keep, bool *out_changed, struct note *note)
{
    struct buf bytes;
    enum err err = ERR_OK;
    bool changed = false;
    buf_init(&bytes, LEDGER_ENTRY_MAX);
    for (size_t i = 0; i < message->n_entries && err == ERR_OK; i++) {
        uint64_t index = message->index + i + 1;
        uint64_t at = 0;
        bool same = false;
        if (index <= journal_count(journal)) {
            buf_clear(&bytes);
            err = journal_read(journal, index - 1, &bytes, note);
            same = bytes_equal(buf_bytes(&bytes), ledger_bytes(message->entries[i]));
            if (err == ERR_OK && !same) { /* what was never final gives way */
                CHECK(index > keep);
                err = journal_truncate(journal, index - 1, note);
            }
        }
        if (err == ERR_OK && !same) {
            err = journal_append(journal, ledger_bytes(message->entries[i]), &at, note);
            changed = true;
        }
    }
    buf_deinit(&bytes);
    err = err ? err : journal_sync(journal, note);
    *out_changed = changed;
    return err;
}

enum err replica_log_carry(struct journal *journal, uint64_t index, struct buf *data,
                           ProtobufCBinaryData items[REPLICA_CARRY_COUNT], size_t *out_count)
{
    size_t ends[REPLICA_CARRY_COUNT];
    size_t count = 0;
    enum err err = ERR_OK;
    struct buf one;
    buf_init(&one, LEDGER_ENTRY_MAX);
    CHECK(data->size == 0 && data->limit >= LEDGER_ENTRY_MAX);
    while (err == ERR_OK && count < REPLICA_CARRY_COUNT && index + count < journal_count(journal)) {
        buf_clear(&one);
        err = journal_read(journal, index + count, &one, NULL);
        if (count > 0 && data->size + one.size > REPLICA_CARRY_MAX) {
            break;
        }
        err = err ? err : buf_append_bytes(data, buf_bytes(&one));
        ends[count++] = data->size;
    }
    buf_deinit(&one);
    for (size_t i = 0; err == ERR_OK && i < count; i++) { /* now that data has stopped growing */
        size_t begin = i == 0 ? 0 : ends[i - 1];
        items[i] = ledger_binary(data->data + begin, ends[i] - begin);
    }
    if (err == ERR_OK) {
        *out_count = count;
    }
    return err;
}
