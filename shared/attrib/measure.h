/* measure.h - what both witnesses say about one answer. Internal to attrib. */
#pragma once

#include "shared/attrib/index.h"

struct attrib_measure {
    uint32_t answer_count;
    float *influence;        /* z-score per row; 0 for rows without evidence */
    struct spans_list spans; /* in the answer */
};
