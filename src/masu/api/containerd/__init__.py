"""containerd's gRPC services, each a class in a file of its own.

    service.py   how a service is declared, what a call brings along
    status.py    errors as gRPC statuses, in containerd's words
    site.py      what all services share: the store, an engine for each namespace, what the configuration says
    values.py    timestamps, labels, field masks, mounts, descriptors, both ways
    filters.py   containerd's filter language
    plugins.py   what introspection tells of all this
    table.py     all services: a new one is entered there

A service knows its messages and the engine, and no socket: `masu.daemon` serves them.
"""
