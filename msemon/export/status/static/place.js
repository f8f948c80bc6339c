// Where on the page we are: in the fragment of its address, so that every place can be linked to and gone back to.

/** The fields of the fragment, as text. */
export function here() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}

/** The address of a place; fields that are null or undefined are left out. */
export function to(fields) {
  const given = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined);
  return `#${new URLSearchParams(given)}`;
}

/** Go there; `quietly` without a step that the back button would have to take. */
export function go(fields, quietly = false) {
  if (!quietly) {
    location.hash = to(fields);
    return;
  }
  history.replaceState(null, "", to(fields));
  dispatchEvent(new HashChangeEvent("hashchange"));
}
