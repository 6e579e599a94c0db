"use strict";
// The page itself: reads the data, and ties filters, grid, lightbox and address together.

{
  const { byId, count, counted } = nebulaGallery.words;
  const { data, view, address, filters, grid, lightbox, facts } = nebulaGallery;
  const THEMES = ["system", "light", "dark"];
  const AGAIN_MS = 400;

  let query = address.read().query;
  let isComplete = false;

  const isEverything = () => Object.entries(query).every(([name, given]) => given === address.NOTHING[name]);
  const notice = (text) => { byId("notice").textContent = text; };

  // What is found

  function tellCount(found) {
    const total = data.run.items;
    const loading = isComplete ? "" : ` (${count(data.rows.length)} read so far)`;
    byId("count").textContent = `${isEverything() ? "" : `${count(found)} of `}${counted(total, "item", "items")}${loading}`;
  }

  function tellNothing(found) {
    byId("nothing").hidden = found > 0 || !isComplete;
    byId("nothing").textContent = data.rows.length
      ? "No item matches. Search for fewer words, or clear the filters."
      : "No item has been sent yet. Pictures and failures are here once the job has run.";
  }

  async function refresh({ isSame = false } = {}) {
    byId("grid").ariaBusy = "true";
    const found = await view.find(query);
    if (!found) return false;
    byId("grid").ariaBusy = "false";
    grid.show(found.items, { isSame: isSame && isEverything() });
    filters.offerAll(found.counts, query);
    tellCount(found.items.length);
    tellNothing(found.items.length);
    return true;
  }

  async function search(asked) {
    query = asked;
    address.write(query, null);
    if (await refresh()) grid.toTop();
  }

  // The lightbox, and what is open in the address

  function open(place, { isNew = true } = {}) {
    lightbox.open(place, grid.items);
    address.write(query, data.name(data.rows[grid.items[place]]), { isNew });
  }

  function closed(place) {
    if (history.state?.isOver) history.back();
    else address.write(query, null);
    grid.visit(place);
  }

  function openNamed(name) {
    const place = grid.items.findIndex((item) => data.name(data.rows[item]) === name);
    if (place >= 0) open(place, { isNew: false });
    else notice(`Item ${name} is not among those that are shown.`);
  }

  async function follow() {
    const { query: asked, open: name } = address.read();
    address.write(asked, name); // where the address was of no view, it is of one again
    if (name === null && lightbox.isOpen) lightbox.close();
    if (JSON.stringify(asked) !== JSON.stringify(query)) {
      query = asked;
      filters.write(query);
      await refresh();
    }
    if (name !== null) openNamed(name);
  }

  // Keys and theme

  /** Lead to the pictures; the address keeps the view. */
  function skip(event) {
    event.preventDefault();
    byId("grid").focus();
  }

  const isTyping = (target) => target.matches("input, select, textarea");

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape" && event.target === byId("q") && byId("q").value === "") byId("grid").focus();
    if (isTyping(event.target) || !["/", "?"].includes(event.key)) return;
    event.preventDefault();
    if (event.key === "/") byId("q").select();
    else byId("keys").showModal();
  }

  function useTheme(theme) {
    document.documentElement.dataset.theme = theme;
    byId("theme").textContent = `Theme: ${theme}`;
  }

  function remembered(theme) {
    try {
      if (theme) localStorage.setItem("nebula-gallery-theme", theme);
      return localStorage.getItem("nebula-gallery-theme");
    } catch {
      return theme; // a browser that keeps nothing for pages from a disk
    }
  }

  function startTheme() {
    useTheme(THEMES.find((theme) => theme === remembered()) ?? "system");
    byId("theme").addEventListener("click", () => {
      const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
      remembered(next);
      useTheme(next);
    });
  }

  // The beginning

  function startControls() {
    filters.watch(search);
    filters.write(query);
    grid.start(open);
    lightbox.start((place) => address.write(query, data.name(data.rows[grid.items[place]])), closed);
    document.querySelector(".skip").addEventListener("click", skip);
    byId("show-keys").addEventListener("click", () => byId("keys").showModal());
    addEventListener("keydown", onKey);
    addEventListener("popstate", follow);
  }

  /** Read the items; show the first ones at once, and again now and then while more of them come. */
  async function readItems(chunks) {
    let shown = -Infinity;
    const missing = await data.readItems(chunks, () => {
      if (performance.now() - shown < AGAIN_MS) return;
      shown = performance.now();
      refresh({ isSame: true });
    });
    isComplete = true;
    await refresh({ isSame: true });
    if (missing) notice(`${counted(missing, "part", "parts")} of the data cannot be read, so items are missing here. ${data.REMEDY}`);
  }

  async function start() {
    startTheme();
    try {
      const run = await data.readSummary();
      facts.show(run);
      startControls();
      await readItems(run.chunks);
    } catch (error) {
      notice(error.message);
      byId("controls").hidden = true;
      return;
    }
    performance.mark("gallery-complete");
    const { open: name } = address.read();
    if (name !== null) openNamed(name);
  }

  start();
}
