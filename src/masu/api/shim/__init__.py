"""What containerd-shim-masu-v2 serves: containerd's task service, for many containers in one process.

containerd ── ttrpc ──► shim: tasks.py           one for each containerd namespace
    ▲                     │  processes.py        what it knows of each process; all can be found again by looking
    │                     │
    └── events, ttrpc ────┤  publisher.py
                          └── isolation ──► masu-launch, monitor ──► the container's first process
                                              (one for each, and for each exec; outlives the shim)
"""
