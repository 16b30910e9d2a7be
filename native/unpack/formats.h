/* What the files of the tar reader share: tar.c (stream and headers), records.c (numbers, PAX), sparse.c. */
#ifndef MASU_UNPACK_FORMATS_H
#define MASU_UNPACK_FORMATS_H

#include "unpack.h"

enum { BLOCK = 512 };

/* The header block of POSIX.1-1988, and what GNU puts behind it. */
struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6], version[2];
    char user[32], group[32], major[8], minor[8];
    union {
        char prefix[155];
        struct {
            char atime[12], ctime[12], offset[12], longnames[4], unused, sparse[4][24], extended, real_size[12];
        } gnu;
    };
    char padding[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a tar header is one block");

/* What the PAX records of one entry say. */
struct pax {
    const char *path, *link, *sparse_name;
    size_t path_length, link_length, sparse_name_length;
    bool has_size, has_mtime, has_uid, has_gid, has_real_size;
    int64_t size, uid, gid, real_size;
    struct timespec mtime;
    const char *sparse_map;
    size_t sparse_map_length;
    int sparse_major, sparse_minor;
    bool sparse_pairs; /* 0.0: fragments already in tar->fragments */
    int64_t pending_offset;
    size_t fragment_count;
    bool sparse;
};

/* ---- tar.c ---- */

/* Exactly `size` bytes of the stream; its end is an error. */
int take(struct tar *tar, void *into, size_t size, struct error *err);
int skip(struct tar *tar, int64_t size, struct error *err);
int64_t padding_of(int64_t size);

/* ---- records.c ---- */

bool parse_number(const char *field, size_t width, int64_t *value);
bool parse_decimal(const char *text, size_t length, int64_t *value);
/* tar->extended into `pax` and entry->xattrs. */
int read_records(struct tar *tar, struct pax *pax, struct entry *entry, struct error *err);

/* ---- sparse.c ---- */

int add_fragment(struct tar *tar, size_t *count, int64_t offset, int64_t length, struct error *err);
int read_sparse_map(struct tar *tar, struct pax *pax, struct error *err);
int read_sparse_data(struct tar *tar, struct pax *pax, struct error *err);
int read_sparse_gnu(struct tar *tar, const struct header *header, size_t *count, int64_t *real_size,
                    struct error *err);
int check_fragments(const struct entry *entry, struct error *err);

#endif
