// Figures, sorted tables and the theme. Everything shown comes through textContent: no text of a file becomes markup.

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

// Theme: the system's until a person chooses; the choice is kept where the browser lets a file keep one.
const root = document.documentElement, themeButton = $("#theme");
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme || (systemDark.matches ? "dark" : "light")) === "dark";
const nameTheme = () => { themeButton.textContent = isDark() ? "light" : "dark"; themeButton.ariaLabel = `Switch to ${themeButton.textContent} colours`; };
try { root.dataset.theme = localStorage.getItem("distdl-theme") || ""; } catch { /* no storage for files */ }
themeButton.hidden = false;
themeButton.onclick = () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("distdl-theme", root.dataset.theme); } catch { /* as above */ }
  nameTheme();
};
systemDark.onchange = nameTheme;
nameTheme();

// Tables: a click on a column's button sorts by it, another one the other way round. Numbers before text, gaps last.
const text = new Intl.Collator(undefined, { numeric: true });
function compare(a, b) {
  if (a.classList.contains("none") || b.classList.contains("none")) return 0;
  const [x, y] = [a, b].map((cell) => ("value" in cell.dataset ? Number(cell.dataset.value) : NaN));
  if (!isNaN(x) || !isNaN(y)) return isNaN(x) ? 1 : isNaN(y) ? -1 : x - y;
  return text.compare(a.textContent, b.textContent);
}
function sort(header) {
  const column = header.cellIndex, body = header.closest("table").tBodies[0];
  const down = header.ariaSort === "ascending";
  const gap = (row) => row.cells[column].classList.contains("none");
  const rows = [...body.rows].sort((a, b) =>
    gap(a) - gap(b) || (down ? -1 : 1) * compare(a.cells[column], b.cells[column]));
  for (const other of header.parentElement.cells) other.ariaSort = "none";
  header.ariaSort = down ? "descending" : "ascending";
  body.append(...rows);
}
for (const header of $$("thead th")) $("button", header).onclick = () => sort(header);

// What the pointer or the keys are at.
const tip = $("#tip"), said = $("#said");
const shown = (value) => (typeof value !== "number" ? String(value ?? "–")
  : Number.isInteger(value) ? value.toLocaleString("en") : Number(value.toPrecision(5)).toLocaleString("en", { maximumSignificantDigits: 5 }));
function tell(pairs, x, y) {
  tip.replaceChildren(...pairs.map(([title, value]) => {
    const line = document.createElement("div");
    for (const word of [title, shown(value)]) line.append(Object.assign(document.createElement("span"), { textContent: word }));
    return line;
  }));
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, x + 16 + width > innerWidth ? x - width - 12 : x + 16)}px`;
  tip.style.top = `${Math.max(4, y + 16 + height > innerHeight ? y - height - 12 : y + 16)}px`;
}

class Chart {
  constructor(element, spec) {
    [this.element, this.spec, this.at] = [element, spec, -1];
    this.dot = Object.assign(document.createElement("div"), { className: "dot", hidden: true });
    // Rows that have a place: those of curves can be pointed at from afar, all can be walked over by keys.
    this.points = spec.usermeta.layers.flatMap(({ rows, mark, columns }) => mark === "band" ? [] : spec.datasets[rows]
      .filter((row) => row.y !== null && row.x !== null)
      .map((row) => ({ row, far: mark === "line" || mark === "points", pairs: columns.map(([name, title]) => [title, row[name]]) })));
  }

  async draw() {
    const { legend_width, side_width } = this.spec.usermeta;
    this.spec.config.legend.columns = Math.max(1, Math.floor((this.element.clientWidth - side_width) / legend_width));
    const tooltip = (_, event, __, value) => {
      if (value) tell(Object.entries(value), event.clientX, event.clientY); else if (this.dot.hidden) tip.hidden = true;
    };
    const { view } = await vegaEmbed(this.element, this.spec, { actions: false, renderer: "svg", ast: true, tooltip, defaultStyle: false });
    this.view = view;
    this.element.append(this.dot);
    this.element.onpointermove = (event) => this.point(event);
    this.element.onpointerleave = () => this.leave();
    this.element.onblur = () => this.leave();
    this.element.onkeydown = (event) => this.key(event);
    for (const button of $$("[data-zoom]", this.element.closest("figure"))) {
      if (!this.spec.layer.some((layer) => layer.params)) break;  // categories on both axes
      button.hidden = false;
      button.onclick = () => this.zoom(Number(button.dataset.zoom));
    }
  }

  /** Pixels of a row from the chart's left and top, or null outside of what is shown. */
  place(row) {
    const along = (name, size) => {
      const scale = this.view.scale(name);
      return row[name] === undefined ? size / 2 : scale(row[name]) + (scale.bandwidth ? scale.bandwidth() / 2 : 0);
    };
    const [width, height] = [this.view.width(), this.view.height()], padding = this.view.padding();
    const [left, top] = [this.view.origin()[0] + padding.left, this.view.origin()[1] + padding.top];
    const [x, y] = [along("x", width), along("y", height)];
    if (!(x >= -1 && x <= width + 1 && y >= -1 && y <= height + 1)) return null;
    const svg = $("svg", this.element), drawn = svg.getBoundingClientRect(), own = this.element.getBoundingClientRect();
    const shrunk = drawn.width / svg.width.baseVal.value;
    return [(x + left) * shrunk + drawn.left - own.left, (y + top) * shrunk + drawn.top - own.top];
  }

  point(event) {
    const own = this.element.getBoundingClientRect(), [x, y] = [event.clientX - own.left, event.clientY - own.top];
    let best = -1, nearest = 60;
    this.points.forEach(({ row, far }, index) => {
      const place = far && this.place(row);
      const distance = place ? Math.hypot(place[0] - x, place[1] - y) : Infinity;
      if (distance < nearest) [best, nearest] = [index, distance];
    });
    if (best >= 0 && !event.buttons) this.show(best); else if (!this.dot.hidden) this.leave();
  }

  show(index) {
    const { row, pairs } = this.points[index], place = this.place(row);
    if (!place) return this.leave();
    this.at = index;
    [this.dot.style.left, this.dot.style.top] = place.map((pixels) => `${pixels}px`);
    this.dot.hidden = false;
    const own = this.element.getBoundingClientRect();
    tell(pairs, own.left + place[0], own.top + place[1]);
  }

  leave() {
    this.dot.hidden = tip.hidden = true;
  }

  key(event) {
    const count = this.points.length, series = (index) => this.points[index]?.row.series;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key], other = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && count) {
      this.show(Math.min(Math.max(this.at + step, 0), count - 1));
    } else if (other && count) {
      let index = Math.max(this.at, 0);
      while (series(index) === series(Math.max(this.at, 0)) && index + other >= 0 && index + other < count) index += other;
      this.show(index);
    } else if ("+-0".includes(event.key) && !event.ctrlKey && !event.metaKey) {
      this.zoom({ "+": 0.6, "-": 1.7, 0: 0 }[event.key]);
    } else if (event.key === "Escape") {
      this.leave();
    } else {
      return;
    }
    event.preventDefault();
    if (step || other) said.textContent = this.points[this.at].pairs.map(([title, value]) => `${title} ${shown(value)}`).join(", ");
  }

  /** Zoom about the middle; 0 shows all again. The same signals as the wheel's. */
  zoom(factor) {
    const { view } = this;
    if (!this.spec.layer.some((layer) => layer.params)) return;
    this.leave();
    if (!factor) {
      view.signal("zoom_tuple", null).runAsync();
      return;
    }
    const middle = (name, size) => {
      const scale = view.scale(name);
      return scale?.invert ? scale.invert(size / 2) : undefined;
    };
    const anchor = { x: middle("x", view.width()), y: middle("y", view.height()) };
    // A signal that is set to the value it has does not fire.
    this.jitter = (this.jitter || 0) + 1e-9;
    view.signal("zoom_zoom_anchor", anchor).signal("zoom_zoom_delta", factor + this.jitter).runAsync();
  }
}

async function unpack(id) {
  const bytes = Uint8Array.from(atob($(id).textContent.trim()), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

async function drawAll() {
  const charts = $$("[data-chart]"), specs = JSON.parse(await unpack("#specs"));
  if (charts.length) {
    document.head.append(Object.assign(document.createElement("script"), { textContent: await unpack("#library") }));
  }
  for (const element of charts) {
    const chart = new Chart(element, specs[element.dataset.chart]);
    try {
      await chart.draw();
    } catch (error) {
      element.textContent = `This figure cannot be drawn here (${error.message}): its SVG lies beside the page.`;
      console.error(error);
    }
  }
  root.dataset.ready = "yes";
}
drawAll();
