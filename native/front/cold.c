/* The cold interpreter, for this call, and a brain for the next. */
#include "front.h"

/* SIGINT waits until our own code says what it means (__main__.py): in its first milliseconds the interpreter would show
 * a traceback. False when our caller has it blocked already. */
static bool hold_interrupt(void)
{
    uint64_t mask = 1u << (SIGNAL_INTERRUPT - 1), before = 0;
    sys(__NR_rt_sigprocmask, 0 /* SIG_BLOCK */, &mask, &before, 8);
    return (before & mask) == 0;
}

#define OPTIONS_COUNT 10 /* python -SIE -X utf8 -X began=… -X interrupt ENTRY PROGRAM */

/* The words that run `program`, with at *end room for `more`; NULL-ended. */
static const char **words(const struct front *front, const char *program, int more, const char ***end)
{
    static char began[32];
    const char **list = sys_memory(sizeof *list * ((size_t)more + OPTIONS_COUNT + 1)), **at = list;
    if (list == NULL) {
        complain(front, "no memory");
        sys_exit(125);
    }
    if (front->python[0] != '\0') { /* else the entry's first line knows */
        *at++ = front->python;
        *at++ = "-SIE"; /* no site, isolated */
        *at++ = "-X";
        *at++ = "utf8";
        format_text(began, sizeof began, "began=%lu", (unsigned long)front->began_ns);
        *at++ = "-X"; /* for --timings */
        *at++ = began;
        if (hold_interrupt()) {
            *at++ = "-X";
            *at++ = "interrupt";
        }
    }
    *at++ = front->entry;
    *at++ = program;
    *end = at;
    return list;
}

_Noreturn void go_cold(struct front *front)
{
    find_python(front);
    const char **rest, **list = words(front, program_names[front->program], front->argc, &rest);
    for (int i = 1; i < front->argc; i++)
        *rest++ = front->argv[i];
    long result = sys(__NR_execve, list[0], list, front->envp);
    complain(front, "%s cannot be executed (errno %d): the installation is not complete", list[0], (int)-result);
    sys_exit(125);
}

static bool make_directory(const char *path)
{
    long made = sys(__NR_mkdirat, AT_FDCWD, path, 0700);
    return made == 0 || made == -EEXIST;
}

/* The lock beside the socket, held by a brain as long as it lives, with the directories above it made; or an errno. */
static int take_lock(struct front *front)
{
    char path[PATH_LIMIT + 8];
    for (unsigned number = 0; find_place(front, number); number++) {
        format_text(path, sizeof path, "%s", front->place);
        char *brain = strrchr(path, '/');
        *brain = '\0';
        char *masu = strrchr(path, '/');
        *masu = '\0';
        bool there = make_directory(path);
        *masu = '/';
        if (there && make_directory(path)) {
            format_text(path, sizeof path, "%s.lock", front->place);
            int lock = sys_open(AT_FDCWD, path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
            struct statx about;
            /* A brain that leaves unlinks it, and with it what others wait for by its name. */
            if (lock >= 0 && sys(__NR_flock, lock, 2 | 4 /* LOCK_EX | LOCK_NB */) == 0 &&
                sys_fstat(lock, &about) == 0 && about.stx_nlink > 0)
                return lock;
            if (lock >= 0) {
                sys_close(lock);
                return -EAGAIN;
            }
        }
    }
    return -ENOENT;
}

/* In a grandchild of ours, which nobody waits for. */
_Noreturn static void become_brain(struct front *front, int lock, bool heard)
{
    static const char *const environment[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL,
    };
    const char **end, **list = words(front, "masu-brain", 1, &end);
    *end = front->place;
    int null = sys_open(AT_FDCWD, "/dev/null", O_RDWR, 0);
    for (int fd = 0; fd < (heard ? STDERR : 3); fd++)
        sys_dup3(null, fd, 0);
    lock = sys_fcntl(lock, F_DUPFD_CLOEXEC, LOCK_FD + 1); /* not where it goes: that would stay close-on-exec */
    sys_dup3(lock, LOCK_FD, 0);
    sys(__NR_close_range, LOCK_FD + 1, ~0u, 0);
    sys(__NR_setsid);
    sys(__NR_chdir, "/");
    sys(__NR_umask, 0077);
    sys_usual_signals();
    long result = sys(__NR_execve, front->python, list, environment);
    complain(front, "%s cannot be executed (errno %d)", front->python, (int)-result);
    sys_exit(127);
}

int start_brain(struct front *front, bool heard)
{
    owned_fd lock = find_python(front) ? take_lock(front) : -ENOENT;
    if (lock < 0)
        return lock;
    int child = sys_fork();
    if (child == 0) {
        if (sys_fork() == 0)
            become_brain(front, lock, heard);
        sys_exit(0);
    }
    sys_wait(child, NULL, 0);
    return 0;
}
