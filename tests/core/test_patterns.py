"""Shell patterns over parameter names, and the nearest pattern that matches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distdl.core.errors import UserError
from distdl.core.patterns import matching

NAMES = ("conv1.weight", "layer1.0.conv1.weight", "layer1.0.conv1.bias", "layer2.0.conv1.weight", "fc.bias")


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("layer1.*", {NAMES[1], NAMES[2]}),
        ("*.bias", {NAMES[2], NAMES[4]}),
        ("layer?.0.conv1.weight", {NAMES[1], NAMES[3]}),
        ("layer[2-9].*", {NAMES[3]}),
        ("fc.bias", {NAMES[4]}),
        ("*", set(NAMES)),
    ],
)
def test_a_pattern_matches_whole_names(pattern: str, matches: set[str]) -> None:
    assert matching(pattern, iter(NAMES), "model.freeze") == matches


@pytest.mark.parametrize(
    ("pattern", "suggestion"),
    [
        ("layr1.*", '; did you mean "layer1.*"?'),
        ("layer1.0.conv.weight", '; did you mean "layer1.0.conv1.weight"?'),
        ("conv1.wieght", '; did you mean "conv1.weight"?'),
        ("fc", '; did you mean "fc.*" or "fc.bias"?'),  # of another depth, if none has the same depth
        ("layer1.0.conv1", '; did you mean "layer1.0.*"?'),  # the same depth is preferred to a nearer text
        ("zzzzzzzz", ""),
    ],
)
def test_a_pattern_without_a_match_is_an_error_with_a_suggestion(pattern: str, suggestion: str) -> None:
    with pytest.raises(UserError) as error:
        matching(pattern, NAMES, "model.freeze")
    message = str(error.value)
    assert message.startswith(f'model.freeze: no parameter matches "{pattern}"{suggestion}')
    assert suggestion or message.endswith('"')


@given(st.lists(st.text("ab.", min_size=1, max_size=6), min_size=1))
def test_the_suggested_module_pattern_matches(names: list[str]) -> None:
    """Each prefix that ends at a dot is a module; the pattern suggested for it matches its parameters."""
    for name in names:
        for dot in (index for index, letter in enumerate(name) if letter == "."):
            assert name in matching(name[:dot] + ".*", names, "x")
