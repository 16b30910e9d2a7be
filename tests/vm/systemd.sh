#!/bin/sh
# The first process of a guest with systemd, which it becomes: only the units beside this file are there. The machine may
# be a container and say so in a file of its root (/.dockerenv): an empty $container says that the guest is none.
export container='' SYSTEMD_UNIT_PATH="${0%/*}/units"
exec /lib/systemd/systemd
