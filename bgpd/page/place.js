// What the page shows, as its address says: view, filters and time. Each place is a link that can be sent to others.

export function place() {
  const given = new URLSearchParams(location.hash.slice(1));
  return { view: "overview", ...Object.fromEntries(given) };
}

/** The link to a place; empty values are left out. */
export function link(values) {
  const kept = Object.entries(values).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  return `#${new URLSearchParams(kept)}`;
}

/** Goes there; with `replace` the back button does not come back to where one was. */
export function go(values, { replace = false } = {}) {
  const target = link(values);
  if (target === location.hash) return;
  if (replace) {
    history.replaceState(null, "", target);
    window.dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = target;
  }
}

/** A time as places have it, to the microsecond, and not before it: what happened then is seen. */
export function moment(at) {
  return (Math.ceil(at * 1e6) / 1e6).toFixed(6);
}

const LATEST = 253402300800; // the year 10000

/** The time that the page shows, in seconds since the epoch; null for now. */
export function timeShown() {
  const at = Number(place().at);
  return at > 0 && at < LATEST ? at : null;
}
