"""All forms of the step time: the published ones by name, and the families from which `auto` selects.

To add a form, define it in a new file and add a row here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from distdl.core.errors import UserError, nearest
from distdl.perf.speed import all_reduce, optimus, parameter_server, pollux
from distdl.perf.speed.form import Form
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.placements import PlacementKind

PUBLISHED: dict[str, Form] = {form.name: form for form in (optimus.SYNC, optimus.ASYNC, pollux.POLLUX)}
RENAMED = {"goodput": "pollux"}
"""Earlier names of forms, accepted in options and in saved fits."""


@dataclass(frozen=True, kw_only=True)
class FormFamily:
    """Candidate forms for one kind of training."""

    kind: PlacementKind
    mode: Literal["sync", "async"] | None = None
    """Update mode of the servers; None under all-reduce."""
    forms: tuple[Form, ...]
    """Candidates. The first is the default; another is selected only if it is significantly better."""
    design: Form
    """The form that determines the points to add if no form can be fitted; it has a term for each count."""


FAMILIES = (
    FormFamily(kind="servers", mode="sync", forms=parameter_server.SYNC, design=parameter_server.SYNC[1]),
    FormFamily(kind="servers", mode="async", forms=parameter_server.ASYNC, design=parameter_server.ASYNC[1]),
    FormFamily(
        kind="replicas",
        forms=(all_reduce.PAIRWISE, all_reduce.RING, all_reduce.SHARED_LINK),
        design=all_reduce.RING,
    ),
)


def families(data: Measurements) -> list[FormFamily]:
    """Return the families that apply to the data; for both modes if the mode of the data is not known."""
    return [family for family in FAMILIES if family.kind == data.kind and data.mode in (None, family.mode)]


def published_form(name: str) -> Form:
    """Return a published form by name.

    Raises:
        UserError: there is no such form.
    """
    if name not in PUBLISHED:
        listed = ", ".join(("auto", *PUBLISHED))
        raise UserError(f'form "{name}" is not known{nearest(name, ("auto", *PUBLISHED))} (known: {listed})')
    return PUBLISHED[name]


def find(name: str, compute: Sequence[str], exchange: Sequence[str]) -> Form:
    """Return the form with this name, these compute terms and at least these exchange terms.

    Raises:
        StopIteration: there is no such form.
    """
    forms = (*PUBLISHED.values(), *(form for family in FAMILIES for form in family.forms))
    name = RENAMED.get(name, name)
    return next(
        form
        for form in forms
        if form.name == name and list(form.compute) == list(compute) and set(exchange) <= set(form.exchange)
    )
