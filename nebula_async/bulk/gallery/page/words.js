"use strict";
// The name that all files share, making elements, and how values are written.

const nebulaGallery = {};

{
  const whole = new Intl.NumberFormat("en");
  const cents = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  const day = new Intl.DateTimeFormat("en-GB", { dateStyle: "long" });
  const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "short" });
  const exact = new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeStyle: "medium" });

  const isGiven = (value) => value !== null && value !== undefined && value !== "";

  /** Return the element of this id. */
  const byId = (id) => document.getElementById(id);

  /** Make an element. Strings are its text, never markup. */
  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) if (isGiven(value)) made.setAttribute(key, value);
    made.append(...children.filter(isGiven));
    return made;
  }

  const count = (number) => whole.format(number);

  const counted = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;

  /** Cut a text that may be of any length, so that no more of it is laid out than can be seen. */
  function excerpt(text, characters) {
    if (text.length <= characters) return text;
    return text.slice(0, characters).replace(/[\ud800-\udbff]$/, "") + "…";
  }

  function duration(seconds) {
    if (seconds < 10) return `${seconds.toFixed(seconds < 1 ? 2 : 1)}\u00a0s`;
    const units = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];
    const [large, name, small, part] = units.find(([size]) => seconds >= size) ?? [1, "s", 1, ""];
    const rest = part && Math.floor((seconds % large) / small);
    return `${Math.floor(seconds / large)}\u00a0${name}${rest ? ` ${rest}\u00a0${part}` : ""}`;
  }

  /** Write USD; a sum is rounded to cents, the price of a picture is not. */
  function money(text, { isSum = false } = {}) {
    return isSum && Number(text) >= 1 ? `$${cents.format(text)}` : `$${text}`;
  }

  function span(least, most, write) {
    return Number(least) === Number(most ?? least) ? write(least) : `${write(least)} to ${write(most)}`;
  }

  function size(bytes) {
    if (bytes < 1000) return counted(bytes, "byte", "bytes");
    return bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
  }

  /** Return a moment, given as Unix seconds or as ISO 8601, as a date; null for anything else. */
  function moment(value) {
    const made = new Date(typeof value === "number" ? value * 1000 : value ?? NaN);
    return Number.isNaN(made.getTime()) ? null : made;
  }

  /** Write when something began and ended: the day once, where it is the same. */
  function period(from, to) {
    const [start, end] = [moment(from), moment(to)];
    if (!start) return "";
    const begun = `${day.format(start)}, ${clock.format(start)}`;
    if (!end || `${begun}` === `${day.format(end)}, ${clock.format(end)}`) return begun;
    return `${begun} to ${day.format(start) === day.format(end) ? "" : `${day.format(end)}, `}${clock.format(end)}`;
  }

  const when = (value) => (moment(value) ? exact.format(moment(value)) : "");

  nebulaGallery.words = { byId, element, isGiven, count, counted, excerpt, duration, money, span, size, period, when };
}
