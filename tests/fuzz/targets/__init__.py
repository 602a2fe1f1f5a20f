"""One module a kind of input."""
