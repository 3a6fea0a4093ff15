/** What a DICOM file's one frame shows, as brain_mri/io/frames.py tells it: only magnitude pictures are judged. */

import { UnreadableError } from './read.js';

export const MAGNITUDE = 'magnitude';
const TAGS = {
  ImageType: 'x00080008', FrameType: 'x00089007', Component: 'x00089208', GeKind: 'x0043102f', PhilipsKind: 'x20051011',
  Shared: 'x52009229', PerFrame: 'x52009230', FrameTypes: 'x00189226', Values: 'x00289145', Views: 'x00289132',
};
const COMPONENTS = { PHASE: 'phase', REAL: 'real part', IMAGINARY: 'imaginary part' };
const BY_NUMBER = { 1: 'phase', 2: 'real part', 3: 'imaginary part' };
const BY_LETTER = { P: 'phase', R: 'real part', I: 'imaginary part' };
const MOST_TEXT = 4096;
const TEXT_TYPES = ['AE', 'AS', 'CS', 'DA', 'DS', 'IS', 'LO', 'LT', 'SH', 'ST', 'UC', 'UT'];

/** An element as text, whatever its type is said to be; empty where it is missing. */
export function text(data, tag) {
  const element = data.elements[tag];
  if (!element) return '';
  if (element.length > MOST_TEXT) throw new UnreadableError('broken');
  const bytes = data.byteArray.subarray(element.dataOffset, element.dataOffset + element.length);
  return String.fromCharCode(...bytes).replace(/[\0 ]+$/, '');
}

/** A pattern of the package as one that matches a whole word: Python's \w is any letter. */
export const whole = (pattern) => new RegExp(`^(?:${pattern.replaceAll('\\w', '[\\p{L}\\p{N}_]')})$`, 'u');

/** The first item of a sequence; undefined without one. */
function item(data, tag) {
  const element = data?.elements[tag];
  if (element?.length && !element.items) throw new UnreadableError('broken'); // stored as bytes that are not looked into
  return element?.items?.[0]?.dataSet;
}

/** The data sets that turn stored values into grey, the most special one last. */
export function rules(data) {
  const groups = [item(data, TAGS.Shared), item(data, TAGS.PerFrame)];
  const parts = groups.flatMap((group) => [item(group, TAGS.Values), item(group, TAGS.Views)]);
  return [data, ...parts.filter(Boolean)];
}

/** `MAGNITUDE`, or what a frame is instead; `kinds`: words of frames.py. */
export function kindOf(data, kinds) {
  const frames = [TAGS.PerFrame, TAGS.Shared].map((tag) => item(item(data, tag), TAGS.FrameTypes)).filter(Boolean);
  const told = (tag) => text(frames.find((one) => text(one, tag)) ?? data, tag).toUpperCase();
  const types = (told(TAGS.FrameType) || told(TAGS.ImageType)).split('\\').slice(2).map((word) => word.trim());
  const component = told(TAGS.Component).trim();
  if (component in COMPONENTS) return COMPONENTS[component];
  const found = Object.keys(kinds).filter((kind) => types.some((word) => whole(kinds[kind]).test(word)));
  const kind = found.find((one) => component !== 'MAGNITUDE' || !Object.values(COMPONENTS).includes(one));
  if (kind) return kind;
  if (component === 'MAGNITUDE' || types.includes('M')) return MAGNITUDE;
  return BY_NUMBER[geKind(data)] ?? BY_LETTER[text(data, TAGS.PhilipsKind).trim().toUpperCase()] ?? MAGNITUDE;
}

/** The number that GE writes, a short integer also where the file does not tell its type. */
function geKind(data) {
  const element = data.elements[TAGS.GeKind];
  if (!element?.length) return null;
  return TEXT_TYPES.includes(element.vr) ? Number(text(data, TAGS.GeKind).split('\\')[0]) : data.int16(TAGS.GeKind);
}
