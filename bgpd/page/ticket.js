// "Copy for ticket": what the page shows, as plain text for people who do not see it.

import { age, number, printable, stamp, stampZone } from "./dom.js";
import { chainOf } from "./explain.js";
import { eventLine } from "./journal.js";
import { neighborsOf, verdictOf, withheldOf } from "./view.js";

export function ticketText({ view, events, explained, at, now, query }) {
  const lines = [`${view.health.hostname} bgpd ${view.health.version}`.trim(), `at ${stampZone(at ?? now)}${at ? `, from journal and history; seen at ${stamp(now)}` : ""}`, "", verdictOf(view, events), ""];
  for (const one of neighborsOf(view, events)) {
    lines.push(`neighbor ${one.name} AS ${one.asn} ${one.state} ${one.since ? `for ${age(one.since, at ?? now)}` : ""}${one.bfd ? ` BFD ${one.bfd}` : ""}`
      + `${one.received === undefined ? "" : ` received ${number(one.received)} announced ${number(one.announced)}`}${one.last_error ? ` last error: ${one.last_error}` : ""}`);
  }
  for (const one of view.tables ?? []) {
    lines.push(`kernel routes ${one.vrf ? `VRF ${one.vrf}` : "main"}: wanted ${number(one.desired)} installed ${number(one.installed)} waiting ${number(one.pending)} refused ${number(one.failed)} blocked ${number(one.blocked)}`);
  }
  for (const text of view.workloads ? withheldOf(view) : []) lines.push(`withheld: ${text}`);
  for (const text of view.health.warnings) lines.push(`warning: ${text}`);
  if (query.view === "explain" && explained) {
    lines.push("", `explain ${explained.address}${explained.vrf ? ` in VRF ${explained.vrf}` : ""}: ${explained.verdict}`);
    for (const step of chainOf(explained)) lines.push(`  ${step.level === "ok" ? "ok" : step.level.toUpperCase()} ${step.title}: ${step.lines.join("; ")}`);
  }
  lines.push("", "last events:", ...events.slice(0, 20).toReversed().map(eventLine), "", location.href);
  return printable(lines.join("\n"));
}

/** Shows the text, and copies it where the browser lets a page do that. */
export async function copyTicket(text) {
  const dialog = document.getElementById("ticket-dialog");
  const area = document.getElementById("ticket-text");
  const status = document.getElementById("ticket-status");
  area.value = text;
  status.textContent = "";
  dialog.showModal();
  try {
    await navigator.clipboard.writeText(text);
    status.textContent = "It is in the clipboard.";
  } catch {
    area.select();
    status.textContent = "Copy the marked text.";
  }
}
