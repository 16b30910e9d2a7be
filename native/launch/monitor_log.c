/* The container's log, in CRI's format: time, stream, F or P (a part of a line), text.
 *
 *     2026-11-21T05:28:01.123456789Z stdout F hello
 *
 * All lines of one read share its time, so that one header serves them all and nothing is copied. A record that ends
 * a line is F; P goes before the rest of a line that is too long, was not finished within a tick, or never was. */
#include "monitor.h"

#define IOV_LIMIT 256

struct records {
    struct log *log;
    char full[64], part[64];
    size_t header;
    unsigned count;
    size_t total;
    struct sys_iovec iov[IOV_LIMIT];
};

int64_t clock_ms(void)
{
    struct __kernel_timespec now;
    sys(__NR_clock_gettime, 7 /* CLOCK_BOOTTIME */, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void format_time(char *out)
{
    struct __kernel_timespec now;
    sys(__NR_clock_gettime, 0 /* CLOCK_REALTIME */, &now);
    unsigned long days = (unsigned long)now.tv_sec / 86400, second = (unsigned long)now.tv_sec % 86400;
    /* Days since 1970 to a date, counted in years that begin in March: the leap day comes last then. */
    unsigned long shifted = days + 719468, era = shifted / 146097, of_era = shifted % 146097;
    unsigned long year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned long of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned long march_month = (5 * of_year + 2) / 153, day = of_year - (153 * march_month + 2) / 5 + 1;
    unsigned long month = march_month < 10 ? march_month + 3 : march_month - 9;
    unsigned long year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);
    format_text(out, TIME_LENGTH + 1, "%04lu-%02lu-%02luT%02lu:%02lu:%02lu.%09luZ", year, month, day, second / 3600,
                second / 60 % 60, second % 60, (unsigned long)now.tv_nsec);
}

void log_open(struct log *log)
{
    struct statx about;
    log->size = 0;
    log->fd = sys_open(AT_FDCWD, log->path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NOCTTY, 0600);
    if (log->fd >= 0 && sys_fstat(log->fd, &about) == 0)
        log->size = about.stx_size;
}

/* log -> log.1 -> log.2 …, max_files in all. */
static void rotate(struct log *log)
{
    char from[PATH_LIMIT], to[PATH_LIMIT];
    if (log->max_files <= 1) {
        if (sys(__NR_ftruncate, log->fd, 0) == 0)
            log->size = 0;
        return;
    }
    for (unsigned i = log->max_files - 1; i > 0; i--) {
        format_text(to, sizeof to, "%s.%u", log->path, i);
        if (i > 1)
            format_text(from, sizeof from, "%s.%u", log->path, i - 1);
        else
            format_text(from, sizeof from, "%s", log->path);
        sys(__NR_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    }
    sys_close(release_fd(&log->fd));
    log_open(log);
}

/* Writes the records gathered so far. A full disk must not stop the container: what cannot be written is lost, and
 * the next record begins on a line of its own. */
static void write_records(struct records *records)
{
    struct log *log = records->log;
    if (records->count == 0)
        return;
    if (log->max_bytes > 0 && log->size > 0 && log->size + records->total > log->max_bytes)
        rotate(log);
    if (log->fd >= 0 && log->torn)
        log->torn = sys_write(log->fd, "\n", 1) != 1;
    struct sys_iovec *iov = records->iov;
    while (log->fd >= 0 && records->count > 0) {
        long written = sys(__NR_writev, log->fd, iov, records->count);
        if (written == -EINTR)
            continue;
        if (written <= 0) {
            log->torn = true;
            break;
        }
        log->size += (uint64_t)written;
        for (size_t left = (size_t)written; left > 0 && records->count > 0;) {
            size_t take = left < iov->length ? left : iov->length;
            iov->base = (const char *)iov->base + take;
            iov->length -= take;
            left -= take;
            if (iov->length == 0)
                iov++, records->count--;
        }
    }
    records->count = 0;
    records->total = 0;
}

static void put(struct records *records, const char *data, size_t length)
{
    if (length == 0)
        return;
    records->iov[records->count++] = (struct sys_iovec){data, length};
    records->total += length;
}

/* One record of what is pending and `data`; with `end` the text ends a line, whose newline is in `data`. */
static void put_record(struct records *records, struct stream *stream, const char *data, size_t length, bool end)
{
    if (records->count + 4 > IOV_LIMIT)
        write_records(records);
    put(records, end ? records->full : records->part, records->header);
    put(records, stream->line, stream->pending);
    put(records, data, length);
    if (!end)
        put(records, "\n", 1);
    stream->pending = 0;
}

static void begin(struct records *records, struct log *log, const struct stream *stream)
{
    char time[TIME_LENGTH + 1];
    format_time(time);
    records->log = log;
    records->count = 0;
    records->total = 0;
    records->header = format_text(records->full, sizeof records->full, "%s %s F ", time, stream->name);
    format_text(records->part, sizeof records->part, "%s %s P ", time, stream->name);
}

void log_write(struct log *log, struct stream *stream, const char *data, size_t length)
{
    struct records records;
    if (log->path == NULL)
        return;
    begin(&records, log, stream);
    while (length > 0) {
        const char *newline = memchr(data, '\n', length);
        size_t text = newline != NULL ? (size_t)(newline - data) : length;
        if (stream->pending + text > LINE_LIMIT) {
            size_t take = LINE_LIMIT - stream->pending;
            put_record(&records, stream, data, take, false);
            data += take, length -= take;
        } else if (newline != NULL) {
            put_record(&records, stream, data, text + 1, true);
            data += text + 1, length -= text + 1;
        } else {
            break;
        }
    }
    write_records(&records); /* before `line`, which the first record may point to, is written to */
    if (length > 0) {
        if (stream->pending == 0)
            stream->since_ms = clock_ms();
        memcpy(stream->line + stream->pending, data, length);
        stream->pending += length;
    }
}

void log_flush(struct log *log, struct stream *stream)
{
    struct records records;
    if (stream->pending == 0)
        return;
    begin(&records, log, stream);
    put_record(&records, stream, NULL, 0, false);
    write_records(&records);
}
