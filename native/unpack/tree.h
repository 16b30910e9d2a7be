/* What the files of the tree share: tree.c (entries), places.c (directories found and made), whiteouts.c, removal.c,
 * xattrs.c. Functions return 0, or -1 with `err` filled, unless said otherwise. */
#ifndef MASU_UNPACK_TREE_H
#define MASU_UNPACK_TREE_H

#include "unpack.h"

#include <sys/stat.h>

enum { COPY = 1 << 16 };

struct moment { char *path; struct timespec mtime; };

/* A directory that entries go into. `path` is free of symbolic links. */
struct place {
    int fd;
    ino_t inode;
    bool set_group;             /* mode has S_ISGID: new files take over its group */
    bool hidden;                /* nothing of the layers below shows here */
    size_t length;
    char path[MAX_PATH + 1];
};

struct tree {
    int root, lower;
    enum whiteouts whiteouts;
    bool skip_devices;
    struct limits limits;
    struct counts counts;
    struct place place;         /* of the entry before, nearly always that of the next one */
    char asked[MAX_PATH + 1];   /* how that entry spelt it */
    size_t asked_length;
    struct place target_place;
    struct moment *moments;
    size_t moment_count, moment_capacity;
    uint64_t moment_bytes;
    struct set opaque;          /* paths, OVERLAY */
    char **opaque_paths;
    size_t opaque_count, opaque_capacity;
    uint64_t whiteouts_made;
    struct set brought;         /* (directory inode, name), REMOVE */
    struct set clean;           /* directory inodes, REMOVE */
    char *copy_buffer;
};

/* ---- places.c ---- */

/* openat2(2) without links and beneath `dir`; -1 with errno. */
int open_beneath(int dir, const char *path, uint64_t flags, uint64_t mode);
void close_place(struct place *place);
/* `path` is free of links. -1: errno tells, unless err is filled. */
int open_place(struct tree *tree, struct place *place, const char *path, size_t length, struct error *err);
/* A directory by any path: what is missing is made, links are followed inside the tree. */
int find_place(struct tree *tree, struct place *place, const char *path, size_t length, struct error *err);
/* The directory of the entry `path` becomes tree->place; `*name` is the last component. */
int enter_parent(struct tree *tree, const char *path, size_t length, const char **name, struct error *err);
/* The path of `name` in a place. */
int place_of_entry(const struct place *in, const char *name, char *path, size_t *length, struct error *err);
int remember_time(struct tree *tree, const char *path, size_t length, struct timespec mtime, struct error *err);

/* ---- whiteouts.c ---- */

bool is_whiteout(const struct stat *st);
/* Marks `name` in `dir`, whose path is given. Lets go of tree->place. */
int make_opaque(struct tree *tree, int dir, const char *name, const char *path, size_t length, struct error *err);
/* Whether `path` or a directory above it is opaque. */
bool hides_lower(const struct tree *tree, const char *path, size_t length);
int apply_whiteout(struct tree *tree, const char *name, struct error *err);
int apply_opaque(struct tree *tree, struct error *err);
int sweep_opaque(struct tree *tree, struct error *err);

/* ---- removal.c ---- */

/* Calls `each` for the entries of a directory until it returns nonzero. */
typedef int (*entry_fn)(void *context, int dir, const char *name, struct error *err);
int for_entries(int dir, const char *name, entry_fn each, void *context, struct error *err);
/* Whatever `name` is, and all below it. */
int remove_all(int dir, const char *name, struct error *err);
/* Makes room for something new at `name`; where nothing is, nothing happens. */
int make_room(struct tree *tree, int dir, const char *name, struct error *err);

/* ---- xattrs.c ---- */

/* Those of the entry, on `name` in the directory, or on `fd` when that is not -1. */
int set_xattrs(struct tree *tree, const struct entry *entry, int dir, const char *name, int fd, struct error *err);
/* Those of a file below onto a new one. `from` is readable, `to` is `name` in `dir`. */
int copy_xattrs(struct tree *tree, int from, int dir, const char *name, struct error *err);

#endif
