/* platform.h on a simulated core: two files of the simulating machine, through Arm's semihosting interface.
 *
 * Files and not ":tt" (the console), because QEMU passes console input byte by byte. "semihosting.h" is the one of the
 * core's folder.
 */
#include "platform.h"
#include "semihosting.h"

static uintptr_t frames_in;
static uintptr_t frames_out;

static uintptr_t open_file(const char *path, uint32_t path_bytes, uintptr_t mode)
{
    const uintptr_t arguments[3] = {(uintptr_t)path, mode, path_bytes};

    return (uintptr_t)semihosting(SEMIHOSTING_OPEN, arguments);
}

void platform_open(void)
{
    frames_in = open_file("frames.in", 9U, SEMIHOSTING_MODE_READ_BINARY);
    frames_out = open_file("frames.out", 10U, SEMIHOSTING_MODE_WRITE_BINARY);
}

void platform_close(void)
{
    const uintptr_t arguments[1] = {frames_out};

    (void)semihosting(SEMIHOSTING_CLOSE, arguments);
}

/* SYS_READ and SYS_WRITE return how many bytes were *not* moved; a whole length not read is the end of the file. */
uint32_t platform_read(void *data, uint32_t bytes)
{
    uint8_t *const to = data;
    uint32_t done = 0U;

    while (done < bytes) {
        const uintptr_t arguments[3] = {frames_in, (uintptr_t)&to[done], bytes - done};
        const uint32_t left = (uint32_t)semihosting(SEMIHOSTING_READ, arguments);

        if (left >= (bytes - done)) {
            break;
        }
        done = bytes - left;
    }
    return done;
}

void platform_write(const void *data, uint32_t bytes)
{
    const uint8_t *const from = data;
    const uintptr_t arguments[3] = {frames_out, (uintptr_t)from, bytes};

    if (bytes > 0U) {
        (void)semihosting(SEMIHOSTING_WRITE, arguments);
    }
}
