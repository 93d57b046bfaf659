/* fuzz_ledger_entry.c - no bytes whatsoever may break the ledger, and what is refused changes nothing.
 *
 * Byte 0 chooses how deep the rest begins: a whole entry, a SignedTx in a right entry, or a TxBody that
 * is completed and rightly signed, so that the rules themselves are reached. Oracle: after a refusal
 * the state root is as before; after an acceptance the supply is whole, and the cached root is the
 * slow one. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/base64.h"
#include "shared/base/check.h"
#include "shared/ledger/ledger.h"
#include "shared/ledger/tx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size);

static struct key_pair *keys;
static struct account_id id;
static struct buf genesis;

static void put_base64(const char *key, const uint8_t *data)
{
    buf_printf(&genesis, "\"%s\":\"", key);
    CHECK(base64_encode(bytes_of(data, 32), &genesis) == ERR_OK);
    buf_append_text(&genesis, "\",");
}

static void start(void)
{
    const uint8_t seed[KEY_SEED_SIZE] = {1};
    crypto_start();
    keys = key_pair_from_seed(seed);
    CHECK(keys != NULL);
    account_id_from_key(key_pair_public(keys), &id);
    buf_init(&genesis, LEDGER_GENESIS_MAX);
    buf_append_text(&genesis, "{\"chainName\":\"fuzz\",\"timeMs\":\"1000\",");
    put_base64("sequencerKey", key_pair_public(keys)->bytes);
    put_base64("platformAccount", id.bytes);
    buf_append_text(&genesis,
                    "\"parameters\":{\"platformBp\":1000,\"modelBp\":2000,\"stakersBp\":1000,"
                    "\"contributorsBp\":6000,\"shareDeadlineBlocks\":3,\"minimumBond\":\"1\","
                    "\"validityMaxMs\":\"600000\"},\"allocations\":[{");
    put_base64("account", id.bytes);
    put_base64("key", key_pair_public(keys)->bytes);
    buf_append_text(&genesis, "\"amount\":\"1000000000\",\"category\":\"community\"}]}");
}

/* Completes a decoded body and signs it. */
static enum err sign_body(const struct ledger *ledger, struct bytes body, struct buf *out)
{
    static const uint8_t nonce[LEDGER_NONCE_SIZE] = {7};
    struct ledger_head head;
    Openledger__V1__TxBody *action = openledger__v1__tx_body__unpack(NULL, body.size, body.data);
    if (action == NULL || action->action_case == OPENLEDGER__V1__TX_BODY__ACTION__NOT_SET) {
        if (action != NULL) {
            openledger__v1__tx_body__free_unpacked(action, NULL);
        }
        return ERR_INVALID;
    }
    ledger_head(ledger, &head);
    struct ledger_tx tx = ledger_tx_at(&head.chain_id, &id, 1000, 600000, nonce);
    Openledger__V1__TxBody copy = *action; /* its own fields stay for freeing */
    enum err err = ledger_tx_build(&tx, &copy, keys, out, NULL);
    openledger__v1__tx_body__free_unpacked(action, NULL);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    if (keys == NULL) {
        start();
    }
    if (data_size < 1) {
        return 0;
    }
    struct ledger *ledger = NULL;
    struct ledger_effects effects;
    struct buf entry;
    struct buf signed_tx;
    struct note note = {""};
    struct digest before;
    struct digest after;
    struct digest slow;
    struct bytes rest = bytes_of(data + 1, data_size - 1);
    enum err err = ledger_create(buf_bytes(&genesis), &ledger, &note);
    CHECK(err == ERR_OK);
    ledger_effects_init(&effects);
    buf_init(&entry, LEDGER_ENTRY_MAX);
    buf_init(&signed_tx, LEDGER_ENTRY_MAX);
    ledger_state_root(ledger, &before);
    switch (data[0] % 3) {
    case 0:
        err = buf_append_bytes(&entry, rest);
        break;
    case 1:
        err = ledger_make_entry(ledger, rest, 1000, &entry);
        break;
    case 2:
        err = sign_body(ledger, rest, &signed_tx);
        err = err ? err : ledger_make_entry(ledger, buf_bytes(&signed_tx), 1000, &entry);
        break;
    }
    if (err == ERR_OK) {
        err = ledger_apply(ledger, buf_bytes(&entry), NULL, &effects, &note);
        ledger_state_root(ledger, &after);
        ledger_state_root_slow(ledger, &slow);
        CHECK(digest_equal(&after, &slow));
        CHECK(err == ERR_OK || digest_equal(&before, &after));
        (void)ledger_supply(ledger);
    }
    buf_deinit(&entry);
    buf_deinit(&signed_tx);
    ledger_effects_deinit(&effects);
    ledger_destroy(ledger);
    return 0;
}
