/* What `mip2mcu verify --prove` gives Frama-C's Eva to analyse beside proof_main.c: the selftest of a generated model. It is
 * read, never run.
 *
 * The functions that the selftest calls are those below: they check that what they get is what proof_main.c calls the
 * model's own functions with, and give any result that these may give. So the selftest's text is analysed without layers,
 * unless it calls layers by themselves: then all functions are the model's own.
 */
#include "proved_model.h"

#if !PROVED_WHOLE
#include <__fc_builtin.h>

#define ANY_INT32 ((int32_t)Frama_C_long_interval(-2147483647L - 1L, 2147483647L))

#ifdef PROVED_OWN_INPUT
PROVED_OWN_INPUT
#endif

/* Every input has a value, in its range. */
static void check_inputs(const tested_input_t inputs[TESTED_INPUT_LENGTH])
{
#if PROVED_LIKE_BYTES
    /*@ check inputs_in_range:
          \forall integer i; 0 <= i < TESTED_INPUT_LENGTH ==> proved_low[0] <= inputs[i] <= proved_high[0]; */
#else
    uint32_t i;

    for (i = 0U; i < (uint32_t)TESTED_INPUT_LENGTH; i++) {
        const tested_input_t value = inputs[i];
#if TESTED_INPUT_PACKED
        /*@ check bits_are_inputs: value <= proved_bits[i]; */
#else
        /*@ check inputs_in_range: proved_low[i] <= value <= proved_high[i]; */
#endif
    }
#endif
}

static void give_any(int32_t values[], uint32_t count)
{
    uint32_t k;

    for (k = 0U; k < count; k++) {
        values[k] = ANY_INT32;
    }
}

PROVED_SUMS
{
    check_inputs(PROVED_INPUT);
    give_any(sums, TESTED_SUMS);
    return 0;
}

PROVED_SCORES
{
    check_inputs(PROVED_INPUT);
    give_any(scores, TESTED_SCORES);
    return 0;
}

PROVED_PREDICT
{
    check_inputs(PROVED_INPUT);
    return Frama_C_interval(0, PROVED_RESULTS - 1);
}

PROVED_MARGIN
{
    check_inputs(PROVED_INPUT);
    return ANY_INT32;
}

#ifdef TESTED_RAW_FEATURES
PROVED_QUANTIZE
{
    uint32_t i;

    for (i = 0U; i < (uint32_t)TESTED_RAW_FEATURES; i++) {
        const tested_raw_t value = raw[i];
        /*@ check raw_in_range: PROVED_RAW_LOW <= value <= PROVED_RAW_HIGH; */
    }
    for (i = 0U; i < (uint32_t)TESTED_INPUT_LENGTH; i++) {
#if TESTED_INPUT_PACKED
        input[i] = (tested_input_t)Frama_C_unsigned_long_interval(0U, proved_bits[i]);
#else
        input[i] = (tested_input_t)Frama_C_long_interval(proved_low[i], proved_high[i]);
#endif
    }
    return 0;
}
#endif
#endif

int main(void)
{
    TESTED_SCRATCH
    const int outcome = tested_selftest();

    /*@ check selftest_is_not_positive: outcome <= 0; */
    /*@ check analysed_to_the_end: \true; */
    return 0;
}
