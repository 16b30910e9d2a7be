#!/bin/sh
# The first process of a guest with systemd, which it becomes: only the units beside this file are there, and those made
# at run time. The machine may be a container and say so in a file of its root (/.dockerenv): an empty $container says
# that the guest is none.
run=/run/systemd
export container='' SYSTEMD_UNIT_PATH="$run/transient:$run/system.control:$run/system:${0%/*}/units"
exec /lib/systemd/systemd
