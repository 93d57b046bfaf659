/* load.h - messages out of blobs, inside the datanet service. */
#pragma once

#include "openledger/v1/objects.pb-c.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/blob/blob.h"

/* Reads and decodes one object; what names its type in errors. Give it back with load_free. */
MUST_USE enum err load_message(struct blob_store *blobs,
                               const ProtobufCMessageDescriptor *descriptor, const char *what,
                               const struct digest *digest, ProtobufCMessage **out_message,
                               struct note *note);
MUST_USE enum err load_contribution(struct blob_store *blobs, const struct digest *content,
                                    Openledger__V1__Contribution **out, struct note *note);
void load_free(void *message); /* NULL is fine */
