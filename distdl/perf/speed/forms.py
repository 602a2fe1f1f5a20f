"""All forms of the step time: the published ones by name, and the families among which `auto` selects.

A new form is one file that defines it and one row here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from distdl.core.errors import UserError, nearest
from distdl.perf.speed import all_reduce, optimus, parameter_server, pollux
from distdl.perf.speed.form import Form
from distdl.perf.speed.measurements import Measurements
from distdl.perf.speed.placements import Kind

PUBLISHED: dict[str, Form] = {form.name: form for form in (optimus.SYNC, optimus.ASYNC, pollux.POLLUX)}
RENAMED = {"goodput": "pollux"}
"""Earlier names of forms, accepted in options and in saved fits."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Candidate forms for one kind of training."""

    kind: Kind
    mode: Literal["sync", "async"] | None = None
    """Update mode of the servers; None under all-reduce."""
    forms: tuple[Form, ...]
    """The first one is the default: another must be better by more than chance."""
    design: Form
    """The form that names the points to add when no form can be fitted: it has a term for each count."""


FAMILIES = (
    Family(kind="servers", mode="sync", forms=parameter_server.SYNC, design=parameter_server.SYNC[1]),
    Family(kind="servers", mode="async", forms=parameter_server.ASYNC, design=parameter_server.ASYNC[1]),
    Family(
        kind="replicas",
        forms=(all_reduce.PAIRWISE, all_reduce.RING, all_reduce.SHARED_LINK),
        design=all_reduce.RING,
    ),
)


def families(data: Measurements) -> list[Family]:
    """The families that apply to the data; both modes if the data do not state theirs."""
    return [family for family in FAMILIES if family.kind == data.kind and data.mode in (None, family.mode)]


def published_form(name: str) -> Form:
    """A published form by name.

    Raises:
        UserError: there is no such form.
    """
    if name not in PUBLISHED:
        listed = ", ".join(("auto", *PUBLISHED))
        raise UserError(f'form "{name}" is not known{nearest(name, ("auto", *PUBLISHED))} (known: {listed})')
    return PUBLISHED[name]


def find(name: str, compute: Sequence[str], exchange: Sequence[str]) -> Form:
    """The form of this name that has these compute terms and at least these exchange terms.

    Raises:
        StopIteration: there is none.
    """
    forms = (*PUBLISHED.values(), *(form for family in FAMILIES for form in family.forms))
    name = RENAMED.get(name, name)
    return next(
        form
        for form in forms
        if form.name == name and list(form.compute) == list(compute) and set(exchange) <= set(form.exchange)
    )
