"""What environment.json says of the machine."""

from distdl.runtime.environment import environment


def test_the_environment_names_versions_cores_and_the_command() -> None:
    found = environment()
    assert found["packages"]["torch"]
    assert found["cores"] >= 1
    assert found["command"]
