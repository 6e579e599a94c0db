"""A job that survives."""
