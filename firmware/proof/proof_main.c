/* What `mip2mcu verify --prove` gives Frama-C's Eva to analyse: every function of a generated model but its selftest, called
 * with all inputs that its header allows. It is read, never run.
 *
 * Arrays that a function fills, and its scratch memory, begin without a value, so that reading one too early is an alarm.
 * "proved_model.h" is written for each proof; it includes the model's header and gives its names the prefix tested_.
 */
#include "proved_model.h"

#include <__fc_builtin.h>
#include <string.h>

/* Reads every value, which fails for one that was not written. */
static int32_t use_values(const int32_t values[], uint32_t count)
{
    int32_t mixed = 0;
    uint32_t k;

    for (k = 0U; k < count; k++) {
        mixed ^= values[k];
    }
    return mixed;
}

/* Any inputs in their ranges. */
static void infer_any(void)
{
    TESTED_SCRATCH
    TESTED_INPUT
    int32_t sums[TESTED_SUMS];
    int32_t scores[TESTED_SCORES];
    int32_t margin;
    int predicted;
    int status;
#if PROVED_LIKE_BYTES
    /* All of them have the range of the first one. */
    memset(input, Frama_C_interval((int)proved_low[0], (int)proved_high[0]), TESTED_INPUT_LENGTH);
#else
    uint32_t i;

    for (i = 0U; i < (uint32_t)TESTED_INPUT_LENGTH; i++) {
#if TESTED_INPUT_PACKED
        input[i] = (tested_input_t)Frama_C_unsigned_long_interval(0U, 0xFFFFFFFFU) & proved_bits[i];
#else
        input[i] = (tested_input_t)Frama_C_long_interval(proved_low[i], proved_high[i]);
#endif
    }
#endif
    status = tested_sums(input, sums);
    /*@ check sums_succeed: status == 0; */
    (void)use_values(sums, TESTED_SUMS);
    status = tested_scores(input, scores);
    /*@ check scores_succeed: status == 0; */
    (void)use_values(scores, TESTED_SCORES);
    predicted = tested_predict(input);
    /*@ check predicts_a_class: 0 <= predicted < PROVED_RESULTS; */
    margin = tested_margin(input);
    (void)use_values(&margin, 1U);
}

#ifdef TESTED_RAW_FEATURES
/* Any raw features, in and beyond the ranges seen in training, give inputs in their ranges: no others than infer_any's. */
static void quantize_any(void)
{
    TESTED_INPUT
    tested_raw_t raw[TESTED_RAW_FEATURES];
    int status;
    uint32_t i;

    for (i = 0U; i < (uint32_t)TESTED_RAW_FEATURES; i++) {
        raw[i] = (tested_raw_t)Frama_C_long_interval(PROVED_RAW_LOW, PROVED_RAW_HIGH);
    }
    status = tested_quantize(raw, input);
    /*@ check quantize_succeeds: status == 0; */
    for (i = 0U; i < (uint32_t)TESTED_INPUT_LENGTH; i++) {
        const tested_input_t value = input[i];
#if TESTED_INPUT_PACKED
        /*@ check quantized_bits_are_inputs: value <= proved_bits[i]; */
#else
        /*@ check quantized_in_range: proved_low[i] <= value <= proved_high[i]; */
#endif
    }
}
#endif

#if TESTED_INPUT_PACKED
/* Any bytes, for all but 0 count as 1. */
static void pack_any(void)
{
    TESTED_INPUT
    uint8_t bits[TESTED_INPUTS];
    int status;
    uint32_t i;

    for (i = 0U; i < (uint32_t)TESTED_INPUTS; i++) {
        bits[i] = (uint8_t)Frama_C_long_interval(0, 255);
    }
    status = tested_pack(bits, input);
    /*@ check pack_succeeds: status == 0; */
    for (i = 0U; i < (uint32_t)TESTED_INPUT_LENGTH; i++) {
        /*@ check packed_bits_are_inputs: input[i] <= proved_bits[i]; */
    }
}
#endif

#ifdef TESTED_CHECK
static void check_tables(void)
{
    const int outcome = tested_check();

    /*@ check check_gives_0_or_less: -1 <= outcome <= 0; */
}
#endif

int main(void)
{
    infer_any();
#ifdef TESTED_RAW_FEATURES
    quantize_any();
#endif
#if TESTED_INPUT_PACKED
    pack_any();
#endif
#ifdef TESTED_CHECK
    check_tables();
#endif
    /*@ check analysed_to_the_end: \true; */
    return 0;
}
