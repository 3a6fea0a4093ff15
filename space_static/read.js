/** From a file that a visitor chose to its slices, recognised by content. Nothing of a header is ever repeated. */

import { readDicom } from './dicom.js';
import { readNifti } from './nifti.js';
import { ascii, checkPicture } from './pictures.js';

const MOST_BYTES = 2 ** 28, MOST_PIXELS = 2 ** 25;
const PICTURES = [
  { type: 'image/png', starts: [0x89, 0x50, 0x4e, 0x47] },
  { type: 'image/jpeg', starts: [0xff, 0xd8] },
  { type: 'image/webp', starts: [0x52, 0x49, 0x46, 0x46] },
];

/** A file that cannot be judged; `code` is a key of the page's `static_errors`. */
export class UnreadableError extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

/**
 * @param {Blob} file
 * @param {object} words of brain_mri.io: what a header may say (words.json)
 * @returns {{slices: {data, width, height, channels}[], notes: string[], foreign: string|null}} `foreign`: what it is
 *   instead of MR of a head, by its header; then there are no slices
 */
export async function readSlices(file, words) {
  if (file.size > MOST_BYTES) throw new UnreadableError('too_large');
  const buffer = await file.arrayBuffer();
  const bytes = new Uint8Array(buffer);
  if (ascii(bytes, 128, 4) === 'DICM') return readDicom(bytes, words); // first: the header of a picture may precede it
  const kind = PICTURES.find(({ starts }) => starts.every((value, i) => bytes[i] === value));
  if (kind) return { slices: [await decoded(bytes, kind.type)], notes: [], foreign: null };
  const nifti = await readNifti(buffer, words);
  if (nifti) return { ...nifti, foreign: null };
  throw new UnreadableError('unknown');
}

/** What the browser decodes, over black where it is transparent. */
export async function decoded(bytes, type) {
  checkPicture(bytes, type);
  const options = { colorSpaceConversion: 'none', premultiplyAlpha: 'none', imageOrientation: 'from-image' };
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes], { type }), options);
  } catch {
    throw new UnreadableError('broken');
  }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new UnreadableError('too_large');
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return oneChannel(context.getImageData(0, 0, width, height));
}

/** RGBA pixels as grey where their three channels are equal, else as RGB. */
function oneChannel({ data, width, height }) {
  let isGrey = true;
  for (let i = 0; i < data.length && isGrey; i += 4) isGrey = data[i] === data[i + 1] && data[i] === data[i + 2];
  const channels = isGrey ? 1 : 3;
  const kept = new Uint8ClampedArray(width * height * channels);
  for (let i = 0; i < width * height; ++i) {
    for (let c = 0; c < channels; ++c) kept[i * channels + c] = data[4 * i + c];
  }
  return { data: kept, width, height, channels };
}
