// Small pictures in SVG.

import { el, svg } from "./dom.js";
import { span, value, percent } from "./format.js";

const WIDTH = 120;
const HEIGHT = 24;
const EDGE = 2.5;

/** The line of an RMSE; where there were no pairs it is interrupted. `baseline`: the RMSE it is compared with. */
export function sparkline(trend, about, baseline) {
  const values = trend ? trend.rmse : [];
  const present = values.filter((each) => each !== null);
  if (!present.length) return el("span", { class: "muted" }, "no pairs");
  const top = Math.max(...present, baseline ?? 0) || 1;
  const x = (i) => EDGE + (i * (WIDTH - 2 * EDGE)) / Math.max(values.length - 1, 1);
  const y = (each) => HEIGHT - EDGE - (each / top) * (HEIGHT - 2 * EDGE);
  const text = `RMSE of the last ${about.window}: ${value(Math.min(...present))} to ${value(Math.max(...present))}`;
  return svg(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, role: "img", "aria-label": text },
    svg("title", {}, `${text}, a point each ${span(about.step_seconds)}`),
    baseline === null ? null : svg("path", { class: "base", d: `M${EDGE} ${y(baseline).toFixed(1)}H${WIDTH - EDGE}` }),
    svg("path", { class: "line", d: path(values, x, y) }),
    ...lonely(values).map((i) => svg("circle", { class: "point", cx: x(i).toFixed(1), cy: y(values[i]).toFixed(1), r: 1.6 })),
  );
}

function path(values, x, y) {
  let text = "";
  values.forEach((each, i) => {
    if (each === null) return;
    text += `${i && values[i - 1] !== null ? "L" : "M"}${x(i).toFixed(1)} ${y(each).toFixed(1)}`;
  });
  return text;
}

// Points without a neighbour make no line.
function lonely(values) {
  return values.flatMap((each, i) => (each !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null ? [i] : []));
}

/** A share of a whole as a bar, beside its text. */
export function bar(share, kind = "") {
  const part = Math.max(0, Math.min(1, share ?? 0));
  return svg(
    "svg",
    { class: `bar ${kind}`, viewBox: "0 0 100 8", width: 100, height: 8, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "rest", width: 100, height: 8 }),
    svg("rect", { class: "part", width: (part * 100).toFixed(1), height: 8 }),
  );
}

/** A histogram: a column a bucket, its height the bucket's share of all. */
export function histogram(counts, names, text) {
  const total = counts.reduce((sum, each) => sum + each, 0);
  const top = Math.max(...counts) || 1;
  const step = 300 / counts.length;
  return svg(
    "svg",
    { class: "histogram", viewBox: "0 0 300 60", role: "img", "aria-label": text },
    ...counts.map((each, i) => {
      const height = (each / top) * 56;
      const rect = { x: (i * step + 1).toFixed(1), y: (58 - height).toFixed(1), width: (step - 2).toFixed(1), height: height.toFixed(1) };
      return svg("rect", rect, svg("title", {}, `${names[i]}: ${percent(each / total)}`));
    }),
    svg("path", { class: "base", d: "M0 58.5H300" }),
  );
}

const STATES = {
  active: ["▲", "drifting", "bad"],
  steady: ["●", "steady", "good"],
  learning: ["◔", "learning", "muted"],
  off: ["○", "not watched", "muted"],
  unknown: ["○", "not watched", "muted"],
};

/** The state of drift: a sign, a word and a colour, so that none of them has to be seen. */
export function drift(of) {
  const [sign, word, kind] = STATES[of.state];
  const known = of.evidence !== null && of.threshold !== null;
  const why = known ? `evidence ${value(of.evidence)}, alarms at ${value(of.threshold)}` : null;
  return el("span", { class: `drift ${kind}`, title: why }, el("span", { "aria-hidden": "true" }, sign), ` ${word}`);
}
