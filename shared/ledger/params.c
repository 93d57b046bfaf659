/* params.c - see params.h: the table, and what reads it. */
#include "shared/ledger/params.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/batch.h"

enum { BP_TOTAL = 10000 };

#define ROW(TYPE, field, unit, fallback, minimum, maximum, meaning)                                \
    {                                                                                              \
#field, LEDGER_PARAMETER_##TYPE, (uint32_t)offsetof(struct ledger_parameters, field),      \
            (unit), (fallback), (minimum), (maximum), (meaning)                                    \
    }

const struct ledger_parameter LEDGER_PARAMETERS[] = {
    ROW(U32, platform_bp, "1/10,000", "1000", "0", "5000", "part of a fee for the platform"),
    ROW(U32, model_bp, "1/10,000", "2000", "0", "10000",
        "part of a fee for the developers of adapter and base model, half each"),
    ROW(U32, stakers_bp, "1/10,000", "2000", "0", "10000", "part of a fee for the stakers' pool"),
    ROW(U32, contributors_bp, "1/10,000", "5000", "1", "10000",
        "part of a fee for contributors; the four parts sum to 10,000"),
    ROW(U32, share_deadline_blocks, "blocks", "600", "1", "1000000",
        "how long the contributors' part waits for its shares"),
    ROW(U64, settlement_window_ms, "ms", "3600000", "0", "2592000000",
        "after a grant's expiry, for receipts still on their way"),
    ROW(AMOUNT, minimum_bond, "OPEN", "1000", "0.000000001", "1000000",
        "smallest bond in a role, and smallest delegation"),
    ROW(U64, validity_max_ms, "ms", "3600000", "1000", "3600000",
        "longest valid interval of a transaction"),
    ROW(AMOUNT, gas_per_byte, "OPEN", "0.000001", "0", "0.001",
        "gas for each byte of a signed transaction"),
    ROW(AMOUNT, gas_per_leg, "OPEN", "0.00001", "0", "0.01",
        "gas for each leg that a transaction moves"),
    ROW(AMOUNT, free_gas_per_block, "OPEN", "0.1", "0", "1000",
        "gas that a block forgives to senders who cannot pay any"),
    ROW(U64, unbonding_ms, "ms", "604800000", "0", "7776000000",
        "how long unbonded stake stays in escrow and can be slashed"),
    ROW(U32, commission_bp, "1/10,000", "1000", "0", "5000",
        "part of a delegation's rewards for its validator"),
    ROW(AMOUNT, proposal_threshold, "OPEN", "10000", "1", "10000000",
        "votes that a proposer must have"),
    ROW(U32, voting_delay_blocks, "blocks", "600", "1", "1000000",
        "from a proposal to the snapshot of votes"),
    ROW(U32, voting_period_blocks, "blocks", "259200", "1", "5000000",
        "from the snapshot to the end of voting"),
    ROW(U32, quorum_bp, "1/10,000", "2000", "100", "10000",
        "part of the staked supply at the snapshot that must vote for or abstain"),
    ROW(U64, timelock_ms, "ms", "172800000", "0", "2592000000",
        "from queueing a proposal to its execution"),
    ROW(U64, proposal_grace_ms, "ms", "1209600000", "60000", "7776000000",
        "how long after the timelock a proposal can be executed"),
    ROW(U64, price_notice_ms, "ms", "600000", "60000", "2592000000",
        "from the change of an adapter's price, or its revocation, until it is in force"),
    ROW(U64, treasury_period_ms, "ms", "2592000000", "60000", "31536000000",
        "time in which a datanet's owner may pay out part of its treasury"),
    ROW(U32, treasury_payout_bp, "1/10,000", "2000", "0", "10000",
        "that part, of what the treasury held at the period's first payout"),
    ROW(U32, slash_conflict_bp, "1/10,000", "5000", "0", "10000",
        "stake lost for two signed different things about one slot"),
    ROW(U32, slash_invalid_bp, "1/10,000", "1000", "0", "10000",
        "stake lost for a signed item that is contradicted"),
    ROW(U32, slash_job_bp, "1/10,000", "5000", "0", "10000",
        "a trainer's stake lost for a training that a quorum of validators refuted"),
    ROW(U32, slash_reporter_bp, "1/10,000", "1000", "0", "5000",
        "part of what is slashed for who reported it"),
    ROW(U64, challenge_window_ms, "ms", "604800000", "0", "7776000000",
        "how long after its completion a job can be challenged"),
    ROW(U32, challenge_blocks, "blocks", "86400", "1", "1000000",
        "how long validators may attest to a challenged job"),
    ROW(U32, challenge_quorum_bp, "1/10,000", "6667", "5001", "10000",
        "part of the validators' stake that refutes a job"),
    ROW(AMOUNT, challenge_deposit, "OPEN", "100", "0", "1000000",
        "what a challenger sets aside, and loses when the job is found sound"),
};
const size_t LEDGER_PARAMETER_COUNT = sizeof LEDGER_PARAMETERS / sizeof LEDGER_PARAMETERS[0];

const struct ledger_parameter *ledger_parameter_find(const char *name)
{
    for (size_t i = 0; i < LEDGER_PARAMETER_COUNT; i++) {
        if (strcmp(LEDGER_PARAMETERS[i].name, name) == 0) {
            return &LEDGER_PARAMETERS[i];
        }
    }
    return NULL;
}

/* ---- one value ---------------------------------------------------------------------------------- */

const char *ledger_parameter_format(const struct ledger_parameter *row,
                                    const struct ledger_parameters *from,
                                    char out[AMOUNT_TEXT_SIZE])
{
    const uint8_t *at = (const uint8_t *)from + row->offset;
    uint32_t u32;
    uint64_t u64;
    struct amount amount;
    switch (row->type) {
    case LEDGER_PARAMETER_U32:
        memcpy(&u32, at, sizeof u32);
        (void)snprintf(out, AMOUNT_TEXT_SIZE, "%" PRIu32, u32);
        break;
    case LEDGER_PARAMETER_U64:
        memcpy(&u64, at, sizeof u64);
        (void)snprintf(out, AMOUNT_TEXT_SIZE, "%" PRIu64, u64);
        break;
    case LEDGER_PARAMETER_AMOUNT:
        memcpy(&amount, at, sizeof amount);
        (void)amount_format(amount, out);
        break;
    }
    return out;
}

/* Canonical decimal digits of a number below 2^64. */
static enum err number_parse(const char *text, uint64_t *out)
{
    size_t size = strnlen(text, 21);
    uint64_t value = 0;
    if (size == 0 || size > 20 || (text[0] == '0' && size > 1)) {
        return ERR_INVALID;
    }
    for (size_t i = 0; i < size; i++) {
        uint64_t digit = (uint64_t)(unsigned char)text[i] - '0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10) {
            return ERR_INVALID;
        }
        value = 10 * value + digit;
    }
    *out = value;
    return ERR_OK;
}

/* Numbers become amounts of base units, so that one comparison serves all types. */
static enum err value_parse(const struct ledger_parameter *row, const char *text,
                            struct amount *out)
{
    if (row->type == LEDGER_PARAMETER_AMOUNT) {
        return ledger_amount_parse(text, row->name, out, NULL);
    }
    uint64_t number = 0;
    enum err err = number_parse(text, &number);
    if (err == ERR_OK) {
        *out = amount_from_units(number);
    }
    return err;
}

enum err ledger_parameter_set(const struct ledger_parameter *row, const char *value,
                              struct ledger_parameters *parameters, struct note *note)
{
    struct amount parsed = AMOUNT_ZERO;
    struct amount minimum = AMOUNT_ZERO;
    struct amount maximum = AMOUNT_ZERO;
    CHECK(value_parse(row, row->minimum, &minimum) == ERR_OK);
    CHECK(value_parse(row, row->maximum, &maximum) == ERR_OK);
    if (value_parse(row, value, &parsed) != ERR_OK) {
        return note_set(note, ERR_INVALID, "%s \"%.40s\" is not a canonical decimal number",
                        row->name, value);
    }
    if (amount_compare(parsed, minimum) < 0 || amount_compare(parsed, maximum) > 0) {
        return note_set(note, ERR_RANGE, "%s %s is not within %s to %s", row->name, value,
                        row->minimum, row->maximum);
    }
    uint8_t *at = (uint8_t *)parameters + row->offset;
    const uint32_t narrow = (uint32_t)parsed.low; /* its bounds fit, where it is one */
    switch (row->type) {
    case LEDGER_PARAMETER_U32:
        memcpy(at, &narrow, sizeof narrow);
        break;
    case LEDGER_PARAMETER_U64:
        memcpy(at, &parsed.low, sizeof parsed.low);
        break;
    case LEDGER_PARAMETER_AMOUNT:
        memcpy(at, &parsed, sizeof parsed);
        break;
    }
    return ERR_OK;
}

/* ---- all of them -------------------------------------------------------------------------------- */

enum err ledger_parameters_check(const struct ledger_parameters *parameters, struct note *note)
{
    uint64_t sum = (uint64_t)parameters->platform_bp + parameters->model_bp +
                   parameters->stakers_bp + parameters->contributors_bp;
    return sum == BP_TOTAL ? ERR_OK
                           : note_set(note, ERR_RANGE, "fee parts sum to %llu, not %d",
                                      (unsigned long long)sum, BP_TOTAL);
}

void ledger_parameters_defaults(struct ledger_parameters *out)
{
    *out = (struct ledger_parameters){0};
    for (size_t i = 0; i < LEDGER_PARAMETER_COUNT; i++) {
        const struct ledger_parameter *row = &LEDGER_PARAMETERS[i];
        CHECK(ledger_parameter_set(row, row->fallback, out, NULL) == ERR_OK);
    }
    CHECK(ledger_parameters_check(out, NULL) == ERR_OK);
}

/* The message's own field of that name, NULL: it goes into others. */
static const ProtobufCFieldDescriptor *own_field(const struct ledger_parameter *row)
{
    return protobuf_c_message_descriptor_get_field_by_name(&openledger__v1__parameters__descriptor,
                                                           row->name);
}

static enum err own_field_read(const struct ledger_parameter *row,
                               const ProtobufCFieldDescriptor *field,
                               const Openledger__V1__Parameters *from,
                               struct ledger_parameters *out, struct note *note)
{
    const uint8_t *at = (const uint8_t *)from + field->offset;
    char text[AMOUNT_TEXT_SIZE];
    const char *value = text;
    uint32_t u32;
    uint64_t u64;
    if (field->type == PROTOBUF_C_TYPE_UINT32) {
        memcpy(&u32, at, sizeof u32);
        (void)snprintf(text, sizeof text, "%" PRIu32, u32);
    } else if (field->type == PROTOBUF_C_TYPE_UINT64) {
        memcpy(&u64, at, sizeof u64);
        (void)snprintf(text, sizeof text, "%" PRIu64, u64);
    } else {
        CHECK(field->type == PROTOBUF_C_TYPE_STRING);
        memcpy(&value, at, sizeof value);
    }
    return ledger_parameter_set(row, value, out, note);
}

enum err ledger_parameters_from_message(const Openledger__V1__Parameters *from,
                                        struct ledger_parameters *out, struct note *note)
{
    struct ledger_parameters parameters;
    ledger_parameters_defaults(&parameters);
    enum err err = ERR_OK;
    for (size_t i = 0; i < LEDGER_PARAMETER_COUNT && err == ERR_OK; i++) {
        const ProtobufCFieldDescriptor *field = own_field(&LEDGER_PARAMETERS[i]);
        if (field != NULL) {
            err = own_field_read(&LEDGER_PARAMETERS[i], field, from, &parameters, note);
        }
    }
    for (size_t i = 0; i < from->n_others && err == ERR_OK; i++) {
        const struct ledger_parameter *row = ledger_parameter_find(from->others[i]->name);
        bool repeated = false;
        for (size_t j = 0; j < i && i < LEDGER_PARAMETER_COUNT; j++) {
            repeated = repeated || strcmp(from->others[j]->name, from->others[i]->name) == 0;
        }
        if (row == NULL || own_field(row) != NULL || repeated || i >= LEDGER_PARAMETER_COUNT) {
            err =
                note_set(note, ERR_INVALID, "others: \"%.40s\" is no parameter, or is there twice",
                         from->others[i]->name);
        } else {
            err = ledger_parameter_set(row, from->others[i]->value, &parameters, note);
        }
    }
    err = err ? err : ledger_parameters_check(&parameters, note);
    if (err == ERR_OK) {
        *out = parameters;
    }
    return err;
}

Openledger__V1__Parameters *ledger_parameters_message(const struct ledger_parameters *parameters,
                                                      struct arena *arena)
{
    Openledger__V1__Parameters *out = arena_alloc(arena, sizeof *out);
    Openledger__V1__ParameterChange **others =
        arena_alloc_array(arena, LEDGER_PARAMETER_COUNT, sizeof(void *));
    if (out == NULL || others == NULL) {
        return NULL;
    }
    openledger__v1__parameters__init(out);
    out->others = others;
    for (size_t i = 0; i < LEDGER_PARAMETER_COUNT; i++) {
        const struct ledger_parameter *row = &LEDGER_PARAMETERS[i];
        const ProtobufCFieldDescriptor *field = own_field(row);
        char value[AMOUNT_TEXT_SIZE];
        char *text = arena_strdup(arena, ledger_parameter_format(row, parameters, value));
        char *name = arena_strdup(arena, row->name);
        Openledger__V1__ParameterChange *other = arena_alloc(arena, sizeof *other);
        if (text == NULL || name == NULL || other == NULL) {
            return NULL;
        }
        if (field == NULL) {
            openledger__v1__parameter_change__init(other);
            other->name = name;
            other->value = text;
            others[out->n_others++] = other;
        } else if (row->type == LEDGER_PARAMETER_AMOUNT) {
            memcpy((uint8_t *)out + field->offset, &text, sizeof text);
        } else {
            memcpy((uint8_t *)out + field->offset, (const uint8_t *)parameters + row->offset,
                   row->type == LEDGER_PARAMETER_U32 ? sizeof(uint32_t) : sizeof(uint64_t));
        }
    }
    return out;
}
