/* The system call filter. */
#include "launch.h"

#include <linux/filter.h>
#include <linux/seccomp.h>

#define LISTENER_NONE (-0x7fffffff)

#ifndef MASU_ASM_SYSCALLS
static int load_with_listener(struct launch *launch, unsigned flags, const struct sock_fprog *program,
                              struct masu_error *err)
{
    (void)launch, (void)flags, (void)program;
    return fail(err, ENOSYS, "seccomp notify is not built for this machine");
}
#else

/* The filter may trap the very calls that would send its listener away (sendmsg, futex, write …). So a second
 * thread, which the filter does not cover, sends it: it is started first, watches a word of our memory, and the main
 * thread makes no system call between seccomp(2) and the thread's "done".
 *
 *     main                                   helper
 *     clone ────────────────────────────────▶ waits for `listener` (nanosleep, 20 µs)
 *     seccomp(NEW_LISTENER) → listener = fd
 *     spins on `done`                        MSG_LISTENER with the fd, closes it, done = 1, exit
 */
struct hand_over {
    struct launch *launch;
    volatile int listener; /* LISTENER_NONE, then the fd or a negative errno */
    volatile int done;
};

__attribute__((no_stack_protector)) _Noreturn static void hand_over_thread(struct hand_over *work)
{
    struct __kernel_timespec pause = {.tv_nsec = 20000};
    while (__atomic_load_n(&work->listener, __ATOMIC_ACQUIRE) == LISTENER_NONE)
        sys(__NR_nanosleep, &pause, NULL);
    if (work->listener >= 0) {
        control_send(work->launch, MSG_LISTENER, 0, 0, "", work->listener);
        sys_close(work->listener);
    }
    __atomic_store_n(&work->done, 1, __ATOMIC_RELEASE);
    for (;;)
        sys(__NR_exit, 0);
}

/* Starts `hand_over_thread(work)` on its own stack; the tid or a negative errno. */
static long start_thread(struct hand_over *work, char *stack_end)
{
    long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    void **top = (void **)(void *)stack_end;
    *--top = (void *)(uintptr_t)work;
    *--top = (void *)(uintptr_t)hand_over_thread;
    long result;
#if defined(__x86_64__)
    register long r10 __asm__("r10") = 0;
    register long r8 __asm__("r8") = 0;
    __asm__ volatile("syscall\n"
                     "test %%rax, %%rax\n"
                     "jnz 1f\n"
                     "xor %%ebp, %%ebp\n"
                     "pop %%rax\n"
                     "pop %%rdi\n"
                     "call *%%rax\n"
                     "1:\n"
                     : "=a"(result)
                     : "a"((long)__NR_clone), "D"(flags), "S"(top), "d"(0L), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = __NR_clone;
    register long x0 __asm__("x0") = flags;
    register long x1 __asm__("x1") = (long)top;
    register long x2 __asm__("x2") = 0;
    register long x3 __asm__("x3") = 0;
    register long x4 __asm__("x4") = 0;
    __asm__ volatile("svc 0\n"
                     "cbnz x0, 1f\n"
                     "ldp x1, x0, [sp], #16\n"
                     "blr x1\n"
                     "1:\n"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
                     : "memory", "cc");
    result = x0;
#else
    register long a7 __asm__("a7") = __NR_clone;
    register long a0 __asm__("a0") = flags;
    register long a1 __asm__("a1") = (long)top;
    register long a2 __asm__("a2") = 0;
    register long a3 __asm__("a3") = 0;
    register long a4 __asm__("a4") = 0;
    __asm__ volatile("ecall\n"
                     "bnez a0, 1f\n"
                     "ld a1, 0(sp)\n"
                     "ld a0, 8(sp)\n"
                     "jalr a1\n"
                     "1:\n"
                     : "+r"(a0)
                     : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4)
                     : "memory");
    result = a0;
#endif
    return result;
}

static int load_with_listener(struct launch *launch, unsigned flags, const struct sock_fprog *program,
                              struct masu_error *err)
{
    _Alignas(16) static char stack[16384];
    static struct hand_over work;
    work = (struct hand_over){.launch = launch, .listener = LISTENER_NONE};
    long thread = start_thread(&work, stack + sizeof stack);
    if (thread < 0)
        return fail(err, thread, "a thread to hand the seccomp listener over");
    int result = (int)sys(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags | SECCOMP_FILTER_FLAG_NEW_LISTENER, program);
    __atomic_store_n(&work.listener, result, __ATOMIC_RELEASE);
    while (__atomic_load_n(&work.done, __ATOMIC_ACQUIRE) == 0) {
#if defined(__x86_64__)
        __asm__ volatile("pause");
#endif
    }
    return result < 0 ? fail(err, result, "seccomp with a listener") : 0;
}
#endif

int do_seccomp(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    const struct field *bytes = &op->field[F_SECCOMP_PROGRAM];
    if (bytes->length == 0 || bytes->length % sizeof(struct sock_filter) != 0 ||
        bytes->length / sizeof(struct sock_filter) > BPF_MAXINSNS)
        return fail(err, EINVAL, "a filter of %u bytes", bytes->length);
    struct sock_fprog program = {.len = (unsigned short)(bytes->length / sizeof(struct sock_filter)),
                                 .filter = (struct sock_filter *)(uintptr_t)bytes->data};
    unsigned flags = small_of(op, F_SECCOMP_FLAGS);
    if (small_of(op, F_SECCOMP_NOTIFY) != 0)
        return load_with_listener(launch, flags & ~(unsigned)SECCOMP_FILTER_FLAG_TSYNC, &program, err);
    int result = (int)sys(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    if (result == -EACCES)
        return fail(err, result, "seccomp needs no_new_privs or CAP_SYS_ADMIN");
    return result < 0 ? fail(err, result, "seccomp: filter or flags 0x%x are refused", flags) : 0;
}
