/* The tar formats a layer may come in: ustar, PAX (with GNU's sparse 0.0, 0.1, 1.0), GNU (base-256, long names, old
 * sparse), V7. Where they leave room, this follows Go's archive/tar, which made nearly every layer there is.
 * Strict: a header that contradicts itself is refused, never guessed at. */
#include "formats.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int fail(struct error *err, enum kind kind, const char *what)
{
    if (err->kind == 0) {
        err->kind = kind;
        snprintf(err->what, sizeof err->what, "%s", what);
    }
    return -1;
}

int fail_errno(struct error *err, const char *what)
{
    if (err->kind == 0) {
        err->number = errno;
        err->kind = errno == ENOSPC || errno == EDQUOT || errno == ENOMEM || errno == EFBIG ? EXHAUSTED : KERNEL;
        snprintf(err->what, sizeof err->what, "%s", what);
    }
    return -1;
}

int tar_open(struct tar *tar, tar_read_fn read, void *context, size_t capacity, struct error *err)
{
    *tar = (struct tar){.read = read, .context = context, .capacity = capacity};
    tar->buffer = malloc(capacity);
    return tar->buffer ? 0 : fail_errno(err, "malloc");
}

void tar_close(struct tar *tar)
{
    free(tar->buffer);
    free(tar->extended);
    free(tar->fragments);
    *tar = (struct tar){0};
}

/* Makes at least one byte available; 0 at the end of the stream. */
static ssize_t fill(struct tar *tar, struct error *err)
{
    if (tar->start < tar->end)
        return (ssize_t)(tar->end - tar->start);
    tar->start = tar->end = 0;
    ssize_t n = tar->read(tar->context, tar->buffer, tar->capacity);
    if (n < 0)
        return fail_errno(err, "read the layer");
    tar->end = (size_t)n;
    return n;
}

/* The same in an entry, where there must be one. */
static ssize_t fill_entry(struct tar *tar, struct error *err)
{
    ssize_t n = fill(tar, err);
    return n == 0 ? fail(err, INVALID, "the layer ends in the middle of an entry") : n;
}

int take(struct tar *tar, void *into, size_t size, struct error *err)
{
    unsigned char *out = into;
    while (size > 0) {
        ssize_t n = fill_entry(tar, err);
        if (n < 0)
            return -1;
        size_t part = (size_t)n < size ? (size_t)n : size;
        memcpy(out, tar->buffer + tar->start, part);
        tar->start += part;
        out += part;
        size -= part;
    }
    return 0;
}

int skip(struct tar *tar, int64_t size, struct error *err)
{
    while (size > 0) {
        ssize_t n = fill_entry(tar, err);
        if (n < 0)
            return -1;
        int64_t part = n < size ? n : size;
        tar->start += (size_t)part;
        size -= part;
    }
    return 0;
}

int tar_drain(struct tar *tar, struct error *err)
{
    for (;;) {
        ssize_t n = fill(tar, err);
        if (n <= 0)
            return (int)n;
        tar->start = tar->end;
    }
}

ssize_t tar_data(struct tar *tar, const void **data, size_t most, struct error *err)
{
    if (tar->remaining == 0)
        return 0;
    ssize_t n = fill_entry(tar, err);
    if (n < 0)
        return -1;
    if ((size_t)n > most)
        n = (ssize_t)most;
    if (n > tar->remaining)
        n = (ssize_t)tar->remaining;
    *data = tar->buffer + tar->start;
    tar->start += (size_t)n;
    tar->remaining -= n;
    return n;
}

int64_t padding_of(int64_t size)
{
    return (BLOCK - size % BLOCK) % BLOCK;
}

/* Reads the data of a header that describes the next one into memory, NUL-terminated. */
static char *read_extended(struct tar *tar, int64_t size, size_t *length, struct error *err)
{
    if (size < 0 || size > MAX_EXTENDED) {
        fail(err, EXHAUSTED, "an extended header is longer than 1 MiB");
        return NULL;
    }
    char *text = malloc((size_t)size + 1);
    if (!text) {
        fail_errno(err, "malloc");
        return NULL;
    }
    if (take(tar, text, (size_t)size, err) < 0 || skip(tar, padding_of(size), err) < 0) {
        free(text);
        return NULL;
    }
    text[size] = 0;
    *length = (size_t)size;
    return text;
}

/* ---- headers ---- */

static bool is_zero(const unsigned char *block)
{
    return block[0] == 0 && memcmp(block, block + 1, BLOCK - 1) == 0;
}

static bool checksum_is_right(const struct header *header)
{
    const unsigned char *bytes = (const unsigned char *)header;
    int64_t stored, with_unsigned = 0, with_signed = 0;
    if (!parse_number(header->checksum, sizeof header->checksum, &stored))
        return false;
    for (size_t i = 0; i < BLOCK; i++) {
        unsigned char byte = i >= 148 && i < 156 ? ' ' : bytes[i];
        with_unsigned += byte;
        with_signed += (signed char)byte; /* Sun's tar */
    }
    return stored == with_unsigned || stored == with_signed;
}

static size_t copy_field(char *into, const char *field, size_t width)
{
    size_t length = strnlen(field, width);
    memcpy(into, field, length);
    into[length] = 0;
    return length;
}

static int set_path(char *into, size_t *length, const char *text, size_t text_length, struct error *err)
{
    /* GNU's long names end at the first NUL. */
    text_length = strnlen(text, text_length);
    if (text_length > MAX_PATH)
        return fail(err, INVALID, "a path is longer than 4095 bytes");
    memcpy(into, text, text_length);
    into[text_length] = 0;
    *length = text_length;
    return 0;
}

static int set_id(uint32_t *into, int64_t number, struct error *err)
{
    /* 2^32-1 means "leave as it is" to chown(2), and larger ones must not wrap around to 0 (CVE-2024-40635). */
    if (number < 0 || number >= 0xffffffffLL)
        return fail(err, INVALID, "an owner is out of range");
    *into = (uint32_t)number;
    return 0;
}

/* The fields of one header block into `entry`; those that PAX records overrule are looked at by the caller. */
static int read_header(const struct header *header, struct entry *entry, int64_t *uid, int64_t *gid, struct error *err)
{
    bool ustar = memcmp(header->magic, "ustar\0", 6) == 0;
    bool gnu = memcmp(header->magic, "ustar ", 6) == 0;
    int64_t mode, seconds, major = 0, minor = 0;
    if (!parse_number(header->mode, 8, &mode) || !parse_number(header->uid, 8, uid) ||
        !parse_number(header->gid, 8, gid) || !parse_number(header->size, 12, &entry->data) ||
        !parse_number(header->mtime, 12, &seconds))
        return fail(err, INVALID, "a header's number is malformed");
    if ((ustar || gnu) && (entry->type == '3' || entry->type == '4') &&
        (!parse_number(header->major, 8, &major) || !parse_number(header->minor, 8, &minor)))
        return fail(err, INVALID, "a header's number is malformed");
    if (entry->data < 0)
        return fail(err, INVALID, "a size is below zero");
    if (major < 0 || major > 0xfff || minor < 0 || minor > 0xfffff)
        return fail(err, INVALID, "a device number is out of range");
    if (seconds >> 40 != 0 && seconds >> 40 != -1)
        return fail(err, INVALID, "a time is out of range");
    entry->mode = (uint32_t)mode & 07777;
    entry->mtime = (struct timespec){.tv_sec = seconds};
    entry->major = (uint32_t)major;
    entry->minor = (uint32_t)minor;
    entry->link_length = copy_field(entry->link, header->link, sizeof header->link);
    entry->path_length = 0;
    if (ustar && header->prefix[0]) {
        entry->path_length = copy_field(entry->path, header->prefix, sizeof header->prefix);
        entry->path[entry->path_length++] = '/';
    }
    entry->path_length += copy_field(entry->path + entry->path_length, header->name, sizeof header->name);
    return 0;
}

static bool has_data(char type)
{
    return type == '0' || type == '7' || type == 'S';
}

/* Everything after the headers of one entry are in: overrules, sizes, sparse maps. */
static int complete(struct tar *tar, struct entry *entry, const struct header *header, struct pax *pax, int64_t uid,
                    int64_t gid, struct error *err)
{
    if (pax->has_size)
        entry->data = pax->size;
    if (pax->has_mtime)
        entry->mtime = pax->mtime;
    if (set_id(&entry->uid, pax->has_uid ? pax->uid : uid, err) < 0 ||
        set_id(&entry->gid, pax->has_gid ? pax->gid : gid, err) < 0)
        return -1;
    if (pax->path && set_path(entry->path, &entry->path_length, pax->path, pax->path_length, err) < 0)
        return -1;
    if (pax->link && set_path(entry->link, &entry->link_length, pax->link, pax->link_length, err) < 0)
        return -1;
    /* V7 tar knew directories by their name only. */
    if (entry->type == 0)
        entry->type = entry->path_length && entry->path[entry->path_length - 1] == '/' ? '5' : '0';
    if (!has_data(entry->type)) {
        /* Links and the like have no data, whatever their size field says (old tars put the target's size there). */
        if (entry->type < '1' || entry->type > '6')
            return fail(err, INVALID, "an entry is of an unknown type");
        entry->data = entry->size = 0;
        return 0;
    }
    tar->remaining = entry->data;
    tar->padding = padding_of(entry->data);
    entry->size = entry->data;
    if (entry->type == 'S') {
        entry->fragment_count = 0;
        if (read_sparse_gnu(tar, header, &entry->fragment_count, &entry->size, err) < 0)
            return -1;
    } else if (pax->sparse) {
        if (pax->sparse_name && set_path(entry->path, &entry->path_length, pax->sparse_name,
                                         pax->sparse_name_length, err) < 0)
            return -1;
        if (pax->sparse_major == 1 && pax->sparse_minor == 0) {
            if (read_sparse_data(tar, pax, err) < 0)
                return -1;
            entry->data = tar->remaining;
        } else if (pax->sparse_major > 1 || pax->sparse_minor > 0) {
            return fail(err, INVALID, "a sparse file is of an unknown format");
        } else if (pax->sparse_map) {
            if (read_sparse_map(tar, pax, err) < 0)
                return -1;
        } else if (!pax->sparse_pairs && entry->data > 0) {
            return fail(err, INVALID, "a sparse file has no map");
        }
        if (!pax->has_real_size)
            return fail(err, INVALID, "a sparse file has no size");
        entry->fragment_count = pax->fragment_count;
        entry->size = pax->real_size;
    } else {
        entry->type = '0';
        return 0;
    }
    entry->type = '0';
    static struct fragment none;
    entry->fragments = tar->fragments ? tar->fragments : &none;
    if (entry->size < 0)
        return fail(err, INVALID, "a size is below zero");
    return check_fragments(entry, err);
}

int tar_next(struct tar *tar, struct entry *entry, struct error *err)
{
    char *long_name = NULL, *long_link = NULL;
    size_t long_name_length = 0, long_link_length = 0;
    struct pax pax = {.pending_offset = -1};
    int result = -1;
    bool began = false;

    if (tar->at_end)
        return 0;
    if (skip(tar, tar->remaining, err) < 0 || skip(tar, tar->padding, err) < 0)
        return -1;
    tar->remaining = tar->padding = 0;
    free(tar->extended);
    tar->extended = NULL;
    tar->extended_length = 0;
    entry->xattr_count = 0;
    entry->fragments = NULL;
    entry->fragment_count = 0;
    entry->path_length = 0;

    for (;;) {
        union {
            struct header header;
            unsigned char bytes[BLOCK];
        } block;
        int64_t uid, gid;
        ssize_t n = fill(tar, err);
        if (n < 0)
            break;
        if (n == 0) {
            /* Some writers leave the two zero blocks out; between entries that is an end. */
            if (began)
                fail(err, INVALID, "the layer ends in the middle of an entry");
            else
                result = 0;
            tar->at_end = true;
            break;
        }
        if (take(tar, block.bytes, BLOCK, err) < 0)
            break;
        if (is_zero(block.bytes)) {
            if (began) {
                fail(err, INVALID, "the layer ends in the middle of an entry");
                break;
            }
            n = fill(tar, err);
            if (n < 0 || (n > 0 && take(tar, block.bytes, BLOCK, err) < 0))
                break;
            if (n > 0 && !is_zero(block.bytes)) {
                fail(err, INVALID, "a zero block stands between entries");
                break;
            }
            tar->at_end = true;
            result = 0;
            break;
        }
        if (!began)
            tar->index++;
        began = true;
        if (!checksum_is_right(&block.header)) {
            fail(err, INVALID, "a header's checksum is wrong");
            break;
        }
        entry->type = block.header.type;
        if (read_header(&block.header, entry, &uid, &gid, err) < 0)
            break;
        if (entry->type == 'g') {
            /* Global records: Go's readers of layers ignore them, and so must we, or the same layer differs. */
            if (entry->data > MAX_EXTENDED) {
                fail(err, EXHAUSTED, "an extended header is longer than 1 MiB");
                break;
            }
            if (skip(tar, entry->data + padding_of(entry->data), err) < 0)
                break;
            continue;
        }
        if (entry->type == 'x') {
            if (tar->extended) {
                fail(err, INVALID, "two extended headers for one entry");
                break;
            }
            tar->extended = read_extended(tar, entry->data, &tar->extended_length, err);
            if (!tar->extended)
                break;
            continue;
        }
        if (entry->type == 'L' || entry->type == 'K') {
            char **text = entry->type == 'L' ? &long_name : &long_link;
            size_t *length = entry->type == 'L' ? &long_name_length : &long_link_length;
            if (*text) {
                fail(err, INVALID, "two long names for one entry");
                break;
            }
            *text = read_extended(tar, entry->data, length, err);
            if (!*text)
                break;
            continue;
        }
        if (long_name && set_path(entry->path, &entry->path_length, long_name, long_name_length, err) < 0)
            break;
        if (long_link && set_path(entry->link, &entry->link_length, long_link, long_link_length, err) < 0)
            break;
        if (tar->extended && read_records(tar, &pax, entry, err) < 0)
            break;
        if (complete(tar, entry, &block.header, &pax, uid, gid, err) < 0)
            break;
        result = 1;
        break;
    }
    free(long_name);
    free(long_link);
    if (result < 0 && err->name_length == 0 && entry->path_length) {
        err->name_length = entry->path_length;
        memcpy(err->name, entry->path, entry->path_length);
    }
    return result;
}

size_t clean_path(char *path, size_t length)
{
    size_t out = 0, at = 0;
    while (at < length) {
        size_t begin = at;
        while (at < length && path[at] != '/')
            at++;
        size_t part = at - begin;
        at++;
        if (part == 0 || (part == 1 && path[begin] == '.'))
            continue;
        if (part == 2 && path[begin] == '.' && path[begin + 1] == '.') {
            while (out > 0 && path[--out] != '/')
                ;
            continue;
        }
        if (out > 0)
            path[out++] = '/';
        memmove(path + out, path + begin, part);
        out += part;
    }
    path[out] = 0;
    return out;
}
