/* ledger_model_stake.c - the model of stakes, votes, slashing and challenges. See ledger_model.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "tests/harness/ledger_model.h"

enum { MINIMUM = 100, UNBONDING_MS = 60000, LEAVING_MAX = 8 };
#define SCALE UINT64_C(1000000000000)

static uint64_t grains(struct amount amount)
{
    struct amount out;
    CHECK(amount_mul_ratio(amount, 1, 1000000000, &out) == ERR_OK);
    return out.low;
}

void model_power(struct model *m)
{
    uint64_t *votes = m->votes_at[m->height + 1];
    uint64_t *validating = m->validating_at[m->height + 1];
    memset(votes, 0, PEOPLE * sizeof *votes);
    memset(validating, 0, PEOPLE * sizeof *validating);
    for (int who = 0; who < PEOPLE; who++) {
        uint64_t sum = 0;
        for (int role = 1; role < ROLES; role++) {
            sum += grains(m->bonds[who][role]);
        }
        validating[who] += grains(m->bonds[who][LEDGER_ROLE_VALIDATOR]);
        for (int to = 0; to < PEOPLE; to++) {
            sum += grains(m->delegations[who][to]);
            validating[to] += grains(m->delegations[who][to]);
        }
        votes[m->votes_to[who]] += sum;
    }
}

static uint64_t total(const uint64_t *of)
{
    uint64_t sum = 0;
    for (int who = 0; who < PEOPLE; who++) {
        sum += of[who];
    }
    return sum;
}

/* ---- positions ---------------------------------------------------------------------------------- */

static bool enough(struct amount amount)
{
    return amount_is_zero(amount) || amount_compare(amount, amount_from_open(MINIMUM)) >= 0;
}

bool model_bonded(const struct model *m, int who, int role)
{
    return amount_compare(m->bonds[who][role], amount_from_open(MINIMUM)) >= 0;
}

static struct amount *position_of(struct model *m, int who, int role, int validator)
{
    return validator == NOBODY ? &m->bonds[who][role] : &m->delegations[who][validator];
}

/* Spreads what is in the pool and not owed yet over all grains. */
static void spread(struct model *m)
{
    struct account_id pool;
    struct amount fresh;
    struct amount step;
    struct amount out;
    uint64_t all = 0;
    for (int who = 0; who < PEOPLE; who++) {
        for (int i = 0; i < PEOPLE; i++) {
            all += grains(m->delegations[who][i]) + (i < ROLES ? grains(m->bonds[who][i]) : 0);
        }
    }
    ledger_stakers_pool_id(&pool);
    CHECK(amount_sub(*model_purse(m, &pool), m->reward_owed, &fresh) == ERR_OK);
    if (amount_mul_ratio(fresh, SCALE, all, &step) != ERR_OK || amount_is_zero(step)) {
        return;
    }
    CHECK(amount_mul_ratio(step, all, SCALE, &out) == ERR_OK);
    CHECK(amount_add(out, amount_from_units(1), &out) == ERR_OK);
    CHECK(amount_add(m->reward_owed, amount_min(out, fresh), &m->reward_owed) == ERR_OK);
    CHECK(amount_add(m->reward_index, step, &m->reward_index) == ERR_OK);
}

/* Pays what a position has earned since it was last paid: of a delegation a tenth to the validator. */
static void reward(struct model *m, int who, int role, int validator)
{
    struct amount *paid_to = validator == NOBODY ? &m->bonds_paid_to[who][role]
                                                 : &m->delegations_paid_to[who][validator];
    struct account_id pool;
    struct amount due;
    ledger_stakers_pool_id(&pool);
    spread(m);
    CHECK(amount_sub(m->reward_index, *paid_to, &due) == ERR_OK);
    CHECK(amount_mul_ratio(due, grains(*position_of(m, who, role, validator)), SCALE, &due) ==
          ERR_OK);
    CHECK(amount_sub(m->reward_owed, due, &m->reward_owed) == ERR_OK);
    *paid_to = m->reward_index;
    if (validator != NOBODY) {
        struct amount commission = model_part_of(due, 1000);
        CHECK(amount_sub(due, commission, &due) == ERR_OK);
        CHECK(model_pay(m, &pool, &m->ids[validator], commission));
    }
    CHECK(model_pay(m, &pool, &m->ids[who], due));
}

static enum err grow(struct model *m, int who, int role, int validator, struct amount amount)
{
    struct amount *position = position_of(m, who, role, validator);
    struct account_id escrow;
    struct amount sum = AMOUNT_ZERO;
    ledger_bond_escrow_id(&m->ids[validator == NOBODY ? who : validator], (enum ledger_role)role,
                          &escrow);
    NEED(amount_add(*position, amount, &sum) == ERR_OK && enough(sum), ERR_RANGE);
    NEED(model_pay(m, &m->ids[who], &escrow, amount), ERR_FUNDS);
    reward(m, who, role, validator);
    *position = sum;
    model_power(m);
    return ERR_OK;
}

static enum err shrink(struct model *m, struct model_leaving leaving)
{
    struct amount *position = position_of(m, leaving.who, leaving.role, leaving.validator);
    struct amount rest = AMOUNT_ZERO;
    int same = 0;
    int at = m->leaving_count;
    for (int i = 0; i < m->leaving_count; i++) {
        const struct model_leaving *other = &m->leaving[i];
        bool gone = amount_is_zero(other->amount);
        at = gone ? i : at;
        same += !gone && other->who == leaving.who && other->role == leaving.role &&
                        other->validator == leaving.validator
                    ? 1
                    : 0;
    }
    NEED(amount_sub(*position, leaving.amount, &rest) == ERR_OK, ERR_FUNDS);
    NEED(enough(rest), ERR_RANGE);
    NEED(same < LEAVING_MAX, ERR_LIMIT);
    CHECK(at < ITEMS_MAX);
    m->leaving_count = at == m->leaving_count ? at + 1 : m->leaving_count;
    leaving.release_ms = m->now_ms + UNBONDING_MS;
    m->leaving[at] = leaving;
    reward(m, leaving.who, leaving.role, leaving.validator);
    *position = rest;
    model_power(m);
    return ERR_OK;
}

MODEL_RULE(bond, Bond)
{
    struct amount amount = AMOUNT_ZERO;
    NEED((int)a->role >= 1 && (int)a->role < ROLES, ERR_INVALID);
    NEED(model_amount(a->amount, &amount), ERR_INVALID);
    enum err err = grow(m, c->sender, (int)a->role, NOBODY, amount);
    m->bonded_once[c->sender] = m->bonded_once[c->sender] || err == ERR_OK;
    return err;
}

MODEL_RULE(unbond, Unbond)
{
    struct model_leaving leaving = {.who = c->sender, .role = (int)a->role, .validator = NOBODY};
    NEED((int)a->role >= 1 && (int)a->role < ROLES, ERR_INVALID);
    NEED(model_amount(a->amount, &leaving.amount), ERR_INVALID);
    return shrink(m, leaving);
}

MODEL_RULE(delegate, Delegate)
{
    int to = model_who(m, a->validator);
    struct amount amount = AMOUNT_ZERO;
    NEED(model_32(a->validator), ERR_INVALID);
    NEED(model_amount(a->amount, &amount), ERR_INVALID);
    NEED(to != c->sender, ERR_INVALID);
    NEED(to != NOBODY && model_bonded(m, to, LEDGER_ROLE_VALIDATOR), ERR_DENIED);
    enum err err = grow(m, c->sender, LEDGER_ROLE_VALIDATOR, to, amount);
    if (err == ERR_OK && m->delegated[c->sender][to] == 0) {
        m->delegated[c->sender][to] = ++m->delegated_count;
    }
    return err;
}

MODEL_RULE(undelegate, Undelegate)
{
    int from = model_who(m, a->validator);
    struct model_leaving leaving = {
        .who = c->sender, .role = LEDGER_ROLE_VALIDATOR, .validator = from};
    NEED(model_32(a->validator), ERR_INVALID);
    NEED(model_amount(a->amount, &leaving.amount), ERR_INVALID);
    NEED(from != NOBODY, ERR_FUNDS);
    return shrink(m, leaving);
}

MODEL_RULE(release, Release)
{
    int validator = a->validator.len == 0 ? NOBODY : model_who(m, a->validator);
    int role = (int)a->role;
    struct amount sum = AMOUNT_ZERO;
    struct account_id escrow;
    NEED(role >= 1 && role < ROLES, ERR_INVALID);
    NEED(a->validator.len == 0 || model_32(a->validator), ERR_INVALID);
    NEED(a->validator.len == 0 || role == LEDGER_ROLE_VALIDATOR, ERR_INVALID);
    for (int i = 0; i < m->leaving_count; i++) {
        struct model_leaving *item = &m->leaving[i];
        if (item->who == c->sender && item->role == role && item->validator == validator &&
            item->release_ms <= m->now_ms) {
            CHECK(amount_add(sum, item->amount, &sum) == ERR_OK);
            item->amount = AMOUNT_ZERO;
        }
    }
    ledger_bond_escrow_id(&m->ids[validator == NOBODY ? c->sender : validator],
                          (enum ledger_role)role, &escrow);
    NEED(!amount_is_zero(sum), ERR_CONFLICT);
    CHECK(model_pay(m, &escrow, &m->ids[c->sender], sum));
    return ERR_OK;
}

MODEL_RULE(claim_rewards, ClaimRewards)
{
    NEED(a->n_validators <= 64, ERR_LIMIT);
    for (size_t i = 0; i < a->n_validators; i++) {
        int to = model_who(m, a->validators[i]);
        NEED(model_32(a->validators[i]), ERR_INVALID);
        NEED(to != NOBODY && m->delegated[c->sender][to] != 0, ERR_NOT_FOUND);
    }
    NEED(a->n_validators > 0 || m->bonded_once[c->sender], ERR_NOT_FOUND);
    for (int role = 1; role < ROLES; role++) {
        reward(m, c->sender, role, NOBODY);
    }
    for (size_t i = 0; i < a->n_validators; i++) {
        reward(m, c->sender, LEDGER_ROLE_VALIDATOR, model_who(m, a->validators[i]));
    }
    return ERR_OK;
}

/* ---- governance --------------------------------------------------------------------------------- */

MODEL_RULE(delegate_votes, DelegateVotes)
{
    int to = a->to.len == 0 ? c->sender : model_who(m, a->to);
    NEED(a->to.len == 0 || model_32(a->to), ERR_INVALID);
    NEED(to != NOBODY && m->key[to] != NOBODY, ERR_NOT_FOUND);
    m->votes_to[c->sender] = to;
    model_power(m);
    return ERR_OK;
}

static bool above(const struct model *m, int who)
{
    return m->votes_at[m->height + 1][who] >= UINT64_C(10000) * 1000000000;
}

MODEL_RULE(propose, Propose)
{
    struct model_proposal proposal = {
        .id = c->tx, .proposer = c->sender, .snapshot = m->height + 3, .end = m->height + 6};
    char again[16];
    int open = 0;
    NEED(MODEL_TEXT(a->title, 128), ERR_INVALID);
    NEED(a->n_changes >= 1 && a->n_changes <= 16, ERR_LIMIT);
    CHECK(a->n_changes == 1);
    NEED(strcmp(a->changes[0]->name, "treasury_payout_bp") == 0, ERR_INVALID);
    proposal.value = (uint32_t)strtoul(a->changes[0]->value, NULL, 10);
    (void)snprintf(again, sizeof again, "%u", proposal.value);
    NEED(strcmp(again, a->changes[0]->value) == 0, ERR_INVALID);
    NEED(proposal.value <= 10000, ERR_RANGE);
    NEED(above(m, c->sender), ERR_DENIED);
    for (int i = 0; i < m->proposal_count; i++) {
        const struct model_proposal *other = &m->proposals[i];
        bool is_open = other->end > m->height && other->outcome != CANCELLED;
        NEED(!is_open || other->proposer != c->sender, ERR_CONFLICT);
        open += is_open ? 1 : 0;
    }
    NEED(open < 16, ERR_LIMIT);
    CHECK(m->proposal_count < ITEMS_MAX);
    m->proposals[m->proposal_count++] = proposal;
    return ERR_OK;
}

enum stage { PENDING, ACTIVE, SUCCEEDED, QUEUED_NOW, OVER };

static enum stage stage_of(const struct model *m, const struct model_proposal *p)
{
    uint64_t all = total(m->votes_at[p->snapshot]);
    if (p->outcome == EXECUTED || p->outcome == CANCELLED) {
        return OVER;
    }
    if (p->outcome == WAITING) {
        return m->now_ms < p->expires_ms ? QUEUED_NOW : OVER;
    }
    if (m->height < p->snapshot) {
        return PENDING;
    }
    if (m->height < p->end) {
        return ACTIVE;
    }
    /* For and abstain are a fifth of all stake, rounded up, and there is more for than against. */
    return p->sums[2] > p->sums[1] && p->sums[2] + p->sums[3] >= (all + 4) / 5 ? SUCCEEDED : OVER;
}

static enum err proposal_of(struct model *m, ProtobufCBinaryData id, struct model_proposal **out)
{
    NEED(model_32(id), ERR_INVALID);
    for (int i = 0; i < m->proposal_count; i++) {
        if (memcmp(m->proposals[i].id.bytes, id.data, DIGEST_SIZE) == 0) {
            *out = &m->proposals[i];
            return ERR_OK;
        }
    }
    return ERR_NOT_FOUND;
}

MODEL_RULE(vote, Vote)
{
    struct model_proposal *p = NULL;
    enum err err = proposal_of(m, a->proposal, &p);
    NEED(err == ERR_OK, err);
    NEED(stage_of(m, p) == ACTIVE, ERR_CONFLICT);
    NEED((int)a->choice >= 1 && (int)a->choice <= 3, ERR_INVALID);
    NEED(!p->voted[c->sender], ERR_CONFLICT);
    NEED(m->votes_at[p->snapshot][c->sender] > 0, ERR_DENIED);
    p->voted[c->sender] = true;
    p->sums[a->choice] += m->votes_at[p->snapshot][c->sender];
    return ERR_OK;
}

MODEL_RULE(queue_proposal, QueueProposal)
{
    struct model_proposal *p = NULL;
    enum err err = proposal_of(m, a->proposal, &p);
    (void)c;
    NEED(err == ERR_OK, err);
    NEED(stage_of(m, p) == SUCCEEDED, ERR_CONFLICT);
    p->outcome = WAITING;
    p->eta_ms = m->now_ms + 5000;
    p->expires_ms = p->eta_ms + 60000;
    return ERR_OK;
}

MODEL_RULE(execute_proposal, ExecuteProposal)
{
    struct model_proposal *p = NULL;
    enum err err = proposal_of(m, a->proposal, &p);
    (void)c;
    NEED(err == ERR_OK, err);
    NEED(stage_of(m, p) == QUEUED_NOW, ERR_CONFLICT);
    NEED(m->now_ms >= p->eta_ms, ERR_CONFLICT);
    p->outcome = EXECUTED;
    m->treasury_bp = p->value;
    return ERR_OK;
}

MODEL_RULE(cancel_proposal, CancelProposal)
{
    struct model_proposal *p = NULL;
    enum err err = proposal_of(m, a->proposal, &p);
    NEED(err == ERR_OK, err);
    NEED(stage_of(m, p) != OVER, ERR_CONFLICT);
    NEED(p->proposer == c->sender || !above(m, p->proposer), ERR_DENIED);
    p->outcome = CANCELLED;
    return ERR_OK;
}

/* ---- slashing ----------------------------------------------------------------------------------- */

static void cut(struct amount *position, uint32_t bp, struct amount *sum)
{
    struct amount part = model_part_of(*position, bp);
    CHECK(amount_sub(*position, part, position) == ERR_OK);
    CHECK(amount_add(*sum, part, sum) == ERR_OK);
}

/* What it has earned is paid before. */
static void stake_cut(struct model *m, int who, int role, int validator, uint32_t bp,
                      struct amount *sum)
{
    struct amount *position = position_of(m, who, role, validator);
    if (!amount_is_zero(model_part_of(*position, bp))) {
        reward(m, who, role, validator);
        cut(position, bp, sum);
    }
}

/* NOLINTNEXTLINE(readability-function-size): the parameters are those of a slash */
bool model_slash(struct model *m, int who, int role, uint32_t bp, int reporter, int harmed,
                 struct amount harmed_max)
{
    struct amount sum = AMOUNT_ZERO;
    struct account_id escrow;
    struct account_id pool;
    stake_cut(m, who, role, NOBODY, bp, &sum);
    for (uint32_t order = 1; order <= m->delegated_count; order++) {
        for (int i = 0; i < PEOPLE && role == LEDGER_ROLE_VALIDATOR; i++) {
            if (m->delegated[i][who] == order) {
                stake_cut(m, i, role, who, bp, &sum);
            }
        }
    }
    for (int i = 0; i < m->leaving_count; i++) {
        struct model_leaving *item = &m->leaving[i];
        if (item->role == role &&
            ((item->who == who && item->validator == NOBODY) || item->validator == who)) {
            cut(&item->amount, bp, &sum);
        }
    }
    if (amount_is_zero(sum)) {
        return false;
    }
    struct amount first = model_part_of(sum, 1000);
    struct amount rest;
    CHECK(amount_sub(sum, first, &rest) == ERR_OK);
    struct amount second = harmed == NOBODY ? AMOUNT_ZERO : amount_min(rest, harmed_max);
    CHECK(amount_sub(rest, second, &rest) == ERR_OK);
    ledger_bond_escrow_id(&m->ids[who], (enum ledger_role)role, &escrow);
    ledger_stakers_pool_id(&pool);
    CHECK(model_pay(m, &escrow, &m->ids[reporter], first));
    CHECK(harmed == NOBODY || model_pay(m, &escrow, &m->ids[harmed], second));
    CHECK(model_pay(m, &escrow, &pool, rest));
    model_power(m);
    return true;
}

/* ---- challenges --------------------------------------------------------------------------------- */

MODEL_RULE(challenge_job, ChallengeJob)
{
    int at = model_job_find(m, a->job);
    struct account_id escrow;
    int open = 0;
    NEED(model_32(a->job), ERR_INVALID);
    NEED(at != NOBODY, ERR_NOT_FOUND);
    NEED(MODEL_TEXT(a->reason, 256), ERR_INVALID);
    NEED(model_bonded(m, c->sender, LEDGER_ROLE_VALIDATOR), ERR_DENIED);
    struct model_job *job = &m->jobs[at];
    NEED(job->state == DONE, ERR_CONFLICT);
    NEED(m->now_ms - job->done_ms < 100000, ERR_CONFLICT);
    NEED(job->challenge == NEVER || job->challenge == UNDECIDED, ERR_CONFLICT);
    for (int i = 0; i < m->job_count; i++) {
        bool is_open = m->jobs[i].challenge == OPEN && m->jobs[i].end > m->height;
        NEED(!is_open || m->jobs[i].challenger != c->sender, ERR_CONFLICT);
        open += is_open ? 1 : 0;
    }
    NEED(open < 16, ERR_LIMIT);
    ledger_challenge_escrow_id(&c->tx, &escrow);
    NEED(model_pay(m, &m->ids[c->sender], &escrow, amount_from_open(100)), ERR_FUNDS);
    job->challenge = OPEN;
    job->challenge_id = c->tx;
    job->challenger = c->sender;
    job->snapshot = m->height + 1;
    job->end = m->height + 6;
    job->failed = 0;
    job->sound = 0;
    memset(job->attested, 0, sizeof job->attested);
    return ERR_OK;
}

static void challenge_end(struct model *m, struct model_job *job, enum challenge_state state,
                          int to)
{
    struct account_id escrow;
    job->challenge = state;
    ledger_challenge_escrow_id(&job->challenge_id, &escrow);
    CHECK(model_pay(m, &escrow, &m->ids[to], amount_from_open(100)));
}

static bool two_thirds(uint64_t part, uint64_t all)
{
    struct amount has;
    struct amount needs;
    CHECK(amount_mul(amount_from_units(part), 10000, &has) == ERR_OK);
    CHECK(amount_mul(amount_from_units(all), 6667, &needs) == ERR_OK);
    return amount_compare(has, needs) >= 0;
}

MODEL_RULE(attest_job, AttestJob)
{
    int at = model_job_find(m, a->job);
    NEED(model_32(a->job), ERR_INVALID);
    NEED(at != NOBODY && m->jobs[at].challenge == OPEN, ERR_NOT_FOUND);
    struct model_job *job = &m->jobs[at];
    NEED(m->height >= job->snapshot && m->height < job->end, ERR_CONFLICT);
    uint64_t all = total(m->validating_at[job->snapshot]);
    uint64_t mine = m->validating_at[job->snapshot][c->sender];
    NEED(mine > 0, ERR_DENIED);
    NEED(!job->attested[c->sender], ERR_CONFLICT);
    job->attested[c->sender] = true;
    *(a->failed ? &job->failed : &job->sound) += mine;
    if (two_thirds(job->failed, all)) {
        job->state = REFUTED;
        for (int i = 0; i < m->adapter_count; i++) {
            if (m->adapters[i].job == at && m->adapters[i].revoked_ms == 0) {
                m->adapters[i].revoked_ms = m->now_ms + 600000;
            }
        }
        challenge_end(m, job, UPHELD, job->challenger);
        (void)model_slash(m, job->trainer, LEDGER_ROLE_TRAINER, 5000, job->challenger,
                          job->developer, job->fee);
    } else if (!two_thirds(all - job->sound, all)) {
        challenge_end(m, job, SOUND, job->trainer);
    }
    return ERR_OK;
}

MODEL_RULE(close_challenge, CloseChallenge)
{
    int at = model_job_find(m, a->job);
    (void)c;
    NEED(model_32(a->job), ERR_INVALID);
    NEED(at != NOBODY && m->jobs[at].challenge == OPEN, ERR_NOT_FOUND);
    NEED(m->height >= m->jobs[at].end, ERR_CONFLICT);
    challenge_end(m, &m->jobs[at], UNDECIDED, m->jobs[at].challenger);
    return ERR_OK;
}
