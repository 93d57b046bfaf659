/* fuzz_ledger_state.c - a genesis file and a snapshot with edits: hostile bytes that a whole state is made of.
 *
 * Byte 0 chooses, the rest are edits. Oracles: a state that comes out of either has the whole supply and the root
 * that its records give without any cache; written as a snapshot and read again it is the same state; a snapshot
 * that is accepted is written back as the very same bytes. */
#include <stdlib.h>

#include "shared/base/check.h"
#include "tests/harness/edits.h"
#include "tests/harness/ledger_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size);

enum { SNAPSHOT_MAX = 1 << 24 };

static struct world *world;
static struct buf snapshot;

static void start(void)
{
    world = world_create();
    world_setup(world);
    CHECK(world_grant(world, "10") == ERR_OK);
    CHECK(world_seal(world) == ERR_OK);
    buf_init(&snapshot, SNAPSHOT_MAX);
    CHECK(ledger_snapshot(world->ledger, &snapshot) == ERR_OK);
}

/* Appends the state's snapshot to out after looking at the state. */
static void look(struct ledger *ledger, struct buf *out)
{
    struct digest cached;
    struct digest slow;
    ledger_state_root(ledger, &cached);
    ledger_state_root_slow(ledger, &slow);
    CHECK(digest_equal(&cached, &slow));
    (void)ledger_supply(ledger);
    CHECK(ledger_snapshot(ledger, out) == ERR_OK);
}

static void genesis(struct bytes bytes)
{
    struct ledger *ledger = NULL;
    struct ledger *restored = NULL;
    struct buf first;
    struct buf second;
    buf_init(&first, SNAPSHOT_MAX);
    buf_init(&second, SNAPSHOT_MAX);
    if (ledger_create(bytes, &ledger, NULL) == ERR_OK) {
        look(ledger, &first);
        CHECK(ledger_restore(bytes, buf_bytes(&first), &restored, NULL) == ERR_OK);
        look(restored, &second);
        CHECK(bytes_equal(buf_bytes(&first), buf_bytes(&second)));
        ledger_destroy(restored);
        ledger_destroy(ledger);
    }
    buf_deinit(&first);
    buf_deinit(&second);
}

static void restore(struct bytes bytes)
{
    struct ledger *restored = NULL;
    struct buf again;
    buf_init(&again, SNAPSHOT_MAX);
    enum err err = ledger_restore(buf_bytes(&world->genesis), bytes, &restored, NULL);
    CHECK(err == ERR_OK || err == ERR_CORRUPT);
    CHECK(err == ERR_OK || !bytes_equal(bytes, buf_bytes(&snapshot)));
    if (err == ERR_OK) {
        look(restored, &again);
        CHECK(bytes_equal(bytes, buf_bytes(&again)));
        ledger_destroy(restored);
    }
    buf_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    struct buf edited;
    if (world == NULL) {
        start();
    }
    if (data_size == 0) {
        return 0;
    }
    bool of_genesis = data[0] % 2 == 0;
    buf_init(&edited, SNAPSHOT_MAX);
    buf_append_bytes(&edited, buf_bytes(of_genesis ? &world->genesis : &snapshot));
    CHECK(buf_err(&edited) == ERR_OK);
    edits_make(bytes_of(data + 1, data_size - 1), &edited);
    if (of_genesis) {
        genesis(buf_bytes(&edited));
    } else {
        restore(buf_bytes(&edited));
    }
    buf_deinit(&edited);
    return 0;
}
