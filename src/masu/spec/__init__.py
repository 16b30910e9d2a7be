"""OCI data as values: runtime config and state, image manifest, index and config, references, platforms.

Pure parsing and validation; nothing here reads a file or asks the kernel. Import the module that is needed, this
package's own namespace is empty so that a cold start pays only for what it uses.
"""
