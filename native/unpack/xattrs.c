/* Extended attributes: which a layer may set, and setting them. */
#include "tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

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
int set_xattrs(struct tree *tree, const struct entry *entry, int dir, const char *name, int fd,
                      struct error *err)
{
    if (entry->xattr_count == 0)
        return 0;
    if (fd < 0 && fchdir(dir) < 0)
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
int copy_xattrs(struct tree *tree, int from, int dir, const char *name, struct error *err)
{
    ssize_t length = flistxattr(from, tree->copy_buffer, COPY);
    if (length <= 0)
        return length == 0 || errno == ENOTSUP ? 0 : fail_errno(err, "listxattr");
    char *names = malloc((size_t)length), *value = malloc(MAX_XATTR_VALUE);
    int result = names && value && fchdir(dir) == 0 ? 0 : fail_errno(err, "malloc");
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
