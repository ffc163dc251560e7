"""The protocol without I/O: bytes and values in, values out."""
