/* Entries to files, without root and without the walls of confine.c: what a sanitizer should see of tree.c. The
 * semantics are told by tests/kernel/test_unpack_layers.py. */
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

static char top[] = "/tmp/masu-unpack-test-XXXXXX";
static struct entry entry;
static struct error err;
static struct counts counts;

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static void at_exit(void)
{
    nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void own(char *block)
{
    snprintf(block + 108, 8, "%07o", geteuid() & 07777777);
    snprintf(block + 116, 8, "%07o", getegid() & 07777777);
}

static void add(struct stream *s, char type, const char *path, const char *data, const char *link)
{
    char header[512];
    size_t length = type == '0' ? strlen(data) : 0;
    stream_header(s, type, path, length, own);
    unsigned char *block = s->bytes + s->length - 512;
    if (link)
        memcpy(block + 157, link, strlen(link));
    checksum(block);
    memcpy(header, block, 512);
    if (length) {
        stream_add(s, data, length);
        stream_pad(s);
    }
}

static int open_in_top(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "%s/%s", top, name);
    assert(mkdir(path, 0755) == 0);
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    assert(fd >= 0);
    return fd;
}

/* Applies and frees the stream; the number of the entry that failed, or 0. */
static uint64_t apply(int root, int lower, enum whiteouts whiteouts, struct stream *s)
{
    struct tar tar;
    int more;
    err = (struct error){0};
    stream_end(s);
    struct limits limits = {.entries = 100000, .bytes = 1 << 20};
    struct tree *tree = tree_open(root, lower, whiteouts, true, limits, &err);
    assert(tree && tar_open(&tar, stream_read, s, 700, &err) == 0);
    while ((more = tar_next(&tar, &entry, &err)) > 0)
        if ((more = tree_apply(tree, &tar, &entry, &err)) < 0)
            break;
    if (more == 0)
        more = tree_finish(tree, &err);
    counts = tree_counts(tree);
    uint64_t index = tar.index;
    tree_close(tree);
    tar_close(&tar);
    stream_free(s);
    if (more == 0 && err.kind)
        abort();
    return more < 0 ? index : 0;
}

static void expect_applied(int root, int lower, enum whiteouts whiteouts, struct stream *s)
{
    uint64_t failed = apply(root, lower, whiteouts, s);
    if (failed) {
        fprintf(stderr, "entry %llu: %s (%s)\n", (unsigned long long)failed, err.what, strerror(err.number));
        abort();
    }
}

static bool there(int root, const char *path)
{
    return faccessat(root, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_kinds_and_replacements(void)
{
    struct stream s = {0};
    int root = open_in_top("kinds");
    static const char types[] = {'0', '5', '2', '6', '1'};
    add(&s, '0', "target", "text", NULL);
    for (size_t i = 0; i < sizeof types; i++)
        for (size_t j = 0; j < sizeof types; j++) {
            char path[16], inside[32];
            snprintf(path, sizeof path, "%c-%c", types[i], types[j]);
            snprintf(inside, sizeof inside, "%s/in/side", path);
            add(&s, types[i], path, "old", "target");
            if (types[i] == '5')
                add(&s, '0', inside, "x", NULL);
            add(&s, types[j], path, "new", "target");
        }
    expect_applied(root, -1, REMOVE, &s);
    assert(there(root, "5-5/in/side") && !there(root, "5-0/in") && there(root, "2-2") && there(root, "6-1"));
    close(root);
}

static void test_whiteouts(enum whiteouts whiteouts)
{
    struct stream s = {0};
    char name[32];
    snprintf(name, sizeof name, "below-%d", whiteouts);
    int below = open_in_top(name);
    add(&s, '0', "d/sub/one", "1", NULL);
    add(&s, '0', "d/two", "2", NULL);
    add(&s, '0', "e/three", "3", NULL);
    add(&s, '2', "l", "", "d/sub");
    expect_applied(below, -1, REMOVE, &s);
    snprintf(name, sizeof name, "layer-%d", whiteouts);
    int root = whiteouts == REMOVE ? below : open_in_top(name), lower = whiteouts == REMOVE ? -1 : below;
    add(&s, '0', "d/new", "n", NULL);
    add(&s, '0', "l/through", "t", NULL);
    add(&s, '1', "linked", "", "e/three");
    add(&s, '0', "d/.wh..wh..opq", "", NULL);
    add(&s, '0', "e/.wh.three", "", NULL);
    add(&s, '0', "d/sub/.wh.one", "", NULL);
    add(&s, '0', ".wh.nothing", "", NULL);
    add(&s, '0', ".wh..wh..opq", "", NULL);
    uint64_t failed = apply(root, lower, whiteouts, &s);
    if (failed && whiteouts != REMOVE && (err.number == EPERM || err.number == ENOTSUP)) {
        /* char 0:0 needs no privilege since Linux 5.8; user.* may be missing from this file system */
        fprintf(stderr, "whiteouts cannot be made here: %s\n", err.what);
    } else {
        assert(failed == 0);
        assert(there(root, "d/new") && there(root, "d/sub/through") && there(root, "linked"));
    }
    if (whiteouts == REMOVE)
        assert(!there(root, "d/two") && !there(root, "e") && !there(root, "l") && !there(root, "d/sub/one"));
    if (root != below)
        close(root);
    close(below);
}

static void expect_refused(const char *what, struct stream *s)
{
    static int number;
    char name[32];
    snprintf(name, sizeof name, "refused-%d", number++);
    int root = open_in_top(name);
    uint64_t failed = apply(root, -1, REMOVE, s);
    if (!failed || !strstr(err.what, what)) {
        fprintf(stderr, "wanted \"%s\", got entry %llu \"%s\"\n", what, (unsigned long long)failed, err.what);
        abort();
    }
    close(root);
}

static void test_refused(void)
{
    struct stream s = {0};
    add(&s, '2', "/", "", "/etc");
    expect_refused("root of the layer", &s);
    add(&s, '1', "h", "", "../../etc/passwd");
    expect_refused("does not exist", &s);
    add(&s, '2', "a", "", "b");
    add(&s, '2', "b", "", "/a");
    add(&s, '0', "a/x", "", NULL);
    expect_refused("too many symbolic links", &s);
    add(&s, '0', "f", "", NULL);
    add(&s, '0', "f/x", "", NULL);
    expect_refused("no directory", &s);
    add(&s, '0', "d/.wh...", "", NULL);
    expect_refused("whiteout of no name", &s);
    add(&s, '0', ".wh.d/x", "", NULL);
    expect_refused("named like a whiteout", &s);
    add(&s, '2', "s", "", "");
    expect_refused("symbolic link to nothing", &s);
    add(&s, '5', "d", "", NULL);
    add(&s, '1', "h", "", "d");
    expect_refused("to a directory", &s);
    for (int i = 0; i < 5; i++) {
        char *large = calloc(1, 300001);
        memset(large, 'x', 300000);
        add(&s, '0', "large", large, NULL);
        free(large);
    }
    expect_refused("too large", &s);
}

static void test_deep(void)
{
    struct stream s = {0};
    int root = open_in_top("deep");
    char path[4096] = "", records[8192];
    for (int i = 0; i < 900; i++)
        strcat(path, "dd/");
    strcat(path, "f");
    size_t length = 0;
    stream_record(records, &length, "path", path, strlen(path));
    stream_extended(&s, 'x', records, length);
    add(&s, '0', "short", "text", NULL);
    add(&s, '0', "dd", "a file now", NULL);
    expect_applied(root, -1, REMOVE, &s);
    struct stat st;
    assert(fstatat(root, "dd", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode));
    close(root);
}

static void test_many(void)
{
    struct stream s = {0};
    int root = open_in_top("many");
    char path[64];
    for (int i = 0; i < 3000; i++) {
        snprintf(path, sizeof path, "d%d/e%d/f%d", i % 50, i % 3, i);
        add(&s, '0', path, "x", NULL);
        if (i % 10 == 0) {
            snprintf(path, sizeof path, "d%d/.wh..wh..opq", i % 50);
            add(&s, '0', path, "", NULL);
        }
    }
    expect_applied(root, -1, REMOVE, &s);
    assert(counts.entries == 3300 && there(root, "d1/e1/f1") && there(root, "d0/e0/f0"));
    close(root);
}

int main(void)
{
    assert(mkdtemp(top));
    atexit(at_exit);
    umask(0);
    hash_seed((uint64_t[2]){5, 6});
    test_kinds_and_replacements();
    test_whiteouts(REMOVE);
    test_whiteouts(OVERLAY_USER);
    test_refused();
    test_deep();
    test_many();
    puts("ok");
    return 0;
}
