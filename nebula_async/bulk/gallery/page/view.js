"use strict";
// Which items are shown, in which order. Long work is done in slices: no keystroke waits for it.

{
  const { rows, COLUMNS, value, isFailed, isPicture } = nebulaGallery.data;
  const SLICE_MS = 12;
  const STEPS = 500;

  const STATES = {
    done: "Done", rejected: "Refused, not charged", bad: "Paid, not usable", expired: "Paid, link expired",
    unknown: "Outcome unknown", urls: "Paid, still to fetch", sent: "Under way", pending: "To be sent",
  };
  const FAILED = "failed";

  const FACETS = {
    status: (row) => row[COLUMNS.state],
    model: (row) => row[COLUMNS.model] ?? null,
    size: (row) => (isPicture(row) && value(row, "width") ? `${value(row, "width")}×${value(row, "height")}` : null),
    seed: (row) => (value(row, "seed") === null ? null : String(value(row, "seed"))),
  };

  const descending = (name) => (row) => (value(row, name) === null ? Infinity : -Number(value(row, name)));
  const SORTS = {
    number: { label: "Number", key: null },
    newest: { label: "Newest first", key: descending("created") },
    oldest: { label: "Oldest first", key: (row) => value(row, "created") ?? Infinity },
    slowest: { label: "Slowest first", key: descending("seconds") },
    cost: { label: "Dearest first", key: descending("cost") },
    bytes: { label: "Largest file first", key: descending("bytes") },
    prompt: { label: "Prompt A–Z", key: (row) => fold(row[COLUMNS.prompt] ?? "") },
    seed: { label: "Seed", key: (row) => value(row, "seed") ?? Infinity },
  };

  const ASCII = /^[\x00-\x7f]*$/;

  /** Return a text as it is compared: without case, and without accents. */
  function fold(text) {
    const lower = text.toLowerCase();
    return ASCII.test(lower) ? lower : lower.normalize("NFKD").replace(/\p{M}+/gu, "");
  }

  const folded = [];

  /** Return what is searched of an item. */
  function searched(item) {
    const row = rows[item];
    const { prompt, id, file, number } = COLUMNS;
    folded[item] ??= fold([row[prompt], row[id], row[file], `#${row[number]}`].join("\n"));
    return folded[item];
  }

  /** Run a generator until it returns, letting the browser work in between; null where `isStale` says to stop. */
  async function inSlices(work, isStale) {
    for (;;) {
      const end = performance.now() + SLICE_MS;
      do {
        const step = work.next();
        if (step.done) return step.value;
      } while (performance.now() < end);
      await new Promise((resolve) => setTimeout(resolve));
      if (isStale()) return null;
    }
  }

  /** Sort item numbers by their keys; equal ones stay as they are. */
  function* sorted(keys) {
    let from = Uint32Array.from(keys, (_, item) => item);
    let to = new Uint32Array(keys.length);
    for (let width = 1; width < keys.length; width *= 2) {
      for (let start = 0; start < keys.length; start += 2 * width) {
        const middle = Math.min(start + width, keys.length);
        const end = Math.min(start + 2 * width, keys.length);
        for (let left = start, right = middle, place = start; place < end; place += 1) {
          const takesLeft = left < middle && (right >= end || !(keys[from[right]] < keys[from[left]]));
          to[place] = from[takesLeft ? left++ : right++];
          if (place % STEPS === 0) yield;
        }
      }
      [from, to] = [to, from];
    }
    return from;
  }

  const orders = new Map();

  function* order(sort) {
    const key = SORTS[sort]?.key;
    if (!key) return null;
    if (orders.get(sort)?.length === rows.length) return orders.get(sort);
    const keys = [];
    for (const row of [...rows]) {
      if (keys.push(key(row)) % STEPS === 0) yield;
    }
    orders.set(sort, yield* sorted(keys));
    return orders.get(sort);
  }

  function matches(name, wanted, row) {
    return name === "status" && wanted === FAILED ? isFailed(row) : FACETS[name](row) === wanted;
  }

  /** Find the items of a query, and count for each filter what it would leave if it alone were changed. */
  function* found({ q, sort, ...wanted }) {
    const words = fold(q).split(/\s+/).filter(Boolean);
    const filters = Object.keys(FACETS).filter((name) => wanted[name]);
    const counts = Object.fromEntries(Object.keys(FACETS).map((name) => [name, new Map()]));
    const sequence = yield* order(sort);
    const items = [];
    const total = rows.length;
    for (let place = 0; place < total; place += 1) {
      if (place % STEPS === 0) yield;
      const item = sequence ? sequence[place] : place;
      if (!words.every((word) => searched(item).includes(word))) continue;
      const missed = filters.filter((name) => !matches(name, wanted[name], rows[item]));
      if (missed.length === 0) items.push(item);
      tally(counts, missed, rows[item]);
    }
    return { items, counts };
  }

  function tally(counts, missed, row) {
    if (missed.length > 1) return;
    for (const name of missed.length ? missed : Object.keys(FACETS)) {
      const label = FACETS[name](row);
      if (label !== null) counts[name].set(label, (counts[name].get(label) ?? 0) + 1);
      if (name === "status" && isFailed(row)) counts.status.set(FAILED, (counts.status.get(FAILED) ?? 0) + 1);
    }
  }

  let latest = 0;

  /** Return the items and counts of a query, or null where a later query has taken its place. */
  function find(query) {
    const mine = (latest += 1);
    return inSlices(found(query), () => mine !== latest);
  }

  nebulaGallery.view = { find, STATES, SORTS, FAILED };
}
