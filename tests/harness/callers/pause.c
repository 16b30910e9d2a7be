// The first process of a pod: it ends when it is told to, from its very first moment (a PID 1 without a handler is sent
// no SIGTERM), and reaps what the pod leaves to it.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void ended(int signal)
{
	(void)signal;
	_exit(0);
}

static void reap(int signal)
{
	(void)signal;
	while (waitpid(-1, NULL, WNOHANG) > 0) {
	}
}

int main(void)
{
	signal(SIGTERM, ended);
	signal(SIGINT, ended);
	signal(SIGCHLD, reap);
	for (;;)
		pause();
}
