"""Option names of other programs: the error suggests distdl's option."""

import pytest

from distdl.cli.__main__ import main

RANKS = ["--nproc_per_node", "--nproc-per-node", "--ranks", "--gpus", "-n", "-np", "--np", "--num-proc", "--ntasks"]
SUGGESTIONS = {
    "launch": {
        "--nproc": [*RANKS, "--num_gpus", "--ntasks-per-node", "--processes"],
        "--hosts": ["--nnodes", "--nodes", "--host", "--hostfile", "--nodelist", "-H", "-w"],
        "--port": ["--master_port", "--master-port"],
        "--with": ["--wit"],
    },
    "probe network": {"--nproc": RANKS, "--hosts": ["--nnodes", "--hostfile"]},
    "submit": {
        "--nproc": ["--ranks", "--ntasks-per-node", "--nproc_per_node", "--np"],
        "--nodes": ["--nnodes", "--hosts"],
        "--gpus": ["--gpus-per-node", "--gres", "-G"],
    },
    "verify-resume": {"--ranks": ["--nproc", "--nproc_per_node", "--np", "--gpus"]},
}
"""Names in other programs, by subcommand and option."""


@pytest.mark.parametrize(
    ("verb", "option", "foreign"),
    [(verb, option, name) for verb, rows in SUGGESTIONS.items() for option, names in rows.items() for name in names],
)
@pytest.mark.parametrize("separator", [" ", "="])
def test_a_foreign_name_suggests_the_option(
    verb: str, option: str, foreign: str, separator: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*verb.split(), *f"{foreign}{separator}4".split(), "--", "--epochs", "1"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.endswith(f"; did you mean {option}?\n")
