/* libFuzzer: any sequence of entries over a few names, applied without confine(), so that the walks of tree.c stand
 * alone. Whatever the entries are, nothing outside the directory changes, and it ends.
 *
 * Each entry is three bytes: type and flags, path, link. Works in a directory of its own below $TMPDIR. */
#include "../unpack.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char top[256];
static struct entry entry;
static struct error err;

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static void clean_up(void)
{
    if (*top)
        nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int directory_in_top(const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", top, name);
    assert(mkdir(path, 0755) == 0);
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    assert(fd >= 0);
    return fd;
}

/* "../outside" and absolute names among ordinary ones. */
static void choose_path(char *path, size_t *length, unsigned char byte, bool link)
{
    static const char *const names[] = {"a", "b", "c", "..", ".wh.a", ".wh..wh..opq", "../outside", "d"};
    int parts = 1 + (byte >> 6);
    *length = 0;
    path[0] = 0;
    if (link && byte % 7 == 0)
        *length = (size_t)sprintf(path, "/");
    for (int i = 0; i < parts; i++)
        *length += (size_t)sprintf(path + *length, "%s%s", i ? "/" : "", names[(byte >> i) & 7]);
    if (link && byte == 255)
        *length = (size_t)snprintf(path, MAX_PATH, "%s/outside/file", top);
}

static ssize_t some_data(void *context, void *buffer, size_t size)
{
    (void)context;
    memset(buffer, 'x', size);
    return (ssize_t)size;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static const char types[] = {'0', '0', '1', '2', '2', '5', '5', '6'};
    struct stat before, after;
    char path[300];
    if (length < 1 || length > 300)
        return 0;
    if (!*top) {
        const char *temporary = getenv("TMPDIR");
        snprintf(top, sizeof top, "%s/masu-fuzz-XXXXXX", temporary ? temporary : "/tmp");
        assert(mkdtemp(top));
        atexit(clean_up);
    }
    hash_seed((uint64_t[2]){3, 4});
    int here = open(".", O_RDONLY | O_DIRECTORY); /* tree.c changes it; libFuzzer's corpus is relative */
    int root = directory_in_top("root"), outside = directory_in_top("outside"), below = directory_in_top("below");
    int file = openat(outside, "file", O_WRONLY | O_CREAT, 0600);
    assert(file >= 0 && write(file, "precious", 8) == 8 && close(file) == 0);
    snprintf(path, sizeof path, "%s/outside", top);
    assert(symlinkat(path, below, "a") == 0 && mkdirat(below, "b", 0755) == 0 && mkdirat(below, "b/c", 0755) == 0);
    assert(symlinkat("b", below, "d") == 0);
    assert(fstatat(outside, "file", &before, 0) == 0);
    enum whiteouts whiteouts = bytes[0] & 1 ? REMOVE : OVERLAY_USER;
    err = (struct error){0};
    struct tree *tree = tree_open(root, bytes[0] & 2 ? below : -1, whiteouts, true,
                                  (struct limits){.entries = 100, .bytes = 100000}, &err);
    assert(tree);
    struct tar tar;
    assert(tar_open(&tar, some_data, NULL, 512, &err) == 0);
    for (size_t i = 1; i + 2 < length && err.kind == 0; i += 3) {
        memset(&entry, 0, sizeof entry);
        entry.type = types[bytes[i] & 7];
        entry.mode = bytes[i] & 8 ? 0755 : 0700;
        entry.uid = geteuid();
        entry.gid = getegid();
        choose_path(entry.path, &entry.path_length, bytes[i + 1], false);
        choose_path(entry.link, &entry.link_length, bytes[i + 2], true);
        if (entry.type == '0') {
            entry.size = entry.data = bytes[i] >> 4;
            tar.remaining = entry.data;
        }
        if (tree_apply(tree, &tar, &entry, &err) < 0 && bytes[0] & 4) {
            assert(err.kind != 0);
            err = (struct error){0}; /* go on as no worker would: a half-done state must be harmless, too */
        }
    }
    if (err.kind == 0)
        tree_finish(tree, &err);
    tree_close(tree);
    tar_close(&tar);
    assert(fstatat(outside, "file", &after, 0) == 0);
    assert(after.st_ino == before.st_ino && after.st_mode == before.st_mode && after.st_size == 8);
    assert(after.st_mtim.tv_nsec == before.st_mtim.tv_nsec && after.st_ctim.tv_nsec == before.st_ctim.tv_nsec);
    assert(unlinkat(outside, "file", 0) == 0);
    snprintf(path, sizeof path, "%s/outside", top);
    assert(rmdir(path) == 0); /* and nothing was added */
    assert(fchdir(here) == 0);
    close(here), close(root), close(outside), close(below);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", top, i ? "below" : "root");
        nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
    return 0;
}
