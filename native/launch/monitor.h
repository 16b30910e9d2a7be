/* The monitor's parts: streams and their log (monitor_log.c), clients (monitor_clients.c), a program that takes
 * the output (monitor_logger.c), memory that runs short (monitor_oom.c), the end (monitor_end.c), the whole (monitor.c). */
#ifndef MASU_MONITOR_H
#define MASU_MONITOR_H

#include "launch.h"

#define CLIENTS_LIMIT 64
#define BATCH_LIMIT 65536  /* read from the container at once */
#define LINE_LIMIT 16384   /* longer lines are split in the log, as CRI does */
#define PACKET_LIMIT 32768 /* data in one message to or from a client */
#define STUCK_MS 2000      /* after the end, for clients that do not read and for their 'k' */
#define TIME_LENGTH 30     /* 2026-11-21T05:28:01.123456789Z */

int64_t clock_ms(void); /* CLOCK_BOOTTIME */
/* RFC 3339 with nanoseconds, UTC; `out` has TIME_LENGTH + 1 bytes. */
void format_time(char *out);

/* ---- monitor_log.c ---- */

struct log {
    int fd; /* -1: no log */
    const char *path;
    uint64_t max_bytes, size;
    unsigned max_files;
    bool torn; /* the last record could not be written whole */
};

struct stream {
    int fd;             /* our end, or -1 */
    const char *name;   /* "stdout" */
    char type;          /* of messages to clients */
    uint8_t flag;       /* what a client sets to want it */
    bool parked;        /* a pty nobody has open: looked at again after a tick */
    int64_t since_ms;   /* when the pending part of a line began */
    size_t pending;     /* bytes of an unfinished line, in `line` */
    char line[LINE_LIMIT];
};

void log_open(struct log *log);
void log_write(struct log *log, struct stream *stream, const char *data, size_t length);
/* Writes what is pending as a partial record. */
void log_flush(struct log *log, struct stream *stream);

/* ---- monitor_clients.c ---- */

#define WANTS_STDOUT 1
#define WANTS_STDERR 2
#define WANTS_STDIN 4
#define WANTS_EVENTS 8

struct client {
    int fd;        /* -1: free */
    bool raw;      /* a FIFO or file, not a socket: no messages, only bytes */
    bool attached; /* said 'a' */
    bool cleans;   /* said 'k' */
    uint8_t wants;
    size_t sent; /* of the batch */
};

struct monitor {
    struct launch *launch;
    struct operation op; /* `monitor`, in memory of our own */
    unsigned flags;
    int signals, inner, listener;
    int init, pidfd, stage;
    int status; /* wait status of init */
    bool exited, started, stage_gone;
    struct log log;
    struct stream streams[2];
    int master;        /* the pty's, or -1 */
    int stdin_fd;      /* our end of the stdin pipe, the master, or -1 */
    unsigned oom_kind;
    int oom, oom_watch; /* the file that counts, what wakes for it; or -1 */
    unsigned long oom_kills; /* told of */
    bool oom_stuck;
    int stdin_source;  /* a FIFO that stdin is read from, or -1 */
    int stdin_keep;    /* its writing end, so that it does not end with its writer; -1 when it may */
    bool stdin_loose;  /* it may from now on */
    bool stdin_ending; /* close it when all is written */
    size_t stdin_at, stdin_length;
    struct client clients[CLIENTS_LIMIT];
    bool told;     /* clients know of the exit */
    bool promised; /* one of them, since then, to clean up: it may hang up at once */
    size_t batch_length;
    const struct stream *batch_stream;
    char batch[BATCH_LIMIT];
    char stdin_data[PACKET_LIMIT];
    unsigned char packet[PACKET_LIMIT + 2];
};

/* ---- monitor.c, monitor_end.c ---- */

/* Waits for something to happen and handles it; at most timeout_ms. */
void turn(struct monitor *monitor, int64_t timeout_ms);
/* Reads once; false when there is nothing (more) to read now. */
bool read_stream(struct monitor *monitor, struct stream *stream);
/* Writes path.tmp and renames it, with `sync` durably; a negative errno. */
int write_renamed(const char *path, const char *text, size_t length, bool sync);
/* After the end of a container that was started; of one that never was. */
void monitor_end(struct monitor *monitor);
void monitor_forget(struct monitor *monitor);

/* ---- monitor_logger.c ---- */

/* Starts the program that the plan names for the container's output; `out` gets what it reads stdout and stderr from,
 * or -1 and -1 when there is none. */
int start_logger(struct monitor *monitor, int out[2], struct masu_error *err);

/* ---- monitor_oom.c ---- */

/* What to poll for: memory has become short. */
struct pollfd oom_waits(const struct monitor *monitor);
/* It has: clients are told when somebody was killed for it. */
void oom_hear(struct monitor *monitor);
/* How many processes were killed for memory so far; -1 when that cannot be told (any more). */
long oom_count(const struct monitor *monitor);

/* ---- clients ---- */

void clients_accept(struct monitor *monitor);
/* Whether messages of this client may be read now. */
bool client_may_talk(const struct monitor *monitor, const struct client *client);
/* Obeys at most `limit` messages. */
void client_hear(struct monitor *monitor, struct client *client, int limit);
void client_drop(struct monitor *monitor, struct client *client);
/* Takes the batch of `length` bytes of `stream`, just read into monitor->batch. */
void clients_give(struct monitor *monitor, const struct stream *stream, size_t length);
/* Sends what can be sent; true when the batch is done with. */
bool clients_flush(struct monitor *monitor);
bool client_waits(const struct monitor *monitor, const struct client *client);
/* A message to those who want events. */
void clients_tell(struct monitor *monitor, const void *message, size_t length);
void clients_tell_exit(struct monitor *monitor, unsigned code);
void stdin_flush(struct monitor *monitor);
void stdin_close(struct monitor *monitor);

#endif
