/** A DICOM file of one slice, as brain_mri/io/dicom.py and dicom_header.py read it; what they read beyond is refused. */

import './vendor/dicomParser.min.js';
import { MAGNITUDE, kindOf, rules, text, whole } from './frames.js';
import { percentile } from './numbers.js';
import { checkPicture } from './pictures.js';
import { UnreadableError, decoded } from './read.js';
import { sequenceNotes } from './sequences.js';

const { dicomParser } = globalThis;
const TAGS = {
  SOPClassUID: 'x00080016', ImageType: 'x00080008', Modality: 'x00080060', BodyPartExamined: 'x00180015',
  AcquisitionContrast: 'x00089209', SeriesDescription: 'x0008103e', ProtocolName: 'x00181030',
  ScanningSequence: 'x00180020', Agent: 'x00180010', AgentSequence: 'x00180012', Frames: 'x00280008', Samples: 'x00280002',
  Photometric: 'x00280004', Planar: 'x00280006', Rows: 'x00280010', Columns: 'x00280011', Bits: 'x00280100',
  BitsStored: 'x00280101', Signed: 'x00280103', Slope: 'x00281053', Intercept: 'x00281052', Centre: 'x00281050',
  Width: 'x00281051', Function: 'x00281056', ModalityLut: 'x00283000', ViewLut: 'x00283010', Pixels: 'x7fe00010',
};
const TYPES = /^(A[EST]|CS|D[AST]|F[DL]|IS|L[OT]|O[BDFLVW]|PN|S[HLQSTV]|TM|U[CILNRSTV])$/; // of elements
const SYNTAX = 'x00020010', MEDIA_CLASS = 'x00020002';
const MOST_PIXELS = 2 ** 25, GREY = ['MONOCHROME1', 'MONOCHROME2'];
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
  if (!isSound(data)) throw new UnreadableError('broken');
  const foreign = otherMethod(data, words) ?? otherBodyPart(data, words);
  if (foreign) return { slices: [], notes: [], foreign };
  return { slices: [await picture(data, bytes, words)], notes: [...doubts(data, words), ...named(data, words)], foreign: null };
}

/** Whether each element has a known type, or none as in implicit files: behind another it is not known where the next begins. */
function isSound({ elements }) {
  const inside = ({ items = [] }) => items.every(({ dataSet }) => !dataSet || isSound(dataSet));
  return Object.values(elements).every((one) => (one.vr === undefined || TYPES.test(one.vr)) && inside(one));
}

async function picture(data, bytes, words) {
  if (!data.elements[TAGS.Pixels]) throw new UnreadableError('no_pixels');
  checkSize(data);
  if (said(data, 'ImageType').includes('mosaic')) throw new UnreadableError('several');
  if (kindOf(data, words.kinds) !== MAGNITUDE) throw new UnreadableError('dicom_derived');
  if (rules(data).some(({ elements }) => elements[TAGS.ModalityLut] || elements[TAGS.ViewLut])) throw new UnreadableError('dicom_kind');
  const syntax = text(data, SYNTAX) || PLAIN[0], samples = data.uint16(TAGS.Samples);
  const isGrey = GREY.includes(photometric(data)) && samples === 1;
  if (syntax === JPEG && isGrey) return jpeg(data);
  if (!PLAIN.includes(syntax)) throw new UnreadableError('dicom_compressed');
  const isEightBit = [TAGS.Bits, TAGS.BitsStored].every((tag) => data.uint16(tag) === 8);
  if (photometric(data) === 'RGB' && samples === 3 && isEightBit) return colours(data, bytes);
  if (!isGrey) throw new UnreadableError('dicom_kind');
  return shown(data, stored(data, bytes));
}

const photometric = (data) => text(data, TAGS.Photometric).trim();

/** One frame, of a size that fits in memory. */
function checkSize(data) {
  const frames = Number(text(data, TAGS.Frames).trim() || 1);
  if (frames > 1) throw new UnreadableError('several');
  if (![0, 1].includes(frames) || !(size(data) >= 1)) throw new UnreadableError('broken');
  if (size(data) > MOST_PIXELS) throw new UnreadableError('too_large');
}

/** A JPEG within the file: its grey levels are stored values, to which window and slope apply. */
async function jpeg(data) {
  const element = data.elements[TAGS.Pixels];
  const isPlain = data.uint16(TAGS.Bits) === 8 && data.uint16(TAGS.BitsStored) === 8 && data.uint16(TAGS.Signed) === 0;
  const frame = dicomParser.readEncapsulatedPixelDataFromFragments(data, element, 0, element.fragments.length);
  if (!isPlain || checkPicture(frame, 'image/jpeg') !== 1) throw new UnreadableError('dicom_kind');
  const { data: values, width, height } = await decoded(frame, 'image/jpeg');
  if (width !== data.uint16(TAGS.Columns) || height !== data.uint16(TAGS.Rows)) throw new UnreadableError('broken');
  return shown(data, values);
}

function stored(data, bytes) {
  const count = size(data), bits = data.uint16(TAGS.Bits), kept = data.uint16(TAGS.BitsStored), sign = data.uint16(TAGS.Signed);
  if (bits !== 8 && bits !== 16) throw new UnreadableError('dicom_kind');
  if (!(kept >= 1 && kept <= bits) || !(sign === 0 || sign === 1)) throw new UnreadableError('broken');
  const content = pixelBytes(data, bytes, (count * bits) / 8).buffer;
  const Kind = bits === 8 ? (sign ? Int8Array : Uint8Array) : sign ? Int16Array : Uint16Array;
  const values = new Kind(content), above = 32 - kept;
  if (kept === bits) return values;
  return values.map(sign ? (value) => (value << above) >> above : (value) => (value << above) >>> above); // what lies above is no value
}

/** A copy of the first bytes of the pixels, of which fewer would be half a picture. */
function pixelBytes(data, bytes, count) {
  const { dataOffset, length } = data.elements[TAGS.Pixels];
  if (length < count || dataOffset + count > bytes.length) throw new UnreadableError('broken');
  return bytes.slice(dataOffset, dataOffset + count);
}

const size = (data) => data.uint16(TAGS.Rows) * data.uint16(TAGS.Columns);

function colours(data, bytes) {
  const count = size(data), values = pixelBytes(data, bytes, 3 * count);
  if (![0, 1].includes(data.uint16(TAGS.Planar))) throw new UnreadableError('broken');
  const planar = data.uint16(TAGS.Planar) === 1;
  const place = (i, c) => (planar ? c * count + i : 3 * i + c);
  const pixels = Uint8ClampedArray.from({ length: 3 * count }, (_, i) => values[place(Math.trunc(i / 3), i % 3)]);
  return { data: pixels, width: data.uint16(TAGS.Columns), height: data.uint16(TAGS.Rows), channels: 3 };
}

/** Stored values through slope and window to grey. */
function shown(data, values) {
  const scaled = has(data, TAGS.Slope) && has(data, TAGS.Intercept); // one without the other says nothing
  const slope = scaled ? number(data, TAGS.Slope) : 1, intercept = scaled ? number(data, TAGS.Intercept) : 0;
  const isDoubtful = [TAGS.Slope, TAGS.Intercept].some((tag) => ruled(data, tag).includes('\\')); // of two, which?
  if (slope === null || intercept === null || (scaled && isDoubtful)) throw new UnreadableError('broken');
  const view = storedView(data) ?? percentileView(values, slope, intercept);
  const inverted = photometric(data) === 'MONOCHROME1';
  const grey = Uint8ClampedArray.from(values, (value) => {
    const level = Math.floor(Math.min(255, Math.max(0, view(value * slope + intercept))) + 0.5);
    return inverted ? 255 - level : level;
  });
  return { data: grey, width: data.uint16(TAGS.Columns), height: data.uint16(TAGS.Rows), channels: 1 };
}

function storedView(data) {
  const centre = number(data, TAGS.Centre), width = number(data, TAGS.Width);
  const kind = ruled(data, TAGS.Function).trim().toUpperCase();
  const known = kind === 'LINEAR_EXACT' || kind === 'SIGMOID';
  if (centre === null || width === null || !(known ? width > 0 : width >= 1)) return null;
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

const has = (data, tag) => rules(data).some((one) => one.elements[tag]);

/** An element of the frame's own rules, else of the file. */
const ruled = (data, tag) => text(rules(data).findLast((one) => text(one, tag)) ?? data, tag);

/** Its first value as a number; null where it is none. */
function number(data, tag) {
  const [first] = ruled(data, tag).split('\\'), value = Number(first);
  return first.trim() && Number.isFinite(value) ? value : null;
}

// -- the header: its words are compared with those of dicom_header.py, and only these are said --

/** An element in lower case: words, `*` and `+`, with a space between them. */
function said(data, name) {
  return (text(data, TAGS[name]).toLowerCase().match(/[\p{L}\p{N}]+|[*+]/gu) ?? []).join(' ');
}

const isHead = (list, words) => list.some((word) => whole(words.head).test(word));

function otherMethod(data, words) {
  const modality = said(data, 'Modality').toUpperCase();
  if (modality in words.modalities) return `${words.modalities[modality]} (Modality ${modality})`;
  if (!['', 'OT', 'MR'].includes(modality)) return 'a picture of another kind than MR (Modality)';
  const kind = sopClass(data);
  if (!kind.startsWith(STANDARD) || MR_CLASS.test(kind) || CAPTURE_CLASS.test(kind)) return null;
  return 'a picture of another kind than MR (SOP class)';
}

/** What to say of the sequence that the header names; people write names of patients there too, which are never said. */
function named(data, words) {
  const names = ['AcquisitionContrast', 'SeriesDescription', 'ProtocolName'].map((name) => said(data, name)).join(' ');
  const agent = said(data, 'Agent') || (data.elements[TAGS.AgentSequence]?.length ? 'given' : '');
  return sequenceNotes({ names, scanning: said(data, 'ScanningSequence'), agent }, words.sequences);
}

const sopClass = (data) => (text(data, TAGS.SOPClassUID) || text(data, MEDIA_CLASS)).trim();

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
