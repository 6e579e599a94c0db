"use strict";
// Pictures a minute (bars) and median latency (line) over the run; the same as a table for those who hear or print it.

{
  const { element, count, counted, duration } = nebulaGallery.words;
  const [WIDTH, HEIGHT] = [600, 100];

  function shape(name, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  const perMinute = (slice) => (slice.seconds > 0 ? (60 * slice.pictures) / slice.seconds : 0);
  const rounded = (number) => (number < 10 ? number.toFixed(1) : count(Math.round(number)));
  const troubles = (slice) => (slice.failures ?? 0) + (slice.refusals ?? 0);

  function told(slice) {
    const latency = slice.p50_seconds == null ? "" : `, median ${duration(slice.p50_seconds)}`;
    const failures = slice.failures ? `, ${counted(slice.failures, "failure", "failures")}` : "";
    const refusals = slice.refusals ? `, ${counted(slice.refusals, "refusal", "refusals")}` : "";
    return `${rounded(perMinute(slice))} pictures a minute${latency}${failures}${refusals}`;
  }

  function bar(slice, place, slices, highest) {
    const step = WIDTH / slices.length;
    const height = (HEIGHT * perMinute(slice)) / highest;
    const hit = shape("rect", { class: "hit", x: place * step, y: 0, width: step, height: HEIGHT });
    const group = shape("g", {}, shape("title", {}, told(slice)), hit);
    const room = { x: place * step, width: Math.max(step * 0.8, 0.5) };
    group.append(shape("rect", { class: "bar", y: HEIGHT - height, height, ...room }));
    if (troubles(slice)) group.append(shape("rect", { class: "trouble", y: HEIGHT - 3, height: 3, ...room }));
    return group;
  }

  function line(slices, longest) {
    const step = WIDTH / slices.length;
    const points = slices.map((slice, place) => [(place + 0.5) * step, slice.p50_seconds]);
    const known = points.filter(([, seconds]) => seconds != null);
    const drawn = known.map(([x, seconds]) => [x, HEIGHT - (HEIGHT * 0.94 * seconds) / longest]);
    return shape("polyline", { class: "line", points: drawn.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ") });
  }

  function key(kind, text) {
    return element("span", { class: `key ${kind}` }, text);
  }

  /** Return the chart of the run's slices, to be put into a figure. */
  function chart(slices) {
    const highest = Math.max(...slices.map(perMinute), 1e-9);
    const longest = Math.max(...slices.map((slice) => slice.p50_seconds ?? 0), 1e-9);
    const [most, slowest] = [rounded(highest), duration(longest)];
    const label = `Over the run: at most ${most} pictures a minute; median latency at most ${slowest}.`;
    const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" };
    const drawing = shape("svg", { ...box, role: "img", "aria-label": label });
    drawing.append(...slices.map((slice, place) => bar(slice, place, slices, highest)), line(slices, longest));
    const keys = [key("bars", `pictures a minute, up to ${most}`), key("lines", `median latency, up to ${slowest}`)];
    if (slices.some(troubles)) keys.push(key("troubles", "failures, refusals"));
    return [drawing, element("figcaption", {}, ...keys)];
  }

  /** Return the same slices as rows of a table. */
  function chartRows(slices) {
    const begun = slices.reduce((starts, slice) => [...starts, starts.at(-1) + slice.seconds], [0]);
    return slices.map((slice, place) => [
      `after ${duration(begun[place])}`, rounded(perMinute(slice)),
      slice.p50_seconds == null ? "" : duration(slice.p50_seconds),
      count(slice.failures ?? 0), count(slice.refusals ?? 0),
    ]);
  }

  nebulaGallery.chart = { chart, chartRows };
}
