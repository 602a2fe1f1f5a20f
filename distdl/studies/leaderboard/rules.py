"""Rules of a board, pure functions of its state: the slot to train from next, and the place of the trained weights."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from distdl.studies.leaderboard.event_log import Lease, Slot, State


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A slot to train from. Its fields are those of the lease that it becomes."""

    slot: int | None
    works_on: int | None = None
    tries: int = 0
    member: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Place of trained weights: an empty slot, or that of `replaced`."""

    replaced: int | None = None
    keeps: bool = False
    """Whether the new slot takes over the count of work."""


@dataclass(frozen=True, kw_only=True)
class ReplaceWorst:
    """Weights that beat any slot replace the worst one; the next slot is the one that was trained from least often.

    While there are empty slots, processes start from initial weights: one independent start per slot.
    """

    NAME: ClassVar[str] = "Ratchet"
    """Name in board.json."""
    slots: int = 5

    def choose(self, state: State) -> Choice:
        """Choose what to train from next."""
        beginning = sum(lease.slot is None for lease in state.open.values())
        if not state.slots or len(state.slots) + beginning < self.slots:
            return Choice(slot=None, tries=state.stillborn)
        least = min(state.slots.values(), key=lambda slot: (slot.worked, -slot.score, slot.name))
        return Choice(slot=least.name, works_on=least.name, tries=least.worked)

    def place(self, state: State, lease: Lease, score: float) -> Placement | None:
        """Choose the place of a lease's weights; None drops them."""
        if not math.isfinite(score):
            return None
        if len(state.slots) < self.slots:
            return Placement()
        bottom = min(state.slots.values(), key=lambda slot: (slot.score, slot.name))
        return Placement(replaced=bottom.name) if score > bottom.score else None


@dataclass(frozen=True, kw_only=True)
class PopulationBased:
    """Population-based training (Jaderberg et al. 2017, arXiv:1711.09846), asynchronous, truncation selection.

    Each slot is a member. One among the worst takes over the weights and settings of one among the best (exploit) and
    changes the learning rate (explore); the others continue with their own. What a member trained replaces it, whether
    better or worse.
    """

    NAME: ClassVar[str] = "Population"
    """Name in board.json."""
    slots: int = 5
    beginnings: tuple[Mapping[str, Any], ...] = ({"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},)
    """Initial settings of the members, in turn."""
    truncation: float = 0.2
    """Share of the members that count as the worst, and as the best."""
    factors: tuple[float, ...] = (0.8, 1.2)
    """Factors, one of which changes the learning rate."""
    seed: int = 0

    def choose(self, state: State) -> Choice:
        members = {slot.member: slot for slot in state.slots.values()}
        busy = {lease.member for lease in state.open.values()}
        unborn = [member for member in range(self.slots) if member not in members]
        waiting = [member for member in unborn if member not in busy]
        if waiting or not members:
            member = (waiting or unborn)[0]
            settings = self.beginnings[(member + state.stillborn) % len(self.beginnings)]
            return Choice(slot=None, member=member, settings=settings)
        free = [slot for member, slot in members.items() if member not in busy] or list(members.values())
        current = min(free, key=lambda slot: (slot.worked, slot.member))
        parent, settings = self._exploit(list(members.values()), current, state.takes)
        return Choice(
            slot=parent, works_on=current.name, tries=current.worked, member=current.member, settings=settings
        )

    def _exploit(self, members: list[Slot], current: Slot, number: int) -> tuple[int, Mapping[str, Any]]:
        ranked = sorted(members, key=lambda slot: (slot.score, -slot.name))
        few = max(int(len(ranked) * self.truncation), 1)
        if len(ranked) < max(self.slots, 2) or current not in ranked[:few]:
            return current.name, current.settings
        dice = random.Random(f"{self.seed} {number}")
        model = dice.choice(ranked[-few:])
        return model.name, {**model.settings, "lr": model.settings["lr"] * dice.choice(self.factors)}

    def place(self, state: State, lease: Lease, score: float) -> Placement | None:
        current = next((slot.name for slot in state.slots.values() if slot.member == lease.member), None)
        if current != lease.works_on or not math.isfinite(score):
            return None  # another process has trained this member meanwhile
        return Placement(replaced=current, keeps=True)


Rule = ReplaceWorst | PopulationBased
