"use strict";
// Where each tile stands: rows that fill the width, each picture as wide as its shape asks for. Numbers only.

{
  const { rows, value, isPicture } = nebulaGallery.data;
  const GAP = 10;
  const CAPTION = 28;
  const [LOWEST, NARROW, WIDE] = [120, 140, 216]; // of lines without pictures, of phones, of others
  const TALLEST = 1.25; // times what is wanted
  const NARROW_BELOW = 560;
  const [FLATTEST, SLIMMEST] = [2.2, 0.56];
  const CARD = 1.6; // the shape of an item without picture

  function aspect(item) {
    const row = rows[item];
    if (!isPicture(row)) return CARD;
    const [width, height] = [value(row, "width"), value(row, "height")];
    return width > 0 && height > 0 ? Math.min(Math.max(width / height, SLIMMEST), FLATTEST) : 1;
  }

  /** Lay the items out in a width: `starts[line]` is the first place of a line, `tops[line]` where it begins. */
  function layOut(items, width) {
    const wanted = width < NARROW_BELOW ? NARROW : WIDE;
    const layout = { items, width, starts: [], tops: [], heights: [], bottom: 0 };
    for (let place = 0, start = 0, shape = 0, pictures = 0; place < items.length; place += 1) {
      shape += aspect(items[place]);
      pictures += isPicture(rows[items[place]]);
      const height = (width - GAP * (place - start)) / shape;
      const highest = (pictures ? wanted : LOWEST) * TALLEST;
      if (height > highest && place < items.length - 1) continue;
      layout.starts.push(start);
      layout.tops.push(layout.bottom);
      layout.heights.push(Math.min(height, highest));
      layout.bottom += layout.heights.at(-1) + CAPTION + GAP;
      [start, shape, pictures] = [place + 1, 0, 0];
    }
    return layout;
  }

  /** Return the last number of `sorted` that is at most `limit`, as its index; 0 where there is none. */
  function lastUpTo(sorted, limit) {
    let [low, high] = [0, sorted.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (sorted[middle] <= limit) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  const lineOf = ({ starts }, place) => lastUpTo(starts, place);
  const lineAt = ({ tops }, y) => lastUpTo(tops, y);

  /** Return the tiles of a line: place, left edge and width in pixels. */
  function tiles({ items, starts, heights }, line) {
    const end = starts[line + 1] ?? items.length;
    const found = [];
    for (let place = starts[line], left = 0; place < end; place += 1) {
      const width = aspect(items[place]) * heights[line];
      found.push({ place, left, width });
      left += width + GAP;
    }
    return found;
  }

  /** Return the place in another line that is nearest to this one, looking up and down. */
  function nearest(layout, place, line) {
    const middle = ({ left, width }) => left + width / 2;
    const here = middle(tiles(layout, lineOf(layout, place)).find((tile) => tile.place === place));
    const others = tiles(layout, line).map((tile) => [Math.abs(middle(tile) - here), tile.place]);
    return others.reduce((best, other) => (other[0] < best[0] ? other : best))[1];
  }

  nebulaGallery.layout = { layOut, lineOf, lineAt, tiles, nearest, CAPTION, GAP };
}
