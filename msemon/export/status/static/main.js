// The loop: ask, show, wait, as long as somebody looks.

import { Refused, ask } from "./api.js";
import { byId, el, refill, say } from "./dom.js";
import { clock, span } from "./format.js";
import * as health from "./health.js";
import { Model } from "./model.js";
import { Overview } from "./overview.js";
import { here } from "./place.js";

const EVERY_MS = 5000;
const STALE_MS = 3 * EVERY_MS;

let page = null;
let turn = null; // the question that is under way
let timer = 0;
let shown = null; // when what is shown was asked for
let trouble = ""; // why there is nothing newer
let paused = false;

/** Make the page that the address names, where it is another one. */
function follow() {
  const { model } = here();
  if (page === null || model !== page.name) {
    const first = page === null;
    page = model === undefined ? new Overview() : new Model(model);
    document.title = page.title;
    byId("main").replaceChildren(page.element);
    if (!first) {
      scrollTo(0, 0);
      byId("main").focus({ preventScroll: true });
    }
  }
  refresh();
}

async function refresh() {
  clearTimeout(timer);
  turn?.abort();
  const mine = new AbortController();
  turn = mine;
  const asked = Date.now();
  const answers = [ask("status", {}, mine.signal), ask("pipeline", {}, mine.signal), page.load(mine.signal).catch(mistaken)];
  const found = await Promise.all(answers).catch((error) => error);
  if (turn !== mine) return; // somebody asks for something else by now
  turn = null;
  if (!paused && !document.hidden) timer = setTimeout(refresh, EVERY_MS);
  if (found instanceof Error) {
    trouble = found instanceof Refused ? `${found.message}.` : "The daemon does not answer.";
  } else {
    [shown, trouble] = [asked, ""];
    draw(...found);
  }
  freshness();
}

// What is wrong with the question, and not with the daemon, is an answer: no such model (any more), no such window.
function mistaken(error) {
  if (error instanceof Refused && (error.status === 404 || error.status === 400)) return error;
  throw error;
}

function draw(status, pipeline, found) {
  health.show(status, pipeline, found.series?.drifting);
  if (found instanceof Refused) {
    explain(found);
    return;
  }
  if (!page.element.isConnected) byId("main").replaceChildren(page.element);
  page.show(found);
}

function explain(refused) {
  refill(byId("main"), el("p", { class: "panel pad" }, `${refused.message}. `, el("a", { href: "#", "data-focus": "all" }, "All models")));
}

/** Say how old the numbers are; loudly only when that changes from new to old. */
function freshness() {
  const age = shown === null ? null : Date.now() - shown;
  const old = trouble !== "" || (!paused && !document.hidden && age !== null && age > STALE_MS);
  byId("updated").textContent = age === null ? "Loading…" : paused ? `Paused at ${clock(shown)}` : `Updated ${age < 1500 ? "now" : `${span(Math.round(age / 1000))} ago`}`;
  byId("fresh").dataset.state = old ? "old" : paused ? "paused" : "new";
  const text = old ? `${trouble || "No answer."} ${shown === null ? "Nothing is shown yet." : `What is shown is from ${clock(shown)}.`}` : "";
  const banner = byId("stale");
  if (banner.textContent !== text) {
    banner.textContent = text;
    if (!text) say("The numbers are up to date again");
  }
  banner.hidden = !text;
  document.body.classList.toggle("old", old);
}

byId("pause").addEventListener("click", (event) => {
  paused = !paused;
  event.target.textContent = paused ? "Resume" : "Pause";
  event.target.setAttribute("aria-pressed", String(paused));
  if (paused) clearTimeout(timer);
  else refresh();
  freshness();
});
byId("skip").addEventListener("click", () => byId("main").focus());
addEventListener("hashchange", follow);
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden && !paused) refresh();
});
setInterval(freshness, 1000);
follow();
