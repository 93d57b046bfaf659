/* fuzz_ledger_claims.c - claims of payouts under a root, with edits: nobody is paid but by a leaf of their own, once.
 *
 * Byte 0 chooses the true claim that is edited, byte 1 who signs it and what log time is; the rest are edits. Then
 * the true claim follows. Oracle: the list of leaves that the root was made of. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/claims.h"
#include "shared/merkle/merkle.h"
#include "tests/harness/edits.h"
#include "tests/harness/ledger_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size);

enum { LEAVES = 5, CLAIM_MAX = 4096, EXPIRES_MS = 600000 };

static const struct {
    enum world_who who;
    const char *amount;
} LIST[LEAVES] = {{WORLD_DEV, "1"},
                  {WORLD_BASE, "2.5"},
                  {WORLD_OWNER, "3"},
                  {WORLD_DEV, "0.000000000000000001"},
                  {WORLD_SERVICE, "4"}};

static struct world *world;
static struct digest claims_id;
static struct digest leaves[LEAVES];
static struct world_mark mark;

static void start(void)
{
    struct merkle_head head;
    world = world_create();
    for (int i = 0; i < LEAVES; i++) {
        struct buf leaf;
        buf_init(&leaf, CLAIM_MAX);
        CHECK(ledger_claim_leaf(&world->ids[LIST[i].who], LIST[i].amount, &leaf) == ERR_OK);
        merkle_leaf(leaf.data, leaf.size, &leaves[i]);
        buf_deinit(&leaf);
    }
    merkle_head((struct merkle_leaves){leaves, LEAVES}, &head);
    Openledger__V1__PublishClaims publish = OPENLEDGER__V1__PUBLISH_CLAIMS__INIT;
    publish.root = ledger_binary(head.root.bytes, DIGEST_SIZE);
    publish.count = LEAVES;
    publish.total = world_text("11"); /* more than the leaves: only they limit what is paid */
    publish.expires_ms = world->now_ms + EXPIRES_MS;
    WORLD_ACTION(body, PUBLISH_CLAIMS, publish_claims, &publish);
    CHECK(world_try(world, WORLD_PAYER, &body) == ERR_OK);
    claims_id = world->tx;
    CHECK(world_seal(world) == ERR_OK);
    world_mark(world, &mark);
}

/* The true claim of a leaf, serialised. */
static void claim_pack(uint32_t number, struct buf *out)
{
    struct merkle_proof proof;
    struct digest id = claims_id;
    Openledger__V1__Claim claim = OPENLEDGER__V1__CLAIM__INIT;
    CHECK(merkle_prove((struct merkle_leaves){leaves, LEAVES}, number, &proof) == ERR_OK);
    claim.claims = ledger_binary(id.bytes, DIGEST_SIZE);
    claim.number = number;
    claim.amount = world_text(LIST[number].amount);
    claim.path = ledger_binary(proof.path[0].bytes, (size_t)proof.path_count * DIGEST_SIZE);
    CHECK(ledger_pack(&claim.base, out) == ERR_OK);
}

static enum err claim_try(struct bytes bytes, enum world_who who, uint32_t *out_number)
{
    Openledger__V1__Claim *claim = openledger__v1__claim__unpack(NULL, bytes.size, bytes.data);
    if (claim == NULL) {
        return ERR_INVALID;
    }
    *out_number = claim->number;
    WORLD_ACTION(body, CLAIM, claim, claim);
    enum err err = world_try(world, who, &body);
    openledger__v1__claim__free_unpacked(claim, NULL);
    return err;
}

static struct amount balance(enum world_who who)
{
    return ledger_account(world->ledger, &world->ids[who])->balance;
}

/* Paid is exactly what a leaf of who's says, and that leaf is marked. */
static void paid(uint32_t number, enum world_who who, struct amount before)
{
    struct amount is;
    CHECK(number < LEAVES && LIST[number].who == who);
    CHECK(amount_parse(LIST[number].amount, &is) == ERR_OK);
    CHECK(amount_add(before, is, &before) == ERR_OK && amount_equal(balance(who), before));
    CHECK(ledger_is_claimed(world->ledger, &claims_id, number));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    struct buf truth;
    struct buf edited;
    struct digest before;
    struct digest after;
    struct digest slow;
    uint32_t said = 0;
    if (world == NULL) {
        start();
    }
    if (data_size < 2) {
        return 0;
    }
    const uint32_t number = data[0] % LEAVES;
    const enum world_who right = LIST[number].who;
    const enum world_who who =
        data[1] % 4 == 0 ? (enum world_who)(data[1] / 4 % WORLD_ALICE) : right;
    world_return(world, &mark);
    buf_init(&truth, CLAIM_MAX);
    buf_init(&edited, (size_t)1 << 18);
    claim_pack(number, &truth);
    CHECK(buf_append_bytes(&edited, buf_bytes(&truth)) == ERR_OK);
    edits_make(bytes_of(data + 2, data_size - 2), &edited);
    world->now_ms += data[1] % 16 == 1 ? EXPIRES_MS : 0;
    bool late = world->now_ms > mark.now_ms;
    struct amount had = balance(who);
    ledger_state_root(world->ledger, &before);
    enum err err = claim_try(buf_bytes(&edited), who, &said);
    ledger_state_root(world->ledger, &after);
    ledger_state_root_slow(world->ledger, &slow);
    CHECK(digest_equal(&after, &slow));
    (void)ledger_supply(world->ledger);
    if (err == ERR_OK) {
        CHECK(!late);
        paid(said, who, had);
    } else {
        CHECK(digest_equal(&before, &after));
        CHECK(late || who != right || !bytes_equal(buf_bytes(&edited), buf_bytes(&truth)));
    }
    bool gone = err == ERR_OK && said == number;
    had = balance(right);
    err = claim_try(buf_bytes(&truth), right, &said); /* once, whatever was tried before */
    CHECK(err == (late || gone ? ERR_CONFLICT : ERR_OK));
    if (err == ERR_OK) {
        paid(number, right, had);
    }
    buf_deinit(&truth);
    buf_deinit(&edited);
    return 0;
}
