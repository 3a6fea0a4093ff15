/** Slices to scroll through, with the evidence over them. Both pages use it: the one in space/ and the one in space_static/. */

import { layer } from './overlay.js';

const OPACITY = 0.45;
const FINE = 400; // pixels: the longer side of an evidence layer is at least that
const NOTCH = 40; // pixels of scrolling that are one slice
const WHOLE = { window: 255, level: 127.5, inverted: false };

/** An element; `text` sets its text, `on...` a listener, all else an attribute. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'text') made.textContent = value;
    else if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/**
 * What shows slices one at a time: by a slider with its arrow keys, by buttons and by the wheel over the picture.
 *
 * `slices`: `{pixels, map, said, alt, note}` each. `pixels` gives ImageData or a promise of it; `map` is
 * `{values, width, height, level}` or null; `said` is the answer, `alt` the picture in words, `note` stands below it.
 * `texts`: the object `viewer` of texts/, with `progress` in it. `start`: the slice that is shown first.
 * `shown` is called with the number of each slice that is shown. The element has a method `show`.
 */
export function viewer(slices, texts, start = 0, shown = () => {}) {
  const view = { ...WHOLE }, stage = new Stage(texts);
  const place = element('p', { class: 'bm-place' }), note = element('p', { class: 'bm-small' });
  const slider = range({ min: 1, max: slices.length, value: start + 1 }, () => show(Number(slider.value) - 1));
  const has = (i) => i >= 0 && i < slices.length;
  const step = (by) => has(at + by) && show(at + by);
  const button = (sign, key, by) => element('button', { type: 'button', text: sign, 'aria-label': texts[key], onclick: () => step(by) });
  let at = start;

  function show(i) {
    at = i;
    const one = slices[i], said = `${fill(texts.progress, { done: i + 1, all: slices.length })}: ${one.said}`;
    slider.value = i + 1;
    slider.setAttribute('aria-valuetext', said);
    [place.textContent, note.textContent] = [said, one.note];
    stage.draw(one, view, () => at === i);
    shown(i);
  }

  stage.onwheel((by) => has(at + by), step);
  stage.element.addEventListener('click', () => slider.focus({ preventScroll: true })); // its keys go on from here
  const made = element('div', { class: 'bm-viewer-body' }, stage.element,
    element('div', { class: 'bm-controls' }, place,
      element('div', { class: 'bm-steps' }, button('\u2039', 'previous', -1), element('label', {}, hidden(texts.slice), slider), button('\u203a', 'next', 1)),
      tools(stage, view, texts, () => show(at))),
    note, element('p', { class: 'bm-small', text: texts.help }));
  show(start);
  return Object.assign(made, { show });
}

/** The picture and over it the evidence, each on a canvas of its own. */
class Stage {
  constructor(texts) {
    this.slice = element('canvas', { role: 'img' });
    this.layer = element('canvas', { class: 'bm-viewer-layer', 'aria-hidden': 'true' });
    this.layer.style.opacity = OPACITY;
    this.element = element('div', { class: 'bm-stage', title: texts.drag }, this.slice, this.layer);
  }

  /** `wanted` says whether it is still this slice that is to be seen. */
  async draw({ pixels, map, alt }, view, wanted) {
    this.slice.setAttribute('aria-label', alt);
    const found = await pixels();
    if (!wanted()) return;
    put(this.slice, windowed(found, view));
    if (map !== this.drawn) put(this.layer, map ? finer(map, found) : new ImageData(1, 1));
    this.drawn = map;
  }

  /** `turn(by)` for each notch of the wheel; where there is nothing to turn to, the page itself scrolls on. */
  onwheel(can, turn) {
    let rest = 0; // a touchpad sends many small parts of a notch
    this.element.addEventListener('wheel', (event) => {
      const by = Math.sign(event.deltaY);
      if (event.ctrlKey || !by || !can(by)) return;
      event.preventDefault();
      rest = (Math.sign(rest) === by ? rest : 0) + (event.deltaMode ? by * NOTCH : event.deltaY);
      if (Math.abs(rest) < NOTCH) return;
      rest = 0;
      turn(by);
    }, { passive: false });
  }

  /** `move(across, down)` in pixels while a mouse drags; fingers scroll the page. */
  ondrag(move) {
    this.element.addEventListener('pointermove', (event) => {
      if (event.pointerType === 'mouse' && event.buttons & 1) move(event.movementX, event.movementY);
    });
  }
}

/** The layer of a small slice is larger than it, so that its lines are not drawn in blocks. */
function finer(map, { width, height }) {
  const times = Math.max(1, Math.ceil(FINE / Math.max(width, height)));
  return layer(map, times * width, times * height);
}

/** Evidence on and off and its strength, window and level, inverted or not, and back to the beginning. */
function tools(stage, view, texts, redraw) {
  const numbers = element('output', { class: 'bm-small' });
  const evidence = element('input', { type: 'checkbox', checked: '', onchange: () => { stage.layer.hidden = !evidence.checked; } });
  const strength = range({ min: 0, max: 1, step: 0.05, value: OPACITY }, () => { stage.layer.style.opacity = strength.value; });
  const contrast = range({ min: 0, max: 253, value: 0 }, () => change({ window: 255 - contrast.value }));
  const brightness = range({ min: 0, max: 255, step: 0.5, value: 127.5 }, () => change({ level: 255 - brightness.value }));
  const invert = element('input', { type: 'checkbox', onchange: () => change({ inverted: invert.checked }) });
  const change = (to) => {
    Object.assign(view, to);
    [contrast.value, brightness.value, invert.checked] = [255 - view.window, 255 - view.level, view.inverted];
    numbers.textContent = fill(texts.numbers, { window: Math.round(view.window), level: Math.round(view.level) });
    redraw();
  };
  stage.ondrag((across, down) => change({ window: within(view.window + across, 2, 255), level: within(view.level + down, 0, 255) }));
  numbers.textContent = fill(texts.numbers, { window: 255, level: 128 });
  return element('div', { class: 'bm-tools' },
    element('label', { class: 'bm-check' }, evidence, texts.evidence), labelled(texts.strength, strength),
    labelled(texts.contrast, contrast), labelled(texts.brightness, brightness),
    element('label', { class: 'bm-check' }, invert, texts.invert),
    element('p', {}, element('button', { type: 'button', text: texts.reset, onclick: () => change(WHOLE) }), numbers));
}

/** A picture in another window: grey values from level - window / 2 to level + window / 2 become black to white. */
export function windowed(pixels, { window, level, inverted }) {
  const shown = new Uint8ClampedArray(256).map((_, grey) => (255 * (grey - level + window / 2)) / window);
  if (inverted) shown.forEach((grey, i) => { shown[i] = 255 - grey; });
  const made = new ImageData(new Uint8ClampedArray(pixels.data), pixels.width, pixels.height);
  for (let i = 0; i < made.data.length; ++i) if (i % 4 !== 3) made.data[i] = shown[made.data[i]];
  return made;
}

export const fill = (text, values) => text.replace(/\{(\w+)\}/g, (gap, name) => values[name] ?? gap);
const within = (value, least, most) => Math.min(Math.max(value, least), most);
const hidden = (text) => element('span', { class: 'bm-hidden', text });
const labelled = (text, input) => element('label', {}, element('span', { text }), input);
const range = (attributes, oninput) => element('input', { type: 'range', ...attributes, oninput });

function put(canvas, pixels) {
  [canvas.width, canvas.height] = [pixels.width, pixels.height];
  canvas.getContext('2d').putImageData(pixels, 0, 0);
}
