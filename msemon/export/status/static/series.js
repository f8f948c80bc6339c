// A page of series as a table: sorted by its heads, turned by its pager.

import { el, refill, say, wide } from "./dom.js";
import { bounds, count, covered, percent, ratio, short, signed, value } from "./format.js";
import { go, here, to } from "./place.js";
import { bar, drift, sparkline } from "./spark.js";

export const ROWS = 50;

const named = (row) => [row.model, row.version, row.dimension, row.segment].join("\n");
const part = (row) => (row.dimension ? `${row.dimension} = ${row.segment}` : "");
const baseline = (row) => (row.baseline ? Math.sqrt(row.baseline.mse) : null);

const RMSE = {
  title: "RMSE",
  more: "95 % bounds",
  sort: "rmse",
  kind: "number",
  cell: (row, at) => [
    el("b", {}, value(row.windows[at.window]?.rmse)),
    " ",
    el("span", { class: "bounds" }, bounds(row.windows[at.window])),
  ],
};
const RATIO = { title: "To baseline", sort: "ratio", kind: "number roomy", cell: (row, at) => ratio(row.windows[at.window], row.baseline) };
const BIAS = { title: "Bias", sort: "bias", kind: "number roomy", cell: (row, at) => signed(row.windows[at.window]?.bias) };
const PAIRS = { title: "Pairs", sort: "pairs", kind: "number roomy", cell: (row, at) => short(row.windows[at.window]?.pairs) };
const TREND = { title: "Trend", kind: "line", cell: (row, at) => sparkline(row.trend, at.trend, baseline(row)) };
const DRIFT = { title: "Drift", sort: "drift", kind: "state", cell: (row) => drift(row.drift) };

function link(row, text, at) {
  const place = to({ model: row.model, version: row.version, window: here().window });
  return el("a", { href: place, "data-focus": named(row) }, text || at);
}

/** Models and segments. */
export const ALL = [
  {
    title: "Model",
    sort: "name",
    kind: "name",
    cell: (row) => [link(row, row.model, "(no name)"), el("span", { class: "narrow muted" }, [row.version, part(row)].filter(Boolean).join(" · "))],
  },
  { title: "Version", kind: "roomy", cell: (row) => row.version },
  { title: "Segment", kind: "roomy", cell: part },
  RMSE,
  RATIO,
  BIAS,
  PAIRS,
  TREND,
  DRIFT,
  { title: "Labelled", sort: "coverage", kind: "number roomy", cell: (row, at) => covered(row.coverage?.[at.window]) },
];

/** Segments of one version. */
export const PARTS = [
  { title: "Segment", sort: "name", kind: "name", cell: part },
  {
    title: "Share of squared error",
    sort: "share",
    kind: "number share",
    cell: (row, at) => [bar(row.windows[at.window]?.share), el("span", {}, percent(row.windows[at.window]?.share))],
  },
  RMSE,
  RATIO,
  BIAS,
  PAIRS,
  TREND,
  DRIFT,
];

/** The table, as something that takes answers. `usual`: how it is sorted where the address does not say. */
export class Series {
  constructor(caption, columns, usual) {
    this.columns = columns;
    this.usual = usual;
    this.heads = columns.map((column) => this.head(column));
    this.body = el("tbody");
    this.pager = el("nav", { class: "pager", "aria-label": `Pages of: ${caption}` });
    const table = el(
      "table",
      { class: "series" },
      el("caption", { class: "unseen" }, caption),
      el("thead", {}, el("tr", {}, this.heads)),
      this.body,
    );
    this.element = el("div", { class: "panel" }, wide(caption, table), this.pager);
  }

  sort() {
    return here().sort ?? this.usual;
  }

  page() {
    return Math.max(1, Number.parseInt(here().page ?? "1", 10) || 1);
  }

  /** The fields of a question for this page. */
  question() {
    return { sort: this.sort(), window: here().window, offset: (this.page() - 1) * ROWS, limit: ROWS, trend: "true" };
  }

  head(column) {
    if (!column.sort) return el("th", { scope: "col", class: column.kind }, column.title);
    const press = () => {
      const down = this.sort() === `-${column.sort}` || (column.sort === "name" && this.sort() !== "name");
      go({ ...here(), sort: down ? column.sort : `-${column.sort}`, page: null });
      say(`Sorted by ${column.title}, ${down ? "ascending" : "descending"}`);
    };
    const sign = el("span", { class: "sign", "aria-hidden": "true" });
    return el("th", { scope: "col", class: column.kind }, el("button", { type: "button", onclick: press }, column.title, sign), " ", column.more ? el("span", { class: "bounds" }, column.more) : null);
  }

  show(answer, window) {
    const at = { window, trend: answer.trend };
    this.columns.forEach((column, i) => this.mark(this.heads[i], column, at));
    const rows = answer.series.map((row) =>
      el("tr", {}, this.columns.map((column, i) => el(i ? "td" : "th", { class: column.kind, scope: i ? null : "row" }, column.cell(row, at)))),
    );
    const nothing = el("tr", {}, el("td", { colspan: this.columns.length, class: "nothing muted" }, this.nothing(answer)));
    refill(this.body, rows.length ? rows : [nothing]);
    this.turn(answer);
  }

  nothing(answer) {
    if (answer.total) return "There are fewer pages than that.";
    return here().q || here().drifting ? "Nothing matches." : "Nothing has been seen yet.";
  }

  mark(head, column, at) {
    if (column === TREND && at.trend) head.textContent = `Last ${at.trend.window}`;
    if (!column.sort) return;
    const [by, down] = [this.sort().replace(/^-/, ""), this.sort().startsWith("-")];
    const state = by === column.sort ? (down ? "descending" : "ascending") : "none";
    head.setAttribute("aria-sort", state);
    head.querySelector(".sign").textContent = { none: "", ascending: " ↑", descending: " ↓" }[state];
  }

  turn({ total, offset, series }) {
    const last = Math.max(1, Math.ceil(total / ROWS));
    const page = this.page();
    const step = (text, label, target) => {
      const off = target === page || target < 1 || target > last;
      const press = () => {
        go({ ...here(), page: target > 1 ? target : null });
        say(`Page ${target} of ${last}`);
      };
      return el("button", { type: "button", "aria-label": label, "aria-disabled": off ? "true" : null, "data-focus": label, onclick: off ? null : press }, text);
    };
    const range = total ? `${count(Math.min(offset + 1, total))}–${count(offset + series.length)} of ${count(total)}` : "none";
    refill(
      this.pager,
      step("«", "First page", 1),
      step("‹", "Page before", page - 1),
      el("span", {}, range),
      step("›", "Next page", page + 1),
      step("»", "Last page", last),
    );
  }
}
