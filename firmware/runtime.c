/* The four functions that a compiler may call even where there is no C library (GCC manual, "Standards").
 *
 * C reserves their names, so that only the linker sees them. The pointers are volatile so that the compiler does not
 * recognise the loops and make them call themselves.
 */
#include <stddef.h>
#include <stdint.h>

void *runtime_copy(void *to, const void *from, size_t bytes) __asm__("memcpy") __attribute__((used));
void *runtime_move(void *to, const void *from, size_t bytes) __asm__("memmove") __attribute__((used));
void *runtime_fill(void *to, int value, size_t bytes) __asm__("memset") __attribute__((used));
int runtime_compare(const void *a, const void *b, size_t bytes) __asm__("memcmp") __attribute__((used));

void *runtime_copy(void *to, const void *from, size_t bytes)
{
    volatile uint8_t *t = to;
    const volatile uint8_t *f = from;
    size_t i;

    for (i = 0U; i < bytes; i++) {
        t[i] = f[i];
    }
    return to;
}

void *runtime_move(void *to, const void *from, size_t bytes)
{
    volatile uint8_t *t = to;
    const volatile uint8_t *f = from;
    size_t i;

    if ((uintptr_t)t <= (uintptr_t)f) {
        return runtime_copy(to, from, bytes);
    }
    for (i = bytes; i > 0U; i--) {
        t[i - 1U] = f[i - 1U];
    }
    return to;
}

void *runtime_fill(void *to, int value, size_t bytes)
{
    volatile uint8_t *t = to;
    size_t i;

    for (i = 0U; i < bytes; i++) {
        t[i] = (uint8_t)value;
    }
    return to;
}

int runtime_compare(const void *a, const void *b, size_t bytes)
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
