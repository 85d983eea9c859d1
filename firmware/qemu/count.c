/* A plug-in for QEMU that counts the instructions of each call of one function; compiled by `mip2mcu verify` if needed.
 *
 *     -plugin count.so,address=ADDRESS,counts=FILE
 *
 * writes a line with the number of instructions for each call of the function at ADDRESS (in decimal), from its first
 * instruction to its return, both included, called functions too. The instruction that is executed before the first one
 * is the call, so the function returns behind it.
 *
 * Debian's QEMU has no header for plug-ins; what is used of its interface is declared here. QEMU 4.2 to 8.2 want version
 * 1 of it, QEMU 9 version 2: these declarations are the same in both. The macro INTERFACE says which one it shall be.
 */
#if !defined(INTERFACE)
#define INTERFACE 1
#endif

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*call)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, void (*call)(unsigned int, void *),
                                            enum qemu_plugin_cb_flags flags, void *data);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*call)(qemu_plugin_id_t, void *), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t k);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

EXPORT extern int qemu_plugin_version;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv);

int qemu_plugin_version = INTERFACE;

static uintptr_t function;
static uintptr_t end_of_last; /* behind the instruction before this one */
static uintptr_t back;        /* where the running call returns to; 0 where none runs */
static uint64_t instructions;
static FILE *counts;

/* What is handed from translation to execution: an address of 32 bits and the instruction's size. */
static void *packed(uintptr_t address, size_t size)
{
    return (void *)(address << 4 | (uintptr_t)size);
}

static void execute(unsigned int cpu, void *data)
{
    const uintptr_t address = (uintptr_t)data >> 4;
    const uintptr_t size = (uintptr_t)data & 15;

    (void)cpu;
    if (back == 0 && address == function) {
        back = end_of_last;
        instructions = 0;
    } else if (back != 0 && address == back) {
        (void)fprintf(counts, "%" PRIu64 "\n", instructions);
        back = 0;
    }
    instructions++;
    end_of_last = address + size;
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    const size_t n = qemu_plugin_tb_n_insns(tb);
    size_t k;

    (void)id;
    for (k = 0; k < n; k++) {
        struct qemu_plugin_insn *const insn = qemu_plugin_tb_get_insn(tb, k);
        void *const data = packed((uintptr_t)qemu_plugin_insn_vaddr(insn), qemu_plugin_insn_size(insn));

        qemu_plugin_register_vcpu_insn_exec_cb(insn, execute, QEMU_PLUGIN_CB_NO_REGS, data);
    }
}

static void finish(qemu_plugin_id_t id, void *unused)
{
    (void)id;
    (void)unused;
    (void)fclose(counts);
}

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    int k;

    (void)info;
    for (k = 0; k < argc; k++) {
        if (strncmp(argv[k], "address=", 8) == 0) {
            function = (uintptr_t)strtoul(argv[k] + 8, NULL, 10);
        } else if (strncmp(argv[k], "counts=", 7) == 0) {
            counts = fopen(argv[k] + 7, "w");
        }
    }
    if (counts == NULL) {
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_atexit_cb(id, finish, NULL);
    return 0;
}
