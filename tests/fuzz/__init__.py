"""Mutated inputs: no byte sequence causes a signal, a traceback, or a wrong result without an error."""
