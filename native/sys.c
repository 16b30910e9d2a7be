/*
 * masu.linux._sys: the system calls that Python's standard library lacks, one function each, no policy.
 *
 * The contract (arguments, results, errors, the kernel that brought each call) is src/masu/linux/_sys.pyi; a test
 * compares the two. Every failure becomes OSError with the kernel's errno, and the path where there is one. Calls
 * that may sleep release the GIL; they still run in the calling thread, as setns(2) and unshare(2) need.
 *
 * System calls are made by number, not through libc, whose wrappers came later than the kernel's calls and whose
 * <sys/mount.h> cannot stand beside <linux/mount.h> (glibc 2.36).
 */
#define PY_SSIZE_T_CLEAN
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs `call` without the GIL; errno survives the taking back of it. */
#define UNLOCKED(result, call)                \
    do {                                      \
        int unlocked_errno;                   \
        Py_BEGIN_ALLOW_THREADS                \
        errno = 0;                            \
        (result) = (call);                    \
        unlocked_errno = errno;               \
        Py_END_ALLOW_THREADS                  \
        errno = unlocked_errno;               \
    } while (0)

/* None and negative results as Python sees them. */
static PyObject *
none_or_error(long result)
{
    if (result < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *
long_or_error(long result)
{
    if (result < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyLong_FromLong(result);
}

/* A path argument: str, bytes or os.PathLike, without NUL. PyUnicode_FSConverter makes new bytes of it, which the
 * cleanup attribute gives back; when parsing fails midway, the converter has set it back to NULL itself. */
static void
drop(PyObject **object)
{
    Py_CLEAR(*object);
}
#define PATH __attribute__((cleanup(drop))) PyObject *

static const char *
text(PyObject *path)
{
    return path == NULL ? NULL : PyBytes_AsString(path);
}

/* Like PyUnicode_FSConverter, with None for NULL. */
static int
optional_path(PyObject *object, void *address)
{
    if (object == Py_None) {
        *(PyObject **)address = NULL;
        return 1;
    }
    return PyUnicode_FSConverter(object, address);
}

static PyObject *
path_error(PyObject *path)
{
    int saved = errno;
    PyObject *name = PyUnicode_DecodeFSDefaultAndSize(PyBytes_AsString(path), PyBytes_Size(path));
    if (name == NULL)
        return NULL;
    errno = saved;
    PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, name);
    Py_DECREF(name);
    return NULL;
}

static PyObject *
paths_error(PyObject *from, PyObject *to)
{
    int saved = errno;
    PyObject *first = PyUnicode_DecodeFSDefaultAndSize(PyBytes_AsString(from), PyBytes_Size(from));
    PyObject *second = PyUnicode_DecodeFSDefaultAndSize(PyBytes_AsString(to), PyBytes_Size(to));
    if (first != NULL && second != NULL) {
        errno = saved;
        PyErr_SetFromErrnoWithFilenameObjects(PyExc_OSError, first, second);
    }
    Py_XDECREF(first);
    Py_XDECREF(second);
    return NULL;
}

/* ---- paths ---- */

static PyObject *
sys_openat2(PyObject *Py_UNUSED(module), PyObject *args)
{
    int dirfd;
    PATH path = NULL;
    unsigned long long flags, mode = 0, resolve = 0;
    if (!PyArg_ParseTuple(args, "iO&K|KK:openat2", &dirfd, PyUnicode_FSConverter, &path, &flags, &mode, &resolve))
        return NULL;
    struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
    long fd;
    do {
        UNLOCKED(fd, syscall(SYS_openat2, dirfd, text(path), &how, sizeof how));
        if (fd < 0 && errno == EINTR && PyErr_CheckSignals() < 0) /* PEP 475 */
            return NULL;
    } while (fd < 0 && errno == EINTR);
    return fd < 0 ? path_error(path) : PyLong_FromLong(fd);
}

static PyObject *
sys_renameat2(PyObject *Py_UNUSED(module), PyObject *args)
{
    int from_dirfd, to_dirfd;
    PATH from = NULL;
    PATH to = NULL;
    unsigned int flags = 0;
    if (!PyArg_ParseTuple(args, "iO&iO&|I:renameat2", &from_dirfd, PyUnicode_FSConverter, &from, &to_dirfd,
                          PyUnicode_FSConverter, &to, &flags))
        return NULL;
    long result;
    UNLOCKED(result, syscall(SYS_renameat2, from_dirfd, text(from), to_dirfd, text(to), flags));
    return result < 0 ? paths_error(from, to) : none_or_error(result);
}

static PyObject *
sys_linkat(PyObject *Py_UNUSED(module), PyObject *args)
{
    int from_dirfd, to_dirfd, flags = 0;
    PATH from = NULL;
    PATH to = NULL;
    if (!PyArg_ParseTuple(args, "iO&iO&|i:linkat", &from_dirfd, PyUnicode_FSConverter, &from, &to_dirfd,
                          PyUnicode_FSConverter, &to, &flags))
        return NULL;
    long result;
    UNLOCKED(result, syscall(SYS_linkat, from_dirfd, text(from), to_dirfd, text(to), flags));
    return result < 0 ? paths_error(from, to) : none_or_error(result);
}

static PyObject *
sys_mount_of(PyObject *Py_UNUSED(module), PyObject *args)
{
    int dirfd, flags = 0;
    PATH path = NULL;
    if (!PyArg_ParseTuple(args, "iO&|i:mount_of", &dirfd, PyUnicode_FSConverter, &path, &flags))
        return NULL;
    struct statx facts;
    memset(&facts, 0, sizeof facts);
    long result;
    UNLOCKED(result, syscall(SYS_statx, dirfd, text(path), flags, STATX_MNT_ID, &facts));
    if (result < 0)
        return path_error(path);
    if (!(facts.stx_mask & STATX_MNT_ID) || !(facts.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT)) {
        errno = EOPNOTSUPP;
        return path_error(path);
    }
    return Py_BuildValue("KO", (unsigned long long)facts.stx_mnt_id,
                         facts.stx_attributes & STATX_ATTR_MOUNT_ROOT ? Py_True : Py_False);
}

static PyObject *
sys_fstatfs_type(PyObject *Py_UNUSED(module), PyObject *args)
{
    int fd;
    if (!PyArg_ParseTuple(args, "i:fstatfs_type", &fd))
        return NULL;
    struct statfs facts;
    int result;
    UNLOCKED(result, fstatfs(fd, &facts));
    if (result < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    /* f_type is signed or 32 bits wide on some architectures; the magic numbers are unsigned 32-bit. */
    return PyLong_FromUnsignedLong((uint32_t)facts.f_type);
}

static PyObject *
sys_syncfs(PyObject *Py_UNUSED(module), PyObject *args)
{
    int fd;
    if (!PyArg_ParseTuple(args, "i:syncfs", &fd))
        return NULL;
    int result;
    UNLOCKED(result, syncfs(fd));
    return none_or_error(result);
}

/* ---- mounts ---- */

static PyObject *
sys_open_tree(PyObject *Py_UNUSED(module), PyObject *args)
{
    int dirfd;
    PATH path = NULL;
    unsigned int flags;
    if (!PyArg_ParseTuple(args, "iO&I:open_tree", &dirfd, PyUnicode_FSConverter, &path, &flags))
        return NULL;
    long fd;
    UNLOCKED(fd, syscall(SYS_open_tree, dirfd, text(path), flags));
    return fd < 0 ? path_error(path) : PyLong_FromLong(fd);
}

static PyObject *
sys_move_mount(PyObject *Py_UNUSED(module), PyObject *args)
{
    int from_dirfd, to_dirfd;
    PATH from = NULL;
    PATH to = NULL;
    unsigned int flags;
    if (!PyArg_ParseTuple(args, "iO&iO&I:move_mount", &from_dirfd, PyUnicode_FSConverter, &from, &to_dirfd,
                          PyUnicode_FSConverter, &to, &flags))
        return NULL;
    long result;
    UNLOCKED(result, syscall(SYS_move_mount, from_dirfd, text(from), to_dirfd, text(to), flags));
    return result < 0 ? paths_error(from, to) : none_or_error(result);
}

static PyObject *
sys_fsopen(PyObject *Py_UNUSED(module), PyObject *args)
{
    PATH fstype = NULL;
    unsigned int flags = FSOPEN_CLOEXEC;
    if (!PyArg_ParseTuple(args, "O&|I:fsopen", PyUnicode_FSConverter, &fstype, &flags))
        return NULL;
    long fd;
    UNLOCKED(fd, syscall(SYS_fsopen, text(fstype), flags));
    return fd < 0 ? path_error(fstype) : PyLong_FromLong(fd);
}

static PyObject *
sys_fsconfig(PyObject *Py_UNUSED(module), PyObject *args)
{
    int fd, aux = 0;
    unsigned int command;
    PATH key = NULL;
    PyObject *value = Py_None;
    if (!PyArg_ParseTuple(args, "iI|O&Oi:fsconfig", &fd, &command, optional_path, &key, &value, &aux))
        return NULL;
    PATH bytes = NULL;
    const char *data = NULL;
    if (command == FSCONFIG_SET_BINARY) {
        char *blob;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(value, &blob, &size) < 0)
            return NULL;
        if (size > INT32_MAX) {
            errno = E2BIG;
            return PyErr_SetFromErrno(PyExc_OSError);
        }
        data = blob;
        aux = (int)size;
    } else if (value != Py_None) {
        if (!PyUnicode_FSConverter(value, &bytes))
            return NULL;
        data = text(bytes);
    }
    long result;
    UNLOCKED(result, syscall(SYS_fsconfig, fd, command, text(key), data, aux));
    return none_or_error(result);
}

static PyObject *
sys_fsmount(PyObject *Py_UNUSED(module), PyObject *args)
{
    int fd;
    unsigned int flags = FSMOUNT_CLOEXEC, attr = 0;
    if (!PyArg_ParseTuple(args, "i|II:fsmount", &fd, &flags, &attr))
        return NULL;
    long mount_fd;
    UNLOCKED(mount_fd, syscall(SYS_fsmount, fd, flags, attr));
    return long_or_error(mount_fd);
}

static PyObject *
sys_fspick(PyObject *Py_UNUSED(module), PyObject *args)
{
    int dirfd;
    PATH path = NULL;
    unsigned int flags;
    if (!PyArg_ParseTuple(args, "iO&I:fspick", &dirfd, PyUnicode_FSConverter, &path, &flags))
        return NULL;
    long fd;
    UNLOCKED(fd, syscall(SYS_fspick, dirfd, text(path), flags));
    return fd < 0 ? path_error(path) : PyLong_FromLong(fd);
}

static PyObject *
sys_mount_setattr(PyObject *Py_UNUSED(module), PyObject *args)
{
    int dirfd;
    PATH path = NULL;
    unsigned int flags;
    unsigned long long set, clear, propagation = 0, userns_fd = 0;
    if (!PyArg_ParseTuple(args, "iO&IKK|KK:mount_setattr", &dirfd, PyUnicode_FSConverter, &path, &flags, &set, &clear,
                          &propagation, &userns_fd))
        return NULL;
    struct mount_attr attr = {
        .attr_set = set, .attr_clr = clear, .propagation = propagation, .userns_fd = userns_fd};
    long result;
    UNLOCKED(result, syscall(SYS_mount_setattr, dirfd, text(path), flags, &attr, sizeof attr));
    return result < 0 ? path_error(path) : none_or_error(result);
}

static PyObject *
sys_mount(PyObject *Py_UNUSED(module), PyObject *args)
{
    PATH source = NULL;
    PATH target = NULL;
    PATH fstype = NULL;
    PATH data = NULL;
    unsigned long flags = 0;
    if (!PyArg_ParseTuple(args, "O&O&O&|kO&:mount", optional_path, &source, PyUnicode_FSConverter, &target,
                          optional_path, &fstype, &flags, optional_path, &data))
        return NULL;
    long result;
    UNLOCKED(result, syscall(SYS_mount, text(source), text(target), text(fstype), flags, text(data)));
    return result < 0 ? path_error(target) : none_or_error(result);
}

static PyObject *
sys_umount2(PyObject *Py_UNUSED(module), PyObject *args)
{
    PATH target = NULL;
    int flags = 0;
    if (!PyArg_ParseTuple(args, "O&|i:umount2", PyUnicode_FSConverter, &target, &flags))
        return NULL;
    long result;
    UNLOCKED(result, syscall(SYS_umount2, text(target), flags));
    return result < 0 ? path_error(target) : none_or_error(result);
}

static PyObject *
sys_pivot_root(PyObject *Py_UNUSED(module), PyObject *args)
{
    PATH new_root = NULL;
    PATH put_old = NULL;
    if (!PyArg_ParseTuple(args, "O&O&:pivot_root", PyUnicode_FSConverter, &new_root, PyUnicode_FSConverter, &put_old))
        return NULL;
    long result;
    UNLOCKED(result, syscall(SYS_pivot_root, text(new_root), text(put_old)));
    return result < 0 ? paths_error(new_root, put_old) : none_or_error(result);
}

/* ---- processes ---- */

static PyObject *
sys_setns(PyObject *Py_UNUSED(module), PyObject *args)
{
    int fd, nstype = 0;
    if (!PyArg_ParseTuple(args, "i|i:setns", &fd, &nstype))
        return NULL;
    long result;
    UNLOCKED(result, syscall(SYS_setns, fd, nstype));
    return none_or_error(result);
}

static PyObject *
sys_unshare(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long flags;
    if (!PyArg_ParseTuple(args, "k:unshare", &flags))
        return NULL;
    long result;
    UNLOCKED(result, syscall(SYS_unshare, flags));
    return none_or_error(result);
}

static PyObject *
sys_close_range(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned int first, last, flags = 0;
    if (!PyArg_ParseTuple(args, "II|I:close_range", &first, &last, &flags))
        return NULL;
    long result;
    UNLOCKED(result, syscall(SYS_close_range, first, last, flags));
    return none_or_error(result);
}

static PyObject *
sys_inotify_init1(PyObject *Py_UNUSED(module), PyObject *args)
{
    int flags = 0;
    if (!PyArg_ParseTuple(args, "|i:inotify_init1", &flags))
        return NULL;
    return long_or_error(inotify_init1(flags));
}

static PyObject *
sys_inotify_add_watch(PyObject *Py_UNUSED(module), PyObject *args)
{
    int fd;
    PATH path = NULL;
    unsigned int mask;
    if (!PyArg_ParseTuple(args, "iO&I:inotify_add_watch", &fd, PyUnicode_FSConverter, &path, &mask))
        return NULL;
    int result = inotify_add_watch(fd, text(path), mask);
    return result < 0 ? path_error(path) : PyLong_FromLong(result);
}

static PyObject *
sys_prctl(PyObject *Py_UNUSED(module), PyObject *args)
{
    int option;
    unsigned long two = 0, three = 0, four = 0, five = 0;
    if (!PyArg_ParseTuple(args, "i|kkkk:prctl", &option, &two, &three, &four, &five))
        return NULL;
    return long_or_error(syscall(SYS_prctl, option, two, three, four, five));
}

static PyObject *
sys_madvise(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long address, length;
    int advice;
    if (!PyArg_ParseTuple(args, "kki:madvise", &address, &length, &advice))
        return NULL;
    return none_or_error(syscall(SYS_madvise, address, length, advice));
}

static PyObject *
sys_set_process_name(PyObject *Py_UNUSED(module), PyObject *args)
{
    PATH name = NULL;
    if (!PyArg_ParseTuple(args, "O&:set_process_name", PyUnicode_FSConverter, &name))
        return NULL;
    return none_or_error(syscall(SYS_prctl, PR_SET_NAME, text(name), 0, 0, 0));
}

static PyObject *
sys_capget(PyObject *Py_UNUSED(module), PyObject *args)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (!PyArg_ParseTuple(args, "|i:capget", &header.pid))
        return NULL;
    memset(data, 0, sizeof data);
    if (syscall(SYS_capget, &header, data) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return Py_BuildValue("KKK", (unsigned long long)data[1].effective << 32 | data[0].effective,
                         (unsigned long long)data[1].permitted << 32 | data[0].permitted,
                         (unsigned long long)data[1].inheritable << 32 | data[0].inheritable);
}

static PyObject *
sys_capset(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long long effective, permitted, inheritable;
    if (!PyArg_ParseTuple(args, "KKK:capset", &effective, &permitted, &inheritable))
        return NULL;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    for (int half = 0; half < _LINUX_CAPABILITY_U32S_3; half++) {
        data[half].effective = (uint32_t)(effective >> (32 * half));
        data[half].permitted = (uint32_t)(permitted >> (32 * half));
        data[half].inheritable = (uint32_t)(inheritable >> (32 * half));
    }
    return none_or_error(syscall(SYS_capset, &header, data));
}

static PyObject *
sys_pidfd_getfd(PyObject *Py_UNUSED(module), PyObject *args)
{
    int pidfd, target_fd;
    unsigned int flags = 0;
    if (!PyArg_ParseTuple(args, "ii|I:pidfd_getfd", &pidfd, &target_fd, &flags))
        return NULL;
    return long_or_error(syscall(SYS_pidfd_getfd, pidfd, target_fd, flags));
}

static PyObject *
sys_join_session_keyring(PyObject *Py_UNUSED(module), PyObject *args)
{
    PATH name = NULL;
    if (!PyArg_ParseTuple(args, "|O&:join_session_keyring", optional_path, &name))
        return NULL;
    return long_or_error(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, text(name), 0, 0, 0));
}

/* ---- spawn ---- */

/* All that the child needs, gathered before vfork: after it the child may only make system calls. */
struct spawn {
    int executable_fd; /* -1: `executable` is a path */
    const char *executable;
    const char *cwd; /* NULL: the caller's */
    char **argv;
    char **envp;
    int stdio[3]; /* -1: the caller's */
    int *keep;    /* ascending, each above 2 */
    Py_ssize_t keep_count;
    int new_session;
    volatile int error;
};

/* In the child. Its descriptor table and signal dispositions are its own, its memory is the parent's. */
static int
arrange_descriptors(struct spawn *s)
{
    /* What stands in the place of another is moved away first, close-on-exec. */
    for (int i = 0; i < 3; i++) {
        if (s->stdio[i] >= 0 && s->stdio[i] < 3 && s->stdio[i] != i) {
            int moved = fcntl(s->stdio[i], F_DUPFD_CLOEXEC, 3);
            if (moved < 0)
                return -1;
            s->stdio[i] = moved;
        }
    }
    if (s->executable_fd >= 0 && s->executable_fd < 3) {
        s->executable_fd = fcntl(s->executable_fd, F_DUPFD_CLOEXEC, 3);
        if (s->executable_fd < 0)
            return -1;
    }
    for (int i = 0; i < 3; i++) {
        if (s->stdio[i] == i ? fcntl(i, F_SETFD, 0) < 0 : s->stdio[i] >= 0 && dup2(s->stdio[i], i) < 0)
            return -1;
    }
    /* Everything else goes at the exec, not before it: the executable's own descriptor is needed until then. */
    unsigned int next = 3;
    for (Py_ssize_t i = 0; i < s->keep_count; i++) {
        unsigned int kept = (unsigned int)s->keep[i];
        if (kept > next && syscall(SYS_close_range, next, kept - 1, CLOSE_RANGE_CLOEXEC) < 0)
            return -1;
        if (fcntl(s->keep[i], F_SETFD, 0) < 0)
            return -1;
        next = kept + 1;
    }
    return (int)syscall(SYS_close_range, next, ~0U, CLOSE_RANGE_CLOEXEC);
}

static void
run_child(struct spawn *s)
{
    /* exec(2) keeps ignored signals ignored, and Python ignores SIGPIPE and SIGXFSZ. */
    struct sigaction usual = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &usual, NULL);
    sigset_t none;
    sigemptyset(&none);
    if (arrange_descriptors(s) < 0 || (s->cwd != NULL && chdir(s->cwd) < 0) || (s->new_session && setsid() < 0) ||
        sigprocmask(SIG_SETMASK, &none, NULL) < 0) {
        s->error = errno;
        _exit(127);
    }
    if (s->executable_fd >= 0)
        syscall(SYS_execveat, s->executable_fd, "", s->argv, s->envp, AT_EMPTY_PATH);
    else
        execve(s->executable, s->argv, s->envp);
    s->error = errno;
    _exit(127);
}

/* Its own frame, which lives until the child has gone its way: vfork(2) forbids to return from it in the child. */
__attribute__((noinline)) static pid_t
vfork_and_run(struct spawn *s)
{
    pid_t pid = vfork();
    if (pid == 0)
        run_child(s);
    return pid;
}

static pid_t
start(struct spawn *s)
{
    /* No handler of the parent may run in the child, on the parent's memory. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = vfork_and_run(s);
    int saved = errno;
    if (pid > 0 && s->error != 0) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        saved = s->error;
        pid = -1;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = saved;
    return pid;
}

/* A sequence of str or bytes as char *[]: `holder` is a list of bytes that owns the text. */
static char **
string_array(PyObject *sequence, PyObject **holder)
{
    Py_ssize_t count = PySequence_Size(sequence);
    if (count < 0 || (*holder = PyList_New(0)) == NULL)
        return NULL;
    char **array = PyMem_Calloc((size_t)count + 1, sizeof *array);
    if (array == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PATH bytes = NULL;
        PATH item = PySequence_GetItem(sequence, i);
        if (item == NULL || !PyUnicode_FSConverter(item, &bytes) || PyList_Append(*holder, bytes) < 0) {
            PyMem_Free(array);
            return NULL;
        }
        array[i] = PyBytes_AsString(bytes);
    }
    return array;
}

static int *
kept_descriptors(PyObject *keep, Py_ssize_t *count)
{
    *count = PyTuple_Size(keep);
    int *array = PyMem_Calloc((size_t)*count + 1, sizeof *array);
    if (array == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < *count; i++) {
        long fd = PyLong_AsLong(PyTuple_GetItem(keep, i));
        if (fd < (i == 0 ? 3 : array[i - 1] + 1) || fd > INT32_MAX) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "spawn: descriptors to keep must be ascending and above 2");
            PyMem_Free(array);
            return NULL;
        }
        array[i] = (int)fd;
    }
    return array;
}

static PyObject *
sys_spawn(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *executable, *argv, *env, *keep;
    PATH cwd = NULL;
    struct spawn s = {.executable_fd = -1};
    if (!PyArg_ParseTuple(args, "OOOO!(iii)O&p:spawn", &executable, &argv, &env, &PyTuple_Type, &keep, &s.stdio[0],
                          &s.stdio[1], &s.stdio[2], optional_path, &cwd, &s.new_session))
        return NULL;
    PATH path = NULL;
    if (PyLong_Check(executable)) {
        long fd = PyLong_AsLong(executable);
        if (fd < 0 || fd > INT32_MAX) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "spawn: no such descriptor");
            return NULL;
        }
        s.executable_fd = (int)fd;
    } else if (!PyUnicode_FSConverter(executable, &path)) {
        return NULL;
    }
    s.executable = text(path);
    s.cwd = text(cwd);
    PATH argv_text = NULL;
    PATH env_text = NULL;
    pid_t pid = -1;
    if ((s.argv = string_array(argv, &argv_text)) != NULL && (s.envp = string_array(env, &env_text)) != NULL &&
        (s.keep = kept_descriptors(keep, &s.keep_count)) != NULL) {
        UNLOCKED(pid, start(&s));
        if (pid < 0 && path != NULL)
            path_error(path);
        else if (pid < 0)
            PyErr_SetFromErrno(PyExc_OSError);
    }
    PyMem_Free(s.argv);
    PyMem_Free(s.envp);
    PyMem_Free(s.keep);
    return pid < 0 ? NULL : PyLong_FromLong(pid);
}

/* ---- bpf ---- */

enum { BPF_ATTR_MAX = 256, BPF_POINTERS_MAX = 16 };

static PyObject *
bpf_with_buffers(int command, const char *given, Py_ssize_t size, PyObject *pointers, Py_buffer *views, int *held)
{
    union {
        unsigned char bytes[BPF_ATTR_MAX];
        uint64_t align;
    } attr;
    memset(&attr, 0, sizeof attr);
    memcpy(attr.bytes, given, (size_t)size);
    Py_ssize_t count = PyTuple_Size(pointers);
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t offset;
        PyObject *buffer;
        PyObject *pair = PyTuple_GetItem(pointers, i);
        if (!PyTuple_Check(pair)) {
            PyErr_SetString(PyExc_TypeError, "bpf: pointers are tuples (offset, buffer)");
            return NULL;
        }
        if (!PyArg_ParseTuple(pair, "nO:bpf", &offset, &buffer))
            return NULL;
        if (offset < 0 || offset % 8 != 0 || offset > size - 8) {
            PyErr_Format(PyExc_ValueError, "bpf: no pointer can be at offset %zd of %zd bytes", offset, size);
            return NULL;
        }
        /* A bytearray cannot be resized while its view is held, and the kernel may write into it. */
        if (PyObject_GetBuffer(buffer, &views[*held], PyByteArray_Check(buffer) ? PyBUF_WRITABLE : PyBUF_SIMPLE) < 0)
            return NULL;
        uint64_t address = (uint64_t)(uintptr_t)views[*held].buf;
        (*held)++;
        memcpy(attr.bytes + offset, &address, sizeof address);
    }
    long result;
    UNLOCKED(result, syscall(SYS_bpf, command, &attr, (unsigned int)size));
    if (result < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return Py_BuildValue("ly#", result, (const char *)attr.bytes, size);
}

static PyObject *
sys_bpf(PyObject *Py_UNUSED(module), PyObject *args)
{
    int command;
    const char *attr;
    Py_ssize_t size;
    PyObject *pointers = NULL;
    if (!PyArg_ParseTuple(args, "iy#|O!:bpf", &command, &attr, &size, &PyTuple_Type, &pointers))
        return NULL;
    if (size > BPF_ATTR_MAX || (pointers != NULL && PyTuple_Size(pointers) > BPF_POINTERS_MAX)) {
        PyErr_Format(PyExc_ValueError, "bpf: at most %d bytes and %d pointers", BPF_ATTR_MAX, BPF_POINTERS_MAX);
        return NULL;
    }
    PyObject *none = NULL;
    if (pointers == NULL && (pointers = none = PyTuple_New(0)) == NULL)
        return NULL;
    Py_buffer views[BPF_POINTERS_MAX];
    int held = 0;
    PyObject *answer = bpf_with_buffers(command, attr, size, pointers, views, &held);
    while (held > 0)
        PyBuffer_Release(&views[--held]);
    Py_XDECREF(none);
    return answer;
}

static PyMethodDef methods[] = {
    {"openat2", sys_openat2, METH_VARARGS, NULL},
    {"renameat2", sys_renameat2, METH_VARARGS, NULL},
    {"linkat", sys_linkat, METH_VARARGS, NULL},
    {"mount_of", sys_mount_of, METH_VARARGS, NULL},
    {"fstatfs_type", sys_fstatfs_type, METH_VARARGS, NULL},
    {"syncfs", sys_syncfs, METH_VARARGS, NULL},
    {"open_tree", sys_open_tree, METH_VARARGS, NULL},
    {"move_mount", sys_move_mount, METH_VARARGS, NULL},
    {"fsopen", sys_fsopen, METH_VARARGS, NULL},
    {"fsconfig", sys_fsconfig, METH_VARARGS, NULL},
    {"fsmount", sys_fsmount, METH_VARARGS, NULL},
    {"fspick", sys_fspick, METH_VARARGS, NULL},
    {"mount_setattr", sys_mount_setattr, METH_VARARGS, NULL},
    {"mount", sys_mount, METH_VARARGS, NULL},
    {"umount2", sys_umount2, METH_VARARGS, NULL},
    {"pivot_root", sys_pivot_root, METH_VARARGS, NULL},
    {"setns", sys_setns, METH_VARARGS, NULL},
    {"unshare", sys_unshare, METH_VARARGS, NULL},
    {"close_range", sys_close_range, METH_VARARGS, NULL},
    {"inotify_init1", sys_inotify_init1, METH_VARARGS, NULL},
    {"inotify_add_watch", sys_inotify_add_watch, METH_VARARGS, NULL},
    {"madvise", sys_madvise, METH_VARARGS, NULL},
    {"prctl", sys_prctl, METH_VARARGS, NULL},
    {"set_process_name", sys_set_process_name, METH_VARARGS, NULL},
    {"capget", sys_capget, METH_VARARGS, NULL},
    {"capset", sys_capset, METH_VARARGS, NULL},
    {"pidfd_getfd", sys_pidfd_getfd, METH_VARARGS, NULL},
    {"join_session_keyring", sys_join_session_keyring, METH_VARARGS, NULL},
    {"spawn", sys_spawn, METH_VARARGS, NULL},
    {"bpf", sys_bpf, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_sys",
    .m_doc = "System calls that Python lacks; see _sys.pyi.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__sys(void)
{
    return PyModuleDef_Init(&definition);
}
