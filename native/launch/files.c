/* Small files of the kernel's. */
#include "launch.h"

int write_whole(int fd, const void *data, size_t size)
{
    long written = sys_write(fd, data, size);
    if (written < 0)
        return (int)written;
    return (size_t)written == size ? 0 : -EIO;
}

int write_file(int dir, const char *path, const void *data, size_t size)
{
    owned_fd fd = sys_open(dir, path, O_WRONLY | O_NOCTTY, 0);
    return fd < 0 ? fd : write_whole(fd, data, size);
}

long read_file(int dir, const char *path, char *out, size_t size)
{
    owned_fd fd = sys_open(dir, path, O_RDONLY | O_NOCTTY, 0);
    if (fd < 0)
        return fd;
    size_t used = 0;
    while (used + 1 < size) {
        long count = sys_read(fd, out + used, size - 1 - used);
        if (count < 0)
            return count;
        if (count == 0)
            break;
        used += (size_t)count;
    }
    out[used] = '\0';
    return (long)used;
}

int fail_path(struct masu_error *err, long number, const char *path)
{
    char prefix[PATH_LIMIT];
    size_t length = strlen(path);
    if (length < sizeof prefix && (number == -ENOENT || number == -EACCES || number == -ENOTDIR || number == -ELOOP)) {
        for (size_t end = 1; end < length; end++) {
            if (path[end] != '/')
                continue;
            memcpy(prefix, path, end);
            prefix[end] = '\0';
            owned_fd fd = sys_open(AT_FDCWD, prefix, O_PATH | O_DIRECTORY, 0);
            if (fd < 0)
                return fail(err, number, "%s%s", prefix, fd == -ENOTDIR ? " is not a directory" : "");
        }
    }
    return fail(err, number, "%s", path);
}

int close_all_but(const int *stay, unsigned count, unsigned first)
{
    for (;;) {
        unsigned next = ~0u;
        for (unsigned i = 0; i < count; i++)
            next = stay[i] >= (int)first && (unsigned)stay[i] < next ? (unsigned)stay[i] : next;
        unsigned last = next == ~0u ? next : next - 1;
        if (next > first) {
            int result = (int)sys(__NR_close_range, first, last, 0);
            if (result < 0)
                return result;
        }
        if (next == ~0u)
            return 0;
        first = next + 1;
    }
}
