/** How unlike a brain MRI a picture's embedding is: brain_mri/inference/guard.py. */

const METHOD = 'mahalanobis_of_parts';
const PARTS = ['embedding', 'texture'];

export class Guard {
  /**
   * @param {object} settings what guard.json holds
   * @param {ArrayBuffer} tensors guard.safetensors
   */
  constructor(settings, tensors) {
    if (settings.method !== METHOD) throw new Error(`guard.json holds the method ${settings.method}`);
    if (!(settings.threshold >= 0.1 && settings.threshold <= 10)) throw new Error('implausible guard threshold');
    const tables = readSafetensors(tensors);
    this.threshold = settings.threshold;
    this.gaussians = settings.parts.map((part, i) => ({
      ...part,
      means: tables.get(`${i}.means`),
      axes: tables.get(`${i}.axes`),
      variances: tables.get(`${i}.variances`).values,
    }));
  }

  /** 1 at the limit, more beyond it. */
  score(outputs) {
    const parts = PARTS.filter((name) => name in outputs).map((name) => outputs[name]);
    if (2 * parts.length !== this.gaussians.length) throw new Error('the guard belongs to another model');
    const distances = this.gaussians.map((one, i) => distance(one, parts[Math.floor(i / 2)]));
    return distances.reduce((a, b) => a + b) / distances.length / this.threshold;
  }
}

/** Mahalanobis distance of a point to the nearest class mean, in units of the part's scale. */
function distance({ means, axes, variances, rest, unit, scale }, values) {
  const width = axes.shape[1];
  if (values.length !== width) throw new Error('the guard belongs to another model');
  const length = unit ? Math.max(Math.hypot(...values), Number.MIN_VALUE) : 1;
  let nearest = Infinity;
  const offset = new Float64Array(width);
  for (let k = 0; k < means.shape[0]; ++k) {
    let whole = 0;
    for (let j = 0; j < width; ++j) {
      offset[j] = values[j] / length - means.values[k * width + j];
      whole += offset[j] * offset[j];
    }
    let along = 0, scaled = 0;
    for (let r = 0; r < variances.length; ++r) {
      let sum = 0;
      for (let j = 0, i = r * width; j < width; ++j, ++i) sum += offset[j] * axes.values[i];
      along += sum * sum;
      scaled += (sum * sum) / variances[r];
    }
    nearest = Math.min(nearest, scaled + Math.max(whole - along, 0) / rest);
  }
  return Math.sqrt(nearest) / scale;
}

/** The tables of a .safetensors file of float32. */
function readSafetensors(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const tables = new Map();
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    if (dtype !== 'F32') throw new Error(`${name} is ${dtype}, not F32`);
    tables.set(name, { shape, values: new Float32Array(buffer.slice(8 + length + from, 8 + length + to)) });
  }
  return tables;
}
