// Elements, always from text and never from markup: names of models and segments are whatever users send.

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** An HTML element; children are elements or text. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

export const byId = (id) => document.getElementById(id);

/** Put children in place of what is there; the focus stays on the element of the same `data-focus`, and what was
 * scrolled sideways stays so. */
export function refill(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  const places = [...parent.querySelectorAll(".wide")].map((each) => each.scrollLeft);
  parent.replaceChildren(...children.flat().filter((child) => child !== null));
  const scrolled = [...parent.querySelectorAll(".wide")];
  scrolled.forEach((each, i) => {
    each.scrollLeft = places[i] ?? 0;
  });
  if (focused === undefined) return;
  const again = [...parent.querySelectorAll("[data-focus]")].find((each) => each.dataset.focus === focused);
  if (again) again.focus({ preventScroll: true });
}

/** Tell those who can't see the page what has changed on it, at their own request. */
export function say(text) {
  byId("said").textContent = text;
}

/** A table with a caption for those who can't see its heading. Columns: [text, class]. */
export function table(caption, columns, rows, kind = "") {
  return el(
    "table",
    { class: kind },
    el("caption", { class: "unseen" }, caption),
    el("thead", {}, el("tr", {}, columns.map(([text, of]) => el("th", { scope: "col", class: of }, text)))),
    el("tbody", {}, rows),
  );
}

/** A region that scrolls sideways where it must, with the keyboard too. */
export function wide(label, content) {
  return el("div", { class: "wide", role: "region", "aria-label": label, "data-focus": label, tabindex: 0 }, content);
}
