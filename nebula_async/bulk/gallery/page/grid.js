"use strict";
// The pictures: only the lines in and near the window are elements, and tiles that leave it are used again.

{
  const { byId, element, excerpt } = nebulaGallery.words;
  const { data, layout, view } = nebulaGallery;
  const { value, isFailed, isPicture } = data;
  const MARGIN = 500; // pixels kept ready above and below the window
  const SHOWN_CHARACTERS = 300;
  const FAST = 6; // pixels a millisecond: faster than anyone can look, so pictures wait until it slows down
  const SETTLED_MS = 80;

  const grid = byId("grid");
  const lines = new Map(); // line → its element
  const spare = [];
  const waiting = new Set();
  let laid = layout.layOut([], 0);
  let active = 0;
  let opens = () => {};

  // Tiles

  const shortly = (row, name) => excerpt(value(row, name) ?? "", SHOWN_CHARACTERS);
  const stateOf = (row) => view.STATES[value(row, "state")] ?? value(row, "state") ?? "";

  function showPicture(image) {
    [image.src] = image.sources;
  }

  function fillPicture(tile, row, isFast) {
    const image = tile.querySelector("img");
    image.sources = [data.thumbnailAddress(row), data.pictureAddress(row)].filter(Boolean);
    image.alt = shortly(row, "prompt");
    if (isFast) waiting.add(image);
    else showPicture(image);
  }

  function fillFailure(tile, row) {
    const [state, problem] = tile.querySelector(".failure").children;
    state.textContent = stateOf(row);
    problem.textContent = shortly(row, "error") || shortly(row, "cause");
  }

  function fill(cell, { place, left, width }, column, isFast) {
    const row = data.rows[laid.items[place]];
    const tile = cell.firstElementChild;
    cell.style.transform = `translateX(${left}px)`;
    cell.style.width = `${width}px`;
    cell.ariaColIndex = column + 1;
    tile.dataset.place = place;
    tile.tabIndex = place === active ? 0 : -1;
    tile.className = isPicture(row) ? "tile picture" : `tile card ${isFailed(row) ? "failed" : ""}`;
    tile.querySelector(".caption").textContent = shortly(row, "prompt");
    tile.ariaLabel = isPicture(row) ? null : `${stateOf(row)}: ${shortly(row, "prompt")}. ${shortly(row, "error")}`;
    if (isPicture(row)) fillPicture(tile, row, isFast);
    else fillFailure(tile, row);
  }

  function emptied(cell) {
    const image = cell.querySelector("img");
    waiting.delete(image);
    image.removeAttribute("src"); // also ends its loading
    image.className = "";
    return cell;
  }

  const newCell = () => byId("tile").content.firstElementChild.cloneNode(true);

  // Lines

  const lineHeight = (line) => laid.heights[line] + layout.CAPTION;
  const pageTop = (line) => scrollY + grid.getBoundingClientRect().top + laid.tops[line];

  function addLine(line, isFast) {
    const made = element("div", { role: "row", class: "line", "aria-rowindex": line + 1 });
    made.style.transform = `translateY(${laid.tops[line]}px)`;
    made.style.height = `${lineHeight(line)}px`;
    const tiles = layout.tiles(laid, line);
    const cells = tiles.map(() => spare.pop() ?? newCell());
    cells.forEach((cell, column) => fill(cell, tiles[column], column, isFast));
    made.append(...cells);
    lines.set(line, made);
    return made;
  }

  function removeLine(line) {
    spare.push(...[...lines.get(line).children].map(emptied));
    lines.get(line).remove();
    lines.delete(line);
  }

  /** Put the lines of the window into the page, in order, for a screen reader reads them so. */
  function showLines(first, last, isFast) {
    for (const [line, shown] of lines) {
      if ((line < first || line > last) && !shown.contains(document.activeElement)) removeLine(line);
    }
    const added = [];
    for (let line = first; line <= last; line += 1) if (!lines.has(line)) added.push(addLine(line, isFast));
    if (added.length) for (const [, shown] of [...lines].sort(([one], [other]) => one - other)) placeLast(shown);
    makeReachable(first);
  }

  let previous = null;

  function placeLast(shown) {
    const after = previous?.parentNode === grid ? previous.nextSibling : grid.firstChild;
    if (after !== shown) grid.insertBefore(shown, after);
    previous = shown;
  }

  /** See to it that Tab leads to a tile, also when the one that was visited last is far away. */
  function makeReachable(first) {
    if (!laid.items.length || lines.has(layout.lineOf(laid, active)) || grid.contains(document.activeElement)) return;
    setActive(laid.starts[Math.min(first + 1, laid.starts.length - 1)]);
  }

  // Scrolling

  let [lastY, lastTime, settling, isQueued] = [0, 0, 0, false];

  function speed() {
    const [y, time] = [scrollY, performance.now()];
    const found = Math.abs(y - lastY) / Math.max(time - lastTime, 1);
    [lastY, lastTime] = [y, time];
    return found;
  }

  function settle() {
    for (const image of waiting) showPicture(image);
    waiting.clear();
  }

  function render() {
    isQueued = false;
    if (!laid.items.length) return;
    const top = -grid.getBoundingClientRect().top;
    const isFast = speed() > FAST;
    previous = null;
    showLines(layout.lineAt(laid, top - MARGIN), layout.lineAt(laid, top + innerHeight + MARGIN), isFast);
    clearTimeout(settling);
    if (waiting.size) settling = setTimeout(settle, SETTLED_MS);
  }

  function queueRender() {
    if (isQueued) return;
    isQueued = true;
    requestAnimationFrame(render);
  }

  /** Show these items; `isSame` says that they are those of before and more, so that nothing moves. */
  function show(items, { isSame = false } = {}) {
    const shown = isSame ? null : [...lines.keys()];
    laid = layout.layOut(items, grid.clientWidth);
    for (const line of shown ?? linesFrom(laid)) removeLine(line);
    if (!isSame) active = 0;
    grid.style.height = `${laid.bottom}px`;
    grid.ariaRowCount = laid.starts.length;
    render();
  }

  /** Return the lines that are shown and may have changed: the last one, to which tiles may have been added. */
  function linesFrom({ starts }) {
    const tilesOf = (line) => (starts[line + 1] ?? laid.items.length) - starts[line];
    return [...lines.keys()].filter((line) => lines.get(line).childElementCount !== tilesOf(line));
  }

  function resize() {
    if (grid.clientWidth === laid.width) return;
    const top = -grid.getBoundingClientRect().top;
    const kept = top > 0 ? laid.starts[layout.lineAt(laid, top)] : undefined;
    const [items, was] = [laid.items, active];
    show(items);
    active = was;
    for (const tile of grid.querySelectorAll(".tile")) tile.tabIndex = Number(tile.dataset.place) === active ? 0 : -1;
    if (kept !== undefined) scrollTo(0, pageTop(layout.lineOf(laid, kept)));
  }

  /** Keep clear of the bar with the filters, where it stays at the top. */
  function keepBelow([{ target }]) {
    grid.style.scrollMarginTop = `${getComputedStyle(target).position === "sticky" ? target.offsetHeight : 0}px`;
  }

  // Keys

  const tileAt = (place) => grid.querySelector(`.tile[data-place="${place}"]`);

  function setActive(place) {
    tileAt(active)?.setAttribute("tabindex", "-1");
    active = place;
    tileAt(place)?.setAttribute("tabindex", "0");
  }

  /** Scroll to a place, below the bar that stays at the top, and move the focus there. */
  function visit(place) {
    const line = layout.lineOf(laid, place);
    const top = pageTop(line) - parseFloat(grid.style.scrollMarginTop);
    const bottom = pageTop(line) + lineHeight(line);
    if (top < scrollY) scrollTo(0, top);
    else if (bottom > scrollY + innerHeight) scrollTo(0, bottom - innerHeight + layout.GAP);
    setActive(place);
    render();
    tileAt(place)?.focus({ preventScroll: true });
  }

  function inLine(step) {
    const line = layout.lineOf(laid, active) + step;
    return layout.nearest(laid, active, Math.min(Math.max(line, 0), laid.starts.length - 1));
  }

  const pageStep = () => Math.max(1, Math.floor(innerHeight / lineHeight(layout.lineOf(laid, active))) - 1);

  const MOVES = {
    ArrowRight: () => Math.min(active + 1, laid.items.length - 1),
    ArrowLeft: () => Math.max(active - 1, 0),
    ArrowDown: () => inLine(1),
    ArrowUp: () => inLine(-1),
    PageDown: () => inLine(pageStep()),
    PageUp: () => inLine(-pageStep()),
    Home: () => 0,
    End: () => laid.items.length - 1,
  };

  function onKey(event) {
    if (!laid.items.length || event.ctrlKey || event.metaKey || event.altKey || !MOVES[event.key]) return;
    event.preventDefault();
    visit(MOVES[event.key]());
  }

  function onImage({ type, target }) {
    if (!target.sources || !target.hasAttribute("src")) return;
    target.className = type === "load" ? "here" : "gone";
    if (type === "error" && target.sources.length > 1) {
      target.sources = target.sources.slice(1);
      showPicture(target);
    }
  }

  /** Begin; `onOpen` is called with the place of a tile that was chosen. */
  function start(onOpen) {
    opens = onOpen;
    addEventListener("scroll", queueRender, { passive: true });
    new ResizeObserver(resize).observe(grid);
    new ResizeObserver(keepBelow).observe(byId("controls"));
    addEventListener("resize", queueRender);
    grid.addEventListener("keydown", onKey);
    grid.addEventListener("load", onImage, true);
    grid.addEventListener("error", onImage, true);
    grid.addEventListener("focusin", ({ target }) => target.dataset.place && setActive(Number(target.dataset.place)));
    grid.addEventListener("focus", () => laid.items.length && visit(active));
    grid.addEventListener("click", ({ target }) => {
      const tile = target.closest(".tile");
      if (tile) opens(Number(tile.dataset.place));
    });
  }

  /** Scroll back to the first line, where it is above the window. */
  function toTop() {
    if (grid.getBoundingClientRect().top < parseFloat(grid.style.scrollMarginTop)) grid.scrollIntoView();
  }

  nebulaGallery.grid = { start, show, visit, toTop, get items() { return laid.items; } };
}
