"""Messages about unreadable files: each is a warning once."""

from dataclasses import dataclass, field

from distdl.core.config import Config
from distdl.strategies.base import make
from distdl.training.unreadable import UnreadableFiles


@dataclass
class Messages:
    """The part of a loader that has its messages."""

    skipped: list[str] = field(default_factory=list)


def test_each_file_is_a_warning_once() -> None:
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
