/* The container's root: put in place, entered, made read-only. */
#include "launch.h"

int do_root_propagation(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    return check(err, sys_mount(NULL, "/", NULL, small_of(op, F_ROOT_PROPAGATION_FLAGS), NULL), "propagation of /");
}

int do_root_attach(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    int tree = slot_fd(launch, op, F_ROOT_ATTACH_SLOT, err);
    if (tree < 0)
        return -1;
    /* The new mount lies above "/", while the process's own root stays below it: absolute paths still lead to the
     * host's files until pivot_root, and no way to the rootfs has to be walked (it may be closed to a mapped root).
     * With a path it lies there, for hooks that enter this mount namespace and know that path only. */
    const char *path = text_of(op, F_ROOT_ATTACH_PATH);
    int result =
        (int)sys(__NR_move_mount, tree, "", AT_FDCWD, *path == '\0' ? "/" : path, MOVE_MOUNT_F_EMPTY_PATH);
    if (result < 0)
        return fail(err, result, "move_mount onto %s", *path == '\0' ? "/" : path);
    launch->attached[small_of(op, F_ROOT_ATTACH_SLOT)] = true;
    launch->elsewhere = *path != '\0';
    if (launch->root >= 0)
        sys_close(launch->root);
    launch->root = sys_fcntl(tree, F_DUPFD_CLOEXEC, 3);
    return launch->root < 0 ? fail(err, launch->root, "dup of the root") : 0;
}

int do_pivot_root(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    int root = root_fd(launch, err);
    if (root < 0)
        return -1;
    owned_fd old = sys_open(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
    int result = old < 0 ? old : (int)sys(__NR_fchdir, root);
    if (result < 0)
        return fail(err, result, "fchdir to the root");
    /* The old root ends up on top of the new one, where it can be unmounted without a directory for it
     * (pivot_root(2), "pivot_root(".", ".")"). */
    result = (int)sys(__NR_pivot_root, ".", ".");
    if (result == -EINVAL)
        return fail(err, result,
                    "pivot_root: the present root is an initramfs or shared, or the new one is no mount point");
    if (result < 0)
        return fail(err, result, "pivot_root");
    /* Unmounting must not travel to the host: the old root becomes a slave, by its fd, for "." is the new one. */
    result = (int)sys(__NR_fchdir, old);
    if (result == 0)
        result = sys_mount(NULL, ".", NULL, MS_SLAVE | MS_REC, NULL);
    if (result < 0)
        return fail(err, result, "making the old root a slave");
    if (check(err, sys(__NR_umount2, ".", 2 /* MNT_DETACH */), "umount of the old root") < 0)
        return -1;
    launch->entered = true;
    return check(err, sys(__NR_chdir, "/"), "chdir to /");
}

/* Takes the mount point out of a line of mountinfo when a procfs or sysfs is there (proc_pid_mountinfo(5)). */
static char *proc_or_sysfs(char *line)
{
    char *type = line, *point = line;
    while (*type != '\0' && strncmp(type, " - ", 3) != 0)
        type++;
    if (strncmp(type, " - proc ", 8) != 0 && strncmp(type, " - sysfs ", 9) != 0)
        return NULL;
    for (int fields = 0; fields < 4; fields++) {
        point = strchr(point, ' ');
        if (point == NULL)
            return NULL;
        point++;
    }
    char *out = point, *end = strchr(point, ' ');
    for (char *at = point; at < end; at++) {
        if (at[0] == '\\' && end - at > 3) { /* \040 */
            *out++ = (char)((at[1] - '0') << 6 | (at[2] - '0') << 3 | (at[3] - '0'));
            at += 3;
        } else {
            *out++ = *at;
        }
    }
    *out = '\0';
    return point;
}

/* What stays below a chroot still counts as visible: a full procfs there would let a user namespace in the container
 * mount one without the masks (mount_too_revealing()). So none stays: unmounted or, where that is forbidden, covered.
 * Paths lead through the old root here, never into the new one. */
static void hide_old(char *line)
{
    const char *point = proc_or_sysfs(line);
    for (int tries = 0; point != NULL && tries < 8; tries++) {
        owned_fd fd = sys_open(AT_FDCWD, point, O_PATH | O_NOFOLLOW, 0);
        if (fd < 0 || !(is_on(fd, PROC_SUPER_MAGIC) || is_on(fd, SYSFS_MAGIC)))
            return;
        sys_mount(NULL, point, NULL, MS_SLAVE | MS_REC, NULL);
        if (sys(__NR_umount2, point, 2 | 8 /* MNT_DETACH | UMOUNT_NOFOLLOW */) < 0 &&
            sys_mount("tmpfs", point, "tmpfs", MS_RDONLY, "nr_blocks=1,nr_inodes=1") < 0)
            return;
    }
}

static int hide_all_old(struct masu_error *err)
{
    char text[2 * PATH_LIMIT + 1];
    size_t used = 0;
    owned_fd fd = sys_open(AT_FDCWD, "/proc/self/mountinfo", O_RDONLY, 0);
    if (fd == -ENOENT)
        return 0; /* no /proc here, so none to hide */
    for (;;) {
        long count = fd < 0 ? fd : sys_read(fd, text + used, sizeof text - 1 - used);
        if (count <= 0)
            return check(err, count, "/proc/self/mountinfo");
        used += (size_t)count;
        text[used] = '\0';
        char *line = text, *end;
        while ((end = strchr(line, '\n')) != NULL) {
            *end = '\0';
            hide_old(line);
            line = end + 1;
        }
        used = strlen(line);
        if (used + 1 == sizeof text)
            return fail(err, EOVERFLOW, "a line of /proc/self/mountinfo is too long");
        memmove(text, line, used);
    }
}

int do_chroot(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    int root = root_fd(launch, err);
    if (root < 0)
        return -1;
    if (check(err, sys(__NR_fchdir, root), "fchdir to the root") < 0)
        return -1;
    /* It has to lie over "/": who climbs out of a chroot there falls back into it. */
    if (launch->elsewhere && check(err, sys_mount(".", "/", NULL, MS_MOVE, NULL), "moving the root over /") < 0)
        return -1;
    if (hide_all_old(err) < 0)
        return -1;
    if (check(err, sys(__NR_chroot, "."), "chroot") < 0)
        return -1;
    launch->entered = true;
    return check(err, sys(__NR_chdir, "/"), "chdir to /");
}

int do_enter_root(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    const char *path = text_of(op, F_ENTER_ROOT_PATH);
    owned_fd root = sys_open(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);
    if (root == -ENOENT && small_of(op, F_ENTER_ROOT_OPTIONAL) != 0)
        return 0;
    if (root < 0)
        return fail_path(err, root, path);
    /* Whoever has the right to it can leave a chroot; but here the mounts are not the container's own anyway. */
    if (check(err, sys(__NR_fchdir, root), "fchdir to the root") < 0 || check(err, sys(__NR_chroot, "."), "chroot") < 0)
        return -1;
    launch->entered = true;
    return check(err, sys(__NR_chdir, "/"), "chdir to /");
}

int do_root_readonly(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    int root = root_fd(launch, err);
    if (root < 0)
        return -1;
    return check(err, set_attr(root, MOUNT_ATTR_RDONLY, 0, 0, false, -1), "mount_setattr of /");
}
