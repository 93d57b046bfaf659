/* test_ledger_gas.c - gas: who pays what to whom, who may go without, and that wash trading loses money. */
#include <check.h>
#include <stdlib.h>

#include "shared/ledger/stake.h"
#include "tests/harness/ledger_expect.h"
#include "tests/harness/seed.h"

static struct world *world;
static struct account_id pool;

/* A byte costs 0.000001 OPEN, a leg 0.00001; a block forgives 0.01. */
static void setup(void)
{
    world = world_create_with(WORLD_TIME_MS, 3, true);
    ledger_stakers_pool_id(&pool);
}

static void teardown(void)
{
    world_destroy(world);
}

static struct amount balance_of(enum world_who who)
{
    const struct ledger_account *account = ledger_account(world->ledger, &world->ids[who]);
    return account == NULL ? AMOUNT_ZERO : account->balance;
}

static struct amount parse(const char *text)
{
    struct amount amount = AMOUNT_ZERO;
    ck_assert_int_eq(amount_parse(text, &amount), ERR_OK);
    return amount;
}

START_TEST(test_price)
{
    /* The transaction's own bytes and its two legs, to the pool, as legs that refer to it. */
    ck_assert_int_eq(world_transfer(world, WORLD_PAYER, WORLD_DEV, "10"), ERR_OK);
    Openledger__V1__Entry *entry = NULL;
    struct bytes tx = world_signed_tx(&world->entries[0], &entry);
    struct amount gas;
    struct amount rest = balance_of(WORLD_PAYER);
    ck_assert_int_eq(amount_mul(parse("0.000001"), tx.size, &gas), ERR_OK);
    ck_assert_int_eq(amount_add(gas, parse("0.00002"), &gas), ERR_OK);
    openledger__v1__entry__free_unpacked(entry, NULL);
    ck_assert_int_eq(amount_add(rest, gas, &rest), ERR_OK);
    ck_assert(amount_equal(rest, parse("300999990")));
    ck_assert(amount_equal(ledger_account(world->ledger, &pool)->balance, gas));
    ck_assert_uint_eq(world->effects.leg_count, 4);
    ck_assert_str_eq(world->effects.legs[2].reason, "gas");
    ck_assert(digest_equal(&world->effects.legs[3].reference, &world->tx));
}
END_TEST

/* An account with nothing: the block forgives it so much, then no more; whoever pays is not held up. */
START_TEST(test_free_gas)
{
    Openledger__V1__DelegateVotes votes = OPENLEDGER__V1__DELEGATE_VOTES__INIT;
    WORLD_ACTION(body, DELEGATE_VOTES, delegate_votes, &votes);
    ck_assert_int_eq(world_open(world, WORLD_ALICE), ERR_OK);
    int count = 1;
    while (world_try(world, WORLD_ALICE, &body) == ERR_OK) {
        count++;
        ck_assert_int_lt(count, 100);
    }
    ck_assert_msg(strstr(world->note.text, "the block forgives no more") != NULL, "%s",
                  world->note.text);
    ck_assert_int_gt(count, 20); /* 0.01 OPEN at about 0.0003 each */
    expect_refused(world, WORLD_ALICE, &body, ERR_FUNDS, "can spend 0");
    ck_assert_int_eq(world_open(world, WORLD_BOB), ERR_FUNDS);
    expect_ok(world, WORLD_DEV, &body);
    ck_assert_int_eq(world_transfer(world, WORLD_PAYER, WORLD_ALICE, "0.001"), ERR_OK);
    expect_ok(world, WORLD_ALICE, &body); /* pays now */
    expect_seals(world, 1);
    ck_assert_int_eq(world_open(world, WORLD_BOB), ERR_OK); /* a new block forgives again */
    expect_replays(world);
}
END_TEST

/* A flood costs the flooder and shortens nobody's validity interval. */
START_TEST(test_flood)
{
    struct amount before = balance_of(WORLD_OWNER);
    uint64_t validity_ms = ledger_parameters(world->ledger)->validity_max_ms;
    struct buf early;
    struct amount after;
    buf_init(&early, LEDGER_ENTRY_MAX);
    Openledger__V1__DelegateVotes votes = OPENLEDGER__V1__DELEGATE_VOTES__INIT;
    WORLD_ACTION(body, DELEGATE_VOTES, delegate_votes, &votes);
    world_build(world, WORLD_DEV, &body, &early);
    size_t bytes = 0;
    for (int i = 0; i < 500; i++) {
        ck_assert_int_eq(world_transfer(world, WORLD_OWNER, WORLD_BASE, "0.000000000000000001"),
                         ERR_OK);
        bytes +=
            world->entries[world->entry_count - 1].size - 120; /* at least: the entry's frame */
    }
    ck_assert_int_eq(amount_sub(before, balance_of(WORLD_OWNER), &after), ERR_OK);
    struct amount least;
    ck_assert_int_eq(amount_mul(parse("0.000001"), bytes, &least), ERR_OK);
    ck_assert(amount_compare(after, least) >= 0);
    ck_assert_uint_eq(ledger_parameters(world->ledger)->validity_max_ms, validity_ms);
    ck_assert_int_eq(world_apply_signed(world, buf_bytes(&early)), ERR_OK);
    buf_deinit(&early);
}
END_TEST

/* Alice pays for answers that are attributed wholly to Alice, who also stakes: whatever the amounts, she
 * ends poorer by at least the parts of platform, developers and other stakers. */
START_TEST(test_wash_trading)
{
    struct digest ids[8];
    world_setup(world);
    ck_assert_int_eq(world_transfer(world, WORLD_PAYER, WORLD_ALICE, "5000"), ERR_OK);
    ck_assert_int_eq(world_bond(world, WORLD_ALICE, LEDGER_ROLE_TRAINER, "1000"), ERR_OK);
    for (uint32_t round = 0; round < 6; round++) {
        struct amount before = balance_of(WORLD_ALICE);
        struct amount claimable;
        Openledger__V1__OpenGrant grant = OPENLEDGER__V1__OPEN_GRANT__INIT;
        WORLD_ACTION(body, OPEN_GRANT, open_grant, &grant);
        grant.gateway = world_id_field(world, WORLD_GATEWAY);
        grant.limit = world_text("500");
        grant.expires_ms = world->now_ms + 1000;
        expect_ok(world, WORLD_ALICE, &body);
        world->grant = world->tx;
        Openledger__V1__OpenLease lease = OPENLEDGER__V1__OPEN_LEASE__INIT;
        WORLD_ACTION(body2, OPEN_LEASE, open_lease, &lease);
        lease.grant = expect_digest_field(&world->grant);
        lease.lease = 1;
        lease.amount = world_text("500");
        expect_ok(world, WORLD_GATEWAY, &body2);
        uint32_t tokens = 1 + (uint32_t)(test_rand() % 20000);
        size_t count = 1 + test_rand() % 8;
        struct digest batch = world_receipts(world, 1, count, tokens, tokens, NULL, ids);
        ck_assert_int_eq(world_settle_receipts(world, &batch), ERR_OK);
        struct digest shares = world_shares(world, ids, count, LEDGER_SHARE_TOTAL, 0);
        ck_assert_int_eq(world_settle_shares(world, &shares), ERR_OK);
        world->now_ms += 11000;
        Openledger__V1__CloseGrant close_it = OPENLEDGER__V1__CLOSE_GRANT__INIT;
        WORLD_ACTION(body3, CLOSE_GRANT, close_grant, &close_it);
        close_it.grant = lease.grant;
        expect_ok(world, WORLD_ALICE, &body3);
        Openledger__V1__ClaimRewards claim = OPENLEDGER__V1__CLAIM_REWARDS__INIT;
        WORLD_ACTION(body4, CLAIM_REWARDS, claim_rewards, &claim);
        expect_ok(world, WORLD_ALICE, &body4);
        claimable = balance_of(WORLD_ALICE);
        ck_assert_msg(amount_compare(claimable, before) < 0, "round %u: wash trading paid", round);
        /* Of each fee 0.4 go to others, less Alice's part of the stakers' tenth. */
        struct amount fee;
        struct amount lost;
        ck_assert_int_eq(amount_mul(parse("0.003"), (uint64_t)tokens * count, &fee), ERR_OK);
        ck_assert_int_eq(amount_mul_ratio(fee, 3, 10, &fee), ERR_OK);
        ck_assert_int_eq(amount_sub(before, claimable, &lost), ERR_OK);
        ck_assert(amount_compare(lost, fee) > 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger gas");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 60);
    tcase_add_checked_fixture(rules, setup, teardown);
    tcase_add_test(rules, test_price);
    tcase_add_test(rules, test_free_gas);
    tcase_add_test(rules, test_flood);
    tcase_add_test(rules, test_wash_trading);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
