/* Finding the program, becoming it, and saying why that did not work. */
#include "launch.h"

#include <linux/elf.h>

#if defined(__x86_64__)
#define THIS_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define THIS_MACHINE EM_AARCH64
#elif defined(__riscv)
#define THIS_MACHINE 243
#else
#define THIS_MACHINE 0
#endif

/* 0 when `path` can be executed by us; the container's seccomp filter may be loaded, so a refused look counts as no
 * objection. */
static int check_program(const char *path)
{
    struct statx about;
    int result = sys_statx(AT_FDCWD, path, 0, STATX_TYPE, &about);
    if (result == 0 && (about.stx_mode & KIND_MASK) != KIND_FILE)
        return (about.stx_mode & KIND_MASK) == KIND_DIRECTORY ? -EISDIR : -EACCES;
    if (result < 0 && result != -EPERM && result != -ENOSYS)
        return result;
    /* By the effective user and capabilities: CAP_DAC_OVERRIDE counts (faccessat2: Linux 5.8). */
    result = (int)sys(__NR_faccessat2, AT_FDCWD, path, 1 /* X_OK */, AT_EACCESS);
    return result == -EPERM || result == -ENOSYS ? 0 : result;
}

/* Which directory on the way to `path` this user may not enter. */
static int explain_barred(struct masu_error *err, const char *path)
{
    char above[PATH_LIMIT];
    size_t length = strlen(path);
    for (size_t end = 1; end < length && end < sizeof above; end++) {
        if (path[end] != '/')
            continue;
        memcpy(above, path, end);
        above[end] = '\0';
        if (sys(__NR_faccessat2, AT_FDCWD, above, 1 /* X_OK */, AT_EACCESS) == -EACCES)
            return fail(err, EACCES, "%s may not be entered by uid %u gid %u", above, (unsigned)sys(__NR_geteuid),
                        (unsigned)sys(__NR_getegid));
    }
    return fail(err, EACCES, "%s", path);
}

/* Why this user may not execute `path`, as far as the file can be seen. */
static int explain_refused(struct masu_error *err, const char *path)
{
    struct statx about;
    struct sys_statfs on;
    int result = sys_statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &about);
    if (result < 0)
        return explain_barred(err, path);
    if ((about.stx_mode & KIND_MASK) == KIND_DIRECTORY)
        return fail(err, EACCES, "%s is a directory", path);
    if ((about.stx_mode & KIND_MASK) != KIND_FILE)
        return fail(err, EACCES, "%s is neither a file nor a symlink to one", path);
    if (sys(__NR_statfs, path, &on) == 0 && THIS_MACHINE != 0 && (on.flags & ST_NOEXEC) != 0)
        return fail(err, EACCES, "%s is on a file system that is mounted noexec", path);
    if ((about.stx_mode & 0111) == 0)
        return fail(err, EACCES, "%s has mode %04o, which lets nobody execute it", path, about.stx_mode & 07777);
    return fail(err, EACCES, "%s has mode %04o and owner %u:%u, the process is uid %u gid %u", path,
                about.stx_mode & 07777, about.stx_uid, about.stx_gid, (unsigned)sys(__NR_geteuid),
                (unsigned)sys(__NR_getegid));
}

static int use_program(struct launch *launch, const char *path, struct masu_error *err)
{
    size_t length = strlen(path);
    if (length >= sizeof launch->program)
        return fail(err, ENAMETOOLONG, "a program path of %zu bytes", length);
    memcpy(launch->program, path, length + 1);
    return 0;
}

/* As execvp(3) looks, but without its default for an empty PATH. */
static int find_program(struct launch *launch, const char *program, const char *path, struct masu_error *err)
{
    char candidate[PATH_LIMIT];
    if (*program == '\0')
        return fail(err, ENOENT, "the program's name is empty");
    if (strchr(program, '/') != NULL) {
        int result = check_program(program);
        if (result == -EACCES || result == -EISDIR)
            return explain_refused(err, program);
        return result < 0 ? fail_path(err, result, program) : use_program(launch, program, err);
    }
    char refused[PATH_LIMIT] = "";
    for (const char *at = path; *path != '\0'; at++) {
        size_t length = 0;
        while (at[length] != '\0' && at[length] != ':')
            length++;
        size_t used = format_text(candidate, sizeof candidate, "%.*s%s%s", (int)length, at, length > 0 ? "/" : "./",
                                  program);
        int result = used + 1 < sizeof candidate ? check_program(candidate) : -ENAMETOOLONG;
        if (result == 0)
            return use_program(launch, candidate, err);
        if (result == -EACCES && refused[0] == '\0')
            memcpy(refused, candidate, used + 1);
        at += length;
        if (*at == '\0')
            break;
    }
    if (refused[0] != '\0')
        return explain_refused(err, refused);
    return fail(err, ENOENT, "\"%s\": executable file not found in $PATH", program);
}

int do_find_program(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    return find_program(launch, text_of(op, F_FIND_PROGRAM_PROGRAM), text_of(op, F_FIND_PROGRAM_PATH), err);
}

/* ---- why execve failed ---- */

static const char *machine_name(unsigned machine)
{
    switch (machine) {
    case EM_386:
        return "i386";
    case EM_ARM:
        return "arm";
    case EM_X86_64:
        return "x86_64";
    case EM_AARCH64:
        return "aarch64";
    case EM_PPC64:
        return "ppc64";
    case EM_S390:
        return "s390x";
    case 243:
        return "riscv64";
    case 258:
        return "loongarch64";
    case EM_MIPS:
        return "mips";
    default:
        return "an unknown machine";
    }
}

static int explain_script(struct masu_error *err, int number, const char *program, char *head, size_t length)
{
    char *at = head + 2, *end = memchr(head, '\n', length);
    if (end == NULL)
        end = head + length;
    *end = '\0';
    while (*at == ' ' || *at == '\t')
        at++;
    char *stop = at;
    while (*stop != '\0' && *stop != ' ' && *stop != '\t' && *stop != '\r')
        stop++;
    bool carriage = *stop == '\r';
    *stop = '\0';
    if (*at == '\0')
        return fail(err, number, "%s: its #! line names no interpreter", program);
    if (carriage)
        return fail(err, number, "%s: its #! line ends in a carriage return, as Windows ends lines", program);
    int result = check_program(at);
    if (result == -ENOENT || result == -ENOTDIR)
        return fail(err, number, "%s: interpreter %s: not found", program, at);
    return fail(err, number, "%s: interpreter %s", program, at);
}

static int explain_elf(struct masu_error *err, int number, const char *program, int fd, const char *head)
{
    const Elf64_Ehdr *elf = (const void *)head;
    char interpreter[PATH_LIMIT];
    if (THIS_MACHINE != 0 && elf->e_machine != THIS_MACHINE && number == -ENOEXEC)
        return fail(err, number, "%s: it is for %s, this machine is %s", program, machine_name(elf->e_machine),
                    machine_name(THIS_MACHINE));
    if (elf->e_ident[EI_CLASS] != ELFCLASS64 || elf->e_phentsize != sizeof(Elf64_Phdr))
        return fail(err, number, "%s", program);
    for (unsigned i = 0; i < elf->e_phnum && i < 128; i++) {
        Elf64_Phdr segment;
        uint64_t at = elf->e_phoff + (uint64_t)i * sizeof segment;
        if (sys(__NR_pread64, fd, &segment, sizeof segment, at) != sizeof segment || segment.p_type != PT_INTERP)
            continue;
        size_t size = segment.p_filesz < sizeof interpreter ? (size_t)segment.p_filesz : 0;
        if (size == 0 || sys(__NR_pread64, fd, interpreter, size, segment.p_offset) != (long)size)
            break;
        interpreter[size - 1] = '\0';
        if (check_program(interpreter) != 0)
            return fail(err, number, "%s: interpreter %s: not found, the dynamic loader of its C library",
                        program, interpreter);
        break;
    }
    return fail(err, number, "%s", program);
}

/* Fills `err` for execve's `number`, after a look into the file. */
static int explain(struct masu_error *err, int number, const char *program)
{
    union {
        char bytes[257];
        Elf64_Ehdr aligned;
    } head;
    if (number == -E2BIG)
        return fail(err, number, "%s: arguments and environment are too long", program);
    owned_fd fd = sys_open(AT_FDCWD, program, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0)
        return fail_path(err, number, program);
    long length = sys_read(fd, head.bytes, sizeof head.bytes - 1);
    if (length == 0)
        return fail(err, number, "%s: the file is empty", program);
    if (length >= 2 && head.bytes[0] == '#' && head.bytes[1] == '!')
        return explain_script(err, number, program, head.bytes, (size_t)length);
    if (length >= (long)sizeof(Elf64_Ehdr) && memcmp(head.bytes, ELFMAG, SELFMAG) == 0)
        return explain_elf(err, number, program, fd, head.bytes);
    if (number == -ENOEXEC)
        return fail(err, number, "%s: neither a program nor a script with a #! line", program);
    return fail(err, number, "%s", program);
}

/* A container's own stderr gets a line as well: what keeps its program from running is looked for in its log. In the
 * words of every runtime since runc 1.1. */
static void tell_the_log(const char *program, int number)
{
    const char *reason = number == -ENOENT    ? "no such file or directory"
                         : number == -EACCES  ? "permission denied"
                         : number == -ENOEXEC ? "exec format error"
                         : number == -EPERM   ? "operation not permitted"
                                              : "failed";
    char line[PATH_LIMIT + 64];
    format_text(line, sizeof line, "exec %s: %s\n", program, reason);
    sys_write(STDERR, line, strlen(line));
}

int do_exec(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    const char **args = list_array(op, F_EXEC_ARGS), **env = list_array(op, F_EXEC_ENV);
    if (args == NULL || env == NULL)
        return fail(err, ENOMEM, "arguments");
    if (args[0] == NULL)
        return fail(err, EINVAL, "there are no arguments");
    if (launch->program[0] == '\0') {
        const char *path = "";
        for (const char **item = env; *item != NULL; item++) {
            if (strncmp(*item, "PATH=", 5) == 0)
                path = *item + 5;
        }
        if (find_program(launch, args[0], path, err) < 0)
            return -1;
    }
    int result = (int)sys(__NR_execve, launch->program, args, env);
    if (launch->entered)
        tell_the_log(launch->program, result);
    return explain(err, result, launch->program);
}

/* ---- a small PID 1 ---- */

static void forward_signals(int child)
{
    uint64_t all = ~0ull;
    for (;;) {
        int signal = (int)sys(__NR_rt_sigtimedwait, &all, NULL, NULL, sizeof all);
        if (signal > 0 && signal != SIGNAL_CHILD)
            sys(__NR_kill, child, signal);
        if (signal != SIGNAL_CHILD)
            continue;
        int status, pid;
        while ((pid = sys_wait(-1, &status, WAIT_NO_HANG | WAIT_ALL_CLONES)) > 0) {
            if (pid == child)
                sys_exit((status & 0x7f) != 0 ? 128 + (status & 0x7f) : status >> 8 & 0xff);
        }
    }
}

int do_init(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    sys_sigmask(~0ull); /* none is lost between fork and the wait for it */
    int child = sys_fork();
    if (child < 0)
        return fail(err, child, "fork of init's child");
    if (child > 0) {
        set_name("masu-init");
        sys(__NR_close_range, 0, ~0u, 0);
        forward_signals(child);
    }
    /* A process group of its own, in the foreground: ^C is for the program, not for its init. SIGTTOU is still
     * blocked here, as tcsetpgrp(3) wants it from a background group. */
    int group = sys_getpid();
    if (sys(__NR_setpgid, 0, 0) == 0)
        sys_ioctl(STDIN, TIOCSPGRP, &group);
    sys_prctl(PR_SET_PDEATHSIG, SIGNAL_KILL, 0, 0);
    sys_sigmask(0);
    return 0;
}
