/* What the tar reader takes, what it refuses. */
#include "stream.h"

static struct entry entry;
static struct error err;
static struct tar tar;
static struct stream s;

static void open_stream(void)
{
    err = (struct error){0};
    assert(tar_open(&tar, stream_read, &s, 4096, &err) == 0);
}

static void done(void)
{
    tar_close(&tar);
    stream_free(&s);
}

static void expect_refused(const char *what)
{
    int more;
    const void *data;
    open_stream();
    while ((more = tar_next(&tar, &entry, &err)) > 0)
        while (tar_data(&tar, &data, 100, &err) > 0)
            ;
    if (more != -1 || err.kind == 0 || !strstr(err.what, what)) {
        fprintf(stderr, "wanted a refusal with \"%s\", got %d \"%s\"\n", what, more, err.what);
        abort();
    }
    done();
}

static void expect_entry(char type, const char *path, int64_t size)
{
    int more = tar_next(&tar, &entry, &err);
    if (more != 1 || entry.type != type || strcmp(entry.path, path) != 0 || entry.size != size) {
        fprintf(stderr, "wanted %c %s %lld, got %d %c %s %lld (%s)\n", type, path, (long long)size, more, entry.type,
                entry.path, (long long)entry.size, err.what);
        abort();
    }
}

static void expect_end(void)
{
    assert(tar_next(&tar, &entry, &err) == 0);
    assert(tar_next(&tar, &entry, &err) == 0);
    assert(tar_drain(&tar, &err) == 0);
    done();
}

static void expect_data(const char *text)
{
    char seen[65536];
    size_t length = 0;
    const void *data;
    ssize_t n;
    while ((n = tar_data(&tar, &data, sizeof seen - length, &err)) > 0) {
        memcpy(seen + length, data, (size_t)n);
        length += (size_t)n;
    }
    assert(n == 0);
    assert(length == strlen(text) && memcmp(seen, text, length) == 0);
}

static void test_plain(void)
{
    for (size_t piece = 0; piece < 700; piece += 233) {
        stream_file(&s, "a/b", "hello");
        stream_file(&s, "skipped", "never read by anybody");
        stream_header(&s, '5', "dir/", 0, NULL);
        stream_header(&s, 0, "old/", 0, NULL); /* V7 */
        stream_file(&s, "empty", "");
        stream_end(&s);
        stream_add(&s, "what follows is nobody's", 24);
        s.piece = piece;
        open_stream();
        expect_entry('0', "a/b", 5);
        expect_data("hello");
        assert(entry.mode == 0644 && entry.mtime.tv_sec == 01750);
        expect_entry('0', "skipped", 21);
        expect_entry('5', "dir/", 0);
        expect_entry('5', "old/", 0);
        expect_entry('0', "empty", 0);
        assert(tar.index == 5);
        expect_end();
    }
    /* no end marker, and one zero block only: both are ends */
    stream_file(&s, "x", "y");
    open_stream();
    expect_entry('0', "x", 1);
    expect_end();
    stream_file(&s, "x", "y");
    stream_end(&s);
    s.length -= 512;
    open_stream();
    expect_entry('0', "x", 1);
    expect_end();
    open_stream(); /* nothing at all */
    expect_end();
}

static void with_prefix(char *block)
{
    memcpy(block + 345, "some/prefix", 11);
}

static void test_prefix(void)
{
    stream_header(&s, '0', "name", 0, with_prefix);
    stream_end(&s);
    open_stream();
    expect_entry('0', "some/prefix/name", 0);
    expect_end();
}

static void base256(char *field, size_t width, int64_t value)
{
    for (size_t i = 0; i < width; i++)
        field[width - 1 - i] = (char)(i < 8 ? value >> 8 * i : value < 0 ? -1 : 0);
    field[0] = (char)(field[0] | 0x80);
}

static void huge(char *block)
{
    memset(block + 124, 0, 12);
    base256(block + 124, 12, 1LL << 40);
    base256(block + 108, 8, 3000000000LL);
    base256(block + 136, 12, -5);
}

static void no_owner(char *block)
{
    base256(block + 108, 8, 0xffffffffLL);
}

static void wrapped_owner(char *block)
{
    base256(block + 116, 8, 1LL << 32);
}

static void negative_size(char *block)
{
    base256(block + 124, 12, -1);
}

static void overflow_size(char *block)
{
    memset(block + 124, 0xff, 12);
    block[124] = (char)0x80;
}

static void bad_octal(char *block)
{
    memcpy(block + 124, "0000000008 ", 11);
}

static void test_numbers(void)
{
    stream_header(&s, '0', "huge", 0, huge);
    open_stream();
    expect_entry('0', "huge", 1LL << 40);
    assert(entry.uid == 3000000000u && entry.mtime.tv_sec == -5);
    done();
    stream_header(&s, '0', "x", 0, no_owner);
    expect_refused("owner");
    stream_header(&s, '0', "x", 0, wrapped_owner);
    expect_refused("owner");
    stream_header(&s, '0', "x", 0, negative_size);
    expect_refused("below zero");
    stream_header(&s, '0', "x", 0, overflow_size);
    expect_refused("malformed");
    stream_header(&s, '0', "x", 0, bad_octal);
    expect_refused("malformed");
}

static void test_pax(void)
{
    char records[8192];
    size_t length = 0;
    stream_record(records, &length, "path", "a/very/long/name", 16);
    stream_record(records, &length, "size", "3", 1);
    stream_record(records, &length, "mtime", "-1.25", 5);
    stream_record(records, &length, "uid", "123456789", 9);
    stream_record(records, &length, "gid", "", 0);
    stream_record(records, &length, "SCHILY.xattr.user.one", "a\0b\n=c", 6);
    stream_record(records, &length, "SCHILY.xattr.user.two", "", 0);
    stream_record(records, &length, "SCHILY.xattr.user.one", "last", 4);
    stream_record(records, &length, "comment", "ignored", 7);
    stream_extended(&s, 'x', records, length);
    stream_header(&s, '0', "short", 0, NULL);
    stream_add(&s, "abc", 3);
    stream_pad(&s);
    stream_file(&s, "next", "");
    stream_end(&s);
    open_stream();
    expect_entry('0', "a/very/long/name", 3);
    expect_data("abc");
    assert(entry.mtime.tv_sec == -2 && entry.mtime.tv_nsec == 750000000);
    assert(entry.uid == 123456789 && entry.gid == 0);
    assert(entry.xattr_count == 2);
    assert(entry.xattrs[0].name_length == 8 && memcmp(entry.xattrs[0].name, "user.one", 8) == 0);
    assert(entry.xattrs[0].value_length == 4 && memcmp(entry.xattrs[0].value, "last", 4) == 0);
    assert(entry.xattrs[1].value_length == 0);
    expect_entry('0', "next", 0);
    assert(entry.xattr_count == 0 && entry.uid == 0);
    expect_end();

    length = 0; /* global records are not ours to follow */
    stream_record(records, &length, "path", "global", 6);
    stream_extended(&s, 'g', records, length);
    stream_file(&s, "own", "");
    stream_end(&s);
    open_stream();
    expect_entry('0', "own", 0);
    expect_end();
}

static void refuse_records(const char *records, size_t length, const char *what)
{
    stream_extended(&s, 'x', records, length);
    stream_file(&s, "x", "");
    stream_end(&s);
    expect_refused(what);
}

static void test_bad_pax(void)
{
    refuse_records("no length", 9, "malformed");
    refuse_records("5 a=b\n", 6, "malformed");
    refuse_records("7 a=b\n", 6, "malformed");
    refuse_records("999999999999999999999 a=b\n", 26, "malformed");
    refuse_records("6 a=b\n0 c=d\n", 12, "malformed");
    refuse_records("5 =b\n", 5, "malformed");
    refuse_records("6 abc\n", 6, "malformed");
    refuse_records("11 path=a\0b\n", 12, "malformed");
    refuse_records("12 path=a\0b\n", 12, "NUL");
    refuse_records("12 uid=1234x\n", 13, "malformed");
    refuse_records("11 uid=12x\n", 11, "not a number");
    refuse_records("12 mtime=1x\n", 12, "not a time");
    refuse_records("17 uid=4294967295\n", 18, "malformed");
    refuse_records("18 uid=4294967295\n", 18, "owner");
    char big[5200];
    size_t length = 0;
    char path[5000];
    memset(path, 'a', sizeof path);
    stream_record(big, &length, "path", path, sizeof path);
    refuse_records(big, length, "4095");
    stream_extended(&s, 'x', "6 a=b\n", 6);
    stream_extended(&s, 'x', "6 a=b\n", 6);
    expect_refused("two extended");
    stream_header(&s, 'x', "x", (1 << 20) + 1, NULL);
    expect_refused("1 MiB");
    stream_header(&s, 'g', "x", (1 << 20) + 1, NULL);
    expect_refused("1 MiB");
    stream_extended(&s, 'x', "6 a=b\n", 6);
    stream_end(&s);
    expect_refused("middle");
    /* an xattr's name and number */
    length = 0;
    char name[400] = "SCHILY.xattr.user.";
    memset(name + 18, 'n', 300);
    stream_record(big, &length, name, "v", 1);
    refuse_records(big, length, "xattr");
    struct stream many = {0};
    for (int i = 0; i < 1025; i++) {
        length = 0;
        snprintf(name, sizeof name, "SCHILY.xattr.user.%d", i);
        stream_record(big, &length, name, "v", 1);
        stream_add(&many, big, length);
    }
    refuse_records((char *)many.bytes, many.length, "1024");
    stream_free(&many);
}

static void test_gnu_long_names(void)
{
    char name[300];
    memset(name, 'n', 299);
    name[299] = 0;
    stream_extended(&s, 'L', name, 300);
    stream_extended(&s, 'K', "target\0rest", 11);
    stream_header(&s, '2', "cut", 0, NULL);
    stream_end(&s);
    open_stream();
    expect_entry('2', name, 0);
    assert(strcmp(entry.link, "target") == 0);
    expect_end();
    stream_extended(&s, 'L', name, 300);
    stream_extended(&s, 'L', name, 300);
    stream_file(&s, "x", "");
    expect_refused("two long names");
    char *large = calloc(1, 5000);
    memset(large, 'a', 4999);
    stream_extended(&s, 'L', large, 5000);
    stream_file(&s, "x", "");
    expect_refused("4095");
    free(large);
}

static void sparse_slots(char *block)
{
    memcpy(block + 257, "ustar  ", 8);
    snprintf(block + 386, 12, "%011o", 512);
    snprintf(block + 398, 12, "%011o", 3);
    snprintf(block + 410, 12, "%011o", 4096);
    snprintf(block + 422, 12, "%011o", 0);
    snprintf(block + 483, 12, "%011o", 4096);
}

static void sparse_more(char *block)
{
    sparse_slots(block);
    memset(block + 410, 0, 24);
    block[482] = 1;
}

static void sparse_wrong(char *block)
{
    sparse_slots(block);
    snprintf(block + 483, 12, "%011o", 100);
}

static void test_sparse(void)
{
    stream_header(&s, 'S', "old", 3, sparse_slots);
    stream_add(&s, "abc", 3);
    stream_pad(&s);
    stream_header(&s, 'S', "longer", 5, sparse_more);
    char block[512] = {0};
    snprintf(block, 12, "%011o", 1024);
    snprintf(block + 12, 12, "%011o", 2);
    stream_add(&s, block, 512);
    stream_add(&s, "abcde", 5);
    stream_pad(&s);
    stream_file(&s, "next", "n");
    stream_end(&s);
    open_stream();
    expect_entry('0', "old", 4096);
    assert(entry.fragment_count == 2 && entry.fragments[0].offset == 512 && entry.data == 3);
    expect_data("abc");
    expect_entry('0', "longer", 4096);
    assert(entry.fragment_count == 2 && entry.fragments[1].offset == 1024);
    expect_data("abcde");
    expect_entry('0', "next", 1);
    expect_data("n");
    expect_end();

    char records[512];
    size_t length = 0; /* 0.1 */
    stream_record(records, &length, "GNU.sparse.size", "100", 3);
    stream_record(records, &length, "GNU.sparse.numblocks", "2", 1);
    stream_record(records, &length, "GNU.sparse.map", "0,1,50,2", 8);
    stream_record(records, &length, "GNU.sparse.name", "real", 4);
    stream_extended(&s, 'x', records, length);
    stream_file(&s, "GNUSparseFile.0/real", "abc");
    length = 0; /* 0.0 */
    stream_record(records, &length, "GNU.sparse.size", "100", 3);
    stream_record(records, &length, "GNU.sparse.numblocks", "1", 1);
    stream_record(records, &length, "GNU.sparse.offset", "97", 2);
    stream_record(records, &length, "GNU.sparse.numbytes", "3", 1);
    stream_extended(&s, 'x', records, length);
    stream_file(&s, "pairs", "abc");
    length = 0; /* 1.0: the map is in the data */
    stream_record(records, &length, "GNU.sparse.major", "1", 1);
    stream_record(records, &length, "GNU.sparse.minor", "0", 1);
    stream_record(records, &length, "GNU.sparse.name", "newest", 6);
    stream_record(records, &length, "GNU.sparse.realsize", "1000", 4);
    stream_extended(&s, 'x', records, length);
    stream_header(&s, '0', "GNUSparseFile.0/newest", 512 + 3, NULL);
    memset(block, 0, sizeof block);
    strcpy(block, "2\n10\n1\n20\n2\n");
    stream_add(&s, block, 512);
    stream_add(&s, "abc", 3);
    stream_pad(&s);
    stream_file(&s, "next", "n");
    stream_end(&s);
    open_stream();
    expect_entry('0', "real", 100);
    assert(entry.fragment_count == 2 && entry.fragments[1].offset == 50 && entry.fragments[1].length == 2);
    expect_entry('0', "pairs", 100);
    assert(entry.fragment_count == 1 && entry.fragments[0].offset == 97);
    expect_data("abc");
    expect_entry('0', "newest", 1000);
    assert(entry.fragment_count == 2 && entry.fragments[0].offset == 10);
    expect_data("abc");
    expect_entry('0', "next", 1);
    expect_end();

    stream_header(&s, 'S', "beyond", 3, sparse_wrong);
    expect_refused("out of order or beyond");
    stream_header(&s, 'S', "sum", 7, sparse_slots);
    expect_refused("does not match");
    static const char *const maps[] = {"0,1,0,2", "5,1,4,2", "0,3,200,0", "0", "0,1,x", "1,,2", ",", "98,3"};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        length = 0;
        stream_record(records, &length, "GNU.sparse.size", "100", 3);
        stream_record(records, &length, "GNU.sparse.map", maps[i], strlen(maps[i]));
        stream_extended(&s, 'x', records, length);
        stream_file(&s, "bad", "abc");
        expect_refused("sparse map");
    }
    length = 0;
    stream_record(records, &length, "GNU.sparse.major", "1", 1);
    stream_record(records, &length, "GNU.sparse.realsize", "9", 1);
    stream_extended(&s, 'x', records, length);
    stream_file(&s, "bad", "999999999999999999\n0\n0\n");
    expect_refused("sparse map");
    length = 0;
    stream_record(records, &length, "GNU.sparse.major", "2", 1);
    stream_record(records, &length, "GNU.sparse.realsize", "9", 1);
    stream_extended(&s, 'x', records, length);
    stream_file(&s, "bad", "abc");
    expect_refused("unknown format");
    length = 0;
    stream_record(records, &length, "GNU.sparse.numbytes", "9", 1);
    stream_extended(&s, 'x', records, length);
    stream_file(&s, "bad", "abc");
    expect_refused("no offset");
}

static void device(char *block)
{
    memcpy(block + 329, "0000010", 8);
    memcpy(block + 337, "0000003", 8);
}

static void test_refused(void)
{
    stream_file(&s, "x", "y");
    s.bytes[0] ^= 1;
    expect_refused("checksum");
    stream_header(&s, 'V', "label", 0, NULL);
    expect_refused("unknown type");
    stream_file(&s, "x", "yyyy");
    s.length = 514;
    expect_refused("middle");
    stream_file(&s, "x", "yyyy");
    s.length = 100;
    expect_refused("middle");
    stream_end(&s);
    s.length = 512;
    stream_file(&s, "x", "");
    expect_refused("zero block");
    stream_header(&s, '1', "link", 100, NULL); /* the size of a link is not followed by data */
    stream_header(&s, '3', "null", 0, device);
    stream_end(&s);
    open_stream();
    expect_entry('1', "link", 0);
    expect_entry('3', "null", 0);
    assert(entry.major == 8 && entry.minor == 3);
    expect_end();
}

static void clean(const char *from, const char *to)
{
    char path[64];
    strcpy(path, from);
    size_t length = clean_path(path, strlen(path));
    assert(length == strlen(to) && strcmp(path, to) == 0);
}

static void test_clean_path(void)
{
    clean("", "");
    clean("/", "");
    clean(".", "");
    clean("./", "");
    clean("..", "");
    clean("../..", "");
    clean("../../etc/passwd", "etc/passwd");
    clean("/etc//passwd/", "etc/passwd");
    clean("a/./b/../c", "a/c");
    clean("a/../../b", "b");
    clean("a/..", "");
    clean("...", "...");
    clean("a/..b/c..", "a/..b/c..");
}

static void test_set(void)
{
    struct set set = {0};
    hash_seed((uint64_t[2]){1, 2});
    assert(!set_has(&set, 1));
    for (uint64_t i = 0; i < 100000; i++)
        assert(set_add(&set, hash_bytes(i, "name", 4)) == 0);
    assert(set.count == 100000);
    for (uint64_t i = 0; i < 100000; i++)
        assert(set_has(&set, hash_bytes(i, "name", 4)));
    for (uint64_t i = 0; i < 1000; i++)
        assert(!set_has(&set, hash_bytes(i, "nam", 3)) && !set_has(&set, hash_bytes(i, "nane", 4)));
    set_free(&set);
}

int main(void)
{
    test_plain();
    test_prefix();
    test_numbers();
    test_pax();
    test_bad_pax();
    test_gnu_long_names();
    test_sparse();
    test_refused();
    test_clean_path();
    test_set();
    puts("ok");
    return 0;
}
