/* masu-unpack --root FD [--lower FD] --whiteouts overlay|overlay-user|remove --entries N --bytes N [--skip-devices]
 *             [--parent PID]
 *
 * Reads an uncompressed tar from fd 0, fills the directory FD (a detached mount), and writes one report to fd 1:
 *
 *     ok\n<entries> <bytes> <skipped xattrs> <skipped devices>\n
 *     error\n<invalid|exhausted|kernel> <errno> <entry number>\n<what>\n<name of the entry, each byte in hex>\n
 *
 * The exit status is 0 in both cases; without a whole report it died.
 *
 * masu-unpack --user-namespace makes one, writes "+" to fd 1 and keeps it until fd 0 ends: for whoever needs the
 * namespace of an idmapped mount and must not fork. */
#include "unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER = 1 << 20 };

static ssize_t read_stdin(void *context, void *buffer, size_t size)
{
    (void)context;
    ssize_t n;
    do
        n = read(0, buffer, size);
    while (n < 0 && errno == EINTR);
    return n;
}

static int say(const char *text, size_t length)
{
    while (length > 0) {
        ssize_t n = write(1, text, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return 1;
        text += n;
        length -= (size_t)n;
    }
    return 0;
}

static int report_error(const struct error *err, uint64_t index)
{
    static const char *const kinds[] = {"kernel", "invalid", "exhausted", "kernel"};
    static char text[512 + 2 * MAX_PATH];
    int length = snprintf(text, 512, "error\n%s %d %llu\n%s\n", kinds[err->kind & 3], err->number,
                          (unsigned long long)index, err->what);
    for (size_t i = 0; i < err->name_length; i++)
        length += sprintf(text + length, "%02x", (unsigned char)err->name[i]);
    text[length++] = '\n';
    return say(text, (size_t)length);
}

static uint64_t number(const char *text)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || *end || end == text || *text == '-') {
        fprintf(stderr, "masu-unpack: not a number: %s\n", text);
        exit(2);
    }
    return value;
}

static int unpack(int root, int lower, enum whiteouts whiteouts, bool skip_devices, struct limits limits)
{
    static struct error err;
    static struct entry entry;
    struct tar tar = {0};
    uint64_t seed[2];
    if (getrandom(seed, sizeof seed, 0) != sizeof seed) {
        fail_errno(&err, "getrandom");
        return report_error(&err, 0);
    }
    hash_seed(seed);
    umask(0);
    struct confinement wanted = {.keep_sys_admin = whiteouts == OVERLAY && lower >= 0};
    if (confine(&root, lower, wanted, &err) < 0)
        return report_error(&err, 0);
    struct tree *tree = tree_open(root, lower >= 0 ? 4 : -1, whiteouts, skip_devices, limits, &err);
    if (!tree || tar_open(&tar, read_stdin, NULL, BUFFER, &err) < 0)
        return report_error(&err, 0);
    int more;
    while ((more = tar_next(&tar, &entry, &err)) > 0)
        if ((more = tree_apply(tree, &tar, &entry, &err)) < 0)
            break;
    if (more < 0 || tree_finish(tree, &err) < 0 || tar_drain(&tar, &err) < 0)
        return report_error(&err, tar.index);
    struct counts counts = tree_counts(tree);
    char text[128];
    int length = snprintf(text, sizeof text, "ok\n%llu %llu %llu %llu\n", (unsigned long long)counts.entries,
                          (unsigned long long)counts.bytes, (unsigned long long)counts.skipped_xattrs,
                          (unsigned long long)counts.skipped_devices);
    return say(text, (size_t)length);
}

static int hold_user_namespace(void)
{
    char byte;
    if (unshare(CLONE_NEWUSER) < 0)
        return 1;
    if (say("+", 1) != 0)
        return 1;
    while (read_stdin(NULL, &byte, 1) > 0)
        ;
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"root", required_argument, NULL, 'r'},    {"lower", required_argument, NULL, 'l'},
        {"whiteouts", required_argument, NULL, 'w'}, {"entries", required_argument, NULL, 'e'},
        {"bytes", required_argument, NULL, 'b'},   {"skip-devices", no_argument, NULL, 'd'},
        {"user-namespace", no_argument, NULL, 'u'},
        {"parent", required_argument, NULL, 'p'},
        {0},
    };
    int root = -1, lower = -1, option;
    enum whiteouts whiteouts = REMOVE;
    bool skip_devices = false;
    struct limits limits = {.entries = UINT64_MAX, .bytes = UINT64_MAX};
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'r':
            root = (int)number(optarg);
            break;
        case 'l':
            lower = (int)number(optarg);
            break;
        case 'w':
            if (strcmp(optarg, "overlay") == 0)
                whiteouts = OVERLAY;
            else if (strcmp(optarg, "overlay-user") == 0)
                whiteouts = OVERLAY_USER;
            else if (strcmp(optarg, "remove") == 0)
                whiteouts = REMOVE;
            else
                return 2;
            break;
        case 'e':
            limits.entries = number(optarg);
            break;
        case 'b':
            limits.bytes = number(optarg);
            break;
        case 'd':
            skip_devices = true;
            break;
        case 'p':
            /* A layer nobody waits for is not to be filled any further. Twice: it may have died before the first. */
            if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || (uint64_t)getppid() != number(optarg))
                return 1;
            break;
        case 'u':
            return hold_user_namespace();
        default:
            return 2;
        }
    }
    if (root < 0 || optind != argc) {
        fprintf(stderr, "masu-unpack: a helper of masu; fills a directory from a layer (see native/unpack/main.c)\n");
        return 2;
    }
    return unpack(root, lower, whiteouts, skip_devices, limits);
}
