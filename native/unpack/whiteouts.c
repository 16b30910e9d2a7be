/* What a layer takes away: marks for overlayfs, or removal where there is a copy of the layers below. */
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

bool is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

static const char *opaque_name(const struct tree *tree)
{
    return tree->whiteouts == OVERLAY_USER ? "user.overlay.opaque" : "trusted.overlay.opaque";
}

int make_opaque(struct tree *tree, int dir, const char *name, const char *path, size_t length,
                       struct error *err)
{
    uint64_t hash = hash_bytes(0, path, length);
    if (tree->whiteouts == REMOVE || tree->lower < 0)
        return 0;
    /* By name in the directory: there is no /proc here, and setxattrat(2) is of Linux 6.13.
     * Even when it was opaque before: it may have been removed and made again since. */
    if (fchdir(dir) < 0 || lsetxattr(name, opaque_name(tree), "y", 1, 0) < 0)
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
bool hides_lower(const struct tree *tree, const char *path, size_t length)
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

int apply_whiteout(struct tree *tree, const char *name, struct error *err)
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

int apply_opaque(struct tree *tree, struct error *err)
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

int sweep_opaque(struct tree *tree, struct error *err)
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
