"""Warnings about unreadable files, each only once."""

from dataclasses import dataclass, field

from distdl.core.config import Config
from distdl.strategies.base import make
from distdl.training.unreadable import UnreadableFiles


@dataclass
class Messages:
    """The part of a loader that has its list of skipped files."""

    skipped: list[str] = field(default_factory=list)


def test_each_file_gives_one_warning() -> None:
    strategy = make(Config(strategy="single"))
    train, test, warnings = Messages(), Messages(), []
    unreadable = UnreadableFiles(strategy, [train, test], warnings.append)
    unreadable.gather()
    assert (unreadable.messages, warnings) == ([], [])
    train.skipped += ["b.png cannot be read", "a.png cannot be read"]
    unreadable.gather()
    test.skipped += ["a.png cannot be read", "c.png cannot be read"]
    unreadable.gather()
    unreadable.gather()
    assert warnings == [f"{name}.png cannot be read" for name in "abc"]
    assert unreadable.messages == warnings


def test_a_single_file_in_a_run_gives_a_warning() -> None:
    loader, warnings = Messages(["a.png cannot be read"]), []
    unreadable = UnreadableFiles(make(Config(strategy="single")), [loader], warnings.append)
    unreadable.gather()
    assert warnings == unreadable.messages == ["a.png cannot be read"]
