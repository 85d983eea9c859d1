/* A complete firmware around the exported model "digits": classifies the rows of rows.h and prints the classes.
 *
 * In a product, the raw features come from a sensor and semihosting is left out; the calls are the same.
 */
#include "digits.h"
#include "rows.h"
#include "semihosting.h"

#define ROWS (sizeof(rows) / sizeof(rows[0]))

static void print(const char *text)
{
    (void)semihosting(SEMIHOSTING_WRITE0, text);
}

/* `number` is not negative; there is no printf without a C library. */
static void print_number(int number)
{
    char text[12];
    char *digit = &text[sizeof(text) - 1U];

    *digit = '\0';
    do {
        digit--;
        *digit = (char)('0' + (number % 10));
        number /= 10;
    } while (number > 0);
    print(digit);
}

/* The five lines that a firmware needs. */
static int classify(const digits_raw_t raw[DIGITS_RAW_FEATURES])
{
    static digits_input_t input[DIGITS_INPUT_LENGTH];

    (void)digits_quantize(raw, input);
    return digits_predict(input);
}

int main(void)
{
    uint32_t k;

    if ((digits_check() != 0) || (digits_selftest() != 0)) {
        print("the model in flash has changed\n");
        return 1;
    }
    for (k = 0U; k < (uint32_t)ROWS; k++) {
        print("row ");
        print_number((int)k);
        print(": class ");
        print_number(classify(rows[k]));
        print("\n");
    }
    return 0;
}
