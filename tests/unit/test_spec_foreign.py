"""Sections for platforms that are not Linux: read, checked, and not run."""

from __future__ import annotations

from typing import Any

import pytest
from unit.test_spec_runtime import MINIMAL

from masu.errors import InvalidArgument, Unimplemented
from masu.spec import runtime

FOREIGN: dict[str, dict[str, Any]] = {
    "windows": {
        "layerFolders": ["C:\\Layers\\layer1"],
        "devices": [{"id": "24E552D7-6523-47F7-A647-D3465BF1F5CA", "idType": "class"}],
        "resources": {
            "memory": {"limit": 2097152},
            "cpu": {"count": 1, "shares": 2, "maximum": 5000, "affinity": [{"mask": 1, "group": 2}]},
            "storage": {"iops": 50, "bps": 20, "sandboxSize": 1},
        },
        "credentialSpec": {"anything": ["goes"]},
        "servicing": True,
        "ignoreFlushesDuringBoot": True,
        "hyperv": {"utilityVMPath": "C:\\path"},
        "network": {
            "endpointList": ["7a010682-17e0-4455-a838-02e5d9655fe6"],
            "allowUnqualifiedDNSQuery": True,
            "DNSSearchList": ["a.com"],
            "networkSharedContainerName": "name",
            "networkNamespace": "168f3daf-efc6-4377-b20a-2c86764ba892",
        },
    },
    "vm": {
        "hypervisor": {"path": "/path/to/vmm", "parameters": ["opts1=foo"]},
        "kernel": {"path": "/path/to/vmlinuz", "parameters": ["foo=bar"], "initrd": "/path/to/initrd.img"},
        "image": {"path": "/path/to/vm/rootfs.img", "format": "raw"},
        "hwConfig": {
            "deviceTree": "/d",
            "vcpus": 1,
            "memory": 4194304,
            "dtdevs": ["a"],
            "iomems": [{"firstGFN": 1, "firstMFN": 2, "nrMFNs": 3}],
            "irqs": [11, 22],
        },
    },
    "solaris": {
        "milestone": "svc:/milestone/container:default",
        "limitpriv": "default",
        "maxShmMemory": "512m",
        "anet": [
            {
                "linkname": "net0",
                "lowerLink": "net2",
                "allowedAddress": "172.17.0.2/16",
                "configureAllowedAddress": "true",
                "defrouter": "172.17.0.1",
                "linkProtection": "mac-nospoof, ip-nospoof",
                "macAddress": "02:42:f8:52:c7:16",
            }
        ],
        "cappedCPU": {"ncpus": "8"},
        "cappedMemory": {"physical": "512m", "swap": "512m"},
    },
    "freebsd": {
        "devices": [{"path": "pf", "mode": 448}],
        "jail": {
            "parent": "p",
            "host": "new",
            "ip4": "inherit",
            "ip4Addr": ["10.0.0.1"],
            "ip6": "disable",
            "ip6Addr": ["::1"],
            "vnet": "new",
            "interface": "em0",
            "vnetInterfaces": ["epair0b"],
            "sysvmsg": "new",
            "sysvsem": "new",
            "sysvshm": "new",
            "enforceStatfs": 1,
            "allow": {
                "setHostname": True,
                "rawSockets": True,
                "chflags": True,
                "mount": ["nullfs"],
                "quotas": True,
                "socketAf": True,
                "mlock": True,
                "reservedPorts": True,
                "suser": True,
            },
        },
    },
    "zos": {"namespaces": [{"type": "pid"}, {"type": "mount", "path": "/proc/1/ns/mnt"}]},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_platforms_parse_and_are_not_run(name: str) -> None:
    # What Linux would refuse is not looked at: the paths of Windows, no root.
    data = {
        "ociVersion": "1.3.0",
        name: FOREIGN[name],
        "process": {"cwd": "C:\\", "commandLine": "cmd.exe", "user": {"username": "ContainerUser"}},
        "hostname": "box",
    }
    config = runtime.parse_config(data)
    written: Any = config.to_json()
    assert written.pop("linux") == {}
    assert written["process"]["user"].pop("uid") == written["process"]["user"].pop("gid") == 0
    assert written == data
    with pytest.raises(Unimplemented) as caught:
        runtime.require_linux(config)
    assert caught.value.where == name
    assert "this runtime makes Linux containers" in caught.value.detail


@pytest.mark.parametrize("name", FOREIGN)
def test_other_platforms_are_checked(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        runtime.parse_config({**MINIMAL, name: []})
    assert caught.value.where == name


def test_freebsd_words() -> None:
    with pytest.raises(InvalidArgument) as caught:
        runtime.parse_config({**MINIMAL, "freebsd": {"jail": {"vnet": "disable"}}})
    assert caught.value.where == "freebsd.jail.vnet"


def test_platform_of_old_versions() -> None:
    config = runtime.parse_config({**MINIMAL, "platform": {"os": "windows", "arch": "amd64"}})
    with pytest.raises(Unimplemented, match="windows"):
        runtime.require_linux(config)
    runtime.require_linux(runtime.parse_config({**MINIMAL, "platform": {"os": "linux", "arch": "amd64"}}))
    runtime.require_linux(runtime.parse_config(MINIMAL))
