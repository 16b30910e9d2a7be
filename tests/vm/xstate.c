/* LD_PRELOADed into User-mode Linux where the processor's extended state is larger than UML thinks.
 *
 * UML before 6.13 keeps a fixed 2696 bytes of it (up to AVX-512 and protection keys) for each task and gives just these
 * to PTRACE_SETREGSET; the host wants all it has, 11008 bytes with AMX, or refuses with EFAULT (xstateregs_set in
 * arch/x86/kernel/fpu/regset.c), and UML panics before its init runs. Here what UML gives is laid over what the
 * process has now, and the whole is set. The tiles of AMX stay the host process's own: no program in a guest that is
 * not told of AMX uses them, and Linux gives them to nobody who has not asked (ARCH_REQ_XCOMP_PERM).
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static _Thread_local unsigned char whole[1 << 16];

static long set_xstate(long pid, const struct iovec *given)
{
	struct iovec all = { whole, sizeof whole };

	if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, (long)NT_X86_XSTATE, &all) < 0)
		return -1;
	if (given->iov_len >= all.iov_len)
		all = *given;
	else
		memcpy(whole, given->iov_base, given->iov_len);
	return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, (long)NT_X86_XSTATE, &all);
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	long pid = va_arg(arguments, pid_t);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);

	if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE)
		return set_xstate(pid, data);
	/* The system call gives a peeked word through a pointer, the C library's function as its result (ptrace(2)). */
	if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
		long word;
		if (syscall(SYS_ptrace, (long)request, pid, address, &word) < 0)
			return -1;
		errno = 0;
		return word;
	}
	return syscall(SYS_ptrace, (long)request, pid, address, data);
}
