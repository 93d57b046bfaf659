/* test_ledger_changes.c - what changes after it was published: a datanet's roles, withdrawn rows, payouts,
 * prices, revocation: each rule with its refusals, and random histories against an obvious model. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/base/check.h"
#include "shared/ledger/changes.h"
#include "shared/ledger/params.h"
#include "tests/harness/ledger_expect.h"
#include "tests/harness/seed.h"

#define NOTICE UINT64_C(600000)

static struct world *world;
static struct digest contributions[2]; /* of Alice (30 rows) and Bob (70) */

static void setup(void)
{
    world = world_create();
    world_setup(world);
    const struct ledger_contribution *item = NULL;
    for (int i = 0; i < 2; i++) {
        item = ledger_next_contribution(world->ledger, item);
        contributions[i] = item->id;
    }
}

static void teardown(void)
{
    world_destroy(world);
}

#define BODY(UPPER, member, Message, message)                                                      \
    static Openledger__V1__TxBody body;                                                            \
    static Openledger__V1__##Message action;                                                       \
    openledger__v1__##message##__init(&action);                                                    \
    openledger__v1__tx_body__init(&body);                                                          \
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_##UPPER;                                    \
    body.member = &action

/* ---- roles -------------------------------------------------------------------------------------- */

static Openledger__V1__TxBody *offer(const char *datanet, int to)
{
    BODY(OFFER_DATANET, offer_datanet, OfferDatanet, offer_datanet);
    action.datanet = world_text(datanet);
    if (to >= 0) {
        action.to = world_id_field(world, (enum world_who)to);
    }
    return &body;
}

static Openledger__V1__TxBody *accept_of(const char *datanet)
{
    BODY(ACCEPT_DATANET, accept_datanet, AcceptDatanet, accept_datanet);
    action.datanet = world_text(datanet);
    return &body;
}

static ProtobufCBinaryData accounts[LEDGER_VALIDATORS_MAX + 1];

static Openledger__V1__TxBody *validators(const char *datanet, size_t count)
{
    BODY(SET_VALIDATORS, set_validators, SetValidators, set_validators);
    action.datanet = world_text(datanet);
    action.validators = accounts;
    action.n_validators = count;
    return &body;
}

START_TEST(test_roles)
{
    expect_refused(world, WORLD_OWNER, offer("nets", WORLD_DEV), ERR_NOT_FOUND, "no datanet");
    expect_refused(world, WORLD_DEV, offer("net", WORLD_DEV), ERR_DENIED, "only the owner");
    expect_refused(world, WORLD_OWNER, offer("net", WORLD_OWNER), ERR_INVALID, "owns \"net\"");
    Openledger__V1__TxBody *body = offer("net", WORLD_DEV);
    body->offer_datanet->to.len = 3;
    expect_refused(world, WORLD_OWNER, body, ERR_INVALID, "to has 3");
    expect_refused(world, WORLD_DEV, accept_of("nets"), ERR_NOT_FOUND, "no datanet");
    expect_refused(world, WORLD_DEV, accept_of("net"), ERR_DENIED, "not offered");
    expect_ok(world, WORLD_OWNER, offer("net", WORLD_DEV));
    expect_ok(world, WORLD_OWNER, offer("net", -1)); /* changed its mind */
    expect_refused(world, WORLD_DEV, accept_of("net"), ERR_DENIED, "not offered");
    expect_ok(world, WORLD_OWNER, offer("net", WORLD_DEV));
    expect_refused(world, WORLD_BASE, accept_of("net"), ERR_DENIED, "not offered");
    expect_ok(world, WORLD_DEV, accept_of("net"));
    expect_refused(world, WORLD_DEV, accept_of("net"), ERR_DENIED, "not offered");
    expect_refused(world, WORLD_OWNER, validators("net", 0), ERR_DENIED, "only the owner");

    bool order = account_id_compare(&world->ids[WORLD_BASE], &world->ids[WORLD_TEAM]) < 0;
    accounts[0] = world_id_field(world, order ? WORLD_BASE : WORLD_TEAM);
    accounts[1] = world_id_field(world, order ? WORLD_TEAM : WORLD_BASE);
    accounts[2] = accounts[1];
    expect_ok(world, WORLD_DEV, validators("net", 2));
    ck_assert(ledger_may_review(ledger_datanet(world->ledger, "net"), &world->ids[WORLD_TEAM]));
    expect_refused(world, WORLD_DEV, validators("net", 3), ERR_INVALID, "do not ascend");
    expect_refused(world, WORLD_DEV, validators("net", LEDGER_VALIDATORS_MAX + 1), ERR_LIMIT,
                   "17 validators");
    accounts[0].len = 31;
    expect_refused(world, WORLD_DEV, validators("net", 1), ERR_INVALID, "validator has 31");
    expect_ok(world, WORLD_DEV, validators("net", 0));
    ck_assert(!ledger_may_review(ledger_datanet(world->ledger, "net"), &world->ids[WORLD_TEAM]));
    ck_assert(!ledger_may_review(ledger_datanet(world->ledger, "net"), &world->ids[WORLD_OWNER]));
    expect_replays(world);
}
END_TEST

/* ---- withdrawing -------------------------------------------------------------------------------- */

static Openledger__V1__TxBody *withdraw(const struct digest *contribution)
{
    BODY(WITHDRAW_CONTRIBUTION, withdraw_contribution, WithdrawContribution, withdraw_contribution);
    action.contribution = expect_digest_field(contribution);
    return &body;
}

static uint32_t rows[LEDGER_WITHDRAW_MAX + 1];

static Openledger__V1__TxBody *withdraw_rows(const struct digest *contribution, size_t count)
{
    BODY(WITHDRAW_ROWS, withdraw_rows, WithdrawRows, withdraw_rows);
    action.contribution = expect_digest_field(contribution);
    action.rows = rows;
    action.n_rows = count;
    return &body;
}

static Openledger__V1__TxBody *version_of(enum world_who who, uint32_t count)
{
    static Openledger__V1__VersionContributor item;
    static Openledger__V1__VersionContributor *pointer = &item;
    BODY(PUBLISH_VERSION, publish_version, PublishVersion, publish_version);
    openledger__v1__version_contributor__init(&item);
    item.account = world_id_field(world, who);
    item.row_count = count;
    action.datanet = world_text("net");
    action.version = ledger_datanet(world->ledger, "net")->versions + 1;
    action.root = expect_digest_field(&world->files);
    action.manifest = expect_digest_field(&world->files);
    action.row_count = count;
    action.contributors = &pointer;
    action.n_contributors = 1;
    return &body;
}

static Openledger__V1__TxBody *commit_of(uint32_t count)
{
    BODY(COMMIT_ROWS, commit_rows, CommitRows, commit_rows);
    action.datanet = world_text("net");
    action.root = expect_digest_field(&world->files);
    action.row_count = count;
    action.byte_count = count;
    return &body;
}

static Openledger__V1__TxBody *review_of(const struct digest *contribution, uint32_t accepted)
{
    BODY(REVIEW_CONTRIBUTION, review_contribution, ReviewContribution, review_contribution);
    action.contribution = expect_digest_field(contribution);
    action.accept = true;
    action.content = expect_digest_field(&world->files);
    action.accepted_rows = accepted;
    return &body;
}

START_TEST(test_withdraw)
{
    const struct digest none = {{7}};
    expect_refused(world, WORLD_ALICE, withdraw(&none), ERR_NOT_FOUND, "no contribution");
    expect_refused(world, WORLD_BOB, withdraw(&contributions[0]), ERR_DENIED, "another account's");
    rows[0] = 0;
    expect_refused(world, WORLD_BOB, withdraw_rows(&contributions[0], 1), ERR_DENIED, "another");
    expect_refused(world, WORLD_ALICE, withdraw_rows(&contributions[0], 0), ERR_LIMIT, "0 rows");
    expect_refused(world, WORLD_ALICE, withdraw_rows(&contributions[0], LEDGER_WITHDRAW_MAX + 1),
                   ERR_LIMIT, "1025 rows");
    rows[1] = 0;
    expect_refused(world, WORLD_ALICE, withdraw_rows(&contributions[0], 2), ERR_INVALID, "ascend");
    rows[1] = 30;
    expect_refused(world, WORLD_ALICE, withdraw_rows(&contributions[0], 2), ERR_RANGE, "row 30");
    rows[1] = 29;
    expect_ok(world, WORLD_ALICE, withdraw_rows(&contributions[0], 2));
    ck_assert(ledger_row_withdrawn(world->ledger, &contributions[0], 29));
    ck_assert(!ledger_row_withdrawn(world->ledger, &contributions[0], 28));
    rows[0] = 29;
    expect_refused(world, WORLD_ALICE, withdraw_rows(&contributions[0], 1), ERR_CONFLICT,
                   "row 29 is withdrawn");
    expect_refused(world, WORLD_OWNER, version_of(WORLD_ALICE, 29), ERR_RANGE, "accepted were 28");
    expect_ok(world, WORLD_OWNER, version_of(WORLD_ALICE, 28));
    expect_ok(world, WORLD_ALICE, withdraw(&contributions[0]));
    expect_refused(world, WORLD_ALICE, withdraw(&contributions[0]), ERR_CONFLICT, "withdrawn");
    rows[0] = 1;
    expect_refused(world, WORLD_ALICE, withdraw_rows(&contributions[0], 1), ERR_CONFLICT,
                   "withdrawn");
    expect_refused(world, WORLD_OWNER, version_of(WORLD_ALICE, 1), ERR_RANGE, "accepted were 0");
    /* What was published stays. */
    ck_assert_uint_eq(ledger_version_rows(world->ledger, "net", 1, &world->ids[WORLD_ALICE]), 30);
    /* Before the review: fewer rows can be accepted, or none at all. */
    expect_ok(world, WORLD_ALICE, commit_of(5));
    struct digest fresh = world->tx;
    expect_ok(world, WORLD_ALICE, withdraw_rows(&fresh, 1));
    expect_refused(world, WORLD_OWNER, review_of(&fresh, 5), ERR_RANGE, "5 accepted rows of 4");
    expect_ok(world, WORLD_ALICE, withdraw(&fresh));
    expect_refused(world, WORLD_OWNER, review_of(&fresh, 4), ERR_CONFLICT, "withdrawn already");
    expect_replays(world);
}
END_TEST

/* Whatever is withdrawn, a version may have exactly the rows that still count. */
START_TEST(test_withdraw_random)
{
    enum { ITEMS = 12, ROWS = 9 };
    uint32_t standing = 30;
    expect_ok(world, WORLD_ALICE, withdraw(&contributions[0]));
    standing -= 30;
    for (int i = 0; i < ITEMS; i++) {
        expect_ok(world, WORLD_ALICE, commit_of(ROWS));
        struct digest id = world->tx;
        uint32_t accepted = 1 + (uint32_t)(test_rand() % ROWS);
        uint32_t gone = 0;
        uint32_t counts = accepted;
        expect_ok(world, WORLD_OWNER, review_of(&id, accepted));
        for (uint32_t row = 0; row < ROWS; row++) {
            if (test_rand() % 3 == 0) {
                rows[0] = row;
                expect_ok(world, WORLD_ALICE, withdraw_rows(&id, 1));
                gone++;
                counts = accepted < ROWS - gone ? accepted : ROWS - gone;
            }
        }
        if (test_rand() % 4 == 0) {
            expect_ok(world, WORLD_ALICE, withdraw(&id));
            counts = 0;
        }
        standing += counts;
        expect_refused(world, WORLD_OWNER, version_of(WORLD_ALICE, standing + 1), ERR_RANGE,
                       "accepted were");
        if (standing > 0) {
            expect_ok(world, WORLD_OWNER, version_of(WORLD_ALICE, standing));
        }
    }
    expect_replays(world);
}
END_TEST

/* ---- treasury ----------------------------------------------------------------------------------- */

static Openledger__V1__TxBody *pay(const char *datanet, const char *amount)
{
    BODY(PAY_FROM_TREASURY, pay_from_treasury, PayFromTreasury, pay_from_treasury);
    action.datanet = world_text(datanet);
    action.to = world_id_field(world, WORLD_BASE);
    action.amount = world_text(amount);
    return &body;
}

START_TEST(test_treasury)
{
    const uint64_t period = ledger_parameters(world->ledger)->treasury_period_ms;
    struct account_id treasury;
    ledger_treasury_id("net", &treasury);
    expect_refused(world, WORLD_OWNER, pay("net", "1"), ERR_FUNDS, "may pay 0 OPEN");
    Openledger__V1__Transfer gift = OPENLEDGER__V1__TRANSFER__INIT;
    gift.to = ledger_binary(treasury.bytes, ACCOUNT_ID_SIZE);
    gift.amount = world_text("1000");
    WORLD_ACTION(give, TRANSFER, transfer, &gift);
    expect_ok(world, WORLD_PAYER, &give);
    expect_refused(world, WORLD_OWNER, pay("nets", "1"), ERR_NOT_FOUND, "no datanet");
    expect_refused(world, WORLD_DEV, pay("net", "1"), ERR_DENIED, "only the owner");
    expect_refused(world, WORLD_OWNER, pay("net", "0"), ERR_INVALID, "amount is 0");
    expect_refused(world, WORLD_OWNER, pay("net", "200.1"), ERR_FUNDS, "may pay 200 OPEN");
    Openledger__V1__TxBody *body = pay("net", "1");
    body->pay_from_treasury->to = ledger_binary(treasury.bytes, ACCOUNT_ID_SIZE);
    expect_refused(world, WORLD_OWNER, body, ERR_INVALID, "treasury itself");
    body = pay("net", "1");
    body->pay_from_treasury->memo = world_text("\x03");
    expect_refused(world, WORLD_OWNER, body, ERR_INVALID, "memo");
    expect_ok(world, WORLD_OWNER, pay("net", "150"));
    expect_ok(world, WORLD_PAYER, &give); /* what comes later raises no limit of this period */
    expect_refused(world, WORLD_OWNER, pay("net", "50.1"), ERR_FUNDS, "150 of it are paid");
    expect_refused(world, WORLD_OWNER, pay("net", "340282366920938463463"), ERR_FUNDS, "may pay");
    expect_ok(world, WORLD_OWNER, pay("net", "50"));
    world->now_ms += period - 1;
    expect_refused(world, WORLD_OWNER, pay("net", "1"), ERR_FUNDS, "200 of it are paid");
    world->now_ms += 1;
    expect_refused(world, WORLD_OWNER, pay("net", "360.1"), ERR_FUNDS, "may pay 360 OPEN");
    expect_ok(world, WORLD_OWNER, pay("net", "360"));
    expect_balance(world, &treasury, "1440");
    expect_replays(world);
}
END_TEST

/* ---- prices ------------------------------------------------------------------------------------- */

static Openledger__V1__TxBody *price(const char *adapter, const char *prompt,
                                     const char *completion)
{
    BODY(SET_PRICE, set_price, SetPrice, set_price);
    action.adapter = world_text(adapter);
    action.price_prompt = world_text(prompt);
    action.price_completion = world_text(completion);
    return &body;
}

static Openledger__V1__TxBody *revoke(const char *adapter)
{
    BODY(REVOKE_ADAPTER, revoke_adapter, RevokeAdapter, revoke_adapter);
    action.adapter = world_text(adapter);
    action.reason = world_text("superseded");
    return &body;
}

static Openledger__V1__TxBody *revoke_model(const char *model)
{
    BODY(REVOKE_MODEL, revoke_model, RevokeModel, revoke_model);
    action.model = world_text(model);
    return &body;
}

/* Settles receipt number, of 1 and 1 tokens, opened at that time. */
static enum err charge(uint64_t number, uint64_t opened_ms, const char *fee)
{
    uint64_t now = world->now_ms;
    world->now_ms = opened_ms;
    struct digest batch = world_receipts(world, number, 1, 1, 1, fee, NULL);
    world->now_ms = now;
    return world_settle_receipts(world, &batch);
}

START_TEST(test_price)
{
    ck_assert_int_eq(world_grant(world, "100"), ERR_OK);
    uint64_t opened = world->now_ms;
    expect_refused(world, WORLD_DEV, price("none", "1", "1"), ERR_NOT_FOUND, "no adapter");
    expect_refused(world, WORLD_OWNER, price("adapter", "1", "1"), ERR_DENIED, "its developer");
    expect_refused(world, WORLD_DEV, price("adapter", "1.0", "1"), ERR_INVALID, "price_prompt");
    expect_refused(world, WORLD_DEV, price("adapter", "1", "x"), ERR_INVALID, "price_completion");
    expect_refused(world, WORLD_DEV, price("adapter", "1001", "1"), ERR_RANGE, "all there is");
    expect_ok(world, WORLD_DEV, price("adapter", "1", "2"));
    uint64_t from = world->now_ms + NOTICE;
    world->now_ms = from + 1000;
    ck_assert_int_eq(charge(1, from - 1, "3"), ERR_INVALID);
    ck_assert_int_eq(charge(1, from - 1, "0.003"), ERR_OK);
    ck_assert_int_eq(charge(2, from, "0.003"), ERR_INVALID);
    ck_assert_int_eq(charge(2, from, "3"), ERR_OK);
    ck_assert_int_eq(charge(3, opened, "0.003"), ERR_OK); /* late, but opened under the old one */

    expect_refused(world, WORLD_OWNER, revoke("adapter"), ERR_DENIED, "its developer");
    expect_refused(world, WORLD_DEV, revoke("none"), ERR_NOT_FOUND, "no adapter");
    Openledger__V1__TxBody *body = revoke("adapter");
    body->revoke_adapter->reason = world_text("\x04");
    expect_refused(world, WORLD_DEV, body, ERR_INVALID, "reason");
    expect_ok(world, WORLD_DEV, revoke("adapter"));
    uint64_t end = world->now_ms + NOTICE;
    expect_refused(world, WORLD_DEV, revoke("adapter"), ERR_CONFLICT, "is revoked");
    expect_refused(world, WORLD_DEV, price("adapter", "1", "1"), ERR_CONFLICT, "is revoked");
    world->now_ms = end + 1;
    ck_assert_int_eq(charge(4, end - 1, "3"), ERR_OK);
    ck_assert_int_eq(charge(5, end, "3"), ERR_DENIED);
    ck_assert_ptr_nonnull(strstr(world->note.text, "was revoked"));
    expect_replays(world);
}
END_TEST

/* At any time a receipt's price is that of the last change in force then. */
START_TEST(test_price_random)
{
    enum { CHANGES = 40 };
    uint64_t from[CHANGES + 1] = {0};
    unsigned units[CHANGES + 1] = {0};
    const struct ledger_adapter *adapter = NULL;
    uint64_t begin = world->now_ms;
    for (unsigned i = 1; i <= CHANGES; i++) {
        char text[AMOUNT_TEXT_SIZE];
        world->now_ms += test_rand() % 3 == 0 ? 0 : test_rand() % (2 * NOTICE);
        units[i] = i;
        from[i] = world->now_ms + NOTICE;
        (void)snprintf(text, sizeof text, "%u", i);
        expect_ok(world, WORLD_DEV, price("adapter", text, text));
    }
    adapter = ledger_adapter(world->ledger, "adapter");
    for (int i = 0; i < 2000; i++) {
        uint64_t opened = begin + test_rand() % (world->now_ms + 2 * NOTICE - begin);
        opened = i % 3 == 0 ? from[1 + test_rand() % CHANGES] - (uint64_t)(i % 2) : opened;
        unsigned expected = 0;
        for (unsigned c = 1; c <= CHANGES; c++) {
            expected = from[c] <= opened ? units[c] : expected;
        }
        struct ledger_price found;
        char text[AMOUNT_TEXT_SIZE];
        char wanted[AMOUNT_TEXT_SIZE] = "0.001";
        if (expected > 0) {
            (void)snprintf(wanted, sizeof wanted, "%u", expected);
        }
        ledger_price_at(world->ledger, adapter, opened, &found);
        ck_assert_str_eq(amount_format(found.prompt, text), wanted);
    }
    expect_replays(world);
}
END_TEST

START_TEST(test_revoke_model)
{
    const struct ledger_job *job = ledger_job(world->ledger, &world->job);
    Openledger__V1__TrainSettings settings = OPENLEDGER__V1__TRAIN_SETTINGS__INIT;
    settings.rank = 8;
    settings.alpha = 16;
    settings.steps = 10;
    settings.batch_rows = 4;
    settings.learning_rate_ppm = 1000;
    settings.context = 64;
    Openledger__V1__SubmitJob submit = OPENLEDGER__V1__SUBMIT_JOB__INIT;
    submit.datanet = world_text("net");
    submit.version = 1;
    submit.model = world_text("base");
    submit.fee = world_text("1");
    submit.settings = &settings;
    WORLD_ACTION(body, SUBMIT_JOB, submit_job, &submit);
    ck_assert_ptr_nonnull(job);
    expect_ok(world, WORLD_DEV, &body);
    struct digest later = world->tx;
    expect_refused(world, WORLD_DEV, revoke_model("base"), ERR_DENIED, "its developer");
    expect_refused(world, WORLD_BASE, revoke_model("basis"), ERR_NOT_FOUND, "no model");
    Openledger__V1__TxBody *bad = revoke_model("base");
    bad->revoke_model->reason = world_text("\x04");
    expect_refused(world, WORLD_BASE, bad, ERR_INVALID, "reason");
    expect_ok(world, WORLD_BASE, revoke_model("base"));
    expect_refused(world, WORLD_BASE, revoke_model("base"), ERR_CONFLICT, "is revoked");
    expect_refused(world, WORLD_DEV, &body, ERR_DENIED, "model \"base\" is revoked");
    /* A job that was on its way ends, but nothing on that model is published any more. */
    Openledger__V1__ClaimJob claim = OPENLEDGER__V1__CLAIM_JOB__INIT;
    claim.job = expect_digest_field(&later);
    WORLD_ACTION(claiming, CLAIM_JOB, claim_job, &claim);
    expect_ok(world, WORLD_TRAINER, &claiming);
    Openledger__V1__CompleteJob complete = OPENLEDGER__V1__COMPLETE_JOB__INIT;
    complete.job = expect_digest_field(&later);
    complete.transcript_root = complete.transcript = complete.adapter =
        expect_digest_field(&world->files);
    WORLD_ACTION(completing, COMPLETE_JOB, complete_job, &complete);
    expect_ok(world, WORLD_TRAINER, &completing);
    Openledger__V1__PublishAdapter publish = OPENLEDGER__V1__PUBLISH_ADAPTER__INIT;
    publish.name = world_text("second");
    publish.job = expect_digest_field(&later);
    publish.price_prompt = publish.price_completion = world_text("1");
    WORLD_ACTION(publishing, PUBLISH_ADAPTER, publish_adapter, &publish);
    expect_refused(world, WORLD_DEV, &publishing, ERR_DENIED, "model \"base\" is revoked");
    /* Adapters that were published go on. */
    ck_assert_int_eq(world_grant(world, "100"), ERR_OK);
    ck_assert_int_eq(charge(1, world->now_ms, "0.003"), ERR_OK);
    expect_replays(world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger changes");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, test_roles);
    tcase_add_test(tcase, test_withdraw);
    tcase_add_test(tcase, test_withdraw_random);
    tcase_add_test(tcase, test_treasury);
    tcase_add_test(tcase, test_price);
    tcase_add_test(tcase, test_price_random);
    tcase_add_test(tcase, test_revoke_model);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
