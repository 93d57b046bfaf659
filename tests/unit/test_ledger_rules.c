/* test_ledger_rules.c - each kind of transaction with its refusals: who may, in which state, within
 * which bounds. Every refusal must leave the state root as it was. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "shared/ledger/ledger.h"
#include "tests/harness/ledger_world.h"

static struct world *world;
static const uint8_t DIGEST[DIGEST_SIZE] = {0xd1};

static void setup(void)
{
    world = world_create();
    world_setup(world);
}

static void teardown(void)
{
    world_destroy(world);
}

static void accepted(enum world_who who, Openledger__V1__TxBody *body)
{
    enum err err = world_try(world, who, body);
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), world->note.text);
}

static void refused(enum world_who who, Openledger__V1__TxBody *body, enum err expected,
                    const char *words)
{
    struct digest before;
    struct digest after;
    ledger_state_root(world->ledger, &before);
    enum err err = world_try(world, who, body);
    ledger_state_root(world->ledger, &after);
    ck_assert_msg(err == expected, "%s: %s", err_name(err), world->note.text);
    ck_assert_msg(strstr(world->note.text, words) != NULL, "note: %s", world->note.text);
    ck_assert(digest_equal(&before, &after));
}

static ProtobufCBinaryData digest_field(const struct digest *digest)
{
    return ledger_binary(digest->bytes, DIGEST_SIZE);
}

START_TEST(test_create_datanet)
{
    Openledger__V1__CreateDatanet create = OPENLEDGER__V1__CREATE_DATANET__INIT;
    WORLD_ACTION(body, CREATE_DATANET, create_datanet, &create);
    create.name = world_text("other");
    create.licence = world_text("MIT");
    refused(WORLD_OWNER, &body, ERR_INVALID, "permission 0");
    create.permission = OPENLEDGER__V1__PERMISSION__PERMISSION_NOT_ALLOWED;
    create.licence = world_text("");
    refused(WORLD_OWNER, &body, ERR_INVALID, "licence is empty");
    create.licence = world_text("MIT");
    create.name = world_text("Other");
    refused(WORLD_OWNER, &body, ERR_INVALID, "not a name");
    create.name = world_text("net");
    refused(WORLD_DEV, &body, ERR_CONFLICT, "exists");
    create.name = world_text("other");
    create.title = world_text("bad \xff text");
    refused(WORLD_OWNER, &body, ERR_INVALID, "title");
    create.title = world_text("with \x1b escapes");
    refused(WORLD_OWNER, &body, ERR_INVALID, "title");
    create.title = world_text("Sch\xc3\xb6n");
    accepted(WORLD_OWNER, &body);
    /* Rows may be committed, but not trained on. */
    Openledger__V1__TrainSettings settings = OPENLEDGER__V1__TRAIN_SETTINGS__INIT;
    settings.rank = settings.alpha = settings.steps = settings.batch_rows = 1;
    settings.learning_rate_ppm = 1;
    settings.context = 2;
    Openledger__V1__SubmitJob submit = OPENLEDGER__V1__SUBMIT_JOB__INIT;
    WORLD_ACTION(job, SUBMIT_JOB, submit_job, &submit);
    submit.datanet = world_text("other");
    submit.version = 1;
    submit.model = world_text("base");
    submit.fee = world_text("0");
    submit.settings = &settings;
    refused(WORLD_DEV, &job, ERR_DENIED, "does not allow training");
    submit.datanet = world_text("net");
    submit.version = 2;
    refused(WORLD_DEV, &job, ERR_NOT_FOUND, "no version 2");
    submit.version = 1;
    submit.model = world_text("nobody");
    refused(WORLD_DEV, &job, ERR_NOT_FOUND, "no model");
    submit.model = world_text("base");
    settings.rank = 0;
    refused(WORLD_DEV, &job, ERR_RANGE, "rank 0");
    settings.rank = 1;
    submit.settings = NULL;
    refused(WORLD_DEV, &job, ERR_INVALID, "no settings");
    submit.settings = &settings;
    submit.fee = world_text("999999999");
    refused(WORLD_DEV, &job, ERR_FUNDS, "can spend");
    submit.fee = world_text("0");
    accepted(WORLD_DEV, &job); /* a job may be free of charge */
}
END_TEST

START_TEST(test_contributions)
{
    Openledger__V1__CommitRows commit = OPENLEDGER__V1__COMMIT_ROWS__INIT;
    WORLD_ACTION(body, COMMIT_ROWS, commit_rows, &commit);
    commit.datanet = world_text("nowhere");
    commit.root = ledger_binary(DIGEST, sizeof DIGEST);
    commit.row_count = 10;
    commit.byte_count = 100;
    refused(WORLD_ALICE, &body, ERR_NOT_FOUND, "no datanet");
    commit.datanet = world_text("net");
    commit.row_count = LEDGER_ROWS_MAX + 1;
    refused(WORLD_ALICE, &body, ERR_RANGE, "rows");
    commit.row_count = 10;
    commit.root.len = 31;
    refused(WORLD_ALICE, &body, ERR_INVALID, "root has 31 bytes");
    commit.root.len = 32;
    accepted(WORLD_ALICE, &body);
    struct digest id = world->tx;

    Openledger__V1__ReviewContribution review = OPENLEDGER__V1__REVIEW_CONTRIBUTION__INIT;
    WORLD_ACTION(body2, REVIEW_CONTRIBUTION, review_contribution, &review);
    review.contribution = digest_field(&id);
    review.accept = true;
    review.content = ledger_binary(DIGEST, sizeof DIGEST);
    review.accepted_rows = 11;
    refused(WORLD_OWNER, &body2, ERR_RANGE, "11 accepted rows of 10");
    review.accepted_rows = 10;
    refused(WORLD_ALICE, &body2, ERR_DENIED, "owner and validators");
    review.content.len = 0;
    refused(WORLD_OWNER, &body2, ERR_INVALID, "content");
    review.content.len = 32;
    accepted(WORLD_OWNER, &body2);
    refused(WORLD_OWNER, &body2, ERR_CONFLICT, "reviewed already");
    review.contribution = ledger_binary(DIGEST, sizeof DIGEST);
    refused(WORLD_OWNER, &body2, ERR_NOT_FOUND, "no contribution");

    /* A version may use what was accepted, and no more: alice 40 now, bob 70. */
    Openledger__V1__VersionContributor items[2] = {OPENLEDGER__V1__VERSION_CONTRIBUTOR__INIT,
                                                   OPENLEDGER__V1__VERSION_CONTRIBUTOR__INIT};
    Openledger__V1__VersionContributor *pointers[2] = {&items[0], &items[1]};
    Openledger__V1__PublishVersion version = OPENLEDGER__V1__PUBLISH_VERSION__INIT;
    WORLD_ACTION(body3, PUBLISH_VERSION, publish_version, &version);
    bool alice_first = account_id_compare(&world->ids[WORLD_ALICE], &world->ids[WORLD_BOB]) < 0;
    int alice = alice_first ? 0 : 1;
    items[alice].account = world_id_field(world, WORLD_ALICE);
    items[!alice].account = world_id_field(world, WORLD_BOB);
    items[alice].row_count = 41;
    items[!alice].row_count = 9;
    version.datanet = world_text("net");
    version.version = 2;
    version.root = ledger_binary(DIGEST, sizeof DIGEST);
    version.manifest = ledger_binary(DIGEST, sizeof DIGEST);
    version.row_count = 50;
    version.n_contributors = 2;
    version.contributors = pointers;
    refused(WORLD_OWNER, &body3, ERR_RANGE, "41 rows, accepted were 40");
    items[alice].row_count = 40;
    refused(WORLD_OWNER, &body3, ERR_INVALID, "sum to 49");
    items[!alice].row_count = 10;
    refused(WORLD_ALICE, &body3, ERR_DENIED, "only the owner");
    version.version = 3;
    refused(WORLD_OWNER, &body3, ERR_CONFLICT, "not the next one, 2");
    version.version = 2;
    pointers[0] = &items[1];
    pointers[1] = &items[0];
    refused(WORLD_OWNER, &body3, ERR_INVALID, "do not ascend");
    pointers[0] = &items[0];
    pointers[1] = &items[1];
    accepted(WORLD_OWNER, &body3);
    ck_assert_uint_eq(ledger_version_rows(world->ledger, "net", 2, &world->ids[WORLD_ALICE]), 40);
}
END_TEST

static struct digest submit_job(const char *fee)
{
    Openledger__V1__TrainSettings settings = OPENLEDGER__V1__TRAIN_SETTINGS__INIT;
    settings.rank = settings.alpha = settings.steps = settings.batch_rows = 1;
    settings.learning_rate_ppm = 1;
    settings.context = 2;
    Openledger__V1__SubmitJob submit = OPENLEDGER__V1__SUBMIT_JOB__INIT;
    WORLD_ACTION(body, SUBMIT_JOB, submit_job, &submit);
    submit.datanet = world_text("net");
    submit.version = 1;
    submit.model = world_text("base");
    submit.fee = world_text(fee);
    submit.settings = &settings;
    accepted(WORLD_DEV, &body);
    return world->tx;
}

START_TEST(test_jobs)
{
    struct digest job = submit_job("7");
    struct account_id escrow;
    char text[AMOUNT_TEXT_SIZE];
    ledger_job_escrow_id(&job, &escrow);
    ck_assert_str_eq(world_balance(world, &escrow, text), "7");
    Openledger__V1__ClaimJob claim = OPENLEDGER__V1__CLAIM_JOB__INIT;
    WORLD_ACTION(claim_body, CLAIM_JOB, claim_job, &claim);
    claim.job = digest_field(&job);
    refused(WORLD_BOB, &claim_body, ERR_DENIED, "no bond");
    accepted(WORLD_TRAINER, &claim_body);
    accepted(WORLD_TRAINER, &claim_body); /* again, after a restart */
    ck_assert_int_eq(world_bond(world, WORLD_DEV, LEDGER_ROLE_TRAINER, "100"), ERR_OK);
    refused(WORLD_DEV, &claim_body, ERR_CONFLICT, "claimed by another");

    Openledger__V1__CompleteJob complete = OPENLEDGER__V1__COMPLETE_JOB__INIT;
    WORLD_ACTION(complete_body, COMPLETE_JOB, complete_job, &complete);
    complete.job = claim.job;
    complete.transcript_root = complete.transcript = complete.adapter =
        ledger_binary(DIGEST, sizeof DIGEST);
    refused(WORLD_DEV, &complete_body, ERR_DENIED, "not claimed by");
    Openledger__V1__FailJob fail = OPENLEDGER__V1__FAIL_JOB__INIT;
    WORLD_ACTION(fail_body, FAIL_JOB, fail_job, &fail);
    fail.job = claim.job;
    fail.reason = world_text("changed my mind");
    refused(WORLD_DEV, &fail_body, ERR_CONFLICT, "while no trainer holds it");
    refused(WORLD_BOB, &fail_body, ERR_DENIED, "can be failed");
    Openledger__V1__PublishAdapter publish = OPENLEDGER__V1__PUBLISH_ADAPTER__INIT;
    WORLD_ACTION(publish_body, PUBLISH_ADAPTER, publish_adapter, &publish);
    publish.name = world_text("second");
    publish.job = claim.job;
    publish.price_prompt = world_text("0");
    publish.price_completion = world_text("0.1");
    refused(WORLD_DEV, &publish_body, ERR_CONFLICT, "not completed");
    accepted(WORLD_TRAINER, &complete_body);
    refused(WORLD_TRAINER, &complete_body, ERR_CONFLICT, "not claimed");
    ck_assert_str_eq(world_balance(world, &escrow, text), "0");
    refused(WORLD_TRAINER, &publish_body, ERR_DENIED, "only the job's developer");
    publish.name = world_text("adapter");
    refused(WORLD_DEV, &publish_body, ERR_CONFLICT, "exists");
    publish.name = world_text("second");
    publish.price_prompt = world_text("1000000000");
    refused(WORLD_DEV, &publish_body, ERR_RANGE, "more than all there is");
    publish.price_prompt = world_text("0");
    accepted(WORLD_DEV, &publish_body);
    publish.name = world_text("third");
    refused(WORLD_DEV, &publish_body, ERR_CONFLICT, "published already");

    Openledger__V1__PublishIndex index = OPENLEDGER__V1__PUBLISH_INDEX__INIT;
    WORLD_ACTION(index_body, PUBLISH_INDEX, publish_index, &index);
    index.adapter = world_text("second");
    index.index = ledger_binary(DIGEST, sizeof DIGEST);
    refused(WORLD_DEV, &index_body, ERR_DENIED, "no bond as attribution");
    accepted(WORLD_ATTRIBUTION, &index_body);
    refused(WORLD_ATTRIBUTION, &index_body, ERR_CONFLICT, "has an index");
    index.adapter = world_text("nothing");
    refused(WORLD_ATTRIBUTION, &index_body, ERR_NOT_FOUND, "no adapter");
}
END_TEST

START_TEST(test_failed_and_stale_jobs)
{
    char text[AMOUNT_TEXT_SIZE];
    struct digest job = submit_job("7");
    Openledger__V1__FailJob fail = OPENLEDGER__V1__FAIL_JOB__INIT;
    WORLD_ACTION(fail_body, FAIL_JOB, fail_job, &fail);
    fail.job = digest_field(&job);
    accepted(WORLD_DEV, &fail_body); /* nobody has it yet */
    ck_assert_str_eq(world_balance(world, &world->ids[WORLD_DEV], text), "99999995");
    refused(WORLD_DEV, &fail_body, ERR_CONFLICT, "can be failed");
    job = submit_job("7");
    Openledger__V1__ClaimJob claim = OPENLEDGER__V1__CLAIM_JOB__INIT;
    WORLD_ACTION(claim_body, CLAIM_JOB, claim_job, &claim);
    claim.job = digest_field(&job);
    accepted(WORLD_TRAINER, &claim_body);
    fail.job = digest_field(&job);
    refused(WORLD_DEV, &fail_body, ERR_CONFLICT, "can be failed");
    world->now_ms += LEDGER_CLAIM_MS; /* the trainer was never heard of again */
    accepted(WORLD_DEV, &fail_body);
    ck_assert_str_eq(world_balance(world, &world->ids[WORLD_DEV], text), "99999995");
}
END_TEST

START_TEST(test_models)
{
    Openledger__V1__RegisterModel model = OPENLEDGER__V1__REGISTER_MODEL__INIT;
    WORLD_ACTION(body, REGISTER_MODEL, register_model, &model);
    model.name = world_text("base");
    model.content = ledger_binary(DIGEST, sizeof DIGEST);
    model.profile = ledger_binary(DIGEST, sizeof DIGEST);
    refused(WORLD_DEV, &body, ERR_CONFLICT, "exists");
    model.name = world_text("base-2");
    model.profile.len = 0;
    refused(WORLD_DEV, &body, ERR_INVALID, "profile has 0 bytes");
    model.profile.len = 32;
    accepted(WORLD_DEV, &body);
}
END_TEST

START_TEST(test_grants)
{
    char text[AMOUNT_TEXT_SIZE];
    Openledger__V1__OpenGrant open = OPENLEDGER__V1__OPEN_GRANT__INIT;
    WORLD_ACTION(body, OPEN_GRANT, open_grant, &open);
    open.gateway = world_id_field(world, WORLD_GATEWAY);
    open.limit = world_text("301000001");
    open.expires_ms = world->now_ms + 50000;
    refused(WORLD_PAYER, &body, ERR_FUNDS, "can spend");
    open.limit = world_text("0");
    refused(WORLD_PAYER, &body, ERR_INVALID, "is 0");
    open.limit = world_text("10");
    open.expires_ms = world->now_ms;
    refused(WORLD_PAYER, &body, ERR_RANGE, "past");
    open.expires_ms = world->now_ms + LEDGER_GRANT_MS_MAX + 1;
    refused(WORLD_PAYER, &body, ERR_RANGE, "past or over");
    open.expires_ms = world->now_ms + 50000;
    open.gateway = ledger_binary(DIGEST, sizeof DIGEST);
    refused(WORLD_PAYER, &body, ERR_NOT_FOUND, "not an open account");
    open.gateway = world_id_field(world, WORLD_GATEWAY);
    accepted(WORLD_PAYER, &body);
    struct digest grant = world->tx;

    Openledger__V1__OpenLease lease = OPENLEDGER__V1__OPEN_LEASE__INIT;
    WORLD_ACTION(lease_body, OPEN_LEASE, open_lease, &lease);
    lease.grant = digest_field(&grant);
    lease.lease = 1;
    lease.amount = world_text("6");
    refused(WORLD_DEV, &lease_body, ERR_DENIED, "only the grant's gateway");
    accepted(WORLD_GATEWAY, &lease_body);
    refused(WORLD_GATEWAY, &lease_body, ERR_CONFLICT, "not the next one, 2");
    lease.lease = 2;
    refused(WORLD_GATEWAY, &lease_body, ERR_FUNDS, "exceed the grant's limit 10");
    lease.amount = world_text("4");
    accepted(WORLD_GATEWAY, &lease_body);

    Openledger__V1__CloseGrant close_it = OPENLEDGER__V1__CLOSE_GRANT__INIT;
    WORLD_ACTION(close_body, CLOSE_GRANT, close_grant, &close_it);
    close_it.grant = digest_field(&grant);
    world->now_ms += 50000;
    lease.lease = 3;
    refused(WORLD_GATEWAY, &lease_body, ERR_CONFLICT, "expired");
    world->grant = grant; /* receipts on their way are still taken in the settlement window */
    struct digest batch = world_receipts(world, 1, 1, 1000, 0, NULL, NULL);
    ck_assert_int_eq(world_settle_receipts(world, &batch), ERR_OK);
    refused(WORLD_PAYER, &close_body, ERR_CONFLICT, "can be closed from");
    world->now_ms += 10000;
    refused(WORLD_BOB, &close_body, ERR_DENIED, "only payer and gateway");
    accepted(WORLD_PAYER, &close_body);
    ck_assert_str_eq(world_balance(world, &world->ids[WORLD_PAYER], text), "300999999");
    refused(WORLD_PAYER, &close_body, ERR_CONFLICT, "is closed");
    batch = world_receipts(world, 2, 1, 10, 10, NULL, NULL);
    ck_assert_int_eq(world_settle_receipts(world, &batch), ERR_DENIED);
    close_it.grant = ledger_binary(DIGEST, sizeof DIGEST);
    refused(WORLD_PAYER, &close_body, ERR_NOT_FOUND, "no grant");
}
END_TEST

START_TEST(test_bonds)
{
    char text[AMOUNT_TEXT_SIZE];
    Openledger__V1__Unbond unbond = OPENLEDGER__V1__UNBOND__INIT;
    WORLD_ACTION(body, UNBOND, unbond, &unbond);
    ck_assert_int_eq(world_bond(world, WORLD_DEV, LEDGER_ROLE_GATEWAY, "99.9"), ERR_RANGE);
    ck_assert_int_eq(world_bond(world, WORLD_DEV, (enum ledger_role)9, "100"), ERR_INVALID);
    ck_assert_int_eq(world_bond(world, WORLD_DEV, LEDGER_ROLE_GATEWAY, "100"), ERR_OK);
    ck_assert_int_eq(world_bond(world, WORLD_DEV, LEDGER_ROLE_GATEWAY, "0.5"), ERR_OK);
    ck_assert(ledger_is_bonded(world->ledger, &world->ids[WORLD_DEV], LEDGER_ROLE_GATEWAY));
    ck_assert(!ledger_is_bonded(world->ledger, &world->ids[WORLD_DEV], LEDGER_ROLE_TRAINER));
    unbond.role = OPENLEDGER__V1__ROLE__ROLE_GATEWAY;
    unbond.amount = world_text("100.6");
    refused(WORLD_DEV, &body, ERR_FUNDS, "only 100.5 OPEN");
    unbond.amount = world_text("1");
    refused(WORLD_DEV, &body, ERR_RANGE, "the minimum is 100");
    unbond.amount = world_text("100.5");
    refused(WORLD_BOB, &body, ERR_FUNDS, "only 0 OPEN");
    accepted(WORLD_DEV, &body);
    ck_assert_str_eq(world_balance(world, &world->ids[WORLD_DEV], text), "99999894.5");
    ck_assert(!ledger_is_bonded(world->ledger, &world->ids[WORLD_DEV], LEDGER_ROLE_GATEWAY));
}
END_TEST

/* Signs a rotation to the key of who, by the keys of signers. */
static enum err rotate(enum world_who who, struct ledger_signer *signers, size_t count)
{
    static uint8_t nonce[LEDGER_NONCE_SIZE];
    struct ledger_head head;
    struct buf body;
    struct buf signed_tx;
    Openledger__V1__RotateKey rotation = OPENLEDGER__V1__ROTATE_KEY__INIT;
    WORLD_ACTION(action, ROTATE_KEY, rotate_key, &rotation);
    rotation.key = ledger_binary(key_pair_public(world->keys[who])->bytes, PUBLIC_KEY_SIZE);
    nonce[0]++;
    ledger_head(world->ledger, &head);
    struct ledger_tx tx = ledger_tx_at(&head.chain_id, &world->ids[WORLD_ALICE], world->now_ms,
                                       LEDGER_TX_VALIDITY_MS, nonce);
    buf_init(&body, LEDGER_ENTRY_MAX);
    buf_init(&signed_tx, LEDGER_ENTRY_MAX);
    enum err err = ledger_tx_body(&tx, &action, &body);
    err = err ? err : ledger_tx_sign(&head.chain_id, buf_bytes(&body), signers, count, &signed_tx);
    err = err ? err : world_apply_signed(world, buf_bytes(&signed_tx));
    buf_deinit(&body);
    buf_deinit(&signed_tx);
    return err;
}

START_TEST(test_rotate_key)
{
    struct key_pair *old = world->keys[WORLD_ALICE];
    struct ledger_signer both[2] = {{&world->ids[WORLD_ALICE], old},
                                    {&world->ids[WORLD_ALICE], world->keys[WORLD_TEAM]}};
    ck_assert_int_eq(rotate(WORLD_TEAM, &both[0], 1), ERR_DENIED); /* the new key must sign too */
    ck_assert_int_eq(rotate(WORLD_TEAM, &both[1], 1), ERR_DENIED); /* and the old one */
    ck_assert_int_eq(rotate(WORLD_TEAM, both, 2), ERR_OK);
    ck_assert_int_eq(world_transfer(world, WORLD_PAYER, WORLD_ALICE, "1"), ERR_OK);
    ck_assert_int_eq(world_transfer(world, WORLD_ALICE, WORLD_BOB, "1"), ERR_DENIED);
    world->keys[WORLD_ALICE] = world->keys[WORLD_TEAM];
    ck_assert_int_eq(world_transfer(world, WORLD_ALICE, WORLD_BOB, "1"), ERR_OK);
    ck_assert_int_eq(world_open(world, WORLD_ALICE), ERR_DENIED); /* the id is the first key's */
    world->keys[WORLD_ALICE] = old;
}
END_TEST

/* A share for somebody who contributed nothing, a wrong index, a sum that is not one. */
START_TEST(test_bad_shares)
{
    struct digest ids[1];
    ck_assert_int_eq(world_grant(world, "10"), ERR_OK);
    struct digest batch = world_receipts(world, 1, 1, 100, 50, NULL, ids);
    ck_assert_int_eq(world_settle_receipts(world, &batch), ERR_OK);
    struct account_id bob = world->ids[WORLD_BOB];
    world->ids[WORLD_BOB] = world->ids[WORLD_OWNER];
    struct digest shares = world_shares(world, ids, 1, 1000, 1000);
    ck_assert_int_eq(world_settle_shares(world, &shares), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(world->note.text, "contributed nothing"));
    world->ids[WORLD_BOB] = bob;
    struct digest files = world->files;
    world->files = (struct digest){{1}};
    shares = world_shares(world, ids, 1, 1000, 1000);
    world->files = files;
    ck_assert_int_eq(world_settle_shares(world, &shares), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(world->note.text, "not the published index"));
    shares = world_shares(world, ids, 1, 900000000, 200000000); /* unearned wraps below zero */
    ck_assert_int_eq(world_settle_shares(world, &shares), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(world->note.text, "sum to"));
    shares = world_shares(world, ids, 1, 0, LEDGER_SHARE_TOTAL);
    ck_assert_int_eq(world_settle_shares(world, &shares), ERR_OK);
    char text[AMOUNT_TEXT_SIZE];
    ck_assert_str_eq(world_balance(world, &bob, text), "0.12");
}
END_TEST

/* The same receipt twice in one batch of shares is paid once. */
START_TEST(test_share_twice_in_one_batch)
{
    struct digest ids[2];
    ck_assert_int_eq(world_grant(world, "10"), ERR_OK);
    struct digest batch = world_receipts(world, 1, 1, 100, 50, NULL, ids);
    ck_assert_int_eq(world_settle_receipts(world, &batch), ERR_OK);
    ids[1] = ids[0];
    struct digest shares = world_shares(world, ids, 2, 1000, 1000);
    ck_assert_int_eq(world_settle_shares(world, &shares), ERR_CONFLICT);
    ck_assert(ledger_receipt(world->ledger, &ids[0])->waiting);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger rules");
    TCase *rules = tcase_create("rules");
    tcase_add_checked_fixture(rules, setup, teardown);
    tcase_set_timeout(rules, 60);
    tcase_add_test(rules, test_create_datanet);
    tcase_add_test(rules, test_contributions);
    tcase_add_test(rules, test_jobs);
    tcase_add_test(rules, test_failed_and_stale_jobs);
    tcase_add_test(rules, test_models);
    tcase_add_test(rules, test_grants);
    tcase_add_test(rules, test_bonds);
    tcase_add_test(rules, test_rotate_key);
    tcase_add_test(rules, test_bad_shares);
    tcase_add_test(rules, test_share_twice_in_one_batch);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
