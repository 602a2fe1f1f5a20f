"""Machine and versions of a run."""

from distdl.runtime.environment import environment


def test_the_environment_names_versions_cores_and_the_command() -> None:
    values = environment()
    assert values["packages"]["torch"]
    assert values["cores"] >= 1
    assert values["command"]
