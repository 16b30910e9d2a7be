/* The container has ended: its last output, the record of its end, its cgroups, and who is told. */
#include "monitor.h"

#define CGROUP_MS 500 /* for cgroups to become empty */

static void drop_waiting(struct monitor *monitor)
{
    for (struct client *client = monitor->clients; client < monitor->clients + CLIENTS_LIMIT; client++) {
        if (client_waits(monitor, client))
            client_drop(monitor, client);
    }
    clients_flush(monitor);
}

/* What is still in the pipes goes to log and clients; others may hold them open for ever, so empty is the end. */
static void drain(struct monitor *monitor)
{
    int64_t until = clock_ms() + STUCK_MS;
    if (monitor->listener >= 0)
        clients_accept(monitor);
    for (int quiet = 0; quiet < 2;) {
        if (monitor->batch_length > 0) {
            size_t before = 0, after = 0;
            for (int i = 0; i < CLIENTS_LIMIT; i++)
                before += monitor->clients[i].sent;
            turn(monitor, 100);
            for (int i = 0; i < CLIENTS_LIMIT; i++)
                after += monitor->clients[i].sent;
            if (after != before)
                until = clock_ms() + STUCK_MS;
            else if (clock_ms() > until)
                drop_waiting(monitor);
            continue;
        }
        monitor->streams[quiet].parked = false;
        if (!read_stream(monitor, &monitor->streams[quiet]))
            quiet++;
    }
    log_flush(&monitor->log, &monitor->streams[0]);
    log_flush(&monitor->log, &monitor->streams[1]);
}

static unsigned exit_code(int status)
{
    return (status & 0x7f) != 0 ? 128u + (unsigned)(status & 0x7f) : (unsigned)status >> 8 & 0xff;
}

static void write_exit_file(const struct monitor *monitor, const char *time, bool oom)
{
    char text[256];
    const char *path = text_of(&monitor->op, F_MONITOR_EXIT_PATH);
    if (*path == '\0')
        return;
    size_t length = format_text(text, sizeof text,
                                "{\"status\":%u,\"signal\":%d,\"oom\":%s,\"exited_at\":\"%s\",\"pid\":%d}\n",
                                exit_code(monitor->status), monitor->status & 0x7f, oom ? "true" : "false", time,
                                monitor->init);
    /* A container that leaves nothing behind needs no record that outlives a power cut. */
    if (write_renamed(path, text, length, (monitor->flags & MONITOR_EPHEMERAL) == 0) == 0)
        return;
    /* A full disk: then in the run directory, where the pid file is. */
    char other[PATH_LIMIT + sizeof "/exit"];
    format_text(other, PATH_LIMIT, "%s", text_of(&monitor->op, F_MONITOR_PID_PATH));
    char *slash = strrchr(other, '/');
    if (slash == NULL)
        return;
    format_text(slash, sizeof "/exit", "/exit");
    write_renamed(other, text, length, false);
}

/* Kills what is still in the container's cgroup: with a PID namespace of its own there is nothing. */
static void kill_strays(const char *cgroup)
{
    char path[PATH_LIMIT], text[4096];
    format_text(path, sizeof path, "%s/cgroup.procs", cgroup);
    if (read_file(AT_FDCWD, path, text, sizeof text) <= 0)
        return;
    for (const char *at = text; *at != '\0';) {
        size_t length = 0;
        uint64_t pid;
        while (at[length] != '\0' && at[length] != '\n')
            length++;
        /* A line that the buffer cut is taken the next time. */
        if (at[length] == '\n' && parse_number(at, length, INT32_MAX, &pid) && pid > 1)
            sys(__NR_kill, pid, SIGNAL_KILL);
        at += length + (at[length] == '\n' ? 1 : 0);
    }
}

static void remove_cgroups(const struct monitor *monitor)
{
    const char *kill_path = text_of(&monitor->op, F_MONITOR_KILL_PATH);
    int64_t until = clock_ms() + CGROUP_MS;
    if (*kill_path != '\0')
        write_file(AT_FDCWD, kill_path, "1", 1);
    struct list cgroups = list_of(&monitor->op, F_MONITOR_CGROUPS);
    for (const char *path; (path = list_next(&cgroups)) != NULL;) {
        int64_t step = 1;
        while (sys(__NR_unlinkat, AT_FDCWD, path, AT_REMOVEDIR) == -EBUSY && clock_ms() < until) {
            kill_strays(path);
            while (sys_wait(-1, NULL, WAIT_NO_HANG | WAIT_ALL_CLONES) > 0) /* as their reaper we hold them there */
                continue;
            sys_poll(NULL, 0, step);
            step = step < 10 ? step * 2 : 10;
        }
    }
}

/* True when somebody who is attached takes care of what is left. */
static bool somebody_cleans(struct monitor *monitor)
{
    int64_t until = clock_ms() + STUCK_MS;
    for (;;) {
        bool attached = false;
        if (monitor->promised)
            return true;
        for (int i = 0; i < CLIENTS_LIMIT; i++) {
            if (monitor->clients[i].fd >= 0 && monitor->clients[i].cleans)
                return true;
            attached = attached || (monitor->clients[i].fd >= 0 && monitor->clients[i].attached);
        }
        int64_t left = until - clock_ms();
        if (!attached || left <= 0)
            return false;
        turn(monitor, left);
    }
}

static void run_exit_command(const struct monitor *monitor)
{
    static const char *const env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    const char **args = list_array(&monitor->op, F_MONITOR_EXIT_COMMAND);
    if (args == NULL || args[0] == NULL || sys_fork() != 0)
        return;
    sys(__NR_setsid);
    sys(__NR_umask, 0022);
    sys_sigmask(0);
    sys(__NR_execve, args[0], args, env);
    sys_exit(127);
}

void monitor_end(struct monitor *monitor)
{
    char time[TIME_LENGTH + 1];
    format_time(time);
    drain(monitor);
    for (struct client *client = monitor->clients; client < monitor->clients + CLIENTS_LIMIT; client++) {
        if (client->raw) /* whoever reads there sees the end before anybody is told of it */
            client_drop(monitor, client);
    }
    write_exit_file(monitor, time, oom_count(monitor) > 0);
    remove_cgroups(monitor);
    clients_tell_exit(monitor, exit_code(monitor->status));
    if (!somebody_cleans(monitor))
        run_exit_command(monitor);
}

void monitor_forget(struct monitor *monitor)
{
    const char *pid_path = text_of(&monitor->op, F_MONITOR_PID_PATH);
    if (monitor->init > 0 && *pid_path != '\0')
        sys(__NR_unlinkat, AT_FDCWD, pid_path, 0);
    remove_cgroups(monitor);
}
