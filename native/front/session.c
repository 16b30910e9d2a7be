/* The foreground: a process in a container has our terminal, or our pipes, and our signals until it ends.
 *
 *   SAY_ATTEND  a: what for, b: flags, c: the child's pid
 *               by its monitor   fds: a connection on which it has said that we are attached (src/masu/isolation/attach.py)
 *                                then the keys that detach
 *               as our child     fds: pidfd and, when it has a terminal, the pty's master
 *   ASK_ANSWER  a: an ENDED_… or a negative errno, b: exit status
 *
 * No more is read than the other side takes, and output goes on meanwhile: neither can block the other.
 */
#include "front.h"

#include <asm/termbits.h>
#include <asm/termios.h>

#define CHUNK 32768 /* the most that goes into one message */
#define KEYS_LIMIT 16

struct session {
    struct front *front;
    unsigned flags;
    int other;          /* the monitor's connection, or the pty's master; -1 for a child without a terminal */
    bool by_monitor;
    int pid, pidfd;     /* of a child */
    struct termios before;
    bool raw;
    unsigned keys_length, keys_held;
    uint32_t signals;   /* to be sent, by number */
    bool resized, closing;
    size_t at, length;  /* of `input` that has not been taken */
    unsigned char input[1 + CHUNK];
    unsigned char output[MESSAGE_LIMIT];
    unsigned char keys[KEYS_LIMIT];
};

static void enter_raw(struct session *s)
{
    struct termios wanted;
    if (sys_ioctl(STDIN, TCGETS, &s->before) < 0)
        return;
    wanted = s->before; /* cfmakeraw(3) */
    wanted.c_iflag &= ~(unsigned)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    wanted.c_oflag &= ~(unsigned)OPOST;
    wanted.c_lflag &= ~(unsigned)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    wanted.c_cflag = (wanted.c_cflag & ~(unsigned)(CSIZE | PARENB)) | CS8;
    s->raw = sys_ioctl(STDIN, TCSETSW, &wanted) == 0;
}

static void leave_raw(struct session *s)
{
    if (s->raw)
        sys_ioctl(STDIN, TCSETSW, &s->before);
    s->raw = false;
}

/* One of the standard fds is a terminal whose other side has been closed. */
static bool terminal_is_gone(void)
{
    struct termios attributes;
    for (int fd = 0; fd < 3; fd++) {
        if (sys_ioctl(fd, TCGETS, &attributes) == -EIO)
            return true;
    }
    return false;
}

static bool window_size(struct winsize *size)
{
    for (int fd = 0; fd < 3; fd++) {
        if (sys_ioctl(fd, TIOCGWINSZ, size) == 0 && size->ws_row != 0 && size->ws_col != 0)
            return true;
    }
    return false;
}

/* All of it, however slowly it is read; a negative errno. */
static long write_all(int fd, const unsigned char *data, size_t size)
{
    while (size > 0) {
        long count = sys_write(fd, data, size);
        if (count == -EAGAIN) { /* somebody has made it non-blocking */
            struct pollfd wait = {fd, POLLOUT, 0};
            sys_poll(&wait, 1, -1);
        } else if (count < 0 && count != -EINTR) {
            return count;
        } else if (count > 0) {
            data += count;
            size -= (size_t)count;
        }
    }
    return 0;
}

/* ---- what we pass in ---- */

static bool to_monitor(const struct session *s, const void *data, size_t size)
{
    return sys(__NR_sendto, s->other, data, size, SEND_NOSIGNAL | SEND_DONTWAIT, NULL, 0) >= 0;
}

/* Takes the keys that detach out of what was typed; the beginning of a sequence is held back. True at its end. */
static bool filter_keys(struct session *s, const unsigned char *data, size_t size)
{
    size_t used = 1;
    for (size_t i = 0; i < size; i++) {
        if (data[i] == s->keys[s->keys_held]) {
            if (++s->keys_held == s->keys_length)
                return true;
            continue;
        }
        memcpy(s->input + used, s->keys, s->keys_held);
        used += s->keys_held;
        s->keys_held = data[i] == s->keys[0] ? 1 : 0;
        if (s->keys_held == 0)
            s->input[used++] = data[i];
    }
    s->length = used;
    return false;
}

static bool pending(const struct session *s)
{
    return s->length > 0 || s->signals != 0 || s->resized || s->closing;
}

/* One message to the monitor, of those that wait. */
static void send_pending(struct session *s)
{
    unsigned char message[5];
    struct winsize size;
    if (s->resized) {
        message[0] = 'r';
        if (window_size(&size)) {
            memcpy(message + 1, &size.ws_row, 2);
            memcpy(message + 3, &size.ws_col, 2);
            if (!to_monitor(s, message, 5))
                return;
        }
        s->resized = false;
    } else if (s->signals != 0) {
        uint32_t number = (uint32_t)__builtin_ctz(s->signals);
        message[0] = 's';
        put32(message + 1, number);
        if (to_monitor(s, message, 5))
            s->signals &= ~(1u << number);
    } else if (s->length > 0) {
        s->input[0] = 'i';
        if (to_monitor(s, s->input, s->length))
            s->length = 0;
    } else if (to_monitor(s, "c", 1)) {
        s->closing = false;
    }
}

/* False when nothing more is to be read: the end, or the keys that detach. */
static bool read_stdin(struct session *s, bool *detached)
{
    unsigned char *data = s->keys_length > 0 ? s->output : s->input + 1;
    /* What is held back comes in front of it. */
    long count = sys_read(STDIN, data, s->by_monitor ? CHUNK - KEYS_LIMIT : 4096);
    if (count > 0 && !s->by_monitor)
        return write_all(s->other, data, (size_t)count) == 0;
    if (count <= 0) {
        s->closing = s->by_monitor && s->keys_held == 0;
        return s->by_monitor && s->keys_held > 0;
    }
    if (s->keys_length > 0)
        *detached = filter_keys(s, data, (size_t)count);
    else
        s->length = (size_t)count + 1;
    if (s->length == 1)
        s->length = 0;
    return !*detached;
}

static void take_signals(struct session *s)
{
    uint32_t info[128 / sizeof(uint32_t)];
    struct winsize size;
    while (sys_read(s->front->signals, info, sizeof info) == sizeof info) {
        int number = (int)info[0];
        if (number == SIGNAL_CHILD)
            continue;
        if (number == SIGNAL_WINDOW && (s->flags & ATTEND_TERMINAL) != 0) {
            s->resized = s->by_monitor;
            if (!s->by_monitor && sys_ioctl(STDIN, TIOCGWINSZ, &size) == 0)
                sys_ioctl(s->other, TIOCSWINSZ, &size);
        } else if (!s->by_monitor) {
            sys_pidfd_send_signal(s->pidfd, number);
        } else if (number == SIGNAL_HANGUP && terminal_is_gone()) {
            /* Nobody sees what comes, nobody can type. The container has its monitor. */
            s->signals = (s->flags & ATTEND_SIGNALS) != 0 ? 1u << number : 0;
            s->resized = false;
            if (s->signals != 0)
                send_pending(s);
            sys_exit(128 + number);
        } else if ((s->flags & ATTEND_SIGNALS) != 0) {
            s->signals |= number == SIGNAL_WINDOW ? 0 : 1u << number;
        } else if (number == SIGNAL_HANGUP || number == SIGNAL_INTERRUPT || number == SIGNAL_TERM) {
            /* Not passed on, so it is meant for us: we leave the container alone and go. */
            leave_raw(s);
            sys_exit(128 + number);
        }
    }
}

/* ---- what comes out ---- */

/* An ENDED_… or a negative errno when that was the last; 1 when there is more to come. */
static int take_from_monitor(struct session *s, int *status)
{
    long count = sys(__NR_recvfrom, s->other, s->output, sizeof s->output, SEND_DONTWAIT, NULL, NULL);
    if (count == -EAGAIN || count == -EINTR)
        return 1;
    if (count <= 0)
        return ENDED_ALONE;
    long result = 0;
    if (s->output[0] == 'o' || s->output[0] == 'e')
        result = write_all(s->output[0] == 'o' ? STDOUT : STDERR, s->output + 1, (size_t)count - 1);
    if (s->output[0] == 'x' && count >= 5) {
        *status = (int)get32(s->output + 1);
        return ENDED;
    }
    return result < 0 ? (int)result : 1;
}

/* The pty tells the end of the other side by EIO. */
static long take_from_master(struct session *s)
{
    long count = sys_read(s->other, s->output, sizeof s->output);
    if (count <= 0)
        return count == -EINTR || count == -EAGAIN ? 1 : 0;
    long result = write_all(STDOUT, s->output, (size_t)count);
    return result < 0 ? result : 1;
}

/* Whether our child has ended; others that have become ours are reaped on the way. */
static bool reap(const struct session *s, int *status)
{
    int pid, raw = 0;
    bool found = false;
    while ((pid = sys_wait(-1, &raw, WAIT_NO_HANG)) > 0) {
        if (pid == s->pid) {
            *status = (raw & 0x7f) != 0 ? 128 + (raw & 0x7f) : raw >> 8 & 0xff;
            found = true;
        }
    }
    return found;
}

static int run(struct session *s, int *status)
{
    bool reading = (s->flags & ATTEND_STDIN) != 0, detached = false;
    int result = 1;
    if (s->by_monitor)
        s->resized = (s->flags & ATTEND_TERMINAL) != 0;
    for (;;) {
        if (!s->by_monitor && reap(s, status))
            break;
        struct pollfd fds[] = {
            {s->front->signals, POLLIN, 0},
            {s->other, (short)(POLLIN | (s->by_monitor && pending(s) ? POLLOUT : 0)), 0},
            {reading && !pending(s) ? STDIN : -1, POLLIN, 0},
        };
        sys_poll(fds, 3, -1);
        if (fds[0].revents != 0)
            take_signals(s);
        if ((fds[1].revents & POLLOUT) != 0 && pending(s))
            send_pending(s);
        if ((fds[1].revents & ~POLLOUT) != 0) {
            result = s->by_monitor ? take_from_monitor(s, status) : (int)take_from_master(s);
            if (result < 0 || (s->by_monitor && result != 1))
                return result;
            if (result == 0)
                s->other = -1; /* the terminal is closed; the child may go on */
        }
        if (fds[2].revents != 0)
            reading = read_stdin(s, &detached);
        if (detached)
            return ENDED_DETACHED;
    }
    struct pollfd rest = {s->other, POLLIN, 0};
    while (s->other >= 0 && sys_poll(&rest, 1, 0) > 0 && take_from_master(s) > 0)
        continue;
    return ENDED;
}

void do_attend(struct front *front, const unsigned char *message, size_t length, const int *fds, unsigned fd_count)
{
    static struct session s;
    struct sys_sigaction ignored = {.handler = 1}, before;
    int status = 0, result = -EPROTO;
    s = (struct session){.front = front, .other = -1, .pid = (int)get32(message + 12)};
    s.by_monitor = get32(message + 4) == ATTEND_MONITOR;
    s.flags = get32(message + 8);
    s.keys_length = (unsigned)(length - HEADER_LENGTH);
    if (s.keys_length <= KEYS_LIMIT && fd_count >= 1 && fd_count <= (s.by_monitor ? 1 : 2)) {
        memcpy(s.keys, message + HEADER_LENGTH, s.keys_length);
        s.pidfd = fds[0];
        s.other = s.by_monitor ? fds[0] : fd_count == 2 ? fds[1] : -1;
        /* A reader that has gone is an error for the brain to tell, not our end. */
        sys(__NR_rt_sigaction, SIGNAL_PIPE, &ignored, &before, 8);
        if ((s.flags & ATTEND_RAW) != 0)
            enter_raw(&s);
        result = run(&s, &status);
        leave_raw(&s);
        sys(__NR_rt_sigaction, SIGNAL_PIPE, &before, NULL, 8);
    }
    answer(front, result, status);
}
