"""Rules of a board as pure functions of its state: the slot to train from next, and the placement of new weights."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from distdl.studies.leaderboard.event_log import BoardState, Lease, Slot


@dataclass(frozen=True, kw_only=True)
class SlotChoice:
    """A slot to train from. Its fields are those of `Lease`."""

    slot: int | None
    works_on: int | None = None
    tries: int = 0
    member: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SlotPlacement:
    """Placement of trained weights: into an empty slot, or into that of `replaced`."""

    replaced: int | None = None
    keeps: bool = False
    """Whether the new slot keeps the count of leases of the replaced one."""


@dataclass(frozen=True, kw_only=True)
class ReplaceWorst:
    """Weights that are better than the worst slot replace it; the next slot is the one with the fewest leases.

    While there are empty slots, processes start from initial weights: one independent start per slot.
    """

    NAME: ClassVar[str] = "Ratchet"
    """Name in board.json."""
    slots: int = 5

    def choose(self, state: BoardState) -> SlotChoice:
        """Choose the slot to train from next."""
        beginning = sum(lease.slot is None for lease in state.open.values())
        if not state.slots or len(state.slots) + beginning < self.slots:
            return SlotChoice(slot=None, tries=state.failed_starts)
        least = min(state.slots.values(), key=lambda slot: (slot.lease_count, -slot.score, slot.name))
        return SlotChoice(slot=least.name, works_on=least.name, tries=least.lease_count)

    def place(self, state: BoardState, lease: Lease, score: float) -> SlotPlacement | None:
        """Choose the placement of a lease's weights; None drops them."""
        if not math.isfinite(score):
            return None
        if len(state.slots) < self.slots:
            return SlotPlacement()
        bottom = min(state.slots.values(), key=lambda slot: (slot.score, slot.name))
        return SlotPlacement(replaced=bottom.name) if score > bottom.score else None


@dataclass(frozen=True, kw_only=True)
class PopulationBased:
    """Population-based training (Jaderberg et al. 2017, arXiv:1711.09846), asynchronous, truncation selection.

    Each slot is a member. A member among the worst copies weights and settings of one among the best (exploit) and
    changes the learning rate (explore); the others continue with their own. The weights that a member has trained
    replace its previous ones, whether better or worse.
    """

    NAME: ClassVar[str] = "Population"
    """Name in board.json."""
    slots: int = 5
    beginnings: tuple[Mapping[str, Any], ...] = ({"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},)
    """Initial settings of the members, in turn."""
    truncation: float = 0.2
    """Share of the members that count as the worst, and as the best."""
    factors: tuple[float, ...] = (0.8, 1.2)
    """Factors, one of which is applied to the learning rate at random."""
    seed: int = 0

    def choose(self, state: BoardState) -> SlotChoice:
        members = {slot.member: slot for slot in state.slots.values()}
        busy = {lease.member for lease in state.open.values()}
        missing = [member for member in range(self.slots) if member not in members]
        waiting = [member for member in missing if member not in busy]
        if waiting or not members:
            member = (waiting or missing)[0]
            settings = self.beginnings[(member + state.failed_starts) % len(self.beginnings)]
            return SlotChoice(slot=None, member=member, settings=settings)
        free = [slot for member, slot in members.items() if member not in busy] or list(members.values())
        current = min(free, key=lambda slot: (slot.lease_count, slot.member))
        parent, settings = self._exploit(list(members.values()), current, state.takes)
        return SlotChoice(
            slot=parent, works_on=current.name, tries=current.lease_count, member=current.member, settings=settings
        )

    def _exploit(self, members: list[Slot], current: Slot, number: int) -> tuple[int, Mapping[str, Any]]:
        ranked = sorted(members, key=lambda slot: (slot.score, -slot.name))
        group_size = max(int(len(ranked) * self.truncation), 1)
        if len(ranked) < max(self.slots, 2) or current not in ranked[:group_size]:
            return current.name, current.settings
        rng = random.Random(f"{self.seed} {number}")
        model = rng.choice(ranked[-group_size:])
        return model.name, {**model.settings, "lr": model.settings["lr"] * rng.choice(self.factors)}

    def place(self, state: BoardState, lease: Lease, score: float) -> SlotPlacement | None:
        current = next((slot.name for slot in state.slots.values() if slot.member == lease.member), None)
        if current != lease.works_on or not math.isfinite(score):
            return None  # another process has trained this member meanwhile
        return SlotPlacement(replaced=current, keeps=True)


Rule = ReplaceWorst | PopulationBased
