/* The front: what `masu`, `masu-oci` and `containerd-shim-masu-v2` are when they are called. It has an interpreter that is running already, the
 * brain (src/masu/cli/brain), do the thinking, and is itself what a caller knows: its child, in its process group, session,
 * cgroup, with its limits and labels. Whatever process the command needs is a child of the front, never of the brain.
 *
 *   front                                         brain: one process for each call, forked ahead of it
 *     connects ───────────────────────────────────► looks who that is (SO_PEERCRED, /proc/PID)
 *     ◄── HELLO protocol, where the secret is ─────
 *     reads the secret: proof of its power
 *     ─── CALL argv, env, fds ─────────────────────► looks whether its power is the caller's
 *     ◄── GO pidfd, or COLD ──────────────────────── takes the caller's place
 *     ◄── SPAWN argv, env, fds ───────────────────── wants a process
 *     ─── ANSWER pid ──────────────────────────────►
 *     ◄── WAIT pid ─────────────────────────────────
 *     ─── ANSWER pid, status ──────────────────────►
 *     ═══ signals, by kill(2) ═════════════════════►
 *     ◄── EXIT status ──────────────────────────────
 *
 * When the front dies its call dies with it: the brain's process holds the reading end of a pipe of the front's, and the
 * kernel kills it at the end of file. Where there is no brain, or where it is not certain that its power is the caller's,
 * the front becomes a cold interpreter, with the same result. Nothing has been done before GO.
 */
#ifndef MASU_FRONT_H
#define MASU_FRONT_H

#include "../launch/launch.h"
#include "protocol.h"

#define SOCKET_PATH_LIMIT 108 /* sun_path, unix(7) */
#define LOCK_FD 3             /* where a brain finds its lock */

struct entry { /* linux_dirent64, getdents64(2) */
    uint64_t inode, offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

enum program { MASU, MASU_OCI, MASU_SHIM, PROGRAMS_COUNT };
extern const char *const program_names[PROGRAMS_COUNT];

struct front {
    enum program program;
    int argc;
    char **argv, **envp;
    int64_t began_ns; /* CLOCK_MONOTONIC */
    char bin[PATH_LIMIT];     /* the directory of our own executable */
    char entry[PATH_LIMIT + 16]; /* what the interpreter is to run */
    char python[PATH_LIMIT];     /* the interpreter; "" when we do not know it */
    char place[PATH_LIMIT]; /* of the brain's socket; "" without a directory for it */
    int brain;              /* connected socket */
    int lifeline;           /* while this is open we live */
    int signals;            /* signalfd of what is passed on */
    uint64_t mask;          /* the signals that were blocked when we were started */
    int worker;             /* pidfd of the brain's process that does our call, once it has said GO */
    int forwarded;          /* the last signal that was passed on, or 0 */
};

/* home.c: where things are */
const char *variable(const struct front *front, const char *name);
/* Finds bin and entry; prints and exits when they cannot be. */
void find_home(struct front *front);
/* Finds python; false when it is not written where we look for it. */
bool find_python(struct front *front);
/* The next directory in which a brain's socket may lie, as front->place; false when there is none. */
bool find_place(struct front *front, unsigned number);

/* cold.c: without a brain */
_Noreturn void go_cold(struct front *front);
/* Starts a brain for the next ones; `heard`: until it listens, it has our stderr for what it has to say. -EAGAIN while
 * somebody else is doing so, another errno where there is none to be had. */
int start_brain(struct front *front, bool heard);

/* request.c: what the brain has to know */
int send_request(struct front *front, const unsigned char secret[SECRET_LENGTH]);

/* children.c: processes that the brain wants */
struct spawn {
    const char *executable, *directory;
    const char **argv, **envp;
    bool new_session;
    unsigned kept;                          /* the first of `from` go to the numbers in `to` */
    int from[FDS_LIMIT + 4], to[FDS_LIMIT]; /* then the executable and the standard fds, -1 for none */
    volatile int error;
    const char **list;  /* what argv and envp lie in */
    const char *mapped; /* what the strings lie in when they came in a file */
    size_t list_size, mapped_size;
};
/* Understands SAY_SPAWN: 0, -EPROTO for what is none, or another errno. The strings stay where they are. To be released
 * in any case. */
int parse_spawn(struct spawn *s, const unsigned char *message, size_t length, const int *fds, unsigned fd_count);
void release_spawn(struct spawn *s);
int answer(const struct front *front, int result, int status);
void do_spawn(struct front *front, const unsigned char *message, size_t length, const int *fds, unsigned fd_count);
void do_wait(struct front *front, int pid, int options);

/* session.c: the foreground */
void do_attend(struct front *front, const unsigned char *message, size_t length, const int *fds, unsigned fd_count);

/* front.c */
int run_front(int argc, char **argv, char **envp, enum program program);
/* Passes signals on that have arrived. */
void pass_signals(struct front *front);
__attribute__((format(printf, 2, 3))) void complain(const struct front *front, const char *format, ...);

#endif
