"""A Figure as a Vega-Lite specification: one for the page, with hover and zoom, and one for SVG and PNG."""

import itertools
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from distdl.core.errors import shortened
from distdl.core.format import Cell, is_number, written
from distdl.report.content import Axis, Figure, Layer

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
"""Okabe and Ito 2008, which the colour-blind tell apart; yellow and black left out: each is lost on one background."""
COLOURS = (*OKABE_ITO, "#80B9D9", "#EAAF80", "#80CFB9", "#E6BCD3", "#F2CF80", "#2B5A75", "#C6C6C6")
"""More than seven series: the same, paler."""
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (12, 4))
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
WIDTH, HEIGHT, BAR = 640, 260, 26
"""Pixels of a figure on paper, and of a category's bar."""
NUMBERED = 80
"""Tiles at most whose numbers stand in them."""
CAPTION = 2000
"""Characters of a caption on paper; the page has it whole."""
PAPER = "#222222"
UNDER_POINTER = ("bars", "tiles", "rule")
"""Marks that are described when the pointer is on them; of a curve it is the point nearest to it."""

Row = dict[str, Any]
Spec = dict[str, Any]


def spec(figure: Figure, notes: Sequence[str] = (), *, paper: bool) -> tuple[Spec, list[str]]:
    """The specification, and sentences on what of the data it does not show.

    Args:
        figure: with as many rows as can be drawn: `thin.drawn`.
        notes: what that left out.
        paper: fixed size, title and caption inside, colours of a white page; else as wide as its place in the page, in
            the colour of the text around it, with hover and zoom.
    """
    series = _distinct(layer.data[layer.series] for layer in figure.layers if layer.series)
    categories = {
        channel: _distinct(
            [getattr(figure, channel).order]
            + [layer.data[getattr(layer, channel)] for layer in figure.layers if _has(layer, channel)]
        )
        for channel in ("x", "y")
        if getattr(figure, channel).scale == "category"
    }
    found = [_rows(layer, figure) for layer in figure.layers]
    rows = [own for own, _ in found]
    notes = [*notes, *dict.fromkeys(note for _, note in found if note)]
    ink = PAPER if paper else "currentColor"
    drawn = _Drawn(figure, series, categories, ink)
    layers = [
        one for index, layer in enumerate(figure.layers) for one in drawn.layer(layer, f"rows{index}", rows[index])
    ]
    datasets = {f"rows{index}": own for index, own in enumerate(rows)}
    zoomable = [channel for channel in ("x", "y") if channel not in categories]
    # Zooming hangs on a layer that has a column on each axis, as a horizontal line has not.
    held = [one for one in layers if all("field" in one["encoding"].get(channel, {}) for channel in zoomable)]
    if not paper and zoomable and held:
        held[0]["params"] = [_zoom(zoomable)]
    whole: Spec = {
        "$schema": SCHEMA,
        "width": WIDTH if paper else "container",
        "height": drawn.height,
        "autosize": {"type": "fit-x" if not paper else "pad", "contains": "padding"},
        "config": _config(ink, paper=paper),
        "datasets": datasets,
        "layer": layers,
    }
    if paper:
        caption = textwrap.wrap(shortened(" ".join([figure.caption, *notes]).strip(), CAPTION), 105)
        whole["title"] = {"text": figure.title, "subtitle": caption, "anchor": "start", "offset": 12}
        whole["background"] = "white"
    legend = max((len(name) for name in series), default=0) * 6.4 + 44
    if paper:
        whole["config"]["legend"]["columns"] = max(int(WIDTH // legend), 1)
    told = [
        {"rows": f"rows{index}", "mark": layer.mark, "columns": drawn.described(layer)}
        for index, layer in enumerate(figure.layers)
    ]
    return whole | {"usermeta": {"legend": round(legend), "beside": 150 if drawn.tiled else 60, "told": told}}, list(
        dict.fromkeys(notes)
    )


def _zoom(encodings: list[str]) -> Spec:
    # A wheel alone scrolls the page, as everywhere.
    wheel = "wheel![event.ctrlKey || event.metaKey]"
    return {"name": "zoom", "bind": "scales", "select": {"type": "interval", "encodings": encodings, "zoom": wheel}}


def _has(layer: Layer, channel: str) -> bool:
    return getattr(layer, channel) in layer.data and not (layer.mark == "rule" and channel == "x")


def _distinct(columns: Iterable[Sequence[Cell]]) -> list[str]:
    return list(dict.fromkeys(written(cell) for column in columns for cell in column))


def _rows(layer: Layer, figure: Figure) -> tuple[list[Row], str]:
    """A layer's rows under short names: users' column names never become part of an expression."""
    data = layer.data
    names = {"x": layer.x, "y": layer.y, "low": layer.low, "high": layer.high, "value": layer.value}
    names |= {"start": layer.start, "series": layer.series}
    names = {short: name for short, name in names.items() if name in data and (short != "x" or _has(layer, "x"))}
    others = [name for name in data if name not in names.values()]
    names |= {f"other{index}": name for index, name in enumerate(others)}
    logs = [
        short
        for axis, shorts in ((figure.x, ("x",)), (figure.y, ("y", "low", "high")))
        for short in shorts
        if axis.scale == "log" and short in names
    ]
    texts = {short for short in ("x", "y") if getattr(figure, short).scale == "category"} | {"series"}
    numbers = {"x", "y", "low", "high", "value", "start"} - texts
    rows, dropped = [], 0
    for cells in zip(*(data[name] for name in names.values()), strict=True):
        row = {short: _cell(cell, text=short in texts) for short, cell in zip(names, cells, strict=True)}
        row |= {short: None for short in numbers & row.keys() if not is_number(row[short])}
        nowhere = [short for short in logs if row[short] is not None and not row[short] > 0]
        dropped += bool(nowhere)
        row |= dict.fromkeys(nowhere)
        if layer.mark == "line" or all(row[short] is not None for short in ("x", "y") if short in row):
            rows.append(row)
    no_log = f"{dropped:,} values that are not above 0 have no place on a logarithmic axis."
    return rows, no_log if dropped else ""


def _cell(cell: Cell, *, text: bool) -> Cell:
    if text:
        return written(cell)
    if isinstance(cell, float):
        return float(f"{cell:.6g}") if math.isfinite(cell) else None
    return cell


def _titled(title: str) -> str:
    """A title for Vega-Lite, which builds expressions of titles and does not quote a backslash in them."""
    return title.replace("\\", "\N{SET MINUS}")


def _along(figure: Figure) -> str:
    """The axis along which bars stand next to each other."""
    return "y" if figure.y.scale == "category" and figure.x.scale != "category" else "x"


def _edges(rows: list[Row], channel: str, *, log: bool, seamless: bool) -> list[Spec]:
    """Where the cell around each value begins and ends, half way to its neighbours, as `x0` and `x1` of its rows.

    Of cells of one size the page works that out itself: these transforms are returned, and the rows stay short.
    """
    middles = sorted({row[channel] for row in rows if is_number(row[channel])})
    if not middles:
        return []
    places = [math.log(value) for value in middles] if log else middles
    gaps = [after - before for before, after in itertools.pairwise(places)] or [1.0]
    if max(gaps) - min(gaps) < 0.02 * max(gaps):
        # A hair wider than half: cells that only touch leave a seam between their smoothed edges.
        half = (0.53 if seamless else 0.5) * sum(gaps) / len(gaps)
        ends = [f"/ {math.exp(half):.6g}", f"* {math.exp(half):.6g}"] if log else [f"- {half:.6g}", f"+ {half:.6g}"]
        return [{"calculate": f"datum.{channel} {end}", "as": f"{channel}{i}"} for i, end in enumerate(ends)]
    inner = [before + gap / 2 for before, gap in zip(places, gaps, strict=False)][: len(places) - 1]
    edges = [places[0] - gaps[0] / 2, *inner, places[-1] + gaps[-1] / 2]
    edges = [math.exp(edge) for edge in edges] if log else edges
    around = {value: (float(f"{edges[i]:.6g}"), float(f"{edges[i + 1]:.6g}")) for i, value in enumerate(middles)}
    for row in rows:
        row[f"{channel}0"], row[f"{channel}1"] = around[row[channel]]
    return []


class _Drawn:
    """Layers of one figure over shared scales."""

    def __init__(self, figure: Figure, series: list[str], categories: Mapping[str, list[str]], ink: str) -> None:
        self.figure, self.series, self.categories, self.ink = figure, series, categories, ink
        self.bare = len(figure.layers) == 1
        self.height = max(BAR * len(categories["y"]), 80) if "y" in categories else HEIGHT
        self.tiled = any(layer.mark == "tiles" for layer in figure.layers)
        self.along = _along(figure)
        self.across = "x" if self.along == "y" else "y"

    def layer(self, layer: Layer, data: str, rows: list[Row]) -> list[Spec]:
        """The layer as one or several of Vega-Lite's, the visible mark last."""
        drawn = getattr(self, f"_{layer.mark}")(layer, rows)
        wide = ("x", "y") if layer.mark == "tiles" else (self.along,) if layer.mark == "bars" else ()
        transforms = [
            transform
            for channel in wide
            if channel not in self.categories
            for transform in _edges(
                rows, channel, log=getattr(self.figure, channel).scale == "log", seamless=layer.mark == "tiles"
            )
        ]
        shared: Spec = {"data": {"name": data}} | ({"transform": transforms} if transforms else {})
        return [shared | one for one in drawn]

    def _line(self, layer: Layer, rows: list[Row]) -> list[Spec]:
        for number, row in enumerate(rows):
            row["row"] = number
        encoding = self._places(layer) | self._colour(layer) | {"order": {"field": "row", "type": "quantitative"}}
        if self.tiled:  # the scale of colours is the tiles'
            encoding["stroke"] = encoding.pop("color")
        if layer.series:
            encoding["strokeDash"] = self._by_series([list(DASHES[i % len(DASHES)]) for i in range(len(self.series))])
        return [{"mark": {"type": "line", "strokeWidth": 2, "strokeJoin": "round"}, "encoding": encoding}]

    def _points(self, layer: Layer, rows: list[Row]) -> list[Spec]:
        encoding = self._places(layer) | self._colour(layer)
        if layer.series:
            encoding["shape"] = self._by_series([SHAPES[i % len(SHAPES)] for i in range(len(self.series))])
        return [
            *self._whiskers(layer, rows),
            {"mark": {"type": "point", "filled": True, "size": 50, "opacity": 1}, "encoding": encoding},
        ]

    def _bars(self, layer: Layer, rows: list[Row]) -> list[Spec]:
        encoding = self._places(layer) | self._colour(layer)
        mark: Spec = {"type": "bar", "cornerRadiusEnd": 0 if layer.stack or layer.start else 2}
        if self.along not in self.categories:
            encoding[self.along] = encoding[self.along] | {"field": f"{self.along}0"}
            encoding[f"{self.along}2"] = {"field": f"{self.along}1"}
            encoding[f"{self.across}2"] = {"datum": 0}
            mark = {"type": "rect", "stroke": "white", "strokeWidth": 0.5}
        elif layer.series and not layer.stack and self._several(rows):
            encoding[f"{self.along}Offset"] = {"field": "series", "scale": {"domain": self.series}}
        if layer.start:
            encoding[self.across] = encoding[self.across] | {"field": "start"}
            encoding[f"{self.across}2"] = {"field": self.across}
        else:
            encoding[self.across] = encoding[self.across] | {"stack": "zero" if layer.stack else None}
        return [
            {"mark": mark, "encoding": encoding},
            *self._whiskers(layer, rows, offset=f"{self.along}Offset" in encoding),
        ]

    def _several(self, rows: list[Row]) -> bool:
        """Whether some category has bars of more than one series."""
        return len({row[self.along] for row in rows}) < len({(row[self.along], row["series"]) for row in rows})

    def _band(self, layer: Layer, rows: list[Row]) -> list[Spec]:
        encoding = self._places(layer) | self._colour(layer) | {"y2": {"field": "high"}}
        encoding["y"] = encoding["y"] | {"field": "low"}
        return [{"mark": {"type": "area", "opacity": 0.2}, "encoding": encoding}]

    def _rule(self, layer: Layer, rows: list[Row]) -> list[Spec]:
        encoding = self._places(layer) | self._colour(layer)
        encoding.pop("x", None)
        if len(self.series) < 2:
            encoding["color"] = {"value": OKABE_ITO[-1]}
        return [{"mark": {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 1.5}, "encoding": encoding}]

    def _tiles(self, layer: Layer, rows: list[Row]) -> list[Spec]:
        encoding = self._places(layer)
        for channel in {"x", "y"} - set(self.categories):
            encoding[channel] = encoding[channel] | {"field": f"{channel}0"}
            encoding[f"{channel}2"] = {"field": f"{channel}1"}
        # Curves over tiles have the colours: the tiles below them stay grey.
        scale = {"scheme": "viridis"} if self.bare else {"range": ["#fafafa", "#8f8f8f"]}
        legend = {
            "orient": "right",
            "direction": "vertical",
            "gradientLength": self.height,
            "title": _titled(layer.value),
        }
        encoding["color"] = {"field": "value", "type": "quantitative", "scale": scale, "legend": legend}
        # A text for each of thousands of cells would be most of the SVG.
        tiles = [{"mark": {"type": "rect", "aria": len(rows) <= NUMBERED}, "encoding": encoding}]
        if len(rows) <= NUMBERED and set(self.categories) == {"x", "y"} and self.bare:
            tiles.append(self._numbers(rows))
        return tiles

    def _numbers(self, rows: list[Row]) -> Spec:
        """Each cell's number in it, dark on the bright half of the colours."""
        for row in rows:
            row["text"] = written(row["value"])
        values = [row["value"] for row in rows if is_number(row["value"])]
        middle = (min(values) + max(values)) / 2 if values else 0
        colour = {"condition": {"test": {"field": "value", "gt": middle}, "value": "#111"}, "value": "#fff"}
        places = {key: value for key, value in self._places(None).items() if key in ("x", "y")}
        text = {"text": {"field": "text", "type": "nominal"}, "color": colour}
        return {"mark": {"type": "text", "fontSize": 11}, "encoding": places | text}

    def _whiskers(self, layer: Layer, rows: list[Row], *, offset: bool = False) -> list[Spec]:
        if not (layer.low and layer.high) or all(None in (row["low"], row["high"]) for row in rows):
            return []
        encoding = self._places(layer) | self._colour(layer)
        encoding[self.across] = encoding[self.across] | {"field": "low"}
        encoding[f"{self.across}2"] = {"field": "high"}
        if offset:
            encoding[f"{self.along}Offset"] = {"field": "series", "scale": {"domain": self.series}}
        if layer.mark == "bars":
            encoding["color"] = {"value": self.ink}
        return [{"mark": {"type": "rule", "strokeWidth": 1.5}, "encoding": encoding}]

    def _places(self, layer: Layer | None) -> Spec:
        encoding: Spec = {channel: self._place(channel, getattr(self.figure, channel)) for channel in ("x", "y")}
        if layer is None or layer.mark not in UNDER_POINTER:
            return encoding
        return encoding | {"tooltip": [{"field": short, "title": title} for short, title in self.described(layer)]}

    def _place(self, channel: str, axis: Axis) -> Spec:
        if axis.scale == "category":
            names = self.categories[channel]
            # As wide as a figure is in a page of two columns.
            crowded = len(names) * max(map(len, names), default=0) * 6.3 > 460
            angle = -35 if channel == "x" and crowded else 0
            label = (
                {"labelAngle": angle, "labelAlign": "right"} if angle else {"labelAngle": 0} if channel == "x" else {}
            )
            scale = {"domain": names}
            return {
                "field": channel,
                "type": "nominal",
                "title": _titled(axis.title),
                "scale": scale,
                "axis": {"grid": False, **label},
            }
        bars = channel == self.across and any(layer.mark == "bars" for layer in self.figure.layers)
        scale: Spec = {"type": axis.scale}
        if axis.scale == "log":
            scale["nice"] = False
        else:
            scale |= {"zero": bars, "nice": bars or (channel == "y" and not self.tiled)}
        if not scale.get("nice") and any(layer.mark == "points" for layer in self.figure.layers):
            scale["padding"] = 10
        numbers = list(self._numbers_of(channel))
        large = max(map(abs, numbers), default=0) >= 1e5
        plain: Spec = {"tickCount": 6 if channel == "y" else 8} | ({"format": "~s"} if large else {})
        if channel == "x" and all(float(number).is_integer() for number in numbers):
            plain["tickMinStep"] = 1  # there are no 1.5 workers
        if axis.scale == "log":
            decades = {"test": "abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-6", "value": 1}
            faint = {"gridOpacity": {"condition": decades, "value": 0.3}}
            plain = {"format": "~g", "labelOverlap": "greedy", "tickCount": 6, **faint}
        return {"field": channel, "type": "quantitative", "title": _titled(axis.title), "scale": scale, "axis": plain}

    def _numbers_of(self, channel: str) -> Iterable[float]:
        for layer in self.figure.layers:
            for cell in layer.data[getattr(layer, channel)] if _has(layer, channel) else ():
                if is_number(cell) and math.isfinite(cell):
                    yield cell

    def _colour(self, layer: Layer) -> Spec:
        if not layer.series:
            return {"color": {"value": COLOURS[0]}}
        return {"color": self._by_series([COLOURS[i % len(COLOURS)] for i in range(len(self.series))])}

    def _by_series(self, values: list[Any]) -> Spec:
        scale = {"domain": self.series, "range": values}
        # A single one has its name in the title.
        legend: Spec = {"legend": None} if len(self.series) < 2 else {}
        return {"field": "series", "type": "nominal", "title": None, "scale": scale, **legend}

    def described(self, layer: Layer) -> list[tuple[str, str]]:
        """What is told of a row: its columns' short names and titles."""
        named = {"series": layer.series, "x": self.figure.x.title or layer.x, "y": self.figure.y.title or layer.y}
        named |= {"low": layer.low, "high": layer.high, "value": layer.value, "start": layer.start}
        used = {layer.x, layer.y, layer.low, layer.high, layer.value, layer.series, layer.start}
        named |= {f"other{index}": name for index, name in enumerate(name for name in layer.data if name not in used)}
        if layer.mark in ("rule", "band"):
            named.pop("x" if layer.mark == "rule" else "y")
        return [(short, _titled(title)) for short, title in named.items() if title]


def _config(ink: str, *, paper: bool) -> Spec:
    quiet = {"domainColor": ink, "domainOpacity": 0.4, "tickColor": ink, "tickOpacity": 0.4, "tickSize": 4}
    text = {"labelColor": ink, "titleColor": ink, "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal"}
    grid = {"gridColor": ink, "gridOpacity": 0.12, "labelLimit": 260}
    above = {
        "titleAngle": 0,
        "titleAlign": "left",
        "titleAnchor": "end",
        "titleY": -10,
        "titleX": 0,
        "titleBaseline": "bottom",
    }
    return {
        "background": "white" if paper else "transparent",
        "font": "sans-serif" if paper else "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": quiet | text | grid,
        "axisY": above | {"domain": False, "ticks": False},
        "axisX": {"grid": False},
        "legend": {
            "orient": "top",
            "labelColor": ink,
            "labelFontSize": 11,
            "labelLimit": 300,
            "symbolSize": 90,
            "offset": 28,
            "symbolStrokeWidth": 2,
            "titleColor": ink,
            "titleFontWeight": "normal",
            "titleFontSize": 11,
            "symbolLimit": 60,
        },
        "title": {
            "color": ink,
            "subtitleColor": ink,
            "fontSize": 14,
            "fontWeight": 600,
            "subtitleFontSize": 11,
            "subtitlePadding": 6,
        },
        "text": {"color": ink},
    }
