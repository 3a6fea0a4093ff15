/** A DICOM file of one slice, as brain_mri/io/dicom.py and dicom_header.py read it; what they read beyond is refused. */

import './vendor/dicomParser.min.js';
import { percentile } from './numbers.js';
import { UnreadableError, decoded } from './read.js';

const { dicomParser } = globalThis;
const TAGS = {
  SOPClassUID: 'x00080016', ImageType: 'x00080008', Modality: 'x00080060', BodyPartExamined: 'x00180015',
  Frames: 'x00280008', Samples: 'x00280002',
  Photometric: 'x00280004', Planar: 'x00280006', Rows: 'x00280010', Columns: 'x00280011', Bits: 'x00280100',
  BitsStored: 'x00280101', Signed: 'x00280103', Slope: 'x00281053', Intercept: 'x00281052', Centre: 'x00281050',
  Width: 'x00281051', Function: 'x00281056', ModalityLut: 'x00283000', ViewLut: 'x00283010', Pixels: 'x7fe00010',
};
const SYNTAX = 'x00020010', MEDIA_CLASS = 'x00020002';
const PLAIN = ['1.2.840.10008.1.2', '1.2.840.10008.1.2.1'], JPEG = '1.2.840.10008.1.2.4.50';
const STANDARD = '1.2.840.10008.';
const MR_CLASS = /^1\.2\.840\.10008\.5\.1\.4\.1\.1\.4(\.[134])?$/, CAPTURE_CLASS = /^1\.2\.840\.10008\.5\.1\.4\.1\.1\.7(\..*)?$/;

export async function readDicom(bytes, words) {
  let data;
  try {
    data = dicomParser.parseDicom(bytes);
  } catch {
    throw new UnreadableError('broken');
  }
  const foreign = otherMethod(data, words) ?? otherBodyPart(data, words);
  if (foreign) return { slices: [], notes: [], foreign };
  return { slices: [await picture(data, bytes)], notes: doubts(data, words), foreign: null };
}

async function picture(data, bytes) {
  if (!data.elements[TAGS.Pixels]) throw new UnreadableError('no_pixels');
  if ((data.intString(TAGS.Frames) ?? 1) > 1 || said(data, 'ImageType').includes('mosaic')) throw new UnreadableError('several');
  if (data.elements[TAGS.ModalityLut] || data.elements[TAGS.ViewLut]) throw new UnreadableError('dicom_kind');
  const syntax = data.string(SYNTAX) ?? PLAIN[0];
  if (syntax === JPEG && data.uint16(TAGS.Samples) === 1) return jpeg(data);
  if (!PLAIN.includes(syntax)) throw new UnreadableError('dicom_compressed');
  const photometric = (data.string(TAGS.Photometric) ?? '').trim();
  if (photometric === 'RGB' && data.uint16(TAGS.Bits) === 8) return colours(data, bytes);
  if (!photometric.startsWith('MONOCHROME') || data.uint16(TAGS.Samples) !== 1) throw new UnreadableError('dicom_kind');
  return shown(data, stored(data, bytes));
}

/** A JPEG within the file: its grey levels are stored values, to which window and slope apply. */
async function jpeg(data) {
  const element = data.elements[TAGS.Pixels];
  const frame = dicomParser.readEncapsulatedPixelDataFromFragments(data, element, 0, element.fragments.length);
  const { data: values, channels } = await decoded(frame, 'image/jpeg');
  if (channels !== 1) throw new UnreadableError('dicom_kind');
  return shown(data, values);
}

function stored(data, bytes) {
  const count = size(data), bits = data.uint16(TAGS.Bits);
  if (bits !== 8 && bits !== 16) throw new UnreadableError('dicom_kind');
  const { dataOffset, length } = data.elements[TAGS.Pixels];
  if (length < (count * bits) / 8) throw new UnreadableError('broken');
  const content = bytes.slice(dataOffset, dataOffset + (count * bits) / 8).buffer;
  const unused = bits - data.uint16(TAGS.BitsStored), signed = data.uint16(TAGS.Signed) === 1;
  const Kind = bits === 8 ? (signed ? Int8Array : Uint8Array) : signed ? Int16Array : Uint16Array;
  const values = new Kind(content);
  return unused > 0 ? values.map((value) => (value << unused) >> unused) : values; // what lies above BitsStored is no value
}

const size = (data) => data.uint16(TAGS.Rows) * data.uint16(TAGS.Columns);

function colours(data, bytes) {
  const count = size(data), { dataOffset } = data.elements[TAGS.Pixels];
  const values = bytes.subarray(dataOffset, dataOffset + 3 * count);
  const planar = data.uint16(TAGS.Planar) === 1;
  const place = (i, c) => (planar ? c * count + i : 3 * i + c);
  const pixels = Uint8ClampedArray.from({ length: 3 * count }, (_, i) => values[place(Math.trunc(i / 3), i % 3)]);
  return { data: pixels, width: data.uint16(TAGS.Columns), height: data.uint16(TAGS.Rows), channels: 3 };
}

/** Stored values through slope and window to grey. */
function shown(data, values) {
  const slope = numbers(data, TAGS.Slope)[0] ?? 1, intercept = numbers(data, TAGS.Intercept)[0] ?? 0;
  const view = storedView(data) ?? percentileView(values, slope, intercept);
  const inverted = data.string(TAGS.Photometric).trim() === 'MONOCHROME1';
  const grey = Uint8ClampedArray.from(values, (value) => {
    const level = Math.floor(Math.min(255, Math.max(0, view(value * slope + intercept))) + 0.5);
    return inverted ? 255 - level : level;
  });
  return { data: grey, width: data.uint16(TAGS.Columns), height: data.uint16(TAGS.Rows), channels: 1 };
}

function storedView(data) {
  const [centre] = numbers(data, TAGS.Centre), [width] = numbers(data, TAGS.Width);
  const kind = (data.string(TAGS.Function) ?? '').trim().toUpperCase();
  const known = kind === 'LINEAR_EXACT' || kind === 'SIGMOID';
  if (!Number.isFinite(centre) || !Number.isFinite(width) || !(known ? width > 0 : width >= 1)) return null;
  if (kind === 'SIGMOID') return (x) => 255 / (1 + Math.exp((-4 * (x - centre)) / width));
  if (kind === 'LINEAR_EXACT') return (x) => ((x - centre) / width + 0.5) * 255;
  const middle = centre - 0.5, range = width - 1;
  return (x) => (x <= middle - range / 2 ? 0 : x > middle + range / 2 ? 255 : ((x - middle) / range + 0.5) * 255);
}

function percentileView(values, slope, intercept) {
  const levels = Float64Array.from(values, (value) => value * slope + intercept);
  let [low, high] = [percentile(levels, 1), percentile(levels, 99)];
  if (!(low < high)) [low, high] = [percentile(levels, 0), percentile(levels, 100)];
  const scale = high > low ? 255 / (high - low) : 0;
  return (x) => (x - low) * scale;
}

function numbers(data, tag) {
  return (data.string(tag) ?? '').split('\\').filter((one) => one.trim()).map(Number);
}

// -- the header: its words are compared with those of dicom_header.py, and only these are said --

/** An element in lower case: words, `*` and `+`, with a space between them. */
function said(data, name) {
  return ((data.string(TAGS[name]) ?? '').toLowerCase().match(/[\p{L}\p{N}]+|[*+]/gu) ?? []).join(' ');
}

const whole = (pattern) => new RegExp(`^(?:${pattern})$`, 'u');
const isHead = (list, words) => list.some((word) => whole(words.head).test(word));

function otherMethod(data, words) {
  const modality = said(data, 'Modality').toUpperCase();
  if (modality in words.modalities) return `${words.modalities[modality]} (Modality ${modality})`;
  if (!['', 'OT', 'MR'].includes(modality)) return 'a picture of another kind than MR (Modality)';
  const kind = sopClass(data);
  if (!kind.startsWith(STANDARD) || MR_CLASS.test(kind) || CAPTURE_CLASS.test(kind)) return null;
  return 'a picture of another kind than MR (SOP class)';
}

const sopClass = (data) => (data.string(TAGS.SOPClassUID) ?? data.string(MEDIA_CLASS) ?? '').trim();

function otherBodyPart(data, words) {
  const list = said(data, 'BodyPartExamined').split(' ');
  if (isHead(list, words)) return null;
  const part = Object.keys(words.elsewhere).find((name) => list.some((word) => whole(words.elsewhere[name]).test(word)));
  return part ? `a picture of ${part} (BodyPartExamined)` : null;
}

function doubts(data, words) {
  const notes = [];
  const list = said(data, 'BodyPartExamined').split(' ').filter(Boolean);
  if (said(data, 'Modality') !== 'mr' && !MR_CLASS.test(sopClass(data))) notes.push('the header does not say that this is MR');
  if (list.length && !isHead(list, words)) notes.push('the header names a part of the body that is not known to be the head');
  return notes;
}
