/* Removing trees that somebody else filled. */
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int for_entries(int dir, const char *name, entry_fn each, void *context, struct error *err)
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

/* A file or an empty directory is gone: 1. A directory that has something in it stays: 0. */
static int remove_at_once(int dir, const char *name, struct error *err)
{
    if (unlinkat(dir, name, 0) == 0)
        return 1;
    if (errno != EISDIR && errno != EPERM)
        return fail_errno(err, "unlink");
    if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
        return 1;
    return errno == ENOTEMPTY || errno == EEXIST ? 0 : fail_errno(err, "rmdir");
}

static int remove_or_move(void *context, int dir, const char *name, struct error *err)
{
    struct removal *removal = context;
    char slot[32];
    int removed = remove_at_once(dir, name, err);
    if (removed != 0)
        return removed < 0 ? -1 : 0;
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
    int removed = remove_at_once(dir, name, err);
    if (removed != 0)
        return removed < 0 ? -1 : 0;
    if (for_entries(dir, name, remove_or_move, removal, err) < 0)
        return -1;
    return unlinkat(dir, name, AT_REMOVEDIR) == 0 ? 0 : fail_errno(err, "rmdir");
}

/* Removes whatever `name` is. Directories, however deep, without a stack: each that is not empty is moved up to the
 * first one, where it comes up again. */
int remove_all(int dir, const char *name, struct error *err)
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

int make_room(struct tree *tree, int dir, const char *name, struct error *err)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : fail_errno(err, "stat");
    if (S_ISDIR(st.st_mode)) {
        /* It may be the directory that is kept open. */
        close_place(&tree->target_place);
        return remove_all(dir, name, err);
    }
    return unlinkat(dir, name, 0) == 0 ? 0 : fail_errno(err, "unlink");
}
