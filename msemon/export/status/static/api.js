// Questions to the daemon that served this page.

const PATIENCE_MS = 20000;

/** It answered, and would not: the message is its own. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The JSON at a path below api/v1/; fields that are null or undefined are left out. */
export async function ask(path, fields, signal) {
  const given = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined);
  const query = given.length ? `?${new URLSearchParams(given)}` : "";
  const late = new AbortController();
  const stop = () => late.abort();
  const timer = setTimeout(stop, PATIENCE_MS);
  signal.addEventListener("abort", stop);
  try {
    const answer = await fetch(`api/v1/${path}${query}`, { signal: late.signal, cache: "no-store" });
    if (answer.ok) return await answer.json();
    const body = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, body.error ?? answer.statusText);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}
