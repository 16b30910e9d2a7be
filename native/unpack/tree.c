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
#include "unpack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { MAX_LINKS = 40, COPY = 1 << 16 };

struct moment { char *path; struct timespec mtime; };

/* A directory that entries go into. `path` is free of symbolic links. */
struct place {
    int fd;
    ino_t inode;
    bool set_group;             /* mode has S_ISGID: new files take over its group */
    bool hidden;                /* nothing of the layers below shows here */
    size_t length;
    char path[MAX_PATH + 1];
};

struct tree {
    int root, lower;
    enum whiteouts whiteouts;
    bool skip_devices;
    struct limits limits;
    struct counts counts;
    struct place place;         /* of the entry before, nearly always that of the next one */
    char asked[MAX_PATH + 1];   /* how that entry spelt it */
    size_t asked_length;
    struct place target_place;
    struct moment *moments;
    size_t moment_count, moment_capacity;
    uint64_t moment_bytes;
    struct set opaque;          /* paths, OVERLAY */
    char **opaque_paths;
    size_t opaque_count, opaque_capacity;
    uint64_t whiteouts_made;
    struct set brought;         /* (directory inode, name), REMOVE */
    struct set clean;           /* directory inodes, REMOVE */
    char *copy_buffer;
};

static int open_beneath(int dir, const char *path, uint64_t flags, uint64_t mode)
{
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = mode,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    int fd;
    do
        fd = (int)syscall(SYS_openat2, dir, *path ? path : ".", &how, sizeof how);
    while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return fd;
}

static void close_place(struct place *place)
{
    if (place->fd >= 0)
        close(place->fd);
    place->fd = -1;
}

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

/* ---- small things ---- */

/* The end of `path` becomes `name`; false when it is too long. */
static bool push(char *path, size_t *length, const char *name, size_t name_length)
{
    size_t slash = *length ? 1 : 0;
    if (*length + slash + name_length > MAX_PATH)
        return false;
    if (slash)
        path[(*length)++] = '/';
    memcpy(path + *length, name, name_length);
    *length += name_length;
    path[*length] = 0;
    return true;
}

static void pop(char *path, size_t *length)
{
    while (*length > 0 && path[--*length] != '/')
        ;
    path[*length] = 0;
}

static int remember_time(struct tree *tree, const char *path, size_t length, struct timespec mtime, struct error *err)
{
    tree->moment_bytes += length + 1;
    if (tree->moment_bytes > 1u << 30)
        return fail(err, EXHAUSTED, "the names of the layer's directories are longer than 1 GiB together");
    if (tree->moment_count == tree->moment_capacity) {
        size_t capacity = tree->moment_capacity ? tree->moment_capacity * 2 : 256;
        struct moment *grown = realloc(tree->moments, capacity * sizeof *grown);
        if (!grown)
            return fail_errno(err, "realloc");
        tree->moments = grown;
        tree->moment_capacity = capacity;
    }
    char *copy = malloc(length + 1);
    if (!copy)
        return fail_errno(err, "malloc");
    memcpy(copy, path, length);
    copy[length] = 0;
    tree->moments[tree->moment_count++] = (struct moment){copy, mtime};
    return 0;
}

static bool is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

static const char *opaque_name(const struct tree *tree)
{
    return tree->whiteouts == OVERLAY_USER ? "user.overlay.opaque" : "trusted.overlay.opaque";
}

/* xattr calls on a name in a directory: there is no /proc here, and setxattrat(2) is of Linux 6.13. */
static int enter(int dir)
{
    return fchdir(dir);
}

static int make_opaque(struct tree *tree, int dir, const char *name, const char *path, size_t length,
                       struct error *err)
{
    uint64_t hash = hash_bytes(0, path, length);
    if (tree->whiteouts == REMOVE || tree->lower < 0)
        return 0;
    /* Even when it was opaque before: it may have been removed and made again since. */
    if (enter(dir) < 0 || lsetxattr(name, opaque_name(tree), "y", 1, 0) < 0)
        return fail_errno(err, "setxattr overlay.opaque");
    if (set_has(&tree->opaque, hash))
        return 0;
    if (tree->opaque_count == tree->opaque_capacity) {
        size_t capacity = tree->opaque_capacity ? tree->opaque_capacity * 2 : 64;
        char **grown = realloc(tree->opaque_paths, capacity * sizeof *grown);
        if (!grown)
            return fail_errno(err, "realloc");
        tree->opaque_paths = grown;
        tree->opaque_capacity = capacity;
    }
    tree->opaque_paths[tree->opaque_count] = strndup(path, length);
    if (!tree->opaque_paths[tree->opaque_count] || set_add(&tree->opaque, hash) < 0)
        return fail_errno(err, "malloc");
    tree->opaque_count++;
    /* What is known of the place may have changed. */
    close_place(&tree->place);
    return 0;
}

/* Whether `path` or a directory above it is opaque. */
static bool hides_lower(const struct tree *tree, const char *path, size_t length)
{
    if (tree->lower < 0)
        return true;
    if (tree->opaque.count == 0)
        return false;
    for (size_t i = 0; i <= length; i++)
        if ((i == length || path[i] == '/' || i == 0) && set_has(&tree->opaque, hash_bytes(0, path, i)))
            return true;
    return false;
}

/* ---- removal ---- */

/* Calls `each` for the entries of a directory until it returns nonzero. */
typedef int (*entry_fn)(void *context, int dir, const char *name, struct error *err);

static int for_entries(int dir, const char *name, entry_fn each, void *context, struct error *err)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(err, "open a directory");
    DIR *stream = fdopendir(fd);
    if (!stream) {
        close(fd);
        return fail_errno(err, "open a directory");
    }
    int result = 0;
    struct dirent *found;
    while (errno = 0, result == 0 && (found = readdir(stream))) {
        if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0)
            continue;
        result = each(context, fd, found->d_name, err);
    }
    if (result == 0 && errno)
        result = fail_errno(err, "read a directory");
    closedir(stream);
    return result;
}

struct removal { int top; unsigned moved, emptied; };

static int remove_or_move(void *context, int dir, const char *name, struct error *err)
{
    struct removal *removal = context;
    char slot[32];
    if (unlinkat(dir, name, 0) == 0)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return fail_errno(err, "unlink");
    if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
        return 0;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return fail_errno(err, "rmdir");
    if (dir == removal->top)
        return 0;
    snprintf(slot, sizeof slot, ".wh..wh.rm.%u", removal->moved++);
    return renameat(dir, name, removal->top, slot) == 0 ? 0 : fail_errno(err, "rename");
}

static int empty_child(void *context, int dir, const char *name, struct error *err)
{
    struct removal *removal = context;
    removal->top = dir;
    removal->emptied++;
    if (unlinkat(dir, name, 0) == 0)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return fail_errno(err, "unlink");
    if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
        return 0;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return fail_errno(err, "rmdir");
    if (for_entries(dir, name, remove_or_move, removal, err) < 0)
        return -1;
    return unlinkat(dir, name, AT_REMOVEDIR) == 0 ? 0 : fail_errno(err, "rmdir");
}

/* Removes whatever `name` is. Directories, however deep, without a stack: each that is not empty is moved up to the
 * first one, where it comes up again. */
static int remove_all(int dir, const char *name, struct error *err)
{
    struct removal removal = {.top = -1};
    if (unlinkat(dir, name, 0) == 0)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return fail_errno(err, "unlink");
    do {
        if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
            return 0;
        if (errno != ENOTEMPTY && errno != EEXIST)
            return fail_errno(err, "rmdir");
        removal.emptied = 0;
        if (for_entries(dir, name, empty_child, &removal, err) < 0)
            return -1;
    } while (removal.emptied);
    errno = ENOTEMPTY;
    return fail_errno(err, "rmdir");
}

struct cleaning { struct tree *tree; ino_t inode; unsigned depth; };

static int clean_directory(struct tree *tree, int dir, const char *name, unsigned depth, struct error *err);

static int clean_entry(void *context, int dir, const char *name, struct error *err)
{
    struct cleaning *cleaning = context;
    struct tree *tree = cleaning->tree;
    bool ours = set_has(&tree->brought, hash_bytes(cleaning->inode, name, strlen(name)));
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return fail_errno(err, "stat");
    if (!S_ISDIR(st.st_mode))
        return ours || unlinkat(dir, name, 0) == 0 ? 0 : fail_errno(err, "unlink");
    if (!ours && unlinkat(dir, name, AT_REMOVEDIR) == 0)
        return 0;
    if (!set_has(&tree->clean, hash_bytes(st.st_ino, NULL, 0)) &&
        clean_directory(tree, dir, name, cleaning->depth + 1, err) < 0)
        return -1;
    /* Kept when something of this layer is in it. */
    if (!ours && unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOTEMPTY && errno != EEXIST)
        return fail_errno(err, "rmdir");
    return 0;
}

/* Removes what this layer did not bring from a directory, and from those below it. */
static int clean_directory(struct tree *tree, int dir, const char *name, unsigned depth, struct error *err)
{
    struct stat st;
    if (depth > MAX_DEPTH)
        return fail(err, EXHAUSTED, "directories are nested too deeply for a whiteout");
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return fail_errno(err, "stat");
    if (set_has(&tree->clean, hash_bytes(st.st_ino, NULL, 0)))
        return 0;
    struct cleaning cleaning = {tree, st.st_ino, depth};
    if (for_entries(dir, name, clean_entry, &cleaning, err) < 0)
        return -1;
    return set_add(&tree->clean, hash_bytes(st.st_ino, NULL, 0)) == 0 ? 0 : fail_errno(err, "malloc");
}

/* ---- xattrs ---- */

/* What a layer may set. Not: labels of security modules, which are the host's to give; trusted.*, above all
 * trusted.overlay.*, with which a layer could show files of other layers; user.overlay.*, the same for users. */
static bool may_set(const char *name, size_t length)
{
    static const char *const whole[] = {"security.capability", "system.posix_acl_access", "system.posix_acl_default"};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (strlen(whole[i]) == length && memcmp(name, whole[i], length) == 0)
            return true;
    return length > 5 && memcmp(name, "user.", 5) == 0 && !(length > 13 && memcmp(name, "user.overlay.", 13) == 0);
}

/* On `name` in the directory, or on `fd` when that is not -1. */
static int set_xattrs(struct tree *tree, const struct entry *entry, int dir, const char *name, int fd,
                      struct error *err)
{
    if (entry->xattr_count == 0)
        return 0;
    if (fd < 0 && enter(dir) < 0)
        return fail_errno(err, "chdir");
    for (size_t i = 0; i < entry->xattr_count; i++) {
        const struct xattr *x = &entry->xattrs[i];
        char key[MAX_XATTR_NAME + 1];
        memcpy(key, x->name, x->name_length);
        key[x->name_length] = 0;
        if (!may_set(key, x->name_length)) {
            tree->counts.skipped_xattrs++;
            continue;
        }
        int result = fd >= 0 ? fsetxattr(fd, key, x->value, x->value_length, 0)
                             : lsetxattr(name, key, x->value, x->value_length, 0);
        if (result == 0)
            continue;
        /* EPERM: user.* on what is neither file nor directory, xattr(7). */
        if (errno == ENOTSUP || (errno == EPERM && memcmp(key, "user.", 5) == 0)) {
            tree->counts.skipped_xattrs++;
            continue;
        }
        return fail_errno(err, "setxattr");
    }
    return 0;
}

/* Those of a file below onto a new one, by the same rule. `from` is readable, `to` is `name` in `dir`. */
static int copy_xattrs(struct tree *tree, int from, int dir, const char *name, struct error *err)
{
    ssize_t length = flistxattr(from, tree->copy_buffer, COPY);
    if (length <= 0)
        return length == 0 || errno == ENOTSUP ? 0 : fail_errno(err, "listxattr");
    char *names = malloc((size_t)length), *value = malloc(MAX_XATTR_VALUE);
    int result = names && value && enter(dir) == 0 ? 0 : fail_errno(err, "malloc");
    if (result == 0)
        memcpy(names, tree->copy_buffer, (size_t)length);
    for (ssize_t at = 0; result == 0 && at < length; at += (ssize_t)strlen(names + at) + 1) {
        if (!may_set(names + at, strlen(names + at)))
            continue;
        ssize_t size = fgetxattr(from, names + at, value, MAX_XATTR_VALUE);
        if (size < 0 || lsetxattr(name, names + at, value, (size_t)size, 0) < 0)
            result = errno == ENOTSUP || errno == ENODATA ? 0 : fail_errno(err, "copy xattrs");
    }
    free(names);
    free(value);
    return result;
}

/* ---- finding the directory of an entry ---- */

static int open_place(struct tree *tree, struct place *place, const char *path, size_t length, struct error *err)
{
    struct stat st;
    int fd = open_beneath(tree->root, path, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
    if (fd < 0)
        return -1; /* the caller looks at errno */
    if (fstat(fd, &st) < 0) {
        close(fd);
        return fail_errno(err, "stat");
    }
    close_place(place);
    place->fd = fd;
    place->inode = st.st_ino;
    place->set_group = (st.st_mode & S_ISGID) != 0;
    place->length = length;
    memmove(place->path, path, length);
    place->path[length] = 0;
    place->hidden = true;
    if (!hides_lower(tree, path, length)) {
        int below = open_beneath(tree->lower, place->path, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
        place->hidden = below < 0;
        if (below >= 0)
            close(below);
    }
    return 0;
}

/* A directory that the layer uses and does not bring: like the one below, or plain. */
static int make_parent(struct tree *tree, const struct place *in, const char *name, const char *path, size_t length,
                       int below, struct error *err)
{
    struct stat st = {.st_mode = 0755};
    if (below >= 0 && fstat(below, &st) < 0)
        return fail_errno(err, "stat");
    if (mkdirat(in->fd, name, 0700) < 0 || fchownat(in->fd, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        fchmodat(in->fd, name, st.st_mode & 07777, 0) < 0)
        return fail_errno(err, "mkdir");
    if (tree->whiteouts == REMOVE && set_add(&tree->brought, hash_bytes(in->inode, name, strlen(name))) < 0)
        return fail_errno(err, "malloc");
    if (below < 0)
        return 0;
    int readable = open_beneath(tree->lower, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (readable < 0)
        return fail_errno(err, "open a directory below");
    int result = copy_xattrs(tree, readable, in->fd, name, err);
    close(readable);
    return result < 0 ? -1 : remember_time(tree, path, length, st.st_mtim, err);
}

/* One component of a walk, `in` being the directory it is looked up in. `*link` receives the target of a symbolic
 * link: then 1 is returned; 0 when `in` went one deeper. */
static int step(struct tree *tree, struct place *in, const char *name, size_t name_length, char *link,
                ssize_t *link_length, struct error *err)
{
    char path[MAX_PATH + 1];
    size_t length = in->length;
    struct stat st;
    bool whiteout = false;
    memcpy(path, in->path, length + 1);
    if (!push(path, &length, name, name_length))
        return fail(err, INVALID, "a path is longer than 4095 bytes");
    const char *last = path + length - name_length;
    if (fstatat(in->fd, last, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (S_ISLNK(st.st_mode)) {
            *link_length = readlinkat(in->fd, last, link, MAX_PATH);
            return *link_length < 0 ? fail_errno(err, "readlink") : 1;
        }
        whiteout = tree->whiteouts != REMOVE && is_whiteout(&st);
        if (!whiteout && !S_ISDIR(st.st_mode))
            return fail(err, INVALID, "an entry lies below something that is no directory");
        if (whiteout && unlinkat(in->fd, last, 0) < 0)
            return fail_errno(err, "unlink");
    } else if (errno != ENOENT) {
        return errno == ENAMETOOLONG ? fail(err, INVALID, "a name is longer than 255 bytes") : fail_errno(err, "stat");
    } else {
        st.st_mode = 0;
    }
    if (!S_ISDIR(st.st_mode)) {
        int below = -1;
        if (!whiteout && !in->hidden)
            below = open_beneath(tree->lower, path, O_PATH | O_NOFOLLOW, 0);
        if (below >= 0) {
            if (fstat(below, &st) < 0) {
                close(below);
                return fail_errno(err, "stat");
            }
            if (S_ISLNK(st.st_mode)) {
                *link_length = readlinkat(below, "", link, MAX_PATH);
                close(below);
                return *link_length < 0 ? fail_errno(err, "readlink") : 1;
            }
            if (!S_ISDIR(st.st_mode)) {
                close(below);
                return fail(err, INVALID, "an entry lies below something that is no directory");
            }
        }
        int made = make_parent(tree, in, last, path, length, below, err);
        if (below >= 0)
            close(below);
        if (made < 0 || (whiteout && make_opaque(tree, in->fd, last, path, length, err) < 0))
            return -1;
    }
    if (in->fd < 0 && open_place(tree, in, in->path, in->length, err) < 0) /* make_opaque let go of it */
        return fail_errno(err, "open a directory");
    return open_place(tree, in, path, length, err) < 0 ? fail_errno(err, "open a directory") : 0;
}

/* Opens the directory of an entry, making what is missing, following symbolic links inside the tree. */
static int walk(struct tree *tree, struct place *place, const char *path, size_t length, struct error *err)
{
    char *rest = malloc(3 * (MAX_PATH + 1)), *next = rest ? rest + MAX_PATH + 1 : NULL;
    char *link = rest ? next + MAX_PATH + 1 : NULL;
    size_t rest_length = length, at = 0;
    int links = 0, result = 0;
    if (!rest)
        return fail_errno(err, "malloc");
    memcpy(rest, path, length);
    if (open_place(tree, place, "", 0, err) < 0) {
        free(rest);
        return fail_errno(err, "open the root");
    }
    while (result == 0) {
        while (at < rest_length && rest[at] == '/')
            at++;
        if (at == rest_length)
            break;
        size_t begin = at;
        while (at < rest_length && rest[at] != '/')
            at++;
        size_t part = at - begin;
        if (part == 1 && rest[begin] == '.')
            continue;
        if (part == 2 && rest[begin] == '.' && rest[begin + 1] == '.') {
            /* Only from the target of a link: names were cleaned. At the root it stays there, as in a chroot. */
            char up[MAX_PATH + 1];
            size_t up_length = place->length;
            memcpy(up, place->path, up_length + 1);
            pop(up, &up_length);
            result = open_place(tree, place, up, up_length, err) < 0 ? fail_errno(err, "open a directory") : 0;
            continue;
        }
        ssize_t link_length = 0;
        result = step(tree, place, rest + begin, part, link, &link_length, err);
        if (result != 1)
            continue;
        size_t left = rest_length - at;
        if (++links > MAX_LINKS || (size_t)link_length + 1 + left > MAX_PATH) {
            result = fail(err, INVALID, "too many symbolic links in the path of an entry");
            break;
        }
        memcpy(next, link, (size_t)link_length);
        next[link_length] = '/';
        memcpy(next + link_length + 1, rest + at, left);
        rest_length = (size_t)link_length + 1 + left;
        memcpy(rest, next, rest_length);
        at = 0;
        result = 0;
        if (link[0] == '/' && open_place(tree, place, "", 0, err) < 0)
            result = fail_errno(err, "open the root");
    }
    free(rest);
    return result;
}

static int find_place(struct tree *tree, struct place *place, const char *path, size_t length, struct error *err)
{
    /* In one step when every component is a directory of this layer already. */
    char copy[MAX_PATH + 1];
    memcpy(copy, path, length);
    copy[length] = 0;
    if (open_place(tree, place, copy, length, err) == 0)
        return 0;
    if (err->kind)
        return -1;
    if (errno == ENAMETOOLONG)
        return fail(err, INVALID, "a name is longer than 255 bytes");
    return walk(tree, place, copy, length, err);
}

/* The directory of the entry `path`; `*name` is its last component. */
static int enter_parent(struct tree *tree, const char *path, size_t length, const char **name, struct error *err)
{
    const char *slash = memrchr(path, '/', length);
    size_t parent = slash ? (size_t)(slash - path) : 0;
    *name = slash ? slash + 1 : path;
    if (tree->place.fd >= 0 && tree->asked_length == parent && memcmp(tree->asked, path, parent) == 0)
        return 0;
    tree->asked_length = (size_t)-1;
    if (find_place(tree, &tree->place, path, parent, err) < 0)
        return -1;
    memcpy(tree->asked, path, parent);
    tree->asked_length = parent;
    return 0;
}

/* ---- entries ---- */

/* Makes room for something new at `name`; tells whether what was there hid a directory below. */
static int make_room(struct tree *tree, int dir, const char *name, bool *hid, struct error *err)
{
    struct stat st;
    *hid = false;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : fail_errno(err, "stat");
    *hid = !S_ISDIR(st.st_mode);
    if (S_ISDIR(st.st_mode)) {
        /* It may be the directory that is kept open. */
        close_place(&tree->target_place);
        return remove_all(dir, name, err);
    }
    return unlinkat(dir, name, 0) == 0 ? 0 : fail_errno(err, "unlink");
}

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
    bool hid;
    /* Without the special bits: write(2) and chown(2) would take them away again. */
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(in->fd, name, flags, entry->mode & 0777);
    if (fd < 0 && errno == EEXIST && make_room(tree, in->fd, name, &hid, err) == 0)
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

static int place_of_entry(const struct place *in, const char *name, char *path, size_t *length, struct error *err)
{
    memcpy(path, in->path, in->length + 1);
    *length = in->length;
    return push(path, length, name, strlen(name)) ? 0 : fail(err, INVALID, "a path is longer than 4095 bytes");
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
            bool hidden = in->hidden;
            if (!hidden && make_opaque(tree, in->fd, name, path, length, err) < 0)
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
    bool hid;
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
            if (linkat(from_fd, target, in->fd, aside, 0) < 0 || make_room(tree, in->fd, name, &hid, err) < 0 ||
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
    bool hid;
    if (entry->type == '2' && entry->link_length == 0)
        return fail(err, INVALID, "a symbolic link to nothing");
    int result = make_special(tree->place.fd, entry, name);
    if (result < 0 && errno == EEXIST) {
        if (make_room(tree, tree->place.fd, name, &hid, err) < 0)
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

/* ---- whiteouts ---- */

static int apply_whiteout(struct tree *tree, const char *name, struct error *err)
{
    struct place *in = &tree->place;
    char path[MAX_PATH + 1];
    size_t length;
    struct stat st;
    if (*name == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return fail(err, INVALID, "a whiteout of no name");
    bool there = fstatat(in->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (!there && errno != ENOENT)
        return errno == ENAMETOOLONG ? fail(err, INVALID, "a name is longer than 255 bytes") : fail_errno(err, "stat");
    if (tree->whiteouts == REMOVE) {
        bool ours = set_has(&tree->brought, hash_bytes(in->inode, name, strlen(name)));
        if (!there)
            return 0;
        if (!S_ISDIR(st.st_mode))
            return ours || unlinkat(in->fd, name, 0) == 0 ? 0 : fail_errno(err, "unlink");
        if (clean_directory(tree, in->fd, name, 0, err) < 0)
            return -1;
        if (!ours && unlinkat(in->fd, name, AT_REMOVEDIR) < 0 && errno != ENOTEMPTY && errno != EEXIST)
            return fail_errno(err, "rmdir");
        return 0;
    }
    if (in->hidden)
        return 0;
    if (!there) {
        if (mknodat(in->fd, name, S_IFCHR, 0) < 0)
            return fail_errno(err, "make a whiteout");
        tree->whiteouts_made++;
        return 0;
    }
    /* In the layer itself a whiteout hides nothing (image-spec, layer.md, Whiteouts), but the directory below. */
    if (!S_ISDIR(st.st_mode))
        return 0;
    if (place_of_entry(in, name, path, &length, err) < 0)
        return -1;
    if (make_opaque(tree, in->fd, name, path, length, err) < 0)
        return -1;
    return in->fd >= 0 || open_place(tree, in, in->path, in->length, err) == 0 ? 0 : fail_errno(err, "open a directory");
}

/* overlayfs always merges the root, opaque or not (ovl_get_root), so there each name below is whited out. */
static int hide_entry(void *context, int dir, const char *name, struct error *err)
{
    (void)dir;
    return apply_whiteout(context, name, err);
}

static int apply_opaque(struct tree *tree, struct error *err)
{
    struct place *in = &tree->place;
    if (tree->whiteouts == REMOVE)
        return fchdir(in->fd) < 0 ? fail_errno(err, "chdir") : clean_directory(tree, AT_FDCWD, ".", 0, err);
    if (in->hidden)
        return 0;
    if (in->length == 0)
        return for_entries(tree->lower, ".", hide_entry, tree, err);
    char path[MAX_PATH + 1];
    memcpy(path, in->path, in->length + 1);
    return make_opaque(tree, in->fd, ".", path, in->length, err);
}

/* Below an opaque directory nothing shows through, so its whiteouts hide nothing, and would show in listings. */
struct sweep { struct tree *tree; unsigned depth; };

static int sweep_entry(void *context, int dir, const char *name, struct error *err)
{
    struct sweep *sweep = context;
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return fail_errno(err, "stat");
    if (is_whiteout(&st))
        return unlinkat(dir, name, 0) == 0 ? 0 : fail_errno(err, "unlink");
    if (!S_ISDIR(st.st_mode))
        return 0;
    uint64_t hash = hash_bytes(st.st_ino, NULL, 0);
    if (set_has(&sweep->tree->clean, hash))
        return 0;
    struct sweep deeper = {sweep->tree, sweep->depth + 1};
    if (deeper.depth > MAX_DEPTH)
        return fail(err, EXHAUSTED, "directories are nested too deeply for a whiteout");
    if (for_entries(dir, name, sweep_entry, &deeper, err) < 0)
        return -1;
    return set_add(&sweep->tree->clean, hash) == 0 ? 0 : fail_errno(err, "malloc");
}

static int sweep_opaque(struct tree *tree, struct error *err)
{
    for (size_t i = 0; tree->whiteouts_made && i < tree->opaque_count; i++) {
        struct sweep sweep = {tree, 0};
        struct stat st;
        int dir = open_beneath(tree->root, tree->opaque_paths[i], O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
        if (dir < 0)
            continue; /* replaced by something else since */
        int result = fstat(dir, &st);
        if (result == 0 && !set_has(&tree->clean, hash_bytes(st.st_ino, NULL, 0))) {
            result = for_entries(dir, ".", sweep_entry, &sweep, err);
            if (result == 0 && set_add(&tree->clean, hash_bytes(st.st_ino, NULL, 0)) < 0)
                result = fail_errno(err, "malloc");
        }
        close(dir);
        if (result < 0)
            return -1;
    }
    return 0;
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
