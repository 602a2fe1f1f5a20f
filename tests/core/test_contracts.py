"""Descriptions of values, and missing members of a class or protocol."""

from typing import Protocol

import numpy as np
import pytest

from distdl.core.contracts import described, is_protocol, joined, missing_methods, violation, with_article


class Shape(Protocol):
    """A protocol with an attribute and two methods; `_hidden` is not required."""

    sides: int

    def __len__(self) -> int: ...

    def area(self) -> float: ...

    def _hidden(self) -> None: ...


class Square:
    sides = 4

    def __len__(self) -> int:
        return 1

    def area(self) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (Square, "the class Square"),
        (Square(), "a Square"),
        (0.5, "a float (0.5)"),
        (3, "an int (3)"),
        (True, "a bool (True)"),
        ("a\nb", r"a str ('a\nb')"),
        (np.zeros((2, 3), np.float32), "an ndarray of shape [2, 3] and type float32"),
    ],
)
def test_a_value_is_described_by_type_and_content(value: object, text: str) -> None:
    assert described(value) == text


def test_an_instance_of_the_class_has_no_violation() -> None:
    assert violation(Square(), Square) == "" == violation(True, int)
    assert violation(Square, Square) == "returned the class Square; expected a Square"
    assert violation(None, Square) == "returned None; expected a Square"


def test_a_protocol_needs_all_public_members_and_the_length() -> None:
    assert violation(Square(), Shape) == ""
    assert violation(Square, Shape) == "returned the class Square; expected an instance of it"
    assert violation(object(), Shape) == "returned an object; it has no sides, __len__ or area"
    assert violation([], Shape) == "returned a list; it has no sides or area"


def test_missing_methods_of_a_class() -> None:
    assert missing_methods(Square, Shape) == []
    assert missing_methods(list, Shape) == ["area"]  # an attribute may be set by the constructor
    assert missing_methods(object, Shape) == ["__len__", "area"]


def test_a_protocol_differs_from_a_class() -> None:
    assert is_protocol(Shape) and not is_protocol(Square)


def test_lists_of_names_and_articles() -> None:
    assert [joined(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a or b", "a, b or c"]
    assert [with_article(noun) for noun in ("int", "Adam", "float", "ndarray")] == [
        "an int",
        "an Adam",
        "a float",
        "an ndarray",
    ]
