"use strict";
// The search field and the filters: what they offer, and the query that they make.

{
  const { byId, element, count } = nebulaGallery.words;
  const { STATES, SORTS, FAILED } = nebulaGallery.view;
  const NAMES = ["q", "status", "model", "size", "seed", "sort"];
  const MOST_SEEDS = 100;
  const SEARCH_AFTER_MS = 90;
  const NARROW = matchMedia("(width < 480px)"); // there the count leaves no room for more
  const HINTS = { true: "Search", false: "Search prompts, ids, file names" };

  const LABELS = {
    status: (value) => (value === FAILED ? "All failures" : STATES[value] ?? value),
    size: (value) => value.replace("×", " × "),
    model: (value) => value,
  };

  function option(value, text) {
    return element("option", { value }, text);
  }

  const byNumber = ([, one], [, other]) => other - one;

  /** Return the values of a filter: those that occurred first of all, and the one that is chosen. */
  function values(name, known, chosen) {
    if (chosen) known.add(chosen);
    if (name !== "status") return [...known].sort();
    const others = [...known].filter((value) => !["done", FAILED, "urls", "sent", "pending"].includes(value));
    const ranks = [FAILED, ...Object.keys(STATES)].filter((value) => known.has(value));
    return others.length > 1 || chosen === FAILED ? ranks : ranks.filter((value) => value !== FAILED);
  }

  const known = { status: new Set(), model: new Set(), size: new Set() };

  function offer(name, counts, chosen) {
    for (const value of counts.keys()) known[name].add(value);
    const total = [...counts].reduce((sum, [value, number]) => sum + (value === FAILED ? 0 : number), 0);
    const offered = values(name, known[name], chosen);
    const labelled = offered.map((value) => [value, `${LABELS[name](value)} (${count(counts.get(value) ?? 0)})`]);
    const select = byId(name);
    select.replaceChildren(new Option(`All (${count(total)})`, ""), ...labelled.map(([value, text]) => option(value, text)));
    select.value = chosen;
    select.disabled = offered.length < 2 && !chosen;
  }

  function offerSeeds(counts) {
    const most = counts.size > 5000 ? [] : [...counts].sort(byNumber).slice(0, MOST_SEEDS);
    const labelled = most.map(([value, number]) => ({ value, label: `${value} (${count(number)})` }));
    byId("seeds").replaceChildren(...labelled.map((attributes) => element("option", attributes)));
    byId("seed").disabled = counts.size === 0 && !byId("seed").value;
  }

  /** Offer what occurs, with how many there are beside what else is chosen. */
  function offerAll(counts, query) {
    for (const name of ["status", "model", "size"]) offer(name, counts[name], query[name]);
    offerSeeds(counts.seed);
    byId("clear").hidden = NAMES.every((name) => name === "sort" || !query[name]);
  }

  const read = () => Object.fromEntries(NAMES.map((name) => [name, byId(name).value.trim()]));

  function write(query) {
    for (const name of NAMES) {
      const field = byId(name);
      if (field.value.trim() === query[name]) continue;
      field.value = query[name];
      if (field.value === query[name] || !field.matches("select")) continue;
      field.append(option(query[name], query[name])); // its options are not known yet
      field.value = query[name];
    }
  }

  function hint() {
    byId("q").placeholder = HINTS[NARROW.matches];
  }

  /** Call `onChange` with the query whenever it changes; while somebody types, a moment later. */
  function watch(onChange) {
    const form = byId("controls");
    let timer = 0;
    const change = (wait) => {
      clearTimeout(timer);
      byId("grid").ariaBusy = "true";
      timer = setTimeout(() => onChange(read()), wait);
    };
    byId("sort").replaceChildren(...Object.entries(SORTS).map(([name, { label }]) => option(name, label)));
    form.addEventListener("input", (event) => change(event.target.matches("select") ? 0 : SEARCH_AFTER_MS));
    byId("show-filters").addEventListener("click", ({ target }) => {
      target.ariaExpanded = form.classList.toggle("open");
    });
    NARROW.addEventListener("change", hint);
    hint();
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => change(0));
  }

  nebulaGallery.filters = { offerAll, write, watch };
}
