/* What the brain has to know of a call.
 *
 *   ASK_CALL  a: words, b: environment strings, c: program (enum program)
 *             secret; i64 nanoseconds of our start; u32 number of further fds, then their numbers
 *   fds       memory file of the strings (the words, then the environment, each ended by NUL); lifeline; the three
 *             standard ones; the further ones
 *
 * What /proc says of us, such as working directory, umask and ignored signals, it finds there.
 */
#include "front.h"

#define FURTHER_LIMIT 200

/* The fds above 2 that we were started with, ascending as the kernel lists them; -1 when there are too many. */
static int further_fds(const int *own, unsigned own_count, int *out)
{
    _Alignas(8) char entries[2048];
    int count = 0;
    owned_fd directory = sys_open(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY, 0);
    if (directory < 0)
        return -1;
    for (long size; (size = sys(__NR_getdents64, directory, entries, sizeof entries)) != 0;) {
        if (size < 0)
            return -1;
        for (long at = 0; at < size;) {
            const struct entry *entry = (const void *)(entries + at);
            uint64_t fd;
            bool ours = !parse_number(entry->name, strlen(entry->name), INT32_MAX, &fd) || fd < 3 || (int)fd == directory;
            for (unsigned i = 0; i < own_count; i++)
                ours = ours || (int)fd == own[i];
            at += entry->length;
            if (ours)
                continue;
            if (count == FURTHER_LIMIT)
                return -1;
            out[count++] = (int)fd;
        }
    }
    return count;
}

/* execve(2) lays words and environment out one after the other: one write takes all. -1 where it is not so. */
static int strings_file(const struct front *front, int *variables)
{
    const char *begin = front->argv[0], *end = begin;
    for (int i = 0; i < front->argc; i++) {
        if (front->argv[i] != end)
            return -1;
        end += strlen(end) + 1;
    }
    *variables = 0;
    for (char **at = front->envp; *at != NULL; at++, ++*variables) {
        if (*at != end)
            return -1;
        end += strlen(end) + 1;
    }
    int file = (int)sys(__NR_memfd_create, "masu-call", 1 /* MFD_CLOEXEC */);
    if (file >= 0 && write_whole(file, begin, (size_t)(end - begin)) == 0)
        return file;
    if (file >= 0)
        sys_close(file);
    return -1;
}

int send_request(struct front *front, const unsigned char secret[SECRET_LENGTH])
{
    int variables, further[FURTHER_LIMIT], pipe[2];
    struct {
        struct sys_cmsghdr header;
        int fds[FDS_LIMIT];
    } control;
    unsigned char message[HEADER_LENGTH + SECRET_LENGTH + 12 + 4 * FURTHER_LIMIT];
    unsigned count = 0;

    owned_fd strings = strings_file(front, &variables);
    if (strings < 0 || sys_pipe(pipe, 0) < 0)
        return -1;
    owned_fd reading = pipe[0];
    front->lifeline = pipe[1];
    const int own[] = {front->brain, strings, reading, front->lifeline};
    int further_count = further_fds(own, sizeof own / sizeof *own, further);
    if (further_count < 0)
        return -1;
    control.fds[count++] = strings;
    control.fds[count++] = reading;
    for (int fd = 0; fd < 3; fd++)
        control.fds[count++] = fd;

    unsigned char *at = message + HEADER_LENGTH;
    uint64_t began = (uint64_t)front->began_ns;
    put32(message, ASK_CALL);
    put32(message + 4, (uint32_t)front->argc);
    put32(message + 8, (uint32_t)variables);
    put32(message + 12, front->program);
    memcpy(at, secret, SECRET_LENGTH);
    at += SECRET_LENGTH;
    put32(at, (uint32_t)began);
    put32(at + 4, (uint32_t)(began >> 32));
    put32(at + 8, (uint32_t)further_count);
    at += 12;
    for (int i = 0; i < further_count; i++, at += 4) {
        put32(at, (uint32_t)further[i]);
        control.fds[count++] = further[i];
    }

    control.header = (struct sys_cmsghdr){sizeof control.header + count * sizeof(int), SOL_SOCKET, CMSG_RIGHTS};
    struct sys_iovec iov = {message, (size_t)(at - message)};
    struct sys_msghdr packet = {.iov = &iov, .iov_count = 1, .control = &control};
    packet.control_length = (control.header.length + 7) & ~(size_t)7;
    return sys(__NR_sendmsg, front->brain, &packet, SEND_NOSIGNAL) == (long)iov.length ? 0 : -1;
}
