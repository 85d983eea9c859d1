/* platform.h on a simulated AVR: three general-purpose registers are the wires to simulator.c on the other side.
 *
 *     read GPIOR1     1 while frames are left to be read, else 0
 *     read GPIOR0     the next byte of the frames
 *     write GPIOR0    a byte of the answer
 *     write GPIOR2    ends the program with this status
 */
#include <avr/io.h>

#include "platform.h"

/* Start-up code calls this with what main returns, as exit: a name that C reserves, so that only the linker sees it. */
void platform_end(int status) __asm__("exit") __attribute__((noreturn));

void platform_open(void)
{
}

void platform_close(void)
{
}

uint32_t platform_read(void *data, uint32_t bytes)
{
    uint8_t *next = data;
    uint32_t left = bytes;

    while (left > 0U && GPIOR1 != 0U) {
        *next = GPIOR0;
        next++;
        left--;
    }
    return bytes - left;
}

void platform_write(const void *data, uint32_t bytes)
{
    const uint8_t *next = data;

    for (; bytes > 0U; bytes--) {
        GPIOR0 = *next;
        next++;
    }
}

void platform_end(int status)
{
    GPIOR2 = (uint8_t)status;
    for (;;) {
    }
}
