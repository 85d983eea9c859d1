/* What verify_main.c needs from the machine it runs on: bytes in, bytes out, an end.
 *
 * Implemented by host/platform.c (standard input and output) and by platform_semihosting.c (a simulated core, which
 * reads and writes two files of the machine that simulates it).
 */
#ifndef MIP2MCU_PLATFORM_H
#define MIP2MCU_PLATFORM_H

#include <stdint.h>

/* Fills `data`; returns the number of bytes read, less than `bytes` only where the input ends. */
uint32_t platform_read(void *data, uint32_t bytes);

/* Writes all of `data`. */
void platform_write(const void *data, uint32_t bytes);

/* Called once before anything else, and once after everything else. */
void platform_open(void);
void platform_close(void);

#endif
