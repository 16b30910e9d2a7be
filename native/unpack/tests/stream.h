/* Tar streams made by hand, in memory. */
#ifndef MASU_UNPACK_TESTS_STREAM_H
#define MASU_UNPACK_TESTS_STREAM_H

#include "../unpack.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct stream { unsigned char *bytes; size_t length, at, piece; };

static inline ssize_t stream_read(void *context, void *buffer, size_t size)
{
    struct stream *s = context;
    size_t n = s->length - s->at;
    if (n > size)
        n = size;
    if (s->piece && n > s->piece)
        n = s->piece; /* pipes give what they have */
    if (n)
        memcpy(buffer, s->bytes + s->at, n);
    s->at += n;
    return (ssize_t)n;
}

static inline void stream_add(struct stream *s, const void *bytes, size_t length)
{
    s->bytes = realloc(s->bytes, s->length + length);
    assert(s->bytes);
    memcpy(s->bytes + s->length, bytes, length);
    s->length += length;
}

static inline void stream_pad(struct stream *s)
{
    static const char zeros[512];
    if (s->length % 512)
        stream_add(s, zeros, 512 - s->length % 512);
}

static inline void checksum(unsigned char *block)
{
    unsigned sum = 0;
    memset(block + 148, ' ', 8);
    for (int i = 0; i < 512; i++)
        sum += block[i];
    snprintf((char *)block + 148, 8, "%06o", sum & 0777777);
}

/* A ustar header; `fix` may be NULL and changes it before the checksum is made. */
static inline void stream_header(struct stream *s, char type, const char *name, size_t size, void (*fix)(char *block))
{
    char block[512] = {0}, number[24];
    size_t name_length = strlen(name);
    memcpy(block, name, name_length < 100 ? name_length : 100);
    memcpy(block + 100, "0000644", 8);
    memcpy(block + 108, "0000000", 8);
    memcpy(block + 116, "0000000", 8);
    snprintf(number, sizeof number, "%011zo", size);
    memcpy(block + 124, number, 12);
    memcpy(block + 136, "00000001750", 12);
    block[156] = type;
    memcpy(block + 257, "ustar\00000", 8);
    if (fix)
        fix(block);
    checksum((unsigned char *)block);
    stream_add(s, block, 512);
}

static inline void stream_file(struct stream *s, const char *name, const char *text)
{
    stream_header(s, '0', name, strlen(text), NULL);
    stream_add(s, text, strlen(text));
    stream_pad(s);
}

static inline void stream_record(char *records, size_t *length, const char *key, const char *value, size_t value_length)
{
    size_t body = strlen(key) + value_length + 3, total = body + 1, before;
    do {
        before = total;
        total = body + (size_t)snprintf(NULL, 0, "%zu", before);
    } while (total != before);
    *length += (size_t)sprintf(records + *length, "%zu %s=", total, key);
    memcpy(records + *length, value, value_length);
    *length += value_length;
    records[(*length)++] = '\n';
}

static inline void stream_extended(struct stream *s, char type, const char *data, size_t length)
{
    stream_header(s, type, "extended", length, NULL);
    stream_add(s, data, length);
    stream_pad(s);
}

static inline void stream_end(struct stream *s)
{
    static const char zeros[1024];
    stream_add(s, zeros, sizeof zeros);
}

static inline void stream_free(struct stream *s)
{
    free(s->bytes);
    *s = (struct stream){0};
}

#endif
