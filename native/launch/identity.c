/* Who the process is and what it may use. */
#include "launch.h"

#include <linux/capability.h>

int do_become(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    unsigned uid = small_of(op, F_BECOME_UID), gid = small_of(op, F_BECOME_GID);
    /* Denied where the mapping was written without privilege (user_namespaces(7)); then there is nothing to drop
     * that we would be allowed to. */
    sys(__NR_setgroups, 0, NULL);
    int result = (int)sys(__NR_setresgid, gid, gid, gid);
    if (result < 0)
        return fail(err, result, "setresgid %u", gid);
    if (check(err, sys(__NR_setresuid, uid, uid, uid), "setresuid %u", uid) < 0)
        return -1;
    if (launch->monitor >= 0 && launch->inside) /* a change of user has taken it away (prctl(2)) */
        sys_prctl(PR_SET_PDEATHSIG, SIGNAL_KILL, 0, 0);
    return 0;
}

int do_rlimit(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    struct { /* struct rlimit64 */
        uint64_t soft, hard;
    } now, wanted = {number_of(op, F_RLIMIT_SOFT), number_of(op, F_RLIMIT_HARD)};
    unsigned resource = small_of(op, F_RLIMIT_RESOURCE);
    int result = (int)sys(__NR_prlimit64, 0, resource, &wanted, &now);
    if (result == 0)
        return 0;
    if (result == -EINVAL && wanted.soft > wanted.hard)
        return fail(err, result, "the soft limit %lu is above the hard limit %lu", (unsigned long)wanted.soft,
                    (unsigned long)wanted.hard);
    if (result == -EPERM && sys(__NR_prlimit64, 0, resource, NULL, &now) == 0)
        return fail(err, result, "the hard limit is %lu here; raising it to %lu needs CAP_SYS_RESOURCE",
                    (unsigned long)now.hard, (unsigned long)wanted.hard);
    return fail(err, result, "prlimit");
}

int do_scheduler(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    struct { /* struct sched_attr of Linux 3.14 (sched_setattr(2)) */
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attr = {.size = sizeof attr,
              .policy = small_of(op, F_SCHEDULER_POLICY),
              .flags = number_of(op, F_SCHEDULER_FLAGS),
              .nice = (int32_t)small_of(op, F_SCHEDULER_NICE),
              .priority = small_of(op, F_SCHEDULER_PRIORITY),
              .runtime = number_of(op, F_SCHEDULER_RUNTIME),
              .deadline = number_of(op, F_SCHEDULER_DEADLINE),
              .period = number_of(op, F_SCHEDULER_PERIOD)};
    return check(err, sys(__NR_sched_setattr, 0, &attr, 0), "sched_setattr");
}

int do_ioprio(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    unsigned value = small_of(op, F_IOPRIO_VALUE);
    return check(err, sys(__NR_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, 0, value), "ioprio_set");
}

int do_personality(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    return check(err, sys(__NR_personality, small_of(op, F_PERSONALITY_VALUE)), "personality");
}

int do_mempolicy(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    const struct field *nodes = &op->field[F_MEMPOLICY_NODES];
    uint64_t mask[17] = {0}; /* 1024 nodes, as many as a kernel can be built for, and that bit */
    if (nodes->length > sizeof mask - 8)
        return fail(err, EINVAL, "a mask of %u bytes", nodes->length);
    memcpy(mask, nodes->data, nodes->length);
    /* The kernel looks at one bit less than it is told (set_mempolicy(2), "Bugs"). */
    unsigned long bits = nodes->length == 0 ? 0 : nodes->length * 8ul + 1;
    unsigned mode = small_of(op, F_MEMPOLICY_MODE);
    return check(err, sys(__NR_set_mempolicy, mode, bits == 0 ? NULL : mask, bits), "set_mempolicy");
}

int do_affinity(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    const struct field *mask = &op->field[F_AFFINITY_MASK];
    uint64_t aligned[128] = {0};
    if (mask->length == 0 || mask->length > sizeof aligned)
        return fail(err, EINVAL, "a mask of %u bytes", mask->length);
    memcpy(aligned, mask->data, mask->length);
    return check(err, sys(__NR_sched_setaffinity, 0, (mask->length + 7ul) / 8 * 8, aligned),
                 "sched_setaffinity: none of these processors may be used here");
}

/* A session keyring of the container's own, searchable by whatever user its processes become: the permission bit
 * is the one runc adds. */
int do_keyring(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    char about[256];
    long key = sys(__NR_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, text_of(op, F_KEYRING_NAME));
    if (key == -ENOSYS)
        return 0; /* a kernel without keys has none to keep apart */
    if (key < 0)
        return fail(err, key, "joining a new session keyring");
    long length = sys(__NR_keyctl, 6 /* KEYCTL_DESCRIBE */, key, about, sizeof about - 1);
    if (length <= 0 || (size_t)length >= sizeof about)
        return 0;
    /* "keyring;UID;GID;PERMISSIONS;NAME", the permissions in hexadecimal */
    const char *at = about;
    about[length] = '\0';
    for (int fields = 0; fields < 3 && at != NULL; fields++) {
        at = strchr(at, ';');
        at = at == NULL ? NULL : at + 1;
    }
    unsigned permissions = 0;
    for (; at != NULL && ((*at >= '0' && *at <= '9') || (*at >= 'a' && *at <= 'f')); at++)
        permissions = permissions << 4 | (unsigned)(*at <= '9' ? *at - '0' : *at - 'a' + 10);
    if (permissions != 0)
        sys(__NR_keyctl, 5 /* KEYCTL_SETPERM */, key, permissions | 0x00080000u /* KEY_USR_SEARCH */);
    return 0;
}

int do_setsid(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    int result = (int)sys(__NR_setsid);
    return result < 0 && result != -EPERM ? fail(err, result, "setsid") : 0; /* EPERM: it already leads one */
}

int do_pdeathsig(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    int result = sys_prctl(PR_SET_PDEATHSIG, small_of(op, F_PDEATHSIG_SIGNAL), 0, 0);
    if (result < 0)
        return fail(err, result, "prctl PR_SET_PDEATHSIG");
    /* A monitor that died before this line will not be told to us any more. */
    struct pollfd fd = {.fd = launch->monitor, .events = 0};
    if (launch->monitor >= 0 && sys_poll(&fd, 1, 0) == 1 && (fd.revents & POLLHUP) != 0)
        sys_exit(1);
    return 0;
}

int do_hostname(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    const char *name = text_of(op, F_HOSTNAME_NAME);
    return check(err, sys(__NR_sethostname, name, strlen(name)), "sethostname");
}

int do_domainname(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    const char *name = text_of(op, F_DOMAINNAME_NAME);
    return check(err, sys(__NR_setdomainname, name, strlen(name)), "setdomainname");
}

int do_no_new_privs(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    return check(err, sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0), "prctl PR_SET_NO_NEW_PRIVS");
}

int do_bounding(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    uint64_t keep = number_of(op, F_BOUNDING_CAPABILITIES);
    for (unsigned capability = 0; capability < 64; capability++) {
        int set = sys_prctl(PR_CAPBSET_READ, capability, 0, 0);
        if (set < 0)
            break; /* EINVAL: beyond the last one this kernel knows */
        if (set == 0 || (keep >> capability & 1) != 0)
            continue;
        int result = sys_prctl(PR_CAPBSET_DROP, capability, 0, 0);
        if (result < 0)
            return fail(err, result, "dropping capability %u from the bounding set", capability);
    }
    return 0;
}

int do_setuser(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    unsigned uid = small_of(op, F_SETUSER_UID), gid = small_of(op, F_SETUSER_GID);
    const struct field *groups = &op->field[F_SETUSER_GROUPS];
    unsigned keep = small_of(op, F_SETUSER_KEEP_GROUPS);
    if (keep != KEEP_GROUPS) {
        long result = sys(__NR_setgroups, groups->length / 4, groups->data);
        if (result < 0 && !(keep == KEEP_GROUPS_IF_DENIED && result == -EPERM))
            return fail(err, result, "setgroups%s", result == -EINVAL ? ": a group is not mapped" : "");
    }
    /* Permitted capabilities survive, until `caps` says what they are to be (capabilities(7)). */
    sys_prctl(PR_SET_KEEPCAPS, 1, 0, 0);
    long result = sys(__NR_setresgid, gid, gid, gid);
    if (result < 0)
        return fail(err, result, "setresgid %u%s", gid, result == -EINVAL ? ": not mapped" : "");
    result = sys(__NR_setresuid, uid, uid, uid);
    if (result < 0)
        return fail(err, result, "setresuid %u%s", uid, result == -EINVAL ? ": not mapped" : "");
    sys_prctl(PR_SET_KEEPCAPS, 0, 0, 0);
    if (launch->monitor >= 0) /* a change of user has taken it away (prctl(2)) */
        sys_prctl(PR_SET_PDEATHSIG, SIGNAL_KILL, 0, 0);
    return 0;
}

int do_caps(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    uint64_t effective = number_of(op, F_CAPS_EFFECTIVE), permitted = number_of(op, F_CAPS_PERMITTED);
    uint64_t inheritable = number_of(op, F_CAPS_INHERITABLE), ambient = number_of(op, F_CAPS_AMBIENT);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
        {(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)}};
    sys_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0);
    int result = (int)sys(__NR_capset, &header, data);
    if (result < 0)
        return fail(err, result, "capset: the effective set exceeds the permitted one, or a set what we have");
    for (unsigned capability = 0; capability < 64; capability++) {
        if ((ambient >> capability & 1) == 0)
            continue;
        if (check(err, sys_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0),
                  "ambient capability %u: it must be permitted and inheritable, too", capability) < 0)
            return -1;
    }
    return 0;
}

int do_dumpable(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    return check(err, sys_prctl(PR_SET_DUMPABLE, 1, 0, 0), "prctl PR_SET_DUMPABLE");
}

int do_umask(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    sys(__NR_umask, small_of(op, F_UMASK_MASK) & 0777);
    return 0;
}

int do_chdir(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    char where[PATH_LIMIT];
    const char *path = text_of(op, F_CHDIR_PATH);
    long result = sys(__NR_chdir, path);
    if (result < 0)
        return fail_path(err, result, path);
    /* An fd that leaked would be a way out: /proc/self/fd/7 may be a directory of the host (CVE-2024-21626). The
     * system call, other than getcwd(3), shows such a place as "(unreachable)/…". */
    if (check(err, sys(__NR_getcwd, where, sizeof where), "getcwd") < 0)
        return -1;
    return where[0] == '/' ? 0 : fail(err, EPERM, "%s: the working directory is outside of the container's root", path);
}

int do_loopback(struct launch *launch, const struct operation *op, struct masu_error *err)
{
    struct { /* struct ifreq (netdevice(7)) */
        char name[16];
        short flags;
        char rest[22];
    } request = {.name = "lo"};
    owned_fd fd = (int)sys(__NR_socket, FAMILY_UNIX, SOCKET_DATAGRAM | SOCKET_CLOEXEC, 0);
    if (fd < 0)
        return fail(err, fd, "socket");
    if (check(err, sys_ioctl(fd, 0x8913 /* SIOCGIFFLAGS */, &request), "the flags of lo") < 0)
        return -1;
    request.flags = (short)(request.flags | 1 /* IFF_UP */);
    return check(err, sys_ioctl(fd, 0x8914 /* SIOCSIFFLAGS */, &request), "bringing lo up");
}
