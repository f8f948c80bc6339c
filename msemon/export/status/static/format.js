// Numbers and times as text.

const COUNT = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });
const DIGITS = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 4 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

export const NONE = "–";

const minus = (text) => text.replaceAll("-", "−");
const known = (value) => typeof value === "number" && Number.isFinite(value);

/** A value of the label's unit: four digits that count. */
export function value(number) {
  if (!known(number)) return NONE;
  const size = Math.abs(number);
  return size !== 0 && (size >= 1e7 || size < 1e-3) ? minus(number.toExponential(2)) : minus(DIGITS.format(number));
}

export const signed = (number) => (known(number) && number > 0 ? `+${value(number)}` : value(number));
export const count = (number) => (known(number) ? COUNT.format(number) : NONE);
export const short = (number) => (known(number) ? (number < 10000 ? COUNT.format(number) : SHORT.format(number)) : NONE);
export const many = (number, what) => `${count(number)} ${what}${number === 1 ? "" : "s"}`;
export const clock = (milliseconds) => CLOCK.format(milliseconds);

export function percent(share) {
  if (!known(share)) return NONE;
  if (share > 0 && share < 0.001) return "< 0.1 %";
  return `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
}

/** Seconds in the largest unit that gives at least one. */
export function span(seconds) {
  if (!known(seconds)) return NONE;
  if (seconds > 0 && seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  const [unit, size] = UNITS.find(([, each]) => seconds >= each) ?? UNITS[UNITS.length - 1];
  const number = seconds / size;
  return `${number < 10 && size > 1 ? Math.round(number * 10) / 10 : Math.round(number)} ${unit}`;
}

/** How long ago a unix time in seconds was. */
export const ago = (time) => (known(time) ? `${span(Math.max(0, Date.now() / 1000 - time))} ago` : NONE);

export function bytes(number) {
  if (!known(number)) return NONE;
  const [unit, size] = number >= 1e6 ? ["MB", 1e6] : ["kB", 1e3];
  return `${DIGITS.format(Number((number / size).toPrecision(3)))} ${unit}`;
}

export function bounds(window) {
  return window && known(window.lower) && known(window.upper) ? `${value(window.lower)} – ${value(window.upper)}` : "";
}

/** RMSE over the baseline's RMSE. */
export function ratio(window, baseline) {
  if (!window || !baseline || !known(window.mse) || !(baseline.mse > 0)) return NONE;
  return `× ${Math.sqrt(window.mse / baseline.mse).toFixed(2)}`;
}

/** The share of predictions whose label has come. */
export const covered = (coverage) => (coverage ? percent(coverage.labelled / coverage.predictions) : NONE);
