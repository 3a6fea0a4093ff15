/** The page: files go to the worker, answers come back and are shown. Nothing is sent anywhere. */

import { Rule } from './rule.js';
import { Several } from './several.js';
import { loadTexts } from './texts.js';
import { about, answer, examples } from './views.js';
import { element } from './viewer/viewer.js';

const $ = (id) => document.getElementById(id);
const json = async (path) => (await fetch(path)).json();
const texts = await loadTexts();
const figures = await json('figures.json');
const waiting = new Map(); // by number of the question: what is done with its messages
let asked = 0, round = 0, rule = null;

document.documentElement.lang = texts.language;
document.title = texts('title');
for (const element of document.querySelectorAll('[data-text]')) element.textContent = texts(element.dataset.text);
$('languages').replaceChildren(...texts.links());
$('about').replaceChildren(...about(figures, texts));
$('examples').replaceChildren(...examples(figures.examples, texts, judgeExample));
$('examples').hidden = !figures.examples.length;
$('state').textContent = texts('static_loading');

const worker = new Worker('worker.js', { type: 'module' });
worker.onerror = () => { $('state').textContent = texts('static_failed'); };
worker.onmessage = ({ data }) => {
  if (data.failed) $('state').textContent = texts('static_failed');
  else if (data.loaded) {
    rule = new Rule(data.calibration);
    figures.threshold = rule.threshold;
    $('state').textContent = texts('static_ready');
    document.body.dataset.ready = 'true';
  } else waiting.get(data.id)?.(data);
};

$('files').addEventListener('change', () => judge([...$('files').files]));
for (const kind of ['dragover', 'dragleave', 'drop']) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $('drop').classList.toggle('over', kind === 'dragover');
    if (kind === 'drop') judge([...event.dataTransfer.files]);
  });
}
document.addEventListener('paste', (event) => judge([...event.clipboardData.files]));

async function judgeExample({ file, label }) {
  const isLast = await judge([new File([await (await fetch(file)).blob()], file.split('/').pop())]);
  if (isLast && label) $('answers').prepend(element('p', { class: 'truth', text: texts('example_truth', { label: texts.label(label) }) }));
}

/** Each file is an answer of its own, until the visitor says that all are of one scan. Newly chosen files end an earlier round. */
async function judge(files) {
  if (!files.length) return false;
  const mine = ++round, group = files.length > 1 ? new Several(files.length, figures, texts) : null;
  $('answers').replaceChildren(...(group ? [group.element] : []));
  for (const [i, file] of files.entries()) {
    const found = await ask(file, (done, count) => {
      if (mine === round) $('state').textContent = count > 1 ? texts('progress', { done, all: count }) : texts('static_judging', { done: i + 1, all: files.length });
    });
    if (mine !== round) return false;
    if (group) group.add({ name: file.name, ...found });
    else $('answers').append(answer({ name: file.name, ...found }, figures, texts));
    if (i === 0) show($('answers'));
  }
  group?.finish(rule);
  $('state').textContent = '';
  $('files').value = '';
  return true;
}

function show(element) {
  element.focus({ preventScroll: true });
  element.scrollIntoView({ block: 'start', behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth' });
}

/** What the worker says of a file, with its slices. */
function ask(file, report) {
  const id = ++asked, slices = [];
  report(0, 1);
  return new Promise((resolve) => {
    waiting.set(id, (message) => {
      if (message.slice) {
        slices.push(message.slice);
        report(slices.length, message.count);
      } else {
        waiting.delete(id);
        resolve({ ...message, slices });
      }
    });
    worker.postMessage({ id, file });
  });
}

if ('serviceWorker' in navigator) navigator.serviceWorker.register('sw.js');
