"""Events are sent in order to the callbacks that override them; both classes have the same events."""

import inspect
from typing import Any

import pytest
import torch

from distdl.training.events import Callback, Events


def methods(kind: type) -> dict[str, list[str]]:
    """Public methods of a class, with the names of their parameters."""
    functions = inspect.getmembers(kind, inspect.isfunction)
    return {name: [*inspect.signature(each).parameters] for name, each in functions if not name.startswith("_")}


def test_callback_and_events_have_the_same_methods() -> None:
    assert methods(Callback) == methods(Events)


ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "step_end": (torch.zeros(()),),
    "evaluate_end": ("test", {}),
    "warn": ("text",),
}


@pytest.mark.parametrize("event", methods(Callback))
def test_an_event_calls_the_callbacks_that_override_it_in_order(event: str) -> None:
    calls: list[tuple[str, tuple[Any, ...]]] = []

    def listener(name: str) -> Callback:
        def call(self: Callback, *given: Any) -> dict[str, str]:
            calls.append((name, given))
            return {name: event}

        return type("Listener", (Callback,), {event: call})()

    training, given = object(), ARGUMENTS.get(event, ())
    returned = getattr(Events([listener("first"), Callback(), listener("second")]), event)(training, *given)
    assert calls == [("first", (training, *given)), ("second", (training, *given))]
    assert returned == ({"first": "result", "second": "result"} if event == "result" else None)


def test_callbacks_of_a_class_that_inherits_an_event_receive_it() -> None:
    class Parent(Callback):
        count = 0

        def epoch_end(self, trainer: Any) -> None:
            self.count += 1

    class Child(Parent):
        pass

    child = Child()
    Events([child]).epoch_end(None)
    assert child.count == 1
