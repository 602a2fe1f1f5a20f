"""Import, check and call of components. This module also provides components, as another package would."""

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest

from distdl.core import factories
from distdl.core.contracts import ComponentError
from distdl.core.errors import Failure, UserError
from distdl.core.kinds import Row

THING = 3


def schedule(epoch: float, progress: float, *, power: float = 2.0) -> float:
    return (1 - progress) ** power


def no_schedule(epoch: float, progress: float) -> float:
    raise ZeroDivisionError("no  steps\nat all")


def failing(error: type[Exception]) -> Callable[[float, float], None]:
    def fail(epoch: float, progress: float) -> None:
        raise error("the reason")

    return fail


user_error, failure = failing(UserError), failing(Failure)


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "user_factories", sys.modules[__name__])


def get(name: str, group: str = "schedules") -> factories.Factory:
    return factories.get(group, f"user_factories:{name}")


def test_a_component_is_called_with_its_settings() -> None:
    assert get("schedule").make(0, 0.25, options={"power": "1"}) == 0.75
    assert get("schedule").bound({"power": 3})(0, 0.5) == 0.125
    assert list(get("schedule").parameters) == ["epoch", "progress", "power"]


def test_a_component_that_is_not_callable_is_refused() -> None:
    with pytest.raises(ComponentError, match=r"^schedule.name: user_factories:THING is not callable: it is an int"):
        get("THING")


def test_an_exception_in_another_package_is_one_line() -> None:
    with pytest.raises(ComponentError) as error:
        get("no_schedule").make(0, 0.5)
    assert "user_factories:no_schedule failed: ZeroDivisionError: no steps at all" in str(error.value)
    assert isinstance(error.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(("name", "kind"), [("user_error", UserError), ("failure", Failure)])
def test_a_user_error_or_failure_is_not_changed(name: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^the reason$"):
        get(name).make(0, 0.5)


def test_a_missing_package_is_named() -> None:
    row = Row(factory="user_factories:schedule", requires="not_installed_here", install="pip install it")
    with pytest.raises(UserError, match=r"not_installed_here.*pip install it"):
        factories.get("schedules", "mine", row)


@pytest.mark.parametrize("value", [True, "1", None, math.nan, math.inf, [1.0]])
def test_a_number_must_be_finite(value: Any) -> None:
    with pytest.raises(ComponentError, match=r"user_factories:schedule returned .*; expected a finite number"):
        get("schedule").number(value)
    assert get("schedule").number(3) == 3.0
