"""Back-ends that run a container for the engine. Today: Linux namespaces, through `runtime` and masu-launch."""
