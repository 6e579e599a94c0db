"use strict";
// The items of the run: scripts in data/ call `nebulaGallery.summary` and `nebulaGallery.items`.

{
  const VERSION = 1;
  const REMEDY = "Write it anew with nebula-async gallery and the folder of the job.";
  const NAMES = [
    "number", "index", "state", "prompt", "model", "seed", "width", "height", "file", "thumbnail", "bytes", "cost",
    "seconds", "created", "requests", "chargesAtLeast", "chargesAtMost", "requestId", "sha256", "id", "negativePrompt",
    "parameters", "cause", "error", "nextStep", "isCut",
  ];
  const COLUMNS = Object.fromEntries(NAMES.map((name, column) => [name, column]));
  const TEXTS = ["state", "model", "cost", "parameters", "cause", "error", "nextStep"].map((name) => COLUMNS[name]);

  const rows = [];
  let run = null;
  let chunksRead = 0;

  nebulaGallery.summary = (given) => { run = given; };

  nebulaGallery.items = (_chunk, { texts, rows: added }) => {
    for (const row of added) {
      for (const column of TEXTS) if (typeof row[column] === "number") row[column] = texts[row[column]];
      rows.push(row);
    }
    chunksRead += 1;
  };

  // The one kind of script that may be added, where the browser knows trusted types.
  const SCRIPT = /^data\/([0-9a-f]+\/)?(summary|\d{5})\.js$/;
  const address = (name) => {
    if (!SCRIPT.test(name)) throw new TypeError(`not a script of this page: ${name}`);
    return name;
  };
  const policy = globalThis.trustedTypes?.createPolicy("nebula-data", { createScriptURL: address });

  function runScript(name) {
    return new Promise((resolve) => {
      const script = document.createElement("script");
      script.src = policy ? policy.createScriptURL(name) : address(name);
      script.onload = script.onerror = resolve;
      document.head.append(script);
    });
  }

  /** Read the summary of the run. Throws an Error that says what is wrong. */
  async function readSummary() {
    await runScript("data/summary.js");
    if (!run) throw new Error(`The data of this gallery is not here: data/summary.js, beside this page, cannot be read. ${REMEDY}`);
    if (run.version === VERSION) return run;
    throw new Error(`The data of this gallery is of another version (${run.version}) than the page. ${REMEDY}`);
  }

  /** Read the items, chunk after chunk; `onChunk` is called after each. Returns how many chunks cannot be read. */
  async function readItems(chunks, onChunk) {
    for (let chunk = 0; chunk < chunks; chunk += 1) {
      await runScript(`${run.data}${String(chunk).padStart(5, "0")}.js`);
      onChunk();
    }
    return chunks - chunksRead;
  }

  const value = (row, name) => row[COLUMNS[name]] ?? null;
  const isFailed = (row) => ["rejected", "bad", "expired", "unknown"].includes(row[COLUMNS.state]);
  const isPicture = (row) => value(row, "file") !== null;

  const escaped = (path) => path.split("/").map(encodeURIComponent).join("/");

  /** Return the address of a picture, or null where the item has none. */
  const pictureAddress = (row) => (isPicture(row) ? run.pictures + escaped(value(row, "file")) : null);

  /** Return the address of a picture's thumbnail, or null where it has none. */
  function thumbnailAddress(row) {
    const name = value(row, "thumbnail");
    return name === null ? null : run.thumbnails + escaped(name);
  }

  /** Return all parameters but those with a column of their own, as an object. */
  function parameters(row) {
    try {
      return JSON.parse(value(row, "parameters") ?? "{}") ?? {};
    } catch {
      return {};
    }
  }

  /** Name an item, and its picture where it has several: 42, or 42.1 for its second one. */
  const name = (row) => `${value(row, "number")}${value(row, "index") ? `.${value(row, "index")}` : ""}`;

  nebulaGallery.data = {
    rows, COLUMNS, REMEDY, readSummary, readItems, value, isFailed, isPicture, pictureAddress, thumbnailAddress,
    parameters, name,
    get run() { return run; },
  };
}
