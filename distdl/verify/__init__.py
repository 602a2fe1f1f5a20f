"""Verification that a user's training resumes exactly: kill it, resume it, and compare the results bit by bit."""
