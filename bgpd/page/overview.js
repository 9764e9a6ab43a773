// The first view: the picture, neighbors, kernel routes, what is announced and withheld, and what happened last.

import { age, clock, el, health, number, stamp, table } from "./dom.js";
import { levelOf, levelOfTable, picture } from "./picture.js";
import { link } from "./place.js";
import { eventTable } from "./journal.js";
import { claimsOf, neighborsOf, plural, ribOf, servicesOf, withheldOf } from "./view.js";

const panel = (title, id, ...content) =>
  el("section", { class: "panel", "aria-labelledby": id }, el("h2", { id }, title), ...content);

const unknown = (what) => el("p", { class: "quiet" }, `${what}: the history does not say it.`);

/** When what changes slowly was seen last. */
const seen = (view) => (view.isPast && view.lookedAt ? el("p", { class: "quiet" }, `As seen at ${stamp(view.lookedAt)}.`) : null);

/** The sections of an overview; `events` are the last ones, the newest first. */
export function overview(view, events, at) {
  return [
    panel("Where packets go", "h-picture",
      el("div", { class: "frame", tabindex: "0", role: "group", "aria-label": "Picture of the host", "data-key": "picture", "data-scroll": "picture" }, picture(view))),
    panel("Neighbors", "h-neighbors", neighbors(view, events, at),
      view.neighbors_total > view.neighbors.length ? el("p", { class: "quiet" }, `${view.neighbors.length} of ${view.neighbors_total}, those without a session first`) : null),
    view.tables ? panel("Kernel routes", "h-fib", kernel(view), seen(view)) : panel("Kernel routes", "h-fib", unknown("Counts of routes")),
    panel("Announced and withheld", "h-announced", ...announced(view)),
    view.health.warnings.length ? panel("Warnings", "h-warnings", el("ul", {}, view.health.warnings.map((text) => el("li", {}, text)))) : null,
    panel("Last events", "h-events", eventTable(events.slice(0, 12), at)),
  ];
}

function neighbors(view, events, at) {
  const now = at ?? undefined;
  return table("Neighbors", [
    ["Neighbor", (one) => (view.isPast ? one.name : el("a", { href: link({ view: "routes", q: one.name }), "data-key": `n ${one.name}` }, one.name))],
    ["State", (one) => health(levelOf(one), one.state)],
    ["Since", (one) => age(one.since, now)],
    ["BFD", (one) => one.bfd || "–"],
    ["Interface", (one) => one.interface || "–"],
    ["AS", (one) => one.asn],
    ["Received", (one) => (one.received === undefined ? "?" : number(one.received)), "number"],
    ["Announced", (one) => (one.announced === undefined ? "?" : number(one.announced)), "number"],
    ["Last error", (one) => (one.last_error ? `${one.last_error}${one.last_error_at ? `, ${clock(one.last_error_at)}` : ""}` : ""), "wide"],
  ], neighborsOf(view, events), { empty: "no neighbor is configured" });
}

function kernel(view) {
  return table("Kernel routes", [
    ["Table", (one) => (one.vrf ? `VRF ${one.vrf}` : "main")],
    ["Health", (one) => health(levelOfTable(one), one.failed ? "routes are lost" : one.pending ? "being written" : one.blocked ? "some blocked" : "all there")],
    ["Wanted", (one) => number(one.desired), "number"],
    ["Installed", (one) => number(one.installed), "number"],
    ["Loss", (one) => number(Math.max(0, one.desired - one.installed)), "number"],
    ["Waiting", (one) => number(one.pending), "number"],
    ["Refused", (one) => number(one.failed), "number"],
    ["Blocked", (one) => number(one.blocked), "number"],
    ["In the RIB", (one) => number(ribOf(one)), "number"],
  ], view.tables);
}

function announced(view) {
  if (!view.workloads) return [unknown("What was announced")];
  const counts = [...Object.entries(claimsOf(view)).map(([state, count]) => `${plural(count, "workload")} ${state}`),
    ...Object.entries(servicesOf(view)).map(([state, count]) => `${plural(count, "service")} ${state}`)];
  const withheld = withheldOf(view);
  return [
    el("p", {}, counts.join(", ") || "Nothing is claimed on this host."),
    withheld.length
      ? el("ul", { class: "withheld" }, withheld.map((text) => el("li", {}, health("warning", text))))
      : el("p", {}, health("ok", "Nothing is withheld.")),
  ];
}
