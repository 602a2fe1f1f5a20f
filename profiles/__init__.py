"""Profiles that are included in distdl: TOML files of trainings, studies, devices and networks."""
