/* Where the interpreter, what it is to run and the brain's socket are. */
#include "front.h"

const char *variable(const struct front *front, const char *name)
{
    size_t length = strlen(name);
    for (char **at = front->envp; *at != NULL; at++) {
        if (strncmp(*at, name, length) == 0 && (*at)[length] == '=')
            return *at + length + 1;
    }
    return "";
}

/* "#!/path/of/python", which pip or tools/prepare have written at the head of masu-python. */
bool find_python(struct front *front)
{
    char path[PATH_LIMIT + 16], line[PATH_LIMIT + 8];
    format_text(path, sizeof path, "%s/masu-python", front->bin);
    if (read_file(AT_FDCWD, path, line, sizeof line) < 4 || line[0] != '#' || line[1] != '!')
        return false;
    size_t length = 2;
    while (line[length] != '\0' && line[length] != '\n' && line[length] != ' ')
        length++;
    /* An interpreter whose path has a space or is too long for the kernel gets a line of another form from pip. */
    if (line[length] != '\n' || line[2] != '/')
        return false;
    format_text(front->python, sizeof front->python, "%.*s", (int)length - 2, line + 2);
    return true;
}

void find_home(struct front *front)
{
    long length = sys(__NR_readlinkat, AT_FDCWD, "/proc/self/exe", front->bin, sizeof front->bin - 1);
    char *slash = NULL;
    if (length > 0) {
        front->bin[length] = '\0';
        slash = strrchr(front->bin, '/');
    }
    if (slash == NULL) {
        complain(front, "/proc/self/exe cannot be read: is /proc mounted?");
        sys_exit(125);
    }
    *slash = '\0';
    slash = strrchr(front->bin, '/');
    if (slash != NULL && strcmp(slash, "/libexec") == 0) /* in the package itself */
        format_text(front->entry, sizeof front->entry, "%.*s/__main__.py", (int)(slash - front->bin), front->bin);
    else
        format_text(front->entry, sizeof front->entry, "%s/masu-python", front->bin);
}

static uint64_t hash(uint64_t sum, const void *data, size_t length) /* FNV-1a */
{
    for (const unsigned char *at = data; length > 0; at++, length--)
        sum = (sum ^ *at) * 0x100000001b3;
    return sum;
}

/* A brain's name says whose it can be: of this installation, in these namespaces. It looks closer by itself. */
static uint64_t name_of(const struct front *front)
{
    static const char *const spaces[] = {"/proc/self/ns/mnt", "/proc/self/ns/user", "/proc/self/ns/pid"};
    uint64_t sum = hash(0xcbf29ce484222325, front->bin, strlen(front->bin));
    for (unsigned i = 0; i < 3; i++) {
        struct statx about = {0};
        sys_statx(AT_FDCWD, spaces[i], 0, STATX_INO, &about);
        sum = hash(sum, &about.stx_ino, sizeof about.stx_ino);
    }
    return sum;
}

bool find_place(struct front *front, unsigned number)
{
    const char *runtime = variable(front, "XDG_RUNTIME_DIR");
    bool root = sys(__NR_geteuid) == 0;
    front->place[0] = '\0';
    if (number > (root ? 1 : 0))
        return false;
    /* Root of a user namespace has no power over /run, but perhaps over a user's own directory. */
    if (root && number == 0)
        runtime = "/run";
    if (*runtime != '/' || strlen(runtime) > SOCKET_PATH_LIMIT - sizeof "/masu/brain/0123456789abcdef")
        return false;
    format_text(front->place, sizeof front->place, "%s/masu/brain/%016lx", runtime, (unsigned long)name_of(front));
    return true;
}
