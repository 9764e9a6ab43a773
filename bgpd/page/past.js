// The host at a time: sessions, BFD and drain as the journal tells of that moment; counts, groups and uplinks as the
// history has them, seen some seconds before.

import { ask } from "./api.js";
import { stamp } from "./dom.js";
import { moment } from "./place.js";
import { neighborsOf } from "./view.js";

const ENDS = ["session.closed", "session.failed", "session.not_adopted"];
const BEGINS = ["session.established", "session.adopted"];
const RUNS = ["bgpd.started", "bgpd.readiness", "bgpd.starting", "bgpd.stopping", "bgpd.stopped"];

const last = (events, names) => events.findLast((event) => names.includes(event.event));

/** An overview of that time, as far as the journal goes back; what it does not tell of is null. */
export async function overviewAt(at, now, signal) {
  const found = {};
  const kept = ask("past/overview", { at: moment(at) }, signal).catch(() => null);
  for (const event of ["session", "bfd", "bgpd", "drain"]) found[event] = await ask("events", { until: at, limit: 1000, event }, signal);
  const { session: sessions, bfd, bgpd: runs, drain: drains } = found;
  const seen = (await kept)?.overview ?? null;
  const names = new Set([...(now?.neighbors ?? []), ...(seen?.neighbors ?? [])].map((one) => one.name));
  for (const event of sessions) if (event.fields.neighbor) names.add(event.fields.neighbor);
  const present = [...(seen ? neighborsOf(seen) : []), ...(now ? neighborsOf(now).map((one) => ({ ...one, families: undefined })) : [])];
  const neighbors = [...names].map((name) => neighborAt(name, sessions, bfd, present)).filter(Boolean);
  const run = last(runs, RUNS);
  const drain = last(drains, ["drain.ordered", "drain.restored", "drain.done", "drain.ended"]);
  const past = {
    isPast: true, detail: "", neighbors, neighbors_total: neighbors.length,
    lookedAt: seen ? (await kept).looked_at : null, tables: seen?.tables ?? null, groups: seen?.groups ?? null, uplinks: seen?.uplinks ?? null,
    workloads: seen?.workloads ?? null, services: seen?.services ?? null,
    health: { hostname: now?.health.hostname ?? "", version: seen?.health.version ?? "", warnings: seen?.health.warnings ?? [] },
    drain: { state: !drain || drain.event === "drain.ended" ? "off" : drain.event === "drain.done" ? "drained" : "draining", waiting_for: [] },
  };
  const { level, text } = verdictAt(at, past, run);
  if (level === "ok" && seen && seen.level !== "ok") return { ...past, level: seen.level, verdict: `${text} ${seen.verdict}${seen.detail ? `: ${seen.detail}` : ""}.` };
  return { ...past, level, verdict: text };
}

function neighborAt(name, sessions, bfd, present) {
  const mine = sessions.filter((one) => one.fields.neighbor === name && [...BEGINS, ...ENDS].includes(one.event));
  const event = mine.at(-1);
  const ended = mine[mine.findLastIndex((one) => BEGINS.includes(one.event)) + 1]; // attempts may have failed since
  const detection = last(bfd.filter((one) => one.fields.neighbor === name), ["bfd.up", "bfd.down", "bfd.admin_down"]);
  const known = present.find((one) => one.name === name);
  if (!event && !known) return null;
  const isUp = event !== undefined && BEGINS.includes(event.event);
  return {
    name, address: known?.address ?? "", interface: known?.interface ?? "", asn: known?.asn ?? "", vrf: known?.vrf ?? "",
    guest: known?.guest ?? "", state: event ? (isUp ? "established" : "down") : "unknown", since: (isUp ? event : ended)?.at ?? null,
    bfd: detection ? detection.event.slice(4).replace("_", "-") : "",
    last_error: event && !isUp ? String(event.fields.reason ?? "") : "",
    families: isUp ? known?.families : undefined, without_next_hop: known?.without_next_hop ?? [],
  };
}

function verdictAt(at, past, run) {
  const known = past.neighbors.filter((one) => !one.guest && one.state !== "unknown");
  const down = known.filter((one) => one.state !== "established");
  const when = `At ${stamp(at)}`;
  if (run && ["bgpd.stopped", "bgpd.stopping"].includes(run.event)) return { level: "critical", text: `${when}: bgpd did not run.` };
  if (!run && !known.length) return { level: "unknown", text: `${when}: the journal does not go back that far.` };
  if (past.drain.state !== "off") return { level: "warning", text: `${when}: this host was ${past.drain.state}, as was ordered.` };
  const reason = run?.event === "bgpd.readiness" && !run.fields.ready ? `not ready: ${run.fields.reason}; ` : "";
  if (down.length) {
    const told = down.slice(0, 3).map((one) => (one.last_error ? `${one.name} (${one.last_error})` : one.name)).join(", ");
    const level = reason || down.length === known.length ? "critical" : "warning";
    return { level, text: `${when}: ${reason}${known.length - down.length} of ${known.length} neighbors; down: ${told}.` };
  }
  if (reason) return { level: "critical", text: `${when}: ${reason}${known.length} of ${known.length} neighbors.` };
  return { level: "ok", text: `${when}: ${known.length} of ${known.length} neighbors, as the journal tells.` };
}
