/* The log: records of lines in any cut, time, rotation. */
#include "check.h"

#include "monitor.h"

static char folder[] = "/tmp/masu-log-XXXXXX";
static char path[256], text[400000];
static struct stream stream;

static struct log open_log(uint64_t max_bytes, unsigned max_files)
{
    struct log log = {.path = path, .max_bytes = max_bytes, .max_files = max_files};
    sys(__NR_unlinkat, AT_FDCWD, path, 0);
    log_open(&log);
    CHECK(log.fd >= 0);
    stream.fd = -1;
    stream.name = "stdout";
    stream.pending = 0;
    return log;
}

/* The texts of all records, each with its tag: "F:hello|P:part|". */
static const char *records(const struct log *log)
{
    static char out[500000];
    size_t used = 0;
    CHECK(read_file(AT_FDCWD, log->path, text, sizeof text) >= 0);
    for (char *line = text; *line != '\0';) {
        char *newline = strchr(line, '\n');
        CHECK(newline != NULL);
        *newline = '\0';
        CHECK(line[4] == '-' && line[10] == 'T' && line[29] == 'Z' && strncmp(line + 30, " stdout ", 8) == 0);
        used += format_text(out + used, sizeof out - used, "%c:%s|", line[38], line + 40);
        line = newline + 1;
    }
    out[used] = '\0';
    return out;
}

static void lines_in_any_cut(void)
{
    static const char data[] = "one\ntwo\n\nfour";
    for (size_t cut = 0; cut <= sizeof data - 1; cut++) {
        struct log log = open_log(0, 1);
        log_write(&log, &stream, data, cut);
        log_write(&log, &stream, data + cut, sizeof data - 1 - cut);
        log_flush(&log, &stream);
        CHECK_TEXT(records(&log), "F:one|F:two|F:|P:four|");
        sys_close(log.fd);
    }
}

static void long_lines(void)
{
    static char data[3 * LINE_LIMIT];
    memset(data, 'x', sizeof data);
    struct log log = open_log(0, 1);
    log_write(&log, &stream, data, 10);
    log_write(&log, &stream, data, LINE_LIMIT);
    log_write(&log, &stream, "\n", 1);
    const char *found = records(&log);
    CHECK(strlen(found) == LINE_LIMIT + 10 + 2 * 3);
    CHECK(found[LINE_LIMIT + 2] == '|' && found[0] == 'P' && found[LINE_LIMIT + 3] == 'F');
    log_write(&log, &stream, data, sizeof data);
    CHECK(stream.pending == LINE_LIMIT);
    log_flush(&log, &stream);
    CHECK(stream.pending == 0);
    sys_close(log.fd);
}

static void many_lines_at_once(void)
{
    static char data[60000];
    memset(data, '\n', sizeof data);
    struct log log = open_log(0, 1);
    log_write(&log, &stream, data, 5000);
    const char *found = records(&log);
    CHECK(strlen(found) == 5000 * 3);
    sys_close(log.fd);
}

static void rotates(void)
{
    char name[300];
    struct log log = open_log(100, 3);
    for (int i = 0; i < 10; i++)
        log_write(&log, &stream, "line\n", 5); /* 45 bytes each */
    CHECK(log.size == 90);
    struct statx about;
    for (int i = 1; i < 4; i++) {
        format_text(name, sizeof name, "%s.%d", path, i);
        int found = sys_statx(AT_FDCWD, name, 0, STATX_SIZE, &about);
        CHECK(i < 3 ? found == 0 && about.stx_size == 90 : found == -ENOENT);
        sys(__NR_unlinkat, AT_FDCWD, name, 0);
    }
    sys_close(log.fd);
}

static void time_text(void)
{
    char found[TIME_LENGTH + 1], wanted[64];
    struct __kernel_timespec now;
    /* date(1) agrees to the second; again when one passes in between. */
    for (int tries = 0; tries < 5; tries++) {
        sys(__NR_clock_gettime, 0, &now);
        format_time(found);
        FILE *date = popen("date -u +%Y-%m-%dT%H:%M:%S", "r");
        CHECK(date != NULL && fgets(wanted, sizeof wanted, date) != NULL);
        pclose(date);
        wanted[19] = '\0';
        if (strncmp(found, wanted, 19) == 0)
            break;
    }
    CHECK(strlen(found) == TIME_LENGTH && strncmp(found, wanted, 19) == 0 && found[19] == '.' && found[29] == 'Z');
}

int main(void)
{
    CHECK(mkdtemp(folder) != NULL);
    format_text(path, sizeof path, "%s/log", folder);
    lines_in_any_cut();
    long_lines();
    many_lines_at_once();
    rotates();
    time_text();
    sys(__NR_unlinkat, AT_FDCWD, path, 0);
    CHECK(sys(__NR_unlinkat, AT_FDCWD, folder, AT_REMOVEDIR) == 0);
    return 0;
}
