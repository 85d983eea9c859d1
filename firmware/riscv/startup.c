/* Start-up of a bare RV32 core in machine mode: stack pointer, trap vector, variables, main.
 *
 * The names that begin with link_ come from sections.ld.
 */
#include <stdint.h>

#include "semihosting.h"

#define FAULT_STATUS 70U

extern uint32_t link_data_load[];
extern uint32_t link_data_start[];
extern uint32_t link_data_end[];
extern uint32_t link_bss_start[];
extern uint32_t link_bss_end[];

int main(void);
void reset_handler(void);
void start(void);
void trap(void);

/* mtvec takes an address that is a multiple of four. */
__attribute__((aligned(4))) void trap(void)
{
    semihosting_exit(FAULT_STATUS);
}

__attribute__((naked, used, section(".vectors"))) void start(void)
{
    __asm__ volatile(
        "la sp, link_stack_top\n\t"
        "la t0, trap\n\t"
        ".insn i 0x73, 1, zero, t0, 0x305\n\t" /* csrw mtvec, t0; assemblers ask for -march=..._zicsr to spell it */
        "j reset_handler");
}

__attribute__((used)) void reset_handler(void)
{
    const uint32_t *from = link_data_load;
    uint32_t *to = link_data_start;

    while (to != link_data_end) {
        *to = *from;
        to++;
        from++;
    }
    to = link_bss_start;
    while (to != link_bss_end) {
        *to = 0U;
        to++;
    }
    semihosting_exit((uint32_t)main());
}
