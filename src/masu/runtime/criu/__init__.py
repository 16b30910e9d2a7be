"""CRIU, the program that writes processes down and raises them again, as the runtime speaks with it.

    wire      protobuf's wire format, as much of it as is needed
    rpc       the messages of CRIU's images/rpc.proto, and the conversation with `criu swrk`
    images    the directory of a checkpoint: untrusted when it is restored; CRIU's log, quoted in errors
    mounts    which mounts of the container come from the host, told at the dump, given again at the restore
    verify    what was restored is what config.json says, whatever the checkpoint would have liked

Only `checkpoint` and `restore` load it.
"""
