/* Somebody else in place of a plan's clone: another OCI runtime, whose `create` or `exec` the stage runs, or CRIU. The
 * stage finds out whom that has made.
 *
 *     monitor (subreaper)
 *       └ stage ── forks, execs ──▶ runc create … ── forks ──▶ runc init      runc ends; its init is the monitor's child
 *         stage ◀── pid file ─────────────────────────────────┘
 *         stage ── TELL_PID, TELL_MASTER ──▶ monitor,  PID, SYNC "memory" ──▶ host
 *         stage ◀── GO + where the runtime has put it ────────────────────────┘
 *         stage ── TELL_OOM, TELL_WATCH ──▶ monitor,  READY ──▶ host
 *
 * The root that a snapshot gives is mounted for the runtime alone, in a mount namespace that it and the container's own
 * come from: nothing is mounted on the host. What the runtime says of a failure is in its log, which the host reads.
 *
 *     monitor
 *       ├ stage ── clones beside itself ─▶ criu ◀── "restore", notifications ──▶ host, between SYNC and GO
 *       └ init, cloned by criu beside itself (rst_sibling): the monitor's child from its birth on
 *
 * The images have the parent-death signal that our containers are born with, so it must not come back as the child of
 * anybody who ends before it. */
#include "launch.h"

#include <linux/sched.h>

#define CONSOLE_MS 10000
#define DIGITS_LIMIT 16

static int put_root(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    const char *path = text_of(op, F_RUNTIME_ROOT_PATH);
    if (number_of(op, F_RUNTIME_ROOT_SLOT) == PLAN_NONE)
        return 0;
    int tree = slot_fd(launch, op, F_RUNTIME_ROOT_SLOT, err);
    if (tree < 0)
        return -1;
    if (check(err, (int)sys(__NR_unshare, CLONE_NEWNS), "unshare") < 0 ||
        check(err, sys_mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL), "mount / as a slave") < 0)
        return -1;
    owned_fd place = sys_open(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);
    if (place < 0)
        return fail_path(err, place, path);
    int result = sys_move_mount(tree, place);
    return result < 0 ? fail(err, result, "move_mount to %s", path) : 0;
}

static int run_it(const struct operation *op, struct masu_error *err)
{
    const char **args = list_array(op, F_RUNTIME_ARGS), **env = list_array(op, F_RUNTIME_ENV);
    int status = 0;
    if (args == NULL || env == NULL || args[0] == NULL)
        return fail(err, ENOMEM, "arguments");
    int pid = sys_fork();
    if (pid == 0) {
        sys_prctl(PR_SET_PDEATHSIG, SIGNAL_KILL, 0, 0);
        sys_usual_signals();
        sys(__NR_umask, 0022);
        sys(__NR_execve, args[0], args, env);
        sys_exit(127);
    }
    if (pid < 0)
        return fail(err, pid, "fork of %s", args[0]);
    while (sys_wait(pid, &status, WAIT_ALL_CLONES) == -EINTR)
        continue;
    if (status != 0)
        return fail(err, EIO, "%s: %s %d", args[0], (status & 0x7f) != 0 ? "killed by signal" : "exited with status",
                    (status & 0x7f) != 0 ? status & 0x7f : status >> 8 & 0xff);
    return 0;
}

static int read_pid(const char *path, struct masu_error *err)
{
    char text[DIGITS_LIMIT];
    uint64_t pid = 0;
    long length = read_file(AT_FDCWD, path, text, sizeof text);
    if (length < 0)
        return fail_path(err, length, path);
    while (length > 0 && text[length - 1] == '\n')
        length--;
    if (!parse_number(text, (size_t)length, INT32_MAX, &pid) || pid == 0)
        return fail(err, EPROTO, "%s holds no pid", path);
    return (int)pid;
}

/* The pty's master, which the runtime has sent by now, goes to the monitor. */
static int take_console(struct launch *launch, int listener, struct masu_error *err)
{
    struct pollfd fd = {.fd = listener, .events = POLLIN};
    char name[64];
    owned_fd master = -1;
    if (sys_poll(&fd, 1, CONSOLE_MS) <= 0)
        return fail(err, ETIMEDOUT, "no terminal came from the runtime");
    owned_fd talk = (int)sys(__NR_accept4, listener, NULL, NULL, SOCKET_CLOEXEC);
    if (talk < 0)
        return fail(err, talk, "accept4");
    fd.fd = talk;
    sys_poll(&fd, 1, CONSOLE_MS);
    long count = receive_with_fd(talk, name, sizeof name, &master);
    if (count <= 0 || master < 0)
        return fail(err, count < 0 ? count : -EPROTO, "the runtime's terminal");
    tell_monitor(launch, TELL_MASTER, 0, master);
    return 0;
}

/* Whom it has made, as its pid file says, is the monitor's and the host's to know. */
static int hand_over(struct launch *launch, const struct operation *op, const char *pid_path, unsigned console,
                     struct masu_error *err)
{
    int pid = read_pid(pid_path, err);
    if (pid < 0)
        return -1;
    owned_fd pidfd = (int)sys(__NR_pidfd_open, pid, 0);
    if (pidfd < 0)
        return fail(err, pidfd, "pidfd_open of %d", pid);
    if (console != PLAN_NONE && take_console(launch, (int)console, err) < 0)
        return -1;
    /* It may run already, and may have ended: then the monitor ends, and must not take us with it. */
    sys_prctl(PR_SET_PDEATHSIG, 0, 0, 0);
    tell_monitor(launch, TELL_STARTED, 0, -1);
    tell_monitor(launch, TELL_PID, pid, pidfd);
    int result = control_send(launch, MSG_PID, 0, pid, "", pidfd);
    if (result < 0)
        return fail(err, result, "control socket");
    /* Its cgroup is the runtime's choice, and the host knows where cgroups are mounted. */
    result = control_send(launch, MSG_SYNC, 0, pid, "memory", -1);
    if (result < 0)
        return fail(err, result, "control socket");
    if (control_wait(launch, err) < 0)
        return -1;
    control_payload[16 + launch->payload_length] = '\0';
    if (launch->payload_length > 0)
        tell_oom(launch, (const char *)control_payload + 16);
    return do_ready(launch, op, err) < 0 ? -1 : 0;
}

int run_runtime(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    launch->index = op->index;
    if (put_root(launch, op, err) < 0 || run_it(op, err) < 0)
        return -1;
    return hand_over(launch, op, text_of(op, F_RUNTIME_PID_PATH), small_of(op, F_RUNTIME_CONSOLE_FD), err);
}

static int start_criu(const struct operation *op, int space, int *pidfd, struct masu_error *err)
{
    const char **args = list_array(op, F_CRIU_ARGS), **env = list_array(op, F_CRIU_ENV);
    struct clone_args how = {.flags = CLONE_PARENT | CLONE_PIDFD, .pidfd = (uintptr_t)pidfd};
    if (args == NULL || env == NULL || args[0] == NULL)
        return fail(err, ENOMEM, "arguments");
    int pid = (int)sys(__NR_clone3, &how, sizeof how);
    if (pid == 0) {
        bool confined = small_of(op, F_CRIU_NO_NEW_PRIVS) != 0;
        sys_prctl(PR_SET_PDEATHSIG, SIGNAL_KILL, 0, 0);
        sys_usual_signals();
        sys(__NR_umask, 0022);
        if (sys(__NR_setns, space, CLONE_NEWNS) == 0 && (!confined || sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0) == 0))
            sys(__NR_execve, args[0], args, env);
        sys_exit(127);
    }
    return pid < 0 ? fail(err, pid, "clone3 for %s", args[0]) : pid;
}

int run_criu(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    owned_fd criu = -1;
    int started = -1, space = slot_fd(launch, op, F_CRIU_SPACE_SLOT, err);
    launch->index = op->index;
    int pid = space < 0 ? -1 : start_criu(op, space, &started, err);
    if (pid < 0)
        return -1;
    criu = started;
    int sent = control_send(launch, MSG_SYNC, 0, pid, "criu", -1);
    int answer = sent < 0 ? fail(err, sent, "control socket") : control_answer(launch, err);
    if (answer != 1) {
        sys_pidfd_send_signal(criu, SIGNAL_KILL); /* what it has half restored goes with the cgroups */
        return answer == 0 ? 1 : -1;
    }
    struct pollfd over = {.fd = criu, .events = POLLIN};
    while (sys_poll(&over, 1, -1) == -EINTR)
        continue;
    return hand_over(launch, op, text_of(op, F_CRIU_PID_PATH), small_of(op, F_CRIU_CONSOLE_FD), err);
}
