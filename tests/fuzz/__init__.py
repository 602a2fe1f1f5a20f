"""Mutated inputs: no byte sequence ends a process by a signal, prints a traceback, or is silently read wrong."""
