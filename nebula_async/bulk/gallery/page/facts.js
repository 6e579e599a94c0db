"use strict";
// What the run did and cost, above the pictures.

{
  const { byId, element, isGiven, count, counted, excerpt, duration, money, period, span } = nebulaGallery.words;
  const { chart, chartRows } = nebulaGallery.chart;

  function fact(name, value, note, kind) {
    return element("div", { class: kind }, element("dt", {}, name), element("dd", {}, value, isGiven(note) ? element("small", {}, note) : null));
  }

  const MOST_CAUSES = 3;

  const failed = (items) => (items ? element("a", { href: "#status=failed" }, count(items)) : count(items));

  const failures = (report) => (report.rejected ?? 0) + (report.bad ?? 0) + (report.unknown ?? 0);

  function cost(report) {
    if (!isGiven(report.cost_at_least)) return null;
    const unpriced = report.pictures_without_price;
    return fact("Cost", sum(report), unpriced ? `and ${counted(unpriced, "picture", "pictures")} at a price not known` : null);
  }

  const sum = ({ cost_at_least: least, cost_at_most: most }) => span(least, most, (usd) => money(usd, { isSum: true }));

  const isKnown = (latency) => latency?.p50_seconds != null;

  function* facts(report) {
    const left = (report.waiting ?? 0) + (report.unfetched ?? 0);
    if (isGiven(report.done)) yield fact("Done", count(report.done), isGiven(report.items) ? `of ${counted(report.items, "item", "items")}` : null);
    if (isGiven(report.done)) yield fact("Failed", failed(failures(report)), report.unknown ? `${count(report.unknown)} with unknown outcome` : null, failures(report) ? "bad" : null);
    if (left) yield fact("Left", count(left), report.unfetched ? `${count(report.unfetched)} paid, to be fetched` : null);
    yield cost(report);
    const seconds = (report.timeline ?? []).reduce((total, slice) => total + slice.seconds, 0);
    if (seconds) yield fact("Time", duration(seconds), `${count(Math.round((60 * (report.pictures ?? 0)) / seconds))} pictures a minute`);
    if (isKnown(report.latency)) yield fact("Latency", duration(report.latency.p50_seconds), `90\u00a0% in ${duration(report.latency.p90_seconds)}, 99\u00a0% in ${duration(report.latency.p99_seconds)}`);
  }

  function table(caption, names, rows) {
    const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name)));
    const body = rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
    const made = element("table", {}, element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, ...body));
    return element("div", { class: "scrolls", tabindex: "0", role: "region", "aria-label": caption }, made);
  }

  function models(given) {
    const rows = given.map((each) => [
      each.model, count(each.items ?? 0), count(each.done ?? 0), count(each.failed ?? 0), count(each.pictures ?? 0),
      isGiven(each.cost_at_least) ? sum(each) : "",
    ]);
    return table("By model", ["Model", "Items", "Done", "Failed", "Pictures", "Cost"], rows);
  }

  function causes(given) {
    const rows = given.map((each) => [count(each.items ?? 0), each.cause ?? "", each.error ?? "", each.next_step ?? ""]);
    return table("By cause of failure", ["Items", "Cause", "For example", "What to do"], rows);
  }

  /** Return the most frequent causes as lines; the table has all of them. */
  function shortCauses(given) {
    const lines = given.slice(0, MOST_CAUSES).map(({ items, cause, error, next_step: step }) => {
      const why = element("span", { dir: "auto", title: cause }, excerpt(error || cause || "", 160));
      return element("li", {}, element("b", {}, `${count(items ?? 0)}×`), why, isGiven(step) ? element("span", { class: "step" }, step) : null);
    });
    const more = given.length - lines.length;
    return more > 0 ? [...lines, element("li", {}, `and ${counted(more, "other cause", "other causes")}, below`)] : lines;
  }

  function latencies({ requests, ...latency }) {
    const shares = { p50_seconds: "half of them", p90_seconds: "90 %", p99_seconds: "99 %", longest_seconds: "all" };
    const rows = Object.entries(shares).filter(([name]) => latency[name] != null).map(([name, share]) => [share, duration(latency[name])]);
    return table(`Latency of ${counted(requests ?? 0, "request", "requests")}`, ["Requests", "Answered within"], rows);
  }

  function course(slices) {
    return table("Over the run", ["Begun", "Pictures a minute", "Median latency", "Failures", "Refusals"], chartRows(slices));
  }

  function* tables({ causes: found, models: used, latency, timeline }) {
    if (found?.length) yield causes(found);
    if (used?.length) yield models(used);
    if (isKnown(latency)) yield latencies(latency);
    if (timeline?.length) yield course(timeline);
  }

  function* notices({ omitted }, { stopped_by: stop, next_step: step }) {
    if (stop) yield `The run was stopped: ${stop}. ${step ?? ""}`;
    if (omitted) yield `${counted(omitted, "picture is", "pictures are")} not shown: of so many, failures and the newest come first.`;
  }

  /** Show what is known of a run; what is not known is left out. */
  function show(run) {
    const report = run.report ?? {};
    document.title = `${run.title} · gallery`;
    byId("title").textContent = run.title;
    byId("subtitle").textContent = period(report.started, report.ended);
    byId("facts").replaceChildren(...[...facts(report)].filter(Boolean));
    byId("causes").replaceChildren(...shortCauses(report.causes ?? []));
    byId("chart").hidden = !report.timeline?.length;
    if (report.timeline?.length) byId("chart").replaceChildren(...chart(report.timeline));
    byId("tables").replaceChildren(...tables(report));
    byId("about").hidden = !byId("tables").hasChildNodes();
    byId("notice").textContent = [...notices(run, report.this_run ?? {})].join(" ");
  }

  nebulaGallery.facts = { show };
}
