/* weights_gguf.h - a model in one GGUF file, for weights.c only. */
#pragma once

#include "shared/base/bytes.h"
#include "shared/base/err.h"

struct lm_weights;
struct note;

/* Fills config and views, unsorted. On error weights holds what lm_weights_deinit frees. */
MUST_USE enum err lm_weights_gguf(struct lm_weights *weights, struct bytes file, struct note *note);
