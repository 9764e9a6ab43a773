// Explain: the way of one address, from the neighbor's message to the kernel, link by link, with the first broken one. Of
// an earlier time the host answers from its history of what came in; what the kernel had then is not in it.

import { ask } from "./api.js";
import { age, el, fill, health, hostTime, stamp, table } from "./dom.js";
import { eventTable } from "./journal.js";
import { go, link, moment, place, timeShown } from "./place.js";

const step = (level, title, ...lines) => ({ level, title, lines: lines.flat().filter(Boolean) });

const BEST = ["best", "multipath"];

function routeStep(route) {
  const chosen = route.candidates.filter((one) => BEST.includes(one.role));
  return step(chosen.length ? "ok" : "critical", `Route ${route.prefix}`,
    chosen.length ? chosen.map((one) => `${one.role}: ${one.source}${one.next_hop ? ` by ${one.next_hop}` : ""}`) : "no usable path");
}

/** The same of an earlier time (PastView): the links that the history knows. */
function pastChain(view) {
  const claims = view.claims.map((one) => step(one.announced ? "ok" : "warning", `Claim of ${one.id}`, `${one.prefix}, ${one.state} for ${age(one.since, view.at)}, by ${one.source}`,
    one.neighbors.length ? `announced to ${one.neighbors.join(", ")}` : one.reason || "announced to nobody"));
  return [
    ...claims,
    ...view.neighbors.map((one) => step(one.established ? "ok" : "critical", `Neighbor ${one.name}`,
      `${one.established ? "established" : "down"} for ${age(one.since, view.at)}`, one.established ? "" : one.reason)),
    view.route ? routeStep(view.route) : step("critical", "Route", "no route covered it"),
  ];
}

/** The links of the chain, in the order in which they depend on each other. */
export function chainOf(view) {
  if (view.at !== undefined) return pastChain(view);
  const steps = [];
  const route = view.route;
  if (view.workload) {
    const claim = view.workload;
    steps.push(step(claim.announced ? "ok" : "warning", `Claim of ${claim.id}`, `${claim.prefix}, ${claim.state}, by ${claim.source}`,
      claim.neighbors.length ? `announced to ${claim.neighbors.join(", ")}` : claim.reason || "announced to nobody"));
  }
  if (view.guest) steps.push(step("ok", "Guest", `${view.guest.prefix} by ${view.guest.candidates.map((one) => one.source).join(", ")}`));
  for (const one of view.neighbors) {
    const isUp = one.state === "established";
    steps.push(step(!isUp ? "critical" : one.bfd && one.bfd !== "up" ? "warning" : "ok", `Neighbor ${one.name}`,
      `${one.state} for ${age(one.since)}${one.bfd ? `, BFD ${one.bfd}` : ""}${one.interface ? `, on ${one.interface}` : ""}`, isUp ? "" : one.last_error));
  }
  if (route) {
    steps.push(routeStep(route));
  } else if (!view.workload) {
    steps.push(step("critical", "Route", "no route covers it"));
  }
  if (view.overlay.length) steps.push(step("ok", "Overlay", view.overlay));
  if (view.fib) {
    steps.push(step({ installed: "ok", pending: "warning", blocked: "warning" }[view.fib.state] ?? "critical", `Kernel route ${view.fib.prefix}`,
      `${view.fib.state}, table ${view.fib.table}${view.fib.group ? `, group ${view.fib.group}` : ""}`, view.fib.error));
  }
  const kernel = view.kernel;
  steps.push(kernel
    ? step(kernel.error ? "critical" : kernel.next_hops.length && !kernel.next_hops.some((hop) => hop.live) ? "critical" : view.agrees ? "ok" : "warning",
      "The kernel's answer", `${kernel.prefix} by ${kernel.protocol}${kernel.ours ? "" : " (not bgpd's)"}`, kernel.error,
      kernel.next_hops.map((hop) => `${hop.live ? "by" : "not by"} ${hop.address || "the link"} on ${hop.interface}${hop.why ? `: ${hop.why}` : ""}`))
    : step("critical", "The kernel's answer", "it has no route"));
  return steps;
}

const at = (time) => link({ ...place(), at: moment(time) });

function chain(view) {
  const steps = chainOf(view);
  return el("ol", { class: "chain" }, steps.map((one) =>
    el("li", { class: one.level }, el("h3", {}, health(one.level, one.title)), one.lines.map((text) => el("p", {}, text)))));
}

function changes(view) {
  return table("Changes in the hour before", [
    ["Time", (one) => el("a", { href: at(one.at), "data-key": `c ${one.at} ${one.source}` }, stamp(one.at))],
    ["Prefix", (one) => one.prefix],
    ["By", (one) => one.source],
    ["Before", (one) => one.before || "nothing", "wide"],
    ["After", (one) => one.after || "gone", "wide"],
    ["Why", (one) => one.why || (one.message ? `UPDATE ${one.message}` : ""), "wide"],
  ], view.changes.toReversed(), { empty: "none" });
}

function candidates(route, now) {
  return table(`Paths of ${route.prefix}`, [
    ["By", (one) => one.source],
    ["Role", (one) => health({ best: "ok", multipath: "ok", rejected: "critical" }[one.role] ?? "unknown", one.role)],
    ["Next hop", (one) => one.next_hop],
    ["AS path", (one) => one.as_path],
    ["Local pref", (one) => one.local_pref ?? "", "number"],
    ["MED", (one) => one.med ?? "", "number"],
    ["Communities", (one) => one.communities.join(" ")],
    ["Heard", (one) => age(one.heard_at, now)],
    ["Why not", (one) => one.reason, "wide"],
    ["Policy rule", (one) => one.rule, "wide"],
  ], route.candidates);
}

/** The UPDATEs that the paths came in, as they came; `bgpd decode` reads them, and so does Wireshark. */
function messages(found) {
  return table("Messages", [
    ["By", (one) => one.source],
    ["Came", (one) => (one.at ? stamp(one.at) : "not in the history")],
    ["Digest", (one) => one.digest],
    ["UPDATE", (one) => (one.data ? el("code", { class: "wire" }, one.data) : "not in the history"), "wide"],
  ], found, { empty: "none: no path came in a message that the history has" });
}

/** The history has them: it is asked for the present only when somebody wants to see them. */
function messagesOfNow(query, signal, kept) {
  kept.shown = el("div", {}, kept.messages ? messages(kept.messages) : null);
  const button = el("button", { type: "button", "data-key": "messages", onclick: async () => {
    button.disabled = true;
    try {
      const view = await ask(`explain/${encodeURIComponent(query.q)}`, { vrf: query.vrf, at: moment(hostTime()) }, signal);
      kept.messages = view.messages;
      fill(kept.shown, messages(view.messages)); // that of now: the rest may have been shown anew meanwhile
    } catch (error) {
      if (!signal.aborted) fill(kept.shown, el("p", { class: "problem", role: "alert" }, error.message || String(error)));
    }
    button.disabled = false;
  } }, "Show the messages");
  return [button, kept.shown];
}

export function explainView(root, shared) {
  const query = place();
  const vrfs = ["", ...(shared.now?.tables ?? []).map((one) => one.vrf).filter(Boolean)];
  if (query.vrf && !vrfs.includes(query.vrf)) vrfs.push(query.vrf);
  const form = el("form", { class: "filters", role: "search", onsubmit: (event) => { event.preventDefault(); submit(); } },
    el("label", { for: "q" }, "Address"), el("input", { id: "q", type: "search", value: query.q ?? "", placeholder: "10.64.1.5", autocomplete: "off", spellcheck: "false" }),
    el("label", { for: "vrf" }, "VRF"), el("select", { id: "vrf" }, vrfs.map((one) => el("option", { value: one, selected: one === (query.vrf ?? "") }, one || "main"))),
    el("button", {}, "Explain"));
  const status = el("p", { role: "status", class: "quiet" });
  const found = el("div", { id: "explained" });
  const kept = { messages: null, shown: null }; // what was asked for stays when the rest is shown anew

  function submit() {
    go({ view: "explain", at: query.at, q: form.querySelector("#q").value.trim(), vrf: form.querySelector("#vrf").value });
  }

  async function load(signal) {
    shared.explained = null;
    if (!query.q) {
      status.textContent = "Which way do packets to an address take, and why?";
      return;
    }
    const then = timeShown();
    const view = await ask(`explain/${encodeURIComponent(query.q)}`, { vrf: query.vrf, at: then && moment(then) }, signal);
    shared.explained = view;
    status.textContent = then ? `As it was at ${stamp(then)}. The history of routes begins at ${stamp(view.known_from)}.` : "";
    const isWell = then ? chainOf(view).at(-1).level === "ok" : view.agrees;
    fill(found,
      el("p", { class: `verdict ${isWell ? "ok" : "critical"}` }, health(isWell ? "ok" : "critical", view.verdict)),
      chain(view), view.route ? candidates(view.route, then ?? undefined) : null,
      ...(view.route && !then ? messagesOfNow(query, signal, kept) : []),
      ...(then ? [el("h3", {}, "Messages"), messages(view.messages), el("h3", {}, "Changes in the hour before"), changes(view), el("h3", {}, "Events in the hour before"), eventTable(view.events.toReversed(), then)] : []));
  }

  fill(root, el("h2", {}, "Explain"), form, status, found);
  return { load, refresh: query.q ? load : null, status };
}
