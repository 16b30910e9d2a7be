/* tmpcopyup: what a directory held is copied into the tmpfs that will cover it. Owners, modes, times, symlinks,
 * devices and hard files; extended attributes are left behind, as runc leaves them. */
#include "launch.h"

#define DEPTH_LIMIT 128
#define ENTRIES_LIMIT 1000000

struct dirent64 { /* getdents64(2) */
    uint64_t ino;
    int64_t off;
    uint16_t length;
    uint8_t type;
    char name[];
};

struct copy {
    unsigned entries;
    struct masu_error *err;
};

static int copy_bytes(int from, int to)
{
    for (;;) {
        long count = sys(__NR_sendfile, to, from, NULL, 1u << 20);
        if (count <= 0)
            return (int)count;
    }
}

static int copy_times(int dir, const char *name, const struct statx *about)
{
    struct __kernel_timespec times[2] = {{about->stx_atime.tv_sec, about->stx_atime.tv_nsec},
                                         {about->stx_mtime.tv_sec, about->stx_mtime.tv_nsec}};
    return (int)sys(__NR_utimensat, dir, name, times, *name == '\0' ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW);
}

static int copy_file(int from, int to, const char *name, const struct statx *about)
{
    owned_fd in = sys_open(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
    if (in < 0)
        return in;
    owned_fd out = sys_open(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    int result = out < 0 ? out : copy_bytes(in, out);
    if (result == 0)
        result = (int)sys(__NR_fchown, out, about->stx_uid, about->stx_gid);
    return result < 0 ? result : (int)sys(__NR_fchmod, out, about->stx_mode & 07777);
}

static int copy_link(int from, int to, const char *name, const struct statx *about)
{
    char target[PATH_LIMIT];
    long length = sys(__NR_readlinkat, from, name, target, sizeof target - 1);
    if (length < 0)
        return (int)length;
    target[length] = '\0';
    int result = (int)sys(__NR_symlinkat, target, to, name);
    return result < 0 ? result
                      : (int)sys(__NR_fchownat, to, name, about->stx_uid, about->stx_gid, AT_SYMLINK_NOFOLLOW);
}

static int copy_node(int to, const char *name, const struct statx *about)
{
    uint64_t major = about->stx_rdev_major, minor = about->stx_rdev_minor;
    uint64_t rdev = (minor & 0xff) | (major & 0xfff) << 8 | (minor & ~0xffull) << 12;
    int result = (int)sys(__NR_mknodat, to, name, about->stx_mode, rdev);
    if (result == 0)
        result = (int)sys(__NR_fchownat, to, name, about->stx_uid, about->stx_gid, AT_SYMLINK_NOFOLLOW);
    return result;
}

static int copy_directory(struct copy *copy, int from, int to, unsigned depth);

static int copy_entry(struct copy *copy, int from, int to, const char *name, unsigned depth)
{
    struct statx about;
    int result = sys_statx(from, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &about);
    if (result < 0)
        return fail(copy->err, result, "copying up: %s", name);
    if (++copy->entries > ENTRIES_LIMIT || depth > DEPTH_LIMIT)
        return fail(copy->err, E2BIG, "copying up: more than %d entries, or deeper than %d", ENTRIES_LIMIT,
                    DEPTH_LIMIT);
    switch (about.stx_mode & KIND_MASK) {
    case KIND_DIRECTORY: {
        owned_fd in = sys_open(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
        result = in < 0 ? in : (int)sys(__NR_mkdirat, to, name, 0700);
        owned_fd out = result < 0 ? result : sys_open(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
        if (out < 0)
            return fail(copy->err, out, "copying up: %s", name);
        if (copy_directory(copy, in, out, depth + 1) < 0)
            return -1;
        result = (int)sys(__NR_fchown, out, about.stx_uid, about.stx_gid);
        if (result == 0)
            result = (int)sys(__NR_fchmod, out, about.stx_mode & 07777);
        break;
    }
    case KIND_FILE:
        result = copy_file(from, to, name, &about);
        break;
    case KIND_LINK:
        result = copy_link(from, to, name, &about);
        break;
    default:
        result = copy_node(to, name, &about);
    }
    if (result == 0)
        result = copy_times(to, name, &about);
    return result < 0 ? fail(copy->err, result, "copying up: %s", name) : 0;
}

static int copy_directory(struct copy *copy, int from, int to, unsigned depth)
{
    _Alignas(struct dirent64) char buffer[4096];
    long length;
    while ((length = sys(__NR_getdents64, from, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < length;) {
            const struct dirent64 *entry = (const void *)(buffer + at);
            at += entry->length;
            if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
                continue;
            if (copy_entry(copy, from, to, entry->name, depth) < 0)
                return -1;
        }
    }
    return length < 0 ? fail(copy->err, length, "copying up: reading a directory") : 0;
}

int copy_up(int from, int to, struct masu_error *err)
{
    struct copy copy = {.err = err};
    struct statx about;
    owned_fd in = sys_open(from, ".", O_RDONLY | O_DIRECTORY, 0), out = sys_open(to, ".", O_RDONLY | O_DIRECTORY, 0);
    if (in < 0 || out < 0)
        return fail(err, in < 0 ? in : out, "copying up");
    if (copy_directory(&copy, in, out, 0) < 0)
        return -1;
    if (check(err, sys_fstat(in, &about), "copying up") < 0)
        return -1;
    return check(err, sys(__NR_fchown, out, about.stx_uid, about.stx_gid), "copying up: owner");
}
