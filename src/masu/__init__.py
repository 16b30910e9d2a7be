"""masu: a container stack, from the registry down to the kernel."""

__version__ = "0.1.0"
