/* The first process of a QEMU guest, alone in its initramfs beside the modules it needs: it loads these in the order of
 * their names, mounts the root that QEMU shares by 9p and becomes $then, a program there.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What a first process leaves behind when it ends is a kernel's panic, which ends the guest (panic=-1). */
static void fail(const char *what)
{
	fprintf(stderr, "guest: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void load_modules(void)
{
	struct dirent **entries;
	int count = scandir("/modules", &entries, NULL, alphasort);
	int folder = open("/modules", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (count < 0 || folder < 0)
		fail("/modules");
	for (int i = 0; i < count; i++) {
		int module;

		if (entries[i]->d_name[0] == '.')
			continue;
		module = openat(folder, entries[i]->d_name, O_RDONLY | O_CLOEXEC);
		if (module < 0 || syscall(SYS_finit_module, module, "", 0) < 0)
			fail(entries[i]->d_name);
		close(module);
	}
}

int main(void)
{
	const char *then = getenv("then");

	load_modules();
	/* cache=loose: nobody writes to the shared tree while the guest reads it. */
	if (mount("root", "/root", "9p", MS_RDONLY, "trans=virtio,version=9p2000.L,msize=512000,cache=loose") < 0)
		fail("mount root");
	if (chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0)
		fail("change root");
	if (!then)
		fail("$then");
	execl(then, then, (char *)NULL);
	fail(then);
}
