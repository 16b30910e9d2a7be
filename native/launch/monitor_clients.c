/* Who is attached: messages over SOCK_SEQPACKET, one byte of type and what belongs to it.
 *
 *     client -> monitor                                  monitor -> client
 *     'a' flags       attach: 1 stdout, 2 stderr, 4 stdin,  'A'       attached
 *                     8 events
 *     'i' data        for stdin                             'o' data  from stdout
 *     'c'             close stdin                           'e' data  from stderr
 *     'h'             hold stdin open (answered by 'A')
 *     'r' u16 u16     rows, columns of the terminal         'x' u32 exit status, u32 wait status
 *     's' u32         signal for the container
 *     'k'             "I clean up after the container"      'm'       memory ran short, a process was killed
 *
 * 'a' comes first. Nothing is buffered for a slow client beyond its socket: one batch of output is read from the
 * container, and the next one only when every client has taken the last. */
#include "monitor.h"

#include <linux/termios.h>

static unsigned get_number(const unsigned char *at, unsigned bytes)
{
    unsigned value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (unsigned)at[i] << 8 * i;
    return value;
}

static bool may_connect(int fd)
{
    struct { /* struct ucred (unix(7)) */
        int pid;
        unsigned uid, gid;
    } peer;
    int size = sizeof peer;
    return sys(__NR_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == 0 || peer.uid == (unsigned)sys(__NR_geteuid));
}

void clients_accept(struct monitor *monitor)
{
    for (;;) {
        int fd = (int)sys(__NR_accept4, monitor->listener, NULL, NULL, SOCKET_CLOEXEC | SOCKET_NONBLOCK);
        if (fd < 0)
            return;
        struct client *client = monitor->clients;
        struct client *end = client + CLIENTS_LIMIT;
        while (client < end && client->fd >= 0)
            client++;
        if (client == end || !may_connect(fd)) {
            sys_close(fd);
            continue;
        }
        *client = (struct client){.fd = fd};
        /* It may have spoken already, and the container's output may be waiting, too: its 'a' counts first. Only
         * that: what else it says comes after what others said before it. */
        client_hear(monitor, client, 1);
    }
}

void client_drop(struct monitor *monitor, struct client *client)
{
    if (client->fd < 0)
        return;
    bool fed = !client->raw && (client->wants & WANTS_STDIN) != 0;
    sys_close(client->fd);
    *client = (struct client){.fd = -1};
    if (fed && (monitor->flags & MONITOR_STDIN_ONCE) != 0 && (monitor->flags & MONITOR_TERMINAL) == 0)
        stdin_close(monitor);
}

/* ---- stdin ---- */

static void drop_source(struct monitor *monitor)
{
    close_owned(&monitor->stdin_source);
    close_owned(&monitor->stdin_keep);
    monitor->stdin_source = monitor->stdin_keep = -1;
}

static void stdin_drop(struct monitor *monitor)
{
    close_owned(&monitor->stdin_fd);
    monitor->stdin_fd = -1;
    drop_source(monitor);
}

void stdin_flush(struct monitor *monitor)
{
    while (monitor->stdin_at < monitor->stdin_length) {
        long count = -EPIPE;
        if (monitor->stdin_fd >= 0)
            count = sys_write(monitor->stdin_fd, monitor->stdin_data + monitor->stdin_at,
                              monitor->stdin_length - monitor->stdin_at);
        if (count == -EAGAIN || count == -EINTR)
            return;
        if (count <= 0) {
            if (monitor->stdin_fd != monitor->master)
                stdin_drop(monitor); /* nobody reads any more, nor ever will */
            break;
        }
        monitor->stdin_at += (size_t)count;
    }
    monitor->stdin_at = monitor->stdin_length = 0;
    if (monitor->stdin_ending && monitor->stdin_fd >= 0 && monitor->stdin_fd != monitor->master)
        sys_close(release_fd(&monitor->stdin_fd));
}

void stdin_close(struct monitor *monitor)
{
    drop_source(monitor);
    monitor->stdin_ending = true;
    stdin_flush(monitor);
}

static int stdin_writer(const struct monitor *monitor)
{
    char path[64];
    format_text(path, sizeof path, "/proc/self/fd/%d", monitor->stdin_source);
    return sys_open(AT_FDCWD, path, O_WRONLY | O_NONBLOCK, 0);
}

/* From now on stdin does not end with whoever writes to its FIFO: unless somebody has, and has gone, or it may. */
static void stdin_hold(struct monitor *monitor)
{
    struct pollfd source = {.fd = monitor->stdin_source, .events = POLLIN};
    if (monitor->stdin_source < 0 || monitor->stdin_keep >= 0 || monitor->stdin_loose)
        return;
    if (sys_poll(&source, 1, 0) > 0 && (source.revents & POLLHUP) != 0)
        return;
    int fd = stdin_writer(monitor);
    if (fd >= 0)
        monitor->stdin_keep = fd;
}

/* What its writer has written comes first, and its end with its own. Where none ever came we are the one. */
static void stdin_let_go(struct monitor *monitor)
{
    monitor->stdin_loose = true;
    int fd = monitor->stdin_keep >= 0 ? release_fd(&monitor->stdin_keep) : stdin_writer(monitor);
    if (fd >= 0)
        sys_close(fd);
}

/* ---- from a client ---- */

static bool attach(struct monitor *monitor, struct client *client, unsigned flags)
{
    if (client->attached)
        return false;
    client->attached = true;
    client->wants = flags & (WANTS_STDOUT | WANTS_STDERR | WANTS_STDIN | WANTS_EVENTS);
    client->sent = monitor->batch_length; /* the batch under way began before it came */
    return sys_write(client->fd, "A", 1) == 1;
}

/* False when the client does not keep to the protocol. */
static bool obey(struct monitor *monitor, struct client *client, const unsigned char *data, size_t length)
{
    if (data[0] == 'a')
        return length == 2 && attach(monitor, client, data[1]);
    if (!client->attached)
        return false;
    switch (data[0]) {
    case 'i':
        if ((client->wants & WANTS_STDIN) == 0)
            return false;
        memcpy(monitor->stdin_data, data + 1, length - 1);
        monitor->stdin_at = 0;
        monitor->stdin_length = length - 1;
        stdin_flush(monitor);
        return true;
    case 'c':
        if ((client->wants & WANTS_STDIN) == 0)
            return false;
        if (monitor->stdin_source < 0)
            stdin_close(monitor);
        else
            stdin_let_go(monitor);
        return true;
    case 'h':
        stdin_hold(monitor);
        return length == 1 && sys_write(client->fd, "A", 1) == 1;
    case 'r': {
        if (length != 5)
            return false;
        struct winsize size = {.ws_row = (unsigned short)get_number(data + 1, 2),
                               .ws_col = (unsigned short)get_number(data + 3, 2)};
        if (monitor->master >= 0)
            sys_ioctl(monitor->master, TIOCSWINSZ, &size);
        return true;
    }
    case 's': {
        if (length != 5 || get_number(data + 1, 4) > SIGNAL_LAST)
            return false;
        if (monitor->pidfd >= 0)
            sys_pidfd_send_signal(monitor->pidfd, (int)get_number(data + 1, 4));
        return true;
    }
    case 'k':
        client->cleans = true;
        monitor->promised = monitor->told;
        return length == 1;
    default:
        return false;
    }
}

bool client_may_talk(const struct monitor *monitor, const struct client *client)
{
    return !client->raw && (monitor->stdin_length == 0 || (client->wants & WANTS_STDIN) == 0);
}

void client_hear(struct monitor *monitor, struct client *client, int limit)
{
    for (int messages = 0; messages < limit && client->fd >= 0 && client_may_talk(monitor, client); messages++) {
        long count = sys_read(client->fd, monitor->packet, sizeof monitor->packet);
        if (count == -EAGAIN || count == -EINTR)
            return;
        /* A read of the whole buffer may have been cut: longer than a client is allowed to send. */
        if (count <= 0 || (size_t)count == sizeof monitor->packet ||
            !obey(monitor, client, monitor->packet, (size_t)count))
            client_drop(monitor, client);
    }
}

/* ---- to the clients ---- */

bool client_waits(const struct monitor *monitor, const struct client *client)
{
    return client->fd >= 0 && client->sent < monitor->batch_length && (client->raw || client->attached) &&
           (client->wants & monitor->batch_stream->flag) != 0;
}

/* Into a FIFO that nobody has open for reading goes what fits, for who comes later; the rest is lost. The container
 * neither waits for a client that has gone away nor dies of it. */
static long write_raw(int fd, const char *data, size_t length)
{
    char path[64];
    long count = sys_write(fd, data, length);
    if (count != -EPIPE)
        return count;
    format_text(path, sizeof path, "/proc/self/fd/%d", fd);
    owned_fd reader = sys_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0);
    count = reader < 0 ? reader : sys_write(fd, data, length);
    return count > 0 ? count : (long)length;
}

static long send_data(const struct monitor *monitor, const struct client *client, const char *data, size_t length)
{
    if (client->raw)
        return write_raw(client->fd, data, length);
    struct sys_iovec iov[2] = {{&monitor->batch_stream->type, 1}, {data, length}};
    struct sys_msghdr message = {.iov = iov, .iov_count = 2};
    long sent = sys(__NR_sendmsg, client->fd, &message, SEND_NOSIGNAL | SEND_DONTWAIT);
    return sent > 0 ? sent - 1 : sent;
}

bool clients_flush(struct monitor *monitor)
{
    bool done = true;
    for (struct client *client = monitor->clients; client < monitor->clients + CLIENTS_LIMIT; client++) {
        while (client_waits(monitor, client)) {
            size_t left = monitor->batch_length - client->sent;
            long sent = send_data(monitor, client, monitor->batch + client->sent,
                                  left < PACKET_LIMIT ? left : PACKET_LIMIT);
            if (sent == -EAGAIN || sent == -EINTR || sent == -ENOBUFS) {
                done = false;
                break;
            }
            if (sent < 0)
                client_drop(monitor, client);
            else
                client->sent += (size_t)sent;
        }
    }
    if (done)
        monitor->batch_length = 0;
    return done;
}

void clients_give(struct monitor *monitor, const struct stream *stream, size_t length)
{
    monitor->batch_stream = stream;
    monitor->batch_length = length;
    for (struct client *client = monitor->clients; client < monitor->clients + CLIENTS_LIMIT; client++)
        client->sent = 0;
    clients_flush(monitor);
}

void clients_tell(struct monitor *monitor, const void *message, size_t length)
{
    for (struct client *client = monitor->clients; client < monitor->clients + CLIENTS_LIMIT; client++) {
        if (client->fd >= 0 && client->attached && (client->wants & WANTS_EVENTS) != 0)
            sys_write(client->fd, message, length); /* one whose buffer is full does without: the exit file has it, too */
    }
}

void clients_tell_exit(struct monitor *monitor, unsigned code)
{
    unsigned char message[9] = {'x'};
    for (unsigned i = 0; i < 4; i++) {
        message[1 + i] = (unsigned char)(code >> 8 * i);
        message[5 + i] = (unsigned char)((unsigned)monitor->status >> 8 * i);
    }
    int64_t until = clock_ms() + STUCK_MS;
    monitor->told = true;
    for (struct client *client = monitor->clients; client < monitor->clients + CLIENTS_LIMIT; client++) {
        if (client->fd < 0 || !client->attached)
            continue;
        struct pollfd fd = {.fd = client->fd, .events = POLLOUT};
        int64_t left = until - clock_ms();
        sys_poll(&fd, 1, left > 0 ? left : 0);
        if (sys_write(client->fd, message, sizeof message) < 0)
            client_drop(monitor, client);
    }
}
