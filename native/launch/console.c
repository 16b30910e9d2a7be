/* The terminal and the three standard streams. */
#include "launch.h"

#include <linux/termios.h>

#define DEVPTS_MAGIC 0x1cd1
#define PTS_MAJOR_FIRST 136 /* UNIX98_PTY_SLAVE_MAJOR, eight of them */
#define PTS_MAJOR_LAST 143

/* The pty multiplexer of the root's own devpts: an image may put anything at that path. */
static int open_master(int root)
{
    static const char *const paths[] = {"dev/pts/ptmx", "dev/ptmx"};
    int result = -ENOENT;
    for (int i = 0; i < 2; i++) {
        struct statx about;
        owned_fd look = open_in_root(root, paths[i], O_PATH);
        if (look < 0) {
            result = look;
            continue;
        }
        result = sys_fstat(look, &about);
        if (result == 0 && ((about.stx_mode & KIND_MASK) != KIND_CHARACTER || about.stx_rdev_major != 5 ||
                            about.stx_rdev_minor != 2 || !is_on(look, DEVPTS_MAGIC)))
            result = -ENODEV;
        if (result < 0)
            continue;
        owned_fd master = open_in_root(root, paths[i], O_RDWR | O_NOCTTY);
        if (master < 0)
            return master;
        /* What was looked at is what was opened. */
        result = sys_fstat(master, &about);
        if (result == 0 && about.stx_rdev_major == 5 && about.stx_rdev_minor == 2 && is_on(master, DEVPTS_MAGIC))
            return release_fd(&master);
        result = -ENODEV;
    }
    return result;
}

static int bind_console(struct launch *launch, int slave, struct masu_error *err)
{
    owned_place place = NO_PLACE;
    if (walk_to_parent(launch, "/dev/console", &place, err) < 0)
        return -1;
    if (place.missing) {
        int made = (int)sys(__NR_mknodat, place.parent, place.name, KIND_FILE | 0600, 0);
        if (made < 0)
            return fail(err, made, "/dev/console");
        place.fd = sys_open(place.parent, place.name, O_PATH | O_NOFOLLOW, 0);
        if (place.fd < 0 || sys_fstat(place.fd, &place.about) < 0)
            return fail(err, place.fd < 0 ? place.fd : EIO, "/dev/console");
    }
    unsigned kind = place.about.stx_mode & KIND_MASK;
    if (kind != KIND_FILE && kind != KIND_CHARACTER)
        return fail(err, EINVAL, "/dev/console is neither a file nor a device (CVE-2026-88264)");
    owned_fd tree = sys_open_tree(slave, "", AT_EMPTY_PATH | OPEN_TREE_CLONE);
    if (tree < 0)
        return fail(err, tree, "open_tree of the terminal");
    return check(err, sys_move_mount(tree, place.fd), "move_mount onto /dev/console");
}

static int take_terminal(int slave, struct masu_error *err)
{
    int result = sys_ioctl(slave, TIOCSCTTY, NULL);
    if (result < 0)
        return fail(err, result, "TIOCSCTTY");
    for (int fd = STDIN; fd <= STDERR; fd++) {
        if (check(err, sys_dup3(slave, fd, 0), "dup3") < 0)
            return -1;
    }
    return 0;
}

static int send_master(struct launch *launch, const struct operation *op, int master, struct masu_error *err)
{
    char name[32];
    unsigned number = 0;
    int result = sys_ioctl(master, TIOCGPTN, &number);
    if (result < 0)
        return fail(err, result, "TIOCGPTN");
    launch->console_rdev = number + 1;
    unsigned slot = small_of(op, F_CONSOLE_SLOT);
    if (slot == PLAN_NONE) {
        if (launch->monitor < 0)
            return fail(err, EBADF, "neither a console socket nor a monitor takes the terminal");
        result = tell_monitor(launch, TELL_MASTER, 0, master);
        return result < 0 ? fail(err, result, "sending the terminal to the monitor") : 0;
    }
    int socket = slot_fd(launch, op, F_CONSOLE_SLOT, err);
    if (socket < 0)
        return -1;
    size_t length = format_text(name, sizeof name, "/dev/pts/%u", number);
    if (check(err, send_with_fd(socket, name, length, master), "sending the terminal to the console socket") < 0)
        return -1;
    slot_put(launch, slot, -1);
    return 0;
}

int do_console(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    unsigned flags = small_of(op, F_CONSOLE_FLAGS);
    unsigned rows = small_of(op, F_CONSOLE_ROWS), columns = small_of(op, F_CONSOLE_COLUMNS);
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
    if (rows > 0xffff || columns > 0xffff)
        return fail(err, EINVAL, "a terminal of %u rows and %u columns", rows, columns);
    int root = root_fd(launch, err);
    if (root < 0)
        return -1;
    owned_fd master = open_master(root);
    if (master < 0)
        return fail(err, master, "/dev/pts/ptmx: the container needs a devpts of its own on /dev/pts");
    int unlocked = 0;
    int result = sys_ioctl(master, TIOCSPTLCK, &unlocked);
    if (result < 0)
        return fail(err, result, "TIOCSPTLCK");
    owned_fd slave = sys_ioctl(master, TIOCGPTPEER, (void *)(uintptr_t)(O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (slave < 0)
        return fail(err, slave, "TIOCGPTPEER");
    if (rows != 0 || columns != 0)
        sys_ioctl(master, TIOCSWINSZ, &size);
    if ((flags & CONSOLE_BIND) != 0 && bind_console(launch, slave, err) < 0)
        return -1;
    if (send_master(launch, op, master, err) < 0)
        return -1;
    return (flags & CONSOLE_CTTY) != 0 ? take_terminal(slave, err) : 0;
}

int do_stdio(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    static const unsigned fields[3] = {F_STDIO_STDIN, F_STDIO_STDOUT, F_STDIO_STDERR};
    for (int fd = STDIN; fd <= STDERR; fd++) {
        if (small_of(op, fields[fd]) == PLAN_NONE)
            continue;
        int from = slot_fd(launch, op, fields[fd], err);
        if (from < 0)
            return -1;
        int result = from == fd ? sys_fcntl(fd, F_SETFD, 0) : sys_dup3(from, fd, 0);
        if (result < 0)
            return fail(err, result, "dup3");
    }
    return 0;
}

/* So that the program may open /dev/stdout anew. Never a device of the host, such as its /dev/null: only our own
 * terminal, pipes, sockets and files. */
int do_stdio_owner(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    unsigned uid = small_of(op, F_STDIO_OWNER_UID), gid = small_of(op, F_STDIO_OWNER_GID);
    for (int fd = STDIN; fd <= STDERR; fd++) {
        struct statx about;
        if (sys_fstat(fd, &about) < 0 || about.stx_uid == uid)
            continue;
        unsigned kind = about.stx_mode & KIND_MASK, group = gid;
        if (kind == KIND_CHARACTER) {
            bool own = launch->console_rdev != 0 && about.stx_rdev_minor == launch->console_rdev - 1 &&
                       about.stx_rdev_major >= PTS_MAJOR_FIRST && about.stx_rdev_major <= PTS_MAJOR_LAST;
            if (!own)
                continue;
            group = ~0u; /* the group tty stays */
        } else if (kind != KIND_FIFO && kind != KIND_SOCKET && kind != KIND_FILE) {
            continue;
        }
        int result = (int)sys(__NR_fchown, fd, uid, group);
        /* An owner outside of the mapping, a read-only file system: the stream works all the same. */
        if (result < 0 && result != -EPERM && result != -EROFS && result != -EINVAL)
            return fail(err, result, "fchown of fd %d", fd);
    }
    return 0;
}
