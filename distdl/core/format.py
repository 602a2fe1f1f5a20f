"""Values as text: four significant digits, thousands separated by commas, a dash for nothing; durations."""

import math
from typing import TypeGuard

Cell = str | int | float | bool | None
NOTHING = "–"


def written(value: Cell) -> str:
    """Write a cell as text: "1,437", "0.004", "95.56", "yes", "–" for None."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return _rounded(value)
    return str(value)


def _rounded(value: float) -> str:
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "-∞"}.get(value, "not a number")
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e7:
        digits = max(3 - math.floor(math.log10(abs(value))), 0)
        text = f"{value:,.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.3e}".replace("e-0", "e-").replace("e+0", "e+")


def is_number(value: Cell) -> TypeGuard[int | float]:
    """Whether a cell is sorted and aligned as a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def duration(seconds: float | None) -> str:
    """Seconds as text: 250 ms, 12.3 s, 4 min 5 s, 3 h 20 min, 2 d 4 h; "never" for infinity, a dash for None."""
    if seconds is None or math.isnan(seconds):
        return NOTHING
    if math.isinf(seconds):
        return "never"
    if seconds < 1:
        return f"{_rounded(seconds * 1e3)} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
