/** What a picture file tells before the browser decodes it: whether it is whole and of one page, as Python asks. */

import { UnreadableError } from './read.js';

const MOST_BYTES = 2 ** 27, MOST_SCANS = 100, DEEP = 8;
const FILM_PARTS = ['acTL', 'ANIM', 'ANMF'], ANIMATED = 0x02; // of the first byte of VP8X
const END = 0xd9, SCAN = 0xda;

/** Throws where page 1 alone, or half a picture, would be answered; returns the components of a JPEG. */
export function checkPicture(bytes, type) {
  if (bytes.length > MOST_BYTES) throw new UnreadableError('too_large');
  if (type === 'image/jpeg') return checkJpeg(bytes);
  if (type === 'image/png' && bytes[24] > DEEP) throw new UnreadableError('deep');
  const parts = type === 'image/png' ? pngParts(bytes) : webpParts(bytes);
  const isFilm = ({ name, start }) => FILM_PARTS.includes(name) || (name === 'VP8X' && bytes[start] & ANIMATED);
  if (parts.some(isFilm)) throw new UnreadableError('several');
}

/** The chunks of a PNG up to its end: a film is told anywhere before the pixels, behind profiles of any length. */
function pngParts(bytes) {
  const view = viewOf(bytes), parts = [];
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at), name = ascii(bytes, at + 4, 4);
    parts.push({ name, start: at + 8 });
    at += 12 + length;
    if (at > bytes.length) break;
    if (name === 'IEND') return parts;
  }
  throw new UnreadableError('broken');
}

function webpParts(bytes) {
  const view = viewOf(bytes), parts = [];
  if (bytes.length < 12 || ascii(bytes, 8, 4) !== 'WEBP') throw new UnreadableError('unknown');
  const end = 8 + view.getUint32(4, true);
  if (end > bytes.length) throw new UnreadableError('broken');
  for (let at = 12; at + 8 <= end;) {
    parts.push({ name: ascii(bytes, at, 4), start: at + 8 });
    const length = view.getUint32(at + 4, true);
    at += 8 + length + (length % 2);
  }
  return parts;
}

/** From segment to segment, as headers.check_jpeg does, up to the end, which one that is cut off lacks. */
function checkJpeg(bytes) {
  let scans = 0, components;
  for (let at = 2; at + 1 < bytes.length;) {
    if (bytes[at] !== 0xff || !isSegment(bytes[at + 1])) {
      ++at;
      continue;
    }
    const marker = bytes[at + 1];
    if (marker === END) return components;
    if (isFrame(marker)) components = bytes[at + 9];
    scans += marker === SCAN;
    if (scans > MOST_SCANS) break;
    at += 2 + Math.max(2, 256 * bytes[at + 2] + bytes[at + 3] || 0);
  }
  throw new UnreadableError('broken');
}

/** The others are data, or have no segment. */
const isSegment = (marker) => marker > 0x01 && !(marker >= 0xd0 && marker <= 0xd8) && marker !== 0xff;

const isFrame = (marker) => marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);

const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

export function ascii(bytes, from, length) {
  return String.fromCharCode(...bytes.subarray(from, from + length));
}
