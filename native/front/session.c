/* The foreground: a process that has a monitor has our terminal, or our pipes, and our signals until it ends.
 *
 *   SAY_ATTEND  a: flags; then the keys that detach
 *               fd: a connection on which the container's monitor has said that we are attached (isolation/attach.py)
 *   ASK_ANSWER  a: an ENDED_… or a negative errno, b: exit status
 *
 * No more is read than the other side takes, and output goes on meanwhile: neither can block the other.
 */
#include "front.h"

#include <asm/termios.h>

#define CHUNK 32768 /* the most that goes into one message */
#define KEYS_LIMIT 16

struct session {
    struct front *front;
    unsigned flags;
    int monitor;        /* the connection */
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
    return sys(__NR_sendto, s->monitor, data, size, SEND_NOSIGNAL | SEND_DONTWAIT, NULL, 0) >= 0;
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
    long count = sys_read(STDIN, data, CHUNK - KEYS_LIMIT);
    if (count <= 0) {
        s->closing = s->keys_held == 0;
        return !s->closing;
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
    while (sys_read(s->front->signals, info, sizeof info) == sizeof info) {
        int number = (int)info[0];
        if (number == SIGNAL_CHILD)
            continue;
        if (number == SIGNAL_WINDOW && (s->flags & ATTEND_TERMINAL) != 0) {
            s->resized = true;
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
static int take(struct session *s, int *status)
{
    long count = sys(__NR_recvfrom, s->monitor, s->output, sizeof s->output, SEND_DONTWAIT, NULL, NULL);
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

static int run(struct session *s, int *status)
{
    bool reading = (s->flags & ATTEND_STDIN) != 0, detached = false;
    s->resized = (s->flags & ATTEND_TERMINAL) != 0;
    while (!detached) {
        struct pollfd fds[] = {
            {s->front->signals, POLLIN, 0},
            {s->monitor, (short)(POLLIN | (pending(s) ? POLLOUT : 0)), 0},
            {reading && !pending(s) ? STDIN : -1, POLLIN, 0},
        };
        sys_poll(fds, 3, -1);
        if (fds[0].revents != 0)
            take_signals(s);
        if ((fds[1].revents & POLLOUT) != 0 && pending(s))
            send_pending(s);
        if ((fds[1].revents & ~POLLOUT) != 0) {
            int result = take(s, status);
            if (result != 1)
                return result;
        }
        if (fds[2].revents != 0)
            reading = read_stdin(s, &detached);
    }
    return ENDED_DETACHED;
}

void do_attend(struct front *front, const unsigned char *message, size_t length, const int *fds, unsigned fd_count)
{
    static struct session s;
    struct sys_sigaction ignored = {.handler = 1}, before;
    int status = 0, result = -EPROTO;
    s = (struct session){.front = front, .flags = get32(message + 4)};
    s.keys_length = (unsigned)(length - HEADER_LENGTH);
    if (s.keys_length <= KEYS_LIMIT && fd_count == 1) {
        memcpy(s.keys, message + HEADER_LENGTH, s.keys_length);
        s.monitor = fds[0];
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
