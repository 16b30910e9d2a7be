/* A call, from the caller's words to the exit status. */
#include "../launch/monitor.h"
#include "front.h"

#define HELLO_MS 2000 /* for a brain that somebody has stopped, or a machine at its limits */
#define WAIT_FOR_BRAIN_MS 20000
#define RETRY_MS 2
#define STARTS_LIMIT 2 /* the first may have been asked to leave */

#define PEER_CREDENTIALS 17 /* SO_PEERCRED */

struct credentials {
    int pid;
    unsigned uid, gid;
};

const char *const program_names[] = {"masu", "masu-oci", "containerd-shim-masu-v2"};

enum outcome { NO_BRAIN, BUSY, UNEQUAL, ACCEPTED };

void complain(const struct front *front, const char *format, ...)
{
    char line[PATH_LIMIT + 256];
    va_list arguments;
    size_t used = format_text(line, sizeof line, "%s: ", program_names[front->program]);
    va_start(arguments, format);
    used += format_list(line + used, sizeof line - used - 1, format, arguments);
    va_end(arguments);
    line[used] = '\n';
    sys_write(STDERR, line, used + 1);
}

/* ---- signals: a caller's are for who does the work ---- */

/* All up to 31 but those not to be caught (KILL, STOP), of the terminal's job control (CONT, TSTP, TTIN, TTOU), or from
 * the kernel about our own process (ILL, TRAP, BUS, FPE, SEGV, PIPE, URG, SYS): src/masu/cli/signals.py. */
#define OURS_ALONE (1u << 4 | 1u << 5 | 1u << 7 | 1u << 8 | 1u << 9 | 1u << 11 | 1u << 13 | 0xfu << 18 | 1u << 22 | 1u << 23 | 1u << 31)

static bool is_ignored(int signal)
{
    struct sys_sigaction action = {0};
    return sys(__NR_rt_sigaction, signal, NULL, &action, 8) == 0 && action.handler == 1 /* SIG_IGN */;
}

static void listen_to_signals(struct front *front)
{
    uint64_t mask = (uint32_t)~(OURS_ALONE | 1u);
    /* Ignored by nohup(1), and by shells for what they start in the background: not meant for us, nor the container. */
    for (int signal = SIGNAL_HANGUP; signal <= SIGNAL_QUIT; signal++)
        mask &= ~((uint64_t)is_ignored(signal) << signal);
    mask >>= 1; /* in a signal mask the first bit is signal 1 */
    sys(__NR_rt_sigprocmask, 0 /* SIG_BLOCK */, &mask, &front->mask, 8);
    front->signals = (int)sys(__NR_signalfd4, -1, &mask, 8, O_CLOEXEC | O_NONBLOCK);
}

void pass_signals(struct front *front)
{
    uint32_t info[128 / sizeof(uint32_t)]; /* struct signalfd_siginfo: the number comes first */
    while (sys_read(front->signals, info, sizeof info) == sizeof info) {
        sys_pidfd_send_signal(front->worker, (int)info[0]);
        if (info[0] != SIGNAL_CHILD)
            front->forwarded = (int)info[0];
    }
}

/* The brain's process is gone without a word. By a signal that was meant for us, so we end as it did. */
_Noreturn static void end_without_exit(const struct front *front)
{
    if (front->forwarded != 0) {
        sys_sigmask(0);
        sys(__NR_kill, sys_getpid(), front->forwarded);
    }
    complain(front, "the brain has died in the middle of this command; what it had begun is cleaned up by the next one "
                    "(MASU_BRAIN=off goes without)");
    sys_exit(1);
}

/* ---- messages ---- */

struct message {
    unsigned char data[MESSAGE_LIMIT];
    size_t length;
    int fds[FDS_LIMIT];
    unsigned fd_count;
};

static void close_fds(struct message *message)
{
    while (message->fd_count > 0)
        sys_close(message->fds[--message->fd_count]);
}

/* False at the end of file, and for what is no message. */
static bool receive(int socket, struct message *message)
{
    static struct {
        struct sys_cmsghdr header;
        int fds[FDS_LIMIT + 1];
    } control;
    struct sys_iovec iov = {message->data, sizeof message->data};
    struct sys_msghdr packet = {
        .iov = &iov, .iov_count = 1, .control = &control, .control_length = sizeof control,
    };
    long count = sys(__NR_recvmsg, socket, &packet, RECV_CLOEXEC | SEND_DONTWAIT);
    message->fd_count = 0;
    message->length = count < 0 ? 0 : (size_t)count;
    if (count >= 0 && packet.control_length > sizeof control.header && control.header.type == CMSG_RIGHTS) {
        message->fd_count = (unsigned)((control.header.length - sizeof control.header) / sizeof(int));
        memcpy(message->fds, control.fds, message->fd_count * sizeof(int));
    }
    if (count >= HEADER_LENGTH)
        return true;
    close_fds(message);
    return false;
}

static bool readable(int fd, int64_t timeout_ms)
{
    struct pollfd wait = {fd, POLLIN, 0};
    return sys_poll(&wait, 1, timeout_ms) > 0;
}

/* ---- the call ---- */

static int connect_to(const char *path)
{
    struct {
        uint16_t family;
        char path[SOCKET_PATH_LIMIT];
    } address = {.family = FAMILY_UNIX};
    int fd = (int)sys(__NR_socket, FAMILY_UNIX, SOCKET_SEQPACKET | SOCKET_CLOEXEC | SOCKET_NONBLOCK, 0);
    if (fd < 0)
        return fd;
    format_text(address.path, sizeof address.path, "%s", path);
    long result = sys(__NR_connect, fd, &address, sizeof address.family + strlen(address.path) + 1);
    if (result == 0)
        return fd;
    sys_close(fd);
    return (int)result;
}

/* Reads it as only a process may that could trace the brain: of its user, with at least its capabilities, in no Landlock
 * domain that the brain is outside of, allowed by whatever security module there is. ptrace(2), "access mode checking". */
static int read_secret(int pid, uint32_t fd, unsigned char secret[SECRET_LENGTH])
{
    char path[64];
    format_text(path, sizeof path, "/proc/%d/fd/%u", pid, fd);
    owned_fd file = sys_open(AT_FDCWD, path, O_RDONLY, 0);
    if (file < 0)
        return file;
    return sys(__NR_pread64, file, secret, SECRET_LENGTH, 0) == SECRET_LENGTH ? 0 : -EPERM;
}

static struct message the_message;

/* Until GO, or until it is clear that there will be none: what has not said so yet is killed with our lifeline. */
static enum outcome begin(struct front *front)
{
    struct message *message = &the_message;
    struct credentials peer;
    int length = sizeof peer;
    unsigned char secret[SECRET_LENGTH];
    int fd = -ENOENT;
    for (unsigned number = 0; fd < 0 && find_place(front, number); number++)
        fd = connect_to(front->place);
    if (fd < 0)
        return fd == -EAGAIN ? BUSY : NO_BRAIN;
    front->brain = fd;
    if (sys(__NR_getsockopt, fd, SOL_SOCKET, PEER_CREDENTIALS, &peer, &length) < 0 ||
        peer.uid != (unsigned)sys(__NR_geteuid))
        return UNEQUAL;
    if (!readable(fd, HELLO_MS))
        return BUSY;
    if (!receive(fd, message))
        return NO_BRAIN;
    close_fds(message);
    if (get32(message->data) != SAY_HELLO || get32(message->data + 4) != PROTOCOL_VERSION)
        return UNEQUAL;
    if (get32(message->data + 8) != 0)
        return BUSY;
    int result = read_secret(peer.pid, get32(message->data + 12), secret);
    if (result < 0 || send_request(front, secret) < 0) /* its keeper may have been killed, and a spare have lived on */
        return result == -ENOENT || result == -ESRCH || readable(fd, 0) ? NO_BRAIN : UNEQUAL;
    listen_to_signals(front);
    if (!readable(fd, HELLO_MS))
        return BUSY;
    if (!receive(fd, message))
        return NO_BRAIN;
    if (get32(message->data) == SAY_GO && message->fd_count == 1) {
        front->worker = message->fds[0];
        return ACCEPTED;
    }
    close_fds(message);
    return UNEQUAL;
}

static void take_back(struct front *front)
{
    if (front->signals >= 0) {
        sys_sigmask(front->mask);
        sys_close(release_fd(&front->signals));
    }
    if (front->lifeline >= 0)
        sys_close(release_fd(&front->lifeline));
    if (front->brain >= 0)
        sys_close(release_fd(&front->brain));
}

_Noreturn static void serve(struct front *front)
{
    struct message *message = &the_message;
    for (;;) {
        struct pollfd fds[] = {{front->brain, POLLIN, 0}, {front->signals, POLLIN, 0}};
        sys_poll(fds, 2, -1);
        if (fds[1].revents != 0)
            pass_signals(front);
        if (fds[0].revents == 0)
            continue;
        if (!receive(front->brain, message))
            end_without_exit(front);
        int a = (int)get32(message->data + 4), b = (int)get32(message->data + 8);
        switch (get32(message->data)) {
        case SAY_SPAWN:
            do_spawn(front, message->data, message->length, message->fds, message->fd_count);
            break;
        case SAY_WAIT:
            do_wait(front, a, b);
            break;
        case SAY_SUBREAPER:
            answer(front, sys_prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0), 0);
            break;
        case SAY_ATTEND:
            do_attend(front, message->data, message->length, message->fds, message->fd_count);
            break;
        case SAY_EXIT:
            sys_exit(a & 0xff);
        default:
            answer(front, -EPROTO, 0);
        }
        close_fds(message);
    }
}

/* Called with `>&-`, the next file to be opened would get that number, and somebody's words would go into it. */
static void fill_standard_fds(void)
{
    for (int fd = 0; fd < 3; fd++) {
        if (sys_fcntl(fd, F_GETFD, 0) == -EBADF)
            sys(__NR_openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
    }
}

/* MASU_BRAIN=require: the exit status when there is no brain to be had. */
static int insist(struct front *front)
{
    int64_t until_ms = clock_ms() + WAIT_FOR_BRAIN_MS;
    for (unsigned started = 0;; sys_poll(NULL, 0, RETRY_MS)) {
        enum outcome outcome = begin(front);
        if (outcome == ACCEPTED)
            serve(front);
        take_back(front);
        int result = outcome == NO_BRAIN ? start_brain(front, true) : -EAGAIN;
        const char *why = outcome == UNEQUAL                         ? "the brain's power is not ours"
                          : result == 0 && started++ == STARTS_LIMIT ? "the brain has died at its start"
                          : (result < 0 && result != -EAGAIN) || clock_ms() > until_ms ? "there is no brain" : NULL;
        if (why != NULL) {
            complain(front, "MASU_BRAIN=require: %s", why);
            return 125;
        }
    }
}

int run_front(int argc, char **argv, char **envp, enum program program)
{
    static struct front front = {.brain = -1, .lifeline = -1, .signals = -1};
    struct __kernel_timespec now;
    struct sys_sigaction usual = {0};
    sys(__NR_clock_gettime, 1 /* CLOCK_MONOTONIC */, &now);
    front.began_ns = now.tv_sec * 1000000000 + now.tv_nsec;
    front.program = program;
    front.argc = argc;
    front.argv = argv;
    front.envp = envp;
    /* Ignored, children would be reaped by the kernel before anybody asks how they ended. */
    sys(__NR_rt_sigaction, SIGNAL_CHILD, &usual, NULL, 8);
    fill_standard_fds();
    find_home(&front);
    const char *wish = variable(&front, "MASU_BRAIN");
    /* A service manager looks at who speaks to it: that has to be us. A shim has the variable from containerd. */
    bool notifies = program != MASU_SHIM && *variable(&front, "NOTIFY_SOCKET") != '\0';
    if (strcmp(wish, "off") != 0 && !notifies) {
        if (strcmp(wish, "require") == 0)
            return insist(&front);
        enum outcome outcome = begin(&front);
        if (outcome == ACCEPTED)
            serve(&front);
        take_back(&front);
        if (outcome == NO_BRAIN)
            start_brain(&front, false);
    }
    go_cold(&front);
}
