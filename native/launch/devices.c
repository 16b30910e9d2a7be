/* Directories, device nodes and symlinks made in the root. */
#include "launch.h"

static int set_owner(int fd, unsigned uid, unsigned gid)
{
    return (int)sys(__NR_fchownat, fd, "", uid, gid, AT_EMPTY_PATH);
}

int do_mkdir(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    owned_place place = NO_PLACE;
    const char *path = text_of(op, F_MKDIR_PATH);
    unsigned mode = small_of(op, F_MKDIR_MODE) & 07777;
    if (walk_to_parent(launch, path, &place, err) < 0)
        return -1;
    if (!place.missing) {
        /* It was there: as the image has it, so it stays. A symlink to a directory counts, and where one of procfs
         * leads is not for us to follow (ELOOP): whoever goes there is checked. */
        owned_fd there = open_in_root(launch->root, path, O_PATH | O_DIRECTORY);
        return there < 0 && there != -ELOOP ? fail(err, there, "%s exists and is no directory", path) : 0;
    }
    int result = (int)sys(__NR_mkdirat, place.parent, place.name, mode);
    if (result < 0)
        return fail(err, result, "%s", path);
    owned_fd fd = sys_open(place.parent, place.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (fd < 0)
        return fail(err, fd, "%s", path);
    if (check(err, set_owner(fd, small_of(op, F_MKDIR_UID), small_of(op, F_MKDIR_GID)), "chown %s", path) < 0)
        return -1;
    result = (int)sys(__NR_fchmod, fd, mode); /* the umask, and what chown took away */
    return result < 0 ? fail(err, result, "chmod %s", path) : 0;
}

static bool same_node(const struct statx *about, unsigned mode, unsigned major, unsigned minor)
{
    if ((about->stx_mode & KIND_MASK) != (mode & KIND_MASK))
        return false;
    return (mode & KIND_MASK) == KIND_FIFO || (about->stx_rdev_major == major && about->stx_rdev_minor == minor);
}

static int make_node(const struct place *place, unsigned mode, uint64_t rdev)
{
    long before = sys(__NR_umask, 0);
    int result = (int)sys(__NR_mknodat, place->parent, place->name, mode, (mode & KIND_MASK) == KIND_FIFO ? 0 : rdev);
    sys(__NR_umask, before);
    return result;
}

/* An O_PATH fd's mode cannot be set before Linux 6.6; then the node is made anew. */
static int fix_mode(struct place *place, unsigned mode, uint64_t rdev)
{
    int result = (int)sys(__NR_fchmodat2, place->fd, "", mode & 07777, AT_EMPTY_PATH);
    if (result != -ENOSYS && result != -EPERM)
        return result;
    result = (int)sys(__NR_unlinkat, place->parent, place->name, 0);
    if (result == 0)
        result = make_node(place, mode, rdev);
    sys_close(release_fd(&place->fd));
    place->fd = sys_open(place->parent, place->name, O_PATH | O_NOFOLLOW, 0);
    return result < 0 ? result : place->fd;
}

int do_mknod(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    owned_place place = NO_PLACE;
    const char *path = text_of(op, F_MKNOD_PATH);
    unsigned mode = small_of(op, F_MKNOD_MODE);
    uint64_t rdev = number_of(op, F_MKNOD_RDEV);
    unsigned major = (unsigned)(rdev >> 8 & 0xfff) | (unsigned)(rdev >> 32 & ~0xfffull);
    unsigned minor = (unsigned)(rdev & 0xff) | (unsigned)(rdev >> 12 & ~0xffull);
    if (walk_to_parent(launch, path, &place, err) < 0)
        return -1;
    if (place.missing) {
        int made = make_node(&place, mode, rdev);
        if (made < 0)
            return fail(err, made, "mknod %s", path);
        place.fd = sys_open(place.parent, place.name, O_PATH | O_NOFOLLOW, 0);
        if (place.fd < 0 || sys_fstat(place.fd, &place.about) < 0)
            return fail(err, place.fd < 0 ? place.fd : EIO, "%s", path);
    }
    if (!same_node(&place.about, mode, major, minor))
        return fail(err, EEXIST, "%s exists and is another kind of file or another device", path);
    unsigned uid = small_of(op, F_MKNOD_UID), gid = small_of(op, F_MKNOD_GID);
    int result = 0;
    if (place.about.stx_uid != uid || place.about.stx_gid != gid)
        result = set_owner(place.fd, uid, gid);
    if (result < 0)
        return fail(err, result, "chown %s", path);
    if ((place.about.stx_mode & 07777) != (mode & 07777)) {
        result = fix_mode(&place, mode, rdev);
        if (result >= 0)
            result = set_owner(place.fd, uid, gid);
    }
    return result < 0 ? fail(err, result, "chmod %s", path) : 0;
}

static bool is_link_to(int fd, const char *target)
{
    char there[PATH_LIMIT];
    long length = sys(__NR_readlinkat, fd, "", there, sizeof there);
    return length >= 0 && (size_t)length == strlen(target) && memcmp(there, target, (size_t)length) == 0;
}

int do_symlink(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    owned_place place = NO_PLACE;
    const char *path = text_of(op, F_SYMLINK_PATH), *target = text_of(op, F_SYMLINK_TARGET);
    if (walk_to_parent(launch, path, &place, err) < 0)
        return -1;
    if (!place.missing) {
        if (small_of(op, F_SYMLINK_EXACT) && !is_link_to(place.fd, target))
            return fail(err, EEXIST, "%s exists and is no symlink to %s", path, target);
        return 0; /* the image's own choice, whatever it is; nothing of ours follows it */
    }
    int result = (int)sys(__NR_symlinkat, target, place.parent, place.name);
    return result < 0 && result != -EEXIST ? fail(err, result, "symlink %s", path) : 0;
}
