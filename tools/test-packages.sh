# Sourced by tools/prepare test: programs the tests use beside what masu needs, as `wish COMMAND PACKAGE`. Without one
# its tests are skipped and say so; CI refuses skips it does not expect.
wishes=
wish() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" > /dev/null || wishes="$wishes $2"; }

wish clang clang
wish ip iproute2
wish ping iputils-ping
wish ps procps
wish strace strace
wish newuidmap uidmap
wish linux.uml user-mode-linux
wish qemu-system-x86_64 qemu-system-x86
wish modprobe kmod
wish secilc secilc
wish apparmor_parser apparmor
# Guests boot the machine's own systemd: it is unpacked, not started.
wish systemctl systemd
wish dbus-daemon dbus
wish runc runc
wish crun crun
wish criu criu
wish bwrap bubblewrap
wish skopeo skopeo
wish umoci umoci
wish docker-registry docker-registry
wish podman podman
wish catatonit catatonit
[ -x /usr/lib/podman/netavark ] || wishes="$wishes netavark"
wish buildah buildah
# Rootless Docker and its network.
wish rootlesskit rootlesskit
wish slirp4netns slirp4netns
wish containerd containerd
wish dockerd docker.io
if ! printf 'int main(void) { return 0; }' | clang -fsanitize=address,fuzzer-no-link -x c -o /dev/null - 2> /dev/null; then
  # The sanitizers' runtime has clang's version in its name.
  wishes="$wishes $(apt-cache depends clang 2> /dev/null | sed -n 's/^ *Depends: clang-\([0-9]*\)$/libclang-rt-\1-dev/p')"
fi

if [ -n "$wishes" ] && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
  if ! apt-cache show runc > /dev/null 2>&1; then apt-get -qq update >> "$log" 2>&1 < /dev/null; fi
  for package in $wishes; do
    # A release that does not have one of them must not cost the others.
    if apt-cache show "$package" > /dev/null 2>&1; then need "$package"; fi
  done
fi
