/** A model folder in the browser: the answers of brain_mri.inference.BrainMRIClassifier. */

import * as ort from './vendor/ort.wasm.min.mjs';
import { ctScore } from './ct.js';
import { headBox } from './head.js';
import { Guard } from './guard.js';
import { softmax } from './numbers.js';
import { resize } from './resize.js';
import { Rule } from './rule.js';
import { isStripped } from './stripped.js';
import { asymmetry, mirrored } from './symmetry.js';

export class Classifier {
  /** Load the folder at `url`. Without its guard or its calibration nothing is answered. */
  static async load(url, threads) {
    const get = async (name) => {
      const response = await fetch(new URL(name, url));
      if (!response.ok) throw new Error(`${name}: ${response.status}`);
      return response;
    };
    const json = async (name) => (await get(name)).json();
    const bytes = async (name) => (await get(name)).arrayBuffer();
    const vendor = new URL('./vendor/', import.meta.url);
    ort.env.wasm.numThreads = threads;
    ort.env.wasm.wasmPaths = { mjs: new URL('ort-wasm-simd-threaded.mjs', vendor).href };
    const about = await json('model.json');
    const [wasm, weights, calibration, settings, tensors] = await Promise.all([
      unpacked(new URL('ort-wasm-simd-threaded.wasm.gz', vendor)), bytes(about.file),
      json('calibration.json'), json('guard.json'), bytes('guard.safetensors'),
    ]);
    ort.env.wasm.wasmBinary = wasm;
    const session = await ort.InferenceSession.create(new Uint8Array(weights), { executionProviders: ['wasm'] });
    return new Classifier(session, about, new Rule(calibration), new Guard(settings, tensors));
  }

  constructor(session, about, rule, guard) {
    Object.assign(this, { session, rule, guard, size: about.size, mean: about.mean, std: about.std, labels: about.label_names, levels: about.levels });
  }

  /**
   * What is said of one slice.
   *
   * @param {{data: Uint8ClampedArray, width: number, height: number, channels: number}} picture 1 or 3 channels
   * @returns {{verdict, reason, probabilities, guardScore, evidence, asymmetry}} `probabilities` must not be shown where the
   *   verdict is no answer; `evidence`: `{label: {values, width, height, level}}`, the level of its
   *   contour as a share of its peak
   */
  async predict(picture) {
    const pixels = this.#pixelValues(picture);
    const outputs = await this.#run(pixels);
    const values = Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, tensor.data]));
    const scores = softmax(values.logits);
    const probabilities = Object.fromEntries(this.labels.map((label, i) => [label, scores[i]]));
    const byEmbedding = this.guard.score(values);
    const byPixels = ctScore(picture);
    const guardScore = byEmbedding <= byPixels ? byPixels : byEmbedding; // one that is no number stays, and is refused
    const evidence = outputs.evidence && this.#maps(outputs.evidence);
    const needed = outputs.evidence && this.rule.needsAsymmetry(probabilities);
    const unlike = needed ? await this.#asymmetry(picture, pixels, outputs.evidence) : undefined;
    const said = this.rule.ofSlice(probabilities, guardScore, () => isStripped(picture), unlike);
    return { ...said, probabilities, guardScore, evidence, asymmetry: unlike };
  }

  /** How unlike both sides are, in the picture or in the head cut out of it, whichever is more. */
  async #asymmetry(picture, pixels, evidence) {
    const box = headBox(picture);
    if (!box) return undefined;
    const head = this.#pixelValues(picture, box);
    const mirror = async (values) => (await this.#run(mirrored(values, this.size))).evidence;
    const whole = asymmetry(evidence, await mirror(pixels));
    return Math.max(whole, asymmetry((await this.#run(head)).evidence, await mirror(head)));
  }

  #run(pixels) {
    return this.session.run({ pixel_values: new ort.Tensor('float32', pixels, [1, 3, this.size, this.size]) });
  }

  #pixelValues(picture, box = undefined) {
    const { data, channels } = resize(picture, this.size, this.size, 'bicubic', box);
    const f = Math.fround; // float32 throughout, as in Python
    const area = this.size ** 2;
    const values = new Float32Array(3 * area);
    for (let channel = 0; channel < 3; ++channel) {
      for (let i = 0; i < area; ++i) {
        const value = data[i * channels + (channels === 1 ? 0 : channel)];
        values[channel * area + i] = f(f(value / 255) - f(this.mean[channel])) / f(this.std[channel]);
      }
    }
    return values;
  }

  #maps({ data, dims: [, , height, width] }) {
    const size = height * width;
    const map = (i) => ({ values: data.slice(i * size, (i + 1) * size), width, height, level: this.levels[this.labels[i]] });
    return Object.fromEntries(this.labels.map((label, i) => [label, map(i)]));
  }
}

/** A file that is stored packed by gzip, so that it is small on every host. */
async function unpacked(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname}: ${response.status}`);
  const packed = new Uint8Array(await response.arrayBuffer());
  if (packed[0] !== 0x1f) return packed.buffer; // a server that names .gz an encoding has unpacked it already
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(stream).arrayBuffer();
}
