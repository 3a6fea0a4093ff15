/** From answers to elements. Only `textContent` is ever set, so nothing that a file says becomes mark-up. */

import { drawn, layer, strongestPlace } from './viewer/overlay.js';
import { element, viewer } from './viewer/viewer.js';
import { HEALTHY, first, suspect } from './rule.js';
import { filled } from './texts.js';

const OPACITY = 0.45;
const LEVEL = 0.5; // of a contour where no class is named: overlay.py

export const paragraphs = (lines, kind = '') => lines.filter(Boolean).map((text) => element('p', { text, class: kind }));

/** What is said of one file: of its slice, or of its slices together. */
export function answer(found, figures, texts) {
  if (found.error) return message(found, texts);
  const isVolume = found.slices.length > 1;
  const label = found.verdict === 'answer' ? first(found.probabilities) : null;
  const tone = label === HEALTHY ? 'unsure' : found.verdict;
  const heading = element('h2', { text: title(found, label, isVolume, texts) });
  const card = element('section', { class: `card ${tone}`, 'data-verdict': found.verdict, 'data-label': label ?? '' });
  card.append(element('div', { class: 'verdict' }, heading, ...paragraphs(reasons(found, label, isVolume, figures, texts)),
    ...paragraphs([found.verdict === 'refused' ? `${texts('notice')} ${texts('notice_more')}` : texts('notice')], 'notice-small')));
  if (!isVolume && label) card.append(...aboutClass(label, texts));
  if (found.slices.length) card.append(isVolume ? volume(found, texts) : pictures(found.slices[0], found.name, texts));
  if (label) card.append(details(found, texts));
  return card;
}

/** What a class is, in a sentence, and who says so. */
function aboutClass(label, texts) {
  const told = texts.of('about_class')[label];
  if (!told) return [];
  const source = element('a', { href: texts.of('about_class_links')[label], rel: 'noopener noreferrer', target: '_blank', text: texts('about_class_source') });
  return [element('p', { class: 'small' }, `${told} `, source)];
}

function message({ error, name }, texts) {
  const text = texts.of('static_errors')[error] ?? texts.of('static_errors').failed;
  return element('section', { class: 'card refused', 'data-verdict': 'error' }, element('h2', { text: texts('error') }), ...paragraphs([`${name}: ${text}`]));
}

function title({ reason, slices }, label, isVolume, texts) {
  const values = { count: slices.length, label: label && texts.label(label) };
  if (!label) return isVolume ? unnamed(slices, texts) : texts.of('reason_titles')[reason];
  if (isVolume) return texts(label === HEALTHY ? 'volume_title_healthy' : 'volume_title_answer', values);
  return texts(label === HEALTHY ? 'verdict_title_healthy' : 'verdict_title', values);
}

function reasons(found, label, isVolume, figures, texts) {
  const notes = (found.notes ?? []).map((note) => `${texts('by_program')} ${note[0].toUpperCase()}${note.slice(1)}.`.trim());
  if (!label) return [why(found, figures, texts), isVolume && counted(found, texts), ...notes];
  const name = texts.label(label), score = texts.percent(found.probabilities[label]);
  const caveat = label === HEALTHY ? texts('not_looked_for') : texts('not_a_finding', { label: name });
  if (isVolume) return [caveat, texts('volume_answer', { counted: accepted(found).length, score }), counted(found, texts), ...notes];
  const share = figures.found[label];
  const known = share === undefined ? '' : texts('found_of_new', { label: name, found: Math.round(100 * share) });
  return [caveat, known, elsewhere(label, figures, texts), texts('verdict_score', { score }), texts('verdict_calibrated'), ...notes];
}

function elsewhere(label, { least_right_elsewhere: share, cleared_elsewhere: cleared }, texts) {
  if (label === HEALTHY) return cleared ? texts('cleared_elsewhere', cleared) : '';
  return share === null ? '' : texts('found_elsewhere', { found: Math.round(100 * share) });
}

function why({ reason, slices }, figures, texts) {
  const always = reason === 'below_threshold' && figures.threshold > 1;
  const score = slices.length === 1 ? texts.number(slices[0].guardScore.toFixed(2)) : '';
  return filled(texts.of('reasons')[always ? 'always_below_threshold' : reason], { score, threshold: texts.percent(figures.threshold) });
}

const accepted = ({ slices }) => slices.filter((one) => one.verdict !== 'refused');
const counted = (found, texts) => accepted(found).length && texts('volume_counted', { counted: accepted(found).length, count: found.slices.length });

/** Where nothing is said of the whole, what single slices say stands first. */
function unnamed(slices, texts) {
  const tumours = slices.filter((one) => named(one) && named(one) !== HEALTHY).length;
  return texts(tumours ? 'volume_title_tumours' : 'volume_title_unnamed', { tumours, count: slices.length });
}

function details({ probabilities, milliseconds, slices }, texts) {
  const ranked = Object.entries(probabilities).sort(([, a], [, b]) => b - a);
  const rows = ranked.map(([label, share]) => element('tr', {},
    element('th', { scope: 'row', text: texts.label(label) }),
    element('td', { class: 'number', text: texts.percent(share) })));
  return element('details', {}, element('summary', { text: texts('probabilities') }),
    element('table', {}, ...rows), ...paragraphs([distance(slices, texts), texts('timing', { milliseconds: Math.round(milliseconds) })], 'small'));
}

const distance = (slices, texts) => (slices.length === 1 ? texts('guard_distance', { score: texts.number(slices[0].guardScore.toFixed(2)) }) : '');

/** The slice, and beside it its evidence; a refused slice is shown alone. */
function pictures(one, name, texts) {
  const shown = drawn(one.picture), map = shownMap(one);
  const alt = texts('slice_alt', { name, width: one.picture.width, height: one.picture.height, verdict: '' });
  const figures = [element('figure', {}, canvas(alt, shown), element('figcaption', { text: `${texts('slice')}: ${name}` }))];
  if (map) figures.push(evidence(one, map, shown, texts));
  return element('div', {}, element('div', { class: 'pictures' }, ...figures), ...(map ? [] : paragraphs([note(one, texts)], 'small')));
}

function evidence(one, map, shown, texts) {
  const over = canvas(evidenceAlt(one, map, texts), layer(map, shown.width, shown.height));
  over.style.opacity = OPACITY;
  const slider = element('input', { type: 'range', min: 0, max: 1, step: 0.05, value: OPACITY, oninput: ({ target }) => { over.style.opacity = target.value; } });
  const layers = element('div', { class: 'layers' }, canvas('', shown), over);
  return element('figure', {}, layers, element('figcaption', {}, element('label', { text: texts('opacity') }, slider), note(one, texts)));
}

export const named = (one) => (one.verdict === 'answer' ? first(one.probabilities) : null);

/** What is drawn: the evidence for the tumour that is named; of an unsure slice for the likeliest, which is not named. */
function shownMap(one) {
  if (one.verdict === 'refused' || named(one) === HEALTHY) return null;
  const map = one.evidence?.[named(one) ?? suspect(one.probabilities)];
  return map ? { ...map, level: named(one) ? map.level : LEVEL } : null;
}

function note(one, texts) {
  if (one.verdict === 'refused') return texts('evidence_refused');
  if (!one.evidence) return texts('evidence_none');
  const map = shownMap(one), level = map && texts.number(`${Math.round(100 * map.level)}%`);
  if (!map) return texts('evidence_no_tumour');
  return named(one) ? texts('evidence_caption', { label: texts.label(named(one)), level }) : texts('evidence_unsure', { level });
}

function evidenceAlt(one, map, texts) {
  const place = texts.of('places')[strongestPlace(map)];
  return named(one) ? texts('evidence_alt', { label: texts.label(named(one)), place }) : texts('evidence_alt_unsure', { place });
}

function canvas(alt, ...layers) {
  const made = element('canvas', alt ? { role: 'img', 'aria-label': alt } : { 'aria-hidden': 'true' });
  [made.width, made.height] = [layers[0].width, layers[0].height];
  made.getContext('2d').putImageData(layers[0], 0, 0);
  return made;
}

/** Slices one at a time. */
export function volume({ slices }, texts) {
  const described = slices.map((one, i) => {
    const label = named(one), map = shownMap(one);
    const said = label ? `${texts.label(label)} (${texts.percent(one.probabilities[label])})` : texts(`cell_${one.verdict}`);
    const alt = map ? evidenceAlt(one, map, texts) : texts('thumbnail_alt', { name: i + 1, answer: said });
    const caveat = label === HEALTHY ? ` ${texts('not_looked_for')}` : '';
    const whose = one.name ? ` \u00b7 ${one.name}` : '';
    return { pixels: () => drawn(one.picture), map, said: said + whose, alt, note: note(one, texts) + caveat };
  });
  const told = texts.of('viewer'), start = mostSuspect(slices);
  const help = start === null ? told.help : `${told.first} ${told.help}`;
  const said = { ...told, help, progress: texts.of('progress'), strength: texts('opacity') };
  return element('div', { class: 'bm-viewer' }, viewer(described, said, start ?? Math.trunc(slices.length / 2)));
}

/** The slice in which one of the tumours is most probable, sure or not; null where all are refused. */
function mostSuspect(slices) {
  const tumour = ({ verdict, probabilities }) => (verdict === 'refused' ? -1 : probabilities[suspect(probabilities)]);
  const shares = slices.map(tumour), most = Math.max(...shares);
  return most < 0 ? null : shares.indexOf(most);
}

/** Buttons for the pictures that come with the page. */
export function examples(offered, texts, judge) {
  if (!offered.length) return [];
  const buttons = offered.map((one, i) => element('button', { type: 'button', class: 'example', onclick: () => judge(one) },
    element('img', { src: one.file, alt: texts('example_picture', { n: i + 1, name: one.file.split('/').pop() }), width: 76, height: 76 })));
  return [element('h2', { text: texts('examples') }), element('div', {}, ...buttons), ...paragraphs([`${texts('examples_real')} ${texts('examples_drawn')}`], 'small')];
}

/** How far the model can be believed: false all-clears first. */
export function about(figures, texts) {
  const lines = figures.safety.length ? figures.safety.map((one) => safetyLine(one, texts)) : [texts('safety_not_measured')];
  const list = (items) => element('ul', {}, ...items.map((text) => element('li', { text })));
  const card = element('a', { href: figures.card, rel: 'noopener', text: texts('static_card') });
  return [
    element('h2', { text: texts('about_title') }), element('h3', { text: texts('safety_title') }),
    ...paragraphs([texts('safety_intro')]), list([...lines, ...chosen(figures, texts)]),
    element('h3', { text: texts('about_figures') }), ...paragraphs([texts('static_accuracy')]), accuracies(figures, texts),
    element('h3', { text: texts('about_limits') }), list(texts.of('limits')),
    element('h3', { text: texts('static_privacy_title') }), ...paragraphs([texts('static_privacy')]),
    ...(figures.card ? [element('p', {}, card)] : []),
  ];
}

const titleOf = ({ protocol, name }, texts) => filled(texts.of('protocols')[name ? 'external' : protocol], { name });

function withInterval({ value, low, high }, texts) {
  return texts.percent(value) + (low === undefined ? '' : ` (${texts.percent(low)} \u2013 ${texts.percent(high)})`);
}

/** When "none found" is said, and where that was chosen. */
function chosen({ all_clear: known }, texts) {
  if (!known) return [];
  const key = known.symmetric ? 'safety_chosen_symmetric' : 'safety_chosen';
  return [texts(key, { threshold: texts.percent(known.threshold, 2), sources: known.sources.join(', ') })];
}

/** How many slices are named rightly, new patients first. */
function accuracies(figures, texts) {
  const rows = figures.accuracy.map((one) => element('tr', {},
    element('th', { scope: 'row', text: titleOf(one, texts) }), element('td', { class: 'number', text: withInterval(one, texts) })));
  return element('table', {}, ...rows);
}

function safetyLine(one, texts) {
  const { protocol, name, low, high, value, ...counts } = one;
  const line = texts('safety_line', { title: titleOf(one, texts), share: withInterval(one, texts), ...counts });
  return counts.healthy ? `${line} ${texts('safety_healthy', counts)}` : line;
}
