/** What a header's names say of a scan, as brain_mri/io/sequences.py: its sequence, and whether a contrast agent was given. */

const LETTER = '[\\p{L}\\p{N}_]';
const EDGE = `(?:(?<!${LETTER})(?=${LETTER})|(?<=${LETTER})(?!${LETTER}))`; // what \b is in Python, which knows all letters
const T1 = 'T1', T2 = 'T2';

const holds = (pattern, names) => new RegExp(pattern.replaceAll('\\b', EDGE), 'u').test(names);

/** @returns {string|null} in words of the package; `words`: its patterns */
function sequenceOf(names, words) {
  const other = words.others.find(([, pattern]) => holds(pattern, names));
  if (other) return other[0];
  const [isT1, isT2] = [holds(words.t1, names), holds(words.t2, names)];
  if (isT1 && !isT2) return T1; // "T1 FLAIR" is a T1
  if (holds(words.flair, names)) return 'FLAIR';
  if (holds(words.stir, names)) return 'STIR';
  if (isT2) return T2;
  return holds(words.proton, names) ? 'proton density' : null;
}

function hasAgent(names, agent, words) {
  if (holds(words.no_agent, names)) return false; // some scanners keep the element filled from the series before
  return holds(words.agent, names) || (agent !== '' && !holds(words.no_agent, agent));
}

/** What to say of a sequence that is named, unless it is the one in which the model's tumours were shown. */
export function sequenceNotes({ names, scanning, agent }, words) {
  let sequence = sequenceOf(names, words);
  if (sequence === null && scanning.split(' ').includes('ep')) sequence = 'echo-planar imaging (EPI)';
  if (sequence === T1) {
    if (hasAgent(names, agent, words)) return [];
    sequence = 'T1, and no contrast agent';
  }
  return sequence === null ? [] : [`the header says ${sequence}: the model's tumours were contrast-enhanced T1`];
}
