/* getters.c - see ledger.h: reading the state, and the account ids that are derived from names. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/machine.h"

void ledger_head(const struct ledger *ledger, struct ledger_head *out_head)
{
    *out_head = ledger->head;
}

const struct ledger_parameters *ledger_parameters(const struct ledger *ledger)
{
    const struct ledger_parameters *parameters = state_next(ledger->state, STATE_PARAMETERS, NULL);
    CHECK(parameters != NULL);
    return parameters;
}

const char *ledger_chain_name(const struct ledger *ledger)
{
    return ledger->chain_name;
}

const struct ledger_witnesses *ledger_witnesses(const struct ledger *ledger)
{
    return &ledger->witnesses;
}

struct bytes ledger_genesis(const struct ledger *ledger)
{
    return buf_bytes(&ledger->genesis);
}

void ledger_state_root(struct ledger *ledger, struct digest *out_root)
{
    state_root(ledger->state, out_root);
}

void ledger_state_root_slow(const struct ledger *ledger, struct digest *out_root)
{
    state_root_slow(ledger->state, out_root);
}

struct amount ledger_supply(const struct ledger *ledger)
{
    struct amount supply = AMOUNT_ZERO;
    const struct ledger_account *account = NULL;
    while ((account = ledger_next_account(ledger, account)) != NULL) {
        CHECK(amount_add(supply, account->balance, &supply) == ERR_OK);
    }
    CHECK(amount_equal(supply, amount_from_open(AMOUNT_SUPPLY_OPEN)));
    return supply;
}

/* A name too long to be one is not found; true when it fits. */
static bool name_copy(const char *name, char out[LEDGER_NAME_MAX + 1])
{
    size_t size = strnlen(name, LEDGER_NAME_MAX + 1);
    if (size > LEDGER_NAME_MAX) {
        return false;
    }
    memcpy(out, name, size);
    return true;
}

const struct ledger_account *ledger_account(const struct ledger *ledger,
                                            const struct account_id *id)
{
    return state_get(ledger->state, STATE_ACCOUNT, &(struct ledger_account){.id = *id});
}

struct amount ledger_bond(const struct ledger *ledger, const struct account_id *account,
                          enum ledger_role role)
{
    const struct ledger_bond *bond = ledger_bond_record(ledger, account, role);
    return bond == NULL ? AMOUNT_ZERO : bond->amount;
}

bool ledger_is_bonded(const struct ledger *ledger, const struct account_id *account,
                      enum ledger_role role)
{
    return amount_compare(ledger_bond(ledger, account, role),
                          ledger_parameters(ledger)->minimum_bond) >= 0;
}

const struct ledger_datanet *ledger_datanet(const struct ledger *ledger, const char *name)
{
    struct ledger_datanet probe = {0};
    return name_copy(name, probe.name) ? state_get(ledger->state, STATE_DATANET, &probe) : NULL;
}

bool ledger_may_review(const struct ledger_datanet *datanet, const struct account_id *account)
{
    bool may = account_id_equal(&datanet->owner, account);
    for (uint32_t i = 0; i < datanet->validator_count; i++) {
        may = may || account_id_equal(&datanet->validators[i], account);
    }
    return may;
}

const struct ledger_contribution *ledger_contribution(const struct ledger *ledger,
                                                      const struct digest *id)
{
    return state_get(ledger->state, STATE_CONTRIBUTION, &(struct ledger_contribution){.id = *id});
}

const struct ledger_version *ledger_version(const struct ledger *ledger, const char *datanet,
                                            uint32_t version)
{
    struct ledger_version probe = {.version = version};
    return name_copy(datanet, probe.datanet) ? state_get(ledger->state, STATE_VERSION, &probe)
                                             : NULL;
}

uint32_t ledger_version_rows(const struct ledger *ledger, const char *datanet, uint32_t version,
                             const struct account_id *account)
{
    struct ledger_version_contributor probe = {.version = version, .account = *account};
    const struct ledger_version_contributor *found =
        name_copy(datanet, probe.datanet)
            ? state_get(ledger->state, STATE_VERSION_CONTRIBUTOR, &probe)
            : NULL;
    return found == NULL ? 0 : found->row_count;
}

/* They were added together, in order: find the first, then walk. */
size_t ledger_version_contributors(const struct ledger *ledger, const char *datanet,
                                   uint32_t version, struct ledger_version_contributor *out,
                                   size_t capacity)
{
    size_t count = 0;
    const struct ledger_version_contributor *item = NULL;
    while ((item = state_next(ledger->state, STATE_VERSION_CONTRIBUTOR, item)) != NULL) {
        if (item->version == version && strcmp(item->datanet, datanet) == 0) {
            if (count < capacity) {
                out[count] = *item;
            }
            count++;
        }
    }
    return count;
}

const struct ledger_model *ledger_model(const struct ledger *ledger, const char *name)
{
    struct ledger_model probe = {0};
    return name_copy(name, probe.name) ? state_get(ledger->state, STATE_MODEL, &probe) : NULL;
}

const struct ledger_job *ledger_job(const struct ledger *ledger, const struct digest *id)
{
    return state_get(ledger->state, STATE_JOB, &(struct ledger_job){.id = *id});
}

const struct ledger_adapter *ledger_adapter(const struct ledger *ledger, const char *name)
{
    struct ledger_adapter probe = {0};
    return name_copy(name, probe.name) ? state_get(ledger->state, STATE_ADAPTER, &probe) : NULL;
}

const struct ledger_grant *ledger_grant(const struct ledger *ledger, const struct digest *id)
{
    return state_get(ledger->state, STATE_GRANT, &(struct ledger_grant){.id = *id});
}

const struct ledger_lease *ledger_lease(const struct ledger *ledger, const struct digest *grant,
                                        uint32_t lease)
{
    return state_get(ledger->state, STATE_LEASE,
                     &(struct ledger_lease){.grant = *grant, .lease = lease});
}

const struct ledger_receipt *ledger_receipt(const struct ledger *ledger, const struct digest *id)
{
    return state_get(ledger->state, STATE_RECEIPT, &(struct ledger_receipt){.id = *id});
}

uint64_t ledger_next_deadline(const struct ledger *ledger)
{
    const struct ledger_receipt *waiting = ledger->waiting;
    uint64_t next = waiting != NULL && waiting->waiting ? waiting->deadline_height : 0;
    const struct ledger_snapshot_slot *slot = NULL;
    while ((slot = state_next(ledger->state, STATE_SNAPSHOT, slot)) != NULL) {
        if (slot->until_height > ledger->head.height && (next == 0 || slot->until_height < next)) {
            next = slot->until_height;
        }
    }
    return next;
}

#define WALK(name, record, KIND)                                                                   \
    const struct record *name(const struct ledger *ledger, const struct record *previous)          \
    {                                                                                              \
        return state_next(ledger->state, KIND, previous);                                          \
    }
WALK(ledger_next_account, ledger_account, STATE_ACCOUNT)
WALK(ledger_next_bond, ledger_bond, STATE_BOND)
WALK(ledger_next_datanet, ledger_datanet, STATE_DATANET)
WALK(ledger_next_contribution, ledger_contribution, STATE_CONTRIBUTION)
WALK(ledger_next_model, ledger_model, STATE_MODEL)
WALK(ledger_next_job, ledger_job, STATE_JOB)
WALK(ledger_next_adapter, ledger_adapter, STATE_ADAPTER)
WALK(ledger_next_grant, ledger_grant, STATE_GRANT)
WALK(ledger_next_receipt, ledger_receipt, STATE_RECEIPT)
#undef WALK

/* ---- derived account ids: SHA-256(domain 0x00 key) ---------------------------------------------- */

static void derive(const char *domain, struct bytes key, struct bytes more,
                   struct account_id *out_id)
{
    const struct bytes parts[] = {bytes_of(domain, strlen(domain) + 1), key, more};
    struct digest digest;
    sha256_parts(parts, 3, &digest);
    memcpy(out_id->bytes, digest.bytes, ACCOUNT_ID_SIZE);
}

void ledger_treasury_id(const char *datanet, struct account_id *out_id)
{
    derive("openledger/treasury/v1", bytes_of_text(datanet), (struct bytes){0}, out_id);
}

void ledger_grant_escrow_id(const struct digest *grant, struct account_id *out_id)
{
    derive("openledger/escrow/grant/v1", digest_bytes(grant), (struct bytes){0}, out_id);
}

void ledger_job_escrow_id(const struct digest *job, struct account_id *out_id)
{
    derive("openledger/escrow/job/v1", digest_bytes(job), (struct bytes){0}, out_id);
}

void ledger_bond_escrow_id(const struct account_id *account, enum ledger_role role,
                           struct account_id *out_id)
{
    const uint8_t number = (uint8_t)role;
    derive("openledger/escrow/bond/v1", bytes_of(account->bytes, ACCOUNT_ID_SIZE),
           bytes_of(&number, 1), out_id);
}

void ledger_pending_escrow_id(const char *datanet, struct account_id *out_id)
{
    derive("openledger/escrow/pending/v1", bytes_of_text(datanet), (struct bytes){0}, out_id);
}

void ledger_stakers_pool_id(struct account_id *out_id)
{
    derive("openledger/pool/stakers/v1", (struct bytes){0}, (struct bytes){0}, out_id);
}
