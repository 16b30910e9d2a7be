/* masu-unpack: applies one layer (a tar stream on fd 0) to one directory, and can do nothing else.
 *
 *   masu.snapshots.apply (Python)                        masu-unpack (this; static, one thread)
 *     blob ─ decompress ─┬─ sha256 -> diff_id             confine()   namespaces, pivot_root, capabilities, seccomp
 *                        └─ pipe ───────── fd 0 ────────> tar_next()  header blocks -> struct entry
 *     report  <────────────────────────── fd 1 ────────── tree_*()    entry -> files, whiteouts, metadata
 *
 * Everything in a layer is chosen by somebody else. After confine() the root directory of this process is the layer's
 * directory; it has no network, no other file system, no right but those needed to own files, and a list of some
 * forty system calls. What it reports is checked by the reader, too.
 */
#ifndef MASU_UNPACK_H
#define MASU_UNPACK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

enum {
    MAX_PATH = 4095,            /* PATH_MAX without the NUL */
    MAX_EXTENDED = 1 << 20,     /* one PAX header, GNU long name or sparse map; Go's archive/tar has the same bound */
    MAX_SPARSE = 1 << 16,       /* fragments of one sparse file */
    MAX_XATTR_VALUE = 65536,    /* XATTR_SIZE_MAX */
    MAX_XATTR_NAME = 255,       /* XATTR_NAME_MAX */
    MAX_XATTRS = 1024,          /* of one entry */
    MAX_DEPTH = 1000,           /* directories in directories that a whiteout may have to walk */
};

/* The kinds of masu.errors that a layer can cause. */
enum kind { INVALID = 1, EXHAUSTED, KERNEL };

struct error {
    enum kind kind;
    int number;                 /* errno, or 0 */
    char what[160];             /* our words; never holds bytes of the layer */
    char name[MAX_PATH + 1];    /* of the entry, as it came */
    size_t name_length;
};

/* Both return -1, so that `return fail(...)` reads well. */
int fail(struct error *err, enum kind kind, const char *what);
int fail_errno(struct error *err, const char *what);

/* ---- tar.c: the stream of headers and data ---- */

typedef ssize_t (*tar_read_fn)(void *context, void *buffer, size_t size);

struct fragment { int64_t offset, length; };

struct xattr { const char *name, *value; size_t name_length, value_length; };

struct entry {
    char type;                  /* '0' regular, '1' hard link, '2' symbolic link, '3' char, '4' block, '5' dir, '6' fifo */
    char path[MAX_PATH + 1];    /* as it came */
    size_t path_length;
    char link[MAX_PATH + 1];
    size_t link_length;
    uint32_t mode, uid, gid;
    uint32_t major, minor;
    struct timespec mtime;
    int64_t size;               /* of the file that is to be */
    int64_t data;               /* bytes in the stream; less than size when sparse */
    struct fragment *fragments; /* NULL unless sparse */
    size_t fragment_count;
    struct xattr xattrs[MAX_XATTRS];
    size_t xattr_count;
};

struct tar {
    tar_read_fn read;
    void *context;
    unsigned char *buffer;      /* bytes [start, end) are read and not yet used */
    size_t start, end, capacity;
    int64_t remaining;          /* data of this entry not yet taken */
    int64_t padding;
    bool at_end;
    uint64_t index;             /* of the entry, from 1; counts every header block that begins one */
    char *extended;             /* the PAX records of this entry; xattrs point into it */
    size_t extended_length;
    struct fragment *fragments;
    size_t fragment_capacity;
};

int tar_open(struct tar *tar, tar_read_fn read, void *context, size_t capacity, struct error *err);
/* 1: an entry; 0: the end; -1: error. Skips what is left of the entry before. */
int tar_next(struct tar *tar, struct entry *entry, struct error *err);
/* Up to `most` bytes of data: a pointer into the buffer, good until the next call; 0 at the end of the data. */
ssize_t tar_data(struct tar *tar, const void **data, size_t most, struct error *err);
/* Reads the stream to its end. */
int tar_drain(struct tar *tar, struct error *err);
void tar_close(struct tar *tar);

/* ---- tree.c: entries to files ---- */

enum whiteouts {
    OVERLAY,                    /* char 0:0, trusted.overlay.opaque */
    OVERLAY_USER,               /* char 0:0, user.overlay.opaque: inside a user namespace */
    REMOVE,                     /* the tree holds a copy of the layers below: what is whited out is deleted */
};

struct limits { uint64_t entries, bytes; };

struct counts { uint64_t entries, bytes, skipped_xattrs, skipped_devices; };

struct tree;

/* `root` is the directory to fill, `lower` what is below it (-1: nothing), to be looked at only. */
struct tree *tree_open(int root, int lower, enum whiteouts whiteouts, bool skip_devices, struct limits limits,
                       struct error *err);
int tree_apply(struct tree *tree, struct tar *tar, struct entry *entry, struct error *err);
/* Directory times, which every later entry would have spoilt. */
int tree_finish(struct tree *tree, struct error *err);
struct counts tree_counts(const struct tree *tree);
void tree_close(struct tree *tree);

/* Removes `.`, `..` and double slashes as if the path began at the root. The result has no leading slash. */
size_t clean_path(char *path, size_t length);

/* ---- set.c: sets of 64-bit hashes, keyed so that a layer cannot aim at collisions ---- */

struct set { uint64_t *slots; size_t capacity, count; };

int set_add(struct set *set, uint64_t hash);
bool set_has(const struct set *set, uint64_t hash);
void set_free(struct set *set);
void hash_seed(const uint64_t seed[2]);
uint64_t hash_bytes(uint64_t number, const void *bytes, size_t length);

/* ---- confine.c ---- */

struct confinement { bool keep_sys_admin, in_user_namespace; };

int confine(int *root, int lower, struct confinement wanted, struct error *err);

#endif
