#!/bin/sh
# The init of a bare guest: cgroup2 alone at /sys/fs/cgroup, nothing else running. The kernel's command
# line gives $job and $keep.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
[ -d /sys/kernel/security ] && mount -t securityfs security /sys/kernel/security
[ -d /sys/fs/selinux ] && mount -t selinuxfs selinux /sys/fs/selinux
mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup  # as systemd does
grep -q ' /dev ' /proc/mounts || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs -o mode=755 run /run
ip link set lo up
# The machine's /tmp lives on while we look: of it only $keep is to be seen. (CRIU wants to write there, too.)
mkdir /run/tmp
mount -t tmpfs -o mode=1777 tmp /run/tmp
IFS=:
for kept in ${keep:-}; do
  mkdir -p "/run$kept"
  mount --bind "$kept" "/run$kept"
done
unset IFS
mount --rbind /run/tmp /tmp
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
# A kernel with modules says where they are ($modules): it loads what it misses by this program.
if [ -n "${modules:-}" ]; then
  printf '#!/bin/sh\nexec /sbin/modprobe -d %s "$@"\n' "$modules" > /run/modprobe
  chmod 755 /run/modprobe
  echo /run/modprobe > /proc/sys/kernel/modprobe
  # Podman, for one, keeps locks here.
  for place in etc var; do
    mkdir -p "/run/own/$place" "/run/own/$place.work"
    mount -t overlay -o "lowerdir=/$place,upperdir=/run/own/$place,workdir=/run/own/$place.work" "$place" "/$place"
  done
fi
"$job"
echo "guest: exit $?"
echo o > /proc/sysrq-trigger
read -r forever
