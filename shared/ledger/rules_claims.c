/* rules_claims.c - claim what has vested, publish a root of claims, claim by Merkle proof, close.
 * README.md has the rules in words. */
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/machine.h"
#include "shared/ledger/tx.h"
#include "shared/merkle/merkle.h"

static const char VESTING_DOMAIN[] = "openledger/escrow/vesting/v1";
static const char CLAIMS_DOMAIN[] = "openledger/escrow/claims/v1";

enum { LEAF_MAX = 256 };

void ledger_vesting_escrow_id(const struct account_id *account, struct account_id *out_id)
{
    const struct bytes parts[] = {bytes_of(VESTING_DOMAIN, sizeof VESTING_DOMAIN),
                                  bytes_of(account->bytes, ACCOUNT_ID_SIZE)};
    struct digest digest;
    sha256_parts(parts, 2, &digest);
    memcpy(out_id->bytes, digest.bytes, ACCOUNT_ID_SIZE);
}

void ledger_claims_escrow_id(const struct digest *claims, struct account_id *out_id)
{
    const struct bytes parts[] = {bytes_of(CLAIMS_DOMAIN, sizeof CLAIMS_DOMAIN),
                                  digest_bytes(claims)};
    struct digest digest;
    sha256_parts(parts, 2, &digest);
    memcpy(out_id->bytes, digest.bytes, ACCOUNT_ID_SIZE);
}

/* ---- vesting ------------------------------------------------------------------------------------ */

const struct ledger_vesting *ledger_vesting(const struct ledger *ledger,
                                            const struct account_id *account)
{
    const struct ledger_vesting probe = {.account = *account};
    return state_get(ledger->state, STATE_VESTING, &probe);
}

struct amount ledger_vested(const struct ledger_vesting *vesting, uint64_t time_ms)
{
    struct amount vested;
    if (time_ms < vesting->cliff_at_ms) {
        return AMOUNT_ZERO;
    }
    uint64_t elapsed = time_ms - vesting->cliff_at_ms;
    if (elapsed >= vesting->vest_ms) {
        return vesting->total;
    }
    CHECK(amount_mul_ratio(vesting->total, elapsed, vesting->vest_ms, &vested) == ERR_OK);
    return vested;
}

enum err rule_claim_vested(struct step *step, const Openledger__V1__ClaimVested *action)
{
    (void)action;
    const struct ledger_vesting *found = ledger_vesting(step->ledger, &step->sender);
    if (found == NULL) {
        return note_set(step->note, ERR_NOT_FOUND, "account %s has no allocation that vests",
                        short_hex(step->sender.bytes).text);
    }
    struct account_id escrow;
    struct amount due;
    struct amount vested = ledger_vested(found, step->time_ms);
    CHECK(amount_sub(vested, found->claimed, &due) == ERR_OK);
    if (amount_is_zero(due)) {
        char has[AMOUNT_TEXT_SIZE];
        return note_set(step->note, ERR_CONFLICT,
                        "nothing is due: %s OPEN have vested, all of it is claimed",
                        amount_format(vested, has));
    }
    ((struct ledger_vesting *)state_edit(step->state, found))->claimed = vested;
    ledger_vesting_escrow_id(&step->sender, &escrow);
    return step_pay(step, &escrow, &step->sender, due, "vesting.claim", &step->tx);
}

/* ---- claims under a root ------------------------------------------------------------------------ */

const struct ledger_claims *ledger_claims(const struct ledger *ledger, const struct digest *id)
{
    const struct ledger_claims probe = {.id = *id};
    return state_get(ledger->state, STATE_CLAIMS, &probe);
}

bool ledger_is_claimed(const struct ledger *ledger, const struct digest *claims, uint32_t number)
{
    const struct ledger_claimed probe = {.claims = *claims, .number = number};
    return state_get(ledger->state, STATE_CLAIMED, &probe) != NULL;
}

enum err ledger_claim_leaf(const struct account_id *account, const char *amount, struct buf *out)
{
    Openledger__V1__ClaimLeaf leaf = OPENLEDGER__V1__CLAIM_LEAF__INIT;
    leaf.account = ledger_binary(account->bytes, ACCOUNT_ID_SIZE);
    union { /* protobuf-c has no const in its structs, but does not write either */
        const char *in;
        char *out;
    } text = {.in = amount};
    leaf.amount = text.out;
    return ledger_pack(&leaf.base, out);
}

enum err rule_publish_claims(struct step *step, const Openledger__V1__PublishClaims *action)
{
    struct ledger_claims claims = {.id = step->tx,
                                   .publisher = step->sender,
                                   .count = action->count,
                                   .expires_ms = action->expires_ms,
                                   .index = step->index};
    struct account_id escrow;
    enum err err = step_digest(step, action->root, "root", &claims.root);
    err = err ? err : step_amount(step, action->total, "total", &claims.total);
    err = err ? err : step_text(step, action->title, LEDGER_TITLE_MAX, "title", claims.title);
    if (err != ERR_OK) {
        return err;
    }
    if (claims.count == 0 || claims.count > LEDGER_CLAIMS_MAX) {
        return note_set(step->note, ERR_RANGE, "%u claims, allowed are 1 to %d", claims.count,
                        LEDGER_CLAIMS_MAX);
    }
    if (claims.expires_ms <= step->time_ms ||
        claims.expires_ms - step->time_ms > LEDGER_GRANT_MS_MAX) {
        return note_set(
            step->note, ERR_RANGE, "the claims expire at %llu, which is past or over %llu ms away",
            (unsigned long long)claims.expires_ms, (unsigned long long)LEDGER_GRANT_MS_MAX);
    }
    ledger_claims_escrow_id(&claims.id, &escrow);
    (void)state_add(step->state, STATE_CLAIMS, &claims);
    return step_pay(step, &step->sender, &escrow, claims.total, "claims.hold", &claims.id);
}

static enum err claims_take(struct step *step, ProtobufCBinaryData field,
                            const struct ledger_claims **out)
{
    struct digest id;
    enum err err = step_digest(step, field, "claims", &id);
    if (err != ERR_OK) {
        return err;
    }
    *out = ledger_claims(step->ledger, &id);
    if (*out == NULL) {
        return note_set(step->note, ERR_NOT_FOUND, "no claims %s", short_hex(id.bytes).text);
    }
    return (*out)->closed ? note_set(step->note, ERR_CONFLICT, "claims %s are closed",
                                     short_hex(id.bytes).text)
                          : ERR_OK;
}

/* Is (sender, amount) leaf number under the root? */
static enum err proof_check(struct step *step, const Openledger__V1__Claim *action,
                            const struct ledger_claims *claims)
{
    struct merkle_proof proof = {.leaf_index = action->number};
    const struct merkle_head head = {.leaf_count = claims->count, .root = claims->root};
    struct buf leaf;
    if (action->path.len % DIGEST_SIZE != 0 || action->path.len / DIGEST_SIZE > MERKLE_PATH_MAX) {
        return note_set(step->note, ERR_INVALID, "path has %zu bytes, not up to %d times %d",
                        action->path.len, MERKLE_PATH_MAX, DIGEST_SIZE);
    }
    proof.path_count = (uint32_t)(action->path.len / DIGEST_SIZE);
    for (uint32_t i = 0; i < proof.path_count; i++) {
        memcpy(proof.path[i].bytes, action->path.data + (size_t)i * DIGEST_SIZE, DIGEST_SIZE);
    }
    buf_init(&leaf, LEAF_MAX);
    CHECK(ledger_claim_leaf(&step->sender, action->amount, &leaf) == ERR_OK);
    bool fits = merkle_verify(&head, &proof, leaf.data, leaf.size);
    buf_deinit(&leaf);
    return fits ? ERR_OK
                : note_set(step->note, ERR_DENIED,
                           "the path does not show %s OPEN for this account as claim %u",
                           action->amount, action->number);
}

enum err rule_claim(struct step *step, const Openledger__V1__Claim *action)
{
    const struct ledger_claims *found = NULL;
    struct amount amount;
    enum err err = claims_take(step, action->claims, &found);
    err = err ? err : step_amount(step, action->amount, "amount", &amount);
    if (err != ERR_OK) {
        return err;
    }
    if (step->time_ms >= found->expires_ms) {
        return note_set(step->note, ERR_CONFLICT, "the claims expired at %llu ms",
                        (unsigned long long)found->expires_ms);
    }
    err = proof_check(step, action, found);
    if (err == ERR_OK && ledger_is_claimed(step->ledger, &found->id, action->number)) {
        err = note_set(step->note, ERR_CONFLICT, "claim %u was paid already", action->number);
    }
    if (err != ERR_OK) {
        return err;
    }
    struct amount paid;
    if (amount_add(found->paid, amount, &paid) != ERR_OK ||
        amount_compare(paid, found->total) > 0) {
        char has[AMOUNT_TEXT_SIZE];
        char before[AMOUNT_TEXT_SIZE];
        return note_set(step->note, ERR_FUNDS, "the claims have %s OPEN, %s of it are paid already",
                        amount_format(found->total, has), amount_format(found->paid, before));
    }
    struct account_id escrow;
    const struct ledger_claimed mark = {.claims = found->id, .number = action->number};
    struct ledger_claims *claims = state_edit(step->state, found);
    claims->paid = paid;
    claims->claimed++;
    (void)state_add(step->state, STATE_CLAIMED, &mark);
    ledger_claims_escrow_id(&mark.claims, &escrow);
    return step_pay(step, &escrow, &step->sender, amount, "claims.pay", &mark.claims);
}

enum err rule_close_claims(struct step *step, const Openledger__V1__CloseClaims *action)
{
    const struct ledger_claims *found = NULL;
    enum err err = claims_take(step, action->claims, &found);
    if (err != ERR_OK) {
        return err;
    }
    if (step->time_ms < found->expires_ms) {
        return note_set(step->note, ERR_CONFLICT, "the claims can be closed from %llu ms on",
                        (unsigned long long)found->expires_ms);
    }
    struct account_id escrow;
    struct amount rest;
    struct ledger_claims *claims = state_edit(step->state, found);
    claims->closed = true;
    CHECK(amount_sub(claims->total, claims->paid, &rest) == ERR_OK);
    ledger_claims_escrow_id(&claims->id, &escrow);
    return step_pay(step, &escrow, &claims->publisher, rest, "claims.rest", &claims->id);
}
