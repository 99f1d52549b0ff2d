/* Answers the CPUID instructions of the libraries that a process loads; see other_processor.py.
 *
 * The dynamic linker loads this by LD_AUDIT and tells it of each library after mapping it and
 * before running any of it. Each CPUID instruction becomes INT3 and NOP, two bytes as before;
 * the kernel makes a SIGTRAP of INT3, and the handler sets the registers as CPUID would.
 */
#define _GNU_SOURCE
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <ucontext.h>
#include <unistd.h>

#define ANY 0xffffffffu
static const unsigned char CPUID[] = {0x0f, 0xa2}, INT3_NOP[] = {0xcc, 0x90};

static struct answer { unsigned leaf, subleaf, keep[4], set[4]; } answers[64];
static struct place { unsigned long device, inode, address; } places[4096];
static int answer_count, place_count;

static void fail(const char *what, const char *name) {
    fprintf(stderr, "other_processor: %s: %s\n", what, name);
    _exit(1);
}

/* EAX, EBX, ECX and EDX are the real processor's, but for the bits that `answers` gives. */
static void answer(unsigned leaf, unsigned subleaf, unsigned r[4]) {
    __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(subleaf));
    for (struct answer *a = answers; a < answers + answer_count; a++) {
        if (a->leaf != leaf || (a->subleaf != ANY && a->subleaf != subleaf)) continue;
        for (int i = 0; i < 4; i++) r[i] = (r[i] & a->keep[i]) | a->set[i];
        return;
    }
}

static void trapped(int number, siginfo_t *info, void *context) {
    (void)info;
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (memcmp((char *)g[REG_RIP] - 1, INT3_NOP, 2)) { /* a break point of the library's own */
        signal(number, SIG_DFL);
        g[REG_RIP] -= 1;
        return;
    }
    unsigned r[4];
    answer(g[REG_RAX], g[REG_RCX], r);
    g[REG_RAX] = r[0], g[REG_RBX] = r[1], g[REG_RCX] = r[2], g[REG_RDX] = r[3];
}

static FILE *open_file(const char *variable) {
    const char *name = getenv(variable);
    FILE *file = name ? fopen(name, "r") : 0;
    if (!file) fail("cannot read the file named by the variable", variable);
    return file;
}

unsigned la_version(unsigned version) {
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
    FILE *file = open_file("OTHER_PROCESSOR_ANSWERS");
    for (struct answer *a = answers; a < answers + 64; a++, answer_count++)
        if (fscanf(file, "%x%x%x%x%x%x%x%x%x%x", &a->leaf, &a->subleaf, &a->keep[0], &a->keep[1], &a->keep[2],
                   &a->keep[3], &a->set[0], &a->set[1], &a->set[2], &a->set[3]) != 10)
            break;
    fclose(file);
    file = open_file("OTHER_PROCESSOR_PLACES");
    for (struct place *p = places; p < places + 4096; p++, place_count++)
        if (fscanf(file, "%lx%lx%lx", &p->device, &p->inode, &p->address) != 3) break;
    fclose(file);
    if (!answer_count || !place_count || answer_count == 64 || place_count == 4096)
        fail("the files hold nothing, or too much", "OTHER_PROCESSOR_ANSWERS, OTHER_PROCESSOR_PLACES");
    sigaction(SIGTRAP, &action, 0);
    return version;
}

unsigned la_objopen(struct link_map *map, Lmid_t lmid, uintptr_t *cookie) {
    (void)lmid, (void)cookie;
    struct stat file;
    if (!*map->l_name || stat(map->l_name, &file)) return 0;
    unsigned long page = sysconf(_SC_PAGESIZE);
    for (struct place *p = places; p < places + place_count; p++) {
        if (p->device != file.st_dev || p->inode != file.st_ino) continue;
        char *at = (char *)map->l_addr + p->address;
        char *first = (char *)((unsigned long)at / page * page);
        if (memcmp(at, CPUID, 2)) fail("no CPUID where one was found before", map->l_name);
        if (mprotect(first, at + 2 - first, PROT_READ | PROT_WRITE | PROT_EXEC)) fail("cannot write", map->l_name);
        memcpy(at, INT3_NOP, 2);
        mprotect(first, at + 2 - first, PROT_READ | PROT_EXEC);
    }
    return 0;
}
