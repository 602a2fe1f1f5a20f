// Figures, sorting of tables and the theme. All text is set through textContent: text from a file never becomes markup.

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

// Theme: the system's until the user chooses one. The choice is stored if the browser provides storage for local files.
const root = document.documentElement, themeButton = $("#theme");
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme || (systemDark.matches ? "dark" : "light")) === "dark";
const nameTheme = () => { themeButton.textContent = isDark() ? "light" : "dark"; themeButton.ariaLabel = `Switch to ${themeButton.textContent} colors`; };
try { root.dataset.theme = localStorage.getItem("distdl-theme") || ""; } catch { /* no storage for files */ }
themeButton.hidden = false;
themeButton.onclick = () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("distdl-theme", root.dataset.theme); } catch { /* as above */ }
  nameTheme();
};
systemDark.onchange = nameTheme;
nameTheme();

// Tables: a click on a column's button sorts by it, another click reverses the order. Numbers come first, empty cells last.
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

// Tooltip with the values of the row at the pointer, or selected by keys.
const tip = $("#tip"), announcement = $("#announcement");
const formatted = (value) => (typeof value !== "number" ? String(value ?? "–")
  : Number.isInteger(value) ? value.toLocaleString("en") : Number(value.toPrecision(5)).toLocaleString("en", { maximumSignificantDigits: 5 }));
function showTip(pairs, x, y) {
  tip.replaceChildren(...pairs.map(([title, value]) => {
    const line = document.createElement("div");
    for (const textContent of [title, formatted(value)]) line.append(Object.assign(document.createElement("span"), { textContent }));
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
    // Rows with a position. All of them can be selected by keys, those of curves also by a pointer at some distance.
    this.points = spec.usermeta.layers.flatMap(({ rows, mark, columns }) => mark === "band" ? [] : spec.datasets[rows]
      .filter((row) => row.y !== null && row.x !== null)
      .map((row) => ({ row, nearby: mark === "line" || mark === "points", pairs: columns.map(([name, title]) => [title, row[name]]) })));
  }

  async draw() {
    const { legend_width, side_width } = this.spec.usermeta;
    this.spec.config.legend.columns = Math.max(1, Math.floor((this.element.clientWidth - side_width) / legend_width));
    const tooltip = (_, event, __, value) => {
      if (value) showTip(Object.entries(value), event.clientX, event.clientY); else if (this.dot.hidden) tip.hidden = true;
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

  /** Position of a row in pixels from the top left of the chart; null outside of the visible range. */
  place(row) {
    const along = (name, size) => {
      const scale = this.view.scale(name);
      return row[name] === undefined ? size / 2 : scale(row[name]) + (scale.bandwidth ? scale.bandwidth() / 2 : 0);
    };
    const [width, height] = [this.view.width(), this.view.height()], padding = this.view.padding();
    const [left, top] = [this.view.origin()[0] + padding.left, this.view.origin()[1] + padding.top];
    const [x, y] = [along("x", width), along("y", height)];
    if (!(x >= -1 && x <= width + 1 && y >= -1 && y <= height + 1)) return null;
    const svg = $("svg", this.element), inner = svg.getBoundingClientRect(), outer = this.element.getBoundingClientRect();
    const scale = inner.width / svg.width.baseVal.value;
    return [(x + left) * scale + inner.left - outer.left, (y + top) * scale + inner.top - outer.top];
  }

  point(event) {
    const box = this.element.getBoundingClientRect(), [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = -1, nearest = 60;
    this.points.forEach(({ row, nearby }, index) => {
      const place = nearby && this.place(row);
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
    const box = this.element.getBoundingClientRect();
    showTip(pairs, box.left + place[0], box.top + place[1]);
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
    if (step || other) announcement.textContent = this.points[this.at].pairs.map(([title, value]) => `${title} ${formatted(value)}`).join(", ");
  }

  /** Zoom around the center; 0 shows all. Uses the signals of the wheel. */
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
    // A signal set to its current value does not fire.
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
      element.textContent = `This figure cannot be drawn in this browser (${error.message}): see its SVG file.`;
      console.error(error);
    }
  }
  root.dataset.ready = "yes";
}
drawAll();
