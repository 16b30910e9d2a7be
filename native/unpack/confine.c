/* From a helper of a privileged process to one that can fill one directory. In this order, since each step needs what
 * a later one takes away:
 *
 *     no_new_privs, not dumpable
 *     unshare(mount, net, ipc, uts, cgroup)   nothing to talk to
 *     the layer's mount becomes /             pivot_root(2), the old root is detached; chroot(2) where the old root
 *                                             is an initramfs, which cannot be pivoted away from
 *     close every other descriptor
 *     capabilities                            a short list, in all five sets
 *     seccomp                                 the calls of tree.c; no mount, no ptrace, no sockets, no exec, no clone
 */
#include "unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCHITECTURE AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARCHITECTURE AUDIT_ARCH_PPC64LE
#elif defined(__s390x__)
#define ARCHITECTURE AUDIT_ARCH_S390X
#endif

#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 4
#endif

static int leave_capabilities(struct confinement wanted, struct error *err)
{
    uint64_t keep = 1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE | 1ull << CAP_FOWNER | 1ull << CAP_FSETID |
                    1ull << CAP_MKNOD | 1ull << CAP_SETFCAP;
    if (wanted.keep_sys_admin)
        keep |= 1ull << CAP_SYS_ADMIN; /* trusted.overlay.opaque; what else it could do, seccomp forbids */
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0)
        return fail_errno(err, "capget");
    /* Root without some of these (a container) does what it can: the first call that needs more says so. */
    for (int i = 0; i < 2; i++) {
        uint32_t part = (uint32_t)(keep >> 32 * i);
        data[i].permitted &= part;
        data[i].effective = data[i].permitted;
        data[i].inheritable = 0;
    }
    /* The bounding set needs CAP_SETPCAP, so it goes first; EPERM without, EINVAL past the last one. */
    for (unsigned long bit = 0; bit < 64; bit++)
        if (!(keep >> bit & 1) && prctl(PR_CAPBSET_DROP, bit, 0, 0, 0) < 0 && errno == EINVAL)
            break;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return syscall(SYS_capset, &header, data) == 0 ? 0 : fail_errno(err, "capset");
}

#ifdef ARCHITECTURE
#define ALLOW(name) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##name, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static int filter_calls(struct error *err)
{
    /* Most frequent first: the filter is walked for each call, though the kernel caches plain allows (5.11). */
    static struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(write), ALLOW(openat), ALLOW(close), ALLOW(utimensat), ALLOW(read), ALLOW(fchown), ALLOW(openat2),
        ALLOW(mkdirat), ALLOW(fchownat), ALLOW(fchmodat), ALLOW(symlinkat), ALLOW(linkat), ALLOW(unlinkat),
        ALLOW(mknodat), ALLOW(fchmod), ALLOW(fstat),
#ifdef __NR_newfstatat
        ALLOW(newfstatat),
#endif
        ALLOW(statx), ALLOW(fchdir), ALLOW(fsetxattr), ALLOW(lsetxattr), ALLOW(fgetxattr), ALLOW(flistxattr),
        ALLOW(getdents64), ALLOW(readlinkat), ALLOW(lseek), ALLOW(ftruncate), ALLOW(fcntl), ALLOW(splice),
#ifdef __NR_renameat
        ALLOW(renameat),
#endif
        ALLOW(renameat2), ALLOW(brk), ALLOW(mmap), ALLOW(munmap), ALLOW(mremap), ALLOW(madvise), ALLOW(exit_group),
        ALLOW(exit), ALLOW(rt_sigreturn), ALLOW(restart_syscall), ALLOW(getrandom), ALLOW(writev),
        ALLOW(rt_sigprocmask), ALLOW(gettid), ALLOW(getpid), ALLOW(tgkill), ALLOW(futex),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog filter = {sizeof program / sizeof *program, program};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0 || errno == ENOSYS || errno == EINVAL)
        return 0; /* a kernel without it: the walls above stand all the same */
    return fail_errno(err, "seccomp");
}
#else
static int filter_calls(struct error *err)
{
    (void)err;
    return 0; /* an architecture whose audit number is not known here */
}
#endif

/* The layer's tree becomes the root directory. */
static int change_root(int *root, struct error *err)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return fail_errno(err, "make the mounts private");
    /* A detached tree, as open_tree(2) made it: on top of the root, where it hides everything else. */
    if (syscall(SYS_move_mount, *root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return fail_errno(err, "move_mount");
    if (fchdir(*root) < 0)
        return fail_errno(err, "fchdir");
    if (syscall(SYS_pivot_root, ".", ".") == 0) {
        /* Both are on /, the old one on top (pivot_root(2), NOTES). */
        if (umount2(".", MNT_DETACH) < 0)
            return fail_errno(err, "umount the old root");
    } else if (chroot(".") < 0) {
        return fail_errno(err, "chroot");
    }
    if (chdir("/") < 0)
        return fail_errno(err, "chdir");
    return 0;
}

int confine(int *root, int lower, struct confinement wanted, struct error *err)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return fail_errno(err, "prctl");
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    /* Network and the rest may be missing from a kernel; the mount namespace may not. */
    if (unshare(CLONE_NEWNS) < 0)
        return fail_errno(err, "unshare the mount namespace");
    static const int others[] = {CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (unshare(others[i]) < 0 && errno != EINVAL && errno != EPERM)
            return fail_errno(err, "unshare");
    if (change_root(root, err) < 0)
        return -1;
    /* 0: the layer, 1: the report. The rest in the order root, lower. */
    int high_root = fcntl(*root, F_DUPFD, 10), high_lower = lower >= 0 ? fcntl(lower, F_DUPFD, 10) : -1;
    if (high_root < 0 || dup2(high_root, 3) < 0 || (lower >= 0 && (high_lower < 0 || dup2(high_lower, 4) < 0)))
        return fail_errno(err, "dup2");
    *root = 3;
    syscall(SYS_close_range, lower >= 0 ? 5u : 4u, ~0u, 0);
    if (leave_capabilities(wanted, err) < 0)
        return -1;
    return filter_calls(err);
}
