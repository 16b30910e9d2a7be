/* The stage: operations of the host's side, then clone3; init: operations of the container's side. */
#include "launch.h"

static operation_function *const operations[OP_LAST + 1] = {
    [OP_ADOPT] = do_adopt,
    [OP_OPEN] = do_open,
    [OP_OPEN_TREE] = do_open_tree,
    [OP_NEW_MOUNT] = do_new_mount,
    [OP_IDMAP_USERNS] = do_idmap_userns,
    [OP_MOUNT_ATTR] = do_mount_attr,
    [OP_SETNS] = do_setns,
    [OP_UNSHARE] = do_unshare,
    [OP_SYNC] = do_sync,
    [OP_WRITE] = do_write,
    [OP_BECOME] = do_become,
    [OP_RLIMIT] = do_rlimit,
    [OP_SCHEDULER] = do_scheduler,
    [OP_IOPRIO] = do_ioprio,
    [OP_PERSONALITY] = do_personality,
    [OP_MEMPOLICY] = do_mempolicy,
    [OP_AFFINITY] = do_affinity,
    [OP_KEYRING] = do_keyring,
    [OP_SETSID] = do_setsid,
    [OP_PDEATHSIG] = do_pdeathsig,
    [OP_ROOT_PROPAGATION] = do_root_propagation,
    [OP_ROOT_ATTACH] = do_root_attach,
    [OP_PROCFS] = do_procfs,
    [OP_MOUNT] = do_mount,
    [OP_ATTACH] = do_attach,
    [OP_REMOUNT] = do_remount,
    [OP_PROPAGATION] = do_propagation,
    [OP_MKDIR] = do_mkdir,
    [OP_MKNOD] = do_mknod,
    [OP_SYMLINK] = do_symlink,
    [OP_CONSOLE] = do_console,
    [OP_STDIO] = do_stdio,
    [OP_PIVOT_ROOT] = do_pivot_root,
    [OP_CHROOT] = do_chroot,
    [OP_ROOT_READONLY] = do_root_readonly,
    [OP_MASK] = do_mask,
    [OP_READONLY] = do_readonly,
    [OP_PROC_WRITE] = do_proc_write,
    [OP_HOSTNAME] = do_hostname,
    [OP_DOMAINNAME] = do_domainname,
    [OP_NO_NEW_PRIVS] = do_no_new_privs,
    [OP_SECCOMP] = do_seccomp,
    [OP_BOUNDING] = do_bounding,
    [OP_SETUSER] = do_setuser,
    [OP_CAPS] = do_caps,
    [OP_UMASK] = do_umask,
    [OP_CHDIR] = do_chdir,
    [OP_FIND_PROGRAM] = do_find_program,
    [OP_CLOSE_FDS] = do_close_fds,
    [OP_HOOK] = do_hook,
    [OP_READY] = do_ready,
    [OP_WAIT_START] = do_wait_start,
    [OP_INIT] = do_init,
    [OP_EXEC] = do_exec,
    [OP_LOOPBACK] = do_loopback,
    [OP_STDIO_OWNER] = do_stdio_owner,
    [OP_UMOUNT] = do_umount,
    [OP_LABEL] = do_label,
    [OP_OPEN_TREE_INSIDE] = do_open_tree_inside,
    [OP_ENTER_ROOT] = do_enter_root,
    [OP_DUMPABLE] = do_dumpable,
};

void set_name(const char *name) { sys_prctl(PR_SET_NAME, (unsigned long)name, 0, 0); }

int slot_fd(const struct launch *launch, const struct operation *op, unsigned field, struct masu_error *err)
{
    unsigned slot = small_of(op, field);
    if (slot >= PLAN_MAX_SLOTS || launch->slots[slot] < 0)
        return fail(err, EBADF, "slot %u is empty", slot);
    return launch->slots[slot];
}

void slot_put(struct launch *launch, unsigned slot, int fd)
{
    if (launch->slots[slot] >= 0)
        sys_close(launch->slots[slot]);
    launch->slots[slot] = fd;
    launch->attached[slot] = false;
}

/* ---- host side ---- */

int do_adopt(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    int fd = (int)number_of(op, F_ADOPT_FD);
    int result = sys_fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (result < 0)
        return fail(err, result, "inherited fd %d", fd);
    slot_put(launch, small_of(op, F_ADOPT_SLOT), fd);
    return 0;
}

int do_open(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    const char *path = text_of(op, F_OPEN_PATH);
    int fd = sys_open(AT_FDCWD, path, (int)small_of(op, F_OPEN_FLAGS) | O_NOCTTY, 0600);
    if (fd < 0)
        return fail_path(err, fd, path);
    slot_put(launch, small_of(op, F_OPEN_SLOT), fd);
    return 0;
}

int do_open_tree(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    const char *path = text_of(op, F_OPEN_TREE_PATH);
    int fd = sys_open_tree(AT_FDCWD, path, small_of(op, F_OPEN_TREE_FLAGS));
    if (fd < 0)
        return fail_path(err, fd, path);
    slot_put(launch, small_of(op, F_OPEN_TREE_SLOT), fd);
    return 0;
}

int do_setns(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    int fd = slot_fd(launch, op, F_SETNS_SLOT, err);
    if (fd < 0)
        return -1;
    /* A user namespace may deny setgroups(2): its members would keep groups of the host that only we can drop. */
    if ((small_of(op, F_SETNS_NSTYPE) & CLONE_NEWUSER) != 0)
        sys(__NR_setgroups, 0, NULL);
    int result = (int)sys(__NR_setns, fd, small_of(op, F_SETNS_NSTYPE));
    if (result == -EINVAL)
        return fail(err, result, "setns: not a namespace of that kind, or one that we are in already");
    if (result < 0)
        return fail(err, result, "setns");
    if ((small_of(op, F_SETNS_NSTYPE) & CLONE_NEWNS) != 0 && launch->root >= 0)
        sys_close(release_fd(&launch->root));
    return 0;
}

int do_unshare(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    int result = (int)sys(__NR_unshare, small_of(op, F_UNSHARE_FLAGS));
    if (result == -ENOSPC)
        return fail(err, result, "unshare: a limit in /proc/sys/user/max_*_namespaces, or nested too deeply");
    return result < 0 ? fail(err, result, "unshare") : 0;
}

int do_write(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    const char *path = text_of(op, F_WRITE_PATH);
    const struct field *data = &op->field[F_WRITE_DATA];
    /* /proc/self of an undumpable process belongs to root (proc(5)); here no container can see us. */
    bool own = strncmp(path, "/proc/self/", 11) == 0;
    if (own)
        sys_prctl(PR_SET_DUMPABLE, 1, 0, 0);
    int result = write_file(AT_FDCWD, path, data->data, data->length);
    if (own)
        sys_prctl(PR_SET_DUMPABLE, 0, 0, 0);
    return result < 0 ? fail_path(err, result, path) : 0;
}

static int write_map(int pid, const char *file, const char *map)
{
    char path[64];
    format_text(path, sizeof path, "/proc/%d/%s", pid, file);
    return write_file(AT_FDCWD, path, map, strlen(map));
}

/* The child lives only until its namespace has been mapped and opened. */
static int map_userns(int pid, const struct operation *op, int *out, struct masu_error *err)
{
    char path[64];
    int result = write_map(pid, "uid_map", text_of(op, F_IDMAP_USERNS_UID_MAP));
    if (result < 0)
        return fail(err, result, "uid_map of an idmapped mount");
    if (check(err, write_map(pid, "gid_map", text_of(op, F_IDMAP_USERNS_GID_MAP)), "gid_map of an idmapped mount") < 0)
        return -1;
    format_text(path, sizeof path, "/proc/%d/ns/user", pid);
    *out = sys_open(AT_FDCWD, path, O_RDONLY, 0);
    return *out < 0 ? fail(err, *out, "%s", path) : 0;
}

int do_idmap_userns(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    int pidfd = -1, fd = -1;
    struct clone_args args = {.flags = CLONE_NEWUSER | CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd};
    owned_fd gate_in = -1, gate_out = -1, open_in = -1, open_out = -1;
    int gate[2], opened[2];
    if (sys_pipe(gate, 0) < 0)
        return fail(err, EMFILE, "pipe");
    gate_in = gate[0], gate_out = gate[1];
    if (sys_pipe(opened, 0) < 0)
        return fail(err, EMFILE, "pipe");
    open_in = opened[0], open_out = opened[1];
    int pid = (int)sys(__NR_clone3, &args, sizeof args);
    if (pid == 0) {
        char byte;
        sys_close(gate[1]);
        sys_prctl(PR_SET_DUMPABLE, 1, 0, 0); /* so that we may open its ns/user without CAP_SYS_PTRACE */
        sys_close(opened[0]);
        sys_close(opened[1]);
        sys_read(gate[0], &byte, 1); /* until we are killed, or our parent is gone */
        sys_exit(0);
    }
    if (pid < 0)
        return fail(err, pid, "clone3 of a user namespace for an idmapped mount");
    char byte;
    sys_close(release_fd(&open_out));
    sys_read(open_in, &byte, 1); /* EOF: the child is dumpable now */
    int result = map_userns(pid, op, &fd, err);
    sys_pidfd_send_signal(pidfd, SIGNAL_KILL);
    sys_wait(pid, NULL, WAIT_ALL_CLONES);
    sys_close(pidfd);
    if (result == 0)
        slot_put(launch, small_of(op, F_IDMAP_USERNS_SLOT), fd);
    return result;
}

/* ---- what is not needed any more ---- */

/* What of ours the operations after the present one still use: a bit for each. */
enum need { NEED_ROOT = 1, NEED_PROCFS = 2, NEED_EMPTY = 4 };

static unsigned later_needs(const struct launch *launch, bool slots[PLAN_MAX_SLOTS])
{
    unsigned needs = 0;
    size_t offset = launch->next;
    for (uint32_t index = launch->index + 1; index < launch->plan.count; index++) {
        struct operation op;
        plan_read(&launch->plan, &offset, index, &op);
        mark_slots(&op, slots);
        needs |= op.code == OP_PROC_WRITE ? NEED_PROCFS : 0;
        needs |= op.code == OP_MASK ? NEED_EMPTY : 0;
        needs |= op.code == OP_PIVOT_ROOT || op.code == OP_CHROOT ? NEED_ROOT : 0; /* afterwards it is "/" again */
    }
    return needs;
}

/* Closes all but 0, 1, 2, the next `keep` and what a later operation names. At once, not at exec: the container's own
 * paths are still to be walked, and one may lead through /proc/self/fd/N to a host's directory (CVE-2024-21626). */
int do_close_fds(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    bool slots[PLAN_MAX_SLOTS] = {false};
    unsigned needs = later_needs(launch, slots);
    unsigned first = 3 + small_of(op, F_CLOSE_FDS_KEEP);
    int *own[] = {(needs & NEED_ROOT) != 0 ? NULL : &launch->root, (needs & NEED_PROCFS) != 0 ? NULL : &launch->procfs,
                  (needs & NEED_EMPTY) != 0 ? NULL : &launch->empty};
    for (unsigned i = 0; i < sizeof own / sizeof own[0]; i++) {
        if (own[i] != NULL && *own[i] >= 0)
            sys_close(release_fd(own[i]));
    }
    for (unsigned slot = 0; slot < PLAN_MAX_SLOTS; slot++) {
        if (!slots[slot])
            slot_put(launch, slot, -1);
    }
    /* What is left between those that stay was inherited without our knowledge. */
    int stay[7 + PLAN_MAX_SLOTS] = {launch->control, launch->told,  launch->monitor,   launch->root,
                                    launch->procfs,  launch->empty, launch->start_fifo};
    memcpy(stay + 7, launch->slots, sizeof launch->slots);
    return check(err, close_all_but(stay, 7 + PLAN_MAX_SLOTS, first), "close_range");
}

/* ---- running ---- */

static void report(struct launch *launch, const struct masu_error *err)
{
    control_send(launch, MSG_ERROR, err->number, 0, err->detail, -1);
    if (launch->start_fifo >= 0) {
        /* `start` reads the same message when we are gone. */
        unsigned char message[16 + DETAIL_LIMIT];
        uint32_t head[4] = {MSG_ERROR, launch->index, (uint32_t)err->number, 0};
        size_t length = strlen(err->detail);
        memcpy(message, head, sizeof head);
        memcpy(message + sizeof head, err->detail, length);
        write_whole(launch->start_fifo, message, sizeof head + length);
    }
}

static int run_one(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    launch->index = op->index;
    operation_function *function = operations[op->code];
    return function == NULL ? fail(err, ENOSYS, "operation %u", op->code) : function(launch, op, err);
}

/* init; returns its exit status when it does not exec. */
static int run_inside(struct launch *launch)
{
    struct masu_error err;
    struct operation op;
    size_t offset = launch->plan.clone_offset;
    plan_read(&launch->plan, &offset, launch->plan.clone_index, &op);
    for (uint32_t index = launch->plan.clone_index + 1; index < launch->plan.count; index++) {
        plan_read(&launch->plan, &offset, index, &op);
        launch->next = offset;
        if (run_one(launch, &op, &err) == 0)
            continue;
        report(launch, &err);
        if (op.code != OP_EXEC)
            return 1;
        return err.number == ENOENT ? 127 : 126; /* as a shell says it */
    }
    return 0;
}

static void die_of(int signal)
{
    sys_exit(128 + signal);
}

/* PID 1 ignores what it has no handler for (pid_namespaces(7)), and a created container must end at a SIGTERM as a
 * started one would. exec resets handlers. */
static void catch_signals(void)
{
    static const int numbers[] = {SIGNAL_HANGUP, SIGNAL_INTERRUPT, SIGNAL_QUIT, SIGNAL_TERM};
    struct sys_sigaction action = {.handler = (uintptr_t)die_of};
#if defined(__x86_64__) /* there the kernel insists on a way back, though none is taken */
    action.flags = 0x04000000; /* SA_RESTORER */
    action.restorer = (uintptr_t)die_of;
#endif
    for (unsigned i = 0; sys_getpid() == 1 && i < sizeof numbers / sizeof numbers[0]; i++)
        sys(__NR_rt_sigaction, numbers[i], &action, NULL, 8);
}

static int begin_inside(struct launch *launch, const struct operation *op, bool join)
{
    struct masu_error err;
    launch->inside = true;
    launch->index = op->index;
    set_name("masu:[1:init]");
    catch_signals();
    if (launch->monitor >= 0)
        sys_prctl(PR_SET_PDEATHSIG, SIGNAL_KILL, 0, 0);
    if (join) {
        int result = write_file(launch->slots[small_of(op, F_CLONE_CGROUP)], "cgroup.procs", "0", 1);
        if (result < 0) {
            fail(&err, result, "cgroup.procs");
            report(launch, &err);
            return 1;
        }
    }
    return run_inside(launch);
}

static int fail_clone(struct masu_error *err, int number, uint64_t flags)
{
    if (number == -ENOSPC)
        return fail(err, number, "clone3: a limit in /proc/sys/user/max_*_namespaces, or nested too deeply");
    if (number == -EAGAIN)
        return fail(err, number, "clone3: a limit on processes (pids cgroup, RLIMIT_NPROC, kernel.pid_max)");
    return fail(err, number, "clone3 with flags 0x%lx", (unsigned long)flags);
}

/* The waiting parent that a PID 1 has to be: CLONE_PARENT is refused to it (clone(2)). */
static int wait_as_parent(struct launch *launch, int pid)
{
    int status = 0;
    control_close(launch);
    sys(__NR_close_range, 0, ~0u, 0);
    while (sys_wait(pid, &status, WAIT_ALL_CLONES) == -EINTR)
        continue;
    return (status & 0x7f) != 0 ? 128 + (status & 0x7f) : status >> 8 & 0xff;
}

/* The boundary. Returns the exit status of this process, whichever it is by then. */
static int run_clone(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    int pidfd = -1, gate[2];
    bool first = sys_getpid() == 1, join = false;
    unsigned cgroup = small_of(op, F_CLONE_CGROUP);
    uint64_t spaces = number_of(op, F_CLONE_FLAGS);
    struct clone_args args = {.flags = spaces | CLONE_PIDFD | (first ? 0 : CLONE_PARENT),
                              .pidfd = (uintptr_t)&pidfd,
                              .exit_signal = first ? SIGNAL_CHILD : 0};
    launch->index = op->index;
    if (cgroup != PLAN_NONE) {
        int fd = slot_fd(launch, op, F_CLONE_CGROUP, err);
        if (fd < 0)
            return -1;
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)fd;
    }
    int result = sys_pipe(gate, 0);
    if (result < 0)
        return fail(err, result, "pipe");
    int pid = (int)sys(__NR_clone3, &args, sizeof args);
    if (pid < 0 && cgroup != PLAN_NONE) {
        /* No right to move into it, a threaded cgroup, a kernel before 5.7: the child joins by itself. */
        join = true;
        args.flags &= ~(uint64_t)CLONE_INTO_CGROUP;
        args.cgroup = 0;
        pid = (int)sys(__NR_clone3, &args, sizeof args);
    }
    if (pid < 0)
        return fail_clone(err, pid, args.flags);
    if (pid == 0) {
        sys_close(gate[1]);
        launch->told = gate[0];
        return begin_inside(launch, op, join);
    }
    sys_close(gate[0]);
    tell_monitor(launch, TELL_PID, pid, pidfd);
    result = control_send(launch, MSG_PID, 0, pid, "", pidfd);
    sys_close(gate[1]);
    if (first)
        return wait_as_parent(launch, pid);
    return result < 0 ? 1 : 0;
}

int run_stage(struct launch *launch)
{
    struct masu_error err;
    struct operation op;
    size_t offset = PLAN_FIRST;
    set_name("masu:[0:stage]");
    for (uint32_t index = 0; index < launch->plan.count; index++) {
        plan_read(&launch->plan, &offset, index, &op);
        if (op.code == OP_MONITOR)
            continue;
        if (op.code == OP_CLONE || op.code == OP_RUNTIME || op.code == OP_CRIU) {
            int status = op.code == OP_CLONE     ? run_clone(launch, &op, &err)
                         : op.code == OP_RUNTIME ? run_runtime(launch, &op, &err)
                                                 : run_criu(launch, &op, &err);
            if (status >= 0)
                return status;
        } else if (run_one(launch, &op, &err) == 0) {
            continue;
        }
        report(launch, &err);
        return 1;
    }
    return 1; /* plan_check has seen one of the three */
}
