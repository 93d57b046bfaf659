/* test_ledger_claims.c - what vests and claims under a Merkle root: each rule with its refusals, random
 * histories against an obvious model. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/base/check.h"
#include "shared/ledger/claims.h"
#include "shared/merkle/merkle.h"
#include "tests/harness/ledger_expect.h"
#include "tests/harness/seed.h"

static struct world *world;

static void setup(void)
{
    world = world_create();
}

static void teardown(void)
{
    world_destroy(world);
}

/* ---- vesting ------------------------------------------------------------------------------------ */

#define CLIFF_MS (WORLD_TIME_MS + 1000000)
#define VEST_MS 1000000

static Openledger__V1__TxBody *vested(void)
{
    static Openledger__V1__TxBody body;
    static Openledger__V1__ClaimVested action;
    openledger__v1__claim_vested__init(&action);
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_CLAIM_VESTED;
    body.claim_vested = &action;
    return &body;
}

START_TEST(test_vesting)
{
    struct account_id escrow;
    ledger_vesting_escrow_id(&world->ids[WORLD_TEAM], &escrow);
    expect_balance(world, &escrow, "100000000");
    expect_balance(world, &world->ids[WORLD_TEAM], "0");
    expect_refused(world, WORLD_DEV, vested(), ERR_NOT_FOUND, "no allocation that vests");
    expect_refused(world, WORLD_TEAM, vested(), ERR_CONFLICT, "nothing is due");
    world->now_ms = CLIFF_MS - 1;
    expect_refused(world, WORLD_TEAM, vested(), ERR_CONFLICT, "nothing is due");
    world->now_ms = CLIFF_MS + VEST_MS / 4;
    expect_ok(world, WORLD_TEAM, vested());
    expect_balance(world, &world->ids[WORLD_TEAM], "25000000");
    expect_balance(world, &escrow, "75000000");
    expect_refused(world, WORLD_TEAM, vested(), ERR_CONFLICT, "25000000 OPEN have vested");
    ck_assert_int_eq(world_transfer(world, WORLD_TEAM, WORLD_BOB, "25000001"), ERR_FUNDS);
    ck_assert_int_eq(world_transfer(world, WORLD_TEAM, WORLD_BOB, "25000000"), ERR_OK);
    world->now_ms = CLIFF_MS + VEST_MS;
    expect_ok(world, WORLD_TEAM, vested());
    expect_balance(world, &world->ids[WORLD_TEAM], "75000000");
    expect_balance(world, &escrow, "0");
    world->now_ms += VEST_MS;
    expect_refused(world, WORLD_TEAM, vested(), ERR_CONFLICT, "100000000 OPEN have vested");
    expect_replays(world);
}
END_TEST

/* However often it is claimed, at any time the whole paid is total * elapsed / vest, rounded down. */
START_TEST(test_vesting_random)
{
    world->now_ms = CLIFF_MS - 50000;
    for (int i = 0; i < 60; i++) {
        char text[AMOUNT_TEXT_SIZE];
        world->now_ms += 1 + test_rand() % 30000;
        uint64_t elapsed = world->now_ms < CLIFF_MS ? 0 : world->now_ms - CLIFF_MS;
        elapsed = elapsed > VEST_MS ? VEST_MS : elapsed;
        (void)world_try(world, WORLD_TEAM, vested());
        (void)snprintf(text, sizeof text, "%llu", (unsigned long long)elapsed * 100);
        expect_balance(world, &world->ids[WORLD_TEAM], text);
    }
    expect_replays(world);
}
END_TEST

START_TEST(test_vesting_genesis)
{
    static const char TEAM[] = "\"name\":\"team\",\"amount\":\"100000000\",";
    struct ledger *ledger = NULL;
    struct note note;
    struct buf copy;
    const char *whole = buf_text(&world->genesis);
    const char *at = strstr(whole, TEAM);
    const char *end = strchr(at, '}');
    const char *begin = at;
    while (*begin != '{') {
        begin--;
    }
    for (int second = 0; second < 2; second++) { /* half of it at once, or vesting too */
        buf_init(&copy, LEDGER_GENESIS_MAX);
        buf_append(&copy, whole, (size_t)(at - whole));
        buf_append_text(&copy, "\"name\":\"team\",\"amount\":\"60000000\",\"category\":\"team\","
                               "\"cliffMs\":\"5\"},");
        buf_append(&copy, begin, (size_t)(at - begin));
        buf_printf(&copy,
                   "\"name\":\"team\",\"amount\":\"40000000\",\"category\":\"team\",\"%s\":\"%d\"",
                   "vestMs", second * 5);
        buf_append_text(&copy, end);
        enum err err = ledger_create(buf_bytes(&copy), &ledger, &note);
        if (second == 1) {
            ck_assert_int_eq(err, ERR_CONFLICT);
            ck_assert_ptr_nonnull(strstr(note.text, "vests already"));
        } else {
            ck_assert_msg(err == ERR_OK, "%s", note.text);
            const struct ledger_vesting *team = ledger_vesting(ledger, &world->ids[WORLD_TEAM]);
            ck_assert_ptr_nonnull(team);
            char text[AMOUNT_TEXT_SIZE];
            ck_assert_str_eq(amount_format(team->total, text), "60000000");
            ck_assert(amount_equal(ledger_vested(team, WORLD_TIME_MS + 4), AMOUNT_ZERO));
            ck_assert(amount_equal(ledger_vested(team, WORLD_TIME_MS + 5), team->total));
            ck_assert_str_eq(
                amount_format(ledger_account(ledger, &world->ids[WORLD_TEAM])->balance, text),
                "40000000");
            ledger_destroy(ledger);
        }
        buf_deinit(&copy);
    }
}
END_TEST

/* ---- claims under a root ------------------------------------------------------------------------ */

#define LEAVES_MAX 70

static struct {
    uint32_t count;
    enum world_who who[LEAVES_MAX];
    char amounts[LEAVES_MAX][24];
    struct digest leaves[LEAVES_MAX];
    struct merkle_head head;
    struct digest id;
} list;

/* Leaf i: an amount of i + 1 OPEN for one of the cast. */
static void list_make(uint32_t count)
{
    list.count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct buf leaf;
        buf_init(&leaf, 256);
        list.who[i] = (enum world_who)(WORLD_DEV + i % 3); /* dev, base, team */
        (void)snprintf(list.amounts[i], sizeof list.amounts[i], "%u", i + 1);
        ck_assert_int_eq(ledger_claim_leaf(&world->ids[list.who[i]], list.amounts[i], &leaf),
                         ERR_OK);
        merkle_leaf(leaf.data, leaf.size, &list.leaves[i]);
        buf_deinit(&leaf);
    }
    merkle_head((struct merkle_leaves){list.leaves, count}, &list.head);
}

static Openledger__V1__TxBody *publish_of(const char *total, uint64_t expires_ms)
{
    static Openledger__V1__TxBody body;
    static Openledger__V1__PublishClaims action;
    openledger__v1__publish_claims__init(&action);
    action.root = expect_digest_field(&list.head.root);
    action.count = list.count;
    action.total = world_text(total);
    action.expires_ms = expires_ms;
    action.title = world_text("for the early ones");
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_PUBLISH_CLAIMS;
    body.publish_claims = &action;
    return &body;
}

static struct merkle_proof proof; /* of the last claim_of */

static Openledger__V1__TxBody *claim_of(uint32_t number)
{
    static Openledger__V1__TxBody body;
    static Openledger__V1__Claim action;
    ck_assert_int_eq(merkle_prove((struct merkle_leaves){list.leaves, list.count}, number, &proof),
                     ERR_OK);
    openledger__v1__claim__init(&action);
    action.claims = expect_digest_field(&list.id);
    action.number = number;
    action.amount = list.amounts[number];
    action.path = ledger_binary(proof.path, (size_t)proof.path_count * DIGEST_SIZE);
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_CLAIM;
    body.claim = &action;
    return &body;
}

static Openledger__V1__TxBody *close_of(void)
{
    static Openledger__V1__TxBody body;
    static Openledger__V1__CloseClaims action;
    openledger__v1__close_claims__init(&action);
    action.claims = expect_digest_field(&list.id);
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_CLOSE_CLAIMS;
    body.close_claims = &action;
    return &body;
}

START_TEST(test_publish_refused)
{
    const uint64_t end = world->now_ms + 60000;
    list_make(5);
    Openledger__V1__TxBody *body = publish_of("15", end);
    body->publish_claims->root.len--;
    expect_refused(world, WORLD_PAYER, body, ERR_INVALID, "root has 31");
    expect_refused(world, WORLD_PAYER, publish_of("0", end), ERR_INVALID, "total is 0");
    expect_refused(world, WORLD_PAYER, publish_of("15.0", end), ERR_INVALID, "canonical");
    expect_refused(world, WORLD_PAYER, publish_of("301000001", end), ERR_FUNDS, "can spend");
    expect_refused(world, WORLD_PAYER, publish_of("15", world->now_ms), ERR_RANGE, "expire at");
    expect_refused(world, WORLD_PAYER, publish_of("15", world->now_ms + LEDGER_GRANT_MS_MAX + 1),
                   ERR_RANGE, "expire at");
    body = publish_of("15", end);
    body->publish_claims->title = world_text("\x02");
    expect_refused(world, WORLD_PAYER, body, ERR_INVALID, "title");
    list.count = 0;
    expect_refused(world, WORLD_PAYER, publish_of("15", end), ERR_RANGE, "0 claims");
    list.count = LEDGER_CLAIMS_MAX + 1;
    expect_refused(world, WORLD_PAYER, publish_of("15", end), ERR_RANGE, "10000001 claims");
    list.count = 5;
    expect_refused(world, WORLD_DEV, claim_of(0), ERR_NOT_FOUND, "no claims");
    expect_refused(world, WORLD_DEV, close_of(), ERR_NOT_FOUND, "no claims");
}
END_TEST

START_TEST(test_claims)
{
    const uint64_t end = world->now_ms + 60000;
    struct account_id escrow;
    list_make(5); /* dev 1, base 2, team 3, dev 4, base 5 */
    expect_ok(world, WORLD_PAYER, publish_of("12", end));
    list.id = world->tx;
    ledger_claims_escrow_id(&list.id, &escrow);
    expect_balance(world, &escrow, "12");
    expect_balance(world, &world->ids[WORLD_PAYER], "300999988");

    expect_refused(world, WORLD_BASE, claim_of(0), ERR_DENIED, "does not show 1 OPEN");
    Openledger__V1__TxBody *body = claim_of(0);
    body->claim->amount = world_text("2");
    expect_refused(world, WORLD_DEV, body, ERR_DENIED, "does not show 2 OPEN");
    body->claim->amount = world_text("0");
    expect_refused(world, WORLD_DEV, body, ERR_INVALID, "amount is 0");
    body = claim_of(0);
    body->claim->number = 3;
    expect_refused(world, WORLD_DEV, body, ERR_DENIED, "as claim 3");
    body->claim->number = 5;
    expect_refused(world, WORLD_DEV, body, ERR_DENIED, "as claim 5");
    body = claim_of(0);
    body->claim->path.len--;
    expect_refused(world, WORLD_DEV, body, ERR_INVALID, "path has 95 bytes");
    body->claim->path.len -= DIGEST_SIZE - 1;
    expect_refused(world, WORLD_DEV, body, ERR_DENIED, "does not show");
    static uint8_t deep[(MERKLE_PATH_MAX + 1) * DIGEST_SIZE];
    body->claim->path = ledger_binary(deep, sizeof deep);
    expect_refused(world, WORLD_DEV, body, ERR_INVALID, "path has 1056 bytes");
    body->claim->claims.len = 4;
    expect_refused(world, WORLD_DEV, body, ERR_INVALID, "claims has 4");

    expect_ok(world, WORLD_DEV, claim_of(0));
    expect_balance(world, &world->ids[WORLD_DEV], "100000001");
    expect_refused(world, WORLD_DEV, claim_of(0), ERR_CONFLICT, "paid already");
    expect_ok(world, WORLD_DEV, claim_of(3));
    expect_ok(world, WORLD_BASE, claim_of(4));
    expect_balance(world, &escrow, "2");
    /* The list says more than was set aside: what there is goes to who comes first. */
    expect_refused(world, WORLD_TEAM, claim_of(2), ERR_FUNDS, "12 OPEN, 10 of it");
    expect_refused(world, WORLD_PAYER, close_of(), ERR_CONFLICT, "can be closed from");
    ck_assert(ledger_is_claimed(world->ledger, &list.id, 3));
    ck_assert(!ledger_is_claimed(world->ledger, &list.id, 2));
    world->now_ms = end;
    expect_refused(world, WORLD_BASE, claim_of(1), ERR_CONFLICT, "expired at");
    expect_ok(world, WORLD_DEV, close_of());
    expect_balance(world, &world->ids[WORLD_PAYER], "300999990");
    expect_balance(world, &escrow, "0");
    expect_refused(world, WORLD_DEV, close_of(), ERR_CONFLICT, "are closed");
    expect_refused(world, WORLD_BASE, claim_of(1), ERR_CONFLICT, "are closed");
    expect_replays(world);
}
END_TEST

/* An amount beyond all there is, honestly under the root, is no overflow. */
START_TEST(test_claims_huge)
{
    static const char HUGE_AMOUNT[] = "340282366920938463463";
    struct buf leaf;
    list_make(1);
    buf_init(&leaf, 256);
    (void)snprintf(list.amounts[0], sizeof list.amounts[0], "%s", HUGE_AMOUNT);
    ck_assert_int_eq(ledger_claim_leaf(&world->ids[WORLD_DEV], HUGE_AMOUNT, &leaf), ERR_OK);
    merkle_leaf(leaf.data, leaf.size, &list.leaves[0]);
    buf_deinit(&leaf);
    merkle_head((struct merkle_leaves){list.leaves, 1}, &list.head);
    expect_ok(world, WORLD_PAYER, publish_of("12", world->now_ms + 60000));
    list.id = world->tx;
    expect_refused(world, WORLD_DEV, claim_of(0), ERR_FUNDS, "12 OPEN, 0 of it");
}
END_TEST

/* Any list, any order, any wrong path: each leaf is paid once and to its account alone. */
START_TEST(test_claims_random)
{
    for (int round = 0; round < 8; round++) {
        uint64_t sum = 0;
        uint64_t paid[3] = {0};
        bool claimed[LEAVES_MAX] = {false};
        char text[AMOUNT_TEXT_SIZE];
        char before[3][AMOUNT_TEXT_SIZE];
        list_make(1 + (uint32_t)(test_rand() % LEAVES_MAX));
        for (uint32_t i = 0; i < list.count; i++) {
            sum += i + 1;
        }
        (void)snprintf(text, sizeof text, "%llu", (unsigned long long)sum);
        expect_ok(world, WORLD_PAYER, publish_of(text, world->now_ms + 60000));
        list.id = world->tx;
        for (int i = 0; i < 3; i++) {
            (void)world_balance(world, &world->ids[WORLD_DEV + i], before[i]);
        }
        for (int i = 0; i < 100; i++) {
            uint32_t number = (uint32_t)(test_rand() % list.count);
            enum world_who who = (enum world_who)(WORLD_DEV + test_rand() % 3);
            Openledger__V1__TxBody *body = claim_of(number);
            bool broken = test_rand() % 4 == 0 && proof.path_count > 0;
            if (broken) {
                body->claim->path.data[test_rand() % body->claim->path.len] ^= 1;
            }
            enum err expected = broken || who != list.who[number] ? ERR_DENIED
                                : claimed[number]                 ? ERR_CONFLICT
                                                                  : ERR_OK;
            ck_assert_int_eq(world_try(world, who, body), expected);
            if (expected == ERR_OK) {
                claimed[number] = true;
                paid[who - WORLD_DEV] += number + 1;
            }
        }
        for (int i = 0; i < 3; i++) {
            (void)snprintf(text, sizeof text, "%llu", strtoull(before[i], NULL, 10) + paid[i]);
            expect_balance(world, &world->ids[WORLD_DEV + i], text);
        }
        (void)ledger_supply(world->ledger);
    }
    expect_replays(world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger claims");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, test_vesting);
    tcase_add_test(tcase, test_vesting_random);
    tcase_add_test(tcase, test_vesting_genesis);
    tcase_add_test(tcase, test_publish_refused);
    tcase_add_test(tcase, test_claims);
    tcase_add_test(tcase, test_claims_huge);
    tcase_add_test(tcase, test_claims_random);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
