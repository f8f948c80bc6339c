// All models and segments.

import { ask } from "./api.js";
import { Windows, choice, search, tick } from "./controls.js";
import { el, say } from "./dom.js";
import { count } from "./format.js";
import { here } from "./place.js";
import { ALL, Series } from "./series.js";

const KINDS = [["", "Models"], ["segments", "Segments"], ["all", "Models and segments"]];

export class Overview {
  constructor() {
    this.title = "msemon";
    this.windows = new Windows();
    this.series = new Series("Models and segments", ALL, "name");
    this.asked = null;
    this.element = el(
      "section",
      {},
      el("h1", { class: "unseen" }, "Models and segments"),
      el(
        "div",
        { class: "controls", role: "group", "aria-label": "What is shown" },
        search("Search models, versions, segments", "q"),
        choice("Models or segments", "kind", KINDS),
        this.windows.element,
        tick("Drifting only", "drifting"),
      ),
      this.series.element,
    );
  }

  async load(signal) {
    const { q, kind, drifting } = here();
    const question = { ...this.series.question(), search: q, kind: kind ?? "models", drifting };
    return { series: await ask("series", question, signal) };
  }

  show({ series }) {
    this.windows.show(series.windows);
    this.series.show(series, this.windows.chosen(series.windows));
    const { q, kind, drifting } = here();
    const asked = [q, kind, drifting].join("\n");
    if (this.asked !== null && this.asked !== asked) say(`${count(series.total)} found`);
    this.asked = asked;
  }
}
