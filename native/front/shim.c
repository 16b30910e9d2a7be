/* containerd-shim-masu-v2, without an interpreter: containerd calls it before and after each container, and mostly there
 * is nothing to think about. Whatever is not plain goes cold, to masu.daemon.shim, which does the same and all the rest.
 *
 *   start    one that serves the namespace already is told that a container comes (Expect), or one is begun with a
 *            socket that listens; its address is the answer. Under a lock, so that none leaves meanwhile.
 *   delete   of a container of which nothing is left
 *
 * What is on stdin, when a container is started, is kept in a file, so that the interpreter can read it once more.
 */
#include "../launch/monitor.h"
#include "front.h"
#include "shim.h"

#include <linux/close_range.h>

#define SOCKETS "/run/containerd/s"
#define STATES "/run/containerd/masu"
#define GROUP "io.containerd.runc.v2.group"
#define OPTIONS "containerd.runc.v1.Options"
#define GENERIC "runtimeoptions.v1.Options"
#define SERVICE "masu.shim.v1.Shim"
#define INPUT_LIMIT (64 << 10)
#define CONFIG_LIMIT (4 << 20)
#define NAME_MAXIMUM 100 /* of ids and namespaces: one byte tells the length of any message with them */
#define EXPECT_MS 10000
#define WORDS_COUNT 20
#define LOG_DEBUG (-4)
#define SOCKET_STREAM 1
#define UNMOUNT (2 | 8) /* MNT_DETACH | UMOUNT_NOFOLLOW */

struct ask {
    const char *verb, *name_space, *id, *bundle;
    char address[PATH_LIMIT], ttrpc[PATH_LIMIT], sockets[SOCKET_PATH_LIMIT];
    char path[SOCKET_PATH_LIMIT + 40]; /* of the socket */
    bool debug, is_message;
};

enum found { ABSENT, SERVES, UNCLEAR };

/* ---- protobuf ---- */

static bool take_varint(struct text *rest, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && rest->length > 0; shift += 7) {
        unsigned char byte = (unsigned char)*rest->at;
        rest->at++, rest->length--;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

bool next_field(struct text *rest, struct proto_field *field)
{
    struct text after = *rest;
    uint64_t key, length;
    if (after.length == 0 || !take_varint(&after, &key))
        return false;
    *field = (struct proto_field){.number = key >> 3, .type = (unsigned)key & 7};
    if (field->type == 0) {
        if (!take_varint(&after, &field->value))
            return false;
    } else {
        if (field->type == 2 ? !take_varint(&after, &length) : field->type != 1 && field->type != 5)
            return false;
        length = field->type == 2 ? length : field->type == 1 ? 8 : 4;
        if (length > after.length)
            return false;
        field->text = (struct text){after.at, (size_t)length};
        after.at += length, after.length -= (size_t)length;
    }
    *rest = after;
    return true;
}

static bool is(struct text text, const char *word)
{
    return text.length == strlen(word) && memcmp(text.at, word, text.length) == 0;
}

static bool contains(struct text text, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = text.at, *end = at + text.length; (at = memchr(at, word[0], (size_t)(end - at))) != NULL; at++) {
        if ((size_t)(end - at) < length)
            break;
        if (memcmp(at, word, length) == 0)
            return true;
    }
    return false;
}

/* Options as TOML: those in a file are not looked at here. */
static bool is_plain_generic(struct text value)
{
    struct proto_field field;
    while (next_field(&value, &field)) {
        if (field.type == 2 && ((field.number == 2 && field.text.length > 0) || contains(field.text, "ShimCgroup")))
            return false;
    }
    return value.length == 0;
}

/* Whether an Any holds options that want nothing before the shim runs. */
static bool is_plain_options(struct text any)
{
    struct text url = {0}, value = {0};
    struct proto_field field;
    while (next_field(&any, &field)) {
        if (field.number == 1 && field.type == 2)
            url = field.text;
        else if (field.number == 2 && field.type == 2)
            value = field.text;
    }
    if (any.length == 0 && (is(url, GENERIC) || is(url, "cri." GENERIC)))
        return is_plain_generic(value);
    if (any.length > 0 || !is(url, OPTIONS))
        return false;
    while (next_field(&value, &field)) {
        if (field.number == 3 && field.type == 2 && field.text.length > 0) /* shim_cgroup */
            return false;
    }
    return value.length == 0;
}

static bool keep(char *out, size_t size, struct text text)
{
    if (text.length >= size || memchr(text.at, 0, text.length) != NULL)
        return false;
    return text.length == 0 || format_text(out, size, "%.*s", (int)text.length, text.at) > 0;
}

/* BootstrapParams, whose ids have to be ours; else it is an Any. */
static bool take_message(struct ask *ask, struct text rest)
{
    struct text id = {0}, name_space = {0}, whole = rest;
    struct proto_field field;
    while (next_field(&rest, &field)) {
        if (field.number == 1 && field.type == 2)
            id = field.text;
        else if (field.number == 2 && field.type == 2)
            name_space = field.text;
    }
    if (rest.length > 0 || !is(id, ask->id) || !is(name_space, ask->name_space))
        return is_plain_options(whole);
    ask->is_message = true;
    while (next_field(&whole, &field)) {
        bool fits = true;
        if (field.number == 3 && field.type == 0)
            ask->debug = ask->debug || (int64_t)field.value <= LOG_DEBUG;
        if (field.type != 2)
            continue;
        if (field.number == 5)
            fits = keep(ask->ttrpc, sizeof ask->ttrpc, field.text);
        else if (field.number == 6)
            fits = keep(ask->address, sizeof ask->address, field.text);
        else if (field.number == 9)
            fits = keep(ask->sockets, sizeof ask->sockets, field.text);
        else if (field.number == 8) { /* Extension: an Any */
            struct text extension = field.text;
            fits = next_field(&extension, &field) && field.number == 1 && field.type == 2 && extension.length == 0 &&
                   is_plain_options(field.text);
        }
        if (!fits)
            return false;
    }
    return true;
}

/* ---- what was asked ---- */

static bool is_name(const char *name)
{
    size_t length = name == NULL ? 0 : strlen(name);
    if (length == 0 || length > NAME_MAXIMUM || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = name[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!plain && c != '_' && c != '+' && c != '-' && c != '.')
            return false;
    }
    return true;
}

static bool parse_words(struct ask *ask, int argc, char **argv)
{
    const char *address = "", *ignored = "";
    struct {
        const char *flag, **value;
    } const flags[] = {
        {"namespace", &ask->name_space}, {"id", &ask->id},           {"address", &address},
        {"bundle", &ask->bundle},        {"publish-binary", &ignored},
    };
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (word[0] != '-') {
            ask->verb = i == argc - 1 ? word : "";
            continue;
        }
        word += word[1] == '-' ? 2 : 1;
        if (strcmp(word, "debug") == 0) {
            ask->debug = true;
            continue;
        }
        unsigned which = 0;
        while (which < sizeof flags / sizeof *flags && strcmp(word, flags[which].flag) != 0)
            which++;
        if (which == sizeof flags / sizeof *flags || ++i == argc)
            return false;
        *flags[which].value = argv[i];
    }
    struct text text = {address, strlen(address)};
    return is_name(ask->name_space) && is_name(ask->id) && keep(ask->address, sizeof ask->address, text);
}

/* All of stdin, in a file that is stdin from now on; false when it is more than is usual. */
static bool keep_input(char *input, size_t *length)
{
    owned_fd file = (int)sys(__NR_memfd_create, "masu-stdin", 1 /* CLOEXEC */);
    bool small = true;
    *length = 0;
    for (;;) {
        static char chunk[4096];
        long count = sys_read(STDIN, chunk, sizeof chunk);
        if (count == -EINTR)
            continue;
        if (count <= 0)
            break;
        if (file < 0 || write_whole(file, chunk, (size_t)count) < 0)
            return false;
        small = small && *length + (size_t)count <= INPUT_LIMIT;
        if (small)
            memcpy(input + *length, chunk, (size_t)count);
        *length += small ? (size_t)count : 0;
    }
    if (file < 0)
        return *length == 0;
    sys(__NR_lseek, file, 0, 0);
    sys_dup3(file, STDIN, 0);
    return small;
}

/* Whether config.json asks for a shim of its group's. */
static bool has_group(void)
{
    struct statx about;
    owned_fd file = sys_open(AT_FDCWD, "config.json", O_RDONLY, 0);
    if (file == -ENOENT)
        return false;
    if (file < 0 || sys_fstat(file, &about) < 0 || about.stx_size > CONFIG_LIMIT)
        return true;
    size_t length = (size_t)about.stx_size;
    char *text = sys_memory(length + 1);
    if (text == NULL || sys_read(file, text, length) != (long)length)
        return true;
    return contains((struct text){text, length}, GROUP);
}

/* As masu.api.shim.bootstrap names it. */
static bool name_socket(struct ask *ask)
{
    char text[PATH_LIMIT + 2 * NAME_MAXIMUM + 8];
    size_t length = format_text(text, sizeof text, "%s\n%s\n", ask->address, ask->name_space);
    format_text(ask->path, sizeof ask->path, "%s/%016lx%016lx", ask->sockets,
                (unsigned long)hash(0xcbf29ce484222325, text, length),
                (unsigned long)hash(0x84222325cbf29ce4, text, length));
    return strlen(ask->path) < SOCKET_PATH_LIMIT;
}

/* ---- the shim that serves ---- */

struct address {
    uint16_t family;
    char path[SOCKET_PATH_LIMIT];
};

static int stream_socket(const struct ask *ask, struct address *address)
{
    *address = (struct address){.family = FAMILY_UNIX};
    format_text(address->path, sizeof address->path, "%s", ask->path);
    return (int)sys(__NR_socket, FAMILY_UNIX, SOCKET_STREAM | SOCKET_CLOEXEC, 0);
}

static size_t put_text(unsigned char *out, unsigned number, const void *text, size_t length)
{
    out[0] = (unsigned char)(number << 3 | 2);
    out[1] = (unsigned char)length; /* below 128: NAME_MAXIMUM */
    memcpy(out + 2, text, length);
    return length + 2;
}

static bool read_whole(int fd, unsigned char *out, size_t size, int64_t until_ms)
{
    for (size_t have = 0; have < size;) {
        struct pollfd wait = {fd, POLLIN, 0};
        int64_t left = until_ms - clock_ms();
        if (left <= 0 || sys_poll(&wait, 1, left) <= 0)
            return false;
        long count = sys_read(fd, out + have, size - have);
        if (count <= 0)
            return false;
        have += (size_t)count;
    }
    return true;
}

/* Tells it by ttrpc that a container comes; whether it will wait for that. */
static enum found expect(const struct ask *ask)
{
    struct address address;
    unsigned char frame[512] = {0}, payload[NAME_MAXIMUM + 2];
    owned_fd fd = stream_socket(ask, &address);
    if (fd < 0)
        return UNCLEAR;
    if (sys(__NR_connect, fd, &address, sizeof address) < 0)
        return ABSENT;
    size_t length = 10, told = put_text(payload, 1, ask->id, strlen(ask->id));
    length += put_text(frame + length, 1, SERVICE, strlen(SERVICE));
    length += put_text(frame + length, 2, "Expect", strlen("Expect"));
    length += put_text(frame + length, 3, payload, told);
    frame[2] = (unsigned char)((length - 10) >> 8);
    frame[3] = (unsigned char)(length - 10);
    frame[7] = frame[8] = 1; /* stream, a request */
    int64_t until_ms = clock_ms() + EXPECT_MS;
    if (sys(__NR_sendto, fd, frame, length, SEND_NOSIGNAL, NULL, 0) != (long)length ||
        !read_whole(fd, frame, 10, until_ms))
        return ABSENT; /* it has just gone */
    length = (size_t)frame[2] << 8 | frame[3];
    if (frame[0] != 0 || frame[1] != 0 || length > sizeof frame || !read_whole(fd, frame, length, until_ms))
        return UNCLEAR;
    struct text rest = {(const char *)frame, length};
    struct proto_field field, code;
    while (next_field(&rest, &field)) {
        if (field.number != 1 || field.type != 2)
            continue;
        while (next_field(&field.text, &code)) { /* google.rpc.Status */
            if (code.number == 1 && code.value != 0)
                return UNCLEAR;
        }
    }
    return rest.length == 0 ? SERVES : UNCLEAR;
}

static const char **with_environment(const struct front *front, const struct ask *ask)
{
    static char ttrpc[PATH_LIMIT + 16];
    size_t count = 0;
    while (front->envp[count] != NULL)
        count++;
    const char **list = sys_memory(sizeof *list * (count + 3)), **at = list;
    if (list == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        const char *entry = front->envp[i];
        if (strncmp(entry, "TTRPC_ADDRESS=", 14) != 0 && strncmp(entry, "MALLOC_ARENA_MAX=", 17) != 0)
            *at++ = entry;
    }
    format_text(ttrpc, sizeof ttrpc, "TTRPC_ADDRESS=%s", ask->ttrpc);
    *at++ = ttrpc;
    /* One arena of malloc for all threads: each one's own would be memory that nobody uses. */
    *at++ = "MALLOC_ARENA_MAX=1";
    *at = NULL;
    return list;
}

_Noreturn static void become_shim(const struct front *front, const struct ask *ask, int listener, const char **environment)
{
    char entry[PATH_LIMIT + 16], number[16];
    const char *words[WORDS_COUNT] = {front->python, "-SIE", "-X", "utf8", entry, front->program, "-namespace",
                                      ask->name_space, "-id", ask->id, "-address", ask->address, "-socket", ask->path,
                                      "-listener", number};
    unsigned count = 16;
    if (ask->debug)
        words[count++] = "-debug";
    words[count] = "serve";
    format_text(entry, sizeof entry, "%s/__main__.py", front->package);
    format_text(number, sizeof number, "%d", listener);
    int null = sys_open(AT_FDCWD, "/dev/null", O_RDWR, 0);
    for (int fd = 0; fd < 3; fd++)
        sys_dup3(null, fd, 0);
    sys(__NR_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC);
    sys_fcntl(listener, F_SETFD, 0);
    sys(__NR_setsid);
    sys(__NR_chdir, "/");
    sys_usual_signals();
    sys(__NR_execve, front->python, words, environment);
    sys(__NR_unlinkat, AT_FDCWD, ask->path, 0);
    sys_exit(127);
}

/* The kernel is to spare containerd before the shim. Lowering it wants CAP_SYS_RESOURCE, which we may lack. */
static void choose_before_parent(int pid)
{
    char path[64], text[16];
    uint64_t score;
    format_text(path, sizeof path, "/proc/%d/oom_score_adj", (int)sys(__NR_getppid));
    long length = read_file(AT_FDCWD, path, text, sizeof text);
    while (length > 0 && text[length - 1] == '\n')
        length--;
    bool negative = length > 0 && text[0] == '-';
    if (length <= 0 || !parse_number(text + negative, (size_t)length - negative, 1000, &score))
        return;
    int wanted = negative ? -(int)score + 1 : (int)score + 1;
    size_t size = format_text(text, sizeof text, "%d", wanted > 1000 ? 1000 : wanted);
    format_text(path, sizeof path, "/proc/%d/oom_score_adj", pid);
    write_file(AT_FDCWD, path, text, size);
}

static bool begin_shim(const struct front *front, const struct ask *ask)
{
    struct address address;
    const char **environment = with_environment(front, ask);
    if (environment == NULL)
        return false;
    sys(__NR_unlinkat, AT_FDCWD, ask->path, 0);
    owned_fd listener = stream_socket(ask, &address);
    /* The mode of the file is the socket's: 0600. */
    if (listener < 0 || sys(__NR_fchmod, listener, 0600) < 0 || sys(__NR_bind, listener, &address, sizeof address) < 0 ||
        sys(__NR_listen, listener, 128) < 0)
        return false;
    int pid = sys_fork();
    if (pid == 0)
        become_shim(front, ask, listener, environment);
    if (pid < 0)
        sys(__NR_unlinkat, AT_FDCWD, ask->path, 0);
    else
        choose_before_parent(pid);
    return pid > 0;
}

/* ---- the two verbs ---- */

static int take_shim_lock(const struct ask *ask)
{
    char path[sizeof ask->path + 8];
    struct statx held, named;
    format_text(path, sizeof path, "%s.lock", ask->path);
    for (;;) {
        int lock = sys_open(AT_FDCWD, path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
        if (lock < 0)
            return lock;
        /* Who held it may have unlinked it. */
        if (sys(__NR_flock, lock, 2 /* LOCK_EX */) == 0 && sys_fstat(lock, &held) == 0 &&
            sys_statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_INO, &named) == 0 && held.stx_ino == named.stx_ino)
            return lock;
        sys_close(lock);
    }
}

static void start(struct front *front, struct ask *ask)
{
    static char input[INPUT_LIMIT];
    char answer[SOCKET_PATH_LIMIT + 64], out[SOCKET_PATH_LIMIT + 64];
    struct text text = {input, 0}, ttrpc = {variable(front, "TTRPC_ADDRESS"), 0};
    ttrpc.length = strlen(ttrpc.at);
    format_text(ask->sockets, sizeof ask->sockets, "%s", SOCKETS);
    if (!keep_input(input, &text.length) || !keep(ask->ttrpc, sizeof ask->ttrpc, ttrpc) ||
        (text.length > 0 && !take_message(ask, text)) || ask->address[0] == '\0' || has_group() || !name_socket(ask) ||
        !find_python(front))
        return;
    owned_fd lock = take_shim_lock(ask);
    if (lock < 0)
        return;
    enum found found = expect(ask);
    if (found == UNCLEAR || (found == ABSENT && !begin_shim(front, ask)))
        return;
    size_t length = format_text(answer, sizeof answer, "unix://%s", ask->path);
    /* containerd reads it there when it is started anew, until 1.7. */
    if (write_renamed("address", answer, length, false) < 0)
        sys_exit(1);
    if (ask->is_message) { /* BootstrapResult */
        unsigned char *at = (unsigned char *)out;
        *at++ = 1 << 3;
        *at++ = 3; /* the task service's version */
        at += put_text(at, 2, answer, length);
        at += put_text(at, 3, "ttrpc", 5);
        write_whole(STDOUT, out, (size_t)(at - (unsigned char *)out));
    } else {
        write_whole(STDOUT, answer, length);
    }
    sys_exit(0);
}

/* Whether the socket that the bundle tells of is gone, or in use. */
static bool is_tidy(const char *bundle)
{
    struct ask ask = {0};
    struct address address;
    char path[PATH_LIMIT], text[sizeof ask.path];
    format_text(path, sizeof path, "%s/address", bundle);
    long length = read_file(AT_FDCWD, path, text, sizeof text);
    if (length == -ENOENT)
        return true;
    if (length <= 7 || strncmp(text, "unix://", 7) != 0 || strlen(text + 7) >= SOCKET_PATH_LIMIT)
        return false;
    format_text(ask.path, sizeof ask.path, "%s", text + 7);
    owned_fd fd = stream_socket(&ask, &address);
    long result = fd < 0 ? fd : sys(__NR_connect, fd, &address, sizeof address);
    return result == 0 || result == -ENOENT;
}

static size_t put_varint(unsigned char *out, uint64_t value)
{
    size_t length = 0;
    for (; value > 0x7f; value >>= 7)
        out[length++] = (unsigned char)(value | 0x80);
    out[length++] = (unsigned char)value;
    return length;
}

static void delete(const struct ask *ask)
{
    char path[PATH_LIMIT];
    unsigned char out[64], when[32];
    struct statx about;
    struct __kernel_timespec now;
    if (ask->bundle == NULL || strlen(ask->bundle) > PATH_LIMIT - 32)
        return;
    format_text(path, sizeof path, "%s/masu-root", ask->bundle); /* its state is not in the usual place */
    if (sys_statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &about) != -ENOENT)
        return;
    format_text(path, sizeof path, "%s/%s/%s", STATES, ask->name_space, ask->id);
    if (sys_statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &about) != -ENOENT || !is_tidy(ask->bundle))
        return;
    format_text(path, sizeof path, "%s/rootfs", ask->bundle);
    long result = sys(__NR_umount2, path, UNMOUNT);
    if (result != -EINVAL && result != -ENOENT) /* not mounted, as umount2(2) says it */
        return;
    sys(__NR_clock_gettime, 0 /* CLOCK_REALTIME */, &now);
    size_t length = 0, size = 0;
    when[size++] = 1 << 3;
    size += put_varint(when + size, (uint64_t)now.tv_sec);
    when[size++] = 2 << 3;
    size += put_varint(when + size, (uint64_t)now.tv_nsec);
    out[length++] = 2 << 3; /* DeleteResponse.exit_status, as of what was killed */
    length += put_varint(out + length, 128 + SIGNAL_KILL);
    length += put_text(out + length, 3, when, size);
    write_whole(STDOUT, out, length);
    sys_exit(0);
}

void run_shim(struct front *front)
{
    static struct ask ask;
    if (front->package[0] == '\0' || !parse_words(&ask, front->argc, front->argv) || ask.verb == NULL)
        return;
    if (strcmp(ask.verb, "start") == 0)
        start(front, &ask);
    else if (strcmp(ask.verb, "delete") == 0)
        delete(&ask);
}
