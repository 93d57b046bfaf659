/* answer.h - answers that gather much: transactions with their postings, grants, receipts. Internal. */
#pragma once

#include "openledger/v1/services.pb-c.h"
#include "services/settlement/api.h"

#define ANSWER_BYTES_MAX 262144u /* of one page of entries or records: 256 KiB */

/* Handlers of the method table. */
enum err answer_get_tx(void *context, struct rpc_call *call, const void *message);
enum err answer_list_txs(void *context, struct rpc_call *call, const void *message);
enum err answer_get_grant(void *context, struct rpc_call *call, const void *message);
enum err answer_get_receipt(void *context, struct rpc_call *call, const void *message);
/* answer_stake.c */
enum err answer_get_stake(void *context, struct rpc_call *call, const void *message);
enum err answer_get_proposal(void *context, struct rpc_call *call, const void *message);
enum err answer_list_proposals(void *context, struct rpc_call *call, const void *message);

/* The index of a transaction named in a request. */
MUST_USE enum err answer_tx_index(struct desk *desk, struct rpc_call *call,
                                  ProtobufCBinaryData field, uint64_t *out_index);
/* A 32-byte field of a request. */
MUST_USE enum err answer_digest_of(struct rpc_call *call, ProtobufCBinaryData field,
                                   const char *name, struct digest *out);
/* Into the call's arena; NULL data or text: it is full. */
ProtobufCBinaryData answer_copy(struct arena *arena, const void *data, size_t size);
char *answer_amount_text(struct arena *arena, struct amount amount);
