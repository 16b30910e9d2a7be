// What critest's image for no_new_privs holds, with the set-user-ID bit.
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	printf("Effective uid: %u\n", geteuid());
	return 0;
}
