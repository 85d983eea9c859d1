/* Start-up of a Cortex-M core: the vector table, the reset handler and the faults.
 *
 * Serves every core from M0 to M55: the table holds the 16 system entries only, as no interrupt is used. The names that
 * begin with link_ come from sections.ld.
 */
#include <stdint.h>

#include "semihosting.h"

#define FAULT_STATUS 70U

extern uint32_t link_data_load[];
extern uint32_t link_data_start[];
extern uint32_t link_data_end[];
extern uint32_t link_bss_start[];
extern uint32_t link_bss_end[];
extern uint32_t link_stack_top[];

int main(void);
void reset_handler(void);

static void fault_handler(void)
{
    semihosting_exit(FAULT_STATUS);
}

#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
/* Coprocessors 10 and 11 are off after reset, and with them the floating-point unit and MVE. */
static void enable_coprocessors(void)
{
    volatile uint32_t *const cpacr = (volatile uint32_t *)0xE000ED88U;

    *cpacr |= 0x00F00000U;
    __asm__ volatile("dsb\n\tisb" : : : "memory");
}
#endif

void reset_handler(void)
{
    const uint32_t *from = link_data_load;
    uint32_t *to = link_data_start;

#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    enable_coprocessors();
#endif
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

typedef union {
    void (*handler)(void);
    uint32_t *stack_top;
    uintptr_t reserved;
} vector_t;

__attribute__((used, section(".vectors"))) static const vector_t vectors[16] = {
    {.stack_top = link_stack_top},
    {.handler = reset_handler},
    {.handler = fault_handler}, /* NMI */
    {.handler = fault_handler}, /* HardFault */
    {.handler = fault_handler}, /* MemManage */
    {.handler = fault_handler}, /* BusFault */
    {.handler = fault_handler}, /* UsageFault */
    {.reserved = 0U},
    {.reserved = 0U},
    {.reserved = 0U},
    {.reserved = 0U},
    {.handler = fault_handler}, /* SVCall */
    {.handler = fault_handler}, /* DebugMonitor */
    {.reserved = 0U},
    {.handler = fault_handler}, /* PendSV */
    {.handler = fault_handler}, /* SysTick */
};
