/* platform.h on a computer: standard input and standard output, in binary. */
#include <stdio.h>

#include "platform.h"

#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#endif

void platform_open(void)
{
#ifdef _WIN32
    (void)_setmode(_fileno(stdin), _O_BINARY);
    (void)_setmode(_fileno(stdout), _O_BINARY);
#endif
}

void platform_close(void)
{
    (void)fflush(stdout);
}

uint32_t platform_read(void *data, uint32_t bytes)
{
    return (uint32_t)fread(data, 1U, bytes, stdin);
}

void platform_write(const void *data, uint32_t bytes)
{
    (void)fwrite(data, 1U, bytes, stdout);
}
