// What several parts of the page read out of an overview of the host (OverviewView).

import { stamp } from "./dom.js";

/** Since when there is no session, by the events, the newest first: the state of one that tries again changes each second. */
function downSince(view, neighbor, events) {
  if (view.isPast) return neighbor.since;
  const last = events.find((one) => one.fields.neighbor === neighbor.name && SESSION.includes(one.event));
  if (last?.event === "session.closed") return last.at;
  return neighbor.established_count ? neighbor.since : view.health.started_at;
}

const SESSION = ["session.closed", "session.established", "session.adopted"];

/** A neighbor with its routes counted over all families, since when it is up or down, and the interface towards it. */
export function neighborsOf(view, events = []) {
  const leading = new Map((view.uplinks ?? []).flatMap((one) => one.neighbors.map((name) => [name, one.interface])));
  return view.neighbors.map((one) => ({
    ...one,
    since: one.state === "established" ? one.since : downSince(view, one, events),
    interface: one.interface || leading.get(one.name) || "",
    received: sum(one, "received"),
    announced: sum(one, "announced"),
  }));
}

const sum = (neighbor, name) => (neighbor.families
  ? Object.values(neighbor.families).reduce((total, counts) => total + counts[name], 0) : undefined);

export function ribOf(table) {
  return Object.values(table.prefixes).reduce((total, count) => total + count, 0);
}

/** Claims of workloads by state, over all sources. */
export function claimsOf(view) {
  const counts = {};
  for (const states of Object.values(view.workloads)) {
    for (const [state, count] of Object.entries(states)) counts[state] = (counts[state] ?? 0) + count;
  }
  return counts;
}

export function servicesOf(view) {
  return Object.fromEntries(Object.entries(view.services).filter(([, count]) => count));
}

export function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

/** What is here and neighbors do not have, each with the reason. */
export function withheldOf(view) {
  return [
    ...(view.drain.state === "off" ? [] : [`this host is ${view.drain.state}`, ...view.drain.waiting_for]),
    ...Object.entries(claimsOf(view)).filter(([state]) => state !== "announced").map(([state, count]) => `${plural(count, "workload")}: ${state}`),
    ...Object.entries(servicesOf(view)).filter(([state]) => !["announced", "last-resort"].includes(state)).map(([state, count]) => `${plural(count, "service")}: ${state}`),
    ...view.neighbors.filter((one) => one.without_next_hop?.length).map((one) =>
      `${one.without_next_hop.join(", ")} to ${one.name}: this host has no address there as a next hop`),
  ];
}

/** The verdict in full: what is wrong, what is behind it, and since when. */
export function verdictOf(view, events) {
  const text = view.detail ? `${view.verdict}: ${view.detail}` : view.verdict;
  const down = view.isPast || view.where !== "fabric" ? [] : neighborsOf(view, events).filter((one) => !one.guest && one.state !== "established");
  const since = down.length ? ` (down since ${stamp(Math.min(...down.map((one) => one.since)))})` : "";
  return text.charAt(0).toUpperCase() + text.slice(1) + since;
}
