/* test_settlement_epoch.c - the decisions of one replica, message by message: what may be final, whose word counts,
 * which log a new sequencer takes over. tests/sim has the histories; here are the orders of messages that
 * those meet too rarely. */
#include "services/settlement/epoch.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { HEARTBEAT_MS = 100, TAKEOVER_MS = 1000, SELF = 1 };
static const uint64_t LIFE[] = {0, 11, 22, 33};

static struct epoch epoch;
static struct epoch_actions actions;
static struct epoch_log on_disk;
static uint64_t now_ms;

static void begin(const struct epoch_promise *promise, uint64_t count, uint64_t last_epoch)
{
    const struct epoch_config config = {
        .self = SELF, .replicas = 3, .heartbeat_ms = HEARTBEAT_MS, .takeover_ms = TAKEOVER_MS};
    now_ms = 5000;
    on_disk = (struct epoch_log){count, last_epoch};
    epoch_init(&epoch, &config, promise, now_ms);
}

/* A full member of a cluster in which something was final before. */
static void begin_member(uint64_t count, uint64_t last_epoch)
{
    begin(
        &(struct epoch_promise){
            .epoch = 1, .claimant = 2, .life = LIFE[SELF], .full = true, .formed = true},
        count, last_epoch);
}

static void hear(const struct epoch_message *message, bool fits)
{
    actions.count = 0;
    epoch_receive(&epoch, ++now_ms, message, fits, on_disk, &actions);
}

/* The first action of that kind in answer to what was heard last; NULL: none. */
static const struct epoch_action *did(enum epoch_act act)
{
    for (size_t i = 0; i < actions.count; i++) {
        if (actions.items[i].act == act) {
            return &actions.items[i];
        }
    }
    return NULL;
}

/* The first message of that kind to that replica. */
static const struct epoch_message *said(uint32_t to, enum epoch_kind kind)
{
    static const struct epoch_message NOTHING = {.kind = EPOCH_KIND_END};
    for (size_t i = 0; i < actions.count; i++) {
        const struct epoch_action *action = &actions.items[i];
        if (action->act == EPOCH_DO_SEND && action->to == to && action->message.kind == kind) {
            return &action->message;
        }
    }
    ck_abort_msg("said no %s to %u", epoch_kind_name(kind), to);
    return &NOTHING;
}

static void claim(uint64_t number)
{
    actions.count = 0;
    epoch_claimed(&epoch, ++now_ms, number, on_disk, &actions);
    ck_assert(epoch.role == EPOCH_ASKING);
    ck_assert_ptr_nonnull(did(EPOCH_DO_KEEP));
    ck_assert(actions.items[0].act == EPOCH_DO_KEEP); /* on disk before anybody hears of it */
}

static struct epoch_message from(uint32_t replica, enum epoch_kind kind)
{
    return (struct epoch_message){.kind = kind,
                                  .from = replica,
                                  .epoch = epoch.promise.epoch,
                                  .life = LIFE[replica],
                                  .full = true,
                                  .formed = true};
}

static void hear_promise(uint32_t replica, uint64_t count, uint64_t last_epoch)
{
    struct epoch_message message = from(replica, EPOCH_PROMISE);
    message.count = count;
    message.last_epoch = last_epoch;
    hear(&message, true);
}

static void hear_ack(uint32_t replica, uint64_t index)
{
    struct epoch_message message = from(replica, EPOCH_ACK);
    message.index = index;
    message.count = index;
    message.ok = true;
    hear(&message, true);
}

static void hear_round(uint32_t replica, uint64_t round, bool ok)
{
    struct epoch_message message = from(replica, EPOCH_ACK);
    message.round = round;
    message.ok = ok;
    hear(&message, true);
}

/* Entries up to count are appended and on our disk. */
static void append(uint64_t count)
{
    actions.count = 0;
    epoch_offer(&epoch, ++now_ms, count, &actions);
    actions.count = 0;
    epoch_synced(&epoch, now_ms, count, &actions);
    on_disk = (struct epoch_log){count, epoch.promise.epoch};
}

static void tick(void)
{
    now_ms += HEARTBEAT_MS;
    actions.count = 0;
    epoch_tick(&epoch, now_ms, on_disk, &actions);
}

static void lead(uint64_t count)
{
    begin_member(count, 1);
    claim(2);
    hear_promise(2, count, 1);
    ck_assert(epoch.role == EPOCH_LEADING);
    ck_assert_ptr_nonnull(did(EPOCH_DO_LEAD));
}

START_TEST(an_earlier_epochs_entry_is_final_only_with_one_of_this_epoch)
{
    lead(5);
    hear_ack(2, 5); /* two of three hold entry 5: a higher epoch's log could still cut it */
    ck_assert_uint_eq(epoch.final, 0);
    ck_assert_ptr_null(did(EPOCH_DO_FINAL));
    hear_ack(3, 5);
    ck_assert_uint_eq(epoch.final, 0);
    append(6);
    ck_assert_uint_eq(epoch.final, 0);
    hear_ack(2, 6);
    ck_assert_uint_eq(epoch.final, 6);
    ck_assert_ptr_nonnull(did(EPOCH_DO_FINAL));
    ck_assert_uint_eq(said(2, EPOCH_APPEND)->final, 6); /* who follows may show it now */
    ck_assert_uint_eq(said(3, EPOCH_APPEND)->final, 6);
}
END_TEST

START_TEST(only_more_than_half_make_an_entry_final)
{
    lead(5);
    append(9);
    ck_assert_uint_eq(epoch.final, 0);
    hear_ack(3, 7);
    ck_assert_uint_eq(epoch.final, 7);
    hear_ack(3, 6); /* late */
    hear_ack(2, 8);
    ck_assert_uint_eq(epoch.final, 8);
    hear_ack(2, 10); /* nobody holds what was not offered yet */
    ck_assert_uint_eq(epoch.final, 8);
    struct epoch_message old = from(3, EPOCH_ACK);
    old.index = 9;
    old.ok = true;
    old.epoch = 1; /* of what it held in another epoch */
    hear(&old, true);
    ck_assert_uint_eq(epoch.final, 8);
}
END_TEST

START_TEST(a_round_is_confirmed_by_who_answers_it_or_a_later_one)
{
    lead(5);
    actions.count = 0;
    uint64_t first = epoch_ask_round(&epoch, ++now_ms, &actions);
    ck_assert_uint_eq(said(2, EPOCH_APPEND)->round, first);
    ck_assert_uint_eq(said(3, EPOCH_APPEND)->round, first);
    ck_assert(!epoch_confirmed(&epoch, first)); /* one of three: we ourselves */
    hear_ack(2, 5);                             /* of what was said before */
    ck_assert(!epoch_confirmed(&epoch, first));
    uint64_t second = epoch_ask_round(&epoch, ++now_ms, &actions);
    ck_assert_uint_gt(second, first);
    hear_round(2, second + 1, true); /* nobody answers what was not asked */
    ck_assert(!epoch_confirmed(&epoch, first));
    struct epoch_message old = from(2, EPOCH_ACK);
    old.round = second;
    old.epoch = 1;
    hear(&old, true);
    ck_assert(!epoch_confirmed(&epoch, first));
    hear_round(3, first, false); /* its log differs, and it follows us */
    ck_assert(epoch_confirmed(&epoch, first));
    ck_assert(!epoch_confirmed(&epoch, second));
    tick(); /* lost ones are asked again */
    ck_assert_uint_eq(said(2, EPOCH_APPEND)->round, second);
    hear_round(2, second, true);
    ck_assert(epoch_confirmed(&epoch, first) && epoch_confirmed(&epoch, second));
    struct epoch_message ask = from(2, EPOCH_ASK);
    ask.epoch = 9;
    hear(&ask, true);
    ck_assert(!epoch_confirmed(&epoch, first)); /* deposed */
    actions.count = 0;
    ck_assert(!epoch_confirmed(&epoch, epoch_ask_round(&epoch, ++now_ms, &actions)));
    ck_assert_uint_eq(actions.count, 0);
}
END_TEST

START_TEST(a_newcomer_confirms_nothing_and_every_append_is_answered_with_its_round)
{
    lead(5);
    actions.count = 0;
    uint64_t round = epoch_ask_round(&epoch, ++now_ms, &actions);
    struct epoch_message newcomer = from(2, EPOCH_ACK);
    newcomer.full = false;
    newcomer.life = 77;
    newcomer.round = round;
    newcomer.ok = true;
    hear(&newcomer, true);
    ck_assert(!epoch_confirmed(&epoch, round));
    begin_member(5, 1);
    struct epoch_message append_new = from(3, EPOCH_APPEND);
    append_new.epoch = 4;
    append_new.index = 5;
    append_new.round = 12;
    hear(&append_new, true);
    ck_assert_uint_eq(said(3, EPOCH_ACK)->round, 12);
    append_new.round = 13;
    hear(&append_new, false);
    ck_assert_uint_eq(said(3, EPOCH_ACK)->round, 13);
}
END_TEST

START_TEST(what_a_lost_disk_said_is_not_said_by_the_new_one)
{
    lead(5);
    append(6);
    hear_ack(2, 6);
    ck_assert_uint_eq(epoch.final, 6);
    append(8);
    struct epoch_message newcomer = from(2, EPOCH_ACK);
    newcomer.life = 99; /* replica 2 has a new, empty disk */
    newcomer.full = false;
    hear(&newcomer, true);
    ck_assert_uint_eq(epoch.peers[2].life, 99);
    ck_assert(!epoch.peers[2].full);
    hear_ack(2, 8); /* its old disk's word, late */
    ck_assert_uint_eq(epoch.peers[2].life, 99);
    ck_assert_uint_eq(epoch.peers[2].match, 0);
    ck_assert_uint_eq(epoch.final, 6);
}
END_TEST

START_TEST(a_newcomer_counts_when_something_later_than_itself_is_final)
{
    lead(5);
    append(6);
    hear_ack(3, 6);
    struct epoch_message newcomer = from(2, EPOCH_ACK);
    newcomer.full = false;
    newcomer.ok = true;
    newcomer.index = 6;
    hear(&newcomer, true);
    ck_assert(epoch_wants_entry(&epoch));
    tick();
    ck_assert_uint_eq(said(2, EPOCH_APPEND)->admit, 0); /* nothing final is later than it */
    append(7);
    newcomer.index = 7;
    hear(&newcomer, true);
    ck_assert_uint_eq(epoch.final, 6); /* its copy does not count yet */
    hear_ack(3, 7);
    ck_assert_uint_eq(epoch.final, 7);
    ck_assert_uint_eq(said(2, EPOCH_APPEND)->admit, LIFE[2]);
    newcomer.full = true; /* it wrote down that it is one */
    hear(&newcomer, true);
    ck_assert(epoch.peers[2].full);
    ck_assert(!epoch_wants_entry(&epoch));
    append(8);
    hear_ack(2, 8);
    ck_assert_uint_eq(epoch.final, 8);
}
END_TEST

START_TEST(the_log_of_the_highest_epoch_is_taken_over_and_of_those_the_longest)
{
    begin_member(9, 1); /* longer, and of a lower epoch */
    epoch.highest = 4;
    claim(5);
    hear_promise(3, 7, 4);
    ck_assert(epoch.role == EPOCH_GATHERING);
    ck_assert_uint_eq(said(3, EPOCH_FETCH)->index, 0); /* from what is final, where all agree */
    struct epoch_message entries = from(3, EPOCH_ENTRIES);
    entries.carried = 4;
    hear(&entries, true);
    ck_assert_ptr_nonnull(did(EPOCH_DO_TAKE));
    ck_assert(epoch.role == EPOCH_GATHERING);
    entries.index = 4;
    entries.carried = 3;
    struct epoch_message other = entries;
    other.from = 2; /* nobody asked it */
    hear(&other, true);
    ck_assert_uint_eq(actions.count, 0);
    hear(&entries, true);
    ck_assert(epoch.role == EPOCH_LEADING);
    ck_assert_uint_eq(epoch.first, 8);

    begin_member(7, 4);
    epoch.highest = 4;
    claim(5);
    hear_promise(3, 9, 4);
    ck_assert(epoch.role == EPOCH_GATHERING);

    begin_member(9, 4);
    epoch.highest = 4;
    claim(5);
    hear_promise(3, 20, 3);
    ck_assert(epoch.role == EPOCH_LEADING);
}
END_TEST

START_TEST(newcomers_promises_are_enough_only_while_nothing_was_ever_final)
{
    for (int formed = 0; formed < 2; formed++) {
        begin(&(struct epoch_promise){.life = LIFE[SELF]}, 0, 0);
        claim(1);
        for (uint32_t r = 2; r <= 3; r++) {
            ck_assert(epoch.role == EPOCH_ASKING);
            struct epoch_message promise = from(r, EPOCH_PROMISE);
            promise.full = false;
            promise.formed = formed == 1 && r == 3;
            hear(&promise, true);
        }
        ck_assert(epoch.role == (formed == 1 ? EPOCH_ASKING : EPOCH_LEADING));
    }
}
END_TEST

START_TEST(a_promise_is_kept)
{
    begin_member(5, 1);
    struct epoch_message ask = from(2, EPOCH_ASK);
    ask.epoch = 7;
    hear(&ask, true);
    ck_assert(actions.items[0].act == EPOCH_DO_KEEP); /* on disk before the answer */
    ck_assert_uint_eq(said(2, EPOCH_PROMISE)->count, 5);
    ck_assert_uint_eq(epoch.promise.epoch, 7);
    ask.from = 3; /* another claimant of the same epoch */
    hear(&ask, true);
    ck_assert_uint_eq(said(3, EPOCH_REFUSE)->epoch, 7);
    ck_assert_uint_eq(epoch.promise.claimant, 2);
    struct epoch_message append_old = from(3, EPOCH_APPEND);
    append_old.epoch = 6;
    append_old.index = 5;
    append_old.carried = 1;
    hear(&append_old, true);
    ck_assert_ptr_null(did(EPOCH_DO_TAKE));
    ck_assert_uint_eq(said(3, EPOCH_REFUSE)->epoch, 7);
}
END_TEST

START_TEST(what_is_final_here_is_what_the_sequencer_says_and_we_hold)
{
    begin_member(5, 1);
    struct epoch_message carried = from(2, EPOCH_APPEND);
    carried.index = 5;
    carried.carried = 2;
    carried.final = 20;
    hear(&carried, false); /* our entry 5 is not the sequencer's */
    ck_assert_ptr_null(did(EPOCH_DO_TAKE));
    ck_assert(!said(2, EPOCH_ACK)->ok);
    ck_assert_uint_eq(epoch.final, 0);
    hear(&carried, true);
    ck_assert_ptr_nonnull(did(EPOCH_DO_TAKE));
    ck_assert_uint_eq(said(2, EPOCH_ACK)->index, 7);
    ck_assert_uint_eq(epoch.final, 7);
}
END_TEST

START_TEST(no_promise_on_disk_speaks_of_entries_that_are_not_there_yet)
{
    begin_member(5, 1);
    epoch.promise.full = false;
    epoch.promise.formed = false;
    struct epoch_message carried = from(2, EPOCH_APPEND);
    carried.epoch = 4; /* promised, admitted, two entries taken, seven final: all by one message */
    carried.admit = LIFE[SELF];
    carried.index = 5;
    carried.carried = 2;
    carried.final = 7;
    hear(&carried, true);
    ck_assert_uint_eq(epoch.final, 7);
    ck_assert(epoch.promise.full);
    uint64_t there = 5;
    uint32_t kept = 0;
    for (size_t i = 0; i < actions.count; i++) {
        there += actions.items[i].act == EPOCH_DO_TAKE ? 2 : 0;
        if (actions.items[i].act == EPOCH_DO_KEEP) {
            ck_assert_uint_le(actions.items[i].promise.final, there);
            ck_assert_uint_eq(actions.items[i].promise.epoch, 4);
            kept++;
        }
    }
    ck_assert_uint_eq(kept, 3);
    ck_assert_uint_eq(there, 7);
}
END_TEST

START_TEST(a_sequencer_that_no_majority_hears_stops)
{
    lead(5);
    append(6);
    for (int i = 0; i < 20; i++) { /* one of the others is enough */
        tick();
        hear_ack(3, 6);
    }
    ck_assert(epoch.role == EPOCH_LEADING);
    for (int i = 0; i < 12 && epoch.role == EPOCH_LEADING; i++) {
        tick();
    }
    ck_assert(epoch.role == EPOCH_FOLLOWING);
    ck_assert_ptr_nonnull(did(EPOCH_DO_STOP));
    hear_ack(2, 6);
    ck_assert_uint_eq(epoch.final, 6);

    lead(5);
    struct epoch_message refuse = from(2, EPOCH_REFUSE);
    refuse.epoch = 3; /* somebody leads a higher epoch */
    hear(&refuse, true);
    ck_assert(epoch.role == EPOCH_FOLLOWING);
    ck_assert_ptr_nonnull(did(EPOCH_DO_STOP));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("settlement epoch");
    TCase *rules = tcase_create("rules");
    tcase_add_test(rules, an_earlier_epochs_entry_is_final_only_with_one_of_this_epoch);
    tcase_add_test(rules, only_more_than_half_make_an_entry_final);
    tcase_add_test(rules, a_round_is_confirmed_by_who_answers_it_or_a_later_one);
    tcase_add_test(rules, a_newcomer_confirms_nothing_and_every_append_is_answered_with_its_round);
    tcase_add_test(rules, what_a_lost_disk_said_is_not_said_by_the_new_one);
    tcase_add_test(rules, a_newcomer_counts_when_something_later_than_itself_is_final);
    tcase_add_test(rules, the_log_of_the_highest_epoch_is_taken_over_and_of_those_the_longest);
    tcase_add_test(rules, newcomers_promises_are_enough_only_while_nothing_was_ever_final);
    tcase_add_test(rules, a_promise_is_kept);
    tcase_add_test(rules, what_is_final_here_is_what_the_sequencer_says_and_we_hold);
    tcase_add_test(rules, no_promise_on_disk_speaks_of_entries_that_are_not_there_yet);
    tcase_add_test(rules, a_sequencer_that_no_majority_hears_stops);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
