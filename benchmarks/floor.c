/* The floor: what the kernel alone takes for a container. Five namespaces, six mounts, pivot_root, exec, wait.
 *
 *   floor ROOTFS PROGRAM [ARG...]
 *
 * No parsing, no cgroup, no capability, no seccomp: nobody can start a container faster than this. */
#define _GNU_SOURCE
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(127);
	}
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	struct clone_args args = {
		.flags = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | CLONE_VFORK,
		.exit_signal = SIGCHLD,
	};
	long pid = syscall(SYS_clone3, &args, sizeof args);
	must(pid >= 0, "clone3");
	if (pid == 0) {
		const char *root = argv[1];
		must(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "make / private");
		must(!mount(root, root, NULL, MS_BIND | MS_REC, NULL), "bind the rootfs");
		must(!chdir(root), "chdir");
		must(!mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "mount /proc");
		must(!mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"), "mount /dev");
		must(!mkdir("dev/pts", 0755) && !mkdir("dev/shm", 0755) && !mkdir("dev/mqueue", 0755), "mkdir in /dev");
		must(!mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"),
		     "mount /dev/pts");
		must(!mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=65536k"),
		     "mount /dev/shm");
		must(!mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL),
		     "mount /dev/mqueue");
		must(!mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL), "mount /sys");
		must(!sethostname("floor", 5), "sethostname");
		must(!syscall(SYS_pivot_root, ".", "."), "pivot_root");
		must(!umount2(".", MNT_DETACH), "umount the old root");
		must(!chdir("/"), "chdir");
		execv(argv[2], argv + 2);
		perror(argv[2]);
		_exit(127);
	}
	int status;
	must(waitpid((pid_t)pid, &status, 0) == pid, "waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
