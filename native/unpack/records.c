/* Numbers in headers, and PAX extended headers: "%d key=value\n", the number counting all of the record. */
#include "formats.h"

#include <string.h>

/* Octal with spaces and NULs around it, or GNU's base-256: the first byte has its high bit set, two's complement. */
bool parse_number(const char *field, size_t width, int64_t *value)
{
    const unsigned char *f = (const unsigned char *)field;
    if (f[0] & 0x80) {
        unsigned char flip = f[0] & 0x40 ? 0xff : 0;
        uint64_t number = 0;
        for (size_t i = 0; i < width; i++) {
            unsigned char byte = (unsigned char)(f[i] ^ flip);
            if (i == 0)
                byte &= 0x7f;
            if (number >> 56)
                return false;
            number = number << 8 | byte;
        }
        if (number >> 63)
            return false;
        *value = flip ? (int64_t)~number : (int64_t)number;
        return true;
    }
    size_t i = 0, end = width;
    while (i < end && (f[i] == ' ' || f[i] == 0))
        i++;
    while (end > i && (f[end - 1] == ' ' || f[end - 1] == 0))
        end--;
    int64_t number = 0;
    for (; i < end && f[i]; i++) {
        if (f[i] < '0' || f[i] > '7' || number >> 59)
            return false;
        number = number * 8 + (f[i] - '0');
    }
    *value = number;
    return true;
}

bool parse_decimal(const char *text, size_t length, int64_t *value)
{
    if (length == 0 || length > 19)
        return false;
    uint64_t number = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(text[i] - '0');
    }
    if (number >> 63)
        return false;
    *value = (int64_t)number;
    return true;
}

/* PAX times: [-]seconds[.fraction]; what is finer than nanoseconds is cut off. */
static bool parse_time(const char *text, size_t length, struct timespec *time)
{
    bool negative = length > 0 && text[0] == '-';
    if (negative)
        text++, length--;
    const char *dot = memchr(text, '.', length);
    size_t whole = dot ? (size_t)(dot - text) : length;
    int64_t seconds;
    if (!parse_decimal(text, whole, &seconds) || seconds >> 40)
        return false;
    long nanoseconds = 0, unit = 100000000;
    for (size_t i = whole + 1; i < length; i++, unit /= 10) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        nanoseconds += (text[i] - '0') * unit;
    }
    if (negative) {
        seconds = -seconds;
        if (nanoseconds) {
            seconds--;
            nanoseconds = 1000000000 - nanoseconds;
        }
    }
    *time = (struct timespec){.tv_sec = seconds, .tv_nsec = nanoseconds};
    return true;
}

static bool is(const char *key, size_t length, const char *wanted)
{
    return strlen(wanted) == length && memcmp(key, wanted, length) == 0;
}

static bool begins(const char *key, size_t length, const char *wanted)
{
    return strlen(wanted) < length && memcmp(key, wanted, strlen(wanted)) == 0;
}

static int one_xattr(struct entry *entry, const char *name, size_t name_length, const char *value, size_t length,
                     struct error *err)
{
    if (name_length > MAX_XATTR_NAME || memchr(name, 0, name_length))
        return fail(err, INVALID, "an xattr's name is too long or holds a NUL");
    if (length > MAX_XATTR_VALUE)
        return fail(err, EXHAUSTED, "an xattr is longer than 64 KiB");
    /* A record given twice: the last one counts (POSIX pax). The bound keeps this linear enough. */
    for (size_t i = 0; i < entry->xattr_count; i++) {
        struct xattr *known = &entry->xattrs[i];
        if (known->name_length == name_length && memcmp(known->name, name, name_length) == 0) {
            known->value = value;
            known->value_length = length;
            return 0;
        }
    }
    if (entry->xattr_count == MAX_XATTRS)
        return fail(err, EXHAUSTED, "an entry has more than 1024 xattrs");
    entry->xattrs[entry->xattr_count++] = (struct xattr){name, value, name_length, length};
    return 0;
}

static int pax_number(const char *value, size_t length, bool *has, int64_t *number, struct error *err)
{
    *has = length > 0; /* an empty value takes an earlier one back */
    if (*has && !parse_decimal(value, length, number))
        return fail(err, INVALID, "a PAX record's number is not a number");
    return 0;
}

static int pax_text(const char *value, size_t length, const char **text, size_t *text_length, struct error *err)
{
    if (memchr(value, 0, length))
        return fail(err, INVALID, "a PAX record's path holds a NUL");
    if (length > MAX_PATH)
        return fail(err, INVALID, "a path is longer than 4095 bytes");
    *text = length ? value : NULL;
    *text_length = length;
    return 0;
}

static int pax_record(struct tar *tar, struct pax *pax, struct entry *entry, const char *key, size_t key_length,
                      const char *value, size_t length, struct error *err)
{
    if (is(key, key_length, "path"))
        return pax_text(value, length, &pax->path, &pax->path_length, err);
    if (is(key, key_length, "linkpath"))
        return pax_text(value, length, &pax->link, &pax->link_length, err);
    if (is(key, key_length, "size"))
        return pax_number(value, length, &pax->has_size, &pax->size, err);
    if (is(key, key_length, "uid"))
        return pax_number(value, length, &pax->has_uid, &pax->uid, err);
    if (is(key, key_length, "gid"))
        return pax_number(value, length, &pax->has_gid, &pax->gid, err);
    if (is(key, key_length, "mtime")) {
        pax->has_mtime = length > 0;
        if (pax->has_mtime && !parse_time(value, length, &pax->mtime))
            return fail(err, INVALID, "a PAX record's time is not a time");
        return 0;
    }
    if (begins(key, key_length, "SCHILY.xattr."))
        return one_xattr(entry, key + 13, key_length - 13, value, length, err);
    if (!begins(key, key_length, "GNU.sparse."))
        return 0; /* names, comments, times we do not keep, vendors' own */
    key += 11, key_length -= 11;
    int64_t number = 0;
    bool has;
    if (is(key, key_length, "name"))
        return pax_text(value, length, &pax->sparse_name, &pax->sparse_name_length, err);
    if (is(key, key_length, "map")) {
        pax->sparse = true;
        pax->sparse_map = value;
        pax->sparse_map_length = length;
        return 0;
    }
    if (pax_number(value, length, &has, &number, err) < 0)
        return -1;
    if (is(key, key_length, "major")) {
        pax->sparse_major = number > 1 ? 2 : (int)number;
        pax->sparse = true;
    } else if (is(key, key_length, "minor")) {
        pax->sparse_minor = number > 0 ? 1 : 0;
    } else if (is(key, key_length, "realsize") || is(key, key_length, "size")) {
        pax->has_real_size = has;
        pax->real_size = number;
    } else if (is(key, key_length, "offset")) {
        if (pax->pending_offset >= 0)
            return fail(err, INVALID, "a sparse fragment has no length");
        pax->pending_offset = number;
    } else if (is(key, key_length, "numbytes")) {
        if (pax->pending_offset < 0)
            return fail(err, INVALID, "a sparse fragment has no offset");
        pax->sparse = pax->sparse_pairs = true;
        int64_t offset = pax->pending_offset;
        pax->pending_offset = -1;
        return add_fragment(tar, &pax->fragment_count, offset, number, err);
    }
    return 0;
}

int read_records(struct tar *tar, struct pax *pax, struct entry *entry, struct error *err)
{
    const char *at = tar->extended, *end = at + tar->extended_length;
    while (at < end) {
        const char *space = memchr(at, ' ', (size_t)(end - at));
        int64_t length;
        if (!space || !parse_decimal(at, (size_t)(space - at), &length) || length > end - at ||
            length < space - at + 4 || at[length - 1] != '\n')
            return fail(err, INVALID, "a PAX record is malformed");
        const char *key = space + 1, *stop = at + length - 1;
        const char *equals = memchr(key, '=', (size_t)(stop - key));
        if (!equals || equals == key || memchr(key, 0, (size_t)(equals - key)))
            return fail(err, INVALID, "a PAX record is malformed");
        if (pax_record(tar, pax, entry, key, (size_t)(equals - key), equals + 1, (size_t)(stop - equals - 1), err) < 0)
            return -1;
        at += length;
    }
    return 0;
}
