// What the reader chooses: kept in the address, and shown as that says.

import { el } from "./dom.js";
import { go, here } from "./place.js";

const TYPING_MS = 250;

/** The windows, of which one is chosen. */
export class Windows {
  constructor() {
    this.names = "";
    this.element = el("fieldset", { class: "choice" }, el("legend", { class: "unseen" }, "Window"));
  }

  /** The window that is shown. */
  chosen(names) {
    return names.includes(here().window) ? here().window : names[0];
  }

  show(names) {
    if (this.names !== names.join()) {
      this.names = names.join();
      this.element.replaceChildren(this.element.firstElementChild, ...names.map((name) => this.one(name)));
    }
    for (const input of this.element.querySelectorAll("input")) input.checked = input.value === this.chosen(names);
  }

  one(name) {
    const press = () => go({ ...here(), window: name }, true);
    return el("label", {}, el("input", { type: "radio", name: "window", value: name, onchange: press }), el("span", {}, name));
  }
}

// A control that shows what the address says, whenever that has changed by other ways.
function following(element, follow) {
  const again = () => {
    if (element.isConnected) follow();
    else removeEventListener("hashchange", again);
  };
  follow();
  addEventListener("hashchange", again);
  return element;
}

/** A list of which one is chosen: [value, text], the first where the address does not say. */
export function choice(label, field, options) {
  const press = (event) => go({ ...here(), [field]: event.target.value || null, page: null }, true);
  const list = el("select", { "aria-label": label, name: field, onchange: press });
  offer(list, options);
  return following(list, () => {
    list.value = here()[field] ?? "";
  });
}

/** Other options for a list that stays where it is: whoever has the focus on it keeps it. */
export function offer(list, options) {
  list.replaceChildren(...options.map(([value, text]) => el("option", { value }, text)));
  list.value = here()[list.name] ?? "";
}

/** A box that is ticked or not. */
export function tick(label, field) {
  const press = (event) => go({ ...here(), [field]: event.target.checked ? "true" : null, page: null }, true);
  const box = el("input", { type: "checkbox", onchange: press });
  return following(el("label", { class: "tick" }, box, el("span", {}, label)), () => {
    box.checked = here()[field] === "true";
  });
}

/** A field to search in: it asks once typing pauses. */
export function search(label, field) {
  let timer = 0; // runs from the last letter until it is asked for
  const ask = () => {
    timer = 0;
    go({ ...here(), [field]: box.value || null, page: null }, true);
  };
  const typed = () => {
    clearTimeout(timer);
    timer = setTimeout(ask, TYPING_MS);
  };
  const box = el("input", { type: "search", placeholder: label, "aria-label": label, autocomplete: "off", spellcheck: "false", oninput: typed });
  return following(box, () => {
    if (!timer && document.activeElement !== box) box.value = here()[field] ?? "";
  });
}
