/** The model's own thread, so that the page never freezes. Messages: {id, file} in; {id, ...} out. */

import { Classifier } from './classifier.js';
import { readSlices } from './read.js';

const MODEL = new URL('./model/', import.meta.url);
const threads = globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;

const loading = Promise.all([
  Classifier.load(MODEL, threads),
  fetch(new URL('./words.json', import.meta.url)).then((response) => response.json()),
]);
loading.then(([model]) => postMessage({ loaded: true, calibration: model.rule.calibration }), fail);

function fail(error) {
  postMessage({ failed: String(error.message ?? error) });
}

onmessage = async ({ data: { id, file } }) => {
  try {
    const [model, words] = await loading;
    await judge(id, file, model, words);
  } catch (error) {
    postMessage({ id, error: error.code ?? 'failed' });
  }
};

async function judge(id, file, model, words) {
  const started = performance.now();
  const { slices, notes, foreign } = await readSlices(file, words);
  if (foreign) return postMessage({ id, done: true, verdict: 'refused', reason: 'not_mri', notes: [foreign], slices: [] });
  const found = [];
  for (const picture of slices) {
    const one = await model.predict(picture);
    found.push(one);
    postMessage({ id, slice: { ...one, picture }, done: false, count: slices.length });
  }
  const whole = slices.length > 1 ? model.rule.ofVolume(found) : found[0];
  const { verdict, reason, probabilities } = whole;
  postMessage({ id, done: true, verdict, reason, probabilities, notes, count: slices.length, milliseconds: performance.now() - started });
}
