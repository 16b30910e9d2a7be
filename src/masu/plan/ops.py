"""The operations a plan is made of: the contract between Python, which decides, and masu-launch, which acts.

A plan is an ordered list of operations. Each has a place in the birth of a container:

    M  read by masu-launch before it forks anything: how to be the monitor (engine use only)
    H  host side, before `clone`: open what is needed from the host, join and make namespaces
    C  container side, after `clone`: mounts, devices, identity, limits, exec
    B  either side

File descriptors travel between operations in numbered *slots* (`slot` fields); masu-launch opens them
close-on-exec. `fd` fields are numbers inherited from the process that started masu-launch. NONE stands for "no
slot" and "no fd". Field types: u = unsigned 64-bit, s = string without NUL, b = bytes, l = list of strings.

`native/launch/ops.h` is made from TABLE by `python -m masu.plan.header`; a test compares the two.
"""

from __future__ import annotations

NONE = 0xFFFFFFFF

# name: (code, side, "field:type …"); codes are part of the wire format and never reused.
TABLE: dict[str, tuple[int, str, str]] = {
    # flags MONITOR_*; listen is a bound SOCK_SEQPACKET socket; stdin, stdout, stderr are FIFOs or files of a
    # client, or NONE for pipes of the monitor's own; stdin_keep is the writing end of the client's stdin FIFO, closed
    # when stdin may end with its writer; for oom see OOM_*; cgroups are directories to rmdir after the exit; logger is
    # a program that takes the output, in place of stdout and stderr.
    "monitor": (
        1,
        "M",
        "flags:u log_path:s log_max_bytes:u log_max_files:u listen_fd:u exit_path:s pid_path:s stdin_fd:u stdout_fd:u "
        "stderr_fd:u stdin_keep_fd:u oom_fd:u oom_kind:u oom_watch_fd:u kill_path:s cgroups:l exit_command:l leave:l "
        "logger:l logger_env:l",
    ),
    "adopt": (2, "H", "slot:u fd:u"),
    "open": (3, "H", "slot:u path:s flags:u"),
    "open_tree": (4, "H", "slot:u path:s flags:u"),
    # A detached mount: fsopen, fsconfig for each option ("key=value" or "flag"), fsmount. `cwd`, when not
    # empty, is entered first so that relative paths in options stay short.
    "new_mount": (5, "B", "slot:u fstype:s source:s options:l attr:u cwd:s"),
    # A user namespace that exists only to carry the id mapping of an idmapped mount.
    "idmap_userns": (6, "H", "slot:u uid_map:s gid_map:s"),
    # mount_setattr on a detached mount in `slot`; `userns` is the slot of an idmap_userns, or NONE.
    "mount_attr": (7, "B", "slot:u set:u clear:u propagation:u recursive:u userns:u"),
    "setns": (8, "B", "slot:u nstype:u"),
    "unshare": (9, "B", "flags:u"),
    # Tells the host and waits for its answer, whose payload is the next hooks' stdin.
    "sync": (10, "B", "name:s"),
    "write": (11, "H", "path:s data:b"),
    "become": (12, "B", "uid:u gid:u"),
    "rlimit": (13, "B", "resource:u soft:u hard:u"),
    "scheduler": (14, "B", "policy:u nice:u priority:u flags:u runtime:u deadline:u period:u"),
    "ioprio": (15, "B", "value:u"),
    "personality": (16, "B", "value:u"),
    "mempolicy": (17, "B", "mode:u nodes:b"),
    "affinity": (18, "B", "mask:b"),
    "keyring": (19, "B", "name:s"),
    # The boundary between H and C. flags are CLONE_NEW*; cgroup is a slot for CLONE_INTO_CGROUP, or NONE.
    "clone": (20, "H", "flags:u cgroup:u"),
    "setsid": (21, "C", ""),
    "pdeathsig": (22, "C", "signal:u"),
    # mount(NULL, "/", NULL, flags, NULL) in the new mount namespace.
    "root_propagation": (23, "C", "flags:u"),
    # Puts the detached tree in `slot` over `path`, "" for "/", and takes it as the root in which targets are resolved.
    "root_attach": (24, "C", "slot:u path:s"),
    # A detached procfs of the new PID namespace, for every later write to /proc.
    "procfs": (25, "C", ""),
    # fsopen … fsmount as in new_mount, then move_mount onto `target` in the root; flags TARGET_*.
    "mount": (26, "C", "fstype:s source:s options:l attr:u target:s flags:u"),
    # move_mount of the detached mount in `slot` onto `target` in the root; flags TARGET_*.
    "attach": (27, "C", "slot:u target:s flags:u"),
    # mount_setattr and, with options, fspick + fsconfig(RECONFIGURE) of what is mounted on `target`.
    "remount": (28, "C", "target:s set:u clear:u recursive:u options:l"),
    "propagation": (29, "C", "target:s flags:u"),
    "mkdir": (30, "C", "path:s mode:u uid:u gid:u"),
    "mknod": (31, "C", "path:s mode:u rdev:u uid:u gid:u"),
    # With `exact` what is there already must be the same link; else it stays, whatever it is.
    "symlink": (32, "C", "target:s path:s exact:u"),
    # A pty from the root's own devpts. The master goes to the socket in `slot`, or to the monitor when NONE;
    # flags CONSOLE_*.
    "console": (33, "C", "slot:u rows:u columns:u flags:u"),
    "stdio": (34, "C", "stdin:u stdout:u stderr:u"),
    "pivot_root": (35, "C", ""),
    "chroot": (36, "C", ""),
    "root_readonly": (37, "C", ""),
    # A directory is covered by an empty read-only tmpfs, anything else by the device null in `slot` (a
    # detached bind made on the host). A missing path is no error.
    "mask": (38, "C", "path:s slot:u"),
    "readonly": (39, "C", "path:s"),
    # Through the detached procfs; path is relative to it ("sys/net/ipv4/ip_forward", "self/attr/exec").
    "proc_write": (40, "C", "path:s data:b"),
    "hostname": (41, "C", "name:s"),
    "domainname": (42, "C", "name:s"),
    "no_new_privs": (43, "C", ""),
    # program is struct sock_filter[]; with notify the listener is sent to the host (message LISTENER).
    "seccomp": (44, "C", "program:b flags:u notify:u"),
    "bounding": (45, "C", "capabilities:u"),
    # groups is u32[]; keep_groups is KEEP_GROUPS_….
    "setuser": (46, "C", "uid:u gid:u groups:b keep_groups:u"),
    "caps": (47, "C", "effective:u permitted:u inheritable:u ambient:u"),
    "umask": (48, "C", "mask:u"),
    # chdir, then a check that the working directory is inside the root (CVE-2024-21626).
    "chdir": (49, "C", "path:s"),
    # Finds args[0] as execvp would, so that a missing program is told before the container counts as made.
    "find_program": (50, "C", "program:s path:s"),
    "close_fds": (51, "C", "keep:u"),
    # The slots are files to append to; with NONE the end of what is said goes into the error.
    "hook": (52, "B", "path:s args:l env:l timeout_ms:u stdout_slot:u stderr_slot:u"),
    # Tells the host that all is prepared and waits for its answer.
    "ready": (53, "C", ""),
    # Blocks until a byte arrives in the FIFO in `slot` (opened O_RDWR by an earlier `open`); a later failure
    # is written into it.
    "wait_start": (54, "C", "slot:u"),
    # Stays as PID 1: forks, passes signals on, reaps, exits as the child did.
    "init": (55, "C", ""),
    "exec": (56, "C", "args:l env:l"),
    "loopback": (57, "C", ""),
    # fchown of stdin, stdout, stderr to the container's user, except what is a device or /dev/null.
    "stdio_owner": (58, "C", "uid:u gid:u"),
    # What is mounted on `target` goes, with all that lies below it, as soon as nobody uses it (MNT_DETACH).
    "umount": (59, "C", "target:s"),
    # open_tree of what `path` leads to in the root, with the mounts that have been made there so far.
    "open_tree_inside": (62, "C", "slot:u path:s flags:u"),
    # The SELinux label of the directory that is the root of what is mounted on `target` (setxattr security.selinux).
    "label": (63, "C", "target:s label:s"),
    # Without a mount namespace of one's own: chroot into the directory `path`, which is looked up from the present "/".
    # With `optional` one that is not there leaves "/" the root.
    "enter_root": (60, "C", "path:s optional:u"),
    # In place of clone and all that comes after it: another OCI runtime's `create` or `exec` (args[0] is its path),
    # which leaves a process whose pid is in pid_path then. The detached mount in `root_slot`, or NONE, is what it finds
    # at `root_path`, in a mount namespace of its own; console_fd listens for the pty's master, or NONE.
    "runtime": (64, "H", "args:l env:l pid_path:s root_slot:u root_path:s console_fd:u"),
    # Likewise: CRIU, the monitor's own child as those that it restores beside itself, in the mount namespace in
    # `space_slot`. The host is told of it (SYNC "criu") and speaks with it; after GO it ends, and whom it has restored
    # is in pid_path.
    "criu": (65, "H", "args:l env:l pid_path:s space_slot:u no_new_privs:u console_fd:u"),
    # PR_SET_DUMPABLE: whoever has started us without root, and his hooks, may look at /proc/PID/ns from now on.
    "dumpable": (61, "C", ""),
}

MONITOR_TERMINAL = 1
MONITOR_OPEN_STDIN = 2
MONITOR_STDIN_ONCE = 4
MONITOR_EPHEMERAL = 8  # the exit status need not survive a power cut: no fsync
MONITOR_COPY = 16  # the given descriptors are copied from and to: the container has pipes of the monitor's own

# Both files have a line "oom_kill N", which is read at the exit; clients who want to know are told at once.
OOM_NONE = 0
OOM_CONTROL = 1  # memory.oom_control of v1; oom_watch is the eventfd that was registered for it, or NONE
OOM_MEMORY_EVENTS = 2  # memory.events of v2, which wakes by itself

TARGET_COPY_UP = 1  # tmpcopyup: what the target held is copied into the new file system
TARGET_NOFOLLOW = 2
TARGET_FILE = 4  # the target is made as a file, not a directory (`mount` only; `attach` looks at the source)
TARGET_MUST_BE_DIRECTORY = 8  # refuse a target that is a symlink or not a directory (/proc, /sys: CVE-2019-19921)
TARGET_IN_PROC = 16  # the target may lie inside a procfs; otherwise that is refused

KEEP_GROUPS = 1  # the supplementary groups are left alone
KEEP_GROUPS_IF_DENIED = 2  # where the user namespace denies setgroups(2), they stay

CONSOLE_BIND = 1  # bind the pty's slave onto /dev/console
CONSOLE_CTTY = 2

# Messages on the control socket: u32 type, u32 index of the operation, i32 errno, i32 value, then a detail (text)
# or, from the host, a payload. SOCK_SEQPACKET keeps their borders. All integers little-endian.
MSG_SYNC = 1  # launch -> host: operation `index` waits
MSG_PID = 2  # value = pid of the new process as the host sees it; carries its pidfd
MSG_READY = 3
MSG_ERROR = 4  # operation `index` failed with errno; detail says more
MSG_WARNING = 5
MSG_MONITOR = 6  # value = pid of the monitor
MSG_LISTENER = 7  # carries the seccomp listener
MSG_GO = 16  # host -> launch: go on; payload follows
MSG_ABORT = 17

MAGIC = b"masuplan"
VERSION = 1
MAX_OPERATIONS = 8192
MAX_SLOTS = 1024
MAX_PLAN_BYTES = 16 << 20


class Op:
    """One operation. `where` is the place in config.json it came from ("" when the runtime itself wants it)."""

    __slots__ = ("fields", "name", "where")

    def __init__(self, name: str, where: str = "", /, **fields: int | str | bytes | tuple[str, ...]) -> None:
        self.name = name
        self.where = where
        self.fields = fields

    def __repr__(self) -> str:
        inside = ", ".join(f"{key}={value!r}" for key, value in self.fields.items())
        return f"Op({self.name}: {inside})"
