/* Entries to files, inside one directory.
 *
 * Two barriers keep a layer inside its directory: confine() has made it the root of this process, and every walk here
 * goes component by component with openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS), symbolic links being resolved by
 * hand as chroot(2) would. The last component is always created new (O_EXCL and its kin) or removed, never followed.
 *
 * A layer for overlayfs is written into its upper directory, without the overlay mounted: no copy-up, no lookup in
 * every layer below for each file, no sync at umount. What an overlay mount would have done is done here:
 *
 *     parent directory not in the layer       made like the one below (mode, owner, times, xattrs)
 *     parent is a symbolic link below          followed
 *     hard link to a file below                the file is copied up first
 *     .wh.name                                 char device 0:0, unless the directory does not exist below, where it
 *                                              would show in a listing (overlayfs reads such a directory directly)
 *     .wh..wh..opq                             xattr on the directory
 *     directory over something that is none    opaque: whatever was there hid the directory below
 *
 * A copy of the layers below (native) has no below: a whiteout deletes what this layer did not bring. Which entries it
 * brought is remembered, and which directories hold nothing else any more, so that no directory is walked twice:
 * layers with many opaque markers cost linear time (CVE-2026-95838). */
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct tree *tree_open(int root, int lower, enum whiteouts whiteouts, bool skip_devices, struct limits limits,
                       struct error *err)
{
    struct tree *tree = calloc(1, sizeof *tree);
    if (tree)
        tree->copy_buffer = malloc(COPY);
    if (!tree || !tree->copy_buffer) {
        free(tree);
        fail_errno(err, "malloc");
        return NULL;
    }
    tree->root = root;
    tree->lower = whiteouts == REMOVE ? -1 : lower;
    tree->whiteouts = whiteouts;
    tree->skip_devices = skip_devices;
    tree->limits = limits;
    tree->place.fd = tree->target_place.fd = -1;
    return tree;
}

void tree_close(struct tree *tree)
{
    if (!tree)
        return;
    close_place(&tree->place);
    close_place(&tree->target_place);
    for (size_t i = 0; i < tree->moment_count; i++)
        free(tree->moments[i].path);
    for (size_t i = 0; i < tree->opaque_count; i++)
        free(tree->opaque_paths[i]);
    free(tree->moments);
    free(tree->opaque_paths);
    set_free(&tree->opaque);
    set_free(&tree->brought);
    set_free(&tree->clean);
    free(tree->copy_buffer);
    free(tree);
}

struct counts tree_counts(const struct tree *tree)
{
    return tree->counts;
}

/* ---- entries ---- */

static int write_all(int fd, const void *data, size_t size)
{
    const char *at = data;
    while (size > 0) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

static int write_data(struct tar *tar, const struct entry *entry, int fd, struct error *err)
{
    const void *data;
    ssize_t n;
    if (!entry->fragments) {
        while ((n = tar_data(tar, &data, SIZE_MAX / 2, err)) > 0)
            if (write_all(fd, data, (size_t)n) < 0)
                return fail_errno(err, "write");
        return (int)n;
    }
    for (size_t i = 0; i < entry->fragment_count; i++) {
        int64_t left = entry->fragments[i].length;
        if (left && lseek(fd, entry->fragments[i].offset, SEEK_SET) < 0)
            return fail_errno(err, "lseek");
        while (left > 0) {
            n = tar_data(tar, &data, (size_t)left, err);
            if (n <= 0)
                return n < 0 ? -1 : fail(err, INVALID, "a sparse map does not match its data");
            if (write_all(fd, data, (size_t)n) < 0)
                return fail_errno(err, "write");
            left -= n;
        }
    }
    return ftruncate(fd, entry->size) == 0 ? 0 : fail_errno(err, "ftruncate");
}

static int apply_regular(struct tree *tree, struct tar *tar, struct entry *entry, const char *name, struct error *err)
{
    struct place *in = &tree->place;
    /* Without the special bits: write(2) and chown(2) would take them away again. */
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(in->fd, name, flags, entry->mode & 0777);
    if (fd < 0 && errno == EEXIST && make_room(tree, in->fd, name, err) == 0)
        fd = openat(in->fd, name, flags, entry->mode & 0777);
    if (fd < 0)
        return errno == ENAMETOOLONG ? fail(err, INVALID, "a name is longer than 255 bytes")
                                     : fail_errno(err, "create a file");
    int result = write_data(tar, entry, fd, err);
    if (result == 0 && (entry->uid || entry->gid || in->set_group) && fchown(fd, entry->uid, entry->gid) < 0)
        result = fail_errno(err, "chown");
    if (result == 0 && entry->mode & 07000 && fchmod(fd, entry->mode) < 0)
        result = fail_errno(err, "chmod");
    if (result == 0)
        result = set_xattrs(tree, entry, -1, name, fd, err);
    if (result == 0 && futimens(fd, (struct timespec[2]){entry->mtime, entry->mtime}) < 0)
        result = fail_errno(err, "utimensat");
    if (close(fd) < 0 && result == 0)
        result = fail_errno(err, "close");
    return result;
}

static int finish_name(struct tree *tree, const struct entry *entry, const char *name, struct error *err)
{
    int dir = tree->place.fd;
    if (fchownat(dir, name, entry->uid, entry->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return fail_errno(err, "chown");
    /* A symbolic link has no mode of its own. */
    if (entry->type != '2' && fchmodat(dir, name, entry->mode, 0) < 0)
        return fail_errno(err, "chmod");
    if (set_xattrs(tree, entry, dir, name, -1, err) < 0)
        return -1;
    struct timespec times[2] = {entry->mtime, entry->mtime};
    return entry->type == '5' || utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) == 0 ? 0
                                                                                      : fail_errno(err, "utimensat");
}


static int apply_directory(struct tree *tree, const struct entry *entry, const char *name, struct error *err)
{
    struct place *in = &tree->place;
    char path[MAX_PATH + 1];
    size_t length;
    struct stat st;
    if (place_of_entry(in, name, path, &length, err) < 0)
        return -1;
    if (mkdirat(in->fd, name, 0700) < 0) {
        if (errno == ENAMETOOLONG)
            return fail(err, INVALID, "a name is longer than 255 bytes");
        if (errno != EEXIST || fstatat(in->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return fail_errno(err, "mkdir");
        if (!S_ISDIR(st.st_mode)) {
            if (unlinkat(in->fd, name, 0) < 0 || mkdirat(in->fd, name, 0700) < 0)
                return fail_errno(err, "mkdir");
            if (!in->hidden && make_opaque(tree, in->fd, name, path, length, err) < 0)
                return -1;
            if (in->fd < 0 && open_place(tree, in, in->path, in->length, err) < 0)
                return fail_errno(err, "open a directory");
        }
    }
    return finish_name(tree, entry, name, err) < 0 ? -1 : remember_time(tree, path, length, entry->mtime, err);
}

static int apply_root(struct tree *tree, const struct entry *entry, struct error *err)
{
    /* CVE-2021-29136: a symbolic link, or anything else, in place of the root of the layer. */
    if (entry->type != '5')
        return fail(err, INVALID, "the root of the layer is no directory");
    if (fchownat(tree->root, "", entry->uid, entry->gid, AT_EMPTY_PATH) < 0 || fchdir(tree->root) < 0 ||
        fchmodat(AT_FDCWD, ".", entry->mode, 0) < 0)
        return fail_errno(err, "set the root's owner and mode");
    if (set_xattrs(tree, entry, tree->root, ".", -1, err) < 0)
        return -1;
    return remember_time(tree, "", 0, entry->mtime, err);
}

/* Copies a file of the layers below into the layer: its other names below keep the old file, as on an overlay. */
static int copy_up(struct tree *tree, struct place *to, const char *name, struct error *err)
{
    char path[MAX_PATH + 1];
    size_t length;
    struct stat st;
    if (place_of_entry(to, name, path, &length, err) < 0)
        return -1;
    int from = to->hidden ? -1 : open_beneath(tree->lower, path, O_PATH | O_NOFOLLOW, 0);
    if (from < 0)
        return fail(err, INVALID, "a hard link's target does not exist");
    int result = fstat(from, &st);
    close(from);
    if (result < 0)
        return fail_errno(err, "stat");
    if (!S_ISREG(st.st_mode))
        return fail(err, INVALID, "a hard link's target in a layer below is no regular file");
    tree->counts.bytes += (uint64_t)st.st_size;
    if (tree->counts.bytes > tree->limits.bytes)
        return fail(err, EXHAUSTED, "the layer is too large");
    from = open_beneath(tree->lower, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (from < 0)
        return fail_errno(err, "open a file below");
    int fd = openat(to->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        fail_errno(err, "create a file");
        close(from);
        return -1;
    }
    ssize_t n;
    while ((n = read(from, tree->copy_buffer, COPY)) > 0)
        if (write_all(fd, tree->copy_buffer, (size_t)n) < 0) {
            n = -1;
            break;
        }
    if (n < 0 || fchown(fd, st.st_uid, st.st_gid) < 0 || fchmod(fd, st.st_mode & 07777) < 0)
        result = fail_errno(err, "copy a file up");
    if (result == 0)
        result = copy_xattrs(tree, from, to->fd, name, err);
    if (result == 0 && futimens(fd, (struct timespec[2]){st.st_mtim, st.st_mtim}) < 0)
        result = fail_errno(err, "utimensat");
    close(from);
    if (close(fd) < 0 && result == 0)
        result = fail_errno(err, "close");
    return result;
}

static int apply_hard_link(struct tree *tree, struct entry *entry, const char *name, struct error *err)
{
    struct place *in = &tree->place, *from = &tree->target_place;
    struct stat here, there;
    entry->link_length = clean_path(entry->link, entry->link_length);
    if (entry->link_length == 0)
        return fail(err, INVALID, "a hard link to the root");
    const char *slash = memrchr(entry->link, '/', entry->link_length);
    const char *target = slash ? slash + 1 : entry->link;
    if (find_place(tree, from, entry->link, slash ? (size_t)(slash - entry->link) : 0, err) < 0)
        return -1;
    if (in->fd < 0 && open_place(tree, in, in->path, in->length, err) < 0)
        return fail_errno(err, "open a directory");
    if (fstatat(from->fd, target, &there, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno != ENOENT)
            return fail_errno(err, "stat");
        if (copy_up(tree, from, target, err) < 0)
            return -1;
        if (fstatat(from->fd, target, &there, AT_SYMLINK_NOFOLLOW) < 0)
            return fail_errno(err, "stat");
    }
    if (S_ISDIR(there.st_mode))
        return fail(err, INVALID, "a hard link to a directory");
    if (tree->whiteouts != REMOVE && is_whiteout(&there))
        return fail(err, INVALID, "a hard link's target does not exist");
    /* The same name twice, perhaps spelt differently: removing the one would remove the other. */
    if (fstatat(in->fd, name, &here, AT_SYMLINK_NOFOLLOW) == 0 && here.st_ino == there.st_ino &&
        here.st_dev == there.st_dev)
        return 0;
    int from_fd = from->fd;
    if (linkat(from_fd, target, in->fd, name, 0) == 0)
        return 0;
    if (errno == EEXIST && fstatat(in->fd, name, &here, AT_SYMLINK_NOFOLLOW) == 0) {
        if (S_ISDIR(here.st_mode)) {
            /* The target may be inside; make_room lets go of it, so link it aside first. */
            static const char aside[] = ".wh..wh.link";
            if (linkat(from_fd, target, in->fd, aside, 0) < 0 || make_room(tree, in->fd, name, err) < 0 ||
                renameat(in->fd, aside, in->fd, name) < 0)
                return fail_errno(err, "link");
            return 0;
        }
        if (unlinkat(in->fd, name, 0) == 0 && linkat(from_fd, target, in->fd, name, 0) == 0)
            return 0;
    }
    /* The link's own mode and owner in the header are not applied: they would be the target's (CVE-2026-17106). */
    return errno == ENAMETOOLONG ? fail(err, INVALID, "a name is longer than 255 bytes") : fail_errno(err, "link");
}

static int make_special(int dir, const struct entry *entry, const char *name)
{
    switch (entry->type) {
    case '2':
        return symlinkat(entry->link, dir, name);
    case '3':
        return mknodat(dir, name, S_IFCHR | 0600, makedev(entry->major, entry->minor));
    case '4':
        return mknodat(dir, name, S_IFBLK | 0600, makedev(entry->major, entry->minor));
    default:
        return mknodat(dir, name, S_IFIFO | 0600, 0);
    }
}

static int apply_special(struct tree *tree, const struct entry *entry, const char *name, struct error *err)
{
    if (entry->type == '2' && entry->link_length == 0)
        return fail(err, INVALID, "a symbolic link to nothing");
    int result = make_special(tree->place.fd, entry, name);
    if (result < 0 && errno == EEXIST) {
        if (make_room(tree, tree->place.fd, name, err) < 0)
            return -1;
        result = make_special(tree->place.fd, entry, name);
    }
    if (result == 0)
        return finish_name(tree, entry, name, err);
    if (errno == EPERM && tree->skip_devices && (entry->type == '3' || entry->type == '4')) {
        tree->counts.skipped_devices++;
        return 1;
    }
    return errno == ENAMETOOLONG ? fail(err, INVALID, "a name or a link is too long")
                                 : fail_errno(err, "make a node");
}

/* ---- the door ---- */

/* Whether a directory in the path is named like a whiteout: 1 for AUFS' own, which are left out. */
static int check_parents(const char *path, size_t length, struct error *err)
{
    for (size_t at = 0; at < length;) {
        const char *slash = memchr(path + at, '/', length - at);
        if (!slash)
            return 0;
        if ((size_t)(slash - path) - at >= 4 && memcmp(path + at, ".wh.", 4) == 0)
            return (size_t)(slash - path) - at >= 8 && memcmp(path + at, ".wh..wh.", 8) == 0
                       ? 1
                       : fail(err, INVALID, "a directory named like a whiteout");
        at = (size_t)(slash - path) + 1;
    }
    return 0;
}

static int apply(struct tree *tree, struct tar *tar, struct entry *entry, const char *name, struct error *err)
{
    switch (entry->type) {
    case '0':
        return apply_regular(tree, tar, entry, name, err);
    case '1':
        return apply_hard_link(tree, entry, name, err);
    case '5':
        return apply_directory(tree, entry, name, err);
    case '3':
        /* What overlayfs reads as a whiteout is one, wherever the layer is unpacked. */
        if (entry->major == 0 && entry->minor == 0)
            return apply_whiteout(tree, name, err) < 0 ? -1 : 1;
        return apply_special(tree, entry, name, err);
    default:
        return apply_special(tree, entry, name, err);
    }
}

int tree_apply(struct tree *tree, struct tar *tar, struct entry *entry, struct error *err)
{
    const char *name;
    err->name_length = entry->path_length;
    memcpy(err->name, entry->path, entry->path_length);
    tree->counts.entries++;
    tree->counts.bytes += (uint64_t)entry->size;
    if (tree->counts.entries > tree->limits.entries)
        return fail(err, EXHAUSTED, "the layer has too many entries");
    if ((uint64_t)entry->size > tree->limits.bytes || tree->counts.bytes > tree->limits.bytes)
        return fail(err, EXHAUSTED, "the layer is too large");
    entry->path_length = clean_path(entry->path, entry->path_length);
    if (entry->path_length == 0)
        return apply_root(tree, entry, err);
    int aufs = check_parents(entry->path, entry->path_length, err);
    if (aufs)
        return aufs < 0 ? -1 : 0;
    const char *slash = memrchr(entry->path, '/', entry->path_length);
    const char *base = slash ? slash + 1 : entry->path;
    bool whiteout = strncmp(base, ".wh.", 4) == 0;
    bool opaque = strcmp(base, ".wh..wh..opq") == 0;
    if (whiteout && !opaque && strncmp(base, ".wh..wh.", 8) == 0)
        return 0;
    if (enter_parent(tree, entry->path, entry->path_length, &name, err) < 0)
        return -1;
    if (opaque)
        return apply_opaque(tree, err);
    if (whiteout)
        return apply_whiteout(tree, name + 4, err);
    ino_t inode = tree->place.inode;
    int result = apply(tree, tar, entry, name, err);
    if (result == 0 && tree->whiteouts == REMOVE && set_add(&tree->brought, hash_bytes(inode, name, strlen(name))) < 0)
        return fail_errno(err, "malloc");
    return result < 0 ? -1 : 0;
}

int tree_finish(struct tree *tree, struct error *err)
{
    close_place(&tree->place);
    close_place(&tree->target_place);
    err->name_length = 0;
    if (tree->whiteouts != REMOVE && sweep_opaque(tree, err) < 0)
        return -1;
    for (size_t i = 0; i < tree->moment_count; i++) {
        const struct moment *m = &tree->moments[i];
        /* Gone, or replaced by something that is no directory: nothing to do. */
        int fd = open_beneath(tree->root, m->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
        if (fd < 0)
            continue;
        int result = futimens(fd, (struct timespec[2]){m->mtime, m->mtime});
        close(fd);
        if (result < 0)
            return fail_errno(err, "utimensat");
    }
    return 0;
}
