/* The monitor: one small process beside each container that the engine runs. It outlives the engine.
 *
 *     engine ── starts ──▶ masu-launch ── forks ──▶ monitor "masu:[monitor]"      then exits
 *                                                     ├─ stage ── clone3(CLONE_PARENT)
 *                                                     └─ init, later the user's program
 *
 *     stage ── TELL_PID + pidfd ──────────────────▶ monitor   over a socketpair of their own
 *     init  ── TELL_MASTER + pty, TELL_STARTED ───▶ monitor
 *     stdout, stderr or the pty ──────────────────▶ monitor ──▶ log, clients
 *     clients (masu attach, run, exec) ◀──────────▶ monitor   monitor_clients.c
 *
 *   state      until                           then
 *   birth      TELL_STARTED                    running
 *              init or stage end before that   cgroups removed, pid file removed, exit: the engine knows why
 *   running    init ends                       output drained, exit file (fsync, rename), cgroups, 'x' to clients
 *   ended      a client says 'k', or 2 s       exit; without 'k' the exit command is run
 *
 * If the monitor is killed, init dies with it (PR_SET_PDEATHSIG). All signals are blocked and read from a signalfd. */
#include "monitor.h"

#define TICK_MS 200          /* an unfinished line waits this long for its end */
#define PARKED_MS 1000       /* a terminal that nobody has open is looked at so often */

static struct monitor the_monitor;

/* ---- birth ---- */

/* A pipe whose one end is the container's; ours does not block. */
static int make_pipe(int *ours, int *theirs, bool we_read)
{
    int ends[2];
    int result = sys_pipe(ends, 0);
    if (result < 0)
        return result;
    *ours = ends[we_read ? 0 : 1];
    *theirs = ends[we_read ? 1 : 0];
    return sys_fcntl(*ours, F_SETFL, we_read ? O_NONBLOCK : O_NONBLOCK | O_WRONLY);
}

static int given_fd(const struct monitor *monitor, unsigned field)
{
    unsigned fd = small_of(&monitor->op, field);
    if (fd == PLAN_NONE)
        return -1;
    sys_fcntl((int)fd, F_SETFD, FD_CLOEXEC);
    return (int)fd;
}

static void make_nonblocking(int fd)
{
    sys_fcntl(fd, F_SETFL, sys_fcntl(fd, F_GETFL, 0) | O_NONBLOCK);
}

/* A FIFO, file or pipe of somebody else's that gets what log and clients get. */
static void add_raw(struct client *client, int fd, uint8_t wants)
{
    make_nonblocking(fd);
    client->fd = fd;
    client->raw = true;
    client->wants = wants;
}

/* What a client has named for its own ends of stdin, stdout and stderr is copied from and to. */
static void keep_given(struct monitor *monitor, const int given[3])
{
    monitor->stdin_source = given[0];
    if (given[0] >= 0)
        make_nonblocking(given[0]);
    if (given[1] >= 0)
        add_raw(&monitor->clients[0], given[1], WANTS_STDOUT | (given[1] == given[2] ? WANTS_STDERR : 0));
    if (given[2] >= 0 && given[2] != given[1])
        add_raw(&monitor->clients[1], given[2], WANTS_STDERR);
}

/* Fills `stdio` with the container's three. */
static int prepare_stdio(struct monitor *monitor, int stdio[3], struct masu_error *err)
{
    int given[3] = {given_fd(monitor, F_MONITOR_STDIN_FD), given_fd(monitor, F_MONITOR_STDOUT_FD),
                    given_fd(monitor, F_MONITOR_STDERR_FD)};
    int logger[2];
    bool terminal = (monitor->flags & MONITOR_TERMINAL) != 0, copy = terminal || (monitor->flags & MONITOR_COPY) != 0;
    int null = sys_open(AT_FDCWD, "/dev/null", O_RDWR | O_NOCTTY, 0);
    if (null < 0)
        return fail(err, null, "/dev/null");
    stdio[0] = stdio[1] = stdio[2] = null;
    monitor->stdin_keep = given_fd(monitor, F_MONITOR_STDIN_KEEP_FD);
    if (start_logger(monitor, logger, err) < 0)
        return -1;
    for (int i = 0; i < 2 && logger[0] >= 0; i++)
        given[1 + i] = logger[i];
    if (copy)
        keep_given(monitor, given);
    if (terminal)
        return 0;
    int result = 0;
    if (!copy && given[0] >= 0)
        stdio[0] = given[0];
    else if (given[0] >= 0 || (monitor->flags & MONITOR_OPEN_STDIN) != 0)
        result = make_pipe(&monitor->stdin_fd, &stdio[0], false);
    for (int i = 0; i < 2 && result >= 0; i++) {
        if (!copy && given[1 + i] >= 0)
            stdio[1 + i] = given[1 + i];
        else
            result = make_pipe(&monitor->streams[i].fd, &stdio[1 + i], true);
    }
    return result < 0 ? fail(err, result, "pipes for the container's output") : 0;
}

/* In the stage: the monitor's own fds go, the container's stdio is put in place. */
static int become_stage(struct monitor *monitor, const int stdio[3], int inner)
{
    struct launch *launch = monitor->launch;
    struct masu_error err;
    int own[] = {monitor->signals,       monitor->inner,        monitor->listener,   monitor->streams[0].fd,
                 monitor->streams[1].fd, monitor->stdin_fd,     monitor->stdin_keep, monitor->stdin_source,
                 monitor->clients[0].fd, monitor->clients[1].fd};
    launch->monitor = inner;
    sys_prctl(PR_SET_PDEATHSIG, SIGNAL_KILL, 0, 0);
    sys_sigmask(0);
    for (int fd = STDIN; fd <= STDERR; fd++) {
        int result = stdio[fd] == fd ? sys_fcntl(fd, F_SETFD, 0) : sys_dup3(stdio[fd], fd, 0);
        if (result < 0) {
            fail(&err, result, "dup3");
            control_send(launch, MSG_ERROR, err.number, 0, err.detail, -1);
            return 1;
        }
    }
    for (unsigned i = 0; i < sizeof own / sizeof own[0]; i++)
        close_owned(&own[i]);
    return run_stage(launch);
}

static int open_signals(void)
{
    uint64_t mask = 1ull << (SIGNAL_CHILD - 1) | 1ull << (SIGNAL_TERM - 1);
    sys_sigmask(~0ull);
    return (int)sys(__NR_signalfd4, -1, &mask, sizeof mask, O_CLOEXEC | O_NONBLOCK);
}

/* Our own copy of the operation; the plan is let go. */
static int keep_operation(struct monitor *monitor, struct masu_error *err)
{
    struct plan *plan = &monitor->launch->plan;
    size_t begin = PLAN_FIRST, end = PLAN_FIRST;
    plan_read(plan, &end, 0, &monitor->op);
    unsigned char *copy = sys_memory(end);
    if (copy == NULL)
        return fail(err, ENOMEM, "memory");
    memcpy(copy, plan->data, end);
    struct plan own = {.data = copy, .size = end};
    plan_read(&own, &begin, 0, &monitor->op);
    return 0;
}

static void leave_cgroups(const struct monitor *monitor)
{
    struct list files = list_of(&monitor->op, F_MONITOR_LEAVE);
    for (const char *path; (path = list_next(&files)) != NULL;)
        write_file(AT_FDCWD, path, "0", 1);
}

static int prepare(struct monitor *monitor, int stdio[3], int *inner, struct masu_error *err)
{
    int ends[2];
    if (keep_operation(monitor, err) < 0)
        return -1;
    monitor->flags = small_of(&monitor->op, F_MONITOR_FLAGS);
    sys(__NR_setsid);
    sys_prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0);
    sys(__NR_chdir, "/");
    sys(__NR_umask, 0077);
    leave_cgroups(monitor);
    monitor->signals = open_signals();
    if (monitor->signals < 0)
        return fail(err, monitor->signals, "signalfd");
    monitor->listener = given_fd(monitor, F_MONITOR_LISTEN_FD);
    if (monitor->listener >= 0) {
        sys_fcntl(monitor->listener, F_SETFL, O_NONBLOCK);
        sys(__NR_listen, monitor->listener, CLIENTS_LIMIT);
    }
    monitor->oom_kind = small_of(&monitor->op, F_MONITOR_OOM_KIND);
    monitor->oom = given_fd(monitor, F_MONITOR_OOM_FD);
    monitor->oom_watch = given_fd(monitor, F_MONITOR_OOM_WATCH_FD);
    if (prepare_stdio(monitor, stdio, err) < 0)
        return -1;
    int result = (int)sys(__NR_socketpair, FAMILY_UNIX, SOCKET_SEQPACKET | SOCKET_CLOEXEC, 0, ends);
    if (result < 0)
        return fail(err, result, "socketpair");
    monitor->inner = ends[0];
    *inner = ends[1];
    monitor->log.path = text_of(&monitor->op, F_MONITOR_LOG_PATH);
    monitor->log.max_bytes = number_of(&monitor->op, F_MONITOR_LOG_MAX_BYTES);
    monitor->log.max_files = small_of(&monitor->op, F_MONITOR_LOG_MAX_FILES);
    if (*monitor->log.path == '\0') {
        monitor->log.path = NULL;
        return 0;
    }
    log_open(&monitor->log);
    return monitor->log.fd < 0 ? fail_path(err, monitor->log.fd, monitor->log.path) : 0;
}

static unsigned long start_time(int pid)
{
    char path[64], text[1024];
    format_text(path, sizeof path, "/proc/%d/stat", pid);
    if (read_file(AT_FDCWD, path, text, sizeof text) <= 0)
        return 0;
    const char *at = strrchr(text, ')'); /* the name before it may hold anything (proc(5)) */
    for (int fields = 0; at != NULL && fields < 20; fields++) {
        at = strchr(at, ' ');
        at = at == NULL ? NULL : at + 1;
    }
    size_t length = 0;
    uint64_t value = 0;
    while (at != NULL && at[length] >= '0' && at[length] <= '9')
        length++;
    return at != NULL && parse_number(at, length, UINT64_MAX, &value) ? value : 0;
}

int write_renamed(const char *path, const char *text, size_t length, bool sync)
{
    char temporary[PATH_LIMIT];
    if (format_text(temporary, sizeof temporary, "%s.tmp", path) + 1 >= sizeof temporary)
        return -ENAMETOOLONG;
    owned_fd fd = sys_open(AT_FDCWD, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
    int result = fd < 0 ? fd : write_whole(fd, text, length);
    if (result == 0 && sync)
        result = (int)sys(__NR_fsync, fd);
    if (result == 0)
        result = (int)sys(__NR_renameat2, AT_FDCWD, temporary, AT_FDCWD, path, 0);
    if (result < 0 && fd >= 0)
        sys(__NR_unlinkat, AT_FDCWD, temporary, 0);
    char *slash = strrchr(temporary, '/');
    if (result < 0 || !sync || slash == NULL)
        return result;
    slash[slash == temporary ? 1 : 0] = '\0';
    owned_fd dir = sys_open(AT_FDCWD, temporary, O_RDONLY | O_DIRECTORY, 0);
    return dir < 0 ? dir : (int)sys(__NR_fsync, dir);
}

static void write_pid_file(const struct monitor *monitor)
{
    char text[128];
    const char *path = text_of(&monitor->op, F_MONITOR_PID_PATH);
    int own = sys_getpid();
    if (*path == '\0')
        return;
    size_t length = format_text(text, sizeof text, "%d %lu\n%d %lu\n", monitor->init, start_time(monitor->init), own,
                                start_time(own));
    write_renamed(path, text, length, false);
}

/* ---- what stage and init tell ---- */

static void take_master(struct monitor *monitor, int fd)
{
    sys_fcntl(fd, F_SETFL, O_NONBLOCK | O_RDWR);
    monitor->master = monitor->stdin_fd = monitor->streams[0].fd = fd;
}

static void reap(struct monitor *monitor);

static void hear_inner(struct monitor *monitor)
{
    unsigned char message[5];
    int fd;
    while (monitor->inner >= 0) {
        long count = receive_with_fd(monitor->inner, message, sizeof message, &fd);
        if (count == -EAGAIN || count == -EINTR)
            return;
        if (count <= 0) { /* stage and init are gone, or exec has closed theirs */
            sys_close(release_fd(&monitor->inner));
            return;
        }
        if (message[0] == TELL_PID && monitor->pidfd < 0) {
            monitor->pidfd = release_fd(&fd);
            memcpy(&monitor->init, message + 1, sizeof monitor->init);
            write_pid_file(monitor);
            /* From here on the host's socket is init's alone: its end of file says exec'd or dead. */
            control_close(monitor->launch);
            reap(monitor);
        } else if (message[0] == TELL_MASTER && monitor->master < 0) {
            take_master(monitor, release_fd(&fd));
        } else if (message[0] == TELL_OOM && monitor->oom < 0) {
            monitor->oom = release_fd(&fd);
            memcpy(&monitor->oom_kind, message + 1, sizeof monitor->oom_kind);
        } else if (message[0] == TELL_WATCH && monitor->oom_watch < 0) {
            monitor->oom_watch = release_fd(&fd);
        } else if (message[0] == TELL_STARTED) {
            monitor->started = true;
        }
        close_owned(&fd);
    }
}

static void reap(struct monitor *monitor)
{
    int status, pid;
    /* Until we know which child is init, only the stage is waited for: init must not be taken for a stray. */
    while ((pid = sys_wait(monitor->pidfd < 0 ? monitor->stage : -1, &status, WAIT_NO_HANG | WAIT_ALL_CLONES)) > 0) {
        if (pid == monitor->stage)
            monitor->stage_gone = true;
        if (pid == monitor->init && !monitor->exited) {
            monitor->exited = true;
            monitor->status = status;
        }
        if (monitor->pidfd < 0)
            return;
    }
}

static void take_signals(struct monitor *monitor)
{
    struct { /* struct signalfd_siginfo */
        uint32_t number;
        char rest[124];
    } info;
    while (sys_read(monitor->signals, &info, sizeof info) == sizeof info) {
        if (info.number == SIGNAL_TERM && monitor->pidfd >= 0)
            sys_pidfd_send_signal(monitor->pidfd, SIGNAL_TERM);
    }
    hear_inner(monitor); /* the pid may be waiting there */
    reap(monitor);
}

/* ---- output ---- */

/* Reads once; false when there is nothing (more) to read now. */
bool read_stream(struct monitor *monitor, struct stream *stream)
{
    if (stream->fd < 0 || stream->parked)
        return false;
    long count = sys_read(stream->fd, monitor->batch, BATCH_LIMIT);
    if (count == -EAGAIN || count == -EINTR)
        return false;
    if (count == -EIO && stream->fd == monitor->master) {
        stream->parked = true; /* nobody has the terminal open now; somebody may again */
        return false;
    }
    if (count <= 0) {
        sys_close(release_fd(&stream->fd));
        return false;
    }
    log_write(&monitor->log, stream, monitor->batch, (size_t)count);
    clients_give(monitor, stream, (size_t)count);
    return true;
}

static int64_t flush_lines(struct monitor *monitor)
{
    int64_t next = -1, now = 0;
    for (int i = 0; i < 2; i++) {
        struct stream *stream = &monitor->streams[i];
        if (stream->pending == 0)
            continue;
        now = now == 0 ? clock_ms() : now;
        int64_t left = stream->since_ms + TICK_MS - now;
        if (left <= 0)
            log_flush(&monitor->log, stream);
        else if (next < 0 || left < next)
            next = left;
    }
    return next;
}

/* Input from the client's FIFO. Its end is that of stdin, but for a terminal, which has none. */
static void feed_stdin(struct monitor *monitor)
{
    long count = sys_read(monitor->stdin_source, monitor->stdin_data, sizeof monitor->stdin_data);
    if (count == -EAGAIN || count == -EINTR)
        return;
    if (count <= 0) {
        sys_close(release_fd(&monitor->stdin_source));
        stdin_close(monitor);
        return;
    }
    monitor->stdin_at = 0;
    monitor->stdin_length = (size_t)count;
    stdin_flush(monitor);
}

/* ---- the loop ---- */

enum {
    POLL_SIGNALS, POLL_INNER, POLL_LISTENER, POLL_OOM, POLL_STREAMS, POLL_STREAM_2, POLL_STDIN, POLL_SOURCE, POLL_CLIENTS
};

/* Waits for something to happen and handles it; at most timeout_ms. */
void turn(struct monitor *monitor, int64_t timeout_ms)
{
    struct pollfd fds[POLL_CLIENTS + CLIENTS_LIMIT];
    bool idle = monitor->batch_length == 0; /* else some client has still to take the batch */
    bool feeding = monitor->stdin_length > 0;
    fds[POLL_SIGNALS] = (struct pollfd){.fd = monitor->signals, .events = POLLIN};
    fds[POLL_INNER] = (struct pollfd){.fd = monitor->inner, .events = POLLIN};
    fds[POLL_LISTENER] = (struct pollfd){.fd = monitor->listener, .events = POLLIN};
    fds[POLL_OOM] = oom_waits(monitor);
    for (int i = 0; i < 2; i++) {
        bool wanted = idle && !monitor->streams[i].parked && !monitor->exited;
        fds[POLL_STREAMS + i] = (struct pollfd){.fd = wanted ? monitor->streams[i].fd : -1, .events = POLLIN};
    }
    fds[POLL_STDIN] = (struct pollfd){.fd = feeding ? monitor->stdin_fd : -1, .events = POLLOUT};
    fds[POLL_SOURCE] = (struct pollfd){
        .fd = !feeding && monitor->stdin_fd >= 0 ? monitor->stdin_source : -1, .events = POLLIN};
    unsigned count = POLL_CLIENTS;
    struct client *at[CLIENTS_LIMIT];
    for (struct client *client = monitor->clients; client < monitor->clients + CLIENTS_LIMIT; client++) {
        short events = (short)((client_may_talk(monitor, client) ? POLLIN : 0) |
                               (client_waits(monitor, client) ? POLLOUT : 0));
        if (client->fd < 0 || events == 0)
            continue; /* not even its end is of interest now, and poll would tell of nothing else */
        at[count - POLL_CLIENTS] = client;
        fds[count++] = (struct pollfd){.fd = client->fd, .events = events};
    }
    if (sys_poll(fds, count, timeout_ms) <= 0)
        return;
    if (fds[POLL_SIGNALS].revents != 0)
        take_signals(monitor);
    if (fds[POLL_INNER].revents != 0)
        hear_inner(monitor);
    /* Clients before output: who attached before the container was let go must see its first byte. */
    if (fds[POLL_LISTENER].revents != 0)
        clients_accept(monitor);
    for (unsigned i = POLL_CLIENTS; i < count; i++) {
        if ((fds[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && at[i - POLL_CLIENTS]->fd == fds[i].fd)
            client_hear(monitor, at[i - POLL_CLIENTS], 16);
    }
    if (fds[POLL_OOM].revents != 0)
        oom_hear(monitor);
    if (fds[POLL_STDIN].revents != 0)
        stdin_flush(monitor);
    if (fds[POLL_SOURCE].revents != 0 && monitor->stdin_length == 0)
        feed_stdin(monitor);
    if (!idle)
        clients_flush(monitor);
    for (int i = 0; i < 2; i++) {
        if (monitor->batch_length == 0 && fds[POLL_STREAMS + i].revents != 0)
            read_stream(monitor, &monitor->streams[i]);
    }
}

static bool over(const struct monitor *monitor)
{
    return monitor->exited || (monitor->stage_gone && monitor->pidfd < 0);
}

static void run(struct monitor *monitor)
{
    while (!over(monitor)) {
        int64_t timeout_ms = flush_lines(monitor);
        if (monitor->streams[0].parked) {
            monitor->streams[0].parked = false;
            turn(monitor, 0); /* what else happened; the terminal is tried again */
            read_stream(monitor, &monitor->streams[0]);
            if (monitor->streams[0].parked && (timeout_ms < 0 || timeout_ms > PARKED_MS))
                timeout_ms = PARKED_MS;
            if (over(monitor))
                return;
        }
        turn(monitor, timeout_ms);
    }
}

/* Field by field: to assign the whole would touch the pages of its buffer. */
static void name_stream(struct stream *stream, const char *name, char type, uint8_t flag)
{
    stream->fd = -1;
    stream->name = name;
    stream->type = type;
    stream->flag = flag;
}

/* What stage and container have inherited through us must not live as long as we do: namespaces, sockets. */
static void close_strangers(const struct monitor *monitor)
{
    const int stay[] = {
        monitor->launch->control, monitor->signals,       monitor->inner,         monitor->listener,
        monitor->log.fd,          monitor->streams[0].fd, monitor->streams[1].fd, monitor->stdin_fd,
        monitor->stdin_source,    monitor->stdin_keep,    monitor->oom,           monitor->oom_watch,
        monitor->clients[0].fd,   monitor->clients[1].fd,
    };
    close_all_but(stay, sizeof stay / sizeof stay[0], STDERR + 1);
}

int run_monitor(struct launch *launch)
{
    struct monitor *monitor = &the_monitor;
    struct masu_error err;
    int stdio[3], inner = -1;
    int pid = sys_fork();
    if (pid != 0) {
        if (pid > 0)
            return 0;
        fail(&err, pid, "fork of the monitor");
        control_send(launch, MSG_ERROR, err.number, 0, err.detail, -1);
        return 1;
    }
    set_name("masu:[monitor]");
    monitor->launch = launch;
    monitor->signals = monitor->inner = monitor->listener = monitor->pidfd = monitor->master = -1;
    monitor->stdin_fd = monitor->stdin_source = monitor->stdin_keep = monitor->log.fd = -1;
    monitor->oom = monitor->oom_watch = -1;
    name_stream(&monitor->streams[0], "stdout", 'o', WANTS_STDOUT);
    name_stream(&monitor->streams[1], "stderr", 'e', WANTS_STDERR);
    for (int i = 0; i < CLIENTS_LIMIT; i++)
        monitor->clients[i].fd = -1;
    if (prepare(monitor, stdio, &inner, &err) < 0) {
        control_send(launch, MSG_ERROR, err.number, 0, err.detail, -1);
        return 1;
    }
    control_send(launch, MSG_MONITOR, 0, sys_getpid(), "", -1);
    monitor->stage = sys_fork();
    if (monitor->stage == 0)
        return become_stage(monitor, stdio, inner);
    if (monitor->stage < 0) {
        fail(&err, monitor->stage, "fork of the stage");
        control_send(launch, MSG_ERROR, err.number, 0, err.detail, -1);
        return 1;
    }
    sys_close(inner);
    for (int i = 0; i < 3; i++) { /* a given fd may stand for two of them: closing twice harms nobody */
        if (stdio[i] > STDERR)
            sys_close(stdio[i]);
    }
    int null = sys_open(AT_FDCWD, "/dev/null", O_RDWR | O_NOCTTY, 0);
    for (int fd = STDIN; null >= 0 && fd <= STDERR; fd++)
        sys_dup3(null, fd, 0);
    close_owned(&null);
    close_strangers(monitor);
    sys_unmap(launch->plan.data, launch->plan.size);
    run(monitor);
    if (monitor->started)
        monitor_end(monitor);
    else
        monitor_forget(monitor);
    return 0;
}
