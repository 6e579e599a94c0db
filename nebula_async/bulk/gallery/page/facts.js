"use strict";
// What the run did and cost, above the pictures; what is not known is left out.

{
  const { byId, element, isGiven, count, counted, excerpt, duration, money, period, span } = nebulaGallery.words;
  const { chart, chartRows } = nebulaGallery.chart;
  const MOST_CAUSES = 3;
  const LONGEST_CAUSE = 160;

  // Facts

  function fact(name, value, note = null, kind = null) {
    const told = element("dd", {}, value, note && element("small", {}, note));
    return element("div", { class: kind }, element("dt", {}, name), told);
  }

  const sum = ({ cost_at_least: least, cost_at_most: most }) => span(least, most, (usd) => money(usd, { isSum: true }));
  const isKnown = (latency) => latency?.p50_seconds != null;

  function done({ done: items, items: total }) {
    return fact("Done", count(items), isGiven(total) ? `of ${counted(total, "item", "items")}` : null);
  }

  function failed({ rejected = 0, bad = 0, unknown = 0 }) {
    const items = rejected + bad + unknown;
    if (!items) return fact("Failed", "0");
    const link = element("a", { href: "#status=failed" }, count(items));
    return fact("Failed", link, unknown ? `${count(unknown)} with unknown outcome` : null, "bad");
  }

  function left({ waiting = 0, unfetched = 0 }) {
    return fact("Left", count(waiting + unfetched), unfetched ? `${count(unfetched)} paid, to be fetched` : null);
  }

  function cost(report) {
    const unpriced = report.pictures_without_price;
    return fact("Cost", sum(report), unpriced ? `and ${counted(unpriced, "picture", "pictures")} of unknown price` : null);
  }

  function time({ seconds, pictures = 0 }) {
    return fact("Time", duration(seconds), `${count(Math.round((60 * pictures) / Math.max(seconds, 1)))} pictures a minute`);
  }

  function latencyOf({ p50_seconds: half, p90_seconds: most, p99_seconds: nearly }) {
    return fact("Latency", duration(half), `90\u00a0% in ${duration(most)}, 99\u00a0% in ${duration(nearly)}`);
  }

  function* facts(report) {
    if (isGiven(report.done)) yield* [done(report), failed(report)];
    if (report.waiting || report.unfetched) yield left(report);
    if (isGiven(report.cost_at_least)) yield cost(report);
    if (report.seconds) yield time(report);
    if (isKnown(report.latency)) yield latencyOf(report.latency);
  }

  function shortCause({ items = 0, cause, error, next_step: step }) {
    const why = element("span", { dir: "auto", title: cause }, excerpt(error || cause || "", LONGEST_CAUSE));
    return element("li", {}, element("b", {}, `${count(items)}×`), why, step && element("span", { class: "step" }, step));
  }

  /** Return the most frequent causes as lines; the table has all of them. */
  function shortCauses(given) {
    const more = given.length - MOST_CAUSES;
    const lines = given.slice(0, MOST_CAUSES).map(shortCause);
    return more > 0 ? [...lines, element("li", {}, `and ${counted(more, "other cause", "other causes")}, below`)] : lines;
  }

  // Tables

  function table(caption, names, rows) {
    const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name)));
    const body = rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
    const parts = [element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, ...body)];
    const attributes = { class: "scrolls", tabindex: "0", role: "region", "aria-label": caption };
    return element("div", attributes, element("table", {}, ...parts));
  }

  function models(given) {
    const rows = given.map((each) => [
      each.model, count(each.items ?? 0), count(each.done ?? 0), count(each.failed ?? 0), count(each.pictures ?? 0),
      isGiven(each.cost_at_least) ? sum(each) : "",
    ]);
    return table("By model", ["Model", "Items", "Done", "Failed", "Pictures", "Cost"], rows);
  }

  function causes(given) {
    const rows = given.map((each) => [count(each.items ?? 0), each.cause, each.error, each.next_step]);
    return table("By cause of failure", ["Items", "Cause", "For example", "What to do"], rows);
  }

  function latencies({ requests, ...latency }) {
    const shares = { p50_seconds: "half of them", p90_seconds: "90 %", p99_seconds: "99 %", longest_seconds: "all" };
    const known = Object.entries(shares).filter(([name]) => latency[name] != null);
    const rows = known.map(([name, share]) => [share, duration(latency[name])]);
    return table(`Latency of ${counted(requests ?? 0, "request", "requests")}`, ["Requests", "Answered within"], rows);
  }

  function course(slices) {
    const names = ["Begun", "Pictures a minute", "Median latency", "Failures", "Refusals"];
    return table("Over the run", names, chartRows(slices));
  }

  function* tables({ causes: found, models: used, latency, timeline }) {
    if (found?.length) yield causes(found);
    if (used?.length) yield models(used);
    if (isKnown(latency)) yield latencies(latency);
    if (timeline?.length) yield course(timeline);
  }

  function* notices({ omitted }, { stopped_by: stop, next_step: step }) {
    if (stop) yield `The run was stopped: ${stop.replace(/\.$/, "")}. ${step ?? ""}`;
    if (omitted) yield `${counted(omitted, "picture is", "pictures are")} not shown: of so many, failures and the newest come first.`;
  }

  /** Show what is known of a run. */
  function show(run) {
    const report = run.report ?? {};
    document.title = `${run.title} · gallery`;
    byId("title").textContent = run.title;
    byId("subtitle").textContent = period(report.started, report.ended);
    byId("facts").replaceChildren(...facts(report));
    byId("causes").replaceChildren(...shortCauses(report.causes ?? []));
    byId("chart").hidden = !report.timeline?.length;
    if (report.timeline?.length) byId("chart").replaceChildren(...chart(report.timeline));
    byId("tables").replaceChildren(...tables(report));
    byId("about").hidden = !byId("tables").hasChildNodes();
    byId("notice").textContent = [...notices(run, report.this_run ?? {})].join(" ");
  }

  nebulaGallery.facts = { show };
}
