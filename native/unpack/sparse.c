/* Sparse files: old GNU headers, and GNU's PAX versions 0.0, 0.1 and 1.0. */
#include "formats.h"

#include <stdlib.h>
#include <string.h>

int add_fragment(struct tar *tar, size_t *count, int64_t offset, int64_t length, struct error *err)
{
    if (*count == MAX_SPARSE)
        return fail(err, EXHAUSTED, "a sparse file has too many fragments");
    if (*count == tar->fragment_capacity) {
        size_t capacity = tar->fragment_capacity ? tar->fragment_capacity * 2 : 64;
        struct fragment *grown = realloc(tar->fragments, capacity * sizeof *grown);
        if (!grown)
            return fail_errno(err, "realloc");
        tar->fragments = grown;
        tar->fragment_capacity = capacity;
    }
    tar->fragments[(*count)++] = (struct fragment){offset, length};
    return 0;
}

/* 0.1: "offset,length,offset,length…" in one record. */
int read_sparse_map(struct tar *tar, struct pax *pax, struct error *err)
{
    const char *at = pax->sparse_map, *end = at + pax->sparse_map_length;
    int64_t pair[2];
    int which = 0;
    pax->fragment_count = 0;
    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma ? comma : end;
        if (!parse_decimal(at, (size_t)(stop - at), &pair[which]))
            return fail(err, INVALID, "a sparse map is malformed");
        if (which && add_fragment(tar, &pax->fragment_count, pair[0], pair[1], err) < 0)
            return -1;
        which = !which;
        at = comma ? comma + 1 : end;
    }
    return which ? fail(err, INVALID, "a sparse map is malformed") : 0;
}

/* One decimal line of a 1.0 map, which stands in the data, in whole blocks. */
static int read_sparse_line(struct tar *tar, int64_t *used, int64_t *number, struct error *err)
{
    char line[21];
    size_t length = 0;
    for (;;) {
        char c;
        if (*used == tar->remaining || *used > MAX_EXTENDED)
            return fail(err, INVALID, "a sparse map is malformed");
        if (take(tar, &c, 1, err) < 0)
            return -1;
        ++*used;
        if (c == '\n')
            break;
        if (length == sizeof line - 1)
            return fail(err, INVALID, "a sparse map is malformed");
        line[length++] = c;
    }
    return parse_decimal(line, length, number) ? 0 : fail(err, INVALID, "a sparse map is malformed");
}

int read_sparse_data(struct tar *tar, struct pax *pax, struct error *err)
{
    int64_t used = 0, count;
    pax->fragment_count = 0;
    if (read_sparse_line(tar, &used, &count, err) < 0)
        return -1;
    for (int64_t i = 0; i < count; i++) {
        int64_t offset, length;
        if (read_sparse_line(tar, &used, &offset, err) < 0 || read_sparse_line(tar, &used, &length, err) < 0 ||
            add_fragment(tar, &pax->fragment_count, offset, length, err) < 0)
            return -1;
    }
    int64_t rest = padding_of(used);
    if (used + rest > tar->remaining)
        return fail(err, INVALID, "a sparse map is malformed");
    tar->remaining -= used + rest;
    return skip(tar, rest, err);
}

int read_sparse_gnu(struct tar *tar, const struct header *header, size_t *count, int64_t *real_size,
                           struct error *err)
{
    const char *at = header->gnu.sparse[0];
    size_t slots = 4;
    bool more = header->gnu.extended != 0;
    char block[BLOCK];
    if (!parse_number(header->gnu.real_size, 12, real_size))
        return fail(err, INVALID, "a header's number is malformed");
    for (;;) {
        for (size_t i = 0; i < slots && at[24 * i]; i++) {
            int64_t offset, length;
            if (!parse_number(at + 24 * i, 12, &offset) || !parse_number(at + 24 * i + 12, 12, &length))
                return fail(err, INVALID, "a header's number is malformed");
            if (add_fragment(tar, count, offset, length, err) < 0)
                return -1;
        }
        if (!more)
            return 0;
        if (take(tar, block, BLOCK, err) < 0)
            return -1;
        at = block;
        slots = 21;
        more = block[504] != 0;
    }
}

/* Ascending, not overlapping, inside the file, and as much as there is data. */
int check_fragments(const struct entry *entry, struct error *err)
{
    int64_t end = 0, sum = 0;
    for (size_t i = 0; i < entry->fragment_count; i++) {
        struct fragment f = entry->fragments[i];
        if (f.offset < end || f.length < 0 || f.offset > entry->size || f.length > entry->size - f.offset)
            return fail(err, INVALID, "a sparse map is out of order or beyond the file");
        end = f.offset + f.length;
        sum += f.length;
    }
    return sum == entry->data ? 0 : fail(err, INVALID, "a sparse map does not match its data");
}
