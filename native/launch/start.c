/* The entry point and the few functions a compiler takes for granted, for the build without a C library
 * (-DMASU_FREESTANDING -nostdlib). With a C library this file is empty and `main` is called by it. */
#include "launch.h"

#ifdef MASU_FREESTANDING

#ifndef MASU_ASM_SYSCALLS
#error "no entry point for this machine: build with its C library, without MASU_FREESTANDING"
#endif

#if defined(__x86_64__)
__asm__(".text\n.globl _start\n_start:\n"
        "    xor %ebp, %ebp\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call masu_start\n");
#elif defined(__aarch64__)
__asm__(".text\n.globl _start\n_start:\n"
        "    mov x29, #0\n"
        "    mov x30, #0\n"
        "    mov x0, sp\n"
        "    and sp, x0, #-16\n"
        "    b masu_start\n");
#else
__asm__(".text\n.globl _start\n_start:\n"
        ".option push\n.option norelax\n    lla gp, __global_pointer$\n.option pop\n"
        "    mv a0, sp\n"
        "    andi sp, sp, -16\n"
        "    tail masu_start\n");
#endif

#define ENTRY_RANDOM 25 /* AT_RANDOM: sixteen bytes the kernel chose (getauxval(3)) */

/* What -fstack-protector compares with. */
uintptr_t __stack_chk_guard = 0x5bd1e995;

_Noreturn void __stack_chk_fail(void);
_Noreturn void __stack_chk_fail(void)
{
    static const char text[] = "masu-launch: stack smashed\n";
    sys_write(STDERR, text, sizeof text - 1);
    sys(__NR_kill, sys_getpid(), 6);
    sys_exit(134);
}

int main(int argc, char **argv);
_Noreturn void masu_start(const uintptr_t *stack);
__attribute__((no_stack_protector, used)) _Noreturn void masu_start(const uintptr_t *stack)
{
    int argc = (int)stack[0];
    char **argv = (char **)(uintptr_t)(stack + 1);
    const uintptr_t *at = stack + 1 + argc + 1;
    while (*at != 0) /* the environment, which masu-launch never reads */
        at++;
    for (at++; at[0] != 0; at += 2) {
        if (at[0] == ENTRY_RANDOM)
            memcpy(&__stack_chk_guard, (const void *)at[1], sizeof __stack_chk_guard);
    }
    __stack_chk_guard &= ~(uintptr_t)0xff; /* a zero byte stops what overflows by a string */
    sys_exit(main(argc, argv));
}

/* Built with -fno-tree-loop-distribute-patterns, or these loops would become calls of themselves. */
void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
#if defined(__x86_64__)
    void *result = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return result;
#else
    unsigned char *out = to;
    const unsigned char *in = from;
    while (size-- > 0)
        *out++ = *in++;
    return to;
#endif
}

void *memmove(void *to, const void *from, size_t size)
{
    unsigned char *out = to;
    const unsigned char *in = from;
    if ((uintptr_t)to <= (uintptr_t)from)
        return memcpy(to, from, size);
    while (size-- > 0)
        out[size] = in[size];
    return to;
}

void *memset(void *to, int byte, size_t size)
{
#if defined(__x86_64__)
    void *result = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(byte) : "memory");
    return result;
#else
    unsigned char *out = to;
    while (size-- > 0)
        *out++ = (unsigned char)byte;
    return to;
#endif
}

int memcmp(const void *a, const void *b, size_t size)
{
    const unsigned char *left = a, *right = b;
    for (; size > 0; size--, left++, right++) {
        if (*left != *right)
            return *left < *right ? -1 : 1;
    }
    return 0;
}

void *memchr(const void *where, int byte, size_t size)
{
    const unsigned char *at = where;
    for (; size > 0; size--, at++) {
        if (*at == (unsigned char)byte)
            return (void *)(uintptr_t)at;
    }
    return NULL;
}

size_t strlen(const char *text)
{
    const char *end = text;
    while (*end != '\0')
        end++;
    return (size_t)(end - text);
}

int strncmp(const char *a, const char *b, size_t size)
{
    for (; size > 0; size--, a++, b++) {
        if (*a != *b || *a == '\0')
            return (int)(unsigned char)*a - (int)(unsigned char)*b;
    }
    return 0;
}

int strcmp(const char *a, const char *b) { return strncmp(a, b, SIZE_MAX); }

char *strchr(const char *text, int byte)
{
    for (;; text++) {
        if (*text == (char)byte)
            return (char *)(uintptr_t)text;
        if (*text == '\0')
            return NULL;
    }
}

char *strrchr(const char *text, int byte)
{
    const char *found = NULL;
    for (; *text != '\0'; text++) {
        if (*text == (char)byte)
            found = text;
    }
    return (char *)(uintptr_t)found;
}

#else
typedef int masu_start_is_empty; /* ISO C forbids an empty file */
#endif
