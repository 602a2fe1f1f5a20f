"""The table of forms: published forms by name, families by data, and forms of saved fits."""

import numpy as np
import pytest

from distdl.core.errors import UserError
from distdl.perf.speed import forms
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.placements import Placements

ALL = [*forms.PUBLISHED.values(), *(form for family in forms.FAMILIES for form in family.forms)]
POINTS = {"servers": (2, 4, 64), "replicas": (2, 4, 32)}


@pytest.mark.parametrize("form", ALL, ids=lambda form: f"{form.name} {' '.join(form.exchange)}")
def test_every_term_has_a_unit_and_a_nonnegative_value(form) -> None:
    values = form.at(Placements(kind=form.kind, points=np.array([POINTS[form.kind]], float))).values
    assert values.shape == (1, len(form.names)) and (values >= 0).all()
    assert all(form.units[name] for name in form.names)
    assert ("gamma" in form.units) == (form.overlap is None)


@pytest.mark.parametrize("form", ALL, ids=lambda form: f"{form.name} {' '.join(form.exchange)}")
def test_a_saved_form_has_the_same_terms(form) -> None:
    again = forms.find(form.name, list(form.compute), list(form.exchange))
    point = Placements(kind=form.kind, points=np.array([POINTS[form.kind]], float))
    for name, term in form.exchange.items():
        assert again.exchange[name].count(point) == term.count(point)


def test_an_earlier_name_of_a_form_is_accepted() -> None:
    assert forms.find("goodput", ["alpha_compute", "beta_compute"], ["alpha_node"]).name == "pollux"


def test_families_depend_on_kind_and_mode() -> None:
    points = np.array([POINTS["servers"]], float)
    data = Measurements(placements=Placements(kind="servers", points=points), step_s=np.ones(1), mode="async")
    assert [family.mode for family in forms.families(data)] == ["async"]


def test_an_unknown_form_is_an_error_with_suggestions() -> None:
    with pytest.raises(UserError, match='form "optimus" is not known; did you mean "optimus-async" or "optimus-sync"'):
        forms.published_form("optimus")
