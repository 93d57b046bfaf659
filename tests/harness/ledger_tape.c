/* ledger_tape.c - see ledger_tape.h. */
#include "tests/harness/ledger_tape.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "shared/base/check.h"

struct world_tape {
    FILE *file;
};

static void put_hex(const struct world_tape *tape, struct bytes bytes)
{
    static const char DIGITS[] = "0123456789abcdef";
    for (size_t i = 0; i < bytes.size; i++) {
        CHECK(putc(DIGITS[bytes.data[i] >> 4], tape->file) != EOF);
        CHECK(putc(DIGITS[bytes.data[i] & 15], tape->file) != EOF);
    }
}

static void put_line(const struct world_tape *tape, const char *word, struct bytes bytes)
{
    CHECK(fprintf(tape->file, "%s ", word) > 0);
    put_hex(tape, bytes);
    CHECK(putc('\n', tape->file) != EOF);
}

struct world_tape *tape_create(struct bytes genesis)
{
    static unsigned count; /* of this process: Check runs each test in one of its own */
    const char *folder = getenv("LEDGER_TAPES");
    char path[512];
    if (folder == NULL) {
        return NULL;
    }
    int size = snprintf(path, sizeof path, "%s/%d-%u", folder, (int)getpid(), count++);
    CHECK(size > 0 && (size_t)size < sizeof path);
    struct world_tape *tape = calloc(1, sizeof *tape);
    CHECK(tape != NULL);
    tape->file = fopen(path, "wx");
    CHECK(tape->file != NULL);
    put_line(tape, "genesis", genesis);
    return tape;
}

void tape_destroy(struct world_tape *tape)
{
    if (tape != NULL) {
        CHECK(fclose(tape->file) == 0);
        free(tape);
    }
}

void tape_blob(struct world_tape *tape, struct bytes blob)
{
    if (tape != NULL) {
        put_line(tape, "blob", blob);
    }
}

void tape_entry(struct world_tape *tape, struct ledger *ledger, struct bytes entry, enum err err)
{
    struct digest root;
    struct ledger_head head;
    if (tape == NULL) {
        return;
    }
    ledger_state_root(ledger, &root);
    ledger_head(ledger, &head);
    CHECK(fprintf(tape->file, "entry %s ", err_name(err)) > 0);
    put_hex(tape, bytes_of(root.bytes, DIGEST_SIZE));
    CHECK(putc(' ', tape->file) != EOF);
    put_hex(tape, bytes_of(head.header_hash.bytes, DIGEST_SIZE));
    put_line(tape, "", entry);
}
