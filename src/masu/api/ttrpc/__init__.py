"""ttrpc, containerd's protocol between processes of one machine: remote calls in frames on a unix socket.

Our own, because a shim is made of little else: `codec` knows the protocol and does no I/O, `server` and `client` stand
on it, without asyncio, which would be twice what the rest of a shim needs (9 MB beside 5).
"""
