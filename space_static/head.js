/** Where the head is in a picture: brain_mri/inference/head.py. */

import { grey, resize } from './resize.js';
import { percentile } from './numbers.js';

const READ = 224, FOREGROUND = 0.15, LEAST_FILLED = 0.03, SMALLEST = 8;

/** The picture as `standingOut` reads it. */
export const small = (picture) => resize(grey(picture), READ, READ, 'bilinear');

/** `{box, black}` of a picture that `small` gives: of the head, and of the background; null where nothing stands out. */
export function standingOut(shown) {
  const black = percentile(shown.data, 2), white = percentile(shown.data, 99.5);
  const least = black + FOREGROUND * (white - black);
  const rows = new Uint32Array(READ), columns = new Uint32Array(READ);
  shown.data.forEach((value, i) => {
    if (value > least) { ++rows[Math.trunc(i / READ)]; ++columns[i % READ]; }
  });
  if (filled(rows) < SMALLEST || filled(columns) < SMALLEST) return null;
  const [top, bottom] = ends(rows), [left, right] = ends(columns);
  return { box: [left, top, right + 1, bottom + 1], black };
}

/** left, top, right, bottom of the head in a picture's own pixels; null without one. */
export function headBox(picture) {
  const found = standingOut(small(picture));
  if (!found) return null;
  const sizes = [picture.width, picture.height, picture.width, picture.height];
  return found.box.map((end, i) => (i < 2 ? Math.floor : Math.ceil)((end * sizes[i]) / READ));
}

const isFilled = (count) => count / READ > LEAST_FILLED;
const filled = (counts) => counts.filter(isFilled).length;
const ends = (counts) => [counts.findIndex(isFilled), counts.findLastIndex(isFilled)];
