/* account_id.c - see account_id.h. */
#include "shared/base/account_id.h"

#include <string.h>

#include "shared/base/bech32m.h"
#include "shared/base/check.h"

int account_id_compare(const struct account_id *a, const struct account_id *b)
{
    return memcmp(a->bytes, b->bytes, ACCOUNT_ID_SIZE);
}

bool account_id_equal(const struct account_id *a, const struct account_id *b)
{
    return account_id_compare(a, b) == 0;
}

const char *account_id_format(const struct account_id *id, char out[ACCOUNT_ID_TEXT_SIZE])
{
    char text[BECH32M_TEXT_SIZE];
    enum err err = bech32m_encode(ACCOUNT_ID_PREFIX, bytes_of(id->bytes, ACCOUNT_ID_SIZE), text);
    CHECK(err == ERR_OK);
    CHECK(strlen(text) == ACCOUNT_ID_TEXT_SIZE - 1);
    return memcpy(out, text, ACCOUNT_ID_TEXT_SIZE);
}

enum err account_id_parse(const char *text, struct account_id *out_id)
{
    struct account_id id = {{0}};
    size_t size = 0;
    enum err err = bech32m_decode(ACCOUNT_ID_PREFIX, text, id.bytes, sizeof id.bytes, &size);
    if (err != ERR_OK || size != ACCOUNT_ID_SIZE) {
        return ERR_INVALID;
    }
    *out_id = id;
    return ERR_OK;
}
