/* The four functions that a compiler may call even where there is no C library (GCC manual, "Standards").
 *
 * The pointers are volatile so that the compiler does not recognise the loops and make them call themselves.
 */
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *to, const void *from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);

void *memcpy(void *to, const void *from, size_t bytes)
{
    volatile uint8_t *t = to;
    const volatile uint8_t *f = from;
    size_t i;

    for (i = 0U; i < bytes; i++) {
        t[i] = f[i];
    }
    return to;
}

void *memmove(void *to, const void *from, size_t bytes)
{
    volatile uint8_t *t = to;
    const volatile uint8_t *f = from;
    size_t i;

    if ((uintptr_t)to <= (uintptr_t)from) {
        return memcpy(to, from, bytes);
    }
    for (i = bytes; i > 0U; i--) {
        t[i - 1U] = f[i - 1U];
    }
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    volatile uint8_t *t = to;
    size_t i;

    for (i = 0U; i < bytes; i++) {
        t[i] = (uint8_t)value;
    }
    return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
    const volatile uint8_t *x = a;
    const volatile uint8_t *y = b;
    size_t i;

    for (i = 0U; i < bytes; i++) {
        const int difference = (int)x[i] - (int)y[i];

        if (difference != 0) {
            return difference;
        }
    }
    return 0;
}
