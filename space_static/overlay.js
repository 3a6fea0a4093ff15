/** An evidence map over its slice: brain_mri/inference/overlay.py. */

const REGION = 0.5; // of the map's largest value
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

/** The map as a layer to lay over the slice, its strength in the alpha channel, with the outline of its strong part. */
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
  outline(pixels, surface, REGION * most);
  return pixels;
}

function outline({ data, width, height }, surface, least) {
  const reach = Math.max(1, Math.round(Math.min(width, height) / 250));
  const inside = (x, y) => x < 0 || y < 0 || x >= width || y >= height || surface[y * width + x] >= least;
  for (let y = 0; y < height; ++y) {
    for (let x = 0; x < width; ++x) {
      if (!inside(x, y)) continue;
      let border = false;
      for (let dy = -reach; dy <= reach && !border; ++dy) for (let dx = -reach; dx <= reach; ++dx) border ||= !inside(x + dx, y + dy);
      if (border) data.set([...OUTLINE, 255], 4 * (y * width + x));
    }
  }
}

/** The map at a picture's size: its places are the coefficients of a uniform cubic B-spline (Unser 1999). */
function enlarge({ values, width: columns, height: rows }, width, height) {
  const down = spline(rows, height), across = spline(columns, width);
  const surface = new Float64Array(width * height);
  for (let y = 0; y < height; ++y) {
    const line = new Float64Array(columns);
    for (const [row, weight] of down[y]) for (let i = 0; i < columns; ++i) line[i] += weight * values[row * columns + i];
    for (let x = 0; x < width; ++x) for (const [column, weight] of across[x]) surface[y * width + x] += weight * line[column];
  }
  return surface;
}

/** For each pixel the places that count, with their weights. */
function spline(places, pixels) {
  return Array.from({ length: pixels }, (_, pixel) => {
    const position = ((pixel + 0.5) * places) / pixels - 0.5, base = Math.floor(position);
    return [-1, 0, 1, 2].map((offset) => {
      const d = Math.abs(position - base - offset);
      const weight = d < 1 ? 2 / 3 - d ** 2 + d ** 3 / 2 : Math.max(2 - d, 0) ** 3 / 6;
      return [Math.min(places - 1, Math.max(0, base + offset)), weight];
    });
  });
}

/** Where the map is strongest: a key of the texts' `places`. */
export function strongestPlace(map) {
  const surface = enlarge(map, 30, 30);
  const place = surface.indexOf(surface.reduce((a, b) => Math.max(a, b)));
  const vertical = ['top', '', 'bottom'][Math.trunc(Math.trunc(place / 30) / 10)];
  const horizontal = ['left', '', 'right'][Math.trunc((place % 30) / 10)];
  return `${vertical} ${horizontal}`.trim() || 'middle';
}
