/* The verification harness: runs a generated model on rows of integers and writes what it computes, as integers.
 *
 * The same text is compiled for the host and for every simulated core. It reads requests until the input ends:
 *
 *     uint32_t mode, uint32_t rows, then `rows` frames          and answers `rows` frames
 *     MODE_DESCRIBE   no frame in                                one description_t
 *     MODE_QUANTIZE   tested_raw_t[TESTED_RAW_FEATURES]            tested_input_t[TESTED_INPUT_LENGTH]
 *     MODE_PACK       uint8_t[TESTED_INPUTS]                      tested_input_t[TESTED_INPUT_LENGTH]
 *     MODE_INFER      tested_input_t[TESTED_INPUT_LENGTH]          result_t
 *     MODE_SELFTEST   no frame in                                int32_t
 *     MODE_PREDICT    tested_input_t[TESTED_INPUT_LENGTH]        int32_t, the class; for counting instructions
 *     MODE_CHECK      no frame in                                int32_t
 *     MODE_SUMS       tested_input_t[TESTED_INPUT_LENGTH]        int32_t, the first sum; for counting instructions
 *
 * All integers are little-endian, unpadded, in the widths of the model's own types. "tested_model.h" is written for
 * each verification; it includes the model's header and gives its names the prefix tested_ (or TESTED_).
 */
#include "tested_model.h"
#include "platform.h"

#if defined(__AVR__)
#include <avr/pgmspace.h>
#else
#define PROGMEM
#define pgm_read_byte(address) (*(address))
#endif

/* One platform call moves at most this many bytes of frames, so that the harness fits cores with 16 KB of RAM. */
#if defined(__AVR__)
#define BLOCK_BYTES 1U /* one frame: some have 2 KB */
#else
#define BLOCK_BYTES 2048U
#endif
#define FRAMES_PER_BLOCK(frame_bytes) ((frame_bytes) >= BLOCK_BYTES ? 1U : BLOCK_BYTES / (frame_bytes))

enum mode {
    MODE_DESCRIBE = 1,
    MODE_QUANTIZE = 2,
    MODE_PACK = 3,
    MODE_INFER = 4,
    MODE_SELFTEST = 5,
    MODE_PREDICT = 6,
    MODE_CHECK = 7,
    MODE_SUMS = 8
};

typedef struct {
    uint32_t mode;
    uint32_t rows;
} request_t;

typedef struct {
    uint32_t abi;
    uint32_t classes;
    uint32_t inputs;
    uint32_t input_length;
    uint32_t input_packed;
    uint32_t input_bytes; /* of one element */
    uint32_t input_signed;
    uint32_t sums;
    uint32_t scores;
    uint32_t raw_features; /* 0 without a quantizer */
    uint32_t raw_bytes;
    uint32_t raw_signed;
    uint32_t scratch_bytes;
    char sha256[64];
} description_t;

/* status: the sum of what the functions returned that promise 0. */
typedef struct {
    int32_t sums[TESTED_SUMS];
    int32_t scores[TESTED_SCORES];
    int32_t predicted;
    int32_t margin;
    int32_t status;
} result_t;

typedef tested_input_t input_frame_t[TESTED_INPUT_LENGTH];

#define INFER_FRAMES FRAMES_PER_BLOCK(sizeof(input_frame_t) + sizeof(result_t))
static input_frame_t inputs[INFER_FRAMES];

#ifdef TESTED_RAW_FEATURES
typedef tested_raw_t raw_frame_t[TESTED_RAW_FEATURES];
#define RAW_FRAMES FRAMES_PER_BLOCK(sizeof(raw_frame_t))
#endif

#if TESTED_INPUT_PACKED
typedef uint8_t bits_frame_t[TESTED_INPUTS];
#define BITS_FRAMES FRAMES_PER_BLOCK(sizeof(bits_frame_t))
#endif

/* What one request needs beside the inputs, none of it on the stack. */
static union {
    description_t description;
    result_t results[INFER_FRAMES];
#ifdef TESTED_RAW_FEATURES
    raw_frame_t raws[RAW_FRAMES];
#endif
#if TESTED_INPUT_PACKED
    bits_frame_t bits[BITS_FRAMES];
#endif
} workspace;

#define IS_SIGNED(type) ((type)-1 < (type)1 ? 1U : 0U)

static void describe(void)
{
    static const char sha256[] PROGMEM = TESTED_MODEL_SHA256;
    description_t *const d = &workspace.description;
    uint32_t i;

    d->abi = TESTED_ABI;
    d->classes = TESTED_CLASSES;
    d->inputs = TESTED_INPUTS;
    d->input_length = TESTED_INPUT_LENGTH;
    d->input_packed = TESTED_INPUT_PACKED;
    d->input_bytes = (uint32_t)sizeof(tested_input_t);
    d->input_signed = IS_SIGNED(tested_input_t);
    d->sums = TESTED_SUMS;
    d->scores = TESTED_SCORES;
#ifdef TESTED_RAW_FEATURES
    d->raw_features = TESTED_RAW_FEATURES;
    d->raw_bytes = (uint32_t)sizeof(tested_raw_t);
    d->raw_signed = IS_SIGNED(tested_raw_t);
#else
    d->raw_features = 0U;
    d->raw_bytes = 0U;
    d->raw_signed = 0U;
#endif
    d->scratch_bytes = TESTED_SCRATCH_BYTES;
    for (i = 0U; i < (uint32_t)sizeof(d->sha256); i++) {
        d->sha256[i] = '\0';
        if (i < (uint32_t)sizeof(sha256)) {
            d->sha256[i] = (char)pgm_read_byte(&sha256[i]);
        }
    }
    platform_write(d, (uint32_t)sizeof(*d));
}

/* The number of whole frames that could be read. */
static uint32_t read_frames(void *frames, uint32_t count, uint32_t frame_bytes)
{
    return platform_read(frames, count * frame_bytes) / frame_bytes;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return (a < b) ? a : b;
}

static void infer(uint32_t rows)
{
    result_t *const results = workspace.results;

    while (rows > 0U) {
        const uint32_t count =
            read_frames(inputs, smaller(rows, (uint32_t)INFER_FRAMES), (uint32_t)sizeof(input_frame_t));
        uint32_t k;

        for (k = 0U; k < count; k++) {
            results[k].status = tested_sums(inputs[k], results[k].sums);
            results[k].status += tested_scores(inputs[k], results[k].scores);
            results[k].predicted = tested_predict(inputs[k]);
            results[k].margin = tested_margin(inputs[k]);
        }
        platform_write(results, count * (uint32_t)sizeof(result_t));
        rows = (count == 0U) ? 0U : rows - count;
    }
}

static void predict(uint32_t rows)
{
    while (rows > 0U && read_frames(inputs[0], 1U, (uint32_t)sizeof(input_frame_t)) == 1U) {
        const int32_t predicted = tested_predict(inputs[0]);

        platform_write(&predicted, (uint32_t)sizeof(predicted));
        rows--;
    }
}

static void sums(uint32_t rows)
{
    int32_t *const first = workspace.results[0].sums;

    while (rows > 0U && read_frames(inputs[0], 1U, (uint32_t)sizeof(input_frame_t)) == 1U) {
        (void)tested_sums(inputs[0], first);
        platform_write(first, (uint32_t)sizeof(*first));
        rows--;
    }
}

#ifdef TESTED_RAW_FEATURES
static void quantize(uint32_t rows)
{
    const uint32_t block = smaller((uint32_t)RAW_FRAMES, (uint32_t)INFER_FRAMES);

    while (rows > 0U) {
        const uint32_t count = read_frames(workspace.raws, smaller(rows, block), (uint32_t)sizeof(raw_frame_t));
        uint32_t k;

        for (k = 0U; k < count; k++) {
            (void)tested_quantize(workspace.raws[k], inputs[k]);
        }
        platform_write(inputs, count * (uint32_t)sizeof(input_frame_t));
        rows = (count == 0U) ? 0U : rows - count;
    }
}
#endif

#if TESTED_INPUT_PACKED
static void pack(uint32_t rows)
{
    const uint32_t block = smaller((uint32_t)BITS_FRAMES, (uint32_t)INFER_FRAMES);

    while (rows > 0U) {
        const uint32_t count = read_frames(workspace.bits, smaller(rows, block), (uint32_t)sizeof(bits_frame_t));
        uint32_t k;

        for (k = 0U; k < count; k++) {
            (void)tested_pack(workspace.bits[k], inputs[k]);
        }
        platform_write(inputs, count * (uint32_t)sizeof(input_frame_t));
        rows = (count == 0U) ? 0U : rows - count;
    }
}
#endif

static void selftest(void)
{
    const int32_t outcome = tested_selftest();

    platform_write(&outcome, (uint32_t)sizeof(outcome));
}

#ifdef TESTED_CHECKED_BYTES
static void check(void)
{
    const int32_t outcome = tested_check();

    platform_write(&outcome, (uint32_t)sizeof(outcome));
}
#endif

/* Returns 0, or 1 for a request that this model does not know. */
static int answer(const request_t *request)
{
    switch (request->mode) {
    case MODE_DESCRIBE:
        describe();
        return 0;
    case MODE_INFER:
        infer(request->rows);
        return 0;
    case MODE_SELFTEST:
        selftest();
        return 0;
    case MODE_PREDICT:
        predict(request->rows);
        return 0;
    case MODE_SUMS:
        sums(request->rows);
        return 0;
#ifdef TESTED_CHECKED_BYTES
    case MODE_CHECK:
        check();
        return 0;
#endif
#ifdef TESTED_RAW_FEATURES
    case MODE_QUANTIZE:
        quantize(request->rows);
        return 0;
#endif
#if TESTED_INPUT_PACKED
    case MODE_PACK:
        pack(request->rows);
        return 0;
#endif
    default:
        return 1;
    }
}

int main(void)
{
    request_t request;
    int refused = 0;

    platform_open();
    while (refused == 0 && platform_read(&request, (uint32_t)sizeof(request)) == (uint32_t)sizeof(request)) {
        refused = answer(&request);
    }
    platform_close();
    return refused;
}
