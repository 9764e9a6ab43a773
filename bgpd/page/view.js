// What several parts of the page read out of an overview of the host (OverviewView).

/** A neighbor with its routes counted over all families, and the interface that leads to it. */
export function neighborsOf(view) {
  const leading = new Map((view.uplinks ?? []).flatMap((one) => one.neighbors.map((name) => [name, one.interface])));
  return view.neighbors.map((one) => ({
    ...one,
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

/** The verdict in full: what is wrong, and what is behind it. */
export function verdictOf(view) {
  const text = view.detail ? `${view.verdict}: ${view.detail}` : view.verdict;
  return text.charAt(0).toUpperCase() + text.slice(1);
}
