/** Several files: how many were called what, and each for itself; or, if the visitor says so, all as slices of one scan. */

import { HEALTHY } from './rule.js';
import { element } from './viewer/viewer.js';
import { answer, named, paragraphs, volume } from './views.js';

const MOST_CARDS = 8; // pictures with a card each; more are scrolled through

const withName = ({ slices, name }) => ({ ...slices[0], name });

export class Several {
  constructor(count, figures, texts) {
    Object.assign(this, { count, figures, texts, found: [] });
    this.heading = element('h2');
    this.choice = element('div');
    this.each = element('div');
    const said = element('div', { class: 'verdict' }, this.heading, ...paragraphs([texts('apart')]), ...paragraphs([texts('notice')], 'notice-small'), this.choice);
    this.first = element('section', { class: 'card unsure', 'data-verdict': 'several' }, said);
    this.element = element('div', {}, this.first, this.each);
  }

  /** The answer to one more file. */
  add(one) {
    this.found.push(one);
    // what is refused by its header alone has no slices, and is one without a class; what cannot be read is none
    const labels = this.found.flatMap(({ slices, error }) => (slices.length || error ? slices.map(named) : [null]));
    const unnamed = labels.filter((label) => !label).length, healthy = labels.filter((label) => label === HEALTHY).length;
    this.heading.textContent = this.texts('apart_title', { count: labels.length, tumours: labels.length - unnamed - healthy, healthy, unnamed });
    if (this.count <= MOST_CARDS || one.slices.length !== 1) this.each.append(answer(one, this.figures, this.texts));
  }

  /** All files are judged: what had no card of its own is shown, and whether they belong together is asked. */
  finish(rule) {
    const single = this.found.filter(({ slices }) => slices.length === 1);
    if (this.count > MOST_CARDS && single.length) this.each.append(volume({ slices: single.map(withName) }, this.texts));
    if (single.length < this.found.length) return; // volumes, or what could not be read
    const box = element('input', { type: 'checkbox', onchange: () => this.#show(box.checked, rule) });
    this.choice.append(element('label', { class: 'together' }, box, ` ${this.texts('together')}`));
  }

  #show(together, rule) {
    this.whole?.remove();
    [...this.each.children].forEach((card) => { card.hidden = together; });
    if (!together) return;
    const inOrder = [...this.found].sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
    const slices = inOrder.map(withName);
    const milliseconds = this.found.reduce((sum, one) => sum + one.milliseconds, 0);
    this.whole = answer({ ...rule.ofVolume(slices), slices, milliseconds }, this.figures, this.texts);
    this.each.append(this.whole);
  }
}
