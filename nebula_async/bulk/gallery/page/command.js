"use strict";
// The commands that ask for a picture again, safe to paste into sh, bash, zsh or fish.

{
  const { data } = nebulaGallery;
  const DRAWN = -1; // as a seed: the server draws one, and does not tell it
  const LONGEST_WORD = 100_000; // bytes; Linux takes 131,072
  const OPTIONS = [
    "dialect", "width", "height", "num_steps", "guidance_scale", "n", "size", "quality", "style", "response_format",
  ];

  /** Quote a word; of an option, its value. */
  function quoted(text) {
    const [name, value] = /^(--[a-z-]+=)?([^]*)$/.exec(text).slice(1);
    return (name ?? "") + (/^[\w-][\w.,:/@+=-]*$/.test(value) ? value : inQuotes(value));
  }

  /** Put a text in single quotes. Backslashes stand in double ones, for fish reads them in single ones. */
  function inQuotes(text) {
    return `'${text.replace(/'/g, `'"'"'`).replace(/\\/g, `'"\\\\"'`)}'`;
  }

  /** Whether a terminal takes a word as it is: no control characters but line feeds, no halves of characters. */
  function isPastable(text) {
    const isShort = new TextEncoder().encode(text).length <= LONGEST_WORD;
    return isShort && !/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\p{Cs}]/u.test(text);
  }

  const option = (name, value) => `--${name.replaceAll("_", "-")}=${value}`;

  /** Return what is asked for by name, without what is null. */
  function asked(row) {
    const { image, mask, ...others } = data.parameters(row);
    const [model, seed] = [data.value(row, "model"), data.value(row, "seed")];
    const known = { model, seed, negative_prompt: data.value(row, "negativePrompt"), ...others };
    const given = Object.entries(known).filter(([, value]) => value !== null && value !== undefined);
    const pictures = { ...(image && { image }), ...(mask && { mask }) };
    return { request: Object.fromEntries(given), inputs: pictures };
  }

  /** Return the arguments that ask for the picture anew; null where it takes more than options. */
  function generateArguments(row) {
    const { request, inputs } = asked(row);
    const { extra, ...others } = request;
    if (data.value(row, "isCut") || Object.keys(inputs).length || (extra && Object.keys(extra).length)) return null;
    const options = ["model", "seed", "negative_prompt", ...OPTIONS].filter((name) => name in others);
    const said = options.filter((name) => !(name === "dialect" && others[name] === "serverless"));
    const words = said.map((name) => option(name, others[name]));
    return ["nebula-async", "generate", ...words, "--", data.value(row, "prompt") ?? ""];
  }

  /** Return the arguments that send the request of a picture file again; null where there is no such file. */
  function reproduceArguments(row) {
    const { job, pictures } = data.run;
    if (!data.isPicture(row) || /^https?:/.test(pictures) || !job) return null;
    const path = [job.replace(/\/$/, ""), pictures.replace(/^(\.\.\/)*|\/$/g, ""), data.value(row, "file")].join("/");
    const needed = Object.keys(asked(row).inputs).map((name) => option(name, "PATH"));
    return ["nebula-async", "reproduce", ...needed, path.startsWith("-") ? `./${path}` : path];
  }

  const line = (words) => (words?.every(isPastable) ? words.map(quoted).join(" ") : null);

  /** Return the item as a line of a manifest, in ASCII. */
  function manifestLine(row) {
    const { request } = asked(row);
    const text = JSON.stringify({ prompt: data.value(row, "prompt"), ...request });
    return text.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
  }

  /** Return pairs of what a command does, and the command. */
  function commands(row) {
    const [generate, reproduce] = [line(generateArguments(row)), line(reproduceArguments(row))];
    const { inputs } = asked(row);
    const from = Object.keys(inputs).length ? "; PATH is the picture that it was made of" : "";
    const found = [
      ["Command that asks for it again", generate],
      [`Command that asks for it again and compares it with this file${from}`, reproduce],
    ].filter(([, command]) => command);
    if (found.length || from || data.value(row, "isCut")) return found;
    return [["As a line of a manifest (.jsonl), for no shell takes this prompt", manifestLine(row)]];
  }

  /** Tell what to expect of asking again; null where the seed that was sent is known. */
  function expectation(row) {
    const seed = data.value(row, "seed") ?? data.parameters(row).extra?.seed ?? DRAWN;
    return data.isPicture(row) && Number(seed) === DRAWN ? "No seed was sent: another picture comes." : null;
  }

  nebulaGallery.command = { commands, expectation };
}
