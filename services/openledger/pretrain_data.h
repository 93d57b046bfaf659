/* pretrain_data.h - a file of documents as one stream of tokens, held in memory. */
#pragma once

#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/crypto/sha256.h"
#include "shared/token/chat.h"
#include "shared/token/tokenizer.h"

#define PRETRAIN_SOURCES_MAX 64U /* distinct "source" values */
#define PRETRAIN_SOURCE_SIZE 64U /* bytes of one, with NUL; longer ones are cut */
#define PRETRAIN_MANIFEST_KIND "openledger-base-model-v1"
#define PRETRAIN_TOKENS_MAX (1ULL << 31) /* in one file */

struct pretrain_source {
    char name[PRETRAIN_SOURCE_SIZE];
    uint64_t document_count, token_count;
};

/* Documents laid end to end, each closed by the end-of-text token. */
struct pretrain_data {
    struct lm_ids ids;
    uint64_t document_count, byte_count;
    struct digest digest, tokenizer_digest; /* of the file, of tokenizer.json */
    struct pretrain_source sources[PRETRAIN_SOURCES_MAX];
    uint32_t source_count;
    uint32_t vocab, end_of_text;
};

/* path: JSONL, {"text"}, {"prompt","completion"} or {"messages"}, with an optional "source".
 * tokenizer: a folder with tokenizer.json. ERR_INVALID names the line. */
MUST_USE enum err pretrain_data_load(struct pretrain_data *data, const char *path,
                                     const char *tokenizer, struct note *note);
/* The same with the tokenizer.json itself. */
MUST_USE enum err pretrain_data_read(struct pretrain_data *data, const char *path,
                                     struct bytes tokenizer_json, struct note *note);
void pretrain_data_deinit(struct pretrain_data *data); /* a zeroed one is fine */
