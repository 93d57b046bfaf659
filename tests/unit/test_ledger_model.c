/* test_ledger_model.c - every transaction type against a small obvious model (tests/harness/ledger_model.h).
 *
 * Method: transactions of all types are drawn from a world of thirteen accounts, good ones and ones with
 * something wrong. The model says beforehand whether each is taken, or with which error it is refused, and what
 * every account has then. At the end
 * every type must have been taken and refused, and the log must replay to the same root. TEST_SEED draws other
 * ones; the default is fixed. */
#include <stdio.h>

#include "shared/base/check.h"
#include "tests/harness/ledger_draw.h"
#include "tests/harness/ledger_expect.h"
#include "tests/harness/seed.h"

enum { ROUNDS = 4, STEPS = 5200, KINDS = 128 };

static const struct kind {
    int action;
    const char *name;
} TYPES[] = {
#define TYPE(upper, lower, Message) {OPENLEDGER__V1__TX_BODY__ACTION_##upper, #Message},
    LEDGER_RULES(TYPE)
#undef TYPE
};
enum { TYPE_COUNT = sizeof TYPES / sizeof TYPES[0] };

/* Those that must follow something within a few blocks are drawn more often. */
static const int OFTEN[] = {OPENLEDGER__V1__TX_BODY__ACTION_VOTE,
                            OPENLEDGER__V1__TX_BODY__ACTION_PROPOSE,
                            OPENLEDGER__V1__TX_BODY__ACTION_QUEUE_PROPOSAL,
                            OPENLEDGER__V1__TX_BODY__ACTION_EXECUTE_PROPOSAL,
                            OPENLEDGER__V1__TX_BODY__ACTION_CHALLENGE_JOB,
                            OPENLEDGER__V1__TX_BODY__ACTION_ATTEST_JOB,
                            OPENLEDGER__V1__TX_BODY__ACTION_COMPLETE_JOB,
                            OPENLEDGER__V1__TX_BODY__ACTION_CLAIM_JOB,
                            OPENLEDGER__V1__TX_BODY__ACTION_SETTLE_SHARES,
                            OPENLEDGER__V1__TX_BODY__ACTION_SETTLE_RECEIPTS,
                            OPENLEDGER__V1__TX_BODY__ACTION_APPROVE_RECOVERY};
enum { OFTEN_COUNT = sizeof OFTEN / sizeof OFTEN[0] };

static uint32_t taken[KINDS], refused[KINDS];

static void build(struct world *world, struct model *model, struct draw *draw, struct buf *out)
{
    uint8_t nonce[LEDGER_NONCE_SIZE] = {0};
    struct ledger_signer signers[SIGNERS_MAX];
    struct ledger_head head;
    struct buf body;
    buf_init(&body, LEDGER_ENTRY_MAX);
    ledger_head(world->ledger, &head);
    world->nonce++;
    memcpy(nonce, &world->nonce, sizeof world->nonce);
    const struct ledger_tx tx = ledger_tx_at(&head.chain_id, &model->ids[draw->call.sender],
                                             world->now_ms, LEDGER_TX_VALIDITY_MS, nonce);
    ck_assert_int_eq(ledger_tx_body(&tx, &draw->body, &body), ERR_OK);
    for (int i = 0; i < draw->call.signer_count; i++) {
        signers[i] = (struct ledger_signer){&model->ids[draw->call.signers[i].who],
                                            model->keys[draw->call.signers[i].key]};
    }
    ck_assert_int_eq(ledger_tx_sign(&head.chain_id, buf_bytes(&body), signers,
                                    (size_t)draw->call.signer_count, out),
                     ERR_OK);
    ledger_tx_id(&head.chain_id, buf_bytes(&body), &draw->call.tx);
    buf_deinit(&body);
}

static void compare(struct world *world, const struct model *model, const char *what, int step)
{
    for (int i = 0; i < model->purse_count; i++) {
        const struct ledger_account *account = ledger_account(world->ledger, &model->purses[i].id);
        char has[AMOUNT_TEXT_SIZE];
        char wants[AMOUNT_TEXT_SIZE];
        ck_assert_msg(
            amount_equal(account == NULL ? AMOUNT_ZERO : account->balance, model->purses[i].has),
            "step %d, %s: purse %d has %s, the model says %s", step, what, i,
            amount_format(account == NULL ? AMOUNT_ZERO : account->balance, has),
            amount_format(model->purses[i].has, wants));
    }
}

static void one(struct world *world, struct model *model, struct draw *draw, int step)
{
    struct buf signed_tx;
    const struct kind *kind = &TYPES[test_rand() % TYPE_COUNT];
    int often = OFTEN[test_rand() % OFTEN_COUNT];
    for (int i = 0; i < TYPE_COUNT && test_rand() % 4 == 0; i++) {
        kind = TYPES[i].action == often ? &TYPES[i] : kind;
    }
    buf_init(&signed_tx, LEDGER_ENTRY_MAX);
    draw_action(draw, (Openledger__V1__TxBody__ActionCase)kind->action);
    build(world, model, draw, &signed_tx);
    enum err expected = model_take(model, &draw->call);
    enum err err = world_apply_signed(world, buf_bytes(&signed_tx));
    ck_assert_msg(err == expected, "step %d: the ledger says %s (%s), the model %s to %s by %d",
                  step, err_name(err), err == ERR_OK ? "" : world->note.text, err_name(expected),
                  kind->name, draw->call.sender);
    (err == ERR_OK ? taken : refused)[kind->action]++;
    compare(world, model, kind->name, step);
    buf_deinit(&signed_tx);
}

static void life(void)
{
    struct world *world = world_create();
    struct draw draw;
    static const char files[] = "files of models, adapters and indexes";
    struct digest cached;
    struct digest slow;
    world->files = world_blob(world, bytes_of_text(files));
    struct model *model = model_create(world);
    draw_init(&draw, model);
    for (int step = 0; step < STEPS && world->entry_count + 2 < WORLD_ENTRIES_MAX; step++) {
        world->now_ms += test_rand() % 900;
        world->now_ms += test_rand() % 500 == 0 ? 3600000 : 0;
        model->now_ms = world->now_ms;
        if (test_rand() % 9 == 0) {
            ck_assert_int_eq(world_seal(world), ERR_OK);
            model_seal(model);
            compare(world, model, "seal", step);
        } else {
            one(world, model, &draw, step);
        }
    }
    (void)ledger_supply(world->ledger);
    ledger_state_root(world->ledger, &cached);
    ledger_state_root_slow(world->ledger, &slow);
    ck_assert(digest_equal(&cached, &slow));
    draw_deinit(&draw);
    model_destroy(model);
    world_destroy(world);
}

START_TEST(the_ledger_does_what_the_model_says)
{
    bool all = true;
    for (int round = 0; round < ROUNDS; round++) {
        life();
    }
    for (int i = 0; i < TYPE_COUNT; i++) {
        int action = TYPES[i].action;
        bool good = taken[action] > 0 && refused[action] > 0;
        printf("%-22s %6u taken %6u refused%s\n", TYPES[i].name, taken[action], refused[action],
               good ? "" : "  <- not both");
        all = all && good;
    }
    ck_assert_msg(all, "some types were never taken, or never refused");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger model");
    TCase *tests = tcase_create("model");
    tcase_set_timeout(tests, 300);
    tcase_add_test(tests, the_ledger_does_what_the_model_says);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
