"""The kernel, in Python: what the layers above ask of Linux, without policy."""
