/* Hooks: a program with the container's state on its stdin, and a time limit. */
#include "launch.h"

#define SAID_LIMIT 1024 /* of what a failing hook wrote, its end */

struct hook {
    int pid, pidfd, output;
    size_t said;
    char text[SAID_LIMIT + 1];
};

/* A file in memory instead of a pipe: nobody has to feed it, a hook that does not read cannot block us. */
static int make_input(const struct launch *launch)
{
    int fd = (int)sys(__NR_memfd_create, "state", 1 /* MFD_CLOEXEC */);
    if (fd < 0)
        return fd;
    int result = launch->payload_length == 0 ? 0 : write_whole(fd, control_payload + 16, launch->payload_length);
    if (result == 0)
        result = (int)sys(__NR_lseek, fd, 0, 0);
    if (result < 0)
        sys_close(fd);
    return result < 0 ? result : fd;
}

/* Where one of its streams goes: the file in the slot that `field` names, or the pipe. */
static int stream(const struct launch *launch, const struct operation *op, unsigned field, int pipe)
{
    uint64_t slot = number_of(op, field);
    return slot == PLAN_NONE ? pipe : launch->slots[slot];
}

_Noreturn static void become_hook(const struct launch *launch, const struct operation *op, const char **args,
                                  const char **env, int input, int output, int status)
{
    /* Before the root has been entered a hook begins in it: createContainer hooks find it by "." (as runc's do). */
    int cwd = launch->inside && !launch->entered ? launch->root : -1;
    if (cwd >= 0)
        sys(__NR_fchdir, cwd);
    sys(__NR_setpgid, 0, 0);
    sys_prctl(PR_SET_PDEATHSIG, SIGNAL_KILL, 0, 0);
    sys_dup3(input, STDIN, 0);
    sys_dup3(stream(launch, op, F_HOOK_STDOUT_SLOT, output), STDOUT, 0);
    sys_dup3(stream(launch, op, F_HOOK_STDERR_SLOT, output), STDERR, 0);
    sys(__NR_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC);
    int result = (int)sys(__NR_execve, text_of(op, F_HOOK_PATH), args, env);
    sys_write(status, &result, sizeof result);
    sys_exit(127);
}

/* Keeps the end of what the hook says. */
static void listen(struct hook *hook)
{
    char chunk[SAID_LIMIT];
    for (;;) {
        long count = sys_read(hook->output, chunk, sizeof chunk);
        if (count <= 0) {
            if (count == 0)
                sys_close(release_fd(&hook->output));
            return;
        }
        size_t length = (size_t)count;
        size_t keep = hook->said + length > SAID_LIMIT ? SAID_LIMIT - length : hook->said;
        memmove(hook->text, hook->text + hook->said - keep, keep);
        memcpy(hook->text + keep, chunk, length);
        hook->said = keep + length;
    }
}

static int64_t now_ms(void)
{
    struct __kernel_timespec now;
    sys(__NR_clock_gettime, 7 /* CLOCK_BOOTTIME */, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* False when the time is over. */
static bool await(struct hook *hook, int64_t timeout_ms)
{
    int64_t until = now_ms() + timeout_ms;
    for (;;) {
        struct pollfd fds[2] = {{.fd = hook->pidfd, .events = POLLIN}, {.fd = hook->output, .events = POLLIN}};
        int64_t left = timeout_ms == 0 ? -1 : until - now_ms();
        if (timeout_ms != 0 && left <= 0)
            return false;
        int count = sys_poll(fds, 2, left);
        if (count > 0 && fds[1].revents != 0)
            listen(hook);
        if (count > 0 && fds[0].revents != 0)
            return true;
    }
}

static int judge(struct hook *hook, int status, bool in_time, unsigned timeout_ms, struct masu_error *err)
{
    while (hook->said > 0 && (hook->text[hook->said - 1] == '\n' || hook->text[hook->said - 1] == '\0'))
        hook->said--;
    const char *separator = hook->said > 0 ? ": " : "";
    hook->text[hook->said] = '\0';
    if (!in_time)
        return fail(err, ETIMEDOUT, "the hook did not end within %u ms%s%s", timeout_ms, separator, hook->text);
    if ((status & 0x7f) != 0)
        return fail(err, EIO, "the hook was killed by signal %d%s%s", status & 0x7f, separator, hook->text);
    if (status != 0)
        return fail(err, EIO, "the hook exited with status %d%s%s", status >> 8 & 0xff, separator, hook->text);
    return 0;
}

static int run_hook(const struct launch *launch, const struct operation *op, int input, struct hook *hook,
                    struct masu_error *err)
{
    const char **args = list_array(op, F_HOOK_ARGS), **env = list_array(op, F_HOOK_ENV);
    struct clone_args clone = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&hook->pidfd, .exit_signal = SIGNAL_CHILD};
    int output[2], status[2];
    if (args == NULL || env == NULL)
        return fail(err, ENOMEM, "arguments");
    int result = sys_pipe(output, 0);
    if (result < 0)
        return fail(err, result, "pipe");
    owned_fd output_end = output[1];
    hook->output = output[0];
    sys_fcntl(hook->output, F_SETFL, O_NONBLOCK);
    if (check(err, sys_pipe(status, 0), "pipe") < 0)
        return -1;
    owned_fd status_in = status[0], status_end = status[1];
    hook->pid = (int)sys(__NR_clone3, &clone, sizeof clone);
    if (hook->pid == 0)
        become_hook(launch, op, args, env, input, output[1], status[1]);
    if (hook->pid < 0)
        return fail(err, hook->pid, "clone3 of a hook");
    sys_close(release_fd(&output_end));
    sys_close(release_fd(&status_end));
    int execve_result = 0;
    if (sys_read(status_in, &execve_result, sizeof execve_result) == sizeof execve_result) {
        sys_wait(hook->pid, NULL, WAIT_ALL_CLONES);
        return fail(err, execve_result, "execve of the hook %s", text_of(op, F_HOOK_PATH));
    }
    unsigned timeout_ms = small_of(op, F_HOOK_TIMEOUT_MS);
    bool in_time = await(hook, timeout_ms);
    if (!in_time)
        sys(__NR_kill, -hook->pid, SIGNAL_KILL);
    int wait_status = 0;
    while (sys_wait(hook->pid, &wait_status, WAIT_ALL_CLONES) == -EINTR)
        continue;
    if (hook->output >= 0)
        listen(hook);
    return judge(hook, wait_status, in_time, timeout_ms, err);
}

int do_hook(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    struct hook hook = {.pidfd = -1, .output = -1};
    owned_fd input = make_input(launch);
    if (input < 0)
        return fail(err, input, "the hook's stdin");
    int result = run_hook(launch, op, input, &hook, err);
    close_owned(&hook.pidfd);
    close_owned(&hook.output);
    return result;
}
