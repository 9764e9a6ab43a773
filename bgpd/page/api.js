// Asks the host, and follows it: what is asked is retried while it is busy, and the stream comes back by itself.

import { setHostTime } from "./dom.js";

const BUSY = 503;
const TRIES = 5;

/** A value of a query that is empty, and meant so. */
export const EMPTY = Symbol("empty");

export class Refused extends Error {
  constructor(status, told) {
    super(told.hint ? `${told.error} (${told.hint})` : told.error);
    this.status = status;
  }
}

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

/** The JSON of `/v1/PATH?QUERY`; empty values of the query are left out. Throws Refused, or what fetch throws. */
export async function ask(path, query = {}, signal = undefined) {
  const kept = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  const target = `/v1/${path}?${new URLSearchParams(kept.map(([name, value]) => [name, value === EMPTY ? "" : value]))}`;
  for (let attempt = 1; ; attempt += 1) {
    const response = await fetch(target, { signal, headers: { Accept: "application/json" } });
    const isBusy = response.status === BUSY && path !== "health";
    if (isBusy && attempt < TRIES) {
      await pause(0.3 * attempt);
      continue;
    }
    const told = await response.json().catch(() => ({ error: `the answer has status ${response.status}` }));
    if (!response.ok) throw new Refused(response.status, told);
    return told;
  }
}

/** Follows `/v1/live`: calls `overview`, `happened` and `connection`. Only while the page is seen: a browser has few
    connections for each host, and a page in the background needs none. */
export function follow({ overview, happened, connection }) {
  let source = null;
  let again = 0;

  function open() {
    clearTimeout(again);
    source?.close();
    source = new EventSource("/v1/live");
    source.addEventListener("open", () => connection("live"));
    source.addEventListener("clock", (event) => setHostTime(Number(event.data)));
    source.addEventListener("overview", (event) => overview(JSON.parse(event.data)));
    source.addEventListener("happened", (event) => happened(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      connection("lost");
      if (source.readyState === EventSource.CLOSED) again = setTimeout(open, 3000); // an answer that was no stream
    });
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      clearTimeout(again);
      source?.close();
      connection("paused");
    } else {
      open();
    }
  });
  window.addEventListener("pagehide", () => source?.close());
  window.addEventListener("pageshow", (event) => event.persisted && open());
  if (!document.hidden) open();
}
