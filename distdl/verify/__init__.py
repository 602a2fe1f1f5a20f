"""Proof of exact resume on the user's own training: kill it, resume it, compare everything."""
