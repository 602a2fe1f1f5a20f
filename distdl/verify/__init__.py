"""Verification of exact resume on a user's training: kill it, resume it, compare everything."""
