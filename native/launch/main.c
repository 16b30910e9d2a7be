/* One executable, several programs, by the name it is called by:
 *
 *   masu, masu-oci           what people and engines type (front.h)
 *   containerd-shim-masu-v2  what containerd calls, likewise
 *   masu-launch SOCK PLAN    two fd numbers: carries out a plan (launch.h)
 *   pause                    the first process of a container that holds namespaces for others (a sandbox)
 *   keeper                   holds a scope of systemd's until stdin ends (masu.runtime.scope)
 */
#include "../front/front.h"

static struct launch the_launch;

static int fd_argument(const char *text)
{
    uint64_t number;
    return parse_number(text, strlen(text), INT32_MAX, &number) ? (int)number : -1;
}

static int map_plan(int fd, struct plan *plan, struct masu_error *err)
{
    struct statx about;
    int result = sys_fstat(fd, &about);
    if (result < 0)
        return fail(err, result, "the plan's fd");
    if (about.stx_size == 0 || about.stx_size > PLAN_MAX_BYTES)
        return fail(err, EBADMSG, "malformed plan: %lu bytes", (unsigned long)about.stx_size);
    long address = sys(__NR_mmap, 0, about.stx_size, 1 /* READ */, 2 /* PRIVATE */, fd, 0);
    if (address < 0 && address > -4096)
        return fail(err, address, "mmap of the plan");
    return plan_check(plan, (const void *)address, (size_t)about.stx_size, err);
}

static int run_launch(int argc, char **argv)
{
    static const char usage[] = "usage: masu-launch SOCK PLAN (it is started by masu, with two file descriptors)\n";
    struct launch *launch = &the_launch;
    struct masu_error err;
    int plan_fd = argc == 3 ? fd_argument(argv[2]) : -1;
    launch->control = argc == 3 ? fd_argument(argv[1]) : -1;
    if (launch->control < 0 || plan_fd < 0 || sys_fcntl(launch->control, F_SETFD, FD_CLOEXEC) < 0) {
        sys_write(STDERR, usage, sizeof usage - 1);
        return 2;
    }
    /* Nobody in a container may read our memory, follow our /proc/PID/exe or fd (CVE-2019-5736). */
    sys_prctl(PR_SET_DUMPABLE, 0, 0, 0);
    sys_usual_signals(); /* the caller's are not the container's (Python ignores SIGPIPE) */
    launch->told = launch->monitor = launch->root = launch->procfs = launch->empty = launch->start_fifo = -1;
    memset(launch->slots, 0xff, sizeof launch->slots);
    if (map_plan(plan_fd, &launch->plan, &err) < 0) {
        control_send(launch, MSG_ERROR, err.number, 0, err.detail, -1);
        return 1;
    }
    sys_close(plan_fd);
    if (launch->plan.data[PLAN_FIRST] == OP_MONITOR)
        return run_monitor(launch);
    return run_stage(launch);
}

/* Does nothing until it is asked to end; buries whom it inherits. */
static int run_pause(void)
{
    uint64_t mask = 1u << (SIGNAL_TERM - 1) | 1u << (SIGNAL_INTERRUPT - 1) | 1u << (SIGNAL_CHILD - 1);
    uint32_t info[128 / sizeof(uint32_t)]; /* struct signalfd_siginfo: the number comes first */
    sys_sigmask(mask);
    int signals = (int)sys(__NR_signalfd4, -1, &mask, sizeof mask, O_CLOEXEC);
    while (sys_read(signals, info, sizeof info) == sizeof info) {
        if (info[0] != SIGNAL_CHILD)
            return 0;
        while (sys_wait(-1, NULL, WAIT_NO_HANG | WAIT_ALL_CLONES) > 0)
            continue;
    }
    return 1;
}

static int run_keeper(void)
{
    char byte;
    long count;
    do {
        count = sys_read(STDIN, &byte, 1);
    } while (count > 0 || count == -EINTR);
    return 0;
}

static int front_program(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    int program = PROGRAMS_COUNT - 1;
    while (program >= 0 && strcmp(name, program_names[program]) != 0)
        program--;
    return program;
}

int main(int argc, char **argv)
{
    char path[PATH_LIMIT];
    int program = argc > 0 ? front_program(argv[0]) : -1;
    if (argc == 1 && strcmp(argv[0], "/pause") == 0)
        return run_pause();
    if (argc == 1 && strcmp(argv[0], "keeper") == 0)
        return run_keeper();
    if (program < 0 && (argc < 1 || strcmp(argv[0], "masu-launch") != 0)) {
        /* By a symlink of another name, "runc" perhaps. */
        long length = sys(__NR_readlinkat, AT_FDCWD, "/proc/self/exe", path, sizeof path - 1);
        path[length > 0 ? length : 0] = '\0';
        program = front_program(path);
    }
    if (program >= 0 && argc > 0)
        return run_front(argc, argv, argv + argc + 1, (unsigned)program);
    return run_launch(argc, argv);
}
