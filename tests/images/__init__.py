"""Test images from Debian packages, without the internet: busybox, redis, memcached, nginx, python.

    images.rootfs("redis")                  a directory, ready to be a container's root (do not write to it)
    images.copy(images.rootfs("redis"), d)  the same for one test alone, which may change it
    images.layout("redis")                  an OCI image layout directory, tag `latest`, layers gzip'd
    images.push("redis", "127.0.0.1:5000")  into a registry as library/redis:latest; returns the manifest's digest

All are made once and kept in the tests' cache (programs.cache()). Programs come from the machine where they are
installed, else from Debian's packages, taken apart and not installed: no service starts, nothing changes.
"""

from __future__ import annotations

from images.layout import layout, push
from images.recipes import NAMES
from images.rootfs import copy, rootfs

__all__ = ["NAMES", "copy", "layout", "push", "rootfs"]
