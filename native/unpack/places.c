/* Directories: found by walks that nothing leads astray, made where a layer uses them and does not bring them. */
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_LINKS = 40 };

int open_beneath(int dir, const char *path, uint64_t flags, uint64_t mode)
{
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = mode,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    int fd;
    do
        fd = (int)syscall(SYS_openat2, dir, *path ? path : ".", &how, sizeof how);
    while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return fd;
}

void close_place(struct place *place)
{
    if (place->fd >= 0)
        close(place->fd);
    place->fd = -1;
}

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

int remember_time(struct tree *tree, const char *path, size_t length, struct timespec mtime, struct error *err)
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

int open_place(struct tree *tree, struct place *place, const char *path, size_t length, struct error *err)
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

int find_place(struct tree *tree, struct place *place, const char *path, size_t length, struct error *err)
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
int enter_parent(struct tree *tree, const char *path, size_t length, const char **name, struct error *err)
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

int place_of_entry(const struct place *in, const char *name, char *path, size_t *length, struct error *err)
{
    memcpy(path, in->path, in->length + 1);
    *length = in->length;
    return push(path, length, name, strlen(name)) ? 0 : fail(err, INVALID, "a path is longer than 4095 bytes");
}
