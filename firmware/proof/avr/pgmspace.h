/* avr-libc's flash readers as an analyser sees them: flash is memory like any other, and a value has its table's type. */
#ifndef MIP2MCU_PROOF_PGMSPACE_H
#define MIP2MCU_PROOF_PGMSPACE_H

#include <stdint.h>

#define PROGMEM
#define pgm_read_byte(address) (*(address))
#define pgm_read_word(address) (*(address))
#define pgm_read_dword(address) (*(address))

#endif
