"""The table of forms: published forms by name, families by data, forms of saved fits, and values by hand."""

import numpy as np
import pytest

from distdl.core.errors import UserError
from distdl.perf.speed import all_reduce, forms, optimus, parameter_server, pollux
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.model_selection import physical
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


SYNC = {"t0": 1, "t1": 2, "t2": 3, "t3": 5, "t4": 7}
ASYNC = {"t0": 1, "t1": 2, "t2": 3, "t3": 5}
BY_HAND = [
    # form, coefficients, servers, workers, global batch, seconds per step
    # Optimus Eq. 4: t0 M / w + t1 + t2 w / p + t3 w + t4 p
    (optimus.SYNC, SYNC, 1, 1, 40, 40 + 2 + 3 + 5 + 7), (optimus.SYNC, SYNC, 4, 8, 40, 5 + 2 + 6 + 40 + 28),
    (optimus.SYNC, SYNC, 2, 10, 40, 4 + 2 + 15 + 50 + 14), (optimus.SYNC, optimus.PUBLISHED_SYNC, 4, 8, 40, 17.8),
    # Optimus Eq. 3, of one update: (t0 + t1 w / p + t2 w + t3 p) / w
    (optimus.ASYNC, ASYNC, 1, 1, 40, 1 + 2 + 3 + 5), (optimus.ASYNC, ASYNC, 4, 8, 40, (1 + 4 + 24 + 20) / 8),
    (optimus.ASYNC, ASYNC, 2, 10, 40, (1 + 10 + 30 + 10) / 10),
    (optimus.ASYNC, optimus.UNCONFIRMED_ASYNC, 4, 8, 40, (2.83 + 7.84 + 0 + 0.44) / 8),
]  # fmt: skip


@pytest.mark.parametrize(("form", "coefficients", "servers", "workers", "batch", "seconds"), BY_HAND)
def test_optimus_forms_match_hand_calculations(form, coefficients, servers, workers, batch, seconds) -> None:
    assert optimus.step_s(coefficients, servers, workers, batch, form) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("nodes", "replicas", "batch", "compute", "exchange"),
    [
        # alpha + beta m, and alpha + beta (K - 2) within a node or between nodes; both 0 with a single replica
        (1, 1, 50, 0.6, 0.0), (1, 4, 20, 0.3, 0.2 + 2 * 0.1), (2, 8, 50, 0.6, 0.5 + 6 * 0.05), (2, 2, 50, 0.6, 0.5),
    ],
)  # fmt: skip
def test_pollux_matches_hand_calculations(nodes, replicas, batch, compute, exchange) -> None:
    terms = pollux.POLLUX.at(Placements(kind="replicas", points=np.array([(nodes, replicas, batch)], float)))
    theta = np.array([0.1, 0.01, 0.2, 0.1, 0.5, 0.05])
    assert [part.item() for part in terms.parts(theta)] == pytest.approx([compute, exchange])
    for gamma in (1.0, 2.0, 10.0):  # Eq. 10
        assert terms.time(theta, gamma) == pytest.approx((compute**gamma + exchange**gamma) ** (1 / gamma))


COSTS = {
    # servers, workers, batch
    (parameter_server, (2, 8, 30)): {"sample": 4, "step": 1, "shard": 4, "link": 4, "worker": 8,
                                     "root_worker": 8**0.5, "server": 2, "split": 1 / 2, "shared": 1},
    (parameter_server, (4, 1, 30)): {"sample": 30, "step": 1, "shard": 1 / 4, "link": 1, "worker": 1,
                                     "root_worker": 1, "server": 4, "split": 1 / 4, "shared": 0},
    # nodes, replicas, batch of a replica
    (all_reduce, (1, 1, 16)): {"step": 1, "replica_sample": 16, "local": 0, "between": 0, "local_replica": 0,
                               "between_replica": 0, "ring": 0, "between_ring": 0, "density": 0},
    (all_reduce, (1, 4, 16)): {"step": 1, "replica_sample": 16, "local": 1, "between": 0, "local_replica": 2,
                               "between_replica": 0, "ring": 3 / 4, "between_ring": 0, "density": 0},
    (all_reduce, (2, 8, 16)): {"step": 1, "replica_sample": 16, "local": 0, "between": 1, "local_replica": 0,
                               "between_replica": 6, "ring": 7 / 8, "between_ring": 7 / 8, "density": 3},
}  # fmt: skip


@pytest.mark.parametrize(("place", "expected"), COSTS.items(), ids=lambda value: str(value)[:40])
def test_terms_match_hand_calculations(place, expected) -> None:
    module, point = place
    kind = "servers" if module is parameter_server else "replicas"
    at = Placements(kind=kind, points=np.array([point], float))
    assert {name: term.count(at).item() for name, term in module.COSTS.items()} == pytest.approx(expected)


def test_an_update_of_an_asynchronous_worker_is_a_share_of_its_step() -> None:
    at = Placements(kind="servers", points=np.array([(2, 8, 30)], float))
    (form,) = (form for form in parameter_server.ASYNC if list(form.exchange) == ["shard", "worker", "split"])
    assert form.at(at).values.tolist() == [[1 / 8, 4 / 8, 8 / 8, 0.5 / 8]]


@pytest.mark.parametrize(
    ("parameter_bytes", "bytes_per_s", "message"),
    [
        (1.0, None, "must be given together"), (None, 1.0, "must be given together"),
        (0.0, 1.0, "must be (positive|above 0)"), (1.0, 0.0, "must be (positive|above 0)"),
        (-1.0, 1.0, "must be (positive|above 0)"), (1.0, -1.0, "must be (positive|above 0)"),
    ],
)  # fmt: skip
def test_half_of_a_links_description_is_refused(parameter_bytes, bytes_per_s, message) -> None:
    data = Measurements(placements=Placements(kind="servers", points=np.array([(1, 1, 8)], float)), step_s=np.ones(1))
    with pytest.raises(UserError, match=message):
        physical(data, parameter_bytes, bytes_per_s)
