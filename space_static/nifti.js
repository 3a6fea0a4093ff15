/** The slices of a NIfTI file's first volume, as brain_mri/io/nifti.py and planes.py read them. */

import * as nifti from './vendor/nifti/nifti.js';
import { percentile } from './numbers.js';
import { UnreadableError } from './read.js';
import { resize } from './resize.js';

const MOST_SLICES = 1024, MOST_PIXELS = 2 ** 25, MOST_VOXELS = 2 ** 27, MOST_BYTES = 2 ** 28, SAMPLES = 2 ** 20;
const MOST_SKIPPED = 2 ** 24, MOST_DIMENSIONS = 7; // bytes between header and voxels
const ROUNDED = { 1: 3 * 2 ** -23, 2: 3 * 2 ** -52 }; // by version: how far a quaternion's length may be above 1
const SQUARE = 0.05, MOST_STRETCH = 16, THICK = 1.5, STRIP = 0.5;
const PLANES = ['axial', 'coronal', 'sagittal'], NORMALS = { sagittal: 0, coronal: 1, axial: 2 };
const SIDES = { axial: [0, 1], coronal: [0, 2], sagittal: [1, 2] }; // across and down, of right, front, top
const KINDS = {
  2: Uint8Array, 4: Int16Array, 8: Int32Array, 16: Float32Array, 64: Float64Array, 256: Int8Array, 512: Uint16Array,
  768: Uint32Array,
};

/**
 * Its slices in one plane or in all three, and what to say of them; null if it is no NIfTI.
 *
 * @param {ArrayBuffer} buffer
 * @param {{intents: number[]}} words `intents`: codes of what is no scan, of brain_mri/io/nifti.py
 */
export async function readNifti(buffer, { intents }) {
  let content = buffer;
  try {
    if (nifti.isCompressed(content)) content = await nifti.decompressAsync(content);
    if (!nifti.isNIFTI(content)) return null;
  } catch {
    return null;
  }
  const header = headerOf(content);
  if (intents.includes(header.intent_code)) throw new UnreadableError('nifti_map');
  const Kind = KINDS[header.datatypeCode];
  if (!Kind || !header.littleEndian) throw new UnreadableError('nifti_kind');
  const shape = shapeOf(header), size = shape[0] * shape[1] * shape[2], length = size * Kind.BYTES_PER_ELEMENT;
  checkSize(...[...shape].sort((a, b) => b - a));
  if (length > MOST_BYTES) throw new UnreadableError('too_large');
  const start = Math.trunc(header.vox_offset);
  if (!(start >= 0 && start <= MOST_SKIPPED) || content.byteLength < start + length) throw new UnreadableError('broken');
  const found = slices(new Kind(content.slice(start, start + length)), shape, header, affineOf(header, content));
  const volumes = sides(header).slice(3).reduce((product, side) => product * side, 1);
  if (volumes > 1) found.notes.unshift(`of ${volumes.toLocaleString('en')} volumes in the file the first is read`);
  return found;
}

function headerOf(content) {
  try {
    return nifti.readHeader(content);
  } catch {
    throw new UnreadableError('broken');
  }
}

/** As many as the header says that it has; what is stored behind them means nothing. */
const sides = ({ dims }) => dims.slice(1, dims[0] + 1);

function shapeOf(header) {
  const count = header.dims[0];
  if (!(count >= 1 && count <= MOST_DIMENSIONS)) throw new UnreadableError('broken');
  return [...sides(header), 1, 1].slice(0, 3);
}

/** As untrusted.check_size. */
function checkSize(width, height, count) {
  if (!(Math.min(width, height, count) >= 1)) throw new UnreadableError('broken');
  if (width * height > MOST_PIXELS || count > MOST_SLICES || width * height * count > MOST_VOXELS) throw new UnreadableError('too_large');
}

/** Cut as brain_mri/io/planes.py does: in the plane of acquisition, or in all three where voxels are nearly cubes. */
function slices(voxels, shape, header, affine) {
  const axes = orientation(affine);
  const stored = [0, 1, 2].map((anatomical) => axes.findIndex((axis) => axis.anatomical === anatomical));
  const steps = [1, shape[0], shape[0] * shape[1]];
  const volume = {
    level: view(voxels, isFalling(header)),
    voxels,
    shape: stored.map((axis) => shape[axis]),
    spacing: stored.map((axis) => (axis < header.dims[0] ? sensible(header.pixDims[axis + 1]) : 1)),
    steps: stored.map((axis) => steps[axis]),
    forward: stored.map((axis) => axes[axis].sign > 0),
  };
  const planes = planesOf(volume), counts = planes.map((plane) => volume.shape[NORMALS[plane]]);
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const pixels = sum(planes.map((plane, i) => counts[i] * stretchedPixels(volume, plane)));
  const isTooMuch = planes.length > 1 && (sum(counts) > MOST_SLICES || pixels > MOST_VOXELS);
  const notes = isTooMuch ? [`only ${planes[0]} slices are read: in all planes they would be too many`] : [];
  return { slices: (isTooMuch ? planes.slice(0, 1) : planes).flatMap((plane) => cut(volume, plane)), notes };
}

/** Whether bright is dark: a window of percentiles makes all else of slope and intercept irrelevant. */
function isFalling({ scl_slope: slope, scl_inter: intercept }) {
  if (!slope || !Number.isFinite(slope)) return false;
  if (!Number.isFinite(intercept)) throw new UnreadableError('broken');
  return slope < 0;
}

/** The slices of one plane: the patient's right (or front, in sagittal ones) on the left, front (or head) up. */
function cut({ level, voxels, shape, spacing, steps, forward }, plane) {
  const [across, down] = SIDES[plane], normal = NORMALS[plane];
  const place = (axis, i) => (forward[axis] ? i : shape[axis] - 1 - i) * steps[axis];
  const width = shape[across], height = shape[down];
  checkSize(...(stretched(width, height, spacing[across] / spacing[down]) ?? [width, height]), shape[normal]);
  return Array.from({ length: shape[normal] }, (_, k) => {
    const data = new Uint8ClampedArray(width * height), base = place(normal, k);
    for (let row = 0; row < height; ++row) {
      const line = base + place(down, height - 1 - row);
      for (let column = 0; column < width; ++column) {
        data[row * width + column] = level(voxels[line + place(across, width - 1 - column)]);
      }
    }
    return proportioned({ data, width, height, channels: 1 }, spacing[across], spacing[down]);
  });
}

function planesOf({ shape, spacing }) {
  const whole = PLANES.filter((plane) => !isStrip(shape, spacing, plane));
  const [, middle, longest] = [...spacing].sort((a, b) => a - b);
  if (longest >= THICK * middle) return [PLANES.find((plane) => NORMALS[plane] === spacing.indexOf(longest))];
  const acquired = whole[0] ?? PLANES.reduce((a, b) => (shape[NORMALS[b]] < shape[NORMALS[a]] ? b : a));
  return [acquired, ...whole.filter((plane) => plane !== acquired)];
}

function isStrip(shape, spacing, plane) {
  const ascending = (a, b) => a - b;
  const pixels = SIDES[plane].map((axis) => shape[axis]).sort(ascending);
  const lengths = SIDES[plane].map((axis) => shape[axis] * spacing[axis]).sort(ascending);
  return lengths[0] < STRIP * lengths[1] || pixels[0] < STRIP ** 2 * pixels[1];
}

const sensible = (side) => (Math.abs(side) > 0 && Number.isFinite(side) ? Math.abs(side) : 1);

/** As nibabel chooses it: the sform if there is one, else the qform, else the axes from the right. */
function affineOf(header, content) {
  const affine = header.sform_code ? sform(content) : header.qform_code ? qform(header, content) : unturned(header);
  const [[a, b, c], [d, e, f], [g, h, i]] = affine;
  const volume = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  return volume && affine.flat().every(Number.isFinite) ? affine : [[1, 0, 0], [0, 1, 0], [0, 0, 1]]; // else it says nothing sensible
}

function unturned({ pixDims, dims }) {
  const [x, y, z] = [1, 2, 3].map((axis) => (axis <= dims[0] ? pixDims[axis] : 1));
  return [[-x, 0, 0], [0, y, 0], [0, 0, z]];
}

function sform(content) {
  const view = new DataView(content), wide = nifti.isNIFTI2(content);
  const value = (row, column) => (wide ? view.getFloat64(400 + 8 * (4 * row + column), true) : view.getFloat32(280 + 4 * (4 * row + column), true));
  return [0, 1, 2].map((row) => [0, 1, 2, 3].map((column) => value(row, column)));
}

/** Refused where nibabel refuses it: a guess could turn the head upside down. */
function qform({ quatern_b: b, quatern_c: c, quatern_d: d, pixDims, ...header }, content) {
  const rest = 1 - (b * b + c * c + d * d), close = ROUNDED[nifti.isNIFTI2(content) ? 2 : 1];
  const [handed, ...sides] = pixDims.slice(0, 4);
  if (!(rest > -close) || Math.abs(handed) !== 1 || sides.some((side) => side < 0)) throw new UnreadableError('broken');
  const a = rest < close ? 0 : Math.sqrt(rest);
  const turn = [
    [1 - 2 * (c * c + d * d), 2 * (b * c - a * d), 2 * (b * d + a * c)],
    [2 * (b * c + a * d), 1 - 2 * (b * b + d * d), 2 * (c * d - a * b)],
    [2 * (b * d - a * c), 2 * (c * d + a * b), 1 - 2 * (b * b + c * c)],
  ];
  const offsets = [header.qoffset_x, header.qoffset_y, header.qoffset_z];
  return turn.map((row, i) => [...row.map((value, axis) => value * sides[axis] * (axis === 2 ? handed : 1)), offsets[i]]);
}

/** For each axis of the file its nearest anatomical axis (0 to the right, 1 to the front, 2 to the top) and its sign. */
function orientation(affine) {
  const columns = [0, 1, 2].map((axis) => {
    const values = [0, 1, 2].map((row) => affine[row][axis]);
    const length = Math.hypot(...values) || 1;
    return values.map((value) => value / length);
  });
  const order = [0, 1, 2].sort((a, b) => largest(columns[b]) - largest(columns[a]));
  const taken = new Set(), axes = [];
  for (const axis of order) {
    const free = [0, 1, 2].filter((anatomical) => !taken.has(anatomical));
    const anatomical = free.reduce((a, b) => (Math.abs(columns[axis][b]) > Math.abs(columns[axis][a]) ? b : a));
    taken.add(anatomical);
    axes[axis] = { anatomical, sign: columns[axis][anatomical] < 0 ? -1 : 1 };
  }
  return axes;
}

const largest = (values) => Math.max(...values.map(Math.abs));

/** From voxels to grey: the 1st percentile is black, the 99th white. */
function view(voxels, falling) {
  const step = Math.max(1, Math.ceil(voxels.length / SAMPLES));
  const some = [];
  for (let i = 0; i < voxels.length; i += step) if (Number.isFinite(voxels[i])) some.push(voxels[i]);
  let [low, high] = [percentile(some, 1) ?? 0, percentile(some, 99) ?? 0];
  if (!(low < high)) [low, high] = [percentile(some, 0) ?? 0, percentile(some, 100) ?? 0];
  const scale = high > low ? 255 / (high - low) : 0;
  return (value) => {
    const level = Math.floor(Math.min(255, Math.max(0, (value - low) * scale || 0)) + 0.5);
    return falling ? 255 - level : level;
  };
}

/** Voxels that are not square are stretched to their true proportions. */
function proportioned(picture, width, height) {
  const size = stretched(picture.width, picture.height, width / height);
  return size ? resize(picture, ...size, 'bilinear') : picture;
}

/** Columns and rows at which voxels of these proportions are square; null where they are, or are no proportions. */
function stretched(columns, rows, ratio) {
  if (!(ratio >= 1 / MOST_STRETCH && ratio <= MOST_STRETCH) || Math.abs(ratio - 1) < SQUARE) return null;
  return [Math.round(columns * Math.max(1, ratio)), Math.round(rows * Math.max(1, 1 / ratio))];
}

/** How many pixels a stretched slice takes; the others are views of the volume, in Python. */
function stretchedPixels({ shape, spacing }, plane) {
  const [across, down] = SIDES[plane];
  const size = stretched(shape[across], shape[down], spacing[across] / spacing[down]);
  return size ? size[0] * size[1] : 0;
}
