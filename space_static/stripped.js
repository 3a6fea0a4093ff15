/** Whether a picture looks like a brain without its skull: brain_mri/inference/stripped.py, step by step. */

import { median, percentile } from './numbers.js';
import { grey, resize } from './resize.js';

const SIDE = 160, EMPTY = 4, LEAST_EMPTY = 0.25, FOREGROUND = 0.12, SMALLEST = 0.05, DIRECTIONS = 90;
const BENEATH = 0.3, OUTERMOST = 0.12, DARK = 0.45, BRIGHT = 0.5, MOST_BONE = 0.2, BRIGHTEST_RIM = 1.3;

export function isStripped(picture) {
  const { data } = resize(grey(picture), SIDE, SIDE, 'bilinear');
  const least = FOREGROUND * percentile(data, 99.5);
  const inside = [...data.keys()].filter((i) => data[i] > least);
  const empty = data.filter((value) => value <= EMPTY).length;
  if (empty < LEAST_EMPTY * data.length || inside.length < SMALLEST * data.length) return false;
  const rays = raysOf(data, inside);
  const brain = median(Uint8ClampedArray.from(inside, (i) => data[i]));
  const bone = rays.filter((ray) => hasBone(ray, brain)).length / rays.length;
  return bone <= MOST_BONE && median(rays.map((ray) => rim(ray, brain))) <= BRIGHTEST_RIM;
}

/** The values from the middle of what is bright outwards to the picture's edge, in all directions. */
function raysOf(data, inside) {
  const mean = (value) => inside.reduce((sum, i) => sum + value(i), 0) / inside.length;
  const row = mean((i) => Math.trunc(i / SIDE)), column = mean((i) => i % SIDE);
  return Array.from({ length: DIRECTIONS }, (_, k) => {
    const angle = (2 * Math.PI * k) / DIRECTIONS, ray = [];
    for (let step = 0; step < SIDE; ++step) {
      const y = Math.round(row + step * Math.sin(angle)), x = Math.round(column + step * Math.cos(angle));
      if (Math.min(x, y) >= 0 && Math.max(x, y) < SIDE) ray.push(data[y * SIDE + x]);
    }
    return ray;
  });
}

const edgeOf = (ray, brain) => Math.max(0, ray.findLastIndex((value) => value > BRIGHT * brain));

function hasBone(ray, brain) {
  const edge = edgeOf(ray, brain);
  return ray.slice(Math.trunc(edge * (1 - BENEATH)), edge).some((value) => value < DARK * brain);
}

function rim(ray, brain) {
  const edge = edgeOf(ray, brain);
  return Math.max(...ray.slice(Math.trunc(edge * (1 - OUTERMOST)), edge + 1)) / Math.max(brain, 1);
}
