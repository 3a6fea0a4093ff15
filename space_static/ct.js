/** Whether a picture looks like a head CT: brain_mri/inference/ct.py, step by step. Its limits are explained there. */

import { small, standingOut } from './head.js';
import { resize } from './resize.js';
import { median, percentile } from './numbers.js';

const SIDE = 160, DIRECTIONS = 96;
const BONE = 0.95, THINNEST = 0.03, THICKEST = 0.35, UNEVEN = 0.08, NEIGHBOURS = 6;
const BENEATH = 0.2, BLACK = 0.25, BRIGHTEST_BRAIN = 0.65, LIMIT = 0.6;
const DISTANCES = Math.round((1.2 * (SIDE - 1)) / 2);
const RAYS = rays();

/** 0: not at all; more than 1: taken for a head CT. */
export function ctScore(picture) {
  const head = cutOut(picture);
  if (!head) return 0;
  const found = endsInBone(head);
  return found.filter(Boolean).length / DIRECTIONS / LIMIT;
}

/** For each direction from the middle of a head the places of its pixels outwards; -1 outside. */
function rays() {
  const middle = (SIDE - 1) / 2;
  const place = (value) => {
    const whole = Math.round(value);
    return Math.abs(value - Math.trunc(value)) === 0.5 && whole % 2 ? whole - 1 : whole; // as numpy's rint
  };
  return Array.from({ length: DIRECTIONS }, (_, k) => {
    const angle = (2 * Math.PI * k) / DIRECTIONS;
    return Int32Array.from({ length: DISTANCES }, (__, distance) => {
      const y = place(middle + Math.sin(angle) * distance), x = place(middle + Math.cos(angle) * distance);
      return Math.min(x, y) >= 0 && Math.max(x, y) < SIDE ? y * SIDE + x : -1;
    });
  });
}

/** The head alone, from 0 (background) to 1 (white); null where nothing stands out. */
function cutOut(picture) {
  const shown = small(picture);
  const found = standingOut(shown);
  if (!found) return null;
  const { box, black } = found;
  const head = resize(shown, SIDE, SIDE, 'bilinear', box).data;
  const range = Math.max(percentile(head, 99) - black, 1);
  return Float64Array.from(head, (value) => Math.min(1, Math.max(0, (value - black) / range)));
}

/** Whether, in each direction, the outermost white is a skull's. */
function endsInBone(head) {
  const values = RAYS.map((ray) => Float64Array.from(ray, (i) => (i < 0 ? 0 : head[i])));
  const last = (ray, holds) => Math.max(0, ray.findLastIndex(holds));
  const outer = values.map((ray) => last(ray, (value) => value >= BONE));
  const inner = values.map((ray, k) => last(ray, (value, i) => value < BONE && i < outer[k]));
  const brain = brainGrey(values, inner);
  return values.map((ray, k) => {
    const thickness = (outer[k] - inner[k]) / Math.max(outer[k], 1);
    const near = Array.from({ length: 2 * NEIGHBOURS + 1 }, (_, i) => outer[(k + i - NEIGHBOURS + DIRECTIONS) % DIRECTIONS]);
    const around = median(near);
    const even = Math.abs(outer[k] - around) <= UNEVEN * Math.max(around, 1);
    const beneath = ray.filter((_, i) => inner[k] * (1 - BENEATH) <= i && inner[k] > i);
    const darkest = beneath.length ? Math.min(1, ...beneath) : 0;
    return thickness > THINNEST && thickness < THICKEST && even && darkest >= BLACK * brain && brain <= BRIGHTEST_BRAIN;
  });
}

/** The median of what lies well within the bone; white where that is next to nothing. */
function brainGrey(values, inner) {
  const within = values.flatMap((ray, k) => Array.from(ray.filter((_, i) => 0.1 * inner[k] <= i && 0.9 * inner[k] > i)));
  return within.length >= DIRECTIONS ? median(within) : 1;
}
