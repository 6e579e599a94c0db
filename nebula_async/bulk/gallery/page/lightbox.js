"use strict";
// One item, large, with everything that is known of it, and the way to those before and after it.

{
  const { byId, element, isGiven, count, counted, duration, excerpt, money, size, span, when } = nebulaGallery.words;
  const { data, view, command } = nebulaGallery;
  const { value } = data;
  const box = byId("lightbox");
  const TURNS = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
  const LONGEST_ALT = 500;
  const LONGEST_ERROR = 2000;
  const LABELS = {
    num_steps: "Steps", n: "Pictures asked for", size: "Size asked for", width: "Width asked for",
    height: "Height asked for",
  };
  const GONE = "it was moved or removed, or its store cannot be reached or wants a key.";

  let place = 0;
  let items = [];
  let onTurn = () => {};

  // What is told

  const written = (given) => (typeof given === "object" ? JSON.stringify(given) : String(given));
  const dimensions = (row) => (value(row, "width") ? `${value(row, "width")} × ${value(row, "height")}` : null);

  const label = (name) => LABELS[name] ?? (name.charAt(0).toUpperCase() + name.slice(1)).replaceAll("_", " ");

  function charges(row) {
    const least = value(row, "chargesAtLeast");
    const most = value(row, "chargesAtMost") ?? least;
    return least === null ? null : `${span(least, most, count)} ${most === 1 ? "picture" : "pictures"}`;
  }

  /** Tell what else was asked for; width and height are told already, where the picture has them. */
  function parameters(row) {
    const isNew = ([name, asked]) => isGiven(asked) && asked !== value(row, name);
    const given = Object.entries(data.parameters(row)).filter(isNew);
    return given.map(([name, asked]) => [label(name), written(asked)]);
  }

  /** Return everything that is told of an item, in pairs. */
  function facts(row) {
    const [first, last] = [madeOf(row), cameOf(row)].map(Object.entries);
    return [...first, ...parameters(row), ...last].filter(([, told]) => isGiven(told));
  }

  function madeOf(row) {
    const isPicture = data.isPicture(row); // of others error and advice stand where the picture would
    return {
      Item: `#${value(row, "number")}`,
      Status: view.STATES[value(row, "state")] ?? value(row, "state"),
      Cause: value(row, "cause"),
      Error: isPicture ? value(row, "error") : null,
      "What to do": isPicture ? value(row, "nextStep") : null,
      Model: value(row, "model"),
      Seed: value(row, "seed"),
      Size: dimensions(row),
      "Negative prompt": value(row, "negativePrompt"),
    };
  }

  function cameOf(row) {
    return {
      Cost: value(row, "cost") === null ? null : money(value(row, "cost")),
      Charged: charges(row),
      [data.isPicture(row) ? "Made" : "Ended"]: when(value(row, "created")),
      Took: value(row, "seconds") === null ? null : duration(value(row, "seconds")),
      "Requests sent": value(row, "requests"),
      "Request id": value(row, "requestId"),
      Id: value(row, "id"),
      File: value(row, "file"),
      Bytes: value(row, "bytes") === null ? null : size(value(row, "bytes")),
      "SHA-256": value(row, "sha256"),
    };
  }

  function pairs(row) {
    return facts(row).flatMap(([name, told]) => [element("dt", {}, name), element("dd", { dir: "auto" }, String(told))]);
  }

  function commands(row) {
    const asking = command.commands(row).flatMap(([what, text], number) => {
      const code = element("pre", { id: `command-${number}`, tabindex: "0", role: "group", "aria-label": what }, text);
      return [element("h3", {}, what), code, element("button", { type: "button", "data-copies": code.id }, "Copy")];
    });
    const expected = asking.length ? command.expectation(row) : null;
    return [expected && element("p", { class: "hint" }, expected), ...asking].filter(isGiven);
  }

  // The picture

  function showPicture(row) {
    const [whole, preview] = [byId("whole"), byId("preview")];
    for (const [image, address] of [[preview, data.thumbnailAddress(row)], [whole, data.pictureAddress(row)]]) {
      image.hidden = address === null;
      image.removeAttribute("src");
      image.style.aspectRatio = value(row, "width") ? `${value(row, "width")} / ${value(row, "height")}` : "";
      if (address !== null) image.src = address;
    }
    whole.alt = excerpt(value(row, "prompt") ?? "", LONGEST_ALT);
    byId("original").hidden = !data.isPicture(row);
    if (data.isPicture(row)) byId("original").href = data.pictureAddress(row);
  }

  function say(title, ...texts) {
    byId("box-problem").hidden = !title;
    const paragraphs = texts.filter(isGiven).map((text) => element("p", { dir: "auto" }, text));
    byId("box-problem").replaceChildren(element("b", {}, title), ...paragraphs);
  }

  function showProblem(row) {
    const error = excerpt(value(row, "error") ?? "", LONGEST_ERROR);
    if (data.isPicture(row)) say("");
    else say(view.STATES[value(row, "state")] ?? "No picture", error, value(row, "nextStep"));
  }

  function tellMissing() {
    byId("whole").hidden = true;
    const where = data.run.pictures + value(data.rows[items[place]], "file");
    say("The picture is not here", `It was looked for at ${where}: ${GONE}`);
  }

  // Turning

  function show() {
    const row = data.rows[items[place]];
    byId("box-title").textContent = `${count(place + 1)} of ${count(items.length)}`;
    byId("box-prompt").textContent = value(row, "prompt") ?? "";
    byId("box-facts").replaceChildren(...pairs(row));
    byId("box-commands").replaceChildren(...commands(row));
    byId("copied").textContent = value(row, "isCut") ? "The prompt is longer than what is shown." : "";
    byId("previous").disabled = place === 0;
    byId("next").disabled = place === items.length - 1;
    showProblem(row);
    showPicture(row);
    preload(place + 1);
    preload(place - 1);
  }

  function preload(other) {
    const address = other in items && data.pictureAddress(data.rows[items[other]]);
    if (address) new Image().src = address;
  }

  function turn(step) {
    const next = Math.min(Math.max(place + step, 0), items.length - 1);
    if (next === place) return;
    place = next;
    show();
    onTurn(place);
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "c") copy("box-prompt");
    if (TURNS[event.key] === undefined) return;
    event.preventDefault();
    turn(TURNS[event.key]);
  }

  // Copying

  async function copy(id) {
    const source = byId(id);
    try {
      await navigator.clipboard.writeText(source.textContent);
      byId("copied").textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source);
      byId("copied").textContent = "Selected: copy it with Ctrl+C";
    }
  }

  /** Open the item at a place of these. */
  function open(at, shown) {
    [place, items] = [at, shown];
    show();
    if (!box.open) box.showModal();
    box.querySelector(".panel").scrollTop = 0;
  }

  /** Begin; `turned` is called with the place that is shown now, `closed` with the last one. */
  function start(turned, closed) {
    onTurn = turned;
    box.addEventListener("keydown", onKey);
    box.addEventListener("close", () => closed(place));
    box.addEventListener("click", ({ target }) => {
      if (target.matches("#lightbox, .stage, #close")) box.close();
      if (target.dataset.copies) copy(target.dataset.copies);
    });
    byId("previous").addEventListener("click", () => turn(-1));
    byId("next").addEventListener("click", () => turn(1));
    byId("whole").addEventListener("error", tellMissing);
    byId("preview").addEventListener("error", () => { byId("preview").hidden = true; });
    byId("whole").addEventListener("load", () => { byId("preview").hidden = true; });
  }

  nebulaGallery.lightbox = { open, start, close: () => box.close(), get isOpen() { return box.open; } };
}
