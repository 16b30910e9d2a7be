"""The sections of config.json for platforms that are not Linux: read, so that a message can name what they ask for.

Loaded only when a config has one of them.
"""

from __future__ import annotations

from masu.spec.fields import (
    Value,
    absolute_path,
    boolean,
    each,
    i64,
    many,
    one,
    slots,
    string,
    strings,
    text,
    u16,
    u32,
    u64,
    word,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from masu.spec.fields import Fields


def _anything(value: object, where: str, warnings: list[str]) -> object:
    return value


# --- windows


class WindowsDevice(Value):
    FIELDS: ClassVar[Fields] = {"id": ("id", text, None), "idType": ("id_type", text, None)}
    REQUIRED = ("id", "idType")
    __slots__ = slots(FIELDS)


class WindowsMemory(Value):
    FIELDS: ClassVar[Fields] = {"limit": ("limit", u64, None)}
    __slots__ = slots(FIELDS)


class WindowsAffinity(Value):
    FIELDS: ClassVar[Fields] = {"mask": ("mask", u64, 0), "group": ("group", u32, 0)}
    __slots__ = slots(FIELDS)


class WindowsCPU(Value):
    FIELDS: ClassVar[Fields] = {
        "count": ("count", u64, None),
        "shares": ("shares", u16, None),
        "maximum": ("maximum", u16, None),
        "affinity": ("affinity", many(WindowsAffinity), ()),
    }
    __slots__ = slots(FIELDS)


class WindowsStorage(Value):
    FIELDS: ClassVar[Fields] = {
        "iops": ("iops", u64, None),
        "bps": ("bps", u64, None),
        "sandboxSize": ("sandbox_size", u64, None),
    }
    __slots__ = slots(FIELDS)


class WindowsResources(Value):
    FIELDS: ClassVar[Fields] = {
        "memory": ("memory", one(WindowsMemory), None),
        "cpu": ("cpu", one(WindowsCPU), None),
        "storage": ("storage", one(WindowsStorage), None),
    }
    __slots__ = slots(FIELDS)


class WindowsHyperV(Value):
    FIELDS: ClassVar[Fields] = {"utilityVMPath": ("utility_vm_path", text, None)}
    __slots__ = slots(FIELDS)


class WindowsNetwork(Value):
    FIELDS: ClassVar[Fields] = {
        "endpointList": ("endpoint_list", strings, ()),
        "allowUnqualifiedDNSQuery": ("allow_unqualified_dns_query", boolean, False),
        "DNSSearchList": ("dns_search_list", strings, ()),
        "networkSharedContainerName": ("network_shared_container_name", text, None),
        "networkNamespace": ("network_namespace", text, None),
    }
    __slots__ = slots(FIELDS)


class Windows(Value):
    FIELDS: ClassVar[Fields] = {
        "layerFolders": ("layer_folders", strings, ()),
        "devices": ("devices", many(WindowsDevice), ()),
        "resources": ("resources", one(WindowsResources), None),
        "credentialSpec": ("credential_spec", _anything, None),
        "servicing": ("servicing", boolean, False),
        "ignoreFlushesDuringBoot": ("ignore_flushes_during_boot", boolean, False),
        "hyperv": ("hyperv", one(WindowsHyperV), None),
        "network": ("network", one(WindowsNetwork), None),
    }
    REQUIRED = ("layerFolders",)
    __slots__ = slots(FIELDS)


# --- vm


class VMHypervisor(Value):
    FIELDS: ClassVar[Fields] = {"path": ("path", absolute_path, None), "parameters": ("parameters", strings, ())}
    REQUIRED = ("path",)
    __slots__ = slots(FIELDS)


class VMKernel(Value):
    FIELDS: ClassVar[Fields] = {
        "path": ("path", absolute_path, None),
        "parameters": ("parameters", strings, ()),
        "initrd": ("initrd", absolute_path, None),
    }
    REQUIRED = ("path",)
    __slots__ = slots(FIELDS)


class VMImage(Value):
    FIELDS: ClassVar[Fields] = {"path": ("path", absolute_path, None), "format": ("format", text, None)}
    __slots__ = slots(FIELDS)


class IOMem(Value):
    FIELDS: ClassVar[Fields] = {
        "firstGFN": ("first_gfn", u64, None),
        "firstMFN": ("first_mfn", u64, None),
        "nrMFNs": ("nr_mfns", u64, None),
    }
    REQUIRED = ("firstMFN", "nrMFNs")
    __slots__ = slots(FIELDS)


class HWConfig(Value):
    FIELDS: ClassVar[Fields] = {
        "deviceTree": ("device_tree", text, None),
        "vcpus": ("vcpus", u32, None),
        "memory": ("memory", u64, None),
        "dtdevs": ("dtdevs", strings, ()),
        "iomems": ("iomems", many(IOMem), ()),
        "irqs": ("irqs", each(u32), ()),
    }
    __slots__ = slots(FIELDS)


class VM(Value):
    FIELDS: ClassVar[Fields] = {
        "hypervisor": ("hypervisor", one(VMHypervisor), None),
        "kernel": ("kernel", one(VMKernel), None),
        "image": ("image", one(VMImage), None),
        # So the text of the specification; its Go structures write `hwconfig`.
        "hwConfig": ("hw_config", one(HWConfig), None),
    }
    REQUIRED = ("kernel",)
    __slots__ = slots(FIELDS)


# --- solaris


class SolarisAnet(Value):
    FIELDS: ClassVar[Fields] = {
        "linkname": ("linkname", text, None),
        "lowerLink": ("lower_link", text, None),
        "allowedAddress": ("allowed_address", text, None),
        "configureAllowedAddress": ("configure_allowed_address", text, None),
        "defrouter": ("defrouter", text, None),
        "linkProtection": ("link_protection", text, None),
        "macAddress": ("mac_address", text, None),
    }
    __slots__ = slots(FIELDS)


class SolarisCPU(Value):
    FIELDS: ClassVar[Fields] = {"ncpus": ("ncpus", text, None)}
    __slots__ = slots(FIELDS)


class SolarisMemory(Value):
    FIELDS: ClassVar[Fields] = {"physical": ("physical", text, None), "swap": ("swap", text, None)}
    __slots__ = slots(FIELDS)


class Solaris(Value):
    FIELDS: ClassVar[Fields] = {
        "milestone": ("milestone", text, None),
        "limitpriv": ("limitpriv", text, None),
        "maxShmMemory": ("max_shm_memory", text, None),
        "anet": ("anet", many(SolarisAnet), ()),
        "cappedCPU": ("capped_cpu", one(SolarisCPU), None),
        "cappedMemory": ("capped_memory", one(SolarisMemory), None),
    }
    __slots__ = slots(FIELDS)


# --- freebsd

_sharing = word("sharing", ("disable", "new", "inherit"))
_new_or_inherit = word("sharing", ("new", "inherit"))


class FreeBSDDevice(Value):
    FIELDS: ClassVar[Fields] = {"path": ("path", string, None), "mode": ("mode", u32, None)}
    REQUIRED = ("path",)
    __slots__ = slots(FIELDS)


class FreeBSDJailAllow(Value):
    FIELDS: ClassVar[Fields] = {
        "setHostname": ("set_hostname", boolean, False),
        "rawSockets": ("raw_sockets", boolean, False),
        "chflags": ("chflags", boolean, False),
        "mount": ("mount", strings, ()),
        "quotas": ("quotas", boolean, False),
        "socketAf": ("socket_af", boolean, False),
        "mlock": ("mlock", boolean, False),
        "reservedPorts": ("reserved_ports", boolean, False),
        "suser": ("suser", boolean, False),
    }
    __slots__ = slots(FIELDS)


class FreeBSDJail(Value):
    FIELDS: ClassVar[Fields] = {
        "parent": ("parent", text, None),
        "host": ("host", _new_or_inherit, None),
        "ip4": ("ip4", _sharing, None),
        "ip4Addr": ("ip4_addr", strings, ()),
        "ip6": ("ip6", _sharing, None),
        "ip6Addr": ("ip6_addr", strings, ()),
        "vnet": ("vnet", _new_or_inherit, None),
        "interface": ("interface", text, None),
        "vnetInterfaces": ("vnet_interfaces", strings, ()),
        "sysvmsg": ("sysvmsg", _sharing, None),
        "sysvsem": ("sysvsem", _sharing, None),
        "sysvshm": ("sysvshm", _sharing, None),
        "enforceStatfs": ("enforce_statfs", i64, None),
        "allow": ("allow", one(FreeBSDJailAllow), None),
    }
    __slots__ = slots(FIELDS)


class FreeBSD(Value):
    FIELDS: ClassVar[Fields] = {
        "devices": ("devices", many(FreeBSDDevice), ()),
        "jail": ("jail", one(FreeBSDJail), None),
    }
    __slots__ = slots(FIELDS)


# --- z/OS


class ZOSNamespace(Value):
    FIELDS: ClassVar[Fields] = {
        "type": ("type", word("namespace type", ("pid", "mount", "ipc", "uts")), None),
        "path": ("path", absolute_path, None),
    }
    REQUIRED = ("type",)
    __slots__ = slots(FIELDS)


class ZOS(Value):
    FIELDS: ClassVar[Fields] = {"namespaces": ("namespaces", many(ZOSNamespace), ())}
    __slots__ = slots(FIELDS)


SECTIONS: dict[str, type[Value]] = {
    "windows": Windows,
    "vm": VM,
    "solaris": Solaris,
    "freebsd": FreeBSD,
    "zos": ZOS,
}
