// One model: its versions side by side, its windows, its label delay, and its segments by their share of the error.

import { ask } from "./api.js";
import { Windows, choice, offer } from "./controls.js";
import { el, refill, table, wide } from "./dom.js";
import { ago, bounds, count, covered, percent, ratio, short, signed, span, value } from "./format.js";
import { here, to } from "./place.js";
import { PARTS, Series } from "./series.js";
import { bar, drift, histogram, sparkline } from "./spark.js";

const VERSIONS = [
  ["Version", "name"], ["RMSE and its 95 % bounds", "number"], ["To baseline", "number"], ["Bias", "number"], ["Pairs", "number"],
  ["Trend", "line"], ["Drift", "state"], ["Evidence", "number share"], ["Labelled", "number"], ["Last pair", "number"],
];
const WINDOWS = [
  ["Window", "name"], ["RMSE", "number"], ["95 % bounds", "number"], ["MSE", "number"], ["MAE", "number"],
  ["Bias", "number"], ["R²", "number"], ["Largest error", "number"], ["Pairs", "number"], ["Labelled", "number"],
];

const cells = (columns, values, attributes = {}) =>
  el("tr", attributes, values.map((each, i) => el(i ? "td" : "th", { class: columns[i][1], scope: i ? null : "row" }, each)));
const named = (version) => version || "(none)";

export class Model {
  constructor(name) {
    this.name = name;
    this.title = `${name} · msemon`;
    this.windows = new Windows();
    this.segments = new Series("Segments by their share of the squared error", PARTS, "-share");
    this.dimensions = "";
    this.picker = el("div", { class: "controls" });
    this.figures = el("div", {});
    this.element = el(
      "section",
      {},
      el("nav", { "aria-label": "Back" }, el("a", { href: "#" }, "← All models")),
      el("div", { class: "heading" }, el("h1", {}, name), this.windows.element),
      this.figures,
      el("h2", { id: "parts" }, "Segments"),
      this.picker,
      this.segments.element,
    );
  }

  async load(signal) {
    const model = await ask("model", { model: this.name }, signal);
    const version = this.version(model).version;
    const { dimension } = here();
    const question = { ...this.segments.question(), model: this.name, version, kind: "segments", dimension };
    const series = await ask("series", question, signal);
    return { model, series };
  }

  /** The version whose windows and segments are shown: the one of the address, else the newest. */
  version(model) {
    return model.versions.find((each) => each.version === (here().version ?? null)) ?? model.versions[0];
  }

  show({ model, series }) {
    const version = this.version(model);
    this.windows.show(model.windows);
    const window = this.windows.chosen(model.windows);
    refill(this.figures, this.versions(model, version, window), this.details(model, version));
    this.pick(model);
    this.segments.show(series, window);
  }

  pick(model) {
    const names = Object.entries(model.dimensions);
    const known = JSON.stringify(names);
    if (known === this.dimensions) return;
    this.dimensions = known;
    const options = [["", "All dimensions"], ...names.map(([name, number]) => [name, `${name} (${count(number)})`])];
    const list = this.picker.querySelector("select");
    if (list && names.length) offer(list, options);
    else this.picker.replaceChildren(names.length ? choice("Dimension", "dimension", options) : "");
  }

  versions(model, chosen, window) {
    const rows = model.versions.map((each) => {
      const of = each.windows[window];
      const base = each.baseline ? Math.sqrt(each.baseline.mse) : null;
      const place = to({ ...here(), version: each.version, page: null });
      const name = el("a", { href: place, "data-focus": `v ${each.version}`, "aria-current": each === chosen ? "true" : null }, named(each.version));
      const { evidence, threshold } = each.drift;
      const near = evidence === null || threshold === null ? null : evidence / threshold;
      return cells(VERSIONS, [
        name,
        [el("b", {}, value(of?.rmse)), " ", el("span", { class: "bounds" }, bounds(of))],
        ratio(of, each.baseline), signed(of?.bias), short(of?.pairs),
        sparkline(each.trend, model.trend, base), drift(each.drift),
        near === null ? this.learnt(each) : [bar(near, each.drift.state === "active" ? "bad" : ""), el("span", {}, percent(near))],
        covered(each.coverage[window]), ago(each.last_pair),
      ]);
    });
    const more = model.versions_total - model.versions.length;
    return el(
      "div",
      { class: "panel" },
      wide("Versions", table(`Versions of ${this.name}`, VERSIONS.map(([text, kind]) => [text === "Trend" ? `Last ${model.trend.window}` : text, kind]), rows)),
      more ? el("p", { class: "muted" }, `${count(more)} older versions are not shown.`) : "",
    );
  }

  learnt(version) {
    const { learnt_pairs: pairs } = version.drift;
    return pairs === null ? "–" : el("span", { class: "muted" }, `${count(pairs)} pairs learnt`);
  }

  details(model, version) {
    const rows = model.windows.map((name) => {
      const of = version.windows[name];
      return cells(WINDOWS, [
        name, el("b", {}, value(of?.rmse)), bounds(of) || "–", value(of?.mse), value(of?.mae), signed(of?.bias),
        value(of?.r2), value(of?.max_absolute_error), short(of?.pairs), covered(version.coverage[name]),
      ]);
    });
    return el(
      "div",
      { class: "columns" },
      el("div", { class: "panel" }, el("h2", {}, `Windows of version ${named(version.version)}`), wide("Windows", table("Windows", WINDOWS, rows))),
      el("div", { class: "panel pad" }, el("h2", {}, "Label delay"), this.delay(model, version)),
    );
  }

  delay(model, version) {
    const { counts } = version.label_delay;
    const total = counts.reduce((sum, each) => sum + each, 0);
    if (!total) return el("p", { class: "muted" }, "No label has been joined since this process began.");
    const ends = [...model.delay_bounds_seconds.map((each) => `within ${span(each)}`), `over ${span(model.delay_bounds_seconds.at(-1))}`];
    const within = (share) => {
      let sum = 0;
      return ends[counts.findIndex((each) => (sum += each) >= share * total)];
    };
    const text = `Half of the labels come ${within(0.5)}, nine of ten ${within(0.9)}.`;
    return [
      histogram(counts, ends, text),
      el("p", {}, text),
      el("p", { class: "muted" }, `${count(total)} labels since this process began; columns: ${ends[0]} to ${ends.at(-1)}.`),
    ];
  }
}
