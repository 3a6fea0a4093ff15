/** From answers to elements. Only `textContent` is ever set, so nothing that a file says becomes mark-up. */

import { drawn, layer, strongestPlace } from './overlay.js';
import { HEALTHY, first } from './rule.js';
import { filled } from './texts.js';

const OPACITY = 0.45;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'text') made.textContent = value;
    else if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const paragraphs = (lines, kind = '') => lines.filter(Boolean).map((text) => element('p', { text, class: kind }));

/** What is said of one file: of its slice, or of its slices together. */
export function answer(found, figures, texts) {
  if (found.error) return message(found, texts);
  const isVolume = found.slices.length > 1;
  const label = found.verdict === 'answer' ? first(found.probabilities) : null;
  const tone = label === HEALTHY ? 'unsure' : found.verdict;
  const heading = element('h2', { text: title(found, label, isVolume, texts) });
  const card = element('section', { class: `card ${tone}`, 'data-verdict': found.verdict, 'data-label': label ?? '' });
  card.append(element('div', { class: 'verdict' }, heading, ...paragraphs(reasons(found, label, isVolume, figures, texts))));
  if (found.slices.length) card.append(isVolume ? viewer(found, texts) : pictures(found.slices[0], label, found.name, texts));
  card.append(...paragraphs([texts('notice')], 'notice-small'));
  if (label) card.append(details(found, texts));
  return card;
}

function message({ error, name }, texts) {
  const text = texts.of('static_errors')[error] ?? texts.of('static_errors').failed;
  return element('section', { class: 'card refused', 'data-verdict': 'error' }, element('h2', { text: texts('error') }), ...paragraphs([`${name}: ${text}`]));
}

function title({ reason, slices }, label, isVolume, texts) {
  const values = { count: slices.length, label: label && texts.label(label) };
  if (!label) return isVolume ? texts('volume_title_unnamed', values) : texts.of('reason_titles')[reason];
  if (isVolume) return texts(label === HEALTHY ? 'volume_title_healthy' : 'volume_title_answer', values);
  return texts(label === HEALTHY ? 'verdict_title_healthy' : 'verdict_title', values);
}

function reasons(found, label, isVolume, figures, texts) {
  const notes = (found.notes ?? []).map((note) => `${note}.`);
  if (!label) return [why(found, figures, texts), isVolume && counted(found, texts), ...notes];
  const name = texts.label(label), score = texts.percent(found.probabilities[label]);
  const caveat = label === HEALTHY ? texts('not_looked_for') : texts('not_a_finding', { label: name });
  if (isVolume) return [caveat, texts('volume_answer', { counted: accepted(found).length, score }), counted(found, texts), ...notes];
  const share = figures.found[label];
  const known = share === undefined ? '' : texts('found_of_new', { label: name, found: Math.round(100 * share) });
  return [caveat, texts('verdict_score', { score }), texts('verdict_calibrated'), known, ...notes];
}

function why({ reason, slices }, figures, texts) {
  const always = reason === 'below_threshold' && figures.threshold > 1;
  const score = slices.length === 1 ? texts.number(slices[0].guardScore.toFixed(1)) : '';
  return filled(texts.of('reasons')[always ? 'always_below_threshold' : reason], { score, threshold: texts.percent(figures.threshold) });
}

const accepted = ({ slices }) => slices.filter((one) => one.verdict !== 'refused');
const counted = (found, texts) => texts('volume_counted', { counted: accepted(found).length, count: found.slices.length });

function details({ probabilities, milliseconds }, texts) {
  const ranked = Object.entries(probabilities).sort(([, a], [, b]) => b - a);
  const rows = ranked.map(([label, share]) => element('tr', {},
    element('th', { scope: 'row', text: texts.label(label) }),
    element('td', { class: 'number', text: texts.percent(share) })));
  return element('details', {}, element('summary', { text: texts('probabilities') }),
    element('table', {}, ...rows), ...paragraphs([texts('timing', { milliseconds: Math.round(milliseconds) })], 'small'));
}

/** The slice, and beside it its evidence; a refused slice is shown alone. */
function pictures(one, label, name, texts) {
  const shown = drawn(one.picture);
  const alt = texts('slice_alt', { name, width: one.picture.width, height: one.picture.height, verdict: '' });
  const figures = [element('figure', {}, canvas(alt, shown), element('figcaption', { text: `${texts('slice')}: ${name}` }))];
  const map = label && label !== HEALTHY ? one.evidence?.[label] : null;
  if (map) figures.push(evidence(map, shown, texts.label(label), texts));
  return element('div', { class: 'pictures' }, ...figures);
}

function evidence(map, shown, label, texts) {
  const place = texts.of('places')[strongestPlace(map)];
  const over = canvas(texts('evidence_alt', { label, place }), layer(map, shown.width, shown.height));
  over.style.opacity = OPACITY;
  const slider = element('input', { type: 'range', min: 0, max: 1, step: 0.05, value: OPACITY, oninput: ({ target }) => { over.style.opacity = target.value; } });
  const layers = element('div', { class: 'layers' }, canvas('', shown), over);
  return element('figure', {}, layers, element('figcaption', {}, element('label', { text: texts('opacity') }, slider), texts('evidence_caption', { label, level: texts.number(`${Math.round(100 * map.level)}%`) })));
}

function canvas(alt, ...layers) {
  const made = element('canvas', alt ? { role: 'img', 'aria-label': alt } : { 'aria-hidden': 'true' });
  [made.width, made.height] = [layers[0].width, layers[0].height];
  made.getContext('2d').putImageData(layers[0], 0, 0);
  return made;
}

/** The slices of a volume, one at a time: a slider, the arrow keys, and where it looked. */
function viewer(found, texts) {
  const place = element('div');
  const line = element('p', { class: 'small' });
  const show = (i) => {
    const one = found.slices[i];
    const label = one.verdict === 'answer' ? first(one.probabilities) : null;
    const said = label ? `${texts.label(label)} (${texts.percent(one.probabilities[label])})` : texts(`cell_${one.verdict}`);
    line.textContent = `${texts('progress', { done: i + 1, all: found.slices.length })}: ${said}`;
    place.replaceChildren(pictures(one, label, `${i + 1}`, texts));
  };
  const start = strongest(found);
  const slider = element('input', { type: 'range', min: 1, max: found.slices.length, value: start + 1, oninput: ({ target }) => show(target.value - 1) });
  show(start);
  return element('div', { class: 'viewer' }, element('label', { text: texts('table_title') }, slider), line, place);
}

/** The slice to begin with: where a tumour is most probable, if a slice has an answer; else the middle one. */
function strongest({ slices }) {
  const tumour = ({ verdict, probabilities }) => (verdict === 'answer' ? 1 - (probabilities[HEALTHY] ?? 0) : -1);
  const scores = slices.map(tumour);
  const most = Math.max(...scores);
  return most < 0 ? Math.trunc(slices.length / 2) : scores.indexOf(most);
}

/** Buttons for the pictures that come with the page. */
export function examples(offered, texts, judge) {
  if (!offered.length) return [];
  const buttons = offered.map((one, i) => element('button', { type: 'button', class: 'example', onclick: () => judge(one) },
    element('img', { src: one.file, alt: texts('example_picture', { n: i + 1, name: one.file.split('/').pop() }), width: 76, height: 76 })));
  return [element('h2', { text: texts('examples') }), element('div', {}, ...buttons), ...paragraphs([texts('examples_real')], 'small')];
}

/** How far the model can be believed: false all-clears first. */
export function about(figures, texts) {
  const lines = figures.safety.length ? figures.safety.map((one) => safetyLine(one, texts)) : [texts('safety_not_measured')];
  const list = (items) => element('ul', {}, ...items.map((text) => element('li', { text })));
  const card = element('a', { href: figures.card, rel: 'noopener', text: texts('static_card') });
  return [
    element('h2', { text: texts('about_title') }), element('h3', { text: texts('safety_title') }),
    ...paragraphs([texts('safety_intro')]), list(lines),
    element('h3', { text: texts('about_limits') }), list(texts.of('limits')),
    element('h3', { text: texts('about_privacy') }), ...paragraphs([texts('static_privacy')]),
    ...(figures.card ? [element('p', {}, card)] : []),
  ];
}

function safetyLine({ protocol, name, low, high, value, ...counts }, texts) {
  const interval = low === undefined ? '' : ` (${texts.percent(low)} \u2013 ${texts.percent(high)})`;
  const title = filled(texts.of('protocols')[name ? 'external' : protocol], { name });
  return texts('safety_line', { title, share: texts.percent(value) + interval, ...counts });
}
