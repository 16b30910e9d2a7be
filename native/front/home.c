/* Where the package, its interpreter and the brain's socket are. */
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

static bool is_package(const char *directory)
{
    char path[PATH_LIMIT + 16];
    struct statx about;
    format_text(path, sizeof path, "%s/__main__.py", directory);
    return sys_statx(AT_FDCWD, path, 0, STATX_TYPE, &about) == 0;
}

/* An installed program lies in PREFIX/bin, the package in PREFIX/lib/python3.N/{site,dist}-packages. */
static void find_installed(struct front *front)
{
    static const char *const below[] = {"site-packages", "dist-packages"};
    char path[PATH_LIMIT + 300];
    _Alignas(8) char entries[4096];
    unsigned found = 0;
    format_text(path, sizeof path, "%s/../lib", front->bin);
    owned_fd library = sys_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
    for (long count; library >= 0 && (count = sys(__NR_getdents64, library, entries, sizeof entries)) > 0;) {
        for (long at = 0; at < count;) {
            const struct entry *entry = (const void *)(entries + at);
            at += entry->length;
            if (strncmp(entry->name, "python3", 7) != 0)
                continue;
            for (unsigned i = 0; i < 2; i++) {
                format_text(path, sizeof path, "%s/../lib/%s/%s/masu", front->bin, entry->name, below[i]);
                if (is_package(path) && found++ == 0)
                    format_text(front->package, sizeof front->package, "%s", path);
            }
        }
    }
    if (found != 1)
        front->package[0] = '\0';
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
    if (slash != NULL && strcmp(slash, "/libexec") == 0) {
        format_text(front->package, sizeof front->package, "%.*s", (int)(slash - front->bin), front->bin);
        if (!is_package(front->package))
            front->package[0] = '\0';
    }
    if (front->package[0] == '\0')
        find_installed(front);
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
    uint64_t sum = hash(0xcbf29ce484222325, front->package, strlen(front->package));
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
    if (front->package[0] == '\0' || number > (root ? 1 : 0))
        return false;
    /* Root of a user namespace has no power over /run, but perhaps over a user's own directory. */
    if (root && number == 0)
        runtime = "/run";
    if (*runtime != '/' || strlen(runtime) > SOCKET_PATH_LIMIT - sizeof "/masu/brain/0123456789abcdef")
        return false;
    format_text(front->place, sizeof front->place, "%s/masu/brain/%016lx", runtime, (unsigned long)name_of(front));
    return true;
}
