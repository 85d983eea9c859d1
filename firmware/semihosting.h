/* Semihosting: a breakpoint hands a request to the debugger or emulator that runs the core, on Arm and on RISC-V.
 *
 * Without either, the breakpoint faults: keep semihosting out of the firmware that is shipped.
 */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include <stdint.h>

#define SEMIHOSTING_OPEN 0x01U
#define SEMIHOSTING_CLOSE 0x02U
#define SEMIHOSTING_WRITE0 0x04U
#define SEMIHOSTING_WRITE 0x05U
#define SEMIHOSTING_READ 0x06U
#define SEMIHOSTING_EXIT_EXTENDED 0x20U

#define SEMIHOSTING_MODE_READ_BINARY 1U
#define SEMIHOSTING_MODE_WRITE_BINARY 5U

/* Reason code "the application has ended"; the exit status stands beside it. */
#define SEMIHOSTING_APPLICATION_EXIT 0x20026U

#if defined(__riscv)
/* The three instructions must be 32 bits wide and stand in one page, hence .norvc and the alignment. */
static inline intptr_t semihosting(uint32_t operation, const void *argument)
{
    register uint32_t a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = argument;

    __asm__ volatile(
        ".option push\n\t"
        ".option norvc\n\t"
        ".balign 16\n\t"
        "slli zero, zero, 0x1f\n\t"
        "ebreak\n\t"
        "srai zero, zero, 7\n\t"
        ".option pop"
        : "+r"(a0)
        : "r"(a1)
        : "memory");
    return (intptr_t)a0;
}
#else
static inline intptr_t semihosting(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;

    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return (intptr_t)r0;
}
#endif

static inline void semihosting_exit(uint32_t status)
{
    const uint32_t arguments[2] = {SEMIHOSTING_APPLICATION_EXIT, status};

    (void)semihosting(SEMIHOSTING_EXIT_EXTENDED, arguments);
    for (;;) {
    }
}

#endif
