/* Messages: with the host over the control socket, with the monitor over its own. */
#include "launch.h"

unsigned char control_payload[16 + PAYLOAD_LIMIT + 1];

int send_with_fd(int socket, const void *data, size_t size, int fd)
{
    struct {
        struct sys_cmsghdr header;
        int fd;
        int padding;
    } control = {.header = {sizeof(struct sys_cmsghdr) + sizeof(int), SOL_SOCKET, CMSG_RIGHTS}, .fd = fd};
    struct sys_iovec iov = {data, size};
    struct sys_msghdr message = {.iov = &iov, .iov_count = 1};
    if (fd >= 0) {
        message.control = &control;
        message.control_length = sizeof control;
    }
    long sent;
    do {
        sent = sys(__NR_sendmsg, socket, &message, SEND_NOSIGNAL);
    } while (sent == -EINTR);
    return sent < 0 ? (int)sent : 0;
}

long receive_with_fd(int socket, void *data, size_t size, int *fd)
{
    struct {
        struct sys_cmsghdr header;
        int fd;
        int padding;
    } control = {.fd = -1};
    struct sys_iovec iov = {data, size};
    struct sys_msghdr message = {.iov = &iov, .iov_count = 1, .control = &control, .control_length = sizeof control};
    long count = sys(__NR_recvmsg, socket, &message, RECV_CLOEXEC | SEND_DONTWAIT);
    *fd = -1;
    if (count > 0 && message.control_length >= sizeof(struct sys_cmsghdr) + sizeof(int) &&
        control.header.type == CMSG_RIGHTS)
        *fd = control.fd;
    return count;
}

/* init may be faster than the stage that tells the host its pid: it speaks only after that was told. */
static void await_told(struct launch *launch)
{
    char byte;
    if (launch->told < 0)
        return;
    while (sys_read(launch->told, &byte, 1) == -EINTR)
        continue;
    sys_close(release_fd(&launch->told));
}

int control_send(struct launch *launch, unsigned type, int number, int value, const char *detail, int fd)
{
    unsigned char message[16 + DETAIL_LIMIT];
    if (launch->control < 0)
        return -EPIPE;
    await_told(launch);
    size_t length = strlen(detail);
    if (length > DETAIL_LIMIT)
        length = DETAIL_LIMIT;
    put32(message, type);
    put32(message + 4, launch->index);
    put32(message + 8, (uint32_t)number);
    put32(message + 12, (uint32_t)value);
    memcpy(message + 16, detail, length);
    if (fd >= 0)
        return send_with_fd(launch->control, message, 16 + length, fd);
    /* write(2), for the container's seccomp filter is loaded by now and sendmsg(2) rarer in filters. When the host
     * is gone, SIGPIPE ends us, as the next wait would. */
    return write_whole(launch->control, message, 16 + length);
}

int control_answer(struct launch *launch, struct masu_error *err)
{
    long count;
    if (launch->control < 0)
        return fail(err, EPIPE, "the control socket is closed");
    do {
        count = sys_read(launch->control, control_payload, sizeof control_payload);
    } while (count == -EINTR);
    if (count <= 0)
        return 0;
    if (count < 16 || (size_t)count == sizeof control_payload)
        return fail(err, EMSGSIZE, "an answer of %lu bytes", (unsigned long)count);
    uint32_t type = get32(control_payload);
    if (type == MSG_ABORT)
        return 0;
    if (type != MSG_GO)
        return fail(err, EPROTO, "answer of unknown type %u", type);
    launch->payload_length = (size_t)count - 16;
    return 1;
}

int control_wait(struct launch *launch, struct masu_error *err)
{
    int answer = control_answer(launch, err);
    if (answer == 0)
        sys_exit(1);
    return answer < 0 ? -1 : 0;
}

void control_close(struct launch *launch)
{
    if (launch->control >= 0)
        sys_close(release_fd(&launch->control));
}

int do_sync(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    /* The host writes our uid_map, and without privilege it may do so only while /proc/PID belongs to it, which an
     * undumpable process's does not (proc(5)). On this side no container can see us. */
    bool open_up = !launch->inside && sys(__NR_getuid) != 0;
    if (open_up)
        sys_prctl(PR_SET_DUMPABLE, 1, 0, 0);
    int sent = control_send(launch, MSG_SYNC, 0, sys_getpid(), text_of(op, F_SYNC_NAME), -1);
    int result = sent < 0 ? fail(err, sent, "control socket") : control_wait(launch, err);
    if (open_up)
        sys_prctl(PR_SET_DUMPABLE, 0, 0, 0);
    return result;
}

int do_ready(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    int sent = control_send(launch, MSG_READY, 0, sys_getpid(), "", -1);
    if (sent < 0)
        return fail(err, sent, "control socket");
    if (control_wait(launch, err) < 0)
        return -1;
    launch->passed_ready = true;
    tell_monitor(launch, TELL_STARTED, 0, -1);
    return 0;
}

int do_wait_start(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    int fd = slot_fd(launch, op, F_WAIT_START_SLOT, err);
    if (fd < 0)
        return -1;
    control_close(launch);
    char byte;
    long count;
    do {
        count = sys_read(fd, &byte, 1);
    } while (count == -EINTR);
    if (count != 1)
        return fail(err, count < 0 ? count : -EIO, "the start FIFO");
    launch->start_fifo = fd;
    return 0;
}

int tell_monitor(struct launch *launch, char type, int value, int fd)
{
    unsigned char message[5] = {(unsigned char)type};
    if (launch->monitor < 0)
        return 0;
    put32(message + 1, (uint32_t)value);
    return fd >= 0 ? send_with_fd(launch->monitor, message, sizeof message, fd)
                   : write_whole(launch->monitor, message, sizeof message);
}
