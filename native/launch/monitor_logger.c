/* A program that takes the container's output: the logging protocol of containerd ("binary://").
 *
 *     fd 3, 4   what the container writes to stdout and to stderr, until their end
 *     fd 5      the program says that it is ready by closing it
 *     env       CONTAINER_ID, CONTAINER_NAMESPACE
 *
 * It is the monitor's child, and may outlive it: it ends by itself when it has read all. */
#include "monitor.h"

#define READY_MS 30000

_Noreturn static void become_logger(const struct monitor *monitor, const char **args, const int inherited[3])
{
    const char **env = list_array(&monitor->op, F_MONITOR_LOGGER_ENV);
    int high[3], result = env == NULL ? -ENOMEM : 0;
    for (int i = 0; i < 3 && result >= 0; i++) /* away from 3, 4 and 5, which may be among them */
        high[i] = result = sys_fcntl(inherited[i], F_DUPFD_CLOEXEC, 16);
    for (int i = 0; i < 3 && result >= 0; i++)
        result = sys_dup3(high[i], 3 + i, 0);
    int null = sys_open(AT_FDCWD, "/dev/null", O_RDWR | O_NOCTTY, 0);
    for (int fd = STDIN; null >= 0 && fd <= STDERR; fd++)
        sys_dup3(null, fd, 0);
    sys(__NR_close_range, 6, ~0u, CLOSE_RANGE_CLOEXEC);
    sys(__NR_setsid);
    sys(__NR_umask, 0022);
    sys_usual_signals();
    if (result >= 0)
        result = (int)sys(__NR_execve, args[0], args, env);
    sys_write(high[2], &result, sizeof result);
    sys_exit(127);
}

/* Ready is one byte, or the end; four are the errno of a program that could not be run. */
static int wait_ready(int fd, const char *program, struct masu_error *err)
{
    int result = 0;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    long count = sys_poll(&ready, 1, READY_MS);
    if (count == 0)
        return fail(err, ETIMEDOUT, "the logging program %s does not say that it is ready", program);
    count = count < 0 ? count : sys_read(fd, &result, sizeof result);
    if (count == sizeof result)
        return fail(err, result, "execve of the logging program %s", program);
    return count < 0 ? fail(err, count, "the logging program's answer") : 0;
}

int start_logger(struct monitor *monitor, int out[2], struct masu_error *err)
{
    const char **args = list_array(&monitor->op, F_MONITOR_LOGGER);
    int pipes[3][2];
    if (args == NULL)
        return fail(err, ENOMEM, "arguments");
    out[0] = out[1] = -1;
    if (args[0] == NULL)
        return 0;
    for (int i = 0; i < 3; i++) {
        int result = sys_pipe(pipes[i], 0);
        if (result < 0)
            return fail(err, result, "pipes for the logging program");
    }
    int inherited[3] = {pipes[0][0], pipes[1][0], pipes[2][1]};
    int pid = sys_fork();
    if (pid == 0)
        become_logger(monitor, args, inherited);
    for (int i = 0; i < 3; i++)
        sys_close(inherited[i]);
    out[0] = pipes[0][1];
    out[1] = pipes[1][1];
    owned_fd ready = pipes[2][0];
    return pid < 0 ? fail(err, pid, "fork of the logging program") : wait_ready(ready, args[0], err);
}
