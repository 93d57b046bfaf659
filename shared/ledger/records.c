/* records.c - see records.h: a table of fields per kind, and the codec that reads it. */
#include "shared/ledger/records.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/changes.h"
#include "shared/ledger/claims.h"
#include "shared/ledger/custody.h"
#include "shared/ledger/evidence.h"
#include "shared/ledger/governance.h"
#include "shared/ledger/stake.h"

enum field_type {
    FIELD_U32,
    FIELD_U64,
    FIELD_U64S,
    FIELD_BOOL,
    FIELD_BYTES,
    FIELD_AMOUNT,
    FIELD_TEXT
};

struct field {
    enum field_type type;
    uint32_t offset;
    uint32_t size;
};

#define FIELD(type, record, member)                                                                \
    {                                                                                              \
        FIELD_##type, (uint32_t)offsetof(struct record, member),                                   \
            (uint32_t)sizeof(((struct record *)NULL)->member)                                      \
    }

static const struct field PARAMETERS[] = {
    FIELD(U32, ledger_parameters, platform_bp),
    FIELD(U32, ledger_parameters, model_bp),
    FIELD(U32, ledger_parameters, stakers_bp),
    FIELD(U32, ledger_parameters, contributors_bp),
    FIELD(U32, ledger_parameters, share_deadline_blocks),
    FIELD(U64, ledger_parameters, settlement_window_ms),
    FIELD(U64, ledger_parameters, validity_max_ms),
    FIELD(AMOUNT, ledger_parameters, minimum_bond),
    FIELD(AMOUNT, ledger_parameters, gas_per_byte),
    FIELD(AMOUNT, ledger_parameters, gas_per_leg),
    FIELD(AMOUNT, ledger_parameters, free_gas_per_block),
    FIELD(U64, ledger_parameters, unbonding_ms),
    FIELD(U32, ledger_parameters, commission_bp),
    FIELD(AMOUNT, ledger_parameters, proposal_threshold),
    FIELD(U32, ledger_parameters, voting_delay_blocks),
    FIELD(U32, ledger_parameters, voting_period_blocks),
    FIELD(U32, ledger_parameters, quorum_bp),
    FIELD(U64, ledger_parameters, timelock_ms),
    FIELD(U64, ledger_parameters, proposal_grace_ms),
    FIELD(U64, ledger_parameters, price_notice_ms),
    FIELD(U64, ledger_parameters, treasury_period_ms),
    FIELD(U32, ledger_parameters, treasury_payout_bp),
    FIELD(U32, ledger_parameters, slash_conflict_bp),
    FIELD(U32, ledger_parameters, slash_invalid_bp),
    FIELD(U32, ledger_parameters, slash_job_bp),
    FIELD(U32, ledger_parameters, slash_reporter_bp),
    FIELD(U64, ledger_parameters, challenge_window_ms),
    FIELD(U32, ledger_parameters, challenge_blocks),
    FIELD(U32, ledger_parameters, challenge_quorum_bp),
    FIELD(AMOUNT, ledger_parameters, challenge_deposit),
    FIELD(BYTES, ledger_parameters, platform),
    FIELD(BYTES, ledger_parameters, sequencer),
};
static const struct field ACCOUNT[] = {
    FIELD(BYTES, ledger_account, id),       FIELD(AMOUNT, ledger_account, balance),
    FIELD(BOOL, ledger_account, has_key),   FIELD(BYTES, ledger_account, key),
    FIELD(TEXT, ledger_account, name),      FIELD(U64, ledger_account, first_index),
    FIELD(U64, ledger_account, last_index),
};
static const struct field BOND[] = {
    FIELD(BYTES, ledger_bond, account),   FIELD(U32, ledger_bond, role),
    FIELD(AMOUNT, ledger_bond, amount),   FIELD(AMOUNT, ledger_bond, rewarded_to),
    FIELD(U32, ledger_bond, delegations),
};
static const struct field DATANET[] = {
    FIELD(TEXT, ledger_datanet, name),         FIELD(BYTES, ledger_datanet, owner),
    FIELD(BYTES, ledger_datanet, treasury),    FIELD(TEXT, ledger_datanet, title),
    FIELD(TEXT, ledger_datanet, description),  FIELD(TEXT, ledger_datanet, licence),
    FIELD(U32, ledger_datanet, permission),    FIELD(U32, ledger_datanet, validator_count),
    FIELD(BYTES, ledger_datanet, validators),  FIELD(BYTES, ledger_datanet, offered_to),
    FIELD(U32, ledger_datanet, contributions), FIELD(U32, ledger_datanet, versions),
    FIELD(U64, ledger_datanet, index),
};
static const struct field CONTRIBUTION[] = {
    FIELD(BYTES, ledger_contribution, id),          FIELD(TEXT, ledger_contribution, datanet),
    FIELD(BYTES, ledger_contribution, contributor), FIELD(BYTES, ledger_contribution, root),
    FIELD(U32, ledger_contribution, row_count),     FIELD(U64, ledger_contribution, byte_count),
    FIELD(U32, ledger_contribution, state),         FIELD(BYTES, ledger_contribution, content),
    FIELD(U32, ledger_contribution, accepted_rows), FIELD(U32, ledger_contribution, withdrawn_rows),
    FIELD(TEXT, ledger_contribution, reason),       FIELD(U64, ledger_contribution, index),
    FIELD(U64, ledger_contribution, review_index),
};
static const struct field VERSION[] = {
    FIELD(TEXT, ledger_version, datanet),   FIELD(U32, ledger_version, version),
    FIELD(BYTES, ledger_version, root),     FIELD(U32, ledger_version, row_count),
    FIELD(BYTES, ledger_version, manifest), FIELD(U32, ledger_version, contributor_count),
    FIELD(U64, ledger_version, index),
};
static const struct field VERSION_CONTRIBUTOR[] = {
    FIELD(TEXT, ledger_version_contributor, datanet),
    FIELD(U32, ledger_version_contributor, version),
    FIELD(BYTES, ledger_version_contributor, account),
    FIELD(U32, ledger_version_contributor, row_count),
};
static const struct field MODEL[] = {
    FIELD(TEXT, ledger_model, name),       FIELD(BYTES, ledger_model, content),
    FIELD(BYTES, ledger_model, profile),   FIELD(TEXT, ledger_model, licence),
    FIELD(BYTES, ledger_model, developer), FIELD(BOOL, ledger_model, revoked),
    FIELD(U64, ledger_model, index),
};
static const struct field JOB[] = {
    FIELD(BYTES, ledger_job, id),
    FIELD(BYTES, ledger_job, developer),
    FIELD(TEXT, ledger_job, datanet),
    FIELD(U32, ledger_job, version),
    FIELD(TEXT, ledger_job, model),
    FIELD(U32, ledger_job, settings.rank),
    FIELD(U32, ledger_job, settings.alpha),
    FIELD(U32, ledger_job, settings.steps),
    FIELD(U32, ledger_job, settings.batch_rows),
    FIELD(U32, ledger_job, settings.learning_rate_ppm),
    FIELD(U32, ledger_job, settings.warmup_steps),
    FIELD(U32, ledger_job, settings.context),
    FIELD(U64, ledger_job, settings.seed),
    FIELD(U32, ledger_job, settings.digest_every),
    FIELD(U32, ledger_job, settings.weight_decay_ppm),
    FIELD(AMOUNT, ledger_job, fee),
    FIELD(U32, ledger_job, state),
    FIELD(BYTES, ledger_job, trainer),
    FIELD(U64, ledger_job, claimed_ms),
    FIELD(U64, ledger_job, completed_ms),
    FIELD(BYTES, ledger_job, transcript_root),
    FIELD(BYTES, ledger_job, transcript),
    FIELD(BYTES, ledger_job, adapter),
    FIELD(TEXT, ledger_job, reason),
    FIELD(BOOL, ledger_job, published),
    FIELD(U64, ledger_job, index),
};
static const struct field ADAPTER[] = {
    FIELD(TEXT, ledger_adapter, name),
    FIELD(BYTES, ledger_adapter, developer),
    FIELD(BYTES, ledger_adapter, job),
    FIELD(TEXT, ledger_adapter, datanet),
    FIELD(U32, ledger_adapter, version),
    FIELD(TEXT, ledger_adapter, model),
    FIELD(BYTES, ledger_adapter, content),
    FIELD(AMOUNT, ledger_adapter, price_prompt),
    FIELD(AMOUNT, ledger_adapter, price_completion),
    FIELD(U64, ledger_adapter, price_from_ms),
    FIELD(U32, ledger_adapter, price_changes),
    FIELD(U64, ledger_adapter, revoked_ms),
    FIELD(BOOL, ledger_adapter, has_index),
    FIELD(BYTES, ledger_adapter, attribution_index),
    FIELD(U64, ledger_adapter, index),
};
static const struct field GRANT[] = {
    FIELD(BYTES, ledger_grant, id),        FIELD(BYTES, ledger_grant, payer),
    FIELD(BYTES, ledger_grant, gateway),   FIELD(AMOUNT, ledger_grant, limit),
    FIELD(AMOUNT, ledger_grant, leased),   FIELD(AMOUNT, ledger_grant, drawn),
    FIELD(U64, ledger_grant, expires_ms),  FIELD(BOOL, ledger_grant, closed),
    FIELD(U32, ledger_grant, lease_count), FIELD(U64, ledger_grant, index),
};
static const struct field LEASE[] = {
    FIELD(BYTES, ledger_lease, grant),     FIELD(U32, ledger_lease, lease),
    FIELD(AMOUNT, ledger_lease, amount),   FIELD(AMOUNT, ledger_lease, drawn),
    FIELD(U64, ledger_lease, next_number),
};
static const struct field RECEIPT[] = {
    FIELD(BYTES, ledger_receipt, id),
    FIELD(BYTES, ledger_receipt, batch),
    FIELD(BYTES, ledger_receipt, grant),
    FIELD(U32, ledger_receipt, lease),
    FIELD(U64, ledger_receipt, number),
    FIELD(TEXT, ledger_receipt, adapter),
    FIELD(AMOUNT, ledger_receipt, fee),
    FIELD(U64, ledger_receipt, split),
    FIELD(AMOUNT, ledger_receipt, pending),
    FIELD(BOOL, ledger_receipt, waiting),
    FIELD(U64, ledger_receipt, charged_index),
    FIELD(U64, ledger_receipt, shared_index),
    FIELD(U64, ledger_receipt, deadline_height),
};
static const struct field TX[] = {
    FIELD(BYTES, state_tx, id),
    FIELD(U64, state_tx, valid_until_ms),
};
static const struct field STANDING[] = {
    FIELD(TEXT, state_standing, datanet),
    FIELD(BYTES, state_standing, account),
    FIELD(U64, state_standing, accepted_rows),
};

static const struct field STAKING[] = {
    FIELD(U64, ledger_staking, grains),
    FIELD(AMOUNT, ledger_staking, index),
    FIELD(AMOUNT, ledger_staking, owed),
};
static const struct field DELEGATION[] = {
    FIELD(BYTES, ledger_delegation, delegator),
    FIELD(BYTES, ledger_delegation, validator),
    FIELD(AMOUNT, ledger_delegation, amount),
    FIELD(AMOUNT, ledger_delegation, rewarded_to),
};
static const struct field UNBONDING[] = {
    FIELD(BYTES, ledger_unbonding, account),   FIELD(U32, ledger_unbonding, role),
    FIELD(BYTES, ledger_unbonding, validator), FIELD(U32, ledger_unbonding, slot),
    FIELD(AMOUNT, ledger_unbonding, amount),   FIELD(U64, ledger_unbonding, release_ms),
};
static const struct field STAKER[] = {
    FIELD(BYTES, ledger_staker, account),
    FIELD(U64, ledger_staker, grains),
    FIELD(BYTES, ledger_staker, delegate),
};
static const struct field POWER[] = {
    FIELD(BYTES, ledger_power, account), FIELD(U32, ledger_power, series),
    FIELD(U32, ledger_power, count),     FIELD(U64S, ledger_power, heights),
    FIELD(U64S, ledger_power, grains),
};
static const struct field SNAPSHOT[] = {
    FIELD(U32, ledger_snapshot_slot, slot),         FIELD(U64, ledger_snapshot_slot, height),
    FIELD(U64, ledger_snapshot_slot, until_height), FIELD(BYTES, ledger_snapshot_slot, subject),
    FIELD(BYTES, ledger_snapshot_slot, opener),
};
static const struct field PROPOSAL[] = {
    FIELD(BYTES, ledger_proposal, id),
    FIELD(BYTES, ledger_proposal, proposer),
    FIELD(TEXT, ledger_proposal, title),
    FIELD(TEXT, ledger_proposal, changes),
    FIELD(U64, ledger_proposal, snapshot_height),
    FIELD(U64, ledger_proposal, end_height),
    FIELD(U32, ledger_proposal, quorum_bp),
    FIELD(U64, ledger_proposal, staked_grains),
    FIELD(U64, ledger_proposal, for_grains),
    FIELD(U64, ledger_proposal, against_grains),
    FIELD(U64, ledger_proposal, abstain_grains),
    FIELD(U64, ledger_proposal, eta_ms),
    FIELD(U64, ledger_proposal, expires_ms),
    FIELD(U32, ledger_proposal, outcome),
    FIELD(U64, ledger_proposal, index),
};
static const struct field VOTE[] = {
    FIELD(BYTES, ledger_vote, proposal),
    FIELD(BYTES, ledger_vote, account),
    FIELD(U32, ledger_vote, choice),
    FIELD(U64, ledger_vote, grains),
};
static const struct field FREE_GAS[] = {
    FIELD(U64, state_free_gas, height),
    FIELD(AMOUNT, state_free_gas, used),
};
static const struct field HOLD[] = {
    FIELD(BYTES, ledger_hold, id),       FIELD(BYTES, ledger_hold, payer),
    FIELD(BYTES, ledger_hold, to),       FIELD(BYTES, ledger_hold, arbiter),
    FIELD(AMOUNT, ledger_hold, amount),  FIELD(AMOUNT, ledger_hold, posted),
    FIELD(U64, ledger_hold, expires_ms), FIELD(U32, ledger_hold, state),
    FIELD(U64, ledger_hold, index),
};
static const struct field GUARDIANS[] = {
    FIELD(BYTES, ledger_guardians, account),    FIELD(U32, ledger_guardians, count),
    FIELD(U32, ledger_guardians, threshold),    FIELD(U64, ledger_guardians, delay_ms),
    FIELD(BYTES, ledger_guardians, guardians),  FIELD(BYTES, ledger_guardians, keys),
    FIELD(U64S, ledger_guardians, approved_ms),
};
static const struct field VESTING[] = {
    FIELD(BYTES, ledger_vesting, account),  FIELD(AMOUNT, ledger_vesting, total),
    FIELD(AMOUNT, ledger_vesting, claimed), FIELD(U64, ledger_vesting, cliff_at_ms),
    FIELD(U64, ledger_vesting, vest_ms),
};
static const struct field CLAIMS[] = {
    FIELD(BYTES, ledger_claims, id),    FIELD(BYTES, ledger_claims, publisher),
    FIELD(BYTES, ledger_claims, root),  FIELD(U32, ledger_claims, count),
    FIELD(U32, ledger_claims, claimed), FIELD(AMOUNT, ledger_claims, total),
    FIELD(AMOUNT, ledger_claims, paid), FIELD(U64, ledger_claims, expires_ms),
    FIELD(BOOL, ledger_claims, closed), FIELD(TEXT, ledger_claims, title),
    FIELD(U64, ledger_claims, index),
};
static const struct field CLAIMED[] = {
    FIELD(BYTES, ledger_claimed, claims),
    FIELD(U32, ledger_claimed, number),
};
static const struct field WITHDRAWN_ROW[] = {
    FIELD(BYTES, ledger_withdrawn_row, contribution),
    FIELD(U32, ledger_withdrawn_row, row),
};
static const struct field PRICE[] = {
    FIELD(TEXT, ledger_price, adapter),  FIELD(U32, ledger_price, number),
    FIELD(AMOUNT, ledger_price, prompt), FIELD(AMOUNT, ledger_price, completion),
    FIELD(U64, ledger_price, from_ms),
};
static const struct field PAYOUTS[] = {
    FIELD(TEXT, ledger_payouts, datanet),
    FIELD(U64, ledger_payouts, from_ms),
    FIELD(AMOUNT, ledger_payouts, limit),
    FIELD(AMOUNT, ledger_payouts, paid),
};
static const struct field FORMER_KEY[] = {
    FIELD(BYTES, ledger_former_key, account),
    FIELD(BYTES, ledger_former_key, key),
    FIELD(U64, ledger_former_key, until_ms),
};
static const struct field OFFENCE[] = {
    FIELD(BYTES, ledger_offence, id),       FIELD(BYTES, ledger_offence, account),
    FIELD(U32, ledger_offence, role),       FIELD(U32, ledger_offence, kind),
    FIELD(BYTES, ledger_offence, reporter), FIELD(AMOUNT, ledger_offence, slashed),
    FIELD(U64, ledger_offence, index),
};
static const struct field CHALLENGE[] = {
    FIELD(BYTES, ledger_challenge, job),           FIELD(BYTES, ledger_challenge, id),
    FIELD(BYTES, ledger_challenge, challenger),    FIELD(AMOUNT, ledger_challenge, deposit),
    FIELD(U64, ledger_challenge, snapshot_height), FIELD(U64, ledger_challenge, end_height),
    FIELD(U32, ledger_challenge, quorum_bp),       FIELD(U64, ledger_challenge, failed_grains),
    FIELD(U64, ledger_challenge, sound_grains),    FIELD(U32, ledger_challenge, outcome),
    FIELD(TEXT, ledger_challenge, reason),
};
static const struct field ATTESTATION[] = {
    FIELD(BYTES, ledger_attestation, challenge),
    FIELD(BYTES, ledger_attestation, account),
    FIELD(BOOL, ledger_attestation, failed),
};

struct kind {
    const struct field *fields;
    uint32_t field_count;
    uint32_t key_count; /* how many of them are the key */
    uint32_t size;      /* of the struct */
};

#define KIND(table, record, keys)                                                                  \
    {                                                                                              \
        (table), (uint32_t)(sizeof(table) / sizeof((table)[0])), (keys),                           \
            (uint32_t)sizeof(struct record)                                                        \
    }

static const struct kind KINDS[STATE_KIND_END] = {
    [STATE_PARAMETERS] = KIND(PARAMETERS, ledger_parameters, 0),
    [STATE_ACCOUNT] = KIND(ACCOUNT, ledger_account, 1),
    [STATE_BOND] = KIND(BOND, ledger_bond, 2),
    [STATE_DATANET] = KIND(DATANET, ledger_datanet, 1),
    [STATE_CONTRIBUTION] = KIND(CONTRIBUTION, ledger_contribution, 1),
    [STATE_VERSION] = KIND(VERSION, ledger_version, 2),
    [STATE_VERSION_CONTRIBUTOR] = KIND(VERSION_CONTRIBUTOR, ledger_version_contributor, 3),
    [STATE_MODEL] = KIND(MODEL, ledger_model, 1),
    [STATE_JOB] = KIND(JOB, ledger_job, 1),
    [STATE_ADAPTER] = KIND(ADAPTER, ledger_adapter, 1),
    [STATE_GRANT] = KIND(GRANT, ledger_grant, 1),
    [STATE_LEASE] = KIND(LEASE, ledger_lease, 2),
    [STATE_RECEIPT] = KIND(RECEIPT, ledger_receipt, 1),
    [STATE_TX] = KIND(TX, state_tx, 1),
    [STATE_STANDING] = KIND(STANDING, state_standing, 2),
    [STATE_STAKING] = KIND(STAKING, ledger_staking, 0),
    [STATE_DELEGATION] = KIND(DELEGATION, ledger_delegation, 2),
    [STATE_UNBONDING] = KIND(UNBONDING, ledger_unbonding, 4),
    [STATE_STAKER] = KIND(STAKER, ledger_staker, 1),
    [STATE_POWER] = KIND(POWER, ledger_power, 2),
    [STATE_SNAPSHOT] = KIND(SNAPSHOT, ledger_snapshot_slot, 1),
    [STATE_PROPOSAL] = KIND(PROPOSAL, ledger_proposal, 1),
    [STATE_VOTE] = KIND(VOTE, ledger_vote, 2),
    [STATE_FREE_GAS] = KIND(FREE_GAS, state_free_gas, 0),
    [STATE_HOLD] = KIND(HOLD, ledger_hold, 1),
    [STATE_GUARDIANS] = KIND(GUARDIANS, ledger_guardians, 1),
    [STATE_VESTING] = KIND(VESTING, ledger_vesting, 1),
    [STATE_CLAIMS] = KIND(CLAIMS, ledger_claims, 1),
    [STATE_CLAIMED] = KIND(CLAIMED, ledger_claimed, 2),
    [STATE_WITHDRAWN_ROW] = KIND(WITHDRAWN_ROW, ledger_withdrawn_row, 2),
    [STATE_PRICE] = KIND(PRICE, ledger_price, 2),
    [STATE_PAYOUTS] = KIND(PAYOUTS, ledger_payouts, 1),
    [STATE_FORMER_KEY] = KIND(FORMER_KEY, ledger_former_key, 2),
    [STATE_OFFENCE] = KIND(OFFENCE, ledger_offence, 1),
    [STATE_CHALLENGE] = KIND(CHALLENGE, ledger_challenge, 1),
    [STATE_ATTESTATION] = KIND(ATTESTATION, ledger_attestation, 2),
};

void record_put(struct record_encoder *encoder, const void *data, size_t size)
{
    CHECK(size <= RECORD_ENCODED_MAX - encoder->size);
    memcpy(encoder->data + encoder->size, data, size);
    encoder->size += size;
}

void record_put_number(struct record_encoder *encoder, uint64_t value, size_t size)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(value >> (8 * (size - 1 - i)));
    }
    record_put(encoder, bytes, size);
}

static void encode_fields(const struct kind *kind, uint32_t count, const void *record,
                          struct record_encoder *encoder)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct field *field = &kind->fields[i];
        const uint8_t *at = (const uint8_t *)record + field->offset;
        uint32_t u32;
        uint64_t u64;
        bool flag;
        struct amount amount;
        uint8_t amount_bytes[AMOUNT_BYTES];
        switch (field->type) {
        case FIELD_U32:
            memcpy(&u32, at, sizeof u32);
            record_put_number(encoder, u32, 4);
            break;
        case FIELD_U64:
            memcpy(&u64, at, sizeof u64);
            record_put_number(encoder, u64, 8);
            break;
        case FIELD_U64S:
            for (uint32_t at_item = 0; at_item < field->size; at_item += 8) {
                memcpy(&u64, at + at_item, sizeof u64);
                record_put_number(encoder, u64, 8);
            }
            break;
        case FIELD_BOOL:
            memcpy(&flag, at, sizeof flag);
            record_put_number(encoder, flag ? 1 : 0, 1);
            break;
        case FIELD_BYTES:
            record_put(encoder, at, field->size);
            break;
        case FIELD_AMOUNT:
            memcpy(&amount, at, sizeof amount);
            amount_to_bytes(amount, amount_bytes);
            record_put(encoder, amount_bytes, sizeof amount_bytes);
            break;
        case FIELD_TEXT: {
            size_t size = strnlen((const char *)at, field->size);
            CHECK(size < field->size);
            record_put_number(encoder, size, 2);
            record_put(encoder, at, size);
            break;
        }
        }
    }
}

static enum err decode_number(struct bytes *in, size_t size, uint64_t *out)
{
    struct bytes part;
    if (bytes_take(in, size, &part) != ERR_OK) {
        return ERR_CORRUPT;
    }
    *out = 0;
    for (size_t i = 0; i < size; i++) {
        *out = *out << 8 | part.data[i];
    }
    return ERR_OK;
}

static enum err decode_field(const struct field *field, struct bytes *in, uint8_t *at)
{
    uint64_t number = 0;
    struct bytes part;
    enum err err = ERR_OK;
    switch (field->type) {
    case FIELD_U32:
        err = decode_number(in, 4, &number);
        memcpy(at, &(uint32_t){(uint32_t)number}, 4);
        return err;
    case FIELD_U64:
        err = decode_number(in, 8, &number);
        memcpy(at, &number, 8);
        return err;
    case FIELD_U64S:
        for (uint32_t item = 0; item < field->size && err == ERR_OK; item += 8) {
            err = decode_number(in, 8, &number);
            memcpy(at + item, &number, 8);
        }
        return err;
    case FIELD_BOOL:
        err = decode_number(in, 1, &number);
        memcpy(at, &(bool){number != 0}, sizeof(bool));
        return number > 1 ? ERR_CORRUPT : err;
    case FIELD_BYTES:
        if (bytes_take(in, field->size, &part) != ERR_OK) {
            return ERR_CORRUPT;
        }
        memcpy(at, part.data, part.size);
        return ERR_OK;
    case FIELD_AMOUNT:
        if (bytes_take(in, AMOUNT_BYTES, &part) != ERR_OK) {
            return ERR_CORRUPT;
        }
        memcpy(at, &(struct amount){0}, sizeof(struct amount));
        struct amount amount = amount_from_bytes(part.data);
        memcpy(at, &amount, sizeof amount);
        return ERR_OK;
    case FIELD_TEXT:
        err = decode_number(in, 2, &number);
        if (err != ERR_OK || number >= field->size ||
            bytes_take(in, (size_t)number, &part) != ERR_OK ||
            (part.size > 0 && memchr(part.data, 0, part.size) != NULL)) {
            return ERR_CORRUPT;
        }
        memcpy(at, part.data, part.size);
        return ERR_OK;
    }
    return ERR_CORRUPT;
}

void record_encode(enum state_kind kind, bool key_only, const void *record,
                   struct record_encoder *encoder)
{
    CHECK(kind > 0 && kind < STATE_KIND_END);
    const struct kind *table = &KINDS[kind];
    encode_fields(table, key_only ? table->key_count : table->field_count, record, encoder);
}

size_t record_size(enum state_kind kind)
{
    CHECK(kind > 0 && kind < STATE_KIND_END);
    return KINDS[kind].size;
}

enum err record_decode(enum state_kind kind, struct bytes *in, void *out_record)
{
    for (uint32_t i = 0; i < KINDS[kind].field_count; i++) {
        const struct field *field = &KINDS[kind].fields[i];
        if (decode_field(field, in, (uint8_t *)out_record + field->offset) != ERR_OK) {
            return ERR_CORRUPT;
        }
    }
    return ERR_OK;
}
