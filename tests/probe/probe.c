/* A container's init for the tests: static, no libraries, says on stdout what it sees from inside.
 *
 *   probe COMMAND ARGS... [-- COMMAND ARGS...]...
 *
 * Commands run in turn; the exit status is 0 unless one failed (then 1) or `exit N` was reached. What a command
 * finds goes to stdout in a form that is easy to compare; a call that fails prints `ERROR <ERRNO NAME>` and counts as an
 * answer, not as a failure, for often it is the answer wanted. Needs neither /proc nor /dev unless said. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* errno as a name; glibc 2.32 */
static void error_line(void)
{
	const char *name = strerrorname_np(errno);
	printf("ERROR %s\n", name ? name : "?");
}

static int answer(long result)
{
	if (result < 0)
		error_line();
	else
		puts("ok");
	return 0;
}

static long number(const char *text)
{
	char *end;
	errno = 0;
	long value = strtol(text, &end, 0);
	if (errno || *end || end == text) {
		fprintf(stderr, "probe: not a number: %s\n", text);
		exit(2);
	}
	return value;
}

static int copy_out(int fd)
{
	char buffer[16384];
	ssize_t n;
	fflush(stdout);
	while ((n = read(fd, buffer, sizeof buffer)) > 0)
		for (ssize_t done = 0, k; done < n; done += k)
			if ((k = write(1, buffer + done, (size_t)(n - done))) < 0)
				return 1;
	if (n < 0)
		error_line();
	return 0;
}

/* mode PATH...: `c 0666 0:0 1:3` = type, permissions, owner, device number (devices only); links are not followed. */
static int cmd_mode(int n, char **v)
{
	for (int i = 0; i < n; i++) {
		struct stat st;
		if (lstat(v[i], &st)) {
			error_line();
			continue;
		}
		char type = S_ISREG(st.st_mode) ? '-' : S_ISDIR(st.st_mode) ? 'd' : S_ISLNK(st.st_mode) ? 'l' :
			    S_ISCHR(st.st_mode) ? 'c' : S_ISBLK(st.st_mode) ? 'b' : S_ISFIFO(st.st_mode) ? 'p' : 's';
		printf("%c %04o %u:%u", type, st.st_mode & 07777, st.st_uid, st.st_gid);
		if (type == 'c' || type == 'b')
			printf(" %u:%u", major(st.st_rdev), minor(st.st_rdev));
		putchar('\n');
	}
	return 0;
}

static int cmd_cat(int n, char **v)
{
	for (int i = 0; i < n; i++) {
		int fd = open(v[i], O_RDONLY | O_CLOEXEC);
		if (fd < 0) {
			error_line();
			continue;
		}
		copy_out(fd);
		close(fd);
	}
	return 0;
}

/* ls DIR: names in order, one a line. */
static int cmd_ls(int n, char **v)
{
	struct dirent **list;
	int count = scandir(n ? v[0] : ".", &list, NULL, alphasort);
	if (count < 0)
		return answer(-1);
	for (int i = 0; i < count; i++)
		if (strcmp(list[i]->d_name, ".") && strcmp(list[i]->d_name, ".."))
			puts(list[i]->d_name);
	return 0;
}

static int cmd_readlink(int n, char **v)
{
	for (int i = 0; i < n; i++) {
		char target[4096];
		ssize_t length = readlink(v[i], target, sizeof target - 1);
		if (length < 0)
			error_line();
		else
			printf("%.*s\n", (int)length, target);
	}
	return 0;
}

static int open_write(const char *path, int flags, const char *text)
{
	int fd = open(path, flags | O_CLOEXEC, 0666);
	if (fd < 0)
		return answer(-1);
	ssize_t written = write(fd, text, strlen(text));
	int saved = errno;
	close(fd);
	errno = saved;
	return answer(written);
}

/* write PATH TEXT: into an existing file; create PATH TEXT: a new one. */
static int cmd_write(int n, char **v) { return n < 2 ? 2 : open_write(v[0], O_WRONLY, v[1]); }
static int cmd_create(int n, char **v) { return n < 2 ? 2 : open_write(v[0], O_WRONLY | O_CREAT | O_EXCL, v[1]); }
static int cmd_mkdir(int n, char **v) { return n < 1 ? 2 : answer(mkdir(v[0], 0777)); }
static int cmd_unlink(int n, char **v) { return n < 1 ? 2 : answer(unlink(v[0])); }
static int cmd_chown(int n, char **v) { return n < 3 ? 2 : answer(chown(v[0], (uid_t)number(v[1]), (gid_t)number(v[2]))); }
static int cmd_chmod(int n, char **v) { return n < 2 ? 2 : answer(chmod(v[0], (mode_t)strtol(v[1], NULL, 8))); }
static int cmd_chroot(int n, char **v) { return n < 1 ? 2 : answer(chroot(v[0])); }
static int cmd_sethostname(int n, char **v) { return n < 1 ? 2 : answer(sethostname(v[0], strlen(v[0]))); }
static int cmd_umount(int n, char **v) { return n < 1 ? 2 : answer(umount2(v[0], 0)); }

/* open PATH r|w|rw: does it open? */
static int cmd_open(int n, char **v)
{
	if (n < 2)
		return 2;
	int flags = !strcmp(v[1], "r") ? O_RDONLY : !strcmp(v[1], "w") ? O_WRONLY : O_RDWR;
	int fd = open(v[0], flags | O_NONBLOCK | O_CLOEXEC);
	answer(fd);
	if (fd >= 0)
		close(fd);
	return 0;
}

/* mknod PATH c|b MAJOR MINOR */
static int cmd_mknod(int n, char **v)
{
	if (n < 4)
		return 2;
	return answer(mknod(v[0], (*v[1] == 'c' ? S_IFCHR : S_IFBLK) | 0600,
			    makedev((unsigned)number(v[2]), (unsigned)number(v[3]))));
}

/* mount SOURCE TARGET TYPE [FLAGS [DATA]] */
static int cmd_mount(int n, char **v)
{
	if (n < 3)
		return 2;
	return answer(mount(v[0], v[1], v[2], n > 3 ? (unsigned long)number(v[3]) : 0, n > 4 ? v[4] : NULL));
}

static int cmd_id(int n, char **v)
{
	(void)n, (void)v;
	gid_t groups[512];
	int count = getgroups(512, groups);
	mode_t mask = umask(0);
	umask(mask);
	printf("uid=%u euid=%u gid=%u egid=%u umask=%04o groups=", getuid(), geteuid(), getgid(), getegid(), mask);
	for (int i = 0; i < count; i++)
		printf("%s%u", i ? "," : "", groups[i]);
	putchar('\n');
	return 0;
}

/* caps: the five sets as bit masks in hex, no_new_privs, seccomp mode; asked of the kernel, not of /proc. */
static int cmd_caps(int n, char **v)
{
	(void)n, (void)v;
	struct { uint32_t version; int pid; } header = { 0x20080522, 0 };
	struct { uint32_t effective, permitted, inheritable; } data[2];
	if (syscall(SYS_capget, &header, data))
		return answer(-1);
	uint64_t bounding = 0, ambient = 0;
	for (unsigned long cap = 0; cap < 64; cap++) {
		if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1)
			bounding |= UINT64_C(1) << cap;
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1)
			ambient |= UINT64_C(1) << cap;
	}
#define SET(name) ((uint64_t)data[1].name << 32 | data[0].name)
	printf("bounding=%" PRIx64 " effective=%" PRIx64 " inheritable=%" PRIx64 " permitted=%" PRIx64 " ambient=%" PRIx64
	       " nnp=%d seccomp=%d\n",
	       bounding, SET(effective), SET(inheritable), SET(permitted), ambient,
	       prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
	return 0;
}

static int cmd_mounts(int n, char **v)
{
	(void)n, (void)v;
	char *path = "/proc/self/mountinfo";
	return cmd_cat(1, &path);
}

/* isatty: `tty tty no` for 0, 1, 2; closed ones say `closed`. */
static int cmd_isatty(int n, char **v)
{
	(void)n, (void)v;
	for (int fd = 0; fd < 3; fd++)
		printf("%s%c", isatty(fd) ? "tty" : errno == EBADF ? "closed" : "no", fd < 2 ? ' ' : '\n');
	return 0;
}

/* winsize: `24 80` rows and columns of fd 0. */
static int cmd_winsize(int n, char **v)
{
	(void)n, (void)v;
	struct winsize size;
	if (ioctl(0, TIOCGWINSZ, &size))
		return answer(-1);
	printf("%u %u\n", size.ws_row, size.ws_col);
	return 0;
}

/* fds: each open fd and what it is (needs /proc). */
static int cmd_fds(int n, char **v)
{
	(void)n, (void)v;
	for (int fd = 0; fd < 4096; fd++) {
		if (fcntl(fd, F_GETFD) < 0)
			continue;
		char path[64], target[4096];
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		ssize_t length = readlink(path, target, sizeof target - 1);
		printf("%d %.*s\n", fd, length < 0 ? 1 : (int)length, length < 0 ? "?" : target);
	}
	return 0;
}

/* env [NAME]: all, or one. */
static int cmd_env(int n, char **v)
{
	if (n) {
		const char *value = getenv(v[0]);
		puts(value ? value : "(unset)");
		return 0;
	}
	for (char **e = environ; *e; e++)
		puts(*e);
	return 0;
}

static int cmd_cwd(int n, char **v)
{
	(void)n, (void)v;
	char path[8192];
	if (!getcwd(path, sizeof path))
		return answer(-1);
	puts(path);
	return 0;
}

static int cmd_exit(int n, char **v)
{
	fflush(stdout);
	_exit(n ? (int)number(v[0]) : 0);
}

/* signal N: to itself, with the default action. PID 1 of a pid namespace survives what it does not handle. */
static int cmd_signal(int n, char **v)
{
	if (n < 1)
		return 2;
	fflush(stdout);
	signal((int)number(v[0]), SIG_DFL);
	return answer(kill(getpid(), (int)number(v[0])));
}

static volatile sig_atomic_t caught;
static void on_signal(int number_) { caught = number_; }

/* wait SIGNAL...: says `ready`, then `caught N` for the first of them that comes; zombies are reaped meanwhile. */
static int cmd_wait(int n, char **v)
{
	sigset_t set, before;
	sigemptyset(&set);
	for (int i = 0; i < n; i++) {
		struct sigaction action = { .sa_handler = on_signal };
		sigaction((int)number(v[i]), &action, NULL);
		sigaddset(&set, (int)number(v[i]));
	}
	sigprocmask(SIG_BLOCK, &set, &before);
	puts("ready");
	fflush(stdout);
	while (!caught)
		sigsuspend(&before);
	printf("caught %d\n", (int)caught);
	return 0;
}

/* signals: dispositions that are not the default, and the mask: `ignored=13 blocked=` */
static int cmd_signals(int n, char **v)
{
	(void)n, (void)v;
	sigset_t mask;
	sigprocmask(SIG_BLOCK, NULL, &mask);
	printf("ignored=");
	const char *comma = "";
	for (int s = 1; s < NSIG; s++) {
		struct sigaction action;
		if (!sigaction(s, NULL, &action) && action.sa_handler == SIG_IGN) {
			printf("%s%d", comma, s);
			comma = ",";
		}
	}
	printf(" blocked=");
	comma = "";
	for (int s = 1; s < NSIG; s++)
		if (sigismember(&mask, s) == 1) {
			printf("%s%d", comma, s);
			comma = ",";
		}
	putchar('\n');
	return 0;
}

/* sleep SECONDS, after saying `ready`; pause: for ever. Both end at SIGTERM even as PID 1. */
static int cmd_sleep(int n, char **v)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigaction(SIGTERM, &action, NULL);
	puts("ready");
	fflush(stdout);
	struct timespec time = { n ? number(v[0]) : 1L << 40, 0 };
	return nanosleep(&time, NULL) ? 128 + (int)caught : 0;
}

/* memhog MIB: touch that much memory. */
static int cmd_memhog(int n, char **v)
{
	if (n < 1)
		return 2;
	size_t size = (size_t)number(v[0]) << 20;
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return answer(-1);
	for (size_t i = 0; i < size; i += 4096)
		memory[i] = 1;
	munmap(memory, size);
	return answer(0);
}

/* burn SECONDS of wall time on the CPU; says the CPU milliseconds it got. */
static int cmd_burn(int n, char **v)
{
	struct timespec now, end, used;
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += n ? number(v[0]) : 1;
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while (now.tv_sec < end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec));
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	printf("%lld\n", (long long)used.tv_sec * 1000 + used.tv_nsec / 1000000);
	return 0;
}

/* forks N: how many children can live at once, up to N: `forks 5` or `forks 3 EAGAIN`. */
static int cmd_forks(int n, char **v)
{
	long wanted = n ? number(v[0]) : 1, made = 0;
	pid_t *children = calloc((size_t)wanted, sizeof *children);
	fflush(stdout);
	for (; made < wanted; made++) {
		pid_t pid = fork();
		if (pid < 0)
			break;
		if (!pid)
			for (;;)
				pause();
		children[made] = pid;
	}
	const char *why = made < wanted ? strerrorname_np(errno) : "";
	for (long i = 0; i < made; i++) {
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
	}
	free(children);
	printf("forks %ld%s%s\n", made, *why ? " " : "", why);
	return 0;
}

static int cmd_uname(int n, char **v)
{
	(void)n, (void)v;
	struct utsname name;
	uname(&name);
	printf("hostname=%s domainname=%s\n", name.nodename, name.domainname);
	return 0;
}

/* rlimits: `RLIMIT_NOFILE 1024 4096`, in the kernel's order. */
static int cmd_rlimits(int n, char **v)
{
	(void)n, (void)v;
	static const char *const names[] = { "CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE",
		"MEMLOCK", "AS", "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME" };
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		struct rlimit limit;
		if (getrlimit((__rlimit_resource_t)i, &limit))
			return answer(-1);
		printf("RLIMIT_%s", names[i]);
		const rlim_t both[] = { limit.rlim_cur, limit.rlim_max };
		for (int k = 0; k < 2; k++)
			if (both[k] == RLIM_INFINITY)
				printf(" unlimited");
			else
				printf(" %llu", (unsigned long long)both[k]);
		putchar('\n');
	}
	return 0;
}

/* ns: `pid pid:[4026531836]`, a line each (needs /proc). */
static int cmd_ns(int n, char **v)
{
	(void)n, (void)v;
	static const char *const names[] = { "cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts" };
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		char path[64], target[128];
		snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
		ssize_t length = readlink(path, target, sizeof target - 1);
		printf("%s %.*s\n", names[i], length < 0 ? 1 : (int)length, length < 0 ? "?" : target);
	}
	return 0;
}

static int cmd_pids(int n, char **v)
{
	(void)n, (void)v;
	printf("pid=%d ppid=%d pgid=%d sid=%d\n", getpid(), getppid(), getpgrp(), getsid(0));
	return 0;
}

/* sched: policy, priority, nice, ioprio (class:level), CPUs allowed, personality, dumpable */
static int cmd_sched(int n, char **v)
{
	(void)n, (void)v;
	struct sched_param param;
	sched_getparam(0, &param);
	errno = 0;
	int nice_ = getpriority(PRIO_PROCESS, 0);
	long io = syscall(SYS_ioprio_get, 1, 0);
	printf("policy=%d priority=%d nice=%d ioprio=%ld:%ld personality=%x dumpable=%d cpus=", sched_getscheduler(0),
	       param.sched_priority, nice_, io >> 13, io & 0x1fff, (unsigned)personality(0xffffffff),
	       prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
	cpu_set_t cpus;
	const char *comma = "";
	if (!sched_getaffinity(0, sizeof cpus, &cpus))
		for (int i = 0; i < CPU_SETSIZE; i++)
			if (CPU_ISSET(i, &cpus)) {
				printf("%s%d", comma, i);
				comma = ",";
			}
	putchar('\n');
	return 0;
}

/* clocks: seconds of CLOCK_MONOTONIC and CLOCK_BOOTTIME */
static int cmd_clocks(int n, char **v)
{
	(void)n, (void)v;
	struct timespec monotonic, boot;
	clock_gettime(CLOCK_MONOTONIC, &monotonic);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	printf("monotonic=%lld boottime=%lld\n", (long long)monotonic.tv_sec, (long long)boot.tv_sec);
	return 0;
}

/* syscall NUMBER [ARG...]: the result, or the error. */
static int cmd_syscall(int n, char **v)
{
	if (n < 1)
		return 2;
	long a[6] = { 0 };
	for (int i = 1; i < n && i < 7; i++)
		a[i - 1] = number(v[i]);
	fflush(stdout);
	long result = syscall(number(v[0]), a[0], a[1], a[2], a[3], a[4], a[5]);
	if (result < 0)
		error_line();
	else
		printf("%ld\n", result);
	return 0;
}

/* keylabel: the security label of the session keyring. */
static int cmd_keylabel(int n, char **v)
{
	(void)n, (void)v;
	char label[256] = "";
	if (syscall(SYS_keyctl, 17L /* KEYCTL_GET_SECURITY */, -3L /* KEY_SPEC_SESSION_KEYRING */, label, sizeof label) < 0)
		error_line();
	else
		puts(label);
	return 0;
}

/* socket FAMILY TYPE: may it be made? */
static int cmd_socket(int n, char **v)
{
	if (n < 2)
		return 2;
	int fd = socket((int)number(v[0]), (int)number(v[1]) | SOCK_CLOEXEC, 0);
	answer(fd);
	if (fd >= 0)
		close(fd);
	return 0;
}

/* notify TEXT: sends it as one message to $NOTIFY_SOCKET, as sd_notify(3) does. */
static int cmd_notify(int n, char **v)
{
	const char *path = getenv("NOTIFY_SOCKET");
	if (n < 1 || !path)
		return 2;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	answer(sendto(fd, v[0], strlen(v[0]), 0, (struct sockaddr *)&address, sizeof address) < 0 ? -1 : 0);
	close(fd);
	return 0;
}

static int cmd_unshare(int n, char **v) { return n < 1 ? 2 : answer(unshare((int)number(v[0]))); }

static int cmd_getxattr(int n, char **v)
{
	if (n < 2)
		return 2;
	unsigned char value[4096];
	ssize_t length = lgetxattr(v[0], v[1], value, sizeof value);
	if (length < 0)
		return answer(-1);
	for (ssize_t i = 0; i < length; i++)
		printf("%02x", value[i]);
	putchar('\n');
	return 0;
}

/* echo WORDS; stderr WORDS: to fd 2; stdin: copies fd 0 to fd 1 until it ends; argv: the words as given. */
static int cmd_echo(int n, char **v)
{
	for (int i = 0; i < n; i++)
		printf("%s%s", i ? " " : "", v[i]);
	putchar('\n');
	return 0;
}

static int cmd_stderr(int n, char **v)
{
	for (int i = 0; i < n; i++)
		fprintf(stderr, "%s%s", i ? " " : "", v[i]);
	fputc('\n', stderr);
	return 0;
}

static int cmd_stdin(int n, char **v)
{
	(void)n, (void)v;
	return copy_out(0);
}

/* spam BYTES: that many bytes of text lines on stdout, as fast as they go. */
static int cmd_spam(int n, char **v)
{
	if (n < 1)
		return 2;
	static const char line[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.\n";
	for (long left = number(v[0]); left > 0; left -= (long)sizeof line - 1)
		fwrite(line, 1, left < (long)sizeof line - 1 ? (size_t)left : sizeof line - 1, stdout);
	return 0;
}

/* exec PROGRAM ARGS...: becomes it. */
static int cmd_exec(int n, char **v)
{
	if (n < 1)
		return 2;
	fflush(stdout);
	execv(v[0], v);
	return answer(-1);
}

static const struct {
	const char *name;
	int (*run)(int n, char **v);
} commands[] = {
	{ "mode", cmd_mode }, { "cat", cmd_cat }, { "ls", cmd_ls }, { "readlink", cmd_readlink }, { "write", cmd_write },
	{ "create", cmd_create }, { "mkdir", cmd_mkdir }, { "unlink", cmd_unlink }, { "chown", cmd_chown },
	{ "chmod", cmd_chmod }, { "chroot", cmd_chroot }, { "sethostname", cmd_sethostname }, { "umount", cmd_umount },
	{ "open", cmd_open }, { "mknod", cmd_mknod }, { "mount", cmd_mount }, { "id", cmd_id }, { "caps", cmd_caps },
	{ "mounts", cmd_mounts }, { "isatty", cmd_isatty }, { "winsize", cmd_winsize }, { "fds", cmd_fds },
	{ "env", cmd_env }, { "cwd", cmd_cwd }, { "exit", cmd_exit }, { "signal", cmd_signal }, { "wait", cmd_wait },
	{ "signals", cmd_signals }, { "sleep", cmd_sleep }, { "pause", cmd_sleep }, { "memhog", cmd_memhog },
	{ "burn", cmd_burn }, { "forks", cmd_forks }, { "uname", cmd_uname }, { "rlimits", cmd_rlimits }, { "ns", cmd_ns },
	{ "pids", cmd_pids }, { "sched", cmd_sched }, { "clocks", cmd_clocks }, { "syscall", cmd_syscall },
	{ "keylabel", cmd_keylabel },
	{ "socket", cmd_socket }, { "unshare", cmd_unshare }, { "getxattr", cmd_getxattr }, { "echo", cmd_echo },
	{ "stderr", cmd_stderr }, { "stdin", cmd_stdin }, { "spam", cmd_spam }, { "exec", cmd_exec },
	{ "notify", cmd_notify },
};

int main(int argc, char **argv)
{
	int status = 0;
	for (int i = 1; i < argc;) {
		int end = i;
		while (end < argc && strcmp(argv[end], "--"))
			end++;
		bool known = false;
		for (size_t k = 0; k < sizeof commands / sizeof *commands && i < end; k++)
			if (!strcmp(argv[i], commands[k].name)) {
				known = true;
				/* exec takes the rest, NULL-terminated, as it is */
				int stop = commands[k].run == cmd_exec ? argc : end;
				status |= commands[k].run(stop - i - 1, argv + i + 1);
				fflush(stdout);
				break;
			}
		if (!known && i < end) {
			fprintf(stderr, "probe: no command %s\n", argv[i]);
			return 2;
		}
		i = end + 1;
	}
	return status;
}
