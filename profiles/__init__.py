"""Profiles that ship with distdl: training, studies, devices and networks, all TOML."""
