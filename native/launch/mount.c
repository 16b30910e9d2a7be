/* Mounts, by the API of Linux 5.2: every file system is configured and made detached, every target is an fd. */
#include "launch.h"

#define PROPAGATION (MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE)

/* ---- file systems ---- */

/* What the file system said, "e tmpfs: Unknown parameter 'siz'\n" each (fsopen(2)); the level is left out. */
static size_t read_log(int fs, char *out, size_t size)
{
    char line[512];
    size_t used = 0;
    for (int lines = 0; lines < 16; lines++) {
        long length = sys_read(fs, line, sizeof line);
        if (length <= 0)
            break;
        if (length > 0 && line[length - 1] == '\n')
            length--;
        const char *text = line;
        if (length > 2 && line[1] == ' ')
            text += 2, length -= 2;
        used += format_text(out + used, size - used, "%s%.*s", used > 0 ? "; " : "", (int)length, text);
    }
    return used;
}

static int fail_fs(struct masu_error *err, long number, int fs, const char *what, const char *option)
{
    char log[1024];
    if (read_log(fs, log, sizeof log) > 0)
        return fail(err, number, "%s%s%s%s: %s", what, *option ? " \"" : "", option, *option ? "\"" : "", log);
    return fail(err, number, "%s%s%s%s", what, *option ? " \"" : "", option, *option ? "\"" : "");
}

static int set_option(int fs, const char *option)
{
    char key[256];
    const char *equals = strchr(option, '=');
    if (equals == NULL)
        return (int)sys(__NR_fsconfig, fs, FSCONFIG_SET_FLAG, option, NULL, 0);
    size_t length = (size_t)(equals - option);
    if (length >= sizeof key)
        return -EINVAL;
    memcpy(key, option, length);
    key[length] = '\0';
    return (int)sys(__NR_fsconfig, fs, FSCONFIG_SET_STRING, key, equals + 1, 0);
}

static int set_options(int fs, struct list options, bool skip_readonly, struct masu_error *err)
{
    for (const char *option; (option = list_next(&options)) != NULL;) {
        if (*option == '\0' || (skip_readonly && strcmp(option, "ro") == 0))
            continue;
        int result = set_option(fs, option);
        if (result < 0)
            return fail_fs(err, result, fs, "option", option);
    }
    return 0;
}

static int fail_fsmount(struct masu_error *err, long number, const char *type)
{
    /* mount_too_revealing(): in a user namespace neither may show what a mount hides (user_namespaces(7)). */
    if (number == -EPERM && (strcmp(type, "proc") == 0 || strcmp(type, "sysfs") == 0))
        return fail(err, number, "a new %s would show more than the one that is visible here", type);
    return fail(err, number, "fsmount");
}

/* fsconfig takes text of at most 255 bytes, overlayfs a `lowerdir+` only since Linux 6.5. */
static bool needs_old_way(const struct fs_wish *wish)
{
    struct list options = wish->options;
    for (const char *option; (option = list_next(&options)) != NULL;) {
        const char *equals = strchr(option, '=');
        if (equals != NULL && strlen(equals + 1) > 255)
            return true;
    }
    return false;
}

static bool has_option(struct list options, const char *prefix)
{
    for (const char *option; (option = list_next(&options)) != NULL;) {
        if (strncmp(option, prefix, strlen(prefix)) == 0)
            return true;
    }
    return false;
}

static int make_fs_new_way(const struct fs_wish *wish, int *out, struct masu_error *err)
{
    owned_fd fs = (int)sys(__NR_fsopen, wish->type, FSOPEN_CLOEXEC);
    if (fs < 0)
        return fail(err, fs, fs == -ENODEV ? "this kernel has no file system \"%s\"" : "fsopen \"%s\"", wish->type);
    int result = 0;
    if (*wish->source != '\0')
        result = (int)sys(__NR_fsconfig, fs, FSCONFIG_SET_STRING, "source", wish->source, 0);
    if (result < 0)
        return fail_fs(err, result, fs, "source", wish->source);
    if (set_options(fs, wish->options, wish->skip_readonly, err) < 0)
        return -1;
    if (wish->mode != NULL)
        result = (int)sys(__NR_fsconfig, fs, FSCONFIG_SET_STRING, "mode", wish->mode, 0);
    if (result == 0)
        result = (int)sys(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
    if (result < 0) /* many file systems still tell the kernel's log alone */
        return fail_fs(err, result, fs, "making the file system (the kernel's log, dmesg, may say why)", "");
    *out = (int)sys(__NR_fsmount, fs, FSMOUNT_CLOEXEC, wish->attr);
    return *out < 0 ? fail_fsmount(err, *out, wish->type) : 0;
}

int make_fs(const struct fs_wish *wish, int *out, struct masu_error *err)
{
    struct masu_error second;
    if (needs_old_way(wish))
        return make_fs_old_way(wish, out, err);
    int result = make_fs_new_way(wish, out, err);
    if (result == 0 || err->number != EINVAL || !has_option(wish->options, "lowerdir+="))
        return result;
    /* Before Linux 6.5 overlayfs knows no lowerdir+, and says so only when the file system is made. */
    result = make_fs_old_way(wish, out, &second);
    if (result < 0 && second.number != EINVAL)
        *err = second;
    return result;
}

int do_new_mount(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    struct fs_wish wish = {.type = text_of(op, F_NEW_MOUNT_FSTYPE),
                           .source = text_of(op, F_NEW_MOUNT_SOURCE),
                           .options = list_of(op, F_NEW_MOUNT_OPTIONS),
                           .attr = number_of(op, F_NEW_MOUNT_ATTR)};
    const char *cwd = text_of(op, F_NEW_MOUNT_CWD);
    owned_fd before = -1;
    if (*cwd != '\0') {
        before = sys_open(AT_FDCWD, ".", O_PATH | O_DIRECTORY, 0);
        long entered = before < 0 ? before : sys(__NR_chdir, cwd);
        if (entered < 0)
            return fail_path(err, entered, cwd);
    }
    int fd = -1;
    int result = make_fs(&wish, &fd, err);
    if (before >= 0)
        sys(__NR_fchdir, before);
    if (result == 0)
        slot_put(launch, small_of(op, F_NEW_MOUNT_SLOT), fd);
    return result;
}

/* ---- attributes ---- */

int set_attr(int fd, uint64_t set, uint64_t clear, unsigned long propagation, bool recursive, int userns)
{
    struct mount_attr attr = {.attr_set = set, .attr_clr = clear, .propagation = propagation & PROPAGATION};
    /* One of the access time modes can be set only while all of them are cleared (mount_setattr(2)). */
    if (((set | clear) & MOUNT_ATTR__ATIME) != 0)
        attr.attr_clr |= MOUNT_ATTR__ATIME;
    if (userns >= 0) {
        attr.attr_set |= MOUNT_ATTR_IDMAP;
        attr.userns_fd = (uint64_t)userns;
    }
    if (attr.attr_set == 0 && attr.attr_clr == 0 && attr.propagation == 0)
        return 0;
    return sys_mount_setattr(fd, recursive ? AT_RECURSIVE : 0, &attr);
}

int do_mount_attr(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    int fd = slot_fd(launch, op, F_MOUNT_ATTR_SLOT, err);
    int userns = -1;
    if (fd < 0)
        return -1;
    if (small_of(op, F_MOUNT_ATTR_USERNS) != PLAN_NONE) {
        userns = slot_fd(launch, op, F_MOUNT_ATTR_USERNS, err);
        if (userns < 0)
            return -1;
    }
    int result = set_attr(fd, number_of(op, F_MOUNT_ATTR_SET), number_of(op, F_MOUNT_ATTR_CLEAR),
                          small_of(op, F_MOUNT_ATTR_PROPAGATION), small_of(op, F_MOUNT_ATTR_RECURSIVE) != 0, userns);
    if (result == -EINVAL && userns >= 0)
        return fail(err, result, "idmapped mount: this file system cannot be idmapped, or the mount already is");
    return result < 0 ? fail(err, result, "mount_setattr") : 0;
}

int do_propagation(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    owned_place place = NO_PLACE;
    unsigned flags = small_of(op, F_PROPAGATION_FLAGS);
    if (walk(launch, text_of(op, F_PROPAGATION_TARGET), 0, MAKE_NOTHING, &place, err) < 0)
        return -1;
    return check(err, set_attr(place.fd, 0, 0, flags, (flags & MS_REC) != 0, -1), "mount_setattr");
}

int do_remount(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    owned_place place = NO_PLACE;
    if (walk(launch, text_of(op, F_REMOUNT_TARGET), 0, MAKE_NOTHING, &place, err) < 0)
        return -1;
    int result = set_attr(place.fd, number_of(op, F_REMOUNT_SET), number_of(op, F_REMOUNT_CLEAR), 0,
                          small_of(op, F_REMOUNT_RECURSIVE) != 0, -1);
    if (result < 0)
        return fail(err, result, "mount_setattr");
    struct list options = list_of(op, F_REMOUNT_OPTIONS);
    if (options.left == 0)
        return 0;
    owned_fd fs = (int)sys(__NR_fspick, place.fd, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC);
    if (fs < 0)
        return fail(err, fs, "fspick");
    if (set_options(fs, options, false, err) < 0)
        return -1;
    result = (int)sys(__NR_fsconfig, fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0);
    return result < 0 ? fail_fs(err, result, fs, "reconfiguring the file system", "") : 0;
}

int do_open_tree_inside(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    owned_place place = NO_PLACE;
    unsigned flags = small_of(op, F_OPEN_TREE_INSIDE_FLAGS);
    const char *path = text_of(op, F_OPEN_TREE_INSIDE_PATH);
    if (walk(launch, path, (flags & AT_SYMLINK_NOFOLLOW) != 0 ? WALK_NOFOLLOW : 0, MAKE_NOTHING, &place, err) < 0)
        return -1;
    int fd = sys_open_tree(place.fd, "", (flags & ~(unsigned)AT_SYMLINK_NOFOLLOW) | AT_EMPTY_PATH);
    if (fd < 0)
        return fail(err, fd, "open_tree of %s in the root", path);
    slot_put(launch, small_of(op, F_OPEN_TREE_INSIDE_SLOT), fd);
    return 0;
}

int do_label(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    const char *target = text_of(op, F_LABEL_TARGET), *label = text_of(op, F_LABEL_LABEL);
    owned_fd fd = open_in_root(launch->root, target, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return fail(err, fd, "%s in the root", target);
    /* With the NUL, as setfilecon(3) writes it. */
    return check(err, sys(__NR_fsetxattr, fd, "security.selinux", label, strlen(label) + 1, 0), "%s", label);
}

int do_umount(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    owned_place place = NO_PLACE;
    const char *target = text_of(op, F_UMOUNT_TARGET);
    if (walk(launch, target, WALK_NOFOLLOW, MAKE_NOTHING, &place, err) < 0)
        return -1;
    if (place.is_root || (place.about.stx_attributes & STATX_ATTR_MOUNT_ROOT) == 0)
        return fail(err, EINVAL, "nothing is mounted on %s", target);
    /* By name in a directory that is held: umount2(2) takes no descriptor. */
    if (check(err, sys(__NR_fchdir, place.parent), "fchdir") < 0)
        return -1;
    int result = (int)sys(__NR_umount2, place.name, 2 | 8 /* MNT_DETACH | UMOUNT_NOFOLLOW */);
    return result < 0 ? fail(err, result, "umount2 of %s", target) : 0;
}

/* ---- targets ---- */

/* The target for `tree`, made when missing. */
static int find_target(struct launch *launch, int tree, const char *target, unsigned flags, enum make make,
                       struct place *place, struct masu_error *err)
{
    bool exact = (flags & (TARGET_NOFOLLOW | TARGET_MUST_BE_DIRECTORY)) != 0;
    if (walk(launch, target, exact ? WALK_NOFOLLOW : 0, make, place, err) < 0)
        return -1;
    if (place->is_root)
        return fail(err, EINVAL, "%s is the root itself", target);
    bool directory = (place->about.stx_mode & KIND_MASK) == KIND_DIRECTORY;
    if ((flags & TARGET_MUST_BE_DIRECTORY) != 0 && !directory)
        return fail(err, ENOTDIR, "%s must be mounted on ordinary directory, not on a symlink or file", target);
    /* A symlink of the image must not bring a mount into /proc, where it could hide the kernel's answers from us
     * (CVE-2019-16884, CVE-2019-19921). */
    if ((flags & TARGET_IN_PROC) == 0 && is_on(place->parent, PROC_SUPER_MAGIC))
        return fail(err, EPERM, "%s is inside a procfs", target);
    /* Nor may a volume stand in for /proc itself, whatever its destination was called (CVE-2023-28642). */
    bool proc = (place->in_top && strcmp(place->name, "proc") == 0) || is_on(place->fd, PROC_SUPER_MAGIC);
    if ((flags & TARGET_IN_PROC) == 0 && proc && !is_on(tree, PROC_SUPER_MAGIC))
        return fail(err, EPERM, "%s cannot be mounted because it is not of type proc", target);
    if (make == MAKE_DIRECTORY && !directory)
        return fail(err, ENOTDIR, "%s is not a directory, what is to be mounted on it is", target);
    if (make == MAKE_FILE && directory)
        return fail(err, EISDIR, "%s is a directory, what is to be mounted on it is not", target);
    return 0;
}

static int move_onto(int tree, const struct place *place, struct masu_error *err)
{
    return check(err, sys_move_mount(tree, place->fd), "move_mount");
}

int do_attach(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    owned_place place = NO_PLACE;
    struct statx about;
    unsigned slot = small_of(op, F_ATTACH_SLOT);
    int tree = slot_fd(launch, op, F_ATTACH_SLOT, err);
    if (tree < 0)
        return -1;
    int result = sys_fstat(tree, &about);
    if (result < 0)
        return fail(err, result, "the tree to attach");
    enum make make = (about.stx_mode & KIND_MASK) == KIND_DIRECTORY ? MAKE_DIRECTORY : MAKE_FILE;
    const char *target = text_of(op, F_ATTACH_TARGET);
    if (find_target(launch, tree, target, small_of(op, F_ATTACH_FLAGS), make, &place, err) < 0 ||
        move_onto(tree, &place, err) < 0)
        return -1;
    launch->attached[slot] = true;
    return 0;
}

/* A tmpfs without a mode of its own takes that of the directory it covers, as /tmp and the like expect. */
static const char *inherited_mode(struct launch *launch, const struct fs_wish *wish, const char *target, char *text,
                                  size_t size)
{
    if (strcmp(wish->type, "tmpfs") != 0 || has_option(wish->options, "mode="))
        return NULL;
    struct statx about;
    owned_fd fd = open_in_root(launch->root, target, O_PATH | O_DIRECTORY);
    if (fd < 0 || sys_fstat(fd, &about) < 0)
        return NULL;
    format_text(text, size, "%o", about.stx_mode & 07777u);
    return text;
}

int do_mount(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    owned_place place = NO_PLACE;
    owned_fd tree = -1;
    char mode[8];
    const char *target = text_of(op, F_MOUNT_TARGET);
    unsigned flags = small_of(op, F_MOUNT_FLAGS);
    struct fs_wish wish = {.type = text_of(op, F_MOUNT_FSTYPE),
                           .source = text_of(op, F_MOUNT_SOURCE),
                           .options = list_of(op, F_MOUNT_OPTIONS),
                           .attr = number_of(op, F_MOUNT_ATTR)};
    uint64_t late = 0;
    if (root_fd(launch, err) < 0)
        return -1;
    wish.mode = inherited_mode(launch, &wish, target, mode, sizeof mode);
    if ((flags & TARGET_COPY_UP) != 0) {
        /* Written to first, read-only afterwards. */
        late = (wish.attr & MOUNT_ATTR_RDONLY) | (has_option(wish.options, "ro") ? MOUNT_ATTR_RDONLY : 0);
        wish.attr &= ~(uint64_t)MOUNT_ATTR_RDONLY;
        wish.skip_readonly = true;
    }
    enum make make = (flags & TARGET_FILE) != 0 ? MAKE_FILE : MAKE_DIRECTORY;
    if (make_fs(&wish, &tree, err) < 0 || find_target(launch, tree, target, flags, make, &place, err) < 0)
        return -1;
    if ((flags & TARGET_COPY_UP) != 0 && copy_up(place.fd, tree, err) < 0)
        return -1;
    int result = set_attr(tree, late, 0, 0, false, -1);
    return result < 0 ? fail(err, result, "mount_setattr") : move_onto(tree, &place, err);
}

/* ---- what is hidden and what is read-only ---- */

/* Attaches `tree`, the first time; later clones of it, for a detached tree cannot be cloned before Linux 6.15. */
static int attach_copy(int tree, bool *attached, const struct place *place, struct masu_error *err)
{
    owned_fd copy = -1;
    if (*attached) {
        copy = sys_open_tree(tree, "", AT_EMPTY_PATH | OPEN_TREE_CLONE);
        if (copy < 0)
            return fail(err, copy, "open_tree of what masks");
    }
    if (move_onto(*attached ? copy : tree, place, err) < 0)
        return -1;
    *attached = true;
    return 0;
}

static int mask_directory(struct launch *launch, const struct place *place, struct masu_error *err)
{
    static const unsigned char options[] = "\x0c\0\0\0nr_blocks=1\0\x0c\0\0\0nr_inodes=1";
    bool attached = launch->empty >= 0;
    if (!attached) {
        struct fs_wish wish = {.type = "tmpfs",
                               .source = "tmpfs",
                               .options = {.at = options, .left = 2},
                               .attr = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC};
        if (make_fs(&wish, &launch->empty, err) < 0)
            return -1;
    }
    return attach_copy(launch->empty, &attached, place, err);
}

/* Paths that are not there need no mask. */
static int find_existing(struct launch *launch, const char *path, struct place *place, struct masu_error *err)
{
    if (walk(launch, path, 0, MAKE_NOTHING, place, err) == 0)
        return 1;
    return err->number == ENOENT || err->number == ENOTDIR ? 0 : -1;
}

int do_mask(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    owned_place place = NO_PLACE;
    const char *path = text_of(op, F_MASK_PATH);
    int found = find_existing(launch, path, &place, err);
    if (found <= 0)
        return found;
    if (place.is_root)
        return fail(err, EINVAL, "%s is the root itself", path);
    if ((place.about.stx_mode & KIND_MASK) == KIND_DIRECTORY)
        return mask_directory(launch, &place, err);
    int null = slot_fd(launch, op, F_MASK_SLOT, err);
    if (null < 0)
        return -1;
    struct statx about;
    int result = sys_fstat(null, &about);
    if (result < 0 || (about.stx_mode & KIND_MASK) != KIND_CHARACTER || about.stx_rdev_major != 1 ||
        about.stx_rdev_minor != 3)
        return fail(err, EINVAL, "what masks %s is not the device null (CVE-2025-31133)", path);
    return attach_copy(null, &launch->attached[small_of(op, F_MASK_SLOT)], &place, err);
}

int do_readonly(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    owned_place place = NO_PLACE;
    int found = find_existing(launch, text_of(op, F_READONLY_PATH), &place, err);
    if (found <= 0)
        return found;
    if (place.is_root)
        return do_root_readonly(launch, op, err);
    owned_fd tree = sys_open_tree(place.fd, "", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE);
    if (tree < 0)
        return fail(err, tree, "open_tree");
    int result = set_attr(tree, MOUNT_ATTR_RDONLY, 0, 0, true, -1);
    return result < 0 ? fail(err, result, "mount_setattr") : move_onto(tree, &place, err);
}

/* ---- our own procfs (CVE-2019-16884, CVE-2025-52881) ---- */

int do_procfs(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    struct fs_wish wish = {.type = "proc",
                           .source = "proc",
                           .attr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC};
    if (launch->procfs >= 0)
        return 0;
    if (make_fs(&wish, &launch->procfs, err) == 0)
        return 0;
    launch->procfs = -1;
    if (err->number != EPERM)
        return -1;
    /* A user namespace forbids a procfs that shows more than the visible one. Then the host's: a clone is free of
     * what has been mounted in it, and where that is forbidden, too, crossing into a mount is refused later. */
    int tree = sys_open_tree(AT_FDCWD, "/proc", OPEN_TREE_CLONE);
    if (tree < 0)
        tree = sys_open_tree(AT_FDCWD, "/proc", OPEN_TREE_CLONE | AT_RECURSIVE);
    if (tree < 0)
        return fail(err, tree, "open_tree of /proc");
    struct statx about;
    if (!is_on(tree, PROC_SUPER_MAGIC) || sys_fstat(tree, &about) < 0 || about.stx_ino != 1 /* PROC_ROOT_INO */) {
        sys_close(tree);
        return fail(err, EPERM, "/proc is not a procfs");
    }
    launch->procfs = tree;
    return 0;
}

int do_proc_write(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    const char *path = text_of(op, F_PROC_WRITE_PATH);
    if (launch->procfs < 0)
        return fail(err, EBADF, "there is no procfs: the plan lacks `procfs`");
    owned_fd fd = sys_openat2(launch->procfs, path, O_WRONLY | O_NOCTTY,
                              RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS);
    if (fd < 0)
        return fail(err, fd, "/proc/%s", path);
    const struct field *data = &op->field[F_PROC_WRITE_DATA];
    return check(err, write_whole(fd, data->data, data->length), "/proc/%s", path);
}
