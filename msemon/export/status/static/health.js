// The health of the pipeline: what to look at first, and the rest on demand.

import { byId, el, refill, table } from "./dom.js";
import { ago, bytes, count, many, percent, short, span } from "./format.js";
import { here, to } from "./place.js";

const SIGNS = { good: "●", warn: "◆", bad: "▲" };
const LATE_S = 120;
const BEHIND_S = 60;
const SHOWN = 20;

const sum = (of) => Object.values(of).reduce((total, each) => total + (typeof each === "object" ? sum(each) : each), 0);

let before = null;
let open = false;

/** Events a second since the last answer. */
function rate(events) {
  const now = { events, at: performance.now() };
  const [old, seconds] = [before, before ? (now.at - before.at) / 1000 : 0];
  before = now;
  return old && seconds > 0.5 && events >= old.events ? (events - old.events) / seconds : null;
}

function tile(title, kind, main, ...rest) {
  return el(
    "div",
    { class: `tile ${kind}` },
    el("dt", {}, title),
    el("dd", {}, el("b", {}, el("span", { class: "sign", "aria-hidden": "true" }, SIGNS[kind.split(" ").at(-1)]), el("span", { class: "unseen" }, kind.endsWith("good") ? "" : "Attention: "), main), rest.filter(Boolean).map((each) => el("span", { class: "muted" }, each))),
  );
}

function state({ ready, healthy, uptime_seconds: uptime, lease }) {
  const [kind, text] = !healthy ? ["bad", "Not healthy"] : ready ? ["good", "Ready"] : ["warn", "Not ready"];
  return tile("Daemon", kind, text, `up ${span(uptime)}`, ready && !lease ? "not counted in by the group" : "");
}

function partitions({ partitions: own }, { partitions: all, state: kept }) {
  const most = Math.max(0, ...Object.values(all.of_topics));
  const lacking = kept.incomplete_partitions.length;
  return tile("Partitions", lacking ? "warn" : "good", `${count(own.length)} of ${count(most)}`, lacking ? `${count(lacking)} not whole yet` : "", many(all.rebalances, "rebalance"));
}

function lag({ lag: of, newest }) {
  const kind = of.seconds > BEHIND_S ? "warn" : "good";
  return tile("Lag", kind, of.records === null ? "not known" : `${short(of.records)} records`, of.seconds === null ? "" : `${span(of.seconds)} behind`, newest.label === null ? "" : `newest label ${ago(newest.label)}`);
}

function events({ events: of, rejected, dead_letter_failures: failures }) {
  const [total, refused] = [sum(of), sum(rejected)];
  const now = rate(total);
  const share = total ? refused / total : 0;
  return tile("Events", share > 0.01 || failures ? "warn" : "good", now === null ? short(total) : `${short(now)}/s`, `${short(refused)} rejected${refused ? ` (${percent(share)})` : ""}`, failures ? `${count(failures)} dead letters lost` : "");
}

function join({ waiting, labels_for_the_past: past }, { join: of }) {
  const evicted = sum(of.evicted);
  return tile("Join", evicted ? "long warn" : "long good", `${short(of.matched)} pairs`, `waiting: ${short(waiting.predictions)} predictions, ${short(waiting.labels)} labels`, past ? `up to ${short(past)} of these labels for predictions from before the start` : "", evicted ? `${short(evicted)} evicted` : "");
}

function checkpoint({ state: { checkpoint: of, rejected_snapshots: rejected } }) {
  if (of.oldest === null) return tile("Checkpoint", of.failures ? "bad" : "good", "none yet", of.failures ? `${count(of.failures)} failed` : "");
  const late = Date.now() / 1000 - of.oldest > LATE_S;
  const refused = sum(rejected);
  return tile("Checkpoint", late ? "bad" : of.failures || refused ? "warn" : "good", ago(of.oldest), `${bytes(of.bytes)} in ${span(of.duration_seconds)}`, of.failures ? `${count(of.failures)} failed` : "", refused ? `${count(refused)} snapshots refused` : "");
}

function drifting(of) {
  const all = of.models + of.segments;
  const link = el("a", { href: to({ window: here().window, drifting: "true", kind: "all" }), "data-focus": "drifting" }, `${count(all)} series`);
  return tile("Drift", all ? "bad" : "good", all ? link : "none", all ? `${many(of.models, "model")}, ${many(of.segments, "segment")}` : "");
}

function pairs(title, of) {
  const rows = Object.entries(of).map(([name, value]) => el("tr", {}, el("th", { scope: "row", class: "name" }, name), el("td", { class: "number" }, count(value))));
  return rows.length ? el("section", { class: "panel pad" }, el("h3", {}, title), table(title, [["What", "name"], ["Number", "number"]], rows)) : null;
}

const flat = (of) => Object.fromEntries(Object.entries(of).flatMap(([outer, inner]) => Object.entries(inner).map(([name, value]) => [`${outer} · ${name}`, value])));

function furthest(partitions) {
  return Object.fromEntries(Object.entries(flat(partitions)).sort(([, a], [, b]) => b - a).slice(0, SHOWN));
}

function details(pipeline) {
  const { join: of, state: kept } = pipeline;
  const fates = { matched: of.matched, "conflicting labels": of.conflicting_labels };
  for (const [fate, counts] of [["expired", of.expired], ["duplicate", of.duplicates], ["evicted", of.evicted]]) {
    for (const [name, value] of Object.entries(counts)) fates[`${fate} · ${name}`] = value;
  }
  const restored = { ...kept.restores, "records lost": kept.lost_records };
  const box = el(
    "details",
    {},
    el("summary", { "data-focus": "details" }, "Pipeline in detail"),
    el(
      "div",
      { class: "details" },
      pairs("Events read", flat(pipeline.events)),
      pairs("Rejected, by reason", flat(pipeline.rejected)),
      pairs("Join", fates),
      pairs(`Records to read${Object.keys(flat(pipeline.lag.partitions)).length > SHOWN ? `, the ${SHOWN} furthest behind` : ""}`, furthest(pipeline.lag.partitions)),
      pairs("Partitions taken over, by where their state came from", restored),
      pairs("Kafka's errors", pipeline.kafka_errors),
    ),
  );
  box.open = open;
  box.addEventListener("toggle", () => {
    open = box.open;
  });
  return box;
}

/** Which part of the whole this replica sees. */
function share({ partitions: own }, { partitions: all }) {
  const most = Math.max(0, ...Object.values(all.of_topics));
  if (!most || own.length >= most) return "";
  return `This replica's share: ${count(own.length)} of ${count(most)} partitions. Prometheus adds the replicas up.`;
}

/** Draw it all. `counts`: how many series drift, where that is known. */
export function show(status, pipeline, counts) {
  const tiles = [state(status), partitions(status, pipeline), lag(pipeline), events(pipeline), join(status, pipeline), checkpoint(pipeline)];
  if (counts) tiles.push(drifting(counts));
  refill(byId("health"), el("dl", { class: "tiles" }, tiles), details(pipeline));
  byId("replica").textContent = share(status, pipeline);
  byId("version").textContent = `msemon ${status.version}, group ${status.group}`;
}
