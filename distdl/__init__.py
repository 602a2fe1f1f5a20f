"""distdl trains a network on however many devices you have, and tells before you pay how long it will take."""

__version__ = "0.1.0"
