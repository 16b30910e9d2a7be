"""The seccomp profile that containers get unless they are told otherwise: the one Docker users know.

What is allowed is a fact of the field (github.com/moby/profiles, of June 2026) that images and people count on:
everything that ordinary programs use, EPERM for the rest, some calls only with the capability that makes
them work. Written down here as words by subject, and put together for one set of capabilities and one machine; the
result is an OCI `linux.seccomp` object, ready to be printed or changed.

    CLONE3      has its flags in memory, where no filter can look: ENOSYS makes C libraries use clone
    clone       without CAP_SYS_ADMIN only without new namespaces
    socket      all families but AF_ALG (the kernel's crypto: CVE-2026-31431) and AF_VSOCK
                (the way to the hypervisor); on 32-bit x86 socketcall(2) keeps its arguments out of sight
    personality only harmless ones: address randomisation stays on
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ALLOW = "SCMP_ACT_ALLOW"

FILES = """
    access cachestat chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat
    faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32
    fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64
    fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl lchown lchown32 lgetxattr link linkat
    listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat
    mknod mknodat name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64
    pwritev pwritev2 read readahead readlink readlinkat readv removexattr removexattrat rename renameat renameat2
    rmdir sendfile sendfile64 setxattr setxattrat splice stat stat64 statfs statfs64 statmount statx symlink
    symlinkat sync sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat utime utimensat
    utimensat_time64 utimes vmsplice write writev
"""
WAITING = """
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
    eventfd2 io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect
    pause poll ppoll ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4
"""
MEMORY = """
    brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2
    mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease
    remap_file_pages
"""
PROCESSES = """
    capget capset execve execveat exit exit_group fork getegid getegid32 geteuid geteuid32 getgid getgid32
    getgroups getgroups32 getpgid getpgrp getpid getppid getpriority getresgid getresgid32 getresuid getresuid32
    getrlimit getrusage getsid gettid getuid getuid32 get_robust_list get_thread_area ioprio_get ioprio_set kill
    pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups
    setgroups32 setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid
    setreuid32 setrlimit setsid setuid setuid32 set_robust_list set_thread_area set_tid_address sigaltstack
    sigprocmask sigreturn tgkill tkill ugetrlimit uretprobe vfork wait4 waitid waitpid
"""
COMMUNICATION = """
    accept accept4 bind connect futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake getpeername
    getsockname getsockopt ipc listen mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
    mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd recv recvfrom recvmmsg
    recvmmsg_time64 recvmsg semctl semget semop semtimedop semtimedop_time64 send sendmmsg sendmsg sendto
    setsockopt shmat shmctl shmdt shmget shutdown socketcall socketpair
"""
TIME = """
    adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timerfd_create
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 timer_create timer_delete timer_getoverrun
    timer_gettime timer_gettime64 timer_settime timer_settime64 times
"""
SYSTEM = """
    getcpu getrandom landlock_add_rule landlock_create_ruleset landlock_restrict_self riscv_hwprobe seccomp sysinfo
    uname
"""
# Safe since Linux 4.8, where seccomp is looked at after ptrace has had its say.
TRACING = "process_vm_readv process_vm_writev ptrace"

# With these capabilities in the bounding set, in Docker's order.
BY_CAPABILITY = (
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        """bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr
        lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd
        setdomainname sethostname setns syslog umount umount2 unshare""",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
)

BY_ARCHITECTURE = {
    "ppc64le": "sync_file_range2 swapcontext",
    "arm": "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    "arm64": "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    "amd64": "arch_prctl modify_ldt",
    "386": "modify_ldt",
    "s390x": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
    "riscv64": "riscv_flush_icache",
}

# libseccomp's names of an architecture and of those whose programs run on it as well.
ARCHITECTURES = {
    "amd64": ("X86_64", "X86", "X32"),
    "arm64": ("AARCH64", "ARM"),
    "mips64": ("MIPS64", "MIPS", "MIPS64N32"),
    "mips64le": ("MIPSEL64", "MIPSEL", "MIPSEL64N32"),
    "s390x": ("S390X", "S390"),
    "riscv64": ("RISCV64",),
    "loong64": ("LOONGARCH64",),
}

# uname(2)'s words for the OCI's.
MACHINES = {
    "x86_64": "amd64",
    "i386": "386",
    "i686": "386",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "loongarch64": "loong64",
}

# NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
CLONE_NAMESPACES = 0x7E020000
AF_ALG, AF_VSOCK = 38, 40
# PER_LINUX, PER_LINUX32, both also with UNAME26, and the question "which is it?".
PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)


def default_profile(capabilities: Iterable[str], *, arch: str = "") -> dict[str, object]:
    """The default profile as an OCI `linux.seccomp` object.

    `capabilities` is the bounding set ("CAP_SYS_ADMIN", …), `arch` the OCI's or uname's word for the machine, "" for
    this one.
    """
    machine = _architecture(arch)
    have = frozenset(capabilities)
    names = " ".join((FILES, WAITING, MEMORY, PROCESSES, COMMUNICATION, TIME, SYSTEM, TRACING))
    rules: list[dict[str, object]] = [_rule(names)]
    rules.append(_rule("socket", 0, AF_ALG, "LT"))
    rules.append(_rule("socket", 0, AF_ALG + 1, "EQ"))
    rules.append(_rule("socket", 0, AF_VSOCK, "GT"))
    rules.extend(_rule("personality", 0, value, "EQ") for value in PERSONALITIES)
    if machine in BY_ARCHITECTURE:
        rules.append(_rule(BY_ARCHITECTURE[machine]))
    rules.extend(_rule(more) for capability, more in BY_CAPABILITY if capability in have)
    if "CAP_SYS_ADMIN" not in have:
        # The flags are the second argument on s390 (clone(2)).
        rules.append(_rule("clone", 1 if machine == "s390x" else 0, CLONE_NAMESPACES, "MASKED_EQ"))
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "architectures": [f"SCMP_ARCH_{name}" for name in ARCHITECTURES.get(machine, ())],
        "syscalls": rules,
    }


def _rule(names: str, index: int = -1, value: int = 0, operator: str = "") -> dict[str, object]:
    rule: dict[str, object] = {"names": names.split(), "action": ALLOW}
    if operator:
        rule["args"] = [{"index": index, "value": value, "op": f"SCMP_CMP_{operator}"}]
    return rule


def _architecture(arch: str) -> str:
    word = arch or os.uname().machine
    return MACHINES.get(word, word)
