/* Runs a program on a simulated AVR, with libsimavr; a program of the host, compiled by `mip2mcu verify` when needed.
 *
 *     simulator MCU IMAGE LOW COUNTS [ADDRESS ...] < frames > answer
 *
 * IMAGE is what the flash holds from address 0 on. platform.c, in the simulated program, says how bytes pass. The stack
 * must stay above the data address LOW. Each call of a function at one of the flash addresses ADDRESS adds a line to
 * the file COUNTS:
 *
 *     ADDRESS CYCLES STACK      from its first instruction to its return, both included, in decimal
 *
 * STACK is in bytes below the caller's stack pointer. Calls that happen inside a followed call belong to it. Exit
 * status: what the program ends with, or one of those below.
 */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <simavr/sim_avr.h>
#include <simavr/sim_core_config.h>
#include <simavr/sim_io.h>

#define FIXED_ARGUMENTS 5
#define FUNCTIONS 8

#define BAD_CALL 64
#define FAULT 70
#define STACK_OVERFLOW 71

/* The instructions "out SPL, register" and "out SPH, register". */
#define OUT_MASK 0xFE0FU
#define OUT_SPL 0xBE0DU
#define OUT_SPH 0xBE0EU

#define GPIOR0 0x3E
#define GPIOR1 0x4A
#define GPIOR2 0x4B

typedef struct {
    int is_running;
    avr_flashaddr_t address; /* of the function */
    avr_flashaddr_t back;    /* where it returns to */
    uint32_t top;            /* the caller's stack pointer */
    uint32_t lowest;
    avr_cycle_count_t begin;
} call_t;

static int exit_status = -1;

static uint8_t read_ready(struct avr_t *avr, avr_io_addr_t address, void *unused)
{
    const int next = getc(stdin);

    (void)avr;
    (void)address;
    (void)unused;
    if (next != EOF) {
        (void)ungetc(next, stdin);
    }
    return next != EOF;
}

static uint8_t read_byte(struct avr_t *avr, avr_io_addr_t address, void *unused)
{
    (void)avr;
    (void)address;
    (void)unused;
    return (uint8_t)getc(stdin);
}

static void write_byte(struct avr_t *avr, avr_io_addr_t address, uint8_t value, void *unused)
{
    (void)avr;
    (void)address;
    (void)unused;
    (void)putc(value, stdout);
}

static void write_status(struct avr_t *avr, avr_io_addr_t address, uint8_t value, void *unused)
{
    (void)avr;
    (void)address;
    (void)unused;
    exit_status = value;
}

/* Only errors are passed on, and never to standard output. */
static void log_errors(avr_t *avr, const int level, const char *format, va_list values)
{
    (void)avr;
    if (level == LOG_ERROR) {
        (void)vfprintf(stderr, format, values);
    }
}

static uint32_t stack_pointer(const avr_t *avr)
{
    return (uint32_t)avr->data[R_SPL] | (uint32_t)avr->data[R_SPH] << 8;
}

/* A return address lies on the stack with its highest byte first, in words. */
static avr_flashaddr_t return_address(const avr_t *avr)
{
    const uint32_t sp = stack_pointer(avr);
    avr_flashaddr_t words = 0;
    uint32_t k;

    for (k = 1; k <= avr->address_size; k++) {
        words = words << 8 | avr->data[sp + k];
    }
    return words * 2;
}

static avr_t *start(const char *mcu, const char *image)
{
    static uint8_t flash[256 * 1024];
    FILE *file = fopen(image, "rb");
    avr_t *avr = avr_make_mcu_by_name(mcu);
    size_t bytes;

    if (file == NULL || avr == NULL) {
        return NULL;
    }
    bytes = fread(flash, 1, sizeof(flash), file);
    (void)fclose(file);
    (void)avr_init(avr);
    if (bytes > (size_t)avr->flashend + 1) {
        return NULL;
    }
    avr_loadcode(avr, flash, (uint32_t)bytes, 0);
    avr->codeend = (uint32_t)bytes;
    avr_register_io_read(avr, GPIOR1, read_ready, NULL);
    avr_register_io_read(avr, GPIOR0, read_byte, NULL);
    avr_register_io_write(avr, GPIOR0, write_byte, NULL);
    avr_register_io_write(avr, GPIOR2, write_status, NULL);
    return avr;
}

/* Called before each instruction: notes where a followed call begins, how deep its stack grows, and where it ends. */
static void follow(const avr_t *avr, call_t *call, const avr_flashaddr_t *functions, int count, FILE *counts)
{
    const uint32_t sp = stack_pointer(avr);
    int k;

    if (call->is_running) {
        if (avr->pc == call->back && sp == call->top) {
            (void)fprintf(counts, "%lu %llu %lu\n", (unsigned long)call->address,
                          (unsigned long long)(avr->cycle - call->begin), (unsigned long)(call->top - call->lowest));
            call->is_running = 0;
        } else if (sp < call->lowest) {
            call->lowest = sp;
        }
        return;
    }
    for (k = 0; k < count; k++) {
        if (avr->pc == functions[k]) {
            call->is_running = 1;
            call->address = avr->pc;
            call->back = return_address(avr);
            call->top = sp + avr->address_size;
            call->lowest = sp;
            call->begin = avr->cycle;
        }
    }
}

/* Runs to the end; returns the exit status. */
static int run(avr_t *avr, uint32_t low, const avr_flashaddr_t *functions, int count, FILE *counts)
{
    call_t call = {0, 0, 0, 0, 0, 0};
    int is_moving = 0; /* the upper byte of the stack pointer is written already, the lower one not yet */

    while (exit_status < 0) {
        const unsigned int opcode = avr->flash[avr->pc] | (unsigned int)avr->flash[avr->pc + 1] << 8;
        const int state = avr_run(avr);

        if (state == cpu_Crashed || state == cpu_Done) {
            return FAULT;
        }
        is_moving = (opcode & OUT_MASK) == OUT_SPH || (is_moving && (opcode & OUT_MASK) != OUT_SPL);
        if (!is_moving && stack_pointer(avr) < low) {
            return STACK_OVERFLOW;
        }
        if (!is_moving && count > 0) {
            follow(avr, &call, functions, count, counts);
        }
    }
    return exit_status;
}

int main(int argc, char **argv)
{
    avr_flashaddr_t functions[FUNCTIONS];
    const int count = argc - FIXED_ARGUMENTS;
    avr_t *avr;
    FILE *counts;
    int status;
    int k;

    if (count < 0 || count > FUNCTIONS) {
        (void)printf("simavr %s\n", CONFIG_SIMAVR_VERSION);
        return BAD_CALL;
    }
    for (k = 0; k < count; k++) {
        functions[k] = (avr_flashaddr_t)strtoul(argv[FIXED_ARGUMENTS + k], NULL, 10);
    }
    avr_global_logger_set(log_errors);
    avr = start(argv[1], argv[2]);
    counts = fopen(argv[4], "w");
    if (avr == NULL || counts == NULL) {
        (void)fprintf(stderr, "cannot simulate %s with %s\n", argv[1], argv[2]);
        return BAD_CALL;
    }
    status = run(avr, (uint32_t)strtoul(argv[3], NULL, 10), functions, count, counts);
    return (fclose(counts) == 0 && fflush(stdout) == 0) ? status : FAULT;
}
