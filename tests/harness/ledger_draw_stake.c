/* ledger_draw_stake.c - draws what has to do with stakes, votes, receipts and evidence. See ledger_draw.h. */
#include <stdio.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/proof.h"
#include "tests/harness/ledger_draw_inside.h"

enum { PROMPT = 10, COMPLETION = 20 };

/* ---- stakes ------------------------------------------------------------------------------------- */

DRAW(bond, Bond)
{
    static const int WHO[] = {NOBODY, WORLD_TRAINER, WORLD_ATTRIBUTION, WORLD_GATEWAY, SEQUENCER};
    int role = draw_wrong() ? draw_to(6) : 1 + draw_to(4);
    int who = WHO[draw_to(5)];
    draw_sender(d, who);
    role = who == NOBODY || draw_wrong() ? role
           : who == WORLD_TRAINER        ? LEDGER_ROLE_TRAINER
           : who == WORLD_ATTRIBUTION    ? LEDGER_ROLE_ATTRIBUTION
           : who == WORLD_GATEWAY        ? LEDGER_ROLE_GATEWAY
                                         : LEDGER_ROLE_VALIDATOR;
    a->role = (Openledger__V1__Role)role;
    a->amount = draw_wrong() ? draw_amount(d, 1, 99) : draw_amount(d, 100, 20000);
}

DRAW(unbond, Unbond)
{
    int role = 1 + draw_to(4);
    char text[AMOUNT_TEXT_SIZE];
    int who = draw_to(PEOPLE);
    for (int i = 0; i < 20 && amount_is_zero(d->m->bonds[who][role]); i++) {
        who = draw_to(PEOPLE);
    }
    draw_sender(d, who);
    a->role = (Openledger__V1__Role)role;
    a->amount = draw_odds(20) ? draw_text(d, "%s", amount_format(d->m->bonds[who][role], text))
                              : draw_amount(d, 1, 5000);
}

static int validator(const struct draw *d)
{
    int who = draw_to(PEOPLE);
    for (int i = 0; i < 20 && amount_is_zero(d->m->bonds[who][LEDGER_ROLE_VALIDATOR]); i++) {
        who = draw_to(PEOPLE);
    }
    return who;
}

DRAW(delegate, Delegate)
{
    a->validator = draw_person(d, validator(d));
    a->amount = draw_amount(d, 90, 3000);
}

static bool delegation(const struct draw *d, int *from, int *to)
{
    for (int i = 0; i < 60; i++) {
        *from = draw_to(PEOPLE);
        *to = draw_to(PEOPLE);
        if (!amount_is_zero(d->m->delegations[*from][*to])) {
            return true;
        }
    }
    return false;
}

DRAW(undelegate, Undelegate)
{
    int from;
    int to;
    (void)delegation(d, &from, &to);
    draw_sender(d, from);
    a->validator = draw_person(d, to);
    a->amount = draw_amount(d, 50, 1500);
}

static bool leaving_due(const struct model *m, int at)
{
    return !amount_is_zero(m->leaving[at].amount) && m->leaving[at].release_ms <= m->now_ms;
}

DRAW(release, Release)
{
    int at = draw_recent(d, d->m->leaving_count, leaving_due);
    const struct model_leaving *item = at == NOBODY ? NULL : &d->m->leaving[at];
    draw_sender(d, item == NULL ? NOBODY : item->who);
    a->role = (Openledger__V1__Role)(item == NULL || draw_wrong() ? draw_to(6) : item->role);
    if (item != NULL && item->validator != NOBODY) {
        a->validator = ledger_binary(d->m->ids[item->validator].bytes, ACCOUNT_ID_SIZE);
    }
}

DRAW(claim_rewards, ClaimRewards)
{
    static ProtobufCBinaryData one;
    int from;
    int to;
    if (delegation(d, &from, &to) && draw_odds(60)) {
        draw_sender(d, from);
        one = draw_person(d, to);
        a->validators = &one;
        a->n_validators = 1;
    }
}

/* ---- governance --------------------------------------------------------------------------------- */

DRAW(delegate_votes, DelegateVotes)
{
    if (draw_odds(70)) {
        a->to = draw_person(d, draw_odds(50) ? d->call.sender : NOBODY);
    }
}

static int voter(const struct draw *d, uint64_t height)
{
    int best = draw_to(PEOPLE);
    for (int i = 0; i < 20 && d->m->votes_at[height][best] < UINT64_C(10000) * 1000000000; i++) {
        best = draw_to(PEOPLE);
    }
    return best;
}

DRAW(propose, Propose)
{
    static Openledger__V1__ParameterChange change;
    static Openledger__V1__ParameterChange *pointers[1] = {&change};
    change = (Openledger__V1__ParameterChange)OPENLEDGER__V1__PARAMETER_CHANGE__INIT;
    change.name = draw_text(d, "%s", draw_wrong() ? "no_such_parameter" : "treasury_payout_bp");
    change.value = draw_text(d, "%d", draw_wrong() ? 10001 : 1000 + draw_to(5000));
    draw_sender(d, voter(d, d->m->height + 1));
    a->title = draw_text(d, "A title");
    a->n_changes = draw_wrong() ? 0 : 1;
    a->changes = pointers;
}

static bool proposal_votable(const struct model *m, int at)
{
    return m->proposals[at].outcome == NONE && m->height >= m->proposals[at].snapshot &&
           m->height < m->proposals[at].end;
}

DRAW(vote, Vote)
{
    int at = draw_recent(d, d->m->proposal_count, proposal_votable);
    if (at != NOBODY) {
        draw_sender(d, voter(d, d->m->proposals[at].snapshot));
    }
    a->proposal = draw_digest(d, at == NOBODY ? NULL : &d->m->proposals[at].id);
    a->choice = (Openledger__V1__VoteChoice)(draw_wrong()    ? draw_to(5)
                                             : draw_odds(70) ? 2
                                                             : 1 + draw_to(3));
}

static bool proposal_ended(const struct model *m, int at)
{
    return m->proposals[at].outcome == NONE && m->height >= m->proposals[at].end &&
           m->proposals[at].sums[2] > 0;
}

static bool proposal_queued(const struct model *m, int at)
{
    return m->proposals[at].outcome == WAITING && m->now_ms < m->proposals[at].expires_ms;
}

static bool proposal_open(const struct model *m, int at)
{
    return m->proposals[at].outcome == NONE && m->height < m->proposals[at].end;
}

DRAW(queue_proposal, QueueProposal)
{
    int at = draw_recent(d, d->m->proposal_count, proposal_ended);
    a->proposal = draw_digest(d, at == NOBODY ? NULL : &d->m->proposals[at].id);
}

DRAW(execute_proposal, ExecuteProposal)
{
    int at = draw_recent(d, d->m->proposal_count, proposal_queued);
    a->proposal = draw_digest(d, at == NOBODY ? NULL : &d->m->proposals[at].id);
}

DRAW(cancel_proposal, CancelProposal)
{
    int at = draw_recent(d, d->m->proposal_count, proposal_open);
    draw_sender(d, at == NOBODY || draw_odds(70) ? NOBODY : d->m->proposals[at].proposer);
    a->proposal = draw_digest(d, at == NOBODY ? NULL : &d->m->proposals[at].id);
}

/* ---- challenges --------------------------------------------------------------------------------- */

static bool job_fresh(const struct model *m, int at)
{
    const struct model_job *job = &m->jobs[at];
    return job->state == DONE && m->now_ms - job->done_ms < 100000 &&
           (job->challenge == NEVER || job->challenge == UNDECIDED);
}

static bool job_challenged(const struct model *m, int at)
{
    return m->jobs[at].challenge == OPEN && m->height < m->jobs[at].end;
}

static bool job_forgotten(const struct model *m, int at)
{
    return m->jobs[at].challenge == OPEN && m->height >= m->jobs[at].end;
}

DRAW(challenge_job, ChallengeJob)
{
    int at = draw_recent(d, d->m->job_count, job_fresh);
    draw_sender(d, validator(d));
    a->job = draw_digest(d, at == NOBODY ? NULL : &d->m->jobs[at].id);
}

DRAW(attest_job, AttestJob)
{
    int at = draw_recent(d, d->m->job_count, job_challenged);
    draw_sender(d, validator(d));
    a->job = draw_digest(d, at == NOBODY ? NULL : &d->m->jobs[at].id);
    a->failed = at != NOBODY && (at % 2 == 0) != draw_wrong(); /* they agree about a job, mostly */
}

DRAW(close_challenge, CloseChallenge)
{
    int at = draw_recent(d, d->m->job_count, job_forgotten);
    a->job = draw_digest(d, at == NOBODY ? NULL : &d->m->jobs[at].id);
}

/* ---- grants and receipts ------------------------------------------------------------------------ */

DRAW(open_grant, OpenGrant)
{
    draw_sender(d, WORLD_PAYER);
    a->gateway = draw_person(d, WORLD_GATEWAY);
    a->limit = draw_amount(d, 2, 50);
    a->expires_ms = draw_expiry(d, 200);
}

static bool grant_open(const struct model *m, int at)
{
    return !m->grants[at].closed && m->now_ms < m->grants[at].expires_ms &&
           m->grants[at].leases < 14;
}

static bool grant_over(const struct model *m, int at)
{
    return !m->grants[at].closed && m->now_ms >= m->grants[at].expires_ms + 10000;
}

static bool grant_leased(const struct model *m, int at)
{
    return !m->grants[at].closed && m->grants[at].leases > 0 &&
           m->grants[at].gateway == WORLD_GATEWAY;
}

DRAW(open_lease, OpenLease)
{
    int at = draw_recent(d, d->m->grant_count, grant_open);
    const struct model_grant *grant = at == NOBODY ? NULL : &d->m->grants[at];
    draw_sender(d, grant == NULL ? NOBODY : grant->gateway);
    a->grant = draw_digest(d, grant == NULL || grant->leases >= 15 ? NULL : &grant->id);
    a->lease = (grant == NULL ? 1 : grant->leases + 1) + (draw_wrong() ? 1 : 0);
    a->amount = draw_odds(20) ? draw_text(d, "0.1") : draw_amount(d, 1, 10);
}

DRAW(close_grant, CloseGrant)
{
    int at = draw_recent(d, d->m->grant_count, grant_over);
    const struct model_grant *grant = at == NOBODY ? NULL : &d->m->grants[at];
    draw_sender(d, grant == NULL ? NOBODY : draw_odds(50) ? grant->payer : grant->gateway);
    a->grant = draw_digest(d, grant == NULL ? NULL : &grant->id);
}

/* The world keeps few blobs: older ones go. */
static void blobs_make_room(struct world *world, size_t room)
{
    if (world->blob_count + room > WORLD_BLOBS_MAX) {
        for (size_t i = 0; i < world->blob_count; i++) {
            buf_deinit(&world->blobs[i]);
        }
        world->blob_count = 0;
    }
}

/* What PROMPT and COMPLETION tokens cost now, as the model sees it. */
static const char *fee_now(const struct draw *d, int adapter, char out[AMOUNT_TEXT_SIZE])
{
    const struct model_adapter *of = &d->m->adapters[adapter];
    uint32_t i = of->price_count - 1;
    struct amount fee;
    struct amount part;
    while (i > 0 && of->prices[i].from_ms > d->m->now_ms) {
        i--;
    }
    CHECK(amount_mul(of->prices[i].prompt, PROMPT, &fee) == ERR_OK);
    CHECK(amount_mul(of->prices[i].completion, COMPLETION, &part) == ERR_OK);
    CHECK(amount_add(fee, part, &fee) == ERR_OK);
    return amount_format(fee, out);
}

static const struct digest NO_GRANT = {{1}};

/* A batch of the gateway's; its receipts' fee is right or wrong. */
static struct digest batch(struct draw *d, int grant, int adapter, uint64_t first, size_t count,
                           bool right)
{
    struct world *world = d->m->world;
    char fee[AMOUNT_TEXT_SIZE];
    blobs_make_room(world, 1);
    world->grant = grant == NOBODY ? NO_GRANT : d->m->grants[grant].id;
    world->adapter = adapter == NOBODY ? "nothing" : d->m->adapters[adapter].name;
    return world_receipts(world, first, count, PROMPT, COMPLETION,
                          adapter == NOBODY ? "0.01"
                          : right           ? fee_now(d, adapter, fee)
                                            : "0.123",
                          NULL);
}

static bool adapter_served(const struct model *m, int at)
{
    return m->adapters[at].revoked_ms == 0 || m->now_ms < m->adapters[at].revoked_ms;
}

DRAW(settle_receipts, SettleReceipts)
{
    int grant = draw_recent(d, d->m->grant_count, grant_leased);
    int adapter = draw_recent(d, d->m->adapter_count, adapter_served);
    uint64_t next =
        grant == NOBODY || d->m->grants[grant].leases == 0 ? 1 : d->m->grants[grant].lease[0].next;
    struct digest digest = batch(d, grant, adapter, next + (draw_wrong() ? 1 : 0),
                                 1 + (size_t)draw_to(2), !draw_wrong());
    a->batch = draw_digest(d, &digest);
}

static bool receipt_waits(const struct model *m, int at)
{
    return m->receipts[at].waiting && m->adapters[m->receipts[at].adapter].indexed;
}

/* Has the person rows in the version that the receipt's adapter was trained on? */
static bool contributed(const struct model *m, int receipt, int who)
{
    const struct model_job *job = &m->jobs[m->adapters[m->receipts[receipt].adapter].job];
    for (int i = 0; i < m->version_count; i++) {
        if (m->versions[i].net == job->net && m->versions[i].version == job->version) {
            return m->versions[i].rows[who] > 0;
        }
    }
    return false;
}

DRAW(settle_shares, SettleShares)
{
    int at = draw_recent(d, d->m->receipt_count, receipt_waits);
    struct digest receipt = at == NOBODY ? NO_GRANT : d->m->receipts[at].id;
    uint32_t parts[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        bool in = at != NOBODY && contributed(d->m, at, WORLD_ALICE + i);
        parts[i] = in != draw_wrong() ? 1 + (uint32_t)draw_to(LEDGER_SHARE_TOTAL / 3) : 0;
    }
    blobs_make_room(d->m->world, 2);
    struct digest digest = world_shares(d->m->world, &receipt, 1, parts[0], parts[1]);
    a->batch = draw_digest(d, &digest);
}

/* ---- evidence ----------------------------------------------------------------------------------- */

static struct ledger_signed_item items[2];

static Openledger__V1__SignedItem *item_of(struct draw *d, int which, const struct digest *name)
{
    const struct world *world = d->m->world;
    size_t at = world->blob_count;
    while (at > 0 && !digest_equal(&world->blob_names[at - 1], name)) {
        at--;
    }
    CHECK(at > 0);
    CHECK(ledger_signed_item(buf_bytes(&world->blobs[at - 1]), false, 0, &items[which], NULL) ==
          ERR_OK);
    return &items[which].message;
}

DRAW(report_conflict, ReportConflict)
{
    int grant = draw_recent(d, d->m->grant_count, NULL);
    int adapter = draw_recent(d, d->m->adapter_count, NULL);
    uint64_t number = 1 + (uint64_t)draw_to(40);
    blobs_make_room(d->m->world, 2);
    struct digest first = batch(d, grant, adapter, number, 1, true);
    struct digest second =
        batch(d, grant, adapter, number + (draw_wrong() ? 1 : 0), 1, draw_wrong());
    draw_sender(d, draw_wrong() ? WORLD_GATEWAY : NOBODY);
    a->first = item_of(d, 0, &first);
    a->second = item_of(d, 1, &second);
}

DRAW(report_invalid, ReportInvalid)
{
    int grant = draw_recent(d, d->m->grant_count, NULL);
    int adapter = draw_recent(d, d->m->adapter_count, NULL);
    struct digest name = batch(d, grant, adapter, 1 + (uint64_t)draw_to(40), 1, draw_odds(30));
    draw_sender(d, draw_wrong() ? WORLD_GATEWAY : NOBODY);
    a->item = item_of(d, 0, &name);
}

DRAW(report_checkpoints, ReportCheckpoints)
{
    struct ledger_head head;
    uint64_t height = 1 + (uint64_t)draw_to(30);
    ledger_head(d->m->world->ledger, &head);
    for (int i = 0; i < 2; i++) {
        struct digest root = {{(uint8_t)(draw_wrong() ? 0 : i + 1)}};
        buf_clear(&d->notes[i]);
        CHECK(ledger_checkpoint_sign(&head.chain_id, height + (draw_wrong() ? 1 : 0), &root,
                                     d->m->world->sequencer, &d->notes[i]) == ERR_OK);
    }
    draw_sender(d, draw_wrong() ? SEQUENCER : NOBODY);
    a->key = draw_key(d, draw_wrong() ? draw_to(KEYS) : SEQUENCER);
    a->first = ledger_binary(d->notes[0].data, d->notes[0].size);
    a->second = ledger_binary(d->notes[1].data, d->notes[1].size);
}
