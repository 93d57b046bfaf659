/* rules_recovery.c - guardians: k of n accounts can give another account a new key, after a delay in
 * which its owner can object. README.md has the rules in words.
 *
 * There is no proposal that one guardian could occupy: each guardian says which key it wants, and a key
 * that enough of them want for long enough may complete the recovery. Only that key's holder can. */
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/machine.h"

const struct ledger_guardians *ledger_guardians(const struct ledger *ledger,
                                                const struct account_id *account)
{
    const struct ledger_guardians probe = {.account = *account};
    return state_get(ledger->state, STATE_GUARDIANS, &probe);
}

static enum err guardians_take(struct step *step, const Openledger__V1__SetGuardians *action,
                               struct ledger_guardians *out)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < action->n_guardians && err == ERR_OK; i++) {
        err = step_account(step, action->guardians[i], "guardian", &out->guardians[i]);
        if (err == ERR_OK && account_id_equal(&out->guardians[i], &step->sender)) {
            err = note_set(step->note, ERR_INVALID, "an account cannot guard itself");
        }
        if (err == ERR_OK && i > 0 &&
            memcmp(out->guardians[i - 1].bytes, out->guardians[i].bytes, ACCOUNT_ID_SIZE) >= 0) {
            err = note_set(step->note, ERR_INVALID, "guardians do not ascend");
        }
    }
    return err;
}

enum err rule_set_guardians(struct step *step, const Openledger__V1__SetGuardians *action)
{
    const size_t count = action->n_guardians;
    if (count > LEDGER_GUARDIANS_MAX) {
        return note_set(step->note, ERR_LIMIT, "%zu guardians, the limit is %d", count,
                        LEDGER_GUARDIANS_MAX);
    }
    if (action->threshold > count || (action->threshold == 0) != (count == 0)) {
        return note_set(step->note, ERR_RANGE, "threshold %u of %zu guardians", action->threshold,
                        count);
    }
    if (count == 0 ? action->delay_ms != 0
                   : action->delay_ms < LEDGER_RECOVERY_MS_MIN ||
                         action->delay_ms > LEDGER_RECOVERY_MS_MAX) {
        return note_set(
            step->note, ERR_RANGE, "delay %llu ms is not within %llu to %llu (0 with no guardians)",
            (unsigned long long)action->delay_ms, (unsigned long long)LEDGER_RECOVERY_MS_MIN,
            (unsigned long long)LEDGER_RECOVERY_MS_MAX);
    }
    struct ledger_guardians fresh = {.account = step->sender,
                                     .count = (uint32_t)count,
                                     .threshold = action->threshold,
                                     .delay_ms = action->delay_ms};
    enum err err = guardians_take(step, action, &fresh);
    if (err != ERR_OK) {
        return err;
    }
    const struct ledger_guardians *found = ledger_guardians(step->ledger, &step->sender);
    if (found == NULL) {
        (void)state_add(step->state, STATE_GUARDIANS, &fresh);
    } else {
        *(struct ledger_guardians *)state_edit(step->state, found) = fresh;
    }
    return ERR_OK;
}

enum err rule_approve_recovery(struct step *step, const Openledger__V1__ApproveRecovery *action)
{
    struct account_id account;
    struct public_key key;
    enum err err = step_account(step, action->account, "account", &account);
    err = err ? err : step_key(step, action->key, &key);
    if (err != ERR_OK) {
        return err;
    }
    const struct ledger_guardians *found = ledger_guardians(step->ledger, &account);
    for (uint32_t i = 0; found != NULL && i < found->count; i++) {
        if (account_id_equal(&found->guardians[i], &step->sender)) {
            if (found->approved_ms[i] != 0 && public_key_equal(&found->keys[i], &key)) {
                return note_set(step->note, ERR_CONFLICT, "the guardian approved this key already");
            }
            struct ledger_guardians *guardians = state_edit(step->state, found);
            guardians->keys[i] = key;
            guardians->approved_ms[i] = step->time_ms;
            return ERR_OK;
        }
    }
    return note_set(step->note, ERR_DENIED, "the sender is no guardian of %s",
                    short_hex(account.bytes).text);
}

static void approvals_clear(struct ledger_guardians *guardians)
{
    memset(guardians->keys, 0, sizeof guardians->keys);
    memset(guardians->approved_ms, 0, sizeof guardians->approved_ms);
}

/* When the threshold-th of the approvals for key was given; 0: there are fewer. */
static uint64_t approved_at(const struct ledger_guardians *guardians, const struct public_key *key)
{
    uint64_t times[LEDGER_GUARDIANS_MAX] = {0}; /* ascending */
    uint32_t count = 0;
    for (uint32_t i = 0; i < guardians->count; i++) {
        if (guardians->approved_ms[i] == 0 || !public_key_equal(&guardians->keys[i], key)) {
            continue;
        }
        uint32_t at = count++;
        for (; at > 0 && times[at - 1] > guardians->approved_ms[i]; at--) {
            times[at] = times[at - 1];
        }
        times[at] = guardians->approved_ms[i];
    }
    return count < guardians->threshold ? 0 : times[guardians->threshold - 1];
}

enum err rule_complete_recovery(struct step *step, const Openledger__V1__CompleteRecovery *action)
{
    struct public_key key;
    enum err err = step_key(step, action->key, &key);
    if (err != ERR_OK) {
        return err;
    }
    const struct ledger_account *account = ledger_account(step->ledger, &step->sender);
    const struct ledger_guardians *found = ledger_guardians(step->ledger, &step->sender);
    if (account == NULL || found == NULL || found->count == 0) {
        return note_set(step->note, ERR_NOT_FOUND, "account %s has no guardians",
                        short_hex(step->sender.bytes).text);
    }
    if (!step_signed_by(step, &step->sender, &key)) {
        return note_set(step->note, ERR_DENIED, "the new key did not sign");
    }
    if (public_key_equal(&account->key, &key)) {
        return note_set(step->note, ERR_CONFLICT, "this is the account's key already");
    }
    uint64_t since_ms = approved_at(found, &key);
    if (since_ms == 0) {
        return note_set(step->note, ERR_DENIED, "fewer than %u guardians approve this key",
                        found->threshold);
    }
    const uint64_t from_ms = since_ms + found->delay_ms;
    if (step->time_ms < from_ms) {
        return note_set(step->note, ERR_CONFLICT,
                        "the recovery can be completed from %llu ms, log time is %llu",
                        (unsigned long long)from_ms, (unsigned long long)step->time_ms);
    }
    approvals_clear(state_edit(step->state, found));
    key_replace(step, account, &key);
    return ERR_OK;
}

enum err rule_cancel_recovery(struct step *step, const Openledger__V1__CancelRecovery *action)
{
    (void)action;
    const struct ledger_guardians *found = ledger_guardians(step->ledger, &step->sender);
    for (uint32_t i = 0; found != NULL && i < found->count; i++) {
        if (found->approved_ms[i] != 0) {
            approvals_clear(state_edit(step->state, found));
            return ERR_OK;
        }
    }
    return note_set(step->note, ERR_NOT_FOUND, "no guardian has approved a key of this account");
}
