/** The slices of a NIfTI file's first volume, as brain_mri/io/nifti.py and planes.py read them. */

import * as nifti from './vendor/nifti/nifti.js';
import { percentile } from './numbers.js';
import { UnreadableError } from './read.js';
import { resize } from './resize.js';

const MOST_SLICES = 1024, MOST_VOXELS = 2 ** 27, SAMPLES = 2 ** 20;
const SQUARE = 0.05, MOST_STRETCH = 16, THICK = 1.5, STRIP = 0.5;
const PLANES = ['axial', 'coronal', 'sagittal'], NORMALS = { sagittal: 0, coronal: 1, axial: 2 };
const SIDES = { axial: [0, 1], coronal: [0, 2], sagittal: [1, 2] }; // across and down, of right, front, top
const KINDS = {
  2: Uint8Array, 4: Int16Array, 8: Int32Array, 16: Float32Array, 64: Float64Array, 256: Int8Array, 512: Uint16Array,
  768: Uint32Array,
};

/** Its slices in one plane or in all three; null if it is no NIfTI. */
export async function readNifti(buffer) {
  let content = buffer;
  try {
    if (nifti.isCompressed(content)) content = await nifti.decompressAsync(content);
    if (!nifti.isNIFTI(content)) return null;
  } catch {
    return null;
  }
  const header = nifti.readHeader(content);
  const [x, y, z] = [1, 2, 3].map((axis) => Math.max(1, header.dims[axis]));
  const Kind = KINDS[header.datatypeCode];
  if (!Kind || !header.littleEndian) throw new UnreadableError('nifti_kind');
  if (z > MOST_SLICES || x * y * z > MOST_VOXELS) throw new UnreadableError('too_large');
  const start = header.vox_offset, length = x * y * z * Kind.BYTES_PER_ELEMENT;
  if (content.byteLength < start + length) throw new UnreadableError('broken');
  return slices(new Kind(content.slice(start, start + length)), [x, y, z], header, affineOf(header, content));
}

/** Cut as brain_mri/io/planes.py does: in the plane of acquisition, or in all three where voxels are nearly cubes. */
function slices(voxels, shape, header, affine) {
  const axes = orientation(affine);
  const stored = [0, 1, 2].map((anatomical) => axes.findIndex((axis) => axis.anatomical === anatomical));
  const steps = [1, shape[0], shape[0] * shape[1]];
  const volume = {
    level: view(voxels, (header.scl_slope || 1) < 0),
    voxels,
    shape: stored.map((axis) => shape[axis]),
    spacing: stored.map((axis) => sensible(header.pixDims[axis + 1])),
    steps: stored.map((axis) => steps[axis]),
    forward: stored.map((axis) => axes[axis].sign > 0),
  };
  let planes = planesOf(volume);
  if (planes.reduce((sum, plane) => sum + volume.shape[NORMALS[plane]], 0) > MOST_SLICES) planes = planes.slice(0, 1);
  return planes.flatMap((plane) => cut(volume, plane));
}

/** The slices of one plane: the patient's right (or front, in sagittal ones) on the left, front (or head) up. */
function cut({ level, voxels, shape, spacing, steps, forward }, plane) {
  const [across, down] = SIDES[plane], normal = NORMALS[plane];
  const place = (axis, i) => (forward[axis] ? i : shape[axis] - 1 - i) * steps[axis];
  const width = shape[across], height = shape[down];
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
  if (header.sform_code > 0) {
    const view = new DataView(content), wide = nifti.isNIFTI2(content);
    const value = (row, column) => (wide ? view.getFloat64(400 + 8 * (4 * row + column), true) : view.getFloat32(280 + 4 * (4 * row + column), true));
    return [0, 1, 2].map((row) => [0, 1, 2].map((column) => value(row, column)));
  }
  return header.qform_code > 0 ? header.affine : [[-1, 0, 0], [0, 1, 0], [0, 0, 1]];
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
  const ratio = width / height;
  if (!(ratio >= 1 / MOST_STRETCH && ratio <= MOST_STRETCH) || Math.abs(ratio - 1) < SQUARE) return picture;
  const columns = Math.round(picture.width * Math.max(1, ratio)), rows = Math.round(picture.height * Math.max(1, 1 / ratio));
  return resize(picture, columns, rows, 'bilinear');
}
