"""Figures about this package, measured beside what a user would take instead."""
