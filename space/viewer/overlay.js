/** An evidence map over its slice: brain_mri/inference/overlay.py. */

const CROSS = 0.02; // the arms of the cross, as a share of the picture's shorter side
const OUTLINE = [86, 180, 233];
const WASH = [[0, 0, 0], [120, 28, 20], [213, 94, 0], [240, 170, 40], [255, 240, 150]];
const MOST_SIDE = 1024; // pixels that are drawn

/** A picture as RGBA at most 1,024 pixels a side, for a canvas. */
export function drawn(picture) {
  const small = fitted(picture);
  const pixels = new ImageData(small.width, small.height);
  for (let i = 0; i < small.width * small.height; ++i) {
    for (let c = 0; c < 3; ++c) pixels.data[4 * i + c] = small.data[i * small.channels + (small.channels === 1 ? 0 : c)];
    pixels.data[4 * i + 3] = 255;
  }
  return pixels;
}

function fitted(picture) {
  const shrink = Math.max(picture.width, picture.height) / MOST_SIDE;
  if (shrink <= 1) return picture;
  const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side / shrink)));
  const step = (i, from, to) => Math.min(from - 1, Math.trunc(((i + 0.5) * from) / to));
  const data = new Uint8ClampedArray(width * height * picture.channels);
  for (let y = 0; y < height; ++y) {
    for (let x = 0; x < width; ++x) {
      const place = (step(y, picture.height, height) * picture.width + step(x, picture.width, width)) * picture.channels;
      for (let c = 0; c < picture.channels; ++c) data[(y * width + x) * picture.channels + c] = picture.data[place + c];
    }
  }
  return { data, width, height, channels: picture.channels };
}

/** The map as a layer to lay over the slice: its strength in the alpha channel, a cross at its peak, a contour at `level`. */
export function layer(map, width, height) {
  const surface = enlarge(map, width, height);
  const most = Math.max(surface.reduce((a, b) => Math.max(a, b), 0), 1e-30);
  const pixels = new ImageData(width, height);
  for (let i = 0; i < surface.length; ++i) {
    const strength = Math.max(surface[i], 0) / most;
    const place = strength * (WASH.length - 1), below = Math.min(Math.floor(place), WASH.length - 2);
    for (let c = 0; c < 3; ++c) pixels.data[4 * i + c] = WASH[below][c] + (WASH[below + 1][c] - WASH[below][c]) * (place - below);
    pixels.data[4 * i + 3] = 255 * strength;
  }
  outline(pixels, surface, map.level * most);
  return pixels;
}

function outline({ data, width, height }, surface, least) {
  const reach = Math.max(1, Math.round(Math.min(width, height) / 250));
  const inside = surface.map((value) => value >= least), outside = spread(inside.map((marked) => 1 - marked), width, height, reach);
  const lines = cross(surface, width, height, reach >> 1);
  for (let i = 0; i < lines.length; ++i) lines[i] ||= inside[i] && outside[i];
  const edge = spread(lines, width, height, 1); // dark, by which the lines are seen on bright tissue too
  for (let i = 0; i < lines.length; ++i) {
    if (lines[i]) data.set([...OUTLINE, 255], 4 * i);
    else if (edge[i]) data.set([0, 0, 0, 255], 4 * i);
  }
}

/** The pixels with a marked one no further than `reach` in either direction: along the rows, then along the columns. */
function spread(marked, width, height, reach) {
  const along = (from, length, step, start) => {
    const to = new Uint8Array(from.length);
    for (let line = 0; line < from.length / length; ++line) {
      for (let k = 0, i = start(line); k < length; ++k, i += step) {
        if (from[i]) for (let j = Math.max(-k, -reach); j <= Math.min(reach, length - 1 - k); ++j) to[i + j * step] = 1;
      }
    }
    return to;
  };
  return along(along(marked, width, 1, (y) => y * width), height, width, (x) => x);
}

/** The pixels of a small cross at the peak; none where the map speaks against its class everywhere. */
function cross(surface, width, height, half) {
  const pixels = new Uint8Array(width * height);
  const peak = surface.reduce((best, value, i) => (value > surface[best] ? i : best), 0);
  if (surface[peak] <= 0) return pixels;
  const arm = Math.max(3, Math.round(CROSS * Math.min(width, height)));
  const [across, down] = [peak % width, Math.trunc(peak / width)];
  for (let y = Math.max(0, down - arm); y <= Math.min(height - 1, down + arm); ++y) {
    for (let x = Math.max(0, across - arm); x <= Math.min(width - 1, across + arm); ++x) {
      pixels[y * width + x] = Math.min(Math.abs(x - across), Math.abs(y - down)) <= half;
    }
  }
  return pixels;
}

/** The map at a picture's size: its places are the coefficients of a uniform cubic B-spline (Unser 1999). */
function enlarge({ values, width: columns, height: rows }, width, height) {
  const down = spline(rows, height), across = spline(columns, width);
  const surface = new Float64Array(width * height), line = new Float64Array(columns);
  for (let y = 0; y < height; ++y) {
    line.fill(0);
    for (let k = 4 * y; k < 4 * y + 4; ++k) for (let i = 0; i < columns; ++i) line[i] += down.weights[k] * values[down.places[k] * columns + i];
    for (let x = 0; x < width; ++x) for (let k = 4 * x; k < 4 * x + 4; ++k) surface[y * width + x] += across.weights[k] * line[across.places[k]];
  }
  return surface;
}

/** For each pixel the four places that count, with their weights. */
function spline(count, pixels) {
  const places = new Int32Array(4 * pixels), weights = new Float64Array(4 * pixels);
  for (let k = 0; k < 4 * pixels; ++k) {
    const position = (((k >> 2) + 0.5) * count) / pixels - 0.5, place = Math.floor(position) - 1 + (k & 3), d = Math.abs(position - place);
    places[k] = Math.min(count - 1, Math.max(0, place));
    weights[k] = d < 1 ? 2 / 3 - d ** 2 + d ** 3 / 2 : Math.max(2 - d, 0) ** 3 / 6;
  }
  return { places, weights };
}

/** Where the map is strongest: a key of the texts' `places`. */
export function strongestPlace(map) {
  const surface = enlarge(map, 30, 30);
  const place = surface.indexOf(surface.reduce((a, b) => Math.max(a, b)));
  const vertical = ['top', '', 'bottom'][Math.trunc(Math.trunc(place / 30) / 10)];
  const horizontal = ['left', '', 'right'][Math.trunc((place % 30) / 10)];
  return `${vertical} ${horizontal}`.trim() || 'middle';
}
