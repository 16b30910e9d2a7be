/* System calls without a C library.
 *
 * masu-launch runs between clone and exec, as PID 1 of somebody else's world, and lives on as one monitor per
 * container: it wants few pages, no hidden state (locale, stdio buffers, a cached pid) and calls that glibc 2.36
 * has no wrappers for. So every call is made here, and failure is the negative errno the kernel returned:
 *
 *     int fd = sys_open(AT_FDCWD, path, O_PATH, 0);
 *     if (fd < 0)
 *         return fail(err, fd, "%s", path);
 *
 * Headers are the kernel's own (linux/…, asm/…), so that the same files build against any C library or none.
 */
#ifndef MASU_SYS_H
#define MASU_SYS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <asm/ioctls.h>
#include <asm/poll.h>
#include <asm/socket.h>
#include <asm/unistd.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/stat.h>
#include <linux/time_types.h>

#ifndef __NR_fchmodat2 /* Linux 6.6 */
#define __NR_fchmodat2 452
#endif
#ifndef EBADMSG
#include <asm/errno.h>
#endif

/* ---- the call itself ---- */

#if defined(__x86_64__)
#define MASU_ASM_SYSCALLS 1
static inline long raw_syscall(long n, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
#define MASU_ASM_SYSCALLS 1
static inline long raw_syscall(long n, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory", "cc");
    return x0;
}
#elif defined(__riscv) && __riscv_xlen == 64
#define MASU_ASM_SYSCALLS 1
static inline long raw_syscall(long n, long a, long b, long c, long d, long e, long f)
{
    register long a7 __asm__("a7") = n;
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d;
    register long a4 __asm__("a4") = e;
    register long a5 __asm__("a5") = f;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5) : "memory");
    return a0;
}
#else
/* Any other 64-bit machine goes through its C library. */
#include <errno.h>
extern long syscall(long number, ...);
static inline long raw_syscall(long n, long a, long b, long c, long d, long e, long f)
{
    long result = syscall(n, a, b, c, d, e, f);
    return result < 0 ? -errno : result;
}
#endif

#define SYS_PICK(n, a, b, c, d, e, f, ...) \
    raw_syscall((long)(n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define sys(...) SYS_PICK(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)

/* ---- what the kernel's headers for user space leave to the C library ---- */

#define PATH_LIMIT 4096 /* PATH_MAX */
#define NAME_LIMIT 255  /* NAME_MAX */
#define LINKS_LIMIT 40  /* MAXSYMLINKS */

#define KIND_MASK 0170000u /* S_IFMT; linux/stat.h spells these for old compilers only */
#define KIND_SOCKET 0140000u
#define KIND_LINK 0120000u
#define KIND_FILE 0100000u
#define KIND_DIRECTORY 0040000u
#define KIND_CHARACTER 0020000u
#define KIND_FIFO 0010000u

#define STDIN 0
#define STDOUT 1
#define STDERR 2

#define SIGNAL_HANGUP 1
#define SIGNAL_INTERRUPT 2
#define SIGNAL_QUIT 3
#define SIGNAL_KILL 9
#define SIGNAL_PIPE 13
#define SIGNAL_TERM 15
#define SIGNAL_CHILD 17
#define SIGNAL_WINDOW 28
#define SIGNAL_LAST 64

#define WAIT_NO_HANG 1
#define WAIT_ALL_CLONES 0x40000000 /* __WALL */

struct sys_sigaction { /* at least as long as the kernel's on every machine */
    uintptr_t handler, flags, restorer;
    uint64_t mask[2];
};

struct sys_iovec {
    const void *base;
    size_t length;
};

struct sys_msghdr {
    void *name;
    int name_length;
    struct sys_iovec *iov;
    size_t iov_count;
    void *control;
    size_t control_length;
    unsigned flags;
};

struct sys_cmsghdr {
    size_t length;
    int level;
    int type;
};

#define CMSG_RIGHTS 1 /* SCM_RIGHTS at level SOL_SOCKET */
#define SEND_NOSIGNAL 0x4000
#define SEND_DONTWAIT 0x40
#define RECV_CLOEXEC 0x40000000

#define FAMILY_UNIX 1
#define SOCKET_DATAGRAM 2
#define SOCKET_SEQPACKET 5
#define SOCKET_CLOEXEC O_CLOEXEC
#define SOCKET_NONBLOCK O_NONBLOCK

static inline int sys_open(int dir, const char *path, int flags, unsigned mode)
{
    return (int)sys(__NR_openat, dir, path, flags | O_CLOEXEC, mode);
}

static inline int sys_openat2(int dir, const char *path, uint64_t flags, uint64_t resolve)
{
    struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = resolve};
    return (int)sys(__NR_openat2, dir, path, &how, sizeof how);
}

static inline int sys_close(int fd) { return (int)sys(__NR_close, fd); }
static inline long sys_read(int fd, void *data, size_t size) { return sys(__NR_read, fd, data, size); }
static inline long sys_write(int fd, const void *data, size_t size) { return sys(__NR_write, fd, data, size); }
static inline int sys_dup3(int from, int to, int flags) { return (int)sys(__NR_dup3, from, to, flags); }
static inline int sys_fcntl(int fd, int command, long argument) { return (int)sys(__NR_fcntl, fd, command, argument); }
static inline int sys_ioctl(int fd, unsigned long request, const void *argument)
{
    return (int)sys(__NR_ioctl, fd, request, argument);
}
static inline int sys_pipe(int ends[2], int flags) { return (int)sys(__NR_pipe2, ends, flags | O_CLOEXEC); }

static inline int sys_statx(int dir, const char *path, int flags, unsigned mask, struct statx *out)
{
    return (int)sys(__NR_statx, dir, path, flags, mask, out);
}
static inline int sys_fstat(int fd, struct statx *out)
{
    return sys_statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, out);
}

static inline int sys_mount_setattr(int fd, unsigned flags, struct mount_attr *attr)
{
    return (int)sys(__NR_mount_setattr, fd, "", flags | AT_EMPTY_PATH, attr, sizeof *attr);
}
static inline int sys_open_tree(int dir, const char *path, unsigned flags)
{
    return (int)sys(__NR_open_tree, dir, path, flags | OPEN_TREE_CLOEXEC);
}
static inline int sys_move_mount(int from, int to)
{
    return (int)sys(__NR_move_mount, from, "", to, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}
static inline int sys_mount(const char *source, const char *target, const char *type, unsigned long flags,
                            const void *data)
{
    return (int)sys(__NR_mount, source, target, type, flags, data);
}

static inline int sys_prctl(int option, unsigned long a, unsigned long b, unsigned long c)
{
    return (int)sys(__NR_prctl, option, a, b, c, 0);
}

static inline int sys_fork(void) { return (int)sys(__NR_clone, SIGNAL_CHILD, 0, 0, 0, 0); }
static inline int sys_getpid(void) { return (int)sys(__NR_getpid); }
static inline int sys_wait(int pid, int *status, int options)
{
    return (int)sys(__NR_wait4, pid, status, options, 0);
}
static inline int sys_pidfd_send_signal(int pidfd, int signal)
{
    return (int)sys(__NR_pidfd_send_signal, pidfd, signal, 0, 0);
}

_Noreturn static inline void sys_exit(int status)
{
    for (;;)
        sys(__NR_exit_group, status);
}

/* timeout in milliseconds, negative waits for ever. */
static inline int sys_poll(struct pollfd *fds, unsigned count, int64_t timeout_ms)
{
    struct __kernel_timespec until = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000};
    return (int)sys(__NR_ppoll, fds, count, timeout_ms < 0 ? NULL : &until, NULL, 8);
}

static inline int sys_sigmask(uint64_t mask) /* SIG_SETMASK is 2 on all machines named above */
{
    return (int)sys(__NR_rt_sigprocmask, 2, &mask, NULL, sizeof mask);
}

/* Every signal has its usual action, and none is blocked: exec(2) keeps ignored ones ignored, and the mask. */
static inline void sys_usual_signals(void)
{
    struct sys_sigaction usual = {0};
    for (int signal = 1; signal <= SIGNAL_LAST; signal++)
        sys(__NR_rt_sigaction, signal, &usual, NULL, 8);
    sys_sigmask(0);
}

/* Anonymous memory, zeroed; NULL when there is none. */
static inline void *sys_memory(size_t size)
{
    long result = sys(__NR_mmap, 0, size, 3 /* READ|WRITE */, 0x22 /* PRIVATE|ANONYMOUS */, -1, 0);
    return result < 0 && result > -4096 ? NULL : (void *)result;
}
static inline void sys_unmap(const void *address, size_t size) { sys(__NR_munmap, address, size); }

struct sys_statfs { /* the beginning of struct statfs on 64-bit machines; on s390x only `type` is where it is here */
    long type;
    long sizes[9];
    long flags; /* ST_*, statfs(2) */
    long rest[21];
};
#define ST_NOEXEC 8
static inline bool is_on(int fd, long magic)
{
    struct sys_statfs about;
    return sys(__NR_fstatfs, fd, &about) == 0 && about.type == magic;
}

/* ---- numbers in messages and plans: little-endian, wherever they lie ---- */

static inline uint32_t get32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline void put32(unsigned char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (unsigned char)(value >> 8 * i);
}

/* ---- fds with an owner ---- */

static inline void close_owned(const int *fd)
{
    if (*fd >= 0)
        sys_close(*fd);
}
#define owned_fd __attribute__((cleanup(close_owned))) int

static inline int release_fd(int *fd)
{
    int value = *fd;
    *fd = -1;
    return value;
}

/* ---- memory and text; the compiler may call the first four on its own ---- */

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
void *memchr(const void *where, int byte, size_t size);
size_t strlen(const char *text);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t size);
char *strchr(const char *text, int byte);
char *strrchr(const char *text, int byte);

#endif
