/* Processes for the brain: ours to clone, ours to wait for.
 *
 *   SAY_SPAWN  a: flags, b: words, c: environment strings
 *              i32 index among the fds of: the executable, stdin, stdout, stderr, a memory file with the strings;
 *              each -1 for none (a path, our own, the strings follow here)
 *              u32 number of fds to keep, their numbers in the new process, ascending, the first fds in this order
 *              strings, each ended by NUL: path of the executable, working directory or "", words, environment
 *   ASK_ANSWER a: pid or negative errno
 */
#include "front.h"

#define NEW_SESSION 1
#define NOT_THERE 0xffffffffu

#define CLONE_LIKE_VFORK (CLONE_VM | CLONE_VFORK | SIGNAL_CHILD)

int answer(const struct front *front, int result, int status)
{
    unsigned char message[HEADER_LENGTH] = {0};
    put32(message, ASK_ANSWER);
    put32(message + 4, (uint32_t)result);
    put32(message + 8, (uint32_t)status);
    return (int)sys(__NR_sendto, front->brain, message, sizeof message, SEND_NOSIGNAL, NULL, 0);
}

/* Everything else goes at the exec, not before it: the executable's own fd is needed until then. */
static long arrange(struct spawn *s)
{
    int *executable = &s->from[s->kept], *standard = executable + 1;
    int free = s->kept > 0 ? s->to[s->kept - 1] + 1 : 3;
    long result;
    for (unsigned i = 0; i < s->kept + 4; i++) {
        if (s->from[i] >= 0 && (s->from[i] = sys_fcntl(s->from[i], F_DUPFD_CLOEXEC, free)) < 0)
            return s->from[i];
    }
    for (int i = 0; i < 3; i++) {
        if (standard[i] >= 0 && (result = sys_dup3(standard[i], i, 0)) < 0)
            return result;
    }
    unsigned next = 3;
    for (unsigned i = 0; i < s->kept; i++) {
        unsigned number = (unsigned)s->to[i];
        if (number > next && (result = sys(__NR_close_range, next, number - 1, CLOSE_RANGE_CLOEXEC)) < 0)
            return result;
        if ((result = sys_dup3(s->from[i], (int)number, 0)) < 0)
            return result;
        next = number + 1;
    }
    return sys(__NR_close_range, next, ~0u, CLOSE_RANGE_CLOEXEC);
}

/* In the child, on our memory: fds and signals are its own. */
_Noreturn static void run_child(struct spawn *s)
{
    long result = arrange(s);
    if (result >= 0 && *s->directory != '\0')
        result = sys(__NR_chdir, s->directory);
    if (result >= 0 && s->new_session)
        result = sys(__NR_setsid);
    if (result >= 0) {
        sys_usual_signals();
        int executable = s->from[s->kept];
        result = executable >= 0 ? sys(__NR_execveat, executable, "", s->argv, s->envp, AT_EMPTY_PATH)
                                 : sys(__NR_execve, s->executable, s->argv, s->envp);
    }
    s->error = (int)-result;
    sys_exit(127);
}

/* A frame of its own: the child must not return from it while we wait, vfork(2). */
__attribute__((noinline)) static int clone_and_run(struct spawn *s)
{
    int pid = (int)sys(__NR_clone, CLONE_LIKE_VFORK, 0, 0, 0, 0);
    if (pid == 0)
        run_child(s);
    return pid;
}

/* `count` strings at *at as an array; false when there are not as many before `end`. */
static bool take_strings(const char **at, const char *end, uint32_t count, const char **out)
{
    for (uint32_t i = 0; i < count; i++) {
        const char *stop = *at < end ? memchr(*at, '\0', (size_t)(end - *at)) : NULL;
        if (stop == NULL)
            return false;
        out[i] = *at;
        *at = stop + 1;
    }
    return true;
}

int parse_spawn(struct spawn *s, const unsigned char *message, size_t length, const int *fds, unsigned fd_count)
{
    const unsigned char *at = message + HEADER_LENGTH, *end = message + length;
    *s = (struct spawn){0};
    if (length < HEADER_LENGTH + 24)
        return -EPROTO;
    uint32_t words = get32(message + 8), variables = get32(message + 12), file = get32(at + 16);
    s->new_session = (get32(message + 4) & NEW_SESSION) != 0;
    s->kept = get32(at + 20);
    if (s->kept > fd_count || (size_t)(end - at - 24) < 4 * (size_t)s->kept)
        return -EPROTO;
    for (unsigned i = 0; i < 5; i++) {
        uint32_t index = get32(at + 4 * i);
        if (index != NOT_THERE && index >= fd_count)
            return -EPROTO;
        if (i < 4)
            s->from[s->kept + i] = index == NOT_THERE ? -1 : fds[index];
    }
    at += 24;
    for (unsigned i = 0; i < s->kept; i++, at += 4) {
        s->from[i] = fds[i];
        s->to[i] = (int)get32(at);
        if (s->to[i] <= (i == 0 ? 2 : s->to[i - 1]))
            return -EPROTO;
    }
    const char *text = (const char *)at, *text_end = (const char *)end;
    if (file != NOT_THERE) {
        struct statx about;
        int result = sys_fstat(fds[file], &about);
        long address = result < 0 ? result : sys(__NR_mmap, 0, about.stx_size, 1, 2 /* PRIVATE */, fds[file], 0);
        if (address < 0 && address > -4096)
            return (int)address;
        s->mapped = text = (const char *)address;
        s->mapped_size = about.stx_size;
        text_end = text + s->mapped_size;
    }
    if (words == 0 || words > (size_t)(text_end - text) || variables > (size_t)(text_end - text))
        return -EPROTO;
    s->list_size = sizeof(char *) * ((size_t)words + variables + 2);
    s->list = sys_memory(s->list_size);
    if (s->list == NULL)
        return -ENOMEM;
    s->argv = s->list;
    s->envp = s->list + words + 1;
    const char *paths[2];
    if (!take_strings(&text, text_end, 2, paths) || !take_strings(&text, text_end, words, s->argv) ||
        !take_strings(&text, text_end, variables, s->envp))
        return -EPROTO;
    s->executable = paths[0];
    s->directory = paths[1];
    return 0;
}

void release_spawn(struct spawn *s)
{
    sys_unmap(s->list, s->list_size); /* nothing, of size 0, is an error without effect */
    sys_unmap(s->mapped, s->mapped_size);
}

void do_spawn(struct front *front, const unsigned char *message, size_t length, const int *fds, unsigned fd_count)
{
    static struct spawn s;
    int result = parse_spawn(&s, message, length, fds, fd_count);
    if (result == 0) {
        result = clone_and_run(&s);
        if (result > 0 && s.error != 0) {
            while (sys_wait(result, NULL, 0) == -EINTR)
                continue;
            result = -s.error;
        }
    }
    release_spawn(&s);
    answer(front, result, 0);
}

void do_wait(struct front *front, int pid, int options)
{
    int status = 0, result;
    /* Never without an ear for signals. The brain's process ends the wait by ending itself. */
    while ((result = sys_wait(pid, &status, options | WAIT_NO_HANG)) == 0 && (options & WAIT_NO_HANG) == 0) {
        struct pollfd fds[] = {{front->signals, POLLIN, 0}, {front->brain, 0, 0}};
        sys_poll(fds, 2, -1);
        if (fds[1].revents != 0)
            return;
        pass_signals(front);
    }
    answer(front, result, status);
}
