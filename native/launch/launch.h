/* masu-launch: carries out a plan (src/masu/plan/ops.py) that Python made.
 *
 *   host (Python)                      keeps the control socket, answers
 *     └ stage        "masu:[0:stage]"  operations of side H, then clone3(CLONE_PARENT)
 *     └ init         "masu:[1:init]"   operations of side C, then exec of the user's program
 *
 * With a `monitor` operation the first process forks a monitor and leaves; the monitor takes the host's place as
 * the parent of both (monitor.c).
 *
 *   state            who waits      for                            when the host is gone (EOF) or says ABORT
 *   SYNC             stage, init    GO, its payload kept           exit 1
 *   READY            init           GO                             exit 1
 *   wait_start       init           a byte in the FIFO             (the control socket is closed by now)
 *   ERROR            nobody         exit 1 (127, 126 for exec)
 *
 * No process but the user's outlives a host that went away: each wait meets the EOF.
 */
#ifndef MASU_LAUNCH_H
#define MASU_LAUNCH_H

#include "ops.h"
#include "sys.h"

/* All operations share one signature, and few need all of it. */
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* ---- text.c: errors and bounded text ---- */

#define DETAIL_LIMIT 2048

struct masu_error {
    int number; /* errno, positive */
    char detail[DETAIL_LIMIT];
};

/* A printf of %s %c %d %u %x %o with l, ll and z, %.*s and %0N of unsigned ones; never more than `size` bytes, always
 * ended by NUL. Returns the length of what is there. */
__attribute__((format(printf, 3, 4))) size_t format_text(char *out, size_t size, const char *format, ...);
size_t format_list(char *out, size_t size, const char *format, va_list arguments);

/* Fills `err` and returns -1; `number` is an errno or what a sys_… call returned. */
__attribute__((format(printf, 3, 4))) int fail(struct masu_error *err, long number, const char *format, ...);

/* The same when `result` is negative; 0 otherwise. */
__attribute__((format(printf, 3, 4))) int check(struct masu_error *err, long result, const char *format, ...);

/* A decimal number that fills all of `text`; false when it is none or above `limit`. */
bool parse_number(const char *text, size_t length, uint64_t limit, uint64_t *out);

/* ---- plan.c: the plan as it came, checked ---- */

struct plan {
    const unsigned char *data;
    size_t size;
    uint32_t count;       /* operations */
    uint32_t clone_index; /* of the `clone` operation */
    size_t clone_offset;  /* where it begins */
};

struct field {
    const char *data; /* text is ended by NUL; a list begins with its count */
    uint32_t length;
    uint64_t number;
};

struct operation {
    uint32_t index;
    uint16_t code;
    struct field field[OP_MAX_FIELDS];
};

struct list {
    const unsigned char *at;
    uint32_t left;
};

/* Checks every length, type, count, slot and place of `data` and fills `plan`; EBADMSG with a detail. Afterwards
 * the other functions here cannot fail. */
int plan_check(struct plan *plan, const void *data, size_t size, struct masu_error *err);
/* Reads the operation at *offset and moves on. */
void plan_read(const struct plan *plan, size_t *offset, uint32_t index, struct operation *op);
#define PLAN_FIRST 24 /* offset of the first operation */
/* Marks the slots that the operation names. */
void mark_slots(const struct operation *op, bool slots[PLAN_MAX_SLOTS]);

struct list list_of(const struct operation *op, unsigned field);
/* The next text, or NULL. */
const char *list_next(struct list *list);
/* A NULL-ended array as execve wants it; NULL when there is no memory. */
const char **list_array(const struct operation *op, unsigned field);

static inline uint64_t number_of(const struct operation *op, unsigned field) { return op->field[field].number; }
static inline unsigned small_of(const struct operation *op, unsigned field)
{
    return (unsigned)op->field[field].number;
}
static inline const char *text_of(const struct operation *op, unsigned field) { return op->field[field].data; }

/* ---- the process that carries the plan out ---- */

struct launch {
    struct plan plan;
    uint32_t index;        /* of the operation under way */
    size_t next;           /* offset of the one after it */
    int control;           /* to the host; -1 once closed */
    int told;              /* init: EOF here says that the host knows our pid; then -1 */
    int monitor;           /* to our monitor, or -1 */
    int root;              /* the root in which targets are resolved, or -1: "/" */
    int procfs;            /* a detached procfs, or -1 */
    int empty;             /* an attached, empty, read-only tmpfs for masks, or -1 */
    int start_fifo;        /* after wait_start: where a failing exec is told, or -1 */
    unsigned console_rdev; /* minor of the pty's slave plus one, or 0 */
    bool inside;           /* after clone */
    bool elsewhere;        /* root_attach has put the root on a path, not over "/" */
    bool entered;          /* the container's root is ours, by pivot_root or chroot */
    bool passed_ready;
    size_t payload_length; /* of the host's last GO */
    int slots[PLAN_MAX_SLOTS];
    bool attached[PLAN_MAX_SLOTS]; /* the tree in this slot is attached somewhere and can be cloned again */
    char program[PATH_LIMIT];      /* what find_program found, or "" */
};

/* What an operation does: 0, or -1 with `err` filled. */
typedef int operation_function(struct launch *launch, const struct operation *op, struct masu_error *err);

/* The fd in the slot that `field` names; NONE and empty slots fail. */
int slot_fd(const struct launch *launch, const struct operation *op, unsigned field, struct masu_error *err);
/* Puts `fd` there; what was there is closed. */
void slot_put(struct launch *launch, unsigned slot, int fd);

/* stage.c: runs the plan from `launch`; returns the exit status. */
int run_stage(struct launch *launch);
operation_function do_adopt, do_open, do_open_tree, do_setns, do_unshare, do_write, do_idmap_userns, do_close_fds;
void set_name(const char *name);

/* ---- control.c: messages ---- */

#define PAYLOAD_LIMIT (1u << 20)
extern unsigned char control_payload[16 + PAYLOAD_LIMIT + 1]; /* header, then the last GO's payload */

/* Sends to the host; with fd >= 0 that travels along. Returns 0 or a negative errno. */
int control_send(struct launch *launch, unsigned type, int number, int value, const char *detail, int fd);
/* Waits for an answer: 1 for GO, 0 when the host is gone or says ABORT, -1 for what is none. */
int control_answer(struct launch *launch, struct masu_error *err);
/* Waits for GO. Does not return when the host is gone or says ABORT: exits with status 1. */
int control_wait(struct launch *launch, struct masu_error *err);
void control_close(struct launch *launch);
/* One packet with an optional fd over any unix socket; a negative errno when it fails. */
int send_with_fd(int socket, const void *data, size_t size, int fd);
/* *fd is -1 when none came. */
long receive_with_fd(int socket, void *data, size_t size, int *fd);
operation_function do_sync, do_ready, do_wait_start;

/* ---- files.c ---- */

/* Writes all of `data` at once, as the kernel's files want it; -EIO for a short write. */
int write_whole(int fd, const void *data, size_t size);
/* Opens, writes, closes; a negative errno. */
int write_file(int dir, const char *path, const void *data, size_t size);
/* At most size - 1 bytes and a NUL; the length or a negative errno. */
long read_file(int dir, const char *path, char *out, size_t size);
/* Closes all from `first` on but those; a negative errno. */
int close_all_but(const int *stay, unsigned count, unsigned first);
/* Fails naming the first component of `path` that cannot be walked. */
int fail_path(struct masu_error *err, long number, const char *path);

/* ---- paths.c: everything below the root, by fd ---- */

enum make { MAKE_NOTHING, MAKE_DIRECTORY, MAKE_FILE };

#define WALK_NOFOLLOW 1 /* the last component is taken as it is, symlink or not */
#define WALK_PARENTS 2  /* missing directories on the way are made, even when the last component is not */

struct place {
    int parent; /* of the last component, O_PATH */
    int fd;     /* O_PATH; -1 when missing */
    bool made, missing;
    bool is_root, in_top; /* the root itself, directly in it */
    struct statx about;
    char name[NAME_LIMIT + 1];
};

void place_close(struct place *place);
#define owned_place __attribute__((cleanup(place_close))) struct place
#define NO_PLACE {.parent = -1, .fd = -1}

int root_fd(struct launch *launch, struct masu_error *err);
/* openat2 in the root, symlinks resolved in it; a negative errno. */
int open_in_root(int root, const char *path, int flags);
/* Goes to `path` in the root, making what is missing: directories (0755), the last component as `make` says. */
int walk(struct launch *launch, const char *path, int flags, enum make make, struct place *place,
         struct masu_error *err);
/* As walk, but the last component need not exist (`missing`) and is never followed; its parents are made. */
int walk_to_parent(struct launch *launch, const char *path, struct place *place, struct masu_error *err);
operation_function do_mkdir, do_mknod, do_symlink;

/* ---- mount.c, oldmount.c, copyup.c, root.c ---- */

struct fs_wish {
    const char *type, *source;
    struct list options;
    uint64_t attr;
    const char *mode;   /* "mode" option to add, or NULL */
    bool skip_readonly; /* leave out "ro": the caller writes first */
};
int make_fs(const struct fs_wish *wish, int *out, struct masu_error *err);
/* The same by mount(2), for options that fsconfig cannot carry. */
int make_fs_old_way(const struct fs_wish *wish, int *out, struct masu_error *err);
int copy_up(int from, int to, struct masu_error *err);
/* mount_setattr of the mount `fd` is the root of; propagation is a MS_… or 0, userns an fd or -1. A negative errno. */
int set_attr(int fd, uint64_t set, uint64_t clear, unsigned long propagation, bool recursive, int userns);
operation_function do_new_mount, do_mount_attr, do_root_propagation, do_root_attach, do_procfs, do_mount, do_attach;
operation_function do_remount, do_propagation, do_pivot_root, do_chroot, do_root_readonly, do_mask, do_readonly,
    do_enter_root, do_umount, do_open_tree_inside, do_label;
operation_function do_proc_write;

/* ---- console.c ---- */

operation_function do_console, do_stdio, do_stdio_owner;

/* ---- identity.c ---- */

operation_function do_become, do_rlimit, do_scheduler, do_ioprio, do_personality, do_mempolicy, do_affinity;
operation_function do_keyring, do_setsid, do_pdeathsig, do_hostname, do_domainname, do_no_new_privs, do_bounding;
operation_function do_setuser, do_caps, do_umask, do_chdir, do_loopback, do_dumpable;

/* ---- seccomp.c, hook.c, exec.c ---- */

operation_function do_seccomp, do_hook, do_find_program, do_init, do_exec;

/* ---- runtime.c ---- */

/* Another OCI runtime makes the process. The exit status of the stage, or -1. */
int run_runtime(struct launch *launch, const struct operation *op, struct masu_error *err);
/* CRIU restores it. Likewise. */
int run_criu(struct launch *launch, const struct operation *op, struct masu_error *err);

/* ---- monitor.c, monitor_oom.c ---- */

/* What stage and init tell their monitor: one byte of type, then i32 value. */
#define TELL_PID 'P'     /* pid of init; carries its pidfd */
#define TELL_MASTER 'T'  /* carries the pty's master */
#define TELL_STARTED 'S' /* the host agreed: from now on an exit is the container's */
#define TELL_OOM 'O'     /* OOM_CONTROL or OOM_MEMORY_EVENTS; carries that file */
#define TELL_WATCH 'W'   /* carries the eventfd that was registered for it */
int tell_monitor(struct launch *launch, char type, int value, int fd);
int run_monitor(struct launch *launch);

/* Opens what tells that memory runs short in a cgroup, and tells the monitor; nothing where there is no such file. */
void tell_oom(struct launch *launch, const char *directory);

#endif
