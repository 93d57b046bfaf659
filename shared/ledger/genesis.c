/* genesis.c - the genesis file: proto3 JSON of Genesis, checked whole, then turned into state. */
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/crypto/signed_note.h"
#include "shared/json/message.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/machine.h"
#include "shared/ledger/params.h"
#include "shared/ledger/tx.h"

enum { COMMUNITY_PERCENT = 60 /* community and ecosystem together hold more than this */ };
#define VEST_MS_MAX UINT64_C(1000000000000)  /* about 31 years, for cliff and vesting each */
#define TIME_MS_MAX UINT64_C(32503680000000) /* the year 3000 */

static enum err parameters_load(struct ledger *ledger, const Openledger__V1__Genesis *genesis,
                                struct note *note)
{
    struct ledger_parameters parameters;
    if (genesis->parameters == NULL) {
        return note_set(note, ERR_INVALID, "genesis has no parameters");
    }
    if (genesis->sequencer_key.len != PUBLIC_KEY_SIZE ||
        genesis->platform_account.len != ACCOUNT_ID_SIZE) {
        return note_set(note, ERR_INVALID, "sequencerKey and platformAccount have 32 bytes each");
    }
    enum err err = ledger_parameters_from_message(genesis->parameters, &parameters, note);
    if (err != ERR_OK) {
        return err;
    }
    memcpy(parameters.platform.bytes, genesis->platform_account.data, ACCOUNT_ID_SIZE);
    memcpy(parameters.sequencer.bytes, genesis->sequencer_key.data, PUBLIC_KEY_SIZE);
    (void)state_add(ledger->state, STATE_PARAMETERS, &parameters);
    return ERR_OK;
}

/* An account may have several allocations, in different categories; one of them may vest. */
static enum err account_add(struct ledger *ledger, const struct ledger_account *account,
                            struct note *note)
{
    const struct ledger_account *found = state_get(ledger->state, STATE_ACCOUNT, account);
    if (found == NULL) {
        (void)state_add(ledger->state, STATE_ACCOUNT, account);
        return ERR_OK;
    }
    if (found->has_key != account->has_key || strcmp(found->name, account->name) != 0) {
        return note_set(note, ERR_CONFLICT,
                        "the account has an allocation with another key or name");
    }
    struct ledger_account *edited = state_edit(ledger->state, found);
    return amount_add(edited->balance, account->balance, &edited->balance) == ERR_OK
               ? ERR_OK
               : note_set(note, ERR_RANGE, "the sum is too large");
}

/* Puts an allocation that vests into escrow. */
static enum err vesting_add(struct ledger *ledger, const struct ledger_vesting *vesting,
                            struct note *note)
{
    struct ledger_account escrow = {.balance = vesting->total};
    if (ledger_vesting(ledger, &vesting->account) != NULL) {
        return note_set(note, ERR_CONFLICT, "the account has an allocation that vests already");
    }
    ledger_vesting_escrow_id(&vesting->account, &escrow.id);
    (void)state_add(ledger->state, STATE_VESTING, vesting);
    return account_add(ledger, &escrow, note);
}

static enum err allocation_load(struct ledger *ledger, const Openledger__V1__Allocation *from,
                                struct amount *out_amount, struct note *note)
{
    struct ledger_account account = {0};
    if (from->account.len != ACCOUNT_ID_SIZE) {
        return note_set(note, ERR_INVALID, "account has %zu bytes, not 32", from->account.len);
    }
    memcpy(account.id.bytes, from->account.data, ACCOUNT_ID_SIZE);
    if (from->key.len != 0) {
        struct account_id owner;
        if (from->key.len != PUBLIC_KEY_SIZE) {
            return note_set(note, ERR_INVALID, "key has %zu bytes, not 32", from->key.len);
        }
        memcpy(account.key.bytes, from->key.data, PUBLIC_KEY_SIZE);
        account_id_from_key(&account.key, &owner);
        if (!account_id_equal(&owner, &account.id)) {
            return note_set(note, ERR_INVALID, "the account is not the hash of its key");
        }
        account.has_key = true;
    }
    if (!text_valid(from->name, LEDGER_NAME_MAX)) {
        return note_set(note, ERR_INVALID, "name is not UTF-8 text of at most %d bytes",
                        LEDGER_NAME_MAX);
    }
    memcpy(account.name, from->name, strlen(from->name));
    enum err err = ledger_amount_parse(from->amount, "amount", &account.balance, note);
    if (err != ERR_OK) {
        return err;
    }
    *out_amount = account.balance;
    if (from->cliff_ms > VEST_MS_MAX || from->vest_ms > VEST_MS_MAX) {
        return note_set(note, ERR_RANGE, "cliffMs and vestMs are at most %llu",
                        (unsigned long long)VEST_MS_MAX);
    }
    if (from->cliff_ms != 0 || from->vest_ms != 0) {
        const struct ledger_vesting vesting = {.account = account.id,
                                               .total = account.balance,
                                               .cliff_at_ms = ledger->head.time_ms + from->cliff_ms,
                                               .vest_ms = from->vest_ms};
        account.balance = AMOUNT_ZERO;
        err = vesting_add(ledger, &vesting, note);
    }
    return err ? err : account_add(ledger, &account, note);
}

static enum err allocations_load(struct ledger *ledger, const Openledger__V1__Genesis *genesis,
                                 struct note *note)
{
    static const char *const CATEGORIES[] = {"community", "ecosystem", "team", "investors",
                                             "liquidity"};
    enum { CATEGORY_COUNT = sizeof CATEGORIES / sizeof CATEGORIES[0], COMMON_COUNT = 2 };
    struct amount total = AMOUNT_ZERO;
    struct amount common = AMOUNT_ZERO;
    const struct amount supply = amount_from_open(AMOUNT_SUPPLY_OPEN);
    if (genesis->n_allocations > LEDGER_ALLOCATIONS_MAX) {
        return note_set(note, ERR_LIMIT, "genesis has %zu allocations, the limit is %d",
                        genesis->n_allocations, LEDGER_ALLOCATIONS_MAX);
    }
    for (size_t i = 0; i < genesis->n_allocations; i++) {
        const Openledger__V1__Allocation *allocation = genesis->allocations[i];
        struct amount amount = AMOUNT_ZERO;
        enum err err = allocation_load(ledger, allocation, &amount, note);
        if (err == ERR_OK && amount_add(total, amount, &total) != ERR_OK) {
            err = note_set(note, ERR_RANGE, "the sum is too large");
        }
        if (err != ERR_OK) {
            return note_wrap(note, err, "allocation %zu", i);
        }
        size_t category = 0;
        while (category < CATEGORY_COUNT &&
               strcmp(CATEGORIES[category], allocation->category) != 0) {
            category++;
        }
        if (category == CATEGORY_COUNT) {
            return note_set(note, ERR_INVALID, "allocation %zu: category \"%.32s\" is unknown", i,
                            allocation->category);
        }
        if (category < COMMON_COUNT) {
            CHECK(amount_add(common, amount, &common) == ERR_OK);
        }
    }
    char text[AMOUNT_TEXT_SIZE];
    if (!amount_equal(total, supply)) {
        return note_set(note, ERR_INVALID, "allocations sum to %s OPEN, not %llu",
                        amount_format(total, text), (unsigned long long)AMOUNT_SUPPLY_OPEN);
    }
    const struct amount bound = amount_from_open(AMOUNT_SUPPLY_OPEN / 100 * COMMUNITY_PERCENT);
    if (amount_compare(common, bound) <= 0) {
        return note_set(note, ERR_INVALID,
                        "community and ecosystem hold %s OPEN, which is not above %d %%",
                        amount_format(common, text), COMMUNITY_PERCENT);
    }
    return ERR_OK;
}

/* A signature must tell whose it is, so names differ; and one key is one witness. */
static enum err witnesses_load(struct ledger *ledger, const Openledger__V1__Genesis *genesis,
                               struct note *note)
{
    struct ledger_witnesses *witnesses = &ledger->witnesses;
    if (genesis->n_witnesses > LEDGER_WITNESSES_MAX ||
        genesis->witness_quorum > genesis->n_witnesses) {
        return note_set(note, ERR_RANGE, "a quorum of %u of %zu witnesses; there are at most %d",
                        genesis->witness_quorum, genesis->n_witnesses, LEDGER_WITNESSES_MAX);
    }
    for (size_t i = 0; i < genesis->n_witnesses; i++) {
        const Openledger__V1__Witness *from = genesis->witnesses[i];
        struct ledger_witness *witness = &witnesses->items[i];
        if (strlen(from->name) > LEDGER_WITNESS_NAME_MAX || !signed_note_name_valid(from->name) ||
            from->key.len != PUBLIC_KEY_SIZE) {
            return note_set(note, ERR_INVALID,
                            "witness %zu: a name of 1 to %d bytes without blanks and '+', and a "
                            "key of 32 bytes",
                            i, LEDGER_WITNESS_NAME_MAX);
        }
        memcpy(witness->name, from->name, strlen(from->name) + 1);
        memcpy(witness->key.bytes, from->key.data, PUBLIC_KEY_SIZE);
        for (size_t j = 0; j < i; j++) {
            if (strcmp(witnesses->items[j].name, witness->name) == 0 ||
                public_key_equal(&witnesses->items[j].key, &witness->key)) {
                return note_set(note, ERR_CONFLICT, "witness %zu is there already", i);
            }
        }
    }
    witnesses->count = (uint32_t)genesis->n_witnesses;
    witnesses->quorum = genesis->witness_quorum;
    return ERR_OK;
}

enum err genesis_load(struct ledger *ledger, struct bytes bytes, struct note *note)
{
    if (bytes.size > LEDGER_GENESIS_MAX) {
        return note_set(note, ERR_LIMIT, "genesis has %zu bytes, the limit is %u", bytes.size,
                        LEDGER_GENESIS_MAX);
    }
    ProtobufCMessage *message = NULL;
    enum err err = json_to_message(bytes, LEDGER_GENESIS_MAX, &openledger__v1__genesis__descriptor,
                                   NULL, &message, note);
    if (err != ERR_OK) {
        return note_wrap(note, err, "genesis");
    }
    const Openledger__V1__Genesis *genesis = (Openledger__V1__Genesis *)message;
    buf_append_bytes(&ledger->genesis, bytes);
    err = buf_err(&ledger->genesis);
    if (err == ERR_OK && !ledger_name_valid(genesis->chain_name)) {
        err = note_set(note, ERR_INVALID, "genesis: chainName is not a name");
    }
    if (err == ERR_OK && genesis->time_ms > TIME_MS_MAX) {
        err = note_set(note, ERR_RANGE, "genesis: timeMs is beyond the year 3000");
    }
    if (err == ERR_OK) {
        sha256(bytes, &ledger->head.chain_id);
        ledger->head.entry_hash = ledger->head.chain_id;
        ledger->head.header_hash = ledger->head.chain_id;
        ledger->head.time_ms = genesis->time_ms;
        ledger->head.epoch = 1;
        memcpy(ledger->chain_name, genesis->chain_name, strlen(genesis->chain_name));
        err = parameters_load(ledger, genesis, note);
        err = err ? err : witnesses_load(ledger, genesis, note);
        err = err ? err : allocations_load(ledger, genesis, note);
        err = err ? note_wrap(note, err, "genesis") : err;
    }
    protobuf_c_message_free_unpacked(message, NULL);
    return err;
}
