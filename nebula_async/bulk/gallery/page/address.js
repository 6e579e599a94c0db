"use strict";
// What is shown is kept behind the # of the address, so that a view can be sent to somebody.

{
  const NOTHING = { q: "", status: "", model: "", size: "", seed: "", sort: "number" };

  const NAMES = [...Object.keys(NOTHING), "open"];

  let last = { query: NOTHING, open: null };

  /** Return the query and the open item of the address; one that names neither, such as #top, changes nothing. */
  function read() {
    const given = new URLSearchParams(location.hash.slice(1));
    if (given.size > 0 && !NAMES.some((name) => given.has(name))) return last;
    const query = Object.fromEntries(Object.entries(NOTHING).map(([name, none]) => [name, given.get(name) ?? none]));
    last = { query, open: given.get("open") };
    return last;
  }

  /** Write the query and the open item; with `isNew` the browser's Back leads to what was there before. */
  function write(query, open, { isNew = false } = {}) {
    last = { query, open };
    const kept = Object.entries(query).filter(([name, value]) => value !== NOTHING[name]);
    const hash = new URLSearchParams(open === null ? kept : [...kept, ["open", open]]).toString();
    if (hash === location.hash.slice(1)) return;
    try {
      const isOver = isNew || (open !== null && Boolean(history.state?.isOver)); // over the view that Back leads to
      const address = hash ? `#${hash}` : location.pathname + location.search;
      history[isNew ? "pushState" : "replaceState"]({ isOver }, "", address);
    } catch {
      // a browser that takes no more of them for now: the view itself is shown all the same
    }
  }

  nebulaGallery.address = { read, write, NOTHING };
}
