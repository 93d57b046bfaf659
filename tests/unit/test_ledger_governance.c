/* test_ledger_governance.c - proposals from propose to execution with every refusal, checkpoints of power
 * against a full history, and the parameter table. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/base/check.h"
#include "shared/ledger/governance.h"
#include "shared/ledger/params.h"
#include "shared/ledger/stake.h"
#include "tests/harness/ledger_expect.h"
#include "tests/harness/seed.h"

static struct world *world;

/* Delay 2 blocks, period 3, timelock 5 s, grace 60 s; quorum a fifth; threshold 10,000 OPEN. */
static void setup(void)
{
    world = world_create();
    ck_assert_int_eq(world_bond(world, WORLD_DEV, LEDGER_ROLE_TRAINER, "60000"), ERR_OK);
    ck_assert_int_eq(world_bond(world, WORLD_BASE, LEDGER_ROLE_VALIDATOR, "30000"), ERR_OK);
    ck_assert_int_eq(world_bond(world, WORLD_OWNER, LEDGER_ROLE_GATEWAY, "10000"), ERR_OK);
}

static void teardown(void)
{
    world_destroy(world);
}

static Openledger__V1__TxBody body;
static Openledger__V1__ParameterChange changes[LEDGER_CHANGES_MAX + 1];
static Openledger__V1__ParameterChange *pointers[LEDGER_CHANGES_MAX + 1];
static Openledger__V1__Propose propose;

/* pairs: name, value, name, value, ..., NULL */
static Openledger__V1__TxBody *proposal_of(const char *const *pairs)
{
    openledger__v1__propose__init(&propose);
    propose.title = world_text("a change");
    propose.changes = pointers;
    for (; pairs[2 * propose.n_changes] != NULL; propose.n_changes++) {
        Openledger__V1__ParameterChange *change = &changes[propose.n_changes];
        openledger__v1__parameter_change__init(change);
        change->name = world_text(pairs[2 * propose.n_changes]);
        change->value = world_text(pairs[2 * propose.n_changes + 1]);
        pointers[propose.n_changes] = change;
    }
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_PROPOSE;
    body.propose = &propose;
    return &body;
}

#define PROPOSAL(...) proposal_of((const char *const[]){__VA_ARGS__, NULL})

static Openledger__V1__TxBody *vote_on(const struct digest *proposal, int choice)
{
    static Openledger__V1__Vote vote;
    openledger__v1__vote__init(&vote);
    vote.proposal = expect_digest_field(proposal);
    vote.choice = (Openledger__V1__VoteChoice)choice;
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_VOTE;
    body.vote = &vote;
    return &body;
}

static Openledger__V1__TxBody *queue(const struct digest *proposal)
{
    static Openledger__V1__QueueProposal action;
    openledger__v1__queue_proposal__init(&action);
    action.proposal = expect_digest_field(proposal);
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_QUEUE_PROPOSAL;
    body.queue_proposal = &action;
    return &body;
}

static Openledger__V1__TxBody *execute(const struct digest *proposal)
{
    static Openledger__V1__ExecuteProposal action;
    openledger__v1__execute_proposal__init(&action);
    action.proposal = expect_digest_field(proposal);
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_EXECUTE_PROPOSAL;
    body.execute_proposal = &action;
    return &body;
}

static Openledger__V1__TxBody *cancel(const struct digest *proposal)
{
    static Openledger__V1__CancelProposal action;
    openledger__v1__cancel_proposal__init(&action);
    action.proposal = expect_digest_field(proposal);
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_CANCEL_PROPOSAL;
    body.cancel_proposal = &action;
    return &body;
}

static Openledger__V1__TxBody *votes_to(const enum world_who *to)
{
    static Openledger__V1__DelegateVotes action;
    openledger__v1__delegate_votes__init(&action);
    if (to != NULL) {
        action.to = world_id_field(world, *to);
    }
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_DELEGATE_VOTES;
    body.delegate_votes = &action;
    return &body;
}

static enum ledger_proposal_state state_of(const struct digest *id)
{
    return ledger_proposal_state(world->ledger, ledger_proposal(world->ledger, id));
}

START_TEST(test_propose)
{
    expect_refused(world, WORLD_PAYER, PROPOSAL("model_bp", "1900", "platform_bp", "1100"),
                   ERR_DENIED, "needs votes of 10000 OPEN");
    expect_refused(world, WORLD_DEV, PROPOSAL("supply", "1"), ERR_INVALID, "no parameter");
    expect_refused(world, WORLD_DEV, PROPOSAL("quorum_bp", "300", "quorum_bp", "400"), ERR_INVALID,
                   "twice");
    expect_refused(world, WORLD_DEV, PROPOSAL("platform_bp", "5001"), ERR_RANGE, "0 to 5000");
    expect_refused(world, WORLD_DEV, PROPOSAL("platform_bp", "1100"), ERR_RANGE, "sum to 10100");
    expect_refused(world, WORLD_DEV, PROPOSAL("quorum_bp", "0300"), ERR_INVALID, "canonical");
    expect_refused(world, WORLD_DEV, PROPOSAL("quorum_bp", "18446744073709551616"), ERR_INVALID,
                   "canonical");
    expect_refused(world, WORLD_DEV, PROPOSAL("gas_per_byte", "1.0"), ERR_INVALID, "canonical");
    expect_refused(world, WORLD_DEV, proposal_of((const char *const[]){NULL}), ERR_LIMIT,
                   "0 changes");
    Openledger__V1__TxBody *many = PROPOSAL("quorum_bp", "300");
    propose.n_changes = LEDGER_CHANGES_MAX + 1;
    for (int i = 1; i <= LEDGER_CHANGES_MAX; i++) {
        pointers[i] = &changes[0];
    }
    expect_refused(world, WORLD_DEV, many, ERR_LIMIT, "17 changes");
    many = PROPOSAL("quorum_bp", "300");
    propose.title = world_text("bad \xff title");
    expect_refused(world, WORLD_DEV, many, ERR_INVALID, "title");
    expect_ok(world, WORLD_DEV, PROPOSAL("quorum_bp", "300"));
    expect_refused(world, WORLD_DEV, PROPOSAL("quorum_bp", "300"), ERR_CONFLICT,
                   "has an open proposal");
    expect_ok(world, WORLD_BASE, PROPOSAL("quorum_bp", "400"));
}
END_TEST

START_TEST(test_life)
{
    expect_ok(world, WORLD_BASE, PROPOSAL("stakers_bp", "500", "contributors_bp", "6500"));
    struct digest id = world->tx;
    const struct digest none = {{1}};
    ck_assert_int_eq(state_of(&id), LEDGER_PROPOSAL_PENDING);
    expect_refused(world, WORLD_DEV, vote_on(&id, LEDGER_CHOICE_FOR), ERR_CONFLICT, "is pending");
    expect_refused(world, WORLD_DEV, vote_on(&none, LEDGER_CHOICE_FOR), ERR_NOT_FOUND,
                   "no proposal");
    ck_assert_uint_eq(ledger_next_deadline(world->ledger), 6); /* blocks go on while votes wait */
    expect_seals(world, 2);
    ck_assert_int_eq(state_of(&id), LEDGER_PROPOSAL_PENDING);
    expect_seals(world, 1); /* the snapshot */
    ck_assert_int_eq(state_of(&id), LEDGER_PROPOSAL_ACTIVE);
    /* Stake that comes after the snapshot does not count, stake that leaves does. */
    ck_assert_int_eq(world_bond(world, WORLD_PAYER, LEDGER_ROLE_TRAINER, "1000000"), ERR_OK);
    expect_refused(world, WORLD_PAYER, vote_on(&id, LEDGER_CHOICE_AGAINST), ERR_DENIED,
                   "had no votes at height 3");
    expect_refused(world, WORLD_DEV, vote_on(&id, 0), ERR_INVALID, "choice 0");
    expect_refused(world, WORLD_DEV, vote_on(&id, 4), ERR_INVALID, "choice 4");
    expect_refused(world, WORLD_DEV, queue(&id), ERR_CONFLICT, "is active");
    expect_ok(world, WORLD_BASE, vote_on(&id, LEDGER_CHOICE_FOR));
    expect_refused(world, WORLD_BASE, vote_on(&id, LEDGER_CHOICE_FOR), ERR_CONFLICT,
                   "voted already");
    expect_ok(world, WORLD_OWNER, vote_on(&id, LEDGER_CHOICE_AGAINST));
    const struct ledger_proposal *proposal = ledger_proposal(world->ledger, &id);
    ck_assert_uint_eq(proposal->staked_grains, 100000 * UINT64_C(1000000000));
    ck_assert_uint_eq(ledger_proposal_quorum(proposal), 20000 * UINT64_C(1000000000));
    expect_seals(world, 3);
    ck_assert_int_eq(state_of(&id), LEDGER_PROPOSAL_SUCCEEDED);
    ck_assert_uint_eq(ledger_next_deadline(world->ledger), 0);
    expect_refused(world, WORLD_DEV, vote_on(&id, LEDGER_CHOICE_AGAINST), ERR_CONFLICT,
                   "is succeeded");
    expect_refused(world, WORLD_PAYER, execute(&id), ERR_CONFLICT, "is succeeded, not queued");
    expect_ok(world, WORLD_PAYER, queue(&id));
    expect_refused(world, WORLD_PAYER, queue(&id), ERR_CONFLICT, "is queued");
    world->now_ms += 4999;
    expect_refused(world, WORLD_PAYER, execute(&id), ERR_CONFLICT, "is locked until");
    world->now_ms += 1;
    ck_assert_uint_eq(ledger_parameters(world->ledger)->contributors_bp, 6000);
    expect_ok(world, WORLD_PAYER, execute(&id));
    ck_assert_uint_eq(ledger_parameters(world->ledger)->contributors_bp, 6500);
    ck_assert_uint_eq(ledger_parameters(world->ledger)->stakers_bp, 500);
    expect_refused(world, WORLD_PAYER, execute(&id), ERR_CONFLICT, "is executed");
    expect_refused(world, WORLD_BASE, cancel(&id), ERR_CONFLICT, "is executed");
    expect_replays(world);
}
END_TEST

/* Runs a proposal by DEV with these votes (0: none) to its end. */
static enum ledger_proposal_state outcome(int dev, int base, int owner)
{
    expect_ok(world, WORLD_DEV, PROPOSAL("quorum_bp", "2500"));
    struct digest id = world->tx;
    const struct {
        enum world_who who;
        int choice;
    } VOTES[] = {{WORLD_DEV, dev}, {WORLD_BASE, base}, {WORLD_OWNER, owner}};
    expect_seals(world, 3);
    for (size_t i = 0; i < 3; i++) {
        if (VOTES[i].choice != 0) {
            expect_ok(world, VOTES[i].who, vote_on(&id, VOTES[i].choice));
        }
    }
    expect_seals(world, 3);
    return state_of(&id);
}

START_TEST(test_counting)
{
    enum { AGAINST = LEDGER_CHOICE_AGAINST, FOR = LEDGER_CHOICE_FOR, PASS = LEDGER_CHOICE_ABSTAIN };
    ck_assert_int_eq(outcome(0, 0, 0), LEDGER_PROPOSAL_DEFEATED);       /* nobody cared */
    ck_assert_int_eq(outcome(0, 0, FOR), LEDGER_PROPOSAL_DEFEATED);     /* a tenth: no quorum */
    ck_assert_int_eq(outcome(0, PASS, FOR), LEDGER_PROPOSAL_SUCCEEDED); /* abstaining helps it */
    ck_assert_int_eq(outcome(AGAINST, 0, FOR), LEDGER_PROPOSAL_DEFEATED);
    ck_assert_int_eq(outcome(AGAINST, FOR, FOR), LEDGER_PROPOSAL_DEFEATED);
    ck_assert_int_eq(outcome(PASS, AGAINST, FOR), LEDGER_PROPOSAL_DEFEATED);
    ck_assert_int_eq(outcome(FOR, AGAINST, AGAINST), LEDGER_PROPOSAL_SUCCEEDED);
    ck_assert_int_eq(outcome(PASS, PASS, PASS), LEDGER_PROPOSAL_DEFEATED); /* nobody for */
}
END_TEST

START_TEST(test_delegated_votes)
{
    const enum world_who owner = WORLD_OWNER;
    const enum world_who alice = WORLD_ALICE;
    expect_refused(world, WORLD_DEV, votes_to(&alice), ERR_NOT_FOUND, "is not open");
    expect_ok(world, WORLD_DEV, votes_to(&owner));
    expect_refused(world, WORLD_DEV, PROPOSAL("quorum_bp", "2500"), ERR_DENIED, "needs votes");
    expect_ok(world, WORLD_OWNER, PROPOSAL("quorum_bp", "2500"));
    struct digest id = world->tx;
    ck_assert_int_eq(world_bond(world, WORLD_DEV, LEDGER_ROLE_TRAINER, "500"), ERR_OK);
    expect_seals(world, 3);
    expect_ok(world, WORLD_DEV, votes_to(NULL)); /* too late for this vote */
    expect_refused(world, WORLD_DEV, vote_on(&id, LEDGER_CHOICE_AGAINST), ERR_DENIED,
                   "had no votes");
    expect_ok(world, WORLD_OWNER, vote_on(&id, LEDGER_CHOICE_FOR));
    ck_assert_uint_eq(ledger_proposal(world->ledger, &id)->for_grains,
                      70500 * UINT64_C(1000000000));
    expect_seals(world, 3);
    ck_assert_int_eq(state_of(&id), LEDGER_PROPOSAL_SUCCEEDED);
}
END_TEST

START_TEST(test_cancel_and_expire)
{
    expect_ok(world, WORLD_DEV, PROPOSAL("quorum_bp", "2500"));
    struct digest id = world->tx;
    expect_refused(world, WORLD_BASE, cancel(&id), ERR_DENIED, "only the proposer");
    expect_ok(world, WORLD_DEV, cancel(&id));
    ck_assert_int_eq(state_of(&id), LEDGER_PROPOSAL_CANCELLED);
    expect_refused(world, WORLD_DEV, cancel(&id), ERR_CONFLICT, "is cancelled");
    expect_ok(world, WORLD_DEV, PROPOSAL("quorum_bp", "2500")); /* its place is free again */
    id = world->tx;
    /* Whoever gives the votes away that the proposal stood on can lose it to anyone. */
    const enum world_who owner = WORLD_OWNER;
    expect_ok(world, WORLD_DEV, votes_to(&owner));
    expect_ok(world, WORLD_BASE, cancel(&id));
    expect_ok(world, WORLD_DEV, votes_to(NULL));
    expect_ok(world, WORLD_DEV, PROPOSAL("quorum_bp", "2500"));
    id = world->tx;
    expect_seals(world, 3);
    expect_ok(world, WORLD_DEV, vote_on(&id, LEDGER_CHOICE_FOR));
    expect_seals(world, 3);
    expect_ok(world, WORLD_DEV, queue(&id));
    world->now_ms += 65000;
    expect_refused(world, WORLD_DEV, execute(&id), ERR_CONFLICT, "is expired");
    expect_refused(world, WORLD_DEV, cancel(&id), ERR_CONFLICT, "is expired");
    ck_assert_uint_eq(ledger_parameters(world->ledger)->quorum_bp, 2000);
}
END_TEST

/* Two proposals that are fine alone and not together: the second cannot be executed. */
START_TEST(test_conflicting_changes)
{
    expect_ok(world, WORLD_DEV, PROPOSAL("platform_bp", "900", "contributors_bp", "6100"));
    struct digest first = world->tx;
    expect_ok(world, WORLD_BASE, PROPOSAL("model_bp", "1900", "contributors_bp", "6100"));
    struct digest second = world->tx;
    expect_seals(world, 3);
    expect_ok(world, WORLD_DEV, vote_on(&first, LEDGER_CHOICE_FOR));
    expect_ok(world, WORLD_DEV, vote_on(&second, LEDGER_CHOICE_FOR));
    expect_seals(world, 3);
    expect_ok(world, WORLD_DEV, queue(&first));
    expect_ok(world, WORLD_DEV, queue(&second));
    world->now_ms += 5000;
    expect_ok(world, WORLD_DEV, execute(&first));
    expect_refused(world, WORLD_DEV, execute(&second), ERR_RANGE, "sum to 9900");
}
END_TEST

/* ---- checkpoints against a full history ----------------------------------------------------------- */

enum { BLOCKS = 120, PEOPLE = 3 };

START_TEST(test_checkpoints)
{
    static const enum world_who WHO[PEOPLE] = {WORLD_DEV, WORLD_BASE, WORLD_OWNER};
    static uint64_t history[BLOCKS + 1][PEOPLE];
    uint64_t whole[PEOPLE] = {60000, 30000, 10000};
    struct {
        uint64_t height, until;
    } open[LEDGER_SNAPSHOTS_MAX];
    size_t open_count = 0;
    for (uint64_t block = 1; block <= BLOCKS; block++) {
        for (uint64_t n = test_rand() % 3; n > 0; n--) {
            char amount[24];
            size_t i = test_rand() % PEOPLE;
            unsigned value = 100 + (unsigned)(test_rand() % 900);
            (void)snprintf(amount, sizeof amount, "%u", value);
            ck_assert_int_eq(world_bond(world, WHO[i], LEDGER_ROLE_TRAINER, amount), ERR_OK);
            whole[i] += value;
        }
        size_t proposer = test_rand() % PEOPLE;
        if (world_try(world, WHO[proposer], PROPOSAL("quorum_bp", "2500")) == ERR_OK) {
            open[open_count % LEDGER_SNAPSHOTS_MAX].height = block + 2;
            open[open_count++ % LEDGER_SNAPSHOTS_MAX].until = block + 5;
        }
        for (size_t i = 0; i < PEOPLE; i++) {
            history[block][i] = whole[i] * UINT64_C(1000000000);
        }
        expect_seals(world, 1);
        for (size_t s = 0; s < open_count && s < LEDGER_SNAPSHOTS_MAX; s++) {
            if (open[s].height > block || open[s].until <= block) {
                continue;
            }
            uint64_t sum = 0;
            for (size_t i = 0; i < PEOPLE; i++) {
                ck_assert_uint_eq(ledger_power_at(world->ledger, LEDGER_SERIES_VOTES,
                                                  &world->ids[WHO[i]], open[s].height),
                                  history[open[s].height][i]);
                sum += history[open[s].height][i];
            }
            ck_assert_uint_eq(
                ledger_power_at(world->ledger, LEDGER_SERIES_VOTES, NULL, open[s].height), sum);
        }
    }
    ck_assert_uint_gt(open_count, 20);
    expect_replays(world);
}
END_TEST

/* ---- the table ------------------------------------------------------------------------------------ */

START_TEST(test_table)
{
    struct ledger_parameters defaults;
    char text[AMOUNT_TEXT_SIZE];
    ledger_parameters_defaults(&defaults);
    for (size_t i = 0; i < LEDGER_PARAMETER_COUNT; i++) {
        const struct ledger_parameter *row = &LEDGER_PARAMETERS[i];
        struct ledger_parameters copy = defaults;
        ck_assert_ptr_eq(ledger_parameter_find(row->name), row);
        ck_assert_str_eq(ledger_parameter_format(row, &defaults, text), row->fallback);
        const char *const ENDS[] = {row->minimum, row->maximum};
        for (size_t k = 0; k < 2; k++) {
            ck_assert_int_eq(ledger_parameter_set(row, ENDS[k], &copy, NULL), ERR_OK);
            ck_assert_str_eq(ledger_parameter_format(row, &copy, text), ENDS[k]);
        }
        /* One value and no other has changed. */
        ck_assert_int_eq(ledger_parameter_set(row, row->fallback, &copy, NULL), ERR_OK);
        for (size_t k = 0; k < LEDGER_PARAMETER_COUNT; k++) {
            ck_assert_str_eq(ledger_parameter_format(&LEDGER_PARAMETERS[k], &copy, text),
                             LEDGER_PARAMETERS[k].fallback);
        }
        ck_assert_int_eq(
            ledger_parameter_set(row, "340282366920938463463.374607431768211455", &copy, NULL),
            row->type == LEDGER_PARAMETER_AMOUNT ? ERR_RANGE : ERR_INVALID);
        ck_assert_int_eq(ledger_parameter_set(row, "", &copy, NULL), ERR_INVALID);
        ck_assert_int_eq(ledger_parameter_set(row, "-1", &copy, NULL), ERR_INVALID);
    }
}
END_TEST

START_TEST(test_messages)
{
    const struct ledger_parameters *from = ledger_parameters(world->ledger);
    struct arena *arena = arena_create(65536);
    struct ledger_parameters back;
    struct note note;
    char ours[AMOUNT_TEXT_SIZE];
    char theirs[AMOUNT_TEXT_SIZE];
    Openledger__V1__Parameters *message = ledger_parameters_message(from, arena);
    ck_assert_ptr_nonnull(message);
    ck_assert_int_eq(ledger_parameters_from_message(message, &back, &note), ERR_OK);
    for (size_t i = 0; i < LEDGER_PARAMETER_COUNT; i++) {
        ck_assert_str_eq(ledger_parameter_format(&LEDGER_PARAMETERS[i], from, ours),
                         ledger_parameter_format(&LEDGER_PARAMETERS[i], &back, theirs));
    }
    ck_assert_uint_gt(message->n_others, 2);
    char *name = message->others[1]->name;
    message->others[1]->name = message->others[0]->name;
    ck_assert_int_eq(ledger_parameters_from_message(message, &back, &note), ERR_INVALID);
    ck_assert(strstr(note.text, "twice") != NULL);
    message->others[1]->name = world_text("platform_bp"); /* has a field of its own */
    ck_assert_int_eq(ledger_parameters_from_message(message, &back, &note), ERR_INVALID);
    message->others[1]->name = name;
    message->others[1]->value = world_text("999999999");
    ck_assert_int_eq(ledger_parameters_from_message(message, &back, &note), ERR_RANGE);
    arena_destroy(arena);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger governance");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 60);
    tcase_add_checked_fixture(rules, setup, teardown);
    tcase_add_test(rules, test_propose);
    tcase_add_test(rules, test_life);
    tcase_add_test(rules, test_counting);
    tcase_add_test(rules, test_delegated_votes);
    tcase_add_test(rules, test_cancel_and_expire);
    tcase_add_test(rules, test_conflicting_changes);
    tcase_add_test(rules, test_checkpoints);
    tcase_add_test(rules, test_table);
    tcase_add_test(rules, test_messages);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
