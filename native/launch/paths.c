/* Everything below the container's root is reached by fd, never by a string that is resolved twice: an image may
 * hold any symlink, and another container may exchange directories of a shared volume meanwhile (CVE-2021-30465,
 * CVE-2024-45310, CVE-2025-31133, CVE-2026-41579, CVE-2026-88264). */
#include "launch.h"

int root_fd(struct launch *launch, struct masu_error *err)
{
    if (launch->root < 0) {
        launch->root = sys_open(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
        if (launch->root < 0)
            return fail(err, launch->root, "/");
    }
    return launch->root;
}

int open_in_root(int root, const char *path, int flags)
{
    int fd = -EAGAIN;
    /* EAGAIN: somebody renamed or mounted while ".." was being resolved (openat2(2)). */
    for (int tries = 0; fd == -EAGAIN && tries < 128; tries++)
        fd = sys_openat2(root, path, (uint64_t)flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
    return fd;
}

void place_close(struct place *place)
{
    if (place->fd >= 0)
        sys_close(release_fd(&place->fd));
    if (place->parent >= 0)
        sys_close(release_fd(&place->parent));
}

/* A walk: `done` is the way from the root so far, free of symlinks, `left` what is still to go. */
struct steps {
    int root;
    unsigned links;
    size_t done_length;
    char done[PATH_LIMIT];
    char left[2 * PATH_LIMIT];
};

/* Takes the next component from `left` into `name`; false at the end. */
static int next_name(struct steps *steps, char name[NAME_LIMIT + 1], bool *last)
{
    const char *at = steps->left;
    while (*at == '/')
        at++;
    size_t length = 0;
    while (at[length] != '\0' && at[length] != '/')
        length++;
    if (length == 0)
        return 0;
    if (length > NAME_LIMIT)
        return -ENAMETOOLONG;
    memcpy(name, at, length);
    name[length] = '\0';
    const char *rest = at + length;
    const char *more = rest;
    while (*more == '/')
        more++;
    *last = *more == '\0';
    memmove(steps->left, rest, strlen(rest) + 1);
    return 1;
}

/* Opens the directory reached so far. */
static int open_done(const struct steps *steps)
{
    return open_in_root(steps->root, steps->done_length == 0 ? "." : steps->done, O_PATH | O_DIRECTORY);
}

static int go_down(struct steps *steps, const char *name)
{
    size_t length = strlen(name);
    if (steps->done_length + length + 2 > sizeof steps->done)
        return -ENAMETOOLONG;
    if (steps->done_length > 0)
        steps->done[steps->done_length++] = '/';
    memcpy(steps->done + steps->done_length, name, length + 1);
    steps->done_length += length;
    return 0;
}

static void go_up(struct steps *steps)
{
    while (steps->done_length > 0 && steps->done[steps->done_length - 1] != '/')
        steps->done_length--;
    if (steps->done_length > 0)
        steps->done_length--;
    steps->done[steps->done_length] = '\0';
}

/* Puts the symlink `fd` points to in front of what is left. */
static int follow(struct steps *steps, int fd)
{
    char target[PATH_LIMIT];
    if (++steps->links > LINKS_LIMIT)
        return -ELOOP;
    long length = sys(__NR_readlinkat, fd, "", target, sizeof target);
    if (length < 0)
        return (int)length;
    size_t rest = strlen(steps->left);
    if (length == 0 || (size_t)length >= sizeof target || (size_t)length + rest + 1 > sizeof steps->left)
        return -ENAMETOOLONG;
    memmove(steps->left + length, steps->left, rest + 1);
    memcpy(steps->left, target, (size_t)length);
    if (target[0] == '/') {
        steps->done_length = 0;
        steps->done[0] = '\0';
    }
    return 0;
}

static int make_missing(int parent, const char *name, enum make kind)
{
    if (kind == MAKE_DIRECTORY)
        return (int)sys(__NR_mkdirat, parent, name, 0755);
    return (int)sys(__NR_mknodat, parent, name, KIND_FILE | 0644, 0);
}

/* One component: opens `name` in place->parent as place->fd, making it when it is missing and `kind` says so. */
static int step(struct place *place, enum make kind)
{
    for (int tries = 0; tries < 16; tries++) {
        place->fd = sys_open(place->parent, place->name, O_PATH | O_NOFOLLOW, 0);
        if (place->fd != -ENOENT || kind == MAKE_NOTHING)
            return place->fd < 0 ? place->fd : sys_fstat(place->fd, &place->about);
        int made = make_missing(place->parent, place->name, kind);
        if (made < 0 && made != -EEXIST)
            return made;
        place->made = made == 0;
    }
    return -EAGAIN;
}

static int stuck(struct masu_error *err, long number, const struct steps *steps, const char *name)
{
    return fail(err, number, "/%s%s%s in the root%s", steps->done, steps->done_length > 0 ? "/" : "", name,
                number == ENOTDIR || number == -ENOTDIR ? " is not a directory" : "");
}

/* Walks all of `left`. Afterwards place->fd is what the last component named, or -1 when that is missing, or when
 * the path ended at the root or in "..". */
static int walk_on(struct steps *steps, int flags, enum make make, struct place *place, struct masu_error *err)
{
    enum make between = make != MAKE_NOTHING || (flags & WALK_PARENTS) != 0 ? MAKE_DIRECTORY : MAKE_NOTHING;
    char name[NAME_LIMIT + 1];
    bool last = false;
    int more;
    while ((more = next_name(steps, name, &last)) > 0) {
        if (strcmp(name, ".") == 0)
            continue;
        if (strcmp(name, "..") == 0) {
            go_up(steps);
            place_close(place);
            place->parent = open_done(steps);
            if (place->parent < 0)
                return stuck(err, place->parent, steps, "");
            continue;
        }
        if (place->fd >= 0) { /* a directory: it becomes the parent of the next one */
            sys_close(place->parent);
            place->parent = release_fd(&place->fd);
        }
        memcpy(place->name, name, sizeof place->name);
        place->made = false;
        int result = step(place, last ? make : between);
        if (result == -ENOENT && last && (flags & WALK_NOFOLLOW) != 0) {
            place->missing = true;
            return 0;
        }
        if (result < 0)
            return stuck(err, result, steps, name);
        unsigned kind = place->about.stx_mode & KIND_MASK;
        if (kind == KIND_LINK && !(last && (flags & WALK_NOFOLLOW) != 0)) {
            result = follow(steps, place->fd);
            if (result < 0)
                return stuck(err, result, steps, name);
            place_close(place);
            place->parent = open_done(steps);
            if (place->parent < 0)
                return stuck(err, place->parent, steps, "");
            continue;
        }
        if (!last && kind != KIND_DIRECTORY)
            return stuck(err, ENOTDIR, steps, name);
        place->in_top = steps->done_length == 0;
        result = go_down(steps, name);
        if (result < 0)
            return stuck(err, result, steps, name);
    }
    return more < 0 ? fail(err, more, "a name in the path is too long") : 0;
}

/* The path was "/" or ended in "..": finds what it reached as a child of its parent, like any other. */
static int settle(struct steps *steps, struct place *place, struct masu_error *err)
{
    if (steps->done_length == 0) {
        place->is_root = true;
        place->fd = open_done(steps);
        int result = place->fd < 0 ? place->fd : sys_fstat(place->fd, &place->about);
        return result < 0 ? fail(err, result, "the root") : 0;
    }
    const char *slash = strrchr(steps->done, '/');
    const char *name = slash == NULL ? steps->done : slash + 1;
    memcpy(place->name, name, strlen(name) + 1);
    go_up(steps);
    place_close(place);
    place->in_top = steps->done_length == 0;
    place->parent = open_done(steps);
    int result = place->parent < 0 ? place->parent : step(place, MAKE_NOTHING);
    return result < 0 ? stuck(err, result, steps, place->name) : 0;
}

static int walk_path(struct launch *launch, const char *path, int flags, enum make make, struct place *place,
                     struct masu_error *err)
{
    struct steps steps;
    steps.root = root_fd(launch, err);
    if (steps.root < 0)
        return -1;
    size_t length = strlen(path);
    if (length >= PATH_LIMIT)
        return fail(err, ENAMETOOLONG, "a path of %zu bytes", length);
    memcpy(steps.left, path, length + 1);
    steps.done[0] = '\0';
    steps.done_length = 0;
    steps.links = 0;
    place->parent = open_done(&steps);
    if (place->parent < 0)
        return fail(err, place->parent, "the root");
    if (walk_on(&steps, flags, make, place, err) < 0)
        return -1;
    return place->fd >= 0 || place->missing ? 0 : settle(&steps, place, err);
}

int walk(struct launch *launch, const char *path, int flags, enum make make, struct place *place,
         struct masu_error *err)
{
    if (walk_path(launch, path, flags, make, place, err) < 0)
        return -1;
    return place->missing ? fail(err, ENOENT, "%s in the root", path) : 0;
}

int walk_to_parent(struct launch *launch, const char *path, struct place *place, struct masu_error *err)
{
    if (walk_path(launch, path, WALK_NOFOLLOW | WALK_PARENTS, MAKE_NOTHING, place, err) < 0)
        return -1;
    return place->is_root ? fail(err, EINVAL, "%s is the root", path) : 0;
}
