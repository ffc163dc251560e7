"""What needs a library or a system of its own, each behind its extra."""
