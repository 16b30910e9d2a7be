/* A detached mount by mount(2), for options that fsconfig(2) cannot carry: text longer than 255 bytes, and
 * overlayfs's many layers before `lowerdir+` (Linux 6.5). A child mounts it in a mount namespace of its own, clones
 * the tree into an fd (the table of fds is shared) and goes away. */
#include "launch.h"

#define DATA_LIMIT 4096 /* mount(2) takes one page */

struct old_mount {
    unsigned long flags;
    size_t used;
    bool layered; /* a lowerdir has begun */
    char data[DATA_LIMIT];
};

static const struct {
    const char *word;
    unsigned long flag;
} words[] = {{"ro", MS_RDONLY},       {"sync", MS_SYNCHRONOUS}, {"dirsync", MS_DIRSYNC}, {"mand", MS_MANDLOCK},
             {"lazytime", MS_LAZYTIME}, {"silent", MS_SILENT},    {"iversion", MS_I_VERSION}};

static bool add(struct old_mount *old, char byte)
{
    if (old->used + 1 >= sizeof old->data)
        return false;
    old->data[old->used++] = byte;
    old->data[old->used] = '\0';
    return true;
}

static bool add_text(struct old_mount *old, const char *text, const char *escaped)
{
    for (; *text != '\0'; text++) {
        if (strchr(escaped, *text) != NULL && !add(old, '\\'))
            return false;
        if (!add(old, *text))
            return false;
    }
    return true;
}

/* An SELinux label may hold commas; in the options of mount(2) it then stands in quotes. */
static bool is_label_with_comma(const char *option)
{
    static const char *const keys[] = {"context=", "fscontext=", "defcontext=", "rootcontext="};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strncmp(option, keys[i], strlen(keys[i])) == 0)
            return strchr(option, ',') != NULL;
    }
    return false;
}

static bool add_option(struct old_mount *old, const char *option)
{
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(option, words[i].word) == 0) {
            old->flags |= words[i].flag;
            return true;
        }
    }
    bool layer = strncmp(option, "lowerdir+=", 10) == 0;
    if (layer && old->layered)
        return add(old, ':') && add_text(old, option + 10, ":,\\");
    if (old->used > 0 && !add(old, ','))
        return false;
    if (!layer && is_label_with_comma(option)) {
        size_t key = (size_t)(strchr(option, '=') + 1 - option);
        char name[16];
        memcpy(name, option, key);
        name[key] = '\0';
        return add_text(old, name, "") && add(old, '"') && add_text(old, option + key, "") && add(old, '"');
    }
    if (!layer)
        return add_text(old, option, "");
    old->layered = true;
    return add_text(old, "lowerdir=", "") && add_text(old, option + 10, ":,\\");
}

static int gather(struct old_mount *old, const struct fs_wish *wish, struct masu_error *err)
{
    bool fits = true;
    /* Layers first: they have to stand side by side. */
    for (int pass = 0; pass < 2; pass++) {
        struct list options = wish->options;
        for (const char *option; fits && (option = list_next(&options)) != NULL;) {
            bool layer = strncmp(option, "lowerdir+=", 10) == 0;
            if (*option == '\0' || layer != (pass == 0) || (wish->skip_readonly && strcmp(option, "ro") == 0))
                continue;
            fits = add_option(old, option);
        }
    }
    if (fits && wish->mode != NULL)
        fits = (old->used == 0 || add(old, ',')) && add_text(old, "mode=", "") && add_text(old, wish->mode, "");
    if (fits)
        return 0;
    return fail(err, EINVAL, "options longer than %d bytes; with many layers Linux 6.5 is needed", DATA_LIMIT);
}

/* Returns the tree or a negative errno. In the child. */
static int mount_and_clone(const struct fs_wish *wish, const struct old_mount *old)
{
    static const char *const places[] = {"/proc", "/dev", "/sys", "/tmp"};
    const char *place = NULL;
    for (size_t i = 0; i < sizeof places / sizeof places[0] && place == NULL; i++) {
        owned_fd fd = sys_open(AT_FDCWD, places[i], O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
        place = fd >= 0 ? places[i] : NULL;
    }
    if (place == NULL)
        return -ENOENT;
    int result = sys_mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL);
    if (result == 0)
        result = sys_mount(wish->source, place, wish->type, old->flags, old->data);
    return result < 0 ? result : sys_open_tree(AT_FDCWD, place, OPEN_TREE_CLONE);
}

int make_fs_old_way(const struct fs_wish *wish, int *out, struct masu_error *err)
{
    struct old_mount old;
    old.flags = 0, old.used = 0, old.layered = false, old.data[0] = '\0';
    if (gather(&old, wish, err) < 0)
        return -1;
    int ends[2], answer = -EIO;
    int result = sys_pipe(ends, 0);
    if (result < 0)
        return fail(err, result, "pipe");
    struct clone_args args = {.flags = CLONE_FILES | CLONE_NEWNS, .exit_signal = SIGNAL_CHILD};
    int pid = (int)sys(__NR_clone3, &args, sizeof args);
    if (pid == 0) {
        answer = mount_and_clone(wish, &old);
        sys_write(ends[1], &answer, sizeof answer);
        sys_exit(0);
    }
    if (pid > 0)
        sys_wait(pid, NULL, WAIT_ALL_CLONES);
    sys_close(ends[1]);
    sys_read(ends[0], &answer, sizeof answer);
    sys_close(ends[0]);
    if (pid < 0)
        return fail(err, pid, "clone3 of a helper for mount(2)");
    if (answer < 0)
        return fail(err, answer, "mount %s with \"%.*s\"", wish->type, 512, old.data);
    result = set_attr(answer, wish->attr, 0, 0, false, -1);
    if (result < 0) {
        sys_close(answer);
        return fail(err, result, "mount_setattr");
    }
    *out = answer;
    return 0;
}
