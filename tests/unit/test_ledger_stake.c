/* test_ledger_stake.c - bonds, delegations, unbonding, rewards: each rule with its refusals, and random
 * histories against an obvious model. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/base/check.h"
#include "shared/ledger/stake.h"
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

static Openledger__V1__Delegate delegate;
static Openledger__V1__Undelegate undelegate;
static Openledger__V1__Release release;
static Openledger__V1__ClaimRewards claim;
static Openledger__V1__Unbond unbond;

static Openledger__V1__TxBody *delegate_to(enum world_who validator, const char *amount)
{
    static Openledger__V1__TxBody body;
    openledger__v1__delegate__init(&delegate);
    delegate.validator = world_id_field(world, validator);
    delegate.amount = world_text(amount);
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_DELEGATE;
    body.delegate = &delegate;
    return &body;
}

static Openledger__V1__TxBody *undelegate_from(enum world_who validator, const char *amount)
{
    static Openledger__V1__TxBody body;
    openledger__v1__undelegate__init(&undelegate);
    undelegate.validator = world_id_field(world, validator);
    undelegate.amount = world_text(amount);
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_UNDELEGATE;
    body.undelegate = &undelegate;
    return &body;
}

static Openledger__V1__TxBody *unbond_of(enum ledger_role role, const char *amount)
{
    static Openledger__V1__TxBody body;
    openledger__v1__unbond__init(&unbond);
    unbond.role = (Openledger__V1__Role)role;
    unbond.amount = world_text(amount);
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_UNBOND;
    body.unbond = &unbond;
    return &body;
}

static Openledger__V1__TxBody *release_of(enum ledger_role role, const enum world_who *validator)
{
    static Openledger__V1__TxBody body;
    openledger__v1__release__init(&release);
    release.role = (Openledger__V1__Role)role;
    if (validator != NULL) {
        release.validator = world_id_field(world, *validator);
    }
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_RELEASE;
    body.release = &release;
    return &body;
}

/* validator: also of a delegation to it. */
static Openledger__V1__TxBody *claim_of(const enum world_who *validator)
{
    static Openledger__V1__TxBody body;
    static ProtobufCBinaryData item;
    openledger__v1__claim_rewards__init(&claim);
    if (validator != NULL) {
        item = world_id_field(world, *validator);
        claim.n_validators = 1;
        claim.validators = &item;
    }
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_CLAIM_REWARDS;
    body.claim_rewards = &claim;
    return &body;
}

/* Money reaches the pool as a plain transfer: the rules do not care where it comes from. */
static void pool_income(const char *amount)
{
    struct account_id pool;
    Openledger__V1__Transfer transfer = OPENLEDGER__V1__TRANSFER__INIT;
    WORLD_ACTION(body, TRANSFER, transfer, &transfer);
    ledger_stakers_pool_id(&pool);
    transfer.to = ledger_binary(pool.bytes, ACCOUNT_ID_SIZE);
    transfer.amount = world_text(amount);
    expect_ok(world, WORLD_PAYER, &body);
}

START_TEST(test_unbonding)
{
    ck_assert_int_eq(world_bond(world, WORLD_DEV, LEDGER_ROLE_TRAINER, "1000"), ERR_OK);
    expect_refused(world, WORLD_DEV, release_of(LEDGER_ROLE_TRAINER, NULL), ERR_CONFLICT,
                   "nothing is due");
    expect_refused(world, WORLD_DEV, release_of((enum ledger_role)9, NULL), ERR_INVALID, "role 9");
    const enum world_who self = WORLD_BASE;
    expect_refused(world, WORLD_DEV, release_of(LEDGER_ROLE_TRAINER, &self), ERR_INVALID,
                   "only validators");
    expect_refused(world, WORLD_DEV, unbond_of(LEDGER_ROLE_TRAINER, "1000.5"), ERR_FUNDS,
                   "only 1000 OPEN");
    expect_refused(world, WORLD_DEV, unbond_of(LEDGER_ROLE_TRAINER, "950"), ERR_RANGE,
                   "the minimum is 100");
    expect_ok(world, WORLD_DEV, unbond_of(LEDGER_ROLE_TRAINER, "300"));
    world->now_ms += 59999;
    expect_refused(world, WORLD_DEV, release_of(LEDGER_ROLE_TRAINER, NULL), ERR_CONFLICT,
                   "nothing is due");
    expect_balance(world, &world->ids[WORLD_DEV], "99999000");
    expect_ok(world, WORLD_DEV, unbond_of(LEDGER_ROLE_TRAINER, "700"));
    ck_assert(!ledger_is_bonded(world->ledger, &world->ids[WORLD_DEV], LEDGER_ROLE_TRAINER));
    world->now_ms += 1;
    expect_ok(world, WORLD_DEV, release_of(LEDGER_ROLE_TRAINER, NULL)); /* only the first part */
    expect_balance(world, &world->ids[WORLD_DEV], "99999300");
    world->now_ms += 60000;
    expect_ok(world, WORLD_DEV, release_of(LEDGER_ROLE_TRAINER, NULL));
    expect_balance(world, &world->ids[WORLD_DEV], "100000000");
    /* So many parts may wait, and no more; a released slot is free again. */
    ck_assert_int_eq(world_bond(world, WORLD_DEV, LEDGER_ROLE_TRAINER, "1000"), ERR_OK);
    for (int i = 0; i < LEDGER_UNBONDINGS_MAX; i++) {
        expect_ok(world, WORLD_DEV, unbond_of(LEDGER_ROLE_TRAINER, "1"));
    }
    expect_refused(world, WORLD_DEV, unbond_of(LEDGER_ROLE_TRAINER, "1"), ERR_LIMIT, "8 parts");
    world->now_ms += 60000;
    expect_ok(world, WORLD_DEV, release_of(LEDGER_ROLE_TRAINER, NULL));
    expect_ok(world, WORLD_DEV, unbond_of(LEDGER_ROLE_TRAINER, "1"));
    expect_replays(world);
}
END_TEST

START_TEST(test_delegation)
{
    const enum world_who validator = WORLD_BASE;
    expect_refused(world, WORLD_DEV, delegate_to(WORLD_BASE, "500"), ERR_DENIED, "no bond");
    ck_assert_int_eq(world_bond(world, WORLD_BASE, LEDGER_ROLE_VALIDATOR, "500"), ERR_OK);
    expect_refused(world, WORLD_BASE, delegate_to(WORLD_BASE, "500"), ERR_INVALID, "to oneself");
    expect_refused(world, WORLD_DEV, delegate_to(WORLD_BASE, "99"), ERR_RANGE, "minimum is 100");
    expect_refused(world, WORLD_DEV, delegate_to(WORLD_BASE, "100000001"), ERR_FUNDS, "can spend");
    expect_ok(world, WORLD_DEV, delegate_to(WORLD_BASE, "1500"));
    ck_assert_uint_eq(
        ledger_power_at(world->ledger, LEDGER_SERIES_VALIDATORS, &world->ids[WORLD_BASE], 1),
        2000 * UINT64_C(1000000000));
    expect_refused(world, WORLD_DEV, claim_of(NULL), ERR_NOT_FOUND, "has no bond");
    expect_refused(world, WORLD_PAYER, claim_of(&validator), ERR_NOT_FOUND, "nothing is delegated");
    /* A commission of a tenth: 1.5 of 2 to the delegation, of that 0.15 to its validator. */
    pool_income("2");
    char text[AMOUNT_TEXT_SIZE];
    ck_assert_str_eq(amount_format(ledger_rewards(world->ledger, &world->ids[WORLD_DEV]), text),
                     "1.35");
    expect_ok(world, WORLD_DEV, claim_of(&validator));
    expect_balance(world, &world->ids[WORLD_DEV], "99998501.35");
    expect_balance(world, &world->ids[WORLD_BASE], "98999500.15");
    expect_ok(world, WORLD_BASE, claim_of(NULL));
    expect_balance(world, &world->ids[WORLD_BASE], "98999500.65");
    expect_ok(world, WORLD_BASE, claim_of(NULL)); /* nothing more is there */
    expect_balance(world, &world->ids[WORLD_BASE], "98999500.65");
    expect_refused(world, WORLD_DEV, undelegate_from(WORLD_BASE, "1501"), ERR_FUNDS, "only 1500");
    expect_refused(world, WORLD_DEV, undelegate_from(WORLD_BASE, "1450"), ERR_RANGE, "minimum");
    expect_ok(world, WORLD_DEV, undelegate_from(WORLD_BASE, "1500"));
    expect_refused(world, WORLD_DEV, release_of(LEDGER_ROLE_VALIDATOR, &validator), ERR_CONFLICT,
                   "nothing is due");
    world->now_ms += 60000;
    expect_ok(world, WORLD_DEV, release_of(LEDGER_ROLE_VALIDATOR, &validator));
    expect_balance(world, &world->ids[WORLD_DEV], "100000001.35");
    expect_replays(world);
}
END_TEST

/* Money that reaches an empty pool waits for the first stake; what one step of the index cannot express
 * is not lost; dust never makes the pool owe more than it holds. */
START_TEST(test_pool_dust)
{
    pool_income("5");
    ck_assert_int_eq(world_bond(world, WORLD_DEV, LEDGER_ROLE_TRAINER, "70000000.000000001"),
                     ERR_OK);
    ck_assert_int_eq(world_bond(world, WORLD_BASE, LEDGER_ROLE_TRAINER, "333.333333333"), ERR_OK);
    for (int i = 0; i < 50; i++) {
        pool_income("0.000000000000000007");
        expect_ok(world, WORLD_DEV, claim_of(NULL));
        expect_ok(world, WORLD_BASE, claim_of(NULL));
    }
    pool_income("0.1");
    expect_ok(world, WORLD_DEV, claim_of(NULL));
    expect_ok(world, WORLD_BASE, claim_of(NULL));
    struct account_id pool;
    ledger_stakers_pool_id(&pool);
    struct amount rest = ledger_account(world->ledger, &pool)->balance;
    ck_assert(amount_compare(rest, amount_from_units(200000)) < 0); /* of 5.1 OPEN */
}
END_TEST

/* ---- against a model: every income is divided at once, by long division in floating point --------- */

enum { HOLDERS = 4, ROUNDS = 400 };

struct model {
    double stake[HOLDERS], due[HOLDERS], paid[HOLDERS];
};

START_TEST(test_rewards_model)
{
    static const enum world_who WHO[HOLDERS] = {WORLD_DEV, WORLD_BASE, WORLD_OWNER, WORLD_SERVICE};
    struct model model = {{0}, {0}, {0}};
    double start[HOLDERS];
    char text[AMOUNT_TEXT_SIZE];
    char amount[32];
    for (int i = 0; i < HOLDERS; i++) {
        start[i] = strtod(world_balance(world, &world->ids[WHO[i]], text), NULL);
    }
    for (int round = 0; round < ROUNDS; round++) {
        int i = (int)(test_rand() % HOLDERS);
        unsigned value = 100 + (unsigned)(test_rand() % 5000);
        (void)snprintf(amount, sizeof amount, "%u", value);
        world->now_ms += 1000;
        switch (test_rand() % 4) {
        case 0: /* staking pays what was due */
            ck_assert_int_eq(world_bond(world, WHO[i], LEDGER_ROLE_TRAINER, amount), ERR_OK);
            model.stake[i] += value;
            break;
        case 1:
            if (model.stake[i] >= value + 100.0) {
                enum err err = world_try(world, WHO[i], unbond_of(LEDGER_ROLE_TRAINER, amount));
                if (err == ERR_LIMIT) {
                    continue;
                }
                ck_assert_int_eq(err, ERR_OK);
                model.stake[i] -= value;
            }
            break;
        case 2: {
            double sum = 0;
            for (int k = 0; k < HOLDERS; k++) {
                sum += model.stake[k];
            }
            if (sum > 0) {
                pool_income(amount);
                for (int k = 0; k < HOLDERS; k++) {
                    model.due[k] += value * model.stake[k] / sum;
                }
            }
            break;
        }
        default: /* release what is due, if anything; it is no reward */
            (void)world_try(world, WHO[i], release_of(LEDGER_ROLE_TRAINER, NULL));
            break;
        }
    }
    world->now_ms += 60000;
    for (int i = 0; i < HOLDERS; i++) {
        (void)world_try(world, WHO[i], claim_of(NULL));
        (void)world_try(world, WHO[i], release_of(LEDGER_ROLE_TRAINER, NULL));
        double bonded =
            strtod(amount_format(
                       ledger_bond(world->ledger, &world->ids[WHO[i]], LEDGER_ROLE_TRAINER), text),
                   NULL);
        double now = strtod(world_balance(world, &world->ids[WHO[i]], text), NULL);
        double earned = now + bonded - start[i];
        ck_assert_msg(earned > model.due[i] - 1e-6 && earned < model.due[i] + 1e-6,
                      "holder %d earned %.9f, the model says %.9f", i, earned, model.due[i]);
        ck_assert_double_eq_tol(bonded, model.stake[i], 1e-9);
    }
    expect_replays(world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger stake");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 60);
    tcase_add_checked_fixture(rules, setup, teardown);
    tcase_add_test(rules, test_unbonding);
    tcase_add_test(rules, test_delegation);
    tcase_add_test(rules, test_pool_dust);
    tcase_add_test(rules, test_rewards_model);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
